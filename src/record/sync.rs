//! What the recorder's protocol is built of: atomics, cells, queues, and the asymmetric fence.
//!
//! `ring` and `registry` use nothing else, so that `tests/loom.rs` can put loom's in the place of these and look at
//! every interleaving.
//!
//! The fence has two halves: [`Fence::light`] on the writers' side, which is free where membarrier(2) works, and
//! [`heavy_fence`] on the drain's, which makes every running thread of the process pass a full fence.

#![allow(unsafe_code, reason = "membarrier(2)")]

use std::cell::UnsafeCell;
use std::ops::Range;
pub(super) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::atomic::{compiler_fence, fence};

pub(super) use crossbeam_queue::ArrayQueue;

/// Bytes of events in a chunk: what is left of [`crate::limits::CHUNK_BYTES`] behind the head.
pub(super) const CHUNK_ROOM: usize = crate::limits::CHUNK_BYTES - 64;

/// What a chunk's length is published with. loom's mutants have `Relaxed` in the place of one of these.
pub(super) const PUBLISH_LENGTH: Ordering = Ordering::Release;

/// What "no longer busy" is published with.
pub(super) const PUBLISH_BUSY: Ordering = Ordering::Release;

/// What a place's holder is published with.
pub(super) const PUBLISH_HOLDER: Ordering = Ordering::Release;

/// A chunk's bytes. Whoever touches some names which: loom's stand-in checks that nobody else does.
#[repr(transparent)]
pub(super) struct Bytes(UnsafeCell<[u8; CHUNK_ROOM]>);

impl Bytes {
    #[cfg(test)]
    pub(super) const fn new() -> Bytes {
        Bytes(UnsafeCell::new([0; CHUNK_ROOM]))
    }

    /// A pointer to the first of these bytes, for reading them.
    #[inline(always)]
    pub(super) fn with<R>(&self, bytes: Range<usize>, read: impl FnOnce(*const u8) -> R) -> R {
        read(self.0.get().cast::<u8>().wrapping_add(bytes.start))
    }

    /// A pointer to the first of these bytes, for writing them.
    #[inline(always)]
    pub(super) fn with_mut<R>(&self, bytes: Range<usize>, write: impl FnOnce(*mut u8) -> R) -> R {
        write(self.0.get().cast::<u8>().wrapping_add(bytes.start))
    }
}

static EXPEDITED: AtomicBool = AtomicBool::new(false);

/// How writers order "I am inside" before their look at the chunk, as the drain sees it: the same for all of them,
/// settled before the first one writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fence {
    /// The drain's fence does it for them.
    Expedited,
    /// They do it themselves: membarrier(2) is refused.
    Own,
}

impl Fence {
    /// What this process has.
    pub(super) fn settled() -> Fence {
        if EXPEDITED.load(Ordering::Relaxed) { Fence::Expedited } else { Fence::Own }
    }

    /// The writers' half.
    #[inline(always)]
    pub(super) fn light(self) {
        match self {
            Fence::Expedited => compiler_fence(Ordering::SeqCst),
            Fence::Own => fence(Ordering::SeqCst),
        }
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
