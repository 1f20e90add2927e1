//! Which thread ran when, on which CPU: as the kernel tells it, against the threads' own CPU clocks.
//!
//! Each test is a child of its own with a watchdog, since what is asked of the kernel, and what it refuses, is the whole
//! process's.

#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "CPU clocks, users and seccomp filters")]

#[path = "sched/program.rs"]
mod program;
#[path = "sched/refusals.rs"]
mod refusals;
mod watched;

use std::sync::mpsc;
use std::time::Duration;

use kymo::analysis::on_cpu::on_cpu;
use kymo::events::LossReason;
use kymo::model::State;
use program::{Truth, assert_near, left_behind, record, run_and_sleep, slices_of};

#[test]
fn on_cpu_time_agrees_with_the_threads_cpu_clocks() {
    watched::in_child(|| {
        let (truths, trace) = record(run_and_sleep);
        assert!(
            program::source(&trace).starts_with("on: each context switch"),
            "{}",
            program::source(&trace)
        );
        let told = on_cpu(&trace);
        for truth in truths {
            assert_near(&trace, &told, truth);
        }
    });
}

#[test]
fn an_ordinary_user_has_the_same() {
    watched::in_child(|| {
        become_nobody();
        let (truths, trace) = record(run_and_sleep);
        let state = program::source(&trace);
        assert!(state.starts_with("on: each context switch"), "{state}");
        assert!(trace.cpus.iter().any(|slice| slice.preempted));
        let told = on_cpu(&trace);
        truths.into_iter().for_each(|truth| assert_near(&trace, &told, truth));
        assert_eq!(left_behind().1, 0);
    });
}

/// A user without any right, if this one may become that.
fn become_nobody() {
    const NOBODY: u32 = 65534;
    // SAFETY: takes nothing.
    let is_root = unsafe { libc::geteuid() } == 0;
    // SAFETY: takes numbers only.
    assert!(!is_root || unsafe { libc::setresgid(NOBODY, NOBODY, NOBODY) } == 0);
    // SAFETY: takes numbers only.
    assert!(!is_root || unsafe { libc::setresuid(NOBODY, NOBODY, NOBODY) } == 0);
    // A process that an ordinary user started shows itself in /proc, one that has become another's does not.
    // SAFETY: takes numbers only.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1i64) }, 0);
}

#[test]
fn what_a_thread_did_that_was_there_before_is_known_from_its_first_moment_to_its_last() {
    watched::in_child(|| {
        let (go, goes) = mpsc::channel::<()>();
        let (send, truths) = mpsc::channel();
        let named = std::thread::Builder::new().name("old".into());
        let old = named.spawn(move || {
            goes.recv().unwrap();
            let before = program::cpu_clock();
            program::spin(Duration::from_millis(300));
            send.send(program::cpu_clock() - before).unwrap();
            let _ = goes.recv();
        });
        let (ran, trace) = record(|| {
            go.send(()).unwrap();
            truths.recv().unwrap()
        });
        drop(go);
        old.unwrap().join().unwrap();
        assert_near(&trace, &on_cpu(&trace), Truth { name: "old", ran });
        let states = &trace.threads.iter().find(|thread| thread.name == "old").unwrap().states;
        assert!(
            states.iter().all(|change| change.state != State::Unknown || change.at < 20_000_000),
            "{states:?}"
        );
        assert!(states.iter().any(|change| change.state == State::Running));
    });
}

#[test]
fn switches_that_a_full_ring_loses_are_counted_and_the_totals_stand_in() {
    watched::in_child(|| {
        let (truths, trace, lost) = program::record_unread(program::hand_to_and_fro);
        assert!(lost > 0 && trace.lost() == lost, "{lost} {}", trace.lost());
        assert!(trace.losses.iter().all(|loss| loss.reason == LossReason::KernelRing));
        let told = on_cpu(&trace);
        truths.iter().for_each(|&truth| assert_near(&trace, &told, truth));
        for truth in truths {
            let thread = trace.threads.iter().find(|thread| thread.name == truth.name).unwrap();
            assert!(
                thread.states.iter().any(|change| change.state == State::Unknown),
                "nobody knows of the gap"
            );
        }
    });
}

#[test]
fn the_time_on_cpus_is_at_least_what_the_thread_ran_and_a_cpu_has_one_thread_at_a_time() {
    watched::in_child(|| {
        let (truths, trace) = record(run_and_sleep);
        for truth in truths {
            // A hypervisor may stop a CPU meanwhile, which no thread's clock counts; and birth takes a moment.
            let on: u64 = slices_of(&trace, truth.name).map(|slice| slice.time.duration()).sum();
            assert!(on as f64 > truth.ran.as_nanos() as f64 * 0.97, "{truth:?}: {on}");
        }
        let mut slices = trace.cpus.clone();
        slices.sort_by_key(|slice| (slice.cpu, slice.time.begin));
        for pair in slices.windows(2).filter(|pair| pair[0].cpu == pair[1].cpu) {
            let overlap = pair[0].time.end.saturating_sub(pair[1].time.begin);
            // A new thread says by itself that it runs, and clocks are compared to some ten nanoseconds.
            assert!(overlap < 20_000, "{pair:?}");
        }
        assert!(slices.iter().any(|slice| slice.preempted) && slices.iter().any(|slice| !slice.preempted));
    });
}

#[test]
fn nothing_is_left_open_when_the_capture_has_stopped() {
    watched::in_child(|| {
        record(|| ());
        let before = left_behind();
        let ((), trace) = record(|| {
            run_and_sleep();
            assert!(left_behind().1 > 0, "rings are mapped while the capture runs");
        });
        assert!(!trace.cpus.is_empty());
        assert_eq!(left_behind(), before);
        assert_eq!(before.1, 0);
    });
}
