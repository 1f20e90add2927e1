//! What a service that serves kymo says of itself, by its status.

use std::collections::BTreeMap;

use anyhow::Context;
use serde::Deserialize;

use super::{Check, State};
use crate::cli::remote::Remote;

/// What of a status is looked at; others may be there, and these may be missing in an older one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    kymo: String,
    sources: BTreeMap<String, String>,
    threads: u64,
    captures: u64,
    lost: BTreeMap<String, u64>,
    memory: Memory,
    cpu: Cpu,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cpu {
    own_ns: u64,
    process_ns: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Memory {
    chunk_bytes: u64,
    bytes_max: u64,
    stacks_overflowed: u64,
    strings_overflowed: u64,
}

/// Asks.
pub(super) fn checks(url: &str, token: Option<String>) -> anyhow::Result<Vec<Check>> {
    let text = Remote::new(url, token)?.status()?;
    let status: Status =
        serde_json::from_str(&text).with_context(|| format!("{url}: its status is not kymo's"))?;
    let mut checks = vec![version(&status.kymo), recording(&status)];
    checks.extend(status.sources.iter().map(|(name, words)| Check::of_status(name, words)));
    if !status.sources.contains_key("tasks") {
        let says =
            "no runtime is instrumented: tasks show where kymo::spawn or .traced() made them, workers don't";
        checks.push(
            Check::new("tasks", State::Unknown, says)
                .fix("kymo::tokio::instrument(&mut builder, \"main\"), and RUSTFLAGS=\"--cfg tokio_unstable\" for every task"),
        );
    }
    checks.extend([own_threads(&status.cpu), lost(&status), tables(&status.memory)]);
    Ok(checks)
}

fn version(theirs: &str) -> Check {
    let ours = env!("CARGO_PKG_VERSION");
    match theirs == ours {
        true => Check::new("kymo", State::On, format!("{theirs}, as this command")),
        false => Check::new("kymo", State::Partly, format!("{theirs}; this command is {ours}"))
            .fix(format!("cargo install kymo --features cli --version {theirs}")),
    }
}

fn recording(status: &Status) -> Check {
    let kib = status.memory.chunk_bytes >> 10;
    let most = status.memory.bytes_max >> 20;
    let says = format!(
        "{} captures run, {} threads recorded, {kib} KiB of events of {most} MiB",
        status.captures, status.threads
    );
    Check::new("recording", State::On, says)
}

/// What kymo's threads cost; what events cost is said by their sources.
fn own_threads(cpu: &Cpu) -> Check {
    let seconds = |ns: u64| ns as f64 / 1e9;
    let (own, all) = (seconds(cpu.own_ns), seconds(cpu.process_ns));
    Check::new("own threads", State::On, format!("{own:.2} s of CPU of the {all:.2} s of threads that live"))
}

fn lost(status: &Status) -> Check {
    if status.lost.is_empty() {
        return Check::new("losses", State::On, "no event was lost since the process began");
    }
    let lost: Vec<_> = status.lost.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    let says = format!("events lost since the process began: {}", lost.join(", "));
    Check::new("losses", State::Partly, says).fix("fewer groups in a capture, or a reader that keeps up")
}

fn tables(memory: &Memory) -> Check {
    match (memory.stacks_overflowed, memory.strings_overflowed) {
        (0, 0) => Check::new("tables", State::On, "every stack and every name found room"),
        (stacks, strings) => {
            let says = format!("full: {stacks} stacks and {strings} names have no words of their own");
            Check::new("tables", State::Partly, says).fix("fewer names made of data (ids, paths)")
        }
    }
}
