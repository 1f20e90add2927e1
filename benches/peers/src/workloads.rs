//! Whole workloads, each in a process of its own for each tool: CPU per operation against the same without a tool.
//!
//! The CPU is the whole process's, so what a tool's background threads do counts. An HTTP load comes from a process of
//! its own, which does not.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use axum::{Router, routing::get};
use tokio::sync::mpsc;

use crate::rounds::{budget, median};
use crate::tools::{Spawner, TOOLS, Tool, Work};

const WORKLOADS: [&str; 3] = ["ping-pong", "spawn-join", "axum-hello"];

const ROUNDS: usize = 9;

/// Connections of the HTTP load.
const CONNECTIONS: usize = 8;

/// Requests on each.
const REQUESTS: usize = 6_000;

/// Prints each workload with each tool, and how kymo stands to plain and to the cheapest peer.
pub(crate) fn compare() {
    for workload in WORKLOADS {
        let mut costs: Vec<Vec<f64>> = vec![Vec::new(); TOOLS.len()];
        for _ in 0..ROUNDS {
            for (tool, costs) in TOOLS.iter().zip(&mut costs) {
                costs.push(in_child(workload, tool));
            }
        }
        let costs: Vec<f64> = costs.into_iter().map(median).collect();
        let name = workload.replace('-', "_");
        for (tool, cost) in TOOLS.iter().zip(&costs) {
            println!("figure {name} {tool} {cost:.0} ns of CPU = {:.2} x plain", cost / costs[0]);
        }
        // In axum, hyper spawns: tools that wrap what they watch see nothing, and cost nothing.
        let peers = if workload == "axum-hello" { &costs[2..3] } else { &costs[2..] };
        let cheapest = peers.iter().copied().fold(f64::INFINITY, f64::min);
        budget(&format!("{name}_over_plain"), costs[1] / costs[0], limit(workload));
        budget(&format!("{name}_over_cheapest_peer"), costs[1] / cheapest, 1.0);
    }
}

fn limit(workload: &str) -> f64 {
    if workload == "axum-hello" { 1.02 } else { 1.3 }
}

fn in_child(workload: &str, tool: &str) -> f64 {
    let myself = std::env::current_exe().expect("this program has a path");
    let output = Command::new(myself).args(["work", workload, tool]).output().expect("it starts again");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim()
        .parse()
        .unwrap_or_else(|_| panic!("{workload} with {tool}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Runs one workload with one tool; prints nanoseconds of CPU for each operation.
pub(crate) fn run(workload: &str, tool: &str) {
    let tool = Tool::start(tool);
    let spawner = tool.spawner();
    let work = |operations| -> Work {
        match workload {
            "ping-pong" => Box::pin(ping_pong(spawner, operations)),
            "spawn-join" => Box::pin(spawn_join(spawner, operations)),
            "axum-hello" => Box::pin(axum_hello()),
            other => panic!("no workload is called {other}"),
        }
    };
    // Once to warm up.
    let mut cost = 0.0;
    for _ in 0..2 {
        let before = cpu_ns();
        // A task of its own: what the runtime blocks on is not one.
        let operations = tool.runtime.block_on(async { tokio::spawn(work(300_000)).await }).expect("it ends");
        cost = (cpu_ns() - before) as f64 / operations as f64;
    }
    println!("{cost}");
    // Not the tool's end, which may write or name things.
    std::process::exit(0);
}

/// Two tasks that send a token to and fro: an operation is there and back.
async fn ping_pong(spawner: Spawner, operations: u64) -> u64 {
    let ((ping, mut pinged), (pong, mut ponged)) = (mpsc::channel(1), mpsc::channel(1));
    let echo = spawner.spawn(async move {
        while let Some(token) = pinged.recv().await {
            if pong.send(token).await.is_err() {
                break;
            }
        }
    });
    let send = spawner.spawn(async move {
        for token in 0..operations {
            ping.send(token).await.expect("the other task listens");
            ponged.recv().await.expect("the other task answers");
        }
    });
    send.await.expect("it ends");
    echo.await.expect("it ends");
    operations
}

async fn spawn_join(spawner: Spawner, operations: u64) -> u64 {
    for operation in 0..operations {
        assert_eq!(spawner.spawn(async move { operation }).await.expect("it ends"), operation);
    }
    operations
}

/// A stock axum service, which spawns its connections itself: wrappers don't see them, a runtime's hooks do.
async fn axum_hello() -> u64 {
    let router = Router::new().route("/", get(|| async { "Hello, World!" }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let client = tokio::task::spawn_blocking(move || {
        let myself = std::env::current_exe().expect("this program has a path");
        let status = Command::new(myself).args(["client", &port.to_string()]).stdout(Stdio::null()).status();
        assert!(status.expect("the load runs").success());
    });
    client.await.expect("it ends");
    server.abort();
    (CONNECTIONS * REQUESTS) as u64
}

/// Loads a service from this process.
pub(crate) fn client(port: &str) {
    let address = format!("127.0.0.1:{port}");
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| requests(&address));
        }
    });
}

fn requests(address: &str) {
    let mut stream = TcpStream::connect(address).expect("the service listens");
    stream.set_nodelay(true).expect("a TCP option");
    let mut answers = BufReader::new(stream.try_clone().expect("a second handle"));
    let (mut line, mut body) = (String::new(), [0; 13]);
    for _ in 0..REQUESTS {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("the service reads");
        line.clear();
        while !line.ends_with("\r\n\r\n") {
            answers.read_line(&mut line).expect("the service answers");
        }
        answers.read_exact(&mut body).expect("the service answers");
    }
}

/// CPU that this process has used.
fn cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime writes to the place it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
