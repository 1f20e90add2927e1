//! What slices, locks and rows are called, for people.
//!
//! A name is taken from the trace: a task's, a call's, the function that waits. What has no name gets the plain word for
//! what it is.

use std::collections::HashMap;

use super::store::Loaded;
use crate::analysis::contention;
use crate::analysis::locks::Lock;
use crate::analysis::rows::{IN_POLL, Rows, Slice, SliceKind};
use crate::analysis::waiting;
use crate::events::StackId;
use crate::model::machinery::LockKind;
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
            None => waits_for(trace, slice.index).to_string(),
        },
        SliceKind::Suspension => awaits(trace, trace.suspensions[index].stack).to_string(),
    }
}

/// Where a task awaits: the function, else for what; empty if nothing tells.
fn awaits(trace: &Trace, stack: StackId) -> &str {
    match (function(trace, stack), waiting::of_await(&trace.stacks, stack)) {
        (Some(function), _) => short(function),
        (None, LockKind::Unknown) => "",
        (None, told) => told.word(),
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

/// A thread: which worker it is, else its name, else its number.
pub(super) fn thread(trace: &Trace, index: u32) -> String {
    let thread = &trace.threads[index as usize];
    match &thread.worker {
        Some((_, number)) => format!("worker {number}"),
        None if thread.name.is_empty() => format!("thread {}", thread.tid),
        None => thread.name.clone(),
    }
}

/// A lock as people tell it: it bears no name, so who waits for it and who has it are what there is.
#[derive(Debug, Default)]
pub(super) struct LockText {
    /// What it is and who waits for it longest: `mutex in shop::sendjson`.
    pub(super) label: String,
    /// The functions that wait for it, the one that waits longest first.
    pub(super) waiters: Vec<String>,
    /// The function that made them wait longest.
    pub(super) holder: Option<String>,
}

/// What the locks of a trace are called, in their order.
pub(super) fn locks(trace: &Trace, rows: &Rows) -> Vec<LockText> {
    let mut held: HashMap<u64, HashMap<StackId, f64>> = HashMap::new();
    let mut held_async: HashMap<u32, HashMap<StackId, f64>> = HashMap::new();
    for blame in contention::held(trace) {
        let by_stack = match blame.suspension {
            Some(wait) => held_async.entry(rows.lock_of_suspension[wait as usize]).or_default(),
            None => held.entry(blame.addr).or_default(),
        };
        *by_stack.entry(blame.stack).or_default() += blame.share.delay_ns;
    }
    let text = |(index, lock): (u32, &Lock)| {
        let waiters = waiters(trace, lock);
        let what = lock.waits.iter().map(|&wait| lock_word(trace, lock, wait)).find(|word| *word != "lock");
        let what = what.unwrap_or("lock");
        let kind = if lock.is_async { "async " } else { "" };
        let label = match waiters.first() {
            Some(function) => format!("{kind}{what} in {}", short(function)),
            None if lock.addr == 0 => format!("{kind}{what}"),
            None => format!("{kind}{what} {:#x}", lock.addr),
        };
        let mut addresses: Vec<u64> = match lock.is_async {
            true => Vec::new(),
            false => lock.waits.iter().map(|&wait| trace.waits[wait as usize].addr).collect(),
        };
        addresses.sort_unstable();
        addresses.dedup();
        let by_address = addresses.iter().filter_map(|addr| held.get(addr));
        let of_async = held_async.get(&index).filter(|_| lock.is_async);
        let blamed = by_address.chain(of_async).flatten().map(|(stack, ns)| (*stack, *ns));
        LockText { label, waiters, holder: by_function(trace, blamed).into_iter().next() }
    };
    (0..).zip(&rows.locks).map(text).collect()
}

fn lock_word(trace: &Trace, lock: &Lock, index: u32) -> &'static str {
    let waiting = match lock.is_async {
        true => waiting::of_await(&trace.stacks, trace.suspensions[index as usize].stack),
        false => {
            let wait = &trace.waits[index as usize];
            waiting::of_wait(&trace.stacks, wait.kind, wait.stack)
        }
    };
    if waiting == LockKind::Unknown { "lock" } else { waiting.word() }
}

fn waiters(trace: &Trace, lock: &Lock) -> Vec<String> {
    let waited = lock.waits.iter().map(|&wait| lock.wait(trace, wait));
    by_function(trace, waited.map(|(time, stack)| (stack, time.duration() as f64)))
}

/// The functions at the top of stacks, the heaviest first.
fn by_function(trace: &Trace, stacks: impl Iterator<Item = (StackId, f64)>) -> Vec<String> {
    let mut by_stack: HashMap<StackId, f64> = HashMap::new();
    for (stack, weight) in stacks {
        *by_stack.entry(stack).or_default() += weight;
    }
    let mut by_name: HashMap<&str, f64> = HashMap::new();
    for (stack, weight) in by_stack {
        if let Some(name) = function(trace, stack) {
            *by_name.entry(name).or_default() += weight;
        }
    }
    let mut names: Vec<(&str, f64)> = by_name.into_iter().collect();
    names.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
    names.into_iter().map(|(name, _)| name.to_string()).collect()
}

/// The first function of a stack that is the program's own business; none on a stack of machinery alone.
pub(super) fn function(trace: &Trace, stack: StackId) -> Option<&str> {
    let machinery = trace.stacks.machinery(stack).count();
    trace
        .stacks
        .frames(stack)
        .nth(machinery)
        .map(|frame| frame.function.as_str())
        .filter(|name| !name.is_empty())
}

/// What a wait is for: `mutex`, `channel`; the hooked function's word if nothing tells.
pub(super) fn waits_for(trace: &Trace, index: u32) -> &'static str {
    let wait = &trace.waits[index as usize];
    match waiting::of_wait(&trace.stacks, wait.kind, wait.stack) {
        LockKind::Unknown => wait.kind.word(),
        told => told.word(),
    }
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
