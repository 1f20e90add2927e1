//! What slices, locks and rows are called, for people.
//!
//! A name is taken from the trace: a task's, a call's, the function that waits. What has no name gets the plain word for
//! what it is.

use super::store::Loaded;
use crate::analysis::rows::{IN_POLL, Lock, Slice, SliceKind};
use crate::events::StackId;
use crate::format::Frame;
use crate::model::{State, Trace};

/// The text on a slice, short; empty where its colour says it all.
pub(super) fn slice(loaded: &Loaded, slice: &Slice) -> String {
    let trace = &loaded.trace;
    let index = slice.index as usize;
    match slice.kind {
        SliceKind::State | SliceKind::Park => String::new(),
        SliceKind::Poll => task(trace, trace.polls[index].task),
        SliceKind::Call => trace.calls[index].call.word().to_string(),
        SliceKind::Span => trace.text(trace.spans[index].name).to_string(),
        SliceKind::Wait => match function(trace, trace.waits[index].stack) {
            Some(function) => short(function).to_string(),
            None => trace.waits[index].kind.word().to_string(),
        },
        SliceKind::Suspension => {
            function(trace, trace.suspensions[index].stack).map_or("", short).to_string()
        }
    }
}

/// A state's word as its class has it: `blocked inside a poll`.
pub(super) fn class(class: u8) -> String {
    let word = State::ALL.get(usize::from(class % IN_POLL)).map_or("unknown", |state| state.word());
    if class >= IN_POLL { format!("{word} inside a poll") } else { word.to_string() }
}

/// A task: its name, else its number.
pub(super) fn task(trace: &Trace, index: u32) -> String {
    let task = &trace.tasks[index as usize];
    match task.name.is_empty() || task.name == task.site {
        true => format!("task {}", task.id.0),
        false => task.name.clone(),
    }
}

/// A thread: its name, else its number.
pub(super) fn thread(trace: &Trace, index: u32) -> String {
    let thread = &trace.threads[index as usize];
    if thread.name.is_empty() { format!("thread {}", thread.tid) } else { thread.name.clone() }
}

/// A lock: who waits for it, since a lock itself bears no name.
pub(super) fn lock(trace: &Trace, lock: &Lock) -> String {
    let functions = waiting_functions(trace, lock);
    let what = if lock.is_async() { "async lock" } else { "lock" };
    match functions.first() {
        Some(function) => format!("{what} in {}", short(function)),
        None if lock.is_async() => what.to_string(),
        None => format!("{what} {:#x}", lock.addr),
    }
}

/// The functions that wait for a lock, the one that waits longest first.
pub(super) fn waiting_functions<'a>(trace: &'a Trace, lock: &Lock) -> Vec<&'a str> {
    let mut waited: Vec<(&str, u64)> = Vec::new();
    let mut by_stack: std::collections::HashMap<StackId, u64> = std::collections::HashMap::new();
    for &wait in &lock.waits {
        let (stack, time) = match lock.is_async() {
            true => (trace.suspensions[wait as usize].stack, trace.suspensions[wait as usize].time),
            false => (trace.waits[wait as usize].stack, trace.waits[wait as usize].time),
        };
        *by_stack.entry(stack).or_default() += time.duration();
    }
    for (stack, ns) in by_stack {
        let Some(function) = function(trace, stack) else { continue };
        match waited.iter_mut().find(|(known, _)| *known == function) {
            Some((_, total)) => *total += ns,
            None => waited.push((function, ns)),
        }
    }
    waited.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    waited.into_iter().map(|(function, _)| function).collect()
}

/// The frames of a stack that are the program's own business.
pub(super) fn frames(trace: &Trace, stack: StackId) -> impl Iterator<Item = &Frame> {
    trace.stacks.frames(stack)
}

/// The first function of a stack that has a name.
pub(super) fn function(trace: &Trace, stack: StackId) -> Option<&str> {
    frames(trace, stack).map(|frame| frame.function.as_str()).find(|function| !function.is_empty())
}

/// A function's name with at most one path segment before it, generics left out: `pool::acquire`.
pub(super) fn short(function: &str) -> &str {
    let head = function.split('<').next().filter(|head| !head.is_empty()).unwrap_or(function);
    let cut = head.trim_end_matches("::{{closure}}").trim_end_matches("::{closure#0}").trim_end_matches("::");
    let mut segments = cut.rmatch_indices("::");
    segments.next();
    match segments.next() {
        Some((at, _)) => &cut[at + 2..],
        None => cut,
    }
}
