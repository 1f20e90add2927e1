//! Emitted is kept plus lost, exactly, by thread and reason.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex};

use kymo::events::{Event, Id, LossReason, SpanBegin, StrId};
use kymo::format::file::File;
use kymo::limits::MEMORY_BYTES;
use kymo::record::sink::{MemorySink, Offer, Sink};
use kymo::record::{WhenFull, this_thread, when_full};

use super::captured::{USER, all_counters, alone, count, losses, start, start_into};

/// Holds the drain up in its first offer after it was told to.
#[derive(Clone)]
struct Stalling {
    sink: MemorySink,
    gate: Arc<(Mutex<Gate>, Condvar)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Gate {
    Open,
    Closed,
    /// Closed, and the drain stands before it.
    Waiting,
}

impl Stalling {
    fn new() -> Stalling {
        let gate = Arc::new((Mutex::new(Gate::Open), Condvar::new()));
        Stalling { sink: MemorySink::new(2 * MEMORY_BYTES), gate }
    }

    fn set(&self, gate: Gate) {
        *self.gate.0.lock().unwrap() = gate;
        self.gate.1.notify_all();
    }

    fn drain_waits(&self) -> bool {
        *self.gate.0.lock().unwrap() == Gate::Waiting
    }
}

impl Sink for Stalling {
    fn offer(&mut self, sections: Vec<u8>) -> Offer {
        let mut gate = self.gate.0.lock().unwrap();
        while *gate != Gate::Open {
            *gate = Gate::Waiting;
            gate = self.gate.1.wait(gate).unwrap();
        }
        drop(gate);
        self.sink.offer(sections)
    }

    fn finish(&mut self, sections: Vec<u8>) -> Offer {
        self.sink.finish(sections)
    }
}

/// An event of some 24 bytes, so that chunks fill fast, of a group in which no hook emits.
fn wide(number: u64) {
    kymo::record::emit(SpanBegin { span: Id(number | 1 << 63), name: StrId(0), parent: Id(u64::MAX) });
}

/// The numbers of the wide events by thread, in order.
fn wide_events(bytes: &[u8]) -> HashMap<u32, Vec<u64>> {
    let file = File::parse(bytes).unwrap();
    assert_eq!(file.problems, []);
    let mut found: HashMap<u32, Vec<u64>> = HashMap::new();
    for run in &file.runs {
        for stamped in file.events(run) {
            if let Event::SpanBegin(begin) = stamped.unwrap().event {
                found.entry(run.head.thread.0).or_default().push(begin.span.0 & !(1 << 63));
            }
        }
    }
    found
}

/// Three threads emit more than fits while the drain stands still. Returns the trace and each thread's number.
fn overload(events: u64) -> (Vec<u8>, Vec<u32>) {
    let stalling = Stalling::new();
    let capture = start_into(USER, Box::new(stalling.clone()));
    stalling.set(Gate::Closed);
    // A thread that ends passes its chunk on: so the drain comes by and finds the gate closed.
    std::thread::spawn(|| wide(0)).join().unwrap();
    while !stalling.drain_waits() {
        std::thread::yield_now();
    }
    let threads = std::thread::scope(|scope| {
        let emit = || {
            (0..events).for_each(wide);
            this_thread().0
        };
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(emit)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    stalling.set(Gate::Open);
    let progress = capture.stop();
    let bytes = stalling.sink.take();
    assert_eq!(progress.lost, losses(&bytes).values().sum::<u64>(), "what is counted is told");
    (bytes, threads)
}

#[test]
fn g1_overload_exact_accounting_under_a_stalled_drain_the_newest_events_are_lost_and_counted() {
    let _alone = alone();
    let events = 1_300_000;
    let (bytes, threads) = overload(events);
    let (kept, lost) = (wide_events(&bytes), losses(&bytes));
    let mut all_lost = 0;
    for thread in threads {
        let (kept, lost) = (&kept[&thread], lost.get(&(thread, LossReason::NoChunk)).copied().unwrap_or(0));
        assert_eq!(kept.len() as u64 + lost, events);
        assert!(kept.iter().copied().eq(0..kept.len() as u64), "what is kept are the oldest");
        all_lost += lost;
    }
    assert_eq!(all_lost, lost.values().sum::<u64>(), "for one reason only");
    assert!(all_lost > 0, "more was emitted than fits");
}

#[test]
fn g1_overload_exact_accounting_under_a_stalled_drain_the_oldest_events_are_overwritten_and_counted_where_one_prefers_that()
 {
    let _alone = alone();
    when_full(WhenFull::LoseOldest);
    let events = 1_300_000;
    let (bytes, threads) = overload(events);
    when_full(WhenFull::LoseNewest);
    let (kept, lost) = (wide_events(&bytes), losses(&bytes));
    let nothing = Vec::new();
    let mut all_lost = 0;
    for thread in threads {
        let kept = kept.get(&thread).unwrap_or(&nothing);
        let lost = lost.get(&(thread, LossReason::Overwritten)).copied().unwrap_or(0);
        assert_eq!(kept.len() as u64 + lost, events);
        assert!(kept.is_sorted());
        assert!(kept.last().is_none_or(|last| *last == events - 1), "what is kept are the newest");
        all_lost += lost;
    }
    assert_eq!(all_lost, lost.values().sum::<u64>(), "for one reason only");
    assert!(all_lost > 0, "more was emitted than fits");
}

#[test]
fn g1_overload_exact_accounting_a_full_sink_costs_its_own_capture_and_the_loss_is_told() {
    let _alone = alone();
    let sink = MemorySink::new(4096);
    let small = start_into(USER, Box::new(sink.clone()));
    let (whole, whole_sink) = start(USER);
    (0..50_000).for_each(count);
    let (small, whole) = (small.stop(), whole.stop());
    assert_eq!(whole.lost, 0);
    let bytes = sink.take();
    let kept = all_counters(&bytes).len() as u64;
    let lost = losses(&bytes)[&(this_thread().0, LossReason::SlowReader)];
    assert!(lost > 0);
    assert_eq!(kept + lost, all_counters(&whole_sink.take()).len() as u64, "what is not kept is counted");
    assert_eq!(small.lost, lost);
    assert_eq!(File::parse(&bytes).unwrap().end.unwrap().lost, lost);
}

#[test]
fn losses_of_before_a_capture_are_not_its_own() {
    let _alone = alone();
    let (first, _sink) = start(USER);
    super::threads::lose_one_event();
    assert_eq!(first.stop().lost, 1);
    let (second, _sink) = start(USER);
    assert_eq!(second.stop().lost, 0);
}
