//! A program whose run and sleep pattern is known, and what it says itself of its threads.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kymo::analysis::on_cpu::OnCpu;
use kymo::events::{Group, Groups};
use kymo::model::{CpuSlice, Trace};
use kymo::record::session::{Capture, CaptureOptions};
use kymo::record::sink::{MemorySink, Offer, Sink};

/// What a thread has run while the capture ran, by its own CPU clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Truth {
    pub(crate) name: &'static str,
    pub(crate) ran: Duration,
}

/// Records everything while `work` runs.
pub(crate) fn record<R>(work: impl FnOnce() -> R) -> (R, Trace) {
    let (result, bytes) = record_bytes(Groups::ALL, work);
    let (trace, problems) = kymo::model::load::load(&bytes).unwrap();
    assert_eq!(problems, []);
    (result, trace)
}

pub(crate) fn record_bytes<R>(groups: Groups, work: impl FnOnce() -> R) -> (R, Vec<u8>) {
    let sink = MemorySink::new(256 << 20);
    let options = CaptureOptions { groups, cpu_hz: 0, sink: Box::new(sink.clone()), resolver: None };
    let capture = Capture::start(options).unwrap();
    let result = work();
    let progress = capture.stop();
    assert_eq!(progress.lost, 0);
    (result, sink.take())
}

/// Keeps the drain waiting while somebody holds the gate: then nobody reads rings.
struct Gated {
    sink: MemorySink,
    gate: Arc<Mutex<()>>,
}

impl Sink for Gated {
    fn offer(&mut self, sections: Vec<u8>) -> Offer {
        drop(self.gate.lock().unwrap());
        self.sink.offer(sections)
    }
}

/// Records switches while `work` runs and nobody reads them: the trace, and how many events were lost.
pub(crate) fn record_unread<R>(work: impl FnOnce() -> R) -> (R, Trace, u64) {
    let (sink, gate) = (MemorySink::new(256 << 20), Arc::new(Mutex::new(())));
    let groups = Groups::NONE.with(Group::Sched).with(Group::Thread);
    let gated = Gated { sink: sink.clone(), gate: gate.clone() };
    let options = CaptureOptions { groups, cpu_hz: 0, sink: Box::new(gated), resolver: None };
    let capture = Capture::start(options).unwrap();
    let held = gate.lock().unwrap();
    let result = work();
    drop(held);
    let lost = capture.stop().lost;
    let (trace, problems) = kymo::model::load::load(&sink.take()).unwrap();
    assert_eq!(problems, []);
    (result, trace, lost)
}

/// Two threads that wait for each other more often than a ring has room for.
pub(crate) fn hand_to_and_fro() -> Vec<Truth> {
    const TIMES: usize = 10_000;
    let (mut here, mut there) = UnixStream::pair().unwrap();
    let spawn = |name: &'static str, work: Box<dyn FnOnce() + Send>| {
        let named = std::thread::Builder::new().name(name.into());
        let thread = named.spawn(move || {
            work();
            cpu_clock()
        });
        (name, thread.unwrap())
    };
    let to = spawn(
        "to",
        Box::new(move || {
            for _ in 0..TIMES {
                here.write_all(b"!").unwrap();
                here.read_exact(&mut [0]).unwrap();
            }
        }),
    );
    let fro = spawn(
        "fro",
        Box::new(move || {
            for _ in 0..TIMES {
                there.read_exact(&mut [0]).unwrap();
                there.write_all(b"!").unwrap();
            }
        }),
    );
    [to, fro].into_iter().map(|(name, thread)| Truth { name, ran: thread.join().unwrap() }).collect()
}

/// Of this thread.
pub(crate) fn cpu_clock() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a live timespec, and a thread always has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

pub(crate) fn spin(time: Duration) {
    let until = cpu_clock() + time;
    while cpu_clock() < until {
        std::hint::spin_loop();
    }
}

/// Runs for `runs` and sleeps for `sleeps`, so many times; what it has run then.
fn alternate(times: u32, runs: Duration, sleeps: Duration) -> Duration {
    for _ in 0..times {
        spin(runs);
        std::thread::sleep(sleeps);
    }
    cpu_clock()
}

/// Threads that were there before, that are born in the capture, and that die in it; on few CPUs, so that some are preempted.
pub(crate) fn run_and_sleep() -> Vec<Truth> {
    let ms = Duration::from_millis;
    let patterns = [
        ("mostly-runs", 100, ms(8), ms(1)),
        ("half-half", 100, ms(4), ms(4)),
        ("mostly-sleeps", 100, ms(1), ms(6)),
    ];
    let born: Vec<_> = patterns
        .into_iter()
        .map(|(name, times, runs, sleeps)| {
            let named = std::thread::Builder::new().name(name.into());
            (name, named.spawn(move || alternate(times, runs, sleeps)).unwrap())
        })
        .collect();
    born.into_iter().map(|(name, thread)| Truth { name, ran: thread.join().unwrap() }).collect()
}

/// Within one percent, as the thread's name finds it.
pub(crate) fn assert_near(trace: &Trace, told: &[Option<OnCpu>], truth: Truth) {
    let index = trace.threads.iter().position(|thread| thread.name == truth.name);
    let told = Duration::from_nanos(told[index.expect(truth.name)].expect(truth.name).running);
    let error = told.abs_diff(truth.ran).as_secs_f64() / truth.ran.as_secs_f64();
    println!("{}: {told:?} told, {:?} ran, {:.3} %", truth.name, truth.ran, error * 100.0);
    assert!(error < 0.01, "{}: {told:?} told, {:?} ran", truth.name, truth.ran);
}

/// What the trace says of the source.
pub(crate) fn source(trace: &Trace) -> String {
    trace.info.sources.iter().find(|(name, _)| name == "sched").map(|(_, state)| state.clone()).unwrap()
}

/// When a thread of this name was on CPUs.
pub(crate) fn slices_of<'a>(trace: &'a Trace, name: &str) -> impl Iterator<Item = &'a CpuSlice> {
    let index = trace.threads.iter().position(|thread| thread.name == name).unwrap() as u32;
    trace.cpus.iter().filter(move |slice| slice.thread == index)
}

/// Descriptors, and mapped rings.
pub(crate) fn left_behind() -> (usize, usize) {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let rings = maps.lines().filter(|line| line.contains("perf_event")).count();
    (std::fs::read_dir("/proc/self/fd").unwrap().count(), rings)
}
