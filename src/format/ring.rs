//! A ring of sections: what the flight recorder holds, in memory or in a mapped file, laid out so that whoever finds
//! the bytes can walk it.
//!
//! A record is a [`RecordHead`] of 16 bytes, a section, and zeros up to the next 16. Records follow each other from
//! `oldest` to `end`, positions that only grow; a position modulo the ring's length is a place in it. No record passes
//! the ring's end: a filler, whose head says how much to skip, stands where the next one had no room.

/// Bytes of a record's head, and what records are aligned to.
pub const RECORD_HEAD: usize = 16;

/// What stands in the place of the number of events where a filler is.
const FILLER: u32 = u32::MAX;

/// What precedes a section in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHead {
    /// Bytes of the section, or of the filler.
    pub length: u32,
    /// Events of the section; 0 if it holds something else.
    pub events: u32,
    /// Ticks of its latest event, or of when it was told.
    pub last_ticks: u64,
}

impl RecordHead {
    /// Of `length` bytes to be skipped.
    pub fn filler(length: u32) -> RecordHead {
        RecordHead { length, events: FILLER, last_ticks: 0 }
    }

    /// Whether it holds nothing.
    pub fn is_filler(&self) -> bool {
        self.events == FILLER
    }

    /// Bytes that the record takes in the ring, head and padding included.
    pub fn size(&self) -> usize {
        RECORD_HEAD + (self.length as usize).next_multiple_of(RECORD_HEAD)
    }

    /// As it stands in the ring.
    pub fn to_bytes(&self) -> [u8; RECORD_HEAD] {
        let mut bytes = [0; RECORD_HEAD];
        bytes[..4].copy_from_slice(&self.length.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.events.to_le_bytes());
        bytes[8..].copy_from_slice(&self.last_ticks.to_le_bytes());
        bytes
    }

    /// Reads the head at a position; `None` if no record can begin there.
    pub fn at(ring: &[u8], position: u64) -> Option<RecordHead> {
        let place = place(ring, position)?;
        let bytes = ring.get(place..place + RECORD_HEAD)?;
        let word = |from: usize| {
            u32::from_le_bytes([bytes[from], bytes[from + 1], bytes[from + 2], bytes[from + 3]])
        };
        let last_ticks = u64::from(word(8)) | u64::from(word(12)) << 32;
        let head = RecordHead { length: word(0), events: word(4), last_ticks };
        (place + head.size() <= ring.len()).then_some(head)
    }
}

/// Where a position is in the ring.
pub fn place(ring: &[u8], position: u64) -> Option<usize> {
    Some(position.checked_rem(ring.len() as u64)? as usize)
}

/// The records from `oldest` to `end`: their heads and sections. Ends early where the bytes make no sense.
pub fn records(ring: &[u8], oldest: u64, end: u64) -> impl Iterator<Item = (RecordHead, &[u8])> {
    let mut position = oldest;
    let steps = std::iter::from_fn(move || {
        if position >= end {
            return None;
        }
        let head = RecordHead::at(ring, position)?;
        let section = place(ring, position)? + RECORD_HEAD;
        position += head.size() as u64;
        Some((head, &ring[section..section + head.length as usize]))
    });
    steps.filter(|(head, _)| !head.is_filler())
}
