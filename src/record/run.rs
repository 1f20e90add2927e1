//! Runs of events as the drain looks through them: how many, of which groups, and which stacks and strings they name.
//!
//! Works on the bytes that chunks hold. An event is stepped over by the number of its arguments; only those that name
//! a stack or a string are read. So a capture's file holds the tables that its own events need, and a capture that
//! wants less than another one gets its part of a run without an event being built.

use std::ops::RangeInclusive;

use crate::events::{ArgKind, Groups, KINDS};
use crate::format::EventsHead;
use crate::wire::{Reader, put_u64};

/// What the drain must know of a kind.
#[derive(Clone, Copy)]
struct Shape {
    args: u8,
    /// The arguments that are stacks, a bit each.
    stacks: u8,
    /// The arguments that are strings.
    strings: u8,
    groups: Groups,
}

/// By number on the wire.
static SHAPES: [Shape; 256] = {
    let mut shapes = [Shape { args: 0, stacks: 0, strings: 0, groups: Groups::NONE }; 256];
    let mut row = 0;
    while row < KINDS.len() {
        let mut shape = Shape {
            args: KINDS[row].args.len() as u8,
            stacks: 0,
            strings: 0,
            groups: Groups(KINDS[row].group.bit()),
        };
        let mut arg = 0;
        while arg < KINDS[row].args.len() {
            match KINDS[row].args[arg].1 {
                ArgKind::Stack => shape.stacks |= 1 << arg,
                ArgKind::Str => shape.strings |= 1 << arg,
                _ => {}
            }
            arg += 1;
        }
        shapes[KINDS[row].id as usize] = shape;
        row += 1;
    }
    shapes
};

/// A run of events that is on its way to the captures.
#[derive(Debug)]
pub(super) struct Run<'a> {
    /// What precedes it in a file.
    pub(super) head: EventsHead,
    pub(super) bytes: &'a [u8],
    pub(super) events: u64,
    pub(super) groups: Groups,
    pub(super) last_ticks: u64,
    /// Stacks that it names, once for each time.
    pub(super) stacks: Vec<u32>,
    /// Strings that it names.
    pub(super) strings: Vec<u32>,
}

impl<'a> Run<'a> {
    /// Looks through `bytes`.
    pub(super) fn new(head: EventsHead, bytes: &'a [u8]) -> Run<'a> {
        let (groups, last_ticks) = (Groups::NONE, head.base_ticks);
        let mut run =
            Run { head, bytes, events: 0, groups, last_ticks, stacks: Vec::new(), strings: Vec::new() };
        for piece in pieces(bytes, head.base_ticks) {
            run.events += 1;
            run.groups = run.groups.union(piece.shape.groups);
            run.last_ticks = piece.ticks;
            if piece.shape.stacks | piece.shape.strings != 0 {
                run.note_names(&piece);
            }
        }
        run
    }

    fn note_names(&mut self, piece: &Piece<'_>) {
        let (mut args, mut at) = (Reader::new(piece.args), 0);
        let mut names = piece.shape.stacks | piece.shape.strings;
        while names != 0 {
            let arg = names.trailing_zeros();
            let Ok(number) = args.skip(arg - at).and_then(|()| args.u64()) else { return };
            match piece.shape.stacks >> arg & 1 {
                1 => self.stacks.push(number as u32),
                _ => self.strings.push(number as u32),
            }
            at = arg + 1;
            names &= names - 1;
        }
    }

    /// Whether all of it belongs to a capture of these groups and this window, in ticks.
    pub(super) fn lies_in(&self, groups: Groups, window: &RangeInclusive<u64>) -> bool {
        groups.contains_all_of(self.groups)
            && window.contains(&self.head.base_ticks)
            && window.contains(&self.last_ticks)
    }

    /// The events of it that belong to a capture of these groups and this window.
    pub(super) fn part(&self, groups: Groups, window: &RangeInclusive<u64>) -> Vec<u8> {
        let (mut part, mut last) = (Vec::with_capacity(self.bytes.len()), self.head.base_ticks);
        for piece in pieces(self.bytes, self.head.base_ticks) {
            if groups.contains_all_of(piece.shape.groups) && window.contains(&piece.ticks) {
                part.push(piece.id);
                put_u64(&mut part, piece.ticks - last);
                part.extend_from_slice(piece.args);
                last = piece.ticks;
            }
        }
        part
    }
}

/// How many events there are in a chunk's bytes.
pub(super) fn count(bytes: &[u8]) -> u64 {
    pieces(bytes, 0).count() as u64
}

/// One event, in parts.
struct Piece<'a> {
    id: u8,
    shape: Shape,
    ticks: u64,
    args: &'a [u8],
}

fn pieces(bytes: &[u8], base_ticks: u64) -> impl Iterator<Item = Piece<'_>> {
    let (mut reader, mut ticks) = (Reader::new(bytes), base_ticks);
    std::iter::from_fn(move || {
        let id = reader.byte().ok()?;
        let shape = SHAPES[usize::from(id)];
        ticks = ticks.wrapping_add(reader.u64().ok()?);
        let begin = reader.offset();
        reader.skip(u32::from(shape.args)).ok()?;
        Some(Piece { id, shape, ticks, args: &bytes[begin..reader.offset()] })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{
        Addr, Counter, EventKind, Group, StackId, StrId, ThreadId, Value, WaitBegin, WaitEnd, WaitKind,
        WaitOutcome,
    };
    use crate::format::Lane;
    use crate::format::decode::{Arity, Events};
    use crate::wire::{Cursor, EVENT_MAX};

    const HEAD: EventsHead = EventsHead { thread: ThreadId(1), lane: Lane::Normal, base_ticks: 100 };

    fn put<E: EventKind>(bytes: &mut Vec<u8>, delta: u64, event: E) {
        let mut room = [0; EVENT_MAX];
        let mut cursor = Cursor::new(&mut room);
        event.put(delta, &mut cursor);
        let len = cursor.len();
        bytes.extend_from_slice(&room[..len]);
    }

    /// At 100 a wait begins, at 110 it ends with stack 7, at 120 a counter named 9.
    fn three_events() -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&mut bytes, 0, WaitBegin { kind: WaitKind::Futex, addr: Addr(0x7fff_1234_5678) });
        put(&mut bytes, 10, WaitEnd { outcome: WaitOutcome::Woken, stack: StackId(7) });
        put(&mut bytes, 10, Counter { name: StrId(9), value: Value(-5) });
        bytes
    }

    fn ticks(bytes: &[u8]) -> Vec<u64> {
        Events::new(bytes, HEAD.base_ticks, &Arity::default()).map(|stamped| stamped.unwrap().ticks).collect()
    }

    #[test]
    fn a_run_tells_what_is_in_it() {
        let bytes = three_events();
        let run = Run::new(HEAD, &bytes);
        assert_eq!((run.events, run.last_ticks, count(&bytes)), (3, 120, 3));
        assert_eq!(run.groups, Groups::NONE.with(Group::Block).with(Group::User));
        assert_eq!((run.stacks, run.strings), (vec![7], vec![9]));
    }

    #[test]
    fn a_part_keeps_the_times_of_its_events() {
        let bytes = three_events();
        let run = Run::new(HEAD, &bytes);
        let block = Groups::NONE.with(Group::Block);
        assert_eq!(ticks(&run.part(Groups::ALL, &(0..=u64::MAX))), [100, 110, 120]);
        assert_eq!(ticks(&run.part(block, &(0..=u64::MAX))), [100, 110]);
        assert_eq!(ticks(&run.part(Groups::ALL, &(105..=115))), [110]);
        assert!(run.part(Groups::NONE, &(0..=u64::MAX)).is_empty());
    }

    #[test]
    fn a_run_lies_in_a_capture_only_whole() {
        let bytes = three_events();
        let run = Run::new(HEAD, &bytes);
        assert!(run.lies_in(Groups::ALL, &(100..=120)));
        assert!(!run.lies_in(Groups::ALL, &(101..=120)));
        assert!(!run.lies_in(Groups::ALL, &(100..=119)));
        assert!(!run.lies_in(Groups::NONE.with(Group::User), &(100..=120)));
    }

    #[test]
    fn every_kind_is_stepped_over_and_its_names_are_found() {
        for spec in KINDS {
            let mut bytes = vec![spec.id, 3];
            // Arguments of many lengths: 1000, 2000, …
            (1..=spec.args.len() as u64).for_each(|arg| put_u64(&mut bytes, arg * 1000));
            bytes.extend_from_slice(&three_events());
            let run = Run::new(HEAD, &bytes);
            assert_eq!(run.events, 4, "{}", spec.name);
            let named = |kind: ArgKind, last: u32| -> Vec<u32> {
                let args = spec.args.iter().zip(1..).filter(|((_, other), _)| *other == kind);
                args.map(|(_, arg)| arg * 1000).chain([last]).collect()
            };
            assert_eq!(run.stacks, named(ArgKind::Stack, 7), "{}", spec.name);
            assert_eq!(run.strings, named(ArgKind::Str, 9), "{}", spec.name);
        }
    }
}
