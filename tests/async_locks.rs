//! Several async locks in one trace: the page's summary shows each with who waits for it and who has it.

#![cfg(feature = "viewer")]

#[path = "oracles/mod.rs"]
mod oracles;

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use kymo::events::PollOutcome;
use kymo::http::api::{self, Loaded, Options, Store};
use kymo::model::{Cause, Ns, Poll, State, StateChange, Suspension, TaskWake, Trace};
use oracles::made::{blank, interval, stack, task, thread};
use serde_json::Value;
use tower::ServiceExt;

const ACQUIRE: &str = "<tokio::sync::batch_semaphore::Acquire as core::future::future::Future>::poll";
const LOCK: &str = "tokio::sync::mutex::Mutex<T>::lock::{closure#0}";
const RELEASE: &str = "tokio::sync::batch_semaphore::Semaphore::release";

fn ms(ms: u64) -> Ns {
    ms * 1_000_000
}

/// One task waits for a lock until another one lets it go.
fn contend(trace: &mut Trace, worker: u32, [waiter, holder]: [&str; 2], (begin, end): (Ns, Ns)) {
    let (waits, holds) = (task(trace, waiter), task(trace, holder));
    let (awaits, releases) = (stack(trace, &[ACQUIRE, LOCK, waiter]), stack(trace, &[RELEASE, holder]));
    let mut poll = |task, begin, end, outcome| {
        trace.polls.push(Poll { task, thread: worker, time: interval(begin, end), outcome, woken_by: None });
        trace.polls.len() as u32 - 1
    };
    poll(waits, begin - 1_000, begin, PollOutcome::Pending);
    let by_poll = Some(poll(holds, end - 1_000, end + 1_000, PollOutcome::Ready));
    let led_to = Some(poll(waits, end + 2_000, end + 3_000, PollOutcome::Ready));
    let blocked = Cause::Suspension(trace.suspensions.len() as u32);
    trace.suspensions.push(Suspension { task: waits, time: interval(begin, end), stack: awaits });
    trace.task_wakes.push(TaskWake {
        at: end,
        task: waits,
        by_thread: worker,
        by_poll,
        stack: releases,
        led_to,
    });
    let states = &mut trace.tasks[waits as usize].states;
    states.push(StateChange { at: begin, state: State::Blocked, cause: blocked });
    states.push(StateChange { at: end, state: State::Runnable, cause: Cause::None });
}

/// What the page is told first of a trace.
fn summary(trace: Trace) -> Value {
    let store = Arc::new(Store::new());
    store.keep(Loaded::new("made".into(), "made.kymo".into(), trace, Vec::new()).unwrap());
    let router = api::router("/ui", store, Options::default());
    let request = Request::get("/ui/api/v1/t/made/summary").body(Body::empty()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let body = runtime.block_on(async {
        router.oneshot(request).await.unwrap().into_body().collect().await.unwrap().to_bytes()
    });
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn each_async_lock_is_shown_with_its_own_holder() {
    let mut trace = blank(ms(1_000));
    let worker = thread(&mut trace, "worker");
    contend(&mut trace, worker, ["shop::checkout", "pool::reaps"], (ms(100), ms(600)));
    contend(&mut trace, worker, ["shop::lists", "cache::refreshes"], (ms(200), ms(900)));
    let summary = summary(trace);
    let told = |finding: &Value| {
        let word = |key: &str| finding[key].as_str().unwrap_or("nobody").to_owned();
        (word("waiter"), word("holder"))
    };
    let told: Vec<_> = summary["findings"].as_array().unwrap().iter().map(told).collect();
    let expected = [("shop::lists", "cache::refreshes"), ("shop::checkout", "pool::reaps")];
    assert_eq!(told, expected.map(|(waiter, holder)| (waiter.to_owned(), holder.to_owned())), "{summary:#}");
}
