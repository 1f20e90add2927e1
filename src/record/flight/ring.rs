//! What the flight recorder holds: sections in the order in which they came, in one piece of memory that never grows.
//!
//! A section that comes displaces the oldest ones, whole, until it fits. What is displaced by its bytes or its age
//! moves the beginning of the window: from [`Ring::complete_from`] on every event is here, or told as lost. The bound
//! is the memory itself, heads and padding included (`format::ring`).

use std::io;

use super::file::RingFile;
use crate::format::ring::{RECORD_HEAD, RecordHead, place, records};

/// Sections, oldest first.
pub(super) struct Ring {
    memory: Box<[u8]>,
    /// Positions of the oldest record, and after the newest.
    oldest: u64,
    end: u64,
    complete_from: u64,
    /// Where it is written as well.
    file: Option<RingFile>,
}

impl Ring {
    /// Of at most `bytes` bytes, for what happens from `start_ticks` on.
    pub(super) fn new(bytes: usize, start_ticks: u64) -> Ring {
        let memory = vec![0; bytes - bytes % RECORD_HEAD].into_boxed_slice();
        Ring { memory, oldest: 0, end: 0, complete_from: start_ticks, file: None }
    }

    /// Writes it to a file as well, from now on.
    pub(super) fn write_through(&mut self, file: RingFile) {
        self.file = Some(file);
    }

    pub(super) fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// Bytes that it may hold.
    pub(super) fn capacity(&self) -> usize {
        self.memory.len()
    }

    /// Takes a section.
    pub(super) fn push(&mut self, section: &[u8], events: u64, last_ticks: u64) {
        let head = RecordHead { length: section.len() as u32, events: events as u32, last_ticks };
        if head.size() > self.memory.len() {
            return self.forget(&head);
        }
        let left = self.memory.len() - self.place(self.end);
        if left < head.size() {
            self.put(&RecordHead::filler((left - RECORD_HEAD) as u32), &[]);
        }
        self.put(&head, section);
    }

    /// Writes a record that fits between the end's place and the memory's.
    fn put(&mut self, head: &RecordHead, section: &[u8]) {
        while self.held() + head.size() > self.memory.len() {
            self.drop_oldest();
        }
        self.tell_file();
        let begin = self.place(self.end);
        self.memory[begin..begin + RECORD_HEAD].copy_from_slice(&head.to_bytes());
        let at = begin + RECORD_HEAD;
        self.memory[at..at + section.len()].copy_from_slice(section);
        self.with_file(|file, memory| file.write(begin, &memory[begin..at + section.len()]));
        self.end += head.size() as u64;
        self.tell_file();
    }

    /// Appends what events need to the file, if there is one.
    pub(super) fn append_words(&mut self, sections: &[u8]) {
        self.with_file(|file, _| file.append_words(sections));
    }

    fn tell_file(&mut self) {
        let Ring { oldest, end, complete_from, .. } = *self;
        self.with_file(|file, _| file.set(oldest, end, complete_from));
    }

    fn with_file(&mut self, work: impl FnOnce(&mut RingFile, &[u8]) -> io::Result<()>) {
        let Some(file) = &mut self.file else { return };
        if let Err(error) = work(file, &self.memory) {
            crate::status::set("flight recorder's file", format!("off: {error}"));
            self.file = None;
        }
    }

    /// Drops the oldest sections whose latest event is `old`.
    pub(super) fn expire(&mut self, old: impl Fn(u64) -> bool) {
        while let Some(head) = RecordHead::at(&self.memory, self.oldest).filter(|_| self.held() > 0) {
            if !head.is_filler() && !old(head.last_ticks) {
                break;
            }
            self.drop_oldest();
        }
        self.tell_file();
    }

    fn drop_oldest(&mut self) {
        match RecordHead::at(&self.memory, self.oldest) {
            Some(head) => {
                self.oldest += head.size() as u64;
                self.forget(&head);
            }
            // Not of our making: nothing can be told from it.
            None => self.oldest = self.end,
        }
    }

    fn forget(&mut self, head: &RecordHead) {
        if !head.is_filler() && head.events > 0 {
            self.complete_from = self.complete_from.max(head.last_ticks + 1);
        }
    }

    fn place(&self, position: u64) -> usize {
        place(&self.memory, position).unwrap_or_default()
    }

    /// Bytes that are taken.
    pub(super) fn held(&self) -> usize {
        (self.end - self.oldest) as usize
    }

    /// From these ticks on nothing has been displaced.
    pub(super) fn complete_from(&self) -> u64 {
        self.complete_from
    }

    /// Appends the sections, one after the other, oldest first.
    pub(super) fn copy_to(&self, out: &mut Vec<u8>) {
        records(&self.memory, self.oldest, self.end).for_each(|(_, section)| out.extend_from_slice(section));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(ring: &Ring) -> Vec<u8> {
        records(&ring.memory, ring.oldest, ring.end).map(|(_, section)| section[0]).collect()
    }

    #[test]
    fn the_newest_sections_are_held_whole_and_never_more_bytes_than_there_are() {
        for size in [1, 15, 16, 17, 40, 100] {
            let mut ring = Ring::new(256, 0);
            for number in 0..=255 {
                ring.push(&vec![number; size], 1, u64::from(number));
                assert!(ring.held() <= 256);
                let held = numbers(&ring);
                assert!(held.is_sorted_by(|a, b| a + 1 == *b) && held.last() == Some(&number), "{held:?}");
                let first = held[0];
                assert_eq!(
                    ring.complete_from(),
                    u64::from(first),
                    "what is displaced is older than the window"
                );
                assert!(
                    records(&ring.memory, ring.oldest, ring.end).all(|(_, section)| section.len() == size)
                );
            }
            // A filler and the gap at the end cost less than two records.
            assert!(ring.held() + 2 * (RECORD_HEAD + size.next_multiple_of(16)) > 256, "{size}");
        }
    }

    #[test]
    fn what_is_older_than_wanted_goes_and_what_is_larger_than_the_ring_never_comes() {
        let mut ring = Ring::new(256, 0);
        (1..=4).for_each(|number| ring.push(&[number], 1, u64::from(number)));
        ring.expire(|ticks| ticks < 3);
        assert_eq!((numbers(&ring), ring.complete_from()), (vec![3, 4], 3));
        ring.push(&[9; 1000], 7, 9);
        assert_eq!((numbers(&ring), ring.complete_from()), (vec![3, 4], 10));
        ring.expire(|_| true);
        assert_eq!((numbers(&ring), ring.held()), (vec![], 0));
    }

    #[test]
    fn g8_counter_wrap_positions_near_their_end_are_as_good_as_any() {
        let mut ring = Ring::new(256, 0);
        (ring.oldest, ring.end) = (u64::from(u32::MAX) / 256 * 256, u64::from(u32::MAX) / 256 * 256);
        (0..100).for_each(|number| ring.push(&[number; 33], 1, u64::from(number)));
        assert_eq!(numbers(&ring).last(), Some(&99));
        assert!(numbers(&ring).is_sorted_by(|a, b| a + 1 == *b));
    }
}
