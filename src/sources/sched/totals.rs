//! What a thread has run, waited for a CPU and been preempted so far, by the kernel's own account of it.
//!
//! The run time is the thread's CPU clock, which is exact at any moment (`schedstat` is as old as the latest tick); the
//! wait for a CPU stands in `schedstat` and the preemptions in `status`, where the kernel has them.

#![allow(unsafe_code, reason = "another thread's CPU clock")]

use std::fs;

use crate::events::{Count, Nanos, SchedTotals};

/// Of a thread of this process, by the kernel's number; `None` if it is gone.
pub(super) fn of(tid: u32) -> Option<SchedTotals> {
    let running = cpu_clock(tid)?;
    let (runnable, preemptions) = (runnable(&file(tid, "schedstat")), preemptions(&file(tid, "status")));
    Some(SchedTotals {
        running: Nanos(running),
        runnable: Nanos(runnable.unwrap_or_default()),
        preemptions: Count(preemptions.unwrap_or_default()),
    })
}

/// Nanoseconds that a thread has run.
pub(super) fn cpu_clock(tid: u32) -> Option<u64> {
    // What pthread_getcpuclockid(3) makes of a thread: its number, "of one thread", "as the scheduler counts".
    let clock = (!(tid as libc::clockid_t)) << 3 | 4 | 2;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a live timespec; a clock of a thread that is gone is refused.
    let failed = unsafe { libc::clock_gettime(clock, &mut time) };
    (failed == 0).then(|| time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// The CPU that a thread is on or was on.
pub(super) fn cpu(tid: u32) -> Option<u32> {
    processor(&file(tid, "stat"))
}

fn file(tid: u32, name: &str) -> String {
    fs::read_to_string(format!("/proc/self/task/{tid}/{name}")).unwrap_or_default()
}

/// The second of `schedstat`'s three numbers.
fn runnable(schedstat: &str) -> Option<u64> {
    schedstat.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn preemptions(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"))?;
    line.trim().parse().ok()
}

/// The 39th field of `stat`; the second one is a name that may hold anything.
fn processor(stat: &str) -> Option<u32> {
    let (_, from_third) = stat.rsplit_once(") ")?;
    from_third.split_ascii_whitespace().nth(39 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read() {
        assert_eq!(runnable("8086420 213 39\n"), Some(213));
        assert_eq!(runnable("no schedstats here"), None);
        assert_eq!(preemptions("Threads:\t2\nnonvoluntary_ctxt_switches:\t17\n"), Some(17));
        assert_eq!(preemptions(""), None);
        let fields: Vec<_> = (4..=52).map(|field| field.to_string()).collect();
        assert_eq!(processor(&format!("7 (a) b) S {}", fields.join(" "))), Some(39));
        assert_eq!(processor("7 (cut"), None);
    }

    #[test]
    fn a_thread_that_is_gone_has_none() {
        // The largest number that a thread can have is below this.
        assert_eq!(of(1 << 22 | 1), None);
    }
}
