//! The flight recorder holds the last seconds: never more bytes than it was given, nothing missing inside its window,
//! and as many snapshots as one likes while it goes on.

#[path = "record/captured.rs"]
mod captured;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use captured::{USER, all_counters, alone, count, counters, losses, start};
use kymo::events::{Event, Groups};
use kymo::format::file::File;
use kymo::limits::{FLIGHT_LEAST_BYTES, SEAL_MS};
use kymo::{FlightConfig, FlightError, FlightRecorder};

fn config(max_bytes: usize) -> FlightConfig {
    FlightConfig { max_bytes, groups: USER, min_age: Duration::from_secs(60), ..FlightConfig::default() }
}

fn started(config: FlightConfig) -> FlightRecorder {
    let flight = FlightRecorder::new(config);
    flight.start().unwrap();
    flight
}

/// Bytes of a trace's events, as the ring holds them.
fn held(trace: &[u8]) -> usize {
    let file = File::parse(trace).unwrap();
    file.runs.iter().map(|run| run.bytes.len()).sum()
}

/// The counters of each thread inside the window.
fn in_window(trace: &[u8]) -> HashMap<u32, Vec<i64>> {
    let file = File::parse(trace).unwrap();
    assert_eq!(file.problems, []);
    let window = file.header.start_ticks..=file.end.unwrap().end_ticks;
    let mut found: HashMap<u32, Vec<i64>> = HashMap::new();
    for run in &file.runs {
        for stamped in file.events(run).map(Result::unwrap).filter(|stamped| window.contains(&stamped.ticks))
        {
            if let Event::Counter(counter) = stamped.event {
                found.entry(run.head.thread.0).or_default().push(counter.value.0);
            }
        }
    }
    found
}

fn until_sealed() {
    std::thread::sleep(Duration::from_millis(SEAL_MS + 200));
}

#[test]
fn the_last_millisecond_is_in_a_snapshot_and_recording_goes_on() {
    let _alone = alone();
    let flight = started(config(1 << 20));
    for number in 0..100 {
        count(number);
        let trace = flight.snapshot().unwrap();
        assert_eq!(all_counters(&trace), (0..=number).collect::<Vec<_>>());
        let file = File::parse(&trace).unwrap();
        let events: usize = file.runs.iter().map(|run| file.events(run).count()).sum();
        assert_eq!((file.end.unwrap().events, file.end.unwrap().lost), (events as u64, 0));
    }
    flight.stop();
}

#[test]
fn its_bytes_are_a_hard_bound_under_load_and_after_idle_phases() {
    let _alone = alone();
    let flight = started(config(FLIGHT_LEAST_BYTES));
    let before = flight.usage().unwrap();
    assert_eq!((before.bytes <= 1024, before.max_bytes), (true, FLIGHT_LEAST_BYTES));
    for phase in 0..3 {
        (0..400_000).for_each(|number| {
            count(number);
            if number % 50_000 == 0 {
                assert!(flight.usage().unwrap().bytes <= FLIGHT_LEAST_BYTES);
            }
        });
        let trace = flight.snapshot().unwrap();
        assert!(flight.usage().unwrap().bytes <= FLIGHT_LEAST_BYTES);
        assert!(held(&trace) <= FLIGHT_LEAST_BYTES);
        assert!(held(&trace) > FLIGHT_LEAST_BYTES / 2, "as much as fits is held: {}", held(&trace));
        // Names of threads and modules come on top; they don't grow with the events.
        assert!(trace.len() < FLIGHT_LEAST_BYTES + 64 * 1024, "phase {phase}: {}", trace.len());
        assert_eq!(all_counters(&trace).last(), Some(&399_999), "the newest are held");
        until_sealed();
    }
    flight.stop();
}

/// Ends the writers, also when an assertion fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Of each thread, how many counters are missing between its first and its last one.
fn gaps(found: &HashMap<u32, Vec<i64>>) -> HashMap<u32, u64> {
    let gap = |values: &Vec<i64>| (values[values.len() - 1] - values[0] + 1) as u64 - values.len() as u64;
    found.iter().map(|(thread, values)| (*thread, gap(values))).collect()
}

/// What lies in the window of a snapshot: how many counters, none of them missing that is not told as lost.
fn check_window(trace: &[u8]) -> usize {
    let (found, lost) = (in_window(trace), losses(trace));
    for (thread, missing) in gaps(&found) {
        let told: u64 = lost.iter().filter(|((of, _), _)| *of == thread).map(|(_, lost)| lost).sum();
        assert!(missing <= told, "{missing} of thread {thread} are missing, {told} are told as lost");
    }
    assert!(found.values().all(|values| values.is_sorted()));
    found.values().map(Vec::len).sum()
}

#[test]
fn nothing_is_missing_inside_the_window_while_four_threads_write_and_snapshots_are_taken() {
    let _alone = alone();
    let flight = started(config(1 << 20));
    let done = AtomicBool::new(false);
    let (capture, sink) = start(USER);
    std::thread::scope(|scope| {
        let done = Done(&done);
        for _ in 0..4 {
            scope.spawn(|| {
                for number in (0..).take_while(|_| !done.0.load(Ordering::Relaxed)) {
                    count(number);
                    if number % 100 == 0 {
                        std::thread::yield_now();
                    }
                }
            });
        }
        let take = || (0..15).map(|_| check_window(&flight.snapshot().unwrap())).sum::<usize>();
        let takers: Vec<_> = (0..2).map(|_| scope.spawn(take)).collect();
        takers.into_iter().for_each(|taker| assert!(taker.join().unwrap() > 0));
        drop(done);
    });
    assert!(flight.usage().unwrap().snapshots >= 30);
    flight.stop();
    let progress = capture.stop();
    let kept: usize = counters(&sink.take()).values().map(Vec::len).sum();
    assert!(kept as u64 <= progress.events);
}

#[test]
fn what_is_old_goes_and_what_is_young_stays() {
    let _alone = alone();
    let min_age = Duration::from_secs(2);
    let flight = started(FlightConfig { min_age, ..config(1 << 20) });
    let (begun, mut emitted) = (Instant::now(), Vec::new());
    while begun.elapsed() < Duration::from_secs(5) {
        emitted.push(begun.elapsed());
        count(emitted.len() as i64 - 1);
        std::thread::sleep(Duration::from_millis(20));
    }
    let taken = begun.elapsed();
    let found = in_window(&flight.snapshot().unwrap());
    flight.stop();
    let oldest = *found.values().flatten().min().unwrap() as usize;
    let age = taken - emitted[oldest];
    // A chunk is sealed each second, and the next seal is what drops it.
    let most = min_age + 2 * Duration::from_millis(SEAL_MS) + Duration::from_millis(500);
    assert!(age >= min_age - Duration::from_millis(100) && age <= most, "{age:?}");
    assert_eq!(found.values().map(Vec::len).sum::<usize>(), emitted.len() - oldest);
}

#[test]
fn a_snapshot_has_the_names_of_its_events_and_of_its_threads_also_of_those_that_ended() {
    let _alone = alone();
    let flight = started(config(1 << 20));
    let name = |name: &'static str| {
        let name = move || {
            let (name, value) = (kymo::record::string(name), kymo::events::Value(1));
            kymo::record::emit(kymo::events::Counter { name, value });
        };
        std::thread::Builder::new().name("short-lived".into()).spawn(name).unwrap().join().unwrap();
    };
    name("one that is held");
    let trace = flight.snapshot().unwrap();
    flight.stop();
    let (trace, problems) = kymo::model::load::load(&trace).unwrap();
    assert_eq!(problems, []);
    assert!(trace.info.complete);
    assert_eq!(
        trace.counters.iter().map(|counter| counter.name.as_str()).collect::<Vec<_>>(),
        ["one that is held"]
    );
    assert!(trace.threads.iter().any(|thread| thread.name == "short-lived"));
}

#[test]
fn there_is_one_at_a_time_and_it_says_why_it_can_not() {
    let _alone = alone();
    let (one, other) = (FlightRecorder::new(config(1 << 20)), FlightRecorder::new(config(1 << 20)));
    assert!(matches!(one.snapshot(), Err(FlightError::Disabled)));
    one.start().unwrap();
    assert!(one.is_enabled() && !other.is_enabled());
    assert!(matches!(one.start(), Err(FlightError::Enabled)));
    assert!(matches!(other.start(), Err(FlightError::Enabled)));
    assert!(matches!(other.snapshot(), Err(FlightError::Disabled)));
    other.stop();
    assert!(one.is_enabled(), "another one's stop is not its own");
    one.stop();
    other.start().unwrap();
    other.stop();
    one.start().unwrap();
    one.stop();
    let refused = FlightRecorder::new(config(FLIGHT_LEAST_BYTES - 1)).start();
    assert!(matches!(refused, Err(FlightError::Bytes(_))));
    assert_eq!(kymo::record::usage().captures, 0);
}

#[test]
fn it_runs_beside_captures_that_want_something_else() {
    let _alone = alone();
    let flight = started(config(1 << 20));
    count(1);
    let (capture, sink) = start(Groups::ALL);
    count(2);
    assert_eq!(all_counters(&flight.snapshot().unwrap()), [1, 2]);
    capture.stop();
    count(3);
    assert_eq!(all_counters(&sink.take()), [2]);
    assert_eq!(all_counters(&flight.snapshot().unwrap()), [1, 2, 3]);
    flight.stop();
}
