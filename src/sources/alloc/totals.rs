//! What was allocated and what lives, by stack, unbiased: what the heap profile shows.
//!
//! A fixed table, as `record::live::Weights`, but with both pairs of numbers in one entry, so that they can't part. A
//! stack stays where it was first put; when its neighbourhood is full, its numbers go to one entry for all such stacks.
//! Adding is lock-free and allocates nothing, and works before anything else of kymo does.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::live::Sample;
use super::sampler::ONE;
use crate::events::StackId;
use crate::limits::LIVE_STACKS;

/// Places beside each other that a stack may be in.
const REACH: usize = 64;

/// The stack of none is kept as one that no table gives.
const OF_NONE: u32 = u32::MAX;

/// Numbers of a stack. Objects are kept as samples' scales are.
#[derive(Debug)]
struct Entry {
    /// 0: free.
    stack: AtomicU32,
    allocated_objects: AtomicU64,
    allocated_bytes: AtomicU64,
    live_objects: AtomicU64,
    live_bytes: AtomicU64,
}

impl Entry {
    const fn new() -> Entry {
        Entry {
            stack: AtomicU32::new(0),
            allocated_objects: AtomicU64::new(0),
            allocated_bytes: AtomicU64::new(0),
            live_objects: AtomicU64::new(0),
            live_bytes: AtomicU64::new(0),
        }
    }

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

    fn total(&self, stack: StackId) -> Total {
        let rounded = |objects: &AtomicU64| (objects.load(Ordering::Relaxed) + ONE / 2) / ONE;
        Total {
            stack,
            allocated_objects: rounded(&self.allocated_objects),
            allocated_bytes: self.allocated_bytes.load(Ordering::Relaxed),
            live_objects: rounded(&self.live_objects),
            live_bytes: self.live_bytes.load(Ordering::Relaxed),
        }
    }
}

static ENTRIES: [Entry; LIVE_STACKS] = [const { Entry::new() }; LIVE_STACKS];
static OVERFLOW: Entry = Entry::new();

/// What a stack has allocated, and what of it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Total {
    pub(super) stack: StackId,
    pub(super) allocated_objects: u64,
    pub(super) allocated_bytes: u64,
    pub(super) live_objects: u64,
    pub(super) live_bytes: u64,
}

/// Adds an allocation.
pub(super) fn allocated(sample: &Sample) {
    let entry = entry(sample.stack);
    entry.allocated_objects.fetch_add(sample.scale, Ordering::Relaxed);
    entry.allocated_bytes.fetch_add(sample.weight(), Ordering::Relaxed);
}

/// Adds one that lives.
pub(super) fn lives(sample: &Sample) {
    let entry = entry(sample.stack);
    entry.live_objects.fetch_add(sample.scale, Ordering::Relaxed);
    entry.live_bytes.fetch_add(sample.weight(), Ordering::Relaxed);
}

/// Takes one off that lived.
pub(super) fn ended(sample: &Sample) {
    let entry = entry(sample.stack);
    entry.live_objects.fetch_sub(sample.scale, Ordering::Relaxed);
    entry.live_bytes.fetch_sub(sample.weight(), Ordering::Relaxed);
}

/// Every stack's numbers; [`StackId::OVERFLOW`] is all that found no place.
pub(super) fn all() -> impl Iterator<Item = Total> {
    let kept = ENTRIES.iter().filter_map(|entry| match entry.stack.load(Ordering::Relaxed) {
        0 => None,
        OF_NONE => Some(entry.total(StackId(0))),
        stack => Some(entry.total(StackId(stack))),
    });
    kept.chain([OVERFLOW.total(StackId::OVERFLOW)]).filter(|total| total.allocated_bytes > 0)
}

fn entry(stack: StackId) -> &'static Entry {
    if stack == StackId::OVERFLOW {
        return &OVERFLOW;
    }
    let key = if stack == StackId(0) { OF_NONE } else { stack.0 };
    let home = key.wrapping_mul(0x9e37_79b1) as usize;
    let mut near = (home..home + REACH).map(|at| &ENTRIES[at % LIVE_STACKS]);
    near.find(|entry| entry.is_for(key)).unwrap_or(&OVERFLOW)
}
