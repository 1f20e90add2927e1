//! The locks of a trace as rows: who waited for each, whatever it is made of.
//!
//! The kernel knows a lock by its address only, parking_lot's waiters sleep on addresses of their own, and a task that
//! awaits an async lock shows where it does, not what for. So a lock is told by its address where that is its own, and
//! by the line that waits where it is not. What is a lock at all is the model's answer: the state is blocked.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::rows::Laned;
use crate::events::StackId;
use crate::model::{Cause, Interval, Ns, State, Trace};

/// Something that others had to wait for. It is told by its address; an async lock, which has none that the trace could
/// tell, and one of parking_lot, whose waiters sleep on addresses of their own, by the line that waits.
#[derive(Debug, Clone)]
pub struct Lock {
    /// Its address, 0 if it is told by the line that waits.
    pub addr: u64,
    /// Whether tasks wait for it without blocking their thread: then `waits` are suspensions.
    pub is_async: bool,
    /// Waits for it, or suspensions at it, by begin.
    pub waits: Vec<u32>,
    /// The same in lanes.
    pub laned: Laned,
    /// For how long, all together.
    pub waited_ns: Ns,
    /// How much of that inside polls.
    pub in_poll_ns: Ns,
}

impl Lock {
    /// When somebody waited for it and where; `index` is one of its waits.
    pub fn wait(&self, trace: &Trace, index: u32) -> (Interval, StackId) {
        match self.is_async {
            true => {
                let suspension = &trace.suspensions[index as usize];
                (suspension.time, suspension.stack)
            }
            false => (trace.waits[index as usize].time, trace.waits[index as usize].stack),
        }
    }
}

/// What tells one lock from another.
#[derive(Clone, PartialEq, Eq, Hash)]
enum LockId {
    Address(u64),
    /// Async or not, function and line that wait.
    Line(bool, String, u32),
}

/// The locks of a trace: those that polls waited for longest first; and the lock of each wait and of each suspension,
/// `u32::MAX` for what is not for a lock.
pub fn of(trace: &Trace) -> (Vec<Lock>, Vec<u32>, Vec<u32>) {
    let (blocked_waits, blocked_suspensions) = blocked(trace);
    let mut locks: HashMap<LockId, Lock> = HashMap::new();
    let mut of_address: HashMap<u64, LockId> = HashMap::new();
    for (index, wait) in trace.waits.iter().enumerate().filter(|(index, _)| blocked_waits[*index]) {
        let known = of_address.get(&wait.addr).cloned();
        let id = told_by_line(trace, wait.stack).or(known).unwrap_or(LockId::Address(wait.addr));
        of_address.insert(wait.addr, id.clone());
        let lock = entry(&mut locks, id);
        lock.waits.push(index as u32);
        lock.waited_ns += wait.time.duration();
        lock.in_poll_ns += if wait.in_poll.is_some() { wait.time.duration() } else { 0 };
    }
    for (index, suspension) in
        trace.suspensions.iter().enumerate().filter(|(index, _)| blocked_suspensions[*index])
    {
        let lock = entry(&mut locks, line(trace, suspension.stack, true));
        lock.waits.push(index as u32);
        lock.waited_ns += suspension.time.duration();
    }
    // At last by what does not depend on the map's order.
    let mut locks: Vec<Lock> = locks.into_values().collect();
    locks.sort_by_key(|lock| (Reverse((lock.in_poll_ns, lock.waited_ns)), lock.is_async, lock.waits[0]));
    let mut of_wait = vec![u32::MAX; trace.waits.len()];
    let mut of_suspension = vec![u32::MAX; trace.suspensions.len()];
    for (at, lock) in (0..).zip(&mut locks) {
        let of = if lock.is_async { &mut of_suspension } else { &mut of_wait };
        lock.waits.iter().for_each(|&wait| of[wait as usize] = at);
        lock.laned = Laned::spread(lock.waits.iter().map(|&wait| (wait, lock.wait(trace, wait).0)));
    }
    (locks, of_wait, of_suspension)
}

/// Which waits and which suspensions are for locks, as the model's states say.
fn blocked(trace: &Trace) -> (Vec<bool>, Vec<bool>) {
    let (mut waits, mut suspensions) = (vec![false; trace.waits.len()], vec![false; trace.suspensions.len()]);
    let states =
        trace.threads.iter().map(|thread| &thread.states).chain(trace.tasks.iter().map(|task| &task.states));
    for change in states.flatten().filter(|change| change.state == State::Blocked) {
        match change.cause {
            Cause::Wait(wait) => waits[wait as usize] = true,
            Cause::Suspension(suspension) => suspensions[suspension as usize] = true,
            _ => {}
        }
    }
    (waits, suspensions)
}

/// A lock of parking_lot is told by the line that waits; others by their address.
fn told_by_line(trace: &Trace, stack: StackId) -> Option<LockId> {
    let parks = trace.stacks.machinery(stack).any(|frame| frame.function.contains("parking_lot"));
    parks.then(|| line(trace, stack, false))
}

fn line(trace: &Trace, stack: StackId, is_async: bool) -> LockId {
    let (function, line) = trace
        .stacks
        .user_frames(stack)
        .next()
        .map_or_else(Default::default, |frame| (frame.function.clone(), frame.line));
    LockId::Line(is_async, function, line)
}

fn entry(locks: &mut HashMap<LockId, Lock>, id: LockId) -> &mut Lock {
    let (addr, is_async) = match id {
        LockId::Address(addr) => (addr, false),
        LockId::Line(is_async, ..) => (0, is_async),
    };
    locks.entry(id).or_insert_with(|| Lock {
        addr,
        is_async,
        waits: Vec::new(),
        laned: Laned::default(),
        waited_ns: 0,
        in_poll_ns: 0,
    })
}
