//! Tiles against brute force: whatever the index says of a column, walking over every slice says too.
#![cfg(feature = "analysis")]

use kymo::analysis::rows::{CLASSES, Content, RowKey, Slice, SliceKind, Step};
use kymo::analysis::tiles::{Answer, COLUMNS, Row};
use proptest::prelude::*;

/// What one column of a tile shows, decoded by the layout in the module's head.
#[derive(Debug, Clone, PartialEq)]
enum Column {
    Nothing,
    One { class: u8, begins: bool, ends: bool, name: u32 },
    Several(Vec<(u8, u8)>),
    Numbers(Vec<(u8, u16)>),
    Values { least: f64, most: f64, last: f64 },
}

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.0.split_at(N);
        self.0 = rest;
        head.try_into().unwrap()
    }
    fn u8(&mut self) -> u8 {
        self.take::<1>()[0]
    }
    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }
    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }
    fn f64(&mut self) -> f64 {
        f64::from_le_bytes(self.take())
    }
}

/// The columns of an answer's only tile, the most at once of a row of steps, and the answer's names.
fn decode(answer: &[u8]) -> (Vec<Column>, u32, Vec<String>) {
    let mut bytes = Bytes(answer);
    assert_eq!(&bytes.take(), b"kyt1");
    assert_eq!(bytes.u16(), 1, "one tile");
    let length = bytes.u32() as usize;
    let (tile, rest) = bytes.0.split_at(length);
    let (mut tile, mut names) = (Bytes(tile), Bytes(rest));
    let (mut columns, mut most) = (Vec::new(), 0);
    match tile.u8() {
        0 | 1 => slice_columns(&mut tile, &mut columns),
        2 => {
            most = tile.u32();
            while !tile.0.is_empty() {
                let (run, k) = (tile.u16(), tile.u8());
                let numbers = Column::Numbers((0..k).map(|_| (tile.u8(), tile.u16())).collect());
                columns.extend(std::iter::repeat_n(numbers, run.into()));
            }
        }
        3 => {
            tile.take::<16>();
            while !tile.0.is_empty() {
                let (full, run) = (tile.u8() == 1, tile.u16());
                let column = match full {
                    true => Column::Values { least: tile.f64(), most: tile.f64(), last: tile.f64() },
                    false => Column::Nothing,
                };
                columns.extend(std::iter::repeat_n(column, run.into()));
            }
        }
        look => panic!("look {look}"),
    }
    let named = (0..names.u32()).map(|_| {
        let length = names.u16() as usize;
        let (text, rest) = names.0.split_at(length);
        names.0 = rest;
        String::from_utf8(text.to_vec()).unwrap()
    });
    (columns, most, named.collect())
}

fn slice_columns(tile: &mut Bytes<'_>, columns: &mut Vec<Column>) {
    while !tile.0.is_empty() {
        match tile.u8() {
            0 => columns.extend(std::iter::repeat_n(Column::Nothing, tile.u16().into())),
            1 => {
                let (run, class, edges, name) = (tile.u16(), tile.u8(), tile.u8(), tile.u32());
                let one = |at: u16| Column::One {
                    class,
                    begins: at == 0 && edges & 1 != 0,
                    ends: at + 1 == run && edges & 2 != 0,
                    name,
                };
                columns.extend((0..run).map(one));
            }
            2 => {
                let k = tile.u8();
                columns.push(Column::Several((0..k).map(|_| (tile.u8(), tile.u8())).collect()));
            }
            op => panic!("run {op}"),
        }
    }
}

fn tile(row: &Row, z: u32, i: u64) -> (Vec<Column>, u32, Vec<String>) {
    let mut answer = Answer::default();
    answer.add(Some(row), z, i, |slice| format!("slice {}", slice.index));
    decode(&answer.finish())
}

/// Slices in time order of which no two overlap, with gaps and with some that take no time.
fn slices() -> impl Strategy<Value = Vec<Slice>> {
    let piece =
        (prop_oneof![Just(0), 0..50u64, 0..20_000u64], prop_oneof![0..3u64, 0..90u64, 0..30_000u64], 0..16u8);
    proptest::collection::vec(piece, 0..600).prop_map(|pieces| {
        let mut at = 0;
        (0..)
            .zip(pieces)
            .map(|(index, (gap, length, class))| {
                let begin = at + gap;
                at = begin + length;
                Slice { begin, end: at, index, kind: SliceKind::State, class }
            })
            .collect()
    })
}

/// Time in each class within `begin..end`, by walking over all slices.
fn spent(slices: &[Slice], begin: u64, end: u64) -> [u64; CLASSES] {
    let mut spent = [0; CLASSES];
    for slice in slices {
        spent[usize::from(slice.class)] += slice.end.min(end).saturating_sub(slice.begin.max(begin));
    }
    spent
}

fn touches(slice: &Slice, begin: u64, end: u64) -> bool {
    slice.begin < end && (slice.end > begin || slice.begin == begin)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn shares_are_true_to_a_255th(slices in slices(), z in 0..16u32, i in 0..4u64) {
        let row = Row::new(Content::States(slices.clone()));
        let (columns, _, _) = tile(&row, z, i);
        prop_assert_eq!(columns.len() as u64, COLUMNS);
        for (column, shown) in (0..).zip(&columns) {
            let (begin, end) = (((i * COLUMNS) + column) << z, ((i * COLUMNS) + column + 1) << z);
            let (truth, width) = (spent(&slices, begin, end), 1_u64 << z);
            let inside: Vec<&Slice> = slices.iter().filter(|slice| touches(slice, begin, end)).collect();
            match shown {
                Column::Nothing => prop_assert!(inside.is_empty(), "column {} shows nothing of {:?}", column, inside),
                Column::One { class, .. } => {
                    prop_assert_eq!(inside.len(), 1);
                    prop_assert_eq!(truth[usize::from(*class)], width);
                }
                Column::Several(shares) => {
                    for (class, &true_ns) in truth.iter().enumerate() {
                        let share = shares.iter().find(|(shown, _)| usize::from(*shown) == class).map_or(0, |share| share.1);
                        let error = (f64::from(share) / 255.0 - true_ns as f64 / width as f64).abs();
                        prop_assert!(error <= 1.0 / 255.0, "class {} is off by {}", class, error);
                    }
                    let shown = |slice: &&&Slice| shares.iter().any(|share| share.0 == slice.class);
                    let few = inside.len() <= 64;
                    prop_assert!(!few || inside.iter().all(|slice| shown(&slice)), "a slice is not shown at all");
                }
                other => prop_assert!(false, "{:?} in a row of states", other),
            }
        }
    }

    #[test]
    fn runs_begin_and_end_where_their_slice_does(slices in slices(), z in 0..8u32) {
        let (columns, _, names) = tile(&Row::new(Content::Named(slices.clone())), z, 0);
        for (column, shown) in (0..).zip(&columns) {
            let Column::One { class, begins, ends, name } = shown else { continue };
            let (begin, end) = (column << z, (column + 1) << z);
            let slice = slices.iter().find(|slice| slice.begin <= begin && end <= slice.end).unwrap();
            prop_assert_eq!(*class, slice.class);
            prop_assert!(!begins || slice.begin + (1 << z) > begin);
            prop_assert!(!ends || slice.end < end + (1 << z));
            if *name > 0 {
                prop_assert_eq!(&names[*name as usize - 1], &format!("slice {}", slice.index));
            }
        }
    }

    #[test]
    fn the_slice_under_a_pixel_is_the_longest_there(slices in slices(), at in 0..300_000u64, dt in 0..100_000u64) {
        let row = Row::new(Content::States(slices.clone()));
        let end = (at + dt).max(at + 1);
        let longest = slices.iter().filter(|slice| touches(slice, at, end)).map(|slice| slice.end - slice.begin).max();
        prop_assert_eq!(row.pick(at, at + dt).map(|slice| slice.end - slice.begin), longest);
    }

    #[test]
    fn numbers_are_means_of_the_column(things in proptest::collection::vec(slices(), 1..5), z in 6..15u32) {
        let steps = steps(&things);
        let row = Row::new(Content::Steps(steps));
        let (columns, most, _) = tile(&row, z, 0);
        prop_assert_eq!(columns.len() as u64, COLUMNS);
        for (column, shown) in (0..).zip(&columns) {
            let Column::Numbers(shown) = shown else { panic!("{shown:?} in a row of steps") };
            let (begin, end) = (column << z, (column + 1) << z);
            let mut truth = [0; CLASSES];
            for thing in &things {
                truth.iter_mut().zip(spent(thing, begin, end)).for_each(|(sum, spent)| *sum += spent);
            }
            for (class, &true_ns) in truth.iter().enumerate() {
                let mean = true_ns as f64 / (1_u64 << z) as f64;
                let scaled = shown.iter().find(|(shown, _)| usize::from(*shown) == class).map_or(0, |number| number.1);
                let error = (f64::from(scaled) / 65535.0 * f64::from(most) - mean).abs();
                prop_assert!(error <= f64::from(most) / 65535.0 * 1.01, "class {} is off by {}", class, error);
            }
        }
    }

    #[test]
    fn values_keep_their_extremes(values in proptest::collection::vec((0..2_000u64, -1_000..1_000i64), 1..300), z in 0..10u32) {
        let mut at = 0;
        let values: Vec<(u64, i64)> = values.into_iter().map(|(gap, value)| { at += gap; (at, value) }).collect();
        let row = Row::new(Content::Values(values.clone()));
        let (columns, _, _) = tile(&row, z, 0);
        prop_assert_eq!(columns.len() as u64, COLUMNS);
        for (column, shown) in (0..).zip(&columns) {
            let (begin, end) = (column << z, (column + 1) << z);
            let standing = values.iter().rev().find(|value| value.0 <= begin);
            let all: Vec<i64> = standing.into_iter().chain(values.iter().filter(|value| begin < value.0 && value.0 < end)).map(|value| value.1).collect();
            match shown {
                Column::Nothing => prop_assert!(all.is_empty()),
                Column::Values { least, most, last } => {
                    prop_assert_eq!(*least, *all.iter().min().unwrap() as f64);
                    prop_assert_eq!(*most, *all.iter().max().unwrap() as f64);
                    prop_assert_eq!(*last, *all.last().unwrap() as f64);
                }
                other => prop_assert!(false, "{:?} in a row of values", other),
            }
        }
    }
}

/// How many things are in each class, from the slices of each; changes at one instant in the order of the things.
fn steps(things: &[Vec<Slice>]) -> Vec<Step> {
    let slices = things.iter().flatten().filter(|slice| slice.begin < slice.end);
    let mut steps: Vec<Step> = slices
        .flat_map(|slice| {
            [
                Step { at: slice.begin, from: Step::NONE, to: slice.class },
                Step { at: slice.end, from: slice.class, to: Step::NONE },
            ]
        })
        .collect();
    steps.sort_by_key(|step| (step.at, step.to != Step::NONE));
    steps
}

#[test]
fn an_answer_is_as_large_for_a_million_slices_as_for_a_thousand() {
    let many = |count: u64| {
        let length = (1 << 30) / count;
        let slice = |index: u64| Slice {
            begin: index * length,
            end: (index + 1) * length,
            index: index as u32,
            kind: SliceKind::State,
            class: (index % 5) as u8,
        };
        Row::new(Content::States((0..count).map(slice).collect()))
    };
    let size = |row: &Row| {
        let mut answer = Answer::default();
        answer.add(Some(row), 20, 0, |_| String::new());
        answer.finish().len()
    };
    let (few, lots) = (size(&many(10_000)), size(&many(1_000_000)));
    assert!(lots <= few + 16, "{lots} bytes for a million, {few} for ten thousand");
    assert!(lots <= COLUMNS as usize * (2 + 2 * CLASSES) + 32);
}

#[test]
fn a_row_is_called_the_same_after_a_round_trip() {
    let keys = [
        RowKey::Overview,
        RowKey::Thread(3),
        RowKey::Polls(3, 1),
        RowKey::Task(70_000),
        RowKey::Site(0),
        RowKey::Span(2, 7),
        RowKey::Lock(9),
        RowKey::Waiters(9, 2),
        RowKey::Counter(4),
    ];
    for key in keys {
        assert_eq!(key.to_string().parse(), Ok(key));
    }
    for wrong in ["", "thread", "thread.x", "thread.1.2", "waiters.1", "waiters.1.256", "task.-1", "row.1"] {
        assert!(wrong.parse::<RowKey>().is_err(), "{wrong}");
    }
}
