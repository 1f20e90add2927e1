//! The profiles that say where a program waits: `block` by those who waited, `mutex` by those who made them wait.
//!
//! Types and units are Go's, so its tools' knowledge holds: `contentions/count` and `delay/nanoseconds`. Labels say
//! which thread and task, what kind of lock and which address, where the trace knows, and what the program's own
//! labels said then.

use super::Profile;
use super::build::{Builder, Place, labels_in, text};
use crate::analysis::contention::{Contention, blame, blocked};
use crate::analysis::waiting;
use crate::events::{LiveProfile, StackId};
use crate::model::Trace;
use crate::model::machinery::LockKind;

/// Where threads and tasks waited for locks, conditions, channels and each other.
///
/// Idle workers, timers and sockets are left out, as in Go, and so are waits that had not ended.
pub fn block(trace: &Trace) -> Profile {
    let mut builder = Builder::contentions(trace);
    add(trace, blocked(trace), "[no stack]", &mut builder);
    builder.finish()
}

/// Where locks were released that others waited for: the stack is the holder's, at its unlock.
///
/// Its total is that of all waits for locks. What is nobody's stands under two words in brackets: the time in which a
/// lock was free and the one that had been woken waited for a CPU, and waits that nobody was seen to end.
pub fn mutex(trace: &Trace) -> Profile {
    let mut builder = Builder::contentions(trace);
    let blame = blame(trace);
    add(trace, blame.held, "[no stack]", &mut builder);
    add(trace, blame.handing_over, "[woken, not yet running]", &mut builder);
    add(trace, blame.unexplained, "[unlock not seen]", &mut builder);
    builder.finish()
}

/// The block profile that the process itself has kept, since its rate was first set; empty if it kept none.
pub fn live_block(trace: &Trace) -> Profile {
    live(trace, LiveProfile::Block, waiting::is_blocking)
}

/// The mutex profile that the process itself has kept. What was nobody's is not in it.
pub fn live_mutex(trace: &Trace) -> Profile {
    live(trace, LiveProfile::Mutex, LockKind::is_lock)
}

fn live(trace: &Trace, profile: LiveProfile, is_of_it: fn(LockKind) -> bool) -> Profile {
    let mut builder = Builder::contentions(trace);
    for weight in trace.contended.iter().filter(|weight| weight.profile == profile) {
        let waiting = trace.stacks.wait_kind(weight.stack);
        if is_of_it(waiting) {
            let weights = [weight.contentions as f64, weight.delay_ns as f64];
            builder.add(&Place::Stack(weight.stack), vec![text("lock", waiting.word())], weights);
        }
    }
    builder.finish()
}

/// Adds contentions; `word` stands where one has no stack.
fn add(trace: &Trace, contentions: Vec<Contention>, word: &str, builder: &mut Builder<'_, 2>) {
    for contention in contentions {
        let place = match contention.stack {
            StackId(0) => Place::Word(word.into()),
            stack => Place::Stack(stack),
        };
        let share = contention.share;
        builder.add(&place, labels(trace, &contention), [share.contentions, share.delay_ns]);
    }
}

fn labels(trace: &Trace, contention: &Contention) -> Vec<super::Label> {
    let mut labels = vec![text("lock", contention.waiting.word())];
    let thread = contention.who.thread.and_then(|thread| trace.threads.get(thread as usize));
    labels.extend(thread.filter(|thread| !thread.name.is_empty()).map(|thread| text("thread", &thread.name)));
    let task = contention.who.task.and_then(|task| trace.tasks.get(task as usize));
    labels.extend(task.filter(|task| !task.name.is_empty()).map(|task| text("task", &task.name)));
    labels.extend(labels_in(trace, contention.who.labels));
    if contention.addr != 0 {
        labels.push(text("address", &format!("{:#x}", contention.addr)));
    }
    labels
}
