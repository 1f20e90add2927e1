//! The atomics that the recorder's protocol is built of: std's, or loom's when loom checks it.
//!
//! Also the two halves of the asymmetric fence: [`light_fence`] on the writers' side, which is free where
//! membarrier(2) works, and [`heavy_fence`] on the drain's. Under loom, and where membarrier is refused, both are
//! full fences.

#![allow(unsafe_code, reason = "membarrier(2)")]

#[cfg(loom)]
pub(super) use loom::{
    cell::UnsafeCell,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence},
};
#[cfg(not(loom))]
pub(super) use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering, compiler_fence, fence,
};

/// What a writer's commit is published with. The mutant that loom must catch publishes without ordering.
pub(super) const PUBLISH: Ordering = if cfg!(kymo_mutant) { Ordering::Relaxed } else { Ordering::Release };

/// `UnsafeCell` with loom's interface.
#[cfg(not(loom))]
#[derive(Debug)]
pub(super) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    #[inline(always)]
    pub(super) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    #[inline(always)]
    pub(super) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

#[cfg(not(loom))]
static EXPEDITED: AtomicBool = AtomicBool::new(false);

/// Orders a writer's "I am busy" before its look at the chunk, as the drain sees it.
#[inline(always)]
pub(super) fn light_fence() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
    #[cfg(not(loom))]
    match EXPEDITED.load(Ordering::Relaxed) {
        true => compiler_fence(Ordering::SeqCst),
        false => fence(Ordering::SeqCst),
    }
}

/// Orders the drain's taking of a chunk before its look at "busy", for every writer at once.
pub(super) fn heavy_fence() {
    fence(Ordering::SeqCst);
    #[cfg(not(loom))]
    if EXPEDITED.load(Ordering::Relaxed) {
        membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED);
    }
}

/// Registers the process for expedited barriers. Writers fence themselves from now on if the kernel refuses. Must be
/// called before the first writer writes: a writer that skips its fence relies on it.
#[cfg(not(loom))]
pub(super) fn init_fences() -> bool {
    let expedited = membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
    EXPEDITED.store(expedited, Ordering::SeqCst);
    expedited
}

#[cfg(not(loom))]
fn membarrier(command: libc::c_int) -> bool {
    // SAFETY: membarrier(2) takes three numbers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}
