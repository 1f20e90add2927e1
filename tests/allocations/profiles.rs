//! The profiles name who allocates: over HTTP, and from a trace.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kymo::analysis::memory::Happened;
use kymo::events::Group;
use kymo::profile::{Profile, Sample};

use crate::served;
use crate::watched::in_child;

const ALLOC_SPACE: usize = 1;
const INUSE_OBJECTS: usize = 2;
const INUSE_SPACE: usize = 3;

/// A profile that a service gives.
fn profile(server: &kymo::Server, path: &str) -> Profile {
    let answer = served::get(server.address(), &format!("/debug/pprof/{path}"));
    assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
    Profile::decode(&answer.body).unwrap()
}

/// Values of samples whose stack has a function, summed.
fn of(profile: &Profile, function: &str, sample_type: usize) -> i64 {
    let has = |sample: &&Sample| profile.frames(sample).any(|frame| frame.function.contains(function));
    profile.samples.iter().filter(has).map(|sample| sample.values[sample_type]).sum()
}

#[inline(never)]
fn leaks(times: usize) -> Vec<Vec<u8>> {
    (0..times).map(|_| vec![7; 4096]).collect()
}

#[inline(never)]
fn works(times: usize) {
    (0..times).for_each(|_| drop(std::hint::black_box(vec![7_u8; 4096])));
}

#[inline(never)]
fn frees(kept: Vec<Vec<u8>>) {
    drop(kept);
}

#[test]
fn a_planted_leak_is_first_in_the_heap_profile() {
    in_child(|| {
        let server = kymo::serve("127.0.0.1:0").unwrap();
        kymo::set_mem_profile_rate(64 * 1024);
        let leaked = leaks(10_000);
        works(20_000);
        let heap = profile(&server, "heap");
        let types: Vec<_> = heap.sample_types.iter().map(|kind| (&*kind.kind, &*kind.unit)).collect();
        let (objects, space) = (("alloc_objects", "count"), ("alloc_space", "bytes"));
        assert_eq!(types, [objects, space, ("inuse_objects", "count"), ("inuse_space", "bytes")]);
        assert_eq!((&*heap.default_sample_type, heap.period), ("inuse_space", 64 * 1024));
        assert_eq!((&*heap.period_type.kind, &*heap.period_type.unit), ("space", "bytes"));
        let first: Vec<_> = heap.frames(&heap.samples[0]).map(|frame| frame.function.clone()).collect();
        assert!(first[0].starts_with("allocations::profiles::leaks"), "machinery is left out: {first:?}");
        // 640 samples: five standard deviations are a fifth.
        let (live, truth) = (of(&heap, "profiles::leaks", INUSE_SPACE) as f64, 4096.0 * 10_000.0);
        assert!((live / truth - 1.0).abs() < 0.2, "{live} of {truth}");
        assert_eq!(of(&heap, "profiles::works", INUSE_SPACE), 0);
        drop(leaked);
    });
}

#[test]
fn the_allocations_of_some_seconds_are_served() {
    in_child(|| {
        let server = kymo::serve("127.0.0.1:0").unwrap();
        kymo::set_mem_profile_rate(64 * 1024);
        let leaked = leaks(1000);
        let stop = AtomicBool::new(false);
        let delta = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // Not while functions are named: that would be against us.
                    match kymo::record::enabled(Group::Memory) {
                        true => works(10),
                        false => std::thread::sleep(Duration::from_millis(1)),
                    }
                }
            });
            let delta = profile(&server, "allocs?seconds=1");
            stop.store(true, Ordering::Relaxed);
            delta
        });
        assert_eq!(
            (&*delta.default_sample_type, of(&delta, "profiles::leaks", ALLOC_SPACE)),
            ("alloc_space", 0)
        );
        assert!(of(&delta, "profiles::works", ALLOC_SPACE) > 1 << 20);
        assert!(of(&delta, "profiles::works", INUSE_SPACE) <= 4 << 20, "it frees what it allocates");
        drop(leaked);
    });
}

#[test]
fn a_profile_of_some_seconds_is_of_those() {
    in_child(|| {
        kymo::record::prepare().unwrap();
        kymo::set_mem_profile_rate(1);
        let before = leaks(100);
        let ((), trace) = crate::recorded::record(|| {
            frees(before);
            std::mem::forget(leaks(30));
            works(50);
        });
        let heap = kymo::profile::heap_delta(&trace);
        assert_eq!(of(&heap, "profiles::leaks", INUSE_OBJECTS), 31 - 101, "with the lists themselves");
        assert_eq!(of(&heap, "profiles::works", ALLOC_SPACE), 50 * 4096);
        assert_eq!(of(&heap, "profiles::works", INUSE_SPACE), 0);
        let allocs = kymo::profile::allocs(&trace);
        assert_eq!(allocs.default_sample_type, "alloc_space");
        assert!(of(&allocs, "profiles::leaks", ALLOC_SPACE) >= 130 * 4096, "those before the trace, too");
        let freed = trace.memory.frees.iter().filter(|free| {
            let has =
                |stack, name: &str| trace.stacks.frames(stack).any(|frame| frame.function.contains(name));
            has(free.stack, "profiles::frees") && has(free.allocated_at, "profiles::leaks")
        });
        assert_eq!(freed.count(), 101, "a free says where it was allocated, and where freed");
    });
}

#[test]
fn a_trace_tells_how_the_heap_went_and_what_happened_to_it() {
    in_child(|| {
        const MB: usize = 1 << 20;
        let ((), trace) = crate::recorded::record_unnamed(|| {
            let mut kept = Vec::new();
            (0..64).for_each(|_| kept.push(vec![1_u8; MB]));
            drop(kept);
        });
        let memory = kymo::analysis::memory::memory(&trace);
        let (heap, resident) = (memory.heap.unwrap(), memory.resident.unwrap());
        assert!(
            heap.most >= heap.first + 56 * MB as u64 && heap.last < heap.first + 8 * MB as u64,
            "{heap:?}"
        );
        // The first reading comes within a drain's step.
        let [allocated, freed] = [memory.allocated_bytes, memory.freed_bytes].map(|bytes| bytes / MB as u64);
        assert!(allocated >= 56 && freed >= 56, "{memory:?}");
        assert!(resident.first > 0 && memory.minor_faults > 0, "{resident:?} {memory:?}");
        let has = |what: fn(&Happened) -> bool| memory.moments.iter().any(|moment| what(&moment.what));
        assert!(has(|what| matches!(what, Happened::HeapDoubled { .. })), "{memory:?}");
        assert!(has(|what| matches!(what, Happened::HeapHalved { .. })), "{memory:?}");
        let text = memory.to_string();
        assert!(text.contains("heap: ") && text.contains("resident: ") && text.contains("doubled"), "{text}");
    });
}
