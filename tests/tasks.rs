//! Tasks tell who they are, when they ran, who woke them and where they awaited: on any executor, on stable Rust.

#![cfg(feature = "tokio")]

mod recorded;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use kymo::FutureExt;
use kymo::events::{PollOutcome, TaskOutcome};
use kymo::model::{State, Suspension, Task, Trace};
use recorded::{functions, record};
use tokio::sync::{mpsc, oneshot};

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    kymo::tokio::instrument(&mut builder, "main").worker_threads(2).enable_all().build().unwrap()
}

fn single() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn task<'a>(trace: &'a Trace, name: &str) -> (u32, &'a Task) {
    let found = trace.tasks.iter().position(|task| task.name == name);
    let index = found.unwrap_or_else(|| {
        panic!("no task {name}: {:?}", trace.tasks.iter().map(|task| &task.name).collect::<Vec<_>>())
    });
    (index as u32, &trace.tasks[index])
}

fn suspensions<'a>(trace: &'a Trace, name: &str) -> Vec<&'a Suspension> {
    let index = task(trace, name).0;
    trace.suspensions.iter().filter(|suspension| suspension.task == index).collect()
}

/// Whether the functions appear on a stack in this order, leaf first.
fn in_order(stack: &[String], names: &[&str]) -> bool {
    let mut rest = stack.iter();
    names.iter().all(|name| rest.any(|function| function.contains(name)))
}

#[test]
fn a_task_has_a_site_a_parent_polls_and_an_end() {
    let ((), trace) = record(|| {
        runtime().block_on(async {
            let parent = kymo::spawn_named("parent", async { kymo::spawn(async { 1 }).await.unwrap() });
            assert_eq!(parent.await.unwrap(), 1);
        });
    });
    let (parent, _) = task(&trace, "parent");
    let child =
        trace.tasks.iter().find(|task| task.parent == Some(parent)).expect("the child knows its parent");
    assert!(child.site.contains("tests/tasks.rs:"), "{}", child.site);
    assert_eq!((child.outcome, child.life.open), (Some(TaskOutcome::Done), false));
    let outcomes: Vec<_> =
        trace.polls.iter().filter(|poll| poll.task == parent).map(|poll| poll.outcome).collect();
    assert_eq!(outcomes.last(), Some(&PollOutcome::Ready));
}

#[test]
fn a_wake_names_the_task_that_woke_and_leads_to_the_poll() {
    let ((), trace) = record(|| {
        single().block_on(async {
            let (sender, receiver) = oneshot::channel();
            let receiver = kymo::spawn_named("receiver", async { receiver.await.unwrap() });
            tokio::task::yield_now().await;
            kymo::spawn_named("sender", async { sender.send(5).unwrap() });
            assert_eq!(receiver.await.unwrap(), 5);
        });
    });
    let (receiver, _) = task(&trace, "receiver");
    let (sender, _) = task(&trace, "sender");
    let wake = trace.task_wakes.iter().find(|wake| wake.task == receiver).expect("the receiver was woken");
    let by = wake.by_poll.map(|poll| trace.polls[poll as usize].task);
    assert_eq!(by, Some(sender));
    let poll = &trace.polls[wake.led_to.expect("it led to a poll") as usize];
    assert_eq!((poll.task, poll.outcome), (receiver, PollOutcome::Ready));
}

#[test]
fn a_cancelled_and_a_panicked_task_end_as_such() {
    let ((), trace) = record(|| {
        single().block_on(async {
            let endless = kymo::spawn_named("endless", std::future::pending::<()>());
            tokio::task::yield_now().await;
            endless.abort();
            assert!(endless.await.unwrap_err().is_cancelled());
            assert!(
                kymo::spawn_named("faulty", async { panic!("as planned") }).await.unwrap_err().is_panic()
            );
        });
    });
    assert_eq!(task(&trace, "endless").1.outcome, Some(TaskOutcome::Cancelled));
    let (faulty, task) = task(&trace, "faulty");
    assert_eq!(task.outcome, Some(TaskOutcome::Panicked));
    assert!(trace.polls.iter().any(|poll| poll.task == faulty && poll.outcome == PollOutcome::Panicked));
}

#[inline(never)]
async fn leaf_query(receiver: &mut mpsc::Receiver<u32>) -> u32 {
    receiver.recv().await.unwrap()
}

#[inline(never)]
async fn handle_request(receiver: &mut mpsc::Receiver<u32>) -> u32 {
    leaf_query(receiver).await + 1
}

#[inline(never)]
async fn server_loop(mut receiver: mpsc::Receiver<u32>, rounds: u32) -> u32 {
    let mut sum = 0;
    for _ in 0..rounds {
        sum += handle_request(&mut receiver).await;
    }
    sum
}

#[test]
fn the_await_stack_names_every_async_function_at_every_suspension() {
    const ROUNDS: u32 = 20;
    let ((), trace) = record(|| {
        single().block_on(async {
            let (sender, receiver) = mpsc::channel(1);
            let server = kymo::spawn_named("server", server_loop(receiver, ROUNDS));
            for round in 0..ROUNDS {
                // Some suspensions are short, so that the channel keeps its waker; some are long.
                if round % 3 == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                tokio::task::yield_now().await;
                sender.send(round).await.unwrap();
            }
            server.await.unwrap();
        });
    });
    let suspensions = suspensions(&trace, "server");
    assert!(suspensions.len() as u32 >= ROUNDS / 2, "{}", suspensions.len());
    for suspension in suspensions {
        let stack = functions(&trace, suspension.stack);
        assert!(in_order(&stack, &["leaf_query", "handle_request", "server_loop"]), "{stack:#?}");
    }
}

#[test]
fn after_a_long_wait_the_await_stack_is_fresh_though_the_leaf_keeps_its_waker() {
    #[inline(never)]
    async fn first_place(receiver: &mut mpsc::Receiver<u32>) -> u32 {
        receiver.recv().await.unwrap()
    }
    #[inline(never)]
    async fn second_place(receiver: &mut mpsc::Receiver<u32>) -> u32 {
        receiver.recv().await.unwrap()
    }
    let ((), trace) = record(|| {
        single().block_on(async {
            let (sender, mut receiver) = mpsc::channel(1);
            let both = kymo::spawn_named("both", async move {
                first_place(&mut receiver).await;
                second_place(&mut receiver).await;
            });
            for round in 0..2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
                sender.send(round).await.unwrap();
            }
            both.await.unwrap();
        });
    });
    let suspensions = suspensions(&trace, "both");
    let names = |index: usize| functions(&trace, suspensions[index].stack);
    assert!(in_order(&names(0), &["first_place"]), "{:#?}", names(0));
    assert!(in_order(&names(1), &["second_place"]), "{:#?}", names(1));
}

#[test]
fn of_several_leaves_the_last_one_polled_is_the_await() {
    #[inline(never)]
    async fn waits_here(receiver: &mut mpsc::Receiver<u32>) -> u32 {
        receiver.recv().await.unwrap()
    }
    let ((), trace) = record(|| {
        single().block_on(async {
            let ((left, mut first), (_right, mut second)) = (mpsc::channel(1), mpsc::channel::<u32>(1));
            let both = kymo::spawn_named("select", async move {
                tokio::select! { biased; value = first.recv() => value.unwrap(), value = waits_here(&mut second) => value }
            });
            tokio::time::sleep(Duration::from_millis(2)).await;
            left.send(3).await.unwrap();
            assert_eq!(both.await.unwrap(), 3);
        });
    });
    let stack = functions(&trace, suspensions(&trace, "select")[0].stack);
    assert!(in_order(&stack, &["waits_here"]), "{stack:#?}");
}

#[test]
fn a_task_that_lives_already_tells_a_later_capture_who_it_is() {
    let runtime = runtime();
    let (sender, receiver) = mpsc::channel(1);
    let server = runtime.spawn(async { server_loop(receiver, 2).traced("early bird").await });
    runtime.block_on(sender.send(1)).unwrap();
    let ((), trace) = record(|| {
        runtime.block_on(async {
            sender.send(2).await.unwrap();
            server.await.unwrap();
        });
    });
    assert!(task(&trace, "early bird").1.site.contains("tests/tasks.rs:"));
}

#[test]
fn workers_are_told_from_other_threads_also_by_a_later_capture() {
    let runtime = runtime();
    runtime.block_on(async { tokio::spawn(async {}).await.unwrap() });
    let ((), trace) = record(|| {
        runtime.block_on(async {
            kymo::spawn_named("job", async {}).await.unwrap();
            tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(1))).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        });
    });
    let workers: Vec<_> = trace.threads.iter().filter_map(|thread| thread.worker.as_ref()).collect();
    assert!(!workers.is_empty() && workers.len() <= 3, "{workers:?}");
    assert!(workers.iter().all(|(runtime, _)| runtime == "main"));
    assert!(!trace.parks.is_empty());
    let idle = |thread: &kymo::model::Thread| thread.states.iter().any(|change| change.state == State::Idle);
    assert!(trace.threads.iter().any(|thread| thread.worker.is_some() && idle(thread)));
}

/// The smallest executor: a thread that parks.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn any_executor_will_do_and_wakers_outlive_their_task() {
    let (kept, trace) = record(|| {
        let mut kept = None;
        let answer = block_on(
            async {
                let mut polls = 0;
                std::future::poll_fn(|context| {
                    polls += 1;
                    if polls == 3 {
                        return Poll::Ready(42);
                    }
                    kept = Some(context.waker().clone());
                    context.waker().wake_by_ref();
                    Poll::Pending
                })
                .await
            }
            .traced("by hand"),
        );
        assert_eq!(answer, 42);
        let kept = kept.unwrap();
        let other = kept.clone();
        other.wake();
        kept
    });
    let (by_hand, task) = task(&trace, "by hand");
    assert_eq!(task.outcome, Some(TaskOutcome::Done));
    assert_eq!(trace.polls.iter().filter(|poll| poll.task == by_hand).count(), 3);
    assert_eq!(trace.task_wakes.iter().filter(|wake| wake.led_to.is_some()).count(), 2);
    kept.wake();
}

#[test]
fn spans_user_tasks_messages_and_counters_are_there() {
    let ((), trace) = record(|| {
        let order = kymo::UserTask::new("order");
        let charge = order.child("charge");
        {
            let span = kymo::span!("render");
            span.field("page", "cart");
            kymo::log!("db", "slow: {} ms", 48);
            kymo::counter!("queue", -3);
        }
        drop(charge);
    });
    let names: Vec<_> = trace.spans.iter().map(|span| trace.text(span.name)).collect();
    assert_eq!(names, ["order", "charge", "render"]);
    assert_eq!(trace.spans[1].parent, Some(trace.spans[0].id));
    assert!(trace.spans.iter().all(|span| !span.time.open));
    let fields: Vec<_> = trace.spans[2].fields.iter().map(|&(k, v)| (trace.text(k), trace.text(v))).collect();
    assert_eq!(fields, [("page", "cart")]);
    assert_eq!(trace.text(trace.logs[0].message), "slow: 48 ms");
    assert_eq!((trace.counters[0].name.as_str(), trace.counters[0].values[0].1), ("queue", -3));
}
