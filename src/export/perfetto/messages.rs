//! The part of Perfetto's schema that is written rarely, as derived messages; `proto/perfetto.proto` says the same in
//! its own language.
//!
//! Field numbers are upstream's and never change there. What is written for each event (the packet's frame, its
//! track event) is not here: [`packets`](super::packets) writes those bytes by hand, since a derived message costs
//! four times as much.

use prost::Message;

/// `TracePacket`, without the fields of a track event.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Packet {
    #[prost(message, optional, tag = "6")]
    pub(super) clock_snapshot: Option<ClockSnapshot>,
    #[prost(uint32, optional, tag = "10")]
    pub(super) sequence: Option<u32>,
    #[prost(uint32, optional, tag = "13")]
    pub(super) sequence_flags: Option<u32>,
    #[prost(message, optional, tag = "45")]
    pub(super) system_info: Option<SystemInfo>,
    #[prost(message, optional, tag = "59")]
    pub(super) defaults: Option<PacketDefaults>,
    #[prost(message, optional, tag = "60")]
    pub(super) track: Option<TrackDescriptor>,
    #[prost(message, optional, tag = "89")]
    pub(super) trace_uuid: Option<TraceUuid>,
    #[prost(message, optional, tag = "126")]
    pub(super) attributes: Option<TraceAttributes>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ClockSnapshot {
    #[prost(message, repeated, tag = "1")]
    pub(super) clocks: Vec<Clock>,
    #[prost(uint32, optional, tag = "2")]
    pub(super) primary: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Clock {
    #[prost(uint32, tag = "1")]
    pub(super) id: u32,
    /// Written even when it is 0: a clock without a reading is an error to the importer.
    #[prost(uint64, optional, tag = "2")]
    pub(super) timestamp: Option<u64>,
    #[prost(bool, tag = "3")]
    pub(super) incremental: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SystemInfo {
    #[prost(message, optional, tag = "1")]
    pub(super) utsname: Option<Utsname>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Utsname {
    #[prost(string, tag = "1")]
    pub(super) sysname: String,
    #[prost(string, tag = "3")]
    pub(super) release: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PacketDefaults {
    #[prost(message, optional, tag = "11")]
    pub(super) track_event: Option<TrackEventDefaults>,
    #[prost(message, optional, tag = "12")]
    pub(super) sample: Option<SampleDefaults>,
    #[prost(uint32, tag = "58")]
    pub(super) clock: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TrackEventDefaults {
    #[prost(uint64, tag = "11")]
    pub(super) track: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SampleDefaults {
    #[prost(message, optional, tag = "1")]
    pub(super) timebase: Option<Timebase>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Timebase {
    #[prost(uint64, tag = "1")]
    pub(super) period: u64,
    /// 3: a task's clock.
    #[prost(int32, tag = "4")]
    pub(super) counter: i32,
    #[prost(string, tag = "10")]
    pub(super) name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TrackDescriptor {
    #[prost(uint64, optional, tag = "1")]
    pub(super) uuid: Option<u64>,
    #[prost(string, optional, tag = "2")]
    pub(super) name: Option<String>,
    #[prost(message, optional, tag = "3")]
    pub(super) process: Option<ProcessDescriptor>,
    #[prost(message, optional, tag = "4")]
    pub(super) thread: Option<ThreadDescriptor>,
    #[prost(uint64, optional, tag = "5")]
    pub(super) parent: Option<u64>,
    #[prost(message, optional, tag = "8")]
    pub(super) counter: Option<CounterDescriptor>,
    #[prost(enumeration = "ChildOrdering", optional, tag = "11")]
    pub(super) child_ordering: Option<i32>,
    #[prost(int32, optional, tag = "12")]
    pub(super) rank: Option<i32>,
    #[prost(string, optional, tag = "14")]
    pub(super) description: Option<String>,
    #[prost(enumeration = "SiblingMerge", optional, tag = "15")]
    pub(super) merge: Option<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum ChildOrdering {
    Unknown = 0,
    Name = 1,
    Time = 2,
    Rank = 3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum SiblingMerge {
    Unspecified = 0,
    ByName = 1,
    Never = 2,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ProcessDescriptor {
    #[prost(int32, tag = "1")]
    pub(super) pid: i32,
    #[prost(string, tag = "6")]
    pub(super) name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ThreadDescriptor {
    #[prost(int32, tag = "1")]
    pub(super) pid: i32,
    #[prost(int64, tag = "2")]
    pub(super) tid: i64,
    #[prost(string, tag = "5")]
    pub(super) name: String,
}

/// Says that a track is a counter; its unit is the user's, so none is named.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct CounterDescriptor {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct InternedData {
    #[prost(message, repeated, tag = "1")]
    pub(super) categories: Vec<Name>,
    #[prost(message, repeated, tag = "2")]
    pub(super) events: Vec<Name>,
    #[prost(message, repeated, tag = "3")]
    pub(super) args: Vec<Name>,
    #[prost(message, repeated, tag = "5")]
    pub(super) functions: Vec<Text>,
    #[prost(message, repeated, tag = "6")]
    pub(super) frames: Vec<Frame>,
    #[prost(message, repeated, tag = "7")]
    pub(super) callstacks: Vec<Callstack>,
    #[prost(message, repeated, tag = "16")]
    pub(super) build_ids: Vec<Text>,
    #[prost(message, repeated, tag = "17")]
    pub(super) mapping_paths: Vec<Text>,
    #[prost(message, repeated, tag = "18")]
    pub(super) source_paths: Vec<Text>,
    #[prost(message, repeated, tag = "19")]
    pub(super) mappings: Vec<Mapping>,
    #[prost(message, repeated, tag = "20")]
    pub(super) messages: Vec<Name>,
    #[prost(message, repeated, tag = "29")]
    pub(super) texts: Vec<Text>,
}

/// `EventName`, `EventCategory`, `DebugAnnotationName` and `LogMessageBody` are the same on the wire.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Name {
    #[prost(uint64, tag = "1")]
    pub(super) iid: u64,
    #[prost(string, tag = "2")]
    pub(super) name: String,
}

/// `InternedString`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Text {
    #[prost(uint64, tag = "1")]
    pub(super) iid: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) text: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Mapping {
    #[prost(uint64, tag = "1")]
    pub(super) iid: u64,
    #[prost(uint64, tag = "2")]
    pub(super) build_id: u64,
    #[prost(uint64, tag = "4")]
    pub(super) start: u64,
    #[prost(uint64, tag = "5")]
    pub(super) end: u64,
    #[prost(uint64, tag = "6")]
    pub(super) load_bias: u64,
    #[prost(uint64, repeated, packed = "false", tag = "7")]
    pub(super) path: Vec<u64>,
    #[prost(uint64, tag = "8")]
    pub(super) offset: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Frame {
    #[prost(uint64, tag = "1")]
    pub(super) iid: u64,
    #[prost(uint64, tag = "2")]
    pub(super) function: u64,
    #[prost(uint64, optional, tag = "3")]
    pub(super) mapping: Option<u64>,
    #[prost(uint64, optional, tag = "4")]
    pub(super) rel_pc: Option<u64>,
    #[prost(uint64, optional, tag = "5")]
    pub(super) source_path: Option<u64>,
    #[prost(uint32, optional, tag = "6")]
    pub(super) line: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Callstack {
    #[prost(uint64, tag = "1")]
    pub(super) iid: u64,
    /// Outermost first.
    #[prost(uint64, repeated, packed = "false", tag = "2")]
    pub(super) frames: Vec<u64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct TraceUuid {
    #[prost(int64, tag = "1")]
    pub(super) msb: i64,
    #[prost(int64, tag = "2")]
    pub(super) lsb: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TraceAttributes {
    #[prost(message, repeated, tag = "1")]
    pub(super) attributes: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Attribute {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(int64, optional, tag = "2")]
    pub(super) number: Option<i64>,
    #[prost(string, optional, tag = "3")]
    pub(super) text: Option<String>,
}
