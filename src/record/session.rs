//! One recording, start to stop; several may overlap and share the recorder.
//!
//! A [`Capture`] is a window, a filter and a sink. Starting one seals all lanes and opens an epoch, so that no older
//! event gets in; stopping one seals them again, then writes the tables and the end mark. In between, the drain hands
//! it runs of events ([`Recording::take_run`]), which it filters by its groups and offers to its sink.
//!
//! Losses are its own: those of the threads while it ran, plus what its sink refused.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::drain::{self, Drain, Run};
use super::sink::{Offer, Sink};
use super::{ENABLED, RECORDER, Recorder, recorder, tables};
use crate::clock;
use crate::events::{Count, Group, Groups, Loss, LossReason, ThreadId};
use crate::format::decode::{Arity, Events};
use crate::format::{End, EventsHead, Header, Lane, Module, Symbol, encode};
use crate::limits::{CALL_STACK_NS, CAPTURES, WAIT_STACK_NS};
use crate::wire::{Cursor, EVENT_MAX};

/// Turns addresses into names: called once, at a capture's end, on the thread that stops it.
pub type Resolver = fn(&[u64], &[Module]) -> Vec<Symbol>;

/// What to record and where to.
pub struct CaptureOptions {
    /// Which events.
    pub groups: Groups,
    /// Where its bytes go.
    pub sink: Box<dyn Sink>,
    /// Who names addresses; without it they are named by whoever reads the trace.
    pub resolver: Option<Resolver>,
}

impl std::fmt::Debug for CaptureOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CaptureOptions").field("groups", &self.groups).finish_non_exhaustive()
    }
}

/// Why a capture can't start.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// As many as may overlap are running.
    #[error("{0} captures are running already, which is the limit")]
    TooMany(usize),
    /// The drain's thread could not be started.
    #[error("kymo's thread could not be started: {0}")]
    Thread(std::io::Error),
    /// Memory for chunks could not be mapped.
    #[error("memory for recording could not be had: {0}")]
    Memory(std::io::Error),
    /// This process was forked from the one that recorded.
    #[error("recording is off in a forked child")]
    Forked,
}

/// How far a capture is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Events given to the sink.
    pub events: u64,
    /// Events lost, for all reasons.
    pub lost: u64,
    /// Bytes given to the sink.
    pub bytes: u64,
    /// Whether the sink has closed.
    pub closed: bool,
}

#[derive(Debug, Default)]
struct Counters {
    events: AtomicU64,
    lost: AtomicU64,
    bytes: AtomicU64,
    closed: AtomicBool,
}

impl Counters {
    fn progress(&self) -> Progress {
        Progress {
            events: self.events.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            closed: self.closed.load(Ordering::Relaxed),
        }
    }
}

/// A running capture. Dropping it stops it.
#[derive(Debug)]
pub struct Capture {
    /// Its epoch, unique among captures.
    epoch: u64,
    counters: Arc<Counters>,
    stopped: bool,
}

impl Capture {
    /// Starts recording.
    ///
    /// ```
    /// use kymo::{events::Groups, record::session::{Capture, CaptureOptions}, record::sink::MemorySink};
    /// let sink = MemorySink::new(1 << 20);
    /// let options = CaptureOptions { groups: Groups::ALL, sink: Box::new(sink.clone()), resolver: None };
    /// let capture = Capture::start(options)?;
    /// capture.stop();
    /// assert!(sink.take().starts_with(b"kymo"));
    /// # Ok::<(), kymo::record::session::CaptureError>(())
    /// ```
    ///
    /// # Errors
    /// [`CaptureError`].
    pub fn start(options: CaptureOptions) -> Result<Capture, CaptureError> {
        let recorder = make_recorder()?;
        if recorder.pid != std::process::id() {
            return Err(CaptureError::Forked);
        }
        drain::with(|drain| {
            crate::unwind::prepare();
            if drain.recordings.len() >= CAPTURES {
                return Err(CaptureError::TooMany(CAPTURES));
            }
            drain::run(recorder, drain).map_err(CaptureError::Thread)?;
            // What was written before this capture belongs to the others.
            drain.seal(recorder);
            let epoch = recorder.epoch.fetch_add(1, Ordering::SeqCst) + 1;
            let counters = Arc::new(Counters::default());
            drain.recordings.push(Recording::begin(options, epoch, counters.clone()));
            drain.enable();
            // A chunk that was taken in the old epoch while the seal went by would hide new events.
            drain.seal(recorder);
            Ok(Capture { epoch, counters, stopped: false })
        })
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.counters.progress()
    }

    /// Stops it: every thread's events up to now, the tables and the end mark go to the sink. Naming addresses may
    /// take a second.
    pub fn stop(mut self) -> Progress {
        self.end();
        self.progress()
    }

    fn end(&mut self) {
        if std::mem::replace(&mut self.stopped, true) {
            return;
        }
        let Some(recorder) = recorder().filter(|recorder| recorder.pid == std::process::id()) else { return };
        let ending = drain::with(|drain| {
            let end_ticks = clock::ticks();
            drain.seal(recorder);
            let at = drain.recordings.iter().position(|recording| recording.epoch == self.epoch)?;
            let recording = drain.recordings.remove(at);
            drain.enable();
            let threads = drain.threads(recorder, &recording.threads);
            if drain.recordings.is_empty() {
                drain.rest(recorder);
            }
            Some((recording, threads, end_ticks))
        });
        // Outside the lock: naming addresses takes time, and other captures go on.
        if let Some((recording, threads, end_ticks)) = ending {
            super::thread::quietly(|| recording.end(recorder, &threads, end_ticks));
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.end();
    }
}

fn make_recorder() -> Result<&'static Recorder, CaptureError> {
    static MAKING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    if let Some(recorder) = RECORDER.get() {
        return Ok(recorder);
    }
    let _one = MAKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(recorder) = RECORDER.get() {
        return Ok(recorder);
    }
    let recorder = Recorder::new().map_err(CaptureError::Memory)?;
    super::thread::switch_off_in_children();
    Ok(RECORDER.get_or_init(|| recorder))
}

impl Drain {
    /// Enables what some capture wants.
    fn enable(&self) {
        let groups = self.recordings.iter().fold(Groups::NONE, |all, recording| all.union(recording.groups));
        ENABLED.store(groups.0, Ordering::SeqCst);
    }
}

/// A capture as the drain sees it.
pub(super) struct Recording {
    epoch: u64,
    groups: Groups,
    sink: Box<dyn Sink>,
    resolver: Option<Resolver>,
    counters: Arc<Counters>,
    /// Threads that have events here.
    threads: HashSet<u32>,
    /// Losses of its own that the trace doesn't tell yet.
    untold: BTreeMap<(u32, LossReason), u64>,
}

impl Recording {
    fn begin(options: CaptureOptions, epoch: u64, counters: Arc<Counters>) -> Recording {
        let CaptureOptions { groups, sink, resolver } = options;
        let groups = groups.with(Group::Meta);
        let (threads, untold) = (HashSet::new(), BTreeMap::new());
        let mut recording = Recording { epoch, groups, sink, resolver, counters, threads, untold };
        let mut out = Vec::new();
        encode::magic(&mut out);
        encode::header(&mut out, &header());
        encode::schema(&mut out);
        recording.offer(out, Sink::offer);
        recording
    }

    /// Takes what of a run belongs to this capture.
    pub(super) fn take_run(&mut self, run: &Run<'_>) {
        if run.label.epoch < self.epoch || self.counters.closed.load(Ordering::Relaxed) {
            return;
        }
        let mut out = Vec::with_capacity(run.bytes.len() + EVENT_MAX);
        let mut events = run.events;
        if self.groups.contains_all_of(Groups(ENABLED.load(Ordering::Relaxed))) {
            encode::events(&mut out, &run.head(), run.bytes);
        } else {
            let filtered = filter(run, self.groups);
            events = filtered.0;
            encode::events(&mut out, &run.head(), &filtered.1);
        }
        if events == 0 {
            return;
        }
        self.threads.insert(run.label.thread);
        match self.offer(out, Sink::offer) {
            Offer::Taken => drop(self.counters.events.fetch_add(events, Ordering::Relaxed)),
            Offer::Full => self.lose(run.label.thread, LossReason::SlowReader, events),
            Offer::Closed => self.lose(run.label.thread, LossReason::SinkFailed, events),
        }
    }

    /// Takes the clock and the threads' losses, adds its own.
    pub(super) fn tell(&mut self, sync: clock::Sync, losses: &[Loss]) {
        let mut all = losses.to_vec();
        let own = std::mem::take(&mut self.untold);
        all.extend(own.iter().map(|(&(thread, reason), &count)| Loss {
            thread: ThreadId(thread),
            reason,
            count: Count(count),
        }));
        let bytes = drain::own_events(sync, &all);
        let head = EventsHead { thread: ThreadId(0), lane: Lane::Normal, base_ticks: sync.ticks };
        let mut out = Vec::new();
        encode::events(&mut out, &head, &bytes);
        let events = 1 + all.len() as u64;
        let lost: u64 = losses.iter().map(|loss| loss.count.0).sum();
        self.counters.lost.fetch_add(lost, Ordering::Relaxed);
        self.threads.extend(all.iter().map(|loss| loss.thread.0));
        match self.offer(out, Sink::finish) {
            Offer::Taken => drop(self.counters.events.fetch_add(events, Ordering::Relaxed)),
            _ => self.untold = own,
        }
    }

    /// The tables and the end mark.
    fn end(mut self, recorder: &Recorder, threads: &[crate::format::ThreadInfo], end_ticks: u64) {
        let mut out = Vec::new();
        let stacks: Vec<Vec<u64>> =
            (tables::FIRST..recorder.stacks.0.end()).map(|number| recorder.stacks.get(number)).collect();
        encode::stacks(&mut out, tables::FIRST, stacks.iter().map(Vec::as_slice));
        let strings: Vec<String> = (tables::FIRST..recorder.strings.table.end())
            .map(|number| recorder.strings.get(number))
            .collect();
        encode::strings(&mut out, tables::FIRST, strings.iter().map(String::as_str));
        let modules: Vec<Module> = crate::unwind::modules().into_iter().map(module).collect();
        encode::modules(&mut out, &modules);
        encode::threads(&mut out, threads);
        self.offer(out, Sink::finish);
        // Nobody reads the names of a capture whose reader has left.
        if let Some(resolver) = self.resolver.filter(|_| !self.counters.closed.load(Ordering::Relaxed)) {
            let mut addresses: Vec<u64> = stacks.into_iter().flatten().collect();
            addresses.sort_unstable();
            addresses.dedup();
            let mut out = Vec::new();
            encode::symbols(&mut out, &resolver(&addresses, &modules));
            self.offer(out, Sink::finish);
        }
        let Progress { events, lost, .. } = self.counters.progress();
        let mut out = Vec::new();
        encode::end(&mut out, &End { end_ticks, events, lost });
        self.offer(out, Sink::finish);
    }

    fn lose(&mut self, thread: u32, reason: LossReason, events: u64) {
        *self.untold.entry((thread, reason)).or_default() += events;
        self.counters.lost.fetch_add(events, Ordering::Relaxed);
    }

    fn offer(&mut self, out: Vec<u8>, how: fn(&mut (dyn Sink + 'static), Vec<u8>) -> Offer) -> Offer {
        let bytes = out.len() as u64;
        let offer = how(&mut *self.sink, out);
        match offer {
            Offer::Taken => drop(self.counters.bytes.fetch_add(bytes, Ordering::Relaxed)),
            Offer::Full => {}
            Offer::Closed => self.counters.closed.store(true, Ordering::Relaxed),
        }
        offer
    }
}

fn header() -> Header {
    let sync = clock::sync();
    Header {
        writer: concat!("kymo ", env!("CARGO_PKG_VERSION")).into(),
        clock: clock::source().word().into(),
        pid: std::process::id(),
        program: std::fs::read_to_string("/proc/self/comm").unwrap_or_default().trim_end().into(),
        start_ticks: sync.ticks,
        start_monotonic_ns: sync.monotonic_ns,
        start_realtime_ns: sync.realtime_ns,
        wait_stack_ns: WAIT_STACK_NS,
        call_stack_ns: CALL_STACK_NS,
        sources: crate::status::sources(),
        notes: std::fs::read_to_string("/proc/sys/kernel/osrelease")
            .map(|release| ("kernel".into(), release.trim_end().into()))
            .into_iter()
            .collect(),
    }
}

fn module(module: crate::unwind::LoadedModule) -> Module {
    let crate::unwind::LoadedModule { start, end, bias, offset, path, build_id } = module;
    Module { start, end, bias, offset, path, build_id }
}

/// The events of a run whose group is in `groups`, written again: how many, and their bytes.
fn filter(run: &Run<'_>, groups: Groups) -> (u64, Vec<u8>) {
    let arity = Arity::default();
    let (mut events, mut bytes, mut last) = (0, Vec::with_capacity(run.bytes.len()), run.label.ticks);
    for stamped in Events::new(run.bytes, run.label.ticks, &arity).flatten() {
        let Some(kind) = crate::events::kind(stamped.event.id()) else { continue };
        if !groups.contains(kind.group) {
            continue;
        }
        let mut room = [0; EVENT_MAX];
        let mut cursor = Cursor::new(&mut room);
        stamped.event.put(stamped.ticks - last, &mut cursor);
        let len = cursor.len();
        bytes.extend_from_slice(&room[..len]);
        (events, last) = (events + 1, stamped.ticks);
    }
    (events, bytes)
}
