//! A service in small, to be recorded: tasks that talk through channels and share locks, on two workers, with calls
//! and spans.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc};

/// Twenty clients, each `rounds` times: an async lock, a small file, a std lock, a message to the server.
pub(crate) fn run(rounds: u64) {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime =
        kymo::tokio::instrument(&mut builder, "main").worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let shared = Arc::new((Mutex::new(0_u64), std::sync::Mutex::new(0_u64)));
        let (sender, receiver) = mpsc::channel::<u64>(4);
        let client = || kymo::spawn_named("client", client(rounds, shared.clone(), sender.clone()));
        let clients: Vec<_> = (0..20).map(|_| client()).collect();
        drop(sender);
        let sum = kymo::spawn_named("server", server(receiver));
        for client in clients {
            client.await.unwrap();
        }
        assert_eq!(sum.await.unwrap(), 20 * rounds);
    });
}

async fn client(rounds: u64, shared: Arc<(Mutex<u64>, std::sync::Mutex<u64>)>, sender: mpsc::Sender<u64>) {
    for _ in 0..rounds {
        *shared.0.lock().await += 1;
        let read = std::fs::read("/proc/self/stat").unwrap().len() as u64;
        *shared.1.lock().unwrap() += read;
        sender.send(1).await.unwrap();
        tokio::task::yield_now().await;
    }
}

async fn server(mut receiver: mpsc::Receiver<u64>) -> u64 {
    let mut sum = 0;
    while let Some(number) = receiver.recv().await {
        let span = kymo::span!("serve");
        sum += number;
        span.field("number", &number.to_string());
    }
    sum
}
