//! A flight recorder's memory, as the program's allocator sees it: under full load it is what it was given and no more.
//!
//! Chunks, stacks and strings are the recorder's own, with a bound for all captures together; they are not allocated.

#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kymo::events::{Counter, Groups, StrId, Value};
use kymo::{FlightConfig, FlightRecorder};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is the system's allocator's; beside it, bytes are counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(live, Ordering::Relaxed);
        // SAFETY: as our caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(live, Ordering::Relaxed);
        // SAFETY: as our caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as our caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What the drain holds while it hands a chunk on: a copy of its run, and which stacks and strings it names.
const IN_HAND: usize = 512 * 1024;

const MAX_BYTES: usize = 4 << 20;

/// Two threads emit as fast as they can for three seconds, which is several times what the ring holds.
fn full_load() -> u64 {
    let done = AtomicBool::new(false);
    let emit = || {
        let mut count = 0;
        while !done.load(Ordering::Relaxed) {
            kymo::record::emit(Counter { name: StrId(0), value: Value(count as i64) });
            count += 1;
        }
        count
    };
    std::thread::scope(|scope| {
        let threads = [scope.spawn(emit), scope.spawn(emit)];
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(3) {
            std::thread::sleep(Duration::from_millis(10));
        }
        done.store(true, Ordering::Relaxed);
        threads.map(|thread| thread.join().unwrap()).iter().sum()
    })
}

#[test]
fn its_memory_under_full_load_is_max_bytes_and_no_more() {
    // What the first capture of a process makes once.
    let config = FlightConfig { max_bytes: MAX_BYTES, groups: Groups::ALL, ..FlightConfig::default() };
    let flight = FlightRecorder::new(config);
    flight.start().unwrap();
    flight.snapshot().unwrap();
    flight.stop();
    let before = LIVE.load(Ordering::Relaxed);
    flight.start().unwrap();
    MOST.store(LIVE.load(Ordering::Relaxed), Ordering::Relaxed);
    let emitted = full_load();
    let most = MOST.load(Ordering::Relaxed) - before;
    let usage = flight.usage().unwrap();
    flight.stop();
    println!("{most} bytes at most for max_bytes {MAX_BYTES}, {emitted} events");
    assert!(emitted * 5 > 3 * MAX_BYTES as u64, "the load turns the ring: {emitted}");
    assert!(usage.bytes > MAX_BYTES - 2 * 65_536 && usage.bytes <= MAX_BYTES, "{usage:?}");
    assert!(most <= MAX_BYTES + IN_HAND, "{most} bytes for max_bytes {MAX_BYTES}");
    let left = LIVE.load(Ordering::Relaxed).saturating_sub(before);
    assert!(left < 64 * 1024, "stopped, it has given everything back: {left}");
}
