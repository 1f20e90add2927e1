//! Tracks: what they are called, where they stand, and the packets that say so.
//!
//! Their ids are small numbers in the order of creation, since each event of many tracks repeats one.

use super::Export;
use super::messages::{
    Attribute, ChildOrdering, Clock, ClockSnapshot, CounterDescriptor, Packet, ProcessDescriptor,
    SiblingMerge, SystemInfo, ThreadDescriptor, TraceAttributes, TraceUuid, TrackDescriptor, Utsname,
};
use super::packets::{MONOTONIC, put_packet};
use crate::limits::PERFETTO_TASK_TRACKS;
use crate::model::{Task, Thread};

/// The process's track.
pub(super) const PROCESS: u64 = 1;
/// The tracks that group tasks, spans, user tasks and counters.
const TASKS: u64 = 2;
const USER_TASKS: u64 = 3;
const COUNTERS: u64 = 4;
const FIRST_FREE: u64 = 5;

/// The sequence of everything that is written once.
const MAIN: u32 = 1;
/// Perfetto's own number of CLOCK_REALTIME.
const REALTIME: u32 = 1;

/// Ids of tracks and sequences.
#[derive(Debug)]
pub(super) struct Tracks {
    pub(super) start_monotonic: u64,
    sequences: u32,
    tracks: u64,
}

impl Tracks {
    pub(super) fn new(start_monotonic: u64) -> Tracks {
        Tracks { start_monotonic, sequences: MAIN, tracks: FIRST_FREE }
    }

    pub(super) fn next_sequence(&mut self) -> u32 {
        self.sequences += 1;
        self.sequences
    }

    fn next_track(&mut self) -> u64 {
        self.tracks += 1;
        self.tracks - 1
    }
}

/// Writes what comes before the first event: clocks, attributes, the process, the groups.
pub(super) fn describe(export: &mut Export<'_, '_>) {
    let info = &export.trace.info;
    let clock = |id, timestamp| Clock { id, timestamp: Some(timestamp), incremental: false };
    let clocks = vec![clock(MONOTONIC, info.start_monotonic_ns), clock(REALTIME, info.start_realtime_ns)];
    put(
        Packet { clock_snapshot: Some(ClockSnapshot { clocks, primary: Some(MONOTONIC) }), ..main(3) },
        export,
    );
    let note = |name: &str| info.notes.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    if let Some(release) = note("kernel") {
        let utsname = Some(Utsname { sysname: "Linux".into(), release });
        put(Packet { system_info: Some(SystemInfo { utsname }), ..main(2) }, export);
    }
    let uuid = TraceUuid { msb: info.start_realtime_ns as i64, lsb: i64::from(info.pid) << 32 | 0x6b79_6d6f };
    put(Packet { trace_uuid: Some(uuid), ..main(2) }, export);
    put(Packet { attributes: Some(attributes(export)), ..main(2) }, export);
    let process = ProcessDescriptor { pid: info.pid as i32, name: info.program.clone() };
    track(TrackDescriptor { process: Some(process), ..blank(PROCESS) }, export);
    if !export.trace.tasks.is_empty() {
        group(TASKS, "Tasks", ChildOrdering::Rank, export);
    }
    if export.trace.spans.iter().any(|span| span.user_task) {
        group(USER_TASKS, "User tasks", ChildOrdering::Time, export);
    }
    if !export.trace.counters.is_empty() {
        group(COUNTERS, "Counters", ChildOrdering::Name, export);
    }
}

fn attributes(export: &Export<'_, '_>) -> TraceAttributes {
    let (trace, info) = (export.trace, &export.trace.info);
    let text = |key: &str, text: &str| Attribute { key: key.into(), number: None, text: Some(text.into()) };
    let number =
        |key: &str, number: u64| Attribute { key: key.into(), number: Some(number as i64), text: None };
    let mut attributes = vec![
        text("kymo.writer", &info.writer),
        text("kymo.program", &info.program),
        number("kymo.events", trace.events()),
        number("kymo.lost", trace.lost()),
        number("kymo.duration_ns", info.duration_ns),
        number("kymo.complete", u64::from(info.complete)),
        number("kymo.wait_stack_ns", info.wait_stack_ns),
        number("kymo.call_stack_ns", info.call_stack_ns),
    ];
    attributes.extend(info.sources.iter().map(|(name, state)| text(&format!("kymo.source.{name}"), state)));
    attributes.extend(info.notes.iter().map(|(name, value)| text(&format!("kymo.note.{name}"), value)));
    TraceAttributes { attributes }
}

/// Writes a thread's track, and gives its id.
pub(super) fn thread(thread: &Thread, name: &str, export: &mut Export<'_, '_>) -> u64 {
    let uuid = export.tracks.next_track();
    let descriptor = match thread.tid {
        // The kernel's number is not known (and 0 would be the kernel's idle thread): a plain track of the process.
        0 => TrackDescriptor { name: Some(name.into()), parent: Some(PROCESS), ..blank(uuid) },
        tid => TrackDescriptor {
            thread: Some(ThreadDescriptor {
                pid: export.trace.info.pid as i32,
                tid: tid as i64,
                name: name.into(),
            }),
            ..blank(uuid)
        },
    };
    track(descriptor, export);
    uuid
}

/// Writes a track below another one, and gives its id.
pub(super) fn child(parent: u64, name: &str, export: &mut Export<'_, '_>) -> u64 {
    let uuid = export.tracks.next_track();
    track(TrackDescriptor { name: Some(name.into()), parent: Some(parent), ..blank(uuid) }, export);
    uuid
}

/// Writes a task's track, and gives its id. Above [`PERFETTO_TASK_TRACKS`] tasks, those of one name share rows.
pub(super) fn task(index: usize, task: &Task, name: &str, export: &mut Export<'_, '_>) -> u64 {
    let uuid = export.tracks.next_track();
    let (name, merge) = match export.trace.tasks.len() > PERFETTO_TASK_TRACKS {
        true => (name.to_owned(), SiblingMerge::ByName),
        false => (format!("{name} #{}", task.id.0), SiblingMerge::Never),
    };
    let descriptor = TrackDescriptor {
        name: Some(name),
        parent: Some(TASKS),
        rank: Some(index as i32),
        description: (!task.site.is_empty()).then(|| format!("spawned at {}", task.site)),
        merge: Some(merge as i32),
        ..blank(uuid)
    };
    track(descriptor, export);
    uuid
}

/// Writes a user task's track, and gives its id. Those of one name share rows.
pub(super) fn user_task(name: &str, export: &mut Export<'_, '_>) -> u64 {
    child(USER_TASKS, name, export)
}

/// Writes a counter's track, and gives its id.
pub(super) fn counter(name: &str, export: &mut Export<'_, '_>) -> u64 {
    let uuid = export.tracks.next_track();
    let counter = Some(CounterDescriptor {});
    track(
        TrackDescriptor { name: Some(name.into()), parent: Some(COUNTERS), counter, ..blank(uuid) },
        export,
    );
    uuid
}

fn group(uuid: u64, name: &str, order: ChildOrdering, export: &mut Export<'_, '_>) {
    let child_ordering = Some(order as i32);
    track(
        TrackDescriptor { name: Some(name.into()), parent: Some(PROCESS), child_ordering, ..blank(uuid) },
        export,
    );
}

fn blank(uuid: u64) -> TrackDescriptor {
    TrackDescriptor { uuid: Some(uuid), ..TrackDescriptor::default() }
}

fn main(flags: u32) -> Packet {
    Packet { sequence: Some(MAIN), sequence_flags: Some(flags), ..Packet::default() }
}

fn track(track: TrackDescriptor, export: &mut Export<'_, '_>) {
    put(Packet { track: Some(track), ..main(2) }, export);
}

fn put(packet: Packet, export: &mut Export<'_, '_>) {
    put_packet(&packet, &mut export.out.raw);
}
