//! The profile that says where a program uses CPUs: Go's `profile`.
//!
//! Types and units are Go's: `samples/count` and `cpu/nanoseconds`. A sample that stands for several periods counts as
//! so many. Labels say which thread, which task it polled, and what the program put on them.

use super::build::{Builder, Place, labels_in, text};
use super::{Label, Profile, ValueType};
use crate::events::StackId;
use crate::model::{CpuSample, Trace};

/// The period where there are no samples that would tell: 100 a second, Go's.
const PERIOD_NS: u64 = 10_000_000;

/// Where threads used a CPU, by the trace's samples.
///
/// CPU time that no sample could be taken of, because its thread had blocked the signal, stands under a word in
/// brackets.
pub fn cpu(trace: &Trace) -> Profile {
    let period = sample_period(trace);
    let cpu = ValueType::new("cpu", "nanoseconds");
    let mut builder = Builder::new(trace, [ValueType::new("samples", "count"), cpu.clone()], 1);
    builder.period(cpu, period as i64);
    builder.keep_leaves();
    for sample in &trace.samples {
        let place = match sample.stack {
            StackId(0) => Place::Word("[signal blocked]".into()),
            stack => Place::Stack(stack),
        };
        let weight = sample.weight_ns as f64;
        builder.add(&place, labels(trace, sample), [weight / period as f64, weight]);
    }
    builder.finish()
}

/// CPU time between two samples of a trace, in nanoseconds.
pub fn sample_period(trace: &Trace) -> u64 {
    // Weights are whole periods, and hardly a sample stands for more than one.
    let weights = trace.samples.iter().map(|sample| sample.weight_ns);
    weights.filter(|&weight| weight > 0).min().unwrap_or(PERIOD_NS)
}

fn labels(trace: &Trace, sample: &CpuSample) -> Vec<Label> {
    let thread = trace.threads.get(sample.thread as usize).map(|thread| ("thread", &thread.name));
    let task = sample.task.and_then(|task| trace.tasks.get(task as usize)).map(|task| ("task", &task.name));
    let named = thread.into_iter().chain(task).filter(|(_, name)| !name.is_empty());
    let mut labels: Vec<Label> = named.map(|(key, name)| text(key, name)).collect();
    let set = match sample.task {
        Some(task) => trace.label_set_of_task_at(task, sample.at),
        None => trace.label_set_at(sample.thread, None, sample.at),
    };
    labels.extend(labels_in(trace, set));
    labels
}
