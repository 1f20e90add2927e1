//! What a trace says of memory: sampled allocations and frees, counters over time, and the heap at the capture's end.
//!
//! Samples are unbiased: each says for how many bytes it stands, so sums of weights estimate what was allocated. The
//! counters are exact. What lives is told once, at the end, by stack.

use super::timeline::Builder;
use super::{Ns, PollIndex, ThreadIndex};
use crate::events::{AllocSample, FreeSample, HeapCounters, HeapSampling, LiveHeap, ProcessMemory, StackId};

/// Everything that a trace says of memory.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// Sampled allocations by time.
    pub allocations: Vec<Allocation>,
    /// Frees of sampled allocations by time.
    pub frees: Vec<Free>,
    /// The allocator's counters by time.
    pub heap: Vec<HeapReading>,
    /// The kernel's by time.
    pub process: Vec<ProcessReading>,
    /// What each stack has allocated since the process began, and what of it lived at the capture's end.
    pub stacks: Vec<StackTotal>,
    /// How allocations were sampled; none if they were not.
    pub sampling: Option<Sampling>,
}

/// A sampled allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocation {
    /// When.
    pub at: Ns,
    /// Who allocated.
    pub thread: ThreadIndex,
    /// The poll in which it did.
    pub in_poll: Option<PollIndex>,
    /// Where it lies.
    pub addr: u64,
    /// Its bytes.
    pub size: u64,
    /// The allocated bytes that it stands for.
    pub weight: u64,
    /// Where in the program.
    pub stack: StackId,
}

/// A sampled allocation was freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Free {
    /// When.
    pub at: Ns,
    /// Who freed it.
    pub thread: ThreadIndex,
    /// The poll in which it did.
    pub in_poll: Option<PollIndex>,
    /// Where it lay.
    pub addr: u64,
    /// Its bytes.
    pub size: u64,
    /// The allocated bytes that it stood for.
    pub weight: u64,
    /// Where it was freed.
    pub stack: StackId,
    /// Where it had been allocated.
    pub allocated_at: StackId,
}

/// The allocator's counters at a moment: bytes as the program asked for them, since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeapReading {
    /// When.
    pub at: Ns,
    /// Bytes that live.
    pub live_bytes: u64,
    /// Allocations that live.
    pub live_objects: u64,
    /// Bytes ever allocated.
    pub allocated_bytes: u64,
    /// Bytes ever freed.
    pub freed_bytes: u64,
}

/// The process's memory as the kernel counted it at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProcessReading {
    /// When.
    pub at: Ns,
    /// Bytes in memory.
    pub resident_bytes: u64,
    /// Bytes of address space.
    pub mapped_bytes: u64,
}

/// What a stack has allocated since the process began, estimated from samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StackTotal {
    /// Where; [`StackId::OVERFLOW`]: all that found no place.
    pub stack: StackId,
    /// Allocations.
    pub allocated_objects: u64,
    /// Their bytes.
    pub allocated_bytes: u64,
    /// Allocations that lived at the capture's end.
    pub live_objects: u64,
    /// Their bytes.
    pub live_bytes: u64,
}

/// How allocations were sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sampling {
    /// Bytes between two samples, in the mean.
    pub mean_bytes: u64,
    /// Sampled allocations that lived at the capture's end.
    pub samples: u64,
    /// Sampled allocations that were not kept, since there was no room: what is said to live is a lower bound.
    pub overflowed: u64,
}

impl Memory {
    pub(super) fn told_heap(&mut self, live: LiveHeap) {
        self.stacks.push(StackTotal {
            stack: live.stack,
            allocated_objects: live.allocated_objects.0,
            allocated_bytes: live.allocated_bytes.0,
            live_objects: live.live_objects.0,
            live_bytes: live.live_bytes.0,
        });
    }

    pub(super) fn told_sampling(&mut self, told: HeapSampling) {
        let (mean_bytes, samples) = (told.mean_bytes.0, told.samples.0);
        self.sampling = Some(Sampling { mean_bytes, samples, overflowed: told.overflowed.0 });
    }

    pub(super) fn heap_counted(&mut self, at: Ns, counters: HeapCounters) {
        self.heap.push(HeapReading {
            at,
            live_bytes: counters.live_bytes.0,
            live_objects: counters.live_objects.0,
            allocated_bytes: counters.allocated_bytes.0,
            freed_bytes: counters.freed_bytes.0,
        });
    }

    pub(super) fn process_counted(&mut self, at: Ns, memory: ProcessMemory) {
        let (resident_bytes, mapped_bytes) = (memory.resident_bytes.0, memory.mapped_bytes.0);
        self.process.push(ProcessReading { at, resident_bytes, mapped_bytes });
    }
}

impl Builder {
    pub(super) fn allocated(&mut self, thread: ThreadIndex, at: Ns, sample: AllocSample) {
        let AllocSample { addr, size, weight, stack } = sample;
        let (in_poll, addr, size, weight) = (self.poll_of(thread), addr.0, size.0, weight.0);
        self.trace.memory.allocations.push(Allocation { at, thread, in_poll, addr, size, weight, stack });
    }

    pub(super) fn freed(&mut self, thread: ThreadIndex, at: Ns, sample: FreeSample) {
        let FreeSample { addr, stack, size, weight, allocated_at } = sample;
        let (in_poll, addr, size, weight) = (self.poll_of(thread), addr.0, size.0, weight.0);
        let free = Free { at, thread, in_poll, addr, size, weight, stack, allocated_at };
        self.trace.memory.frees.push(free);
    }
}
