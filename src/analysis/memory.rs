//! Memory over time, and the moments that a program with a garbage collector would know by its name: the heap doubled
//! or halved, memory went back to the system, page faults came in a burst.
//!
//! The heap is what the program has asked for, exactly, where `kymo::Alloc` counts; the resident memory is the kernel's.
//! Both are readings at moments: between two of them nothing is known.

use std::fmt;

use serde::Serialize;

use crate::model::memory::{HeapReading, MappingChange, Memory, ProcessReading};
use crate::model::{Ns, Trace};

/// Less than this is never a moment.
const LEAST_BYTES: u64 = 1 << 20;

/// A burst has this many page faults a second at least, which is a few percent of a CPU's time …
const BURST_FAULTS_PER_SECOND: u64 = 50_000;

/// … and this many in all.
const BURST_FAULTS: u64 = 1000;

/// Memory in a trace. The names of the fields are keys of `kymo stat --json`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct MemoryUse {
    /// Bytes that live, by the allocator's counters.
    pub heap: Option<Course>,
    /// Bytes allocated during the trace.
    pub allocated_bytes: u64,
    /// Bytes freed during the trace.
    pub freed_bytes: u64,
    /// Bytes of the process that are in memory.
    pub resident: Option<Course>,
    /// Bytes of its address space.
    pub mapped: Option<Course>,
    /// Bytes that the program gave back to the system by itself: unmapped, or released.
    pub given_back_bytes: u64,
    /// Page faults that needed no disk.
    pub minor_faults: u64,
    /// Page faults that waited for a disk.
    pub major_faults: u64,
    /// What happened, by time.
    pub moments: Vec<Moment>,
}

/// How a number of bytes went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Course {
    /// At the first reading.
    pub first: u64,
    /// At the last one.
    pub last: u64,
    /// The least.
    pub least: u64,
    /// The most.
    pub most: u64,
    /// When it was the most.
    pub most_at_ns: Ns,
}

/// Something happened to the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// When it began.
    pub begin_ns: Ns,
    /// When it was over.
    pub end_ns: Ns,
    /// What.
    pub what: Happened,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Happened {
    /// The heap is twice what it was.
    HeapDoubled {
        /// Bytes before.
        from: u64,
        /// Bytes then.
        to: u64,
    },
    /// The heap is half of what it was.
    HeapHalved {
        /// Bytes before.
        from: u64,
        /// Bytes then.
        to: u64,
    },
    /// The process has less in memory.
    Returned {
        /// So many bytes.
        bytes: u64,
    },
    /// Page faults came faster than is free.
    FaultBurst {
        /// So many.
        faults: u64,
    },
}

/// What a trace says of memory.
pub fn memory(trace: &Trace) -> MemoryUse {
    let Memory { heap, process, mappings, .. } = &trace.memory;
    let during = |first: Option<u64>, last: Option<u64>| last.unwrap_or(0).saturating_sub(first.unwrap_or(0));
    let of_heap = |field: fn(&HeapReading) -> u64| during(heap.first().map(field), heap.last().map(field));
    let of_process =
        |field: fn(&ProcessReading) -> u64| during(process.first().map(field), process.last().map(field));
    let given_back = mappings.iter().filter(|mapping| mapping.change != MappingChange::Mapped);
    let mut moments = heap_moments(heap);
    moments.extend(returns(process));
    moments.extend(fault_bursts(process));
    moments.sort_by_key(|moment| moment.begin_ns);
    MemoryUse {
        heap: course(heap.iter().map(|reading| (reading.at, reading.live_bytes))),
        allocated_bytes: of_heap(|reading| reading.allocated_bytes),
        freed_bytes: of_heap(|reading| reading.freed_bytes),
        resident: course(process.iter().map(|reading| (reading.at, reading.resident_bytes))),
        mapped: course(process.iter().map(|reading| (reading.at, reading.mapped_bytes))),
        given_back_bytes: given_back.map(|mapping| mapping.length).sum(),
        minor_faults: of_process(|reading| reading.minor_faults),
        major_faults: of_process(|reading| reading.major_faults),
        moments,
    }
}

fn course(mut readings: impl Iterator<Item = (Ns, u64)>) -> Option<Course> {
    let (at, first) = readings.next()?;
    let begin = Course { first, last: first, least: first, most: first, most_at_ns: at };
    Some(readings.fold(begin, |course, (at, bytes)| {
        let (most, most_at_ns) = match bytes > course.most {
            true => (bytes, at),
            false => (course.most, course.most_at_ns),
        };
        Course { last: bytes, least: course.least.min(bytes), most, most_at_ns, ..course }
    }))
}

/// Doublings and halvings, each against the heap at the one before.
fn heap_moments(heap: &[HeapReading]) -> Vec<Moment> {
    let Some(first) = heap.first() else { return Vec::new() };
    let (mut mark, mut moments) = (first, Vec::new());
    for reading in heap {
        let (from, to) = (mark.live_bytes, reading.live_bytes);
        let what = match from.abs_diff(to) >= LEAST_BYTES {
            true if to >= 2 * from => Happened::HeapDoubled { from, to },
            true if to <= from / 2 => Happened::HeapHalved { from, to },
            _ => continue,
        };
        moments.push(Moment { begin_ns: mark.at, end_ns: reading.at, what });
        mark = reading;
    }
    moments
}

/// Stretches in which the resident memory shrank from reading to reading.
fn returns(process: &[ProcessReading]) -> Vec<Moment> {
    let shrinks = |a: &ProcessReading, b: &ProcessReading| b.resident_bytes < a.resident_bytes;
    let returned = |run: &[ProcessReading]| {
        let (first, last) = (run.first()?, run.last()?);
        let bytes = first.resident_bytes - last.resident_bytes;
        let what = Happened::Returned { bytes };
        (bytes >= LEAST_BYTES).then_some(Moment { begin_ns: first.at, end_ns: last.at, what })
    };
    process.chunk_by(shrinks).filter_map(returned).collect()
}

/// Stretches with many page faults in each step from reading to reading.
fn fault_bursts(process: &[ProcessReading]) -> Vec<Moment> {
    let faults = |reading: &ProcessReading| reading.minor_faults + reading.major_faults;
    let is_fast = |a: &ProcessReading, b: &ProcessReading| {
        let faults = u128::from(faults(b).saturating_sub(faults(a)));
        let nanos = u128::from(b.at.saturating_sub(a.at).max(1));
        faults * 1_000_000_000 >= nanos * u128::from(BURST_FAULTS_PER_SECOND)
    };
    let burst = |run: &[ProcessReading]| {
        let (first, last) = (run.first()?, run.last()?);
        let faults = faults(last) - faults(first);
        let what = Happened::FaultBurst { faults };
        (faults >= BURST_FAULTS).then_some(Moment { begin_ns: first.at, end_ns: last.at, what })
    };
    process.chunk_by(is_fast).filter_map(burst).collect()
}

/// Bytes as people read them.
struct Amount(u64);

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["B", "KiB", "MiB", "GiB", "TiB"];
        let unit = (self.0.max(1).ilog2() as usize / 10).min(units.len() - 1);
        let digits = if unit == 0 { 0 } else { 1 };
        write!(f, "{:.digits$} {}", self.0 as f64 / 1024_f64.powi(unit as i32), units[unit])
    }
}

impl fmt::Display for Course {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last, most) = (Amount(self.first), Amount(self.last), Amount(self.most));
        write!(f, "{first} to {last}, at most {most} at {:.3} s", self.most_at_ns as f64 / 1e9)
    }
}

impl fmt::Display for Happened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Happened::HeapDoubled { from, to } => {
                write!(f, "the heap doubled: {} to {}", Amount(from), Amount(to))
            }
            Happened::HeapHalved { from, to } => {
                write!(f, "the heap halved: {} to {}", Amount(from), Amount(to))
            }
            Happened::Returned { bytes } => write!(f, "{} went back to the system", Amount(bytes)),
            Happened::FaultBurst { faults } => write!(f, "{faults} page faults in a burst"),
        }
    }
}

/// Moments that [`MemoryUse`]'s text lists; there may be more.
const LISTED: usize = 12;

impl fmt::Display for MemoryUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(heap) = &self.heap {
            let (allocated, freed) = (Amount(self.allocated_bytes), Amount(self.freed_bytes));
            writeln!(f, "heap: {heap}; {allocated} allocated, {freed} freed")?;
        }
        if let Some(resident) = &self.resident {
            let faults = self.minor_faults + self.major_faults;
            writeln!(f, "resident: {resident}; {faults} page faults, {} from disk", self.major_faults)?;
        }
        for moment in self.moments.iter().take(LISTED) {
            let [begin, end] = [moment.begin_ns, moment.end_ns].map(|at| at as f64 / 1e9);
            writeln!(f, "memory, {begin:.3} s to {end:.3} s: {}", moment.what)?;
        }
        match self.moments.len().saturating_sub(LISTED) {
            0 => Ok(()),
            more => writeln!(f, "memory: {more} more, in --json"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    fn heap(live: &[u64]) -> Vec<Happened> {
        let reading = |(at, &live)| HeapReading { at, live_bytes: live * MB, ..HeapReading::default() };
        let readings: Vec<_> = (0..).zip(live).map(reading).collect();
        heap_moments(&readings).into_iter().map(|moment| moment.what).collect()
    }

    #[test]
    fn a_heap_doubles_and_halves_against_its_last_moment() {
        let doubled = |from, to| Happened::HeapDoubled { from: from * MB, to: to * MB };
        let halved = |from, to| Happened::HeapHalved { from: from * MB, to: to * MB };
        assert_eq!(heap(&[10, 15, 19, 20, 30, 41, 20]), [doubled(10, 20), doubled(20, 41), halved(41, 20)]);
        assert_eq!(heap(&[10, 6, 10, 6, 10]), []);
        assert_eq!(heap(&[0, 0, 1]), [doubled(0, 1)]);
        assert_eq!(heap(&[]), []);
    }

    #[test]
    fn memory_that_went_back_is_one_moment_however_many_readings() {
        let reading = |(at, mb): (u64, u64)| ProcessReading {
            at,
            resident_bytes: mb * MB,
            ..ProcessReading::default()
        };
        let process: Vec<_> = (0..).zip([50, 40, 30, 30, 60, 59, 70, 10]).map(reading).collect();
        let moment =
            |begin_ns, end_ns, mb| Moment { begin_ns, end_ns, what: Happened::Returned { bytes: mb * MB } };
        assert_eq!(returns(&process), [moment(0, 2, 20), moment(4, 5, 1), moment(6, 7, 60)]);
    }

    #[test]
    fn faults_are_a_burst_when_they_are_many_and_fast() {
        let reading = |(at, faults): (u64, u64)| ProcessReading {
            at: at * 20_000_000,
            minor_faults: faults,
            ..ProcessReading::default()
        };
        // Fast is a thousand in 20 ms.
        let process: Vec<_> = (0..).zip([0, 900, 1800, 3000, 5000, 5100, 5200]).map(reading).collect();
        let bursts = fault_bursts(&process);
        let (begin_ns, end_ns) = (2 * 20_000_000, 4 * 20_000_000);
        assert_eq!(bursts, [Moment { begin_ns, end_ns, what: Happened::FaultBurst { faults: 3200 } }]);
    }

    #[test]
    fn amounts_read_well() {
        let shown = [0, 1023, 1024, 1536 * 1024, 3 << 30].map(|bytes| Amount(bytes).to_string());
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "3.0 GiB"]);
    }
}
