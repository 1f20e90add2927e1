//! What an event costs: time against the bare loop of `rdtsc` and a store, bytes in the trace, and nothing when off.
//!
//! `cargo bench --bench record`. Two threads are measured by the CPU time of each, since the drain has a core to share
//! with them.

#![allow(unsafe_code, reason = "rdtsc and a thread's CPU clock")]

mod harness;

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use harness::{BATCHES, budget, compare, fast, figure};
use kymo::events::{
    Addr, Call, Counter, EventKind, Fd, Groups, PollBegin, PollEnd, PollOutcome, StackId, StrId,
    SyscallEnter, SyscallExit, TaskId, Value, WaitBegin, WaitKind,
};
use kymo::record::emit;
use kymo::record::session::{Capture, CaptureOptions, Progress};
use kymo::record::sink::{Offer, Sink};

/// Of one batch: long enough that a batch's two clock reads don't count.
const OPERATIONS: u32 = 20_000;

fn main() {
    off();
    let capture = start();
    one_thread();
    two_threads();
    let drained_ns = drain_cpu_ns();
    let Progress { events, lost, .. } = capture.stop();
    figure("drain_cpu_per_event", drained_ns / events as f64, "ns");
    figure("events_lost", lost as f64, "events");
    bytes_per_pair();
}

/// Takes everything and keeps nothing: the recorder alone is measured.
struct Discard;

impl Sink for Discard {
    fn offer(&mut self, _sections: Vec<u8>) -> Offer {
        Offer::Taken
    }
}

fn start() -> Capture {
    let options = CaptureOptions { groups: Groups::ALL, cpu_hz: 0, sink: Box::new(Discard), resolver: None };
    Capture::start(options).expect("nothing else records")
}

/// The clock that events are stamped with, and nothing else.
#[inline(always)]
fn stamp() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86_64 CPU has the instruction.
    return unsafe { core::arch::x86_64::_rdtsc() };
    #[cfg(not(target_arch = "x86_64"))]
    kymo::clock::ticks()
}

/// The floor: read the clock, store it.
fn floor(operations: u32) {
    let mut buffer = [0u64; 1024];
    for index in 0..operations as usize {
        buffer[index % 1024] = stamp();
        black_box(&mut buffer);
    }
}

/// An event with a 48-bit pointer, the longest of the frequent kinds.
fn wait_begins(operations: u32) {
    for _ in 0..operations {
        emit(WaitBegin { kind: WaitKind::Futex, addr: black_box(Addr(0x7f12_3456_7890)) });
    }
}

fn counters(operations: u32) {
    for index in 0..i64::from(operations) {
        emit(Counter { name: StrId(2), value: Value(black_box(index)) });
    }
}

fn off() {
    let mut nothing = |operations| (0..operations).for_each(|index| _ = black_box(index));
    let mut counter = |operations| {
        for index in 0..i64::from(operations) {
            emit(Counter { name: StrId(2), value: Value(black_box(index)) });
        }
    };
    let [nothing, counter] = compare(OPERATIONS, [&mut nothing, &mut counter]);
    budget("event_off_ns", (counter - nothing).max(0.0), 1.0);
}

fn one_thread() {
    let (mut floor, mut waits, mut counters) = (floor, wait_begins, counters);
    let [floor, waits, counters] = compare(OPERATIONS, [&mut floor, &mut waits, &mut counters]);
    figure("floor_ns", floor, "ns");
    figure("event_pointer_ns", waits, "ns");
    figure("event_counter_ns", counters, "ns");
    budget("event_over_floor", waits / floor, 1.35);
    budget("event_counter_over_floor", counters / floor, 1.35);
}

/// Both threads run the floor, then both run events, in turns; each batch counts the CPU time that its thread took.
fn two_threads() {
    let barrier = Barrier::new(2);
    let measure = || {
        let (mut floors, mut events) = (Vec::new(), Vec::new());
        for _ in 0..BATCHES {
            barrier.wait();
            floors.push(cpu_time_of(|| floor(OPERATIONS)));
            barrier.wait();
            events.push(cpu_time_of(|| wait_begins(OPERATIONS)));
        }
        (fast(floors).as_nanos() as f64, fast(events).as_nanos() as f64)
    };
    let ratios: Vec<f64> = std::thread::scope(|scope| {
        let threads = [scope.spawn(measure), scope.spawn(measure)];
        threads
            .map(|thread| thread.join().expect("no thread panics"))
            .map(|(floor, event)| event / floor)
            .to_vec()
    });
    budget("event_over_floor_two_threads", ratios.into_iter().fold(0.0, f64::max), 1.35);
}

fn cpu_time_of(work: impl FnOnce()) -> Duration {
    let begin = thread_cpu_time();
    work();
    thread_cpu_time() - begin
}

fn thread_cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a live timespec, and every thread has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// CPU time of kymo's own thread so far.
fn drain_cpu_ns() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux has it").flatten();
    let own = tasks.filter(|task| {
        std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim_end() == "kymo-drain")
    });
    let schedstat = own.filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok());
    schedstat.filter_map(|times| times.split(' ').next()?.parse::<f64>().ok()).sum()
}

/// Bytes in a trace for two events that belong together, stamped by the clock as they come.
fn bytes_per_pair() {
    let task = |index: u64| TaskId(1000 + index % 200);
    let poll =
        pair_bytes(|index| (PollBegin { task: task(index) }, PollEnd { outcome: PollOutcome::Pending }));
    let call = pair_bytes(|index| {
        let enter = SyscallEnter { call: Call::Read, fd: Fd((index % 40) as i32) };
        (enter, SyscallExit { result: Value(64 + (index % 1000) as i64), stack: StackId(0) })
    });
    budget("poll_pair_bytes", poll, 12.0);
    budget("syscall_pair_bytes", call, 12.0);
}

fn pair_bytes<A: EventKind, B: EventKind>(pair: impl Fn(u64) -> (A, B)) -> f64 {
    static WORK: AtomicU64 = AtomicU64::new(0);
    const PAIRS: u64 = 100_000;
    let capture = start();
    for index in 0..PAIRS {
        let (begin, end) = pair(index);
        emit(begin);
        // About a microsecond between the two, as in a poll or a call.
        (0..100).for_each(|_| _ = WORK.fetch_add(1, Ordering::Relaxed));
        emit(end);
    }
    let Progress { bytes, lost, .. } = capture.stop();
    assert_eq!(lost, 0);
    bytes as f64 / PAIRS as f64
}
