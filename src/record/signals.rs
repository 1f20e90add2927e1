//! Signals that are the program's: those that our writes would raise, and those that our threads might be given.
//!
//! A write to a pipe that nobody reads raises SIGPIPE, one past the limit on a file's size SIGXFSZ: both end a process
//! that has said nothing about them. A trace's file must not end the program, so they are held back on this thread while
//! we write, and what we have raised is taken away.
//!
//! The kernel gives a process's signal to any of its threads that takes it. A handler of a program that has one thread
//! counts on running on that one, and may leave by longjmp(3): so ours take none.

#![allow(unsafe_code, reason = "pthread_sigmask(3) and sigtimedwait(2)")]

use std::io;
use std::mem::MaybeUninit;

/// Does `write` with those signals held back.
///
/// # Errors
/// Those of `write`.
pub(super) fn without<R>(write: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
    let ours = set(&[libc::SIGPIPE, libc::SIGXFSZ]);
    let mut before = set(&[]);
    // SAFETY: both sets are ours and initialised.
    let held = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &ours, &mut before) } == 0;
    let result = write();
    if held {
        if let Err(io::ErrorKind::BrokenPipe | io::ErrorKind::FileTooLarge) =
            result.as_ref().map_err(io::Error::kind)
        {
            take_raised(&before);
        }
        // SAFETY: the set was written by the call above.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut()) };
    }
    result
}

/// Does `spawn`, whose threads take no signals, but for those of their own faults.
pub(super) fn held<R>(spawn: impl FnOnce() -> R) -> R {
    let (mut all, mut before) = (set(&[]), set(&[]));
    // SAFETY: the set is ours and initialised.
    unsafe { libc::sigfillset(&mut all) };
    for fault in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT, libc::SIGTRAP] {
        // SAFETY: as above.
        unsafe { libc::sigdelset(&mut all, fault) };
    }
    // SAFETY: both sets are ours and initialised.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &all, &mut before) };
    let result = spawn();
    // SAFETY: the set was written by the call above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut()) };
    result
}

/// Takes what is pending of them, unless the program held it back itself: then it may wait for it.
fn take_raised(before: &libc::sigset_t) {
    for signal in [libc::SIGPIPE, libc::SIGXFSZ] {
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `before` is a set.
        if unsafe { libc::sigismember(before, signal) } == 0 {
            // SAFETY: what is waited for is a set, and is written nowhere.
            unsafe { libc::sigtimedwait(&set(&[signal]), std::ptr::null_mut(), &now) };
        }
    }
}

fn set(signals: &[libc::c_int]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: it has room for a set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: sigemptyset has written it.
    let mut set = unsafe { set.assume_init() };
    for &signal in signals {
        // SAFETY: it is a set, and these are signals.
        unsafe { libc::sigaddset(&mut set, signal) };
    }
    set
}
