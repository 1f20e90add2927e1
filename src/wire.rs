//! Numbers and strings as bytes: the one encoding under events, trace files and protobuf.
//!
//! Unsigned numbers are LEB128 varints, signed ones zigzag first (the same rules as protobuf's `uint64` and `sint64`).
//! [`Cursor`] writes into a fixed array whose length is a power of two, so that masking the index replaces the
//! bounds check on the hot path; [`Reader`] reads untrusted bytes and reports the offset of what it could not read.
//!
//! Does not know events, chunks or files.

/// Room for one event in bytes: twice what the longest may take, kind and time included, so that a [`Cursor`] can
/// mask where a number begins and still has room for it. A power of two.
pub const EVENT_MAX: usize = 128;

/// Masks a place in the first half of an event's room.
const PLACE: usize = EVENT_MAX / 2 - 1;

/// Bytes that a varint of 64 bits takes at most.
pub const VARINT_MAX: usize = 10;

/// Writes one event into the free end of a chunk.
///
/// An event of `n` arguments takes at most `VARINT_MAX * (n + 1) + 1` bytes; `events.rs` proves at compile time that
/// this never passes half of [`EVENT_MAX`], so an index never wraps.
#[derive(Debug)]
pub struct Cursor<'a> {
    room: &'a mut [u8; EVENT_MAX],
    len: usize,
}

impl<'a> Cursor<'a> {
    /// Starts at the first byte of `room`.
    #[inline(always)]
    pub fn new(room: &'a mut [u8; EVENT_MAX]) -> Self {
        Cursor { room, len: 0 }
    }

    /// Appends one byte.
    #[inline(always)]
    pub fn put_byte(&mut self, byte: u8) {
        self.room[self.len & PLACE] = byte;
        self.len += 1;
    }

    /// Appends an unsigned varint. The frequent lengths, up to three bytes, have a way of their own, without a loop; a
    /// CPU guesses which from the second time on.
    #[inline(always)]
    pub fn put_u64(&mut self, value: u64) {
        match value {
            ..0x80 => self.put_bytes::<1>(value),
            0x80..0x4000 => self.put_bytes::<2>(value),
            0x4000..0x20_0000 => self.put_bytes::<3>(value),
            // By value, so that the cursor can live in registers.
            _ => self.len = put_long(self.room, self.len, value),
        }
    }

    /// The same for numbers that mostly are addresses: those of programs take seven bytes.
    #[inline(always)]
    pub fn put_address(&mut self, value: u64) {
        match value >> 42 {
            1..0x80 => self.put_seven(value),
            _ => self.len = put_long(self.room, self.len, value),
        }
    }

    /// A varint of `N` bytes.
    #[inline(always)]
    fn put_bytes<const N: usize>(&mut self, value: u64) {
        let at = self.len & PLACE;
        for (index, byte) in self.room[at..at + N].iter_mut().enumerate() {
            let more = if index + 1 < N { 0x80 } else { 0 };
            *byte = (value >> (7 * index)) as u8 & 0x7f | more;
        }
        self.len += N;
    }

    /// A varint of seven bytes, by spreading its bits over eight: halves are moved apart, then quarters, then eighths.
    #[inline(always)]
    fn put_seven(&mut self, value: u64) {
        let halves = value + 15 * (value & 0x00ff_ffff_f000_0000);
        let quarters = halves + 3 * (halves & 0x0fff_c000_0fff_c000);
        let eighths = quarters + (quarters & 0x3f80_3f80_3f80_3f80);
        let at = self.len & PLACE;
        self.room[at..at + 8].copy_from_slice(&(eighths | 0x0000_8080_8080_8080).to_le_bytes());
        self.len += 7;
    }

    /// Bytes written so far.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing has been written yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Writes a varint of any length at `len`; returns where it ends. Out of line, since such numbers are rare.
#[cold]
#[inline(never)]
fn put_long(room: &mut [u8; EVENT_MAX], mut len: usize, mut value: u64) -> usize {
    while value >= 0x80 {
        room[len & PLACE] = value as u8 | 0x80;
        value >>= 7;
        len += 1;
    }
    room[len & PLACE] = value as u8;
    len + 1
}

/// The bit of each byte that is clear where a varint ends.
const STOPS: u64 = 0x8080_8080_8080_8080;

/// The value of a varint of up to eight bytes: seven bits of each are moved together, pairs first, then fours.
#[inline]
const fn gather(bytes: u64) -> u64 {
    let pairs = bytes & 0x007f_007f_007f_007f | (bytes & 0x7f00_7f00_7f00_7f00) >> 1;
    let fours = pairs & 0x0000_3fff_0000_3fff | (pairs & 0x3fff_0000_3fff_0000) >> 2;
    fours & 0x0fff_ffff | (fours & 0x0fff_ffff_0000_0000) >> 4
}

/// Maps signed numbers onto unsigned ones so that small magnitudes stay short: 0, -1, 1, -2 become 0, 1, 2, 3.
#[inline(always)]
pub const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The inverse of [`zigzag`].
#[inline(always)]
pub const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Appends an unsigned varint to a growing buffer: for headers, tables and exports, never for events.
pub fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a zigzag varint.
pub fn put_i64(out: &mut Vec<u8>, value: i64) {
    put_u64(out, zigzag(value));
}

/// Appends a length and that many bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Why bytes could not be read, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end inside a value.
    #[error("the bytes end at offset {offset}, inside a value")]
    Truncated {
        /// Offset at which the value began.
        offset: usize,
    },
    /// A varint does not fit 64 bits.
    #[error("the number at offset {offset} does not fit 64 bits")]
    Overlong {
        /// Offset at which the number began.
        offset: usize,
    },
    /// Text that is not UTF-8.
    #[error("the text at offset {offset} is not UTF-8")]
    NotUtf8 {
        /// Offset at which the text began.
        offset: usize,
    },
    /// A value outside the range of its type.
    #[error("the value {value} at offset {offset} is out of range")]
    OutOfRange {
        /// Offset at which the value began.
        offset: usize,
        /// What was read.
        value: u64,
    },
}

/// Reads values from bytes that nobody vouches for.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0 }
    }

    /// Offset of the next byte.
    #[inline]
    pub fn offset(&self) -> usize {
        self.at
    }

    /// Whether every byte has been read.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// Bytes not read yet.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    /// Reads one byte.
    ///
    /// # Errors
    /// [`WireError::Truncated`] at the end of the bytes.
    #[inline]
    pub fn byte(&mut self) -> Result<u8, WireError> {
        let byte = *self.bytes.get(self.at).ok_or(WireError::Truncated { offset: self.at })?;
        self.at += 1;
        Ok(byte)
    }

    /// Reads an unsigned varint.
    ///
    /// # Errors
    /// [`WireError::Truncated`] or [`WireError::Overlong`], both with the offset where the number began.
    #[inline]
    pub fn u64(&mut self) -> Result<u64, WireError> {
        let offset = self.at;
        if let Some(&first) = self.bytes.get(offset)
            && first < 0x80
        {
            self.at = offset + 1;
            return Ok(u64::from(first));
        }
        self.u64_long(offset)
    }

    /// Eight bytes from `offset` on, the first one lowest; none near the end.
    #[inline]
    fn word(&self, offset: usize) -> Option<u64> {
        let bytes = self.bytes.get(offset..offset.checked_add(8)?)?;
        bytes.try_into().ok().map(u64::from_le_bytes)
    }

    #[inline]
    fn u64_long(&mut self, offset: usize) -> Result<u64, WireError> {
        let word = self.word(offset).unwrap_or(u64::MAX);
        match !word & STOPS {
            0 => self.u64_by_bytes(offset),
            stops => {
                let bits = stops.trailing_zeros() + 1;
                self.at = offset + bits as usize / 8;
                Ok(gather(word & (u64::MAX >> (64 - bits))))
            }
        }
    }

    /// For numbers of nine bytes and more, and near the end.
    #[cold]
    fn u64_by_bytes(&mut self, offset: usize) -> Result<u64, WireError> {
        let mut value = 0u64;
        for (index, &byte) in self.bytes[offset.min(self.bytes.len())..].iter().take(VARINT_MAX).enumerate() {
            let bits = u64::from(byte & 0x7f);
            if index == VARINT_MAX - 1 && bits > 1 {
                return Err(WireError::Overlong { offset });
            }
            value |= bits << (7 * index);
            if byte < 0x80 {
                self.at = offset + index + 1;
                return Ok(value);
            }
        }
        match self.bytes.len().saturating_sub(offset) >= VARINT_MAX {
            true => Err(WireError::Overlong { offset }),
            false => Err(WireError::Truncated { offset }),
        }
    }

    /// Steps over that many varints, eight bytes at a time; does not look whether they fit 64 bits.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    #[inline]
    pub fn skip(&mut self, mut varints: u32) -> Result<(), WireError> {
        while varints > 0 {
            let Some(word) = self.word(self.at) else { return self.skip_by_bytes(varints) };
            let mut stops = !word & STOPS;
            let seen = stops.count_ones();
            if seen < varints {
                (varints, self.at) = (varints - seen, self.at + 8);
                continue;
            }
            for _ in 1..varints {
                stops &= stops - 1;
            }
            self.at += stops.trailing_zeros() as usize / 8 + 1;
            return Ok(());
        }
        Ok(())
    }

    #[cold]
    fn skip_by_bytes(&mut self, mut varints: u32) -> Result<(), WireError> {
        while varints > 0 {
            varints -= u32::from(self.byte()? < 0x80);
        }
        Ok(())
    }

    /// Reads a zigzag varint.
    ///
    /// # Errors
    /// As [`Reader::u64`].
    #[inline]
    pub fn i64(&mut self) -> Result<i64, WireError> {
        self.u64().map(unzigzag)
    }

    /// Reads a varint that must fit 32 bits.
    ///
    /// # Errors
    /// As [`Reader::u64`], and [`WireError::OutOfRange`].
    #[inline]
    pub fn u32(&mut self) -> Result<u32, WireError> {
        let offset = self.at;
        let value = self.u64()?;
        u32::try_from(value).map_err(|_| WireError::OutOfRange { offset, value })
    }

    /// Reads a length and that many bytes, without copying them.
    ///
    /// # Errors
    /// [`WireError::Truncated`] if fewer bytes are left than the length says.
    pub fn bytes(&mut self) -> Result<&'a [u8], WireError> {
        let offset = self.at;
        let len = self.u64()?;
        let rest = &self.bytes[self.at.min(self.bytes.len())..];
        let len = usize::try_from(len).ok().filter(|&len| len <= rest.len());
        let len = len.ok_or(WireError::Truncated { offset })?;
        self.at += len;
        Ok(&rest[..len])
    }

    /// Reads a length and that much UTF-8.
    ///
    /// # Errors
    /// As [`Reader::bytes`], and [`WireError::NotUtf8`].
    pub fn text(&mut self) -> Result<&'a str, WireError> {
        let offset = self.at;
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_| WireError::NotUtf8 { offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_of_every_length_come_back(value: u64, signed: i64, shift in 0..64u32) {
            let value = value >> shift;
            let mut out = Vec::new();
            put_u64(&mut out, value);
            put_i64(&mut out, signed);
            let mut room = [0u8; EVENT_MAX];
            let mut cursor = Cursor::new(&mut room);
            cursor.put_u64(value);
            let len = cursor.len();
            prop_assert_eq!(&out[..len], &room[..len]);
            let mut room = [0u8; EVENT_MAX];
            Cursor::new(&mut room).put_address(value);
            prop_assert_eq!(&out[..len], &room[..len]);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.u64(), Ok(value));
            prop_assert_eq!(reader.i64(), Ok(signed));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn stepping_over_numbers_is_reading_them(values in prop::collection::vec(any::<(u64, u32)>(), 0..20), cut: u8) {
            let mut out = Vec::new();
            values.iter().for_each(|(value, shift)| put_u64(&mut out, value >> (shift % 64)));
            for count in 0..=values.len() {
                let (mut reads, mut steps) = (Reader::new(&out), Reader::new(&out));
                (0..count).for_each(|_| assert!(reads.u64().is_ok()));
                prop_assert_eq!(steps.skip(count as u32), Ok(()));
                prop_assert_eq!(steps.offset(), reads.offset());
            }
            prop_assert!(Reader::new(&out).skip(values.len() as u32 + 1).is_err());
            out.truncate(out.len() * usize::from(cut) / 256);
            prop_assert_eq!(Reader::new(&out).skip(values.len() as u32).is_ok(), values.is_empty());
        }

        #[test]
        fn any_bytes_are_read_or_refused_without_panic(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            while reader.text().is_ok() && !reader.is_empty() {}
            let mut reader = Reader::new(&bytes);
            while reader.u64().is_ok() && !reader.is_empty() {}
        }
    }

    #[test]
    fn the_cursor_writes_what_the_plain_loop_writes_around_every_power_of_two() {
        let powers = (0..64).map(|bit| 1u64 << bit);
        for value in powers.flat_map(|power| [power.wrapping_sub(1), power, power + 1]).chain([u64::MAX]) {
            let mut plain = Vec::new();
            put_u64(&mut plain, value);
            let mut room = [0u8; EVENT_MAX];
            let mut cursor = Cursor::new(&mut room);
            cursor.put_u64(value);
            let len = cursor.len();
            assert_eq!(room[..len], plain, "{value:#x}");
            let mut cursor = Cursor::new(&mut room);
            cursor.put_address(value);
            let len = cursor.len();
            assert_eq!(room[..len], plain, "{value:#x}, as an address");
        }
    }

    #[test]
    fn errors_name_the_offset_where_the_value_began() {
        let mut reader = Reader::new(&[0x05, 0x80]);
        assert_eq!(reader.u64(), Ok(5));
        assert_eq!(reader.u64(), Err(WireError::Truncated { offset: 1 }));
        assert_eq!(Reader::new(&[0xff; 11]).u64(), Err(WireError::Overlong { offset: 0 }));
        assert_eq!(Reader::new(&[9, b'a']).bytes(), Err(WireError::Truncated { offset: 0 }));
    }
}
