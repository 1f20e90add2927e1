//! How much each thread has allocated and freed, exactly; and when its next sample is due.
//!
//! A thread has a line of counters that only it writes, so that counting is an addition to memory of its own. Lines
//! stand in a fixed table and are summed by whoever asks: a thread that ends leaves its line to the next one, counts
//! and all, so sums stay true. Threads beyond the table, and what a thread does after its line was given back, count
//! in one line for all of them, by atomic additions.
//!
//! Does not know what is sampled: it says when.

#![allow(unsafe_code, reason = "pthread keys: what std has no word for")]

use std::cell::Cell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::limits::THREADS;

/// A thread's counters: a cache line.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Counts {
    allocated_bytes: AtomicU64,
    allocated_objects: AtomicU64,
    freed_bytes: AtomicU64,
    freed_objects: AtomicU64,
    /// What `allocated_bytes` is when the next sample is due; 0: not drawn yet.
    pub(super) sample_at: AtomicU64,
    /// The state of its random numbers; 0: not begun.
    pub(super) random: AtomicU64,
    owned: AtomicU32,
}

impl Counts {
    const fn new() -> Counts {
        Counts {
            allocated_bytes: AtomicU64::new(0),
            allocated_objects: AtomicU64::new(0),
            freed_bytes: AtomicU64::new(0),
            freed_objects: AtomicU64::new(0),
            sample_at: AtomicU64::new(0),
            random: AtomicU64::new(0),
            owned: AtomicU32::new(0),
        }
    }

    fn claim(&self) -> bool {
        self.owned.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Bytes that its thread has allocated.
    pub(super) fn allocated(&self) -> u64 {
        self.allocated_bytes.load(Ordering::Relaxed)
    }
}

/// What the program has allocated and freed since it began, as it asked for it: without the allocator's own overhead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeapCounts {
    /// Bytes allocated. A reallocation counts as an allocation of the new size and a free of the old one.
    pub allocated_bytes: u64,
    /// Allocations.
    pub allocated_objects: u64,
    /// Bytes freed.
    pub freed_bytes: u64,
    /// Frees.
    pub freed_objects: u64,
}

impl HeapCounts {
    /// Bytes that are allocated now.
    pub fn live_bytes(&self) -> u64 {
        self.allocated_bytes.saturating_sub(self.freed_bytes)
    }

    /// Allocations that live now.
    pub fn live_objects(&self) -> u64 {
        self.allocated_objects.saturating_sub(self.freed_objects)
    }
}

static LINES: [Counts; THREADS] = [const { Counts::new() }; THREADS];

/// Of all threads that have no line of their own.
static SHARED: Counts = Counts::new();

/// Lines that have ever been owned are those below.
static USED: AtomicU32 = AtomicU32::new(0);

/// A line that was given back lately.
static GIVEN_BACK: AtomicU32 = AtomicU32::new(0);

/// The key whose destructor gives a thread's line back, plus one; 0 before there is one.
static KEY: AtomicU32 = AtomicU32::new(0);

thread_local! {
    // Without a destructor and a first use: good from a thread's first instruction to its last.
    /// This thread's line.
    static OWN: Cell<Option<&'static Counts>> = const { Cell::new(None) };
    /// It has none, and gets none: it counts in the one for all.
    static SHARES: Cell<bool> = const { Cell::new(false) };
}

/// What the program has allocated and freed so far: all zeros unless [`Alloc`](super::Alloc) is its global allocator.
pub fn heap_counts() -> HeapCounts {
    let mut sum = HeapCounts::default();
    // Frees first: what is freed was allocated before, so that nothing ever seems to be freed twice.
    for line in used().chain([&SHARED]) {
        sum.freed_bytes += line.freed_bytes.load(Ordering::Relaxed);
        sum.freed_objects += line.freed_objects.load(Ordering::Relaxed);
    }
    for line in used().chain([&SHARED]) {
        sum.allocated_bytes += line.allocated_bytes.load(Ordering::Relaxed);
        sum.allocated_objects += line.allocated_objects.load(Ordering::Relaxed);
    }
    sum
}

/// Every line that some thread has or had.
pub(super) fn used() -> impl Iterator<Item = &'static Counts> {
    LINES.iter().take(USED.load(Ordering::Acquire) as usize)
}

/// Whether the allocator that counts here is the program's.
pub(super) fn in_use() -> bool {
    USED.load(Ordering::Relaxed) > 0 || SHARED.allocated() > 0
}

/// Counts an allocation; whether a sample is due, with it or before it.
#[inline(always)]
pub(super) fn allocated(size: usize) -> bool {
    let Some(line) = OWN.get() else { return allocated_first(size) };
    let bytes = grow(&line.allocated_bytes, size as u64);
    grow(&line.allocated_objects, 1);
    bytes >= line.sample_at.load(Ordering::Relaxed)
}

/// Counts a free.
#[inline(always)]
pub(super) fn freed(size: usize) {
    let Some(line) = OWN.get() else { return freed_first(size) };
    grow(&line.freed_bytes, size as u64);
    grow(&line.freed_objects, 1);
}

/// Counts a reallocation; whether a sample is due. Only bytes that come to an allocation which is not sampled yet
/// bring the next sample nearer: the others have had their chance.
#[inline]
pub(super) fn reallocated(old: usize, new: usize, sampled: bool) -> bool {
    freed(old);
    let looked_at = if sampled { new } else { old.min(new) };
    if let Some(line) = OWN.get()
        && line.sample_at.load(Ordering::Relaxed) != 0
    {
        grow(&line.sample_at, looked_at as u64);
    }
    allocated(new) && looked_at < new
}

/// Adds to a counter that only this thread writes.
#[inline(always)]
fn grow(counter: &AtomicU64, by: u64) -> u64 {
    let grown = counter.load(Ordering::Relaxed).wrapping_add(by);
    counter.store(grown, Ordering::Relaxed);
    grown
}

#[cold]
#[inline(never)]
fn allocated_first(size: usize) -> bool {
    if claims_a_line() {
        return allocated(size);
    }
    SHARED.allocated_bytes.fetch_add(size as u64, Ordering::Relaxed);
    SHARED.allocated_objects.fetch_add(1, Ordering::Relaxed);
    true
}

#[cold]
#[inline(never)]
fn freed_first(size: usize) {
    if claims_a_line() {
        return freed(size);
    }
    SHARED.freed_bytes.fetch_add(size as u64, Ordering::Relaxed);
    SHARED.freed_objects.fetch_add(1, Ordering::Relaxed);
}

/// This thread's line, if it has one of its own; else the one for all, and that it is.
pub(super) fn own() -> Result<&'static Counts, &'static Counts> {
    OWN.get().ok_or(&SHARED)
}

/// Whether this thread has a line now: it claims one if it never did.
fn claims_a_line() -> bool {
    if SHARES.get() {
        return false;
    }
    let Some(line) = claim() else {
        SHARES.set(true);
        return false;
    };
    OWN.set(Some(line));
    match KEY.load(Ordering::Acquire) {
        0 => {}
        // SAFETY: the key was made by `give_lines_back`; the value is only ever read by its destructor.
        key => unsafe {
            libc::pthread_setspecific(key - 1, std::ptr::from_ref(line).cast());
        },
    }
    true
}

fn claim() -> Option<&'static Counts> {
    let given_back = &LINES[GIVEN_BACK.load(Ordering::Relaxed) as usize];
    let first_free = || LINES.iter().find(|line| line.claim());
    if (GIVEN_BACK.load(Ordering::Relaxed) < USED.load(Ordering::Relaxed)) && given_back.claim() {
        return Some(given_back);
    }
    let next = |used: u32| ((used as usize) < THREADS).then_some(used + 1);
    match USED.fetch_update(Ordering::AcqRel, Ordering::Relaxed, next) {
        Ok(index) if LINES[index as usize].claim() => Some(&LINES[index as usize]),
        _ => first_free(),
    }
}

/// From now on threads that end leave their lines to others.
pub(super) fn give_lines_back() {
    /// Called at a thread's end with its line.
    unsafe extern "C" fn give_back(line: *mut c_void) {
        OWN.set(None);
        SHARES.set(true);
        let index = (line.addr() - LINES.as_ptr().addr()) / size_of::<Counts>();
        LINES[index].owned.store(0, Ordering::Release);
        GIVEN_BACK.store(index as u32, Ordering::Relaxed);
    }
    let mut key = 0;
    // SAFETY: `key` is a live place for the new key, and `give_back` matches the destructor's signature.
    if unsafe { libc::pthread_key_create(&mut key, Some(give_back)) } == 0 {
        KEY.store(key + 1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_threads_that_ended_stay_and_their_lines_are_used_again() {
        give_lines_back();
        let before = heap_counts();
        for _ in 0..100 {
            std::thread::spawn(|| (allocated(40), freed(30))).join().unwrap();
        }
        let after = heap_counts();
        assert_eq!(after.live_bytes() - before.live_bytes(), 1000);
        assert_eq!(after.allocated_objects - before.allocated_objects, 100);
        assert!(used().count() < 50, "{}", used().count());
    }

    /// Allocates, and asks to be called again.
    unsafe extern "C" fn allocates_to_the_end(key: *mut c_void) {
        allocated(1);
        // SAFETY: the value is the key, which the test has made.
        unsafe { libc::pthread_setspecific(key.addr() as libc::pthread_key_t, key) };
    }

    #[test]
    fn a_thread_that_has_given_its_line_back_takes_no_other() {
        give_lines_back();
        let mut key = 0;
        // SAFETY: `key` is a live place, and the destructor's signature is right.
        assert_eq!(unsafe { libc::pthread_key_create(&mut key, Some(allocates_to_the_end)) }, 0);
        let value = key as usize;
        let shared = SHARED.allocated();
        for _ in 0..100 {
            let ends = move || {
                allocated(1);
                // SAFETY: the key was made above.
                unsafe { libc::pthread_setspecific(key, std::ptr::without_provenance(value)) }
            };
            assert_eq!(std::thread::spawn(ends).join().unwrap(), 0);
        }
        assert!(used().count() < 50, "{}", used().count());
        assert!(SHARED.allocated() > shared, "who comes too late shares");
    }
}
