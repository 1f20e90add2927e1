//! C3: what must be the same over every allocator, as a program of each: counts are exact, estimates are true, what is
//! freed is gone, threads may free what others have allocated, and the profile names who allocates.
//!
//! `cargo run --bin jemalloc`, `mimalloc` or `system` in this folder ends with `ok`.

use std::hint::black_box;
use std::sync::mpsc;

use kymo::events::{Group, Groups};
use kymo::model::Trace;
use kymo::profile::Profile;
use kymo::record::session::{Capture, CaptureOptions};
use kymo::record::sink::MemorySink;

/// Indices of values in the heap profile.
const IN_USE: usize = 3;

/// What all threads do together: pairs, growth, big ones, and frees by somebody else.
fn churn() {
    let (send, receive) = mpsc::sync_channel::<Vec<u8>>(64);
    let frees = std::thread::spawn(move || receive.into_iter().map(|bytes| bytes.len()).sum::<usize>());
    let threads: Vec<_> = (0..4_u64)
        .map(|seed| {
            let send = send.clone();
            std::thread::spawn(move || {
                let mut random = 0x9e37_79b9_7f4a_7c15 ^ seed;
                for round in 0..200_000_u32 {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let size = 16 << (random % 13).min(random >> 32 & 15);
                    let mut bytes = vec![0_u8; size];
                    if random >> 40 & 7 == 0 {
                        bytes.reserve_exact(3 * size);
                        bytes.shrink_to(size);
                    }
                    if round % 64 == 0 {
                        send.send(bytes).expect("somebody receives");
                    }
                }
                drop(black_box(vec![1_u8; 8 << 20]));
            })
        })
        .collect();
    drop(send);
    threads.into_iter().for_each(|thread| thread.join().expect("it does not panic"));
    assert!(frees.join().expect("it does not panic") > 0);
}

/// What [`keeps`] does: 20 000 allocations, and their list.
const KEPT_BYTES: f64 = 20_000.0 * (1000.0 + size_of::<Vec<u8>>() as f64);

#[inline(never)]
fn keeps() -> Vec<Vec<u8>> {
    (0..20_000).map(|_| vec![1; 1000]).collect()
}

/// Records memory while something is done.
fn record<R>(work: impl FnOnce() -> R) -> (R, Trace) {
    let sink = MemorySink::new(256 << 20);
    let resolver = Some(kymo::model::symbols::resolve as _);
    let groups = Groups::NONE.with(Group::Memory);
    let options = CaptureOptions { groups, cpu_hz: 0, sink: Box::new(sink.clone()), resolver };
    let capture = Capture::start(options).expect("it can record");
    let result = work();
    assert_eq!(capture.stop().lost, 0);
    let (trace, problems) = kymo::model::load::load(&sink.take()).expect("it can be read");
    assert_eq!(problems, []);
    (result, trace)
}

fn in_use_of(profile: &Profile, function: &str) -> f64 {
    let has = |sample: &&kymo::profile::Sample| {
        profile.frames(sample).any(|frame| frame.function.ends_with(function))
    };
    profile.samples.iter().filter(has).map(|sample| sample.values[IN_USE] as f64).sum()
}

/// Runs everything.
///
/// # Panics
/// When something is not as it must be.
pub fn check() {
    kymo::record::prepare().expect("it can record");
    kymo::set_mem_profile_rate(16 * 1024);
    let before = kymo::heap_counts();
    // Not while recording: what kymo's threads allocate then is counted, and not sampled.
    churn();
    let after = kymo::heap_counts();
    let ((), trace) = record(|| ());
    let allocated: u64 = trace.memory.stacks.iter().map(|total| total.allocated_bytes).sum();
    let share = allocated as f64 / (after.allocated_bytes - before.allocated_bytes) as f64;
    assert!((share - 1.0).abs() < 0.05, "{share} of what was allocated");
    let (kept, trace) = record(|| {
        churn();
        keeps()
    });
    let live = in_use_of(&kymo::profile::heap(&trace), "keeps") / KEPT_BYTES;
    // 1200 samples: five standard deviations.
    assert!((live - 1.0).abs() < 0.15, "{live} of what lives");
    assert!(trace.memory.allocations.len() > 1000 && trace.memory.frees.len() > 1000);
    drop(kept);
    let ((), trace) = record(|| ());
    assert_eq!(in_use_of(&kymo::profile::heap(&trace), "keeps"), 0.0);
    println!("ok: {share:.3} of what was allocated, {live:.3} of what lives");
}
