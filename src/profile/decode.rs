//! A profile out of pprof's format: gzipped protobuf, or protobuf as it is.
//!
//! Bytes come from anywhere, so nothing is allocated on the word of a length that was not checked, and what unpacks
//! to more than [`PROFILE_BYTES`] is refused. References between the tables are resolved at the end, since messages
//! may come in any order; one that leads nowhere is an error.

use std::collections::HashMap;
use std::io::Read;

use flate2::read::GzDecoder;

use super::{Label, LabelValue, Location, Profile, Sample, ValueType};
use crate::format::{Frame, Module};
use crate::limits::PROFILE_BYTES;
use crate::wire::{Reader, WireError};

/// Why bytes are not a profile.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The compressed stream is damaged.
    #[error("the profile can't be unpacked: {0}")]
    Gzip(std::io::Error),
    /// It unpacks to too much.
    #[error("the profile unpacks to more than {PROFILE_BYTES} bytes")]
    TooLarge,
    /// A message can't be read.
    #[error("the profile is damaged: {0}")]
    Wire(#[from] WireError),
    /// A field has a wire type that protobuf no longer has.
    #[error("the profile is damaged: field {field} at offset {offset} has wire type {wire_type}")]
    WireType {
        /// Where in its message.
        offset: usize,
        /// The field's number.
        field: u64,
        /// What it says.
        wire_type: u64,
    },
    /// Something refers to an entry that does not exist.
    #[error("the profile refers to {table} {id}, which it does not have")]
    Missing {
        /// Which table.
        table: &'static str,
        /// Which entry.
        id: u64,
    },
}

impl Profile {
    /// Reads a profile, compressed or not.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Profile, DecodeError> {
        if !bytes.starts_with(&[0x1f, 0x8b]) {
            return decode_raw(bytes);
        }
        let mut raw = Vec::new();
        let mut unpacked = GzDecoder::new(bytes).take(PROFILE_BYTES as u64 + 1);
        unpacked.read_to_end(&mut raw).map_err(DecodeError::Gzip)?;
        match raw.len() > PROFILE_BYTES {
            true => Err(DecodeError::TooLarge),
            false => decode_raw(&raw),
        }
    }
}

/// A field's value, as far as the wire tells.
#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    fn number(self) -> u64 {
        match self {
            Value::Number(number) => number,
            Value::Bytes(_) => 0,
        }
    }

    fn bytes(self) -> &'a [u8] {
        match self {
            Value::Number(_) => &[],
            Value::Bytes(bytes) => bytes,
        }
    }

    /// One number, or several packed ones.
    fn numbers(self, into: &mut Vec<u64>) -> Result<(), DecodeError> {
        match self {
            Value::Number(number) => into.push(number),
            Value::Bytes(bytes) => {
                let mut reader = Reader::new(bytes);
                while !reader.is_empty() {
                    into.push(reader.u64()?);
                }
            }
        }
        Ok(())
    }
}

/// Calls `take` for each field of a message.
fn fields<'a>(
    message: &'a [u8],
    mut take: impl FnMut(u64, Value<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let mut reader = Reader::new(message);
    while !reader.is_empty() {
        let offset = reader.offset();
        let tag = reader.u64()?;
        let (field, wire_type) = (tag >> 3, tag & 7);
        let fixed =
            |reader: &mut Reader<'a>, bytes: usize| (0..bytes).try_for_each(|_| reader.byte().map(|_| ()));
        match wire_type {
            0 => take(field, Value::Number(reader.u64()?))?,
            2 => take(field, Value::Bytes(reader.bytes()?))?,
            // The format has no fixed-width fields: they are a newer writer's.
            1 => fixed(&mut reader, 8)?,
            5 => fixed(&mut reader, 4)?,
            _ => return Err(DecodeError::WireType { offset, field, wire_type }),
        }
    }
    Ok(())
}

/// The messages of a profile, not resolved yet.
#[derive(Default)]
struct Parts<'a> {
    sample_types: Vec<&'a [u8]>,
    samples: Vec<&'a [u8]>,
    mappings: Vec<&'a [u8]>,
    locations: Vec<&'a [u8]>,
    functions: Vec<&'a [u8]>,
    texts: Vec<&'a [u8]>,
    period_type: &'a [u8],
    comments: Vec<u64>,
    default_type: u64,
    profile: Profile,
}

fn decode_raw(bytes: &[u8]) -> Result<Profile, DecodeError> {
    let mut parts = Parts::default();
    fields(bytes, |field, value| {
        match field {
            1 => parts.sample_types.push(value.bytes()),
            2 => parts.samples.push(value.bytes()),
            3 => parts.mappings.push(value.bytes()),
            4 => parts.locations.push(value.bytes()),
            5 => parts.functions.push(value.bytes()),
            6 => parts.texts.push(value.bytes()),
            9 => parts.profile.time_ns = value.number() as i64,
            10 => parts.profile.duration_ns = value.number() as i64,
            11 => parts.period_type = value.bytes(),
            12 => parts.profile.period = value.number() as i64,
            13 => value.numbers(&mut parts.comments)?,
            14 => parts.default_type = value.number(),
            _ => {}
        }
        Ok(())
    })?;
    parts.resolve()
}

impl Parts<'_> {
    fn resolve(self) -> Result<Profile, DecodeError> {
        let mut profile = Profile { ..self.profile.clone() };
        for message in &self.sample_types {
            profile.sample_types.push(self.value_type(message)?);
        }
        profile.period_type = self.value_type(self.period_type)?;
        profile.default_sample_type = self.text(self.default_type)?;
        for &comment in &self.comments {
            profile.comments.push(self.text(comment)?);
        }
        let mut mapping_ids = HashMap::new();
        for (index, message) in self.mappings.iter().enumerate() {
            let (id, module) = self.mapping(message)?;
            mapping_ids.insert(id, index as u32);
            profile.mappings.push(module);
        }
        let mut functions = HashMap::new();
        for message in &self.functions {
            let (id, frame) = self.function(message)?;
            functions.insert(id, frame);
        }
        let mut location_ids = HashMap::new();
        for (index, message) in self.locations.iter().enumerate() {
            let (id, location) = self.location(message, &mapping_ids, &functions)?;
            location_ids.insert(id, index as u32);
            profile.locations.push(location);
        }
        for message in &self.samples {
            profile.samples.push(self.sample(message, &location_ids)?);
        }
        Ok(profile)
    }

    fn text(&self, id: u64) -> Result<String, DecodeError> {
        let missing = DecodeError::Missing { table: "string", id };
        match (usize::try_from(id).ok().and_then(|id| self.texts.get(id)), id) {
            (Some(text), _) => Ok(String::from_utf8_lossy(text).into_owned()),
            (None, 0) => Ok(String::new()),
            (None, _) => Err(missing),
        }
    }

    fn value_type(&self, message: &[u8]) -> Result<ValueType, DecodeError> {
        let mut value_type = ValueType::default();
        fields(message, |field, value| {
            match field {
                1 => value_type.kind = self.text(value.number())?,
                2 => value_type.unit = self.text(value.number())?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(value_type)
    }

    fn mapping(&self, message: &[u8]) -> Result<(u64, Module), DecodeError> {
        let (mut id, mut module) = (0, Module::default());
        fields(message, |field, value| {
            match field {
                1 => id = value.number(),
                2 => module.start = value.number(),
                3 => module.end = value.number(),
                4 => module.offset = value.number(),
                5 => module.path = self.text(value.number())?,
                6 => module.build_id = from_hex(&self.text(value.number())?),
                _ => {}
            }
            Ok(())
        })?;
        Ok((id, module))
    }

    fn function(&self, message: &[u8]) -> Result<(u64, Frame), DecodeError> {
        let (mut id, mut frame) = (0, Frame::default());
        fields(message, |field, value| {
            match field {
                1 => id = value.number(),
                2 => frame.function = self.text(value.number())?,
                3 => frame.mangled = self.text(value.number())?,
                4 => frame.file = self.text(value.number())?,
                _ => {}
            }
            Ok(())
        })?;
        Ok((id, frame))
    }

    fn location(
        &self,
        message: &[u8],
        mappings: &HashMap<u64, u32>,
        functions: &HashMap<u64, Frame>,
    ) -> Result<(u64, Location), DecodeError> {
        let (mut id, mut location) = (0, Location::default());
        fields(message, |field, value| {
            match field {
                1 => id = value.number(),
                2 => location.mapping = find("mapping", value.number(), mappings)?,
                3 => location.address = value.number(),
                4 => location.frames.push(line(value.bytes(), functions)?),
                _ => {}
            }
            Ok(())
        })?;
        // All but the outermost were inlined into the next one.
        let last = location.frames.len().saturating_sub(1);
        for frame in &mut location.frames[..last] {
            frame.inlined = true;
        }
        Ok((id, location))
    }

    fn sample(&self, message: &[u8], locations: &HashMap<u64, u32>) -> Result<Sample, DecodeError> {
        let (mut sample, mut ids, mut values) = (Sample::default(), Vec::new(), Vec::new());
        fields(message, |field, value| {
            match field {
                1 => value.numbers(&mut ids)?,
                2 => value.numbers(&mut values)?,
                3 => sample.labels.push(self.label(value.bytes())?),
                _ => {}
            }
            Ok(())
        })?;
        for id in ids {
            sample.locations.push(*locations.get(&id).ok_or(DecodeError::Missing { table: "location", id })?);
        }
        sample.values = values.into_iter().map(|value| value as i64).collect();
        Ok(sample)
    }

    fn label(&self, message: &[u8]) -> Result<Label, DecodeError> {
        let (mut key, mut text, mut number, mut unit) = (String::new(), 0, 0, String::new());
        fields(message, |field, value| {
            match field {
                1 => key = self.text(value.number())?,
                2 => text = value.number(),
                3 => number = value.number() as i64,
                4 => unit = self.text(value.number())?,
                _ => {}
            }
            Ok(())
        })?;
        let value = match text {
            0 if number != 0 || !unit.is_empty() => LabelValue::Number(number, unit),
            text => LabelValue::Text(self.text(text)?),
        };
        Ok(Label { key, value })
    }
}

fn line(message: &[u8], functions: &HashMap<u64, Frame>) -> Result<Frame, DecodeError> {
    let (mut id, mut line) = (0, 0);
    fields(message, |field, value| {
        match field {
            1 => id = value.number(),
            2 => line = value.number(),
            _ => {}
        }
        Ok(())
    })?;
    let function = functions.get(&id).ok_or(DecodeError::Missing { table: "function", id })?;
    Ok(Frame { line: u32::try_from(line).unwrap_or(0), ..function.clone() })
}

/// The index that an id stands for; 0 is none.
fn find(table: &'static str, id: u64, indices: &HashMap<u64, u32>) -> Result<Option<u32>, DecodeError> {
    match (id, indices.get(&id)) {
        (0, _) => Ok(None),
        (_, Some(&index)) => Ok(Some(index)),
        (_, None) => Err(DecodeError::Missing { table, id }),
    }
}

/// Bytes from hexadecimal digits; a build id that is not written so is kept as its text.
fn from_hex(text: &str) -> Vec<u8> {
    let pair = |index: usize| u8::from_str_radix(text.get(index..index + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(pair).collect();
    bytes.unwrap_or_else(|| text.as_bytes().to_vec())
}
