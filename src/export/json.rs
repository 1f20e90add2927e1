//! JSON events as bytes: just what the Chrome format needs, without a tree in between.
//!
//! Strings are escaped as RFC 8259 wants, times keep their nanoseconds as decimals of a microsecond. Does not know what
//! the events mean: `chrome` does.

use std::io::{self, Write};

use crate::limits::EXPORT_BUFFER_BYTES;
use crate::model::Ns;

/// A JSON array of objects under way.
pub(super) struct Events<'a> {
    out: &'a mut dyn Write,
    buffer: Vec<u8>,
    first: bool,
}

impl<'a> Events<'a> {
    /// Begins with the text before the first event.
    pub(super) fn new(head: &str, out: &'a mut dyn Write) -> Events<'a> {
        Events { out, buffer: head.as_bytes().to_vec(), first: true }
    }

    /// Begins an event; its fields follow, and [`Event::done`] ends it.
    #[inline]
    pub(super) fn event(&mut self, phase: &str) -> Event<'_> {
        let separator: &[u8] = if self.first { b"\n" } else { b",\n" };
        self.first = false;
        self.buffer.extend_from_slice(separator);
        self.buffer.extend_from_slice(b"{\"ph\":\"");
        self.buffer.extend_from_slice(phase.as_bytes());
        self.buffer.push(b'"');
        Event { out: &mut self.buffer, args: false }
    }

    /// Writes what has gathered, if it is enough. To be called between events.
    #[inline]
    pub(super) fn settle(&mut self) -> io::Result<()> {
        if self.buffer.len() < EXPORT_BUFFER_BYTES {
            return Ok(());
        }
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    /// Ends with the text after the last event.
    pub(super) fn finish(mut self, tail: &str) -> io::Result<()> {
        self.buffer.extend_from_slice(tail.as_bytes());
        self.out.write_all(&self.buffer)?;
        self.out.flush()
    }
}

/// An event under way.
pub(super) struct Event<'a> {
    out: &'a mut Vec<u8>,
    args: bool,
}

impl Event<'_> {
    fn key(&mut self, key: &str) {
        self.out.extend_from_slice(b",\"");
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    pub(super) fn number(mut self, key: &str, number: i64) -> Self {
        self.key(key);
        put_number(number, self.out);
        self
    }

    pub(super) fn text(mut self, key: &str, text: &str) -> Self {
        self.key(key);
        put_text(text, self.out);
        self
    }

    /// A time in microseconds, to the nanosecond.
    pub(super) fn micros(mut self, key: &str, ns: Ns) -> Self {
        self.key(key);
        put_micros(ns, self.out);
        self
    }

    /// One end of a flow: `flow_out` where it begins, `flow_in` where it ends.
    pub(super) fn flow(self, id: usize, end: &str) -> Self {
        let event = self.text("bind_id", &format!("{:#x}", id + 1));
        event.out.extend_from_slice(b",\"");
        event.out.extend_from_slice(end.as_bytes());
        event.out.extend_from_slice(b"\":true");
        event
    }

    /// The id of an asynchronous track of this process.
    pub(super) fn local_id(self, kind: &str, id: u64) -> Self {
        self.out.extend_from_slice(b",\"id2\":{\"local\":\"");
        self.out.extend_from_slice(kind.as_bytes());
        put_number(id as i64, self.out);
        self.out.extend_from_slice(b"\"}");
        self
    }

    fn arg_key(&mut self, key: &str) {
        let before: &[u8] = if self.args { b"," } else { b",\"args\":{" };
        self.args = true;
        self.out.extend_from_slice(before);
        put_text(key, self.out);
        self.out.push(b':');
    }

    /// An argument, after all other fields.
    pub(super) fn arg(mut self, key: &str, text: &str) -> Self {
        self.arg_key(key);
        put_text(text, self.out);
        self
    }

    /// A number as an argument. Above 2^53 readers lose digits: those go as text.
    pub(super) fn arg_number(mut self, key: &str, number: i64) -> Self {
        self.arg_key(key);
        match number.unsigned_abs() < 1 << 53 {
            true => put_number(number, self.out),
            false => put_text(&number.to_string(), self.out),
        }
        self
    }

    /// An address as an argument.
    pub(super) fn arg_address(mut self, key: &str, address: u64) -> Self {
        self.arg_key(key);
        put_text(&format!("{address:#x}"), self.out);
        self
    }

    /// The argument that says that a begin or an end was not seen.
    pub(super) fn open(mut self, open: bool) -> Self {
        if open {
            self.arg_key("open");
            self.out.extend_from_slice(b"true");
        }
        self
    }

    /// Ends the event.
    pub(super) fn done(self) {
        self.out.extend_from_slice(if self.args { b"}}" } else { b"}" });
    }
}

fn put_number(number: i64, out: &mut Vec<u8>) {
    if number < 0 {
        out.push(b'-');
    }
    put_digits(number.unsigned_abs(), out);
}

fn put_digits(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut from = digits.len();
    loop {
        from -= 1;
        digits[from] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[from..]);
}

fn put_micros(ns: Ns, out: &mut Vec<u8>) {
    put_digits(ns / 1000, out);
    let rest = (ns % 1000) as u16;
    out.extend_from_slice(&[
        b'.',
        b'0' + (rest / 100) as u8,
        b'0' + (rest / 10 % 10) as u8,
        b'0' + (rest % 10) as u8,
    ]);
}

/// Appends a text as a JSON string.
pub(super) fn put_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text.as_bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0x20.. => out.push(byte),
            _ => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn texts_and_numbers_come_back_through_another_reader(text: String, number: i64, ns in 0..1u64 << 52) {
            let mut out = Vec::new();
            put_text(&text, &mut out);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
            out.clear();
            put_number(number, &mut out);
            prop_assert_eq!(serde_json::from_slice::<i64>(&out).unwrap(), number);
            out.clear();
            put_micros(ns, &mut out);
            let micros = String::from_utf8(out).unwrap();
            let (whole, rest) = micros.split_once('.').unwrap();
            prop_assert_eq!(rest.len(), 3);
            prop_assert_eq!(whole.parse::<u64>().unwrap() * 1000 + rest.parse::<u64>().unwrap(), ns);
        }
    }
}
