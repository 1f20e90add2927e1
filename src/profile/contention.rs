//! The profiles that say where a program waits: `block` by those who waited, `mutex` by those who made them wait.
//!
//! Types and units are Go's, so its tools' knowledge holds: `contentions/count` and `delay/nanoseconds`. Labels say
//! which thread and task, what kind of lock and which address, where the trace knows.

use super::Profile;
use super::build::{Builder, Place, text};
use crate::analysis::contention::{Contention, blocked, held};
use crate::events::StackId;
use crate::model::Trace;

/// Where threads and tasks waited for locks, conditions, channels and each other.
///
/// Idle workers, timers and sockets are left out, as in Go, and so are waits that had not ended.
pub fn block(trace: &Trace) -> Profile {
    profile(trace, blocked(trace), "[no stack]")
}

/// Where locks were released that others waited for: the stack is the holder's, at its unlock.
pub fn mutex(trace: &Trace) -> Profile {
    profile(trace, held(trace), "[unlock not seen]")
}

fn profile(trace: &Trace, contentions: Vec<Contention>, unknown: &str) -> Profile {
    let mut builder = Builder::contentions(trace);
    for contention in contentions {
        let place = match contention.stack {
            StackId(0) => Place::Word(unknown.into()),
            stack => Place::Stack(stack),
        };
        let share = contention.share;
        builder.add(&place, labels(trace, &contention), [share.contentions, share.delay_ns]);
    }
    builder.finish()
}

fn labels(trace: &Trace, contention: &Contention) -> Vec<super::Label> {
    let mut labels = vec![text("lock", contention.waiting.word())];
    let thread = contention.who.thread.and_then(|thread| trace.threads.get(thread as usize));
    labels.extend(thread.filter(|thread| !thread.name.is_empty()).map(|thread| text("thread", &thread.name)));
    let task = contention.who.task.and_then(|task| trace.tasks.get(task as usize));
    labels.extend(task.filter(|task| !task.name.is_empty()).map(|task| text("task", &task.name)));
    if contention.addr != 0 {
        labels.push(text("address", &format!("{:#x}", contention.addr)));
    }
    labels
}
