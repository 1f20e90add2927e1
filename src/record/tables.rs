//! Stacks and strings seen so far: each gets a number, events carry the number.
//!
//! A [`Table`] is a fixed piece of memory: an index of hashes, an arena of words, and for each number the place of its
//! words. Interning is lock-free and async-signal-safe: a writer claims an index entry, writes its words, then
//! publishes their place. One that meets a claim which isn't published yet does not wait: it goes on and may intern
//! the same words a second time, which costs a number and nothing else. A full table answers with the overflow number
//! and counts.
//!
//! Does not forget: numbers hold for the process's life.

use std::panic::Location;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::pool::zeroed;
use crate::events::{StackId, StrId};
use crate::limits::{SITES, STACK_FRAMES, STACK_TABLE_BYTES, STRING_BYTES, STRING_TABLE_BYTES};

/// The first number that a table gives; below are "none" and "overflow".
pub(super) const FIRST: u32 = 2;

const OVERFLOW: u32 = 1;

/// Index entries that a search looks at before it calls the table full.
const PROBES: usize = 64;

/// Entries that a look-up of a source location looks at.
const SITE_PROBES: usize = 4;

/// Words by number.
pub(super) struct Table {
    /// Per entry: the hash's upper half, and the number once its words are published.
    index: Box<[AtomicU64]>,
    /// Per number: where its words begin in the arena, plus one; 0 until they are published.
    places: Box<[AtomicU32]>,
    arena: Box<[AtomicU64]>,
    next_number: AtomicU32,
    next_place: AtomicU32,
    overflowed: AtomicU64,
}

impl Table {
    /// Of about `bytes` bytes, for items of about `words_each` words.
    fn new(bytes: usize, words_each: usize) -> Table {
        // An item takes its words, a length, half a word for its place, and two index entries so that it is half empty.
        let items = (bytes / 8 / (words_each + 4)).next_power_of_two();
        let words = bytes / 8 - 2 * items - items / 2;
        Table {
            index: zeroed(2 * items),
            places: zeroed(items),
            arena: zeroed(words),
            next_number: AtomicU32::new(FIRST),
            next_place: AtomicU32::new(0),
            overflowed: AtomicU64::new(0),
        }
    }

    /// The number of `words`; `length` is kept with them (words of a stack, bytes of a string).
    fn intern(&self, words: &[u64], length: u32) -> u32 {
        self.intern_if(|| true, words, length)
    }

    /// The same; words that are new are kept only if `keep` says so.
    fn intern_if(&self, keep: impl Fn() -> bool, words: &[u64], length: u32) -> u32 {
        let hash = hash(words, length);
        let tag = hash & 0xffff_ffff_0000_0000;
        for probe in 0..PROBES {
            let entry = &self.index[(hash as usize).wrapping_add(probe) & (self.index.len() - 1)];
            let seen = entry.load(Ordering::Acquire);
            if seen == 0 && !keep() {
                return self.overflow();
            }
            if seen == 0 && entry.compare_exchange(0, tag | 1, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                let number = self.add(words, length);
                entry.store(tag | u64::from(number), Ordering::Release);
                return number;
            }
            let number = seen as u32;
            if seen & !0xffff_ffff == tag && number >= FIRST && self.holds(number, words, length) {
                return number;
            }
        }
        self.overflow()
    }

    fn add(&self, words: &[u64], length: u32) -> u32 {
        let Some(place) = take(&self.next_place, words.len() + 1, self.arena.len()) else {
            return self.overflow();
        };
        let Some(number) = take(&self.next_number, 1, self.places.len()) else { return self.overflow() };
        let slot = &self.places[number as usize];
        let end = place as usize + words.len() + 1;
        self.arena[place as usize].store(u64::from(length), Ordering::Relaxed);
        for (word, kept) in words.iter().zip(&self.arena[place as usize + 1..end]) {
            kept.store(*word, Ordering::Relaxed);
        }
        slot.store(place + 1, Ordering::Release);
        number
    }

    fn overflow(&self) -> u32 {
        self.overflowed.fetch_add(1, Ordering::Relaxed);
        OVERFLOW
    }

    fn holds(&self, number: u32, words: &[u64], length: u32) -> bool {
        self.words(number).is_some_and(|(kept_length, kept)| {
            kept_length == length
                && kept.len() >= words.len()
                && words.iter().zip(kept).all(|(a, b)| *a == b.load(Ordering::Relaxed))
        })
    }

    /// The length of a number's item, and the arena from its words on; `None` while it is not published.
    fn words(&self, number: u32) -> Option<(u32, &[AtomicU64])> {
        let place = self.places.get(number as usize)?.load(Ordering::Acquire);
        let place = (place as usize).checked_sub(1)?;
        Some((self.arena[place].load(Ordering::Relaxed) as u32, &self.arena[place + 1..]))
    }

    /// The number after the last one given.
    pub(super) fn end(&self) -> u32 {
        self.next_number.load(Ordering::Acquire).min(self.places.len() as u32)
    }

    /// Whether numbers and words are at most half used up.
    fn is_half_free(&self) -> bool {
        let (numbers, words) =
            (self.next_number.load(Ordering::Relaxed), self.next_place.load(Ordering::Relaxed));
        numbers as usize <= self.places.len() / 2 && words as usize <= self.arena.len() / 2
    }

    /// How often it was found full.
    pub(super) fn overflowed(&self) -> u64 {
        self.overflowed.load(Ordering::Relaxed)
    }
}

/// Takes `count` of what a counter deals out up to `end`: the first of them, or nothing at all.
fn take(counter: &AtomicU32, count: usize, end: usize) -> Option<u32> {
    let next = |first: u32| (first as usize + count <= end).then_some(first + count as u32);
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()
}

/// FNV-1a over words, mixed at the end: short, branch-free, good enough for addresses.
fn hash(words: &[u64], length: u32) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ u64::from(length);
    for word in words {
        hash = (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }
    hash = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ (hash >> 29)
}

/// The recorder's stacks.
pub(super) struct Stacks(pub(super) Table);

impl Stacks {
    pub(super) fn new() -> Stacks {
        Stacks(Table::new(STACK_TABLE_BYTES, STACK_FRAMES / 4))
    }

    pub(super) fn intern(&self, frames: &[u64]) -> StackId {
        match frames.is_empty() {
            true => StackId(0),
            false => StackId(self.0.intern(frames, frames.len() as u32)),
        }
    }

    /// The addresses of a number, empty while it is not published.
    pub(super) fn get(&self, number: u32) -> Vec<u64> {
        let Some((length, words)) = self.0.words(number) else { return Vec::new() };
        words[..length as usize].iter().map(|word| word.load(Ordering::Relaxed)).collect()
    }
}

/// What stands at the end of a string that was cut.
const CUT: &str = "…";

/// The recorder's strings, and the source locations among them.
pub(super) struct Strings {
    pub(super) table: Table,
    /// Locations by address, so that a repeated one costs a look-up: (address, number).
    sites: Box<[(AtomicU64, AtomicU32)]>,
}

impl Strings {
    pub(super) fn new() -> Strings {
        Strings { table: Table::new(STRING_TABLE_BYTES, 4), sites: zeroed(SITES) }
    }

    pub(super) fn intern(&self, text: &str) -> StrId {
        self.intern_if(|| true, text)
    }

    /// Keeps a new string only while the table is at most half full.
    pub(super) fn intern_spare(&self, text: &str) -> StrId {
        self.intern_if(|| self.table.is_half_free(), text)
    }

    fn intern_if(&self, keep: impl Fn() -> bool, text: &str) -> StrId {
        if text.is_empty() {
            return StrId(0);
        }
        if text.len() > STRING_BYTES {
            return self.intern_cut(keep, text);
        }
        let text = text.as_bytes();
        let mut words = [0u64; STRING_BYTES / 8];
        for (word, bytes) in words.iter_mut().zip(text.chunks(8)) {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_le_bytes(padded);
        }
        StrId(self.table.intern_if(keep, &words[..text.len().div_ceil(8)], text.len() as u32))
    }

    /// Keeps its beginning, and a mark that says so.
    #[cold]
    fn intern_cut(&self, keep: impl Fn() -> bool, text: &str) -> StrId {
        let length = text.floor_char_boundary(STRING_BYTES - CUT.len());
        let mut bytes = [0; STRING_BYTES];
        bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
        bytes[length..length + CUT.len()].copy_from_slice(CUT.as_bytes());
        self.intern_if(keep, std::str::from_utf8(&bytes[..length + CUT.len()]).unwrap_or_default())
    }

    /// `file:line:column`, by the location's address after the first time.
    pub(super) fn site(&self, location: &'static Location<'static>) -> StrId {
        let address = std::ptr::from_ref(location).addr() as u64;
        let place = hash(&[address], 0) as usize;
        let entries =
            || (0..SITE_PROBES).map(|probe| &self.sites[place.wrapping_add(probe) % self.sites.len()]);
        if let Some((_, number)) = entries().find(|(key, _)| key.load(Ordering::Acquire) == address) {
            return StrId(number.load(Ordering::Relaxed));
        }
        let mut text = Text { bytes: [0; STRING_BYTES], len: 0 };
        // Text cuts what doesn't fit, it never fails.
        let _ = std::fmt::Write::write_fmt(&mut text, format_args!("{location}"));
        let id = self.intern(std::str::from_utf8(&text.bytes[..text.len]).unwrap_or_default());
        // 1 is no location's address. No entry free: this location's text is made each time.
        let claim =
            |key: &AtomicU64| key.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if let Some((key, number)) = entries().find(|(key, _)| claim(key)) {
            number.store(id.0, Ordering::Relaxed);
            key.store(address, Ordering::Release);
        }
        id
    }

    /// The text of a number, empty while it is not published.
    pub(super) fn get(&self, number: u32) -> String {
        let Some((length, words)) = self.table.words(number) else { return String::new() };
        let words = &words[..(length as usize).div_ceil(8)];
        let mut bytes: Vec<u8> =
            words.iter().flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect();
        bytes.truncate(length as usize);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Text of bounded length on the stack: formatting without allocating.
struct Text {
    bytes: [u8; STRING_BYTES],
    len: usize,
}

impl std::fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let cut = text.floor_char_boundary(self.bytes.len() - self.len);
        self.bytes[self.len..self.len + cut].copy_from_slice(&text.as_bytes()[..cut]);
        self.len += cut;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_words_get_the_same_number_from_every_thread() {
        let stacks = Stacks::new();
        let ids: Vec<Vec<StackId>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| (1..500u64).map(|n| stacks.intern(&[n, n * 7, 3])).collect::<Vec<_>>())
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (thread, n) in ids.iter().flat_map(|ids| ids.iter().zip(1..)) {
            assert_eq!(stacks.get(thread.0), [n, n * 7, 3]);
        }
    }

    #[test]
    fn a_full_table_answers_with_the_overflow_number_and_counts() {
        let table = Table::new(4096, 4);
        let numbers: Vec<_> = (0..10_000u64).map(|n| table.intern(&[n], 1)).collect();
        let lost = numbers.iter().filter(|&&number| number == OVERFLOW).count() as u64;
        assert!(lost > 0 && lost == table.overflowed());
        for (n, &number) in numbers.iter().enumerate().filter(|(_, number)| **number != OVERFLOW) {
            assert_eq!(table.words(number).unwrap().1[0].load(Ordering::Relaxed), n as u64);
        }
    }

    #[test]
    fn spare_strings_leave_half_of_the_table_to_the_others() {
        let strings = Strings::new();
        let spare: Vec<StrId> =
            (0..100_000).map(|n| strings.intern_spare(&format!("tcp 10.0.0.7:{n}"))).collect();
        let kept = spare.iter().filter(|&&id| id != StrId::OVERFLOW).count();
        assert!(kept > 1_000 && kept < 100_000, "{kept}");
        assert_eq!(strings.intern_spare("tcp 10.0.0.7:0"), spare[0], "one that is there is still found");
        let others: Vec<StrId> = (0..1_000).map(|n| strings.intern(&format!("worker-{n}"))).collect();
        assert!(others.iter().all(|&id| id != StrId::OVERFLOW));
    }

    #[test]
    fn g7_giant_payload_strings_come_back_cut_at_a_character_and_say_so() {
        let strings = Strings::new();
        let long = "ä".repeat(STRING_BYTES);
        assert_eq!(strings.get(strings.intern("reaper").0), "reaper");
        let most = (STRING_BYTES - CUT.len()) / 2;
        assert_eq!(strings.get(strings.intern(&long).0), format!("{}…", "ä".repeat(most)));
        let fits = "a".repeat(STRING_BYTES);
        assert_eq!(strings.get(strings.intern(&fits).0), fits);
        assert_eq!(strings.intern(""), StrId(0));
    }

    #[test]
    fn a_location_reads_file_line_column() {
        let strings = Strings::new();
        let here = Location::caller();
        let id = strings.site(here);
        assert_eq!(strings.site(here), id);
        assert_eq!(strings.get(id.0), here.to_string());
    }
}
