//! Captures: windows, groups, and what is in their files.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kymo::events::{Group, Groups, ThreadExit, Value};
use kymo::format::file::File;
use kymo::record::session::{Capture, CaptureError, CaptureOptions};
use kymo::record::sink::{MemorySink, channel};

use super::captured::{USER, all_counters, alone, count, counters, start, start_into};

#[test]
fn every_event_of_every_thread_arrives_in_order_and_the_count_agrees() {
    let _alone = alone();
    let (capture, sink) = start(Groups::ALL);
    let events = 100_000;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..events).for_each(count));
        }
    });
    let progress = capture.stop();
    let bytes = sink.take();
    let found = counters(&bytes);
    assert_eq!(progress.lost, 0);
    assert_eq!(found.values().filter(|values| values.iter().copied().eq(0..events)).count(), 4);
    let file = File::parse(&bytes).unwrap();
    let in_file: usize = file.runs.iter().map(|run| file.events(run).count()).sum();
    let end = file.end.unwrap();
    assert_eq!((end.events, end.lost), (in_file as u64, 0));
    assert_eq!(progress.events, end.events);
}

#[test]
fn the_events_of_a_thread_that_sleeps_are_there_at_the_stop() {
    let _alone = alone();
    let (capture, sink) = start(USER);
    let (written, stopped) = (Barrier::new(2), Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            count(7);
            written.wait();
            stopped.wait();
        });
        written.wait();
        capture.stop();
        stopped.wait();
    });
    assert_eq!(all_counters(&sink.take()), [7]);
}

#[test]
fn captures_overlap_and_each_holds_its_own_window() {
    let _alone = alone();
    let (first, first_sink) = start(USER);
    count(1);
    let (second, second_sink) = start(USER);
    count(2);
    first.stop();
    count(3);
    second.stop();
    count(4);
    let (first, second) = (first_sink.take(), second_sink.take());
    assert_eq!(all_counters(&first), [1, 2]);
    assert_eq!(all_counters(&second), [2, 3]);
    for bytes in [first, second] {
        let file = File::parse(&bytes).unwrap();
        let window = file.header.start_ticks..=file.end.unwrap().end_ticks;
        let mut stamps =
            file.runs.iter().filter(|run| run.head.thread.0 != 0).flat_map(|run| file.events(run));
        assert!(stamps.all(|stamped| window.contains(&stamped.unwrap().ticks)));
    }
}

#[test]
fn windows_of_busy_threads_are_cut_to_the_event() {
    let _alone = alone();
    let (all, all_sink) = start(USER);
    let (emitted, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let emit = |number| {
        count(number);
        emitted.fetch_add(1, Ordering::Relaxed);
    };
    let wait_for_more = || {
        let enough = emitted.load(Ordering::Relaxed) + 50_000;
        while emitted.load(Ordering::Relaxed) < enough {
            std::thread::yield_now();
        }
    };
    let (part, part_sink) = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..).take_while(|_| !done.load(Ordering::Relaxed)).for_each(emit));
        }
        wait_for_more();
        let (part, part_sink) = start(USER);
        wait_for_more();
        let part = part.stop();
        wait_for_more();
        done.store(true, Ordering::Relaxed);
        (part, part_sink)
    });
    assert_eq!((part.lost, all.stop().lost), (0, 0));
    let (whole, part) = (counters(&all_sink.take()), counters(&part_sink.take()));
    assert_eq!(
        whole.values().map(|values| values.len() as u64).sum::<u64>(),
        emitted.load(Ordering::Relaxed)
    );
    assert!(whole.values().all(|values| values.iter().copied().eq(0..values.len() as i64)));
    assert!(part.values().map(Vec::len).sum::<usize>() > 0);
    assert!(part.values().all(|values| values.is_sorted_by(|a, b| a + 1 == *b)), "a window has no gap");
}

#[test]
fn a_capture_that_asks_for_less_gets_less_beside_one_that_asks_for_all() {
    let _alone = alone();
    let (all, all_sink) = start(Groups::ALL);
    let (threads, threads_sink) = start(Groups::NONE.with(Group::Thread));
    count(1);
    kymo::record::emit(ThreadExit {});
    threads.stop();
    all.stop();
    assert_eq!(all_counters(&all_sink.take()), [1]);
    let bytes = threads_sink.take();
    assert!(all_counters(&bytes).is_empty());
    let file = File::parse(&bytes).unwrap();
    let groups = file
        .runs
        .iter()
        .flat_map(|run| file.events(run))
        .map(|stamped| kymo::events::kind(stamped.unwrap().event.id()).unwrap().group);
    assert!(groups.into_iter().all(|group| matches!(group, Group::Thread | Group::Meta)));
}

#[test]
fn a_file_holds_the_strings_and_stacks_that_its_own_events_name() {
    let _alone = alone();
    let named = |name: &str| {
        let (capture, sink) = start(USER);
        kymo::record::emit(kymo::events::Counter { name: kymo::record::string(name), value: Value(1) });
        kymo::record::emit(kymo::events::Log {
            category: kymo::record::string(""),
            message: kymo::record::string(name),
        });
        capture.stop();
        sink.take()
    };
    let (first, second) = (named("first"), named("second"));
    let strings = |bytes: &[u8]| {
        let file = File::parse(bytes).unwrap();
        file.strings.values().map(|text| (*text).to_owned()).collect::<Vec<_>>()
    };
    assert!(strings(&first).contains(&"first".to_owned()));
    assert!(strings(&second).contains(&"second".to_owned()));
    assert!(!strings(&second).contains(&"first".to_owned()), "a capture doesn't carry another one's names");
}

#[test]
fn names_come_while_a_capture_runs_so_that_a_killed_process_leaves_a_trace_that_can_be_read() {
    let _alone = alone();
    let (sink, received) = channel(16 << 20);
    let capture = start_into(USER, Box::new(sink));
    kymo::record::emit(kymo::events::Counter { name: kymo::record::string("told in time"), value: Value(1) });
    let mut bytes = Vec::new();
    for sections in received {
        bytes.extend(sections);
        let file = File::parse(&bytes).unwrap();
        if file.strings.values().any(|text| *text == "told in time") {
            break;
        }
    }
    let file = File::parse(&bytes).unwrap();
    assert!(file.end.is_none(), "it still runs");
    assert!(!file.timebase().syncs().is_empty());
    capture.stop();
}

#[test]
fn more_captures_than_the_limit_are_refused() {
    let _alone = alone();
    let running: Vec<_> = (0..kymo::limits::CAPTURES).map(|_| start(USER)).collect();
    let options =
        CaptureOptions { groups: USER, cpu_hz: 0, sink: Box::new(MemorySink::new(0)), resolver: None };
    let refused = Capture::start(options).unwrap_err();
    assert!(matches!(refused, CaptureError::TooMany(limit) if limit == running.len()));
}

#[test]
fn a_stopped_recorder_records_nothing_and_gives_its_memory_back() {
    let _alone = alone();
    let (capture, _sink) = start(Groups::ALL);
    (0..100_000).for_each(count);
    capture.stop();
    assert!(Group::ALL.iter().all(|&group| !kymo::record::enabled(group)));
    let usage = kymo::record::usage();
    assert_eq!((usage.captures, usage.chunk_bytes), (0, 0));
}
