//! States told more exactly, once stacks have names: what is a lock, what a condition, what a socket, what a timer.
//!
//! While events are read, a futex wait counts as blocked and a suspension as waiting. Here the functions on their
//! stacks decide; a wait without a stack of its own (it was short) takes the answer of others on the same address.

use std::collections::HashMap;

use super::stacks::Stacks;
use super::{Cause, State, StateChange, Trace, Wait};
use crate::events::{StackId, WaitKind};

/// Refines the states of all threads and tasks.
pub(super) fn refine(trace: &mut Trace) {
    let waits = wait_states(trace);
    let mut suspended: HashMap<StackId, State> = HashMap::new();
    for suspension in &trace.suspensions {
        suspended.entry(suspension.stack).or_insert_with(|| suspended_state(&trace.stacks, suspension.stack));
    }
    let refine = |change: &mut StateChange| match change.cause {
        Cause::Wait(wait) => change.state = waits[wait as usize],
        Cause::Suspension(suspension) => {
            change.state = suspended[&trace.suspensions[suspension as usize].stack]
        }
        _ => {}
    };
    trace.threads.iter_mut().flat_map(|thread| &mut thread.states).for_each(refine);
    trace.tasks.iter_mut().flat_map(|task| &mut task.states).for_each(refine);
}

fn wait_states(trace: &Trace) -> Vec<State> {
    let mut by_address: HashMap<u64, State> = HashMap::new();
    let own: Vec<Option<State>> = trace.waits.iter().map(|wait| wait_state(&trace.stacks, wait)).collect();
    for (wait, state) in trace.waits.iter().zip(&own) {
        by_address.extend(state.map(|state| (wait.addr, state)));
    }
    let state = |(wait, own): (&Wait, &Option<State>)| own.or(by_address.get(&wait.addr).copied());
    trace.waits.iter().zip(&own).map(|pair| state(pair).unwrap_or(State::Blocked)).collect()
}

/// What a wait is by its hooked function or its own stack; `None` if neither tells.
fn wait_state(stacks: &Stacks, wait: &Wait) -> Option<State> {
    match wait.kind {
        WaitKind::PthreadMutex | WaitKind::PthreadRead | WaitKind::PthreadWrite | WaitKind::Semaphore => {
            Some(State::Blocked)
        }
        WaitKind::PthreadCond | WaitKind::Join => Some(State::Waiting),
        WaitKind::Futex | WaitKind::Unknown => first_told(stacks, wait.stack, &FUTEX),
    }
}

fn suspended_state(stacks: &Stacks, stack: StackId) -> State {
    first_told(stacks, stack, &AWAIT).unwrap_or(State::Waiting)
}

/// The state of the first pattern that a function on the stack contains, leaf first.
fn first_told(stacks: &Stacks, stack: StackId, table: &[(&str, State)]) -> Option<State> {
    stacks.frames(stack).find_map(|frame| {
        table.iter().find(|(part, _)| frame.function.contains(part)).map(|&(_, state)| state)
    })
}

/// Who calls `futex`, by a part of the function's name.
const FUTEX: [(&str, State); 9] = [
    ("Condvar", State::Waiting),
    ("condvar", State::Waiting),
    ("park", State::Waiting),
    ("mpmc", State::Waiting),
    ("lock_contended", State::Blocked),
    ("read_contended", State::Blocked),
    ("write_contended", State::Blocked),
    ("Once", State::Blocked),
    ("lock_slow", State::Blocked),
];

/// What an await waits for, by a part of a function's name.
const AWAIT: [(&str, State); 8] = [
    ("tokio::time", State::Idle),
    ("tokio::runtime::time", State::Idle),
    ("tokio::runtime::io", State::Io),
    ("tokio::net", State::Io),
    ("tokio::process", State::Io),
    ("tokio::sync::mutex", State::Blocked),
    ("tokio::sync::rwlock", State::Blocked),
    ("batch_semaphore", State::Blocked),
];
