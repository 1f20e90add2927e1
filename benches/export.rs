//! What an export costs: Perfetto's packets raw and compressed, Chrome's JSON, beside a floor measured in the same run
//! (copying the bytes that were written).
//!
//! `cargo bench --bench export`. The trace is recorded from a service in small: tasks with locks, channels, files and
//! spans, about a million events. A time is the fastest of fifteen rounds. Ends with a line for each budget.

#[path = "../tests/recorded/mod.rs"]
mod recorded;
#[path = "../tests/oracles/service.rs"]
mod service;

use std::hint::black_box;
use std::io::{self, Write};
use std::time::Instant;

use kymo::export::{chrome, perfetto};

/// Counts what it is given.
#[derive(Default)]
struct Counted {
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes += black_box(bytes).len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The fastest of fifteen rounds in nanoseconds, and the bytes of one.
fn fastest(mut write: impl FnMut(&mut Counted)) -> (f64, u64) {
    let round = |write: &mut dyn FnMut(&mut Counted)| {
        let mut counted = Counted::default();
        let begin = Instant::now();
        write(&mut counted);
        (begin.elapsed().as_nanos() as f64, counted.bytes)
    };
    (0..15).map(|_| round(&mut write)).min_by(|a, b| a.0.total_cmp(&b.0)).unwrap()
}

fn main() {
    let ((), trace) = recorded::record(|| service::run(2_000));
    let events = trace.events() as f64;
    let states: usize = trace.tasks.iter().map(|task| task.states.len()).sum();
    let slices =
        trace.polls.len() + trace.calls.len() + trace.waits.len() + trace.parks.len() + trace.spans.len();
    let packets = 2 * (slices + states) + trace.task_wakes.len() + trace.wakes.len();
    println!("{events} events: {} polls, {} calls; {packets} packets", trace.polls.len(), trace.calls.len());
    let as_perfetto = |compress, out: &mut Counted| {
        perfetto::write_with(perfetto::Options { compress }, &trace, out).unwrap();
    };
    let (raw_ns, raw_bytes) = fastest(|out| as_perfetto(false, out));
    let (packed_ns, packed_bytes) = fastest(|out| as_perfetto(true, out));
    let (json_ns, json_bytes) = fastest(|out| chrome::write(&trace, out).unwrap());
    let source = vec![7_u8; raw_bytes as usize];
    let (floor_ns, _) = fastest(|out| out.write_all(black_box(&source.clone())).unwrap());
    let line = |name: &str, ns: f64, bytes: u64| {
        let (per_event, size) = (ns / events, bytes as f64 / events);
        println!("{name:<22} {per_event:>7.1} ns/event {size:>7.2} B/event {:>7.2} x floor", ns / floor_ns);
    };
    line("copying the same bytes", floor_ns, raw_bytes);
    line("perfetto", raw_ns, raw_bytes);
    line("perfetto, compressed", packed_ns, packed_bytes);
    line("chrome", json_ns, json_bytes);
    println!("perfetto: {:.1} bytes a packet", raw_bytes as f64 / packets as f64);
    at_least("export_perfetto_events_per_s", events / raw_ns * 1e9, 10_000_000.0);
    at_most("perfetto_bytes_per_event", raw_bytes as f64 / events, 14.0);
    at_most("perfetto_bytes_per_event_compressed", packed_bytes as f64 / events, 5.0);
}

fn at_least(name: &str, value: f64, limit: f64) {
    println!("budget {name} {value:.0} {limit} {}", if value >= limit { "ok" } else { "miss" });
}

fn at_most(name: &str, value: f64, limit: f64) {
    println!("budget {name} {value:.2} {limit} {}", if value <= limit { "ok" } else { "miss" });
}
