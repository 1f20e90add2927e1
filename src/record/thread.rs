//! This thread's two writers: one for the thread itself, one for signal handlers that interrupt it.
//!
//! A thread finds its [`Slot`] through a thread-local pointer that is const-initialised and has no destructor, so it
//! costs one load and works from the first instruction of a thread to its last. The slot is registered at the
//! thread's first event and retired by a pthread key's destructor, which re-arms itself until the last round: so
//! events of other thread-locals' destructors are still recorded. What comes later is lost and counted. A thread that
//! ends passes its chunk on, so that short-lived threads don't use chunks up until the next seal.
//!
//! # Invariants
//! 1. A slot belongs to one live thread; it is recycled by the drain only after that thread has retired it and the
//!    drain has taken its chunks and losses. Otherwise two threads would share a lane, or one have another's losses.
//! 2. Thread numbers are never reused; slots and kernel tids are.
//! 3. A handler MUST NOT use a queue while its own thread may be inside one, which `trading` tells: its lane gets its
//!    chunk from the drain then. Otherwise it would wait forever for what it has interrupted.

#![allow(unsafe_code, reason = "pthread keys and prctl")]

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, compiler_fence};

use super::ring::{ChunkRef, Label, Lane, Refused};
use super::sync::Fence;
use super::{Recorder, recorder};
use crate::clock;
use crate::events::{EventKind, Group, LossReason, ThreadExit, ThreadId};
use crate::format::Lane as LaneName;

/// A thread's place among all.
pub(super) type Place = super::registry::Place<Slot>;

/// What the recorder keeps for one thread. All zeros: nobody's.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) normal: Lane,
    pub(super) signal: Lane,
    /// Its own place's index.
    index: AtomicU32,
    /// kymo's number of the thread.
    pub(super) thread: AtomicU32,
    /// The kernel's.
    pub(super) tid: AtomicU32,
    /// Events that could not be recorded and are not told yet, by [`LossReason`].
    lost: [AtomicU64; LossReason::ALL.len()],
    /// Its chunks in the full queue, or on their way to the drain from there.
    queued: AtomicU32,
    /// The thread's name when it retired, as the kernel has it: 16 bytes, ended by a zero.
    name: [AtomicU64; 2],
    /// State of the xorshift behind [`super::lasted`].
    random: AtomicU64,
    /// Rounds of thread-local destructors seen.
    rounds: AtomicU32,
    /// Its thread may be inside one of the queues.
    trading: AtomicBool,
    /// A handler has found its lane without a chunk: the drain provides one from now on.
    signal_wanted: AtomicBool,
    /// The drain has claimed it for its thread, which has recorded nothing yet, or a handler has. Whoever clears this
    /// has the slot.
    adoptable: AtomicBool,
}

impl Slot {
    /// See [`Lane::fixups`].
    pub(super) fn clock_fixups(&self) -> u64 {
        self.normal.fixups() + self.signal.fixups()
    }

    /// Counts `events` that could not be recorded.
    pub(super) fn lose(&self, reason: LossReason, events: u64) {
        self.lost[reason as usize].fetch_add(events, Ordering::Relaxed);
    }

    /// The losses since the last time.
    pub(super) fn take_losses(&self) -> impl Iterator<Item = (LossReason, u64)> {
        let taken =
            LossReason::ALL.iter().zip(&self.lost).filter(|(_, lost)| lost.load(Ordering::Relaxed) != 0);
        taken.map(|(&reason, lost)| (reason, lost.swap(0, Ordering::Relaxed)))
    }

    /// A chunk of this thread goes to the full queue.
    pub(super) fn chunk_queued(&self) {
        self.queued.fetch_add(1, Ordering::Relaxed);
    }

    /// It has left the queue, and its events are delivered, or counted as lost.
    pub(super) fn chunk_done(&self) {
        self.queued.fetch_sub(1, Ordering::Release);
    }

    /// Whether the full queue may still have chunks of this thread.
    pub(super) fn has_queued(&self) -> bool {
        self.queued.load(Ordering::Acquire) != 0
    }

    /// The name that the thread had when it retired.
    pub(super) fn retired_name(&self) -> String {
        let bytes: Vec<u8> =
            self.name.iter().flat_map(|half| half.load(Ordering::Relaxed).to_ne_bytes()).collect();
        let name = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    }

    /// Sets what [`Slot::retired_name`] gives; the kernel has no longer ones.
    fn set_name(&self, name: &[u8]) {
        let mut halves = [0; 16];
        let len = name.len().min(15);
        halves[..len].copy_from_slice(&name[..len]);
        for (half, bytes) in self.name.iter().zip(halves.chunks_exact(8)) {
            half.store(u64::from_ne_bytes(bytes.try_into().unwrap_or_default()), Ordering::Relaxed);
        }
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

    fn label(&self, lane: LaneName) -> Label {
        Label {
            thread: self.thread.load(Ordering::Relaxed),
            slot: self.index.load(Ordering::Relaxed),
            lane: lane as u32,
        }
    }

    /// Uses a queue, on the slot's own thread.
    fn in_queue<R>(&self, work: impl FnOnce() -> R) -> R {
        let before = self.trading.swap(true, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        let result = work();
        compiler_fence(Ordering::SeqCst);
        self.trading.store(before, Ordering::Relaxed);
        result
    }

    /// Gives the signal lane a chunk, from the drain, if a handler has wanted one and could not take it.
    pub(super) fn provide_signal_chunk(&self, recorder: &Recorder) {
        if self.signal_wanted.swap(false, Ordering::Relaxed) {
            self.give_signal_chunk(recorder);
        }
    }

    fn give_signal_chunk(&self, recorder: &Recorder) {
        let Some(chunk) = recorder.exchange.take_free() else { return };
        chunk.begin(self.label(LaneName::Signal));
        if let Err(chunk) = self.signal.give(chunk) {
            recorder.exchange.give_free(chunk);
        }
    }

    /// Trades a full or missing chunk for an empty one.
    fn trade(&self, fence: Fence, ticks: u64, recorder: &Recorder) -> Result<(), Refused> {
        let next = || {
            let chunk = recorder.exchange.take_free().or_else(|| recorder.overwrite_oldest())?;
            chunk.begin(self.label(LaneName::Normal));
            Some(chunk)
        };
        let next = || self.in_queue(next);
        let pass_on = |filled| self.in_queue(|| self.pass_on(filled, recorder));
        let traded = self.normal.trade(fence, ticks, next, pass_on);
        hurry_the_drain(recorder);
        traded
    }

    fn pass_on(&self, filled: ChunkRef, recorder: &Recorder) {
        self.chunk_queued();
        recorder.pass_on(filled);
    }
}

/// Wakes the drain early if chunks run short: threads may come and go, or write, faster than it looks.
fn hurry_the_drain(recorder: &Recorder) {
    if recorder.exchange.is_half_used() {
        quietly(super::drain::hurry);
    }
}

/// Keys whose values glibc keeps in the thread's descriptor (`PTHREAD_KEY_2NDLEVEL_SIZE`).
const INLINE_KEYS: libc::pthread_key_t = 32;

/// Whether a thread without a slot may get one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// It gets one at its first event.
    Open,
    /// It is getting one just now; a handler that interrupts this must not.
    Registering,
    /// It records nothing: one of kymo's own, or kymo works on it just now.
    Muted,
    /// It has ended: its events are lost, and counted.
    Gone,
}

thread_local! {
    /// Where this thread writes; only where neither clock nor fences need a second way, see [`register`].
    static FAST: Cell<Option<&'static Lane>> = const { Cell::new(None) };
    static PLACE: Cell<Option<&'static Place>> = const { Cell::new(None) };
    static MODE: Cell<Mode> = const { Cell::new(Mode::Open) };
    /// The slot of a thread on which kymo works quietly just now.
    static QUIET: Cell<Option<&'static Place>> = const { Cell::new(None) };
}

/// Writes one event of this thread, which happens now.
#[inline]
pub(super) fn write_now<E: EventKind>(event: E) {
    match FAST.get() {
        Some(lane) if lane.write(Fence::Expedited, clock::counter(), event).is_ok() => {}
        _ => write_slowly(clock::ticks(), event),
    }
}

/// Writes one event of this thread.
#[inline]
pub(super) fn write<E: EventKind>(ticks: u64, event: E) {
    match FAST.get() {
        Some(lane) if lane.write(Fence::Expedited, ticks, event).is_ok() => {}
        _ => write_slowly(ticks, event),
    }
}

/// The first event of a thread, a full chunk, a write inside a write; a machine without counter or membarrier(2).
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
    let fence = Fence::settled();
    match slot.trade(fence, ticks, recorder).and_then(|()| slot.normal.write(fence, ticks, event)) {
        Ok(()) => {}
        Err(Refused::NoRoom) => slot.lose(LossReason::NoChunk, 1),
        Err(Refused::Busy) => write_signal(slot, fence, ticks, event, recorder),
    }
}

/// Writes one event of a signal handler, or of a hook inside one, on this thread.
fn write_signal<E: EventKind>(slot: &Slot, fence: Fence, ticks: u64, event: E, recorder: &Recorder) {
    let write = || slot.signal.write_given(fence, ticks, event);
    // A queue may be used here unless the handler may have interrupted its own thread's use of it.
    let written = match write() {
        Err(Refused::NoRoom) if !slot.trading.load(Ordering::Relaxed) => {
            slot.in_queue(|| slot.give_signal_chunk(recorder));
            write()
        }
        written => written,
    };
    match written {
        Ok(()) => {}
        Err(Refused::NoRoom) => {
            slot.signal_wanted.store(true, Ordering::Relaxed);
            slot.lose(LossReason::NoChunk, 1);
        }
        Err(Refused::Busy) => slot.lose(LossReason::Reentrant, 1),
    }
}

/// Writes one event of a handler that has interrupted this thread anywhere, also before its first event, or after its
/// last.
pub(super) fn write_in_handler<E: EventKind>(ticks: u64, event: E) {
    let Some(recorder) = recorder() else { return };
    if PLACE.get().is_none() && MODE.get() == Mode::Open {
        register_in_handler(recorder);
    }
    if PLACE.get().is_some() {
        return write(ticks, event);
    }
    match QUIET.get() {
        // What kymo does on the program's thread is the program's time. It may be inside any queue.
        Some(place) => {
            let slot = &place.item;
            slot.in_queue(|| write_signal(slot, Fence::settled(), ticks, event, recorder));
        }
        None if MODE.get() == Mode::Muted => {}
        None => drop(recorder.lost_without_slot.fetch_add(1, Ordering::Relaxed)),
    }
}

/// As [`register`], but of what it does only that which takes no lock and allocates nothing. The thread may be past
/// the point where the key's destructor would still run: so the drain watches its slot.
fn register_in_handler(recorder: &'static Recorder) {
    MODE.set(Mode::Registering);
    // SAFETY: gettid(2) has no preconditions.
    let tid = unsafe { libc::gettid() } as u32;
    if let Some(place) = recorder.adopt(tid).or_else(|| recorder.claim(tid)) {
        keep_name(&place.item);
        recorder.watch(&place.item);
        settle_on(place, recorder);
    }
    MODE.set(Mode::Open);
}

/// This thread writes to a slot from now on.
fn settle_on(place: &'static Place, recorder: &Recorder) {
    PLACE.set(Some(place));
    if Fence::settled() == Fence::Expedited && clock::source() == clock::Source::Counter {
        FAST.set(Some(&place.item.normal));
    }
    // glibc allocates for a key beyond those that every thread has room for.
    if place.item.adoptable.load(Ordering::Relaxed) && recorder.key >= INLINE_KEYS {
        return;
    }
    let value = std::ptr::from_ref::<Place>(place).cast::<c_void>();
    // SAFETY: the key was made by `retirement_key` and is never deleted; the value is a place, which lives forever.
    unsafe { libc::pthread_setspecific(recorder.key, value) };
}

/// Gives this thread a slot and arranges for its retirement.
fn register(recorder: &'static Recorder) -> Option<&'static Place> {
    if MODE.get() != Mode::Open {
        return None;
    }
    MODE.set(Mode::Registering);
    // SAFETY: gettid(2) has no preconditions.
    let tid = unsafe { libc::gettid() } as u32;
    let place =
        recorder.adopt(tid).or_else(|| recorder.claim(tid)).inspect(|place| settle_on(place, recorder));
    MODE.set(Mode::Open);
    place
}

/// A thread's slot is claimed by the thread itself, or by the drain for one that has recorded nothing yet; it adopts
/// that at its first event.
impl Recorder {
    /// A slot for a thread, settled.
    fn claim(&'static self, tid: u32) -> Option<&'static Place> {
        let (index, place) = self.slots.claim()?;
        fill_in(&place.item, index, tid, self);
        place.settle();
        Some(place)
    }

    /// The slot that the drain has claimed for this thread.
    fn adopt(&'static self, tid: u32) -> Option<&'static Place> {
        if self.adoptable.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut of_thread = self.live_slots().filter(|place| place.item.tid.load(Ordering::Relaxed) == tid);
        of_thread.find(|place| self.take_adoptable(&place.item))
    }

    /// Whether the slot was the drain's, and is the caller's now.
    fn take_adoptable(&self, slot: &Slot) -> bool {
        let taken = slot.adoptable.swap(false, Ordering::AcqRel);
        self.adoptable.fetch_sub(u32::from(taken), Ordering::Relaxed);
        taken
    }

    fn live_slots(&self) -> impl Iterator<Item = &Place> {
        self.slots.used().map(|(_, place)| place).filter(|place| place.is_live())
    }

    /// kymo's numbers of all threads that have one, by the kernel's. For the drain.
    pub(super) fn threads_by_tid(&self) -> HashMap<u32, u32> {
        let mut numbers = HashMap::new();
        // Those that the drain has claimed come first, so that a slot which the thread claimed meanwhile prevails.
        let mut places: Vec<&Place> = self.live_slots().collect();
        places.sort_by_key(|place| !place.item.adoptable.load(Ordering::Acquire));
        for Place { item: slot, .. } in places {
            numbers.insert(slot.tid.load(Ordering::Relaxed), slot.thread.load(Ordering::Relaxed));
        }
        numbers
    }

    /// Claims a slot for a thread that has recorded nothing yet; its number. For the drain.
    pub(super) fn claim_for(&self, tid: u32) -> Option<u32> {
        let (index, place) = self.slots.claim()?;
        fill_in(&place.item, index, tid, self);
        let name = super::drain::living_name(u64::from(tid)).unwrap_or_default();
        place.item.set_name(name.as_bytes());
        self.watch(&place.item);
        place.settle();
        Some(place.item.thread.load(Ordering::Relaxed))
    }

    /// The drain retires this slot when its thread has gone without doing so.
    fn watch(&self, slot: &Slot) {
        slot.adoptable.store(true, Ordering::Relaxed);
        self.adoptable.fetch_add(1, Ordering::Relaxed);
    }

    /// Retires the slots that the drain has claimed for threads which have ended. For the drain.
    pub(super) fn retire_the_gone(&self) {
        if self.adoptable.load(Ordering::Relaxed) == 0 {
            return;
        }
        let adoptable = self.live_slots().filter(|place| place.item.adoptable.load(Ordering::Acquire));
        for Place { item: slot, .. } in adoptable {
            let tid = slot.tid.load(Ordering::Relaxed);
            if super::drain::living_name(u64::from(tid)).is_none() && self.take_adoptable(slot) {
                self.slots.retire(slot.index.load(Ordering::Relaxed));
            }
        }
    }
}

fn fill_in(slot: &Slot, index: u32, tid: u32, recorder: &Recorder) {
    slot.index.store(index, Ordering::Relaxed);
    slot.thread.store(next_number(&recorder.next_thread), Ordering::Relaxed);
    slot.tid.store(tid, Ordering::Relaxed);
    slot.random.store(u64::from(tid) << 32 | 0x9e37_79b9, Ordering::Relaxed);
    slot.rounds.store(0, Ordering::Relaxed);
    slot.signal_wanted.store(false, Ordering::Relaxed);
}

/// The next thread's number. They begin anew after 2^32 threads, which a service that makes a thousand a second has made
/// in fifty days; 0 stays kymo's own.
fn next_number(next: &AtomicU32) -> u32 {
    match next.fetch_add(1, Ordering::Relaxed) {
        0 => next.fetch_add(1, Ordering::Relaxed),
        number => number,
    }
}

/// The key whose destructor retires a thread's slot, once it is made.
static KEY: OnceLock<libc::pthread_key_t> = OnceLock::new();

/// Makes it, if it is not there. Called before `main` where hooks are: the C library keeps the values of a program's
/// first 32 keys beside the thread, and calls malloc for others, in which a thread's first event may have been.
pub(super) fn retirement_key() -> std::io::Result<libc::pthread_key_t> {
    if let Some(key) = KEY.get() {
        return Ok(*key);
    }
    let mut key = 0;
    // SAFETY: `key` is a live place for the new key, and `retire` matches the destructor's signature.
    match unsafe { libc::pthread_key_create(&mut key, Some(retire)) } {
        0 => Ok(*KEY.get_or_init(|| key)),
        error => Err(std::io::Error::from_raw_os_error(error)),
    }
}

/// Called at a thread's end with its slot; glibc calls it again while it sets the value again, up to four times.
unsafe extern "C" fn retire(value: *mut c_void) {
    // ThreadSanitizer forgets a thread in the very last round; tests/sanitize says that it is there.
    const LAST_ROUND: u32 = if cfg!(kymo_tsan) { 2 } else { 3 };
    // SAFETY: `register` set the value to a place, which lives forever.
    let place = unsafe { &*value.cast::<Place>() };
    let Some(recorder) = recorder() else { return };
    if place.item.rounds.fetch_add(1, Ordering::Relaxed) < LAST_ROUND {
        // SAFETY: as in `register`.
        unsafe { libc::pthread_setspecific(recorder.key, value) };
        return;
    }
    recorder.take_adoptable(&place.item);
    keep_name(&place.item);
    if super::enabled(Group::Thread) {
        write_now(ThreadExit {});
    }
    leave(Mode::Gone);
    let slot = &place.item;
    slot.normal.give_up(Fence::settled(), |chunk| slot.pass_on(chunk, recorder));
    hurry_the_drain(recorder);
    recorder.slots.retire(slot.index.load(Ordering::Relaxed));
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
    slot.set_name(&name);
}

/// Records nothing on this thread while `work` runs: for kymo's own doings on a thread of the program.
pub(super) fn quietly<R>(work: impl FnOnce() -> R) -> R {
    struct Restore(Mode, Option<&'static Lane>, Option<&'static Place>, Option<&'static Place>);
    impl Drop for Restore {
        fn drop(&mut self) {
            PLACE.set(self.2);
            FAST.set(self.1);
            MODE.set(self.0);
            QUIET.set(self.3);
        }
    }
    // The mode first, and last again: a handler that finds neither mode nor place would register this thread anew.
    let (place, quiet) = (PLACE.get(), QUIET.get());
    if let (Some(place), Some(recorder)) = (place, recorder()) {
        // No handler can take a chunk from here on.
        place.item.in_queue(|| place.item.provide_signal_chunk(recorder));
    }
    QUIET.set(place.or(quiet));
    let _restore = Restore(MODE.replace(Mode::Muted), FAST.replace(None), PLACE.replace(None), quiet);
    work()
}

/// Records nothing on this thread from now on.
pub(super) fn mute() {
    leave(Mode::Muted);
}

/// The mode first: see [`quietly`].
fn leave(mode: Mode) {
    MODE.set(mode);
    FAST.set(None);
    PLACE.set(None);
}

/// Whether this thread records nothing, or nothing any more.
pub(super) fn is_muted() -> bool {
    !matches!(MODE.get(), Mode::Open | Mode::Registering)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g8_counter_wrap_threads_numbers_begin_anew_and_are_never_kymos_own() {
        let next = AtomicU32::new(u32::MAX - 1);
        let numbers: Vec<u32> = (0..4).map(|_| next_number(&next)).collect();
        assert_eq!(numbers, [u32::MAX - 1, u32::MAX, 1, 2]);
    }
}
