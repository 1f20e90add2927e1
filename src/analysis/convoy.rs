//! Locks that are handed from waiter to waiter, where only the hand-overs are seen, not the lock.
//!
//! parking_lot parks each thread on an address of its own, and an async lock wakes tasks: neither shows which lock it
//! was. But whoever ended a wait by waking held the lock since it went on after its own wait, and before that it was
//! whoever woke that one. So a wait is split backwards along this chain, until it leads to somebody who held the lock
//! from before the wait, or who had not waited for it. Between a wake and the moment when the woken one goes on, the
//! lock is nobody's.
//!
//! A holder that meanwhile waited for another lock of the kind is taken to have waited for this one, unless something
//! tells the two apart (see [`queues`](super::queues)): from here they look the same.

use std::collections::HashMap;
use std::hash::Hash;

use super::queues::Queues;
use crate::model::Ns;

/// One wait, and the wake that ended it; `K` names the waiters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link<K> {
    /// Its number in the [`Queues`].
    pub number: u32,
    /// When it began.
    pub begin: Ns,
    /// When it ended, at the wake or later.
    pub end: Ns,
    /// When the waiter went on: from then on it held the lock. Not before the end.
    pub on: Ns,
    /// The wake, if it was seen.
    pub woken: Option<Woken<K>>,
}

/// A wake that ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Woken<K> {
    /// When: inside the wait.
    pub at: Ns,
    /// Who woke, if it may itself have waited.
    pub by: Option<K>,
    /// The caller's number for the wake.
    pub wake: u32,
}

/// Whose a stretch of a wait is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    /// Of whoever called this wake.
    Holder(u32),
    /// Nobody's: the woken one was not yet running.
    HandingOver,
    /// Not explained: the wake was not seen.
    Unexplained,
}

/// Everybody's waits.
#[derive(Debug, Clone)]
pub struct Convoy<K> {
    /// By waiter, ascending.
    waits: HashMap<K, Vec<Link<K>>>,
    queues: Queues,
}

impl<K: Hash + Eq + Copy> Convoy<K> {
    /// From the waits of everybody, each waiter's in the order in which they ended.
    pub fn new(waits: impl Iterator<Item = (K, Link<K>)>, queues: Queues) -> Convoy<K> {
        let mut by_waiter: HashMap<K, Vec<Link<K>>> = HashMap::new();
        for (waiter, wait) in waits {
            by_waiter.entry(waiter).or_default().push(wait);
        }
        Convoy { waits: by_waiter, queues }
    }

    /// Calls `blame` for each stretch of a wait, from its end to its begin: whose it is, and its length.
    pub fn split(&self, wait: &Link<K>, mut blame: impl FnMut(Whose, Ns)) {
        let (mut until, mut woken) = (wait.end, wait.woken);
        while let Some(woke) = woken {
            let at = woke.at.clamp(wait.begin, until);
            blame(Whose::HandingOver, until - at);
            let Some(before) = self.came_from(&woke, wait, at) else {
                return blame(Whose::Holder(woke.wake), at - wait.begin);
            };
            blame(Whose::Holder(woke.wake), at - before.on);
            (until, woken) = (before.on, before.woken);
        }
        blame(Whose::Unexplained, until - wait.begin);
    }

    /// The latest wait for the same lock from which somebody came who then woke another one; `None` if it did not end
    /// between that one's begin and `until`.
    fn came_from(&self, woke: &Woken<K>, wait: &Link<K>, until: Ns) -> Option<&Link<K>> {
        let waits = self.waits.get(&woke.by?)?;
        let ended = waits.partition_point(|before| before.on <= woke.at);
        let inside = waits[..ended].iter().rev().take_while(|before| wait.begin < before.on);
        let mut same = inside.filter(|before| self.queues.may_be_one(before.number, wait.number));
        same.next().filter(|before| before.on < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn link(begin: Ns, at: Ns, by: u32) -> Link<u32> {
        Link { number: 0, begin, end: at, on: at, woken: Some(Woken { at, by: Some(by), wake: at as u32 }) }
    }

    /// The stretches of a wait that are longer than nothing.
    fn stretches(waits: &[(u32, Link<u32>)], of: usize) -> Vec<(Whose, Ns)> {
        let mut stretches = Vec::new();
        let convoy = Convoy::new(waits.iter().copied(), Queues::default());
        convoy.split(&waits[of].1, |whose, length| stretches.push((whose, length)));
        stretches.retain(|(_, length)| *length > 0);
        stretches
    }

    #[test]
    fn each_holder_answers_for_the_time_since_it_went_on() {
        // 9 holds from before; 1, 2 and 3 queue up and get the lock one after the other.
        let waits = [(1, link(10, 50, 9)), (2, link(11, 52, 1)), (3, link(12, 55, 2))];
        let expected = [(Whose::Holder(55), 3), (Whose::Holder(52), 2), (Whose::Holder(50), 38)];
        assert_eq!(stretches(&waits, 2), expected);
        assert_eq!(stretches(&waits, 0), [(Whose::Holder(50), 40)]);
    }

    #[test]
    fn until_the_next_holder_goes_on_nobody_answers() {
        let slow = Link { on: 58, ..link(10, 50, 9) };
        let waits = [(1, slow), (2, Link { end: 63, on: 63, ..link(11, 60, 1) })];
        let expected = [
            (Whose::HandingOver, 3),
            (Whose::Holder(60), 2),
            (Whose::HandingOver, 8),
            (Whose::Holder(50), 39),
        ];
        assert_eq!(stretches(&waits, 1), expected);
    }

    #[test]
    fn what_a_holder_waited_for_before_the_wait_does_not_count() {
        let waits = [(1, link(0, 5, 9)), (2, link(10, 50, 1))];
        assert_eq!(stretches(&waits, 1), [(Whose::Holder(50), 40)]);
    }

    #[test]
    fn a_wake_that_was_not_seen_leaves_the_rest_unexplained() {
        let waits = [(1, Link { woken: None, ..link(10, 50, 9) }), (2, link(11, 60, 1))];
        assert_eq!(stretches(&waits, 0), [(Whose::Unexplained, 40)]);
        assert_eq!(stretches(&waits, 1), [(Whose::Holder(60), 10), (Whose::Unexplained, 39)]);
    }

    proptest! {
        #[test]
        fn the_stretches_of_a_wait_make_up_the_whole(
            raw in proptest::collection::vec((0..5u32, 0..100u64, 0..40u64, 0..9u64, 0..5u32), 1..40),
        ) {
            let wait = |(who, begin, length, late, by)| {
                let woken: Link<u32> = link(begin, begin + length, by);
                (who, Link { end: woken.end + late, on: woken.end + late, ..woken })
            };
            let mut waits: Vec<_> = raw.into_iter().map(wait).collect();
            waits.sort_by_key(|(_, wait)| wait.on);
            for of in 0..waits.len() {
                let sum: Ns = stretches(&waits, of).iter().map(|(_, length)| length).sum();
                prop_assert_eq!(sum, waits[of].1.end - waits[of].1.begin);
            }
        }
    }
}
