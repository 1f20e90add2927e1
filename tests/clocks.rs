//! Cases of time: counters that run backwards, machines that sleep, wall clocks that are set, machines without a counter
//! and captures that take months. A thread's time never runs backwards, and nothing takes longer than it did.
#![cfg(feature = "analysis")]

mod watched;

use std::process::Command;
use std::time::Duration;

use kymo::events::{Event, Groups, SpanBegin, SpanEnd, StrId};
use kymo::format::file::File;
use kymo::format::text;
use kymo::model::Trace;
use kymo::model::check::check;
use kymo::model::load::load;
use kymo::record::session::{Capture, CaptureOptions};
use kymo::record::sink::MemorySink;
use watched::within_patience;

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3_600 * SECOND;

fn load_text(text: &str) -> Trace {
    let (trace, problems) =
        load(&text::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"))).unwrap();
    assert_eq!((problems, check(&trace)), (vec![], vec![]), "{text}");
    trace
}

/// A trace with a sync each second, by (ticks, monotonic, realtime), then runs.
fn with_syncs(syncs: impl Iterator<Item = (u64, u64, u64)>, runs: &str, end: u64) -> Trace {
    let mut text = String::from(
        "header start=1 start_monotonic_ns=1 start_realtime_ns=1\nschema\nrun 0 normal base=1\n",
    );
    for (ticks, monotonic, realtime) in syncs {
        text += &format!("  {ticks} ClockSync monotonic={monotonic} realtime={realtime}\n");
    }
    load_text(&format!("{text}{runs}end {end}\n"))
}

fn record(work: impl FnOnce()) -> Vec<u8> {
    let sink = MemorySink::new(64 << 20);
    let options =
        CaptureOptions { groups: Groups::ALL, cpu_hz: 0, sink: Box::new(sink.clone()), resolver: None };
    let capture = Capture::start(options).unwrap();
    work();
    capture.stop();
    sink.take()
}

#[test]
fn f1_tsc_backwards() {
    let before = kymo::record::usage().clock_fixups;
    let steps = [1_u64, 1_000, 1_000_000, 2_000_000_000];
    let bytes = record(|| {
        // Another CPU's counter is behind this one's: each span ends there.
        for (index, step) in (1..).zip(steps) {
            let (span, now) = (kymo::events::Id(index), kymo::clock::ticks());
            kymo::record::emit_at(now, SpanBegin { span, name: StrId(0), parent: kymo::events::Id(0) });
            kymo::record::emit_at(now - step, SpanEnd { span });
        }
    });
    assert!(kymo::record::usage().clock_fixups - before >= steps.len() as u64);
    let file = File::parse(&bytes).unwrap();
    for run in &file.runs {
        let ticks: Vec<_> = file.events(run).map(|stamped| stamped.unwrap().ticks).collect();
        assert!(ticks.is_sorted(), "a thread's time never runs backwards");
    }
    let ends = file.runs.iter().flat_map(|run| file.events(run)).flatten();
    assert_eq!(ends.filter(|stamped| matches!(stamped.event, Event::SpanEnd(_))).count(), steps.len());
    let (trace, _) = load(&bytes).unwrap();
    assert_eq!((check(&trace), trace.spans.len()), (vec![], steps.len()));
    assert!(trace.spans.iter().all(|span| !span.time.open && span.time.duration() < SECOND));
}

#[test]
fn f2_suspend() {
    // The counter runs on while the machine sleeps for an hour between the third and the fourth second.
    let ticks = |second: u64| second * SECOND + if second > 3 { HOUR } else { 0 };
    let syncs = (1..=6).map(|second| (ticks(second), second * SECOND, HOUR + ticks(second)));
    let runs = "run 1 normal base=1\n  3100000000 WaitBegin kind=futex addr=0x10\n  3603900000000 WaitEnd\n";
    let trace = with_syncs(syncs, runs, ticks(6));
    assert!(trace.waits[0].time.duration() < SECOND, "no slice of an hour: {:?}", trace.waits[0].time);
    assert!(trace.info.duration_ns < 7 * SECOND);
    let note = trace.info.notes.iter().find(|(_, text)| text.starts_with("the machine slept"));
    assert_eq!(note.unwrap().1, "the machine slept for 3600.0 s, 3.0 s into the capture");
}

#[test]
fn f3_wall_step() {
    for step in [HOUR as i64, -(HOUR as i64)] {
        let showed = |second: u64| {
            let steady = 100 * HOUR + second * SECOND;
            if second < 3 { steady } else { steady.checked_add_signed(step).unwrap() }
        };
        let syncs = (1..=6).map(|second| (second * SECOND, second * SECOND, showed(second)));
        let runs = "run 1 normal base=1\n  2500000000 WaitBegin kind=futex addr=0x10\n  3500000000 WaitEnd\n";
        let trace = with_syncs(syncs, runs, 6 * SECOND);
        assert_eq!(trace.waits[0].time.duration(), SECOND, "set by {step}");
        let at = |second: u64| trace.info.realtime_ns(second * SECOND - 1);
        assert_eq!((at(1), at(2), at(3), at(5)), (showed(1), showed(2), showed(3), showed(5)));
        let expected =
            format!("the wall clock was set by {:+.1} s, 3.0 s into the capture", step as f64 / 1e9);
        assert!(trace.info.notes.iter().any(|(_, text)| *text == expected), "{:?}", trace.info.notes);
    }
}

#[test]
fn f4_no_tsc() {
    const VARIABLE: &str = "KYMO_CLOCK";
    if std::env::var_os(VARIABLE).is_none() {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["f4_no_tsc", "--exact", "--nocapture"]).env(VARIABLE, "monotonic");
        return assert!(within_patience(child).contains("1 passed"));
    }
    let before = kymo::clock::monotonic_ns();
    let bytes = record(|| {
        let _span = kymo::span!("short");
        std::thread::sleep(Duration::from_millis(20));
    });
    let file = File::parse(&bytes).unwrap();
    assert_eq!(file.header.clock, "monotonic", "the header says what ticks are");
    assert!(file.header.start_ticks >= before, "ticks are CLOCK_MONOTONIC");
    let (trace, _) = load(&bytes).unwrap();
    let span = trace.spans[0].time.duration();
    assert!((20_000_000..5 * SECOND).contains(&span), "{span}");
}

#[test]
fn f5_long_run() {
    const DAY: u64 = 24 * HOUR;
    // 90 days at three ticks a nanosecond: 2.3e16 ticks, far beyond 2^47 ns.
    let syncs = (0..=90).map(|day| (1 + 3 * day * DAY, 1 + day * DAY, 1 + day * DAY));
    let (begin, end) = (1 + 3 * (DAY / 2), 1 + 3 * (89 * DAY + DAY / 2));
    let runs = format!(
        "run 1 normal base=1\n  {begin} SpanBegin span=1 name=0 parent=0\n  {end} SpanEnd span=1\n\
         run 2 normal base=1\n  {end} SpanBegin span=2 name=0 parent=0\n  {} SpanEnd span=2\n",
        end + 3_000
    );
    let trace = with_syncs(syncs, &runs, 1 + 3 * 90 * DAY);
    let times: Vec<_> = trace.spans.iter().map(|span| (span.time.begin, span.time.duration())).collect();
    let [(long_begin, long), (short_begin, short)] = times[..] else { panic!("{times:?}") };
    assert!(long_begin.abs_diff(DAY / 2) <= 1 && long.abs_diff(89 * DAY) <= 1, "{times:?}");
    assert!(short_begin.abs_diff(89 * DAY + DAY / 2) <= 1 && short.abs_diff(1_000) <= 1, "{times:?}");
    assert!(trace.info.duration_ns.abs_diff(90 * DAY) <= 1);
}
