//! Threads that wait for each other are seen waiting, with who woke them; locks that nobody waits for record nothing.

#![cfg(feature = "hooks")]
#![allow(unsafe_code, reason = "calls pthread functions by hand, as C programs do")]
#![allow(clippy::multiple_unsafe_ops_per_block, reason = "a lock's few calls belong together")]

mod recorded;
mod watched;

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::sync::{Barrier, Condvar, Mutex, RwLock, mpsc};
use std::time::Duration;

use kymo::events::{WaitKind, WaitOutcome};
use kymo::limits::WAIT_STACK_NS;
use kymo::model::{Trace, Wait};
use recorded::{functions, record, record_unnamed, this_thread};

/// How long a planted wait lasts at least: long enough that it carries a stack, and that nothing else lasts as long.
const HELD: Duration = Duration::from_millis(50);

/// Makes one thread wait, while this one runs `hold`, which calls what it is given once the other may begin to wait:
/// it returns when that one has waited for a while.
fn contend(wait: impl Fn() + Sync, hold: impl FnOnce(&dyn Fn())) {
    let begin = Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            begin.wait();
            wait();
        });
        hold(&|| {
            begin.wait();
            std::thread::sleep(HELD);
        });
    });
}

/// The wait that lasted longest among those whose stack has this function.
fn longest(trace: &Trace, function: &str) -> Wait {
    let named = |wait: &&Wait| functions(trace, wait.stack).iter().any(|name| name.contains(function));
    *trace.waits.iter().filter(named).max_by_key(|wait| wait.time.duration()).unwrap_or_else(|| {
        let stacks: Vec<_> = trace.waits.iter().map(|wait| functions(trace, wait.stack)).collect();
        panic!("no wait in {function}: {stacks:#?}");
    })
}

/// A wake of the wait's address from another thread while it lasted.
fn is_woken(trace: &Trace, wait: &Wait) -> bool {
    let inside = |at| wait.time.begin <= at && at <= wait.time.end;
    trace.wakes.iter().any(|wake| {
        wake.addr == wait.addr && inside(wake.at) && wake.thread != wait.thread && wake.stack.0 != 0
    })
}

#[track_caller]
fn is_seen(trace: &Trace, function: &str) {
    let wait = longest(trace, function);
    assert_eq!((wait.kind, wait.outcome), (WaitKind::Futex, WaitOutcome::Woken), "{function}");
    assert!(wait.time.duration() > HELD.as_nanos() as u64 / 2, "{function}: {wait:?}");
    assert!(is_woken(trace, &wait), "{function}: {wait:?}");
}

#[inline(never)]
fn waits_for_the_mutex(mutex: &Mutex<u32>) -> u32 {
    *mutex.lock().unwrap() + 1
}

#[inline(never)]
fn waits_for_the_rwlock(lock: &RwLock<u32>) -> u32 {
    *lock.read().unwrap() + 1
}

#[inline(never)]
fn waits_to_write(lock: &RwLock<u32>) {
    *lock.write().unwrap() += 1;
}

#[inline(never)]
fn waits_for_parking_lot(lock: &parking_lot::Mutex<u32>) -> u32 {
    *lock.lock() + 1
}

#[inline(never)]
fn waits_for_the_condition(pair: &(Mutex<bool>, Condvar)) {
    drop(pair.1.wait_while(pair.0.lock().unwrap(), |ready| !*ready).unwrap());
}

#[inline(never)]
fn waits_for_the_channel(receiver: &Mutex<mpsc::Receiver<u32>>) -> u32 {
    receiver.lock().unwrap().recv().unwrap()
}

#[inline(never)]
fn waits_for_its_turn() {
    std::thread::park();
}

#[test]
fn locks_conditions_channels_and_parking_are_waits_with_stacks_and_wakes() {
    let ((), trace) = record(|| {
        let mutex = Mutex::new(1);
        let hold = |let_wait: &dyn Fn()| {
            let _held = mutex.lock().unwrap();
            let_wait();
        };
        contend(|| assert_eq!(waits_for_the_mutex(&mutex), 2), hold);

        let lock = RwLock::new(1);
        let hold_write = |let_wait: &dyn Fn()| {
            let _held = lock.write().unwrap();
            let_wait();
        };
        contend(|| assert_eq!(waits_for_the_rwlock(&lock), 2), hold_write);
        let hold_read = |let_wait: &dyn Fn()| {
            let _held = lock.read().unwrap();
            let_wait();
        };
        contend(|| waits_to_write(&lock), hold_read);

        let lock = parking_lot::Mutex::new(1);
        let hold = |let_wait: &dyn Fn()| {
            let _held = lock.lock();
            let_wait();
        };
        contend(|| assert_eq!(waits_for_parking_lot(&lock), 2), hold);

        let pair = (Mutex::new(false), Condvar::new());
        let notify = |let_wait: &dyn Fn()| {
            let_wait();
            *pair.0.lock().unwrap() = true;
            pair.1.notify_one();
        };
        contend(|| waits_for_the_condition(&pair), notify);

        let (sender, receiver) = mpsc::channel();
        let receiver = Mutex::new(receiver);
        let send = |let_wait: &dyn Fn()| {
            let_wait();
            sender.send(1).unwrap();
        };
        contend(|| assert_eq!(waits_for_the_channel(&receiver), 1), send);

        let parked = std::thread::spawn(waits_for_its_turn);
        std::thread::sleep(HELD);
        parked.thread().unpark();
        parked.join().unwrap();
    });
    let functions = [
        "waits_for_the_mutex",
        "waits_for_the_rwlock",
        "waits_to_write",
        "waits_for_parking_lot",
        "waits_for_the_condition",
        "waits_for_the_channel",
        "waits_for_its_turn",
    ];
    functions.iter().for_each(|function| is_seen(&trace, function));
}

#[test]
fn a_wait_whose_time_runs_out_says_so() {
    let ((), trace) = record_unnamed(|| std::thread::park_timeout(HELD));
    let thread = this_thread(&trace);
    let own: Vec<_> = trace.waits.iter().filter(|wait| wait.thread == thread).collect();
    assert!(own.iter().any(|wait| wait.outcome == WaitOutcome::TimedOut), "{own:?}");
    assert!(own.iter().all(|wait| wait.time.duration() < WAIT_STACK_NS || wait.stack.0 != 0));
}

#[test]
fn locks_that_nobody_waits_for_record_nothing() {
    watched::in_child(|| {
        let (mutex, rwlock, parking) = (Mutex::new(0), RwLock::new(0), parking_lot::Mutex::new(0));
        let pthread = Pthread::new(libc::PTHREAD_MUTEX_INITIALIZER);
        let read_write = Pthread::new(libc::PTHREAD_RWLOCK_INITIALIZER);
        let condition = Pthread::new(libc::PTHREAD_COND_INITIALIZER);
        let ((), trace) = record_unnamed(|| {
            for _ in 0..1_000 {
                *mutex.lock().unwrap() += 1;
                *rwlock.write().unwrap() += 1;
                assert!(*rwlock.read().unwrap() > 0);
                *parking.lock() += 1;
                pthread.call(libc::pthread_mutex_lock);
                condition.call(libc::pthread_cond_signal);
                pthread.call(libc::pthread_mutex_unlock);
                read_write.call(libc::pthread_rwlock_rdlock);
                read_write.call(libc::pthread_rwlock_unlock);
            }
        });
        assert!(trace.waits.is_empty() && trace.wakes.is_empty(), "{:?} {:?}", trace.waits, trace.wakes);
    });
}

/// Something that pthread functions work on.
struct Pthread<T>(UnsafeCell<T>);

// SAFETY: pthread objects are made for several threads.
unsafe impl<T> Sync for Pthread<T> {}

impl<T> Pthread<T> {
    fn new(object: T) -> Pthread<T> {
        Pthread(UnsafeCell::new(object))
    }

    fn get(&self) -> *mut T {
        self.0.get()
    }

    fn addr(&self) -> u64 {
        self.get().addr() as u64
    }

    fn call(&self, function: unsafe extern "C" fn(*mut T) -> c_int) {
        // SAFETY: the object is initialised, lives as long as the test, and is locked and unlocked in pairs.
        assert_eq!(unsafe { function(self.get()) }, 0);
    }
}

/// The only wait of an address, which was woken by another thread.
fn only_wait(trace: &Trace, addr: u64) -> Wait {
    let waits: Vec<_> = trace.waits.iter().filter(|wait| wait.addr == addr).collect();
    let [wait] = waits[..] else { panic!("{waits:?}") };
    assert!(is_woken(trace, wait), "{wait:?} {:?}", trace.wakes);
    assert!(wait.stack.0 != 0, "it lasted");
    *wait
}

#[test]
fn contended_pthread_locks_are_waits_with_wakes_and_uncontended_ones_are_not() {
    let mutex = Pthread::new(libc::PTHREAD_MUTEX_INITIALIZER);
    let lock = Pthread::new(libc::PTHREAD_RWLOCK_INITIALIZER);
    let other = Pthread::new(libc::PTHREAD_RWLOCK_INITIALIZER);
    let ((), trace) = record_unnamed(|| {
        let wait = || {
            mutex.call(libc::pthread_mutex_lock);
            mutex.call(libc::pthread_mutex_unlock);
        };
        contend(wait, |let_wait| {
            mutex.call(libc::pthread_mutex_lock);
            let_wait();
            mutex.call(libc::pthread_mutex_unlock);
        });
        let read = || {
            lock.call(libc::pthread_rwlock_rdlock);
            lock.call(libc::pthread_rwlock_unlock);
        };
        contend(read, |let_wait| {
            lock.call(libc::pthread_rwlock_wrlock);
            let_wait();
            lock.call(libc::pthread_rwlock_unlock);
        });
        let write = || {
            other.call(libc::pthread_rwlock_wrlock);
            other.call(libc::pthread_rwlock_unlock);
        };
        contend(write, |let_wait| {
            other.call(libc::pthread_rwlock_rdlock);
            let_wait();
            other.call(libc::pthread_rwlock_unlock);
        });
    });
    for (addr, kind) in [
        (mutex.addr(), WaitKind::PthreadMutex),
        (lock.addr(), WaitKind::PthreadRead),
        (other.addr(), WaitKind::PthreadWrite),
    ] {
        let wait = only_wait(&trace, addr);
        assert_eq!((wait.kind, wait.outcome), (kind, WaitOutcome::Woken));
    }
}

#[test]
fn a_condition_wakes_who_waits_for_it_and_lets_its_mutex_go() {
    let mutex = Pthread::new(libc::PTHREAD_MUTEX_INITIALIZER);
    let condition = Pthread::new(libc::PTHREAD_COND_INITIALIZER);
    let ready = std::sync::atomic::AtomicBool::new(false);
    let ((), trace) = record_unnamed(|| {
        let wait = || {
            mutex.call(libc::pthread_mutex_lock);
            while !ready.load(std::sync::atomic::Ordering::Relaxed) {
                // SAFETY: both are initialised, and this thread has the mutex.
                unsafe { libc::pthread_cond_wait(condition.get(), mutex.get()) };
            }
            mutex.call(libc::pthread_mutex_unlock);
        };
        contend(wait, |let_wait| {
            let_wait();
            mutex.call(libc::pthread_mutex_lock);
            ready.store(true, std::sync::atomic::Ordering::Relaxed);
            condition.call(libc::pthread_cond_broadcast);
            mutex.call(libc::pthread_mutex_unlock);
        });
    });
    let wait = only_wait(&trace, condition.addr());
    assert_eq!((wait.kind, wait.outcome), (WaitKind::PthreadCond, WaitOutcome::Woken));
}

/// What a thread that will be cancelled waits for: a condition that nobody signals before that.
struct Cancelled {
    mutex: Pthread<libc::pthread_mutex_t>,
    condition: Pthread<libc::pthread_cond_t>,
}

/// Only calls what can't panic: a function with something to clean up ends the process when it is cancelled.
extern "C" fn waits_until_cancelled(of: *mut c_void) -> *mut c_void {
    let of: *mut Cancelled = of.cast();
    // SAFETY: `Cancelled` outlives the thread, which is joined; a cell's address is that of what it holds.
    unsafe {
        let mutex = (&raw mut (*of).mutex).cast();
        libc::pthread_mutex_lock(mutex);
        libc::pthread_cond_wait((&raw mut (*of).condition).cast(), mutex);
    }
    std::ptr::null_mut()
}

/// Whether some thread sleeps in `futex` inside of an object, as the kernel says.
fn somebody_sleeps_in<T>(object: &Pthread<T>) -> bool {
    let sleeps = |task: std::fs::DirEntry| {
        let call = std::fs::read_to_string(task.path().join("syscall")).unwrap_or_default();
        let addr = call.strip_prefix(&format!("{} 0x", libc::SYS_futex))?.split(' ').next()?;
        let addr = u64::from_str_radix(addr, 16).ok()?;
        Some((object.addr()..object.addr() + size_of::<T>() as u64).contains(&addr))
    };
    std::fs::read_dir("/proc/self/task").unwrap().any(|task| sleeps(task.unwrap()) == Some(true))
}

#[test]
fn a_wait_that_its_thread_is_cancelled_in_ends_and_is_counted_no_more() {
    watched::in_child(|| {
        let of = Cancelled {
            mutex: Pthread::new(libc::PTHREAD_MUTEX_INITIALIZER),
            condition: Pthread::new(libc::PTHREAD_COND_INITIALIZER),
        };
        let ((), trace) = record_unnamed(|| {
            let (mut thread, argument) = (0, (&raw const of).cast_mut().cast());
            // SAFETY: the routine takes `of`, which outlives the thread.
            let made = unsafe {
                libc::pthread_create(&mut thread, std::ptr::null(), waits_until_cancelled, argument)
            };
            assert_eq!(made, 0);
            while !somebody_sleeps_in(&of.condition) {
                std::thread::yield_now();
            }
            // SAFETY: a thread of our own, joined once.
            unsafe {
                assert_eq!(libc::pthread_cancel(thread), 0);
                assert_eq!(libc::pthread_join(thread, std::ptr::null_mut()), 0);
            }
            of.condition.call(libc::pthread_cond_signal);
        });
        let waits: Vec<_> = trace.waits.iter().filter(|wait| wait.addr == of.condition.addr()).collect();
        let [wait] = waits[..] else { panic!("{waits:?}") };
        assert!(!wait.time.open && wait.outcome == WaitOutcome::Interrupted, "{wait:?}");
        let woken = trace.wakes.iter().any(|wake| wake.addr == of.condition.addr());
        assert!(!woken, "nobody waits any more: {:?}", trace.wakes);
    });
}

#[test]
fn a_semaphore_is_waited_for_and_errno_stays() {
    // SAFETY: zero bytes are room for a semaphore, which sem_init then makes one.
    let semaphore: Pthread<libc::sem_t> = Pthread::new(unsafe { std::mem::zeroed() });
    // SAFETY: makes a semaphore of this process in live memory.
    assert_eq!(unsafe { libc::sem_init(semaphore.get(), 0, 0) }, 0);
    let ((), trace) = record_unnamed(|| {
        let wait = || {
            // SAFETY: fails, and leaves its errno.
            assert_eq!(unsafe { libc::close(-1) }, -1);
            semaphore.call(libc::sem_wait);
            let errno = std::io::Error::last_os_error().raw_os_error();
            assert_eq!(errno, Some(libc::EBADF), "that of the call before");
        };
        contend(wait, |let_wait| {
            let_wait();
            semaphore.call(libc::sem_post);
        });
        let soon = libc::timespec { tv_sec: 1, tv_nsec: 0 };
        // SAFETY: the semaphore and the time, long past, are live.
        assert_eq!(unsafe { libc::sem_timedwait(semaphore.get(), &soon) }, -1);
        assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::ETIMEDOUT));
    });
    let waits: Vec<_> = trace.waits.iter().filter(|wait| wait.addr == semaphore.addr()).collect();
    let outcomes: Vec<_> = waits.iter().map(|wait| (wait.kind, wait.outcome)).collect();
    assert_eq!(
        outcomes,
        [(WaitKind::Semaphore, WaitOutcome::Woken), (WaitKind::Semaphore, WaitOutcome::TimedOut)]
    );
    assert!(is_woken(&trace, waits[0]));
}

#[test]
fn misused_pthread_mutexes_fail_as_they_do_without_hooks() {
    watched::in_child(|| {
        let kinds = [libc::PTHREAD_MUTEX_ERRORCHECK, libc::PTHREAD_MUTEX_RECURSIVE];
        let run = || kinds.map(lock_twice_and_unlock_thrice);
        let plain = run();
        let (recorded, _trace) = record_unnamed(run);
        assert_eq!(recorded, plain);
        assert_eq!(plain[0], [0, libc::EDEADLK, 0, libc::EPERM, libc::EPERM]);
        assert_eq!(plain[1], [0, 0, 0, 0, libc::EPERM]);
    });
}

fn lock_twice_and_unlock_thrice(kind: c_int) -> [c_int; 5] {
    let mutex = Pthread::new(libc::PTHREAD_MUTEX_INITIALIZER);
    let mutex = mutex.get();
    // SAFETY: zero bytes are room for attributes, which are initialised below.
    let mut attributes: libc::pthread_mutexattr_t = unsafe { std::mem::zeroed() };
    // SAFETY: attributes and mutex are live, the mutex is used by this thread alone, and misuse is what its kind allows.
    unsafe {
        libc::pthread_mutexattr_init(&mut attributes);
        libc::pthread_mutexattr_settype(&mut attributes, kind);
        libc::pthread_mutex_init(mutex, &attributes);
        [
            libc::pthread_mutex_lock(mutex),
            libc::pthread_mutex_lock(mutex),
            libc::pthread_mutex_unlock(mutex),
            libc::pthread_mutex_unlock(mutex),
            libc::pthread_mutex_unlock(mutex),
        ]
    }
}

#[test]
fn threads_tell_their_creator_name_and_end() {
    #[inline(never)]
    fn creates_a_thread() {
        let named = std::thread::Builder::new().name("worker-7".into());
        named.spawn(|| std::hint::black_box(1)).unwrap().join().unwrap();
    }
    let ((), trace) = record(creates_a_thread);
    let thread = trace.threads.iter().find(|thread| thread.name == "worker-7").expect("it is named");
    assert_eq!(thread.creator, Some(this_thread(&trace)));
    let stack = functions(&trace, thread.creation_stack);
    assert!(stack.iter().any(|name| name.contains("creates_a_thread")), "{stack:?}");
    assert!(!thread.life.open, "its start and its exit were seen");
    assert!(trace.waits.iter().any(|wait| wait.kind == WaitKind::Join));
}

#[test]
fn threads_of_c_tell_theirs_too() {
    extern "C" fn exits(argument: *mut std::ffi::c_void) -> *mut std::ffi::c_void {
        // SAFETY: this thread is C's: its frames hold nothing that must be dropped.
        unsafe { libc::pthread_exit(argument) }
    }
    let (result, trace) = record_unnamed(|| {
        let (mut thread, mut result) = (0, std::ptr::null_mut());
        let argument = std::ptr::without_provenance_mut(7);
        // SAFETY: the routine takes any pointer; the thread is joined once.
        unsafe {
            assert_eq!(libc::pthread_create(&mut thread, std::ptr::null(), exits, argument), 0);
            assert_eq!(libc::pthread_join(thread, &mut result), 0);
        }
        result.addr()
    });
    assert_eq!(result, 7, "argument and result pass through the wrapped routine");
    let own = this_thread(&trace);
    let made: Vec<_> = trace.threads.iter().filter(|thread| thread.creator == Some(own)).collect();
    assert_eq!(made.len(), 1);
    assert!(!made[0].life.open && made[0].creation_stack.0 != 0 && made[0].tid != 0, "{:?}", made[0]);
}
