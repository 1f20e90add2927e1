//! A file to text: every section and event on a line of its own.
//!
//! What `parse` reads back is the same trace. Damage, and runs that break off, stand in comments where they were met.

use std::fmt::Write;

use super::words::quote;
use crate::events::{ArgKind, kind};
use crate::format::Symbol;
use crate::format::decode::Arity;
use crate::format::file::{File, Problem, Run};
use crate::wire::{Reader, WireError, unzigzag};

/// Tells what a file holds, in a fixed order: header, schema, runs, strings, stacks, modules, symbols, threads, end.
/// What is wrong with it stands in comments.
///
/// ```
/// # use kymo::format::{file::File, text};
/// let text = "header pid=7\nschema\nrun 1 normal base=5\n  9 PollBegin task=3\nend 20 events=1\n";
/// let bytes = text::parse(text)?;
/// assert_eq!(text::write(&File::parse(&bytes)?), text);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write(file: &File<'_>) -> String {
    let mut out = String::new();
    // Writing to a string can't fail.
    let _ = write_all(&mut out, file);
    out
}

fn write_all(out: &mut String, file: &File<'_>) -> std::fmt::Result {
    if !file.problems.contains(&Problem::NoHeader) {
        write_header(out, file)?;
    }
    write_schema(out, file)?;
    for run in &file.runs {
        write_run(out, run, &file.arity)?;
    }
    write_tables(out, file)?;
    for symbol in &file.symbols {
        write_symbol(out, symbol)?;
    }
    for info in &file.threads {
        writeln!(out, "thread {} tid={} name={}", info.thread.0, info.tid, info.name.0)?;
    }
    if let Some(end) = &file.end {
        write!(out, "end {}", end.end_ticks)?;
        numbers(out, &[("events", end.events), ("lost", end.lost)])?;
        out.push('\n');
    }
    file.problems.iter().try_for_each(|problem| writeln!(out, "# {problem}"))
}

/// The pairs whose number is not 0.
fn numbers(out: &mut String, pairs: &[(&str, u64)]) -> std::fmt::Result {
    pairs
        .iter()
        .filter(|(_, number)| *number != 0)
        .try_for_each(|(key, number)| write!(out, " {key}={number}"))
}

/// The pairs whose text is not empty.
fn texts(out: &mut String, pairs: &[(&str, &str)]) -> std::fmt::Result {
    pairs
        .iter()
        .filter(|(_, text)| !text.is_empty())
        .try_for_each(|(key, text)| write!(out, " {key}={}", quote(text)))
}

fn write_header(out: &mut String, file: &File<'_>) -> std::fmt::Result {
    let header = &file.header;
    out.push_str("header");
    texts(out, &[("writer", &header.writer), ("clock", &header.clock), ("program", &header.program)])?;
    let pairs = [
        ("pid", u64::from(header.pid)),
        ("start", header.start_ticks),
        ("start_monotonic_ns", header.start_monotonic_ns),
        ("start_realtime_ns", header.start_realtime_ns),
        ("wait_stack_ns", header.wait_stack_ns),
        ("call_stack_ns", header.call_stack_ns),
    ];
    numbers(out, &pairs)?;
    out.push('\n');
    for (word, pairs) in [("source", &header.sources), ("note", &header.notes)] {
        for (key, value) in pairs {
            writeln!(out, "{word} {} {}", quote(key), quote(value))?;
        }
    }
    Ok(())
}

/// `schema` alone stands for this version's own table; another one is told by its kinds and their numbers of
/// arguments.
fn write_schema(out: &mut String, file: &File<'_>) -> std::fmt::Result {
    out.push_str("schema\n");
    if file.arity == Arity::default() {
        return Ok(());
    }
    for id in 0..=u8::MAX {
        let Some(args) = file.arity.get(id) else { continue };
        let name = kind(id).map(|spec| spec.name).or(file.unknown_kinds.get(&id).map(String::as_str));
        writeln!(out, "  kind {id} {} args={args}", quote(name.unwrap_or_default()))?;
    }
    Ok(())
}

fn write_run(out: &mut String, run: &Run<'_>, arity: &Arity) -> std::fmt::Result {
    writeln!(out, "run {} {} base={}", run.head.thread.0, run.head.lane.word(), run.head.base_ticks)?;
    let mut reader = Reader::new(run.bytes);
    let mut ticks = run.head.base_ticks;
    while !reader.is_empty() {
        let offset = reader.offset();
        if let Err(error) = write_event(out, &mut reader, &mut ticks, arity) {
            return writeln!(out, "  # the events break off at offset {offset} of the run: {error}");
        }
    }
    Ok(())
}

/// An event read as numbers, so that arguments which only a newer version knows are told too.
fn write_event(
    out: &mut String,
    reader: &mut Reader<'_>,
    ticks: &mut u64,
    arity: &Arity,
) -> Result<(), WireError> {
    let offset = reader.offset();
    let id = reader.byte()?;
    *ticks = ticks.wrapping_add(reader.u64()?);
    let unknown = WireError::OutOfRange { offset, value: u64::from(id) };
    let args = (0..arity.get(id).ok_or(unknown)?).map(|_| reader.u64()).collect::<Result<Vec<_>, _>>()?;
    let spec = kind(id);
    let mut line = match spec {
        Some(spec) => format!("  {ticks} {}", spec.name),
        None => format!("  {ticks} kind{id}"),
    };
    for (index, &arg) in args.iter().enumerate() {
        let word = match spec.and_then(|spec| spec.args.get(index)) {
            Some((name, kind)) => format!(" {name}={}", value(*kind, arg)),
            None => format!(" {arg}"),
        };
        line.push_str(&word);
    }
    out.push_str(&line);
    out.push('\n');
    Ok(())
}

fn value(kind: ArgKind, arg: u64) -> String {
    match kind {
        ArgKind::Addr => format!("{arg:#x}"),
        ArgKind::Fd | ArgKind::Value => unzigzag(arg).to_string(),
        ArgKind::Name(words) => match usize::try_from(arg).ok().and_then(|index| words.get(index)) {
            Some(word) => (*word).to_owned(),
            None => arg.to_string(),
        },
        _ => arg.to_string(),
    }
}

fn write_tables(out: &mut String, file: &File<'_>) -> std::fmt::Result {
    let mut strings: Vec<_> = file.strings.iter().collect();
    strings.sort_unstable();
    for (id, text) in strings {
        writeln!(out, "string {} {}", id.0, quote(text))?;
    }
    let mut stacks: Vec<_> = file.stacks.iter().collect();
    stacks.sort_unstable();
    for (id, addresses) in stacks {
        write!(out, "stack {}", id.0)?;
        addresses.iter().try_for_each(|address| write!(out, " {address:#x}"))?;
        out.push('\n');
    }
    for module in &file.modules {
        write!(
            out,
            "module {:#x} {:#x} bias={:#x} offset={:#x}",
            module.start, module.end, module.bias, module.offset
        )?;
        let build_id: String = module.build_id.iter().map(|byte| format!("{byte:02x}")).collect();
        texts(out, &[("path", &module.path), ("build_id", &build_id)])?;
        out.push('\n');
    }
    Ok(())
}

fn write_symbol(out: &mut String, symbol: &Symbol) -> std::fmt::Result {
    writeln!(out, "symbol {:#x}", symbol.address)?;
    for frame in &symbol.frames {
        write!(out, "  frame {}", quote(&frame.function))?;
        texts(out, &[("mangled", &frame.mangled), ("file", &frame.file)])?;
        numbers(out, &[("line", u64::from(frame.line)), ("inlined", u64::from(frame.inlined))])?;
        out.push('\n');
    }
    Ok(())
}
