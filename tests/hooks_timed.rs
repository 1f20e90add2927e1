//! Each function of the C library that waits for a lock until a given time: it fails as it does without us, and its
//! wait is told with its kind.

#![cfg(feature = "hooks")]
#![allow(unsafe_code, reason = "calls pthread functions by hand, as C programs do")]

mod recorded;
mod watched;

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};

use kymo::events::{WaitKind, WaitOutcome};
use libc::{clockid_t, pthread_cond_t, pthread_mutex_t, pthread_rwlock_t, pthread_t, sem_t, timespec};
use recorded::{record_unnamed, this_thread};
use watched::in_child;

unsafe extern "C" {
    fn pthread_cond_clockwait(
        cond: *mut pthread_cond_t,
        mutex: *mut pthread_mutex_t,
        clock: clockid_t,
        until: *const timespec,
    ) -> c_int;
    fn pthread_mutex_clocklock(
        mutex: *mut pthread_mutex_t,
        clock: clockid_t,
        until: *const timespec,
    ) -> c_int;
    fn pthread_rwlock_timedrdlock(lock: *mut pthread_rwlock_t, until: *const timespec) -> c_int;
    fn pthread_rwlock_timedwrlock(lock: *mut pthread_rwlock_t, until: *const timespec) -> c_int;
    fn pthread_rwlock_clockrdlock(
        lock: *mut pthread_rwlock_t,
        clock: clockid_t,
        until: *const timespec,
    ) -> c_int;
    fn pthread_rwlock_clockwrlock(
        lock: *mut pthread_rwlock_t,
        clock: clockid_t,
        until: *const timespec,
    ) -> c_int;
    fn sem_clockwait(semaphore: *mut sem_t, clock: clockid_t, until: *const timespec) -> c_int;
    fn pthread_clockjoin_np(
        thread: pthread_t,
        result: *mut *mut c_void,
        clock: clockid_t,
        until: *const timespec,
    ) -> c_int;
}

/// Long past by every clock.
const PAST: timespec = timespec { tv_sec: 0, tv_nsec: 1 };

const CLOCK: clockid_t = libc::CLOCK_MONOTONIC;

/// What all of them wait for in vain: locks that are taken, a condition that nobody signals, a thread that lives.
struct Taken {
    mutex: pthread_mutex_t,
    lock: pthread_rwlock_t,
    condition: pthread_cond_t,
    semaphore: sem_t,
    /// Taken by whoever waits for the condition.
    own: pthread_mutex_t,
    thread: pthread_t,
}

extern "C" fn lives(_: *mut c_void) -> *mut c_void {
    // SAFETY: waits for a signal or its cancellation.
    unsafe { libc::pause() };
    null_mut()
}

impl Taken {
    fn new() -> Taken {
        let mut taken = Taken {
            mutex: libc::PTHREAD_MUTEX_INITIALIZER,
            lock: libc::PTHREAD_RWLOCK_INITIALIZER,
            condition: libc::PTHREAD_COND_INITIALIZER,
            // SAFETY: zero bytes are a semaphore of none.
            semaphore: unsafe { MaybeUninit::zeroed().assume_init() },
            own: libc::PTHREAD_MUTEX_INITIALIZER,
            thread: 0,
        };
        // SAFETY: the routine takes nothing.
        assert_eq!(unsafe { libc::pthread_create(&mut taken.thread, null(), lives, null_mut()) }, 0);
        taken
    }
}

type Row = (&'static str, WaitKind, fn(&mut Taken) -> c_int);

macro_rules! rows {
    ($($name:ident($taken:ident) => $kind:ident, $call:expr;)*) => {
        &[$((stringify!($name), WaitKind::$kind, |$taken| {
            // SAFETY: initialised, live, and used as each function wants it.
            #[allow(clippy::macro_metavars_in_unsafe, reason = "each row is a call of the C library")]
            unsafe { $call }
        }),)*]
    };
}

const ROWS: &[Row] = rows! {
    pthread_mutex_timedlock(it) => PthreadMutex, libc::pthread_mutex_timedlock(&mut it.mutex, &PAST);
    pthread_mutex_clocklock(it) => PthreadMutex, pthread_mutex_clocklock(&mut it.mutex, CLOCK, &PAST);
    pthread_rwlock_timedrdlock(it) => PthreadRead, pthread_rwlock_timedrdlock(&mut it.lock, &PAST);
    pthread_rwlock_timedwrlock(it) => PthreadWrite, pthread_rwlock_timedwrlock(&mut it.lock, &PAST);
    pthread_rwlock_clockrdlock(it) => PthreadRead, pthread_rwlock_clockrdlock(&mut it.lock, CLOCK, &PAST);
    pthread_rwlock_clockwrlock(it) => PthreadWrite, pthread_rwlock_clockwrlock(&mut it.lock, CLOCK, &PAST);
    pthread_cond_timedwait(it) => PthreadCond, libc::pthread_cond_timedwait(&mut it.condition, &mut it.own, &PAST);
    pthread_cond_clockwait(it) => PthreadCond, pthread_cond_clockwait(&mut it.condition, &mut it.own, CLOCK, &PAST);
    sem_timedwait(it) => Semaphore, by_errno(libc::sem_timedwait(&mut it.semaphore, &PAST));
    sem_clockwait(it) => Semaphore, by_errno(sem_clockwait(&mut it.semaphore, CLOCK, &PAST));
    pthread_timedjoin_np(it) => Join, libc::pthread_timedjoin_np(it.thread, null_mut(), &PAST);
    pthread_clockjoin_np(it) => Join, pthread_clockjoin_np(it.thread, null_mut(), CLOCK, &PAST);
};

/// What a function that returns -1 means.
fn by_errno(result: c_int) -> c_int {
    assert_eq!(result, -1);
    std::io::Error::last_os_error().raw_os_error().unwrap()
}

#[test]
fn waits_until_a_time_run_out_as_they_do_without_us_and_are_told() {
    in_child(|| {
        let mut taken = Taken::new();
        // SAFETY: initialised and live; nobody else has it.
        assert_eq!(unsafe { libc::pthread_mutex_lock(&mut taken.own) }, 0);
        std::thread::scope(|scope| {
            let (mutex, lock) = (&raw mut taken.mutex as usize, &raw mut taken.lock as usize);
            // Another thread takes them: a lock that is one's own already fails otherwise.
            let take = move || {
                // SAFETY: as above; it outlives the thread.
                let mutex = unsafe { libc::pthread_mutex_lock(mutex as *mut pthread_mutex_t) };
                // SAFETY: as above; it outlives the thread.
                let lock = unsafe { libc::pthread_rwlock_wrlock(lock as *mut pthread_rwlock_t) };
                assert_eq!([mutex, lock], [0, 0]);
            };
            scope.spawn(take).join().unwrap();
        });
        let (results, trace) =
            record_unnamed(|| ROWS.iter().map(|(.., call)| call(&mut taken)).collect::<Vec<_>>());
        let thread = this_thread(&trace);
        let waits: Vec<_> = trace.waits.iter().filter(|wait| wait.thread == thread).collect();
        assert_eq!(waits.len(), ROWS.len(), "{waits:#?}");
        for (((name, kind, _), result), wait) in ROWS.iter().zip(results).zip(waits) {
            assert_eq!(result, libc::ETIMEDOUT, "{name}");
            assert_eq!((wait.kind, wait.outcome), (*kind, WaitOutcome::TimedOut), "{name}");
        }
    });
}
