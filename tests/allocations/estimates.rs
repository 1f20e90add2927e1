//! What samples say of the whole: unbiased, whatever the sizes, and honest when there are too many.

use std::hint::black_box;

use kymo::model::Trace;

use crate::recorded::record_unnamed;
use crate::watched::in_child;

/// Bytes allocated, as samples say and as they are; the same for objects.
fn allocated(trace: &Trace) -> [u64; 2] {
    let stacks = &trace.memory.stacks;
    [
        stacks.iter().map(|total| total.allocated_bytes).sum(),
        stacks.iter().map(|total| total.allocated_objects).sum(),
    ]
}

fn live(trace: &Trace) -> [u64; 2] {
    let stacks = &trace.memory.stacks;
    [stacks.iter().map(|total| total.live_bytes).sum(), stacks.iter().map(|total| total.live_objects).sum()]
}

#[track_caller]
fn within(share: f64, estimate: u64, truth: u64) {
    let off = estimate as f64 / truth as f64 - 1.0;
    assert!(off.abs() < share, "{estimate} of {truth}: {:.1} %", 100.0 * off);
    eprintln!("{estimate} of {truth}: {:+.2} %", 100.0 * off);
}

/// Allocations of 16 bytes to 64 KiB, small ones most often; some grow.
fn mixed(times: u32) {
    let mut random = 88_172_645_463_325_252_u64;
    for _ in 0..times {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let size = 16 << (random % 13).min(random >> 32 & 15);
        let mut bytes = Vec::<u8>::with_capacity(size);
        if random >> 40 & 7 == 0 {
            bytes.reserve_exact(3 * size);
        }
        black_box(&mut bytes);
    }
}

#[test]
fn c4_ten_million_allocations_are_estimated_within_five_percent() {
    in_child(|| {
        let ((), before) = record_unnamed(|| ());
        let counted = kymo::heap_counts();
        let threads = [(); 4].map(|()| std::thread::spawn(|| mixed(2_500_000)));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let truth = kymo::heap_counts().allocated_bytes - counted.allocated_bytes;
        let ((), after) = record_unnamed(|| ());
        // Some ten thousand samples: five standard deviations.
        assert!(truth > 5000 * 512 * 1024, "{truth}");
        within(0.05, allocated(&after)[0] - allocated(&before)[0], truth);
    });
}

#[test]
fn c4_what_lives_is_estimated_after_growing_shrinking_and_dying() {
    in_child(|| {
        // What the recorder allocates is counted, and not sampled.
        kymo::record::prepare().unwrap();
        kymo::set_mem_profile_rate(4096);
        let before = kymo::heap_counts();
        let mut vectors: Vec<Vec<u8>> = (0..20_000).map(|_| Vec::with_capacity(16)).collect();
        for round in 0..8 {
            for (index, vector) in vectors.iter_mut().enumerate() {
                // Up to 4 KiB, then a half of them back to 1 KiB.
                let capacity = if round == 7 && index % 2 == 0 { 1024 } else { 32 << round };
                match capacity > vector.capacity() {
                    true => vector.reserve_exact(capacity),
                    false => vector.shrink_to(capacity),
                }
            }
        }
        vectors.truncate(16_000);
        let ((), trace) = record_unnamed(|| ());
        let counts = kymo::heap_counts();
        let lives = counts.live_bytes() - before.live_bytes();
        within(0.05, live(&trace)[0], lives);
        within(0.05, allocated(&trace)[0], counts.allocated_bytes - before.allocated_bytes);
        assert!(live(&trace)[1] > 14_000 && live(&trace)[1] < 18_000, "{:?}", live(&trace));
        drop(vectors);
        let ((), trace) = record_unnamed(|| ());
        assert!(live(&trace)[0] < lives / 20, "{:?}", live(&trace));
    });
}

#[test]
fn c5_a_full_table_is_counted_and_said() {
    in_child(|| {
        const TOO_MANY: usize = kymo::limits::LIVE_SAMPLES + 50_000;
        kymo::set_mem_profile_rate(1);
        let mut kept: Vec<Box<u64>> = Vec::with_capacity(TOO_MANY);
        kept.extend((0..TOO_MANY as u64).map(Box::new));
        let ((), trace) = record_unnamed(|| ());
        let sampling = trace.memory.sampling.unwrap();
        assert!(sampling.overflowed >= 50_000, "{sampling:?}");
        let [bytes, objects] = live(&trace);
        assert!(
            objects < TOO_MANY as u64 && bytes > 4 * kymo::limits::LIVE_SAMPLES as u64,
            "{bytes} {objects}"
        );
        assert!(allocated(&trace)[1] >= TOO_MANY as u64, "what was allocated is not affected");
        let comments = kymo::profile::heap(&trace).comments;
        assert!(comments.iter().any(|line| line.contains('≥') && line.contains("samples")), "{comments:?}");
        drop(kept);
        let ((), trace) = record_unnamed(|| ());
        // The test's own allocations beside them are sampled, too.
        assert!(live(&trace)[1] < TOO_MANY as u64 / 20, "{:?}", live(&trace));
        kymo::set_mem_profile_rate(0);
        let none = allocated(&record_unnamed(|| ()).1);
        drop(black_box(vec![0_u8; 10 << 20]));
        assert_eq!(allocated(&record_unnamed(|| ()).1), none, "off is off");
    });
}
