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
//! 2. A writer MUST make its lane's `turn` odd, fence (light), and only then look at the lane's chunk; it makes it
//!    even again (release) when it no longer touches the chunk. Otherwise the drain could not know when it has left.
//! 3. The drain MUST take the chunk's pointer, fence (heavy), and then wait until `turn` is even or has moved on. By
//!    the fences either the writer sees the empty pointer, or the drain sees the odd turn. Otherwise both would own
//!    the chunk.
//! 4. `len` MUST be published after the bytes below it. Otherwise a reader of a chunk whose writer sleeps inside an
//!    event would see bytes that were never written.
//! 5. Only the lane's own thread writes `turn` and the chunk's length. A signal handler that finds `turn` odd has
//!    interrupted a writer and uses the thread's other lane.
//!
//! `tests/loom.rs` checks 1 to 4 in every interleaving; a mutant without the release in 2 and 4 must fail there.

#![allow(
    unsafe_code,
    reason = "chunks are memory that is shared by the protocol above, which the compiler can't check"
)]

use super::sync::{
    ArrayQueue, AtomicPtr, AtomicU32, AtomicU64, CHUNK_ROOM, Ordering, PUBLISH, UnsafeCell, heavy_fence,
    light_fence,
};
use crate::events::EventKind;
use crate::wire::{Cursor, EVENT_MAX};

/// One thread's self-contained run of events.
#[repr(C, align(64))]
pub(super) struct Chunk {
    /// Bytes that readers may read.
    len: AtomicU32,
    /// Events in them.
    events: AtomicU32,
    /// Ticks that the first event counts from.
    base_ticks: AtomicU64,
    /// Ticks of the latest event, which the next one counts from. The writer's own.
    last_ticks: AtomicU64,
    /// Whose it is: set when the lane gets it.
    thread: AtomicU32,
    /// Which of the thread's lanes.
    lane: AtomicU32,
    /// The capture epoch when the lane got it: its events are all younger.
    epoch: AtomicU64,
    bytes: UnsafeCell<[u8; CHUNK_ROOM]>,
}

#[cfg(test)]
#[allow(dead_code, reason = "for tests/loom.rs, which makes chunks without mapping memory")]
impl Chunk {
    pub(super) fn new() -> Chunk {
        Chunk {
            len: AtomicU32::new(0),
            events: AtomicU32::new(0),
            base_ticks: AtomicU64::new(0),
            last_ticks: AtomicU64::new(0),
            thread: AtomicU32::new(0),
            lane: AtomicU32::new(0),
            epoch: AtomicU64::new(0),
            bytes: UnsafeCell::new([0; CHUNK_ROOM]),
        }
    }
}

/// What a chunk's head says of its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label {
    /// Ticks that the first event counts from.
    pub(super) ticks: u64,
    /// The thread.
    pub(super) thread: u32,
    /// Which of its lanes.
    pub(super) lane: u32,
    /// The capture epoch when the lane got the chunk: all its events are younger.
    pub(super) epoch: u64,
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

    /// Events in it.
    pub(super) fn events(&self) -> u32 {
        self.head().events.load(Ordering::Relaxed)
    }

    /// Reads what has been published.
    pub(super) fn read<R>(&self, read: impl FnOnce(&[u8]) -> R) -> R {
        let len = self.head().len.load(Ordering::Acquire) as usize;
        self.head().bytes.with(|bytes| {
            // SAFETY: bytes below the published length are written and stay as they are while we own the chunk
            // (invariants 1 and 4); bytes above it are not in the slice.
            read(unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), len) })
        })
    }

    /// Makes it empty and notes whose it will be.
    pub(super) fn begin(&self, label: Label) {
        let head = self.head();
        head.len.store(0, Ordering::Relaxed);
        head.events.store(0, Ordering::Relaxed);
        head.base_ticks.store(label.ticks, Ordering::Relaxed);
        head.last_ticks.store(label.ticks, Ordering::Relaxed);
        head.thread.store(label.thread, Ordering::Relaxed);
        head.lane.store(label.lane, Ordering::Relaxed);
        head.epoch.store(label.epoch, Ordering::Relaxed);
    }

    /// What [`ChunkRef::begin`] noted.
    pub(super) fn label(&self) -> Label {
        let head = self.head();
        Label {
            ticks: head.base_ticks.load(Ordering::Relaxed),
            thread: head.thread.load(Ordering::Relaxed),
            lane: head.lane.load(Ordering::Relaxed),
            epoch: head.epoch.load(Ordering::Relaxed),
        }
    }
}

/// The free and the full chunks.
pub(super) struct Exchange {
    free: ArrayQueue<ChunkRef>,
    full: ArrayQueue<ChunkRef>,
    /// When nothing is free: give the writer the oldest full chunk instead of none (the flight recorder's way).
    overwrite: bool,
}

impl Exchange {
    /// With these chunks, all of them free. In overwrite mode the full queue keeps the youngest `full` chunks.
    pub(super) fn new(chunks: Vec<ChunkRef>, full: usize, overwrite: bool) -> Exchange {
        let free = ArrayQueue::new(chunks.len().max(1));
        for chunk in chunks {
            // The queue has room for every chunk there is.
            let _ = free.push(chunk);
        }
        Exchange { free, full: ArrayQueue::new(full.max(1)), overwrite }
    }

    /// An empty chunk, if there is one.
    pub(super) fn take_free(&self) -> Option<ChunkRef> {
        self.free.pop()
    }

    /// Gives back an empty chunk.
    pub(super) fn give_free(&self, chunk: ChunkRef) {
        // There is room for every chunk there is.
        let _ = self.free.push(chunk);
    }

    /// Takes a filled chunk; what it displaces (overwrite mode), or can't take, comes back.
    pub(super) fn give_full(&self, chunk: ChunkRef) -> Option<ChunkRef> {
        match self.overwrite {
            true => self.full.force_push(chunk),
            false => self.full.push(chunk).err(),
        }
    }

    /// The oldest filled chunk, in overwrite mode only.
    pub(super) fn take_oldest_to_overwrite(&self) -> Option<ChunkRef> {
        self.overwrite.then(|| self.full.pop()).flatten()
    }

    /// The oldest filled chunk.
    pub(super) fn take_full(&self) -> Option<ChunkRef> {
        self.full.pop()
    }

    /// Chunks that are not free: with lanes, full, or with the drain.
    pub(super) fn in_use(&self, all: usize) -> usize {
        all.saturating_sub(self.free.len())
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

/// One writer's end.
pub(super) struct Lane {
    /// Odd while the writer is inside.
    turn: AtomicU32,
    chunk: AtomicPtr<Chunk>,
    /// Bytes of a chunk that this lane fills: [`CHUNK_ROOM`], less for the signal lane.
    room: u32,
}

impl Lane {
    /// Without a chunk.
    pub(super) fn new(room: usize) -> Lane {
        let room = room.min(CHUNK_ROOM) as u32;
        Lane { turn: AtomicU32::new(0), chunk: AtomicPtr::new(std::ptr::null_mut()), room }
    }

    /// Enters: no other write of this thread, no steal may pass until [`Lane::leave`].
    #[inline(always)]
    fn enter(&self) -> Result<u32, Refused> {
        let turn = self.turn.load(Ordering::Relaxed);
        if turn & 1 == 1 {
            return Err(Refused::Busy);
        }
        // Published like the even turns: a drain that waits for a writer to leave may see it inside its next write.
        self.turn.store(turn.wrapping_add(1), PUBLISH);
        light_fence();
        Ok(turn)
    }

    #[inline(always)]
    fn leave(&self, turn: u32) {
        self.turn.store(turn.wrapping_add(2), PUBLISH);
    }

    /// Where the next event goes in this lane's chunk, if there is one with room. Inside a turn only.
    #[inline(always)]
    fn place(&self) -> Option<(ChunkRef, u32)> {
        let chunk = self.chunk.load(Ordering::Acquire);
        if chunk.is_null() {
            return None;
        }
        let chunk = ChunkRef(chunk);
        let at = chunk.head().len.load(Ordering::Relaxed);
        (at as usize + EVENT_MAX <= self.room as usize).then_some((chunk, at))
    }

    /// Writes one event. Called by the lane's own thread only.
    #[inline(always)]
    pub(super) fn write<E: EventKind>(&self, ticks: u64, event: E) -> Result<(), Refused> {
        let turn = self.enter()?;
        let Some((chunk, at)) = self.place() else {
            self.leave(turn);
            return Err(Refused::NoRoom);
        };
        let head = chunk.head();
        let last = head.last_ticks.load(Ordering::Relaxed);
        // A thread's time never runs backwards: an earlier stamp counts as the latest one.
        let ticks = ticks.max(last);
        let len = head.bytes.with_mut(|bytes| {
            let room = bytes.cast::<u8>().wrapping_add(at as usize).cast::<[u8; EVENT_MAX]>();
            // SAFETY: the lane owns the chunk while its turn is odd (invariants 1 to 3), nobody reads beyond the
            // published length, and `place` found EVENT_MAX bytes between `at` and the chunk's end.
            let room = unsafe { &mut *room };
            let mut cursor = Cursor::new(room);
            event.put(ticks - last, &mut cursor);
            cursor.len() as u32
        });
        head.last_ticks.store(ticks, Ordering::Relaxed);
        head.events.store(head.events.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        head.len.store(at + len, PUBLISH);
        self.leave(turn);
        Ok(())
    }

    /// Puts the chunk that `next` yields in the place of a full or missing one, which comes back. Called by the lane's
    /// own thread.
    pub(super) fn trade(&self, next: impl FnOnce() -> Option<ChunkRef>) -> Result<Option<ChunkRef>, Refused> {
        let turn = self.enter()?;
        let mut old = None;
        if self.place().is_none() {
            let next = next().map_or(std::ptr::null_mut(), |chunk| chunk.0);
            let chunk = self.chunk.swap(next, Ordering::AcqRel);
            old = (!chunk.is_null()).then_some(ChunkRef(chunk));
        }
        self.leave(turn);
        Ok(old)
    }

    /// The drain's first step: takes the chunk's pointer. [`heavy_fence`] must follow, then [`Lane::left`].
    fn take(&self) -> Option<ChunkRef> {
        let chunk = self.chunk.swap(std::ptr::null_mut(), Ordering::AcqRel);
        (!chunk.is_null()).then_some(ChunkRef(chunk))
    }

    /// Whether a writer that was inside at `turn` has left since.
    pub(super) fn left(&self, turn: u32) -> bool {
        turn & 1 == 0 || self.turn.load(Ordering::Acquire) != turn
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

/// Takes the chunks of several lanes with one heavy fence. Those whose writer is still inside come back as the second
/// list, with the turn to wait for: their chunk is owned, but not yet at rest.
pub(super) fn steal<'a>(lanes: impl Iterator<Item = &'a Lane>) -> (Vec<ChunkRef>, Vec<Lingering<'a>>) {
    let taken: Vec<_> = lanes.map(|lane| (lane, lane.take())).collect();
    heavy_fence();
    let (mut resting, mut lingering) = (Vec::new(), Vec::new());
    for (lane, chunk) in taken {
        let turn = lane.turn.load(Ordering::Acquire);
        match chunk {
            Some(chunk) if lane.left(turn) => resting.push(chunk),
            chunk if turn & 1 == 1 => lingering.push(Lingering { lane, turn, chunk }),
            _ => {}
        }
    }
    (resting, lingering)
}

/// A lane whose writer was inside when its chunk was taken.
pub(super) struct Lingering<'a> {
    pub(super) lane: &'a Lane,
    pub(super) turn: u32,
    /// What was taken; `None`: the writer may be putting a new chunk in place just now.
    pub(super) chunk: Option<ChunkRef>,
}
