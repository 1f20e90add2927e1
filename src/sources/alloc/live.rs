//! The sampled allocations that live, by address.
//!
//! A fixed table: an address may stand in any of [`REACH`] places from its own on; its size, weight and stack stand
//! beside it. In front of it a counter for each 64 bytes of the address space (many share one) says how many sampled
//! allocations there may be, so that a free of any other costs the load of one byte, near that of its neighbours.
//!
//! Lock-free: an address belongs to one thread from the moment that the allocator returns it until it takes it back,
//! so its entry is written by one thread at a time; only places are contended for. When there is none, the sample is
//! not kept, which is counted: what is said to live is then less than what does.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use crate::events::StackId;
use crate::limits::{LIVE_FILTER, LIVE_SAMPLES};

/// Places beside each other that an address may be in: two cache lines of addresses.
const REACH: usize = 16;

/// An entry that is being written.
const CLAIMED: u64 = 1;

/// What is known of a sampled allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    /// Its bytes.
    pub(super) size: u64,
    /// For how many of its size it stands, in [`super::sampler::ONE`]s.
    pub(super) scale: u64,
    /// Where it was made.
    pub(super) stack: StackId,
}

impl Sample {
    /// The allocated bytes that it stands for.
    pub(super) fn weight(&self) -> u64 {
        let bytes = u128::from(self.size) * u128::from(self.scale) / u128::from(super::sampler::ONE);
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

#[derive(Debug)]
struct Entry {
    size: AtomicU64,
    scale: AtomicU64,
    stack: AtomicU32,
}

impl Entry {
    const fn new() -> Entry {
        Entry { size: AtomicU64::new(0), scale: AtomicU64::new(0), stack: AtomicU32::new(0) }
    }
}

static FILTER: [AtomicU8; LIVE_FILTER] = [const { AtomicU8::new(0) }; LIVE_FILTER];
static ADDRESSES: [AtomicU64; LIVE_SAMPLES] = [const { AtomicU64::new(0) }; LIVE_SAMPLES];
static ENTRIES: [Entry; LIVE_SAMPLES] = [const { Entry::new() }; LIVE_SAMPLES];
static OVERFLOWED: AtomicU64 = AtomicU64::new(0);

/// Whether a sampled allocation may be at this address.
#[inline(always)]
pub(super) fn may_hold(place: *mut u8) -> bool {
    counter(place).load(Ordering::Relaxed) != 0
}

/// Keeps a sample. False if there is no place for it.
pub(super) fn put(place: *mut u8, sample: Sample) -> bool {
    let claim = |index: &usize| {
        let claimed = ADDRESSES[*index].compare_exchange(0, CLAIMED, Ordering::Acquire, Ordering::Relaxed);
        claimed.is_ok()
    };
    let Some(index) = places(place).find(claim) else {
        OVERFLOWED.fetch_add(1, Ordering::Relaxed);
        return false;
    };
    let entry = &ENTRIES[index];
    entry.size.store(sample.size, Ordering::Relaxed);
    entry.scale.store(sample.scale, Ordering::Relaxed);
    entry.stack.store(sample.stack.0, Ordering::Relaxed);
    count(place, |count| count + 1);
    ADDRESSES[index].store(place.addr() as u64, Ordering::Release);
    true
}

/// Keeps a sample again whose allocation stayed where it was after all.
#[cold]
pub(super) fn put_back(place: *mut u8, sample: Sample) {
    if !put(place, sample) {
        super::totals::ended(&sample);
    }
}

/// Forgets the sample at an address, if there is one.
#[cold]
pub(super) fn take(place: *mut u8) -> Option<Sample> {
    let address = place.addr() as u64;
    let index = places(place).find(|&index| ADDRESSES[index].load(Ordering::Acquire) == address)?;
    let entry = &ENTRIES[index];
    let sample = Sample {
        size: entry.size.load(Ordering::Relaxed),
        scale: entry.scale.load(Ordering::Relaxed),
        stack: StackId(entry.stack.load(Ordering::Relaxed)),
    };
    ADDRESSES[index].store(0, Ordering::Release);
    count(place, |count| count - 1);
    Some(sample)
}

/// Samples that found no place.
pub(super) fn overflowed() -> u64 {
    OVERFLOWED.load(Ordering::Relaxed)
}

/// Sampled allocations that live.
pub(super) fn len() -> usize {
    ADDRESSES.iter().filter(|address| address.load(Ordering::Relaxed) > CLAIMED).count()
}

fn counter(place: *mut u8) -> &'static AtomicU8 {
    &FILTER[(place.addr() >> 6) % LIVE_FILTER]
}

/// A counter that has reached its end stays there: then frees near it look into the table for nothing.
fn count(place: *mut u8, step: fn(u8) -> u8) {
    let next = |count: u8| (count != u8::MAX).then(|| step(count));
    // Refused by a full counter only.
    let _ = counter(place).fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
}

fn places(place: *mut u8) -> impl Iterator<Item = usize> {
    // The lowest bits are those of the alignment.
    let home = ((place.addr() as u64 >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize;
    (home..home + REACH).map(|index| index % LIVE_SAMPLES)
}
