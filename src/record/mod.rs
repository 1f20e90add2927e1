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
//! Later, elsewhere: the one background thread (`drain`) takes full chunks, and each second every chunk, looks through
//! their runs (`run`), and hands them to the captures (`session`); each keeps what lies in its window and groups and
//! writes it to its sink (`recording`, `sink`). Stacks and strings are numbers in events and words in `tables`.
//!
//! # Invariants
//! 1. Nothing on the way of an event MUST block, allocate, take a lock or call the C library, but for a thread's first
//!    event. Otherwise a hooked call could deadlock on itself, and an allocator on its own profile.
//! 2. What can't be kept MUST be counted, by thread and reason: emitted is kept plus lost. Otherwise nobody could
//!    trust what is there.
//! 3. The traced thread MUST never wait for the drain, and the drain never for a sink. Otherwise a slow disk would be
//!    a slow service.
//! 4. Recording MUST switch itself off in a forked child. Otherwise two processes would write one trace.
//! 5. A capture MUST filter by itself what it gets, by group and by tick. Otherwise it would hold what only another one
//!    asked for: a thread may write an event long after it has looked whether anybody wants it.
//! 6. A handler that interrupts a write, a trade or a registration MUST NOT touch what its thread has half done.
//!    Otherwise it would wait for itself: it writes beside it (`ring`, `thread`), or its event is lost, and counted.
//!
//! # Limits
//! [`crate::limits`]: `CHUNK_BYTES`, `MEMORY_BYTES`, `THREADS`, `STACK_TABLE_BYTES`, `STRING_TABLE_BYTES`, `LINGER_MS`.
//!
//! # Does not
//! know what events mean, name addresses, or speak HTTP.

mod drain;
pub mod file;
pub mod flight;
pub mod live;
mod named;
mod pool;
pub mod priority;
mod recording;
mod registry;
mod ring;
mod run;
pub mod session;
mod signals;
pub mod sink;
pub mod switches;
mod sync;
mod tables;
mod thread;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::clock;
use crate::events::{EventKind, Group, Groups, LossReason, StackId, StrId, ThreadId};
use crate::limits::{
    CHUNK_BYTES, HEADROOM_BYTES, MEMORY_BYTES, STACK_FRAMES, STACK_TABLE_BYTES, STRING_TABLE_BYTES, THREADS,
};

/// The groups that some capture wants now. Seen by `sources::interpose`, whose naked function tests it by itself.
pub(crate) static ENABLED: AtomicU32 = AtomicU32::new(0);

/// The bit of [`ENABLED`], no group's, that is set while waits are weighed without a capture.
const WAITS_WEIGHED: u32 = 1 << 31;

/// What of [`ENABLED`] makes hooks look at waits.
pub const WAITS: u32 = Group::Block.bit() | WAITS_WEIGHED;

/// See [`when_full`].
static OVERWRITE: AtomicBool = AtomicBool::new(false);

/// Made at the first capture, never unmade.
static RECORDER: OnceLock<Recorder> = OnceLock::new();

/// What all threads share.
struct Recorder {
    exchange: ring::Exchange,
    slots: registry::Registry<thread::Slot>,
    next_thread: AtomicU32,
    /// The number of the latest capture.
    epoch: AtomicU64,
    stacks: tables::Stacks,
    strings: tables::Strings,
    key: libc::pthread_key_t,
    /// Events of threads that have no slot: too many of them, or too late in their life.
    lost_without_slot: AtomicU64,
    /// Slots that the drain has claimed for threads that have recorded nothing yet.
    adoptable: AtomicU32,
    /// The process that made it: a forked child's copy is dead.
    pid: u32,
}

impl Recorder {
    fn new() -> std::io::Result<Recorder> {
        pool::look_for_room(MEMORY_BYTES + HEADROOM_BYTES)?;
        clock::init();
        let fence = if sync::init_fences() {
            "membarrier"
        } else {
            "a fence in each write: membarrier(2) is refused"
        };
        crate::status::set("recorder", format!("on, ordered by {fence}"));
        let key = thread::retirement_key()?;
        let tables = STACK_TABLE_BYTES + STRING_TABLE_BYTES + THREADS * size_of::<thread::Slot>();
        let chunks = pool::map_chunks((MEMORY_BYTES - tables) / CHUNK_BYTES)?;
        let exchange = ring::Exchange::new(chunks, MEMORY_BYTES / CHUNK_BYTES);
        exchange.overwrite(OVERWRITE.load(Ordering::Relaxed));
        Ok(Recorder {
            exchange,
            slots: registry::Registry::new(pool::zeroed(THREADS)),
            next_thread: AtomicU32::new(1),
            epoch: AtomicU64::new(0),
            stacks: tables::Stacks::new(),
            strings: tables::Strings::new(),
            key,
            lost_without_slot: AtomicU64::new(0),
            adoptable: AtomicU32::new(0),
            pid: std::process::id(),
        })
    }

    /// Whether this process was forked from the one that records.
    fn is_of_parent(&self) -> bool {
        self.pid != std::process::id()
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

    /// Counts the events of a chunk that was in the full queue.
    fn lose_chunk(&self, chunk: &ring::ChunkRef) {
        let slot = &self.slots.at(chunk.label().slot).item;
        slot.lose(LossReason::Overwritten, chunk.read(run::count));
        slot.chunk_done();
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

/// Whether anything is recorded now.
#[cfg(hooked)]
pub(crate) fn is_on() -> bool {
    ENABLED.load(Ordering::Relaxed) != 0
}

/// Whether hooks look at waits now: for a capture, or because [`weigh_waits`] says so.
#[inline(always)]
pub fn waits_watched() -> bool {
    ENABLED.load(Ordering::Relaxed) & WAITS != 0
}

/// Makes hooks look at waits, whether a capture runs or not: for tables that live in the process.
pub fn weigh_waits(on: bool) {
    match on {
        true => ENABLED.fetch_or(WAITS_WEIGHED, Ordering::SeqCst),
        false => ENABLED.fetch_and(!WAITS_WEIGHED, Ordering::SeqCst),
    };
}

/// Enables these groups, and leaves the rest of [`ENABLED`] as it is.
fn enable(groups: Groups) {
    let groups = groups.0 & !WAITS_WEIGHED;
    // What the closure returns is never refused.
    let _ =
        ENABLED.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |old| Some(old & WAITS_WEIGHED | groups));
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
        thread::write_now(event);
    }
}

/// Records an event that happened at `ticks`; a stamp before this thread's latest event counts as that one's. The
/// caller has checked [`enabled`].
#[inline(always)]
pub fn emit_at<E: EventKind>(ticks: u64, event: E) {
    thread::write(ticks, event);
}

/// Records an event from a signal handler, whatever it has interrupted: as [`emit_at`], and a thread's first event
/// takes no lock and allocates nothing either.
pub fn emit_in_handler<E: EventKind>(ticks: u64, event: E) {
    thread::write_in_handler(ticks, event);
}

/// The stack of what a signal interrupted, interned, from the context that its handler was given; as [`stack`].
pub fn stack_from(context: &libc::ucontext_t) -> StackId {
    let Some(recorder) = recorder() else { return StackId(0) };
    let mut frames = [0; STACK_FRAMES];
    let depth = crate::unwind::capture_from(context, &mut frames);
    recorder.stacks.intern(&frames[..depth])
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
    // A number below the threshold, each as likely, by a multiplication instead of a division.
    ((u128::from(slot.random()) * u128::from(threshold_ns)) >> 64) < u128::from(nanos)
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

/// Records nothing on this thread while `work` runs: for kymo's own doings on a thread of the program.
pub(crate) fn quietly<R>(work: impl FnOnce() -> R) -> R {
    thread::quietly(work)
}

/// Interns a string: copied, cut at [`crate::limits::STRING_BYTES`], which `…` shows. 0 before the first capture.
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

/// Takes early what a thread's first event needs of the C library, so that this may be within malloc.
#[cfg(hooked)]
pub(crate) fn reserve() {
    // If it can't be had, the first capture can't be either, and says so.
    let _ = thread::retirement_key();
    crate::unwind::stay();
}

/// Makes the recorder without a capture, so that [`stack`] and [`string`] give numbers.
///
/// # Errors
/// [`session::CaptureError`].
pub fn prepare() -> Result<(), session::CaptureError> {
    session::make_recorder()?;
    thread::quietly(crate::unwind::prepare);
    Ok(())
}

/// Which events are lost when the drain can't keep up and all chunks are full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// Those that come: counted as `no_chunk`.
    #[default]
    LoseNewest,
    /// The oldest ones, a chunk at a time: counted as `overwritten`.
    LoseOldest,
}

/// Chooses which events are lost when all chunks are full, for the whole process, from now on.
pub fn when_full(choice: WhenFull) {
    OVERWRITE.store(choice == WhenFull::LoseOldest, Ordering::Relaxed);
    if let Some(recorder) = recorder() {
        recorder.exchange.overwrite(choice == WhenFull::LoseOldest);
    }
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
    /// Events that threads have lost while some capture ran, and those that sinks refused, each for every capture that
    /// lacks it, since the process began, by [`LossReason`].
    pub lost: [u64; LossReason::ALL.len()],
    /// Events whose stamp was earlier than that of their thread's event before, and which count as of that moment.
    pub clock_fixups: u64,
}

/// What recording takes and lacks now; all zero before the first capture, and in a forked child.
pub fn usage() -> Usage {
    let Some(recorder) = recorder().filter(|recorder| !recorder.is_of_parent()) else {
        return Usage::default();
    };
    let (captures, lost) = drain::with(|drain| (drain.recordings.len(), drain.lost));
    Usage {
        chunk_bytes: recorder.exchange.in_use() * CHUNK_BYTES,
        threads: recorder.slots.used().filter(|(_, place)| place.is_live()).count(),
        stacks: recorder.stacks.0.end() - tables::FIRST,
        stacks_overflowed: recorder.stacks.0.overflowed(),
        strings: recorder.strings.table.end() - tables::FIRST,
        strings_overflowed: recorder.strings.table.overflowed(),
        captures,
        lost,
        clock_fixups: recorder.slots.used().map(|(_, place)| place.item.clock_fixups()).sum(),
    }
}

/// Starts a thread of kymo's own: it is never recorded, and takes no signals.
///
/// # Errors
/// The system has no thread for it.
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    let work = move || {
        thread::mute();
        work();
    };
    signals::held(|| std::thread::Builder::new().name(name.into()).spawn(work)).map(drop)
}

/// Never records anything on this thread from now on: for kymo's own threads.
pub fn mute_this_thread() {
    thread::mute();
}
