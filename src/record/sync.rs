//! What the recorder's protocol is built of: atomics, cells, queues, and the asymmetric fence.
//!
//! `ring` and `registry` use nothing else, so that `tests/loom.rs` can put loom's in the place of these and look at
//! every interleaving.
//!
//! The fence has two halves: [`light_fence`] on the writers' side, which is free where membarrier(2) works, and
//! [`heavy_fence`] on the drain's, which makes every running thread of the process pass a full fence.

#![allow(unsafe_code, reason = "membarrier(2)")]

use std::sync::atomic::{AtomicBool, compiler_fence, fence};
pub(super) use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

pub(super) use crossbeam_queue::ArrayQueue;

/// Bytes of events in a chunk: what is left of [`crate::limits::CHUNK_BYTES`] behind the head.
pub(super) const CHUNK_ROOM: usize = crate::limits::CHUNK_BYTES - 64;

/// What commits are published with. loom's mutant has `Relaxed` here.
pub(super) const PUBLISH: Ordering = Ordering::Release;

/// `UnsafeCell` with loom's interface.
#[derive(Debug)]
pub(super) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    #[cfg(test)]
    pub(super) const fn new(value: T) -> UnsafeCell<T> {
        UnsafeCell(std::cell::UnsafeCell::new(value))
    }

    #[inline(always)]
    pub(super) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    #[inline(always)]
    pub(super) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

static EXPEDITED: AtomicBool = AtomicBool::new(false);

/// Orders a writer's "I am inside" before its look at the chunk, as the drain sees it.
#[inline(always)]
pub(super) fn light_fence() {
    match EXPEDITED.load(Ordering::Relaxed) {
        true => compiler_fence(Ordering::SeqCst),
        false => fence(Ordering::SeqCst),
    }
}

/// Orders the drain's taking of chunks before its look at who is inside, for every writer at once.
pub(super) fn heavy_fence() {
    fence(Ordering::SeqCst);
    if EXPEDITED.load(Ordering::Relaxed) {
        membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED);
    }
}

/// Registers the process for expedited barriers; where the kernel refuses, writers fence themselves. Called before the
/// first writer writes: one that skips its fence relies on it.
pub(super) fn init_fences() -> bool {
    let expedited = membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
    EXPEDITED.store(expedited, Ordering::SeqCst);
    expedited
}

fn membarrier(command: libc::c_int) -> bool {
    // SAFETY: membarrier(2) takes three numbers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}
