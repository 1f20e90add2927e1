//! The memory that recording is made of: mapped once; chunks are given back when no capture runs.
//!
//! One mapping for all chunks, so that it counts as one towards the kernel's limit on mappings. Chunks, slots and
//! tables are all valid as zeros, so that pages which nothing has touched take no memory.

#![allow(unsafe_code, reason = "mmap(2), madvise(2) and zeroed memory")]

use super::live::Entry;
use super::registry::Place;
use super::ring::{Chunk, ChunkRef};
use super::sync::{AtomicU32, AtomicU64};
use super::thread::Slot;

/// A type of which all-zero bytes are a valid value.
///
/// # Safety
/// They MUST be.
pub(super) unsafe trait Zeroed {}

// SAFETY: the number zero.
unsafe impl Zeroed for AtomicU32 {}
// SAFETY: the number zero.
unsafe impl Zeroed for AtomicU64 {}
// SAFETY: two numbers.
unsafe impl Zeroed for (AtomicU64, AtomicU32) {}
// SAFETY: three numbers.
unsafe impl Zeroed for Entry {}
// SAFETY: a number, and a slot, which is made of numbers, `AtomicBool`s and lanes; those of numbers and a pointer that
// may be null.
unsafe impl Zeroed for Place<Slot> {}

/// As many zeros; large ones come from the system, page by page when they are first touched.
pub(super) fn zeroed<T: Zeroed>(count: usize) -> Box<[T]> {
    let zeros = Box::new_zeroed_slice(count);
    // SAFETY: zero bytes are a valid T, says `Zeroed`.
    unsafe { zeros.assume_init() }
}

/// Whether the process may take as much address space: what std allocates after this ends the program if it can't be
/// had.
///
/// # Errors
/// mmap(2)'s.
pub(super) fn look_for_room(bytes: usize) -> std::io::Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing that exists.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: nobody knows of it.
    unsafe { libc::munmap(base, bytes) };
    Ok(())
}

/// Maps `count` chunks. They stay mapped for the process's life; untouched ones take no memory.
///
/// # Errors
/// mmap(2)'s.
pub(super) fn map_chunks(count: usize) -> std::io::Result<Vec<ChunkRef>> {
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
    let bytes = count * size_of::<Chunk>();
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing that exists.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        return Err(std::io::Error::last_os_error());
    }
    // Zero pages are valid empty chunks, aligned to a page.
    Ok((0..count).map(|index| ChunkRef(base.cast::<Chunk>().wrapping_add(index))).collect())
}

/// Gives a free chunk's memory back to the system; its next owner finds zeros.
pub(super) fn release(chunk: &ChunkRef) {
    // SAFETY: the chunk is ours (invariant 1), page-aligned and mapped by `map_chunks`; zero bytes are a valid chunk.
    unsafe { libc::madvise(chunk.0.cast(), size_of::<Chunk>(), libc::MADV_DONTNEED) };
}

const _: () = assert!(size_of::<Chunk>() == crate::limits::CHUNK_BYTES, "a chunk is what limits.rs says");
