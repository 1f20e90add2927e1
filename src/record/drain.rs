//! The one background thread, and what it does: chunks to runs to captures.
//!
//! Each `DRAIN_MS` it empties the full queue; each `SEAL_MS` it also steals every lane's chunk, notes the clock and
//! the losses, and provides signal lanes. Whoever starts or stops a capture does the same work on the spot, under the
//! same lock: so a stop needs no hand-shake, and a sleeping thread's events are in the trace.
//!
//! Sinks are offered whole sections and never waited for. A panic here is caught: the captures end, producers go on.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::pool;
use super::ring::{self, ChunkRef, Label};
use super::session::Recording;
use super::{Recorder, thread};
use crate::clock;
use crate::events::{ClockSync, Count, EventKind, Loss, LossReason, Nanos, ThreadId};
use crate::format::{EventsHead, Lane, ThreadInfo};
use crate::limits::{DRAIN_MS, SEAL_MS};
use crate::wire::{Cursor, EVENT_MAX};

/// How often a seal looks again at a writer that was inside a write, before its chunk is set aside.
const PATIENCE: usize = 10_000;

/// A run of events that is on its way to the captures.
pub(super) struct Run<'a> {
    pub(super) label: Label,
    pub(super) events: u64,
    pub(super) bytes: &'a [u8],
}

impl Run<'_> {
    /// What precedes it in a file.
    pub(super) fn head(&self) -> EventsHead {
        let lane = if self.label.lane == Lane::Signal as u32 { Lane::Signal } else { Lane::Normal };
        EventsHead { thread: ThreadId(self.label.thread), lane, base_ticks: self.label.ticks }
    }
}

/// A chunk whose writer was stopped inside a write: what it had published is out; the chunk is ours when it leaves.
struct SetAside {
    slot: u32,
    signal: bool,
    turn: u32,
    chunk: ChunkRef,
    /// Events that are out.
    events: u32,
}

/// What the drain keeps between two looks.
#[derive(Default)]
pub(super) struct Drain {
    pub(super) recordings: Vec<Recording>,
    set_aside: Vec<SetAside>,
    /// Losses that were told already, by thread and reason.
    told: HashMap<(u32, usize), u64>,
    told_without_slot: u64,
    /// Threads that have ended, with the name they had.
    pub(super) ended: HashMap<u32, (u64, String)>,
    started: bool,
}

static DRAIN: Mutex<Option<Drain>> = Mutex::new(None);
static WAKE: Condvar = Condvar::new();

/// Does `work` with the drain's state, on any thread, recording nothing of it.
pub(super) fn with<R>(work: impl FnOnce(&mut Drain) -> R) -> R {
    thread::quietly(|| work(lock().get_or_insert_with(Drain::default)))
}

/// What a panic leaves behind is dropped with its recordings, see [`forever`]; so a poisoned lock is fine.
fn lock() -> MutexGuard<'static, Option<Drain>> {
    DRAIN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the background thread if it doesn't run, and wakes it if it sleeps.
///
/// # Errors
/// The thread could not be started.
pub(super) fn run(recorder: &'static Recorder, drain: &mut Drain) -> std::io::Result<()> {
    if !drain.started {
        std::thread::Builder::new().name("kymo-drain".into()).spawn(move || forever(recorder))?;
        drain.started = true;
    }
    WAKE.notify_one();
    Ok(())
}

fn forever(recorder: &'static Recorder) {
    thread::mute();
    let mut since_seal = 0;
    loop {
        let mut guard = lock();
        while guard.as_ref().is_none_or(|drain| drain.recordings.is_empty()) {
            guard = WAKE.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        since_seal += DRAIN_MS;
        let seals = since_seal >= SEAL_MS;
        let Some(drain) = guard.as_mut() else { continue };
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match seals {
            true => drain.seal(recorder),
            false => drain.empty_full_queue(recorder),
        }));
        if worked.is_err() {
            // The captures lose their sinks, which tells their readers; nothing of theirs is touched again.
            crate::status::consumer_died();
            *guard = Some(Drain { started: true, ..Drain::default() });
            super::ENABLED.store(0, Ordering::SeqCst);
        }
        if seals {
            since_seal = 0;
        }
        drop(guard);
        std::thread::sleep(Duration::from_millis(DRAIN_MS));
    }
}

impl Drain {
    /// Hands on what threads have filled.
    pub(super) fn empty_full_queue(&mut self, recorder: &Recorder) {
        while let Some(chunk) = recorder.exchange.take_full() {
            self.deliver(&chunk);
            recorder.exchange.give_free(chunk);
        }
    }

    /// Takes every thread's chunk, full or not, and tells the clock and the losses.
    pub(super) fn seal(&mut self, recorder: &Recorder) {
        self.empty_full_queue(recorder);
        let retired: Vec<u32> =
            recorder.slots.used().filter(|(_, place)| place.is_retired()).map(|(index, _)| index).collect();
        self.take_set_aside(recorder);
        self.steal_all(recorder);
        // A writer may have filled and passed on a chunk while the lanes were walked.
        self.empty_full_queue(recorder);
        self.tell(recorder);
        self.recycle(recorder, &retired);
        let now = clock::ticks();
        for (_, place) in recorder.slots.used().filter(|(_, place)| place.is_live()) {
            place.item.provide_signal_chunk(now, recorder);
        }
    }

    fn steal_all(&mut self, recorder: &Recorder) {
        let lanes: Vec<_> = recorder
            .slots
            .used()
            .flat_map(|(index, place)| {
                [(index, false, &place.item.normal), (index, true, &place.item.signal)]
            })
            .collect();
        let (resting, lingering) = ring::steal(lanes.iter().map(|(_, _, lane)| *lane));
        for chunk in resting {
            self.deliver(&chunk);
            recorder.exchange.give_free(chunk);
        }
        for lingerer in lingering {
            let left = (0..PATIENCE).any(|_| {
                std::hint::spin_loop();
                lingerer.lane.left(lingerer.turn)
            });
            match (left, lingerer.chunk) {
                (true, Some(chunk)) => {
                    self.deliver(&chunk);
                    recorder.exchange.give_free(chunk);
                }
                // It was putting a new chunk in place: the next seal takes that one.
                (_, None) => {}
                (false, Some(chunk)) => {
                    let place = lanes.iter().find(|(_, _, lane)| std::ptr::eq(*lane, lingerer.lane));
                    let Some(&(slot, signal, _)) = place else { continue };
                    let events = self.deliver(&chunk);
                    self.set_aside.push(SetAside { slot, signal, turn: lingerer.turn, chunk, events });
                }
            }
        }
    }

    /// Frees the chunks whose writers have left meanwhile. The one event that each of them finished after its chunk
    /// was read is lost, and counted.
    fn take_set_aside(&mut self, recorder: &Recorder) {
        for aside in std::mem::take(&mut self.set_aside) {
            let slot = &recorder.slots.at(aside.slot).item;
            let lane = if aside.signal { &slot.signal } else { &slot.normal };
            if !lane.left(aside.turn) {
                self.set_aside.push(aside);
                continue;
            }
            let late = aside.chunk.events().saturating_sub(aside.events);
            slot.lose(LossReason::NoChunk, u64::from(late));
            recorder.exchange.give_free(aside.chunk);
        }
    }

    /// Gives a chunk's events to every capture that they belong to; returns how many there are.
    fn deliver(&mut self, chunk: &ChunkRef) -> u32 {
        let events = chunk.events();
        chunk.read(|bytes| {
            if bytes.is_empty() {
                return;
            }
            let run = Run { label: chunk.label(), events: u64::from(events), bytes };
            for recording in &mut self.recordings {
                recording.take_run(&run);
            }
        });
        events
    }

    /// Tells every capture the clock, and the losses since the last time: events of kymo's own thread.
    fn tell(&mut self, recorder: &Recorder) {
        let losses = self.new_losses(recorder);
        let sync = clock::sync();
        for recording in &mut self.recordings {
            recording.tell(sync, &losses);
        }
    }

    fn new_losses(&mut self, recorder: &Recorder) -> Vec<Loss> {
        let mut losses = Vec::new();
        for (_, place) in recorder.slots.used() {
            let slot = &place.item;
            let thread = slot.thread.load(Ordering::Relaxed);
            for (index, lost) in slot.lost.iter().enumerate() {
                let lost = lost.load(Ordering::Relaxed);
                let told = self.told.entry((thread, index)).or_default();
                if lost > *told {
                    let reason = LossReason::ALL[index];
                    losses.push(Loss { thread: ThreadId(thread), reason, count: Count(lost - *told) });
                    *told = lost;
                } else if lost == 0 {
                    self.told.remove(&(thread, index));
                }
            }
        }
        let lost = recorder.lost_without_slot.load(Ordering::Relaxed);
        if lost > self.told_without_slot {
            let count = Count(lost - self.told_without_slot);
            losses.push(Loss { thread: ThreadId(0), reason: LossReason::NoThread, count });
            self.told_without_slot = lost;
        }
        losses
    }

    /// Frees the slots that had retired before the steal: their chunks and losses are out.
    fn recycle(&mut self, recorder: &Recorder, retired: &[u32]) {
        for &index in retired {
            if self.set_aside.iter().any(|aside| aside.slot == index) {
                continue;
            }
            let slot = &recorder.slots.at(index).item;
            let thread = slot.thread.load(Ordering::Relaxed);
            self.ended.insert(thread, (u64::from(slot.tid.load(Ordering::Relaxed)), slot.retired_name()));
            for (reason, lost) in slot.lost.iter().enumerate() {
                lost.store(0, Ordering::Relaxed);
                self.told.remove(&(thread, reason));
            }
            recorder.slots.free(index);
        }
    }

    /// Tid and name of the threads of a capture, as far as they can still be had.
    pub(super) fn threads(&self, recorder: &Recorder, seen: &HashSet<u32>) -> Vec<ThreadInfo> {
        let living: HashMap<u32, &thread::Place> = recorder
            .slots
            .used()
            .filter(|(_, place)| place.is_live() || place.is_retired())
            .map(|(_, place)| (place.item.thread.load(Ordering::Relaxed), place))
            .collect();
        let mut threads: Vec<_> = seen.iter().copied().filter(|&thread| thread != 0).collect();
        threads.sort_unstable();
        let info = |thread: u32| {
            let (tid, name) = match (self.ended.get(&thread), living.get(&thread)) {
                (Some((tid, name)), _) => (*tid, name.clone()),
                (None, Some(place)) => {
                    let tid = u64::from(place.item.tid.load(Ordering::Relaxed));
                    (tid, living_name(place, tid))
                }
                (None, None) => return None,
            };
            Some(ThreadInfo { thread: ThreadId(thread), tid, name: recorder.strings.intern(&name) })
        };
        threads.into_iter().filter_map(info).collect()
    }

    /// Forgets what only captures need, and gives the memory of free chunks back, when no capture runs.
    pub(super) fn rest(&mut self, recorder: &Recorder) {
        self.ended.clear();
        let free: Vec<ChunkRef> = std::iter::from_fn(|| recorder.exchange.take_free()).collect();
        for chunk in free {
            pool::release(&chunk);
            recorder.exchange.give_free(chunk);
        }
    }
}

fn living_name(place: &thread::Place, tid: u64) -> String {
    if place.is_retired() {
        return place.item.retired_name();
    }
    let name = std::fs::read_to_string(format!("/proc/self/task/{tid}/comm"));
    name.map_or_else(|_| String::new(), |name| name.trim_end().to_owned())
}

/// Events of kymo's own thread, as a chunk would hold them.
pub(super) fn own_events(sync: clock::Sync, losses: &[Loss]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let clock = ClockSync { monotonic: Nanos(sync.monotonic_ns), realtime: Nanos(sync.realtime_ns) };
    put(&mut bytes, clock);
    losses.iter().for_each(|&loss| put(&mut bytes, loss));
    bytes
}

fn put<E: EventKind>(bytes: &mut Vec<u8>, event: E) {
    let mut room = [0; EVENT_MAX];
    let mut cursor = Cursor::new(&mut room);
    event.put(0, &mut cursor);
    let len = cursor.len();
    bytes.extend_from_slice(&room[..len]);
}
