//! Runs a test in a child process of its own, and ends it if it hangs.
//!
//! For tests that fork, cancel threads, raise signals, or count what the whole process does: other tests of the same
//! program can't disturb them, a crash is a message, and a deadlock is a failure after a minute.

#![allow(unsafe_code, dead_code, reason = "kill(2); each test uses its part")]

use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// How long a child may take: far more than it needs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// Set in the child.
const MARK: &str = "KYMO_TEST_CHILD";

/// Runs `body`, the whole of a test, in a child.
///
/// # Panics
/// When the child fails or hangs, with what it wrote.
pub(crate) fn in_child<F: FnOnce()>(body: F) {
    if std::env::var_os(MARK).is_some() {
        return body();
    }
    let test = name_of::<F>();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([&test, "--exact", "--nocapture", "--test-threads=1"]).env(MARK, "1");
    let output = within_patience(command);
    assert!(output.contains("1 passed"), "no test is named {test}:\n{output}");
}

/// Runs a command to its end; what it wrote.
///
/// # Panics
/// When it fails or hangs.
pub(crate) fn within_patience(command: Command) -> String {
    let name = format!("{command:?}");
    let (status, said) = ended_within_patience(command);
    assert!(status.success(), "{name}: {status}\n{said}");
    said
}

/// Runs a command to its end, however that is; what it wrote.
///
/// # Panics
/// When it hangs.
pub(crate) fn ended_within_patience(mut command: Command) -> (ExitStatus, String) {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let (ended, watch) = mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        let hangs = watch.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout);
        if hangs {
            // SAFETY: kills our own child, which has not been waited for: `ended` is dropped after that.
            unsafe { libc::kill(pid as i32, libc::SIGABRT) };
        }
        hangs
    });
    let output = child.wait_with_output().unwrap();
    drop(ended);
    let hung = watchdog.join().unwrap();
    let said =
        format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!hung, "{command:?} hangs:\n{said}");
    (output.status, said)
}

/// The test that a closure is written in: its path without the crate.
fn name_of<F>() -> String {
    let path = std::any::type_name::<F>().trim_end_matches("::{{closure}}");
    path.split_once("::").expect("a closure stands in a crate").1.to_owned()
}
