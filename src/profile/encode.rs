//! A profile as gzipped protobuf, the format of `go tool pprof` (see `proto/profile.proto`).
//!
//! A function's `name` is the demangled one and its `system_name` the mangled one: when the two are equal, pprof
//! takes the name for a C++ one and cuts `<T as Trait>::method` to `::method`. Each mapping says that it has its
//! functions, so that nobody tries to symbolize again.

use std::collections::HashMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{Label, LabelValue, Location, Profile, Sample, ValueType};
use crate::format::{Frame, Module};
use crate::wire::{put_bytes, put_u64};

impl Profile {
    /// The profile in pprof's format, compressed.
    pub fn encode(&self) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        match gzip.write_all(&self.encode_raw()).and_then(|()| gzip.finish()) {
            Ok(bytes) => bytes,
            Err(error) => unreachable!("writing to memory failed: {error}"),
        }
    }

    /// The profile in pprof's format, not compressed.
    pub fn encode_raw(&self) -> Vec<u8> {
        let mut tables = Tables::default();
        tables.text("");
        let mut out = Vec::new();
        for sample_type in &self.sample_types {
            let message = tables.value_type(sample_type);
            put_message(1, &message, &mut out);
        }
        for sample in &self.samples {
            let message = tables.sample(sample);
            put_message(2, &message, &mut out);
        }
        for (index, module) in self.mappings.iter().enumerate() {
            let message = tables.mapping(index, module);
            put_message(3, &message, &mut out);
        }
        for (index, location) in self.locations.iter().enumerate() {
            let message = tables.location(index, location);
            put_message(4, &message, &mut out);
        }
        for message in std::mem::take(&mut tables.functions) {
            put_message(5, &message, &mut out);
        }
        let period_type = tables.value_type(&self.period_type);
        let comments: Vec<u64> = self.comments.iter().map(|comment| tables.text(comment)).collect();
        let default_type = tables.text(&self.default_sample_type);
        for text in &tables.texts {
            put_message(6, text.as_bytes(), &mut out);
        }
        put_number(9, self.time_ns as u64, &mut out);
        put_number(10, self.duration_ns as u64, &mut out);
        put_message(11, &period_type, &mut out);
        put_number(12, self.period as u64, &mut out);
        put_packed(13, &comments, &mut out);
        put_number(14, default_type, &mut out);
        out
    }
}

/// Texts and functions by number.
#[derive(Default)]
struct Tables<'a> {
    text_ids: HashMap<String, u64>,
    texts: Vec<String>,
    function_ids: HashMap<(&'a str, &'a str, &'a str), u64>,
    /// The functions' messages, in the order of their numbers.
    functions: Vec<Vec<u8>>,
}

impl<'a> Tables<'a> {
    fn text(&mut self, text: &str) -> u64 {
        if let Some(&id) = self.text_ids.get(text) {
            return id;
        }
        let id = self.texts.len() as u64;
        self.text_ids.insert(text.to_owned(), id);
        self.texts.push(text.to_owned());
        id
    }

    fn value_type(&mut self, value_type: &ValueType) -> Vec<u8> {
        let mut out = Vec::new();
        put_number(1, self.text(&value_type.kind), &mut out);
        put_number(2, self.text(&value_type.unit), &mut out);
        out
    }

    fn sample(&mut self, sample: &Sample) -> Vec<u8> {
        let mut out = Vec::new();
        let locations: Vec<u64> = sample.locations.iter().map(|&location| u64::from(location) + 1).collect();
        put_packed(1, &locations, &mut out);
        let values: Vec<u64> = sample.values.iter().map(|&value| value as u64).collect();
        put_packed(2, &values, &mut out);
        for label in &sample.labels {
            put_message(3, &self.label(label), &mut out);
        }
        out
    }

    fn label(&mut self, label: &Label) -> Vec<u8> {
        let mut out = Vec::new();
        put_number(1, self.text(&label.key), &mut out);
        match &label.value {
            LabelValue::Text(text) => put_number(2, self.text(text), &mut out),
            LabelValue::Number(number, unit) => {
                put_number(3, *number as u64, &mut out);
                put_number(4, self.text(unit), &mut out);
            }
        }
        out
    }

    fn mapping(&mut self, index: usize, module: &Module) -> Vec<u8> {
        let mut out = Vec::new();
        put_number(1, index as u64 + 1, &mut out);
        put_number(2, module.start, &mut out);
        put_number(3, module.end, &mut out);
        put_number(4, module.offset, &mut out);
        put_number(5, self.text(&module.path), &mut out);
        let build_id: String = module.build_id.iter().map(|byte| format!("{byte:02x}")).collect();
        put_number(6, self.text(&build_id), &mut out);
        for has in 7..=10 {
            put_number(has, 1, &mut out);
        }
        out
    }

    fn location(&mut self, index: usize, location: &'a Location) -> Vec<u8> {
        let mut out = Vec::new();
        put_number(1, index as u64 + 1, &mut out);
        put_number(2, location.mapping.map_or(0, |mapping| u64::from(mapping) + 1), &mut out);
        put_number(3, location.address, &mut out);
        for frame in &location.frames {
            let mut line = Vec::new();
            put_number(1, self.function(frame), &mut line);
            put_number(2, u64::from(frame.line), &mut line);
            put_message(4, &line, &mut out);
        }
        out
    }

    fn function(&mut self, frame: &'a Frame) -> u64 {
        let key = (frame.function.as_str(), frame.mangled.as_str(), frame.file.as_str());
        if let Some(&id) = self.function_ids.get(&key) {
            return id;
        }
        let id = self.functions.len() as u64 + 1;
        let mut out = Vec::new();
        put_number(1, id, &mut out);
        put_number(2, self.text(&frame.function), &mut out);
        let system_name = if frame.mangled == frame.function { "" } else { &frame.mangled };
        put_number(3, self.text(system_name), &mut out);
        put_number(4, self.text(&frame.file), &mut out);
        self.function_ids.insert(key, id);
        self.functions.push(out);
        id
    }
}

/// A number, unless it is the default.
fn put_number(field: u64, number: u64, out: &mut Vec<u8>) {
    if number != 0 {
        put_u64(out, field << 3);
        put_u64(out, number);
    }
}

fn put_message(field: u64, message: &[u8], out: &mut Vec<u8>) {
    put_u64(out, field << 3 | 2);
    put_bytes(out, message);
}

fn put_packed(field: u64, numbers: &[u64], out: &mut Vec<u8>) {
    if numbers.is_empty() {
        return;
    }
    let mut packed = Vec::with_capacity(numbers.len());
    for &number in numbers {
        put_u64(&mut packed, number);
    }
    put_message(field, &packed, out);
}
