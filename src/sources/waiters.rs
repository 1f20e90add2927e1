//! Who waits now, by address: so that whoever wakes them can be told how long they waited for it.
//!
//! A waiter takes a slot near its address's home and leaves the time from which it waits. A wake goes over the slots of
//! its address, takes the time that each has waited, and has them wait from now on: so a wait is split over successive
//! wakes, as the analysis of a trace splits it. A waiter that goes on leaves its slot.
//!
//! # Limits
//! A waiter that finds [`REACH`] slots taken has none: nobody is told of its wait, and it is counted. A wake that meets a
//! slot while it passes from one lock to another takes a moment of the wrong wait. Nothing waits, whatever the others do.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::limits::{WAITERS, WAITERS_REACH as REACH};

const FREE: usize = 0;

/// Taken, but its time is not there yet. No lock has this address.
const CLAIMED: usize = 1;

/// One that waits.
struct Slot {
    /// What it waits for.
    addr: AtomicUsize,
    /// From when on: its begin, or the latest wake of its address.
    since: AtomicU64,
}

/// All that wait.
pub(super) struct Waiters {
    slots: [Slot; WAITERS],
    /// By home: how many slots from there on may be in use for it. Only grows.
    reach: [AtomicU32; WAITERS],
    /// Waiters that found no slot.
    crowded: AtomicU64,
}

/// A waiter's slot. Plain data: a thread that is cancelled while it waits drops nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(usize);

/// What a wake ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Waited {
    /// How many wait.
    pub(super) waiters: u64,
    /// How long they have waited since the wake before, all together.
    pub(super) ticks: u64,
}

impl Waiters {
    pub(super) const fn new() -> Waiters {
        Waiters {
            slots: [const { Slot { addr: AtomicUsize::new(FREE), since: AtomicU64::new(0) } }; WAITERS],
            reach: [const { AtomicU32::new(0) }; WAITERS],
            crowded: AtomicU64::new(0),
        }
    }

    /// Waits for what is at an address from `begin` on.
    pub(super) fn enter(&self, addr: usize, begin: u64) -> Option<Place> {
        let home = home(addr);
        for step in 0..REACH {
            let place = (home + step) % WAITERS;
            let slot = &self.slots[place];
            if slot.addr.load(Ordering::Relaxed) == FREE
                && slot.addr.compare_exchange(FREE, CLAIMED, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            {
                self.reach[home].fetch_max(step as u32 + 1, Ordering::Relaxed);
                slot.since.store(begin, Ordering::Relaxed);
                slot.addr.store(addr, Ordering::Release);
                return Some(Place(place));
            }
        }
        self.crowded.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// Waits no more.
    pub(super) fn leave(&self, place: Place) {
        self.slots[place.0].addr.store(FREE, Ordering::Release);
    }

    /// Takes the time that all have waited at an address since the wake before this one, at `at`.
    pub(super) fn wake(&self, addr: usize, at: u64) -> Waited {
        let home = home(addr);
        let mut waited = Waited::default();
        for step in 0..self.reach[home].load(Ordering::Relaxed) as usize {
            let slot = &self.slots[(home + step) % WAITERS];
            if slot.addr.load(Ordering::Acquire) == addr {
                let since = slot.since.fetch_max(at, Ordering::Relaxed);
                waited.waiters += 1;
                waited.ticks += at.saturating_sub(since);
            }
        }
        waited
    }

    /// The lock of an address was nobody's until `at`: the time until then is on no waker.
    pub(super) fn went_on(&self, addr: usize, at: u64) {
        self.wake(addr, at);
    }

    /// Waiters that found no slot.
    pub(super) fn crowded(&self) -> u64 {
        self.crowded.load(Ordering::Relaxed)
    }
}

fn home(addr: usize) -> usize {
    // Locks are at least 4 bytes apart; the multiplier spreads what their addresses have in common.
    let spread = (addr as u64 >> 2).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (spread >> 32) as usize % WAITERS
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: usize = 0x7f00_0000_1000;

    #[test]
    fn a_wait_is_split_over_the_wakes_inside_it() {
        let waiters = Waiters::new();
        let first = waiters.enter(LOCK, 100).unwrap();
        let second = waiters.enter(LOCK, 130).unwrap();
        assert_eq!(waiters.wake(LOCK, 200), Waited { waiters: 2, ticks: 100 + 70 });
        waiters.leave(first);
        assert_eq!(waiters.wake(LOCK, 250), Waited { waiters: 1, ticks: 50 });
        waiters.leave(second);
        assert_eq!(waiters.wake(LOCK, 300), Waited::default());
    }

    #[test]
    fn until_the_woken_one_goes_on_the_time_is_on_nobody() {
        let waiters = Waiters::new();
        let woken = waiters.enter(LOCK, 100).unwrap();
        waiters.enter(LOCK, 100).unwrap();
        waiters.wake(LOCK, 200);
        waiters.leave(woken);
        waiters.went_on(LOCK, 240);
        assert_eq!(waiters.wake(LOCK, 250), Waited { waiters: 1, ticks: 10 });
    }

    #[test]
    fn locks_that_share_a_home_are_kept_apart() {
        let waiters = Waiters::new();
        let others = (1..).map(|n| LOCK + n * 64).filter(|&addr| home(addr) == home(LOCK));
        let other = others.into_iter().next().unwrap();
        waiters.enter(LOCK, 100).unwrap();
        waiters.enter(other, 0).unwrap();
        assert_eq!(waiters.wake(LOCK, 200), Waited { waiters: 1, ticks: 100 });
        assert_eq!(waiters.wake(other, 200), Waited { waiters: 1, ticks: 200 });
    }

    #[test]
    fn one_that_finds_no_slot_is_counted_and_a_slot_is_used_again() {
        let waiters = Waiters::new();
        let places: Vec<Place> = (0..REACH).map(|_| waiters.enter(LOCK, 0).unwrap()).collect();
        assert_eq!((waiters.enter(LOCK, 0), waiters.crowded()), (None, 1));
        assert_eq!(waiters.wake(LOCK, 1).waiters, REACH as u64);
        waiters.leave(places[7]);
        assert_eq!(waiters.enter(LOCK, 0), Some(places[7]));
    }

    #[test]
    fn whatever_threads_do_no_wait_is_told_twice() {
        let waiters = Waiters::new();
        let (threads, rounds) = (4, 2_000);
        let told: u64 = std::thread::scope(|scope| {
            let waits = |thread: usize| {
                let waiters = &waiters;
                move || {
                    let addr = LOCK + thread % 2 * 64;
                    let mut told = 0;
                    for round in 0..rounds {
                        let place = waiters.enter(addr, round * 10).unwrap();
                        told += waiters.wake(addr, round * 10 + 10).waiters;
                        waiters.leave(place);
                    }
                    told
                }
            };
            let threads: Vec<_> = (0..threads).map(|thread| scope.spawn(waits(thread))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!((threads as u64 * rounds..=2 * threads as u64 * rounds).contains(&told), "{told}");
        assert_eq!(waiters.wake(LOCK, u64::MAX), Waited::default());
    }
}
