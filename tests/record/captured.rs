//! What the tests share: captures that run alone, and what is in them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kymo::events::{Counter, Event, Group, Groups, LossReason, StrId, Value};
use kymo::format::Lane;
use kymo::format::file::File;
use kymo::record::session::{Capture, CaptureOptions};
use kymo::record::sink::{MemorySink, Sink};

/// Only what these tests emit, and not the waits of their own threads.
pub(crate) const USER: Groups = Groups::NONE.with(Group::User);

/// There is one recorder in a process, so tests take turns.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn start(groups: Groups) -> (Capture, MemorySink) {
    let sink = MemorySink::new(128 << 20);
    (start_into(groups, Box::new(sink.clone())), sink)
}

pub(crate) fn start_into(groups: Groups, sink: Box<dyn Sink>) -> Capture {
    Capture::start(CaptureOptions { groups, cpu_hz: 0, sink, resolver: None }).unwrap()
}

pub(crate) fn count(value: i64) {
    kymo::record::emit(Counter { name: StrId(0), value: Value(value) });
}

/// Values of the counters in a trace by thread and lane, in file order, which is time order.
pub(crate) fn counters_by_lane(bytes: &[u8]) -> HashMap<(u32, Lane), Vec<i64>> {
    let file = File::parse(bytes).unwrap();
    assert_eq!(file.problems, []);
    let mut found: HashMap<(u32, Lane), Vec<i64>> = HashMap::new();
    let mut latest = HashMap::new();
    for run in &file.runs {
        let lane = (run.head.thread.0, run.head.lane);
        for stamped in file.events(run).map(Result::unwrap) {
            let latest = latest.entry(lane).or_insert(0);
            assert!(*latest <= stamped.ticks, "a thread's time never runs backwards");
            *latest = stamped.ticks;
            if let Event::Counter(counter) = stamped.event {
                found.entry(lane).or_default().push(counter.value.0);
            }
        }
    }
    found
}

/// Values of the counters in a trace by thread.
pub(crate) fn counters(bytes: &[u8]) -> HashMap<u32, Vec<i64>> {
    let mut found: HashMap<u32, Vec<i64>> = HashMap::new();
    counters_by_lane(bytes).into_iter().for_each(|((thread, _), values)| {
        found.entry(thread).or_default().extend(values);
    });
    found
}

/// All of them, of all threads.
pub(crate) fn all_counters(bytes: &[u8]) -> Vec<i64> {
    counters(bytes).into_values().flatten().collect()
}

/// What a trace says was lost.
pub(crate) fn losses(bytes: &[u8]) -> HashMap<(u32, LossReason), u64> {
    let file = File::parse(bytes).unwrap();
    let mut found = HashMap::new();
    for stamped in file.runs.iter().flat_map(|run| file.events(run)) {
        if let Event::Loss(loss) = stamped.unwrap().event {
            *found.entry((loss.thread.0, loss.reason)).or_default() += loss.count.0;
        }
    }
    found
}
