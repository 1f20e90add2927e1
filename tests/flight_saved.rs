//! The flight recorder saves snapshots by itself when something lasts too long, and when the program panics; few of them.

mod watched;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use kymo::events::Groups;
use kymo::limits::FLIGHT_PANIC_MS;
use kymo::model::Trace;
use kymo::model::load::load;
use kymo::record::session::{Capture, CaptureOptions};
use kymo::record::sink::{Offer, Sink};
use kymo::{FlightConfig, FlightError, FlightRecorder, Saving};
use tempfile::{TempDir, tempdir};
use watched::in_child;

fn flight(saving: Saving) -> FlightRecorder {
    let flight = FlightRecorder::new(FlightConfig { saving: Some(saving), ..FlightConfig::default() });
    flight.start().unwrap();
    flight
}

fn saved(directory: &TempDir) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory.path().join("snapshots")) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|kind| kind == "kymo"));
    paths.sort();
    paths
}

fn saving(directory: &TempDir) -> Saving {
    Saving { every: Duration::ZERO, ..Saving::to(directory.path().join("snapshots")) }
}

/// Waits until there is a snapshot; the drain sees what lasts a second later at most.
fn until_saved(directory: &TempDir) -> PathBuf {
    let begun = Instant::now();
    loop {
        if let Some(path) = saved(directory).pop() {
            return path;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "no snapshot was saved");
        std::thread::yield_now();
    }
}

fn trace(path: &Path) -> Trace {
    let (trace, problems) = load(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(problems, []);
    trace
}

fn is_named(path: &Path, why: &str) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    name.contains(&format!("-{}-", std::process::id())) && name.ends_with(&format!("-{why}.kymo"))
}

const LONG: Duration = Duration::from_millis(50);

#[test]
fn a_call_saves_few_files_that_are_the_owners_alone() {
    in_child(|| {
        let directory = tempdir().unwrap();
        let recorder = flight(Saving { most: 3, ..saving(&directory) });
        for number in 0..5 {
            kymo::counter!("number", number);
            let path = recorder.save("a slow/request").unwrap().unwrap();
            assert!(is_named(&path, "a-slow-request"), "{path:?}");
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            let values = trace(&path).counters[0].values.len() as i64;
            assert_eq!(values, number + 1);
        }
        assert_eq!(saved(&directory).len(), 3, "the latest are kept");
        let folder = std::fs::metadata(directory.path().join("snapshots")).unwrap();
        assert_eq!(folder.permissions().mode() & 0o777, 0o700);
        recorder.stop();
        let slow = flight(Saving { every: Duration::from_secs(60), ..saving(&directory) });
        assert!(slow.save("first").unwrap().is_some());
        assert_eq!(slow.save("too soon").unwrap(), None);
        slow.stop();
        let nowhere = FlightRecorder::new(FlightConfig::default());
        nowhere.start().unwrap();
        assert!(matches!(nowhere.save("x"), Err(FlightError::NoDirectory)));
    });
}

#[test]
fn a_directory_that_can_not_be_written_is_told_and_nothing_else_happens() {
    in_child(|| {
        let recorder = flight(Saving { every: Duration::ZERO, ..Saving::to("/proc/nowhere") });
        assert!(matches!(recorder.save("x"), Err(FlightError::Write(_))));
        let state =
            kymo::status::sources().into_iter().find(|(name, _)| name.ends_with("snapshots")).unwrap().1;
        assert!(state.starts_with("off: /proc/nowhere"), "{state}");
        assert!(recorder.snapshot().is_ok());
    });
}

#[test]
fn a_span_that_lasts_too_long_is_saved_and_one_that_does_not_is_not() {
    in_child(|| {
        let directory = tempdir().unwrap();
        let recorder = flight(Saving { long_span: Some(LONG), ..saving(&directory) });
        drop(kymo::span!("short"));
        recorder.snapshot().unwrap();
        let span = kymo::span!("long");
        std::thread::sleep(LONG + LONG);
        drop(span);
        let path = until_saved(&directory);
        assert!(is_named(&path, "span"), "{path:?}");
        let trace = trace(&path);
        assert!(trace.spans.iter().any(|span| trace.text(span.name) == "long"));
        assert_eq!(saved(&directory).len(), 1, "the short one was no news");
    });
}

#[test]
fn a_span_that_never_ends_is_saved_too() {
    in_child(|| {
        let directory = tempdir().unwrap();
        let _recorder = flight(Saving { long_span: Some(LONG), ..saving(&directory) });
        let _hangs = kymo::span!("hangs");
        assert!(is_named(&until_saved(&directory), "span"));
    });
}

#[test]
fn a_wait_inside_a_span_is_saved_and_one_of_a_thread_with_nothing_to_do_is_not() {
    in_child(|| {
        let directory = tempdir().unwrap();
        let recorder = flight(Saving { long_wait: Some(LONG), ..saving(&directory) });
        let wait = || {
            let (lock, never) = (std::sync::Mutex::new(()), std::sync::Condvar::new());
            drop(never.wait_timeout(lock.lock().unwrap(), LONG + LONG).unwrap());
        };
        wait();
        recorder.snapshot().unwrap();
        let _work = kymo::span!("work");
        wait();
        let path = until_saved(&directory);
        assert!(is_named(&path, "wait"));
        assert!(trace(&path).spans.len() == 1, "it was the second wait, inside the span");
    });
}

#[cfg(feature = "tokio")]
#[test]
fn a_poll_that_blocks_its_worker_is_saved() {
    in_child(|| {
        let directory = tempdir().unwrap();
        let _recorder = flight(Saving { long_poll: Some(LONG), ..saving(&directory) });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            kymo::spawn(async { std::thread::sleep(LONG + LONG) }).await.unwrap();
        });
        assert!(is_named(&until_saved(&directory), "poll"));
    });
}

#[test]
fn a_panic_is_saved_after_the_hook_that_was_there() {
    in_child(|| {
        let directory = tempdir().unwrap();
        static CALLED: AtomicU32 = AtomicU32::new(0);
        std::panic::set_hook(Box::new(|_| {
            CALLED.fetch_add(1, Ordering::Relaxed);
        }));
        let recorder = flight(Saving { on_panic: true, ..saving(&directory) });
        kymo::counter!("before", 1);
        let panicked = std::thread::spawn(|| panic!("planted")).join();
        assert!(panicked.is_err());
        assert_eq!(CALLED.load(Ordering::Relaxed), 1);
        let path = saved(&directory).pop().expect("it is saved before the thread goes on");
        assert!(is_named(&path, "panic"), "{path:?}");
        assert_eq!(trace(&path).counters[0].name, "before");
        recorder.stop();
        assert!(std::thread::spawn(|| panic!("planted")).join().is_err());
        assert_eq!(saved(&directory).len(), 1, "stopped, it saves nothing");
    });
}

/// Panics when the drain offers it something.
struct Panics;

impl Sink for Panics {
    fn offer(&mut self, _sections: Vec<u8>) -> Offer {
        panic!("planted, while the drain's lock is held")
    }

    fn finish(&mut self, _sections: Vec<u8>) -> Offer {
        Offer::Taken
    }
}

#[test]
fn a_panic_inside_kymo_is_not_saved_for_it_may_hold_the_locks_that_a_snapshot_takes() {
    in_child(|| {
        let directory = tempdir().unwrap();
        let recorder = flight(Saving { on_panic: true, ..saving(&directory) });
        let options =
            CaptureOptions { groups: Groups::ALL, cpu_hz: 0, sink: Box::new(Panics), resolver: None };
        let capture = Capture::start(options).unwrap();
        let begun = Instant::now();
        kymo::counter!("before", 1);
        recorder.snapshot().unwrap();
        assert!(capture.progress().closed);
        assert!(begun.elapsed() < Duration::from_millis(FLIGHT_PANIC_MS), "nobody waited for it");
        assert!(saved(&directory).is_empty());
    });
}
