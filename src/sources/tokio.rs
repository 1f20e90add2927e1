//! tokio's workers, by its runtime builder's hooks; under `--cfg tokio_unstable` every task too.
//!
//! [`instrument`] sets the builder's thread hooks. A thread becomes a worker when it first parks, which threads of the
//! blocking pool never do. Each capture learns of a worker at its next park or unpark, so those that were there before
//! it are named too.
//!
//! tokio has one hook of each kind: setting one of these afterwards replaces kymo's.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ::tokio::runtime::Builder;

use crate::events::{Count, Group, WorkerPark, WorkerStart, WorkerStop, WorkerUnpark};
use crate::record;

/// A thread that parks for a runtime.
#[derive(Debug, Clone, Copy)]
struct Worker {
    index: u64,
    /// The capture that knows of it.
    told: u64,
}

thread_local! {
    static WORKER: Cell<Option<Worker>> = const { Cell::new(None) };
}

/// What is seen of a runtime, for `status`.
const STATE: &str = match cfg!(tokio_unstable) {
    true => "on: every task of an instrumented runtime, and its workers",
    false => {
        "on: tasks of kymo::spawn and .traced(), and workers; --cfg tokio_unstable adds every other task"
    }
};

/// Records the workers of the runtime that this builder builds, under a name; under `--cfg tokio_unstable` also the
/// spawn, polls and end of every task.
///
/// ```
/// let mut builder = tokio::runtime::Builder::new_multi_thread();
/// let runtime = kymo::tokio::instrument(&mut builder, "main").build()?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn instrument<'a>(builder: &'a mut Builder, name: &'static str) -> &'a mut Builder {
    crate::status::set("tasks", STATE);
    let next = Arc::new(AtomicU64::new(0));
    let (parking, unparking) = (next.clone(), next);
    builder
        .on_thread_park(move || {
            if known(&parking, name) {
                record::emit(WorkerPark {});
            }
        })
        .on_thread_unpark(move || {
            if known(&unparking, name) {
                record::emit(WorkerUnpark {});
            }
        })
        .on_thread_stop(|| {
            if WORKER.take().is_some() {
                record::emit(WorkerStop {});
            }
        });
    #[cfg(tokio_unstable)]
    every_task::instrument(builder);
    builder
}

/// Makes the capture that runs know this thread as a worker; `false`: nothing is recorded.
fn known(next: &AtomicU64, runtime: &str) -> bool {
    let worker =
        WORKER.get().unwrap_or_else(|| Worker { index: next.fetch_add(1, Ordering::Relaxed), told: 0 });
    let enabled = record::enabled(Group::Worker);
    let told = if enabled { record::epoch() } else { worker.told };
    if told != worker.told {
        record::emit(WorkerStart { runtime: record::string(runtime), index: Count(worker.index) });
    }
    WORKER.set(Some(Worker { told, ..worker }));
    enabled
}

#[cfg(tokio_unstable)]
pub(super) use every_task::{Number, announce, tell_if_nobody_took_it};

/// Every task of a runtime, by its unstable hooks.
///
/// A task that `kymo::spawn` spawns announces itself on its thread; the spawn hook, which runs inside `tokio::spawn`
/// before anybody can poll the task, gives it the runtime's number and tells of it.
#[cfg(tokio_unstable)]
mod every_task {
    use std::cell::{Cell, RefCell};
    use std::hash::{Hash, Hasher};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use ::tokio::runtime::{Builder, TaskMeta};
    use ::tokio::task::Id;

    use crate::events::{
        Group, PollBegin, PollEnd, PollOutcome, StrId, TaskEnd, TaskId, TaskOutcome, TaskSpawn,
    };
    use crate::record;
    use crate::sources::task::{current, set_current};

    /// Whether some runtime has our hooks.
    static HOOKED: AtomicBool = AtomicBool::new(false);

    thread_local! {
        static BEFORE: Cell<TaskId> = const { Cell::new(TaskId(0)) };
        static ANNOUNCED: RefCell<Option<(Number, TaskSpawn)>> = const { RefCell::new(None) };
    }

    /// A task's number, which the runtime's may replace before the first poll.
    #[derive(Debug, Clone)]
    pub(in crate::sources) struct Number(Arc<AtomicU64>);

    impl From<TaskId> for Number {
        fn from(task: TaskId) -> Number {
            Number(Arc::new(AtomicU64::new(task.0)))
        }
    }

    impl From<&Number> for TaskId {
        fn from(number: &Number) -> TaskId {
            TaskId(number.0.load(Ordering::Relaxed))
        }
    }

    /// Announces a spawn on this thread; `false`: no runtime has hooks that would see it.
    pub(in crate::sources) fn announce(number: &Number, event: impl FnOnce() -> TaskSpawn) -> bool {
        let hooked = HOOKED.load(Ordering::Relaxed);
        if hooked {
            ANNOUNCED.set(Some((number.clone(), event())));
        }
        hooked
    }

    /// Tells of an announced spawn that went to a runtime without hooks.
    pub(in crate::sources) fn tell_if_nobody_took_it() {
        if let Some((_, event)) = ANNOUNCED.take() {
            record::emit(event);
        }
    }

    pub(super) fn instrument(builder: &mut Builder) {
        HOOKED.store(true, Ordering::Relaxed);
        builder
            .on_task_spawn(spawned)
            .on_before_task_poll(|meta| {
                let task = task(meta.id());
                BEFORE.set(set_current(task));
                record::emit(PollBegin { task });
            })
            .on_after_task_poll(|_| {
                set_current(BEFORE.get());
                record::emit(PollEnd { outcome: PollOutcome::Unknown });
            })
            .on_task_terminate(|meta| {
                record::emit(TaskEnd { task: task(meta.id()), outcome: TaskOutcome::Unknown });
            });
    }

    fn spawned(meta: &TaskMeta<'_>) {
        let task = task(meta.id());
        if let Some((number, event)) = ANNOUNCED.take() {
            number.0.store(task.0, Ordering::Relaxed);
            record::emit(TaskSpawn { task, ..event });
        } else if record::enabled(Group::Task) {
            let site = record::site(meta.spawned_at());
            record::emit(TaskSpawn { task, parent: current(), name: StrId(0), site });
        }
    }

    /// tokio's number as one of ours: odd, so that it meets none of `task`'s.
    fn task(id: Id) -> TaskId {
        // An Id shows its number to hashers and by Display; the latter takes ten times as long.
        let mut number = Number64(0);
        id.hash(&mut number);
        TaskId(number.0 << 1 | 1)
    }

    /// Takes the number that is hashed.
    struct Number64(u64);

    impl Hasher for Number64 {
        fn write_u64(&mut self, number: u64) {
            self.0 = number;
        }

        /// For an Id that is no longer a `u64`: numbers that differ, still.
        fn write(&mut self, bytes: &[u8]) {
            for &byte in bytes {
                self.0 = self.0.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte);
            }
        }

        fn finish(&self) -> u64 {
            self.0
        }
    }
}
