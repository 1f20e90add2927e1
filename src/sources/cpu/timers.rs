//! The kernel's CPU timers, by system calls: one for a thread, or one for the process.
//!
//! Called directly, because the C library's `timer_create` differs from version to version and lives in another
//! library in old ones.

#![allow(unsafe_code, reason = "timer_create(2), setitimer(2): std has no timers")]

use std::io;
use std::mem::zeroed;
use std::ptr;

use libc::{c_int, c_long, itimerspec, timespec};

/// The upper half of a timer's value: which signals are ours. The lower half is the period, in nanoseconds, so that a
/// late signal of an earlier rate still says what it stands for.
const COOKIE: u64 = 0x6b79_6d6f << 32;

/// A timer that counts one thread's CPU time and signals that thread. Deleted when dropped.
#[derive(Debug)]
pub(super) struct Timer(c_int);

impl Timer {
    /// For a thread of this process; `first` and then every `period` nanoseconds of its CPU time.
    ///
    /// # Errors
    /// The system's: `EINVAL` if there is no such thread, `EAGAIN` if no more signals may be pending.
    pub(super) fn start(tid: u32, first: u64, period: u64) -> io::Result<Timer> {
        // SAFETY: zeros are a valid sigevent.
        let mut event: libc::sigevent = unsafe { zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = libc::SIGPROF;
        event.sigev_notify_thread_id = tid as c_int;
        event.sigev_value.sival_ptr = ptr::without_provenance_mut((COOKIE | period) as usize);
        let mut id: c_int = 0;
        // SAFETY: the kernel reads one sigevent and writes one int, and both are there.
        check(unsafe { libc::syscall(libc::SYS_timer_create, cpu_clock(tid), &event, &mut id) })?;
        let timer = Timer(id);
        let times = itimerspec { it_interval: spec(period), it_value: spec(first.max(1)) };
        let none = ptr::null_mut::<itimerspec>();
        // SAFETY: the timer is ours, and the kernel reads one itimerspec.
        check(unsafe { libc::syscall(libc::SYS_timer_settime, timer.0, 0, &times, none) })?;
        Ok(timer)
    }

    /// Whether its thread has ended: its number may be another one's by now.
    pub(super) fn is_dead(&self) -> bool {
        let mut times = itimerspec { it_interval: spec(0), it_value: spec(0) };
        // SAFETY: the timer is ours, and the kernel writes one itimerspec.
        let result = unsafe { libc::syscall(libc::SYS_timer_gettime, self.0, &mut times) };
        result != 0 || (times.it_value.tv_sec, times.it_value.tv_nsec) == (0, 0)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: the timer is ours.
        unsafe { libc::syscall(libc::SYS_timer_delete, self.0) };
    }
}

/// The period of the timer that sent a signal with this value; none if it was not one of these.
pub(super) fn period_of(value: u64) -> Option<u64> {
    let upper = u64::from(u32::MAX) << 32;
    (value & upper == COOKIE).then_some(value & !upper)
}

/// Starts the process's own timer, which signals whichever thread runs. 0 stops it.
///
/// # Errors
/// The system's; `EBUSY` if somebody else uses it: there is only one.
pub(super) fn share(period: u64) -> io::Result<()> {
    let span = |nanos: u64| libc::timeval {
        tv_sec: (nanos / 1_000_000_000) as libc::time_t,
        tv_usec: (nanos % 1_000_000_000 / 1_000) as libc::suseconds_t,
    };
    let times = libc::itimerval { it_interval: span(period), it_value: span(period) };
    let mut before = libc::itimerval { it_interval: span(0), it_value: span(0) };
    // SAFETY: the kernel writes one itimerval.
    check(unsafe { libc::syscall(libc::SYS_getitimer, libc::ITIMER_PROF, &mut before) })?;
    if period > 0 && (before.it_value.tv_sec, before.it_value.tv_usec) != (0, 0) {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    let none = ptr::null_mut::<libc::itimerval>();
    // SAFETY: the kernel reads one itimerval.
    check(unsafe { libc::syscall(libc::SYS_setitimer, libc::ITIMER_PROF, &times, none) })
}

/// CPU time of the process, in nanoseconds.
pub(super) fn process_time() -> u64 {
    let mut time = spec(0);
    // SAFETY: the kernel writes one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The kernel's tick in nanoseconds: it looks at CPU timers once in each.
pub(super) fn tick() -> u64 {
    let mut tick = spec(0);
    // SAFETY: the kernel writes one timespec.
    match unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &mut tick) } {
        0 if tick.tv_sec == 0 && tick.tv_nsec > 0 => tick.tv_nsec as u64,
        _ => 4_000_000,
    }
}

/// The clock of a thread's CPU time, as the kernel numbers them.
fn cpu_clock(tid: u32) -> c_int {
    const OF_ONE_THREAD: c_int = 4;
    const TIME_THAT_IT_RAN: c_int = 2;
    !(tid as c_int) << 3 | OF_ONE_THREAD | TIME_THAT_IT_RAN
}

fn spec(nanos: u64) -> timespec {
    timespec { tv_sec: (nanos / 1_000_000_000) as libc::time_t, tv_nsec: (nanos % 1_000_000_000) as c_long }
}

fn check(result: c_long) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
