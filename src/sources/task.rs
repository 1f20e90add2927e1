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
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::mem;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::waker::Shared;
use crate::clock;
use crate::events::{
    Group, PollBegin, PollEnd, PollOutcome, TaskEnd, TaskId, TaskName, TaskOutcome, TaskSpawn, TaskSuspend,
};
use crate::record;

/// Our own numbers are even, the runtime's odd.
static NEXT_TASK: AtomicU64 = AtomicU64::new(2);

thread_local! {
    /// The task that this thread polls; 0 is none.
    static CURRENT: Cell<TaskId> = const { Cell::new(TaskId(0)) };
    /// Who is being spawned by [`spawn`] on this thread just now: for the runtime's spawn hook.
    static SPAWNING: RefCell<Option<Arc<Identity>>> = const { RefCell::new(None) };
}

/// Who a task is.
#[derive(Debug)]
pub(super) struct Identity {
    number: AtomicU64,
    name: Option<Cow<'static, str>>,
    site: &'static Location<'static>,
    parent: TaskId,
}

impl Identity {
    fn new(name: Option<Cow<'static, str>>, site: &'static Location<'static>) -> Arc<Identity> {
        let number = AtomicU64::new(NEXT_TASK.fetch_add(2, Ordering::Relaxed));
        Arc::new(Identity { number, name, site, parent: CURRENT.get() })
    }

    pub(super) fn task(&self) -> TaskId {
        TaskId(self.number.load(Ordering::Relaxed))
    }

    /// Takes the runtime's number: its hooks record this task's spawn, polls and end.
    #[cfg(tokio_unstable)]
    pub(super) fn adopt(&self, task: TaskId) {
        self.number.store(task.0, Ordering::Relaxed);
    }

    fn is_the_runtimes(&self) -> bool {
        self.task().0 & 1 == 1
    }

    fn name(&self) -> crate::events::StrId {
        self.name.as_deref().map_or_else(Default::default, record::string)
    }

    pub(super) fn tell_spawn(&self) {
        let (task, parent, site) = (self.task(), self.parent, record::site(self.site));
        record::emit(TaskSpawn { task, parent, name: self.name(), site });
    }

    fn tell_name(&self) {
        let (task, parent, site) = (self.task(), self.parent, record::site(self.site));
        record::emit(TaskName { task, name: self.name(), site, parent });
    }
}

/// The task that this thread polls; 0 is none.
#[cfg(tokio_unstable)]
pub(super) fn current() -> TaskId {
    CURRENT.get()
}

/// Notes which task this thread polls; the one before comes back.
#[cfg(tokio_unstable)]
pub(super) fn set_current(task: TaskId) -> TaskId {
    CURRENT.replace(task)
}

/// Who is being spawned on this thread just now, once.
#[cfg(tokio_unstable)]
pub(super) fn take_spawning() -> Option<Arc<Identity>> {
    SPAWNING.take()
}

pin_project! {
    /// A future whose polls, wakes and suspensions are recorded: made by [`FutureExt::traced`] and [`spawn`].
    #[derive(Debug)]
    pub struct Traced<F> {
        #[pin]
        future: F,
        identity: Arc<Identity>,
        shared: Option<Arc<Shared>>,
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
    fn new(future: F, identity: Arc<Identity>, told: u64) -> Traced<F> {
        Traced { future, identity, shared: None, told, ended: false }
    }
}

impl<F: Future> Future for Traced<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        if !record::enabled(Group::Task) {
            let poll = this.future.poll(context);
            *this.ended |= poll.is_ready();
            return poll;
        }
        let epoch = record::epoch();
        if mem::replace(this.told, epoch) != epoch {
            this.identity.tell_name();
        }
        let shared = Shared::for_poll(this.shared, context.waker(), this.identity.task());
        let running = Running::begin(this.identity, shared, this.ended);
        let waker = shared.lend();
        let poll = this.future.poll(&mut Context::from_waker(&waker));
        running.end(poll.is_ready());
        poll
    }
}

/// A poll that is going on. Dropped without [`Running::end`] it has panicked.
struct Running<'a> {
    task: TaskId,
    shared: &'a Shared,
    ended: &'a mut bool,
    /// The runtime's hooks record the poll itself.
    hooked: bool,
    before: TaskId,
}

impl<'a> Running<'a> {
    #[inline]
    fn begin(identity: &Identity, shared: &'a Shared, ended: &'a mut bool) -> Running<'a> {
        let (task, hooked) = (identity.task(), identity.is_the_runtimes());
        let now = clock::ticks();
        if !hooked {
            record::emit_at(now, PollBegin { task });
        }
        Running { task, shared, ended, hooked, before: CURRENT.replace(task) }
    }

    #[inline]
    fn end(mut self, ready: bool) {
        let now = clock::ticks();
        if ready {
            self.finish(now, PollOutcome::Ready, TaskOutcome::Done);
        } else {
            record::emit_at(now, TaskSuspend { task: self.task, stack: self.shared.await_stack() });
            if !self.hooked {
                record::emit_at(now, PollEnd { outcome: PollOutcome::Pending });
            }
            self.shared.suspended(now);
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
        self.shared.suspended(0);
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
        let told = if record::enabled(Group::Task) { record::epoch() } else { 0 };
        if told != 0 {
            identity.tell_spawn();
        }
        Traced::new(self, identity, told)
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
    let told = if record::enabled(Group::Task) { record::epoch() } else { 0 };
    if !cfg!(tokio_unstable) {
        if told != 0 {
            identity.tell_spawn();
        }
        return ::tokio::spawn(Traced::new(future, identity, told));
    }
    SPAWNING.set(Some(identity.clone()));
    let handle = ::tokio::spawn(Traced::new(future, identity, told));
    // Nobody took it: this runtime has no hooks of ours, so the spawn is ours to tell.
    if let Some(identity) = SPAWNING.take()
        && told != 0
    {
        identity.tell_spawn();
    }
    handle
}
