//! Bytes to a [`Trace`](super::Trace). (skeleton)

use super::Trace;
use crate::format::file::{FileError, Problem};

/// Reads a trace: as much as is valid, together with what is wrong.
///
/// # Errors
/// [`FileError`] if nothing can be used.
pub fn load(_bytes: &[u8]) -> Result<(Trace, Vec<Problem>), FileError> {
    Err(FileError::NotATrace)
}
