//! A run of events read: bytes of one section to stamped [`Event`]s.
//!
//! Kinds that this version doesn't know are stepped over by the number of arguments that the file's schema gives
//! them; arguments that a newer writer added to a known kind are stepped over too, and those that an older one did not
//! have yet are 0.

use crate::events::{Event, KINDS, kind};
use crate::wire::{Reader, WireError};

/// How many arguments each kind has in a file, by its number on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arity {
    /// `None`: the kind is neither in the schema nor in our table.
    args: Vec<Option<u8>>,
}

impl Default for Arity {
    /// As this version writes them.
    fn default() -> Arity {
        let mut arity = Arity { args: vec![None; 256] };
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
#[derive(Debug, Clone)]
pub struct Events<'a> {
    bytes: &'a [u8],
    reader: Reader<'a>,
    ticks: u64,
    arity: &'a Arity,
    failed: bool,
}

impl<'a> Events<'a> {
    /// Of `bytes`, whose first event is `base_ticks` plus its delta.
    pub fn new(bytes: &'a [u8], base_ticks: u64, arity: &'a Arity) -> Events<'a> {
        Events { bytes, reader: Reader::new(bytes), ticks: base_ticks, arity, failed: false }
    }

    #[inline]
    fn read(&mut self) -> Result<Stamped, DecodeError> {
        let offset = self.reader.offset();
        let id = self.reader.byte()?;
        self.ticks = self.ticks.wrapping_add(self.reader.u64()?);
        let args = self.arity.get(id).ok_or(DecodeError::UnknownKind { id, offset })?;
        let known = kind(id).map_or(0, |spec| spec.args.len() as u8);
        let event = if args < known { self.older(id, args, known)? } else { self.same(id, args - known)? };
        Ok(Stamped { ticks: self.ticks, event })
    }

    /// An event with `more` arguments than this version knows, mostly none.
    #[inline]
    fn same(&mut self, id: u8, more: u8) -> Result<Event, WireError> {
        let event = Event::read_args(id, &mut self.reader)?.unwrap_or(Event::Unknown { id });
        for _ in 0..more {
            self.reader.u64()?;
        }
        Ok(event)
    }

    /// An event of a writer that knew only the first `args` of its arguments.
    #[cold]
    fn older(&mut self, id: u8, args: u8, known: u8) -> Result<Event, WireError> {
        let begin = self.reader.offset();
        for _ in 0..args {
            self.reader.u64()?;
        }
        let mut bytes = self.bytes[begin..self.reader.offset()].to_vec();
        bytes.resize(bytes.len() + usize::from(known - args), 0);
        Ok(Event::read_args(id, &mut Reader::new(&bytes))?.unwrap_or(Event::Unknown { id }))
    }
}

impl Iterator for Events<'_> {
    type Item = Result<Stamped, DecodeError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.reader.is_empty() {
            return None;
        }
        let read = self.read();
        self.failed = read.is_err();
        Some(read)
    }
}
