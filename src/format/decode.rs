//! A run of events read: bytes of one section to stamped [`Event`]s.
//!
//! Kinds that this version doesn't know are stepped over by the number of arguments that the file's schema gives
//! them; arguments that a newer writer added to a known kind are stepped over too.

use crate::events::{Event, KINDS};
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
    reader: Reader<'a>,
    ticks: u64,
    arity: &'a Arity,
    failed: bool,
}

impl<'a> Events<'a> {
    /// Of `bytes`, whose first event is `base_ticks` plus its delta.
    pub fn new(bytes: &'a [u8], base_ticks: u64, arity: &'a Arity) -> Events<'a> {
        Events { reader: Reader::new(bytes), ticks: base_ticks, arity, failed: false }
    }

    #[inline]
    fn read(&mut self) -> Result<Stamped, DecodeError> {
        let offset = self.reader.offset();
        let id = self.reader.byte()?;
        self.ticks = self.ticks.wrapping_add(self.reader.u64()?);
        let args = self.arity.args[usize::from(id)].ok_or(DecodeError::UnknownKind { id, offset })?;
        let known = Event::read_args(id, &mut self.reader)?;
        let stepped = known.map_or(0, |_| KINDS[usize::from(id) - 1].args.len() as u8);
        for _ in stepped..args {
            self.reader.u64()?;
        }
        Ok(Stamped { ticks: self.ticks, event: known.unwrap_or(Event::Unknown { id }) })
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
