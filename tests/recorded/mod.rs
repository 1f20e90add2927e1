//! What tests share that record for real: a capture of everything, read by the model.

#![allow(dead_code, reason = "each test uses its part")]

use kymo::events::{Groups, ThreadId};
use kymo::model::Trace;
use kymo::record::session::{Capture, CaptureOptions};
use kymo::record::sink::MemorySink;

/// Records everything while `work` runs; addresses are named.
pub(crate) fn record<R>(work: impl FnOnce() -> R) -> (R, Trace) {
    let sink = MemorySink::new(256 << 20);
    let resolver = Some(kymo::model::symbols::resolve as kymo::record::session::Resolver);
    let options = CaptureOptions { groups: Groups::ALL, sink: Box::new(sink.clone()), resolver };
    let capture = Capture::start(options).unwrap();
    let result = work();
    let progress = capture.stop();
    assert_eq!(progress.lost, 0);
    let (trace, problems) = kymo::model::load::load(&sink.take()).unwrap();
    assert_eq!(problems, []);
    (result, trace)
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
