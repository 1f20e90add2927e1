//! A trace's reader that is slow, stopped or asleep costs events, which are counted, and the traced program nothing.

#![allow(unsafe_code, reason = "mkfifo(3), kill(2), getrusage(2)")]

mod watched;

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kymo::events::{Counter, Group, Groups, StrId, Value};
use kymo::record::file::FileSink;
use kymo::record::session::{Capture, CaptureOptions};
use kymo::record::sink::{MemorySink, Sink};
use watched::in_child;

const USER: Groups = Groups::NONE.with(Group::User);

/// More than a stalled pipe and what waits before it may hold.
const EVENTS: i64 = 5_000_000;

/// How often a thread may give up its core in 5000 requests: page faults may make it. One that waits for a reader would
/// do so in each of them, or not come back at all.
const SWITCHES: i64 = 50;

fn start(sink: Box<dyn Sink>) -> Capture {
    Capture::start(CaptureOptions { groups: USER, cpu_hz: 0, sink, resolver: None }).unwrap()
}

fn count(value: i64) {
    kymo::record::emit(Counter { name: StrId(0), value: Value(value) });
}

fn fifo(path: &Path) {
    let name = CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: a string that lives for the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
}

/// A request of some microseconds records fifty events: of a thousand, how long the tenth longest takes. The best of
/// five rounds, since anything else on the machine only adds.
fn p99() -> Duration {
    let request = |_| {
        let begun = Instant::now();
        for number in 0..50 {
            count(number);
            black_box((0..100).fold(number, |sum, step| sum.rotate_left(3) ^ black_box(step)));
        }
        begun.elapsed()
    };
    let round = |_| {
        let mut took: Vec<Duration> = (0..1000).map(request).collect();
        took.sort_unstable();
        took[989]
    };
    (0..5).map(round).min().unwrap()
}

/// How often this thread has given up its core so far, of its own accord: what waiting is, on a machine of any load.
fn switches() -> i64 {
    // SAFETY: numbers that are zero.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: it lives for the call.
    assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_THREAD, &mut usage) }, 0);
    usage.ru_nvcsw
}

/// The program's p99 beside a capture whose reader stalls, and beside one whose reader doesn't: told, since on a busy
/// machine they are the machine's; asserted is that the program does not wait.
fn check(stalled: Capture) {
    (0..EVENTS).for_each(count);
    let before = switches();
    let beside_stalled = p99();
    let waited = switches() - before;
    let stopping = Instant::now();
    let progress = stalled.stop();
    assert!(stopping.elapsed() < Duration::from_secs(5), "stopping waits {:?}", stopping.elapsed());
    assert!(progress.lost > 0, "what its reader did not take is counted");
    assert!(progress.events + progress.lost > EVENTS as u64, "emitted is kept plus lost: {progress:?}");
    let good = start(Box::new(MemorySink::new(256 << 20)));
    let beside_good = p99();
    drop(good);
    eprintln!("p99 beside a stalled reader {beside_stalled:?}, beside a good one {beside_good:?}");
    assert!(waited <= SWITCHES, "the program has waited {waited} times");
}

#[test]
fn g2_stalled_sink_a_pipe_that_nobody_reads() {
    in_child(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        fifo(&path);
        let refused = FileSink::create(&path).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ENXIO), "without a reader it does not wait for one");
        let _open: File = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        check(start(Box::new(FileSink::create(&path).unwrap())));
    });
}

#[test]
fn g2_stalled_sink_a_pipe_of_a_kilobyte_a_second() {
    in_child(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        fifo(&path);
        let mut slow = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        let sink = FileSink::create(&path).unwrap();
        let capture = start(Box::new(sink));
        std::thread::spawn(move || {
            while slow.read(&mut [0; 100]).is_ok() {
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        check(capture);
    });
}

/// A process that reads a pipe, stopped by SIGSTOP.
struct Stopped(Child);

impl Stopped {
    fn reading(path: &Path) -> Stopped {
        let cat = Command::new("cat").arg(path).stdout(Stdio::null()).spawn().unwrap();
        Stopped(cat)
    }

    fn stop(&self) {
        // SAFETY: signals our own child.
        assert_eq!(unsafe { libc::kill(self.0.id() as i32, libc::SIGSTOP) }, 0);
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The sink, as soon as somebody reads.
fn until_read(path: &Path) -> FileSink {
    loop {
        match FileSink::create(path) {
            Ok(sink) => return sink,
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ENXIO)),
        }
        std::thread::yield_now();
    }
}

#[test]
fn g2_stalled_sink_a_reader_that_is_stopped() {
    in_child(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        fifo(&path);
        let reader = Stopped::reading(&path);
        let sink = until_read(&path);
        reader.stop();
        check(start(Box::new(sink)));
    });
}

#[test]
fn g3_consumer_dies_a_pipe_whose_reader_is_killed_ends_the_capture_and_not_the_program() {
    in_child(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        fifo(&path);
        // As in a C program: Rust ignores it.
        // SAFETY: sets a disposition, not a handler.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        let reader = Stopped::reading(&path);
        let capture = start(Box::new(until_read(&path)));
        drop(reader);
        while !capture.progress().closed {
            (0..10_000).for_each(count);
            std::thread::yield_now();
        }
        let sources = kymo::status::sources();
        let (_, state) = sources.iter().find(|(name, _)| name == "trace file").unwrap();
        assert!(state.contains("Broken pipe"), "{state}");
    });
}
