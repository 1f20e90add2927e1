//! Threads that end early and late, are many, are quiet, are interrupted.

use std::cell::Cell;
use std::collections::HashSet;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Barrier, OnceLock};

use kymo::events::LossReason;
use kymo::format::Lane;
use kymo::format::file::File;
use kymo::record::this_thread;

use super::captured::{USER, all_counters, alone, count, counters, counters_by_lane, losses, start};

struct CountsWhenDropped(i64);

impl Drop for CountsWhenDropped {
    fn drop(&mut self) {
        count(self.0);
    }
}

thread_local! {
    static EARLY: Cell<Option<CountsWhenDropped>> = const { Cell::new(None) };
    static LATE: Cell<Option<CountsWhenDropped>> = const { Cell::new(None) };
}

#[test]
fn b2_events_of_thread_local_destructors_are_recorded() {
    let _alone = alone();
    let (capture, sink) = start(USER);
    let thread = std::thread::spawn(|| {
        EARLY.set(Some(CountsWhenDropped(2)));
        count(1);
        LATE.set(Some(CountsWhenDropped(3)));
    });
    thread.join().unwrap();
    assert_eq!(capture.stop().lost, 0);
    let mut found = all_counters(&sink.take());
    found.sort_unstable();
    assert_eq!(found, [1, 2, 3]);
}

/// A pthread key whose destructor emits in the last round of all, after the recorder has let go of the thread.
fn lose_one_event_at_the_very_end() {
    static KEY: OnceLock<libc::pthread_key_t> = OnceLock::new();
    unsafe extern "C" fn destructor(round: *mut c_void) {
        let round = round.addr();
        if round == 4 {
            count(4);
        } else {
            // SAFETY: the key is never deleted.
            unsafe {
                libc::pthread_setspecific(
                    KEY.get().copied().unwrap(),
                    std::ptr::without_provenance(round + 1),
                )
            };
        }
    }
    // Made after the recorder's key, so that its destructor comes later in each round.
    let key = *KEY.get_or_init(|| {
        let mut key = 0;
        // SAFETY: `key` is a live place for the new key.
        assert_eq!(unsafe { libc::pthread_key_create(&mut key, Some(destructor)) }, 0);
        key
    });
    // SAFETY: the key is never deleted.
    unsafe { libc::pthread_setspecific(key, std::ptr::without_provenance(1)) };
}

/// A thread emits one event that is recorded and one that comes too late. While a capture runs.
pub(crate) fn lose_one_event() {
    let thread = std::thread::spawn(|| {
        count(1);
        lose_one_event_at_the_very_end();
    });
    thread.join().unwrap();
}

#[test]
fn b2_events_after_a_threads_retirement_are_counted_as_lost() {
    let _alone = alone();
    let (capture, sink) = start(USER);
    lose_one_event();
    assert_eq!(capture.stop().lost, 1);
    let bytes = sink.take();
    assert_eq!(all_counters(&bytes), [1]);
    assert_eq!(losses(&bytes).into_iter().collect::<Vec<_>>(), [((0, LossReason::NoThread), 1)]);
}

#[test]
fn thousands_of_short_threads_lose_nothing_share_slots_and_get_numbers_of_their_own() {
    let _alone = alone();
    let (capture, sink) = start(USER);
    let threads = 3000;
    for number in 0..threads {
        std::thread::spawn(move || count(number)).join().unwrap();
    }
    assert_eq!(capture.stop().lost, 0);
    let found = counters(&sink.take());
    assert_eq!(found.len(), threads as usize, "no number is used twice");
    let values: HashSet<i64> = found.into_values().flatten().collect();
    assert_eq!(values, (0..threads).collect());
    assert!(kymo::record::usage().threads < 100, "slots of ended threads are free again");
}

#[test]
fn more_threads_than_there_are_chunks_lose_only_what_is_counted() {
    let _alone = alone();
    let (capture, sink) = start(USER);
    let threads = 1500;
    let all_live = Barrier::new(threads);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let small = std::thread::Builder::new().stack_size(32 << 10);
            let emit = || {
                count(1);
                all_live.wait();
                count(2);
            };
            small.spawn_scoped(scope, emit).unwrap();
        }
    });
    capture.stop();
    let bytes = sink.take();
    let lost: u64 = losses(&bytes).values().sum();
    assert_eq!(all_counters(&bytes).len() as u64 + lost, 2 * threads as u64);
}

#[test]
fn a_thread_that_sleeps_holds_no_chunk() {
    let _alone = alone();
    let (capture, _sink) = start(USER);
    let (written, looked) = (Barrier::new(2), Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            count(1);
            written.wait();
            looked.wait();
        });
        written.wait();
        // A capture that starts seals all lanes, as the drain does each second.
        drop(start(USER));
        assert_eq!(kymo::record::usage().chunk_bytes, 0);
        looked.wait();
    });
    capture.stop();
}

#[test]
fn threads_are_told_with_their_kernel_number_and_the_name_they_had_last() {
    let _alone = alone();
    let (capture, sink) = start(USER);
    let (named, stopped) = (Barrier::new(2), Barrier::new(2));
    let told = |number| {
        count(number);
        // SAFETY: gettid(2) has no preconditions.
        (this_thread(), unsafe { libc::gettid() } as u64)
    };
    let (ended, living) = std::thread::scope(|scope| {
        let named_thread = |name: &str| std::thread::Builder::new().name(name.into());
        let ended = named_thread("ended").spawn_scoped(scope, || told(1)).unwrap().join().unwrap();
        let live = || {
            let living = told(2);
            // SAFETY: PR_SET_NAME reads a C string.
            unsafe { libc::prctl(libc::PR_SET_NAME, c"renamed".as_ptr()) };
            named.wait();
            stopped.wait();
            living
        };
        let living = named_thread("living").spawn_scoped(scope, live).unwrap();
        named.wait();
        capture.stop();
        stopped.wait();
        (ended, living.join().unwrap())
    });
    let bytes = sink.take();
    let file = File::parse(&bytes).unwrap();
    let found = |thread| {
        let infos: Vec<_> = file.threads.iter().filter(|info| info.thread == thread).collect();
        assert_eq!(infos.len(), 1, "a thread is told once");
        (infos[0].tid, file.text(infos[0].name))
    };
    assert_eq!(found(ended.0), (ended.1, "ended"));
    assert_eq!(found(living.0), (living.1, "renamed"));
}

#[test]
fn a_muted_thread_records_nothing_and_loses_nothing() {
    let _alone = alone();
    let (capture, sink) = start(USER);
    let muted = std::thread::spawn(|| {
        count(1);
        kymo::record::mute_this_thread();
        count(2);
        this_thread().0
    });
    assert_eq!(muted.join().unwrap(), 0);
    assert_eq!(capture.stop().lost, 0);
    assert_eq!(all_counters(&sink.take()), [1]);
}

#[test]
fn stamps_that_run_backwards_count_as_the_latest_one() {
    let _alone = alone();
    let (capture, sink) = start(USER);
    let now = kymo::clock::ticks();
    let emit = |ticks, value| {
        let value = kymo::events::Value(value);
        kymo::record::emit_at(ticks, kymo::events::Counter { name: kymo::events::StrId(0), value });
    };
    emit(now + 5, 1);
    emit(now, 2);
    emit(now + 9, 3);
    // So many that the chunk is traded between stamps that run backwards; `counters` checks that time does not.
    (0..100_000).for_each(|number| emit(now + 10 + number - number % 2 * 2, number as i64));
    capture.stop();
    assert_eq!(all_counters(&sink.take()).len(), 100_003);
}

static HANDLED: AtomicI64 = AtomicI64::new(0);

extern "C" fn handler(_signal: libc::c_int) {
    // Negative, and one less each time.
    count(HANDLED.fetch_sub(1, Ordering::Relaxed) - 1);
}

#[test]
fn a_signal_handler_that_interrupts_a_write_records_beside_it() {
    let _alone = alone();
    // SAFETY: the handler only records, which is async-signal-safe.
    unsafe { libc::signal(libc::SIGUSR1, handler as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    let (capture, sink) = start(USER);
    let (tid, done) = (AtomicU32::new(0), AtomicBool::new(false));
    let interrupt = |times| {
        for _ in 0..times {
            let (tid, handled) = (tid.load(Ordering::Acquire), HANDLED.load(Ordering::Relaxed));
            // SAFETY: the thread lives until `done` is set.
            unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), tid, libc::SIGUSR1) };
            // A signal that is sent while another waits is no second one.
            while HANDLED.load(Ordering::Relaxed) == handled {
                std::thread::yield_now();
            }
        }
    };
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            // SAFETY: gettid(2) has no preconditions.
            tid.store(unsafe { libc::gettid() } as u32, Ordering::Release);
            (0..).take_while(|_| !done.load(Ordering::Relaxed)).inspect(|&number| count(number)).count()
        });
        while tid.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        while HANDLED.load(Ordering::Relaxed) > -2_000 {
            interrupt(500);
            // A handler that wanted the second lane has lost its event. A seal, which a start brings, gives it a chunk.
            drop(start(USER));
        }
        done.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    capture.stop();
    let bytes = sink.take();
    let lanes = counters_by_lane(&bytes);
    let beside: usize =
        lanes.iter().filter(|((_, lane), _)| *lane == Lane::Signal).map(|(_, values)| values.len()).sum();
    assert!(beside > 0, "some signals came inside a write");
    let handled: Vec<i64> = lanes.values().flatten().copied().filter(|&value| value < 0).collect();
    let of_thread: Vec<i64> = lanes.values().flatten().copied().filter(|&value| value >= 0).collect();
    assert!(of_thread.is_sorted_by(|a, b| a < b), "no event of the thread is torn");
    let lost: u64 = losses(&bytes).values().sum();
    let emitted = written as u64 + HANDLED.load(Ordering::Relaxed).unsigned_abs();
    assert_eq!((of_thread.len() + handled.len()) as u64 + lost, emitted, "each event is kept or counted");
}
