//! A trace as bytes: what `.kymo` files, HTTP answers and the flight recorder hold.
//!
//! A file is a magic, then sections of `{mark, type, length, crc32c, payload}`. [`encode`] writes sections, [`mod@file`]
//! finds the valid ones in any bytes and says what is missing where, [`decode`] turns a section of events into
//! [`Event`](crate::events::Event)s, [`text`] is a trace that people read and write. FORMAT.md has the layout.
//!
//! Imports only `events`, `wire` and leaves: it works without threads, clock or operating system.

pub mod decode;
pub mod encode;
pub mod file;
pub mod ring;
pub mod ring_file;
pub mod text;

use crate::events::{StrId, ThreadId};

/// The format's major version: readers of another one refuse the file. It stands in [`MAGIC`] and in every section's
/// head, so that neither is believed when it is damaged.
pub const VERSION: u8 = 1;

/// First bytes of a file: name and major version.
pub const MAGIC: [u8; 8] = [b'k', b'y', b'm', b'o', 0, 0, 0, VERSION];

/// First bytes of a section, by which a reader finds the next one after damage.
pub const MARK: [u8; 4] = [0xf5, b'K', b'y', 0x9a];

/// Bytes of a section's head: mark, type, version, two of zero, length, checksum.
pub const SECTION_HEAD: usize = 16;

/// What a section holds. Unknown ones are stepped over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Section {
    /// [`Header`]: first of every file.
    Header = 1,
    /// Every event kind and its arguments, as the writer knows them.
    Schema = 2,
    /// One thread's run of events: [`EventsHead`], then events.
    Events = 3,
    /// Interned strings: first id, then texts.
    Strings = 4,
    /// Interned stacks: first id, then lists of addresses, leaf first.
    Stacks = 5,
    /// What was mapped where: [`Module`]s.
    Modules = 6,
    /// What addresses mean: [`Symbol`]s.
    Symbols = 7,
    /// The threads that have events: [`ThreadInfo`]s.
    Threads = 8,
    /// Last of a complete file: [`End`].
    End = 9,
}

impl Section {
    /// All of them, in the order of their numbers.
    pub const ALL: [Section; 9] = [
        Section::Header,
        Section::Schema,
        Section::Events,
        Section::Strings,
        Section::Stacks,
        Section::Modules,
        Section::Symbols,
        Section::Threads,
        Section::End,
    ];

    /// The section type for a number in a file.
    pub fn from_number(number: u8) -> Option<Section> {
        Section::ALL.into_iter().find(|&section| section as u8 == number)
    }
}

/// What a reader must know before the first event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// `kymo 0.1.0`.
    pub writer: String,
    /// What ticks count: `counter` or `monotonic`.
    pub clock: String,
    /// The traced process.
    pub pid: u32,
    /// Its command name.
    pub program: String,
    /// The capture's window begins here, in ticks; events before it are context.
    pub start_ticks: u64,
    /// The same instant, CLOCK_MONOTONIC nanoseconds.
    pub start_monotonic_ns: u64,
    /// The same instant, nanoseconds since the epoch.
    pub start_realtime_ns: u64,
    /// Waits at least this long carry a stack, shorter ones with probability duration / threshold.
    pub wait_stack_ns: u64,
    /// The same for hooked calls.
    pub call_stack_ns: u64,
    /// Name and state of each source: `sched`, `off: perf_event_open refused (EACCES)`.
    pub sources: Vec<(String, String)>,
    /// What else is good to know: kernel release, hostname.
    pub notes: Vec<(String, String)>,
}

/// Which of a thread's writers wrote a run of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Lane {
    /// The thread itself.
    Normal = 0,
    /// A signal handler on it.
    Signal = 1,
    /// The drain on its behalf: kernel switches.
    Kernel = 2,
}

impl Lane {
    /// All of them, in the order of their numbers.
    pub const ALL: [Lane; 3] = [Lane::Normal, Lane::Signal, Lane::Kernel];

    /// The word for it, in traces as text.
    pub const fn word(self) -> &'static str {
        match self {
            Lane::Normal => "normal",
            Lane::Signal => "signal",
            Lane::Kernel => "kernel",
        }
    }
}

/// What precedes the events of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventsHead {
    /// The thread.
    pub thread: ThreadId,
    /// Which writer.
    pub lane: Lane,
    /// Ticks that the first event's delta counts from.
    pub base_ticks: u64,
}

/// One mapped object of the process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Module {
    /// Address of the first mapped byte.
    pub start: u64,
    /// Address after the last one.
    pub end: u64,
    /// What to subtract from an address to get the one in the file (the load bias).
    pub bias: u64,
    /// File offset of the executable segment.
    pub offset: u64,
    /// Path as the kernel shows it.
    pub path: String,
    /// The linker's build id, empty if there is none.
    pub build_id: Vec<u8>,
}

/// One frame of what an address means; inlined functions make several a address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Frame {
    /// Demangled name, or `module+0x1234` where there is no symbol.
    pub function: String,
    /// The name as the linker knows it, empty if there is none.
    pub mangled: String,
    /// Source file, empty if not known.
    pub file: String,
    /// Line in it, 0 if not known.
    pub line: u32,
    /// Whether the compiler inlined it into the next frame.
    pub inlined: bool,
}

/// What one address means: frames, innermost first; the last one is not inlined.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Symbol {
    /// The address as stacks have it.
    pub address: u64,
    /// Its frames.
    pub frames: Vec<Frame>,
}

/// A thread that has events.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ThreadInfo {
    /// kymo's number.
    pub thread: ThreadId,
    /// The kernel's number.
    pub tid: u64,
    /// Its name at the end of the capture; 0 if it has none.
    pub name: StrId,
}

/// The end mark of a complete file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct End {
    /// The capture's window ends here, in ticks.
    pub end_ticks: u64,
    /// Events written, by all threads.
    pub events: u64,
    /// Events lost, for all reasons.
    pub lost: u64,
}
