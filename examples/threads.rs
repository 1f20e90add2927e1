//! A program without any async code: the one line, then threads that work, and wait for each other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

fn main() -> Result<(), kymo::ServeError> {
    let server = kymo::serve("127.0.0.1:6060")?;
    println!("http://{}/debug/pprof/", server.address());

    let words: Arc<Mutex<HashMap<u64, u64>>> = Arc::default();
    let workers = (0..4).map(|worker| {
        let words = words.clone();
        thread::spawn(move || count(worker, &words))
    });
    for worker in workers.collect::<Vec<_>>() {
        // A worker that panicked has said so.
        let _ = worker.join();
    }
    Ok(())
}

/// Counts for ever, and sleeps with the lock held, as one shouldn't.
fn count(worker: u64, words: &Mutex<HashMap<u64, u64>>) {
    for word in 0.. {
        let Ok(mut words) = words.lock() else { return };
        *words.entry(word % (worker + 1)).or_default() += 1;
        thread::sleep(Duration::from_millis(1));
    }
}
