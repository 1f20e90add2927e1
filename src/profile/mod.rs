//! Profiles: stacks with weights, in memory and in pprof's format.
//!
//! A [`Profile`] is plain data: samples point at locations, a location is an address with the frames that it means.
//! [`block`], [`mutex`], [`cpu`] and [`heap`] derive one from a trace; [`Profile::encode`] writes what `go tool pprof` and every profile
//! store reads, [`Profile::decode`] reads it back, [`Profile::folded`] writes lines for flame graph tools.
//!
//! Does not know HTTP or files.

mod build;
mod contention;
mod cpu;
mod decode;
mod encode;
mod folded;
mod heap;
mod threadcreate;

pub use contention::{block, live_block, live_mutex, mutex};
pub use cpu::{cpu, sample_period};
pub use decode::DecodeError;
pub use heap::{allocs, allocs_delta, heap, heap_delta};
pub use threadcreate::{threadcreate, threadcreate_delta};

use crate::format::{Frame, Module};

/// What a sample's value counts, and in which unit: `delay` in `nanoseconds`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ValueType {
    /// What is counted, in pprof's words.
    pub kind: String,
    /// `count`, `nanoseconds`, `bytes`.
    pub unit: String,
}

impl ValueType {
    /// A value type from its two words.
    pub fn new(kind: &str, unit: &str) -> ValueType {
        ValueType { kind: kind.into(), unit: unit.into() }
    }
}

/// What a label says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LabelValue {
    /// A text.
    Text(String),
    /// A number and its unit; an empty unit is none.
    Number(i64, String),
}

/// A word about a sample, to select and group by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label {
    /// Its name.
    pub key: String,
    /// What it says.
    pub value: LabelValue,
}

/// A stack with its weights.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sample {
    /// Indices into [`Profile::locations`], leaf first.
    pub locations: Vec<u32>,
    /// One value for each of [`Profile::sample_types`].
    pub values: Vec<i64>,
    /// Words about it.
    pub labels: Vec<Label>,
}

/// An address and what it means.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Location {
    /// The address in the process; 0 for a frame that is no code.
    pub address: u64,
    /// Index into [`Profile::mappings`].
    pub mapping: Option<u32>,
    /// Its frames, innermost first: more than one where functions were inlined.
    pub frames: Vec<Frame>,
}

/// Stacks with weights. See the module's head.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Profile {
    /// What the values count, in the order of the values.
    pub sample_types: Vec<ValueType>,
    /// The `kind` of the sample type that is shown first; empty leaves it to the reader.
    pub default_sample_type: String,
    /// The samples.
    pub samples: Vec<Sample>,
    /// What they point at.
    pub locations: Vec<Location>,
    /// What was mapped where; the program itself first.
    pub mappings: Vec<Module>,
    /// What [`Profile::period`] counts.
    pub period_type: ValueType,
    /// Events between two samples.
    pub period: i64,
    /// When it was begun, nanoseconds since the epoch.
    pub time_ns: i64,
    /// How long it took, nanoseconds.
    pub duration_ns: i64,
    /// Words for people.
    pub comments: Vec<String>,
}

impl Profile {
    /// The sum of all samples' values of one type.
    pub fn total(&self, sample_type: usize) -> i64 {
        self.samples.iter().filter_map(|sample| sample.values.get(sample_type)).sum()
    }

    /// A sample's frames, leaf first, inlined ones included.
    pub fn frames<'a>(&'a self, sample: &'a Sample) -> impl Iterator<Item = &'a Frame> {
        sample
            .locations
            .iter()
            .filter_map(|&location| self.locations.get(location as usize))
            .flat_map(|l| &l.frames)
    }
}
