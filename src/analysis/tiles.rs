//! What a row of the viewer shows in a window: answers bounded by pixels, not by events.
//!
//! A tile is (row, z, i): [`COLUMNS`] columns of 2^z ns, from i × [`COLUMNS`] × 2^z on. It is the same for whoever asks,
//! so it can be kept. [`Row::new`] indexes a row once: for each block of [`BLOCK`] slices the time spent in each class
//! before it and its longest slice. A column's shares are then the difference of two look-ups of at most [`BLOCK`]
//! steps each, whether ten events lie under it or ten million.
//!
//! # Layout
//! Little-endian. An answer is `b"kyt1"`, u16 number of tiles, the tiles in the order asked for, u32 number of names,
//! each name as u16 length and UTF-8. A tile is u32 length of what follows, u8 [`Look`], then its runs:
//!
//! | look | before the runs | runs |
//! |---|---|---|
//! | 0 states, 1 named | – | `0` u16 n: nothing for n columns; `1` u16 n, u8 class, u8 edges (1 begins here, 2 ends here), u32 name: one slice; `2` u8 k, k × (u8 class, u8 share of 255): one column of several |
//! | 2 steps | u32 most at once | u16 n, u8 k, k × (u8 class, u16 mean number of 65535 × most): the same for n columns |
//! | 3 values | f64 least, f64 most | `0` u16 n: nothing; `1` u16 n, f64 least, f64 most, f64 last |
//! | 255 | – | none: the trace has no such row |
//!
//! Name 0 is none; name n is the n-th one, from 1. A share is within 1/255 of the truth, and never 0 for what is there.

use std::collections::HashMap;

use super::rows::{CLASSES, Content, Slice, Step};
use crate::model::Ns;

/// Columns of a tile.
pub const COLUMNS: u64 = 1024;

/// Slices, steps or values that share an index entry.
const BLOCK: usize = 64;

/// Runs shorter than this get no name, unless they reach the tile's edge: nothing could be written on them.
const NAMED_COLUMNS: u64 = 12;

/// First bytes of an answer.
const MAGIC: &[u8; 4] = b"kyt1";

/// How a tile's runs are to be read and drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Look {
    /// Slices whose class is a state.
    States = 0,
    /// Slices whose class is a colour.
    Named = 1,
    /// Numbers of things in each class.
    Steps = 2,
    /// A counter.
    Values = 3,
    /// No such row.
    Missing = 255,
}

/// A row with its index.
#[derive(Debug)]
pub struct Row {
    content: Content,
    blocks: Vec<Block>,
    /// Steps: the most things at once. Values: unused.
    most: u32,
    /// Values: the least and the greatest.
    range: (i64, i64),
}

/// What is known before a block's first item, and of the block.
#[derive(Debug, Clone, Copy)]
struct Block {
    /// Slices: time in each class. Steps: time × number.
    sums: [Ns; CLASSES],
    /// Steps: how many are in each class.
    counts: [u32; CLASSES],
    /// Slices: the longest in the block.
    longest: u32,
    /// Values: the least and the greatest of the block.
    range: (i64, i64),
}

impl Row {
    /// Indexes a row: one pass.
    pub fn new(content: Content) -> Row {
        let mut row = Row { content, blocks: Vec::new(), most: 0, range: (0, 0) };
        match &row.content {
            Content::States(slices) | Content::Named(slices) => row.blocks = slice_blocks(slices),
            Content::Steps(steps) => (row.blocks, row.most) = step_blocks(steps),
            Content::Values(values) => {
                row.blocks = value_blocks(values);
                row.range = range(row.blocks.iter().map(|block| block.range));
            }
        }
        row
    }

    /// Bytes that it takes, about.
    pub fn bytes(&self) -> usize {
        let items = match &self.content {
            Content::States(slices) | Content::Named(slices) => size_of_val(slices.as_slice()),
            Content::Steps(steps) => size_of_val(steps.as_slice()),
            Content::Values(values) => size_of_val(values.as_slice()),
        };
        items + size_of_val(self.blocks.as_slice())
    }

    /// The slices, if it is made of slices.
    pub fn slices(&self) -> &[Slice] {
        match &self.content {
            Content::States(slices) | Content::Named(slices) => slices,
            Content::Steps(_) | Content::Values(_) => &[],
        }
    }

    /// How it is drawn.
    pub fn look(&self) -> Look {
        match self.content {
            Content::States(_) => Look::States,
            Content::Named(_) => Look::Named,
            Content::Steps(_) => Look::Steps,
            Content::Values(_) => Look::Values,
        }
    }

    /// The longest slice that touches `begin..end`, the first of equals. An empty window asks for the slice at `begin`.
    pub fn pick(&self, begin: Ns, end: Ns) -> Option<Slice> {
        let slices = self.slices();
        let touched = touched(slices, begin, end.max(begin + 1));
        let longest = |a: usize, b: usize| if duration(&slices[b]) > duration(&slices[a]) { b } else { a };
        let mut best: Option<usize> = None;
        let mut at = touched.start;
        while at < touched.end {
            let (next, candidate) = match at.is_multiple_of(BLOCK) && at + BLOCK <= touched.end {
                true => (at + BLOCK, self.blocks[at / BLOCK].longest as usize),
                false => (at + 1, at),
            };
            best = Some(best.map_or(candidate, |best| longest(best, candidate)));
            at = next;
        }
        best.map(|at| slices[at])
    }

    /// How many things are in each class at `at`, for rows of steps.
    pub fn counts(&self, at: Ns) -> [u32; CLASSES] {
        match &self.content {
            Content::Steps(steps) => self.step_sum(steps, steps.partition_point(|step| step.at <= at), at).1,
            _ => [0; CLASSES],
        }
    }

    /// The counter's value at `at`, for rows of values.
    pub fn value(&self, at: Ns) -> Option<i64> {
        match &self.content {
            Content::Values(values) => {
                Some(values[values.partition_point(|value| value.0 <= at).checked_sub(1)?].1)
            }
            _ => None,
        }
    }

    /// Appends the tile's runs; `name` gives the text that a slice bears.
    fn put(&self, z: u32, i: u64, out: &mut Vec<u8>, mut name: impl FnMut(&Slice) -> u32) {
        let grid = Grid { from: (i * COLUMNS) << z, width: 1 << z };
        match &self.content {
            Content::States(slices) | Content::Named(slices) => self.put_slices(slices, grid, out, &mut name),
            Content::Steps(steps) => self.put_steps(steps, grid, out),
            Content::Values(values) => self.put_values(values, grid, out),
        }
    }

    fn put_slices(
        &self,
        slices: &[Slice],
        grid: Grid,
        out: &mut Vec<u8>,
        name: &mut impl FnMut(&Slice) -> u32,
    ) {
        let mut column = 0;
        while column < COLUMNS {
            let (begin, end) = grid.column(column);
            let inside = touched(slices, begin, end);
            let Some(slice) = slices.get(inside.start) else {
                put_run(out, 0, COLUMNS - column);
                return;
            };
            if inside.is_empty() {
                let run = grid.whole_columns(begin, slice.begin).min(COLUMNS - column);
                put_run(out, 0, run);
                column += run;
            } else if inside.len() == 1 && slice.begin <= begin && end <= slice.end {
                let run = grid.whole_columns(begin, slice.end).min(COLUMNS - column);
                let at_edge = column == 0 || column + run == COLUMNS;
                put_run(out, 1, run);
                let begins = slice.begin + grid.width > begin;
                let ends = slice.end < begin + (run + 1) * grid.width;
                out.extend_from_slice(&[slice.class, u8::from(begins) | u8::from(ends) << 1]);
                let name = if at_edge || run >= NAMED_COLUMNS { name(slice) } else { 0 };
                out.extend_from_slice(&name.to_le_bytes());
                column += run;
            } else {
                self.put_mixed(slices, inside, (begin, end), out);
                column += 1;
            }
        }
    }

    fn put_mixed(
        &self,
        slices: &[Slice],
        inside: std::ops::Range<usize>,
        window: (Ns, Ns),
        out: &mut Vec<u8>,
    ) {
        let mut spent = self.spent(slices, window.1);
        for (class, before) in self.spent(slices, window.0).iter().enumerate() {
            spent[class] -= before;
        }
        // What takes no time at all is shown too, with the least share.
        let mut present = spent.map(|spent| spent > 0);
        if inside.len() <= BLOCK {
            slices[inside].iter().for_each(|slice| present[usize::from(slice.class)] = true);
        }
        let width = u128::from(window.1 - window.0);
        out.extend_from_slice(&[2, present.iter().filter(|present| **present).count() as u8]);
        for (class, &spent) in spent.iter().enumerate().filter(|(class, _)| present[*class]) {
            let share = (u128::from(spent) * 255 + width / 2) / width;
            out.extend_from_slice(&[class as u8, share.clamp(1, 255) as u8]);
        }
    }

    /// Time spent in each class before `at`.
    fn spent(&self, slices: &[Slice], at: Ns) -> [Ns; CLASSES] {
        let until = slices.partition_point(|slice| slice.begin < at);
        let Some(last) = until.checked_sub(1) else { return [0; CLASSES] };
        let block = last / BLOCK;
        let mut sums = self.blocks[block].sums;
        for slice in &slices[block * BLOCK..until] {
            sums[usize::from(slice.class)] += slice.end.min(at) - slice.begin;
        }
        sums
    }

    /// Numbers × time before `at`, and the numbers after the first `until` steps.
    fn step_sum(&self, steps: &[Step], until: usize, at: Ns) -> ([Ns; CLASSES], [u32; CLASSES]) {
        let Some(last) = until.checked_sub(1) else { return ([0; CLASSES], [0; CLASSES]) };
        let block = last / BLOCK;
        let Block { mut sums, mut counts, .. } = self.blocks[block];
        let mut since = steps[block * BLOCK].at;
        for step in &steps[block * BLOCK..until] {
            advance(&mut sums, &counts, step.at - since);
            apply(&mut counts, step);
            since = step.at;
        }
        advance(&mut sums, &counts, at - since);
        (sums, counts)
    }

    fn put_steps(&self, steps: &[Step], grid: Grid, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.most.to_le_bytes());
        let mut column = 0;
        while column < COLUMNS {
            let (begin, end) = grid.column(column);
            let first = steps.partition_point(|step| step.at <= begin);
            let next = steps.get(first).map_or(Ns::MAX, |step| step.at);
            let (before, counts) = self.step_sum(steps, first, begin);
            let (run, mean) = match next >= end {
                true => (grid.whole_columns(begin, next), counts.map(f64::from)),
                false => {
                    let (after, _) = self.step_sum(steps, steps.partition_point(|step| step.at < end), end);
                    let mean = |class: usize| (after[class] - before[class]) as f64 / grid.width as f64;
                    (1, std::array::from_fn(mean))
                }
            };
            let run = run.min(COLUMNS - column);
            self.put_counts(run, &mean, out);
            column += run;
        }
    }

    fn put_counts(&self, run: u64, mean: &[f64; CLASSES], out: &mut Vec<u8>) {
        out.extend_from_slice(&(run as u16).to_le_bytes());
        let present = mean.iter().enumerate().filter(|(_, mean)| **mean > 0.0);
        out.push(present.clone().count() as u8);
        for (class, mean) in present {
            let scaled = (mean / f64::from(self.most.max(1)) * 65535.0).round().max(1.0) as u16;
            out.push(class as u8);
            out.extend_from_slice(&scaled.to_le_bytes());
        }
    }

    fn put_values(&self, values: &[(Ns, i64)], grid: Grid, out: &mut Vec<u8>) {
        put_floats(out, &[self.range.0, self.range.1]);
        let mut column = 0;
        while column < COLUMNS {
            let (begin, end) = grid.column(column);
            let first = values.partition_point(|value| value.0 <= begin);
            let after = first + values[first..].partition_point(|value| value.0 < end);
            let next = values.get(first).map_or(Ns::MAX, |value| value.0);
            let standing = first.checked_sub(1).map(|at| values[at].1);
            let run = if next >= end { grid.whole_columns(begin, next).min(COLUMNS - column) } else { 1 };
            match (standing, next >= end) {
                (None, true) => put_run(out, 0, run),
                (Some(value), true) => {
                    put_run(out, 1, run);
                    put_floats(out, &[value, value, value]);
                }
                (standing, false) => {
                    let (least, most) = self.value_range(values, first, after);
                    let with = standing.unwrap_or(least);
                    put_run(out, 1, 1);
                    put_floats(out, &[least.min(with), most.max(with), values[after - 1].1]);
                }
            }
            column += run;
        }
    }

    fn value_range(&self, values: &[(Ns, i64)], from: usize, to: usize) -> (i64, i64) {
        let mut ranges = Vec::new();
        let mut at = from;
        while at < to {
            match at.is_multiple_of(BLOCK) && at + BLOCK <= to {
                true => {
                    ranges.push(self.blocks[at / BLOCK].range);
                    at += BLOCK;
                }
                false => {
                    ranges.push((values[at].1, values[at].1));
                    at += 1;
                }
            }
        }
        range(ranges.into_iter())
    }
}

/// Where a tile's columns are.
#[derive(Clone, Copy)]
struct Grid {
    from: Ns,
    width: Ns,
}

impl Grid {
    fn column(self, column: u64) -> (Ns, Ns) {
        let begin = self.from + column * self.width;
        (begin, begin + self.width)
    }

    /// Columns that lie wholly in `from..to`; one at least.
    fn whole_columns(self, from: Ns, to: Ns) -> u64 {
        ((to - from) / self.width).max(1)
    }
}

/// The slices that share time with `begin..end`, or lie in it without taking any.
fn touched(slices: &[Slice], begin: Ns, end: Ns) -> std::ops::Range<usize> {
    let first = slices.partition_point(|slice| slice.end <= begin && slice.begin < begin);
    let last = slices.partition_point(|slice| slice.begin < end);
    first..last.max(first)
}

fn duration(slice: &Slice) -> Ns {
    slice.end - slice.begin
}

const EMPTY: Block = Block { sums: [0; CLASSES], counts: [0; CLASSES], longest: 0, range: (0, 0) };

fn slice_blocks(slices: &[Slice]) -> Vec<Block> {
    let mut block = EMPTY;
    let mut blocks = Vec::with_capacity(slices.len().div_ceil(BLOCK));
    for (number, chunk) in slices.chunks(BLOCK).enumerate() {
        let longest = (0..chunk.len()).rev().max_by_key(|&at| duration(&chunk[at])).unwrap_or(0);
        block.longest = (number * BLOCK + longest) as u32;
        blocks.push(block);
        for slice in chunk {
            block.sums[usize::from(slice.class)] += duration(slice);
        }
    }
    blocks
}

fn step_blocks(steps: &[Step]) -> (Vec<Block>, u32) {
    let (mut block, mut most) = (EMPTY, 0);
    let mut blocks = Vec::with_capacity(steps.len().div_ceil(BLOCK));
    let mut since = steps.first().map_or(0, |step| step.at);
    for (number, step) in steps.iter().enumerate() {
        // What one thing leaves and another enters in the same nanosecond was never there twice.
        if step.at > since {
            most = most.max(block.counts.iter().sum());
        }
        advance(&mut block.sums, &block.counts, step.at - since);
        if number.is_multiple_of(BLOCK) {
            blocks.push(block);
        }
        apply(&mut block.counts, step);
        since = step.at;
    }
    (blocks, most)
}

fn value_blocks(values: &[(Ns, i64)]) -> Vec<Block> {
    let of = |chunk: &[(Ns, i64)]| range(chunk.iter().map(|value| (value.1, value.1)));
    values.chunks(BLOCK).map(|chunk| Block { range: of(chunk), ..EMPTY }).collect()
}

fn range(ranges: impl Iterator<Item = (i64, i64)>) -> (i64, i64) {
    ranges.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or((0, 0))
}

fn advance(sums: &mut [Ns; CLASSES], counts: &[u32; CLASSES], by: Ns) {
    for (sum, &count) in sums.iter_mut().zip(counts) {
        *sum = sum.saturating_add(by.saturating_mul(u64::from(count)));
    }
}

fn apply(counts: &mut [u32; CLASSES], step: &Step) {
    if let Some(count) = counts.get_mut(usize::from(step.from)) {
        *count = count.saturating_sub(1);
    }
    if let Some(count) = counts.get_mut(usize::from(step.to)) {
        *count += 1;
    }
}

fn put_run(out: &mut Vec<u8>, op: u8, columns: u64) {
    out.push(op);
    out.extend_from_slice(&(columns as u16).to_le_bytes());
}

fn put_floats(out: &mut Vec<u8>, values: &[i64]) {
    for &value in values {
        // Rounded beyond 2^53: it is for drawing, the exact value is in the details.
        out.extend_from_slice(&(value as f64).to_le_bytes());
    }
}

/// An answer under construction.
#[derive(Debug, Default)]
pub struct Answer {
    tiles: Vec<u8>,
    count: u16,
    names: Vec<u8>,
    numbers: HashMap<String, u32>,
}

impl Answer {
    /// Adds a tile of a row; `name` gives the text that a slice bears, empty for none.
    pub fn add(&mut self, row: Option<&Row>, z: u32, i: u64, name: impl Fn(&Slice) -> String) {
        let head = self.tiles.len();
        self.tiles.extend_from_slice(&[0; 4]);
        self.tiles.push(row.map_or(Look::Missing, Row::look) as u8);
        if let Some(row) = row {
            let Answer { tiles, names, numbers, .. } = self;
            row.put(z, i, tiles, |slice| number(names, numbers, name(slice)));
        }
        let length = (self.tiles.len() - head - 4) as u32;
        self.tiles[head..head + 4].copy_from_slice(&length.to_le_bytes());
        self.count += 1;
    }

    /// The whole answer.
    pub fn finish(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.tiles.len() + self.names.len() + 10);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.tiles);
        out.extend_from_slice(&(self.numbers.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.names);
        out
    }
}

/// The number of a name in an answer; a new one is appended.
fn number(names: &mut Vec<u8>, numbers: &mut HashMap<String, u32>, name: String) -> u32 {
    if name.is_empty() {
        return 0;
    }
    let next = numbers.len() as u32 + 1;
    *numbers.entry(name).or_insert_with_key(|name| {
        let mut length = name.len().min(usize::from(u16::MAX));
        while !name.is_char_boundary(length) {
            length -= 1;
        }
        names.extend_from_slice(&(length as u16).to_le_bytes());
        names.extend_from_slice(&name.as_bytes()[..length]);
        next
    })
}
