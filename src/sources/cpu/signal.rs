//! The handler of SIGPROF.
//!
//! # Invariants
//! 1. It MUST NOT allocate, lock, or wait: it may have interrupted whoever holds the lock. It reads statics, walks the
//!    stack and writes to its own thread's lane.
//! 2. It MUST leave errno as it was: it may stand between a failed call and the look at why.
//! 3. It MUST stay installed, and do nothing when nobody samples: the default for a late signal is to end the process.
//! 4. It MUST pass on what is not its own: the program, or another profiler, may use SIGPROF too. Without a handler to
//!    pass it to, such a signal is dropped.

#![allow(unsafe_code, reason = "sigaction(2), and what a handler is given")]

use std::cell::Cell;
use std::io;
use std::mem::zeroed;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

use libc::{c_int, c_void, siginfo_t, ucontext_t};

use super::timers;
use crate::clock;
use crate::events::{Count, CpuSample, Group, Nanos, StackId, TaskId};
use crate::limits::CPU_SAMPLE_PERIODS;
use crate::record;

/// The period of the process's own timer while that is used, in nanoseconds; else 0.
static SHARED: AtomicU64 = AtomicU64::new(0);

/// CPU time of the process that samples have been taken for, while its own timer is used. That timer does not say how
/// often it has expired, and with several CPUs it expires more often than the kernel looks.
static SHARED_UNTIL: AtomicU64 = AtomicU64::new(0);

/// Whether anybody samples.
static SAMPLING: AtomicBool = AtomicBool::new(false);

/// Who had the signal before. Never freed: a handler may be reading it.
static PREVIOUS: AtomicPtr<libc::sigaction> = AtomicPtr::new(ptr::null_mut());

thread_local! {
    /// Inside another's handler, which may pass the signal back.
    static FORWARDING: Cell<bool> = const { Cell::new(false) };
}

/// What siginfo_t holds for a timer's signal.
#[repr(C)]
struct TimerInfo {
    signal: c_int,
    errno: c_int,
    code: c_int,
    padding: c_int,
    timer: c_int,
    /// Expirations since the signal was queued, beyond the first.
    overrun: c_int,
    value: u64,
}

/// What the handler does with its own signals from now on; `shared` is the period of the process's own timer.
pub(super) fn sample(on: bool, shared: u64) {
    SHARED_UNTIL.store(timers::process_time(), Ordering::SeqCst);
    SHARED.store(shared, Ordering::SeqCst);
    SAMPLING.store(on, Ordering::SeqCst);
}

/// Makes this file's handler the one that gets SIGPROF. Whoever had it before is passed what is not kymo's.
///
/// # Errors
/// The system's.
pub(super) fn install() -> io::Result<()> {
    if is_ours() {
        return Ok(());
    }
    // SAFETY: sched_getcpu(3) has no preconditions. Called here, so that the handler's call needs no dynamic linker.
    unsafe { libc::sched_getcpu() };
    // SAFETY: zeros are a valid sigaction, of an empty mask.
    let mut ours: libc::sigaction = unsafe { zeroed() };
    ours.sa_sigaction = handler as *const () as usize;
    ours.sa_flags = libc::SA_RESTART | libc::SA_SIGINFO | libc::SA_ONSTACK;
    // Its predecessor stands before the handler can run.
    PREVIOUS.store(Box::into_raw(Box::new(current()?)), Ordering::SeqCst);
    // SAFETY: the handler is async-signal-safe, see the invariants, and of the type that SA_SIGINFO asks for.
    match unsafe { libc::sigaction(libc::SIGPROF, &ours, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether SIGPROF still comes here.
pub(super) fn is_ours() -> bool {
    current().is_ok_and(|current| current.sa_sigaction == handler as *const () as usize)
}

fn current() -> io::Result<libc::sigaction> {
    // SAFETY: zeros are a valid sigaction.
    let mut current: libc::sigaction = unsafe { zeroed() };
    // SAFETY: it writes one sigaction.
    match unsafe { libc::sigaction(libc::SIGPROF, ptr::null(), &mut current) } {
        0 => Ok(current),
        _ => Err(io::Error::last_os_error()),
    }
}

extern "C" fn handler(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: it only says where this thread's errno is.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: errno is this thread's own.
    let saved = unsafe { *errno };
    // SAFETY: the kernel gives a handler a siginfo_t, whose fields for timers are read only for a timer's signal.
    match weight(unsafe { &*info.cast::<TimerInfo>() }) {
        // SAFETY: the kernel gives a handler with SA_SIGINFO what it has interrupted.
        Some(weight) => take(unsafe { &*context.cast::<ucontext_t>() }, weight),
        None => forward(signal, info, context),
    }
    // SAFETY: errno is this thread's own.
    unsafe { *errno = saved };
}

/// The periods that a signal stands for, and one period's nanoseconds; none if it is not ours.
fn weight(info: &TimerInfo) -> Option<(u64, u64)> {
    match info.code {
        libc::SI_TIMER => {
            let period = timers::period_of(info.value)?;
            Some((1 + info.overrun.max(0) as u64, period))
        }
        libc::SI_KERNEL => match SHARED.load(Ordering::Relaxed) {
            0 => None,
            period => Some((shared_periods(period), period)),
        },
        _ => None,
    }
}

/// The periods of the process's CPU time since the last sample. On a thread of kymo's own: none, the next one has them.
fn shared_periods(period: u64) -> u64 {
    if record::is_muted() {
        return 0;
    }
    let now = timers::process_time();
    let due = |until: u64| now.saturating_sub(until) / period;
    let taken = SHARED_UNTIL
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |until| Some(until + due(until) * period));
    taken.map_or(0, due)
}

fn take(context: &ucontext_t, (periods, period): (u64, u64)) {
    if periods == 0 || !SAMPLING.load(Ordering::Relaxed) || !record::enabled(Group::Cpu) {
        return;
    }
    let ticks = clock::ticks();
    // SAFETY: sched_getcpu(3) has no preconditions; it reads memory that the kernel shares.
    let cpu = Count(unsafe { libc::sched_getcpu() }.max(0) as u64);
    let here = periods.min(CPU_SAMPLE_PERIODS);
    let (stack, task) = (record::stack_from(context), current_task());
    record::emit_in_handler(ticks, CpuSample { stack, weight: Nanos(here * period), cpu, task });
    if periods > here {
        let (stack, weight) = (StackId(0), Nanos((periods - here) * period));
        record::emit_in_handler(ticks, CpuSample { stack, weight, cpu, task: TaskId(0) });
    }
}

#[cfg(feature = "tokio")]
fn current_task() -> TaskId {
    crate::sources::task::current()
}

#[cfg(not(feature = "tokio"))]
fn current_task() -> TaskId {
    TaskId(0)
}

/// Passes a signal that is not ours to whoever had SIGPROF before.
fn forward(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let previous = PREVIOUS.load(Ordering::Acquire);
    // SAFETY: it is null or a box that `install` has leaked.
    let Some(previous) = (unsafe { previous.as_ref() }) else { return };
    let function = previous.sa_sigaction;
    if matches!(function, libc::SIG_DFL | libc::SIG_IGN) || FORWARDING.replace(true) {
        return;
    }
    if previous.sa_flags & libc::SA_SIGINFO != 0 {
        type Function = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);
        // SAFETY: it was installed with SA_SIGINFO, so it is a function of this type.
        let function = unsafe { std::mem::transmute::<usize, Function>(function) };
        function(signal, info, context);
    } else {
        // SAFETY: it was installed without SA_SIGINFO, so it is a function of this type.
        let function = unsafe { std::mem::transmute::<usize, extern "C" fn(c_int)>(function) };
        function(signal);
    }
    FORWARDING.set(false);
}
