//! Real programs, recorded: the planted holder and the planted waiter are named, the innocent one is not.
//!
//! Plain locks by a program that only calls `kymo::serve`, through the command line as a user would; a convoy of tasks
//! in this process.

#![cfg(feature = "cli")]

#[path = "oracles/mod.rs"]
mod oracles;
mod recorded;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use kymo::model::Trace;
use kymo::profile::{block, mutex};

const KYMO: &str = env!("CARGO_BIN_EXE_kymo");

/// `examples/locks` at work.
struct Locks {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    url: String,
}

impl Locks {
    fn start(lock: &str) -> Locks {
        let mut child = Command::new(example("locks"))
            .args([lock, "127.0.0.1:0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut locks = Locks { child, input, output, url: String::new() };
        locks.url = locks.line();
        locks
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// What the victim measured itself, of its waits inside a window; nanoseconds.
    fn measured(&mut self, from: u64, until: u64) -> f64 {
        writeln!(self.input.as_mut().unwrap(), "{from} {until}").unwrap();
        let answer: serde_json::Value = serde_json::from_str(&self.line()).unwrap();
        answer["waited_ns"].as_f64().unwrap()
    }
}

impl Drop for Locks {
    fn drop(&mut self) {
        drop(self.input.take());
        let ended = self.child.wait();
        assert!(std::thread::panicking() || ended.unwrap().success());
    }
}

/// The path of an example, built as this test was.
fn example(name: &str) -> PathBuf {
    let folder = Path::new(KYMO).parent().unwrap();
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "-q", "--features", "cli", "--example", name, "--target-dir"]);
    build.arg(folder.parent().unwrap()).current_dir(env!("CARGO_MANIFEST_DIR"));
    if folder.ends_with("release") {
        build.arg("--release");
    }
    assert!(build.status().unwrap().success(), "the example {name} can't be built");
    folder.join("examples").join(name)
}

fn kymo(args: &[&str], folder: &Path) {
    let output = Command::new(KYMO).args(args).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "kymo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The rows of `go tool pprof -top`: own value in nanoseconds, function.
fn top(profile: &[u8]) -> Vec<(f64, String)> {
    let text = oracles::pprof(&["-top", "-unit=ns", "-nodefraction=0"], profile);
    let rows = text.lines().skip_while(|line| !line.trim_start().starts_with("flat")).skip(1);
    rows.map(|row| {
        let cells: Vec<&str> = row.split_whitespace().collect();
        (cells[0].trim_end_matches("ns").parse().unwrap(), cells[5..].join(" "))
    })
    .collect()
}

/// The part of all rows that is a function's own.
fn share(rows: &[(f64, String)], function: &str) -> f64 {
    let all: f64 = rows.iter().map(|(own, _)| own).sum();
    rows.iter().filter(|(_, name)| name.contains(function)).map(|(own, _)| own / all).sum()
}

/// From before the first recorded wait of a function to after its last one, nanoseconds since the epoch: the wait that
/// was under way when the recording began is not in it, nor is the one when it ended.
fn waits_of(trace: &Trace, function: &str) -> (u64, u64) {
    let own = |wait: &&kymo::model::Wait| {
        trace.stacks.user_frames(wait.stack).next().is_some_and(|frame| frame.function.ends_with(function))
    };
    let mut waits = trace.waits.iter().filter(own).map(|wait| wait.time);
    let first = waits.next().unwrap();
    let last = waits.next_back().unwrap_or(first);
    // Half of what a wait takes here.
    let margin = 500_000_000;
    (trace.info.start_realtime_ns + first.begin - margin, trace.info.start_realtime_ns + last.end + margin)
}

fn names_the_planted(lock: &str) {
    let mut locks = Locks::start(lock);
    let folder = tempfile::tempdir().unwrap();
    kymo(&["record", &locks.url, "--seconds", "8", "-q", "-o", "t.kymo"], folder.path());
    kymo(&["derive", "block", "t.kymo"], folder.path());
    kymo(&["derive", "mutex", "t.kymo"], folder.path());
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    let holders = top(&read("mutex.pb.gz"));
    assert!(holders[0].1.ends_with("::reaper"), "{holders:#?}");
    assert!(share(&holders, "::peek") < 0.02, "{holders:#?}");
    let waiters = top(&read("block.pb.gz"));
    let planted = |name: &str| name.ends_with("::victim") || name.ends_with("::peek");
    assert!(planted(&waiters[0].1) && share(&waiters, "::reaper") < 0.02, "{waiters:#?}");
    let (waited, _) = waiters.iter().find(|(_, name)| name.ends_with("::victim")).unwrap();
    let (trace, _) = kymo::model::load::load(&read("t.kymo")).unwrap();
    let (from, until) = waits_of(&trace, "::victim");
    let measured = locks.measured(from, until);
    assert!((waited / measured - 1.0).abs() < 0.02, "profile {waited} ns, measured {measured} ns");
}

#[test]
fn of_a_std_mutex() {
    names_the_planted("std");
}

#[test]
fn of_a_parking_lot_mutex() {
    names_the_planted("parking_lot");
}

/// A task that holds an async lock over slow work.
async fn slow_task(lock: Arc<tokio::sync::Mutex<u64>>) {
    for _ in 0..12 {
        let mut guard = lock.lock().await;
        tokio::time::sleep(Duration::from_millis(250)).await;
        *guard += 1;
    }
}

/// A task that needs the lock for next to nothing.
async fn quick_task(lock: Arc<tokio::sync::Mutex<u64>>) {
    for _ in 0..12 {
        *lock.lock().await += 1;
    }
}

#[test]
fn of_a_convoy_of_tasks() {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime =
        kymo::tokio::instrument(&mut builder, "main").worker_threads(2).enable_all().build().unwrap();
    let ((), trace) = recorded::record(|| {
        runtime.block_on(async {
            let lock = Arc::new(tokio::sync::Mutex::new(0));
            let mut tasks = vec![kymo::spawn_named("slow", slow_task(lock.clone()))];
            tasks.extend((0..4).map(|_| kymo::spawn_named("quick", quick_task(lock.clone()))));
            for task in tasks {
                task.await.unwrap();
            }
        });
    });
    let holders = top(&mutex(&trace).encode());
    assert!(holders[0].1.contains("slow_task"), "{holders:#?}");
    assert!(share(&holders, "quick_task") < 0.02, "{holders:#?}");
    let waiters = top(&block(&trace).encode());
    assert!(waiters[0].1.contains("quick_task"), "{waiters:#?}");
}
