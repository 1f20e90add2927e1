//! A flight recorder's file outlives its process: whatever moment it is killed at, what was sealed is readable.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kymo::events::{Counter, Groups, Value};
use kymo::format::ring_file::recover;
use kymo::limits::{FLIGHT_LEAST_BYTES, SEAL_MS};
use kymo::model::Trace;
use kymo::model::load::load;
use kymo::{FlightConfig, FlightRecorder};

/// Where the child's file is to be: the sign that this is the child.
const FILE: &str = "KYMO_TEST_FLIGHT_FILE";

/// Says how far it is every ten milliseconds, and counts in between; for ever.
fn count_until_killed(file: &Path, max_bytes: usize) {
    let min_age = Duration::from_secs(60);
    let config = FlightConfig { min_age, max_bytes, file: Some(file.into()), ..FlightConfig::default() };
    FlightRecorder::new(FlightConfig { groups: Groups::ALL, ..config }).start().unwrap();
    let name = kymo::record::string("progress");
    for number in 0.. {
        for step in 0..200 {
            kymo::record::emit(Counter { name, value: Value(number * 200 + step) });
        }
        println!("{}", number * 200);
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn child(test: &str, file: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(FILE, file);
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Follows what a child says until it has said it for so long, then kills it: what it had said, and when.
fn kill_after(mut child: Child, life: Duration) -> Vec<(Duration, i64)> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (begun, mut said) = (std::time::Instant::now(), Vec::new());
    for number in lines.map_while(Result::ok).filter_map(|line| line.parse().ok()) {
        said.push((begun.elapsed(), number));
        if begun.elapsed() > life {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    said
}

fn recovered(file: &Path) -> Trace {
    let bytes = std::fs::read(file).unwrap();
    let (trace, problems) = load(&recover(&bytes).unwrap()).unwrap();
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems, ["the writer did not finish: there is no end mark"]);
    trace
}

fn progress(trace: &Trace) -> Vec<i64> {
    let counters = trace.counters.iter().filter(|counter| counter.name == "progress");
    counters.flat_map(|counter| counter.values.iter().map(|(_, value)| *value)).collect()
}

/// Kills a child after each of these times; each file must have all that was sealed, and no gap.
fn check(test: &str, lives_ms: impl Iterator<Item = u64>) -> Trace {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ring");
    let mut last = None;
    for life in lives_ms {
        let said = kill_after(child(test, &file), Duration::from_millis(life));
        let (killed, _) = *said.last().unwrap();
        let trace = recovered(&file);
        let found = progress(&trace);
        assert!(found.is_sorted_by(|a, b| a + 1 == *b), "no gap");
        // A seal may come late on a busy machine, by as much as a thread waits for a core.
        let sealed = Duration::from_millis(SEAL_MS + 300);
        let due = said.iter().rfind(|(when, _)| *when + sealed < killed).map(|(_, number)| *number);
        assert!(
            found.last().copied() >= due,
            "killed after {killed:?}: {due:?} was sealed, {:?} is there",
            found.last()
        );
        last = Some(trace);
    }
    last.unwrap()
}

#[test]
fn h3_kill9_random_what_was_sealed_a_second_before_is_readable() {
    if let Some(file) = std::env::var_os(FILE) {
        return count_until_killed(file.as_ref(), 10 << 20);
    }
    // Spread over the time between two seals, and before the first one.
    let test = "h3_kill9_random_what_was_sealed_a_second_before_is_readable";
    let trace = check(test, [2211, 1500, 1730, 1, 2003].into_iter());
    let named = trace.threads.iter().any(|thread| thread.name.starts_with("h3_kill9"));
    assert!(named, "threads have names: {:?}", trace.threads.iter().map(|t| &t.name).collect::<Vec<_>>());
}

#[test]
fn h3_kill9_random_also_when_the_ring_has_turned() {
    if let Some(file) = std::env::var_os(FILE) {
        return count_until_killed(file.as_ref(), FLIGHT_LEAST_BYTES);
    }
    let trace = check("h3_kill9_random_also_when_the_ring_has_turned", [3333, 2777].into_iter());
    assert!(!trace.stacks.modules.is_empty(), "whoever reads it can name addresses");
}
