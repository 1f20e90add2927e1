//! The runs of all threads as one sequence of events in time order.
//!
//! Each thread's lane is a stream: its runs in file order, decoded one by one. The earliest stream gives events until
//! another one is earlier, so that a stretch in which one thread is busy costs no more than reading it. Within a
//! thread time never runs backwards: a stamp that does (a chunk that was handed over out of turn) counts as the one
//! before it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::events::{Event, ThreadId};
use crate::format::Lane;
use crate::format::decode::Events;
use crate::format::file::{File, Problem, Run};

/// One thread's lane.
struct Stream<'a> {
    thread: ThreadId,
    runs: std::vec::IntoIter<Run<'a>>,
    events: Option<(Events<'a>, usize)>,
    next: Option<(u64, Event)>,
    last_ticks: u64,
}

impl<'a> Stream<'a> {
    /// Reads the next event into `next`; a run that breaks off is noted and the next one begun.
    fn advance(&mut self, file: &'a File<'a>, problems: &mut Vec<Problem>) {
        loop {
            if let Some((events, offset)) = &mut self.events {
                match events.next() {
                    Some(Ok(stamped)) => {
                        self.last_ticks = self.last_ticks.max(stamped.ticks);
                        self.next = Some((self.last_ticks, stamped.event));
                        return;
                    }
                    Some(Err(error)) => {
                        problems.push(Problem::Events { offset: *offset, error: error.to_string() });
                    }
                    None => {}
                }
            }
            let Some(run) = self.runs.next() else {
                self.next = None;
                return;
            };
            self.events = Some((file.events(&run), run.offset));
        }
    }
}

/// Calls `each(thread, ticks, event)` for every event, in time order; equal stamps in the order of thread numbers.
/// Returns what could not be read.
pub(super) fn merge<'a>(file: &'a File<'a>, mut each: impl FnMut(ThreadId, u64, Event)) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut streams = streams(file);
    let mut order = BinaryHeap::with_capacity(streams.len());
    for (index, stream) in streams.iter_mut().enumerate() {
        stream.advance(file, &mut problems);
        order.extend(stream.next.map(|(ticks, _)| Reverse((ticks, index))));
    }
    while let Some(Reverse((_, index))) = order.pop() {
        let until = order.peek().map_or((u64::MAX, usize::MAX), |Reverse(next)| *next);
        let stream = &mut streams[index];
        while let Some((ticks, event)) = stream.next {
            if (ticks, index) > until {
                order.push(Reverse((ticks, index)));
                break;
            }
            each(stream.thread, ticks, event);
            stream.advance(file, &mut problems);
        }
    }
    problems
}

/// A stream per thread and lane, in the order of thread numbers.
fn streams<'a>(file: &File<'a>) -> Vec<Stream<'a>> {
    let mut runs = file.runs.clone();
    let key = |run: &Run<'_>| (run.head.thread, run.head.lane);
    // A stable sort: the runs of one lane stay in file order.
    runs.sort_by_key(key);
    let mut streams: Vec<((ThreadId, Lane), Vec<Run<'a>>)> = Vec::new();
    for run in runs {
        match streams.last_mut() {
            Some((last, runs)) if *last == key(&run) => runs.push(run),
            _ => streams.push((key(&run), vec![run])),
        }
    }
    let stream = |((thread, _), runs): ((ThreadId, Lane), Vec<Run<'a>>)| Stream {
        thread,
        runs: runs.into_iter(),
        events: None,
        next: None,
        last_ticks: 0,
    };
    streams.into_iter().map(stream).collect()
}
