//! The profiles that say who allocates: what lives, and what was ever allocated, by stack.
//!
//! Types, units and order are Go's, so its tools' knowledge holds. Values are estimates from samples, unbiased: a stack
//! of which none was sampled is missing, and one whose bytes are few may be far off. Objects and bytes of a sampled
//! stack fit each other.

use super::build::{Builder, Place};
use super::{Profile, ValueType};
use crate::events::StackId;
use crate::model::Trace;
use crate::model::memory::{Sampling, StackTotal};

/// Indices of the values that are bytes.
const ALLOCATED: usize = 1;
const IN_USE: usize = 3;

/// What lived at the capture's end, and what was allocated since the process began.
pub fn heap(trace: &Trace) -> Profile {
    since_the_beginning(trace, IN_USE)
}

/// The same; what was allocated is shown first.
pub fn allocs(trace: &Trace) -> Profile {
    since_the_beginning(trace, ALLOCATED)
}

/// How what lives has changed during the capture, and what was allocated in it. Stacks of which more was freed than
/// allocated are negative in use.
pub fn heap_delta(trace: &Trace) -> Profile {
    during_the_capture(trace, IN_USE)
}

/// The same; what was allocated is shown first.
pub fn allocs_delta(trace: &Trace) -> Profile {
    during_the_capture(trace, ALLOCATED)
}

fn since_the_beginning(trace: &Trace, first: usize) -> Profile {
    let mut builder = builder(trace, first);
    for total in &trace.memory.stacks {
        let StackTotal { allocated_objects, allocated_bytes, live_objects, live_bytes, .. } = *total;
        let values = [allocated_objects, allocated_bytes, live_objects, live_bytes];
        builder.add(&place(total.stack), Vec::new(), values.map(|value| value as f64));
    }
    builder.finish()
}

fn during_the_capture(trace: &Trace, first: usize) -> Profile {
    let mut builder = builder(trace, first);
    let values = |size, weight| [weight as f64 / u64::max(size, 1) as f64, weight as f64];
    for sample in &trace.memory.allocations {
        let [objects, bytes] = values(sample.size, sample.weight);
        builder.add(&place(sample.stack), Vec::new(), [objects, bytes, objects, bytes]);
    }
    for free in &trace.memory.frees {
        let [objects, bytes] = values(free.size, free.weight);
        builder.add(&place(free.allocated_at), Vec::new(), [0.0, 0.0, -objects, -bytes]);
    }
    builder.finish()
}

fn builder(trace: &Trace, first: usize) -> Builder<'_, 4> {
    let (objects, space) = (
        |kind: &str| ValueType::new(&format!("{kind}_objects"), "count"),
        |kind: &str| ValueType::new(&format!("{kind}_space"), "bytes"),
    );
    let types = [objects("alloc"), space("alloc"), objects("inuse"), space("inuse")];
    let mut builder = Builder::new(trace, types, first);
    let sampling = trace.memory.sampling.unwrap_or_default();
    builder.period(ValueType::new("space", "bytes"), sampling.mean_bytes as i64);
    builder.comments(remarks(trace.memory.sampling));
    builder
}

/// What its reader should know.
fn remarks(sampling: Option<Sampling>) -> Vec<String> {
    match sampling {
        None => vec!["empty: kymo::Alloc is not the global allocator".into()],
        Some(Sampling { mean_bytes: 0, .. }) => vec!["sampling was off at the end".into()],
        Some(Sampling { overflowed: 0, .. }) => Vec::new(),
        Some(Sampling { overflowed, .. }) => {
            let why = "the table of samples was full";
            vec![format!("inuse: \u{2265} what is said: {overflowed} samples were not kept, {why}")]
        }
    }
}

fn place(stack: StackId) -> Place {
    match stack {
        // Before stacks are known, which is from the first capture on, or since the program serves.
        StackId(0) => Place::Word("[before kymo was asked]".into()),
        StackId::OVERFLOW => Place::Word("[stack table full]".into()),
        stack => Place::Stack(stack),
    }
}
