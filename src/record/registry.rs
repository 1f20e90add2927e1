//! Who records: the places that threads claim at their first event and give up at their end.
//!
//! # Invariants
//! 1. A place goes free → claimed (one thread) → retired (the drain) → free. Each step is one store by the one who has
//!    it, so no two threads ever share a place.
//! 2. What a thread writes into its place before [`Place::settle`] MUST be seen by whoever sees it settled. Otherwise
//!    the drain would take a thread's events for another's.
//! 3. A thread MUST be done with its place before it retires it. Otherwise the next one would find it inside.

use super::sync::{ArrayQueue, AtomicU32, Ordering, PUBLISH_HOLDER};

const FREE: u32 = 0;
const LIVE: u32 = 1;
const RETIRED: u32 = 2;

/// A place and who has it. All zeros: free, if that is a valid item.
#[derive(Default)]
pub(super) struct Place<T> {
    holder: AtomicU32,
    pub(super) item: T,
}

impl<T> Place<T> {
    /// The thread that claimed it has filled it in.
    pub(super) fn settle(&self) {
        self.holder.store(LIVE, PUBLISH_HOLDER);
    }

    /// Whether a living thread has it.
    pub(super) fn is_live(&self) -> bool {
        self.holder.load(Ordering::Acquire) == LIVE
    }
}

/// All places, claimed or not.
pub(super) struct Registry<T> {
    places: Box<[Place<T>]>,
    /// Places that were ever claimed: those below this index.
    used: AtomicU32,
    freed: ArrayQueue<u32>,
    retired: ArrayQueue<u32>,
}

impl<T> Registry<T> {
    /// With these places, all free.
    pub(super) fn new(places: Box<[Place<T>]>) -> Registry<T> {
        let queue = || ArrayQueue::new(places.len().max(1));
        Registry { freed: queue(), retired: queue(), used: AtomicU32::new(0), places }
    }

    /// A place that is this thread's alone, and its index; it fills it in and settles. `None`: all are taken.
    pub(super) fn claim(&self) -> Option<(u32, &Place<T>)> {
        let index = self.freed.pop().or_else(|| self.next_unused())?;
        Some((index, self.places.get(index as usize)?))
    }

    /// The thread that has this place is done with it; the drain takes the rest.
    pub(super) fn retire(&self, index: u32) {
        self.at(index).holder.store(RETIRED, PUBLISH_HOLDER);
        // The queue has room for every place there is.
        let _ = self.retired.push(index);
    }

    /// A place that its thread has retired: the drain's, until it frees it.
    pub(super) fn take_retired(&self) -> Option<u32> {
        self.retired.pop()
    }

    fn next_unused(&self) -> Option<u32> {
        let all = self.places.len() as u32;
        self.used
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |used| (used < all).then_some(used + 1))
            .ok()
    }

    /// The places that were ever claimed, with their index.
    pub(super) fn used(&self) -> impl Iterator<Item = (u32, &Place<T>)> {
        (0..).zip(&self.places[..self.used.load(Ordering::Acquire) as usize])
    }

    /// The place at an index that was given out.
    pub(super) fn at(&self, index: u32) -> &Place<T> {
        &self.places[index as usize]
    }

    /// Frees a place that [`Registry::take_retired`] gave.
    pub(super) fn free(&self, index: u32) {
        self.at(index).holder.store(FREE, PUBLISH_HOLDER);
        // The queue has room for every place there is.
        let _ = self.freed.push(index);
    }
}
