//! Sections written: each function appends one whole section to a buffer.
//!
//! Payloads are varints, texts and lists of them (see `wire`); FORMAT.md has each layout. A list is a count, then its
//! items; every item of a table is a length-prefixed record, so that newer writers can add fields at its end.

use std::collections::HashMap;

use super::{End, EventsHead, Frame, Header, MAGIC, MARK, Module, Section, Symbol, ThreadInfo, VERSION};
use crate::events::{ArgKind, KINDS};
use crate::wire::{put_bytes, put_u64};

/// Appends the magic: the first bytes of a file.
pub fn magic(out: &mut Vec<u8>) {
    out.extend_from_slice(&MAGIC);
}

/// Appends a section whose payload `write` appends.
pub fn section(out: &mut Vec<u8>, kind: Section, write: impl FnOnce(&mut Vec<u8>)) {
    let head = out.len();
    out.extend_from_slice(&MARK);
    out.extend_from_slice(&[kind as u8, VERSION, 0, 0]);
    out.extend_from_slice(&[0; 8]);
    let payload = out.len();
    write(out);
    let length = (out.len() - payload) as u32;
    out[head + 8..head + 12].copy_from_slice(&length.to_le_bytes());
    let checksum = checksum(&out[head + 4..head + 12], &out[payload..]);
    out[head + 12..payload].copy_from_slice(&checksum.to_le_bytes());
}

/// CRC-32C over type, version, length and payload.
pub(super) fn checksum(type_and_length: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(type_and_length), payload)
}

/// Appends the header.
pub fn header(out: &mut Vec<u8>, header: &Header) {
    section(out, Section::Header, |out| {
        put_text(out, &header.writer);
        put_text(out, &header.clock);
        put_u64(out, u64::from(header.pid));
        put_text(out, &header.program);
        put_u64(out, header.start_ticks);
        put_u64(out, header.start_monotonic_ns);
        put_u64(out, header.start_realtime_ns);
        put_u64(out, header.wait_stack_ns);
        put_u64(out, header.call_stack_ns);
        for pairs in [&header.sources, &header.notes] {
            put_list(out, pairs, |out, (key, value)| {
                put_text(out, key);
                put_text(out, value);
            });
        }
    });
}

/// Appends the table of event kinds, so that readers of other versions can step over what they don't know.
pub fn schema(out: &mut Vec<u8>) {
    section(out, Section::Schema, |out| {
        put_list(out, KINDS, |out, spec| {
            out.push(spec.id);
            put_text(out, spec.name);
            put_text(out, spec.group.word());
            put_list(out, spec.args, |out, (name, kind)| {
                put_text(out, name);
                put_text(out, kind.word());
                let words: &[&str] = if let ArgKind::Name(words) = kind { words } else { &[] };
                put_list(out, words, |out, word| put_text(out, word));
            });
        });
    });
}

/// Appends a schema as another version may write it: number, name and number of arguments of each kind.
pub fn foreign_schema(out: &mut Vec<u8>, kinds: &[(u8, String, u8)]) {
    section(out, Section::Schema, |out| {
        put_list(out, kinds, |out, (id, name, args)| {
            out.push(*id);
            put_text(out, name);
            put_text(out, "");
            put_list(out, &vec![(); usize::from(*args)], |out, ()| {
                put_text(out, "");
                put_text(out, "");
                put_u64(out, 0);
            });
        });
    });
}

/// Appends a run of events, as a chunk holds them.
pub fn events(out: &mut Vec<u8>, head: &EventsHead, bytes: &[u8]) {
    section(out, Section::Events, |out| {
        put_u64(out, u64::from(head.thread.0));
        out.push(head.lane as u8);
        put_u64(out, head.base_ticks);
        out.extend_from_slice(bytes);
    });
}

/// Appends strings with ids from `first` on.
pub fn strings<'a>(out: &mut Vec<u8>, first: u32, texts: impl ExactSizeIterator<Item = &'a str>) {
    section(out, Section::Strings, |out| {
        put_u64(out, u64::from(first));
        put_u64(out, texts.len() as u64);
        for text in texts {
            put_text(out, text);
        }
    });
}

/// Appends stacks with ids from `first` on, addresses leaf first.
pub fn stacks<'a>(out: &mut Vec<u8>, first: u32, stacks: impl ExactSizeIterator<Item = &'a [u64]>) {
    section(out, Section::Stacks, |out| {
        put_u64(out, u64::from(first));
        put_u64(out, stacks.len() as u64);
        for addresses in stacks {
            put_u64(out, addresses.len() as u64);
            for &address in addresses {
                put_u64(out, address);
            }
        }
    });
}

/// Appends the mapped objects.
pub fn modules(out: &mut Vec<u8>, modules: &[Module]) {
    section(out, Section::Modules, |out| {
        put_list(out, modules, |out, module| {
            put_u64(out, module.start);
            put_u64(out, module.end);
            put_u64(out, module.bias);
            put_u64(out, module.offset);
            put_text(out, &module.path);
            put_bytes(out, &module.build_id);
        });
    });
}

/// Appends what addresses mean. Names and paths, which repeat a lot, are a table of texts that frames refer to.
pub fn symbols(out: &mut Vec<u8>, symbols: &[Symbol]) {
    let mut texts: Vec<&str> = Vec::new();
    let mut index: HashMap<&str, u64> = HashMap::new();
    for frame in symbols.iter().flat_map(|symbol| &symbol.frames) {
        for text in [&frame.function, &frame.mangled, &frame.file] {
            index.entry(text).or_insert_with(|| {
                texts.push(text);
                texts.len() as u64 - 1
            });
        }
    }
    section(out, Section::Symbols, |out| {
        put_list(out, &texts, |out, text| put_text(out, text));
        put_list(out, symbols, |out, symbol| {
            put_u64(out, symbol.address);
            put_list(out, &symbol.frames, |out, frame| put_frame(out, frame, &index));
        });
    });
}

fn put_frame(out: &mut Vec<u8>, frame: &Frame, texts: &HashMap<&str, u64>) {
    for text in [&frame.function, &frame.mangled, &frame.file] {
        put_u64(out, texts[text.as_str()]);
    }
    put_u64(out, u64::from(frame.line));
    put_u64(out, u64::from(frame.inlined));
}

/// Appends the threads that have events.
pub fn threads(out: &mut Vec<u8>, threads: &[ThreadInfo]) {
    section(out, Section::Threads, |out| {
        put_list(out, threads, |out, info| {
            put_u64(out, u64::from(info.thread.0));
            put_u64(out, info.tid);
            put_u64(out, u64::from(info.name.0));
        });
    });
}

/// Appends the end mark.
pub fn end(out: &mut Vec<u8>, end: &End) {
    section(out, Section::End, |out| {
        put_u64(out, end.end_ticks);
        put_u64(out, end.events);
        put_u64(out, end.lost);
    });
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

/// A count, then each item as a length-prefixed record.
fn put_list<T>(out: &mut Vec<u8>, items: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    put_u64(out, items.len() as u64);
    let mut record = Vec::new();
    for item in items {
        record.clear();
        write(&mut record, item);
        put_bytes(out, &record);
    }
}
