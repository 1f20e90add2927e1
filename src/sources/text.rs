//! Text of bounded length, made on the stack: what a program says of itself, in events.

use std::fmt::{Arguments, Write};

use crate::limits::STRING_BYTES;

/// What stands at the end of a text that was cut.
const CUT: &str = "…";

/// Gathers text until it is full; what does not fit is cut, and [`CUT`] says so.
pub(super) struct Text {
    bytes: [u8; STRING_BYTES],
    len: usize,
    cut: bool,
}

impl Text {
    pub(super) fn new() -> Text {
        Text { bytes: [0; STRING_BYTES], len: 0, cut: false }
    }

    /// Of what a `format_args!` says.
    pub(super) fn of(arguments: Arguments<'_>) -> Text {
        let mut text = Text::new();
        text.add(arguments);
        text
    }

    /// Appends. A `Display` that fails has written what it could.
    pub(super) fn add(&mut self, arguments: Arguments<'_>) {
        let _ = self.write_fmt(arguments);
    }

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl Write for Text {
    /// Fails once it is cut, so that a long `Debug` is not walked to its end for nothing.
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        if self.cut {
            return Err(std::fmt::Error);
        }
        let room = STRING_BYTES - self.len;
        self.cut = text.len() > room - CUT.len();
        let kept = match self.cut {
            true => &text[..text.floor_char_boundary(room - CUT.len())],
            false => text,
        };
        for part in [kept, if self.cut { CUT } else { "" }] {
            self.bytes[self.len..self.len + part.len()].copy_from_slice(part.as_bytes());
            self.len += part.len();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_whole_and_what_does_not_is_cut_and_says_so() {
        let most = STRING_BYTES - CUT.len();
        assert_eq!(Text::of(format_args!("{}-{}", "ä".repeat(3), 7)).as_str(), "äää-7");
        assert_eq!(Text::of(format_args!("{}", "a".repeat(most))).as_str(), "a".repeat(most));
        let long = "ä".repeat(STRING_BYTES);
        let text = Text::of(format_args!("{long}{long}"));
        assert_eq!(text.as_str(), format!("{}…", "ä".repeat(most / 2)));
        assert!(text.as_str().len() <= STRING_BYTES);
    }
}
