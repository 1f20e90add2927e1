//! Chunks between one thread and the drain: the one protocol whose soundness everything rests on.
//!
//! A [`Lane`] belongs to one writer. It writes events into its [`Chunk`], publishing the length after each; a full
//! chunk is traded for an empty one through the [`Exchange`]. The drain may take the chunk of a lane at any moment,
//! whether its thread runs, sleeps or has died: this one *steal* serves stop, snapshot, the seal of each second, and
//! idle threads, which so hold no chunk.
//!
//! # Invariants
//! 1. A chunk is owned by exactly one of: the free queue, a lane, the full queue, the drain. Ownership moves through
//!    an atomic exchange or a queue. Otherwise two would write the same bytes.
//! 2. A writer MUST set its lane's `busy`, fence (light), and only then look at the lane's chunk; it clears it
//!    (release) when it no longer touches the chunk. Otherwise the drain could not know when it has left.
//! 3. The drain MUST take the chunk's pointer, fence (heavy), and then wait until it sees the lane not busy. By the
//!    fences either the writer sees the empty pointer, or the drain sees it busy. Otherwise both would own the chunk.
//!    A writer that comes back meanwhile finds no chunk, so to see it away once is enough.
//! 4. `len` MUST be published after the bytes below it. Otherwise a reader of a chunk whose writer sleeps inside an
//!    event would see bytes that were never written.
//! 5. Only the lane's own thread writes `busy` and the chunk's length. A signal handler that finds its lane busy has
//!    interrupted a writer and uses the thread's other lane.
//! 6. A trade, queues included, MUST be busy from end to end. Otherwise a handler could meet a queue that its own
//!    thread has half changed, and the drain could miss a chunk that is between lane and queue.
//!
//! `tests/loom.rs` checks 1 to 4 in every interleaving; mutants without one of the releases or fences must fail there.

#![allow(
    unsafe_code,
    reason = "chunks are memory that is shared by the protocol above, which the compiler can't check"
)]

use super::sync::{
    ArrayQueue, AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Bytes, CHUNK_ROOM, Fence, Ordering,
    PUBLISH_BUSY, PUBLISH_LENGTH, heavy_fence,
};
use crate::events::EventKind;
use crate::limits::WARM_CHUNKS;
use crate::wire::{Cursor, EVENT_MAX};

/// One thread's self-contained run of events.
#[repr(C, align(64))]
pub(super) struct Chunk {
    /// Bytes that readers may read.
    len: AtomicU32,
    /// Whose it is: a thread's number, its slot's index, which of its lanes. Set when the lane gets it.
    thread: AtomicU32,
    slot: AtomicU32,
    lane: AtomicU32,
    /// Ticks that the first event counts from. Set by the first event.
    base_ticks: AtomicU64,
    bytes: Bytes,
}

#[cfg(test)]
#[allow(dead_code, reason = "for tests/loom.rs, which makes chunks without mapping memory")]
impl Chunk {
    pub(super) fn new() -> Chunk {
        Chunk {
            len: AtomicU32::new(0),
            thread: AtomicU32::new(0),
            slot: AtomicU32::new(0),
            lane: AtomicU32::new(0),
            base_ticks: AtomicU64::new(0),
            bytes: Bytes::new(),
        }
    }
}

/// Whose events a chunk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label {
    /// The thread.
    pub(super) thread: u32,
    /// Its slot's index.
    pub(super) slot: u32,
    /// Which of its lanes.
    pub(super) lane: u32,
}

/// A chunk by address. Whoever holds it owns the chunk (invariant 1).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ChunkRef(pub(super) *mut Chunk);

// SAFETY: a ChunkRef is the only handle to its chunk (invariant 1), and a chunk's fields are atomics or guarded by it.
unsafe impl Send for ChunkRef {}

impl ChunkRef {
    /// The chunk's head, whose fields are atomics.
    fn head(&self) -> &Chunk {
        // SAFETY: chunks are mapped for the process's life, and zero bytes are a valid empty chunk.
        unsafe { &*self.0 }
    }

    /// Reads what has been published.
    pub(super) fn read<R>(&self, read: impl FnOnce(&[u8]) -> R) -> R {
        let len = self.head().len.load(Ordering::Acquire) as usize;
        self.head().bytes.with(0..len, |bytes| {
            // SAFETY: bytes below the published length are written and stay as they are while we own the chunk
            // (invariants 1 and 4); bytes above it are not in the slice.
            read(unsafe { std::slice::from_raw_parts(bytes, len) })
        })
    }

    /// Makes it empty and notes whose it will be.
    pub(super) fn begin(&self, label: Label) {
        let head = self.head();
        head.len.store(0, Ordering::Relaxed);
        head.thread.store(label.thread, Ordering::Relaxed);
        head.slot.store(label.slot, Ordering::Relaxed);
        head.lane.store(label.lane, Ordering::Relaxed);
    }

    /// What [`ChunkRef::begin`] noted.
    pub(super) fn label(&self) -> Label {
        let head = self.head();
        Label {
            thread: head.thread.load(Ordering::Relaxed),
            slot: head.slot.load(Ordering::Relaxed),
            lane: head.lane.load(Ordering::Relaxed),
        }
    }

    /// Ticks that the first event counts from; of a chunk that has one.
    pub(super) fn base_ticks(&self) -> u64 {
        self.head().base_ticks.load(Ordering::Relaxed)
    }
}

/// The free and the full chunks.
pub(super) struct Exchange {
    /// Free chunks that were used lately: their memory is there, and perhaps still in a cache.
    warm: ArrayQueue<ChunkRef>,
    /// The other free chunks.
    cold: ArrayQueue<ChunkRef>,
    full: ArrayQueue<ChunkRef>,
    /// When nothing is free: give the writer the oldest full chunk instead of none (the flight recorder's way).
    overwrite: AtomicBool,
    /// Chunks there are.
    chunks: usize,
}

impl Exchange {
    /// With these chunks, all of them free. The full queue takes up to `full` of them.
    pub(super) fn new(chunks: Vec<ChunkRef>, full: usize) -> Exchange {
        let exchange = Exchange {
            warm: ArrayQueue::new(WARM_CHUNKS),
            cold: ArrayQueue::new(chunks.len().max(1)),
            full: ArrayQueue::new(full.max(1)),
            overwrite: AtomicBool::new(false),
            chunks: chunks.len(),
        };
        chunks.into_iter().for_each(|chunk| exchange.give_cold(chunk));
        exchange
    }

    /// Whether a chunk that is needed may be an old one, whose events are lost then, instead of none.
    pub(super) fn overwrite(&self, overwrite: bool) {
        self.overwrite.store(overwrite, Ordering::Relaxed);
    }

    /// An empty chunk, if there is one.
    pub(super) fn take_free(&self) -> Option<ChunkRef> {
        self.warm.pop().or_else(|| self.cold.pop())
    }

    /// Gives back an empty chunk that was just used.
    pub(super) fn give_free(&self, chunk: ChunkRef) {
        if let Err(chunk) = self.warm.push(chunk) {
            self.give_cold(chunk);
        }
    }

    /// Gives back an empty chunk that need not be used soon.
    pub(super) fn give_cold(&self, chunk: ChunkRef) {
        // There is room for every chunk there is.
        let _ = self.cold.push(chunk);
    }

    /// Takes a filled chunk; what it displaces (overwrite mode), or can't take, comes back.
    pub(super) fn give_full(&self, chunk: ChunkRef) -> Option<ChunkRef> {
        match self.overwrite.load(Ordering::Relaxed) {
            true => self.full.force_push(chunk),
            false => self.full.push(chunk).err(),
        }
    }

    /// The oldest filled chunk, in overwrite mode only.
    pub(super) fn take_oldest_to_overwrite(&self) -> Option<ChunkRef> {
        self.overwrite.load(Ordering::Relaxed).then(|| self.full.pop()).flatten()
    }

    /// The oldest filled chunk.
    pub(super) fn take_full(&self) -> Option<ChunkRef> {
        self.full.pop()
    }

    /// Filled chunks.
    pub(super) fn filled(&self) -> usize {
        self.full.len()
    }

    /// Chunks that are not free: with lanes, full, or with the drain.
    pub(super) fn in_use(&self) -> usize {
        self.chunks.saturating_sub(self.free())
    }

    /// Whether half of all chunks are used.
    pub(super) fn is_half_used(&self) -> bool {
        self.free() < self.chunks / 2
    }

    /// Whether hardly a chunk is free.
    pub(super) fn is_low(&self) -> bool {
        self.free() < self.chunks / 8
    }

    fn free(&self) -> usize {
        self.warm.len() + self.cold.len()
    }
}

/// Why an event could not be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The lane's own thread is inside a write already.
    Busy,
    /// The lane has no chunk, or no room in it.
    NoRoom,
}

/// One writer's end. All zeros: without a chunk.
#[derive(Default)]
pub(super) struct Lane {
    /// Whether the writer is inside.
    busy: AtomicBool,
    /// Where the next event goes in the chunk. The writer's own, so that it need not ask the chunk.
    at: AtomicU32,
    chunk: AtomicPtr<Chunk>,
    /// Ticks of the latest event. The writer's own.
    last_ticks: AtomicU64,
    /// How many events came with an earlier stamp than the one before them. The writer's own.
    fixups: AtomicU64,
}

impl Lane {
    /// Enters: no other write of this thread, no steal may pass until [`Lane::leave`].
    #[inline(always)]
    fn enter(&self, fence: Fence) -> Result<(), Refused> {
        if self.busy.load(Ordering::Relaxed) {
            return Err(Refused::Busy);
        }
        self.busy.store(true, Ordering::Relaxed);
        fence.light();
        Ok(())
    }

    #[inline(always)]
    fn leave(&self) {
        self.busy.store(false, PUBLISH_BUSY);
    }

    /// This lane's chunk. While busy only.
    #[inline(always)]
    fn chunk(&self) -> Option<ChunkRef> {
        let chunk = self.chunk.load(Ordering::Acquire);
        (!chunk.is_null()).then_some(ChunkRef(chunk))
    }

    /// Writes one event. Called by the lane's own thread only.
    #[inline(always)]
    pub(super) fn write<E: EventKind>(&self, fence: Fence, ticks: u64, event: E) -> Result<(), Refused> {
        self.enter(fence)?;
        let at = self.at.load(Ordering::Relaxed) as usize;
        let Some(chunk) = self.chunk().filter(|_| has_room(at)) else {
            self.leave();
            return Err(Refused::NoRoom);
        };
        self.write_at(at, chunk.head(), ticks, event);
        self.leave();
        Ok(())
    }

    /// As [`Lane::write`], for a lane whose chunks the drain gives: so the chunk must say where the next event goes.
    pub(super) fn write_given<E: EventKind>(
        &self,
        fence: Fence,
        ticks: u64,
        event: E,
    ) -> Result<(), Refused> {
        self.enter(fence)?;
        let chunk = self.chunk().map(|chunk| (chunk.head().len.load(Ordering::Relaxed) as usize, chunk));
        let Some((at, chunk)) = chunk.filter(|&(at, _)| has_room(at)) else {
            self.leave();
            return Err(Refused::NoRoom);
        };
        if at == 0 {
            self.start(&chunk, ticks);
        }
        self.write_at(at, chunk.head(), ticks, event);
        self.leave();
        Ok(())
    }

    /// While busy and with [`has_room`] only.
    #[inline(always)]
    fn write_at<E: EventKind>(&self, at: usize, chunk: &Chunk, ticks: u64, event: E) {
        let last = self.last_ticks.load(Ordering::Relaxed);
        if ticks < last {
            return self.write_backwards(at, chunk, last, event);
        }
        let len = chunk.bytes.with_mut(at..at + EVENT_MAX, |bytes| {
            // SAFETY: the lane owns the chunk while it is busy (invariants 1 to 3), nobody reads beyond the published
            // length, and there are EVENT_MAX bytes between `at` and the chunk's end: `has_room`.
            let room = unsafe { &mut *bytes.cast::<[u8; EVENT_MAX]>() };
            let mut cursor = Cursor::new(room);
            event.put(ticks - last, &mut cursor);
            cursor.len()
        });
        let end = (at + len) as u32;
        self.last_ticks.store(ticks, Ordering::Relaxed);
        self.at.store(end, Ordering::Relaxed);
        chunk.len.store(end, PUBLISH_LENGTH);
    }

    /// A thread's time never runs backwards: an earlier stamp counts as the latest one.
    #[cold]
    #[inline(never)]
    fn write_backwards<E: EventKind>(&self, at: usize, chunk: &Chunk, last: u64, event: E) {
        self.fixups.store(self.fixups.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.write_at(at, chunk, last, event);
    }

    /// Events whose stamp was earlier than that of the one before them, which they got.
    pub(super) fn fixups(&self) -> u64 {
        self.fixups.load(Ordering::Relaxed)
    }

    /// The first event of a chunk is about to be written.
    fn start(&self, chunk: &ChunkRef, ticks: u64) {
        let ticks = ticks.max(self.last_ticks.load(Ordering::Relaxed));
        self.last_ticks.store(ticks, Ordering::Relaxed);
        chunk.head().base_ticks.store(ticks, Ordering::Relaxed);
    }

    /// Passes a chunk without room on, and puts the one that `next` yields in its place, for an event at `ticks`.
    /// Called by the lane's own thread.
    pub(super) fn trade(
        &self,
        fence: Fence,
        ticks: u64,
        next: impl FnOnce() -> Option<ChunkRef>,
        pass_on: impl FnOnce(ChunkRef),
    ) -> Result<(), Refused> {
        self.enter(fence)?;
        if self.chunk().is_none() || !has_room(self.at.load(Ordering::Relaxed) as usize) {
            let next = next().inspect(|next| self.start(next, ticks));
            self.at.store(0, Ordering::Relaxed);
            self.swap(next.map_or(std::ptr::null_mut(), |next| next.0)).map(pass_on);
        }
        self.leave();
        Ok(())
    }

    /// Passes the chunk on, for good. Called by the lane's own thread.
    pub(super) fn give_up(&self, fence: Fence, pass_on: impl FnOnce(ChunkRef)) {
        if self.enter(fence).is_err() {
            return;
        }
        self.take().map(pass_on);
        self.leave();
    }

    /// Takes the chunk's pointer. Unless its thread is known to be gone, [`heavy_fence`] must follow, then the wait
    /// for [`Lane::is_busy`] to end.
    pub(super) fn take(&self) -> Option<ChunkRef> {
        self.swap(std::ptr::null_mut())
    }

    fn swap(&self, next: *mut Chunk) -> Option<ChunkRef> {
        let chunk = self.chunk.swap(next, Ordering::AcqRel);
        (!chunk.is_null()).then_some(ChunkRef(chunk))
    }

    /// Whether the writer is inside.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }

    /// Gives the lane a chunk if it has none: for signal lanes, whose writers never touch a queue.
    ///
    /// # Errors
    /// The chunk, if the lane has one.
    pub(super) fn give(&self, chunk: ChunkRef) -> Result<(), ChunkRef> {
        let none = std::ptr::null_mut();
        match self.chunk.compare_exchange(none, chunk.0, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            Err(_) => Err(chunk),
        }
    }
}

/// Whether an event fits behind the first `at` bytes.
#[inline(always)]
fn has_room(at: usize) -> bool {
    at <= CHUNK_ROOM - EVENT_MAX
}

/// What a steal found in one lane.
pub(super) struct Stolen<'a> {
    pub(super) lane: &'a Lane,
    /// `None`: the writer may have one in its hands that is on its way to the full queue.
    pub(super) chunk: Option<ChunkRef>,
    /// Whether the writer was inside. Until it is seen away, the chunk is owned but not at rest; only what it has
    /// published may be read.
    pub(super) busy: bool,
}

/// Takes the chunks of several lanes with one heavy fence; tells of those that had one, or whose writer was inside.
pub(super) fn steal<'a>(lanes: impl Iterator<Item = &'a Lane>) -> Vec<Stolen<'a>> {
    let mut taken: Vec<_> = lanes.map(|lane| Stolen { lane, chunk: lane.take(), busy: false }).collect();
    heavy_fence();
    for stolen in &mut taken {
        stolen.busy = stolen.lane.is_busy();
    }
    taken.retain(|stolen| stolen.chunk.is_some() || stolen.busy);
    taken
}
