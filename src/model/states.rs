//! States told more exactly, once stacks have names: what is a lock, what a condition, what a socket, what a timer.
//!
//! While events are read, a wait counts as blocked and a suspension as waiting. Here the functions on their stacks
//! decide (see [`machinery`](super::machinery)). A wait without a stack of its own (it was short) takes the answer of
//! the latest one before it on the same address, else of the first one after it: addresses are used again, mostly for
//! the same. One of which nothing tells stays blocked, since waits that never last are for locks.

use std::collections::HashMap;

use super::ids::IdMap;
use super::stacks::Stacks;
use super::{Cause, State, StateChange, Trace, Wait};
use crate::events::{StackId, WaitKind};

/// Refines the states of all threads and tasks.
pub(super) fn refine(trace: &mut Trace) {
    let mut told = Told { stacks: &trace.stacks, by_stack: IdMap::default() };
    let waits = wait_states(&trace.waits, &mut told);
    let suspensions = &trace.suspensions;
    let mut refine = |change: &mut StateChange| match change.cause {
        // One that was preempted is runnable whatever it waits for.
        Cause::Wait(wait) if change.state == State::Blocked => change.state = waits[wait as usize],
        Cause::Suspension(suspension) => {
            change.state = told.state(suspensions[suspension as usize].stack).unwrap_or(State::Waiting);
        }
        _ => {}
    };
    trace.threads.iter_mut().flat_map(|thread| &mut thread.states).for_each(&mut refine);
    trace.tasks.iter_mut().flat_map(|task| &mut task.states).for_each(refine);
}

/// What stacks tell, each asked once.
struct Told<'a> {
    stacks: &'a Stacks,
    /// The state's place in [`State::ALL`], or one past the last where nothing tells.
    by_stack: IdMap,
}

impl Told<'_> {
    #[inline]
    fn state(&mut self, stack: StackId) -> Option<State> {
        if stack.0 == 0 {
            return None;
        }
        let place = self.by_stack.get_or_insert_with(u64::from(stack.0), || {
            self.stacks.wait_kind(stack).state().map_or(State::ALL.len() as u32, |state| state as u32)
        });
        State::ALL.get(place as usize).copied()
    }
}

fn wait_states(waits: &[Wait], told: &mut Told<'_>) -> Vec<State> {
    let own: Vec<Option<State>> = waits.iter().map(|wait| wait_state(wait, told)).collect();
    let mut states = vec![State::Blocked; waits.len()];
    let mut latest: HashMap<u64, State> = HashMap::new();
    let mut untold: HashMap<u64, Vec<usize>> = HashMap::new();
    for (index, (wait, own)) in waits.iter().zip(own).enumerate() {
        match own {
            Some(state) => {
                states[index] = state;
                if latest.insert(wait.addr, state).is_none() {
                    let before = untold.remove(&wait.addr).into_iter().flatten();
                    before.for_each(|earlier| states[earlier] = state);
                }
            }
            None => match latest.get(&wait.addr) {
                Some(&state) => states[index] = state,
                None => untold.entry(wait.addr).or_default().push(index),
            },
        }
    }
    states
}

/// What a wait is by its hooked function or its own stack; `None` if neither tells.
fn wait_state(wait: &Wait, told: &mut Told<'_>) -> Option<State> {
    match wait.kind {
        WaitKind::PthreadMutex | WaitKind::PthreadRead | WaitKind::PthreadWrite | WaitKind::Semaphore => {
            Some(State::Blocked)
        }
        WaitKind::PthreadCond | WaitKind::PthreadBarrier => told.state(wait.stack).or(Some(State::Waiting)),
        WaitKind::Join => Some(State::Waiting),
        WaitKind::Futex | WaitKind::Unknown => told.state(wait.stack),
    }
}
