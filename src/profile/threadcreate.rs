//! The profile that says who creates threads: the stacks of `pthread_create`, and how many each made.

use super::build::{Builder, Place};
use super::{Profile, ValueType};
use crate::events::StackId;
use crate::model::Trace;

/// Threads created since the process first counted them; those that were there already stand under a word. Where the
/// process did not count, those that were created during the capture.
pub fn threadcreate(trace: &Trace) -> Profile {
    if trace.created.is_empty() {
        return threadcreate_delta(trace);
    }
    let mut builder = builder(trace);
    for created in &trace.created {
        let place = match created.stack {
            StackId(0) => Place::Word("[before kymo counted]".into()),
            stack => Place::Stack(stack),
        };
        builder.add(&place, Vec::new(), [created.threads as f64]);
    }
    builder.finish()
}

/// Threads created during the capture.
pub fn threadcreate_delta(trace: &Trace) -> Profile {
    let mut builder = builder(trace);
    for thread in trace.threads.iter().filter(|thread| thread.creation_stack != StackId(0)) {
        builder.add(&Place::Stack(thread.creation_stack), Vec::new(), [1.0]);
    }
    builder.finish()
}

fn builder(trace: &Trace) -> Builder<'_, 1> {
    let created = ValueType::new("threadcreate", "count");
    let mut builder = Builder::new(trace, [created.clone()], 0);
    builder.period(created, 1);
    builder
}
