//! What it costs to see a task's polls and wakes, against the same work on plain tokio, in turn.
//!
//! `cargo bench --bench tasks`. Medians of interleaved rounds on a current-thread runtime; ends with budget lines.

mod rounds;

use kymo::events::{Group, Groups};
use rounds::{budget, medians};
use tokio::sync::mpsc;

const ROUNDS: usize = 40;
const OPERATIONS: u32 = 20_000;

/// Two tasks that send a token to and fro: an operation is there and back, two polls and two wakes.
async fn ping_pong(rounds: u32, traced: bool) {
    let ((ping, mut pinged), (pong, mut ponged)) = (mpsc::channel(1), mpsc::channel(1));
    let echo = async move {
        while let Some(token) = pinged.recv().await {
            if pong.send(token).await.is_err() {
                break;
            }
        }
    };
    let send = async move {
        for token in 0..rounds {
            ping.send(token).await.unwrap();
            ponged.recv().await.unwrap();
        }
    };
    let (echo, send) = match traced {
        true => (kymo::spawn_named("echo", echo), kymo::spawn_named("send", send)),
        false => (tokio::spawn(echo), tokio::spawn(send)),
    };
    send.await.unwrap();
    echo.await.unwrap();
}

async fn spawn_join(rounds: u32, traced: bool) {
    for round in 0..rounds {
        let task = match traced {
            true => kymo::spawn(async move { round }),
            false => tokio::spawn(async move { round }),
        };
        assert_eq!(task.await.unwrap(), round);
    }
}

/// A task that wakes itself and is polled again: an operation is one wake and one poll.
async fn yields(rounds: u32, traced: bool) {
    let task = async move {
        for _ in 0..rounds {
            tokio::task::yield_now().await;
        }
    };
    match traced {
        true => kymo::spawn(task).await.unwrap(),
        false => tokio::spawn(task).await.unwrap(),
    }
}

/// Plain, traced while nothing records, traced while tasks and workers are recorded.
fn compare<F: Future<Output = ()>>(name: &str, work: fn(u32, bool) -> F) -> [f64; 3] {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let run = |operations, traced| runtime.block_on(work(operations, traced));
    let times = medians(
        ROUNDS,
        OPERATIONS,
        &mut [
            &mut |operations| run(operations, false),
            &mut |operations| run(operations, true),
            &mut |operations| {
                let capture = rounds::record(Groups::NONE.with(Group::Task).with(Group::Worker));
                let begin = std::time::Instant::now();
                run(operations, true);
                RECORDED.with_borrow_mut(|recorded| {
                    recorded.push(begin.elapsed().as_nanos() as f64 / f64::from(operations))
                });
                capture.stop();
            },
        ],
    );
    // Starting and stopping the capture is not part of an operation.
    let recorded = RECORDED.with_borrow_mut(|recorded| rounds::median(std::mem::take(recorded)));
    let [plain, off, _] = times;
    println!("{name}: plain {plain:.0} ns, traced but off {off:.0} ns, recorded {recorded:.0} ns");
    [plain, off, recorded]
}

thread_local! {
    static RECORDED: std::cell::RefCell<Vec<f64>> = const { std::cell::RefCell::new(Vec::new()) };
}

fn main() {
    let [plain, off, on] = compare("wake and poll", yields);
    budget("poll_and_wake_off_ns", off - plain, 2.0);
    budget("poll_and_wake_ns", on - plain, 35.0);
    let [plain, _, on] = compare("channel ping-pong", ping_pong);
    budget("channel_ping_pong_ratio", on / plain, 1.3);
    let [plain, _, on] = compare("spawn and join", spawn_join);
    budget("spawn_and_join_ratio", on / plain, 1.3);
}
