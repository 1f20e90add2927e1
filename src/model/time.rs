//! Ticks to nanoseconds, fast: one multiplication by the rate of the current stretch between two syncs, where
//! [`Timebase::nanos`] searches and divides. Both agree to the nanosecond, but for two things that only a reader of
//! events can know:
//! * ticks that come in order never get times that run backwards;
//! * a stretch in which the counter ran on while CLOCK_MONOTONIC stood still (the machine slept) is not squeezed: its
//!   beginning runs at the usual rate from the sync before, its end up to the sync after.

use crate::clock::{Sync, Timebase};

/// Binary digits of a rate after its point: below one nanosecond of error in a day.
const RATE_BITS: u32 = 48;

/// A straight line: `at_ns` at `at_ticks`, valid from the tick `from` until the next line.
#[derive(Debug, Clone, Copy)]
struct Line {
    from: u64,
    at_ticks: u64,
    at_ns: u64,
    rate: u64,
}

impl Line {
    #[inline]
    fn nanos(&self, ticks: u64) -> u64 {
        let scaled = |ticks: u64| {
            let nanos = (u128::from(ticks) * u128::from(self.rate)) >> RATE_BITS;
            u64::try_from(nanos).unwrap_or(u64::MAX)
        };
        match ticks.checked_sub(self.at_ticks) {
            Some(after) => self.at_ns.saturating_add(scaled(after)),
            None => self.at_ns.saturating_sub(scaled(self.at_ticks - ticks)),
        }
    }
}

/// A time in which the machine slept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sleep {
    /// CLOCK_MONOTONIC of the sync before.
    pub(super) after_ns: u64,
    /// How long the counter ran on, in seconds of its usual rate.
    pub(super) seconds: f64,
}

/// Converts ticks that come in ascending order (others too, but slower).
#[derive(Debug, Clone)]
pub(super) struct Clock {
    lines: Vec<Line>,
    current: usize,
    latest_ns: u64,
    /// When the machine slept.
    pub(super) sleeps: Vec<Sleep>,
}

impl Clock {
    pub(super) fn new(timebase: &Timebase) -> Clock {
        let syncs = timebase.syncs();
        let usual = usual_rate(syncs);
        let mut clock = Clock { lines: Vec::new(), current: 0, latest_ns: 0, sleeps: Vec::new() };
        for pair in syncs.windows(2) {
            clock.add(pair[0], pair[1], usual);
        }
        if clock.lines.is_empty() {
            let (at_ticks, at_ns) = syncs.first().map_or((0, 0), |sync| (sync.ticks, sync.monotonic_ns));
            clock.lines.push(Line { from: 0, at_ticks, at_ns, rate: 1 << RATE_BITS });
        }
        clock.lines[0].from = 0;
        clock
    }

    /// Adds the stretch between two syncs.
    fn add(&mut self, a: Sync, b: Sync, usual: u64) {
        let rate = rate(a, b);
        // A tenth off: far more than any two oscillators differ, far less than a sleep of a second.
        if rate >= usual - usual / 10 {
            self.lines.push(Line { from: a.ticks, at_ticks: a.ticks, at_ns: a.monotonic_ns, rate });
            return;
        }
        let before = Line { from: a.ticks, at_ticks: a.ticks, at_ns: a.monotonic_ns, rate: usual };
        let awake_ticks =
            (u128::from(b.monotonic_ns - a.monotonic_ns) << RATE_BITS) / u128::from(usual.max(1));
        // Awake ticks are fewer than `b.ticks - a.ticks`, since the stretch's own rate is below the usual one.
        let from = a.ticks + awake_ticks as u64;
        self.lines.push(before);
        self.lines.push(Line { from, at_ticks: b.ticks, at_ns: b.monotonic_ns, rate: usual });
        let slept_ns = before.nanos(b.ticks).saturating_sub(b.monotonic_ns);
        self.sleeps.push(Sleep { after_ns: a.monotonic_ns, seconds: slept_ns as f64 / 1e9 });
    }

    /// CLOCK_MONOTONIC nanoseconds at `ticks`; not before the time of the ticks asked for last.
    #[inline]
    pub(super) fn ascending_nanos(&mut self, ticks: u64) -> u64 {
        if self.lines.get(self.current + 1).is_some_and(|next| ticks >= next.from) {
            self.current = self.line(ticks);
        }
        self.latest_ns = self.latest_ns.max(self.lines[self.current].nanos(ticks));
        self.latest_ns
    }

    /// CLOCK_MONOTONIC nanoseconds at any tick.
    pub(super) fn nanos(&self, ticks: u64) -> u64 {
        self.lines[self.line(ticks)].nanos(ticks)
    }

    fn line(&self, ticks: u64) -> usize {
        self.lines.partition_point(|line| line.from <= ticks).saturating_sub(1)
    }
}

fn rate(a: Sync, b: Sync) -> u64 {
    // A timebase's syncs ascend, so there is no division by 0.
    let rate = (u128::from(b.monotonic_ns - a.monotonic_ns) << RATE_BITS) / u128::from(b.ticks - a.ticks);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// The median of the stretches' rates; with fewer than three there is nobody to outvote an odd one.
fn usual_rate(syncs: &[Sync]) -> u64 {
    let mut rates: Vec<u64> = syncs.windows(2).map(|pair| rate(pair[0], pair[1])).collect();
    rates.sort_unstable();
    if rates.len() < 3 { rates.first().copied().unwrap_or_default() } else { rates[rates.len() / 2] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ticks: u64, monotonic_ns: u64) -> Sync {
        Sync { ticks, monotonic_ns, realtime_ns: 0 }
    }

    proptest! {
        #[test]
        fn agrees_with_the_timebase_to_a_nanosecond(
            steps in prop::collection::vec((2_000_000_000..3_000_000_000_u64, 990_000_000..1_010_000_000_u64), 0..6),
            asked in prop::collection::vec(0..20_000_000_000_u64, 1..50),
        ) {
            let (mut ticks, mut ns) = (5_000_000_000, 1_000_000_000);
            let mut syncs = vec![at(ticks, ns)];
            for (run, rise) in steps {
                (ticks, ns) = (ticks + run, ns + rise);
                syncs.push(at(ticks, ns));
            }
            // A step of odd length may look like a sleep to `Clock` but not to `Timebase`: keep the rates near.
            let slow = Timebase::new(syncs);
            let mut asked = asked;
            asked.sort_unstable();
            let mut fast = Clock::new(&slow);
            prop_assume!(fast.sleeps.is_empty());
            for ticks in asked {
                prop_assert!(fast.nanos(ticks).abs_diff(slow.nanos(ticks)) <= 1, "{ticks}");
                prop_assert!(fast.ascending_nanos(ticks).abs_diff(slow.nanos(ticks)) <= 1, "{ticks}");
            }
        }

        #[test]
        fn any_syncs_and_ticks_are_converted_in_order(pairs: Vec<(u64, u64)>, asked: Vec<u64>) {
            let syncs = pairs.into_iter().map(|(ticks, ns)| at(ticks, ns)).collect();
            let mut clock = Clock::new(&Timebase::new(syncs));
            let mut asked = asked;
            asked.sort_unstable();
            let times: Vec<_> = asked.iter().map(|&ticks| clock.ascending_nanos(ticks)).collect();
            prop_assert!(times.is_sorted());
        }
    }

    #[test]
    fn a_sleep_of_an_hour_does_not_squeeze_what_lies_beside_it() {
        let second = 1_000_000_000;
        let hour = 3_600 * second;
        // The counter runs at one tick a nanosecond; from 2.5 s on the machine sleeps for an hour.
        let mut syncs: Vec<_> = (0..=2).map(|n| at(n * second, n * second)).collect();
        syncs.extend((3..=6).map(|n| at(hour + n * second, n * second)));
        let mut clock = Clock::new(&Timebase::new(syncs));
        assert_eq!(clock.ascending_nanos(2_400_000_000), 2_400_000_000);
        assert_eq!(clock.ascending_nanos(hour + 2_600_000_000), 2_600_000_000);
        assert_eq!(clock.ascending_nanos(hour + 4 * second), 4 * second);
        assert_eq!(clock.sleeps, [Sleep { after_ns: 2 * second, seconds: 3_600.0 }]);
    }

    #[test]
    fn without_syncs_a_tick_is_a_nanosecond() {
        assert_eq!(Clock::new(&Timebase::default()).ascending_nanos(17), 17);
        assert_eq!(Clock::new(&Timebase::new(vec![at(10, 100)])).ascending_nanos(17), 107);
    }
}
