//! A recording of this process: a task that holds a std mutex across slow work inside its polls, and others that need it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kymo::events::Groups;
use kymo::record::session::{Capture, CaptureOptions, Resolver};
use kymo::record::sink::MemorySink;

/// The trace's bytes, with names for its addresses.
pub(crate) fn recording() -> Vec<u8> {
    let sink = MemorySink::new(64 << 20);
    let resolver = Some(kymo::model::symbols::resolve as Resolver);
    let capture = Capture::start(CaptureOptions {
        groups: Groups::ALL,
        cpu_hz: 0,
        sink: Box::new(sink.clone()),
        resolver,
    })
    .unwrap();
    run();
    assert_eq!(capture.stop().lost, 0);
    sink.take()
}

fn run() {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime =
        kymo::tokio::instrument(&mut builder, "main").worker_threads(2).enable_all().build().unwrap();
    let catalogue = Arc::new(Mutex::new(0_u64));
    runtime.block_on(async {
        let reaper = kymo::spawn_named("reaper", reap(Arc::clone(&catalogue)));
        let served: Vec<_> =
            (0..4).map(|_| kymo::spawn_named("serve", serve(Arc::clone(&catalogue)))).collect();
        for task in served {
            task.await.unwrap();
        }
        reaper.await.unwrap();
    });
}

async fn reap(catalogue: Arc<Mutex<u64>>) {
    for _ in 0..8 {
        live_reaper_holds(&catalogue);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[inline(never)]
fn live_reaper_holds(catalogue: &Mutex<u64>) {
    let mut count = catalogue.lock().unwrap();
    let until = Instant::now() + Duration::from_millis(20);
    while Instant::now() < until {
        *count = count.wrapping_add(1);
    }
}

async fn serve(catalogue: Arc<Mutex<u64>>) {
    for _ in 0..60 {
        live_serve_needs(&catalogue);
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

#[inline(never)]
fn live_serve_needs(catalogue: &Mutex<u64>) {
    *catalogue.lock().unwrap() += 1;
}
