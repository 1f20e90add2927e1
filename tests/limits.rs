//! Cases of too much: threads, shapes, little memory. What recording takes stays below its bound, and what found no room is
//! counted.

#![allow(unsafe_code, reason = "setrlimit(2)")]

mod watched;

use std::sync::Barrier;
use std::thread;

use kymo::events::{Counter, Event, Group, Groups, StackId, StrId, Value};
use kymo::format::file::File;
use kymo::limits::MEMORY_BYTES;
use kymo::record::session::{Capture, CaptureError, CaptureOptions, Progress};
use kymo::record::sink::MemorySink;
use kymo::record::{self, Usage, usage};
use watched::in_child;

const USER: Groups = Groups::NONE.with(Group::User);

fn start() -> Result<(Capture, MemorySink), CaptureError> {
    let sink = MemorySink::new(128 << 20);
    let options = CaptureOptions { groups: USER, cpu_hz: 0, sink: Box::new(sink.clone()), resolver: None };
    Ok((Capture::start(options)?, sink))
}

fn count(value: i64) {
    record::emit(Counter { name: StrId(0), value: Value(value) });
}

fn counted(bytes: &[u8]) -> u64 {
    let file = File::parse(bytes).unwrap();
    let events = file.runs.iter().flat_map(|run| file.events(run)).flatten();
    events.filter(|stamped| matches!(stamped.event, Event::Counter(_))).count() as u64
}

/// Bytes of this process in memory, or mapped, by the field of `/proc/self/status`.
fn memory(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_start_matches(':').split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024
}

/// The most memory that so many threads take, all alive, each with a few events.
fn of_threads(threads: usize, events: u64) -> usize {
    let (together, begin) = (Barrier::new(threads + 1), Barrier::new(threads + 1));
    thread::scope(|scope| {
        for _ in 0..threads {
            let work = || {
                begin.wait();
                (0..events).for_each(|event| count(event as i64));
                together.wait();
                together.wait();
            };
            thread::Builder::new().stack_size(64 * 1024).spawn_scoped(scope, work).unwrap();
        }
        begin.wait();
        together.wait();
        let resident = memory("VmRSS");
        together.wait();
        resident
    })
}

#[test]
fn b4_ten_thousand_threads() {
    const THREADS: usize = 10_000;
    const EVENTS: u64 = 20;
    in_child(|| {
        let without = of_threads(THREADS, EVENTS);
        let (capture, sink) = start().unwrap();
        let with = of_threads(THREADS, EVENTS);
        let Usage { chunk_bytes, .. } = usage();
        let Progress { lost, .. } = capture.stop();
        let trace = sink.take();
        assert!(chunk_bytes <= MEMORY_BYTES, "{chunk_bytes} bytes of chunks");
        let took = with.saturating_sub(without);
        assert!(took <= MEMORY_BYTES + trace.len(), "{took} bytes more with recording");
        assert_eq!(counted(&trace) + lost, THREADS as u64 * EVENTS, "what is not kept is counted");
    });
}

/// One of two functions for each binary digit: a stack of its own for each number.
#[inline(never)]
fn zero(number: u32, digits: u32) -> StackId {
    std::hint::black_box(next(number, digits))
}

#[inline(never)]
fn one(number: u32, digits: u32) -> StackId {
    std::hint::black_box(next(number, digits))
}

fn next(number: u32, digits: u32) -> StackId {
    match (digits, number & 1) {
        (0, _) => record::stack(),
        (_, 0) => zero(number >> 1, digits - 1),
        (_, _) => one(number >> 1, digits - 1),
    }
}

#[test]
fn g5_shape_explosion() {
    const DIGITS: u32 = 17;
    in_child(|| {
        let (capture, sink) = start().unwrap();
        let before = memory("VmRSS");
        let stacks = (0..1 << DIGITS).map(|number| next(number, DIGITS));
        let without_room = stacks.filter(|&stack| stack == StackId::OVERFLOW).count() as u64;
        let names = (0..1_000_000).map(|number| record::string(&format!("name {number}")));
        let nameless = names.filter(|&name| name == StrId::OVERFLOW).count() as u64;
        let took = memory("VmRSS").saturating_sub(before);
        let usage = usage();
        assert!(without_room > 0 && nameless > 0, "{usage:?}");
        assert_eq!((usage.stacks_overflowed, usage.strings_overflowed), (without_room, nameless));
        assert_eq!(u64::from(usage.stacks) + without_room, 1 << DIGITS, "each is kept or counted");
        assert!(took <= MEMORY_BYTES, "{took} bytes");
        capture.stop();
        assert!(File::parse(&sink.take()).unwrap().end.is_some());
    });
}

/// Lets this process map so many bytes more.
fn allow_more(bytes: usize) {
    let most = (memory("VmSize") + bytes) as libc::rlim_t;
    let limit = libc::rlimit { rlim_cur: most, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` is a live struct of the kind that setrlimit(2) reads.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
}

#[test]
fn g6_tiny_cgroup() {
    in_child(|| {
        allow_more(MEMORY_BYTES / 2);
        let refused = start().map(drop).expect_err("there is not enough for the chunks");
        assert!(refused.to_string().contains("memory"), "{refused}");
        count(1);
        // Later there is enough: nothing of the attempt is left in the way.
        allow_more(4 * MEMORY_BYTES);
        let (capture, sink) = start().unwrap();
        count(2);
        capture.stop();
        assert_eq!(counted(&sink.take()), 1);
    });
}
