//! Threads as C has them: without anything of Rust, cancelled, with numbers that come again and names that are no text.
//!
//! Each test is a child of its own with a watchdog.

#![cfg(feature = "hooks")]
#![allow(unsafe_code, reason = "makes threads as C programs do")]
#![allow(clippy::multiple_unsafe_ops_per_block, reason = "a thread's few calls belong together")]

mod recorded;
mod watched;

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicI32, Ordering};

use kymo::events::{Call, Group, Groups};
use kymo::model::Trace;
use kymo::record::session::{Capture, CaptureOptions};
use kymo::record::sink::MemorySink;
use recorded::record_unnamed as record;

type Routine = extern "C" fn(*mut c_void) -> *mut c_void;

/// A call that no other code makes. Does not unwind, so that those who call it are frames as C has them.
extern "C" fn leave_a_mark() {
    // SAFETY: writes nothing, to no descriptor.
    assert_eq!(unsafe { libc::pwrite(-1, null(), 0, 0) }, -1);
}

fn marks(trace: &Trace) -> usize {
    trace.calls.iter().filter(|call| call.call == Call::Pwrite).count()
}

/// Leaves a mark when it is dropped.
struct Last;

impl Drop for Last {
    fn drop(&mut self) {
        leave_a_mark();
    }
}

thread_local! {
    static EARLY: Cell<Option<Last>> = const { Cell::new(None) };
    static LATE: Cell<Option<Last>> = const { Cell::new(None) };
}

/// How often [`in_every_round`] ran.
static ROUNDS: AtomicI32 = AtomicI32::new(0);
static KEY: AtomicI32 = AtomicI32::new(0);

/// A key's destructor, which the C library calls four times if it sets its value again.
unsafe extern "C" fn in_every_round(value: *mut c_void) {
    leave_a_mark();
    ROUNDS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the key is never deleted.
    unsafe { libc::pthread_setspecific(KEY.load(Ordering::Relaxed) as libc::pthread_key_t, value) };
}

#[test]
fn b2_tls_destructor_events() {
    watched::in_child(|| {
        let sink = MemorySink::new(1 << 20);
        let groups = Groups::NONE.with(Group::Syscall);
        let options = CaptureOptions { groups, cpu_hz: 0, sink: Box::new(sink.clone()), resolver: None };
        let capture = Capture::start(options).unwrap();
        let mut key = 0;
        // SAFETY: a live place for the key.
        assert_eq!(unsafe { libc::pthread_key_create(&mut key, Some(in_every_round)) }, 0);
        KEY.store(key as i32, Ordering::Relaxed);
        let thread = std::thread::spawn(move || {
            EARLY.set(Some(Last));
            leave_a_mark();
            LATE.set(Some(Last));
            // SAFETY: the key was made above.
            unsafe { libc::pthread_setspecific(key, std::ptr::without_provenance(1)) };
        });
        thread.join().unwrap();
        let lost = capture.stop().lost;
        let rounds = ROUNDS.load(Ordering::Relaxed) as usize;
        let (trace, _) = kymo::model::load::load(&sink.take()).unwrap();
        assert_eq!(rounds, 4);
        // The recorder lets go of a thread in the last round: what comes after that is counted, two events a call.
        assert_eq!(marks(&trace) + lost as usize / 2, 3 + rounds, "{} and {lost} lost", marks(&trace));
        assert!(marks(&trace) >= 3 + rounds - 1);
    });
}

extern "C" fn returns(_: *mut c_void) -> *mut c_void {
    leave_a_mark();
    null_mut()
}

extern "C" fn exits(_: *mut c_void) -> *mut c_void {
    leave_a_mark();
    // SAFETY: this thread is C's: its frames hold nothing that must be dropped.
    unsafe { libc::pthread_exit(null_mut()) }
}

/// How many threads wait to be cancelled, or have.
static WAITING: AtomicI32 = AtomicI32::new(0);

extern "C" fn begin_to_wait() {
    leave_a_mark();
    WAITING.fetch_add(1, Ordering::Release);
}

extern "C" fn waits(_: *mut c_void) -> *mut c_void {
    begin_to_wait();
    // SAFETY: waits for a signal, until it is cancelled.
    unsafe { libc::pause() };
    null_mut()
}

#[test]
fn b6_c_threads() {
    const EACH: usize = 100;
    watched::in_child(|| {
        let round = |routine: Routine, cancel: bool| {
            let (mut thread, before) = (0, WAITING.load(Ordering::Acquire));
            // SAFETY: the routines take any argument; the thread is joined once.
            unsafe {
                assert_eq!(libc::pthread_create(&mut thread, null(), routine, null_mut()), 0);
                if cancel {
                    while WAITING.load(Ordering::Acquire) == before {
                        std::thread::yield_now();
                    }
                    libc::pthread_cancel(thread);
                }
                assert_eq!(libc::pthread_join(thread, null_mut()), 0);
            }
        };
        let ((before, after), trace) = record(|| {
            round(returns, false);
            let before = kymo::record::usage().threads;
            for _ in 0..EACH {
                round(returns, false);
                round(exits, false);
                round(waits, true);
            }
            (before, kymo::record::usage().threads)
        });
        assert_eq!(marks(&trace), 1 + 3 * EACH);
        let own = recorded::this_thread(&trace);
        let made: Vec<_> = trace.threads.iter().filter(|thread| thread.creator == Some(own)).collect();
        assert_eq!(made.len(), 1 + 3 * EACH);
        assert!(made.iter().all(|thread| !thread.life.open), "their ends were seen");
        assert!(
            after <= before + 3 * EACH / 2,
            "{after} places after {before}: those of ended threads are free again"
        );
    });
}

thread_local! {
    /// What this thread's number is said to be.
    static NUMBER: Cell<c_int> = const { Cell::new(0) };
}

/// In front of the C library's: the kernel gives a number twice only after millions of threads.
#[unsafe(no_mangle)]
extern "C" fn gettid() -> libc::pid_t {
    match NUMBER.get() {
        // SAFETY: takes no arguments.
        0 => unsafe { libc::syscall(libc::SYS_gettid) as libc::pid_t },
        number => number,
    }
}

#[test]
fn b7_tid_reuse() {
    const TWICE: c_int = 4_000_000;
    watched::in_child(|| {
        let run = || {
            std::thread::spawn(|| {
                NUMBER.set(TWICE);
                leave_a_mark();
                kymo::record::this_thread()
            })
            .join()
            .unwrap()
        };
        let options = Groups::NONE.with(Group::Syscall);
        let sink = MemorySink::new(1 << 20);
        let options =
            CaptureOptions { groups: options, cpu_hz: 0, sink: Box::new(sink.clone()), resolver: None };
        let capture = Capture::start(options).unwrap();
        let ids = [run(), run()];
        capture.stop();
        let (trace, problems) = kymo::model::load::load(&sink.take()).unwrap();
        assert_eq!(problems, []);
        assert_ne!(ids[0], ids[1]);
        let twice: Vec<_> = trace.threads.iter().filter(|thread| thread.tid == TWICE as u64).collect();
        assert_eq!(twice.iter().map(|thread| thread.id).collect::<Vec<_>>(), ids);
        for id in ids {
            let index = trace.threads.iter().position(|thread| thread.id == id).unwrap() as u32;
            assert_eq!(
                trace.calls.iter().filter(|call| call.thread == index && call.call == Call::Pwrite).count(),
                1
            );
        }
    });
}

#[test]
fn b8_names() {
    watched::in_child(|| {
        // SAFETY: PR_SET_NAME reads a C string.
        let names_itself =
            |name: &'static std::ffi::CStr| unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
        let named = |names: &'static [&'static std::ffi::CStr]| {
            std::thread::spawn(move || {
                for name in names {
                    leave_a_mark();
                    assert_eq!(names_itself(name), 0);
                }
                kymo::record::this_thread()
            })
            .join()
            .unwrap()
        };
        let (ids, trace) = record(|| {
            let giant = std::ffi::CString::new(vec![b'x'; 1 << 20]).unwrap();
            // SAFETY: a C string, and this thread.
            let refused = unsafe { libc::pthread_setname_np(libc::pthread_self(), giant.as_ptr()) };
            assert_eq!(refused, libc::ERANGE);
            [
                named(&[c"first", c"second", c"last"]),
                named(&[c"bad \xff\xfe name"]),
                named(&[c""]),
                named(&[c"longer than the kernel keeps"]),
                std::thread::Builder::new()
                    .name("x".repeat(1 << 20))
                    .spawn(kymo::record::this_thread)
                    .unwrap()
                    .join()
                    .unwrap(),
            ]
        });
        let name = |id| trace.threads.iter().find(|thread| thread.id == id).unwrap().name.as_str();
        assert_eq!(name(ids[0]), "last");
        assert!(name(ids[1]).starts_with("bad "), "{:?}", name(ids[1]));
        assert_eq!(name(ids[2]), "");
        assert_eq!(name(ids[3]), "longer than the");
        assert_eq!(name(ids[4]), "x".repeat(15));
    });
}
