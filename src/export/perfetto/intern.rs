//! Names, frames and stacks by number: Perfetto wants each told once a sequence, then referred to.
//!
//! Numbers are the same on every sequence ([`Dictionary`]); what a sequence has been told already is a bit for each
//! number ([`Known`]). What it has not been told is gathered in [`Known::fresh`] and rides on the packet that needs
//! it first.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

use super::messages::{Callstack, Frame, InternedData, Mapping, Name, Text};
use crate::events::StackId;
use crate::format;
use crate::model::Trace;

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum $name { $($variant,)* }

        impl $name {
            const WORDS: &'static [&'static str] = &[$($word,)*];

            fn word(self) -> &'static str {
                Self::WORDS[self as usize]
            }

            /// Its number in its own space, counted from 1.
            pub(super) fn iid(self) -> u64 {
                self as u64 + 1
            }
        }
    )*};
}

words! {
    /// A slice's category: each number of the statistics is one `where category = …`.
    Category {
        Poll = "poll",
        Wake = "wake",
        Syscall = "syscall",
        Wait = "wait",
        Unlock = "unlock",
        Park = "park",
        Log = "log",
        Loss = "loss",
        Task = "task",
        TaskState = "task_state",
        Span = "span",
        UserTask = "user_task",
    }
    /// An argument of a slice.
    Arg {
        Open = "open",
        Task = "task",
        Outcome = "outcome",
        Address = "address",
        Holder = "holder",
        Fd = "fd",
        Descriptor = "descriptor",
        Result = "result",
        Woken = "woken",
        Count = "count",
        Reason = "reason",
        Site = "site",
        Parent = "parent",
        Thread = "thread",
        ActiveNs = "active_ns",
    }
}

/// A set of small numbers.
#[derive(Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    /// Adds a number; whether it was not there yet.
    #[inline]
    fn add(&mut self, number: u32) -> bool {
        let (word, bit) = (number as usize / 64, 1 << (number % 64));
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        new
    }
}

/// What a sequence has been told, and what it must be told with the next packet.
#[derive(Debug, Default)]
pub(super) struct Known {
    categories: Bits,
    names: Bits,
    args: Bits,
    keys: Bits,
    texts: Bits,
    messages: Bits,
    stacks: Bits,
    frames: Bits,
    functions: Bits,
    paths: Bits,
    mappings: Bits,
    fresh: InternedData,
    has_fresh: bool,
}

impl Known {
    /// What must be told now; none if nothing is new.
    #[inline]
    pub(super) fn fresh(&mut self) -> Option<InternedData> {
        match self.has_fresh {
            false => None,
            true => {
                self.has_fresh = false;
                Some(std::mem::take(&mut self.fresh))
            }
        }
    }
}

/// A text's number in a [`Dictionary`], counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TextId(u32);

impl TextId {
    pub(super) fn iid(self) -> u64 {
        u64::from(self.0)
    }
}

/// A frame with its texts as numbers.
#[derive(Debug)]
struct Row {
    function: TextId,
    path: Option<TextId>,
    line: u32,
    address: u64,
}

/// Texts, frames and stacks of a trace by number, counted from 1.
#[derive(Debug)]
pub(super) struct Dictionary<'a> {
    trace: &'a Trace,
    text_ids: HashMap<&'a str, TextId>,
    texts: Vec<&'a str>,
    /// By address and place among its inlined frames.
    frame_ids: HashMap<(u64, u32), u32>,
    frames: Vec<Row>,
    /// Numbers of the trace's stacks: their ids may be any, since files come from anywhere.
    stack_numbers: HashMap<StackId, u32, Spread>,
    /// Frames of each stack by its number, outermost first; none yet if it is not needed yet.
    stacks: Vec<Option<Vec<u32>>>,
}

/// Stack ids are numbers already: one multiplication spreads them.
#[derive(Debug, Clone, Copy, Default)]
struct Spread;

impl BuildHasher for Spread {
    type Hasher = Multiplied;

    fn build_hasher(&self) -> Multiplied {
        Multiplied(0)
    }
}

#[derive(Debug)]
struct Multiplied(u64);

impl Hasher for Multiplied {
    #[inline]
    fn write_u32(&mut self, number: u32) {
        self.0 = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

impl<'a> Dictionary<'a> {
    pub(super) fn new(trace: &'a Trace) -> Dictionary<'a> {
        let known = trace.stacks.addresses.iter().filter(|(_, addresses)| !addresses.is_empty());
        let stack_numbers: HashMap<_, _, Spread> =
            known.zip(0..).map(|((&id, _), number)| (id, number)).collect();
        Dictionary {
            trace,
            text_ids: HashMap::new(),
            texts: Vec::new(),
            frame_ids: HashMap::new(),
            frames: Vec::new(),
            stacks: vec![None; stack_numbers.len()],
            stack_numbers,
        }
    }

    /// The number of a text.
    pub(super) fn text(&mut self, text: &'a str) -> TextId {
        let next = TextId(self.texts.len() as u32 + 1);
        let id = *self.text_ids.entry(text).or_insert(next);
        if id == next {
            self.texts.push(text);
        }
        id
    }

    fn spelled(&self, id: TextId) -> String {
        self.texts[id.0 as usize - 1].to_owned()
    }

    fn bytes(&self, id: TextId) -> Text {
        Text { iid: id.iid(), text: self.spelled(id).into_bytes() }
    }

    fn name(&self, id: TextId) -> Name {
        Name { iid: id.iid(), name: self.spelled(id) }
    }

    /// Makes a category known to a sequence.
    #[inline]
    pub(super) fn tell_category(&self, category: Category, known: &mut Known) {
        if known.categories.add(category as u32) {
            known.fresh.categories.push(Name { iid: category.iid(), name: category.word().into() });
            known.has_fresh = true;
        }
    }

    /// Makes a slice's name known to a sequence.
    #[inline]
    pub(super) fn tell_name(&self, id: TextId, known: &mut Known) {
        if known.names.add(id.0) {
            known.fresh.events.push(self.name(id));
            known.has_fresh = true;
        }
    }

    /// Makes an argument's name known to a sequence.
    #[inline]
    pub(super) fn tell_arg(&self, arg: Arg, known: &mut Known) {
        if known.args.add(arg as u32) {
            known.fresh.args.push(Name { iid: arg.iid(), name: arg.word().into() });
            known.has_fresh = true;
        }
    }

    /// Makes an argument's name that the user chose known to a sequence, and gives its number.
    pub(super) fn tell_key(&self, id: TextId, known: &mut Known) -> u64 {
        let iid = Arg::WORDS.len() as u64 + id.iid();
        if known.keys.add(id.0) {
            known.fresh.args.push(Name { iid, name: self.spelled(id) });
            known.has_fresh = true;
        }
        iid
    }

    /// Makes an argument's value known to a sequence.
    #[inline]
    pub(super) fn tell_text(&self, id: TextId, known: &mut Known) {
        if known.texts.add(id.0) {
            known.fresh.texts.push(self.bytes(id));
            known.has_fresh = true;
        }
    }

    /// Makes a log message known to a sequence.
    pub(super) fn tell_message(&self, id: TextId, known: &mut Known) {
        if known.messages.add(id.0) {
            known.fresh.messages.push(self.name(id));
            known.has_fresh = true;
        }
    }

    /// Makes a stack known to a sequence, and gives its number there; none if the trace does not have it.
    #[inline]
    pub(super) fn tell_stack(&mut self, stack: StackId, known: &mut Known) -> Option<u64> {
        if stack == StackId(0) {
            return None;
        }
        let number = *self.stack_numbers.get(&stack)?;
        if known.stacks.add(number) {
            self.introduce(stack, number, known);
        }
        Some(u64::from(number) + 1)
    }

    #[cold]
    fn introduce(&mut self, stack: StackId, number: u32, known: &mut Known) {
        let numbered = self.stacks[number as usize].take();
        let frames = numbered.unwrap_or_else(|| self.number_frames(stack));
        for &frame in &frames {
            if known.frames.add(frame) {
                self.tell_frame(frame, known);
            }
        }
        let iids = frames.iter().map(|&frame| u64::from(frame)).collect();
        known.fresh.callstacks.push(Callstack { iid: u64::from(number) + 1, frames: iids });
        known.has_fresh = true;
        self.stacks[number as usize] = Some(frames);
    }

    fn number_frames(&mut self, stack: StackId) -> Vec<u32> {
        let trace = self.trace;
        let mut numbers = Vec::new();
        for &address in trace.stacks.addresses(stack) {
            for (place, frame) in trace.stacks.symbols.get(&address).into_iter().flatten().enumerate() {
                numbers.push(self.number_frame(address, place as u32, frame));
            }
        }
        numbers.reverse();
        numbers
    }

    fn number_frame(&mut self, address: u64, place: u32, frame: &'a format::Frame) -> u32 {
        if let Some(&known) = self.frame_ids.get(&(address, place)) {
            return known;
        }
        let function = self.text(&frame.function);
        let path = (!frame.file.is_empty()).then(|| self.text(&frame.file));
        self.frames.push(Row { function, path, line: frame.line, address });
        let number = self.frames.len() as u32;
        self.frame_ids.insert((address, place), number);
        number
    }

    fn tell_frame(&self, number: u32, known: &mut Known) {
        let row = &self.frames[number as usize - 1];
        if known.functions.add(row.function.0) {
            known.fresh.functions.push(self.bytes(row.function));
        }
        if let Some(path) = row.path
            && known.paths.add(path.0)
        {
            known.fresh.source_paths.push(self.bytes(path));
        }
        let mapping = self.tell_mapping(row.address, known);
        known.fresh.frames.push(Frame {
            iid: u64::from(number),
            function: row.function.iid(),
            mapping: mapping.map(|(iid, _)| iid),
            rel_pc: mapping.map(|(_, bias)| row.address.saturating_sub(bias)),
            source_path: row.path.map(TextId::iid),
            line: (row.line != 0).then_some(row.line),
        });
    }

    /// Makes the module of an address known to a sequence; its number and load bias.
    fn tell_mapping(&self, address: u64, known: &mut Known) -> Option<(u64, u64)> {
        let modules = &self.trace.stacks.modules;
        let index = modules.partition_point(|module| module.start <= address).checked_sub(1)?;
        let module = modules.get(index).filter(|module| address < module.end)?;
        let iid = index as u64 + 1;
        if known.mappings.add(iid as u32) {
            known.fresh.build_ids.push(Text { iid, text: module.build_id.clone() });
            known.fresh.mapping_paths.push(Text { iid, text: module.path.clone().into_bytes() });
            known.fresh.mappings.push(Mapping {
                iid,
                build_id: iid,
                start: module.start,
                end: module.end,
                load_bias: module.bias,
                path: vec![iid],
                offset: module.offset,
            });
        }
        Some((iid, module.bias))
    }
}
