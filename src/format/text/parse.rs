//! Text to a file: what `write` wrote, or a person did.
//!
//! Line by line, each a section or an event; an error names the line and what is wrong with it. Values that are left out
//! are 0 or empty, so that a test says only what it is about.

use super::TextError;
use super::words::{self, Word};
use crate::events::{ArgKind, KINDS, KindSpec, StrId, ThreadId};
use crate::format::{End, EventsHead, Frame, Header, Lane, Module, Symbol, ThreadInfo, encode};
use crate::wire::{put_u64, zigzag};

/// Makes a file of text. See the module's head for its form.
///
/// # Errors
/// [`TextError`] with the first line that is not understood.
pub fn parse(text: &str) -> Result<Vec<u8>, TextError> {
    let mut file = Writer::default();
    encode::magic(&mut file.out);
    let mut block: Option<(usize, Vec<Word>, Vec<Line>)> = None;
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let words = words::split(line).map_err(|what| TextError { line: number, what })?;
        if words.is_empty() {
            continue;
        }
        match (&mut block, line.starts_with(' ')) {
            (Some((_, _, inner)), true) => inner.push(Line { number, words }),
            (None, true) => {
                return Err(TextError { line: number, what: "it belongs to no line above".into() });
            }
            (_, false) => {
                if let Some((number, words, inner)) = block.replace((number, words, Vec::new())) {
                    file.block(Line { number, words }, inner)?;
                }
            }
        }
    }
    if let Some((number, words, inner)) = block {
        file.block(Line { number, words }, inner)?;
    }
    file.flush();
    Ok(file.out)
}

/// A line's words, taken from the front; whatever is asked for and missing is an error of this line.
#[derive(Debug)]
struct Line {
    number: usize,
    words: Vec<Word>,
}

impl Line {
    fn error(&self, what: impl Into<String>) -> TextError {
        TextError { line: self.number, what: what.into() }
    }

    /// The next bare word.
    fn next(&mut self, what: &str) -> Result<String, TextError> {
        match self.words.iter().position(|word| word.key.is_none()) {
            Some(index) => Ok(self.words.remove(index).value),
            None => Err(self.error(format!("{what} is missing"))),
        }
    }

    fn next_number(&mut self, what: &str) -> Result<u64, TextError> {
        let word = self.next(what)?;
        number(&word).ok_or_else(|| self.error(format!("{what} `{word}` is no number")))
    }

    /// The value of a key, if the line has it.
    fn value(&mut self, key: &str) -> Option<String> {
        let index = self.words.iter().position(|word| word.key.as_deref() == Some(key))?;
        Some(self.words.remove(index).value)
    }

    /// The text of a key; empty if the line doesn't have it.
    fn text(&mut self, key: &str) -> String {
        self.value(key).unwrap_or_default()
    }

    /// The number of a key; 0 if the line doesn't have it.
    fn number<T: TryFrom<u64>>(&mut self, key: &str) -> Result<T, TextError> {
        let Some(value) = self.value(key) else { return self.fit(key, 0) };
        match number(&value) {
            Some(number) => self.fit(key, number),
            None => Err(self.error(format!("{key} `{value}` is no number"))),
        }
    }

    fn fit<T: TryFrom<u64>>(&self, what: &str, number: u64) -> Result<T, TextError> {
        T::try_from(number).map_err(|_| self.error(format!("{what} {number} is too large")))
    }

    fn done(&self) -> Result<(), TextError> {
        match self.words.first() {
            None => Ok(()),
            Some(word) => {
                Err(self.error(format!("`{}` is not understood", word.key.as_ref().unwrap_or(&word.value))))
            }
        }
    }
}

fn number(word: &str) -> Option<u64> {
    match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

/// What is written so far, and the parts of sections that are made of several lines.
#[derive(Default)]
struct Writer {
    out: Vec<u8>,
    header: Option<Header>,
    strings: Vec<(u32, String)>,
    stacks: Vec<(u32, Vec<u64>)>,
    modules: Vec<Module>,
    symbols: Vec<Symbol>,
    threads: Vec<ThreadInfo>,
}

impl Writer {
    fn block(&mut self, mut line: Line, inner: Vec<Line>) -> Result<(), TextError> {
        let word = line.next("a word")?;
        match word.as_str() {
            "header" => self.header = Some(header(&mut line)?),
            "source" | "note" => {
                let pair = (line.next("a name")?, line.next("a text")?);
                let header = self.header.as_mut().ok_or_else(|| line.error("it belongs to no header"))?;
                if word == "source" { header.sources.push(pair) } else { header.notes.push(pair) }
            }
            "schema" => {
                self.flush();
                schema(&mut self.out, inner)?;
                return line.done();
            }
            "run" => {
                self.flush();
                run(&mut self.out, &mut line, inner)?;
                return line.done();
            }
            "string" => {
                let id = line.next_number("its number")?;
                self.strings.push((line.fit("its number", id)?, line.next("a text")?));
            }
            "stack" => {
                let id = line.next_number("its number")?;
                let mut addresses = Vec::new();
                while !line.words.is_empty() {
                    addresses.push(line.next_number("an address")?);
                }
                self.stacks.push((line.fit("its number", id)?, addresses));
            }
            "module" => self.modules.push(module(&mut line)?),
            "symbol" => {
                let address = line.next_number("an address")?;
                let frames = inner.into_iter().map(frame).collect::<Result<_, _>>()?;
                self.symbols.push(Symbol { address, frames });
                return line.done();
            }
            "thread" => {
                let thread = line.next_number("its number")?;
                let thread = ThreadId(line.fit("its number", thread)?);
                let (tid, name) = (line.number("tid")?, StrId(line.number("name")?));
                self.threads.push(ThreadInfo { thread, tid, name });
            }
            "end" => {
                self.flush();
                let end_ticks = line.next_number("its tick")?;
                let (events, lost) = (line.number("events")?, line.number("lost")?);
                encode::end(&mut self.out, &End { end_ticks, events, lost });
            }
            _ => return Err(line.error(format!("`{word}` is no part of a trace"))),
        }
        match inner.first() {
            Some(line) => Err(line.error(format!("`{word}` has no lines of its own"))),
            None => line.done(),
        }
    }

    /// Writes the sections that were gathered line by line.
    fn flush(&mut self) {
        if let Some(header) = self.header.take() {
            encode::header(&mut self.out, &header);
        }
        for block in std::mem::take(&mut self.strings).chunk_by(|a, b| a.0.checked_add(1) == Some(b.0)) {
            encode::strings(&mut self.out, block[0].0, block.iter().map(|(_, text)| text.as_str()));
        }
        for block in std::mem::take(&mut self.stacks).chunk_by(|a, b| a.0.checked_add(1) == Some(b.0)) {
            encode::stacks(&mut self.out, block[0].0, block.iter().map(|(_, stack)| stack.as_slice()));
        }
        if !self.modules.is_empty() {
            encode::modules(&mut self.out, &std::mem::take(&mut self.modules));
        }
        if !self.symbols.is_empty() {
            encode::symbols(&mut self.out, &std::mem::take(&mut self.symbols));
        }
        if !self.threads.is_empty() {
            encode::threads(&mut self.out, &std::mem::take(&mut self.threads));
        }
    }
}

fn header(line: &mut Line) -> Result<Header, TextError> {
    Ok(Header {
        writer: line.text("writer"),
        clock: line.text("clock"),
        pid: line.number("pid")?,
        program: line.text("program"),
        start_ticks: line.number("start")?,
        start_monotonic_ns: line.number("start_monotonic_ns")?,
        start_realtime_ns: line.number("start_realtime_ns")?,
        wait_stack_ns: line.number("wait_stack_ns")?,
        call_stack_ns: line.number("call_stack_ns")?,
        sources: Vec::new(),
        notes: Vec::new(),
    })
}

/// This version's own schema, or the one that the inner lines give.
fn schema(out: &mut Vec<u8>, inner: Vec<Line>) -> Result<(), TextError> {
    if inner.is_empty() {
        encode::schema(out);
        return Ok(());
    }
    let mut kinds = Vec::new();
    for mut line in inner {
        if line.next("`kind`")? != "kind" {
            return Err(line.error("a schema is made of kinds"));
        }
        let id = line.next_number("its number")?;
        let id: u8 = line.fit("its number", id)?;
        kinds.push((id, line.next("its name")?, line.number::<u8>("args")?));
        line.done()?;
    }
    encode::foreign_schema(out, &kinds);
    Ok(())
}

fn run(out: &mut Vec<u8>, line: &mut Line, inner: Vec<Line>) -> Result<(), TextError> {
    let thread = line.next_number("its thread")?;
    let thread = ThreadId(line.fit("its thread", thread)?);
    let word = line.next("its lane")?;
    let lane = Lane::ALL.into_iter().find(|lane| lane.word() == word);
    let lane = lane.ok_or_else(|| line.error(format!("`{word}` is no lane")))?;
    let base_ticks = line.number("base")?;
    let (mut bytes, mut latest) = (Vec::new(), base_ticks);
    for mut line in inner {
        let ticks = line.next_number("its tick")?;
        let delta = ticks.checked_sub(latest);
        let delta = delta.ok_or_else(|| line.error(format!("tick {ticks} is before {latest}")))?;
        event(&mut bytes, &mut line, delta)?;
        latest = ticks;
    }
    encode::events(out, &EventsHead { thread, lane, base_ticks }, &bytes);
    Ok(())
}

fn event(out: &mut Vec<u8>, line: &mut Line, delta: u64) -> Result<(), TextError> {
    let name = line.next("its kind")?;
    let spec = KINDS.iter().find(|spec| spec.name == name);
    let foreign = name.strip_prefix("kind").and_then(|id| id.parse().ok());
    let id = spec.map(|spec| spec.id).or(foreign);
    out.push(id.ok_or_else(|| line.error(format!("no kind of event is called `{name}`")))?);
    put_u64(out, delta);
    for &(name, kind) in spec.map_or(&[][..], |spec: &KindSpec| spec.args) {
        let arg = line.value(name).unwrap_or_else(|| "0".into());
        let wire = wire(kind, &arg);
        put_u64(out, wire.ok_or_else(|| line.error(format!("`{arg}` is no {} for {name}", kind.word())))?);
    }
    while line.words.first().is_some_and(|word| word.key.is_none()) {
        put_u64(out, line.next_number("an argument")?);
    }
    line.done()
}

/// The number on the wire of an argument as text.
fn wire(kind: ArgKind, arg: &str) -> Option<u64> {
    match kind {
        ArgKind::Fd | ArgKind::Value => arg.parse().ok().map(zigzag),
        ArgKind::Name(words) => {
            words.iter().position(|word| *word == arg).map(|index| index as u64).or_else(|| number(arg))
        }
        _ => number(arg),
    }
}

fn module(line: &mut Line) -> Result<Module, TextError> {
    let (start, end) = (line.next_number("its start")?, line.next_number("its end")?);
    let (bias, offset, path) = (line.number("bias")?, line.number("offset")?, line.text("path"));
    let digits = line.text("build_id");
    let byte =
        |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let build_id = digits.as_bytes().chunks(2).map(byte).collect::<Option<Vec<_>>>();
    let build_id = build_id.ok_or_else(|| line.error(format!("build id `{digits}` is not hexadecimal")))?;
    Ok(Module { start, end, bias, offset, path, build_id })
}

fn frame(mut line: Line) -> Result<Frame, TextError> {
    if line.next("`frame`")? != "frame" {
        return Err(line.error("a symbol is made of frames"));
    }
    let frame = Frame {
        function: line.next("its function")?,
        mangled: line.text("mangled"),
        file: line.text("file"),
        line: line.number("line")?,
        inlined: line.number::<u64>("inlined")? != 0,
    };
    line.done()?;
    Ok(frame)
}
