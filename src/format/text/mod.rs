//! A trace as text, both ways: for tests whose traces people can read, and for people.
//!
//! ```text
//! header clock="counter" pid=7 start=1000 start_monotonic_ns=1000
//! source "hooks" "on"
//! schema
//! run 1 normal base=1000
//!   1010 PollBegin task=5
//!   1030 PollEnd outcome=pending
//! string 2 "reaper"
//! stack 2 0x5501 0x5502
//! symbol 0x5501
//!   frame "shop::reaper" file="shop.rs" line=7
//! thread 1 tid=77 name=2
//! end 2000 events=2
//! ```
//! A line is a word and what follows it; lines that are indented belong to the one above. Ticks of events are
//! absolute. Values that are left out are 0 or empty; `#` begins a comment. Kinds that this version doesn't know are
//! written `kind200` with plain numbers, and so are arguments that it doesn't know.
//!
//! [`write()`] tells all that a file holds but its damage and the order of its sections; [`parse`] makes a file of
//! that again, with a right length and checksum on everything.

mod parse;
mod words;
mod write;

pub use parse::parse;
pub use write::write;

/// Text that is no trace: where, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct TextError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}
