//! What the waits of a trace are for: the model's word for their stacks, and what the hooked function says.
//!
//! A wait that was short has no stack; where a word is only for display it takes that of another one on its address.

use std::collections::HashMap;

use crate::events::{StackId, WaitKind};
use crate::model::Trace;
use crate::model::machinery::LockKind;
use crate::model::stacks::Stacks;

/// What a thread waits for, by the hooked function and its stack.
pub fn of_wait(stacks: &Stacks, kind: WaitKind, stack: StackId) -> LockKind {
    let hooked = match kind {
        WaitKind::Unknown | WaitKind::Futex => LockKind::Unknown,
        WaitKind::PthreadMutex => LockKind::Mutex,
        WaitKind::PthreadRead | WaitKind::PthreadWrite => LockKind::RwLock,
        WaitKind::PthreadCond | WaitKind::PthreadBarrier => LockKind::Condvar,
        WaitKind::Join => LockKind::Join,
        WaitKind::Semaphore => LockKind::Semaphore,
    };
    match stacks.wait_kind(stack) {
        LockKind::Unknown => hooked,
        told => told,
    }
}

/// What a task waits for, by its await stack.
pub fn of_await(stacks: &Stacks, stack: StackId) -> LockKind {
    stacks.wait_kind(stack)
}

/// What each wait of a trace is for, by its index, for display: see the module's head.
pub fn of_waits(trace: &Trace) -> Vec<LockKind> {
    let mut by_place: HashMap<(WaitKind, StackId), LockKind> = HashMap::new();
    let mut by_address: HashMap<u64, LockKind> = HashMap::new();
    let mut own = Vec::with_capacity(trace.waits.len());
    for wait in &trace.waits {
        let place = by_place.entry((wait.kind, wait.stack));
        let waiting = *place.or_insert_with(|| of_wait(&trace.stacks, wait.kind, wait.stack));
        if waiting != LockKind::Unknown {
            by_address.insert(wait.addr, waiting);
        }
        own.push(waiting);
    }
    for (waiting, wait) in
        own.iter_mut().zip(&trace.waits).filter(|(waiting, _)| **waiting == LockKind::Unknown)
    {
        *waiting = by_address.get(&wait.addr).copied().unwrap_or(LockKind::Unknown);
    }
    own
}

/// Whether another part of the program makes such a wait last: what a block profile is about. As in Go, time that
/// passes, sockets and idle workers are not.
pub fn is_blocking(waiting: LockKind) -> bool {
    !matches!(waiting, LockKind::Timer | LockKind::Io | LockKind::Idle)
}

/// Whether a wait's address tells nothing of the lock: parking_lot parks each thread on an address of its own.
pub fn is_handed_on(stacks: &Stacks, stack: StackId) -> bool {
    stacks.machinery(stack).any(|frame| frame.function.contains("parking_lot_core"))
}

/// Whether a stack lets go of a lock that lets on whoever has queued first: tokio's, all of which are one semaphore.
pub fn is_fair_release(stacks: &Stacks, stack: StackId) -> bool {
    stacks.machinery(stack).any(|frame| frame.function.contains("batch_semaphore"))
}
