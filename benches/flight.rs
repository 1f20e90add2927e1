//! What the flight recorder costs while nobody looks: events with it on against the bare loop of a clock read and a store,
//! and what the drain and a snapshot take.
//!
//! `cargo bench --bench flight`. The recorder is full and turns all the time: that is how it spends its life.

#![allow(unsafe_code, reason = "rdtsc")]

mod harness;

use std::hint::black_box;
use std::time::{Duration, Instant};

use harness::{budget, compare, fast, figure};
use kymo::events::{Addr, Counter, Groups, StrId, Value, WaitBegin, WaitKind};
use kymo::record::emit;
use kymo::{FlightConfig, FlightRecorder, Saving};

/// Of one batch: long enough that a batch's two clock reads don't count.
const OPERATIONS: u32 = 20_000;

const SNAPSHOTS: usize = 50;

/// The clock that events are stamped with, and nothing else.
#[inline(always)]
fn stamp() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86_64 CPU has the instruction.
    return unsafe { core::arch::x86_64::_rdtsc() };
    #[cfg(not(target_arch = "x86_64"))]
    kymo::clock::ticks()
}

/// The floor: read the clock, store it.
fn floor(operations: u32) {
    let mut buffer = [0u64; 1024];
    for index in 0..operations as usize {
        buffer[index % 1024] = stamp();
        black_box(&mut buffer);
    }
}

/// An event with a 48-bit pointer, the longest of the frequent kinds.
fn wait_begins(operations: u32) {
    for _ in 0..operations {
        emit(WaitBegin { kind: WaitKind::Futex, addr: black_box(Addr(0x7f12_3456_7890)) });
    }
}

fn counters(operations: u32) {
    for index in 0..i64::from(operations) {
        emit(Counter { name: StrId(2), value: Value(black_box(index)) });
    }
}

fn main() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    measure("flight", FlightConfig::default());
    measure(
        "flight_with_file",
        FlightConfig { file: Some(folder.path().join("ring")), ..FlightConfig::default() },
    );
    let second = Some(Duration::from_secs(1));
    let saving =
        Saving { long_poll: second, long_wait: second, long_span: second, ..Saving::to(folder.path()) };
    measure("flight_watching", FlightConfig { saving: Some(saving), ..FlightConfig::default() });
}

fn measure(name: &str, config: FlightConfig) {
    let flight = FlightRecorder::new(FlightConfig { groups: Groups::ALL, ..config });
    flight.start().expect("nothing else records");
    let (cpu_before, lost_before) = (drain_cpu_ns(), lost());
    let mut emitted = 0;
    let mut waits = |operations| {
        emitted += u64::from(operations);
        wait_begins(operations);
    };
    let (mut floor, mut counters) = (floor, counters);
    let [floor, waits, counters] = compare(OPERATIONS, [&mut floor, &mut waits, &mut counters]);
    let drained_ns = drain_cpu_ns() - cpu_before;
    budget(&format!("{name}_event_over_floor"), waits / floor, 1.35);
    budget(&format!("{name}_counter_over_floor"), counters / floor, 1.35);
    figure(&format!("{name}_drain_cpu_per_event"), drained_ns / (2 * emitted) as f64, "ns");
    figure(&format!("{name}_events_lost"), (lost() - lost_before) as f64, "events");
    snapshots(name, &flight);
    flight.stop();
}

fn lost() -> u64 {
    kymo::record::usage().lost.iter().sum()
}

/// A full ring's snapshot, names of functions left out; Go's took 147 ms for a ring of 1 MiB.
fn snapshots(name: &str, flight: &FlightRecorder) {
    let mut bytes = 0;
    let took = (0..SNAPSHOTS).map(|_| {
        let begun = Instant::now();
        bytes = flight.snapshot().expect("it runs").len();
        begun.elapsed()
    });
    let took = fast(took.collect());
    figure(&format!("{name}_snapshot"), took.as_secs_f64() * 1e3, "ms");
    figure(&format!("{name}_snapshot_bytes"), bytes as f64, "bytes");
}

/// CPU time of kymo's own thread so far.
fn drain_cpu_ns() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux has it").flatten();
    let own = tasks.filter(|task| {
        std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim_end() == "kymo-drain")
    });
    let schedstat = own.filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok());
    schedstat.filter_map(|times| times.split(' ').next()?.parse::<f64>().ok()).sum()
}
