//! (skeleton)

use std::io::{self, Write};

use crate::model::Trace;

/// Writes the trace.
///
/// # Errors
/// What `out` returns.
pub fn write(_trace: &Trace, _out: &mut dyn Write) -> io::Result<()> {
    Ok(())
}
