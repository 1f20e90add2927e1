//! A program of plain locks, recorded for real: the planted holder and waiter are named, the innocent one is not.

#![cfg(all(feature = "hooks", feature = "tokio", feature = "analysis"))]

#[path = "oracles/mod.rs"]
mod oracles;
mod recorded;
#[path = "../examples/locks/workload.rs"]
mod workload;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kymo::model::Trace;
use kymo::profile::{block, mutex};
use workload::Waits;

/// Records the workload for three seconds; the trace, and what the victim measured itself inside its window.
fn recorded_workload(run: fn(&AtomicBool, &Waits)) -> (Trace, u64) {
    let (stop, waits) = (AtomicBool::new(false), Waits::default());
    let trace = std::thread::scope(|scope| {
        scope.spawn(|| run(&stop, &waits));
        let (_, trace) = recorded::record(|| std::thread::sleep(Duration::from_secs(3)));
        stop.store(true, Ordering::Relaxed);
        trace
    });
    let from = trace.info.start_realtime_ns;
    let measured = workload::waited(&waits, from, from + trace.info.duration_ns);
    (trace, measured)
}

/// The rows of `go tool pprof -top`: own value in nanoseconds, function.
fn top(profile: &kymo::profile::Profile) -> Vec<(f64, String)> {
    let text = oracles::pprof(&["-top", "-unit=ns", "-nodefraction=0"], &profile.encode());
    let rows = text.lines().skip_while(|line| !line.trim_start().starts_with("flat")).skip(1);
    let number = |cell: &str| cell.trim_end_matches(['n', 's']).parse::<f64>().unwrap();
    rows.map(|row| {
        let cells: Vec<&str> = row.split_whitespace().collect();
        (number(cells[0]), cells[5..].join(" "))
    })
    .collect()
}

/// The part of all rows that is a function's own, percent.
fn share(rows: &[(f64, String)], function: &str) -> f64 {
    let all: f64 = rows.iter().map(|(own, _)| own).sum();
    rows.iter().filter(|(_, name)| name.ends_with(function)).map(|(own, _)| 100.0 * own / all).sum()
}

/// `module` is the workload's: both may run at once, and a capture sees the whole process.
fn names_the_planted(module: &str, run: fn(&AtomicBool, &Waits)) {
    let (trace, measured) = recorded_workload(run);
    let own = |rows: Vec<(f64, String)>| {
        rows.into_iter().filter(|(_, name)| name.contains(module)).collect::<Vec<_>>()
    };
    let holders = own(top(&mutex(&trace)));
    assert!(holders[0].1.ends_with("::reaper"), "{holders:#?}");
    assert!(share(&holders, "::peek") < 2.0, "{holders:#?}");
    let waiters = own(top(&block(&trace)));
    let (waited, _) = waiters.iter().find(|(_, name)| name.ends_with("::victim")).unwrap();
    assert!((waited / measured as f64 - 1.0).abs() < 0.02, "profile {waited} ns, measured {measured} ns");
    assert!(share(&waiters, "::reaper") < 2.0, "{waiters:#?}");
}

#[test]
fn of_a_std_mutex() {
    names_the_planted("::std_mutex::", workload::std_mutex::run);
}

#[test]
fn of_a_parking_lot_mutex() {
    names_the_planted("::parking_lot_mutex::", workload::parking_lot_mutex::run);
}

/// A task that holds an async lock over slow work.
async fn slow_task(lock: Arc<tokio::sync::Mutex<u64>>) {
    for _ in 0..20 {
        let mut guard = lock.lock().await;
        tokio::time::sleep(Duration::from_millis(25)).await;
        *guard += 1;
    }
}

/// A task that needs the lock for next to nothing.
async fn quick_task(lock: Arc<tokio::sync::Mutex<u64>>) {
    for _ in 0..20 {
        *lock.lock().await += 1;
    }
}

#[test]
fn of_a_convoy_of_tasks() {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime =
        kymo::tokio::instrument(&mut builder, "main").worker_threads(2).enable_all().build().unwrap();
    let ((), trace) = recorded::record(|| {
        runtime.block_on(async {
            let lock = Arc::new(tokio::sync::Mutex::new(0));
            let mut tasks = vec![kymo::spawn_named("slow", slow_task(lock.clone()))];
            tasks.extend((0..4).map(|_| kymo::spawn_named("quick", quick_task(lock.clone()))));
            for task in tasks {
                task.await.unwrap();
            }
        });
    });
    let own = |rows: Vec<(f64, String)>| {
        rows.into_iter().filter(|(_, name)| name.contains("_task")).collect::<Vec<_>>()
    };
    let holders = own(top(&mutex(&trace)));
    assert!(holders[0].1.contains("slow_task"), "{holders:#?}");
    let quick: f64 = holders.iter().filter(|(_, name)| name.contains("quick_task")).map(|(own, _)| own).sum();
    assert!(quick < 0.02 * holders[0].0, "{holders:#?}");
    let waiters = own(top(&block(&trace)));
    assert!(waiters[0].1.contains("quick_task"), "{waiters:#?}");
}
