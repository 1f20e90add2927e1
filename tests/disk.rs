//! Disks that are full, read-only or gone, and limits on files: what was written stays valid, the capture ends with the
//! reason, and the program goes on.

#![allow(unsafe_code, reason = "setrlimit(2), unshare(2), mount(2)")]

mod watched;

use std::ffi::CString;
use std::path::Path;
use std::time::Duration;

use kymo::events::{Counter, Group, Groups, StrId, Value};
use kymo::format::file::{File, Problem};
use kymo::limits::FLIGHT_LEAST_BYTES;
use kymo::record::file::FileSink;
use kymo::record::session::{Capture, CaptureOptions};
use kymo::{FlightConfig, FlightError, FlightRecorder, Saving};
use watched::in_child;

const USER: Groups = Groups::NONE.with(Group::User);

fn capture_to(path: &Path) -> Capture {
    let sink = Box::new(FileSink::create(path).unwrap());
    Capture::start(CaptureOptions { groups: USER, cpu_hz: 0, sink, resolver: None }).unwrap()
}

/// Emits until the capture has ended.
fn fill(capture: &Capture) {
    while !capture.progress().closed {
        (0..20_000).for_each(count);
        std::thread::yield_now();
    }
    assert!(
        !kymo::record::enabled(Group::User) || captures() == 0,
        "nothing is recorded any more, nothing spins"
    );
}

fn captures() -> usize {
    kymo::record::usage().captures
}

fn count(value: i64) {
    kymo::record::emit(Counter { name: StrId(0), value: Value(value) });
}

fn state(of: &str) -> String {
    let sources = kymo::status::sources();
    sources.into_iter().find(|(name, _)| name == of).map(|(_, state)| state).unwrap_or_default()
}

/// What a file holds whose end could not be written: events, and no damage but the cut.
fn valid_prefix(path: &Path) -> usize {
    let bytes = std::fs::read(path).unwrap();
    let file = File::parse(&bytes).unwrap();
    let is_cut = |problem: &Problem| matches!(problem, Problem::Truncated { .. } | Problem::Unfinished);
    assert!(file.problems.iter().all(is_cut), "{:?}", file.problems);
    file.runs.iter().map(|run| file.events(run).count()).sum()
}

/// A file system of 1 MiB of this process's own; false where mounts are not allowed.
fn mounted(at: &Path, options: &str, flags: libc::c_ulong) -> bool {
    let text = |text: &str| CString::new(text).unwrap();
    let (none, kind, at) = (text("none"), text("tmpfs"), text(at.to_str().unwrap()));
    let (root, options) = (text("/"), text(options));
    // SAFETY: this child is its own, and has one thread that uses files.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        return false;
    }
    let (private, nothing) = (libc::MS_REC | libc::MS_PRIVATE, std::ptr::null());
    // SAFETY: the strings live for the call.
    if unsafe { libc::mount(none.as_ptr(), root.as_ptr(), nothing, private, nothing.cast()) } != 0 {
        return false;
    }
    // SAFETY: the strings live for the call.
    unsafe { libc::mount(none.as_ptr(), at.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast()) == 0 }
}

#[test]
fn g4_disk_faults_a_full_disk_keeps_what_fits() {
    in_child(|| {
        let folder = tempfile::tempdir().unwrap();
        if !mounted(folder.path(), "size=1m", 0) {
            return eprintln!("skipped: mounts are not allowed here");
        }
        let path = folder.path().join("t.kymo");
        let capture = capture_to(&path);
        fill(&capture);
        assert!(state("trace file").contains("No space left"), "{}", state("trace file"));
        assert!(valid_prefix(&path) > 50_000);
        let whole = capture.stop();
        assert!(whole.closed);
    });
}

#[test]
fn g4_disk_faults_a_full_disk_costs_the_flight_recorder_its_file_and_nothing_else() {
    in_child(|| {
        let folder = tempfile::tempdir().unwrap();
        if !mounted(folder.path(), "size=128k", 0) {
            return eprintln!("skipped: mounts are not allowed here");
        }
        let (file, saving) = (Some(folder.path().join("ring")), Some(Saving::to(folder.path())));
        let config = FlightConfig { max_bytes: FLIGHT_LEAST_BYTES, file, saving, ..FlightConfig::default() };
        let flight = FlightRecorder::new(config);
        flight.start().unwrap();
        (0..200_000).for_each(count);
        let trace = flight.snapshot().unwrap();
        assert!(trace.len() > FLIGHT_LEAST_BYTES / 2);
        assert!(state("flight recorder's file").contains("No space left"));
        let saved = flight.save("full");
        assert!(matches!(saved, Err(FlightError::Write(_))), "{saved:?}");
        let left = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 1, "half a snapshot is taken away; the ring's file is left");
        let ring = std::fs::read(folder.path().join("ring")).unwrap();
        let recovered = kymo::format::ring_file::recover(&ring).unwrap();
        assert!(File::parse(&recovered).is_ok());
    });
}

#[test]
fn g4_disk_faults_a_limit_on_files_ends_the_capture_and_not_the_program() {
    in_child(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.kymo");
        let most = libc::rlimit { rlim_cur: 300_000, rlim_max: 300_000 };
        // SAFETY: `most` is read; SIGXFSZ is left at its default, which would end this process.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &most) }, 0);
        let capture = capture_to(&path);
        fill(&capture);
        assert!(state("trace file").contains("too large"), "{}", state("trace file"));
        assert!(std::fs::metadata(&path).unwrap().len() <= 300_000);
        assert!(valid_prefix(&path) > 10_000);
    });
}

#[test]
fn g4_disk_faults_a_folder_that_is_gone_costs_nothing_that_was_recorded() {
    in_child(|| {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let capture = capture_to(&inner.join("t.kymo"));
        let flight = FlightRecorder::new(FlightConfig {
            file: Some(inner.join("ring")),
            saving: Some(Saving { every: Duration::ZERO, ..Saving::to(&inner) }),
            ..FlightConfig::default()
        });
        flight.start().unwrap();
        std::fs::remove_dir_all(&inner).unwrap();
        (0..100_000).for_each(count);
        let saved = flight.save("gone").unwrap().expect("the folder is made anew");
        assert!(File::parse(&std::fs::read(saved).unwrap()).unwrap().problems.is_empty());
        let progress = capture.stop();
        assert!(!progress.closed && progress.events + progress.lost >= 100_000);
    });
}

#[test]
fn g4_disk_faults_a_read_only_disk_is_refused_with_the_reason() {
    in_child(|| {
        let folder = tempfile::tempdir().unwrap();
        if !mounted(folder.path(), "size=1m", libc::MS_RDONLY) {
            return eprintln!("skipped: mounts are not allowed here");
        }
        let path = folder.path().join("t.kymo");
        assert_eq!(FileSink::create(&path).unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        let flight = FlightRecorder::new(FlightConfig { file: Some(path), ..FlightConfig::default() });
        let refused = flight.start().unwrap_err();
        assert!(refused.to_string().contains("Read-only file system"), "{refused}");
        assert_eq!(captures(), 0);
    });
}

#[test]
fn g4_disk_faults_a_disk_that_fails_ends_the_capture_with_its_error() {
    in_child(|| {
        struct Failing(u32);
        impl std::io::Write for Failing {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0 += 1;
                if self.0 > 3 { Err(std::io::Error::from_raw_os_error(libc::EIO)) } else { Ok(bytes.len()) }
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let sink = kymo::record::sink::WriteSink::new(Failing(0));
        let error = sink.error();
        let options = CaptureOptions { groups: USER, cpu_hz: 0, sink: Box::new(sink), resolver: None };
        let capture = Capture::start(options).unwrap();
        fill(&capture);
        assert_eq!(error.lock().unwrap().as_ref().and_then(std::io::Error::raw_os_error), Some(libc::EIO));
    });
}
