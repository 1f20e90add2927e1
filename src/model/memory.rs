//! What a trace says of memory: sampled allocations and frees, counters over time, and the heap at the capture's end.
//!
//! Samples are unbiased: each says for how many bytes it stands, so sums of weights estimate what was allocated. The
//! counters are exact. What lives is told once, at the end, by stack.

use super::timeline::Builder;
use super::{Ns, PollIndex, ThreadIndex};
use crate::events::{Addr, AllocSample, Bytes, Event, FreeSample, StackId};

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
    /// What the program mapped, unmapped and gave back by itself, by time.
    pub mappings: Vec<Mapping>,
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
    /// Page faults so far that needed no disk.
    pub minor_faults: u64,
    /// Page faults so far that waited for a disk.
    pub major_faults: u64,
}

/// The program changed what it has mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    /// When.
    pub at: Ns,
    /// Who did.
    pub thread: ThreadIndex,
    /// What it did.
    pub change: MappingChange,
    /// The first byte.
    pub addr: u64,
    /// Bytes.
    pub length: u64,
    /// Where in the program; only of what was mapped.
    pub stack: StackId,
}

/// What the program did with a stretch of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MappingChange {
    /// Mapped it.
    Mapped,
    /// Unmapped it.
    Unmapped,
    /// Gave its memory back to the system.
    Released,
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
    /// Takes what is of no thread: counters and totals.
    #[cold]
    pub(super) fn told(&mut self, at: Ns, event: &Event) {
        match *event {
            Event::HeapCounters(counters) => self.heap.push(HeapReading {
                at,
                live_bytes: counters.live_bytes.0,
                live_objects: counters.live_objects.0,
                allocated_bytes: counters.allocated_bytes.0,
                freed_bytes: counters.freed_bytes.0,
            }),
            Event::ProcessMemory(memory) => self.process.push(ProcessReading {
                at,
                resident_bytes: memory.resident_bytes.0,
                mapped_bytes: memory.mapped_bytes.0,
                minor_faults: memory.minor_faults.0,
                major_faults: memory.major_faults.0,
            }),
            Event::LiveHeap(live) => self.stacks.push(StackTotal {
                stack: live.stack,
                allocated_objects: live.allocated_objects.0,
                allocated_bytes: live.allocated_bytes.0,
                live_objects: live.live_objects.0,
                live_bytes: live.live_bytes.0,
            }),
            Event::HeapSampling(told) => {
                let (mean_bytes, samples) = (told.mean_bytes.0, told.samples.0);
                self.sampling = Some(Sampling { mean_bytes, samples, overflowed: told.overflowed.0 });
            }
            _ => {}
        }
    }
}

impl Builder {
    /// Takes what a thread did to memory. Any other kind is counted, and not understood.
    pub(super) fn memory_event(&mut self, thread: ThreadIndex, at: Ns, event: Event) {
        let in_poll = self.poll_of(thread);
        let memory = &mut self.trace.memory;
        let mut mapping = |change, addr: Addr, length: Bytes, stack| {
            let (addr, length) = (addr.0, length.0);
            memory.mappings.push(Mapping { at, thread, change, addr, length, stack });
        };
        match event {
            Event::AllocSample(AllocSample { addr, size, weight, stack }) => {
                let (addr, size, weight) = (addr.0, size.0, weight.0);
                memory.allocations.push(Allocation { at, thread, in_poll, addr, size, weight, stack });
            }
            Event::FreeSample(FreeSample { addr, stack, size, weight, allocated_at }) => {
                let (addr, size, weight) = (addr.0, size.0, weight.0);
                memory.frees.push(Free { at, thread, in_poll, addr, size, weight, stack, allocated_at });
            }
            Event::MemoryMap(map) => mapping(MappingChange::Mapped, map.addr, map.length, map.stack),
            Event::MemoryUnmap(unmap) => {
                mapping(MappingChange::Unmapped, unmap.addr, unmap.length, StackId(0));
            }
            Event::MemoryRelease(release) => {
                mapping(MappingChange::Released, release.addr, release.length, StackId(0));
            }
            _ => {}
        }
    }
}
