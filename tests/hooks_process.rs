//! What would break a process, were a hook not careful: calls before main, signals, cancelled threads.
//!
//! Each test is a child of its own with a watchdog.

#![cfg(feature = "hooks")]
#![allow(clippy::deref_addrof, reason = "a byte that nobody reads")]
#![allow(unsafe_code, reason = "forks, cancels and raises signals, as C programs do")]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a child's, and a cancelled thread's, few calls belong together"
)]

mod recorded;
#[path = "calls/waiters.rs"]
mod waiters;
mod watched;

use std::ffi::c_int;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use kymo::events::{Event, Group, Groups};
use kymo::format::file::File;
use kymo::record::session::{Capture, CaptureOptions};
use kymo::record::sink::MemorySink;
use recorded::{record_unnamed as record, this_thread};

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap()
}

/// Starts a capture that may lose events.
fn start(groups: Groups) -> (Capture, MemorySink) {
    let sink = MemorySink::new(256 << 20);
    let options = CaptureOptions { groups, cpu_hz: 0, sink: Box::new(sink.clone()), resolver: None };
    (Capture::start(options).unwrap(), sink)
}

/// What the calls of [`before_everything`] came to: two results and an errno.
static EARLY: [AtomicI32; 3] = [const { AtomicI32::new(i32::MIN) }; 3];

/// Runs before any constructor, those of kymo and of libc included.
extern "C" fn before_everything() {
    // SAFETY: reads nothing, from no descriptor.
    EARLY[0].store(unsafe { libc::read(-1, null_mut(), 0) } as i32, Ordering::Relaxed);
    // SAFETY: only says where errno is.
    EARLY[1].store(unsafe { *libc::__errno_location() }, Ordering::Relaxed);
    // SAFETY: getpid(2) takes no arguments.
    EARLY[2].store(unsafe { libc::syscall(libc::SYS_getpid) } as i32, Ordering::Relaxed);
}

#[used]
#[unsafe(link_section = ".preinit_array")]
static BEFORE_EVERYTHING: extern "C" fn() = before_everything;

#[test]
fn calls_before_any_constructor_find_the_real_functions() {
    let [read, error, pid] = EARLY.each_ref().map(|value| value.load(Ordering::Relaxed));
    assert_eq!((read, error, pid as u32), (-1, libc::EBADF, std::process::id()));
}

#[test]
fn with_nothing_recording_nothing_is_recorded() {
    watched::in_child(|| {
        let ((), before) = record(|| ());
        std::fs::read("/proc/self/comm").unwrap();
        let ((), after) = record(|| ());
        assert!(before.calls.is_empty() && after.calls.is_empty(), "{:?} {:?}", before.calls, after.calls);
    });
}

/// How often a handler ran.
static HANDLED: AtomicU64 = AtomicU64::new(0);

/// A handler as it should be, but that it calls what is hooked.
extern "C" fn handle(_signal: c_int) {
    // SAFETY: writes nothing, to no descriptor, and leaves errno as it was.
    unsafe {
        let before = *libc::__errno_location();
        libc::write(-1, null(), 0);
        *libc::__errno_location() = before;
    }
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

/// Raises the handler's signal on this thread, again and again.
fn interrupt_this_thread_each(nanos: i64) {
    // SAFETY: zero bytes are a valid event, and the timer's place is live.
    unsafe {
        let mut event: libc::sigevent = std::mem::zeroed();
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = libc::SIGUSR1;
        event.sigev_notify_thread_id = libc::gettid();
        let mut timer = null_mut();
        assert_eq!(libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer), 0);
        let time = libc::timespec { tv_sec: 0, tv_nsec: nanos };
        let again = libc::itimerspec { it_interval: time, it_value: time };
        assert_eq!(libc::timer_settime(timer, 0, &again, null_mut()), 0);
    }
}

#[test]
fn a_handler_that_interrupts_a_hook_is_recorded_or_counted_and_errno_stays() {
    watched::in_child(|| {
        // SAFETY: the handler only does what handlers may.
        unsafe { libc::signal(libc::SIGUSR1, handle as *const () as usize) };
        let (capture, sink) = start(Groups::NONE.with(Group::Syscall));
        interrupt_this_thread_each(100_000);
        let mut calls = 0;
        while HANDLED.load(Ordering::Relaxed) < 2_000 {
            // SAFETY: reads nothing, from no descriptor.
            let read = unsafe { libc::read(-1, null_mut(), 0) };
            assert_eq!((read, errno()), (-1, libc::EBADF));
            calls += 1;
        }
        // SAFETY: the handler is never needed again.
        unsafe { libc::signal(libc::SIGUSR1, libc::SIG_IGN) };
        let progress = capture.stop();
        let bytes = sink.take();
        let file = File::parse(&bytes).unwrap();
        assert_eq!(file.problems, []);
        let events = file.runs.iter().flat_map(|run| file.events(run)).map(|stamped| stamped.unwrap().event);
        let of_calls = |event: &Event| matches!(event, Event::SyscallEnter(_) | Event::SyscallExit(_));
        let seen = events.filter(of_calls).count() as u64;
        let sent = 2 * (calls + HANDLED.load(Ordering::Relaxed));
        assert_eq!(seen + progress.lost, sent, "each is recorded or counted; {} lost", progress.lost);
        assert!(seen > sent / 2, "{seen} of {sent}");
    });
}

#[test]
fn threads_are_cancelled_in_hooked_calls() {
    watched::in_child(|| {
        let ((said, count), trace) = record(waiters::cancel_all);
        for line in said.lines() {
            assert!(line.ends_with(" 0 -1"), "{line}: made, and PTHREAD_CANCELED");
        }
        assert_eq!((said.lines().count(), count), (20, 20));
        let own = this_thread(&trace);
        let made: Vec<_> = trace.threads.iter().filter(|thread| thread.creator == Some(own)).collect();
        assert_eq!(made.len(), count);
        assert!(made.iter().all(|thread| !thread.life.open), "their ends were seen");
    });
}

/// The kernel may give a process's signal to any of its threads that takes it.
#[test]
fn kymos_own_threads_take_no_signals_of_the_program() {
    watched::in_child(|| {
        let threads = || {
            let tasks = std::fs::read_dir("/proc/self/task").unwrap();
            tasks.map(|task| task.unwrap().path()).collect::<std::collections::HashSet<_>>()
        };
        let before = threads();
        let (capture, _sink) = start(Groups::ALL);
        let own: Vec<_> = threads().difference(&before).cloned().collect();
        assert_eq!(own.len(), 1);
        let status = std::fs::read_to_string(own[0].join("status")).unwrap();
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:\t")).unwrap();
        let blocked = u64::from_str_radix(blocked, 16).unwrap();
        for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGALRM, libc::SIGUSR1, libc::SIGPROF] {
            assert_ne!(blocked & 1 << (signal - 1), 0, "{signal}");
        }
        capture.stop();
    });
}
