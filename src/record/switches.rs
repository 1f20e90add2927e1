//! What captures and sources say to each other, besides events: what is wanted now, and what only the drain can tell.
//!
//! A source whose mechanism costs something while it is on (kernel rings, timers) is told when what captures want
//! changes. A source whose events don't come from the thread that they are about (the kernel's switches, counters of
//! the process, live tables) is asked for them, on the drain's thread, and tells a [`Collector`].
//!
//! Sources say so once, before `main`. They are called one at a time, never on the hot path, under the drain's lock:
//! so they may take their time only in milliseconds, and must not start or stop a capture.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use super::Recorder;
use super::run::Run;
use crate::events::{EventKind, Groups, LossReason, ThreadId};
use crate::format::{EventsHead, Lane};
use crate::limits::CHUNK_BYTES;
use crate::wire::{Cursor, EVENT_MAX};

/// What the running captures ask of the sources together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Every group that one of them wants.
    pub groups: Groups,
    /// CPU samples for each second that a thread runs: as many as the one that wants most.
    pub cpu_hz: u32,
}

impl Wanted {
    /// Nothing.
    pub const NONE: Wanted = Wanted { groups: Groups::NONE, cpu_hz: 0 };
}

static ON_CHANGE: Listeners<fn(Wanted)> = Listeners::new();
static ON_DRAIN: Listeners<fn(&mut Collector<'_>)> = Listeners::new();
static ON_END: Listeners<fn(&mut Collector<'_>)> = Listeners::new();

/// `turn` is called whenever what captures want changes, also back to nothing; at once if they want something already,
/// since a capture may begin before a source says that it is there.
pub fn on_change(turn: fn(Wanted)) {
    super::drain::with(|drain| {
        ON_CHANGE.add(turn);
        drain.wanted.into_iter().filter(|wanted| *wanted != Wanted::NONE).for_each(turn);
    });
}

/// `collect` is called every [`DRAIN_MS`](crate::limits::DRAIN_MS) while captures run, and before the tables are told.
/// What it tells goes to every capture that wants it.
pub fn on_drain(collect: fn(&mut Collector<'_>)) {
    ON_DRAIN.add(collect);
}

/// `tell` is called once for each capture that ends. What it tells goes to that one.
pub fn on_end(tell: fn(&mut Collector<'_>)) {
    ON_END.add(tell);
}

pub(super) fn turn(wanted: Wanted) {
    ON_CHANGE.all().into_iter().for_each(|turn| turn(wanted));
}

pub(super) fn collect(collector: &mut Collector<'_>) {
    ON_DRAIN.all().into_iter().for_each(|collect| collect(collector));
}

pub(super) fn tell(collector: &mut Collector<'_>) {
    ON_END.all().into_iter().for_each(|tell| tell(collector));
}

struct Listeners<F>(Mutex<Vec<F>>);

impl<F: Copy> Listeners<F> {
    const fn new() -> Listeners<F> {
        Listeners(Mutex::new(Vec::new()))
    }

    fn add(&self, listener: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(listener);
    }

    /// Copied, so that one of them may add another.
    fn all(&self) -> Vec<F> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Takes events from a source, for threads that don't write them.
pub struct Collector<'a> {
    recorder: &'a Recorder,
    now: u64,
    edge: bool,
    /// kymo's numbers by the kernel's, once one was asked for.
    numbers: Option<HashMap<u32, u32>>,
    runs: BTreeMap<u32, Told>,
    /// Runs that are as long as a chunk.
    full: Vec<(u32, Told)>,
    losses: Vec<(u32, LossReason, u64)>,
}

impl std::fmt::Debug for Collector<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collector").field("now", &self.now).finish_non_exhaustive()
    }
}

/// Events of one thread.
struct Told {
    base_ticks: u64,
    last_ticks: u64,
    bytes: Vec<u8>,
}

impl Collector<'_> {
    pub(super) fn new(recorder: &Recorder, now: u64) -> Collector<'_> {
        let (runs, full, losses) = (BTreeMap::new(), Vec::new(), Vec::new());
        Collector { recorder, now, edge: false, numbers: None, runs, full, losses }
    }

    /// One that asks because a capture begins or ends.
    pub(super) fn at_edge(recorder: &Recorder, now: u64) -> Collector<'_> {
        Collector { edge: true, ..Collector::new(recorder, now) }
    }

    /// When this is, in ticks. At a capture's end: inside its window, which a later moment is not.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Whether a capture begins or ends now: what stands at the edges of its window is due, stamped with
    /// [`now`](Collector::now).
    pub fn is_edge(&self) -> bool {
        self.edge
    }

    /// kymo's number of a living thread, by the kernel's: for events that are told when its number may be another's.
    pub fn thread(&mut self, tid: u32) -> ThreadId {
        ThreadId(self.number(tid))
    }

    /// An event of a thread of this process, by the kernel's number (0: of no thread). A stamp before that thread's
    /// latest one here counts as that. A thread that kymo has not seen gets a number.
    pub fn emit<E: EventKind>(&mut self, tid: u32, ticks: u64, event: E) {
        let thread = self.thread(tid);
        self.emit_of(thread, ticks, event);
    }

    /// The same, by kymo's number.
    pub fn emit_of<E: EventKind>(&mut self, ThreadId(thread): ThreadId, ticks: u64, event: E) {
        let told = self.runs.entry(thread).or_insert(Told {
            base_ticks: ticks,
            last_ticks: ticks,
            bytes: Vec::new(),
        });
        let mut room = [0; EVENT_MAX];
        let mut cursor = Cursor::new(&mut room);
        event.put(ticks.saturating_sub(told.last_ticks), &mut cursor);
        let len = cursor.len();
        told.last_ticks = told.last_ticks.max(ticks);
        told.bytes.extend_from_slice(&room[..len]);
        if told.bytes.len() > CHUNK_BYTES - EVENT_MAX {
            self.full.extend(self.runs.remove_entry(&thread));
        }
    }

    /// Events of a thread that the source could not tell, and why.
    pub fn lose(&mut self, tid: u32, reason: LossReason, count: u64) {
        let thread = self.thread(tid);
        self.lose_of(thread, reason, count);
    }

    /// The same, by kymo's number.
    pub fn lose_of(&mut self, ThreadId(thread): ThreadId, reason: LossReason, count: u64) {
        self.losses.push((thread, reason, count));
    }

    fn number(&mut self, tid: u32) -> u32 {
        if tid == 0 {
            return 0;
        }
        let recorder = self.recorder;
        let numbers = self.numbers.get_or_insert_with(|| recorder.threads_by_tid());
        *numbers.entry(tid).or_insert_with(|| recorder.claim_for(tid).unwrap_or(0))
    }

    /// Gives what was told, a run for each thread and chunk.
    pub(super) fn each_run(&self, mut take: impl FnMut(&Run<'_>)) {
        let runs = self.full.iter().map(|(thread, told)| (thread, told)).chain(&self.runs);
        for (&thread, told) in runs {
            let head =
                EventsHead { thread: ThreadId(thread), lane: Lane::Kernel, base_ticks: told.base_ticks };
            take(&Run::new(head, &told.bytes));
        }
    }

    /// Threads and what was lost of theirs.
    pub(super) fn losses(&self) -> &[(u32, LossReason, u64)] {
        &self.losses
    }
}
