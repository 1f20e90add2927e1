//! Locks that are handed from waiter to waiter, where only the hand-overs are seen, not the lock.
//!
//! parking_lot parks each thread on an address of its own, and an async lock wakes tasks: neither shows which lock it
//! was. But whoever ended a wait by waking held the lock since its own wait ended, and before that it was whoever
//! woke that one. So a wait is split backwards along this chain, until it leads to somebody who held the lock from
//! before the wait, or who had not waited for it.
//!
//! A holder that meanwhile waited for another lock of the kind is taken to have waited for this one: from here the two
//! look the same.

use std::collections::HashMap;
use std::hash::Hash;

use crate::model::Ns;

/// One wait, and the wake that ended it; `K` names the waiters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link<K> {
    /// When it began.
    pub begin: Ns,
    /// When it ended, at the wake or later.
    pub end: Ns,
    /// The wake, if it was seen.
    pub woken: Option<Woken<K>>,
}

/// A wake that ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Woken<K> {
    /// When.
    pub at: Ns,
    /// Who woke, if it may itself have waited.
    pub by: Option<K>,
    /// The caller's number for the wake.
    pub wake: u32,
}

/// Everybody's waits.
#[derive(Debug, Clone)]
pub struct Convoy<K> {
    /// By waiter, ascending.
    waits: HashMap<K, Vec<Link<K>>>,
}

impl<K: Hash + Eq + Copy> Convoy<K> {
    /// From the waits of everybody, each waiter's in the order in which they ended.
    pub fn new(waits: impl Iterator<Item = (K, Link<K>)>) -> Convoy<K> {
        let mut by_waiter: HashMap<K, Vec<Link<K>>> = HashMap::new();
        for (waiter, wait) in waits {
            by_waiter.entry(waiter).or_default().push(wait);
        }
        Convoy { waits: by_waiter }
    }

    /// Calls `blame` for each stretch of a wait, from its end to its begin: the wake that it is blamed on, and its
    /// length.
    pub fn split(&self, wait: &Link<K>, mut blame: impl FnMut(Option<u32>, Ns)) {
        let mut until = wait.end;
        let mut woken = wait.woken;
        while let Some(woke) = woken {
            let Some((before, held_since)) = self.came_from(&woke, wait.begin, until) else { break };
            blame(Some(woke.wake), until - held_since);
            until = held_since;
            woken = before.woken;
        }
        blame(woken.map(|woken| woken.wake), until - wait.begin);
    }

    /// The wait from which somebody came who then woke another one, and since when it held the lock; `None` if that is
    /// not after `begin` and before `until`.
    fn came_from(&self, woke: &Woken<K>, begin: Ns, until: Ns) -> Option<(&Link<K>, Ns)> {
        let waits = self.waits.get(&woke.by?)?;
        let ended = waits.partition_point(|wait| wait.end <= woke.at);
        let before = waits[..ended].last()?;
        let held_since = before.woken.map_or(before.end, |woken| woken.at);
        (begin < held_since && held_since < until).then_some((before, held_since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn link(begin: Ns, at: Ns, by: u32) -> Link<u32> {
        Link { begin, end: at, woken: Some(Woken { at, by: Some(by), wake: at as u32 }) }
    }

    fn stretches(waits: &[(u32, Link<u32>)], of: usize) -> Vec<(Option<u32>, Ns)> {
        let mut stretches = Vec::new();
        let convoy = Convoy::new(waits.iter().copied());
        convoy.split(&waits[of].1, |wake, length| stretches.push((wake, length)));
        stretches
    }

    #[test]
    fn each_holder_answers_for_the_time_since_it_was_woken() {
        // 9 holds from before; 1, 2 and 3 queue up and get the lock one after the other.
        let waits = [(1, link(10, 50, 9)), (2, link(11, 52, 1)), (3, link(12, 55, 2))];
        assert_eq!(stretches(&waits, 2), [(Some(55), 3), (Some(52), 2), (Some(50), 38)]);
        assert_eq!(stretches(&waits, 0), [(Some(50), 40)]);
    }

    #[test]
    fn what_a_holder_waited_for_before_the_wait_does_not_count() {
        let waits = [(1, link(0, 5, 9)), (2, link(10, 50, 1))];
        assert_eq!(stretches(&waits, 1), [(Some(50), 40)]);
    }

    proptest! {
        #[test]
        fn the_stretches_of_a_wait_make_up_the_whole(raw in proptest::collection::vec((0..5u32, 0..100u64, 0..40u64, 0..5u32), 1..40)) {
            let mut waits: Vec<_> =
                raw.into_iter().map(|(who, begin, length, by)| (who, link(begin, begin + length, by))).collect();
            waits.sort_by_key(|(_, wait)| wait.end);
            for of in 0..waits.len() {
                let sum: Ns = stretches(&waits, of).iter().map(|(_, length)| length).sum();
                prop_assert_eq!(sum, waits[of].1.end - waits[of].1.begin);
            }
        }
    }
}
