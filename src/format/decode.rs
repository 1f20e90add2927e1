//! A run of events read: bytes of one section to stamped [`Event`]s.
//!
//! Kinds that this version doesn't know are stepped over by the number of arguments that the file's schema gives
//! them; arguments that a newer writer added to a known kind are stepped over too, and those that an older one did not
//! have yet are 0.

use crate::events::{Event, KINDS};
use crate::wire::{Reader, WireError};

/// How many arguments each kind has in a file, by its number on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arity {
    /// `None`: the kind is neither in the schema nor in our table.
    args: [Option<u8>; 256],
}

/// How many arguments this version knows of each kind.
const KNOWN_ARGS: [u8; 256] = {
    let mut args = [0; 256];
    let mut row = 0;
    while row < KINDS.len() {
        args[KINDS[row].id as usize] = KINDS[row].args.len() as u8;
        row += 1;
    }
    args
};

impl Default for Arity {
    /// As this version writes them.
    fn default() -> Arity {
        let mut arity = Arity { args: [None; 256] };
        for spec in KINDS {
            arity.set(spec.id, spec.args.len() as u8);
        }
        arity
    }
}

impl Arity {
    /// How many arguments a kind has in the file; `None` for one that it can't hold.
    #[inline]
    pub fn get(&self, id: u8) -> Option<u8> {
        self.args[usize::from(id)]
    }

    /// Notes what a file's schema says of one kind.
    pub fn set(&mut self, id: u8, args: u8) {
        self.args[usize::from(id)] = Some(args);
    }
}

/// An event and when it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamped {
    /// Raw ticks.
    pub ticks: u64,
    /// What happened.
    pub event: Event,
}

/// Why the rest of a run can't be read. Its valid beginning has been given out before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// An argument is cut or overlong.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A kind that neither the schema nor this version knows, so it can't be stepped over.
    #[error("event kind {id} at offset {offset} is not in the schema")]
    UnknownKind {
        /// Its number.
        id: u8,
        /// Where it stands in the run.
        offset: usize,
    },
}

/// Iterates over the events of one run. Ends at the first error.
///
/// Whoever merges runs looks at an event's [`head`](Events::head) first and reads its [`event`](Events::event) when
/// its turn has come.
#[derive(Debug, Clone)]
pub struct Events<'a> {
    bytes: &'a [u8],
    reader: Reader<'a>,
    ticks: u64,
    arity: &'a Arity,
    /// The kind and the number of arguments of the event whose head was read last.
    id: u8,
    args: u8,
    failed: bool,
}

/// Kind and time of an event whose arguments have not been read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Raw ticks.
    pub ticks: u64,
    /// The kind's number on the wire.
    pub id: u8,
}

impl<'a> Events<'a> {
    /// Of `bytes`, whose first event is `base_ticks` plus its delta.
    pub fn new(bytes: &'a [u8], base_ticks: u64, arity: &'a Arity) -> Events<'a> {
        Events { bytes, reader: Reader::new(bytes), ticks: base_ticks, arity, id: 0, args: 0, failed: false }
    }

    /// Reads the next event's head; `None` at the end. Its arguments must be read before the next one.
    ///
    /// # Errors
    /// [`DecodeError`]; after one there is nothing more to read.
    #[inline]
    pub fn head(&mut self) -> Result<Option<Head>, DecodeError> {
        if self.failed || self.reader.is_empty() {
            return Ok(None);
        }
        let head = self.read_head();
        self.failed = head.is_err();
        head.map(Some)
    }

    /// Reads the arguments that follow the head.
    ///
    /// # Errors
    /// As [`Events::head`].
    #[inline]
    pub fn event(&mut self) -> Result<Event, WireError> {
        let known = KNOWN_ARGS[usize::from(self.id)];
        let event = match self.args {
            args if args == known => Event::read_args(self.id, &mut self.reader),
            args if args < known => self.older(known),
            args => self.newer(args - known),
        };
        self.failed = event.is_err();
        event
    }

    #[inline]
    fn read_head(&mut self) -> Result<Head, DecodeError> {
        let offset = self.reader.offset();
        self.id = self.reader.byte()?;
        self.ticks = self.ticks.wrapping_add(self.reader.u64()?);
        let unknown = DecodeError::UnknownKind { id: self.id, offset };
        self.args = self.arity.get(self.id).ok_or(unknown)?;
        Ok(Head { ticks: self.ticks, id: self.id })
    }

    /// An event with `more` arguments than this version knows.
    #[cold]
    fn newer(&mut self, more: u8) -> Result<Event, WireError> {
        let event = Event::read_args(self.id, &mut self.reader)?;
        for _ in 0..more {
            self.reader.u64()?;
        }
        Ok(event)
    }

    /// An event of a writer that did not have all of its `known` arguments yet.
    #[cold]
    fn older(&mut self, known: u8) -> Result<Event, WireError> {
        let begin = self.reader.offset();
        for _ in 0..self.args {
            self.reader.u64()?;
        }
        let mut bytes = self.bytes[begin..self.reader.offset()].to_vec();
        bytes.resize(bytes.len() + usize::from(known - self.args), 0);
        Event::read_args(self.id, &mut Reader::new(&bytes))
    }
}

impl Iterator for Events<'_> {
    type Item = Result<Stamped, DecodeError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let head = match self.head() {
            Ok(head) => head?,
            Err(error) => return Some(Err(error)),
        };
        Some(self.event().map(|event| Stamped { ticks: head.ticks, event }).map_err(DecodeError::from))
    }
}
