//! What a capture holds is what was emitted while it ran: exactly, by thread, from any number of threads.

use std::collections::HashMap;
use std::sync::Barrier;

use kymo::events::{Counter, Event, Group, Groups, StrId, Value};
use kymo::format::file::File;
use kymo::record::session::{Capture, CaptureOptions};
use kymo::record::sink::MemorySink;

fn start(groups: Groups) -> (Capture, MemorySink) {
    let sink = MemorySink::new(64 << 20);
    let options = CaptureOptions { groups, sink: Box::new(sink.clone()), resolver: None };
    (Capture::start(options).unwrap(), sink)
}

/// Values of the counters in a trace by thread, in file order.
fn counters(bytes: &[u8]) -> HashMap<u32, Vec<i64>> {
    let file = File::parse(bytes).unwrap();
    assert_eq!(file.problems, []);
    let mut found: HashMap<u32, Vec<i64>> = HashMap::new();
    for run in &file.runs {
        for stamped in file.events(run) {
            if let Event::Counter(counter) = stamped.unwrap().event {
                found.entry(run.head.thread.0).or_default().push(counter.value.0);
            }
        }
    }
    found
}

fn count(value: i64) {
    kymo::record::emit(Counter { name: StrId(0), value: Value(value) });
}

#[test]
fn every_event_of_every_thread_arrives_in_order_and_the_count_agrees() {
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
    let end = File::parse(&bytes).unwrap().end.unwrap();
    assert_eq!((end.events, end.lost), (progress.events, 0));
}

#[test]
fn the_events_of_a_thread_that_sleeps_are_there_at_the_stop() {
    let (capture, sink) = start(Groups::ALL);
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
    assert!(counters(&sink.take()).values().any(|values| *values == [7]));
}

#[test]
fn captures_overlap_and_each_holds_its_own_window() {
    let (first, first_sink) = start(Groups::ALL);
    count(1);
    let (second, second_sink) = start(Groups::ALL);
    count(2);
    first.stop();
    count(3);
    second.stop();
    count(4);
    let all = |bytes: &[u8]| counters(bytes).into_values().flatten().collect::<Vec<_>>();
    assert_eq!(all(&first_sink.take()), [1, 2]);
    assert_eq!(all(&second_sink.take()), [2, 3]);
}

#[test]
fn a_capture_that_asks_for_less_gets_less_beside_one_that_asks_for_all() {
    let (all, all_sink) = start(Groups::ALL);
    let (threads, threads_sink) = start(Groups::NONE.with(Group::Thread));
    count(1);
    kymo::record::emit(kymo::events::ThreadExit {});
    threads.stop();
    all.stop();
    assert_eq!(counters(&all_sink.take()).into_values().flatten().collect::<Vec<_>>(), [1]);
    assert_eq!(counters(&threads_sink.take()), HashMap::new());
}

#[test]
fn a_full_sink_costs_its_own_capture_and_the_loss_is_told() {
    let sink = MemorySink::new(4096);
    let options = CaptureOptions { groups: Groups::ALL, sink: Box::new(sink.clone()), resolver: None };
    let small = Capture::start(options).unwrap();
    let (whole, whole_sink) = start(Groups::ALL);
    (0..50_000).for_each(count);
    let (small, whole) = (small.stop(), whole.stop());
    assert_eq!(whole.lost, 0);
    let (small_bytes, whole_bytes) = (sink.take(), whole_sink.take());
    let kept = counters(&small_bytes).into_values().flatten().count() as u64;
    let emitted = counters(&whole_bytes).into_values().flatten().count() as u64;
    assert!(small.lost > 0);
    assert_eq!(kept + small.lost, emitted, "what is not kept is counted");
    let file = File::parse(&small_bytes).unwrap();
    assert_eq!(file.end.unwrap().lost, small.lost);
}

#[test]
fn a_stopped_recorder_records_nothing() {
    let (capture, _sink) = start(Groups::ALL);
    capture.stop();
    assert!(Group::ALL.iter().all(|&group| !kymo::record::enabled(group)));
}
