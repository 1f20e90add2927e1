//! Exports as other programs read them: each number that Perfetto's importer counts equals the trace's own.

#[path = "oracles/mod.rs"]
mod oracles;
mod recorded;
#[path = "oracles/service.rs"]
mod service;

use kymo::analysis::stat::stat;
use kymo::events::PollOutcome;
use kymo::export::{chrome, perfetto};
use kymo::model::{CpuSample, Ns, Trace};
use oracles::{Perfetto, made};

const POLLS: &str = "select count(*) from slice where category = 'poll'";
const TASK_WAKES: &str = "select count(*) from slice where category = 'wake'";
const WAITS: &str = "select count(*) from slice where category = 'wait'";
const CALLS: &str = "select count(*) from slice where category = 'syscall'";
const PARKS: &str = "select count(*) from slice where category = 'park'";
const UNLOCKS: &str = "select count(*) from slice where category = 'unlock'";
const SPANS: &str = "select count(*) from slice where category in ('span', 'user_task')";
const LOGS: &str = "select count(*) from slice where category = 'log'";
const FLOWS: &str = "select count(*) from flow";
const UNNAMED: &str = "select count(*) from slice where coalesce(name, '') = ''";
const NEGATIVE: &str = "select count(*) from slice where dur < 0";
const POLLED_NS: &str = "select coalesce(sum(dur), 0) from slice where category = 'poll'";
const WAITED_NS: &str = "select coalesce(sum(dur), 0) from slice where category = 'wait'";
const CALLED_NS: &str = "select coalesce(sum(dur), 0) from slice where category = 'syscall'";
const FLOWS_BACKWARDS: &str = "select count(*) from flow \
    join slice a on flow.slice_out = a.id join slice b on flow.slice_in = b.id \
    where a.ts > b.ts or a.category != 'wake' or b.category != 'poll'";
const STATES_NS: &str = "select coalesce(sum(dur), 0) from slice where category = 'task_state'";
const OPEN: &str =
    "select count(*) from slice where category = 'poll' and extract_arg(arg_set_id, 'OPEN') is not null";
const COUNTS: &[&str] = &[
    POLLS,
    TASK_WAKES,
    WAITS,
    CALLS,
    PARKS,
    UNLOCKS,
    SPANS,
    LOGS,
    FLOWS,
    UNNAMED,
    NEGATIVE,
    POLLED_NS,
    WAITED_NS,
    CALLED_NS,
    FLOWS_BACKWARDS,
    STATES_NS,
];

/// Asserts that the importer counts in an export what is in the trace.
fn agrees(trace: &Trace, bytes: &[u8], suffix: &str) {
    let open = OPEN.replace("OPEN", if suffix == ".json" { "args.open" } else { "debug.open" });
    let queries: Vec<&str> = COUNTS.iter().copied().chain([open.as_str()]).collect();
    let perfetto = Perfetto::ask(bytes, suffix, &queries);
    let sum = |times: &mut dyn Iterator<Item = Ns>| times.sum::<Ns>();
    // What `kymo stat --json` says.
    let stat = serde_json::to_value(stat(trace, &[])).unwrap();
    let counted = |key: &str| stat[key].as_u64().unwrap();
    let states = trace.tasks.iter().map(|task| task.life.end - task.states[0].at);
    let expected = [
        (POLLS, counted("polls")),
        (TASK_WAKES, counted("task_wakes")),
        (WAITS, counted("waits")),
        (CALLS, counted("calls")),
        (PARKS, counted("parks")),
        (UNLOCKS, counted("wakes")),
        (SPANS, counted("spans")),
        (LOGS, counted("logs")),
        (FLOWS, counted("flows")),
        (UNNAMED, 0),
        (NEGATIVE, 0),
        (POLLED_NS, sum(&mut trace.polls.iter().map(|poll| poll.time.duration()))),
        (WAITED_NS, sum(&mut trace.waits.iter().map(|wait| wait.time.duration()))),
        (CALLED_NS, sum(&mut trace.calls.iter().map(|call| call.time.duration()))),
        (FLOWS_BACKWARDS, 0),
        (STATES_NS, sum(&mut states.into_iter())),
        (&open, trace.polls.iter().filter(|poll| poll.time.open).count() as u64),
    ];
    for (query, count) in expected {
        assert_eq!(perfetto.number(query), count, "{suffix}: {query}");
    }
}

fn as_perfetto(trace: &Trace, compress: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    perfetto::write_with(perfetto::Options { compress }, trace, &mut bytes).unwrap();
    bytes
}

fn as_chrome(trace: &Trace) -> Vec<u8> {
    let mut bytes = Vec::new();
    chrome::write(trace, &mut bytes).unwrap();
    bytes
}

#[test]
fn perfetto_counts_what_the_trace_holds() {
    let trace = made::runtime(1, 4, 30, 4_000);
    assert!(trace.polls.len() > 500 && trace.task_wakes.iter().any(|wake| wake.led_to.is_some()));
    let raw = as_perfetto(&trace, false);
    let compressed = as_perfetto(&trace, true);
    assert!(compressed.len() * 2 < raw.len(), "{} of {} bytes", compressed.len(), raw.len());
    agrees(&trace, &raw, ".pftrace");
    agrees(&trace, &compressed, ".pftrace");
}

#[test]
fn chrome_counts_what_the_trace_holds() {
    let trace = made::runtime(2, 3, 20, 2_000);
    let json = as_chrome(&trace);
    serde_json::from_slice::<serde_json::Value>(&json).expect("valid JSON");
    agrees(&trace, &json, ".json");
}

#[test]
fn an_empty_trace_is_an_empty_export() {
    agrees(&made::blank(1_000), &as_perfetto(&made::blank(1_000), true), ".pftrace");
    agrees(&made::blank(1_000), &as_chrome(&made::blank(1_000)), ".json");
}

#[test]
fn polls_carry_their_task_outcome_and_times() {
    let mut trace = made::runtime(3, 2, 5, 50);
    let last = trace.polls.len() - 1;
    trace.polls[last].outcome = PollOutcome::Panicked;
    let poll = trace.polls[last];
    let query = "select ts, dur, name, extract_arg(arg_set_id, 'correlation_id'), \
        extract_arg(arg_set_id, 'debug.outcome') from slice where category = 'poll' order by ts desc limit 1";
    let perfetto = Perfetto::ask(&as_perfetto(&trace, true), ".pftrace", &[query]);
    let task = &trace.tasks[poll.task as usize];
    let name = if task.name.is_empty() { "task" } else { &task.name };
    let at = trace.info.start_monotonic_ns + poll.time.begin;
    let row = serde_json::json!([at, poll.time.duration(), name, format!("tp:#{}", task.id.0), "panicked"]);
    assert_eq!(serde_json::json!(perfetto.rows(query)[0]), row);
}

#[test]
fn cpu_samples_are_rows_of_their_threads() {
    let mut trace = made::blank(1_000_000_000);
    let thread = made::thread(&mut trace, "busy");
    trace.threads[thread as usize].tid = 77;
    let stack = made::stack(&mut trace, &["app::leaf", "app::main"]);
    for (at, weight_ns) in [(5_000_000, 10_000_000), (15_000_000, 10_000_000), (25_000_000, 30_000_000)] {
        trace.samples.push(CpuSample { at, thread, task: None, stack, weight_ns, cpu: 1 });
    }
    let samples = "select count(*) from perf_sample join thread using (utid) where tid = 77 and cpu = 1";
    let leaves = "select distinct spf.name from perf_sample p join stack_profile_callsite c \
        on c.id = p.callsite_id join stack_profile_frame spf on spf.id = c.frame_id";
    let perfetto = Perfetto::ask(&as_perfetto(&trace, true), ".pftrace", &[samples, leaves]);
    assert_eq!(perfetto.number(samples), 5, "one that stands for three is there three times");
    assert_eq!(serde_json::json!(perfetto.rows(leaves)), serde_json::json!([["app::leaf"]]));
}

#[test]
fn a_recorded_service_agrees_too() {
    let ((), trace) = recorded::record(|| service::run(50));
    assert!(trace.polls.len() > 1_000 && trace.calls.len() > 1_000 && trace.spans.len() == 1_000);
    agrees(&trace, &as_perfetto(&trace, true), ".pftrace");
    agrees(&trace, &as_chrome(&trace), ".json");
}
