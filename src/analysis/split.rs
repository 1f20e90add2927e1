//! Waits on one address, split over the turns of those who held the lock and woke somebody when they let go.
//!
//! A turn ends with its wake and begins when its holder went on: after the wake before it at the earliest, and later
//! if the holder was itself woken and had to wait for its CPU. Inside a wait, each turn is blamed for its own length;
//! between turns, and after the last one, the lock was free and the woken one not yet running: that is nobody's. A
//! wait without a wake inside is not explained.
//!
//! Every wait that spans a whole turn gives it the same, so a sum over waits is one addition where they enter and one
//! where they leave: waits and turns take their logarithm, not their product.

use crate::model::Ns;

/// A wait: from when to when, and how many it stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stretch {
    /// Its begin.
    pub begin: Ns,
    /// Its end, not before the begin.
    pub end: Ns,
    /// How many waits it stands for.
    pub weight: f64,
}

/// Somebody held the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// From when on: not before the turn before it ended.
    pub since: Ns,
    /// When it woke somebody. Turns ascend by this.
    pub until: Ns,
}

impl Turn {
    /// How long it held the lock while somebody waited from `begin` on.
    fn after(self, begin: Ns) -> Ns {
        self.until - self.since.max(begin)
    }
}

/// Waits and the time that they took.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Share {
    /// How many waits.
    pub contentions: f64,
    /// How long, nanoseconds.
    pub delay_ns: f64,
}

/// Where the time of waits went.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Split {
    /// The share of each turn, in their order: the time that others waited for it, and the waits that it ended.
    pub turns: Vec<Share>,
    /// The lock was free, and the one that had been woken not yet running.
    pub handing_over_ns: f64,
    /// Waits without a wake inside.
    pub unexplained: Share,
}

/// The first and the last turn that end inside a wait.
fn inside(turns: &[Turn], begin: Ns, end: Ns) -> Option<(usize, usize)> {
    let first = turns.partition_point(|turn| turn.until < begin);
    let after = turns.partition_point(|turn| turn.until <= end);
    (first < after).then(|| (first, after - 1))
}

/// Splits waits over turns.
///
/// ```
/// use kymo::analysis::split::{Stretch, Turn, split};
/// // The wait from 0 to 100 saw wakes at 90 and 95: the first holder held the lock for most of the time.
/// let turns = [Turn { since: 0, until: 90 }, Turn { since: 92, until: 95 }];
/// let split = split(&turns, &[Stretch { begin: 0, end: 100, weight: 1.0 }]);
/// assert_eq!((split.turns[0].delay_ns, split.turns[1].delay_ns), (90.0, 3.0));
/// assert_eq!(split.handing_over_ns, 7.0);
/// ```
pub fn split(turns: &[Turn], waits: &[Stretch]) -> Split {
    let mut split = Split { turns: vec![Share::default(); turns.len()], ..Split::default() };
    // How many more waits span turn k wholly than turn k - 1; and what all waits took.
    let mut entering = vec![0.0; turns.len() + 1];
    let mut waited = 0.0;
    for wait in waits {
        let whole = wait.weight * (wait.end - wait.begin) as f64;
        let Some((first, last)) = inside(turns, wait.begin, wait.end) else {
            split.unexplained.contentions += wait.weight;
            split.unexplained.delay_ns += whole;
            continue;
        };
        waited += whole;
        split.turns[last].contentions += wait.weight;
        split.turns[first].delay_ns += wait.weight * turns[first].after(wait.begin) as f64;
        entering[first + 1] += wait.weight;
        entering[last + 1] -= wait.weight;
    }
    let (mut spanning, mut held) = (0.0, 0.0);
    for ((turn, share), entering) in turns.iter().zip(&mut split.turns).zip(&entering) {
        spanning += entering;
        share.delay_ns += spanning * (turn.until - turn.since) as f64;
        held += share.delay_ns;
    }
    split.handing_over_ns = waited - held;
    split
}

/// The turn that is blamed for most of a wait; the earlier of equal ones.
pub fn main_turn(turns: &[Turn], begin: Ns, end: Ns) -> Option<usize> {
    let (first, last) = inside(turns, begin, end)?;
    (first..=last).rev().max_by_key(|&turn| turns[turn].after(begin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The rule, word for word: each moment of each wait looks for who held the lock then.
    fn naive(turns: &[Turn], waits: &[Stretch]) -> Split {
        let mut split = Split { turns: vec![Share::default(); turns.len()], ..Split::default() };
        for wait in waits {
            let inside = |turn: &usize| (wait.begin..=wait.end).contains(&turns[*turn].until);
            let inside: Vec<usize> = (0..turns.len()).filter(inside).collect();
            for moment in wait.begin..wait.end {
                let holds = |turn: &&usize| (turns[**turn].since..turns[**turn].until).contains(&moment);
                let share = match inside.iter().find(holds) {
                    Some(&turn) => &mut split.turns[turn].delay_ns,
                    None if inside.is_empty() => &mut split.unexplained.delay_ns,
                    None => &mut split.handing_over_ns,
                };
                *share += wait.weight;
            }
            let ended = inside.last().map_or(&mut split.unexplained, |&turn| &mut split.turns[turn]);
            ended.contentions += wait.weight;
        }
        split
    }

    fn waits() -> impl Strategy<Value = Vec<Stretch>> {
        let wait = (0..200u64, 0..80u64, 1..9u8).prop_map(|(begin, length, eighths)| Stretch {
            begin,
            end: begin + length,
            weight: f64::from(eighths) / 8.0,
        });
        proptest::collection::vec(wait, 0..30)
    }

    /// Turns one after the other, each with or without a pause before it.
    fn turns() -> impl Strategy<Value = Vec<Turn>> {
        proptest::collection::vec((0..10u64, 0..10u64), 0..30).prop_map(|lengths| {
            let mut at = 0;
            let turn = |(pause, length)| {
                let since = at + pause;
                at = since + length;
                Turn { since, until: at }
            };
            lengths.into_iter().map(turn).collect()
        })
    }

    proptest! {
        #[test]
        fn the_fast_split_is_the_naive_one(turns in turns(), waits in waits()) {
            prop_assert_eq!(split(&turns, &waits), naive(&turns, &waits));
        }

        #[test]
        fn all_time_waited_is_blamed_or_said_to_be_nobodys(turns in turns(), waits in waits()) {
            let split = split(&turns, &waits);
            let blamed: f64 = split.turns.iter().map(|share| share.delay_ns).sum();
            let waited: f64 = waits.iter().map(|wait| wait.weight * (wait.end - wait.begin) as f64).sum();
            prop_assert_eq!(blamed + split.handing_over_ns + split.unexplained.delay_ns, waited);
            let ended: f64 = split.turns.iter().map(|share| share.contentions).sum();
            prop_assert_eq!(ended + split.unexplained.contentions, waits.iter().map(|wait| wait.weight).sum::<f64>());
        }

        #[test]
        fn the_main_turn_has_the_largest_share(turns in turns(), begin in 0..200u64, length in 0..80u64) {
            let end = begin + length;
            let shares = split(&turns, &[Stretch { begin, end, weight: 1.0 }]).turns;
            let most = shares.iter().map(|share| share.delay_ns).fold(0.0, f64::max);
            match main_turn(&turns, begin, end) {
                Some(turn) => prop_assert_eq!(shares[turn].delay_ns, most),
                None => prop_assert!(shares.iter().all(|share| share.contentions == 0.0)),
            }
        }
    }
}
