//! `/debug/pprof/profile`, as `go tool pprof` reads it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kymo::profile::{LabelValue, Profile};

use crate::oracles::pprof;
use crate::sampled::{burn, churn, sample};
use crate::served::get;
use crate::watched::in_child;

#[inline(never)]
fn the_busy_function(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        churn();
    }
}

#[test]
fn a_busy_function_is_first_in_the_profile() {
    in_child(|| {
        let server = kymo::serve("127.0.0.1:0").unwrap().address();
        let stop = AtomicBool::new(false);
        let answer = std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("busy-thread".into())
                .spawn_scoped(scope, || the_busy_function(&stop))
                .unwrap();
            std::thread::sleep(Duration::from_millis(10));
            let answer = get(server, "/debug/pprof/profile?seconds=1");
            stop.store(true, Ordering::Relaxed);
            answer
        });
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/octet-stream")));
        let top = pprof(&["-top", "-cum"], &answer.body);
        assert!(top.contains("Type: cpu"), "{top}");
        let busy = top.lines().find(|line| line.contains("the_busy_function")).expect(&top);
        let share: f64 = busy.split_whitespace().nth(4).unwrap().trim_end_matches('%').parse().unwrap();
        assert!(share > 90.0, "{top}");
        let raw = pprof(&["-raw"], &answer.body);
        assert!(raw.contains("samples/count cpu/nanoseconds"), "{raw}");
        assert!(raw.contains("Period: 10000000"), "{raw}");
        assert!(pprof(&["-tags"], &answer.body).contains("busy-thread"));
    });
}

/// CPU time by a label's value.
fn by_label(profile: &Profile, key: &str) -> BTreeMap<String, Duration> {
    let mut times = BTreeMap::new();
    for sample in &profile.samples {
        let label = sample.labels.iter().find(|label| label.key == key).map(|label| &label.value);
        if let Some(LabelValue::Text(value)) = label {
            *times.entry(value.clone()).or_default() += Duration::from_nanos(sample.values[1] as u64);
        }
    }
    times
}

#[test]
fn samples_have_the_labels_of_threads_and_tasks_though_nobody_records_tasks() {
    in_child(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let labels = |value: &'static str| kymo::Labels::new().text("endpoint", value);
        let before = kymo::FutureExt::traced(async { burn(Duration::from_millis(300)) }, "task");
        let ((), sampled) = sample(250, || {
            let guard = labels("/of-the-thread").enter();
            burn(Duration::from_millis(200));
            drop(guard);
            let guard = labels("/of-the-task").enter();
            let task = kymo::FutureExt::traced(async { burn(Duration::from_millis(300)) }, "task");
            drop(guard);
            runtime.block_on(async { tokio::join!(task, before) });
        });
        assert!(sampled.trace.polls.is_empty());
        let times = by_label(&kymo::profile::cpu(&sampled.trace), "endpoint");
        // A busy machine's late samples fall to whoever runs then, so this asks for more than half.
        let mostly = |value: &str, real: u128| times[value].as_millis().abs_diff(real) < real / 2;
        assert!(mostly("/of-the-thread", 200) && mostly("/of-the-task", 300), "{times:?}");
        let of_tasks = sampled.trace.samples.iter().filter(|sample| sample.task.is_some());
        let of_tasks = Duration::from_nanos(of_tasks.map(|sample| sample.weight_ns).sum());
        assert!(of_tasks > Duration::from_millis(300), "{of_tasks:?}");
    });
}
