//! `kymo::Alloc`: who allocates, what lives, and that a program notices nothing.
//!
//! Each test is a process of its own, since the counts and the tables are the process's.
#![cfg(feature = "http")]

mod served;
mod watched;

use kymo::profile::Profile;

#[global_allocator]
static ALLOC: kymo::Alloc = kymo::Alloc::new();

const INUSE_SPACE: usize = 3;

/// A profile that a service gives.
fn profile(server: &kymo::Server, path: &str) -> Profile {
    let answer = served::get(server.address(), &format!("/debug/pprof/{path}"));
    assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
    Profile::decode(&answer.body).unwrap()
}

/// Values of samples whose stack has a function, summed.
fn of(profile: &Profile, function: &str, sample_type: usize) -> i64 {
    let has = |sample: &&kymo::profile::Sample| {
        profile.frames(sample).any(|frame| frame.function.contains(function))
    };
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

#[test]
fn a_planted_leak_is_first_in_the_heap_profile() {
    watched::in_child(|| {
        let server = kymo::serve("127.0.0.1:0").unwrap();
        let leaked = leaks(10_000);
        works(20_000);
        let heap = profile(&server, "heap");
        assert_eq!(heap.default_sample_type, "inuse_space");
        let first: Vec<_> = heap.frames(&heap.samples[0]).map(|frame| frame.function.clone()).collect();
        assert!(first.iter().any(|function| function.contains("alloc::leaks")), "{first:?}");
        let (live, truth) = (of(&heap, "alloc::leaks", INUSE_SPACE) as f64, 4096.0 * 10_000.0);
        // 80 samples: three standard deviations are a third.
        assert!((live / truth - 1.0).abs() < 0.4, "{live} of {truth}");
        assert_eq!(of(&heap, "alloc::works", INUSE_SPACE), 0);
        drop(leaked);
        assert_eq!(of(&profile(&server, "heap"), "alloc::leaks", INUSE_SPACE), 0);
    });
}
