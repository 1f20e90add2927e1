//! The memory that chunks are made of: mapped once, given back when no capture runs.
//!
//! One mapping for all chunks, so that it counts as one towards the kernel's limit on mappings; pages that no event has
//! touched take no memory.

#![allow(unsafe_code, reason = "mmap(2) and madvise(2)")]

use super::ring::{Chunk, ChunkRef};

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
