//! Payloads that nobody wrote behind checksums that hold: the parts of the reader that damaged bytes never reach.
//!
//! The input is a list of sections: a byte for the type, two for the length, and the payload, which may be cut short.

#![no_main]

use kymo::format::{Section, encode};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut file = Vec::new();
    encode::magic(&mut file);
    let mut rest = bytes;
    while let [kind, low, high, after @ ..] = rest {
        let (payload, next) = after.split_at(after.len().min(u16::from_le_bytes([*low, *high]).into()));
        let kind = Section::ALL[usize::from(*kind) % Section::ALL.len()];
        encode::section(&mut file, kind, |out| out.extend_from_slice(payload));
        rest = next;
    }
    fuzz::read(&file);
});
