//! The hot path: what happens between an event and its bytes.
//!
//! # The story of one event
//! 1. *Enabled?* A source asks [`enabled`] for its group: one relaxed load. Off, that is all that ever happens.
//! 2. *When?* [`emit`] reads the clock, or the source has (a wait's end is stamped before its stack is taken).
//! 3. *Where?* A thread-local pointer leads to this thread's slot (`thread`), which holds its lane (`ring`).
//! 4. *Room?* The lane's chunk has room for the longest event. If not: trade it for an empty one, or lose the event
//!    and count it.
//! 5. *Write.* Number, ticks since the chunk's latest event, arguments: varints, some ten bytes.
//! 6. *Commit.* The chunk's length is published. From here on the event survives whatever the thread does.
//!
//! Later, elsewhere: the one background thread (`drain`) takes full chunks, and each second every chunk, and hands the
//! runs to the captures (`session`) whose window and groups they fall in; each capture writes them to its sink
//! (`sink`). Stacks and strings are numbers in events and texts in `tables`.
//!
//! # Invariants
//! 1. Nothing on the way of an event MUST block, allocate, take a lock or call the C library, but for a thread's first
//!    event. Otherwise a hooked call could deadlock on itself, and an allocator on its own profile.
//! 2. What can't be kept MUST be counted, by thread and reason. Otherwise nobody could trust what is there.
//! 3. The traced thread MUST never wait for the drain, and the drain never for a sink. Otherwise a slow disk would be
//!    a slow service.
//! 4. Recording MUST switch itself off in a forked child. Otherwise two processes would write one trace.
//! 5. A captured event's group was enabled when it was written; a capture's own filter is applied by the drain.
//!
//! # Limits
//! [`crate::limits`]: `CHUNK_BYTES`, `MEMORY_BYTES`, `THREADS`, `STACK_TABLE_BYTES`, `STRING_TABLE_BYTES`.
//!
//! # Does not
//! know what events mean, name addresses, or speak HTTP.

mod drain;
mod pool;
pub mod priority;
mod registry;
mod ring;
pub mod session;
pub mod sink;
mod sync;
mod tables;
mod thread;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::clock;
use crate::events::{EventKind, Group, Groups, LossReason, StackId, StrId, ThreadId};
use crate::limits::{MEMORY_BYTES, STACK_FRAMES, STACK_TABLE_BYTES, STRING_TABLE_BYTES, THREADS};

/// The groups that some capture wants now. Seen by `sources::interpose`, whose naked function tests it by itself.
pub(crate) static ENABLED: AtomicU32 = AtomicU32::new(0);

/// Made at the first capture, never unmade.
static RECORDER: OnceLock<Recorder> = OnceLock::new();

/// What all threads share.
struct Recorder {
    exchange: ring::Exchange,
    /// Chunks there are.
    chunks: usize,
    slots: registry::Registry<thread::Slot>,
    next_thread: AtomicU32,
    /// Grows with each capture; chunks carry it, so that a capture can tell its own from older ones.
    epoch: AtomicU64,
    stacks: tables::Stacks,
    strings: tables::Strings,
    key: libc::pthread_key_t,
    /// Events of threads that have no slot: too many of them, or too late in their life.
    lost_without_slot: AtomicU64,
    /// The process that made it: a forked child's copy is dead.
    pid: u32,
}

impl Recorder {
    fn new() -> std::io::Result<Recorder> {
        clock::init();
        let fence = if sync::init_fences() {
            "membarrier"
        } else {
            "a fence in each write: membarrier(2) is refused"
        };
        crate::status::set("recorder", format!("on, ordered by {fence}"));
        let key = thread::retirement_key()?;
        let tables = STACK_TABLE_BYTES + STRING_TABLE_BYTES + THREADS * size_of::<thread::Slot>();
        let chunks = pool::map_chunks((MEMORY_BYTES - tables) / crate::limits::CHUNK_BYTES)?;
        Ok(Recorder {
            chunks: chunks.len(),
            exchange: ring::Exchange::new(chunks, MEMORY_BYTES / crate::limits::CHUNK_BYTES, false),
            slots: registry::Registry::new((0..THREADS).map(|_| thread::Slot::new())),
            next_thread: AtomicU32::new(1),
            epoch: AtomicU64::new(0),
            stacks: tables::Stacks::new(),
            strings: tables::Strings::new(),
            key,
            lost_without_slot: AtomicU64::new(0),
            pid: std::process::id(),
        })
    }

    /// Puts a filled chunk into the full queue; what that displaces is lost.
    fn pass_on(&self, filled: ring::ChunkRef) {
        if let Some(displaced) = self.exchange.give_full(filled) {
            self.lose_chunk(&displaced);
            self.exchange.give_free(displaced);
        }
    }

    /// The oldest full chunk, its events lost: for overwrite mode, when nothing is free.
    fn overwrite_oldest(&self) -> Option<ring::ChunkRef> {
        let oldest = self.exchange.take_oldest_to_overwrite()?;
        self.lose_chunk(&oldest);
        Some(oldest)
    }

    fn lose_chunk(&self, chunk: &ring::ChunkRef) {
        let (thread, events) = (chunk.label().thread, u64::from(chunk.events()));
        let place = self.slots.used().find(|(_, place)| place.item.thread.load(Ordering::Relaxed) == thread);
        match place {
            Some((_, place)) => place.item.lose(LossReason::Overwritten, events),
            None => drop(self.lost_without_slot.fetch_add(events, Ordering::Relaxed)),
        }
    }
}

fn recorder() -> Option<&'static Recorder> {
    RECORDER.get()
}

/// Whether events of a group are recorded now: one relaxed load.
#[inline(always)]
pub fn enabled(group: Group) -> bool {
    Groups(ENABLED.load(Ordering::Relaxed)).contains(group)
}

/// Records an event that happens now, if its group is enabled. About 10 ns, no allocation, async-signal-safe.
///
/// ```
/// use kymo::events::{Counter, StrId, Value};
/// kymo::record::emit(Counter { name: kymo::record::string("queue"), value: Value(7) });
/// ```
#[inline(always)]
pub fn emit<E: EventKind>(event: E) {
    if enabled(E::GROUP) {
        emit_at(clock::ticks(), event);
    }
}

/// Records an event that happened at `ticks`; a stamp before this thread's latest event counts as that one's. The
/// caller has checked [`enabled`].
#[inline(always)]
pub fn emit_at<E: EventKind>(ticks: u64, event: E) {
    thread::write(ticks, event);
}

/// This thread's stack here, interned: return addresses, leaf first, kymo's own frames still on it (readers take them
/// off by name). About 5 ns a frame; async-signal-safe.
#[inline(never)]
pub fn stack() -> StackId {
    let Some(recorder) = recorder() else { return StackId(0) };
    let mut frames = [0; STACK_FRAMES];
    let depth = crate::unwind::capture(&mut frames);
    recorder.stacks.intern(&frames[..depth])
}

/// The rule for stacks of waits: always from `threshold_ns` on, below that with probability duration / threshold, so
/// that weighted sums stay true (Go's rule for its block profile).
#[inline]
pub fn lasted(begin_ticks: u64, end_ticks: u64, threshold_ns: u64) -> bool {
    let nanos = clock::nanos_between(begin_ticks, end_ticks);
    if nanos >= threshold_ns {
        return true;
    }
    let Some(slot) = thread::current() else { return false };
    slot.random() % threshold_ns.max(1) < nanos
}

/// This thread's stack if the wait that has just ended lasted; else none. See [`lasted`].
#[inline]
pub fn stack_if_lasted(begin_ticks: u64, end_ticks: u64, threshold_ns: u64) -> StackId {
    match lasted(begin_ticks, end_ticks, threshold_ns) && !is_muted() {
        true => stack(),
        false => StackId(0),
    }
}

/// kymo's number of this thread, which gets one now if it had none; 0 if it records nothing.
pub fn this_thread() -> ThreadId {
    thread::number()
}

/// Whether this thread records nothing: one of kymo's own.
pub fn is_muted() -> bool {
    thread::is_muted()
}

/// Interns a string: copied, cut at [`crate::limits::STRING_BYTES`]. 0 before the first capture.
pub fn string(text: &str) -> StrId {
    recorder().map_or(StrId(0), |recorder| recorder.strings.intern(text))
}

/// Interns a string that can be done without, and of which there may be any number (a path, a peer): like [`string`]
/// while the table is at most half full, then [`StrId::OVERFLOW`]. So names of threads, tasks and spans find room.
pub fn spare_string(text: &str) -> StrId {
    recorder().map_or(StrId(0), |recorder| recorder.strings.intern_spare(text))
}

/// Interns a source location as `file:line:column`; a location that was seen before costs a look-up.
pub fn site(location: &'static std::panic::Location<'static>) -> StrId {
    recorder().map_or(StrId(0), |recorder| recorder.strings.site(location))
}

/// The number of the latest capture, 0 before the first: what must be told once in each capture remembers it.
#[inline]
pub fn epoch() -> u64 {
    recorder().map_or(0, |recorder| recorder.epoch.load(Ordering::Relaxed))
}

/// What recording takes and lacks now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes of chunks that hold events, with threads or on their way.
    pub chunk_bytes: usize,
    /// Threads that have a slot.
    pub threads: usize,
    /// Stacks seen.
    pub stacks: u32,
    /// Stacks that found their table full.
    pub stacks_overflowed: u64,
    /// Strings seen.
    pub strings: u32,
    /// Strings that found their table full.
    pub strings_overflowed: u64,
    /// Captures that run.
    pub captures: usize,
}

/// What recording takes and lacks now; all zero before the first capture.
pub fn usage() -> Usage {
    let Some(recorder) = recorder() else { return Usage::default() };
    Usage {
        chunk_bytes: recorder.exchange.in_use(recorder.chunks) * crate::limits::CHUNK_BYTES,
        threads: recorder.slots.used().filter(|(_, place)| place.is_live()).count(),
        stacks: recorder.stacks.0.end() - tables::FIRST,
        stacks_overflowed: recorder.stacks.0.overflowed(),
        strings: recorder.strings.table.end() - tables::FIRST,
        strings_overflowed: recorder.strings.table.overflowed(),
        captures: drain::with(|drain| drain.recordings.len()),
    }
}

/// Never records anything on this thread from now on: for kymo's own threads.
pub fn mute_this_thread() {
    thread::mute();
}
