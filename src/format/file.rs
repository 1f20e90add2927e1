//! The sections of a trace found in bytes, whole or damaged.
//!
//! [`File::parse`] walks from section to section. Where a head, a checksum or a payload is wrong it notes a
//! [`Problem`] with the offset and searches for the next [`MARK`] whose checksum holds: so any damage costs the
//! sections that it touches and nothing else. Events are indexed, not decoded; nothing is allocated on the word of
//! an unchecked length.

use std::cell::Cell;
use std::collections::HashMap;

use super::decode::{Arity, Events};
use super::encode::checksum;
use super::{
    End, EventsHead, Frame, Header, Lane, MAGIC, MARK, Module, SECTION_HEAD, Section, Symbol, ThreadInfo,
    VERSION,
};
use crate::clock::{Sync, Timebase};
use crate::events::{Event, StackId, StrId, ThreadId};
use crate::limits::{RECOVERY_PASSES, SECTION_BYTES, SYMBOL_TEXT_BYTES};
use crate::wire::{Reader, WireError};

/// A file that can't be read at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Not a trace.
    #[error("not a kymo trace: it does not begin with `kymo`")]
    NotATrace,
    /// A trace of another major version.
    #[error("the trace has format version {found}, this kymo reads version {known}")]
    Version {
        /// What the file says.
        found: u32,
        /// What we read.
        known: u32,
    },
    /// No section survived.
    #[error("the trace has no valid section ({bytes} bytes, first problem: {problem})")]
    Empty {
        /// Length of the input.
        bytes: usize,
        /// The first thing that was wrong.
        problem: String,
    },
}

/// Something that is wrong with a file, and where. What is valid is used all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Bytes that belong to no valid section.
    #[error("damaged: {length} bytes from offset {offset} belong to no valid section ({reason})")]
    Damaged {
        /// First of them.
        offset: usize,
        /// How many.
        length: usize,
        /// What was wrong with the section that should be there.
        reason: &'static str,
    },
    /// The file ends inside a section.
    #[error("truncated: the file ends inside the section at offset {offset}")]
    Truncated {
        /// Where that section begins.
        offset: usize,
    },
    /// A section whose checksum holds but whose payload can't be read.
    #[error("the {section:?} section at offset {offset} can't be read: {error}")]
    Payload {
        /// Its type.
        section: Section,
        /// Where it begins.
        offset: usize,
        /// What is wrong; its offset counts from the payload's first byte.
        error: WireError,
    },
    /// A run of events that breaks off.
    #[error("the events at offset {offset} break off: {error}")]
    Events {
        /// Where their section begins.
        offset: usize,
        /// What is wrong.
        error: String,
    },
    /// No end mark: the writer did not finish.
    #[error("the writer did not finish: there is no end mark")]
    Unfinished,
    /// No header: times are raw ticks.
    #[error("the header is missing")]
    NoHeader,
}

/// A run of events, found but not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run<'a> {
    /// Whose it is and when it begins.
    pub head: EventsHead,
    /// The events.
    pub bytes: &'a [u8],
    /// Where its section stands in the file.
    pub offset: usize,
}

/// The parts of a trace.
#[derive(Debug, Clone, Default)]
pub struct File<'a> {
    /// The header; a default one if it is missing.
    pub header: Header,
    /// How many arguments each kind has.
    pub arity: Arity,
    /// Names of kinds that this version doesn't know, by number.
    pub unknown_kinds: HashMap<u8, String>,
    /// Runs of events in file order: for one thread and lane, that is time order.
    pub runs: Vec<Run<'a>>,
    /// Interned strings.
    pub strings: HashMap<StrId, &'a str>,
    /// Interned stacks, leaf first.
    pub stacks: HashMap<StackId, Vec<u64>>,
    /// What was mapped where.
    pub modules: Vec<Module>,
    /// What addresses mean.
    pub symbols: Vec<Symbol>,
    /// The threads that have events.
    pub threads: Vec<ThreadInfo>,
    /// The end mark, if the writer finished.
    pub end: Option<End>,
    /// What is wrong, in file order.
    pub problems: Vec<Problem>,
}

impl<'a> File<'a> {
    /// Finds the sections of a trace.
    ///
    /// # Errors
    /// [`FileError`] if there is nothing to use at all; anything less is in [`File::problems`].
    pub fn parse(bytes: &'a [u8]) -> Result<File<'a>, FileError> {
        let mut file = File { problems: check_magic(bytes)?.into_iter().collect(), ..File::default() };
        let mut at = MAGIC.len();
        let mut search = Search::of(bytes);
        let mut valid = 0;
        let mut has_header = false;
        while at < bytes.len() {
            match section_at(bytes, at) {
                Ok((number, payload)) => {
                    valid += 1;
                    has_header |= number == Section::Header as u8;
                    file.take(number, payload, at);
                    at += SECTION_HEAD + payload.len();
                }
                Err(reason) => at = file.skip_damage(&mut search, at, reason),
            }
        }
        if valid == 0 {
            let problem = file.problems.first().map_or_else(|| "it is empty".into(), Problem::to_string);
            return Err(FileError::Empty { bytes: bytes.len(), problem });
        }
        if !has_header {
            file.problems.push(Problem::NoHeader);
        }
        if file.end.is_none() {
            file.problems.push(Problem::Unfinished);
        }
        Ok(file)
    }

    /// The events of one run.
    pub fn events(&self, run: &Run<'a>) -> Events<'_> {
        Events::new(run.bytes, run.head.base_ticks, &self.arity)
    }

    /// The text of an interned string; empty for 0 and for one that is missing.
    pub fn text(&self, id: StrId) -> &'a str {
        self.strings.get(&id).copied().unwrap_or_default()
    }

    /// The syncs that kymo's own thread recorded, with the header's start as the first.
    pub fn timebase(&self) -> Timebase {
        let start = Sync {
            ticks: self.header.start_ticks,
            monotonic_ns: self.header.start_monotonic_ns,
            realtime_ns: self.header.start_realtime_ns,
        };
        let recorded = self.runs.iter().filter(|run| run.head.thread == ThreadId(0)).flat_map(|run| {
            self.events(run).flatten().filter_map(|stamped| match stamped.event {
                Event::ClockSync(sync) => Some(Sync {
                    ticks: stamped.ticks,
                    monotonic_ns: sync.monotonic.0,
                    realtime_ns: sync.realtime.0,
                }),
                _ => None,
            })
        });
        Timebase::new(std::iter::once(start).filter(|start| start.ticks != 0).chain(recorded).collect())
    }

    /// Notes the damage from `at` on and finds the next valid section, or the end.
    fn skip_damage(&mut self, search: &mut Search<'_>, at: usize, reason: &'static str) -> usize {
        let next = search.valid_section_after(at);
        let end = next.unwrap_or(search.bytes.len());
        self.problems.push(match next {
            None if reason == CUT => Problem::Truncated { offset: at },
            _ => Problem::Damaged { offset: at, length: end - at, reason },
        });
        end
    }

    fn take(&mut self, number: u8, payload: &'a [u8], offset: usize) {
        let Some(section) = Section::from_number(number) else { return };
        let mut reader = Reader::new(payload);
        let taken = match section {
            Section::Header => read_header(&mut reader).map(|header| self.header = header),
            Section::Schema => self.take_schema(&mut reader),
            Section::Events => read_events_head(&mut reader).map(|head| {
                let bytes = &payload[reader.offset()..];
                self.runs.push(Run { head, bytes, offset });
            }),
            Section::Strings => self.take_strings(&mut reader),
            Section::Stacks => self.take_stacks(&mut reader),
            Section::Modules => read_list(&mut reader, read_module).map(|list| self.modules.extend(list)),
            Section::Symbols => read_symbols(&mut reader).map(|list| self.symbols.extend(list)),
            Section::Threads => read_list(&mut reader, read_thread).map(|list| self.threads.extend(list)),
            Section::End => read_end(&mut reader).map(|end| self.end = Some(end)),
        };
        if let Err(error) = taken {
            self.problems.push(Problem::Payload { section, offset, error });
        }
    }

    fn take_schema(&mut self, reader: &mut Reader<'a>) -> Result<(), WireError> {
        let kinds = read_list(reader, |record| {
            let id = record.byte()?;
            let name = record.text()?;
            record.text()?;
            Ok((id, name, record.u64()?))
        })?;
        for (id, name, args) in kinds {
            self.arity.set(id, args.min(u64::from(u8::MAX)) as u8);
            if crate::events::kind(id).is_none() {
                self.unknown_kinds.insert(id, name.to_owned());
            }
        }
        Ok(())
    }

    fn take_strings(&mut self, reader: &mut Reader<'a>) -> Result<(), WireError> {
        let first = reader.u32()?;
        for index in 0..reader.u64()? {
            self.strings.insert(StrId(first.wrapping_add(index as u32)), reader.text()?);
        }
        Ok(())
    }

    fn take_stacks(&mut self, reader: &mut Reader<'a>) -> Result<(), WireError> {
        let first = reader.u32()?;
        for index in 0..reader.u64()? {
            let frames = read_count(reader)?;
            let addresses = (0..frames).map(|_| reader.u64()).collect::<Result<Vec<_>, _>>()?;
            // An empty stack says what a missing one says.
            if addresses.is_empty() {
                continue;
            }
            self.stacks.insert(StackId(first.wrapping_add(index as u32)), addresses);
        }
        Ok(())
    }
}

/// The whole sections of bytes that were just written, heads included, of kinds that this version knows. Damage is not
/// looked for: it ends at the first byte that is no section.
pub fn sections(bytes: &[u8]) -> impl Iterator<Item = (Section, &[u8])> {
    let mut rest = bytes.strip_prefix(&MAGIC).unwrap_or(bytes);
    let steps = std::iter::from_fn(move || {
        let (number, payload, _) = section_head(rest, 0).ok()?;
        let (section, after) = rest.split_at(SECTION_HEAD + payload.len());
        rest = after;
        Some((number, section))
    });
    steps.filter_map(|(number, section)| Some((Section::from_number(number)?, section)))
}

/// Whose events a whole section has, and its events; `None` if it can't be read.
pub fn events(section: &[u8]) -> Option<(EventsHead, &[u8])> {
    let mut reader = Reader::new(section.get(SECTION_HEAD..)?);
    let head = read_events_head(&mut reader).ok()?;
    Some((head, &section[SECTION_HEAD + reader.offset()..]))
}

const CUT: &str = "the file ends inside it";

/// Whether the bytes are a trace of our version. A damaged beginning does not count if a section of ours follows it.
fn check_magic(bytes: &[u8]) -> Result<Option<Problem>, FileError> {
    let magic = &bytes[..bytes.len().min(MAGIC.len())];
    if *magic == MAGIC {
        return Ok(None);
    }
    if section_at(bytes, MAGIC.len()).is_ok() {
        let (length, reason) = (MAGIC.len(), "it should be `kymo` and the version");
        return Ok(Some(Problem::Damaged { offset: 0, length, reason }));
    }
    if !magic.is_empty() && MAGIC.starts_with(magic) {
        let problem = Problem::Truncated { offset: 0 }.to_string();
        return Err(FileError::Empty { bytes: bytes.len(), problem });
    }
    match *magic {
        [b'k', b'y', b'm', b'o', a, b, c, d] => {
            Err(FileError::Version { found: u32::from_be_bytes([a, b, c, d]), known: u32::from(VERSION) })
        }
        _ => Err(FileError::NotATrace),
    }
}

/// Looks for sections where damage is.
struct Search<'a> {
    bytes: &'a [u8],
    /// Bytes that may still be checksummed in vain: a file that is all marks must not cost its length squared.
    patience: usize,
}

impl<'a> Search<'a> {
    fn of(bytes: &'a [u8]) -> Search<'a> {
        Search { bytes, patience: bytes.len().saturating_mul(RECOVERY_PASSES) }
    }

    fn valid_section_after(&mut self, at: usize) -> Option<usize> {
        let last = self.bytes.len().saturating_sub(SECTION_HEAD);
        for next in at + 1..=last {
            if !self.bytes[next..].starts_with(&MARK) {
                continue;
            }
            let Ok((_, payload, checksum)) = section_head(self.bytes, next) else { continue };
            if checksum.holds(payload) {
                return Some(next);
            }
            self.patience = self.patience.checked_sub(payload.len())?;
        }
        None
    }
}

/// Type and payload of the section at `at`, if its head and checksum hold.
fn section_at(bytes: &[u8], at: usize) -> Result<(u8, &[u8]), &'static str> {
    let (number, payload, checksum) = section_head(bytes, at)?;
    match checksum.holds(payload) {
        true => Ok((number, payload)),
        false => Err("its checksum does not hold"),
    }
}

/// What a section's head says its checksum is.
struct Checksum<'a> {
    head: &'a [u8],
    said: u32,
}

impl Checksum<'_> {
    fn holds(&self, payload: &[u8]) -> bool {
        checksum(self.head, payload) == self.said
    }
}

/// Type, payload and checksum of the section at `at`, if its head can be one.
fn section_head(bytes: &[u8], at: usize) -> Result<(u8, &[u8], Checksum<'_>), &'static str> {
    let head = at.checked_add(SECTION_HEAD).and_then(|end| bytes.get(at..end)).ok_or(CUT)?;
    if head[..4] != MARK {
        return Err("no section begins there");
    }
    if head[5] != VERSION {
        return Err("its section is of another version");
    }
    let word = |from: usize| u32::from_le_bytes([head[from], head[from + 1], head[from + 2], head[from + 3]]);
    let length = word(8) as usize;
    if length > SECTION_BYTES {
        return Err("its length is out of range");
    }
    let payload = bytes.get(at + SECTION_HEAD..at + SECTION_HEAD + length).ok_or(CUT)?;
    Ok((head[4], payload, Checksum { head: &head[4..12], said: word(12) }))
}

/// A count of items that take at least a byte each: so it can't pass what is left.
fn read_count(reader: &mut Reader<'_>) -> Result<u64, WireError> {
    let offset = reader.offset();
    let count = reader.u64()?;
    match count <= reader.remaining() as u64 {
        true => Ok(count),
        false => Err(WireError::OutOfRange { offset, value: count }),
    }
}

/// A count, then length-prefixed records. What a newer writer added to a record's end is left unread.
fn read_list<'a, T>(
    reader: &mut Reader<'a>,
    read: impl Fn(&mut Reader<'a>) -> Result<T, WireError>,
) -> Result<Vec<T>, WireError> {
    (0..read_count(reader)?).map(|_| read(&mut Reader::new(reader.bytes()?))).collect()
}

fn read_header(reader: &mut Reader<'_>) -> Result<Header, WireError> {
    let pair = |record: &mut Reader<'_>| Ok((record.text()?.to_owned(), record.text()?.to_owned()));
    Ok(Header {
        writer: reader.text()?.to_owned(),
        clock: reader.text()?.to_owned(),
        pid: reader.u32()?,
        program: reader.text()?.to_owned(),
        start_ticks: reader.u64()?,
        start_monotonic_ns: reader.u64()?,
        start_realtime_ns: reader.u64()?,
        wait_stack_ns: reader.u64()?,
        call_stack_ns: reader.u64()?,
        sources: read_list(reader, pair)?,
        notes: read_list(reader, pair)?,
    })
}

fn read_events_head(reader: &mut Reader<'_>) -> Result<EventsHead, WireError> {
    let thread = ThreadId(reader.u32()?);
    let offset = reader.offset();
    let lane = match reader.byte()? {
        0 => Lane::Normal,
        1 => Lane::Signal,
        2 => Lane::Kernel,
        other => return Err(WireError::OutOfRange { offset, value: u64::from(other) }),
    };
    Ok(EventsHead { thread, lane, base_ticks: reader.u64()? })
}

fn read_module(record: &mut Reader<'_>) -> Result<Module, WireError> {
    Ok(Module {
        start: record.u64()?,
        end: record.u64()?,
        bias: record.u64()?,
        offset: record.u64()?,
        path: record.text()?.to_owned(),
        build_id: record.bytes()?.to_owned(),
    })
}

fn read_symbols(reader: &mut Reader<'_>) -> Result<Vec<Symbol>, WireError> {
    let texts = read_list(reader, |record| record.text())?;
    // A text that many frames name is copied as often: a forged table could make gigabytes of a few bytes.
    let room = Cell::new(SYMBOL_TEXT_BYTES);
    let text = |record: &mut Reader<'_>| {
        let offset = record.offset();
        let index = record.u64()?;
        let text = usize::try_from(index).ok().and_then(|index| texts.get(index));
        let left = text.and_then(|text| room.get().checked_sub(text.len()));
        room.set(left.ok_or(WireError::OutOfRange { offset, value: index })?);
        text.map(|&text| text.to_owned()).ok_or(WireError::OutOfRange { offset, value: index })
    };
    read_list(reader, |record| {
        let address = record.u64()?;
        let frames = read_list(record, |record| {
            Ok(Frame {
                function: text(record)?,
                mangled: text(record)?,
                file: text(record)?,
                line: record.u32()?,
                inlined: record.u64()? != 0,
            })
        })?;
        Ok(Symbol { address, frames })
    })
}

fn read_thread(record: &mut Reader<'_>) -> Result<ThreadInfo, WireError> {
    Ok(ThreadInfo { thread: ThreadId(record.u32()?), tid: record.u64()?, name: StrId(record.u32()?) })
}

fn read_end(reader: &mut Reader<'_>) -> Result<End, WireError> {
    Ok(End { end_ticks: reader.u64()?, events: reader.u64()?, lost: reader.u64()? })
}
