//! What one CPU sample costs the thread that it interrupts, thirty calls deep: kymo beside `pprof`.
//!
//! A busy thread reads the counter without a pause; whatever stops it leaves a gap. A tick of the kernel does so
//! without any tool, and a sample comes with a tick: so a sample's cost is the middle gap with the tool less that
//! without. Gaps that are long enough for another thread to have run are left out.

use std::process::Command;
use std::time::{Duration, Instant};

use kymo::events::{Group, Groups};
use kymo::record::session::{Capture, CaptureOptions};
use kymo::record::sink::MemorySink;

use crate::rounds::{budget, median};

const TOOLS: [&str; 3] = ["plain", "kymo", "pprof"];
const ROUNDS: usize = 7;
const DEPTH: u32 = 30;
const HZ: u32 = 250;
const RUN: Duration = Duration::from_secs(2);

/// Shorter gaps are the loop itself, longer ones another thread.
const GAPS: std::ops::Range<u64> = 400..60_000;

pub(crate) fn compare() {
    let mut gaps: [Vec<f64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        for (tool, gaps) in TOOLS.iter().zip(&mut gaps) {
            gaps.push(in_child(tool));
        }
    }
    let [plain, kymo, pprof] = gaps.map(median);
    println!("figure cpu_sample: a tick {plain:.0} ns, with kymo's sample {kymo:.0}, with pprof's {pprof:.0}");
    budget("cpu_sample_ns", kymo - plain, 2500.0);
    budget("cpu_sample_over_pprof", (kymo - plain) / (pprof - plain), 1.0);
}

fn in_child(tool: &str) -> f64 {
    let myself = std::env::current_exe().expect("this program has a path");
    let output = Command::new(myself).args(["sample", tool]).output().expect("it starts again");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().unwrap_or_else(|_| panic!("{tool}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Runs one tool; prints the middle gap in nanoseconds.
pub(crate) fn run(tool: &str) {
    match tool {
        "plain" => println!("{}", deep(DEPTH)),
        "kymo" => {
            let groups = Groups::NONE.with(Group::Cpu);
            let sink = MemorySink::new(64 << 20);
            let options = CaptureOptions { groups, cpu_hz: HZ, sink: Box::new(sink.clone()), resolver: None };
            let capture = Capture::start(options).expect("it starts");
            println!("{}", deep(DEPTH));
            assert!(capture.stop().events > 100, "it has taken samples");
        }
        "pprof" => {
            let guard = pprof::ProfilerGuard::new(HZ as i32).expect("it starts");
            println!("{}", deep(DEPTH));
            let report = guard.report().build().expect("it has taken samples");
            assert!(!report.data.is_empty(), "it has taken samples");
        }
        other => panic!("no tool is called {other}"),
    }
    // Not the tools' ends, which name things.
    std::process::exit(0);
}

#[inline(never)]
fn deep(depth: u32) -> f64 {
    // What is added after the call keeps it from being a jump.
    if depth > 0 { deep(depth - 1) + f64::from(std::hint::black_box(0u32)) } else { middle_gap() }
}

fn middle_gap() -> f64 {
    let begin = Instant::now();
    let (mut gaps, mut last) = (Vec::with_capacity(1 << 16), 0);
    while last < RUN.as_nanos() as u64 {
        let now = begin.elapsed().as_nanos() as u64;
        if GAPS.contains(&(now - last)) {
            gaps.push((now - last) as f64);
        }
        last = now;
    }
    median(gaps)
}
