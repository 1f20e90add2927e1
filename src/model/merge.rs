//! The runs of all threads as one sequence of events in time order.
//!
//! Each thread's lane is a stream: its runs by time, decoded one by one. The earliest stream gives events until
//! another one is earlier, so that a stretch in which one thread is busy costs no more than reading it. Of equal
//! stamps ends come first and beginnings last; then the order is that of thread numbers. Within a stream time never
//! runs backwards: a stamp that does counts as the one before it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::gaps::{Gaps, Stop};
use crate::events::{Event, ThreadId};
use crate::format::Lane;
use crate::format::decode::Events;
use crate::format::file::{File, Problem, Run};

/// What comes next.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// An event of a thread, at a tick.
    Event(ThreadId, u64, Event),
    /// Events of a thread are missing between its previous event and its next one.
    Gap(ThreadId),
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
    next: Option<Event>,
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
            merge.advance(index);
            merge.order.extend(merge.key(index).map(Reverse));
        }
        merge
    }

    /// Ticks of the first event.
    pub(super) fn first_ticks(&self) -> Option<u64> {
        self.order.peek().map(|Reverse((ticks, ..))| *ticks)
    }

    /// Gives out every step in order. Returns what could not be read.
    pub(super) fn run(mut self, mut each: impl FnMut(Step)) -> Vec<Problem> {
        while let Some(Reverse((_, _, index))) = self.order.pop() {
            let until = self.order.peek().map_or((u64::MAX, u8::MAX, usize::MAX), |Reverse(next)| *next);
            while let Some(event) = self.streams[index].next {
                let stream = &mut self.streams[index];
                let ticks = stream.stop.ticks;
                if ticks >= until.0 && (ticks, rank(&event), index) > until {
                    self.order.push(Reverse((ticks, rank(&event), index)));
                    break;
                }
                if std::mem::take(&mut stream.gap) {
                    each(Step::Gap(stream.thread));
                }
                each(Step::Event(stream.thread, ticks, event));
                self.advance(index);
            }
        }
        for stream in self.streams.iter().filter(|stream| stream.lane == Lane::Normal) {
            if self.gaps.after(stream.thread, stream.stop) {
                each(Step::Gap(stream.thread));
            }
        }
        self.problems
    }

    fn key(&self, index: usize) -> Option<Key> {
        let stream = &self.streams[index];
        stream.next.map(|event| (stream.stop.ticks, rank(&event), index))
    }

    /// Reads a stream's next event.
    #[inline]
    fn advance(&mut self, index: usize) {
        let stream = &mut self.streams[index];
        loop {
            match stream.events.next() {
                Some(Ok(stamped)) => {
                    stream.stop.ticks = stream.stop.ticks.max(stamped.ticks);
                    stream.next = Some(stamped.event);
                    return;
                }
                Some(Err(error)) => {
                    let (offset, error) = (stream.stop.offset, error.to_string());
                    stream.stop.broken = true;
                    self.problems.push(Problem::Events { offset, error });
                }
                None => {}
            }
            let Some(run) = stream.runs.next() else {
                stream.next = None;
                return;
            };
            stream.gap |= stream.lane == Lane::Normal && self.gaps.between(stream.thread, stream.stop, &run);
            stream.events = self.file.events(&run);
            stream.stop = Stop { offset: run.offset, ticks: stream.stop.ticks, broken: false };
        }
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
fn rank(event: &Event) -> u8 {
    match event {
        Event::PollEnd(_)
        | Event::TaskSuspend(_)
        | Event::WaitEnd(_)
        | Event::SyscallExit(_)
        | Event::WorkerUnpark(_)
        | Event::SpanEnd(_)
        | Event::SwitchOut(_) => 0,
        Event::PollBegin(_)
        | Event::WaitBegin(_)
        | Event::SyscallEnter(_)
        | Event::WorkerPark(_)
        | Event::SwitchIn(_) => 2,
        _ => 1,
    }
}
