//! The labels of threads where the drain can read them, for captures that begin later than the labels.
//!
//! Neither side waits for the other: who finds the other one there leaves it, and the drain looks again.

use std::cell::OnceCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError, Weak};

use super::{Set, Told, differences, events};
use crate::events::TaskId;
use crate::record;
use crate::record::switches::{self, Collector};

/// Every thread that has had labels.
static THREADS: Mutex<Vec<Weak<Place>>> = Mutex::new(Vec::new());

/// The capture that knows them.
static TOLD: AtomicU64 = AtomicU64::new(0);

/// Where a thread's own labels are.
struct Place {
    /// The kernel's number of the thread.
    tid: u32,
    set: Mutex<Set>,
    /// The set is an old one: the drain was reading when it changed, and that change was told.
    stale: AtomicBool,
}

/// A thread's part of this: nothing until it has labels.
pub(super) struct Public(OnceCell<Arc<Place>>);

impl Public {
    pub(super) const fn new() -> Public {
        Public(OnceCell::new())
    }

    pub(super) fn change(&self, set: &Set) {
        if let Some(place) = self.place() {
            let written = place.set.try_lock().map(|mut old| old.clone_from(set)).is_ok();
            place.stale.store(!written, Ordering::Release);
        }
    }

    fn place(&self) -> Option<&Place> {
        if self.0.get().is_none() {
            let (tid, set) = (this_tid()?, Mutex::new(None));
            let place = Arc::new(Place { tid, set, stale: AtomicBool::new(false) });
            enlist(&place);
            // It is this thread's, so nobody else has set it since.
            let _ = self.0.set(place);
        }
        self.0.get().map(Arc::as_ref)
    }
}

/// The kernel's number of this thread.
fn this_tid() -> Option<u32> {
    std::fs::read_link("/proc/thread-self").ok()?.file_name()?.to_str()?.parse().ok()
}

fn enlist(place: &Arc<Place>) {
    static DRAINED: Once = Once::new();
    {
        let mut threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| thread.strong_count() > 0);
        threads.push(Arc::downgrade(place));
    }
    DRAINED.call_once(|| switches::on_drain(tell));
}

/// Tells a capture that is new which labels threads have.
fn tell(collector: &mut Collector<'_>) {
    let epoch = record::epoch();
    if TOLD.load(Ordering::Relaxed) == epoch {
        return;
    }
    let threads: Vec<_> = match THREADS.try_lock() {
        Ok(threads) => threads.iter().filter_map(Weak::upgrade).collect(),
        Err(_) => return,
    };
    // Before they are read: what a thread itself tells of a change since then is later.
    let now = collector.now();
    for place in threads {
        let Ok(set) = place.set.try_lock().map(|set| set.clone()) else { return };
        if place.stale.load(Ordering::Acquire) {
            continue;
        }
        differences(&None, &set, |key, value| match events(key, value, TaskId(0)) {
            Told::Text(label) => collector.emit(place.tid, now, label),
            Told::Number(label) => collector.emit(place.tid, now, label),
        });
    }
    TOLD.store(epoch, Ordering::Relaxed);
}
