//! Waits on one address, split over the wakes of that address that lie inside them.
//!
//! The time up to a wake, from the wake before it or the wait's begin, is blamed on that wake; what remains after the
//! last one is the way back to the CPU and goes to the last one. A wait without a wake inside is nobody's.
//!
//! Between two wakes every wait that spans both gives the same stretch, so a sum over waits is one addition where
//! they enter and one where they leave: waits and wakes take their logarithm, not their product.

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

/// What one wake is blamed for.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Share {
    /// Waits that it ended.
    pub contentions: f64,
    /// Nanoseconds that others waited for it.
    pub delay_ns: f64,
}

impl Share {
    fn add(&mut self, contentions: f64, delay_ns: f64) {
        self.contentions += contentions;
        self.delay_ns += delay_ns;
    }
}

/// The share of each wake, in their order (ascending times), and what is nobody's.
///
/// ```
/// use kymo::analysis::split::{Stretch, split};
/// // The wait from 0 to 100 saw wakes at 90 and 95: the first holder held it for most of the time.
/// let (shares, nobody) = split(&[90, 95], &[Stretch { begin: 0, end: 100, weight: 1.0 }]);
/// assert_eq!(shares.map(|share| share.delay_ns), [90.0, 10.0]);
/// ```
pub fn split(wakes: &[Ns], waits: &[Stretch]) -> (Vec<Share>, Share) {
    let mut shares = vec![Share::default(); wakes.len()];
    let mut nobody = Share::default();
    // How many more waits span the stretch before wake k than the one before wake k - 1.
    let mut entering = vec![0.0; wakes.len() + 1];
    for wait in waits {
        let first = wakes.partition_point(|&wake| wake < wait.begin);
        let after = wakes.partition_point(|&wake| wake <= wait.end);
        if first >= after {
            nobody.add(wait.weight, wait.weight * (wait.end - wait.begin) as f64);
            continue;
        }
        let last = after - 1;
        shares[first].add(0.0, wait.weight * (wakes[first] - wait.begin) as f64);
        shares[last].add(wait.weight, wait.weight * (wait.end - wakes[last]) as f64);
        entering[first + 1] += wait.weight;
        entering[last + 1] -= wait.weight;
    }
    let mut spanning = 0.0;
    for wake in 1..wakes.len() {
        spanning += entering[wake];
        shares[wake].add(0.0, spanning * (wakes[wake] - wakes[wake - 1]) as f64);
    }
    (shares, nobody)
}

/// The wake inside a wait that is blamed for most of it; the earlier of equal ones.
pub fn main_wake(wakes: &[Ns], begin: Ns, end: Ns) -> Option<usize> {
    let first = wakes.partition_point(|&wake| wake < begin);
    let after = wakes.partition_point(|&wake| wake <= end);
    let share = |wake: usize| {
        let from = if wake == first { begin } else { wakes[wake - 1] };
        let until = if wake + 1 == after { end } else { wakes[wake] };
        until - from
    };
    (first..after).rev().max_by_key(|&wake| share(wake))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The rule, word for word: each wait walks over its own wakes.
    fn naive(wakes: &[Ns], waits: &[Stretch]) -> (Vec<Share>, Share) {
        let mut shares = vec![Share::default(); wakes.len()];
        let mut nobody = Share::default();
        for wait in waits {
            let inside: Vec<usize> =
                (0..wakes.len()).filter(|&wake| (wait.begin..=wait.end).contains(&wakes[wake])).collect();
            let mut from = wait.begin;
            for &wake in &inside {
                shares[wake].add(0.0, wait.weight * (wakes[wake] - from) as f64);
                from = wakes[wake];
            }
            let last = inside.last().map_or(&mut nobody, |&wake| &mut shares[wake]);
            last.add(wait.weight, wait.weight * (wait.end - from) as f64);
        }
        (shares, nobody)
    }

    fn waits() -> impl Strategy<Value = Vec<Stretch>> {
        let wait = (0..200u64, 0..80u64, 1..9u8).prop_map(|(begin, length, eighths)| Stretch {
            begin,
            end: begin + length,
            weight: f64::from(eighths) / 8.0,
        });
        proptest::collection::vec(wait, 0..30)
    }

    proptest! {
        #[test]
        fn the_fast_split_is_the_naive_one(mut wakes in proptest::collection::vec(0..250u64, 0..30), waits in waits()) {
            wakes.sort_unstable();
            prop_assert_eq!(split(&wakes, &waits), naive(&wakes, &waits));
        }

        #[test]
        fn all_time_waited_is_blamed_on_somebody_or_nobody(
            mut wakes in proptest::collection::vec(0..250u64, 0..30),
            waits in waits(),
        ) {
            wakes.sort_unstable();
            let (shares, nobody) = split(&wakes, &waits);
            let blamed: f64 = shares.iter().map(|share| share.delay_ns).sum();
            let waited: f64 = waits.iter().map(|wait| wait.weight * (wait.end - wait.begin) as f64).sum();
            prop_assert_eq!(blamed + nobody.delay_ns, waited);
            let ended: f64 = shares.iter().map(|share| share.contentions).sum();
            prop_assert_eq!(ended + nobody.contentions, waits.iter().map(|wait| wait.weight).sum::<f64>());
        }

        #[test]
        fn the_main_wake_has_the_largest_share(
            mut wakes in proptest::collection::vec(0..250u64, 0..30),
            begin in 0..200u64,
            length in 0..80u64,
        ) {
            wakes.sort_unstable();
            let end = begin + length;
            let (shares, _) = split(&wakes, &[Stretch { begin, end, weight: 1.0 }]);
            let most = shares.iter().map(|share| share.delay_ns).fold(0.0, f64::max);
            match main_wake(&wakes, begin, end) {
                Some(wake) => prop_assert_eq!(shares[wake].delay_ns, most),
                None => prop_assert!(shares.iter().all(|share| share.contentions == 0.0)),
            }
        }
    }
}
