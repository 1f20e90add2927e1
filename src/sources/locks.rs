//! Waits of threads for locks, conditions and each other, and who wakes them.
//!
//! std, parking_lot, crossbeam and tokio's own parking all wait in `futex`, which they reach by the C function
//! `syscall`; pthread locks wait inside glibc, so their own functions are hooked. A wait is two events around the real
//! call, so that one which never ends shows; its stack is taken afterwards, in the same frame, and only if it lasted.
//! A wake is stamped before the call (the woken may run before it returns) and told only when it woke somebody.
//! Uncontended locks cost nothing: they never come here, or (pthread) are tried first.

#![allow(unsafe_code, reason = "defines C functions")]

use std::ffi::{c_int, c_long, c_void};

use libc::{clockid_t, pthread_cond_t, pthread_mutex_t, pthread_t, timespec};

use super::interpose::{REAL_SYSCALL, Real, errno, keeping_errno};
use crate::clock;
use crate::events::{Addr, Count, Group, WaitBegin, WaitEnd, WaitKind, WaitOutcome, Wake};
use crate::limits::WAIT_STACK_NS;
use crate::record;

/// Records a wait around the real call; `outcome` reads what it returned.
#[inline]
fn waited<R: Copy>(
    kind: WaitKind,
    addr: u64,
    real: impl FnOnce() -> R,
    outcome: impl FnOnce(R) -> WaitOutcome,
) -> R {
    let begin = clock::ticks();
    keeping_errno(|| record::emit_at(begin, WaitBegin { kind, addr: Addr(addr) }));
    let result = real();
    keeping_errno(|| {
        let end = clock::ticks();
        let stack = record::stack_if_lasted(begin, end, WAIT_STACK_NS);
        record::emit_at(end, WaitEnd { outcome: outcome(result), stack });
    });
    result
}

fn outcome_of(error: c_int) -> WaitOutcome {
    match error {
        0 => WaitOutcome::Woken,
        libc::EAGAIN => WaitOutcome::Changed,
        libc::ETIMEDOUT => WaitOutcome::TimedOut,
        libc::EINTR => WaitOutcome::Interrupted,
        _ => WaitOutcome::Failed,
    }
}

/// The arguments of futex(2) behind the call's number, as `syscall` has them.
type Futex =
    unsafe extern "C-unwind" fn(c_long, *mut u32, c_long, c_long, *const c_void, *mut u32, c_long) -> c_long;

/// `syscall(SYS_futex, …)` while waits are recorded: `interpose::syscall` jumps here.
#[allow(clippy::too_many_arguments, reason = "the kernel's signature")]
pub(super) unsafe extern "C-unwind" fn futex(
    number: c_long,
    addr: *mut u32,
    op: c_long,
    value: c_long,
    timeout: *const c_void,
    addr2: *mut u32,
    value3: c_long,
) -> c_long {
    // SAFETY: this is the address of libc's variadic `syscall`, which takes its arguments in the same registers.
    let real = unsafe { std::mem::transmute::<*mut c_void, Futex>(REAL_SYSCALL.get()) };
    // SAFETY: the caller's arguments, unchanged.
    let real = || unsafe { real(number, addr, op, value, timeout, addr2, value3) };
    match op as c_int & libc::FUTEX_CMD_MASK {
        libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET | libc::FUTEX_LOCK_PI => {
            let outcome = |result| outcome_of(if result == -1 { errno() } else { 0 });
            waited(WaitKind::Futex, addr.addr() as u64, real, outcome)
        }
        libc::FUTEX_WAKE | libc::FUTEX_WAKE_BITSET | libc::FUTEX_WAKE_OP | libc::FUTEX_UNLOCK_PI => {
            let at = clock::ticks();
            let woken = real();
            if woken > 0 {
                keeping_errno(|| woke(at, addr.addr() as u64, woken as u64));
            }
            woken
        }
        _ => real(),
    }
}

fn woke(at: u64, addr: u64, woken: u64) {
    let stack = record::stack();
    record::emit_at(at, Wake { addr: Addr(addr), woken: Count(woken), stack });
}

/// Defines hooks of pthread functions: each says what it does while waits are recorded, `real` being the real one.
macro_rules! waits {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),*) |$real:ident| $body:expr;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Safety
            /// As the C function's of this name.
            #[unsafe(no_mangle)]
            pub(super) unsafe extern "C-unwind" fn $name($($arg: $type),*) -> c_int {
                type Function = unsafe extern "C-unwind" fn($($type),*) -> c_int;
                // SAFETY: dlsym(3) found the function of this name, whose signature this is.
                let real = unsafe { std::mem::transmute::<*mut c_void, Function>(real::$name.get()) };
                // SAFETY: the caller's arguments, unchanged.
                let $real = || unsafe { real($($arg),*) };
                if record::enabled(Group::Block) { $body } else { $real() }
            }
        )*

        #[allow(non_upper_case_globals, reason = "named like the functions they stand for")]
        mod real {
            use super::Real;
            use crate::sources::interpose::c_name;

            $(pub(super) static $name: Real = Real::new(c_name(concat!(stringify!($name), "\0")));)*
        }

        /// The functions behind this file's hooks.
        pub(super) static REALS: &[&Real] = &[$(&real::$name,)* &TRYLOCK];
    };
}

waits! {
    /// pthread_mutex_lock(3): tried first, a wait only if it is taken.
    fn pthread_mutex_lock(mutex: *mut pthread_mutex_t) |real| lock_contended(mutex, real);
    /// pthread_cond_wait(3)
    fn pthread_cond_wait(cond: *mut pthread_cond_t, mutex: *mut pthread_mutex_t)
        |real| waited(WaitKind::PthreadCond, cond.addr() as u64, real, outcome_of);
    /// pthread_cond_timedwait(3)
    fn pthread_cond_timedwait(cond: *mut pthread_cond_t, mutex: *mut pthread_mutex_t, until: *const timespec)
        |real| waited(WaitKind::PthreadCond, cond.addr() as u64, real, outcome_of);
    /// pthread_cond_clockwait(3)
    fn pthread_cond_clockwait(cond: *mut pthread_cond_t, mutex: *mut pthread_mutex_t, clock: clockid_t,
        until: *const timespec) |real| waited(WaitKind::PthreadCond, cond.addr() as u64, real, outcome_of);
    /// pthread_join(3)
    fn pthread_join(thread: pthread_t, result: *mut *mut c_void)
        |real| waited(WaitKind::Join, thread as u64, real, outcome_of);
}

static TRYLOCK: Real = Real::new(c"pthread_mutex_trylock");

fn lock_contended(mutex: *mut pthread_mutex_t, lock: impl FnOnce() -> c_int) -> c_int {
    type Function = unsafe extern "C-unwind" fn(*mut pthread_mutex_t) -> c_int;
    // SAFETY: dlsym(3) found the function of this name, whose signature this is.
    let trylock = unsafe { std::mem::transmute::<*mut c_void, Function>(TRYLOCK.get()) };
    // SAFETY: the caller's mutex, which it is about to lock.
    match unsafe { trylock(mutex) } {
        libc::EBUSY => waited(WaitKind::PthreadMutex, mutex.addr() as u64, lock, outcome_of),
        result => result,
    }
}
