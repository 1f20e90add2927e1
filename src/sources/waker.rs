//! The waker that a traced task hands down: it tells who wakes, and where the task awaits.
//!
//! A leaf future that goes pending keeps a clone of the waker; the stack at that moment, inside the leaf inside the
//! awaiting functions, *is* the await stack. A leaf that still has the waker from an earlier poll does not clone it
//! again (`will_wake`), and then the task's latest await stack still holds. So it does when the clone comes from as
//! deep below the poll as the one before: the same functions, in practice, at a hundredth of a stack's cost.
//!
//! Either could go stale: a leaf that kept its waker from before, another path of equal depth. So after a suspension
//! that lasted, the task's next poll presents the same waker under its other identity (one bit of the pointer), every
//! leaf clones anew, and the stack is taken again. What a long wait was for is therefore never told by a stale stack
//! twice.
//!
//! `std::task::Wake` would do but for the clone, which it doesn't let one see: hence the table of functions.
//!
//! Many tasks end in their first poll, and nobody ever clones their waker: so the state that wakers share is made by
//! the first clone, and until then a poll lends a waker to its own frame.
//!
//! # Invariants
//! 1. A waker's data is `Arc::into_raw` of a [`Shared`], the lowest bit being its identity; or, for one that is lent
//!    before there is a `Shared`, the address of the poll's [`First`]. Each live waker, but for lent ones, owns one
//!    count of its `Arc`. Otherwise a late wake would touch freed memory.
//! 2. A lent waker is given out by reference for one poll, during which the poll's frame and the task's own count live.

#![allow(unsafe_code, reason = "RawWaker is unsafe, and Wake does not let one see clones")]

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::task::{RawWaker, RawWakerVTable, Waker};

use crate::clock;
use crate::events::{Group, StackId, TaskId, TaskWake};
use crate::limits::WAKE_STACK_NS;
use crate::record;

thread_local! {
    static POLLED: Cell<Polled> = const { Cell::new(Polled { task: 0, frame: 0 }) };
}

/// The poll that runs on this thread: only its task's clones take stacks.
#[derive(Debug, Clone, Copy)]
struct Polled {
    /// The task's [`Shared`], by address, under the identity that this poll presents.
    task: usize,
    /// Where about the poll's frame is on the stack.
    frame: usize,
}

/// What a task and all its wakers share.
#[derive(Debug)]
#[repr(align(8))]
pub(super) struct Shared {
    task: TaskId,
    /// The executor's waker.
    inner: Waker,
    /// Where the task was when its waker was last cloned in a poll.
    await_stack: AtomicU32,
    /// How deep below the poll that was, and under which identity; 0: never.
    await_depth: AtomicUsize,
    /// Ticks since which the task is suspended; 0 while it isn't, and after its first wake.
    suspended_at: AtomicU64,
    /// The identity that the next poll presents.
    identity: AtomicBool,
}

/// A poll's state where there is no [`Shared`] yet: what the first clone makes one of.
#[derive(Debug)]
struct First<'a> {
    task: TaskId,
    inner: &'a Waker,
    frame: usize,
    made: RefCell<Option<Arc<Shared>>>,
}

/// Puts back which poll runs on this thread, however this one ends.
struct PutBack(Polled);

impl Drop for PutBack {
    fn drop(&mut self) {
        POLLED.set(self.0);
    }
}

/// Calls `poll` with a waker of the task whose shared state is in `slot`, or comes to be there. Another waker of the
/// executor's than before begins a new one.
#[inline]
pub(super) fn lend<R>(
    slot: &mut Option<Arc<Shared>>,
    inner: &Waker,
    task: TaskId,
    poll: impl FnOnce(&Waker) -> R,
) -> R {
    if slot.as_ref().is_some_and(|shared| shared.task != task || !shared.inner.will_wake(inner)) {
        *slot = None;
    }
    if let Some(shared) = slot {
        let identity = usize::from(shared.identity.load(Ordering::Relaxed));
        let data = Arc::as_ptr(shared).map_addr(|address| address | identity);
        let _back = PutBack(POLLED.replace(Polled { task: data.addr(), frame: here() }));
        // SAFETY: the data is as invariant 1 wants it; that this waker owns no count is made good by ManuallyDrop, and
        // the slot holds one for as long as it is lent (invariant 2).
        let waker = ManuallyDrop::new(unsafe { Waker::new(data.cast(), &VTABLE) });
        return poll(&waker);
    }
    let first = First { task, inner, frame: here(), made: RefCell::new(None) };
    // SAFETY: the data is this frame's `First`, which outlives the loan (invariant 2); it owns nothing to drop.
    let waker = ManuallyDrop::new(unsafe { Waker::new((&raw const first).cast(), &FIRST) });
    let result = poll(&waker);
    *slot = first.made.into_inner();
    result
}

impl Shared {
    fn new(inner: Waker, task: TaskId) -> Shared {
        Shared {
            task,
            inner,
            await_stack: AtomicU32::new(0),
            await_depth: AtomicUsize::new(0),
            suspended_at: AtomicU64::new(0),
            identity: AtomicBool::new(false),
        }
    }

    /// The task is suspended since then; 0: it is not.
    #[inline]
    pub(super) fn suspended(&self, at: u64) {
        self.suspended_at.store(at, Ordering::Relaxed);
    }

    /// Where the task awaits.
    #[inline]
    pub(super) fn await_stack(&self) -> StackId {
        StackId(self.await_stack.load(Ordering::Relaxed))
    }

    /// Takes the stack of an await, unless it is that of the clone before.
    #[inline]
    fn note_await(&self, polled: Polled) {
        let depth = polled.frame.wrapping_sub(here()) << 1 | (polled.task & 1);
        if self.await_depth.load(Ordering::Relaxed) != depth {
            self.await_stack.store(record::stack().0, Ordering::Relaxed);
            self.await_depth.store(depth, Ordering::Relaxed);
        }
    }

    /// Tells that somebody wakes the task, now, here.
    #[inline]
    fn tell_wake(&self) {
        if !record::enabled(Group::Task) {
            return;
        }
        let now = clock::ticks();
        let suspended_at = self.suspended_at.load(Ordering::Relaxed);
        let mut stack = StackId(0);
        if suspended_at != 0 {
            self.suspended_at.store(0, Ordering::Relaxed);
            stack = record::stack_if_lasted(suspended_at, now, WAKE_STACK_NS);
            if clock::nanos_between(suspended_at, now) >= WAKE_STACK_NS {
                self.identity.store(!self.identity.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
        record::emit_at(now, TaskWake { task: self.task, stack });
    }
}

static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop_waker);

/// Where about this frame is on the stack.
#[inline(always)]
fn here() -> usize {
    let place = 0u8;
    std::ptr::from_ref(std::hint::black_box(&place)).addr()
}

/// The pointer without its identity.
fn shared(data: *const ()) -> *const Shared {
    data.map_addr(|address| address & !1).cast()
}

/// The functions of a waker that is lent before there is a [`Shared`]: only ever called by reference.
static FIRST: RawWakerVTable = RawWakerVTable::new(clone_first, wake_first, wake_first, |_| ());

unsafe fn clone_first(data: *const ()) -> RawWaker {
    // SAFETY: the data is the poll's `First`, which lives while its waker is lent (invariant 2).
    let first = unsafe { &*data.cast::<First<'_>>() };
    let mut made = first.made.borrow_mut();
    let shared = made.get_or_insert_with(|| Arc::new(Shared::new(first.inner.clone(), first.task)));
    if record::enabled(Group::Task) {
        shared.note_await(Polled { task: Arc::as_ptr(shared).addr(), frame: first.frame });
    }
    RawWaker::new(Arc::into_raw(shared.clone()).cast(), &VTABLE)
}

unsafe fn wake_first(data: *const ()) {
    // SAFETY: as in `clone_first`.
    let first = unsafe { &*data.cast::<First<'_>>() };
    record::emit(TaskWake { task: first.task, stack: StackId(0) });
    first.inner.wake_by_ref();
}

unsafe fn clone(data: *const ()) -> RawWaker {
    let pointer = shared(data);
    // SAFETY: the waker that is cloned keeps the Arc alive (invariants 1 and 2).
    unsafe { Arc::increment_strong_count(pointer) };
    let polled = POLLED.get();
    if polled.task == data.addr() && record::enabled(Group::Task) {
        // SAFETY: as above.
        unsafe { &*pointer }.note_await(polled);
    }
    RawWaker::new(data, &VTABLE)
}

unsafe fn wake(data: *const ()) {
    // SAFETY: the waker owns one count (invariant 1), which is ours now and goes at the end.
    let shared = unsafe { Arc::from_raw(shared(data)) };
    shared.tell_wake();
    shared.inner.wake_by_ref();
}

unsafe fn wake_by_ref(data: *const ()) {
    // SAFETY: the waker keeps the Arc alive (invariants 1 and 2).
    let shared = unsafe { &*shared(data) };
    shared.tell_wake();
    shared.inner.wake_by_ref();
}

unsafe fn drop_waker(data: *const ()) {
    // SAFETY: the waker owns one count (invariant 1), which goes with it.
    drop(unsafe { Arc::from_raw(shared(data)) });
}
