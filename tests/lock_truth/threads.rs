//! Locks and channels that threads wait for: each a module with `wait`, `end` and what they share.

use std::cell::UnsafeCell;
use std::collections::HashSet;
use std::ffi::c_int;
use std::sync::{Barrier, mpsc};
use std::time::{Duration, Instant};

use kymo::analysis::links::Links;
use kymo::analysis::{contention, waiting};
use kymo::model::Trace;
use kymo::model::machinery::LockKind;

use crate::recorded::record;
use crate::{Ends, HELD, Planted};

/// Lets the other one begin to wait, and returns when it has waited for a while.
type LetWait<'a> = &'a (dyn Fn() + Sync);

/// A wait and its end, by threads.
struct Pair {
    path: &'static str,
    kind: LockKind,
    ends: Ends,
    run: fn() -> (f64, f64),
}

/// Pairs, each `name(what they share: type = value) => kind, ends; wait; end`.
macro_rules! pairs {
    ($($name:ident($it:ident: $type:ty = $make:expr) => $kind:ident, $ends:ident;
        wait $wait:expr; end |$let_wait:ident| $end:expr;)*) => {
        $(mod $name {
            use super::*;

            #[inline(never)]
            fn wait($it: &$type) {
                let _waited = $wait;
            }

            #[inline(never)]
            fn end($it: &$type, $let_wait: LetWait<'_>) {
                let _ended = $end;
            }

            pub(super) fn run() -> (f64, f64) {
                let shared: $type = $make;
                measured(|| wait(&shared), |let_wait| end(&shared, let_wait))
            }
        })*

        const PAIRS: &[Pair] = &[$(Pair {
            path: concat!("threads::", stringify!($name)),
            kind: LockKind::$kind,
            ends: Ends::$ends,
            run: $name::run,
        },)*];
    };
}

pairs! {
    std_mutex(it: std::sync::Mutex<u32> = Default::default()) => Mutex, Holder;
        wait *it.lock().unwrap() += 1;
        end |let_wait| { let guard = it.lock().unwrap(); let_wait(); drop(guard); };
    std_rwlock_read(it: std::sync::RwLock<u32> = Default::default()) => RwLock, Holder;
        wait *it.read().unwrap();
        end |let_wait| { let guard = it.write().unwrap(); let_wait(); drop(guard); };
    std_rwlock_write(it: std::sync::RwLock<u32> = Default::default()) => RwLock, Holder;
        wait *it.write().unwrap() += 1;
        end |let_wait| { let guard = it.read().unwrap(); let_wait(); drop(guard); };
    std_once(it: std::sync::OnceLock<u32> = Default::default()) => Once, Holder;
        wait it.get_or_init(|| 1);
        end |let_wait| it.get_or_init(|| { let_wait(); 2 });
    std_condvar(it: (std::sync::Mutex<bool>, std::sync::Condvar) = Default::default()) => Condvar, Waker;
        wait it.1.wait_while(it.0.lock().unwrap(), |set| !*set).unwrap();
        end |let_wait| { let_wait(); *it.0.lock().unwrap() = true; it.1.notify_one(); };
    std_barrier(it: Barrier = Barrier::new(2)) => Condvar, Waker;
        wait it.wait();
        end |let_wait| { let_wait(); it.wait(); };
    std_channel_empty(it: Channel = Channel::new(mpsc::sync_channel(1))) => Channel, Waker;
        wait it.take_receiver().recv().unwrap();
        end |let_wait| { let_wait(); it.sender.send(1).unwrap(); };
    std_channel_full(it: Channel = Channel::new(mpsc::sync_channel(0))) => Channel, Waker;
        wait it.sender.send(1).unwrap();
        end |let_wait| { let receiver = it.take_receiver(); let_wait(); receiver.recv().unwrap(); };
    std_park(it: std::sync::OnceLock<std::thread::Thread> = Default::default()) => Park, Waker;
        wait { it.set(std::thread::current()).unwrap(); std::thread::park(); };
        end |let_wait| { let_wait(); it.get().unwrap().unpark(); };
    std_join(it: Joined = Joined::new()) => Join, Kernel;
        wait it.take_thread().join().unwrap();
        end |let_wait| { let_wait(); it.end(); };
    parking_lot_mutex(it: parking_lot::Mutex<u32> = Default::default()) => Mutex, Holder;
        wait *it.lock() += 1;
        end |let_wait| { let guard = it.lock(); let_wait(); drop(guard); };
    parking_lot_rwlock_read(it: parking_lot::RwLock<u32> = Default::default()) => RwLock, Holder;
        wait *it.read();
        end |let_wait| { let guard = it.write(); let_wait(); drop(guard); };
    parking_lot_rwlock_write(it: parking_lot::RwLock<u32> = Default::default()) => RwLock, Holder;
        wait *it.write() += 1;
        end |let_wait| { let guard = it.read(); let_wait(); drop(guard); };
    parking_lot_condvar(it: (parking_lot::Mutex<bool>, parking_lot::Condvar) = Default::default()) => Condvar, Waker;
        wait it.1.wait_while(&mut it.0.lock(), |set| !*set);
        end |let_wait| { let_wait(); *it.0.lock() = true; it.1.notify_one(); };
    crossbeam_channel_empty(it: Crossbeam = crossbeam_channel::bounded(1)) => Channel, Waker;
        wait it.1.recv().unwrap();
        end |let_wait| { let_wait(); it.0.send(1).unwrap(); };
    crossbeam_channel_full(it: Crossbeam = crossbeam_channel::bounded(0)) => Channel, Waker;
        wait it.0.send(1).unwrap();
        end |let_wait| { let_wait(); it.1.recv().unwrap(); };
    crossbeam_sharded_lock(it: crossbeam_utils::sync::ShardedLock<u32> = Default::default()) => RwLock, Holder;
        wait *it.read().unwrap();
        end |let_wait| { let guard = it.write().unwrap(); let_wait(); drop(guard); };
    crossbeam_parker(it: Parker = Parker::default()) => Park, Waker;
        wait it.parker.lock().unwrap().park();
        end |let_wait| { let_wait(); it.unparker.unpark(); };
    pthread_mutex(it: C<libc::pthread_mutex_t> = C::new(libc::PTHREAD_MUTEX_INITIALIZER)) => Mutex, Holder;
        wait { it.call(libc::pthread_mutex_lock); it.call(libc::pthread_mutex_unlock); };
        end |let_wait| { it.call(libc::pthread_mutex_lock); let_wait(); it.call(libc::pthread_mutex_unlock); };
    pthread_rwlock_read(it: C<libc::pthread_rwlock_t> = C::new(libc::PTHREAD_RWLOCK_INITIALIZER)) => RwLock, Holder;
        wait { it.call(libc::pthread_rwlock_rdlock); it.call(libc::pthread_rwlock_unlock); };
        end |let_wait| {
            it.call(libc::pthread_rwlock_wrlock);
            let_wait();
            it.call(libc::pthread_rwlock_unlock);
        };
    pthread_rwlock_write(it: C<libc::pthread_rwlock_t> = C::new(libc::PTHREAD_RWLOCK_INITIALIZER)) => RwLock, Holder;
        wait { it.call(libc::pthread_rwlock_wrlock); it.call(libc::pthread_rwlock_unlock); };
        end |let_wait| {
            it.call(libc::pthread_rwlock_rdlock);
            let_wait();
            it.call(libc::pthread_rwlock_unlock);
        };
    pthread_condvar(it: Condition = Condition::new()) => Condvar, Waker;
        wait it.wait();
        end |let_wait| { let_wait(); it.set(); };
    pthread_barrier(it: C<libc::pthread_barrier_t> = barrier()) => Condvar, Waker;
        wait it.come();
        end |let_wait| { let_wait(); it.come(); };
    c_semaphore(it: C<libc::sem_t> = semaphore()) => Semaphore, Waker;
        wait it.call(libc::sem_wait);
        end |let_wait| { let_wait(); it.call(libc::sem_post); };
}

type Crossbeam = (crossbeam_channel::Sender<u32>, crossbeam_channel::Receiver<u32>);

/// A channel of std, whose receiver is one thread's.
struct Channel {
    sender: mpsc::SyncSender<u32>,
    receiver: parking_lot::Mutex<Option<mpsc::Receiver<u32>>>,
}

impl Channel {
    fn new((sender, receiver): (mpsc::SyncSender<u32>, mpsc::Receiver<u32>)) -> Channel {
        Channel { sender, receiver: parking_lot::Mutex::new(Some(receiver)) }
    }

    fn take_receiver(&self) -> mpsc::Receiver<u32> {
        self.receiver.lock().take().unwrap()
    }
}

/// A thread that lives until its channel is closed.
struct Joined {
    thread: parking_lot::Mutex<Option<std::thread::JoinHandle<()>>>,
    sender: parking_lot::Mutex<Option<mpsc::Sender<()>>>,
}

impl Joined {
    fn new() -> Joined {
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::spawn(move || assert!(receiver.recv().is_err()));
        Joined {
            thread: parking_lot::Mutex::new(Some(thread)),
            sender: parking_lot::Mutex::new(Some(sender)),
        }
    }

    fn take_thread(&self) -> std::thread::JoinHandle<()> {
        self.thread.lock().take().unwrap()
    }

    fn end(&self) {
        drop(self.sender.lock().take());
    }
}

struct Parker {
    parker: std::sync::Mutex<crossbeam_utils::sync::Parker>,
    unparker: crossbeam_utils::sync::Unparker,
}

impl Default for Parker {
    fn default() -> Parker {
        let parker = crossbeam_utils::sync::Parker::new();
        let unparker = parker.unparker().clone();
        Parker { parker: std::sync::Mutex::new(parker), unparker }
    }
}

/// Something that C functions work on.
struct C<T>(UnsafeCell<T>);

// SAFETY: locks are made for several threads.
unsafe impl<T> Sync for C<T> {}

impl<T> C<T> {
    fn new(object: T) -> C<T> {
        C(UnsafeCell::new(object))
    }

    #[inline(always)]
    fn call(&self, function: unsafe extern "C" fn(*mut T) -> c_int) {
        // SAFETY: the object is initialised and used as its functions want it: see the rows.
        assert_eq!(unsafe { function(self.0.get()) }, 0);
    }
}

impl C<libc::pthread_barrier_t> {
    #[inline(always)]
    fn come(&self) {
        // SAFETY: an initialised barrier, for two threads.
        let one_of_them = unsafe { libc::pthread_barrier_wait(self.0.get()) };
        assert!([0, libc::PTHREAD_BARRIER_SERIAL_THREAD].contains(&one_of_them));
    }
}

fn barrier() -> C<libc::pthread_barrier_t> {
    // SAFETY: zero bytes are room for a barrier, which pthread_barrier_init then makes one.
    let barrier: C<libc::pthread_barrier_t> = C::new(unsafe { std::mem::zeroed() });
    // SAFETY: live memory; it has no waiters yet, so it may move.
    assert_eq!(unsafe { libc::pthread_barrier_init(barrier.0.get(), std::ptr::null(), 2) }, 0);
    barrier
}

fn semaphore() -> C<libc::sem_t> {
    // SAFETY: zero bytes are room for a semaphore, which sem_init then makes one.
    let semaphore: C<libc::sem_t> = C::new(unsafe { std::mem::zeroed() });
    // SAFETY: makes a semaphore of this process in live memory; it has no waiters yet, so it may move.
    assert_eq!(unsafe { libc::sem_init(semaphore.0.get(), 0, 0) }, 0);
    semaphore
}

struct Condition {
    mutex: C<libc::pthread_mutex_t>,
    condition: C<libc::pthread_cond_t>,
    set: std::sync::atomic::AtomicBool,
}

impl Condition {
    fn new() -> Condition {
        Condition {
            mutex: C::new(libc::PTHREAD_MUTEX_INITIALIZER),
            condition: C::new(libc::PTHREAD_COND_INITIALIZER),
            set: false.into(),
        }
    }

    fn wait(&self) {
        self.mutex.call(libc::pthread_mutex_lock);
        while !self.set.load(std::sync::atomic::Ordering::Relaxed) {
            // SAFETY: both are initialised, and this thread has the mutex.
            unsafe { libc::pthread_cond_wait(self.condition.0.get(), self.mutex.0.get()) };
        }
        self.mutex.call(libc::pthread_mutex_unlock);
    }

    fn set(&self) {
        self.mutex.call(libc::pthread_mutex_lock);
        self.set.store(true, std::sync::atomic::Ordering::Relaxed);
        self.condition.call(libc::pthread_cond_signal);
        self.mutex.call(libc::pthread_mutex_unlock);
    }
}

/// How long this thread has run, and wanted to, as the kernel says; nanoseconds.
fn ran_or_wanted() -> f64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    schedstat.split(' ').take(2).map(|nanos| nanos.parse::<f64>().unwrap()).sum()
}

/// What the thread that waits measures: how long, and how much of that it ran or wanted to.
fn measured(wait: impl Fn() + Sync, end: impl Fn(LetWait<'_>) + Sync) -> (f64, f64) {
    let begin = Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            end(&|| {
                begin.wait();
                std::thread::sleep(HELD);
            });
        });
        begin.wait();
        let (ran, begun) = (ran_or_wanted(), Instant::now());
        wait();
        let waited = begun.elapsed().as_nanos() as f64;
        (waited, ran_or_wanted() - ran)
    })
}

/// Runs all pairs at the same time and compares what was recorded with what they measured.
pub(crate) fn are_told_truly() {
    let (planted, trace) = record(|| {
        std::thread::scope(|scope| {
            let running: Vec<_> = PAIRS.iter().map(|pair| (pair, scope.spawn(pair.run))).collect();
            let planted = running.into_iter().map(|(pair, running)| {
                let (waited_ns, delayed_ns) = running.join().unwrap();
                Planted { path: pair.path, kind: pair.kind, ends: pair.ends, waited_ns, delayed_ns }
            });
            planted.collect::<Vec<_>>()
        })
    });
    let links = Links::of(&trace);
    planted.iter().for_each(|planted| is_told_truly(planted, &trace, &links));
}

fn is_told_truly(planted: &Planted, trace: &Trace, links: &Links) {
    let of = |wait: u32| &trace.waits[wait as usize];
    let waits: Vec<u32> =
        (0..trace.waits.len() as u32).filter(|&wait| planted.passes(trace, of(wait).stack, "wait")).collect();
    planted.agrees("waited", waits.iter().map(|&wait| of(wait).time.duration() as f64).sum());
    let longest = *waits.iter().max_by_key(|&&wait| of(wait).time.duration()).unwrap();
    let told = waiting::of_wait(&trace.stacks, of(longest).kind, of(longest).stack);
    assert_eq!(told, planted.kind, "{}", planted.path);
    let woken_at = links.ended_by(longest).map(|wake| trace.wakes[wake as usize].stack);
    match planted.ends {
        Ends::Holder => planted.has_its_holder_named(trace),
        Ends::Waker => assert!(planted.passes(trace, woken_at.unwrap(), "end"), "{}", planted.path),
        Ends::Kernel => assert_eq!(woken_at, None, "{}", planted.path),
    }
}

/// How often the threads with two locks go round.
const ROUNDS: u32 = 6;

const SLOW: Duration = Duration::from_millis(60);

type Lock = parking_lot::Mutex<u32>;

/// Holds the outer lock, lets others queue for it, then waits for the inner one.
#[inline(never)]
fn holds_outer(outer: &Lock, inner: &Lock, round: &Barrier) {
    for _ in 0..ROUNDS {
        let mut outer = outer.lock();
        round.wait();
        std::thread::sleep(SLOW);
        *inner.lock() += 1;
        *outer += 1;
        parking_lot::MutexGuard::unlock_fair(outer);
        round.wait();
    }
}

/// Holds the inner lock for long.
#[inline(never)]
fn holds_inner(inner: &Lock) {
    for _ in 0..3 * ROUNDS {
        let mut inner = inner.lock();
        std::thread::sleep(SLOW);
        *inner += 1;
        parking_lot::MutexGuard::unlock_fair(inner);
    }
}

/// Needs the outer lock for next to nothing.
#[inline(never)]
fn wants_outer(outer: &Lock, round: &Barrier) {
    for _ in 0..ROUNDS {
        round.wait();
        *outer.lock() += 1;
        round.wait();
    }
}

/// Whoever waits for the outer lock waits for the one that holds it, whatever that one waits for meanwhile.
pub(crate) fn nested_holders_are_told_apart() {
    let (outer, inner, round) = (Lock::new(0), Lock::new(0), Barrier::new(3));
    let ((), trace) = record(|| {
        std::thread::scope(|scope| {
            scope.spawn(|| holds_inner(&inner));
            scope.spawn(|| holds_outer(&outer, &inner, &round));
            scope.spawn(|| wants_outer(&outer, &round));
            scope.spawn(|| wants_outer(&outer, &round));
        });
    });
    let passes = |stack, function| {
        crate::recorded::functions(&trace, stack).iter().any(|name| name.contains(function))
    };
    // Each thread sleeps on an address of its own.
    let of_lock = |stack| passes(stack, "wants_outer") && passes(stack, "parking_lot");
    let waits = trace.waits.iter().filter(|wait| of_lock(wait.stack));
    let of_wants: HashSet<u64> = waits.map(|wait| wait.addr).collect();
    let (mut right, mut all) = (0.0, 0.0);
    for blame in contention::held(&trace).iter().filter(|blame| of_wants.contains(&blame.addr)) {
        all += blame.share.delay_ns;
        right += if passes(blame.stack, "holds_inner") { 0.0 } else { blame.share.delay_ns };
    }
    println!("truth nested threads {:.4}", right / all);
    assert!(all > 0.0 && right / all > 0.98, "{right} of {all} ns");
}
