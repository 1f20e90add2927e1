//! A file as bytes, without reading it: programs with debug information are hundreds of megabytes.
#![allow(unsafe_code, reason = "a mapped file is memory that others can change")]

use std::fs::File;
use std::io;
use std::path::Path;

use memmap2::Mmap;

/// Maps a file for reading.
///
/// # Errors
/// What opening or mapping it says; also for what is no regular file, which could block or never end.
pub(crate) fn map(path: &Path) -> io::Result<Mmap> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let file = File::open(path)?;
    // SAFETY: programs, libraries and traces are replaced by renaming, not rewritten in place, because whoever runs
    // or reads them would break as well; readers check every offset, so other bytes give other names at worst.
    unsafe { Mmap::map(&file) }
}
