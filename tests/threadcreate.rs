//! Who creates threads: of a process that records nothing, and of a trace; Rust's threads and C's.

#![cfg(all(feature = "hooks", feature = "http"))]
#![allow(unsafe_code, reason = "creates threads as C programs do")]

mod recorded;
mod served;
mod watched;

use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::Barrier;

use kymo::profile::{Profile, threadcreate, threadcreate_delta};
use watched::in_child;

#[inline(never)]
fn makes_rust_threads(count: usize) {
    let threads: Vec<_> = (0..count).map(|_| std::thread::spawn(|| ())).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[inline(never)]
fn makes_a_c_thread() {
    extern "C" fn nothing(_: *mut c_void) -> *mut c_void {
        null_mut()
    }
    let mut thread = 0;
    // SAFETY: the routine takes nothing and does nothing.
    assert_eq!(unsafe { libc::pthread_create(&mut thread, null(), nothing, null_mut()) }, 0);
    // SAFETY: our own thread, joined once.
    assert_eq!(unsafe { libc::pthread_join(thread, null_mut()) }, 0);
}

/// How many threads a function has created.
fn by(profile: &Profile, function: &str) -> i64 {
    let has = |sample: &&kymo::profile::Sample| {
        profile.frames(sample).any(|frame| frame.function.ends_with(function))
    };
    profile.samples.iter().filter(has).map(|sample| sample.values[0]).sum()
}

#[test]
fn each_thread_is_counted_where_it_was_created_without_a_trace() {
    in_child(|| {
        makes_rust_threads(7);
        let server = kymo::serve("127.0.0.1:0").unwrap().address();
        makes_rust_threads(3);
        makes_a_c_thread();
        let served = || {
            let answer = served::get(server, "/debug/pprof/threadcreate");
            Profile::decode(&answer.body).unwrap()
        };
        let profile = served();
        assert_eq!((by(&profile, "makes_rust_threads"), by(&profile, "makes_a_c_thread")), (3, 1));
        let types = (&*profile.sample_types[0].kind, &*profile.sample_types[0].unit);
        assert_eq!(types, ("threadcreate", "count"));
        let before = by(&profile, "[before kymo counted]");
        assert!((1..7).contains(&before), "{before}: those that lived then");
        let ((), trace) = recorded::record(|| makes_rust_threads(2));
        assert_eq!(by(&threadcreate(&trace), "makes_rust_threads"), 5, "a capture's own are counted too");
        assert_eq!(by(&threadcreate_delta(&trace), "makes_rust_threads"), 2);
        assert_eq!(by(&served(), "makes_rust_threads"), 5);
    });
}

#[test]
fn a_trace_alone_says_who_created_its_threads() {
    in_child(|| {
        let ((), trace) = recorded::record(|| {
            makes_rust_threads(4);
            makes_a_c_thread();
        });
        let profile = threadcreate(&trace);
        assert_eq!((by(&profile, "makes_rust_threads"), by(&profile, "makes_a_c_thread")), (4, 1));
    });
}

#[test]
fn threads_from_before_have_names_no_creator_and_an_open_life() {
    in_child(|| {
        let (begin, end) = (Barrier::new(2), Barrier::new(2));
        std::thread::scope(|scope| {
            let old = std::thread::Builder::new().name("from_before".into());
            let wait = || {
                begin.wait();
                end.wait();
            };
            old.spawn_scoped(scope, wait).unwrap();
            let ((), trace) = recorded::record(|| {
                begin.wait();
                makes_rust_threads(1);
                end.wait();
            });
            let old = trace.threads.iter().find(|thread| thread.name == "from_before").unwrap();
            assert!(old.creator.is_none() && old.creation_stack.0 == 0, "{old:?}");
            assert!(old.life.open && old.life.begin == 0 && old.tid != 0, "{old:?}");
            let new = trace.threads.iter().find(|thread| thread.creation_stack.0 != 0).unwrap();
            let own = recorded::this_thread(&trace);
            assert!(new.creator == Some(own) && !new.life.open && new.life.begin > 0, "{new:?}");
        });
    });
}
