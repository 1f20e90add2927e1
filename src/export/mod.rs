//! A trace in other tools' formats, one file a format.
//!
//! Each writes to any [`Write`](std::io::Write) as it goes, so that memory does not grow with the trace, and counts
//! what [`stat`](crate::analysis::stat) counts: polls, wakes, flows, waits and calls agree exactly.

pub mod chrome;
mod json;
mod labels;
pub mod perfetto;
mod rows;
