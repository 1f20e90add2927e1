//! Packets as bytes: one for each event, written by hand, and the sequences that they stand on.
//!
//! A [`Sequence`] is what Perfetto calls a packet sequence: a clock, a default track and the names told so far. On a
//! thread's sequence a time is the difference to the previous packet's, so events must come in order; a sequence for
//! many tracks counts from the trace's start instead, and takes them in any order.

use prost::Message;

use super::intern::{Arg, Category, Dictionary, Known, TextId};
use super::messages::{
    Clock, ClockSnapshot, Packet, PacketDefaults, SampleDefaults, Timebase, TrackEventDefaults,
};
use crate::events::StackId;
use crate::model::Ns;
use crate::wire::put_u64;

/// `TrackEvent.Type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Begin = 1,
    Instant = 3,
}

/// A slice's or an instant's argument.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value {
    Number(i64),
    Address(u64),
    Text(TextId),
    True,
}

/// How an event takes part in a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    None,
    Begins(u64),
    Ends(u64),
}

/// A slice's begin, or an instant.
#[derive(Debug, Clone, Copy)]
pub(super) struct TrackEvent<'a> {
    pub(super) of: Type,
    pub(super) name: TextId,
    pub(super) category: Category,
    /// The same number is the same colour everywhere; 0 leaves the colour to the name.
    pub(super) correlation: u64,
    pub(super) flow: Flow,
    pub(super) stack: StackId,
    pub(super) args: &'a [(Arg, Value)],
    /// Arguments that the user named.
    pub(super) fields: &'a [(TextId, TextId)],
    pub(super) message: Option<TextId>,
}

impl<'a> TrackEvent<'a> {
    pub(super) fn new(of: Type, category: Category, name: TextId) -> TrackEvent<'a> {
        let (flow, stack) = (Flow::None, StackId(0));
        TrackEvent { of, name, category, correlation: 0, flow, stack, args: &[], fields: &[], message: None }
    }
}

/// Where a thread was on a CPU.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) cpu: u32,
    pub(super) pid: u32,
    pub(super) tid: u32,
    pub(super) stack: StackId,
}

/// `GenericKernelTaskStateEvent.TaskStateEnum`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TaskState {
    Runnable = 2,
    Running = 3,
    Sleeping = 4,
}

/// The sequence's clocks: nanoseconds since the previous packet, and since the trace's start.
const SINCE_PREVIOUS: u32 = 64;
const SINCE_START: u32 = 65;
/// Perfetto's own number of CLOCK_MONOTONIC.
pub(super) const MONOTONIC: u32 = 3;
/// `SEQ_INCREMENTAL_STATE_CLEARED | SEQ_NEEDS_INCREMENTAL_STATE`.
const FIRST: u32 = 3;
/// `SEQ_NEEDS_INCREMENTAL_STATE`.
const NEXT: u32 = 2;

/// `Trace.packet`, the tag of every packet.
pub(super) const PACKET: u8 = 0x0a;

/// One packet sequence. See the module's head.
#[derive(Debug)]
pub(super) struct Sequence {
    id: u32,
    /// When the previous packet was; none on a sequence that counts from the start.
    previous: Option<Ns>,
    known: Known,
}

impl Sequence {
    /// Begins a sequence whose events come in order, all on one track.
    pub(super) fn in_order(id: u32, track: u64, start_monotonic: u64, out: &mut Vec<u8>) -> Sequence {
        let clock = Clock { id: SINCE_PREVIOUS, timestamp: Some(start_monotonic), incremental: true };
        begin_sequence(id, clock, start_monotonic, out);
        let sequence = Sequence { id, previous: Some(0), known: Known::default() };
        sequence.defaults(track, SINCE_PREVIOUS, out);
        sequence
    }

    /// Begins a sequence whose events come in any order.
    pub(super) fn any_order(id: u32, start_monotonic: u64, out: &mut Vec<u8>) -> Sequence {
        let clock = Clock { id: SINCE_START, timestamp: Some(0), incremental: false };
        begin_sequence(id, clock, start_monotonic, out);
        Sequence { id, previous: None, known: Known::default() }
    }

    /// From now on events are of this track: only for a sequence that takes them in any order.
    pub(super) fn switch_to(&mut self, track: u64, out: &mut Vec<u8>) {
        self.defaults(track, SINCE_START, out);
    }

    /// From now on CPU samples stand for so many nanoseconds each: as [`Sequence::switch_to`].
    pub(super) fn sample_each(&mut self, period: u64, out: &mut Vec<u8>) {
        let timebase = Timebase { period, counter: 3, name: "cpu".into() };
        let sample = Some(SampleDefaults { timebase: Some(timebase) });
        self.put_defaults(PacketDefaults { track_event: None, sample, clock: SINCE_START }, out);
    }

    fn defaults(&self, track: u64, clock: u32, out: &mut Vec<u8>) {
        let track_event = Some(TrackEventDefaults { track });
        self.put_defaults(PacketDefaults { track_event, sample: None, clock }, out);
    }

    fn put_defaults(&self, defaults: PacketDefaults, out: &mut Vec<u8>) {
        let packet = Packet {
            sequence: Some(self.id),
            sequence_flags: Some(NEXT),
            defaults: Some(defaults),
            ..Packet::default()
        };
        put_packet(&packet, out);
    }

    /// Begins a slice, or marks an instant.
    #[inline]
    pub(super) fn event(
        &mut self,
        at: Ns,
        event: &TrackEvent<'_>,
        dictionary: &mut Dictionary<'_>,
        out: &mut Vec<u8>,
    ) {
        let packet = self.open_packet(at, out);
        out.push(0x5a); // track_event
        let body = reserve(out);
        out.extend_from_slice(&[0x48, event.of as u8]);
        self.put_head(event, dictionary, out);
        for &(arg, value) in event.args {
            dictionary.tell_arg(arg, &mut self.known);
            self.put_arg(arg.iid(), value, dictionary, out);
        }
        for &(key, value) in event.fields {
            let key = dictionary.tell_key(key, &mut self.known);
            self.put_arg(key, Value::Text(value), dictionary, out);
        }
        if let Some(message) = event.message {
            self.put_message(message, dictionary, out);
        }
        fill(body, out);
        self.put_fresh(out);
        fill(packet, out);
    }

    /// A thread was on a CPU.
    pub(super) fn sample(
        &mut self,
        at: Ns,
        sample: &Sample,
        dictionary: &mut Dictionary<'_>,
        out: &mut Vec<u8>,
    ) {
        let packet = self.open_packet(at, out);
        out.extend_from_slice(&[0x92, 0x04]); // perf_sample
        let body = reserve(out);
        for (tag, value) in [(0x08, sample.cpu), (0x10, sample.pid), (0x18, sample.tid)] {
            out.push(tag);
            put_u64(out, u64::from(value));
        }
        if let Some(stack) = dictionary.tell_stack(sample.stack, &mut self.known) {
            out.push(0x20); // callstack_iid
            put_u64(out, stack);
        }
        out.extend_from_slice(&[0x28, 2]); // cpu_mode: user
        fill(body, out);
        self.put_fresh(out);
        fill(packet, out);
    }

    /// What the kernel has a thread do from `at` on.
    pub(super) fn task_state(&mut self, at: Ns, cpu: u32, tid: u64, state: TaskState, out: &mut Vec<u8>) {
        let packet = self.open_packet(at, out);
        out.extend_from_slice(&[0xaa, 0x07]); // generic_kernel_task_state_event
        let body = reserve(out);
        for (tag, value) in [(0x08, u64::from(cpu)), (0x18, tid), (0x20, state as u64)] {
            out.push(tag);
            put_u64(out, value);
        }
        fill(body, out);
        fill(packet, out);
    }

    #[inline]
    fn put_fresh(&mut self, out: &mut Vec<u8>) {
        if let Some(fresh) = self.known.fresh() {
            out.push(0x62); // interned_data
            put_u64(out, fresh.encoded_len() as u64);
            fresh.encode_raw(out);
        }
    }

    /// Ends the innermost slice of the track.
    #[inline]
    pub(super) fn end(&mut self, at: Ns, out: &mut Vec<u8>) {
        let packet = self.open_packet(at, out);
        out.extend_from_slice(&[0x5a, 2, 0x48, 2]);
        fill(packet, out);
    }

    /// Gives a counter's value.
    pub(super) fn count(&mut self, at: Ns, value: i64, out: &mut Vec<u8>) {
        let packet = self.open_packet(at, out);
        out.push(0x5a);
        let body = reserve(out);
        out.extend_from_slice(&[0x48, 4, 0xf0, 0x01]); // type, counter_value
        put_u64(out, value as u64);
        fill(body, out);
        fill(packet, out);
    }

    #[inline]
    fn open_packet(&mut self, at: Ns, out: &mut Vec<u8>) -> usize {
        let stamp = match &mut self.previous {
            Some(previous) => {
                debug_assert!(at >= *previous, "events of a thread's sequence come in order");
                at.saturating_sub(std::mem::replace(previous, at.max(*previous)))
            }
            None => at,
        };
        out.push(PACKET);
        let packet = reserve(out);
        out.push(0x40); // timestamp
        put_u64(out, stamp);
        out.push(0x50); // trusted_packet_sequence_id
        put_u64(out, u64::from(self.id));
        out.extend_from_slice(&[0x68, NEXT as u8]);
        packet
    }

    #[inline]
    fn put_head(&mut self, event: &TrackEvent<'_>, dictionary: &mut Dictionary<'_>, out: &mut Vec<u8>) {
        dictionary.tell_category(event.category, &mut self.known);
        out.extend_from_slice(&[0x18, event.category.iid() as u8]); // category_iids
        dictionary.tell_name(event.name, &mut self.known);
        out.push(0x50); // name_iid
        put_u64(out, event.name.iid());
        if event.correlation != 0 {
            out.extend_from_slice(&[0xa0, 0x03]); // correlation_id
            put_u64(out, event.correlation);
        }
        match event.flow {
            Flow::None => {}
            Flow::Begins(id) => put_fixed(&[0xf9, 0x02], id, out),
            Flow::Ends(id) => put_fixed(&[0x81, 0x03], id, out),
        }
        if let Some(stack) = dictionary.tell_stack(event.stack, &mut self.known) {
            out.extend_from_slice(&[0xc0, 0x03]); // callstack_iid
            put_u64(out, stack);
        }
    }

    #[inline]
    fn put_arg(&mut self, name: u64, value: Value, dictionary: &Dictionary<'_>, out: &mut Vec<u8>) {
        out.push(0x22); // debug_annotations
        let arg = reserve(out);
        out.push(0x08); // name_iid
        put_u64(out, name);
        match value {
            Value::Number(number) => {
                out.push(0x20);
                put_u64(out, number as u64);
            }
            Value::Address(address) => {
                out.push(0x38);
                put_u64(out, address);
            }
            Value::Text(text) => {
                dictionary.tell_text(text, &mut self.known);
                out.extend_from_slice(&[0x88, 0x01]); // string_value_iid
                put_u64(out, text.iid());
            }
            Value::True => out.extend_from_slice(&[0x10, 1]),
        }
        fill(arg, out);
    }

    fn put_message(&mut self, text: TextId, dictionary: &Dictionary<'_>, out: &mut Vec<u8>) {
        dictionary.tell_message(text, &mut self.known);
        out.extend_from_slice(&[0xaa, 0x01]); // log_message
        let message = reserve(out);
        out.push(0x10); // body_iid
        put_u64(out, text.iid());
        out.extend_from_slice(&[0x18, 4]); // prio: info
        fill(message, out);
    }
}

fn begin_sequence(id: u32, clock: Clock, start_monotonic: u64, out: &mut Vec<u8>) {
    let monotonic = Clock { id: MONOTONIC, timestamp: Some(start_monotonic), incremental: false };
    let packet = Packet {
        sequence: Some(id),
        sequence_flags: Some(FIRST),
        clock_snapshot: Some(ClockSnapshot { clocks: vec![monotonic, clock], primary: None }),
        ..Packet::default()
    };
    put_packet(&packet, out);
}

/// Appends a packet that is written rarely.
pub(super) fn put_packet(packet: &Packet, out: &mut Vec<u8>) {
    out.push(PACKET);
    put_u64(out, packet.encoded_len() as u64);
    packet.encode_raw(out);
}

#[inline]
fn put_fixed(tag: &[u8], value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(tag);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Leaves a byte for a length that is not known yet.
#[inline]
fn reserve(out: &mut Vec<u8>) -> usize {
    out.push(0);
    out.len()
}

/// Fills in the length of what follows `from`; a length above 127 takes more than the byte that was left for it.
#[inline]
fn fill(from: usize, out: &mut Vec<u8>) {
    let len = out.len() - from;
    match len < 0x80 {
        true => out[from - 1] = len as u8,
        false => widen(from, len, out),
    }
}

#[cold]
fn widen(from: usize, len: usize, out: &mut Vec<u8>) {
    let mut length = Vec::new();
    put_u64(&mut length, len as u64);
    out.splice(from - 1..from, length);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_any_size_precedes_what_it_measures() {
        for len in [0, 1, 127, 128, 129, 16_383, 16_384, 100_000] {
            let mut out = vec![7];
            let from = reserve(&mut out);
            out.extend(std::iter::repeat_n(9, len));
            fill(from, &mut out);
            let mut reader = crate::wire::Reader::new(&out[1..]);
            assert_eq!(reader.bytes().unwrap().len(), len);
            assert!(reader.is_empty());
        }
    }
}
