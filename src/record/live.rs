//! Weights kept while the process runs, by stack: what is behind profiles that need no trace.
//!
//! A [`Weights`] is a fixed piece of memory, an open-addressed table: adding is lock-free, allocates nothing and is
//! async-signal-safe. A stack stays where it was first put. When its neighbourhood is full, its weights go to one entry
//! for all such stacks: totals stay true, places get lost.
//!
//! Does not know what the weights mean, and does not forget.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::pool::zeroed;
use crate::events::StackId;
use crate::limits::LIVE_STACKS;

/// Places beside each other that a stack may be in.
const REACH: usize = 64;

/// A count and an amount for each stack.
pub struct Weights {
    entries: Box<[Entry]>,
    overflow: Entry,
}

/// All zeros: free.
#[derive(Default)]
pub(super) struct Entry {
    /// Its number. `StackId(0)`, the stack of none, is kept as one that no table gives.
    stack: AtomicU32,
    count: AtomicU64,
    amount: AtomicU64,
}

const OF_NONE: u32 = u32::MAX;

impl std::fmt::Debug for Weights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Weights").finish_non_exhaustive()
    }
}

impl Default for Weights {
    fn default() -> Weights {
        Weights::new()
    }
}

impl Weights {
    /// Empty. Takes memory as stacks come.
    pub fn new() -> Weights {
        Weights { entries: zeroed(LIVE_STACKS), overflow: Entry::default() }
    }

    /// Adds to a stack's weights.
    pub fn add(&self, stack: StackId, count: u64, amount: u64) {
        let entry = self.entry(stack);
        entry.count.fetch_add(count, Ordering::Relaxed);
        entry.amount.fetch_add(amount, Ordering::Relaxed);
    }

    /// Gives every stack with its count and amount; [`StackId::OVERFLOW`] is all that found no place.
    pub fn each(&self, mut give: impl FnMut(StackId, u64, u64)) {
        for entry in &self.entries {
            match entry.stack.load(Ordering::Relaxed) {
                0 => {}
                OF_NONE => entry.give(StackId(0), &mut give),
                stack => entry.give(StackId(stack), &mut give),
            }
        }
        self.overflow.give(StackId::OVERFLOW, &mut give);
    }

    fn entry(&self, stack: StackId) -> &Entry {
        if stack == StackId::OVERFLOW {
            return &self.overflow;
        }
        let key = if stack == StackId(0) { OF_NONE } else { stack.0 };
        let home = key.wrapping_mul(0x9e37_79b1) as usize;
        let near = (home..home + REACH).map(|at| &self.entries[at % LIVE_STACKS]);
        near.into_iter().find(|entry| entry.is_for(key)).unwrap_or(&self.overflow)
    }
}

impl Entry {
    /// Whether it is this stack's; a free one becomes so.
    fn is_for(&self, key: u32) -> bool {
        match self.stack.load(Ordering::Relaxed) {
            0 => match self.stack.compare_exchange(0, key, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => true,
                Err(now) => now == key,
            },
            stack => stack == key,
        }
    }

    fn give(&self, stack: StackId, give: &mut impl FnMut(StackId, u64, u64)) {
        let (count, amount) = (self.count.load(Ordering::Relaxed), self.amount.load(Ordering::Relaxed));
        if count != 0 || amount != 0 {
            give(stack, count, amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn all(weights: &Weights) -> BTreeMap<u32, (u64, u64)> {
        let mut all = BTreeMap::new();
        weights.each(|stack, count, amount| assert!(all.insert(stack.0, (count, amount)).is_none(), "once"));
        all
    }

    #[test]
    fn weights_of_many_threads_add_up() {
        let weights = Weights::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|round| weights.add(StackId(round % 10 * 2), 1, 5)));
            }
        });
        assert_eq!(all(&weights), (0..10).map(|stack| (stack * 2, (400, 2000))).collect());
    }

    #[test]
    fn what_finds_no_place_is_weighed_together() {
        let weights = Weights::new();
        let stacks = 2 * LIVE_STACKS as u32;
        (2..2 + stacks).for_each(|stack| weights.add(StackId(stack), 1, 3));
        let all = all(&weights);
        let totals = all.values().fold((0, 0), |sums, (count, amount)| (sums.0 + count, sums.1 + amount));
        assert_eq!(totals, (u64::from(stacks), 3 * u64::from(stacks)));
        assert!(all.len() > LIVE_STACKS / 2 && all[&StackId::OVERFLOW.0].0 > 0);
    }
}
