//! A trace as Perfetto's protobuf: what ui.perfetto.dev and `trace_processor` read.
//!
//! Each thread is a track with its polls, and its calls and waits nested inside; each task is a track with its life
//! and its states; spans, user tasks and counters have tracks of their own. A wake is an instant from which a flow
//! leads to the poll that it caused. Stacks hang on the slices that have one. Slices that would cross on a track go
//! to one beside it, what had not ended is marked `open`, and what was lost is said in the attributes and where it
//! was noticed.
//!
//! Slices' categories are one SQL condition each: `poll`, `wake`, `syscall`, `wait`, … (see [`intern::Category`]).
//! Scheduling by the kernel is written only from the kernel's word, never made up from the states of threads.

mod blocks;
mod intern;
mod messages;
mod packets;
mod samples;
mod sched;
mod tasks;
mod threads;
mod tracks;

use std::io::{self, Write};

use blocks::Blocks;
use intern::Dictionary;
use packets::Sequence;
use tracks::Tracks;

use super::labels::Labels;
use crate::model::Trace;

/// How to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Blocks of packets as zlib streams: about a third of the size, for more time.
    pub compress: bool,
}

/// Writes the trace, compressed.
///
/// # Errors
/// What `out` returns.
pub fn write(trace: &Trace, out: &mut dyn Write) -> io::Result<()> {
    write_with(Options { compress: true }, trace, out)
}

/// Writes the trace.
///
/// # Errors
/// What `out` returns.
pub fn write_with(options: Options, trace: &Trace, out: &mut dyn Write) -> io::Result<()> {
    let labels = Labels::new(trace);
    let mut export = Export {
        trace,
        labels: &labels,
        dictionary: Dictionary::new(trace),
        tracks: Tracks::new(trace.info.start_monotonic_ns),
        out: Blocks::new(options.compress, out),
    };
    tracks::describe(&mut export);
    threads::write(&mut export)?;
    let start = trace.info.start_monotonic_ns;
    let mut sequence = Sequence::any_order(export.tracks.next_sequence(), start, &mut export.out.raw);
    tasks::write_tasks(&mut export, &mut sequence)?;
    tasks::write_spans(&mut export, &mut sequence)?;
    tasks::write_counters(&mut export, &mut sequence)?;
    samples::write(&mut export, &mut sequence)?;
    sched::write(&mut export, &mut sequence)?;
    export.out.finish()
}

/// One export under way.
struct Export<'a, 'o> {
    trace: &'a Trace,
    labels: &'a Labels,
    dictionary: Dictionary<'a>,
    tracks: Tracks,
    out: Blocks<'o>,
}
