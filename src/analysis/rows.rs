//! The rows of a timeline: which there are, and the slices of each.
//!
//! [`Rows::of`] groups a trace once: polls by thread, tasks by spawn site, spans by name, waits by lock. [`Rows::content`]
//! then lists one row when somebody looks at it: a thread's and a task's exclusive states, the polls of a worker,
//! the waits for a lock, how many threads are in each state. Slices that overlap go to lanes, so that every row is
//! a list of slices in time order of which no two overlap.
//!
//! A poll composes with what its thread did meanwhile: a task's row shows the wait for a lock inside the poll, and
//! both rows show it in a class of its own ([`IN_POLL`]), since it holds up every other task of that worker.
//!
//! Knows no pixels: `tiles` answers for windows, from the index that [`super::tiles::Row`] keeps.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use super::locks::{self, Lock};
use crate::limits::LANES;
use crate::model::{Cause, Interval, Ns, Poll, State, StateChange, Trace};

/// Added to a [`State`]'s number when a poll waited like that instead of returning.
pub const IN_POLL: u8 = 8;

/// How many classes a slice can have: the states, and again inside a poll. Rows of named slices use them as colours.
pub const CLASSES: usize = 16;

/// Colours of named slices: those of a palette that never reads as states.
pub const COLOURS: u8 = 10;

/// What a slice is: with its index it names one thing of the trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SliceKind {
    /// A state without a cause of its own; the index means nothing.
    State,
    /// [`Trace::waits`].
    Wait,
    /// [`Trace::calls`].
    Call,
    /// [`Trace::polls`].
    Poll,
    /// [`Trace::suspensions`].
    Suspension,
    /// [`Trace::parks`].
    Park,
    /// [`Trace::spans`].
    Span,
}

/// A stretch of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// First nanosecond.
    pub begin: Ns,
    /// Nanosecond after the last one.
    pub end: Ns,
    /// Index of what it is about.
    pub index: u32,
    /// What it is about.
    pub kind: SliceKind,
    /// Its state's number, [`IN_POLL`] added where that applies; in rows of named slices its colour.
    pub class: u8,
}

/// A change of how many things are in each class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// When.
    pub at: Ns,
    /// The class that one thing leaves, [`Step::NONE`] if it begins.
    pub from: u8,
    /// The class that it enters, [`Step::NONE`] if it ends.
    pub to: u8,
}

impl Step {
    /// No class: the thing is not there.
    pub const NONE: u8 = u8::MAX;
}

/// What a row holds.
#[derive(Debug, Clone)]
pub enum Content {
    /// Slices whose class is a state.
    States(Vec<Slice>),
    /// Slices whose class is a colour, told apart by name.
    Named(Vec<Slice>),
    /// How many things are in each class.
    Steps(Vec<Step>),
    /// A counter's values.
    Values(Vec<(Ns, i64)>),
}

/// The name of a row: stable for a trace, so that links to it survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowKey {
    /// How many threads are in each state.
    Overview,
    /// A thread's states.
    Thread(u32),
    /// A thread's polls, nested ones a lane further.
    Polls(u32, u8),
    /// A task's states.
    Task(u32),
    /// How many tasks of a spawn site are in each state.
    Site(u32),
    /// Spans of one name.
    Span(u32, u8),
    /// How many wait for a lock.
    Lock(u32),
    /// Those who wait for it.
    Waiters(u32, u8),
    /// A counter.
    Counter(u32),
}

impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RowKey::Overview => write!(f, "overview"),
            RowKey::Thread(thread) => write!(f, "thread.{thread}"),
            RowKey::Polls(thread, lane) => write!(f, "polls.{thread}.{lane}"),
            RowKey::Task(task) => write!(f, "task.{task}"),
            RowKey::Site(site) => write!(f, "site.{site}"),
            RowKey::Span(name, lane) => write!(f, "span.{name}.{lane}"),
            RowKey::Lock(lock) => write!(f, "lock.{lock}"),
            RowKey::Waiters(lock, lane) => write!(f, "waiters.{lock}.{lane}"),
            RowKey::Counter(counter) => write!(f, "counter.{counter}"),
        }
    }
}

/// A text that names no row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the key of a row")]
pub struct NotARow(pub String);

impl FromStr for RowKey {
    type Err = NotARow;

    fn from_str(text: &str) -> Result<RowKey, NotARow> {
        let wrong = || NotARow(text.to_string());
        let parts: Vec<&str> = text.split('.').collect();
        let number = |at: usize| parts.get(at).and_then(|part| part.parse::<u32>().ok()).ok_or_else(wrong);
        let lane = |at: usize| parts.get(at).and_then(|part| part.parse::<u8>().ok()).ok_or_else(wrong);
        match (parts[0], parts.len()) {
            ("overview", 1) => Ok(RowKey::Overview),
            ("thread", 2) => Ok(RowKey::Thread(number(1)?)),
            ("task", 2) => Ok(RowKey::Task(number(1)?)),
            ("site", 2) => Ok(RowKey::Site(number(1)?)),
            ("lock", 2) => Ok(RowKey::Lock(number(1)?)),
            ("counter", 2) => Ok(RowKey::Counter(number(1)?)),
            ("polls", 3) => Ok(RowKey::Polls(number(1)?, lane(2)?)),
            ("span", 3) => Ok(RowKey::Span(number(1)?, lane(2)?)),
            ("waiters", 3) => Ok(RowKey::Waiters(number(1)?, lane(2)?)),
            _ => Err(wrong()),
        }
    }
}

/// Things that overlap, spread over lanes in which they don't.
#[derive(Debug, Clone, Default)]
pub struct Laned {
    /// Indices, by lane, in time order.
    pub lanes: Vec<Vec<u32>>,
    /// How many found every lane taken, and are in none.
    pub beyond: usize,
}

impl Laned {
    /// Each thing, in time order, goes to the first lane that is free when it begins.
    pub(super) fn spread(things: impl Iterator<Item = (u32, Interval)>) -> Laned {
        let mut laned = Laned::default();
        let mut free_from: Vec<Ns> = Vec::new();
        for (index, time) in things {
            let lane = match free_from.iter().position(|&end| end <= time.begin) {
                Some(lane) => lane,
                None if free_from.len() == LANES => {
                    laned.beyond += 1;
                    continue;
                }
                None => {
                    free_from.push(0);
                    laned.lanes.push(Vec::new());
                    free_from.len() - 1
                }
            };
            free_from[lane] = time.end;
            laned.lanes[lane].push(index);
        }
        laned
    }

    fn lane(&self, lane: u8) -> Option<&[u32]> {
        self.lanes.get(usize::from(lane)).map(Vec::as_slice)
    }
}

/// Tasks that were spawned at one place.
#[derive(Debug, Clone)]
pub struct Site {
    /// `file:line:column`; the tasks' name where the place is not known.
    pub label: String,
    /// Its tasks, by life.
    pub tasks: Vec<u32>,
    /// For how long they were polled, all together.
    pub polled_ns: Ns,
}

/// Spans of one name.
#[derive(Debug, Clone)]
pub struct SpanName {
    /// The name.
    pub name: String,
    /// How many.
    pub count: usize,
    /// Them.
    pub spans: Laned,
}

/// A trace, grouped to rows.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    /// Polls of each thread.
    pub polls: Vec<Laned>,
    /// Spawn sites, busiest first.
    pub sites: Vec<Site>,
    /// The site of each task.
    pub site_of: Vec<u32>,
    /// Span names, by first appearance.
    pub spans: Vec<SpanName>,
    /// Locks: those that polls waited for longest first, since they hold up every other task too; then the others.
    pub locks: Vec<Lock>,
    /// The lock of each wait, `u32::MAX` if it is not for a lock.
    pub lock_of_wait: Vec<u32>,
    /// The lock of each suspension, `u32::MAX` if it is not for a lock.
    pub lock_of_suspension: Vec<u32>,
}

impl Rows {
    /// Groups a trace: one pass over each of its tables.
    pub fn of(trace: &Trace) -> Rows {
        let (sites, site_of) = sites(trace);
        let (locks, lock_of_wait, lock_of_suspension) = locks::of(trace);
        Rows {
            polls: polls(trace),
            sites,
            site_of,
            spans: spans(trace),
            locks,
            lock_of_wait,
            lock_of_suspension,
        }
    }

    /// The lane in which a poll lies; the first if it found none free.
    pub fn lane_of_poll(&self, trace: &Trace, poll: u32) -> u8 {
        let lanes = &self.polls[trace.polls[poll as usize].thread as usize].lanes;
        lanes.iter().position(|lane| lane.binary_search(&poll).is_ok()).unwrap_or(0) as u8
    }

    /// What the row holds; `None` if the trace has no such row.
    pub fn content(&self, trace: &Trace, key: RowKey) -> Option<Content> {
        Some(match key {
            RowKey::Overview => Content::Steps(steps(
                trace.threads.iter().enumerate().map(|(index, _)| thread_slices(trace, index as u32)),
            )),
            RowKey::Thread(index) => {
                trace.threads.get(index as usize)?;
                Content::States(thread_slices(trace, index))
            }
            RowKey::Task(index) => {
                trace.tasks.get(index as usize)?;
                Content::States(task_slices(trace, self, index))
            }
            RowKey::Polls(thread, lane) => {
                let lane = self.polls.get(thread as usize)?.lane(lane)?;
                Content::Named(lane.iter().map(|&index| poll_slice(trace, index)).collect())
            }
            RowKey::Site(site) => {
                let tasks = &self.sites.get(site as usize)?.tasks;
                Content::Steps(steps(tasks.iter().map(|&task| task_slices(trace, self, task))))
            }
            RowKey::Span(name, lane) => {
                let lane = self.spans.get(name as usize)?.spans.lane(lane)?;
                Content::Named(lane.iter().map(|&index| span_slice(trace, index)).collect())
            }
            RowKey::Lock(lock) => {
                let lock = self.locks.get(lock as usize)?;
                Content::Steps(steps(lock.waits.iter().map(|&wait| vec![wait_slice(trace, lock, wait)])))
            }
            RowKey::Waiters(lock, lane) => {
                let lock = self.locks.get(lock as usize)?;
                Content::States(
                    lock.laned.lane(lane)?.iter().map(|&wait| wait_slice(trace, lock, wait)).collect(),
                )
            }
            RowKey::Counter(counter) => Content::Values(trace.counters.get(counter as usize)?.values.clone()),
        })
    }
}

/// The colour of a name: the same for names that differ in a number at the end only.
pub fn colour(name: &str) -> u8 {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let hash = stem
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    (hash % u64::from(COLOURS)) as u8
}

fn polls(trace: &Trace) -> Vec<Laned> {
    let mut by_thread: Vec<Vec<(u32, Interval)>> = vec![Vec::new(); trace.threads.len()];
    for (index, poll) in trace.polls.iter().enumerate() {
        by_thread[poll.thread as usize].push((index as u32, poll.time));
    }
    by_thread.into_iter().map(|polls| Laned::spread(polls.into_iter())).collect()
}

fn sites(trace: &Trace) -> (Vec<Site>, Vec<u32>) {
    let mut polled = vec![0; trace.tasks.len()];
    for poll in &trace.polls {
        polled[poll.task as usize] += poll.time.duration();
    }
    let mut index: HashMap<&str, usize> = HashMap::new();
    let mut sites: Vec<Site> = Vec::new();
    for (task, polled_ns) in
        trace.tasks.iter().zip(&polled).enumerate().map(|(index, pair)| (index as u32, pair))
    {
        let (task_row, ns) = polled_ns;
        let label = if task_row.site.is_empty() { &task_row.name } else { &task_row.site };
        let at = *index.entry(label).or_insert_with(|| {
            sites.push(Site { label: label.clone(), tasks: Vec::new(), polled_ns: 0 });
            sites.len() - 1
        });
        sites[at].tasks.push(task);
        sites[at].polled_ns += ns;
    }
    sites.sort_by(|a, b| b.polled_ns.cmp(&a.polled_ns).then_with(|| a.label.cmp(&b.label)));
    let mut site_of = vec![0; trace.tasks.len()];
    for (site, row) in sites.iter_mut().enumerate() {
        row.tasks.sort_by_key(|&task| (trace.tasks[task as usize].life.begin, task));
        for &task in &row.tasks {
            site_of[task as usize] = site as u32;
        }
    }
    (sites, site_of)
}

fn spans(trace: &Trace) -> Vec<SpanName> {
    let mut index: HashMap<&str, usize> = HashMap::new();
    let mut names: Vec<(&str, Vec<(u32, Interval)>)> = Vec::new();
    for (at, span) in trace.spans.iter().enumerate() {
        let name = trace.text(span.name);
        let row = *index.entry(name).or_insert_with(|| {
            names.push((name, Vec::new()));
            names.len() - 1
        });
        names[row].1.push((at as u32, span.time));
    }
    names
        .into_iter()
        .map(|(name, spans)| SpanName {
            name: name.to_string(),
            count: spans.len(),
            spans: Laned::spread(spans.into_iter()),
        })
        .collect()
}

fn wait_slice(trace: &Trace, lock: &Lock, index: u32) -> Slice {
    let (time, _) = lock.wait(trace, index);
    let (kind, in_poll) = match lock.is_async {
        true => (SliceKind::Suspension, false),
        false => (SliceKind::Wait, trace.waits[index as usize].in_poll.is_some()),
    };
    let class = State::Blocked as u8 + if in_poll { IN_POLL } else { 0 };
    Slice { begin: time.begin, end: time.end, index, kind, class }
}

fn poll_slice(trace: &Trace, index: u32) -> Slice {
    let poll = &trace.polls[index as usize];
    let class = colour(&trace.tasks[poll.task as usize].name);
    Slice { begin: poll.time.begin, end: poll.time.end, index, kind: SliceKind::Poll, class }
}

fn span_slice(trace: &Trace, index: u32) -> Slice {
    let span = &trace.spans[index as usize];
    let class = colour(trace.text(span.name));
    Slice { begin: span.time.begin, end: span.time.end, index, kind: SliceKind::Span, class }
}

/// A thread's states as slices.
fn thread_slices(trace: &Trace, index: u32) -> Vec<Slice> {
    let thread = &trace.threads[index as usize];
    state_slices(trace, &thread.states, thread.life)
}

/// A task's states as slices; while it is polled, what its thread did meanwhile.
fn task_slices(trace: &Trace, rows: &Rows, index: u32) -> Vec<Slice> {
    let task = &trace.tasks[index as usize];
    let mut slices = Vec::with_capacity(task.states.len());
    for slice in state_slices(trace, &task.states, task.life) {
        match slice.kind {
            SliceKind::Poll => inside_poll(trace, rows, slice, &mut slices),
            _ => slices.push(slice),
        }
    }
    slices
}

/// Splits a poll's slice where its thread did something else than run.
fn inside_poll(trace: &Trace, rows: &Rows, slice: Slice, out: &mut Vec<Slice>) {
    let poll: &Poll = &trace.polls[slice.index as usize];
    let thread = &trace.threads[poll.thread as usize];
    let nested = rows.polls[poll.thread as usize].lanes.len() > 1;
    let first = thread.states.partition_point(|change| change.at <= slice.begin).saturating_sub(1);
    let mut at = slice.begin;
    for (position, change) in thread.states[first..].iter().enumerate() {
        if change.at >= slice.end {
            break;
        }
        let end =
            thread.states.get(first + position + 1).map_or(thread.life.end, |next| next.at).min(slice.end);
        let begin = change.at.max(slice.begin);
        // A running thread means that this poll ran, unless another poll runs inside it: both are the poll's time.
        let plain = matches!(change.state, State::Running | State::Unknown)
            || (nested && change.state == State::Runnable);
        if plain || begin >= end {
            continue;
        }
        if at < begin {
            out.push(Slice { begin: at, end: begin, ..slice });
        }
        out.push(state_slice(trace, change, begin, end));
        at = end;
    }
    if at < slice.end || slice.begin == slice.end {
        out.push(Slice { begin: at, ..slice });
    }
}

fn state_slices(trace: &Trace, states: &[StateChange], life: Interval) -> Vec<Slice> {
    let ends = states.iter().skip(1).map(|next| next.at).chain([life.end]);
    states
        .iter()
        .zip(ends)
        .map(|(change, end)| state_slice(trace, change, change.at, end.max(change.at)))
        .collect()
}

fn state_slice(trace: &Trace, change: &StateChange, begin: Ns, end: Ns) -> Slice {
    let (kind, index, in_poll) = match change.cause {
        Cause::None => (SliceKind::State, 0, false),
        Cause::Wait(index) => (SliceKind::Wait, index, trace.waits[index as usize].in_poll.is_some()),
        Cause::Call(index) => (SliceKind::Call, index, trace.calls[index as usize].in_poll.is_some()),
        Cause::Poll(index) => (SliceKind::Poll, index, false),
        Cause::Suspension(index) => (SliceKind::Suspension, index, false),
        Cause::Park(index) => (SliceKind::Park, index, false),
    };
    let class = change.state as u8 + if in_poll && holds_up(change.state) { IN_POLL } else { 0 };
    Slice { begin, end, index, kind, class }
}

/// Whether a thread in this state keeps the worker from polling others.
pub fn holds_up(state: State) -> bool {
    matches!(state, State::Blocked | State::Waiting | State::Syscall | State::Io | State::Idle)
}

/// How many of several things are in each class, from the slices of each.
fn steps(things: impl Iterator<Item = Vec<Slice>>) -> Vec<Step> {
    let mut steps = Vec::new();
    for slices in things {
        let mut left: Option<(Ns, u8)> = None;
        for slice in slices {
            match left.replace((slice.end, slice.class)) {
                Some((end, from)) if end == slice.begin => {
                    if from != slice.class {
                        steps.push(Step { at: slice.begin, from, to: slice.class });
                    }
                }
                Some((end, from)) => {
                    steps.push(Step { at: end, from, to: Step::NONE });
                    steps.push(Step { at: slice.begin, from: Step::NONE, to: slice.class });
                }
                None => steps.push(Step { at: slice.begin, from: Step::NONE, to: slice.class }),
            }
        }
        if let Some((end, from)) = left {
            steps.push(Step { at: end, from, to: Step::NONE });
        }
    }
    steps.sort_by_key(|step| step.at);
    steps
}
