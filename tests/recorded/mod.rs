//! What tests share that record for real: a capture of everything, read by the model.

#![allow(dead_code, reason = "each test uses its part")]

use kymo::events::{Event, Groups, ThreadId};
use kymo::format::file::File;
use kymo::model::Trace;
use kymo::record::session::{Capture, CaptureOptions, Resolver};
use kymo::record::sink::MemorySink;

/// Records everything while `work` runs; addresses are named, which takes seconds in a build without optimization.
pub(crate) fn record<R>(work: impl FnOnce() -> R) -> (R, Trace) {
    let resolver: Resolver = kymo::model::symbols::resolve;
    record_with(Some(resolver), work)
}

/// Records everything while `work` runs; stacks are addresses without names.
pub(crate) fn record_unnamed<R>(work: impl FnOnce() -> R) -> (R, Trace) {
    record_with(None, work)
}

fn record_with<R>(resolver: Option<Resolver>, work: impl FnOnce() -> R) -> (R, Trace) {
    let sink = MemorySink::new(256 << 20);
    let options = CaptureOptions { groups: Groups::ALL, cpu_hz: 0, sink: Box::new(sink.clone()), resolver };
    let capture = Capture::start(options).unwrap();
    let result = work();
    let progress = capture.stop();
    assert_eq!(progress.lost, 0);
    let (trace, problems) = kymo::model::load::load(&sink.take()).unwrap();
    assert_eq!(problems, []);
    (result, trace)
}

/// Records these groups while `work` runs; what was told, and of which thread.
pub(crate) fn events<R>(groups: Groups, work: impl FnOnce() -> R) -> (R, Vec<(ThreadId, Event)>) {
    let sink = MemorySink::new(256 << 20);
    let options = CaptureOptions { groups, cpu_hz: 0, sink: Box::new(sink.clone()), resolver: None };
    let capture = Capture::start(options).unwrap();
    let result = work();
    assert_eq!(capture.stop().lost, 0);
    let bytes = sink.take();
    let file = File::parse(&bytes).unwrap();
    assert_eq!(file.problems, []);
    let of_run = |run| file.events(run).map(|stamped| (run.head.thread, stamped.unwrap().event));
    (result, file.runs.iter().flat_map(of_run).collect())
}

/// Index of this thread in a trace.
pub(crate) fn this_thread(trace: &Trace) -> u32 {
    let id: ThreadId = kymo::record::this_thread();
    trace.threads.iter().position(|thread| thread.id == id).expect("this thread has events") as u32
}

/// Names of a stack's functions, leaf first.
pub(crate) fn functions(trace: &Trace, stack: kymo::events::StackId) -> Vec<String> {
    trace.stacks.frames(stack).map(|frame| frame.function.clone()).collect()
}
