//! The command, run by tests in a folder of their own.

#![allow(dead_code, reason = "each test uses its part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// What a command that has ended said.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) out: Vec<u8>,
    pub(crate) errors: String,
}

impl Done {
    /// Standard output as text; panics unless the command succeeded.
    pub(crate) fn text(&self) -> &str {
        assert_eq!(self.code, Some(0), "{}", self.errors);
        std::str::from_utf8(&self.out).unwrap()
    }

    /// The one line of an error; panics unless that is all it said, with exit code 1.
    pub(crate) fn complaint(&self) -> &str {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert!(self.out.is_empty() && self.errors.lines().count() == 1, "{self:?}");
        self.errors.strip_prefix("kymo: ").expect("it says who complains").trim_end()
    }
}

/// Runs `kymo` in a folder until it ends.
pub(crate) fn kymo(folder: &Path, args: &[&str]) -> Done {
    kymo_with_input(folder, args, b"")
}

pub(crate) fn kymo_with_input(folder: &Path, args: &[&str], input: &[u8]) -> Done {
    let mut child = command(folder, args).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A command that does not read its input closes it.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    Done { code: output.status.code(), out: output.stdout, errors }
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kymo"));
    command.args(args).current_dir(folder).env_remove("KYMO_TOKEN").stdout(Stdio::piped());
    command
}

/// A command that runs on; it is killed with the value.
pub(crate) struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Running {
    pub(crate) fn start(folder: &Path, args: &[&str]) -> Running {
        let mut child = command(folder, args).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Running { child, out }
    }

    /// The next line of its output; empty at the end.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Presses Ctrl-C.
    pub(crate) fn interrupt(&self) {
        let killed = Command::new("sh").args(["-c", &format!("kill -INT {}", self.child.id())]).status();
        assert!(killed.unwrap().success());
    }

    /// Ends its standard input.
    pub(crate) fn end_input(mut self) -> Running {
        drop(self.child.stdin.take());
        self
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Done {
        let (mut out, mut errors) = (Vec::new(), String::new());
        self.out.read_to_end(&mut out).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        Done { code: self.child.wait().unwrap().code(), out, errors }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
