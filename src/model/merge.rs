//! The runs of all threads as one sequence of events in time order.
//!
//! Each thread's lane is a stream: its runs by time, decoded one by one. The earliest stream gives events until
//! another one is earlier, so that a stretch in which one thread is busy costs no more than reading it. Of equal
//! stamps ends come first and beginnings last; then the order is that of thread numbers. Within a stream time never
//! runs backwards: a stamp that does counts as the one before it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use super::gaps::{Gaps, Stop};
use crate::events::{
    Event, EventKind, PollBegin, PollEnd, SpanEnd, SpanEnter, SpanExit, SwitchIn, SwitchOut, SyscallEnter,
    SyscallExit, TaskSuspend, ThreadId, WaitBegin, WaitEnd, WorkerPark, WorkerUnpark,
};
use crate::format::Lane;
use crate::format::decode::Events;
use crate::format::file::{File, Problem, Run};

/// Who takes what comes, in order.
pub(super) trait Take {
    /// An event of a thread, at a tick.
    fn event(&mut self, thread: ThreadId, ticks: u64, event: &Event);
    /// Events of a thread are missing between its previous event and its next one.
    fn gap(&mut self, thread: ThreadId);
}

/// When an event is: ticks, then its place among those of one tick, then its stream.
type Key = (u64, u8, usize);

/// One thread's lane.
struct Stream<'a> {
    thread: ThreadId,
    lane: Lane,
    runs: std::vec::IntoIter<Run<'a>>,
    events: Events<'a>,
    stop: Stop,
    /// The next event's kind; `None` at the end. Its tick is in `stop`.
    next: Option<u8>,
    /// The next event is the first one after a gap.
    gap: bool,
}

/// All streams, ready to be read.
pub(super) struct Merge<'a> {
    file: &'a File<'a>,
    gaps: Gaps,
    streams: Vec<Stream<'a>>,
    order: BinaryHeap<Reverse<Key>>,
    problems: Vec<Problem>,
}

impl<'a> Merge<'a> {
    pub(super) fn new(file: &'a File<'a>) -> Merge<'a> {
        let streams = streams(file);
        let order = BinaryHeap::with_capacity(streams.len());
        let mut merge = Merge { file, gaps: Gaps::of(file), streams, order, problems: Vec::new() };
        for index in 0..merge.streams.len() {
            merge.streams[index].advance(file, &merge.gaps, &mut merge.problems);
            merge.order.extend(merge.key(index).map(Reverse));
        }
        merge
    }

    /// Ticks of the first event.
    pub(super) fn first_ticks(&self) -> Option<u64> {
        self.order.peek().map(|Reverse((ticks, ..))| *ticks)
    }

    /// Gives out everything in order. Returns what could not be read.
    pub(super) fn run(mut self, taker: &mut impl Take) -> Vec<Problem> {
        while let Some(&Reverse((_, _, index))) = self.order.peek() {
            // The heap's second place is one of the two below its top.
            let others = self.order.as_slice().iter().skip(1).take(2).map(|Reverse(key)| *key);
            let until = others.min().unwrap_or((u64::MAX, u8::MAX, usize::MAX));
            self.stretch(index, until, taker);
            match (self.key(index), self.order.peek_mut()) {
                (Some(key), Some(mut top)) => *top = Reverse(key),
                (None, Some(top)) => drop(PeekMut::pop(top)),
                (_, None) => {}
            }
        }
        for stream in self.streams.iter().filter(|stream| stream.lane == Lane::Normal) {
            if self.gaps.after(stream.thread, stream.stop) {
                taker.gap(stream.thread);
            }
        }
        self.problems
    }

    /// Gives out a stream's events until another one's turn comes.
    #[inline]
    fn stretch(&mut self, index: usize, until: Key, taker: &mut impl Take) {
        let stream = &mut self.streams[index];
        while let Some(id) = stream.next {
            let ticks = stream.stop.ticks;
            if ticks >= until.0 && (ticks, rank(id), index) > until {
                return;
            }
            match stream.events.event() {
                Ok(event) => {
                    if std::mem::take(&mut stream.gap) {
                        taker.gap(stream.thread);
                    }
                    taker.event(stream.thread, ticks, &event);
                }
                Err(error) => stream.breaks_off(&error, &mut self.problems),
            }
            stream.advance(self.file, &self.gaps, &mut self.problems);
        }
    }

    fn key(&self, index: usize) -> Option<Key> {
        let stream = &self.streams[index];
        stream.next.map(|id| (stream.stop.ticks, rank(id), index))
    }
}

impl<'a> Stream<'a> {
    /// Reads the head of the next event, in the next run if this one is over.
    #[inline]
    fn advance(&mut self, file: &'a File<'a>, gaps: &Gaps, problems: &mut Vec<Problem>) {
        loop {
            match self.events.head() {
                Ok(Some(head)) => {
                    self.stop.ticks = self.stop.ticks.max(head.ticks);
                    self.next = Some(head.id);
                    return;
                }
                Ok(None) => {}
                Err(error) => self.breaks_off(&error, problems),
            }
            let Some(run) = self.runs.next() else {
                self.next = None;
                return;
            };
            self.gap |= self.lane == Lane::Normal && gaps.between(self.thread, self.stop, &run);
            self.events = file.events(&run);
            self.stop = Stop { offset: run.offset, ticks: self.stop.ticks, broken: false };
        }
    }

    #[cold]
    fn breaks_off(&mut self, error: &dyn std::fmt::Display, problems: &mut Vec<Problem>) {
        self.stop.broken = true;
        problems.push(Problem::Events { offset: self.stop.offset, error: error.to_string() });
    }
}

/// A stream per thread and lane, in the order of thread numbers.
fn streams<'a>(file: &'a File<'a>) -> Vec<Stream<'a>> {
    let mut runs = file.runs.clone();
    let key = |run: &Run<'_>| (run.head.thread, run.head.lane);
    // Stable: runs that begin at the same tick stay in file order.
    runs.sort_by_key(|run| (key(run), run.head.base_ticks));
    let by_lane: Vec<Vec<Run<'a>>> = runs.chunk_by(|a, b| key(a) == key(b)).map(<[_]>::to_vec).collect();
    by_lane
        .into_iter()
        .map(|runs| Stream {
            thread: runs[0].head.thread,
            lane: runs[0].head.lane,
            runs: runs.into_iter(),
            events: Events::new(&[], 0, &file.arity),
            stop: Stop { offset: 0, ticks: 0, broken: false },
            next: None,
            gap: false,
        })
        .collect()
}

/// Among events of one tick what ends comes first and what begins last: so a task that one thread stops to poll and
/// another begins to poll at that tick is in one poll at a time.
#[inline]
fn rank(id: u8) -> u8 {
    match id {
        PollEnd::ID
        | TaskSuspend::ID
        | WaitEnd::ID
        | SyscallExit::ID
        | WorkerUnpark::ID
        | SpanEnd::ID
        | SpanExit::ID
        | SwitchOut::ID => 0,
        PollBegin::ID | WaitBegin::ID | SyscallEnter::ID | WorkerPark::ID | SpanEnter::ID | SwitchIn::ID => 2,
        _ => 1,
    }
}
