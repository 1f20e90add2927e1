//! The block and mutex profiles of the process so far: what `/debug/pprof/block` and `mutex` answer without a trace.
//!
//! Two tables of weights by stack, Go's two profiles. `block`: where threads waited; a wait as long as the rate or
//! longer is always weighed, a shorter one with probability duration / rate and then for all like it. `mutex`: where
//! locks were let go that others waited for; the waker answers for the time that its waiters have waited since the wake
//! before (see [`waiters`](super::waiters)). Whether a stack is of a lock is told by whoever reads it, as in a trace.
//!
//! Off until somebody sets a rate or serves the profiles. A weighed wait costs its stack, some 150 ns.
//!
//! Does not see tasks that await: those are in traces.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::waiters::{Place, Waiters};
use crate::clock;
use crate::events::{Count, LiveContention, LiveProfile, Nanos, StackId};
use crate::limits::{BLOCK_PROFILE_NS, MUTEX_PROFILE_FRACTION};
use crate::record;
use crate::record::live::Weights;
use crate::record::switches::Collector;

/// Nobody has set it.
const UNSET: u64 = u64::MAX;

/// Nanoseconds of waiting for each weighed wait; 0 is off.
static BLOCK_RATE: AtomicU64 = AtomicU64::new(UNSET);

/// Wakes for each weighed wake; 0 is off.
static MUTEX_FRACTION: AtomicU64 = AtomicU64::new(UNSET);

/// Both tables, made when the first rate is set, never unmade.
static TABLES: OnceLock<Tables> = OnceLock::new();

static WAITERS: Waiters = Waiters::new();

struct Tables {
    block: Weights,
    mutex: Weights,
}

/// Weighs an average of one wait for each `nanoseconds` that threads spend waiting for locks, channels and each other,
/// for the `block` profile: 1 is every wait, 0 is off. Go's `SetBlockProfileRate`.
///
/// Off until it is set; [`serve`](crate::serve) and [`router`](crate::router) set it to
/// [`BLOCK_PROFILE_NS`](crate::limits::BLOCK_PROFILE_NS) if nobody has set it before.
///
/// ```
/// kymo::set_block_profile_rate(1);
/// ```
pub fn set_block_profile_rate(nanoseconds: u64) {
    BLOCK_RATE.store(nanoseconds.min(UNSET - 1), Ordering::Relaxed);
    turn();
}

/// Weighs one of `fraction` wakes that end waits for a lock, for the `mutex` profile: 1 is every wake, 0 is off. Go's
/// `SetMutexProfileFraction`.
///
/// Off until it is set; [`serve`](crate::serve) and [`router`](crate::router) set it to
/// [`MUTEX_PROFILE_FRACTION`](crate::limits::MUTEX_PROFILE_FRACTION) if nobody has set it before.
///
/// ```
/// kymo::set_mutex_profile_fraction(1);
/// ```
pub fn set_mutex_profile_fraction(fraction: u32) {
    MUTEX_FRACTION.store(fraction.into(), Ordering::Relaxed);
    turn();
}

/// Somebody serves the profiles: what nobody has set is on.
#[cfg_attr(not(feature = "http"), allow(dead_code, reason = "nobody serves"))]
pub(crate) fn serve() {
    let unset = |rate: &AtomicU64, default| {
        let _already_set = rate.compare_exchange(UNSET, default, Ordering::Relaxed, Ordering::Relaxed);
    };
    unset(&BLOCK_RATE, BLOCK_PROFILE_NS);
    unset(&MUTEX_FRACTION, MUTEX_PROFILE_FRACTION.into());
    turn();
}

/// Turns the hooks on or off, as the rates want it.
fn turn() {
    let (block, mutex) = (rate(&BLOCK_RATE), rate(&MUTEX_FRACTION));
    let on = block != 0 || mutex != 0;
    if on && let Err(error) = record::prepare() {
        crate::status::set("contention", format!("off: {error}"));
        return;
    }
    if on && TABLES.get().is_none() {
        let _made_by_another = TABLES.set(Tables { block: Weights::new(), mutex: Weights::new() });
        record::switches::on_end(tell);
    }
    record::weigh_waits(on);
    crate::status::set("contention", state(block, mutex));
}

fn state(block: u64, mutex: u64) -> String {
    let part = |name, rate: u64, text: String| match rate {
        0 => format!("{name} off"),
        _ => text,
    };
    let block = part("block", block, format!("block: one wait for each {block} ns"));
    let mutex = part("mutex", mutex, format!("mutex: one wake in {mutex}"));
    match WAITERS.crowded() {
        0 => format!("{block}, {mutex}"),
        crowded => format!("{block}, {mutex} without {crowded} waits, for too many wait at once"),
    }
}

/// A rate as it holds: 0 while nobody has set it.
fn rate(rate: &AtomicU64) -> u64 {
    let rate = rate.load(Ordering::Relaxed);
    if rate == UNSET { 0 } else { rate }
}

/// This thread begins to wait at an address.
pub(super) fn wait_begins(addr: usize, begin: u64) -> Option<Place> {
    (rate(&MUTEX_FRACTION) != 0 && !record::is_muted()).then(|| WAITERS.enter(addr, begin)).flatten()
}

/// It has waited from one moment to another; `woken` says whether somebody ended that. `stack` is where, none if
/// nobody has looked yet.
pub(super) fn wait_ends(
    place: Option<Place>,
    addr: usize,
    (begin, end): (u64, u64),
    woken: bool,
    stack: StackId,
) {
    if let Some(place) = place {
        WAITERS.leave(place);
        if woken {
            WAITERS.went_on(addr, end);
        }
    }
    let (rate, nanos) = (rate(&BLOCK_RATE), clock::nanos_between(begin, end));
    let (Some(tables), true) = (TABLES.get(), rate != 0 && !record::is_muted()) else { return };
    if let Some(count) = weighed(nanos, rate, random(end)) {
        let stack = if stack == StackId(0) { record::stack() } else { stack };
        tables.block.add(stack, count, nanos.max(rate));
    }
}

/// For how many waits one of `nanos` stands, if it is weighed. On average one for each, whatever its length.
fn weighed(nanos: u64, rate: u64, random: u64) -> Option<u64> {
    if nanos >= rate {
        return Some(1);
    }
    if random % rate >= nanos {
        return None;
    }
    // rate / nanos, rounded up as often as its fraction says.
    let (whole, fraction) = (rate / nanos, rate % nanos);
    Some(whole + u64::from((random >> 32) % nanos < fraction))
}

/// What a wake that is about to happen at an address takes from those who wait there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Ending {
    waiters: u64,
    nanos: u64,
}

/// This thread is about to wake some who wait at an address. Asked before it does: the woken may go on at once.
pub(super) fn wake_begins(addr: usize, at: u64) -> Ending {
    if rate(&MUTEX_FRACTION) == 0 || record::is_muted() {
        return Ending::default();
    }
    let waited = WAITERS.wake(addr, at);
    Ending { waiters: waited.waiters, nanos: clock::nanos_between(0, waited.ticks) }
}

/// It has woken up to `woken` of them. `stack` is where, none if nobody has looked yet.
pub(super) fn woke(ending: Ending, at: u64, woken: u64, stack: StackId) {
    let fraction = rate(&MUTEX_FRACTION);
    let (Some(tables), true) = (TABLES.get(), fraction != 0 && ending.waiters != 0) else { return };
    if random(at).is_multiple_of(fraction) {
        let stack = if stack == StackId(0) { record::stack() } else { stack };
        tables.mutex.add(stack, woken.min(ending.waiters) * fraction, ending.nanos * fraction);
    }
}

/// A number that differs from moment to moment: its ticks, mixed.
fn random(ticks: u64) -> u64 {
    let mut mixed = ticks.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    mixed ^ (mixed >> 29)
}

/// Tells a capture that ends what the tables hold.
fn tell(collector: &mut Collector<'_>) {
    let Some(tables) = TABLES.get() else { return };
    if WAITERS.crowded() != 0 {
        crate::status::set("contention", state(rate(&BLOCK_RATE), rate(&MUTEX_FRACTION)));
    }
    let now = collector.now();
    for (profile, table) in [(LiveProfile::Block, &tables.block), (LiveProfile::Mutex, &tables.mutex)] {
        table.each(|stack, contentions, delay| {
            let (contentions, delay) = (Count(contentions), Nanos(delay));
            collector.emit(0, now, LiveContention { profile, stack, contentions, delay });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_that_are_weighed_stand_for_all() {
        let rate = 20_000;
        for nanos in [1, 7, 300, 6_667, 13_000, 19_999] {
            let rounds = 400_000;
            let (mut count, mut delay) = (0, 0);
            for round in 0..rounds {
                if let Some(weight) = weighed(nanos, rate, random(round * 35 + 11)) {
                    (count, delay) = (count + weight, delay + rate);
                }
            }
            let (counted, delayed) = (count as f64 / rounds as f64, delay as f64 / (rounds * nanos) as f64);
            // A wait of a nanosecond is weighed once in 20 000 times: 20 of 400 000.
            let within = 4.0 / (rounds as f64 * nanos as f64 / rate as f64).sqrt() + 0.01;
            assert!(
                (counted - 1.0).abs() < within && (delayed - 1.0).abs() < within,
                "{nanos}: {counted} {delayed}"
            );
        }
        assert_eq!(weighed(20_000, rate, 5), Some(1));
        assert_eq!(weighed(0, 1, 5), None, "a wait of no time");
    }
}
