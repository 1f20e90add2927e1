//! Tasks: spawned, polled, woken, suspended, ended, on any executor.
//!
//! [`Traced`] wraps a future. Around each poll it records when it began and how it ended; the waker that it hands down
//! (`waker`) tells who woke it, and takes the await stack when a leaf future keeps a clone. A task that lives already
//! when a capture starts tells its name and site at its first poll in it. With recording off a poll costs one load.
//!
//! Under `--cfg tokio_unstable` the runtime's own hooks (`tokio`) record polls and ends of every task; a task that was
//! also spawned here then takes the runtime's number and leaves those to them.
//!
//! Does not see tasks that others spawn on a stable runtime: those are theirs to wrap.

use std::borrow::Cow;
use std::cell::Cell;
use std::future::Future;
use std::mem;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::labels::{Inherited, Labelled, Labels};
use super::waker::{Shared, lend};
use crate::clock;
use crate::events::{
    Group, PollBegin, PollEnd, PollOutcome, StackId, StrId, TaskEnd, TaskId, TaskName, TaskOutcome,
    TaskSpawn, TaskSuspend,
};
use crate::record;

/// Our own numbers are even, the runtime's odd.
static NEXT_TASK: AtomicU64 = AtomicU64::new(2);

thread_local! {
    /// The task that this thread polls; 0 is none.
    static CURRENT: Cell<TaskId> = const { Cell::new(TaskId(0)) };
}

/// A task's number. Under unstable hooks it may become the runtime's between the task's making and its first poll.
#[cfg(not(tokio_unstable))]
type Number = TaskId;
#[cfg(tokio_unstable)]
type Number = super::tokio::Number;

/// Who a task is.
#[derive(Debug)]
struct Identity {
    number: Number,
    name: Option<Cow<'static, str>>,
    site: &'static Location<'static>,
    parent: TaskId,
}

impl Identity {
    fn new(name: Option<Cow<'static, str>>, site: &'static Location<'static>) -> Identity {
        let number = Number::from(TaskId(NEXT_TASK.fetch_add(2, Ordering::Relaxed)));
        Identity { number, name, site, parent: CURRENT.get() }
    }

    #[cfg(not(tokio_unstable))]
    #[inline]
    fn task(&self) -> TaskId {
        self.number
    }

    #[cfg(tokio_unstable)]
    fn task(&self) -> TaskId {
        TaskId::from(&self.number)
    }

    /// Whether the runtime's hooks record this task's polls and end.
    #[inline]
    fn is_the_runtimes(&self) -> bool {
        self.task().0 & 1 == 1
    }

    fn name(&self) -> StrId {
        self.name.as_deref().map_or_else(StrId::default, record::string)
    }

    /// Tells of the spawn; returns the capture that knows now, 0 if none runs.
    fn tell_spawn(&self) -> u64 {
        if !record::enabled(Group::Task) {
            return 0;
        }
        record::emit(self.spawn_event());
        record::epoch()
    }

    /// As [`Identity::tell_spawn`], before the runtime is given the task: where its hooks see every spawn, they tell.
    fn announce(&self) -> u64 {
        #[cfg(tokio_unstable)]
        if super::tokio::announce(&self.number, || self.spawn_event()) {
            return if record::enabled(Group::Task) { record::epoch() } else { 0 };
        }
        self.tell_spawn()
    }

    fn spawn_event(&self) -> TaskSpawn {
        TaskSpawn { task: self.task(), parent: self.parent, name: self.name(), site: record::site(self.site) }
    }

    fn tell_name(&self) {
        let (task, parent, site) = (self.task(), self.parent, record::site(self.site));
        record::emit(TaskName { task, name: self.name(), site, parent });
    }
}

/// The task that this thread polls; 0 is none. Async-signal-safe.
pub(super) fn current() -> TaskId {
    CURRENT.get()
}

/// Notes which task this thread polls; the one before comes back.
#[cfg(tokio_unstable)]
pub(super) fn set_current(task: TaskId) -> TaskId {
    CURRENT.replace(task)
}

pin_project! {
    /// A future whose polls, wakes and suspensions are recorded: made by [`FutureExt::traced`] and [`spawn`].
    #[derive(Debug)]
    pub struct Traced<F> {
        #[pin]
        future: F,
        identity: Identity,
        shared: Option<Arc<Shared>>,
        labels: Inherited,
        // The capture in which the task has told who it is.
        told: u64,
        ended: bool,
    }

    impl<F> PinnedDrop for Traced<F> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if !*this.ended && !this.identity.is_the_runtimes() {
                record::emit(TaskEnd { task: this.identity.task(), outcome: TaskOutcome::Cancelled });
            }
        }
    }
}

impl<F> Traced<F> {
    fn new(future: F, identity: Identity, told: u64) -> Traced<F> {
        Traced { future, identity, shared: None, labels: Inherited::here(), told, ended: false }
    }
}

impl<F: Future> Future for Traced<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        if !record::enabled(Group::Task) {
            let sampled = record::enabled(Group::Cpu).then(|| Sampled::begin(this.identity));
            let _labels = this.labels.enter(sampled.as_ref().map_or(TaskId(0), |sampled| sampled.task));
            let poll = this.future.poll(context);
            *this.ended |= poll.is_ready();
            return poll;
        }
        let epoch = record::epoch();
        if mem::replace(this.told, epoch) != epoch {
            this.identity.tell_name();
        }
        let running = Running::begin(this.identity, this.ended);
        let _labels = this.labels.enter(running.task);
        let poll = lend(this.shared, context.waker(), running.task, |waker| {
            this.future.poll(&mut Context::from_waker(waker))
        });
        running.end(poll.is_ready(), this.shared.as_deref());
        poll
    }
}

/// A poll that nobody wants to hear of, but samples say whose they are.
struct Sampled {
    task: TaskId,
    before: TaskId,
}

impl Sampled {
    fn begin(identity: &Identity) -> Sampled {
        let task = identity.task();
        Sampled { task, before: CURRENT.replace(task) }
    }
}

impl Drop for Sampled {
    fn drop(&mut self) {
        CURRENT.set(self.before);
    }
}

/// A poll that is going on. Dropped without [`Running::end`] it has panicked.
struct Running<'a> {
    task: TaskId,
    ended: &'a mut bool,
    /// The runtime's hooks record the poll itself.
    hooked: bool,
    before: TaskId,
}

impl<'a> Running<'a> {
    #[inline]
    fn begin(identity: &Identity, ended: &'a mut bool) -> Running<'a> {
        let (task, hooked) = (identity.task(), identity.is_the_runtimes());
        if !hooked {
            record::emit_at(clock::ticks(), PollBegin { task });
        }
        Running { task, ended, hooked, before: CURRENT.replace(task) }
    }

    #[inline]
    fn end(mut self, ready: bool, shared: Option<&Shared>) {
        let now = clock::ticks();
        if ready {
            self.finish(now, PollOutcome::Ready, TaskOutcome::Done);
        } else {
            let stack = shared.map_or(StackId(0), Shared::await_stack);
            record::emit_at(now, TaskSuspend { task: self.task, stack });
            if !self.hooked {
                record::emit_at(now, PollEnd { outcome: PollOutcome::Pending });
            }
            shared.into_iter().for_each(|shared| shared.suspended(now));
        }
        CURRENT.set(self.before);
        mem::forget(self);
    }

    fn finish(&mut self, now: u64, poll: PollOutcome, outcome: TaskOutcome) {
        *self.ended = true;
        if !self.hooked {
            record::emit_at(now, PollEnd { outcome: poll });
            record::emit_at(now, TaskEnd { task: self.task, outcome });
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.finish(clock::ticks(), PollOutcome::Panicked, TaskOutcome::Panicked);
        CURRENT.set(self.before);
    }
}

/// Recording for any future.
pub trait FutureExt: Future + Sized {
    /// Records this future as a task of its own, under a name.
    ///
    /// ```
    /// use kymo::FutureExt;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// let answer = runtime.block_on(async { 42 }.traced("answer"));
    /// assert_eq!(answer, 42);
    /// ```
    #[track_caller]
    fn traced(self, name: impl Into<Cow<'static, str>>) -> Traced<Self> {
        let identity = Identity::new(Some(name.into()), Location::caller());
        let told = identity.tell_spawn();
        Traced::new(self, identity, told)
    }

    /// Gives this future labels while it is polled, beside those of the task that it is part of. Tasks that it spawns
    /// inherit them.
    fn labelled(self, labels: Labels) -> Labelled<Self> {
        Labelled::new(self, labels)
    }
}

impl<F: Future> FutureExt for F {}

/// As `tokio::spawn`, with the task recorded: its spawn site and parent, polls, wakes, suspensions and end.
///
/// # Panics
/// As `tokio::spawn`: outside a runtime.
#[track_caller]
pub fn spawn<F>(future: F) -> ::tokio::task::JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    spawn_as(None, Location::caller(), future)
}

/// As [`spawn`], under a name instead of its spawn site.
///
/// # Panics
/// As `tokio::spawn`: outside a runtime.
#[track_caller]
pub fn spawn_named<F>(name: impl Into<Cow<'static, str>>, future: F) -> ::tokio::task::JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    spawn_as(Some(name.into()), Location::caller(), future)
}

fn spawn_as<F>(
    name: Option<Cow<'static, str>>,
    site: &'static Location<'static>,
    future: F,
) -> ::tokio::task::JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let identity = Identity::new(name, site);
    let told = identity.announce();
    let handle = ::tokio::spawn(Traced::new(future, identity, told));
    #[cfg(tokio_unstable)]
    super::tokio::tell_if_nobody_took_it();
    handle
}
