//! Which waits may be for the same lock, where the lock does not show: of tasks, and of threads in parking_lot.
//!
//! Their stacks show a line, not a lock. But whoever is let on by a release has waited for what was released: so a
//! wake connects the line that waits with the line that releases, and lines that are connected are a family: one lock,
//! or several that the same code works on. And tokio's locks are fair, and parking_lot's mutex is to those that sleep:
//! of one lock, whoever queues first goes on first. Where somebody queued later and went on earlier, the two waited for
//! different locks; and if they are of two families, these are of different locks altogether.
//!
//! What nothing tells apart is taken for one lock.

use std::collections::{HashMap, HashSet};

use crate::limits::LOCK_FAMILIES;
use crate::model::Ns;
use crate::model::machinery::LockKind;

/// A task or a thread that waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queued {
    /// For what.
    pub waiting: LockKind,
    /// The line that waits, whatever tells it.
    pub waits_at: u64,
    /// The line that let it on, if that was a release of a fair lock.
    pub released_at: Option<u64>,
    /// It had not queued before: its poll's begin.
    pub after: Ns,
    /// It had queued by then: its poll's end.
    pub by: Ns,
    /// When it was let on.
    pub granted: Ns,
}

impl Queued {
    /// Whether they are for locks of two kinds. A wait for a condition ends with a mutex.
    fn is_of_another_kind(&self, other: &Queued) -> bool {
        self.waiting.is_lock() && other.waiting.is_lock() && self.waiting != other.waiting
    }

    /// Whether it had queued before another one, and was let on after that.
    fn was_overtaken_by(&self, other: &Queued) -> bool {
        self.by < other.after && other.granted < self.granted
    }
}

/// Waits by families. The default knows none, and tells nothing apart.
#[derive(Debug, Clone, Default)]
pub struct Queues {
    waits: Vec<Queued>,
    /// The family of each wait.
    families: Vec<u32>,
    /// Families of different locks, the smaller number first.
    apart: HashSet<(u32, u32)>,
}

impl Queues {
    /// From everybody's waits.
    pub fn new(waits: Vec<Queued>) -> Queues {
        let families = families(&waits);
        let apart = apart(&waits, &families);
        Queues { waits, families, apart }
    }

    /// Whether two waits, by their numbers, may be for the same lock.
    pub fn may_be_one(&self, a: u32, b: u32) -> bool {
        let known = |wait: u32| Some((self.waits.get(wait as usize)?, *self.families.get(wait as usize)?));
        let (Some((a, of_a)), Some((b, of_b))) = (known(a), known(b)) else { return true };
        let fair = a.released_at.is_some() && b.released_at.is_some();
        let overtaken = fair && (a.was_overtaken_by(b) || b.was_overtaken_by(a));
        !overtaken && !a.is_of_another_kind(b) && !self.apart.contains(&(of_a.min(of_b), of_a.max(of_b)))
    }
}

/// The family of each wait, numbered from 0.
fn families(waits: &[Queued]) -> Vec<u32> {
    let mut lines = Lines::default();
    for wait in waits {
        let waits_at = lines.line((false, wait.waits_at));
        if let Some(released_at) = wait.released_at {
            let released_at = lines.line((true, released_at));
            lines.connect(waits_at, released_at);
        }
    }
    let mut numbers: HashMap<u32, u32> = HashMap::new();
    let family = |wait: &Queued| {
        let line = lines.line((false, wait.waits_at));
        let (root, next) = (lines.root(line), numbers.len() as u32);
        *numbers.entry(root).or_insert(next)
    };
    waits.iter().map(family).collect()
}

/// Lines that wait (`false`) or release (`true`), and which of them are connected.
#[derive(Default)]
struct Lines {
    numbers: HashMap<(bool, u64), u32>,
    parents: Vec<u32>,
}

impl Lines {
    fn line(&mut self, line: (bool, u64)) -> u32 {
        let next = self.parents.len() as u32;
        let number = *self.numbers.entry(line).or_insert(next);
        if number == next {
            self.parents.push(next);
        }
        number
    }

    fn root(&mut self, line: u32) -> u32 {
        let parent = self.parents[line as usize];
        if parent == line {
            return line;
        }
        // Halves the way for whoever comes next.
        self.parents[line as usize] = self.parents[parent as usize];
        self.root(parent)
    }

    fn connect(&mut self, a: u32, b: u32) {
        let (a, b) = (self.root(a), self.root(b));
        self.parents[a as usize] = b;
    }
}

/// Pairs of families of which somebody overtook somebody. One pass over the waits for each family.
fn apart(waits: &[Queued], families: &[u32]) -> HashSet<(u32, u32)> {
    let count = families.iter().max().map_or(0, |&last| last as usize + 1);
    let mut apart = HashSet::new();
    if !(2..=LOCK_FAMILIES).contains(&count) {
        return apart;
    }
    let fair = |wait: &usize| waits[*wait].released_at.is_some();
    let mut queued: Vec<usize> = (0..waits.len()).filter(fair).collect();
    let mut coming = queued.clone();
    queued.sort_by_key(|&wait| waits[wait].by);
    coming.sort_by_key(|&wait| waits[wait].after);
    let mut queued = queued.into_iter().peekable();
    // Of those who have queued, by family, when the last one was let on.
    let mut last_granted: Vec<Ns> = vec![0; count];
    for wait in coming {
        while let Some(before) = queued.next_if(|&before| waits[before].by < waits[wait].after) {
            let last = &mut last_granted[families[before] as usize];
            *last = (*last).max(waits[before].granted);
        }
        let own = families[wait];
        let overtaken = (0..).zip(&last_granted).filter(|&(_, &granted)| waits[wait].granted < granted);
        apart.extend(
            overtaken.filter(|&(other, _)| other != own).map(|(other, _)| (other.min(own), other.max(own))),
        );
    }
    apart
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits at a line, is let on by another; queues at once.
    fn wait(waits_at: u64, released_at: u64, by: Ns, granted: Ns) -> Queued {
        Queued {
            waiting: LockKind::Mutex,
            waits_at,
            released_at: Some(released_at),
            after: by - 1,
            by,
            granted,
        }
    }

    #[test]
    fn lines_of_one_lock_are_connected_by_wakes() {
        // 1 and 2 wait, 11 and 12 release: 11 lets on both, 12 the second.
        let queues = Queues::new(vec![
            wait(1, 11, 10, 20),
            wait(2, 11, 30, 40),
            wait(2, 12, 50, 60),
            wait(3, 13, 70, 80),
        ]);
        assert_eq!(queues.families, [0, 0, 0, 1]);
        assert!(queues.may_be_one(0, 2) && queues.may_be_one(0, 3), "nothing tells them apart");
    }

    #[test]
    fn who_overtakes_waits_for_another_lock_and_so_do_all_of_its_lines() {
        // While the first waits at 1, another comes to wait at 2 and goes on.
        let queues = Queues::new(vec![wait(1, 11, 10, 100), wait(2, 12, 50, 60), wait(2, 12, 150, 160)]);
        assert!(!queues.may_be_one(0, 1) && !queues.may_be_one(0, 2));
        assert!(queues.may_be_one(1, 2));
    }

    #[test]
    fn code_that_works_on_many_locks_is_one_family_of_which_pairs_are_told_apart() {
        let queues = Queues::new(vec![wait(1, 11, 10, 100), wait(1, 11, 50, 60), wait(1, 11, 150, 160)]);
        assert_eq!(queues.families, [0, 0, 0]);
        assert!(!queues.may_be_one(0, 1) && queues.may_be_one(0, 2) && queues.may_be_one(1, 2));
    }

    #[test]
    fn a_poll_that_may_have_queued_before_does_not_overtake() {
        let late = Queued { after: 5, ..wait(2, 12, 50, 60) };
        assert!(Queues::new(vec![wait(1, 11, 10, 100), late]).may_be_one(0, 1));
        let unfair = Queued { released_at: None, ..wait(2, 12, 50, 60) };
        assert!(Queues::new(vec![wait(1, 11, 10, 100), unfair]).may_be_one(0, 1));
    }
}
