//! The block and mutex profiles of a process that records nothing: rates, planted waits and their holders, and the two
//! addresses that serve them.

#![cfg(all(feature = "hooks", feature = "http"))]
#![allow(unsafe_code, reason = "a C program's mutex")]

mod served;
mod watched;

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, Mutex, RwLock};
use std::time::{Duration, Instant};

use kymo::events::{Group, Groups, LiveProfile};
use kymo::model::Trace;
use kymo::profile::{Profile, live_block, live_mutex};
use kymo::record::session::{Capture, CaptureOptions, Resolver};
use kymo::record::sink::MemorySink;
use watched::in_child;

/// How long a planted holder keeps its lock.
const HELD: Duration = Duration::from_millis(100);

/// A capture of no length, with functions named.
fn told() -> Trace {
    captured(Some(kymo::model::symbols::resolve))
}

/// A capture of no length.
fn captured(resolver: Option<Resolver>) -> Trace {
    let sink = MemorySink::new(64 << 20);
    let groups = Groups::NONE.with(Group::Block);
    let options = CaptureOptions { groups, cpu_hz: 0, sink: Box::new(sink.clone()), resolver };
    Capture::start(options).unwrap().stop();
    let (trace, problems) = kymo::model::load::load(&sink.take()).unwrap();
    assert_eq!(problems, []);
    trace
}

/// What a waiter measured itself, in nanoseconds.
struct Measured {
    /// By its clock.
    waited: f64,
    /// How much of that it would have run, but for other threads: a lock that spins or yields before it sleeps spends
    /// that outside of the wait, and one that is woken inside of it.
    delayed: f64,
}

/// How long this thread has run, and wanted to, as the kernel says; nanoseconds.
fn ran_or_wanted() -> f64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    schedstat.split(' ').take(2).map(|nanos| nanos.parse::<f64>().unwrap()).sum()
}

/// One thread takes a lock and keeps it while the other waits; what that one measured.
fn contend<G>(hold: impl FnOnce() -> G + Send, wait: impl FnOnce() + Send, let_go: fn(G)) -> Measured {
    let held = Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let guard = hold();
            held.wait();
            std::thread::sleep(HELD);
            let_go(guard);
        });
        held.wait();
        let (ran, begun) = (ran_or_wanted(), Instant::now());
        wait();
        let waited = begun.elapsed().as_nanos() as f64;
        Measured { waited, delayed: ran_or_wanted() - ran }
    })
}

/// Contentions and delay of all samples with a function on their stacks.
fn of(profile: &Profile, function: &str) -> (i64, f64) {
    let has = |sample: &&kymo::profile::Sample| {
        profile.frames(sample).any(|frame| frame.function.ends_with(function))
    };
    let sum = |(count, delay), sample: &kymo::profile::Sample| {
        (count + sample.values[0], delay + sample.values[1] as f64)
    };
    profile.samples.iter().filter(has).fold((0, 0.0), sum)
}

#[track_caller]
fn is_one_wait(profile: &Profile, function: &str, measured: &Measured) {
    let (contentions, delay) = of(profile, function);
    assert_eq!(contentions, 1, "{function}: {}", profile.folded(1));
    let Measured { waited, delayed } = measured;
    let off = (delay - waited).abs();
    assert!(
        off < 0.02 * waited + delayed,
        "{function}: {delay} ns, measured {waited} ns ({delayed} delayed)"
    );
}

#[inline(never)]
fn lets_std_go(guard: std::sync::MutexGuard<'_, u32>) {
    drop(guard);
}

#[inline(never)]
fn waits_for_std(mutex: &Mutex<u32>) {
    *mutex.lock().unwrap() += 1;
}

#[inline(never)]
fn lets_readers_in(guard: std::sync::RwLockWriteGuard<'_, u32>) {
    drop(guard);
}

#[inline(never)]
fn waits_to_read(lock: &RwLock<u32>) {
    assert_eq!(*lock.read().unwrap(), 0);
}

#[inline(never)]
fn lets_parking_lot_go(guard: parking_lot::MutexGuard<'_, u32>) {
    drop(guard);
}

#[inline(never)]
fn waits_for_parking_lot(mutex: &parking_lot::Mutex<u32>) {
    *mutex.lock() += 1;
}

/// A mutex as C has it.
struct Pthread(UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: a mutex is made for several threads.
unsafe impl Sync for Pthread {}

impl Pthread {
    fn lock(&self) {
        // SAFETY: an initialized mutex, that its thread does not hold.
        assert_eq!(unsafe { libc::pthread_mutex_lock(self.0.get()) }, 0);
    }

    fn unlock(&self) {
        // SAFETY: its thread holds it.
        assert_eq!(unsafe { libc::pthread_mutex_unlock(self.0.get()) }, 0);
    }
}

#[inline(never)]
fn lets_pthread_go(mutex: &Pthread) {
    mutex.unlock();
}

#[inline(never)]
fn waits_for_pthread(mutex: &Pthread) {
    mutex.lock();
    mutex.unlock();
}

#[test]
fn each_wait_and_its_holder_are_weighed_without_a_trace() {
    in_child(|| {
        kymo::set_block_profile_rate(1);
        kymo::set_mutex_profile_fraction(1);
        let (mutex, rwlock, parking) = (Mutex::new(0), RwLock::new(0), parking_lot::Mutex::new(0));
        let pthread = Pthread(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER));
        let hold = || {
            pthread.lock();
            &pthread
        };
        let planted = [
            ("waits_for_std", "lets_std_go", {
                contend(|| mutex.lock().unwrap(), || waits_for_std(&mutex), lets_std_go)
            }),
            ("waits_to_read", "lets_readers_in", {
                contend(|| rwlock.write().unwrap(), || waits_to_read(&rwlock), lets_readers_in)
            }),
            ("waits_for_parking_lot", "lets_parking_lot_go", {
                contend(|| parking.lock(), || waits_for_parking_lot(&parking), lets_parking_lot_go)
            }),
            ("waits_for_pthread", "lets_pthread_go", {
                contend(hold, || waits_for_pthread(&pthread), lets_pthread_go)
            }),
        ];
        let trace = told();
        let (block, mutex) = (live_block(&trace), live_mutex(&trace));
        for (waiter, holder, measured) in planted {
            is_one_wait(&block, waiter, &measured);
            is_one_wait(&mutex, holder, &measured);
            assert_eq!(of(&mutex, waiter).0, 0, "{waiter} is nobody's holder");
        }
    });
}

#[test]
fn nothing_is_weighed_before_a_rate_is_set_nor_after_it_is_taken_back() {
    in_child(|| {
        let mutex = Mutex::new(0);
        let wait = || contend(|| mutex.lock().unwrap(), || waits_for_std(&mutex), lets_std_go);
        let kept = || {
            let trace = told();
            (of(&live_block(&trace), "waits_for_std").0, of(&live_mutex(&trace), "lets_std_go").0)
        };
        wait();
        assert_eq!(kept(), (0, 0));
        kymo::set_block_profile_rate(1);
        wait();
        assert_eq!(kept(), (1, 0));
        kymo::set_mutex_profile_fraction(1);
        wait();
        assert_eq!(kept(), (2, 1));
        kymo::set_block_profile_rate(0);
        kymo::set_mutex_profile_fraction(0);
        wait();
        assert_eq!(kept(), (2, 1));
    });
}

#[test]
fn what_is_served_is_on_by_default_and_a_rate_that_was_set_stays() {
    in_child(|| {
        kymo::set_mutex_profile_fraction(1);
        let server = kymo::serve("127.0.0.1:0").unwrap().address();
        let mutex = Mutex::new(0);
        let measured = contend(|| mutex.lock().unwrap(), || waits_for_std(&mutex), lets_std_go);
        let profile = |name: &str| {
            let answer = served::get(server, &format!("/debug/pprof/{name}"));
            Profile::decode(&answer.body).unwrap()
        };
        is_one_wait(&profile("block"), "waits_for_std", &measured);
        is_one_wait(&profile("mutex"), "lets_std_go", &measured);
        let sources = kymo::status::sources();
        let (_, state) = sources.iter().find(|(source, _)| source == "contention").unwrap();
        assert_eq!(state, "block: one wait for each 20000 ns, mutex: one wake in 1");
    });
}

/// Posts the semaphore that [`posts_in_a_handler`] waits for.
extern "C" fn post(_: libc::c_int) {
    // SAFETY: initialised before any signal is sent; sem_post(3) may be called in handlers.
    unsafe { libc::sem_post(SEMAPHORE.0.get()) };
}

struct Semaphore(UnsafeCell<libc::sem_t>);

// SAFETY: a semaphore is made for several threads.
unsafe impl Sync for Semaphore {}

static SEMAPHORE: Semaphore = Semaphore(UnsafeCell::new(
    // SAFETY: zero bytes are a semaphore of none.
    unsafe { std::mem::zeroed() },
));

/// Waits for what its own signal posts, again and again.
fn posts_in_a_handler(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        // SAFETY: the signal is handled.
        assert_eq!(unsafe { libc::raise(libc::SIGUSR2) }, 0);
        // SAFETY: an initialised semaphore.
        assert_eq!(unsafe { libc::sem_wait(SEMAPHORE.0.get()) }, 0);
    }
}

#[test]
fn whatever_is_turned_on_and_off_meanwhile_nothing_hangs_and_no_time_is_weighed_twice() {
    in_child(|| {
        // SAFETY: the handler only posts.
        unsafe { libc::signal(libc::SIGUSR2, post as *const () as libc::sighandler_t) };
        let (stop, begun) = (AtomicBool::new(false), Instant::now());
        let (mutex, parking) = (Mutex::new(0), parking_lot::Mutex::new(0));
        let pthread = Pthread(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER));
        let contend = || {
            while !stop.load(Ordering::Relaxed) {
                waits_for_std(&mutex);
                waits_for_parking_lot(&parking);
                waits_for_pthread(&pthread);
            }
        };
        std::thread::scope(|scope| {
            (0..4).for_each(|_| drop(scope.spawn(contend)));
            scope.spawn(|| posts_in_a_handler(&stop));
            let mut latest = 0;
            for round in 0..40 {
                kymo::set_block_profile_rate([1, 0, 20_000][round % 3]);
                kymo::set_mutex_profile_fraction([1, 10, 0, 3][round % 4]);
                let told = captured(None).contended.iter().map(|weight| weight.contentions).sum();
                assert!(told >= latest, "weights only grow");
                latest = told;
            }
            stop.store(true, Ordering::Relaxed);
        });
        let trace = captured(None);
        let most = 5.0 * begun.elapsed().as_nanos() as f64;
        // A weighed wake stands for up to ten, by chance for more than there were.
        for (profile, most) in [(LiveProfile::Block, most), (LiveProfile::Mutex, 2.0 * most)] {
            let of = trace.contended.iter().filter(|weight| weight.profile == profile);
            let delay: f64 = of.map(|weight| weight.delay_ns as f64).sum();
            assert!(delay > 0.0 && delay < most, "{profile:?}: {delay} of {most} ns");
        }
    });
}

#[test]
fn a_forked_child_weighs_nothing() {
    in_child(|| {
        kymo::set_block_profile_rate(1);
        // SAFETY: the child only asks for what is on, and leaves.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let status = i32::from(kymo::record::waits_watched());
            // SAFETY: it only ends the child.
            unsafe { libc::_exit(status) };
        }
        let mut status = -1;
        // SAFETY: our own child, and a place for its status.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0);
    });
}
