//! The system's allocator, which notes what this thread asks for and can be told to refuse.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// What was asked for, and the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Nothing,
    Alloc(Layout, usize),
    Zeroed(Layout, usize),
    Realloc(usize, Layout, usize, usize),
    Dealloc(usize, Layout),
}

thread_local! {
    static LATEST: Cell<Asked> = const { Cell::new(Asked::Nothing) };
    static TIMES: Cell<u64> = const { Cell::new(0) };
    static REFUSES: Cell<bool> = const { Cell::new(false) };
}

/// What this thread has asked for at last.
pub(crate) fn latest() -> Asked {
    LATEST.get()
}

/// How often it has asked while it did something.
pub(crate) fn times(work: impl FnOnce()) -> u64 {
    let before = TIMES.get();
    work();
    TIMES.get() - before
}

/// Gives this thread no memory while it does something.
pub(crate) fn refusing<R>(work: impl FnOnce() -> R) -> R {
    REFUSES.set(true);
    let result = work();
    REFUSES.set(false);
    result
}

pub(crate) struct Noting;

fn note(asked: Asked) {
    LATEST.set(asked);
    TIMES.set(TIMES.get() + 1);
}

/// What is given, if anything is.
fn granted(give: impl FnOnce() -> *mut u8) -> *mut u8 {
    if REFUSES.get() { std::ptr::null_mut() } else { give() }
}

// SAFETY: every call goes to the system's allocator with the caller's arguments, or is refused.
unsafe impl GlobalAlloc for Noting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let place = granted(|| {
            // SAFETY: the caller's arguments.
            unsafe { System.alloc(layout) }
        });
        note(Asked::Alloc(layout, place.addr()));
        place
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let place = granted(|| {
            // SAFETY: the caller's arguments.
            unsafe { System.alloc_zeroed(layout) }
        });
        note(Asked::Zeroed(layout, place.addr()));
        place
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let old = place.addr();
        let place = granted(|| {
            // SAFETY: the caller's arguments.
            unsafe { System.realloc(place, layout, size) }
        });
        note(Asked::Realloc(old, layout, size, place.addr()));
        place
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        note(Asked::Dealloc(place.addr(), layout));
        // SAFETY: the caller's arguments.
        unsafe { System.dealloc(place, layout) }
    }
}
