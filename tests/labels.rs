//! Labels hold for what a thread does while a guard lives, and for a task and the tasks that it spawns.

#![cfg(all(feature = "tokio", feature = "analysis"))]

mod recorded;

use std::io::Read;
use std::sync::{Arc, Barrier, Condvar, Mutex, Once};
use std::time::Duration;

use kymo::events::{Group, Groups};
use kymo::model::Trace;
use kymo::model::labels::{Label, LabelValue};
use kymo::profile;
use kymo::record::session::{Capture, CaptureOptions};
use kymo::record::sink::MemorySink;
use kymo::{FutureExt, Labels};
use recorded::{record_unnamed, this_thread};

fn words(trace: &Trace, labels: &[Label]) -> Vec<String> {
    let mut words: Vec<_> = labels
        .iter()
        .map(|label| match label.value {
            LabelValue::Text(text) => format!("{}={}", trace.text(label.key), trace.text(text)),
            LabelValue::Number(number, unit) => {
                format!("{}={number}{}", trace.text(label.key), trace.text(unit))
            }
        })
        .collect();
    words.sort();
    words
}

/// The labels at each message, by its text.
fn labels_at_messages(trace: &Trace) -> Vec<(&str, Vec<String>)> {
    let at = |log: &kymo::model::LogEntry| {
        let poll = trace.polls.iter().position(|poll| {
            Some(poll.task) == log.task
                && poll.thread == log.thread
                && poll.time.begin <= log.at
                && log.at <= poll.time.end
        });
        words(trace, trace.labels_at(log.thread, poll.map(|poll| poll as u32), log.at))
    };
    trace.logs.iter().map(|log| (trace.text(log.message), at(log))).collect()
}

#[test]
fn guards_put_labels_on_a_thread_and_take_them_off() {
    let ((), trace) = record_unnamed(|| {
        kymo::log!("test", "before");
        let outer = Labels::new().text("endpoint", "/buy").number("shard", 3).enter();
        kymo::log!("test", "outer");
        {
            let name = String::from("/sell");
            let _inner = Labels::new().text("endpoint", name).quantity("body", 512, "bytes").enter();
            kymo::log!("test", "inner");
        }
        kymo::log!("test", "outer again");
        drop(outer);
        kymo::log!("test", "after");
    });
    let own = |labels: &[&str]| labels.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        labels_at_messages(&trace),
        [
            ("before", own(&[])),
            ("outer", own(&["endpoint=/buy", "shard=3"])),
            ("inner", own(&["body=512bytes", "endpoint=/sell", "shard=3"])),
            ("outer again", own(&["endpoint=/buy", "shard=3"])),
            ("after", own(&[])),
        ]
    );
}

#[test]
fn tasks_inherit_the_labels_of_those_who_spawn_them_and_threads_do_not_keep_them() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let ((), trace) = record_unnamed(|| {
        runtime.block_on(async {
            let parent = {
                let _labels = Labels::new().text("request", "7").enter();
                kymo::spawn_named("parent", async {
                    kymo::log!("test", "parent");
                    tokio::task::yield_now().await;
                    let inner = async {
                        kymo::log!("test", "labelled");
                        tokio::task::yield_now().await;
                        kymo::log!("test", "labelled again");
                        kymo::spawn_named("child", async { kymo::log!("test", "child") }).await.unwrap();
                    };
                    inner.labelled(Labels::new().text("step", "pay")).await;
                    kymo::log!("test", "no longer");
                })
            };
            kymo::spawn_named("stranger", async { kymo::log!("test", "stranger") }).await.unwrap();
            parent.await.unwrap();
            kymo::log!("test", "thread");
        });
    });
    let mut found = labels_at_messages(&trace);
    found.sort();
    let both = vec!["request=7".to_string(), "step=pay".into()];
    let one = vec!["request=7".to_string()];
    assert_eq!(
        found,
        [
            ("child", both.clone()),
            ("labelled", both.clone()),
            ("labelled again", both),
            ("no longer", one.clone()),
            ("parent", one),
            ("stranger", vec![]),
            ("thread", vec![]),
        ]
    );
}

#[test]
fn a_capture_is_told_of_labels_that_stood_before_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _standing = Labels::new().text("pool", "io").enter();
    for _ in 0..2 {
        let notify = Arc::new(tokio::sync::Notify::new());
        let waiter = {
            let (_labels, notify) = (Labels::new().text("job", "old").enter(), notify.clone());
            let job = async move {
                notify.notified().await;
                kymo::log!("test", "job");
            };
            let _inside = runtime.enter();
            kymo::spawn_named("job", job)
        };
        runtime.block_on(tokio::task::yield_now());
        let sink = MemorySink::new(64 << 20);
        let groups = Groups::NONE.with(Group::User).with(Group::Label).with(Group::Task);
        let options = CaptureOptions { groups, cpu_hz: 0, sink: Box::new(sink.clone()), resolver: None };
        let capture = Capture::start(options).unwrap();
        notify.notify_one();
        runtime.block_on(waiter).unwrap();
        drain_has_told();
        kymo::log!("test", "thread");
        capture.stop();
        let (trace, problems) = kymo::model::load::load(&sink.take()).unwrap();
        assert_eq!(problems, []);
        let job = vec!["job=old".to_string(), "pool=io".into()];
        assert_eq!(labels_at_messages(&trace), [("job", job), ("thread", vec!["pool=io".to_string()])]);
    }
}

/// Waits until the drain has asked its sources twice: once since this was called.
fn drain_has_told() {
    static ROUNDS: (Mutex<u64>, Condvar) = (Mutex::new(0), Condvar::new());
    static ASKED: Once = Once::new();
    ASKED.call_once(|| {
        kymo::record::switches::on_drain(|_| {
            *ROUNDS.0.lock().unwrap() += 1;
            ROUNDS.1.notify_all();
        });
    });
    let rounds = ROUNDS.0.lock().unwrap();
    let before = *rounds;
    drop(ROUNDS.1.wait_while(rounds, |rounds| *rounds < before + 2).unwrap());
}

#[test]
fn a_block_profile_has_the_labels_of_who_waited() {
    let ((), trace) = record_unnamed(|| {
        let (lock, barrier) = (Mutex::new(()), Barrier::new(2));
        std::thread::scope(|scope| {
            let held = lock.lock().unwrap();
            scope.spawn(|| {
                let _labels = Labels::new().text("endpoint", "/slow").number("shard", 9).enter();
                barrier.wait();
                drop(lock.lock());
            });
            barrier.wait();
            std::thread::sleep(Duration::from_millis(30));
            drop(held);
        });
    });
    let block = profile::block(&trace);
    let labelled = block.samples.iter().filter(|sample| {
        sample
            .labels
            .iter()
            .any(|label| label.key == "endpoint" && label.value == profile::LabelValue::Text("/slow".into()))
            && sample.labels.iter().any(|label| label.value == profile::LabelValue::Number(9, String::new()))
    });
    assert!(labelled.map(|sample| sample.values[1]).sum::<i64>() > 20_000_000, "{:?}", block.samples);
    assert!(trace.threads[this_thread(&trace) as usize].labels.is_empty());
}

#[test]
fn exports_show_the_labels_of_waits_and_calls() {
    let file = std::fs::File::open("/dev/null").unwrap();
    let ((), trace) = record_unnamed(|| {
        let _labels = Labels::new().text("endpoint", "/buy").number("shard", 3).enter();
        let _ = (&file).read(&mut [0; 8]);
    });
    let (mut chrome, mut perfetto) = (Vec::new(), Vec::new());
    kymo::export::chrome::write(&trace, &mut chrome).unwrap();
    let plain = kymo::export::perfetto::Options { compress: false };
    kymo::export::perfetto::write_with(plain, &trace, &mut perfetto).unwrap();
    let chrome = String::from_utf8(chrome).unwrap();
    assert!(chrome.contains(r#""label.endpoint":"/buy","label.shard":"3""#), "{chrome}");
    for word in [b"label.endpoint".as_slice(), b"/buy", b"label.shard"] {
        assert!(perfetto.windows(word.len()).any(|window| window == word));
    }
}

/// What this thread has used, as the kernel's scheduler counts it.
fn cpu_time() -> Duration {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(times.split(' ').next().unwrap().parse().unwrap())
}

#[test]
fn a_cpu_profile_has_the_labels_of_who_ran() {
    let sink = MemorySink::new(64 << 20);
    let options =
        CaptureOptions { groups: Groups::ALL, cpu_hz: 1000, sink: Box::new(sink.clone()), resolver: None };
    let capture = Capture::start(options).unwrap();
    for endpoint in ["/buy", "/sell"] {
        let _labels = Labels::new().text("endpoint", endpoint).enter();
        let begin = cpu_time();
        while cpu_time() - begin < Duration::from_millis(100) {
            (0..100_000).for_each(|_| std::hint::spin_loop());
        }
    }
    capture.stop();
    let (trace, _) = kymo::model::load::load(&sink.take()).unwrap();
    let cpu = profile::cpu(&trace);
    for endpoint in ["/buy", "/sell"] {
        let value = profile::LabelValue::Text(endpoint.into());
        let labelled =
            cpu.samples.iter().filter(|sample| sample.labels.iter().any(|label| label.value == value));
        let ns = labelled.map(|sample| sample.values[1]).sum::<i64>();
        assert!((50_000_000..200_000_000).contains(&ns), "{endpoint}: {ns} ns of {}", cpu.total(1));
    }
}
