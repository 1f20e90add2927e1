//! Counts what is in a trace while it comes in: events and losses, by the same reader that reads files.
//!
//! Bytes are kept until a section is whole, then it is read and dropped; so memory is bounded by the longest section.

use kymo::events::Event;
use kymo::format::decode::Arity;
use kymo::format::file::File;
use kymo::format::{MAGIC, MARK, SECTION_HEAD};
use kymo::limits::SECTION_BYTES;

/// What came in so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    /// Events of all kinds.
    pub(super) events: u64,
    /// Events that were not recorded.
    pub(super) lost: u64,
    /// The writer has finished.
    pub(super) complete: bool,
}

/// Counts a stream of bytes.
#[derive(Debug, Default)]
pub(super) struct Meter {
    counts: Counts,
    /// The file's magic, then what is not counted yet.
    pending: Vec<u8>,
    arity: Arity,
}

/// Bytes that are no trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what came is not a kymo trace")]
pub(super) struct NotATrace;

impl Meter {
    /// Takes the next bytes.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Counts, NotATrace> {
        self.pending.extend_from_slice(bytes);
        let begin = self.pending.len().min(MAGIC.len());
        if self.pending[..begin] != MAGIC[..begin] {
            return Err(NotATrace);
        }
        let whole = whole_sections(&self.pending)?;
        if whole > MAGIC.len() {
            self.count(whole);
            self.pending.drain(MAGIC.len()..whole);
        }
        Ok(self.counts)
    }

    fn count(&mut self, whole: usize) {
        // Damage is for those to tell who read the trace.
        let Ok(mut file) = File::parse(&self.pending[..whole]) else { return };
        if file.arity == Arity::default() {
            file.arity.clone_from(&self.arity);
        } else {
            self.arity.clone_from(&file.arity);
        }
        for run in &file.runs {
            for stamped in file.events(run).map_while(Result::ok) {
                self.counts.events += 1;
                if let Event::Loss(loss) = stamped.event {
                    self.counts.lost += loss.count.0;
                }
            }
        }
        self.counts.complete |= file.end.is_some();
    }
}

/// Where the last whole section ends.
fn whole_sections(bytes: &[u8]) -> Result<usize, NotATrace> {
    let mut at = MAGIC.len();
    while let Some(head) = bytes.get(at..at + SECTION_HEAD) {
        let (mark, rest) = head.split_at(MARK.len());
        let length = u32::from_le_bytes([rest[4], rest[5], rest[6], rest[7]]) as usize;
        if mark != MARK || length > SECTION_BYTES {
            return Err(NotATrace);
        }
        match at + SECTION_HEAD + length {
            end if end <= bytes.len() => at = end,
            _ => break,
        }
    }
    Ok(at.min(bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kymo::events::{Count, Counter, EventKind, Loss, LossReason, StrId, ThreadId, Value};
    use kymo::format::{End, EventsHead, Header, Lane, encode};
    use kymo::wire::{Cursor, EVENT_MAX};

    fn put<E: EventKind>(bytes: &mut Vec<u8>, event: E) {
        let mut room = [0; EVENT_MAX];
        let mut cursor = Cursor::new(&mut room);
        event.put(1, &mut cursor);
        let length = cursor.len();
        bytes.extend_from_slice(&room[..length]);
    }

    fn trace() -> Vec<u8> {
        let mut out = Vec::new();
        encode::magic(&mut out);
        encode::header(&mut out, &Header::default());
        encode::schema(&mut out);
        for thread in (0..3).map(ThreadId) {
            let mut events = Vec::new();
            (0..5).for_each(|value| put(&mut events, Counter { name: StrId(2), value: Value(value) }));
            put(&mut events, Loss { thread, reason: LossReason::NoChunk, count: Count(7) });
            encode::events(&mut out, &EventsHead { thread, lane: Lane::Normal, base_ticks: 0 }, &events);
        }
        encode::end(&mut out, &End { end_ticks: 9, events: 18, lost: 21 });
        out
    }

    #[test]
    fn however_the_bytes_come_the_counts_are_the_same() {
        let trace = trace();
        for piece in [1, 7, 64, trace.len()] {
            let mut meter = Meter::default();
            let mut counts = Counts::default();
            for bytes in trace.chunks(piece) {
                counts = meter.take(bytes).unwrap();
            }
            assert_eq!(counts, Counts { events: 18, lost: 21, complete: true }, "pieces of {piece}");
            assert_eq!(meter.pending, MAGIC);
        }
    }

    #[test]
    fn a_cut_trace_is_not_complete() {
        let trace = trace();
        let counts = Meter::default().take(&trace[..trace.len() - 1]).unwrap();
        assert_eq!(counts, Counts { events: 18, lost: 21, complete: false });
    }

    #[test]
    fn other_bytes_are_refused_at_once() {
        assert_eq!(Meter::default().take(b"go 1.26 trace\0\0\0"), Err(NotATrace));
        assert_eq!(Meter::default().take(b"k"), Ok(Counts::default()));
        assert_eq!(Meter::default().take(&[&MAGIC[..], &[0; SECTION_HEAD]].concat()), Err(NotATrace));
    }
}
