//! A ring in a file: what the flight recorder of a killed process leaves behind, and the trace made of it.
//!
//! `[head, padded to 4096 bytes][ring][words]`. The head says where the ring's oldest record and its end are
//! ([`Positions`]), and how long the words are: sections that hold what events name (header, schema, modules, strings,
//! stacks, living threads), appended and never displaced. The writer moves `oldest` before it overwrites a record, and
//! `end` after it has written one: so whatever it was doing when it was killed, what the head tells of is whole.

use super::file::{self, File, FileError};
use super::ring::records;
use super::{Header, MAGIC, Section, encode};

/// First bytes of the file. Not a trace's: its records are no file from the first byte to the last.
const RING_MAGIC: [u8; 8] = *b"KYMORNG\x01";

/// Where the ring begins.
pub const RING_AT: u64 = 4096;

/// Bytes of the head that are used.
pub const HEAD_BYTES: usize = 56;

/// What the head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Positions {
    /// Bytes of the ring.
    pub ring: u64,
    /// Position of the oldest record.
    pub oldest: u64,
    /// Position after the newest one.
    pub end: u64,
    /// From these ticks on nothing was displaced.
    pub complete_from: u64,
    /// Bytes of the words.
    pub words: u64,
}

/// A file that no trace can be made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// Something else.
    #[error("not a flight recorder's file: it does not begin with `KYMORNG`")]
    NotARing,
    /// Its head can't be.
    #[error("the flight recorder's file is damaged: its head makes no sense")]
    Head,
    /// It holds nothing that can be read.
    #[error(transparent)]
    Empty(#[from] FileError),
}

impl Positions {
    /// As they stand in the file.
    pub fn to_bytes(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..8].copy_from_slice(&RING_MAGIC);
        let numbers = [self.ring, self.oldest, self.end, self.complete_from, self.words];
        for (word, number) in bytes[8..].chunks_exact_mut(8).zip(numbers) {
            word.copy_from_slice(&number.to_le_bytes());
        }
        let checksum = encode::checksum(&bytes[..8], &bytes[8..48]);
        bytes[48..52].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads them.
    ///
    /// # Errors
    /// There are none, or none that can be.
    fn read(bytes: &[u8]) -> Result<Positions, RecoverError> {
        if !bytes.starts_with(&RING_MAGIC) {
            return Err(RecoverError::NotARing);
        }
        let head = bytes.get(..HEAD_BYTES).ok_or(RecoverError::Head)?;
        let mut numbers = head[8..].chunks_exact(8).map(|word| word.try_into().map_or(0, u64::from_le_bytes));
        let mut next = || numbers.next().unwrap_or_default();
        let (ring, oldest, end, complete_from, words) = (next(), next(), next(), next(), next());
        let positions = Positions { ring, oldest, end, complete_from, words };
        let whole = positions.to_bytes() == *head;
        let possible = oldest <= end && end - oldest <= ring && ring <= bytes.len() as u64;
        if whole && possible { Ok(positions) } else { Err(RecoverError::Head) }
    }
}

/// The trace that a flight recorder's file holds. It has no end mark: its writer did not finish.
///
/// # Errors
/// [`RecoverError`] if there is none; what is missing or damaged otherwise is among the trace's problems.
pub fn recover(bytes: &[u8]) -> Result<Vec<u8>, RecoverError> {
    let positions = Positions::read(bytes)?;
    let after_head = bytes.get(RING_AT as usize..).unwrap_or_default();
    // A file that was cut lacks its words, and perhaps a part of its ring.
    let (ring, words) = after_head.split_at_checked(positions.ring as usize).unwrap_or((after_head, &[]));
    let words = &words[..words.len().min(positions.words as usize)];
    let mut sections = Vec::new();
    records(ring, positions.oldest, positions.end)
        .for_each(|(_, section)| sections.extend_from_slice(section));
    let whole = [&MAGIC, words, &sections].concat();
    let file = File::parse(&whole)?;
    let mut out = Vec::with_capacity(whole.len());
    encode::magic(&mut out);
    encode::header(&mut out, &header(&file, positions.complete_from));
    let told = file::sections(words).filter(|(kind, _)| *kind != Section::Header);
    told.for_each(|(_, section)| out.extend_from_slice(section));
    out.extend_from_slice(&sections);
    Ok(out)
}

/// The header of a trace whose window begins at `start_ticks`, by the clocks of the file.
pub fn header(file: &File<'_>, start_ticks: u64) -> Header {
    let begun = &file.header;
    if start_ticks <= begun.start_ticks {
        return begun.clone();
    }
    let start_monotonic_ns = file.timebase().nanos(start_ticks);
    let since = start_monotonic_ns.saturating_sub(begun.start_monotonic_ns);
    let start_realtime_ns = begun.start_realtime_ns.saturating_add(since);
    Header { start_ticks, start_monotonic_ns, start_realtime_ns, ..begun.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::ring::{RECORD_HEAD, RecordHead};

    /// A file with one record, of a strings section, and a header among its words.
    fn made() -> Vec<u8> {
        let (mut words, mut section) = (Vec::new(), Vec::new());
        encode::header(&mut words, &Header { pid: 7, start_ticks: 10, ..Header::default() });
        encode::strings(&mut section, 2, ["kept"].into_iter());
        let mut ring = vec![0; 256];
        let head = RecordHead { length: section.len() as u32, events: 0, last_ticks: 20 };
        ring[..RECORD_HEAD].copy_from_slice(&head.to_bytes());
        ring[RECORD_HEAD..RECORD_HEAD + section.len()].copy_from_slice(&section);
        let (end, words_long) = (head.size() as u64, words.len() as u64);
        let positions = Positions { ring: 256, oldest: 0, end, complete_from: 15, words: words_long };
        let mut bytes = positions.to_bytes().to_vec();
        bytes.resize(RING_AT as usize, 0);
        [bytes, ring, words].concat()
    }

    #[test]
    fn what_the_head_tells_of_becomes_a_trace_without_an_end() {
        let trace = recover(&made()).unwrap();
        let file = File::parse(&trace).unwrap();
        assert_eq!((file.header.pid, file.header.start_ticks), (7, 15));
        assert_eq!(file.strings.values().copied().collect::<Vec<_>>(), ["kept"]);
        assert_eq!(file.problems, [file::Problem::Unfinished]);
    }

    #[test]
    fn a_file_that_is_cut_or_another_one_is_refused_or_gives_what_it_has() {
        let made = made();
        assert_eq!(recover(b"kymo"), Err(RecoverError::NotARing));
        for length in 0..made.len() {
            if let Ok(trace) = recover(&made[..length]) {
                assert!(File::parse(&trace).is_ok());
            }
        }
        for place in 0..HEAD_BYTES - 4 {
            let mut damaged = made.clone();
            damaged[place] ^= 0x10;
            assert!(recover(&damaged).is_err(), "byte {place} of the head");
        }
    }
}
