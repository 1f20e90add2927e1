//! Waits of threads for locks, conditions and each other, and who wakes them.
//!
//! std, parking_lot, crossbeam and tokio's own parking all wait in `futex`, which they reach by the C function
//! `syscall`; pthread locks wait inside glibc, so their own functions are hooked. A wait is two events around the real
//! call, so that one which never ends shows; its stack is taken afterwards, in the same frame, and only if it lasted.
//! Uncontended locks record nothing: they never come here, or (pthread) are tried first.
//!
//! A wake is stamped before the call, since the woken may run before it returns, and told only when it woke somebody:
//! a futex says how many. A pthread unlock does not, so waits for those are counted, by address, and a wake is told
//! when somebody waits; its number is then the most that can have been woken.

#![allow(unsafe_code, reason = "defines C functions")]

use std::ffi::{c_int, c_long, c_uint, c_void};
use std::sync::atomic::{AtomicU32, Ordering};

use libc::{
    clockid_t, pthread_barrier_t, pthread_cond_t, pthread_mutex_t, pthread_rwlock_t, pthread_t, sem_t,
    timespec,
};

use super::cancel::cancellable;
use super::contention;
use super::interpose::{REAL_SYSCALL, Real, c_name, keeping_errno};
use super::waiters::Place;
use crate::clock;
use crate::events::{Addr, Count, Group, StackId, WaitBegin, WaitEnd, WaitKind, WaitOutcome, Wake};
use crate::limits::{WAIT_COUNTERS, WAIT_STACK_NS};
use crate::record;

/// A wait that has begun. Plain data: see [`cancellable`].
#[derive(Clone, Copy)]
struct Begun {
    addr: usize,
    begin: u64,
    place: Option<Place>,
}

/// Records a wait around the real call; `error` reads what it returned, given the errno that it left.
#[inline(always)]
fn waited<R: Copy>(
    kind: WaitKind,
    addr: usize,
    real: impl FnOnce() -> R,
    error: impl FnOnce(R, c_int) -> c_int,
) -> R {
    let wait = keeping_errno(|_| begin(kind, addr));
    let result = real();
    keeping_errno(|errno| end(&wait, outcome_of(error(result, errno))));
    result
}

/// The same for one in which a thread may be cancelled.
#[inline(always)]
fn waited_cancellably<R: Copy>(
    kind: WaitKind,
    addr: usize,
    real: impl FnOnce() -> R,
    error: impl FnOnce(R, c_int) -> c_int,
) -> R {
    unsafe extern "C-unwind" fn cancelled(wait: *mut c_void) {
        // SAFETY: `cancellable` hands on what it was given, whose frame is just being unwound.
        let wait = unsafe { &*wait.cast::<Begun>() };
        end(wait, WaitOutcome::Interrupted);
    }
    let wait = keeping_errno(|_| begin(kind, addr));
    let result = cancellable(&wait, cancelled, real);
    keeping_errno(|errno| end(&wait, outcome_of(error(result, errno))));
    result
}

fn begin(kind: WaitKind, addr: usize) -> Begun {
    let begin = clock::ticks();
    if record::enabled(Group::Block) {
        record::emit_at(begin, WaitBegin { kind, addr: Addr(addr as u64) });
    }
    Begun { addr, begin, place: contention::wait_begins(addr, begin) }
}

#[inline(always)]
fn end(wait: &Begun, outcome: WaitOutcome) {
    let end = clock::ticks();
    let mut stack = StackId(0);
    // If the capture has ended meanwhile, nobody wants the rest.
    if record::enabled(Group::Block) {
        stack = record::stack_if_lasted(wait.begin, end, WAIT_STACK_NS);
        record::emit_at(end, WaitEnd { outcome, stack });
    }
    let woken = outcome == WaitOutcome::Woken;
    contention::wait_ends(wait.place, wait.addr, (wait.begin, end), woken, stack);
}

fn outcome_of(error: c_int) -> WaitOutcome {
    match error {
        // Of robust mutexes: the owner died, and we have it.
        0 | libc::EOWNERDEAD => WaitOutcome::Woken,
        libc::EAGAIN => WaitOutcome::Changed,
        libc::ETIMEDOUT => WaitOutcome::TimedOut,
        libc::EINTR => WaitOutcome::Interrupted,
        _ => WaitOutcome::Failed,
    }
}

/// Does `real`, which wakes as many as it returns, if any.
fn waking(addr: usize, real: impl FnOnce() -> Option<u64>) {
    let at = clock::ticks();
    // Before the call: whoever is woken may have gone on when it returns.
    let ending = contention::wake_begins(addr, at);
    let Some(woken) = real() else { return };
    keeping_errno(|_| {
        let mut stack = StackId(0);
        if record::enabled(Group::Block) {
            stack = record::stack();
            record::emit_at(at, Wake { addr: Addr(addr as u64), woken: Count(woken), stack });
        }
        contention::woke(ending, at, woken, stack);
    });
}

/// The arguments of futex(2) behind the call's number, as `syscall` has them.
type Futex =
    unsafe extern "C-unwind" fn(c_long, *mut u32, c_long, c_long, *const c_void, *mut u32, c_long) -> c_long;

/// `FUTEX_LOCK_PI2`, which libc's headers don't name yet: as `FUTEX_LOCK_PI`, by another clock.
const FUTEX_LOCK_PI2: c_int = 13;

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
        libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET | libc::FUTEX_LOCK_PI | FUTEX_LOCK_PI2 => {
            waited(WaitKind::Futex, addr.addr(), real, |result, errno| if result == -1 { errno } else { 0 })
        }
        libc::FUTEX_WAKE | libc::FUTEX_WAKE_BITSET | libc::FUTEX_WAKE_OP => {
            let mut woken = 0;
            waking(addr.addr(), || {
                woken = real();
                (woken > 0).then_some(woken as u64)
            });
            woken
        }
        // It is only called when somebody waits, and says nothing but whether it went well.
        libc::FUTEX_UNLOCK_PI => {
            let mut failed = 0;
            waking(addr.addr(), || {
                failed = real();
                (failed == 0).then_some(1)
            });
            failed
        }
        _ => real(),
    }
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
                let function = unsafe { std::mem::transmute::<*mut c_void, Function>(real::$name.get()) };
                if !record::waits_watched() {
                    // SAFETY: the caller's arguments, unchanged.
                    return unsafe { function($($arg),*) };
                }
                // Apart, so that the way past it needs no frame.
                #[cold]
                #[inline(never)]
                unsafe fn traced($($arg: $type,)* function: Function) -> c_int {
                    // SAFETY: the caller's arguments, unchanged.
                    let $real = || unsafe { function($($arg),*) };
                    $body
                }
                // SAFETY: the caller's arguments, unchanged.
                unsafe { traced($($arg,)* function) }
            }
        )*

        #[allow(non_upper_case_globals, reason = "named like the functions they stand for")]
        mod real {
            use super::{Real, c_name};

            $(pub(super) static $name: Real = Real::new(c_name(concat!(stringify!($name), "\0")));)*
        }

        /// The functions behind this file's hooks.
        pub(super) static REALS: &[&Real] =
            &[$(&real::$name,)* &TRY_MUTEX, &TRY_READ, &TRY_WRITE, &TRY_SEMAPHORE];
    };
}

waits! {
    /// pthread_mutex_lock(3)
    fn pthread_mutex_lock(mutex: *mut pthread_mutex_t)
        |real| tried(&TRY_MUTEX, mutex, || waited_counted(WaitKind::PthreadMutex, mutex, real));
    /// pthread_mutex_timedlock(3)
    fn pthread_mutex_timedlock(mutex: *mut pthread_mutex_t, until: *const timespec)
        |real| tried(&TRY_MUTEX, mutex, || waited_counted(WaitKind::PthreadMutex, mutex, real));
    /// pthread_mutex_clocklock(3)
    fn pthread_mutex_clocklock(mutex: *mut pthread_mutex_t, clock: clockid_t, until: *const timespec)
        |real| tried(&TRY_MUTEX, mutex, || waited_counted(WaitKind::PthreadMutex, mutex, real));
    /// pthread_mutex_unlock(3)
    fn pthread_mutex_unlock(mutex: *mut pthread_mutex_t) |real| wakes(mutex, 1, real);

    /// pthread_cond_wait(3), which also lets the mutex go
    fn pthread_cond_wait(cond: *mut pthread_cond_t, mutex: *mut pthread_mutex_t)
        |real| waited_for_condition(cond, mutex, real);
    /// pthread_cond_timedwait(3)
    fn pthread_cond_timedwait(cond: *mut pthread_cond_t, mutex: *mut pthread_mutex_t, until: *const timespec)
        |real| waited_for_condition(cond, mutex, real);
    /// pthread_cond_clockwait(3)
    fn pthread_cond_clockwait(cond: *mut pthread_cond_t, mutex: *mut pthread_mutex_t, clock: clockid_t,
        until: *const timespec) |real| waited_for_condition(cond, mutex, real);
    /// pthread_cond_signal(3)
    fn pthread_cond_signal(cond: *mut pthread_cond_t) |real| wakes(cond, 1, real);
    /// pthread_cond_broadcast(3)
    fn pthread_cond_broadcast(cond: *mut pthread_cond_t) |real| wakes(cond, u32::MAX, real);

    /// pthread_rwlock_rdlock(3)
    fn pthread_rwlock_rdlock(lock: *mut pthread_rwlock_t)
        |real| tried(&TRY_READ, lock, || waited_counted(WaitKind::PthreadRead, lock, real));
    /// pthread_rwlock_wrlock(3)
    fn pthread_rwlock_wrlock(lock: *mut pthread_rwlock_t)
        |real| tried(&TRY_WRITE, lock, || waited_counted(WaitKind::PthreadWrite, lock, real));
    /// pthread_rwlock_timedrdlock(3)
    fn pthread_rwlock_timedrdlock(lock: *mut pthread_rwlock_t, until: *const timespec)
        |real| tried(&TRY_READ, lock, || waited_counted(WaitKind::PthreadRead, lock, real));
    /// pthread_rwlock_timedwrlock(3)
    fn pthread_rwlock_timedwrlock(lock: *mut pthread_rwlock_t, until: *const timespec)
        |real| tried(&TRY_WRITE, lock, || waited_counted(WaitKind::PthreadWrite, lock, real));
    /// pthread_rwlock_clockrdlock(3)
    fn pthread_rwlock_clockrdlock(lock: *mut pthread_rwlock_t, clock: clockid_t, until: *const timespec)
        |real| tried(&TRY_READ, lock, || waited_counted(WaitKind::PthreadRead, lock, real));
    /// pthread_rwlock_clockwrlock(3)
    fn pthread_rwlock_clockwrlock(lock: *mut pthread_rwlock_t, clock: clockid_t, until: *const timespec)
        |real| tried(&TRY_WRITE, lock, || waited_counted(WaitKind::PthreadWrite, lock, real));
    /// pthread_rwlock_unlock(3)
    fn pthread_rwlock_unlock(lock: *mut pthread_rwlock_t) |real| wakes(lock, u32::MAX, real);

    /// sem_wait(3)
    fn sem_wait(semaphore: *mut sem_t) |real| waited_for_semaphore(semaphore, real);
    /// sem_timedwait(3)
    fn sem_timedwait(semaphore: *mut sem_t, until: *const timespec)
        |real| waited_for_semaphore(semaphore, real);
    /// sem_clockwait(3)
    fn sem_clockwait(semaphore: *mut sem_t, clock: clockid_t, until: *const timespec)
        |real| waited_for_semaphore(semaphore, real);
    /// sem_post(3)
    fn sem_post(semaphore: *mut sem_t) |real| wakes(semaphore, 1, real);

    /// pthread_barrier_wait(3)
    fn pthread_barrier_wait(barrier: *mut pthread_barrier_t) |real| waited_at_barrier(barrier, real);

    /// pthread_join(3)
    fn pthread_join(thread: pthread_t, result: *mut *mut c_void)
        |real| waited_cancellably(WaitKind::Join, thread as usize, real, |error, _| error);
    /// pthread_timedjoin_np(3)
    fn pthread_timedjoin_np(thread: pthread_t, result: *mut *mut c_void, until: *const timespec)
        |real| waited_cancellably(WaitKind::Join, thread as usize, real, |error, _| error);
    /// pthread_clockjoin_np(3)
    fn pthread_clockjoin_np(thread: pthread_t, result: *mut *mut c_void, clock: clockid_t,
        until: *const timespec)
        |real| waited_cancellably(WaitKind::Join, thread as usize, real, |error, _| error);
}

static TRY_MUTEX: Real = Real::new(c"pthread_mutex_trylock");
static TRY_READ: Real = Real::new(c"pthread_rwlock_tryrdlock");
static TRY_WRITE: Real = Real::new(c"pthread_rwlock_trywrlock");
static TRY_SEMAPHORE: Real = Real::new(c"sem_trywait");

/// Takes a lock by the function that does not wait, and only if that finds it taken by `wait`.
fn tried<T>(attempt: &Real, lock: *mut T, wait: impl FnOnce() -> c_int) -> c_int {
    type Function<T> = unsafe extern "C-unwind" fn(*mut T) -> c_int;
    // SAFETY: dlsym(3) found one of the four functions above, which take what they try.
    let attempt = unsafe { std::mem::transmute::<*mut c_void, Function<T>>(attempt.get()) };
    // SAFETY: the caller's lock, which it is about to take.
    match unsafe { attempt(lock) } {
        libc::EBUSY => wait(),
        result => result,
    }
}

fn waited_for_condition(
    cond: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    real: impl FnOnce() -> c_int,
) -> c_int {
    // It lets the mutex go inside, where no hook sees it.
    wakes(mutex, 1, || 0);
    counted(cond, || waited_cancellably(WaitKind::PthreadCond, cond.addr(), real, |error, _| error))
}

/// Each that comes tells those who wait already; the last one to come lets them on, and only its wake ends their waits.
fn waited_at_barrier(barrier: *mut pthread_barrier_t, real: impl FnOnce() -> c_int) -> c_int {
    wakes(barrier, u32::MAX, || 0);
    let error = |result, _| if result == libc::PTHREAD_BARRIER_SERIAL_THREAD { 0 } else { result };
    counted(barrier, || waited(WaitKind::PthreadBarrier, barrier.addr(), real, error))
}

/// sem_trywait(3) says by errno that there is none; if waiting then succeeds, errno is as it was.
fn waited_for_semaphore(semaphore: *mut sem_t, real: impl FnOnce() -> c_int) -> c_int {
    if keeping_errno(|_| tried(&TRY_SEMAPHORE, semaphore, || 0)) == 0 {
        return 0;
    }
    let error = |result, errno| if result == -1 { errno } else { 0 };
    counted(semaphore, || waited_cancellably(WaitKind::Semaphore, semaphore.addr(), real, error))
}

/// Records a wait for a pthread lock, which counts as waited for meanwhile.
#[inline(always)]
fn waited_counted<T>(kind: WaitKind, lock: *mut T, real: impl FnOnce() -> c_int) -> c_int {
    counted(lock, || waited(kind, lock.addr(), real, |error, _| error))
}

/// Does `wait` while a lock counts as waited for, also when its thread is cancelled meanwhile.
#[inline(always)]
fn counted<T>(lock: *mut T, wait: impl FnOnce() -> c_int) -> c_int {
    unsafe extern "C-unwind" fn cancelled(waiting: *mut c_void) {
        // SAFETY: `cancellable` hands on what it was given: a reference to a counter, whose frame is being unwound.
        let waiting = unsafe { *waiting.cast::<&'static AtomicU32>() };
        waiting.fetch_sub(1, Ordering::Relaxed);
    }
    let waiting = counter(lock);
    waiting.fetch_add(1, Ordering::Relaxed);
    let result = cancellable(&waiting, cancelled, wait);
    waiting.fetch_sub(1, Ordering::Relaxed);
    result
}

/// Lets go of a pthread lock, which wakes up to `most` of those that wait for it.
#[inline(always)]
fn wakes<T>(lock: *mut T, most: c_uint, real: impl FnOnce() -> c_int) -> c_int {
    // Before the call: whoever is woken may have counted itself out when it returns.
    let waiting = counter(lock).load(Ordering::Relaxed);
    if waiting == 0 {
        return real();
    }
    let mut result = 0;
    waking(lock.addr(), || {
        result = real();
        (result == 0).then(|| waiting.min(most).into())
    });
    result
}

static WAITING: [AtomicU32; WAIT_COUNTERS] = [const { AtomicU32::new(0) }; WAIT_COUNTERS];

/// How many threads wait for the lock at an address, or for others that share its place.
fn counter<T>(lock: *mut T) -> &'static AtomicU32 {
    // Locks are at least 8 bytes apart; the multiplier spreads what their addresses have in common.
    let spread = (lock.addr() as u64 >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    &WAITING[(spread >> 32) as usize % WAIT_COUNTERS]
}
