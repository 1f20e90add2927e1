//! A capture as the drain sees it: which runs are its own, and what it writes to its sink.
//!
//! A file begins with the magic, a header and the schema. Then come runs of events as chunks fill, and each second the
//! clock, the losses, the stacks and strings that events have named since, and the threads that have ended: so a file
//! whose process was killed lacks its last second and no more. At the end come the living threads, the modules, the
//! names of addresses, and the end mark.
//!
//! A sink that panics counts as closed: it costs its own capture and nothing else.

use std::collections::{BTreeMap, HashSet};
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::Recorder;
use super::named::{Named, put_stacks, put_strings};
use super::run::Run;
use super::session::{CaptureOptions, Progress, Resolver};
use super::sink::{Extent, Offer, Sink};
use crate::clock;
use crate::events::{ClockSync, Count, EventKind, Group, Groups, Loss, LossReason, Nanos, StrId, ThreadId};
use crate::format::{End, EventsHead, Header, Lane, Module, ThreadInfo, encode};
use crate::limits::{CALL_STACK_NS, WAIT_STACK_NS};
use crate::wire::{Cursor, EVENT_MAX};

/// How far a capture is, shared with whoever holds it.
#[derive(Debug, Default)]
pub(super) struct Counters {
    events: AtomicU64,
    lost: AtomicU64,
    bytes: AtomicU64,
    closed: AtomicBool,
}

impl Counters {
    pub(super) fn progress(&self) -> Progress {
        Progress {
            events: self.events.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            closed: self.closed.load(Ordering::Relaxed),
        }
    }
}

/// A capture that runs.
pub(super) struct Recording {
    pub(super) number: u64,
    pub(super) groups: Groups,
    pub(super) cpu_hz: u32,
    begin: clock::Sync,
    /// In ticks.
    window: RangeInclusive<u64>,
    sink: Box<dyn Sink>,
    resolver: Option<Resolver>,
    counters: Arc<Counters>,
    /// Living threads that have events here.
    threads: HashSet<u32>,
    /// Those of them that the sink knows by name.
    named: HashSet<u32>,
    /// Threads that have ended and are not told yet.
    ended: Vec<ThreadInfo>,
    /// Losses of its own, by reason, that the process's totals lack.
    refused: BTreeMap<LossReason, u64>,
    /// Losses of its own that are not told yet.
    untold: BTreeMap<(u32, LossReason), u64>,
    stacks: Named,
    strings: Named,
}

impl Recording {
    /// One whose window is not open yet.
    pub(super) fn begin(options: CaptureOptions, number: u64, counters: Arc<Counters>) -> Recording {
        let CaptureOptions { groups, cpu_hz, sink, resolver } = options;
        let begin = clock::sync();
        Recording {
            number,
            groups: groups.with(Group::Meta),
            cpu_hz,
            begin,
            window: u64::MAX..=u64::MAX,
            sink,
            resolver,
            counters,
            threads: HashSet::new(),
            named: HashSet::new(),
            ended: Vec::new(),
            refused: BTreeMap::new(),
            untold: BTreeMap::new(),
            stacks: Named::default(),
            strings: Named::default(),
        }
    }

    /// Opens its window and writes what a file begins with, once the sources that it wants are on: that may take some
    /// milliseconds, and the header says how they are.
    pub(super) fn open(&mut self) {
        self.begin = clock::sync();
        self.window = self.begin.ticks..=u64::MAX;
        let mut out = Vec::new();
        encode::magic(&mut out);
        encode::header(&mut out, &header(self.begin));
        encode::schema(&mut out);
        // Whatever the sink's bound: without it nothing else can be read.
        self.offer(out, Sink::finish);
    }

    /// Later events are not its own.
    pub(super) fn close_window(&mut self, end_ticks: u64) {
        self.window = *self.window.start()..=end_ticks;
    }

    /// Whether its sink takes nothing any more.
    pub(super) fn is_closed(&self) -> bool {
        self.counters.closed.load(Ordering::Relaxed)
    }

    /// It gets nothing any more, and no end.
    pub(super) fn give_up(&self) {
        self.counters.closed.store(true, Ordering::Relaxed);
    }

    /// Takes what of a run belongs to this capture.
    pub(super) fn take_run(&mut self, run: &Run<'_>) {
        self.take(run, Sink::offer_events);
    }

    /// The same for what is told at the end, which comes whole.
    pub(super) fn take_told(&mut self, run: &Run<'_>) {
        self.take(run, |sink, section, _| sink.finish(section));
    }

    fn take(&mut self, run: &Run<'_>, how: OfferingEvents) {
        if run.lies_in(self.groups, &self.window) {
            return self.take_whole(run, how);
        }
        let part = run.part(self.groups, &self.window);
        if !part.is_empty() {
            self.take_whole(&Run::new(run.head, &part), how);
        }
    }

    fn take_whole(&mut self, run: &Run<'_>, how: OfferingEvents) {
        if self.is_closed() {
            return;
        }
        let mut out = Vec::with_capacity(run.bytes.len() + EVENT_MAX);
        encode::events(&mut out, &run.head, run.bytes);
        let thread = run.head.thread.0;
        self.threads.insert(thread);
        let extent = Extent { events: run.events, last_ticks: run.last_ticks };
        match self.offer(out, |sink, section| how(sink, section, extent)) {
            Offer::Taken => {
                self.counters.events.fetch_add(run.events, Ordering::Relaxed);
                self.stacks.note(&run.stacks);
                self.strings.note(&run.strings);
            }
            Offer::Full => self.lose(thread, LossReason::SlowReader, run.events),
            Offer::Closed => self.lose(thread, LossReason::SinkFailed, run.events),
        }
    }

    /// A thread has ended; all its events are here.
    pub(super) fn thread_ended(&mut self, thread: u32, tid: u64, name: impl FnOnce() -> StrId) {
        self.named.remove(&thread);
        if self.threads.remove(&thread) {
            let name = name();
            self.strings.note(&[name.0]);
            self.ended.push(ThreadInfo { thread: ThreadId(thread), tid, name });
        }
    }

    /// Takes the clock and the threads' losses, adds its own; then what its events have named since the last time.
    pub(super) fn tell(&mut self, recorder: &Recorder, sync: clock::Sync, losses: &[Loss]) {
        let lost: u64 = losses.iter().map(|loss| loss.count.0).sum();
        self.counters.lost.fetch_add(lost, Ordering::Relaxed);
        for loss in losses {
            *self.untold.entry((loss.thread.0, loss.reason)).or_default() += loss.count.0;
        }
        let told = std::mem::take(&mut self.untold);
        let losses = told.iter().map(|(&(thread, reason), &count)| Loss {
            thread: ThreadId(thread),
            reason,
            count: Count(count),
        });
        let mut bytes = Vec::new();
        let clock = ClockSync { monotonic: Nanos(sync.monotonic_ns), realtime: Nanos(sync.realtime_ns) };
        put(&mut bytes, clock);
        losses.for_each(|loss| put(&mut bytes, loss));
        let head = EventsHead { thread: ThreadId(0), lane: Lane::Normal, base_ticks: sync.ticks };
        let mut out = Vec::new();
        encode::events(&mut out, &head, &bytes);
        self.threads.extend(told.keys().map(|(thread, _)| *thread));
        match self.offer(out, Sink::finish) {
            Offer::Taken => drop(self.counters.events.fetch_add(1 + told.len() as u64, Ordering::Relaxed)),
            _ => self.untold = told,
        }
        self.tell_names(recorder, Sink::offer);
    }

    /// The stacks, strings and threads that are needed and not told yet. What is refused is tried again.
    fn tell_names(&mut self, recorder: &Recorder, how: Offering) {
        let (stacks, strings) = (self.stacks.untold(), self.strings.untold());
        let mut out = Vec::new();
        put_stacks(&mut out, &stacks, &recorder.stacks);
        put_strings(&mut out, &strings, &recorder.strings);
        if !self.ended.is_empty() {
            encode::threads(&mut out, &self.ended);
        }
        if !out.is_empty() && self.offer(out, how) == Offer::Taken {
            self.stacks.told(&stacks);
            self.strings.told(&strings);
            self.ended.clear();
        }
    }

    /// The living threads that have events here.
    pub(super) fn living_threads(&self) -> impl Iterator<Item = u32> {
        self.threads.iter().copied().filter(|&thread| thread != 0)
    }

    /// Its own losses since this was asked for the last time.
    pub(super) fn take_refused(&mut self) -> BTreeMap<LossReason, u64> {
        std::mem::take(&mut self.refused)
    }

    /// Whether its sink wants to know threads while they live.
    pub(super) fn wants_the_living(&self) -> bool {
        self.sink.wants_the_living()
    }

    /// The living threads that its sink does not know yet.
    pub(super) fn unnamed_threads(&self) -> impl Iterator<Item = u32> {
        self.living_threads().filter(|thread| !self.named.contains(thread))
    }

    /// Tells the sink threads that live. Their names are told with the next strings.
    pub(super) fn tell_living(&mut self, living: &[ThreadInfo]) {
        if living.is_empty() {
            return;
        }
        self.named.extend(living.iter().map(|info| info.thread.0));
        self.strings.note(&living.iter().map(|info| info.name.0).collect::<Vec<_>>());
        let mut section = Vec::new();
        encode::threads(&mut section, living);
        self.sink.offer_living(&section);
    }

    /// Ends the file. Naming addresses may take a second.
    pub(super) fn end(mut self, recorder: &Recorder, living: &[ThreadInfo]) {
        self.ended.extend_from_slice(living);
        self.strings.note(&living.iter().map(|info| info.name.0).collect::<Vec<_>>());
        self.tell_names(recorder, Sink::finish);
        let modules = modules();
        let mut out = Vec::new();
        encode::modules(&mut out, &modules);
        self.offer(out, Sink::finish);
        if let Some(resolver) = self.resolver.filter(|_| !self.is_closed()) {
            let addresses = self.stacks.addresses(&recorder.stacks);
            let named = catch_unwind(|| resolver(&addresses, &modules));
            let mut out = Vec::new();
            // A resolver that panics names nothing; whoever reads the trace can still do so.
            encode::symbols(&mut out, &named.unwrap_or_default());
            self.offer(out, Sink::finish);
        }
        let Progress { events, lost, .. } = self.counters.progress();
        let mut out = Vec::new();
        encode::end(&mut out, &End { end_ticks: *self.window.end(), events, lost });
        self.offer(out, Sink::finish);
    }

    fn lose(&mut self, thread: u32, reason: LossReason, events: u64) {
        *self.untold.entry((thread, reason)).or_default() += events;
        *self.refused.entry(reason).or_default() += events;
        self.counters.lost.fetch_add(events, Ordering::Relaxed);
    }

    fn offer(
        &mut self,
        out: Vec<u8>,
        how: impl FnOnce(&mut (dyn Sink + 'static), Vec<u8>) -> Offer,
    ) -> Offer {
        if self.is_closed() {
            return Offer::Closed;
        }
        let bytes = out.len() as u64;
        let offer = catch_unwind(AssertUnwindSafe(|| how(&mut *self.sink, out))).unwrap_or(Offer::Closed);
        match offer {
            Offer::Taken => drop(self.counters.bytes.fetch_add(bytes, Ordering::Relaxed)),
            Offer::Full => {}
            Offer::Closed => self.give_up(),
        }
        offer
    }
}

/// [`Sink::offer`] or [`Sink::finish`].
type Offering = fn(&mut (dyn Sink + 'static), Vec<u8>) -> Offer;

/// [`Sink::offer_events`], or [`Sink::finish`] for a section of events.
type OfferingEvents = fn(&mut (dyn Sink + 'static), Vec<u8>, Extent) -> Offer;

/// One of kymo's own events, at its run's base.
fn put<E: EventKind>(bytes: &mut Vec<u8>, event: E) {
    let mut room = [0; EVENT_MAX];
    let mut cursor = Cursor::new(&mut room);
    event.put(0, &mut cursor);
    let len = cursor.len();
    bytes.extend_from_slice(&room[..len]);
}

/// What precedes the events of a capture that starts now.
pub(super) fn header(begin: clock::Sync) -> Header {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease");
    let program = std::fs::read_to_string("/proc/self/comm").unwrap_or_default().trim_end().into();
    Header {
        writer: concat!("kymo ", env!("CARGO_PKG_VERSION")).into(),
        clock: clock::source().word().into(),
        pid: std::process::id(),
        program,
        start_ticks: begin.ticks,
        start_monotonic_ns: begin.monotonic_ns,
        start_realtime_ns: begin.realtime_ns,
        wait_stack_ns: WAIT_STACK_NS,
        call_stack_ns: CALL_STACK_NS,
        sources: crate::status::sources(),
        notes: kernel.map(|release| ("kernel".into(), release.trim_end().into())).into_iter().collect(),
    }
}

/// What is mapped now.
pub(super) fn modules() -> Vec<Module> {
    let module = |module| {
        let crate::unwind::LoadedModule { start, end, bias, offset, path, build_id } = module;
        Module { start, end, bias, offset, path, build_id }
    };
    crate::unwind::modules().into_iter().map(module).collect()
}
