//! Which stacks and strings a capture's events name, and which of them its file has already: so that a file holds the
//! tables that it needs and no others.

use super::tables::{self, Stacks, Strings};
use crate::format::encode;

/// Numbers of a table that a capture's events name, a bit each: seen, and told to the file.
#[derive(Default)]
pub(super) struct Named {
    seen: Vec<u64>,
    told: Vec<u64>,
}

impl Named {
    /// Its events name these.
    pub(super) fn note(&mut self, numbers: &[u32]) {
        for &number in numbers.iter().filter(|&&number| number >= tables::FIRST) {
            set(&mut self.seen, number);
        }
    }

    /// The file has these.
    pub(super) fn told(&mut self, numbers: &[u32]) {
        numbers.iter().for_each(|&number| set(&mut self.told, number));
    }

    /// Those that the file lacks, ascending.
    pub(super) fn untold(&self) -> Vec<u32> {
        let told = self.told.iter().copied().chain(std::iter::repeat(0));
        bits(self.seen.iter().zip(told).map(|(seen, told)| seen & !told)).collect()
    }

    /// Every address of the stacks, once, ascending.
    pub(super) fn addresses(&self, stacks: &Stacks) -> Vec<u64> {
        let mut addresses: Vec<u64> =
            bits(self.seen.iter().copied()).flat_map(|number| stacks.get(number)).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }
}

fn set(words: &mut Vec<u64>, number: u32) {
    let word = number as usize / 64;
    if word >= words.len() {
        words.resize(word + 1, 0);
    }
    words[word] |= 1 << (number % 64);
}

fn bits(words: impl Iterator<Item = u64>) -> impl Iterator<Item = u32> {
    (0..).zip(words).flat_map(|(index, word)| {
        (0..64u32).filter(move |bit| word >> bit & 1 == 1).map(move |bit| index * 64 + bit)
    })
}

/// Appends these stacks, ascending, to a file.
pub(super) fn put_stacks(out: &mut Vec<u8>, numbers: &[u32], table: &Stacks) {
    for neighbours in numbers.chunk_by(|a, b| a + 1 == *b) {
        let stacks: Vec<Vec<u64>> = neighbours.iter().map(|&number| table.get(number)).collect();
        encode::stacks(out, neighbours[0], stacks.iter().map(Vec::as_slice));
    }
}

/// Appends these strings, ascending, to a file.
pub(super) fn put_strings(out: &mut Vec<u8>, numbers: &[u32], table: &Strings) {
    for neighbours in numbers.chunk_by(|a, b| a + 1 == *b) {
        let texts: Vec<String> = neighbours.iter().map(|&number| table.get(number)).collect();
        encode::strings(out, neighbours[0], texts.iter().map(String::as_str));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_told_once() {
        let mut named = Named::default();
        named.note(&[0, 1, 2, 3, 64, 200, 3]);
        assert_eq!(named.untold(), [2, 3, 64, 200], "0 and 1 stand for none and overflow");
        named.told(&[2, 3, 64]);
        named.note(&[3, 5]);
        assert_eq!(named.untold(), [5, 200]);
    }
}
