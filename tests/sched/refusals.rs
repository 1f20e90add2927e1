//! What is left where the kernel refuses rings: each thread's totals, and the reason by name.

use std::ffi::c_long;

use kymo::analysis::on_cpu::on_cpu;
use kymo::model::Trace;

use crate::program::{assert_near, record, run_and_sleep, source};
use crate::watched;

/// Lets `perf_event_open` fail with an errno, in this thread and those that it makes.
fn deny_perf_events(errno: i32) {
    on_perf_events(libc::SECCOMP_RET_ERRNO | errno as u32);
}

fn on_perf_events(action: u32) {
    let statement = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_perf_event_open as u32),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, action),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let (on, none): (c_long, c_long) = (1, 0);
    // SAFETY: takes numbers only.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, on, none, none, none) }, 0);
    // SAFETY: the filter and its program live through the call, which copies them.
    let failed = unsafe {
        libc::syscall(libc::SYS_seccomp, c_long::from(libc::SECCOMP_SET_MODE_FILTER), none, &raw const filter)
    };
    assert_eq!(failed, 0, "{}", std::io::Error::last_os_error());
}

fn ask_for(mode: &str) {
    // SAFETY: no other thread of this child reads the environment now.
    unsafe { std::env::set_var("KYMO_SCHED", mode) };
}

/// Totals are all there is, and they are right.
fn assert_totals_only(reason: &str) {
    let (truths, trace) = record(run_and_sleep);
    let state = source(&trace);
    assert!(state.starts_with("totals only: ") && state.contains(reason), "{state}");
    assert_only_totals(&trace);
    let told = on_cpu(&trace);
    truths.into_iter().for_each(|truth| assert_near(&trace, &told, truth));
    assert!(told.iter().flatten().any(|thread| thread.runnable > 0), "waits for a CPU are told too");
}

fn assert_only_totals(trace: &Trace) {
    assert!(trace.cpus.is_empty());
    assert!(!trace.sched_totals.is_empty());
}

#[test]
fn totals_that_are_asked_for_agree_with_the_threads_cpu_clocks() {
    watched::in_child(|| {
        ask_for("totals");
        assert_totals_only("KYMO_SCHED asks for them");
    });
}

#[test]
fn a21_seccomp_denied_with_eperm_leaves_totals() {
    watched::in_child(|| {
        deny_perf_events(libc::EPERM);
        ask_for("rings");
        assert_totals_only("perf_event_open is refused");
    });
}

#[test]
fn a21_seccomp_denied_with_enosys_leaves_totals() {
    watched::in_child(|| {
        deny_perf_events(libc::ENOSYS);
        ask_for("rings");
        assert_totals_only("perf_event_open is refused");
    });
}

#[test]
fn a21_behind_a_seccomp_filter_nothing_is_asked_that_it_might_kill_for() {
    watched::in_child(|| {
        on_perf_events(libc::SECCOMP_RET_KILL_PROCESS);
        let (_, trace) = record(|| ());
        assert!(source(&trace).contains("a seccomp filter is on"), "{}", source(&trace));
        assert_only_totals(&trace);
    });
}
