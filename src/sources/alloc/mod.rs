//! The program's allocator, watched: how much is allocated and freed, by whom, and what of it still lives.
//!
//! ```
//! #[global_allocator]
//! static ALLOC: kymo::Alloc = kymo::Alloc::new();
//! # fn main() {}
//! ```
//!
//! # The way of an allocation
//! 1. The inner allocator does it; a null pointer passes untouched, and counts for nothing.
//! 2. This thread's counts grow (`counts`): two additions to memory of its own.
//! 3. Mostly that is all. When the bytes reach the thread's next sample, a random distance of [`set_mem_profile_rate`]'s
//!    mean away, the stack is taken and the weight is worked out that makes totals unbiased (`sampler`).
//! 4. The sample is added to its stack's totals (`totals`), and kept by its address until it is freed (`live`).
//!
//! A free costs one load beside its counts: of a counter that says whether a sampled allocation may be at that address.
//!
//! # Invariants
//! 1. Nothing here MUST allocate, lock or call the C library, but for a thread's first allocation. Otherwise an
//!    allocator would wait for itself.
//! 2. Memory is given to the inner allocator only after it was forgotten here. Otherwise another thread that gets the
//!    address would find the old allocation's sample.
//! 3. What kymo allocates while it takes a sample is never sampled.
//!
//! What is allocated before the first capture, or before [`serve`](crate::serve) or [`router`](crate::router) is called,
//! has no stack. Not seen: what C code allocates by itself, and the allocator's own overhead.

#![allow(unsafe_code, reason = "GlobalAlloc is an unsafe trait")]

mod counts;
mod live;
mod sampler;
mod told;
mod totals;

use std::alloc::{GlobalAlloc, Layout, System};

pub use counts::{HeapCounts, heap_counts};
pub use sampler::{mem_profile_rate, set_mem_profile_rate};
#[cfg_attr(not(feature = "http"), allow(unused_imports, reason = "nobody serves"))]
pub(crate) use told::serve;

/// A global allocator that hands everything to `A` and lets kymo see it.
///
/// ```
/// use std::alloc::System;
/// #[global_allocator]
/// static ALLOC: kymo::Alloc<System> = kymo::Alloc::over(System); // or jemalloc, mimalloc
/// # fn main() {}
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Alloc<A = System> {
    inner: A,
}

impl Alloc {
    /// Over the system's allocator.
    pub const fn new() -> Alloc {
        Alloc { inner: System }
    }
}

impl<A> Alloc<A> {
    /// Over another allocator.
    pub const fn over(inner: A) -> Alloc<A> {
        Alloc { inner }
    }
}

// SAFETY: every call is handed to an allocator with the caller's own arguments, and its answer to the caller; beside
// that, addresses and sizes are looked at as numbers.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Alloc<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's arguments, unchanged.
        let place = unsafe { self.inner.alloc(layout) };
        allocated(place, layout.size());
        place
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's arguments, unchanged.
        let place = unsafe { self.inner.alloc_zeroed(layout) };
        allocated(place, layout.size());
        place
    }

    #[inline]
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        counts::freed(layout.size());
        if live::may_hold(place) {
            sampler::freed(place);
        }
        // SAFETY: the caller's arguments, unchanged.
        unsafe { self.inner.dealloc(place, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Before the inner allocator may give the address to somebody else.
        let sample = if live::may_hold(place) { live::take(place) } else { None };
        // SAFETY: the caller's arguments, unchanged.
        let moved = unsafe { self.inner.realloc(place, layout, size) };
        if moved.is_null() {
            sample.into_iter().for_each(|sample| live::put_back(place, sample));
            return moved;
        }
        let due = counts::reallocated(layout.size(), size, sample.is_some());
        if due || sample.is_some() {
            sampler::reallocated(place, moved, [layout.size(), size], sample, due);
        }
        moved
    }
}

#[inline(always)]
fn allocated(place: *mut u8, size: usize) {
    if !place.is_null() && counts::allocated(size) {
        sampler::due(place, size, size);
    }
}
