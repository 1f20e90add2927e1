//! The one background thread, and what it does: chunks to runs to captures.
//!
//! Each `DRAIN_MS` it empties the full queue and frees the slots of threads that have ended; each `SEAL_MS` it also
//! steals every lane's chunk, notes the clock and the losses, and provides signal lanes. When hardly a chunk is free it
//! steals at once, since most of them are with threads that hardly use theirs. Whoever starts or stops a capture does
//! the same work on the spot, under the same lock: so a stop needs no hand-shake, and a sleeping thread's events are
//! in the trace.
//!
//! Sinks are offered whole sections and never waited for. A panic here is caught: the captures end, producers go on,
//! and the next capture finds the thread alive.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::recording::Recording;
use super::ring::{self, ChunkRef, Stolen};
use super::run::{self, Run};
use super::switches::{self, Collector, Wanted};
use super::thread::Slot;
use super::{Recorder, pool, thread};
use crate::clock;
use crate::events::{Count, Groups, Loss, LossReason, ThreadId};
use crate::format::{EventsHead, Lane as LaneName, ThreadInfo, encode};
use crate::limits::{DRAIN_MS, LINGER_MS, SEAL_MS};

/// How often a collection looks again at a writer that is inside, before it naps in between.
const SPINS: usize = 1000;

const NAP: Duration = Duration::from_micros(100);

/// A chunk whose writer was stopped inside a write: what it had published is out; the chunk is ours when it leaves.
struct SetAside {
    lane: &'static ring::Lane,
    chunk: ChunkRef,
    /// Events that are out.
    events: u64,
}

/// A chunk that has come in a collection.
struct Arrived {
    chunk: ChunkRef,
    from: Origin,
}

enum Origin {
    /// Full.
    Queue,
    /// Stolen.
    Lane,
    /// Stolen, and its writer has not left in time.
    BusyLane(&'static ring::Lane),
}

/// What the drain keeps between two looks.
#[derive(Default)]
pub(super) struct Drain {
    pub(super) recordings: Vec<Recording>,
    set_aside: Vec<SetAside>,
    /// Slots of threads that have ended, until their last chunk has come.
    retired: Vec<u32>,
    /// Losses that no capture has been told yet.
    losses: Vec<Loss>,
    /// All losses so far, by reason.
    pub(super) lost: [u64; LossReason::ALL.len()],
    /// What sources were told last.
    pub(super) wanted: Option<Wanted>,
    started: bool,
}

static DRAIN: Mutex<Option<Drain>> = Mutex::new(None);
static WAKE: Condvar = Condvar::new();

/// The background thread, once it runs.
static THREAD: OnceLock<Thread> = OnceLock::new();

/// Does `work` with the drain's state, on any thread, recording nothing of it.
pub(super) fn with<R>(work: impl FnOnce(&mut Drain) -> R) -> R {
    thread::quietly(|| work(lock().get_or_insert_with(Drain::default)))
}

/// A panic while the lock is held leaves a state that is whole between two of its statements, so poison means nothing.
fn lock() -> MutexGuard<'static, Option<Drain>> {
    DRAIN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the background thread if it doesn't run, and wakes it if it sleeps.
///
/// # Errors
/// The thread could not be started.
pub(super) fn run(recorder: &'static Recorder, drain: &mut Drain) -> std::io::Result<()> {
    if !drain.started {
        super::spawn("kymo-drain", move || forever(recorder))?;
        drain.started = true;
    }
    WAKE.notify_one();
    Ok(())
}

/// Ends the background thread's nap: chunks run short. Wakes it by a system call, at most once for each nap.
pub(super) fn hurry() {
    if let Some(thread) = THREAD.get() {
        thread.unpark();
    }
}

fn forever(recorder: &'static Recorder) {
    THREAD.get_or_init(std::thread::current);
    let mut sealed = Instant::now();
    loop {
        let mut guard = lock();
        while guard.as_ref().is_none_or(|drain| drain.recordings.is_empty()) {
            guard = WAKE.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        let seals = sealed.elapsed() >= Duration::from_millis(SEAL_MS);
        if seals {
            sealed = Instant::now();
        }
        if let Some(drain) = guard.as_mut() {
            let work = AssertUnwindSafe(|| drain.work(recorder, seals));
            if catch_unwind(work).is_err() {
                drain.bury();
            }
        }
        drop(guard);
        std::thread::park_timeout(Duration::from_millis(DRAIN_MS));
    }
}

impl Drain {
    fn work(&mut self, recorder: &'static Recorder, seals: bool) {
        self.ask_sources(recorder);
        match seals {
            true => self.seal(recorder),
            false if recorder.exchange.is_low() => self.collect(recorder),
            false => {
                self.empty_full_queue(recorder);
                self.recycle(recorder);
            }
        }
        self.drop_closed(recorder);
    }

    /// After a panic: the captures get nothing more, not even an end, which is how their readers learn of it.
    fn bury(&mut self) {
        crate::status::consumer_died();
        let recordings = std::mem::take(&mut self.recordings);
        recordings.iter().for_each(Recording::give_up);
        // Dropping a sink may be what panics.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(recordings)));
        // Telling the sources may be, too.
        let _ = catch_unwind(AssertUnwindSafe(|| self.enable()));
    }

    /// Takes what sources have to tell of threads that don't write it themselves.
    fn ask_sources(&mut self, recorder: &Recorder) {
        self.ask(Collector::new(recorder, clock::ticks()));
    }

    /// The same where a capture begins or ends.
    pub(super) fn ask_sources_at_edge(&mut self, recorder: &Recorder, edge_ticks: u64) {
        self.ask(Collector::at_edge(recorder, edge_ticks));
    }

    fn ask(&mut self, mut collector: Collector<'_>) {
        switches::collect(&mut collector);
        collector.each_run(|run| self.recordings.iter_mut().for_each(|recording| recording.take_run(run)));
        for &(thread, reason, count) in collector.losses() {
            self.note_loss(thread, reason, count);
        }
    }

    /// Takes what sources have to tell a capture that ends.
    pub(super) fn tell_live(&self, recorder: &Recorder, recording: &mut Recording, end_ticks: u64) {
        let mut collector = Collector::new(recorder, end_ticks);
        switches::tell(&mut collector);
        collector.each_run(|run| recording.take_told(run));
    }

    /// The same for one that goes on, as sections.
    pub(super) fn live_sections(&self, recorder: &Recorder, groups: Groups, end_ticks: u64) -> Vec<u8> {
        let mut collector = Collector::new(recorder, end_ticks);
        switches::tell(&mut collector);
        let mut sections = Vec::new();
        collector
            .each_run(|run| encode::events(&mut sections, &run.head, &run.part(groups, &(0..=u64::MAX))));
        sections
    }

    /// Takes every thread's chunk, full or not, and tells the clock and the losses.
    pub(super) fn seal(&mut self, recorder: &'static Recorder) {
        self.collect(recorder);
        recorder.retire_the_gone();
        self.tell(recorder);
        for (_, place) in recorder.slots.used().filter(|(_, place)| place.is_live()) {
            place.item.provide_signal_chunk(recorder);
        }
    }

    /// Takes every thread's chunk. A thread may have traded its chunk while the lanes were walked, and filled the next
    /// one too: so what was in lanes and what is in the queue by then are put in order, for each thread's runs to be.
    fn collect(&mut self, recorder: &'static Recorder) {
        self.take_set_aside(recorder);
        self.empty_full_queue(recorder);
        let mut arrived = steal_all(recorder);
        let queued = std::iter::from_fn(|| recorder.exchange.take_full());
        arrived.extend(queued.map(|chunk| Arrived { chunk, from: Origin::Queue }));
        arrived.sort_by_key(|arrived| arrived.chunk.base_ticks());
        for Arrived { chunk, from } in arrived {
            match from {
                Origin::Queue => self.take_queued(chunk, recorder),
                Origin::Lane => {
                    self.deliver(&chunk);
                    recorder.exchange.give_free(chunk);
                }
                Origin::BusyLane(lane) => {
                    let events = self.deliver(&chunk);
                    self.set_aside.push(SetAside { lane, chunk, events });
                }
            }
        }
        self.recycle(recorder);
    }

    /// Hands on what threads have filled until now: what they fill meanwhile waits for the next time, since threads that
    /// are faster than this would keep it here for ever.
    fn empty_full_queue(&mut self, recorder: &Recorder) {
        for _ in 0..recorder.exchange.filled() {
            let Some(chunk) = recorder.exchange.take_full() else { return };
            self.take_queued(chunk, recorder);
        }
    }

    fn take_queued(&mut self, chunk: ChunkRef, recorder: &Recorder) {
        let slot = chunk.label().slot;
        self.deliver(&chunk);
        recorder.slots.at(slot).item.chunk_done();
        recorder.exchange.give_free(chunk);
    }

    /// Frees the chunks whose writers have left meanwhile. The one event that each of them finished after its chunk
    /// was read is lost, and counted.
    fn take_set_aside(&mut self, recorder: &Recorder) {
        for aside in std::mem::take(&mut self.set_aside) {
            if aside.lane.is_busy() {
                self.set_aside.push(aside);
                continue;
            }
            let late = aside.chunk.read(run::count).saturating_sub(aside.events);
            let slot = &recorder.slots.at(aside.chunk.label().slot).item;
            slot.lose(LossReason::NoChunk, late);
            recorder.exchange.give_free(aside.chunk);
        }
    }

    /// Gives a chunk's events to every capture that they belong to; returns how many there are.
    fn deliver(&mut self, chunk: &ChunkRef) -> u64 {
        let label = chunk.label();
        let lane = if label.lane == LaneName::Signal as u32 { LaneName::Signal } else { LaneName::Normal };
        let head = EventsHead { thread: ThreadId(label.thread), lane, base_ticks: chunk.base_ticks() };
        chunk.read(|bytes| {
            let run = Run::new(head, bytes);
            if run.events > 0 {
                self.recordings.iter_mut().for_each(|recording| recording.take_run(&run));
            }
            run.events
        })
    }

    /// Tells every capture the clock, and the losses since the last time: events of kymo's own thread.
    fn tell(&mut self, recorder: &Recorder) {
        for (_, place) in recorder.slots.used() {
            self.note_losses(&place.item);
        }
        let lost = recorder.lost_without_slot.swap(0, Ordering::Relaxed);
        self.note_loss(0, LossReason::NoThread, lost);
        let losses = std::mem::take(&mut self.losses);
        let sync = clock::sync();
        let living: Vec<_> =
            self.recordings.iter().map(|recording| self.untold(recorder, recording)).collect();
        for (recording, living) in self.recordings.iter_mut().zip(living) {
            recording.tell_living(&living);
            recording.tell(recorder, sync, &losses);
        }
        self.count_refused();
    }

    /// Adds to the totals what sinks have refused.
    fn count_refused(&mut self) {
        for (reason, lost) in self.recordings.iter_mut().flat_map(Recording::take_refused) {
            self.lost[reason as usize] += lost;
        }
    }

    /// The living threads that a capture wants to know of before its end.
    fn untold(&self, recorder: &Recorder, recording: &Recording) -> Vec<ThreadInfo> {
        let is_asked = recording.wants_the_living() && recording.unnamed_threads().next().is_some();
        if is_asked { self.infos(recorder, recording.unnamed_threads()) } else { Vec::new() }
    }

    fn note_losses(&mut self, slot: &Slot) {
        let thread = slot.thread.load(Ordering::Relaxed);
        slot.take_losses().for_each(|(reason, lost)| self.note_loss(thread, reason, lost));
    }

    fn note_loss(&mut self, thread: u32, reason: LossReason, lost: u64) {
        if lost > 0 {
            self.lost[reason as usize] += lost;
            self.losses.push(Loss { thread: ThreadId(thread), reason, count: Count(lost) });
        }
    }

    /// Frees the slots of threads that have ended, once all their events are here.
    fn recycle(&mut self, recorder: &Recorder) {
        self.retired.extend(std::iter::from_fn(|| recorder.slots.take_retired()));
        for index in std::mem::take(&mut self.retired) {
            let slot = &recorder.slots.at(index).item;
            if slot.has_queued() || self.set_aside.iter().any(|aside| aside.chunk.label().slot == index) {
                self.retired.push(index);
                continue;
            }
            // Its thread is gone, so nobody is inside.
            for chunk in [&slot.normal, &slot.signal].into_iter().filter_map(ring::Lane::take) {
                self.deliver(&chunk);
                recorder.exchange.give_free(chunk);
            }
            self.note_losses(slot);
            self.thread_ended(slot, recorder);
            recorder.slots.free(index);
        }
    }

    fn thread_ended(&mut self, slot: &Slot, recorder: &Recorder) {
        let (thread, tid) = (slot.thread.load(Ordering::Relaxed), slot.tid.load(Ordering::Relaxed));
        for recording in &mut self.recordings {
            recording.thread_ended(thread, u64::from(tid), || recorder.strings.intern(&slot.retired_name()));
        }
    }

    /// Tid and name of a capture's threads that live.
    pub(super) fn living(&self, recorder: &Recorder, recording: &Recording) -> Vec<ThreadInfo> {
        self.infos(recorder, recording.living_threads())
    }

    fn infos(&self, recorder: &Recorder, threads: impl Iterator<Item = u32>) -> Vec<ThreadInfo> {
        let slots = recorder.slots.used().map(|(_, place)| &place.item);
        let slots: HashMap<u32, &Slot> =
            slots.map(|slot| (slot.thread.load(Ordering::Relaxed), slot)).collect();
        let info = |thread| {
            let slot = slots.get(&thread)?;
            let tid = u64::from(slot.tid.load(Ordering::Relaxed));
            let name = recorder.strings.intern(&living_name(tid).unwrap_or_else(|| slot.retired_name()));
            Some(ThreadInfo { thread: ThreadId(thread), tid, name })
        };
        let mut living: Vec<_> = threads.filter_map(info).collect();
        living.sort_unstable_by_key(|info| info.thread);
        living
    }

    /// Enables what some capture wants, and tells the sources.
    pub(super) fn enable(&mut self) {
        let mut wanted = Wanted::NONE;
        for recording in &self.recordings {
            wanted.groups = wanted.groups.union(recording.groups);
            wanted.cpu_hz = wanted.cpu_hz.max(recording.cpu_hz);
        }
        super::enable(wanted.groups);
        if self.wanted.replace(wanted) != Some(wanted) {
            switches::turn(wanted);
        }
    }

    /// Ends the captures whose sinks take nothing any more.
    fn drop_closed(&mut self, recorder: &Recorder) {
        self.count_refused();
        let before = self.recordings.len();
        self.recordings.retain(|recording| !recording.is_closed());
        if self.recordings.len() < before {
            self.enable();
            self.rest(recorder);
        }
    }

    /// Gives the memory of free chunks back to the system, if no capture runs.
    pub(super) fn rest(&mut self, recorder: &Recorder) {
        if !self.recordings.is_empty() {
            return;
        }
        let free: Vec<ChunkRef> = std::iter::from_fn(|| recorder.exchange.take_free()).collect();
        for chunk in free {
            pool::release(&chunk);
            recorder.exchange.give_cold(chunk);
        }
    }
}

/// Takes all lanes' chunks, and waits for the writers that were inside.
fn steal_all(recorder: &'static Recorder) -> Vec<Arrived> {
    let slots = recorder.slots.used().map(|(_, place)| &place.item);
    let stolen = ring::steal(slots.flat_map(|slot| [&slot.normal, &slot.signal]));
    let deadline = Instant::now() + Duration::from_millis(LINGER_MS);
    let arrive = |stolen: Stolen<'static>| {
        let left = !stolen.busy || see_away(stolen.lane, deadline);
        let from = if left { Origin::Lane } else { Origin::BusyLane(stolen.lane) };
        stolen.chunk.map(|chunk| Arrived { chunk, from })
    };
    stolen.into_iter().filter_map(arrive).collect()
}

/// Whether the writer that was inside leaves before the deadline. It may have been preempted there: so this sleeps.
fn see_away(lane: &ring::Lane, deadline: Instant) -> bool {
    for _ in 0..SPINS {
        if !lane.is_busy() {
            return true;
        }
        std::hint::spin_loop();
    }
    while lane.is_busy() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(NAP);
    }
    true
}

pub(super) fn living_name(tid: u64) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/self/task/{tid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}
