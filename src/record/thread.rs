//! This thread's two writers: one for the thread itself, one for signal handlers that interrupt it.
//!
//! A thread finds its [`Slot`] through a thread-local pointer that is const-initialised and has no destructor, so it
//! costs one load and works from the first instruction of a thread to its last. The slot is registered at the
//! thread's first event and retired by a pthread key's destructor, which re-arms itself until the last round: so
//! events of other thread-locals' destructors are still recorded. What comes later is lost and counted.
//!
//! # Invariants
//! 1. A slot belongs to one live thread; it is recycled by the drain only after that thread has retired it and the
//!    drain has taken its chunks and losses. Otherwise two threads would share a lane.
//! 2. Thread numbers are never reused; slots and kernel tids are.
//! 3. The handler's lane never trades: the drain gives and takes its chunks. The queues' operations may be interrupted
//!    half-way on this very thread, and a handler that waited for them would wait forever.

#![allow(unsafe_code, reason = "pthread keys and prctl")]

use std::cell::Cell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::ring::{Label, Lane, Refused};
use super::sync::CHUNK_ROOM;
use super::{Recorder, recorder};
use crate::events::{EventKind, Group, LossReason, ThreadExit, ThreadId};
use crate::limits::SIGNAL_CHUNK_BYTES;

/// A thread's place among all.
pub(super) type Place = super::registry::Place<Slot>;

/// What the recorder keeps for one thread.
pub(super) struct Slot {
    pub(super) normal: Lane,
    pub(super) signal: Lane,
    /// kymo's number of the thread.
    pub(super) thread: AtomicU32,
    /// The kernel's.
    pub(super) tid: AtomicU32,
    /// Events that could not be recorded so far, by [`LossReason`].
    pub(super) lost: [AtomicU64; LossReason::ALL.len()],
    /// The thread's name when it retired, as the kernel has it: 16 bytes, ended by a zero.
    name: [AtomicU64; 2],
    /// State of the xorshift behind [`super::lasted`].
    random: AtomicU64,
    /// Rounds of thread-local destructors seen.
    rounds: AtomicU32,
    /// A handler has found its lane without a chunk: the drain provides one from now on.
    signal_wanted: AtomicBool,
}

impl Slot {
    pub(super) fn new() -> Slot {
        Slot {
            normal: Lane::new(CHUNK_ROOM),
            signal: Lane::new(SIGNAL_CHUNK_BYTES),
            thread: AtomicU32::new(0),
            tid: AtomicU32::new(0),
            lost: [const { AtomicU64::new(0) }; LossReason::ALL.len()],
            name: [const { AtomicU64::new(0) }; 2],
            random: AtomicU64::new(0),
            rounds: AtomicU32::new(0),
            signal_wanted: AtomicBool::new(false),
        }
    }

    /// Counts `events` that could not be recorded.
    pub(super) fn lose(&self, reason: LossReason, events: u64) {
        self.lost[reason as usize].fetch_add(events, Ordering::Relaxed);
    }

    /// The name that the thread had when it retired.
    pub(super) fn retired_name(&self) -> String {
        let bytes: Vec<u8> =
            self.name.iter().flat_map(|half| half.load(Ordering::Relaxed).to_ne_bytes()).collect();
        let name = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    }

    /// A number that differs from call to call.
    pub(super) fn random(&self) -> u64 {
        let mut x = self.random.load(Ordering::Relaxed);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.store(x, Ordering::Relaxed);
        x
    }

    fn label(&self, ticks: u64, lane: crate::format::Lane, recorder: &Recorder) -> Label {
        Label {
            ticks,
            thread: self.thread.load(Ordering::Relaxed),
            lane: lane as u32,
            epoch: recorder.epoch.load(Ordering::SeqCst),
        }
    }

    /// Gives the signal lane a chunk, from the drain, if a handler has wanted one.
    pub(super) fn provide_signal_chunk(&self, ticks: u64, recorder: &Recorder) {
        if !self.signal_wanted.load(Ordering::Relaxed) {
            return;
        }
        let Some(chunk) = recorder.exchange.take_free() else { return };
        chunk.begin(self.label(ticks, crate::format::Lane::Signal, recorder));
        if let Err(chunk) = self.signal.give(chunk) {
            recorder.exchange.give_free(chunk);
        }
    }
}

/// Whether a thread without a slot may get one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// It gets one at its first event.
    Open,
    /// It records nothing: one of kymo's own, or kymo works on it just now.
    Muted,
    /// It has ended: its events are lost, and counted.
    Gone,
}

thread_local! {
    static PLACE: Cell<Option<&'static Place>> = const { Cell::new(None) };
    static MODE: Cell<Mode> = const { Cell::new(Mode::Open) };
}

/// Writes one event of this thread.
#[inline(always)]
pub(super) fn write<E: EventKind>(ticks: u64, event: E) {
    if let Some(place) = PLACE.get()
        && place.item.normal.write(ticks, event).is_ok()
    {
        return;
    }
    write_slowly(ticks, event);
}

/// The first event of a thread, a full chunk, a write inside a write.
#[cold]
#[inline(never)]
fn write_slowly<E: EventKind>(ticks: u64, event: E) {
    let Some(recorder) = recorder() else { return };
    if MODE.get() == Mode::Muted {
        return;
    }
    let Some(place) = PLACE.get().or_else(|| register(recorder)) else {
        recorder.lost_without_slot.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let slot = &place.item;
    match trade(recorder, slot, ticks).and_then(|()| slot.normal.write(ticks, event)) {
        Ok(()) => {}
        Err(Refused::NoRoom) => slot.lose(LossReason::NoChunk, 1),
        Err(Refused::Busy) => write_signal(slot, ticks, event),
    }
}

/// Writes one event of a signal handler, or of a hook inside one, on this thread.
fn write_signal<E: EventKind>(slot: &Slot, ticks: u64, event: E) {
    match slot.signal.write(ticks, event) {
        Ok(()) => {}
        Err(Refused::NoRoom) => {
            slot.signal_wanted.store(true, Ordering::Relaxed);
            slot.lose(LossReason::NoChunk, 1);
        }
        Err(Refused::Busy) => slot.lose(LossReason::Reentrant, 1),
    }
}

/// Trades the thread's full chunk for an empty one.
fn trade(recorder: &Recorder, slot: &Slot, ticks: u64) -> Result<(), Refused> {
    let exchange = &recorder.exchange;
    let next = || {
        let chunk = exchange.take_free().or_else(|| recorder.overwrite_oldest())?;
        chunk.begin(slot.label(ticks, crate::format::Lane::Normal, recorder));
        Some(chunk)
    };
    if let Some(filled) = slot.normal.trade(next)? {
        recorder.pass_on(filled);
    }
    Ok(())
}

/// Gives this thread a slot and arranges for its retirement.
fn register(recorder: &'static Recorder) -> Option<&'static Place> {
    if MODE.get() == Mode::Gone {
        return None;
    }
    let place = recorder.slots.claim()?;
    let slot = &place.item;
    slot.thread.store(recorder.next_thread.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    // SAFETY: gettid(2) has no preconditions.
    let tid = unsafe { libc::gettid() } as u32;
    slot.tid.store(tid, Ordering::Relaxed);
    slot.random.store(u64::from(tid) << 32 | 0x9e37_79b9, Ordering::Relaxed);
    slot.rounds.store(0, Ordering::Relaxed);
    slot.signal_wanted.store(false, Ordering::Relaxed);
    place.settle();
    PLACE.set(Some(place));
    let value = std::ptr::from_ref(place).cast::<c_void>();
    // SAFETY: the key was made by `retirement_key` and is never deleted; the value is a place, which lives forever.
    unsafe { libc::pthread_setspecific(recorder.key, value) };
    Some(place)
}

/// Makes the key whose destructor retires a thread's slot.
pub(super) fn retirement_key() -> std::io::Result<libc::pthread_key_t> {
    let mut key = 0;
    // SAFETY: `key` is a live place for the new key, and `retire` matches the destructor's signature.
    match unsafe { libc::pthread_key_create(&mut key, Some(retire)) } {
        0 => Ok(key),
        error => Err(std::io::Error::from_raw_os_error(error)),
    }
}

/// Called at a thread's end with its slot; glibc calls it again while it sets the value again, up to four times.
unsafe extern "C" fn retire(value: *mut c_void) {
    const LAST_ROUND: u32 = 3;
    // SAFETY: `register` set the value to a place, which lives forever.
    let place = unsafe { &*value.cast::<Place>() };
    let Some(recorder) = recorder() else { return };
    if place.item.rounds.fetch_add(1, Ordering::Relaxed) < LAST_ROUND {
        // SAFETY: as in `register`.
        unsafe { libc::pthread_setspecific(recorder.key, value) };
        return;
    }
    keep_name(&place.item);
    if super::enabled(Group::Thread) {
        write(crate::clock::ticks(), ThreadExit {});
    }
    PLACE.set(None);
    MODE.set(Mode::Gone);
    // The chunk stays in the lane: the drain takes it at its next seal, as from any thread that sleeps.
    place.retire();
}

/// From now on a forked child records nothing.
pub(super) fn switch_off_in_children() {
    extern "C" fn switch_off() {
        super::ENABLED.store(0, Ordering::SeqCst);
    }
    // SAFETY: the handler is a function of this library, which is never unloaded, and only stores to a static.
    unsafe { libc::pthread_atfork(None, None, Some(switch_off)) };
}

fn keep_name(slot: &Slot) {
    let mut name = [0u8; 16];
    // SAFETY: PR_GET_NAME writes at most 16 bytes, terminator included, to the buffer.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    for (half, bytes) in slot.name.iter().zip(name.chunks_exact(8)) {
        half.store(u64::from_ne_bytes(bytes.try_into().unwrap_or_default()), Ordering::Relaxed);
    }
}

/// Records nothing on this thread while `work` runs: for kymo's own doings on a thread of the program.
pub(super) fn quietly<R>(work: impl FnOnce() -> R) -> R {
    struct Restore(Option<&'static Place>, Mode);
    impl Drop for Restore {
        fn drop(&mut self) {
            PLACE.set(self.0);
            MODE.set(self.1);
        }
    }
    let _restore = Restore(PLACE.replace(None), MODE.replace(Mode::Muted));
    work()
}

/// Records nothing on this thread from now on.
pub(super) fn mute() {
    PLACE.set(None);
    MODE.set(Mode::Muted);
}

/// Whether this thread records nothing, or nothing any more.
pub(super) fn is_muted() -> bool {
    MODE.get() != Mode::Open
}

/// kymo's number of this thread, registered now if it had none; 0 for a muted one.
pub(super) fn number() -> ThreadId {
    let registered = || recorder().filter(|_| !is_muted()).and_then(register);
    let place = PLACE.get().or_else(registered);
    place.map_or(ThreadId(0), |place| ThreadId(place.item.thread.load(Ordering::Relaxed)))
}

/// This thread's slot, if it has one.
pub(super) fn current() -> Option<&'static Slot> {
    PLACE.get().map(|place| &place.item)
}
