//! Children of a recorded program: forked, spawned, made into daemons. They run as ever, and the trace is their parent's.
//!
//! Each test is a child of its own with a watchdog.

#![cfg(feature = "hooks")]
#![allow(unsafe_code, reason = "forks, as C programs do")]
#![allow(clippy::multiple_unsafe_ops_per_block, reason = "a child's few calls belong together")]

mod recorded;
mod watched;

use std::ffi::c_int;
use std::path::Path;
use std::process::Command;
use std::ptr::null;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kymo::events::{Call, Group, Groups};
use kymo::model::Trace;
use kymo::record::file::FileSink;
use kymo::record::session::{Capture, CaptureError, CaptureOptions};
use kymo::record::sink::{MemorySink, Sink};
use recorded::record_unnamed as record;

fn start(sink: impl Sink + 'static) -> Capture {
    let options = CaptureOptions { groups: Groups::ALL, cpu_hz: 1_000, sink: Box::new(sink), resolver: None };
    Capture::start(options).unwrap()
}

/// A trace that has an end, and no damage.
fn trace(path: &Path) -> Trace {
    let (trace, problems) = kymo::model::load::load(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(problems, []);
    trace
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap()
}

/// Runs `work` in a forked child; its exit code.
fn forked(work: impl FnOnce() -> c_int) -> c_int {
    // SAFETY: the child does what a signal handler may, and leaves by _exit(2), which runs none of its destructors.
    match unsafe { libc::fork() } {
        0 => {
            let code = work();
            // SAFETY: ends the child.
            unsafe { libc::_exit(code) }
        }
        child => {
            let mut status = -1;
            // SAFETY: waits for our own child.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            status
        }
    }
}

const FORKS: usize = 1_000;

#[test]
fn d1_fork_storm() {
    watched::in_child(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace");
        let stop = AtomicBool::new(false);
        let lock = std::sync::Mutex::new(0);
        let capture = start(FileSink::create(&path).unwrap());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        *lock.lock().unwrap() += 1;
                        // SAFETY: reads nothing, from no descriptor.
                        unsafe { libc::read(-1, std::ptr::null_mut(), 0) };
                        std::thread::yield_now();
                    }
                });
            }
            let failed = (0..FORKS).map(|_| forked(child)).find(|status| *status != 0);
            stop.store(true, Ordering::Relaxed);
            assert_eq!(failed, None);
        });
        let progress = capture.stop();
        assert!(!progress.closed, "{:?}", kymo::status::sources());
        let trace = trace(&path);
        let of = |wanted| trace.calls.iter().filter(move |call| call.call == wanted);
        assert_eq!(of(Call::Pwrite).count(), 0, "the children's calls are not ours");
        assert!(of(Call::Read).count() > FORKS);
        assert_eq!(of(Call::Waitpid).count(), FORKS);
    });
}

/// What a forked child does: calls, a lock of its own, a try to record. 0 if all is as it should be.
fn child() -> c_int {
    for _ in 0..10 {
        // SAFETY: writes nothing, to no descriptor.
        if unsafe { libc::pwrite(-1, null(), 0, 0) } != -1 || errno() != libc::EBADF {
            return 1;
        }
    }
    if kymo::record::enabled(Group::Syscall) {
        return 2;
    }
    if *std::sync::Mutex::new(7).lock().unwrap() != 7 {
        return 3;
    }
    let options =
        CaptureOptions { groups: Groups::ALL, cpu_hz: 0, sink: Box::new(MemorySink::new(0)), resolver: None };
    if !matches!(Capture::start(options), Err(CaptureError::Forked)) {
        return 4;
    }
    0
}

/// A process with much memory forks about as fast while it is recorded, and each fork ends though a timer ticks.
#[test]
fn d2_fork_large_rss() {
    watched::in_child(|| {
        let memory = vec![1u8; 256 << 20];
        let fork = || {
            let begin = Instant::now();
            assert_eq!(forked(|| 0), 0);
            begin.elapsed()
        };
        // In turn, since the machine is others' too.
        let (mut plain, mut recorded) = (Duration::MAX, Duration::MAX);
        for _ in 0..12 {
            plain = plain.min(fork());
            let capture = start(MemorySink::new(256 << 20));
            recorded = recorded.min(fork());
            capture.stop();
        }
        assert!(recorded <= plain * 2, "{recorded:?}, without recording {plain:?}");
        drop(std::hint::black_box(memory));
    });
}

/// What a child is given: its signals (blocked, ignored, handled), and its descriptors.
fn given_to_a_child() -> [String; 2] {
    let said = |program: &str, arguments: &[&str]| {
        String::from_utf8(Command::new(program).args(arguments).output().unwrap().stdout).unwrap()
    };
    [said("grep", &["^Sig[BIC]", "/proc/self/status"]), said("ls", &["/proc/self/fd"])]
}

#[test]
fn d3_spawn_many() {
    watched::in_child(|| {
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let given = given_to_a_child();
        let ((before, after), trace) = record(|| {
            let before = open();
            for _ in 0..200 {
                assert!(Command::new("true").status().unwrap().success());
            }
            assert_eq!(given_to_a_child(), given);
            for _ in 0..200 {
                assert_eq!(cloned(), 0);
            }
            (before, open())
        });
        assert_eq!(before, after);
        let of = |wanted| trace.calls.iter().filter(move |call| call.call == wanted && call.result == 0);
        assert_eq!(of(Call::PosixSpawnp).count(), 202);
    });
}

/// A child by clone3(2), which no C function stands for: exit code 0 by _exit(2).
fn cloned() -> c_int {
    // SAFETY: zero bytes are a valid description of a child that shares nothing; it ends at once.
    unsafe {
        let mut description: libc::clone_args = std::mem::zeroed();
        description.exit_signal = libc::SIGCHLD as u64;
        match libc::syscall(libc::SYS_clone3, &raw mut description, size_of::<libc::clone_args>()) {
            0 => libc::_exit(0),
            // As in containers that don't know it.
            -1 => 0,
            child => {
                let mut status = -1;
                assert_eq!(i64::from(libc::waitpid(child as i32, &mut status, 0)), child);
                status
            }
        }
    }
}

/// A daemon closes every descriptor that it does not know, and opens others under the same numbers.
#[test]
fn d4_double_fork_daemon() {
    watched::in_child(|| {
        let folder = tempfile::tempdir().unwrap();
        let (path, log) = (folder.path().join("trace"), folder.path().join("log"));
        let capture = start(FileSink::create(&path).unwrap());
        // SAFETY: closes what is not needed any more; a sink's descriptor among it.
        let status = forked(|| forked(|| unsafe { libc::close_range(3, c_int::MAX as u32, 0) }));
        assert_eq!(status, 0);
        assert!(
            capture.progress().bytes < 1 << 20 && !capture.progress().closed,
            "the parent's is untouched"
        );
        // Now in this very process.
        let unknown: Vec<c_int> = std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().ok())
            .filter(|fd| *fd > 2)
            .collect();
        let file = std::fs::File::create(&log).unwrap();
        for fd in unknown {
            // SAFETY: as daemons do.
            unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&file), fd) };
        }
        std::hint::black_box(std::fs::read("/proc/self/comm").unwrap());
        assert!(capture.stop().closed);
        assert_eq!(std::fs::read(&log).unwrap(), b"", "nothing of ours");
    });
}
