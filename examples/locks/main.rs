//! A program of plain locks that only calls [`kymo::serve`]: what a profile says of it can be checked against what it
//! measures itself.
//!
//! ```text
//! cargo run --example locks -- std 127.0.0.1:6060      (or parking_lot)
//! curl -o t.kymo 'localhost:6060/debug/pprof/trace?seconds=5'
//! kymo derive mutex t.kymo && go tool pprof -top mutex.pb.gz
//! ```
//!
//! Prints the address it serves. For each line `FROM UNTIL` on its standard input (nanoseconds since the epoch) it
//! prints what its victim waited in that window, as JSON; it ends with its input.

mod workload;

use std::io::BufRead;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use workload::Waits;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let run = match args.next().as_deref() {
        None | Some("std") => workload::std_mutex::run,
        Some("parking_lot") => workload::parking_lot_mutex::run,
        Some(other) => return Err(format!("no such lock: {other}; there are std and parking_lot").into()),
    };
    let server = kymo::serve(args.next().unwrap_or_else(|| "127.0.0.1:6060".into()))?;
    println!("http://{}", server.address());
    let (stop, waits) = (AtomicBool::new(false), Waits::default());
    thread::scope(|scope| {
        scope.spawn(|| run(&stop, &waits));
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let mut window = line.split_whitespace().filter_map(|number| number.parse().ok());
            let (from, until) = (window.next().unwrap_or(0), window.next().unwrap_or(u64::MAX));
            println!("{{\"waited_ns\": {}}}", workload::waited(&waits, from, until));
        }
        stop.store(true, Ordering::Relaxed);
    });
    Ok(())
}
