//! Every bound of kymo: its name, value and unit, why it is so, what happens when it is reached, and the counter that
//! shows it. Code elsewhere names these; it has no large number of its own.
//!
//! Does not hold what a user may choose: those bounds are options, and their defaults stand beside them.

/// Bytes of a thread's chunk, header included. Large enough that trading it is rare (about 6 000 events), small
/// enough that a thousand busy threads fit the memory cap. Full: the thread trades it for an empty one.
pub const CHUNK_BYTES: usize = 64 * 1024;

/// The least number of a descriptor that kymo keeps open in a program that it is preloaded into: such a program may count
/// on getting the lowest ones. Above the process's limit: the lowest one all the same.
pub const OWN_DESCRIPTORS: i32 = 512;

/// Free chunks that are used again before others, so that a service whose events are few touches a few megabytes and
/// not all of them. More: they wait for a burst.
pub const WARM_CHUNKS: usize = 32;

/// Memory that recording may take in the traced process, in bytes: chunks, stacks and strings together.
/// Reached: no free chunk, events are lost and counted (`no_chunk`).
pub const MEMORY_BYTES: usize = 64 * 1024 * 1024;

/// Address space that must be there beside [`MEMORY_BYTES`] when the first capture starts, in bytes: for kymo's thread,
/// names, the program itself. Less: no capture, but a typed error.
pub const HEADROOM_BYTES: usize = 64 * 1024 * 1024;

/// Bytes of the stack table: interned stacks of all threads. Full: [`crate::events::StackId::OVERFLOW`], counted.
pub const STACK_TABLE_BYTES: usize = 8 * 1024 * 1024;

/// Bytes of the string table. Full: [`crate::events::StrId::OVERFLOW`], counted.
pub const STRING_TABLE_BYTES: usize = 2 * 1024 * 1024;

/// Source locations whose text is found by their address. More: their text is made each time, some hundred
/// nanoseconds.
pub const SITES: usize = 4096;

/// Bytes of one interned string. Longer: cut at a character boundary, `…` at its end. Go's bound.
pub const STRING_BYTES: usize = 1024;

/// Bytes of a peer's name, as `tcp [address]:port` or `unix` and the longest path that a socket can have (108). Longer:
/// cut at a character boundary.
pub const PEER_BYTES: usize = 128;

/// Labels that a thread or a task has at the same time. More: they are left out.
pub const LABELS: usize = 16;

/// Descriptors that are named at a capture's end, a few microseconds each. More: those that were opened before the
/// capture stay numbers.
pub const NAMED_DESCRIPTORS: usize = 4096;

/// Counters of threads that wait for pthread locks, by address. Two addresses may share one: then an unlock is told as
/// a wake though only the other lock was waited for, which no analysis pairs with a wait.
pub const WAIT_COUNTERS: usize = 1024;

/// Nanoseconds of waiting for each wait that the block profile weighs while it is served and nobody has said otherwise:
/// the stack that is taken then costs less than one percent of them.
pub const BLOCK_PROFILE_NS: u64 = 20_000;

/// Of so many wakes that end waits the mutex profile weighs one while it is served and nobody has said otherwise.
pub const MUTEX_PROFILE_FRACTION: u32 = 10;

/// Places of threads that wait while the mutex profile is on. See [`WAITERS_REACH`].
pub const WAITERS: usize = 4096;

/// Places beside each other that a waiter looks at. All taken: the mutex profile is not told of its wait, counted
/// (`status`: `contention`).
pub const WAITERS_REACH: usize = 256;

/// Families of async locks that an analysis tells apart by who overtakes whom; with more of them it tells none apart.
pub const LOCK_FAMILIES: usize = 256;

/// Frames of a stack; deeper ones are cut at the root and flagged by an address of 0 as the last frame. Go's bound.
pub const STACK_FRAMES: usize = 128;

/// Unwind tables in a process's life: one, and one more for each capture that found modules loaded or unloaded since.
/// Superseded ones are kept (a signal handler may read them), about 40 KiB each, rows shared. More: stacks end at
/// code that was loaded later.
pub const UNWIND_TABLES: usize = 64;

/// Libraries that are unloaded while something is recorded, whose names and places are kept: address space, no memory.
/// More: their frames may get the names of what is loaded there later.
pub const UNLOADED_MODULES: usize = 1024;

/// Threads that are recorded at the same time. More: their events are lost, counted (`no_thread`).
pub const THREADS: usize = 16 * 1024;

/// How often the drain takes every thread's chunk, in milliseconds: what a killed process loses at most.
pub const SEAL_MS: u64 = 1000;

/// A wall clock that is further than this from where it should be has been set, nanoseconds: more than any drift
/// between two syncs, which are [`SEAL_MS`] apart.
pub const WALL_CLOCK_STEP_NS: u64 = 50_000_000;

/// How often the drain looks for full chunks, in milliseconds.
pub const DRAIN_MS: u64 = 20;

/// How long a seal waits for threads that were stopped inside a write, in milliseconds. Longer: their chunk is set
/// aside; the one event that each of them may still finish is lost, counted (`no_chunk`).
pub const LINGER_MS: u64 = 50;

/// Waits of locks at least this long always carry a stack, shorter ones with probability duration / threshold, in
/// nanoseconds. A stack costs about 150 ns, so this is below one percent of the time waited.
pub const WAIT_STACK_NS: u64 = 20_000;

/// The same for hooked calls, of which a busy server makes hundreds of thousands a second.
pub const CALL_STACK_NS: u64 = 100_000;

/// The same for a suspended task: a wake that ends a suspension this long carries the waker's stack.
pub const WAKE_STACK_NS: u64 = 100_000;

/// Stacks of a live table (block, mutex, custom profiles). More: they are weighed together, as one stack of none
/// (`StackId::OVERFLOW`).
pub const LIVE_STACKS: usize = 16 * 1024;

/// Sampled allocations that live at the same time: 128 GiB at the default rate. More: not kept, counted, and what the heap
/// profile says to live is a lower bound.
pub const LIVE_SAMPLES: usize = 256 * 1024;

/// Counters in front of the table of sampled allocations, one for each 64 bytes of 64 MiB of addresses, then from the
/// beginning again. Those that share one cost each other's frees a look into the table.
pub const LIVE_FILTER: usize = 1024 * 1024;
/// CPU samples that a capture may ask for in each second that a thread runs. More: 400. The kernel looks at CPU timers
/// once in each of its ticks (100 to 1000 a second), so more would not come.
pub const CPU_HZ: u32 = 1000;

/// Periods that one CPU sample may stand for. More: its thread had blocked the signal, or was not let run; what is
/// beyond is told without a stack, since the time was not spent where the signal arrived at last.
pub const CPU_SAMPLE_PERIODS: u64 = 25;

/// Looks for new threads take at most one part in this many of the time. Their hook finds most of them at once.
pub const CPU_LOOK_SHARE: u32 = 500;

/// Threads whose signal masks are read in one look, 15 µs each. More threads: their turn comes in a later look.
pub const CPU_MASKS: usize = 8;

/// How often the heap's counters are told while allocations are sampled in a capture, in nanoseconds, at most.
pub const HEAP_STEP_NS: u64 = 10_000_000;

/// Bytes by which the heap, as samples tell, grows or shrinks until its counters are told before their time.
pub const HEAP_STEP_BYTES: u64 = 4 * 1024 * 1024;
/// Bytes of the rings into which the kernel writes threads' switches, all threads together: what an ordinary user may
/// lock by default (RLIMIT_MEMLOCK). Full: further threads' totals are told instead, and `status` counts them.
pub const SCHED_RING_BYTES: usize = 8 * 1024 * 1024;

/// Pages of a new thread's ring, while all rings take at most so many quarters of [`SCHED_RING_BYTES`]. A page holds 128
/// switches. A ring that is full before it is read: switches are lost, counted (`kernel_ring`).
pub const SCHED_RING_PAGES: &[(usize, usize)] = &[(64, 1), (16, 2), (4, 3), (1, 4)];

/// Rings that new threads have opened and the drain has not taken yet. More: it finds those threads by itself.
pub const SCHED_ANNOUNCED: usize = 1024;

/// After a look at the process's threads the drain does without one for so many times as long as it took: so that it takes
/// a twentieth of a CPU at most, however many threads there are.
pub const SCHED_LOOK_SHARE: u32 = 20;

/// Threads whose totals are told at once: some 15 us each, while captures begin and end. More: theirs are not told, and
/// `status` counts them.
pub const SCHED_TOTALS_THREADS: usize = 4096;

/// How often threads' totals are told while a capture runs, in milliseconds, where single switches can't be had: what a
/// killed process's trace lacks of them at most.
pub const SCHED_TOTALS_MS: u64 = 1000;

/// Captures that may overlap. More: refused with a typed error (HTTP: 429).
pub const CAPTURES: usize = 16;

/// Bytes that one capture's reader may lag behind. More: its events are lost, counted (`slow_reader`).
pub const READER_LAG_BYTES: usize = 16 * 1024 * 1024;

/// Bytes of events that the flight recorder holds where its config doesn't say. Go's. Full: the oldest go, and its
/// window begins later.
pub const FLIGHT_BYTES: usize = 10 * 1024 * 1024;

/// Bytes of stacks, strings and names in a flight recorder's file, beside its ring: both tables of the recorder, and names
/// of some hundred thousand threads. Full: later names are missing there, and the status says so.
pub const FLIGHT_WORDS_BYTES: usize = STACK_TABLE_BYTES + STRING_TABLE_BYTES + 8 * 1024 * 1024;

/// Threads, and open spans, that a flight recorder watches for lasting too long. More: they are not watched.
pub const FLIGHT_WATCHED: usize = 64 * 1024;

/// Snapshots that are kept in a flight recorder's directory where its config doesn't say. More: the oldest are deleted.
pub const FLIGHT_SAVED: usize = 10;

/// Seconds between two of them at least, where its config doesn't say. Sooner: none is saved.
pub const FLIGHT_SAVED_SECONDS: u64 = 60;

/// How long a thread that panics waits for the snapshot to be saved, in milliseconds. Longer: it goes on.
pub const FLIGHT_PANIC_MS: u64 = 2000;

/// The least that a flight recorder may be given: a few chunks. Less: refused with a typed error.
pub const FLIGHT_LEAST_BYTES: usize = 4 * CHUNK_BYTES;

/// The most. More: refused with a typed error.
pub const FLIGHT_MOST_BYTES: usize = 1024 * 1024 * 1024;

/// Seconds that the flight recorder holds where its config doesn't say. Go's. Older: dropped at the next seal.
pub const FLIGHT_SECONDS: u64 = 10;

/// The longest `seconds` of a request. Longer: 400.
pub const CAPTURE_SECONDS: f64 = 3600.0;

/// Bytes of a trace that the traced process converts or shows itself. More: the capture ends there and says so.
pub const IN_PROCESS_TRACE_BYTES: usize = 64 * 1024 * 1024;

/// Bytes of one section of a trace file. Longer: damage, never allocated.
pub const SECTION_BYTES: usize = 64 * 1024 * 1024;

/// Bytes of a section of debug information after decompression. More: the section is not used, names come from the
/// symbol table.
pub const DEBUG_SECTION_BYTES: u64 = 1 << 30;

/// Bytes of packets that a Perfetto export gathers before it writes them: its packets may not pass 512 KiB, and one
/// block compresses about as well as the whole. Full: the block is written.
pub const PERFETTO_BLOCK_BYTES: usize = 256 * 1024;

/// Tasks that get a track of their own in a Perfetto export; its page takes about three seconds for each thousand.
/// More: tasks of one name share rows, and their numbers stand in the slices' arguments.
pub const PERFETTO_TASK_TRACKS: usize = 2_000;

/// Bytes of JSON that an export gathers before it writes them. Full: they are written.
pub const EXPORT_BUFFER_BYTES: usize = 64 * 1024;

/// Bytes that a profile may unpack to. More: refused, with a typed error.
pub const PROFILE_BYTES: usize = 256 * 1024 * 1024;

/// Lanes of a row of the viewer in which things overlap. More at once: they are not drawn, but counted on the row.
pub const LANES: usize = 8;

/// Traces that the viewer holds at the same time. One more: the oldest is dropped.
pub const VIEWED_TRACES: usize = 4;

/// Bytes of row indexes that the viewer keeps for a trace. More: those looked at longest ago are built again when needed.
pub const ROW_INDEX_BYTES: usize = 256 * 1024 * 1024;

/// Bytes of a trace that may be dropped on the page. More: 413.
pub const DROPPED_TRACE_BYTES: usize = 1024 * 1024 * 1024;

/// Tiles of one request. More: 400.
pub const TILES: usize = 1024;

/// Rows of one page. More asked for: that many are given, with a cursor.
pub const PAGE_ROWS: usize = 200;

/// Arrows of one selection. More: the answer says how many there are.
pub const ARROWS: usize = 200;

/// Hits of one search. More: the answer says how many there are.
pub const SEARCH_HITS: usize = 50;

/// Findings of a trace: the locks that were waited for longest.
pub const FINDINGS: usize = 5;

/// A lock that was waited for less than the trace's length divided by this is no finding: a thousandth.
pub const FINDING_SHARE: u64 = 1000;

/// The longest trace that the viewer shows, in nanoseconds: 2^53, so that every time is exact as a JSON number (104 days).
/// Longer: refused.
pub const VIEWED_NS: u64 = 1 << 53;

/// Connections that kymo's own server holds at the same time. More: closed at once, counted (`status`: `refused`).
pub const HTTP_CONNECTIONS: usize = 128;

/// Seconds that a client of kymo's own server may take to send a request's head, and that an idle connection is kept.
/// Longer: closed.
pub const HTTP_HEAD_SECONDS: u64 = 10;

/// Seconds that a client may take no byte of an answer that waits for it. Longer: closed, which ends its capture.
pub const HTTP_STALL_SECONDS: u64 = 60;

/// Bytes of a request's head. More: 431.
pub const HTTP_HEAD_BYTES: usize = 16 * 1024;

/// Headers of a request. More: 431.
pub const HTTP_HEADERS: usize = 64;

/// Blocks of an exported trace on their way to a client. More: the export waits.
pub const EXPORT_BLOCKS: usize = 4;

/// Bytes that the command reads from a service at a time.
pub const READ_BUFFER_BYTES: usize = 64 * 1024;

/// Numbers of tasks or spans beside the first one seen that a reader keeps in an array, four bytes each. Others: in a
/// map, slower.
pub const DENSE_IDS: usize = 1 << 20;

/// Bytes of names and paths that one section of symbols may stand for. More: its other symbols are left out, and the
/// trace's problems say so.
pub const SYMBOL_TEXT_BYTES: usize = 256 * 1024 * 1024;

/// How often a damaged file's length may be checksummed in vain in search of valid sections. More: what follows is
/// given up, and reported as damaged.
pub const RECOVERY_PASSES: usize = 8;
