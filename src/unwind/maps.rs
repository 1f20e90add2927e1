//! The mapping that an address lies in, from `/proc/self/maps` fed in pieces. Pure; allocates nothing.

use std::ops::Range;

/// A search for one mapping.
#[derive(Debug)]
pub(crate) struct Search {
    wanted: u64,
    start: u64,
    end: u64,
    field: Field,
}

/// Which part of a line comes next: `start-end perms …`.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Field {
    Start,
    End,
    Permissions,
    Rest,
}

impl Search {
    pub(crate) fn new(wanted: u64) -> Search {
        Search { wanted, start: 0, end: 0, field: Field::Start }
    }

    /// Takes the next piece of the file; returns the mapping as soon as its line was seen, if it may be read.
    pub(crate) fn feed(&mut self, piece: &[u8]) -> Option<Range<u64>> {
        for &byte in piece {
            match (self.field, byte) {
                (_, b'\n') => *self = Search::new(self.wanted),
                (Field::Start, b'-') => self.field = Field::End,
                (Field::End, b' ') => self.field = Field::Permissions,
                (Field::Start, digit) => self.start = self.start << 4 | hex(digit),
                (Field::End, digit) => self.end = self.end << 4 | hex(digit),
                (Field::Permissions, readable) => {
                    if readable == b'r' && (self.start..self.end).contains(&self.wanted) {
                        return Some(self.start..self.end);
                    }
                    self.field = Field::Rest;
                }
                (Field::Rest, _) => {}
            }
        }
        None
    }
}

/// The value of a lower-case digit; the kernel writes nothing else there.
fn hex(digit: u8) -> u64 {
    u64::from(if digit.is_ascii_digit() {
        digit - b'0'
    } else {
        digit.wrapping_sub(b'a').wrapping_add(10) & 15
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAPS: &str = "\
55d0c1a00000-55d0c1a01000 r--p 00000000 08:01 1234 /usr/bin/a-b c\n\
7f0000000000-7f0000001000 ---p 00000000 00:00 0\n\
7f0000001000-7f0000801000 rw-p 00000000 00:00 0\n\
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                          [stack]\n";

    fn find(address: u64, pieces: usize) -> Option<Range<u64>> {
        let mut search = Search::new(address);
        MAPS.as_bytes().chunks(pieces).find_map(|piece| search.feed(piece))
    }

    #[test]
    fn finds_the_mapping_of_an_address() {
        for pieces in [1, 7, 512] {
            assert_eq!(find(0x7f00_0000_1000, pieces), Some(0x7f00_0000_1000..0x7f00_0080_1000));
            assert_eq!(find(0x7ffd_0002_0fff, pieces), Some(0x7ffd_0000_0000..0x7ffd_0002_1000));
            assert_eq!(find(0x7ffd_0002_1000, pieces), None);
        }
    }

    #[test]
    fn a_guard_page_is_no_stack() {
        assert_eq!(find(0x7f00_0000_0800, 512), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, address: u64) {
            let mut search = Search::new(address);
            if let Some(found) = search.feed(&bytes) {
                prop_assert!(found.contains(&address));
            }
        }
    }
}
