//! Which thread ran when, on which CPU: as the kernel tells it, against the threads' own CPU clocks.
//!
//! Each test is a child of its own with a watchdog, since what is asked of the kernel, and what it refuses, is the whole
//! process's.

#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "CPU clocks, users and seccomp filters")]

#[path = "sched/program.rs"]
mod program;
mod watched;

use kymo::analysis::on_cpu::on_cpu;
use program::{assert_near, left_behind, record, run_and_sleep, slices_of};

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
