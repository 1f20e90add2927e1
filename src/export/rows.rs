//! Everything that happened on threads, as one stream by time: what both exporters walk.
//!
//! A [`Trace`]'s tables are each sorted by begin, so a merge of a handful of them yields the order without sorting
//! anything. At one and the same nanosecond a wake precedes the poll that it leads to, and what may hold the other
//! precedes it: parks, polls, calls, waits.
//!
//! [`Nest`] decides whether a slice may stand on a track: both formats want the slices of one track to nest, and a
//! damaged trace must not break that.

use crate::events::{Fd, PollOutcome};
use crate::model::{
    CallSpan, Interval, LogEntry, Loss, Ns, Park, Poll, TaskWake, ThreadIndex, Trace, Wait, Wake,
};

/// One thing that happened on a thread; the number is its index in the trace's table.
#[derive(Debug, Clone, Copy)]
pub(super) enum Row<'a> {
    TaskWake(usize, &'a TaskWake),
    Wake(&'a Wake),
    Log(&'a LogEntry),
    Loss(&'a Loss),
    Park(&'a Park),
    Poll(&'a Poll),
    Call(&'a CallSpan),
    Wait(usize, &'a Wait),
}

impl Row<'_> {
    /// The thread on which it happened.
    pub(super) fn thread(&self) -> ThreadIndex {
        match self {
            Row::TaskWake(_, wake) => wake.by_thread,
            Row::Wake(wake) => wake.thread,
            Row::Log(log) => log.thread,
            Row::Loss(loss) => loss.thread,
            Row::Park(park) => park.thread,
            Row::Poll(poll) => poll.thread,
            Row::Call(call) => call.thread,
            Row::Wait(_, wait) => wait.thread,
        }
    }

    /// When it began and ended; the same twice for what has no length.
    pub(super) fn time(&self) -> Interval {
        let instant = |at| Interval { begin: at, end: at, open: false };
        match self {
            Row::TaskWake(_, wake) => instant(wake.at),
            Row::Wake(wake) => instant(wake.at),
            Row::Log(log) => instant(log.at),
            Row::Loss(loss) => instant(loss.at),
            Row::Park(park) => park.time,
            Row::Poll(poll) => poll.time,
            Row::Call(call) => call.time,
            Row::Wait(_, wait) => wait.time,
        }
    }
}

impl Row<'_> {
    /// Whether it has no length.
    pub(super) fn is_instant(&self) -> bool {
        matches!(self, Row::TaskWake(..) | Row::Wake(_) | Row::Log(_) | Row::Loss(_))
    }
}

/// The tables that [`Rows`] merges, in the order that they take at one nanosecond.
const TABLES: usize = 8;

/// A trace's rows by begin.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    trace: &'a Trace,
    /// The next index of each table.
    next: [usize; TABLES],
    /// When that one begins; [`Ns::MAX`] at a table's end.
    heads: [Ns; TABLES],
}

impl<'a> Rows<'a> {
    pub(super) fn new(trace: &'a Trace) -> Rows<'a> {
        let mut rows = Rows { trace, next: [0; TABLES], heads: [Ns::MAX; TABLES] };
        for table in 0..TABLES {
            rows.heads[table] = rows.head(table);
        }
        rows
    }

    fn head(&self, table: usize) -> Ns {
        let (trace, at) = (self.trace, self.next[table]);
        let begin = match table {
            0 => trace.task_wakes.get(at).map(|wake| wake.at),
            1 => trace.wakes.get(at).map(|wake| wake.at),
            2 => trace.logs.get(at).map(|log| log.at),
            3 => trace.losses.get(at).map(|loss| loss.at),
            4 => trace.parks.get(at).map(|park| park.time.begin),
            5 => trace.polls.get(at).map(|poll| poll.time.begin),
            6 => trace.calls.get(at).map(|call| call.time.begin),
            _ => trace.waits.get(at).map(|wait| wait.time.begin),
        };
        begin.unwrap_or(Ns::MAX)
    }

    fn row(&self, table: usize) -> Option<Row<'a>> {
        let (trace, at) = (self.trace, self.next[table]);
        match table {
            0 => trace.task_wakes.get(at).map(|wake| Row::TaskWake(at, wake)),
            1 => trace.wakes.get(at).map(Row::Wake),
            2 => trace.logs.get(at).map(Row::Log),
            3 => trace.losses.get(at).map(Row::Loss),
            4 => trace.parks.get(at).map(Row::Park),
            5 => trace.polls.get(at).map(Row::Poll),
            6 => trace.calls.get(at).map(Row::Call),
            _ => trace.waits.get(at).map(|wait| Row::Wait(at, wait)),
        }
    }
}

impl<'a> Iterator for Rows<'a> {
    type Item = Row<'a>;

    #[inline]
    fn next(&mut self) -> Option<Row<'a>> {
        let mut first = 0;
        for table in 1..TABLES {
            if self.heads[table] < self.heads[first] {
                first = table;
            }
        }
        let row = self.row(first)?;
        self.next[first] += 1;
        self.heads[first] = self.head(first);
        Some(row)
    }
}

/// The slices that are open on one track, outermost first, as their ends.
#[derive(Debug, Default)]
pub(super) struct Nest {
    open: Vec<Ns>,
}

impl Nest {
    /// Closes what has ended at `at`, innermost first, telling each end.
    #[inline]
    pub(super) fn close(&mut self, at: Ns, mut ended: impl FnMut(Ns)) {
        while let Some(&end) = self.open.last()
            && end <= at
        {
            self.open.pop();
            ended(end);
        }
    }

    /// Opens a slice that ends at `end`, unless it would outlive the one around it.
    #[inline]
    #[must_use]
    pub(super) fn open(&mut self, end: Ns) -> bool {
        let fits = self.open.last().is_none_or(|&outer| end <= outer);
        if fits {
            self.open.push(end);
        }
        fits
    }
}

/// What is worth saying of a poll's end: that it was pending is the rule.
pub(super) fn notable(outcome: PollOutcome) -> Option<&'static str> {
    (outcome != PollOutcome::Pending).then(|| outcome.word())
}

/// The descriptor of a call, if it has one.
pub(super) fn descriptor(fd: Fd) -> Option<i32> {
    (fd.0 != -1).then_some(fd.0)
}
