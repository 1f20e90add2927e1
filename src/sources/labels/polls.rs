//! Labels of futures: a task has those that were in force where it was spawned, a labelled future its own.

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::{Labels, Set, State, USED, differences, tell, with_state};
use crate::events::TaskId;
use crate::record;

/// The labels of a task: those that were in force where it was spawned.
pub(in crate::sources) struct Inherited {
    set: Set,
    /// The capture that knows them.
    told: u64,
}

impl fmt::Debug for Inherited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inherited").finish_non_exhaustive()
    }
}

impl Inherited {
    /// For a task that this thread spawns now.
    #[inline]
    pub(in crate::sources) fn here() -> Inherited {
        let set = match USED.load(Ordering::Relaxed) {
            true => with_state(|state| state.current.borrow().clone()).flatten(),
            false => None,
        };
        Inherited { set, told: 0 }
    }

    /// Puts them in force for a poll of the task (0: not recorded), until what comes back is dropped.
    #[inline]
    pub(in crate::sources) fn enter(&mut self, task: TaskId) -> Option<InPoll<'_>> {
        USED.load(Ordering::Relaxed).then(|| InPoll::begin(self, task))
    }

    /// Tells a capture that doesn't know the task's.
    fn tell(&mut self, task: TaskId) {
        let epoch = record::epoch();
        if mem::replace(&mut self.told, epoch) != epoch {
            differences(&None, &self.set, |key, value| tell(key, value, task));
        }
    }
}

/// A task's labels are in force, as long as its poll.
pub(in crate::sources) struct InPoll<'a> {
    inherited: &'a mut Inherited,
    /// The thread's own.
    before: Set,
    task_before: Option<TaskId>,
}

impl<'a> InPoll<'a> {
    fn begin(inherited: &'a mut Inherited, task: TaskId) -> InPoll<'a> {
        if task != TaskId(0) {
            inherited.tell(task);
        }
        let own = inherited.set.take();
        let swap = |state: &State| (state.current.replace(own), state.task.replace(Some(task)));
        let (before, task_before) = with_state(swap).unwrap_or_default();
        InPoll { inherited, before, task_before }
    }
}

impl Drop for InPoll<'_> {
    /// Nothing is told: events of the thread's next poll belong to another task, and those of this one's to it.
    fn drop(&mut self) {
        with_state(|state| {
            state.task.set(self.task_before);
            // A guard that lives across the await has left its labels in force.
            self.inherited.set = state.current.replace(self.before.take());
        });
    }
}

pin_project! {
    /// A future that has labels while it is polled: made by `FutureExt::labelled`.
    pub struct Labelled<F> {
        #[pin]
        future: F,
        labels: Labels,
    }
}

impl<F> fmt::Debug for Labelled<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Labelled").field("labels", &self.labels).finish_non_exhaustive()
    }
}

impl<F> Labelled<F> {
    pub(in crate::sources) fn new(future: F, labels: Labels) -> Labelled<F> {
        Labelled { future, labels }
    }
}

impl<F: Future> Future for Labelled<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _labels = this.labels.enter();
        this.future.poll(context)
    }
}
