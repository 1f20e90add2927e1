//! Reading a trace: events per second from bytes to the model, beside what the bytes alone cost.
//!
//! `cargo bench --bench read`. The trace is made by code: eight workers poll ten thousand tasks, which make calls, wait
//! for locks, wake each other and suspend, all at once, so that the events of the threads alternate as in a busy
//! service. Its floors are the same bytes read as numbers only, and decoded to events only. Time is the CPU's, as the
//! kernel counts it for this process: what other programs take of a shared machine does not count.

#![allow(unsafe_code, reason = "std has no clock of the CPU time")]

mod harness;

use std::hint::black_box;
use std::time::Duration;

use harness::figure;
use kymo::events::{
    Addr, Call, ClockSync, Count, Event, Fd, Nanos, PollBegin, PollEnd, PollOutcome, StackId, StrId,
    SyscallEnter, SyscallExit, TaskId, TaskSpawn, TaskSuspend, TaskWake, ThreadId, Value, WaitBegin, WaitEnd,
    WaitKind, WaitOutcome, Wake,
};
use kymo::format::file::File;
use kymo::format::{End, EventsHead, Header, Lane, encode};
use kymo::model::load::load;
use kymo::wire::{Cursor, EVENT_MAX, Reader};

const WORKERS: u32 = 8;
const TASKS: u64 = 10_000;
const EVENTS: u64 = 4_000_000;

/// Of the clock: 2.6 ticks a nanosecond.
const TICKS_PER_SECOND: u64 = 2_600_000_000;

/// Rounds of which the fastest counts: the machine is shared, and the work is the same each time.
const ROUNDS: usize = 7;

fn main() {
    let (bytes, events) = made();
    figure("bytes_per_event", bytes.len() as f64 / events as f64, "bytes");
    let per_second = |duration: Duration| events as f64 / duration.as_secs_f64();
    let [numbers, decoded, built] =
        fastest([&|| numbers_only(&bytes), &|| decode_only(&bytes, events), &|| build(&bytes, events)]);
    figure("read_numbers_events_per_s", per_second(numbers), "events/s");
    figure("decode_events_per_s", per_second(decoded), "events/s");
    figure("build_over_decode", built.as_secs_f64() / decoded.as_secs_f64(), "times");
    at_least("read_and_build_events_per_s", per_second(built), 10_000_000.0);
}

/// Prints a budget's line for a figure that must not be smaller.
fn at_least(name: &str, value: f64, limit: f64) {
    let word = if value >= limit { "ok" } else { "miss" };
    println!("budget {name} {value:.0} {limit} {word}");
}

/// The fastest round of each contender; they take turns.
fn fastest<const N: usize>(contenders: [&dyn Fn(); N]) -> [Duration; N] {
    let mut best = [Duration::MAX; N];
    for _ in 0..ROUNDS {
        for (contender, best) in contenders.iter().zip(&mut best) {
            let begin = cpu_time();
            contender();
            *best = (cpu_time() - begin).min(*best);
        }
    }
    best
}

/// What this process has taken of the CPU.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a live timespec, which is all that clock_gettime(2) asks for.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The floor of any reader: every number of every run, without knowing what it means.
fn numbers_only(bytes: &[u8]) {
    let file = File::parse(bytes).expect("it is whole");
    for run in &file.runs {
        let mut reader = Reader::new(run.bytes);
        while let Ok(number) = reader.u64() {
            black_box(number);
        }
    }
}

fn decode_only(bytes: &[u8], events: u64) {
    let file = File::parse(bytes).expect("it is whole");
    let mut seen = 0;
    for run in &file.runs {
        for stamped in file.events(run) {
            black_box(stamped.expect("it is whole"));
            seen += 1;
        }
    }
    assert_eq!(seen, events);
}

fn build(bytes: &[u8], events: u64) {
    let (trace, problems) = load(bytes).expect("it is whole");
    assert_eq!((trace.events(), problems.len()), (events, 0));
    black_box(&trace);
}

/// One thread's events on their way into the file.
struct Lane64K {
    thread: ThreadId,
    bytes: Vec<u8>,
    base_ticks: u64,
    latest: u64,
    events: u64,
}

impl Lane64K {
    fn new(thread: u32) -> Lane64K {
        Lane64K { thread: ThreadId(thread), bytes: Vec::new(), base_ticks: 0, latest: 0, events: 0 }
    }

    fn put(&mut self, out: &mut Vec<u8>, ticks: u64, event: impl Into<Event>) {
        if self.bytes.len() + EVENT_MAX > kymo::limits::CHUNK_BYTES {
            self.flush(out);
        }
        if self.bytes.is_empty() {
            (self.base_ticks, self.latest) = (ticks, ticks);
        }
        let mut room = [0; EVENT_MAX];
        let mut cursor = Cursor::new(&mut room);
        event.into().put(ticks - self.latest, &mut cursor);
        let len = cursor.len();
        self.bytes.extend_from_slice(&room[..len]);
        self.latest = ticks;
        self.events += 1;
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        let head = EventsHead { thread: self.thread, lane: Lane::Normal, base_ticks: self.base_ticks };
        encode::events(out, &head, &self.bytes);
        self.bytes.clear();
    }
}

/// A trace and its number of events.
fn made() -> (Vec<u8>, u64) {
    let mut out = Vec::new();
    encode::magic(&mut out);
    let start = TICKS_PER_SECOND;
    let header = Header { start_ticks: start, start_monotonic_ns: 1_000_000_000, ..Header::default() };
    encode::header(&mut out, &header);
    encode::schema(&mut out);
    let mut lanes: Vec<Lane64K> = (0..=WORKERS).map(Lane64K::new).collect();
    for task in 1..=TASKS {
        let spawn = TaskSpawn { task: TaskId(task), parent: TaskId(0), name: StrId(2), site: StrId(3) };
        lanes[1].put(&mut out, start + task, spawn);
    }
    let (mut ticks, mut second, mut turn) = (start + TASKS, 0, 0);
    while lanes.iter().map(|lane| lane.events).sum::<u64>() < EVENTS {
        let worker = 1 + turn as usize % WORKERS as usize;
        poll(&mut lanes[worker], &mut out, ticks + turn % 700, turn);
        turn += 1;
        ticks += 2_600;
        if ticks > start + second * TICKS_PER_SECOND {
            second += 1;
            let at = start + second * TICKS_PER_SECOND;
            let sync = ClockSync { monotonic: Nanos((1 + second) * 1_000_000_000), realtime: Nanos(0) };
            lanes[0].put(&mut out, at, sync);
        }
    }
    lanes.iter_mut().for_each(|lane| lane.flush(&mut out));
    encode::strings(&mut out, 2, ["handle_conn", "src/main.rs:7:5"].into_iter());
    let events = lanes.iter().map(|lane| lane.events).sum();
    encode::end(&mut out, &End { end_ticks: ticks + TICKS_PER_SECOND, events, lost: 0 });
    (out, events)
}

/// One poll of eight workers' worth of time: a call, now and then a lock, a wake of another task.
fn poll(lane: &mut Lane64K, out: &mut Vec<u8>, ticks: u64, turn: u64) {
    let task = TaskId(1 + turn.wrapping_mul(7_919) % TASKS);
    let woken = TaskId(1 + (turn + 40).wrapping_mul(7_919) % TASKS);
    let step = 2_600 * u64::from(WORKERS) / 8;
    let mut at = ticks.max(lane.latest);
    let mut put = |event: Event| {
        lane.put(out, at, event);
        at += step / 2 + turn % 97;
    };
    put(PollBegin { task }.into());
    put(SyscallEnter { call: Call::Recvfrom, fd: Fd(8 + (turn % 500) as i32) }.into());
    put(SyscallExit { result: Value((turn % 1_400) as i64 - 11), stack: StackId(0) }.into());
    if turn.is_multiple_of(4) {
        let addr = Addr(0x7f12_3456_0000 + turn % 64 * 8);
        put(WaitBegin { kind: WaitKind::Futex, addr }.into());
        put(WaitEnd { outcome: WaitOutcome::Woken, stack: StackId(0) }.into());
        put(Wake { addr, woken: Count(1), stack: StackId(0) }.into());
    }
    put(TaskWake { task: woken, stack: StackId(0) }.into());
    put(TaskSuspend { task, stack: StackId(2 + (turn % 300) as u32) }.into());
    put(PollEnd { outcome: PollOutcome::Pending }.into());
}
