//! The file format from outside: what is written comes back, and nothing that happens to the bytes on their way costs
//! more than the sections that it touches.

use kymo::events::{Event, KINDS, StackId, StrId, ThreadId, kind};
use kymo::format::decode::{Arity, Events};
use kymo::format::file::{File, FileError, Problem};
use kymo::format::{EventsHead, Lane, MAGIC, SECTION_HEAD, Section, encode, text};
use kymo::wire::{Cursor, EVENT_MAX, put_u64};
use proptest::prelude::*;

/// A small trace with a section of each type, as text.
const SMALL: &str = include_str!("golden/every_section.txt");

fn small() -> Vec<u8> {
    text::parse(SMALL).unwrap()
}

/// Where each section begins, and where the last one ends.
fn sections(bytes: &[u8]) -> Vec<usize> {
    let mut at = MAGIC.len();
    let mut found = vec![at];
    while at < bytes.len() {
        let length = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap());
        at += SECTION_HEAD + length as usize;
        found.push(at);
    }
    found
}

/// What a damaged file still tells: the lines of its text that are no comments.
fn lines(bytes: &[u8]) -> Vec<String> {
    let Ok(file) = File::parse(bytes) else { return Vec::new() };
    text::write(&file).lines().filter(|line| !line.contains('#')).map(str::to_owned).collect()
}

#[test]
fn a_trace_as_text_is_the_same_trace() {
    let file_bytes = small();
    let file = File::parse(&file_bytes).unwrap();
    assert_eq!(file.problems, []);
    assert_eq!(text::write(&file), SMALL);
    let types = sections(&file_bytes).into_iter().filter_map(|at| file_bytes.get(at + 4)).copied();
    let types: std::collections::BTreeSet<u8> = types.collect();
    assert_eq!(types.len(), Section::ALL.len(), "the small trace has a section of each type");
}

#[test]
fn text_that_is_no_trace_is_refused_with_its_line() {
    for (text, expected) in [
        ("run 1 normal\n  5 PollBegan", "line 2: no kind of event is called `PollBegan`"),
        ("run 1 sideways", "line 1: `sideways` is no lane"),
        ("run 1 normal base=9\n  5 PollBegin", "line 2: tick 5 is before 9"),
        ("run 1 normal\n  5 PollEnd outcome=maybe", "line 2: `maybe` is no name for outcome"),
        ("run 1 normal\n  5 PollBegin tusk=3", "line 2: `tusk` is not understood"),
        ("thread 99999999999", "line 1: its number 99999999999 is too large"),
        ("string 1 \"a", "line 1: a text has no closing quote"),
        ("  5 PollBegin", "line 1: it belongs to no line above"),
        ("picture", "line 1: `picture` is no part of a trace"),
        ("source \"a\" \"b\"", "line 1: it belongs to no header"),
    ] {
        assert_eq!(text::parse(text).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_trace_cut_at_any_byte_gives_its_whole_sections_and_says_where_it_is_cut() {
    let bytes = small();
    let whole = lines(&bytes);
    let begins = sections(&bytes);
    let mut visited = 0;
    for cut in 0..bytes.len() {
        visited += 1;
        let complete = begins.iter().filter(|&&end| end <= cut).count().saturating_sub(1);
        let file = match File::parse(&bytes[..cut]) {
            Ok(file) => file,
            Err(error) => {
                assert_eq!(complete, 0, "cut at {cut}: {error}");
                assert!(matches!(error, FileError::Empty { .. } | FileError::NotATrace), "{cut}: {error}");
                continue;
            }
        };
        let at_end_of_section = begins.contains(&cut);
        let truncated = Problem::Truncated { offset: begins[complete] };
        assert_eq!(file.problems.contains(&truncated), !at_end_of_section, "cut at {cut}");
        assert!(file.problems.contains(&Problem::Unfinished), "cut at {cut}");
        let left = lines(&bytes[..cut]);
        assert!(left.iter().all(|line| whole.contains(line)), "cut at {cut}: {left:?}");
    }
    assert_eq!(visited, bytes.len());
}

#[test]
fn a_flipped_bit_costs_its_section_only_and_the_damage_is_said_with_its_offset() {
    let bytes = small();
    let whole = lines(&bytes);
    let begins = sections(&bytes);
    let without: Vec<Vec<String>> =
        begins.windows(2).map(|at| lines(&[&bytes[..at[0]], &bytes[at[1]..]].concat())).collect();
    let mut visited = 0;
    for bit in 0..bytes.len() * 8 {
        visited += 1;
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let file = File::parse(&damaged).unwrap_or_else(|error| panic!("bit {bit}: {error}"));
        let section = begins.iter().rposition(|&begin| begin <= bit / 8);
        let offset = section.map_or(0, |index| begins[index]);
        let said = |problem: &Problem| match *problem {
            Problem::Damaged { offset: at, .. } | Problem::Truncated { offset: at } => at == offset,
            _ => false,
        };
        assert!(file.problems.iter().any(said), "bit {bit}: {:?}", file.problems);
        let expected = section.map_or(&whole, |index| &without[index]);
        assert_eq!(&lines(&damaged), expected, "bit {bit}");
    }
    assert_eq!(visited, bytes.len() * 8);
}

#[test]
fn what_is_no_trace_or_another_versions_is_refused_with_the_reason() {
    let error = |bytes: &[u8]| File::parse(bytes).unwrap_err().to_string();
    assert_eq!(error(b""), "not a kymo trace: it does not begin with `kymo`");
    assert_eq!(error(b"{\"traceEvents\":[]}"), "not a kymo trace: it does not begin with `kymo`");
    assert_eq!(error(b"kymo\0\0\x01\x02"), "the trace has format version 258, this kymo reads version 1");
    assert_eq!(error(&MAGIC), "the trace has no valid section (8 bytes, first problem: it is empty)");
    let cut = error(&small()[..20]);
    assert!(cut.contains("first problem: truncated: the file ends inside the section at offset 8"), "{cut}");
}

#[test]
fn a_section_type_of_a_newer_kymo_is_stepped_over() {
    let mut bytes = small();
    let end = sections(&bytes);
    let last = end[end.len() - 2];
    let mut newer = Vec::new();
    encode::section(&mut newer, Section::End, |out| out.extend_from_slice(b"who knows"));
    newer[4] = 200;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&newer[4..12]), &newer[SECTION_HEAD..]);
    newer[12..16].copy_from_slice(&checksum.to_le_bytes());
    bytes.splice(last..last, newer);
    let file = File::parse(&bytes).unwrap();
    assert_eq!((text::write(&file), file.problems.len()), (SMALL.to_owned(), 0));
}

/// A trace whose schema is another version's: kinds that we don't know, arguments that we know more or fewer of.
const FOREIGN: &str = "schema
  kind 8 \"PollBegin\" args=2
  kind 9 \"PollEnd\" args=0
  kind 11 \"TaskWake\" args=2
  kind 200 \"Teleport\" args=3
run 1 normal base=10
  11 PollBegin task=5 77
  12 kind200 1 2 3
  13 kind9
  14 TaskWake task=6 stack=2
";

#[test]
fn kinds_and_arguments_of_other_versions_are_stepped_over() {
    // `PollEnd` has no argument there, `TaskWake` both of ours, `PollBegin` one more.
    let bytes = text::parse(FOREIGN).unwrap();
    let file = File::parse(&bytes).unwrap();
    let seen: Vec<(u64, u8, Vec<u64>)> = (file.runs.iter().flat_map(|run| file.events(run)))
        .map(|stamped| stamped.unwrap())
        .map(|stamped| (stamped.ticks, stamped.event.id(), stamped.event.wire_args()))
        .collect();
    let expected = [(11, 8, vec![5]), (12, 200, vec![]), (13, 9, vec![0]), (14, 11, vec![6, 2])];
    assert_eq!(seen, expected);
    assert_eq!(file.unknown_kinds.get(&200).map(String::as_str), Some("Teleport"));
}

#[test]
fn a_kind_that_no_schema_has_ends_its_run_and_is_said_with_its_offset() {
    let arity = Arity::default();
    let bytes = [8, 1, 5, 250, 1, 1];
    let read: Vec<_> = Events::new(&bytes, 0, &arity).collect();
    assert!(read[0].is_ok());
    assert_eq!(read[1].unwrap_err().to_string(), "event kind 250 at offset 3 is not in the schema");
    assert_eq!(read.len(), 2);
}

/// Payloads that claim more than they hold, in every place that holds a count or a length.
#[test]
fn lying_counts_and_lengths_are_refused_before_anything_is_allocated() {
    let huge = 1u64 << 60;
    let number = |value: u64| {
        let mut out = Vec::new();
        put_u64(&mut out, value);
        out
    };
    let lies: Vec<(Section, Vec<u8>)> = vec![
        (Section::Strings, [number(2), number(huge)].concat()),
        (Section::Strings, [number(2), number(1), number(huge)].concat()),
        (Section::Stacks, [number(2), number(huge)].concat()),
        (Section::Stacks, [number(2), number(1), number(huge)].concat()),
        (Section::Stacks, [number(huge), number(1)].concat()),
        (Section::Modules, number(huge)),
        (Section::Symbols, number(huge)),
        (Section::Symbols, [number(0), number(1), number(2), number(7), number(huge)].concat()),
        (Section::Threads, number(huge)),
        (Section::Schema, number(huge)),
        (Section::Header, number(huge)),
        (Section::End, vec![0xff; 11]),
    ];
    for (section, payload) in lies {
        let mut bytes = MAGIC.to_vec();
        encode::section(&mut bytes, section, |out| out.extend_from_slice(&payload));
        let file = File::parse(&bytes).unwrap();
        let said = |problem: &Problem| matches!(problem, Problem::Payload { section: of, offset: 8, .. } if *of == section);
        assert!(file.problems.iter().any(said), "{section:?}: {:?}", file.problems);
    }
}

#[test]
fn a_few_bytes_of_symbols_do_not_become_gigabytes_of_names() {
    let mut bytes = MAGIC.to_vec();
    encode::section(&mut bytes, Section::Symbols, |out| {
        put_u64(out, 1);
        let text = vec![b'a'; 1 << 20];
        put_u64(out, text.len() as u64 + 4);
        kymo::wire::put_bytes(out, &text);
        out.extend_from_slice(&[0; 1]);
        put_u64(out, 100_000);
        for _ in 0..100_000 {
            out.extend_from_slice(&[9, 1, 1, 6, 0, 0, 0, 0, 0, 0]);
        }
    });
    let file = File::parse(&bytes).unwrap();
    assert!(
        matches!(file.problems[0], Problem::Payload { section: Section::Symbols, .. }),
        "{:?}",
        file.problems
    );
}

#[test]
fn a_file_that_is_all_marks_is_given_up_in_reasonable_time() {
    let mut bytes = MAGIC.to_vec();
    while bytes.len() < 4 << 20 {
        bytes.extend_from_slice(&kymo::format::MARK);
        bytes.extend_from_slice(&[3, kymo::format::VERSION, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0]);
    }
    let begin = std::time::Instant::now();
    assert!(File::parse(&bytes).is_err());
    assert!(begin.elapsed().as_secs() < 20, "it took {:?}", begin.elapsed());
}

/// Any event, with any numbers as its arguments: what they mean is not the format's business.
fn any_event() -> impl Strategy<Value = Event> {
    (0..KINDS.len(), prop::collection::vec(any::<u64>(), 5), prop::collection::vec(0..64u32, 5)).prop_map(
        |(row, numbers, shifts)| {
            let spec = &KINDS[row];
            let mut bytes = vec![spec.id, 0];
            for (number, shift) in numbers.iter().zip(shifts).take(spec.args.len()) {
                put_u64(&mut bytes, number >> shift);
            }
            let arity = Arity::default();
            let read = Events::new(&bytes, 0, &arity).next();
            read.unwrap().unwrap().event
        },
    )
}

fn bytes_of(events: &[(u64, Event)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for &(delta, event) in events {
        let mut room = [0; EVENT_MAX];
        let mut cursor = Cursor::new(&mut room);
        event.put(delta, &mut cursor);
        let len = cursor.len();
        bytes.extend_from_slice(&room[..len]);
    }
    bytes
}

/// A file of several runs with strings and stacks between them.
fn file_of(runs: &[Vec<(u64, Event)>]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    encode::schema(&mut out);
    for (index, run) in runs.iter().enumerate() {
        let head = EventsHead { thread: ThreadId(index as u32 % 3), lane: Lane::Normal, base_ticks: 1_000 };
        encode::events(&mut out, &head, &bytes_of(run));
        encode::strings(&mut out, 2 + index as u32, ["a text"].into_iter());
        encode::stacks(&mut out, 2 + index as u32, [&[1u64, 2, 3][..]].into_iter());
    }
    out
}

proptest! {
    #[test]
    fn any_events_come_back_in_order(events in prop::collection::vec((0..1u64 << 40, any_event()), 0..200)) {
        let bytes = bytes_of(&events);
        let arity = Arity::default();
        let mut at = 7u64;
        let expected: Vec<_> = events.iter().map(|(delta, event)| { at += delta; (at, *event) }).collect();
        let read = Events::new(&bytes, 7, &arity).map(|stamped| stamped.map(|stamped| (stamped.ticks, stamped.event)));
        prop_assert_eq!(read.collect::<Result<Vec<_>, _>>().unwrap(), expected);
    }

    #[test]
    fn any_trace_comes_back_from_its_text(runs in prop::collection::vec(prop::collection::vec((0..1u64 << 40, any_event()), 1..30), 0..5)) {
        let bytes = file_of(&runs);
        let text = text::write(&File::parse(&bytes).unwrap());
        let again = text::parse(&text).unwrap();
        prop_assert_eq!(text::write(&File::parse(&again).unwrap()), text);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>, in_trace: bool) {
        let bytes = if in_trace { [&MAGIC[..], &bytes].concat() } else { bytes };
        if let Ok(file) = File::parse(&bytes) {
            let _ = text::write(&file);
        }
    }

    #[test]
    fn a_larger_trace_cut_anywhere_gives_every_whole_run(
        runs in prop::collection::vec(prop::collection::vec((0..1000u64, any_event()), 1..40), 1..12),
        part in 0.0..1.0f64,
    ) {
        let bytes = file_of(&runs);
        let cut = (bytes.len() as f64 * part) as usize;
        let whole = sections(&bytes).iter().filter(|&&end| end <= cut).count().saturating_sub(1);
        if let Ok(file) = File::parse(&bytes[..cut]) {
            prop_assert_eq!(file.runs.len(), whole.saturating_sub(1).div_ceil(3));
            let counts = file.runs.iter().map(|run| file.events(run).filter(Result::is_ok).count());
            for (count, run) in counts.zip(&runs) {
                prop_assert_eq!(count, run.len());
            }
        } else {
            prop_assert_eq!(whole, 0);
        }
    }

    #[test]
    fn a_larger_trace_with_bits_flipped_gives_every_run_that_is_whole(
        runs in prop::collection::vec(prop::collection::vec((0..1000u64, any_event()), 1..40), 1..12),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8u32), 1..4),
    ) {
        let mut bytes = file_of(&runs);
        let begins = sections(&bytes);
        let mut hit = std::collections::BTreeSet::new();
        for (index, bit) in flips {
            let at = index.index(bytes.len());
            bytes[at] ^= 1 << bit;
            hit.extend(begins.iter().rposition(|&begin| begin <= at));
        }
        // Section 0 is the schema, then run, strings, stacks in turn. (Two flips may undo each other.)
        let untouched = (0..runs.len()).filter(|index| !hit.contains(&(1 + 3 * index))).count();
        match File::parse(&bytes) {
            Ok(file) => {
                prop_assert!(file.runs.len() >= untouched);
                prop_assert!(file.strings.len() <= runs.len() && file.stacks.len() <= runs.len());
            }
            Err(error) => prop_assert!(matches!(error, FileError::Version { .. } | FileError::NotATrace), "{error}"),
        }
    }
}

#[test]
fn names_without_a_table_are_empty_and_no_kind_has_number_zero() {
    let bytes = small();
    let file = File::parse(&bytes).unwrap();
    assert_eq!(file.text(StrId(9_999)), "");
    assert!(!file.stacks.contains_key(&StackId(9_999)));
    assert!(kind(0).is_none() && kind(200).is_none());
}
