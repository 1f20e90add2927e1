//! Three nested async functions that wait on a channel, and a thread that waits for a lock, recorded to a file.
//!
//! `cargo run --example await_stacks --features cli -- FILE`. `tests/release.rs` builds it with fat LTO, where inlining
//! is at its worst, and looks for all the names in the trace.

use std::error::Error;
use std::fs::File;
use std::sync::{Barrier, Mutex};
use std::time::Duration;

use kymo::events::Groups;
use kymo::record::session::{Capture, CaptureOptions};
use kymo::record::sink::WriteSink;
use tokio::sync::mpsc;

async fn leaf_query(receiver: &mut mpsc::Receiver<u32>) -> u32 {
    receiver.recv().await.unwrap_or_default()
}

async fn handle_request(receiver: &mut mpsc::Receiver<u32>) -> u32 {
    leaf_query(receiver).await + 1
}

async fn server_loop(mut receiver: mpsc::Receiver<u32>) -> u32 {
    let mut sum = 0;
    for _ in 0..3 {
        sum += handle_request(&mut receiver).await;
    }
    sum
}

fn wait_on_a_channel() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(async {
        let (sender, receiver) = mpsc::channel(1);
        let server = kymo::spawn_named("server", server_loop(receiver));
        for round in 0..3 {
            tokio::time::sleep(Duration::from_millis(2)).await;
            sender.send(round).await?;
        }
        server.await?;
        Ok(())
    })
}

#[inline(never)]
fn waits_for_the_lock(lock: &Mutex<u32>) -> u32 {
    lock.lock().map_or(0, |value| *value + 1)
}

fn wait_for_a_lock() {
    let (lock, ready) = (Mutex::new(1), Barrier::new(2));
    std::thread::scope(|scope| {
        let guard = lock.lock();
        scope.spawn(|| {
            ready.wait();
            waits_for_the_lock(&lock)
        });
        ready.wait();
        std::thread::sleep(Duration::from_millis(50));
        drop(guard);
    });
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: await_stacks FILE")?;
    let sink = Box::new(WriteSink::new(File::create(path)?));
    let capture = Capture::start(CaptureOptions { groups: Groups::ALL, cpu_hz: 0, sink, resolver: None })?;
    wait_on_a_channel()?;
    wait_for_a_lock();
    capture.stop();
    Ok(())
}
