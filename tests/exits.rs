//! However a recorded program ends, or replaces itself, its exit code is its own and its trace is readable.
//!
//! Each test starts this program again, recorded to a file by `KYMO_TRACE`, and lets it end in one way.

#![cfg(feature = "hooks")]
#![allow(unsafe_code, reason = "ends and replaces processes, as C programs do")]
#![allow(clippy::multiple_unsafe_ops_per_block, reason = "what a process does to itself belongs together")]

mod watched;

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus};

use kymo::events::Call;
use kymo::format::file::Problem;
use kymo::model::Trace;

/// Says which way to end, in the process that is to.
const WAY: &str = "KYMO_TEST_WAY";

/// This program, recorded to `trace`, doing what its test named `test` says for `way`.
fn ending(test: &str, way: &str, trace: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
    command.env(WAY, way).env("KYMO_TRACE", trace);
    command
}

/// Runs it in a folder of its own, and ends it if it hangs; how it ended, what it said, and its trace with its problems.
fn ended(test: &str, way: &str) -> (ExitStatus, String, Trace, Vec<Problem>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace");
    let (status, said) = watched::ended_within_patience(ending(test, way, &path));
    let (trace, problems) = kymo::model::load::load(&std::fs::read(path).unwrap()).unwrap();
    (status, said, trace, problems)
}

/// A call that no other code makes, `count` times.
fn leave_a_mark(count: usize) {
    for _ in 0..count {
        // SAFETY: no such files.
        let renamed = unsafe { libc::renameat(-1, c"no/such".as_ptr(), -1, c"no".as_ptr()) };
        assert_eq!(renamed, -1);
    }
}

fn marks(trace: &Trace) -> usize {
    trace.calls.iter().filter(|call| call.call == Call::Renameat).count()
}

/// Waits until what was recorded has reached the file: it is sealed each second.
fn wait_for_a_seal() {
    let path = recorded_to();
    let sealed =
        || kymo::model::load::load(&std::fs::read(&path).unwrap()).map_or(0, |(trace, _)| marks(&trace));
    while sealed() < 1_000 {
        std::thread::park_timeout(std::time::Duration::from_millis(100));
    }
}

/// Where this process is recorded to: the variable itself is taken away.
fn recorded_to() -> std::path::PathBuf {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    let paths = descriptors.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    paths.into_iter().find(|path| path.ends_with("trace")).unwrap()
}

const ENDS_WELL: [(&str, i32); 3] = [("return", 0), ("exit", 7), ("exit in a thread", 8)];
const ENDS_BADLY: [(&str, i32); 5] = [
    ("abort", libc::SIGABRT),
    ("panic that cannot unwind", libc::SIGABRT),
    ("term", libc::SIGTERM),
    ("kill", libc::SIGKILL),
    ("segfault", libc::SIGSEGV),
];

#[test]
fn d5_exit_paths() {
    const TEST: &str = "d5_exit_paths";
    if let Ok(way) = std::env::var(WAY) {
        return end_by(&way);
    }
    for (way, code) in ENDS_WELL {
        let (status, said, trace, problems) = ended(TEST, way);
        assert_eq!(status.code(), Some(code), "{way}: {said}");
        assert_eq!((problems.as_slice(), marks(&trace)), ([].as_slice(), 1_000), "{way}: all of it is there");
    }
    // Each waits for a second: together.
    std::thread::scope(|scope| {
        for (way, signal) in ENDS_BADLY {
            scope.spawn(move || {
                let (status, said, trace, problems) = ended(TEST, way);
                assert_eq!(status.signal(), Some(signal), "{way}: {said}");
                assert_eq!(marks(&trace), 1_000, "{way}: what was sealed before is there");
                assert!(matches!(problems.as_slice(), [Problem::Unfinished]), "{way}: {problems:?}");
            });
        }
    });
}

extern "C" fn panics() {
    panic!("as is meant to be");
}

fn end_by(way: &str) {
    leave_a_mark(1_000);
    if ENDS_BADLY.iter().any(|(bad, _)| *bad == way) {
        wait_for_a_seal();
    }
    match way {
        "return" => {}
        "exit" => std::process::exit(7),
        "exit in a thread" => std::thread::spawn(|| std::process::exit(8)).join().unwrap(),
        "abort" => std::process::abort(),
        "panic that cannot unwind" => panics(),
        // SAFETY: ends this process.
        "term" => unsafe { assert_eq!(libc::raise(libc::SIGTERM), 0) },
        // SAFETY: ends this process.
        "kill" => unsafe { assert_eq!(libc::raise(libc::SIGKILL), 0) },
        // SAFETY: ends this process, by the default action.
        "segfault" => unsafe {
            libc::signal(libc::SIGSEGV, libc::SIG_DFL);
            assert_eq!(libc::raise(libc::SIGSEGV), 0);
        },
        other => panic!("{other}"),
    }
}

#[test]
fn d6_exec_while_tracing() {
    const TEST: &str = "d6_exec_while_tracing";
    if let Ok(way) = std::env::var(WAY) {
        leave_a_mark(1_000);
        if way == "recorded" {
            wait_for_a_seal();
        }
        panic!("{}", Command::new("grep").args(["^Sig", "/proc/self/status"]).exec());
    }
    let (status, said, trace, problems) = ended(TEST, "recorded");
    assert!(status.success(), "{said}");
    assert_eq!(marks(&trace), 1_000);
    assert!(matches!(problems.as_slice(), [Problem::Unfinished]), "{problems:?}");
    let plain = watched::within_patience(ending(TEST, "plain", Path::new("")));
    let signals = |said: &str| {
        said.lines().filter(|line| line.starts_with("Sig")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(signals(&said), signals(&plain), "blocked, ignored and handled ones");
    assert_eq!(signals(&said).len(), 4, "pending ones too");
}
