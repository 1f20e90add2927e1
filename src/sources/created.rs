//! Who has created the threads of the process so far: what `/debug/pprof/threadcreate` answers without a trace.
//!
//! A table of weights by stack, made when the profiles are first served; each `pthread_create` that goes well adds to
//! it. Threads that were there before are counted once, without a stack: nobody saw who made them.
//!
//! Does not follow their lives: that is in traces.

use std::sync::OnceLock;

use crate::events::{Count, StackId, ThreadsCreated};
use crate::record;
use crate::record::live::Weights;
use crate::record::switches::Collector;

/// Made once, never unmade.
static CREATED: OnceLock<Weights> = OnceLock::new();

/// Somebody serves the profile: threads are counted from now on.
#[cfg_attr(not(feature = "http"), allow(dead_code, reason = "nobody serves"))]
pub(crate) fn serve() {
    if let Err(error) = record::prepare() {
        crate::status::set("threadcreate", format!("off: {error}"));
        return;
    }
    let mut made = false;
    CREATED.get_or_init(|| {
        made = true;
        let created = Weights::new();
        created.add(StackId(0), living(), 0);
        created
    });
    if made {
        record::switches::on_end(tell);
    }
}

/// How many threads there are now.
fn living() -> u64 {
    std::fs::read_dir("/proc/self/task").map_or(0, |threads| threads.count() as u64)
}

/// Whether threads are counted.
#[inline]
pub(super) fn is_counted() -> bool {
    CREATED.get().is_some()
}

/// A thread was created there.
#[inline]
pub(super) fn created(stack: StackId) {
    if let Some(created) = CREATED.get() {
        created.add(stack, 1, 0);
    }
}

/// Tells a capture that ends what the table holds.
fn tell(collector: &mut Collector<'_>) {
    let Some(created) = CREATED.get() else { return };
    let now = collector.now();
    created
        .each(|stack, threads, _| collector.emit(0, now, ThreadsCreated { stack, threads: Count(threads) }));
}
