//! `…/status`: what is on, what is off and why, what was lost and what it takes, as JSON.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::response::Response;
use serde::Serialize;

use super::answer;
use crate::events::LossReason;
use crate::limits::{CAPTURES, MEMORY_BYTES};
use crate::record::Usage;
use crate::record::flight::FlightUsage;

/// Connections that kymo's own server closed at once, because it held as many as it may.
pub(super) static CONNECTIONS_REFUSED: AtomicU64 = AtomicU64::new(0);

/// How the names of kymo's own threads begin.
const OWN_THREADS: &str = "kymo-";

#[derive(Serialize)]
struct Status {
    kymo: &'static str,
    pid: u32,
    /// Each source: `on`, or `off: why`.
    sources: BTreeMap<String, String>,
    captures: usize,
    captures_max: usize,
    threads: usize,
    /// Events lost by threads since the process began, by reason.
    lost: BTreeMap<&'static str, u64>,
    /// Events whose stamp ran backwards, and that count as of their thread's previous one.
    clock_fixups: u64,
    memory: Memory,
    cpu: Cpu,
    /// Where one runs.
    flight: Option<Flight>,
    connections_refused: u64,
}

#[derive(Serialize)]
struct Memory {
    chunk_bytes: usize,
    bytes_max: usize,
    stacks: u32,
    stacks_overflowed: u64,
    strings: u32,
    strings_overflowed: u64,
}

/// CPU time so far. What events cost the threads that emit them is in the process's.
#[derive(Serialize)]
struct Cpu {
    /// Of kymo's own threads: the drain, captures, the server.
    own_ns: u64,
    process_ns: u64,
}

impl Cpu {
    /// As the kernel's scheduler counts it: 0 where it doesn't.
    fn now() -> Cpu {
        let mut cpu = Cpu { own_ns: 0, process_ns: 0 };
        for thread in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
            let file = |name| std::fs::read_to_string(thread.path().join(name)).unwrap_or_default();
            let used = file("schedstat").split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
            cpu.process_ns += used;
            if file("comm").starts_with(OWN_THREADS) {
                cpu.own_ns += used;
            }
        }
        cpu
    }
}

#[derive(Serialize)]
struct Flight {
    /// Length of the window in which nothing is missing.
    window_ns: u64,
    bytes: usize,
    bytes_max: usize,
    snapshots: u64,
}

impl Flight {
    fn now() -> Option<Flight> {
        let FlightUsage { window, bytes, max_bytes, snapshots } = crate::record::flight::usage()?;
        Some(Flight { window_ns: window.as_nanos() as u64, bytes, bytes_max: max_bytes, snapshots })
    }
}

/// Answers `status`.
pub(super) fn answer() -> Response {
    let Usage {
        chunk_bytes,
        threads,
        stacks,
        stacks_overflowed,
        strings,
        strings_overflowed,
        captures,
        lost,
        clock_fixups,
    } = crate::record::usage();
    let lost = LossReason::WORDS.iter().copied().zip(lost).filter(|&(_, events)| events > 0).collect();
    let memory = Memory {
        chunk_bytes,
        bytes_max: MEMORY_BYTES,
        stacks,
        stacks_overflowed,
        strings,
        strings_overflowed,
    };
    let status = Status {
        kymo: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        sources: crate::status::sources().into_iter().collect(),
        captures,
        captures_max: CAPTURES,
        threads,
        lost,
        clock_fixups,
        memory,
        cpu: Cpu::now(),
        flight: Flight::now(),
        connections_refused: CONNECTIONS_REFUSED.load(Ordering::Relaxed),
    };
    // A struct of numbers and strings: serializing it can't fail.
    let text = serde_json::to_string_pretty(&status).unwrap_or_default();
    answer::page("application/json", text + "\n")
}
