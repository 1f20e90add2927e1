//! Under `--cfg tokio_unstable` the runtime's own hooks show every task, wrapped or not.
//!
//! `RUSTFLAGS="--cfg tokio_unstable" cargo nextest run --target-dir target/tokio_unstable --test tasks_unstable`

#![cfg(all(feature = "tokio", tokio_unstable))]

mod recorded;

use kymo::events::TaskOutcome;
use kymo::model::Trace;
use recorded::{functions, record};
use tokio::sync::mpsc;

fn run(work: impl Future<Output = ()>) -> Trace {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = kymo::tokio::instrument(&mut builder, "main").enable_all().build().unwrap();
    record(|| runtime.block_on(work)).1
}

#[test]
fn a_task_that_nobody_wrapped_has_a_site_polls_and_an_end() {
    let trace = run(async {
        tokio::spawn(async {
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
        })
        .await
        .unwrap();
    });
    let index = trace
        .tasks
        .iter()
        .position(|task| task.site.contains("tests/tasks_unstable.rs:"))
        .expect("it is seen");
    let polls = trace.polls.iter().filter(|poll| poll.task == index as u32);
    assert_eq!(polls.count(), 3);
    assert!(trace.tasks[index].outcome.is_some());
}

#[test]
fn a_task_that_was_wrapped_too_is_one_task_with_its_name_wakes_and_await_stack() {
    #[inline(never)]
    async fn waits_here(receiver: &mut mpsc::Receiver<u32>) -> u32 {
        receiver.recv().await.unwrap()
    }
    let trace = run(async {
        let (sender, mut receiver) = mpsc::channel(1);
        let both = kymo::spawn_named("both", async move { waits_here(&mut receiver).await });
        tokio::task::yield_now().await;
        sender.send(1).await.unwrap();
        both.await.unwrap();
    });
    let named: Vec<_> = trace.tasks.iter().enumerate().filter(|(_, task)| task.name == "both").collect();
    assert_eq!(named.len(), 1, "one task, not two");
    let (index, task) = (named[0].0 as u32, named[0].1);
    assert_eq!(trace.polls.iter().filter(|poll| poll.task == index).count(), 2, "its polls are told once");
    assert_ne!(task.outcome, Some(TaskOutcome::Cancelled));
    assert!(trace.task_wakes.iter().any(|wake| wake.task == index && wake.led_to.is_some()));
    let suspension = trace.suspensions.iter().find(|suspension| suspension.task == index).unwrap();
    let stack = functions(&trace, suspension.stack);
    assert!(stack.iter().any(|name| name.contains("waits_here")), "{stack:#?}");
}
