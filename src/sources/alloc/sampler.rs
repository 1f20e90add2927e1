//! Which allocations are looked at, and how many others each stands for.
//!
//! Samples are a Poisson process over allocated bytes, Go's rule: after each one the distance to the next is drawn from
//! an exponential distribution, so an allocation of S bytes is picked with probability p = 1 - exp(-S / mean), whatever
//! came before it; then it stands for 1/p allocations and S/p bytes, and every sum of those is unbiased.
//!
//! A reallocation is an allocation of the new size and a free of the old one. One that was sampled stays so when it
//! grows, and when it shrinks from p to q it does with probability q/p; one that was not is picked by the bytes that
//! came to it. So at any time each is sampled with the probability that belongs to its size now.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::live::{self, Sample};
use super::{counts, told, totals};
use crate::events::{Addr, AllocSample, Bytes, FreeSample, Group, StackId};
use crate::record;

/// The mean distance between two samples; 0: none are taken.
static RATE: AtomicU64 = AtomicU64::new(DEFAULT_RATE);

/// Go's default.
const DEFAULT_RATE: u64 = 512 * 1024;

/// A forked child takes no samples: its tables may hold what a thread of the parent had half done.
static FORKED: AtomicBool = AtomicBool::new(false);

/// Bytes after which a thread that takes no samples asks again whether it should.
const WHEN_OFF: u64 = 1 << 40;

/// What one allocation is in a sample's `scale`.
pub(super) const ONE: u64 = 1024;

thread_local! {
    /// Whether this thread takes a sample: what that allocates is not sampled.
    static SAMPLING: Cell<bool> = const { Cell::new(false) };
}

/// Sets how many bytes are allocated, in the mean, between two that the heap profile looks at: Go's `MemProfileRate`.
/// 0 switches it off, 1 looks at every allocation. Profiles are unbiased for allocations made at one rate: set it
/// early, and once.
pub fn set_mem_profile_rate(bytes: u64) {
    RATE.store(bytes, Ordering::SeqCst);
    counts::used().for_each(|line| line.sample_at.store(0, Ordering::SeqCst));
}

/// The mean distance between two samples in bytes: 524288 unless it was set.
pub fn mem_profile_rate() -> u64 {
    match FORKED.load(Ordering::Relaxed) {
        true => 0,
        false => RATE.load(Ordering::Relaxed),
    }
}

/// No samples from now on: for a forked child.
pub(super) extern "C" fn switch_off() {
    FORKED.store(true, Ordering::SeqCst);
}

/// An allocation with which a sample may be due; `new` of its bytes count for that.
#[cold]
#[inline(never)]
pub(super) fn due(place: *mut u8, size: usize, new: usize) {
    if is_picked(new as u64) {
        take_sample(place, size);
    }
}

/// A sampled allocation is freed, or one that looks like it.
#[cold]
#[inline(never)]
pub(super) fn freed(place: *mut u8) {
    if let Some(sample) = live::take(place) {
        ended(place, &sample);
    }
}

/// A reallocation of one that was sampled, or with which a sample may be due; `[old, new]` are its sizes.
#[cold]
#[inline(never)]
pub(super) fn reallocated(
    old_place: *mut u8,
    place: *mut u8,
    [old, new]: [usize; 2],
    sample: Option<Sample>,
    is_due: bool,
) {
    let picked = match &sample {
        Some(sample) => {
            ended(old_place, sample);
            new >= old || random() < scale(old as u64) as f64 / scale(new as u64) as f64
        }
        None => is_due && is_picked((new - old) as u64),
    };
    if picked {
        take_sample(place, new);
    }
}

/// Whether the latest `new` bytes of this thread are sampled; draws the next distance.
fn is_picked(new: u64) -> bool {
    let rate = mem_profile_rate();
    let Ok(line) = counts::own() else {
        // Without a line no distance is kept: each allocation draws by itself, which comes to the same.
        return rate > 0 && random() < 1.0 / scale_at(new, rate);
    };
    let bytes = line.allocated();
    let mut next = line.sample_at.load(Ordering::Relaxed);
    if next == 0 {
        next = bytes - new + distance(rate);
    }
    let picked = rate > 0 && bytes >= next;
    if bytes >= next {
        next = bytes + distance(rate);
    }
    line.sample_at.store(next, Ordering::SeqCst);
    if mem_profile_rate() != rate {
        // It was set meanwhile: the distance is drawn anew.
        line.sample_at.store(0, Ordering::SeqCst);
    }
    picked
}

fn distance(rate: u64) -> u64 {
    match rate {
        0 => WHEN_OFF,
        1 => 1,
        // Random numbers below one: the logarithm is of one above zero.
        rate => 1 + (-(1.0 - random()).ln() * rate as f64) as u64,
    }
}

/// For how many of its size a sampled allocation stands, in [`ONE`]s.
fn scale(size: u64) -> u64 {
    (scale_at(size, mem_profile_rate()) * ONE as f64).round() as u64
}

fn scale_at(size: u64, rate: u64) -> f64 {
    match rate <= 1 {
        true => 1.0,
        false => -1.0 / (-(size.max(1) as f64) / rate as f64).exp_m1(),
    }
}

/// A random number from 0 up to, not including, 1.
fn random() -> f64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let (Ok(line) | Err(line)) = counts::own();
    if line.random.load(Ordering::Relaxed) == 0 {
        let seed = crate::clock::ticks() ^ std::ptr::from_ref(line).addr() as u64;
        line.random.store(seed, Ordering::Relaxed);
    }
    // SplitMix64: one addition, then the sum's bits are stirred.
    let mut bits = line.random.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (bits ^ bits >> 31) as f64 / 2_f64.powi(64)
}

/// Looks at an allocation: where it was made, and for how much it stands.
fn take_sample(place: *mut u8, size: usize) {
    if SAMPLING.replace(true) {
        return;
    }
    if !record::is_muted() {
        let (stack, scale, size) = (record::stack(), scale(size as u64), size as u64);
        let sample = Sample { size, scale, stack };
        totals::allocated(&sample);
        keep(place, sample);
        if record::enabled(Group::Memory) {
            let (addr, weight) = (Addr(place.addr() as u64), Bytes(sample.weight()));
            record::emit(AllocSample { addr, size: Bytes(size), weight, stack });
            told::tell_step(weight.0 as i64);
        }
    }
    SAMPLING.set(false);
}

fn keep(place: *mut u8, sample: Sample) {
    // Before it can be found: a free may come from another thread at once.
    totals::lives(&sample);
    if !live::put(place, sample) {
        totals::ended(&sample);
    }
}

/// A sampled allocation is there no longer.
fn ended(place: *mut u8, sample: &Sample) {
    totals::ended(sample);
    if record::enabled(Group::Memory) && !SAMPLING.replace(true) {
        let stack = if record::is_muted() { StackId(0) } else { record::stack() };
        let (size, weight) = (Bytes(sample.size), Bytes(sample.weight()));
        let addr = Addr(place.addr() as u64);
        record::emit(FreeSample { addr, stack, size, weight, allocated_at: sample.stack });
        told::tell_step(-(weight.0 as i64));
        SAMPLING.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An address that nobody has.
    fn nowhere() -> *mut u8 {
        std::ptr::without_provenance_mut(1 << 62)
    }

    #[test]
    fn what_is_allocated_while_a_sample_is_taken_is_not_sampled() {
        set_mem_profile_rate(1);
        SAMPLING.set(true);
        due(nowhere(), 8, 8);
        SAMPLING.set(false);
        assert_eq!(live::take(nowhere()), None);
        due(nowhere(), 8, 8);
        assert_eq!(live::take(nowhere()).map(|sample| (sample.size, sample.weight())), Some((8, 8)));
    }

    #[test]
    fn a_sample_stands_for_as_many_as_were_not_picked() {
        assert_eq!(scale_at(100, 1), 1.0);
        // An allocation of the mean's size is picked with probability 1 - 1/e.
        let mean = scale_at(512 * 1024, 512 * 1024);
        assert!((mean - 1.0 / (1.0 - (-1.0_f64).exp())).abs() < 1e-9, "{mean}");
        assert!((scale_at(1, 512 * 1024) / (512.0 * 1024.0) - 1.0).abs() < 1e-5);
        assert!((scale_at(1 << 40, 512 * 1024) - 1.0).abs() < 1e-9);
        assert!(scale_at(0, 512 * 1024).is_finite());
    }
}
