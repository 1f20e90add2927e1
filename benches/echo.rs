//! What recording costs a server under load: CPU per request of a tokio TCP echo server with sixteen connections,
//! off, with events only, and with the default stacks, in turn within one process.
//!
//! `cargo bench --bench echo`. The clients are a child process of this program, so that their CPU is not counted.
//! A request makes about five hooked calls and three polls, on workers that do nothing else: a stress case.

mod rounds;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kymo::events::Groups;
use rounds::{budget, median};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const CONNECTIONS: usize = 16;
const ROUNDS: usize = 15;
const SLICE: Duration = Duration::from_millis(400);

/// CPU time of this process so far, nanoseconds.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/self/schedstat");
    let own: u64 = text.ok().and_then(|text| text.split(' ').next()?.parse().ok()).unwrap_or_default();
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let others = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok());
    let all: u64 = others.filter_map(|text| text.split(' ').next()?.parse::<u64>().ok()).sum();
    all.max(own)
}

async fn serve(requests: Arc<AtomicU64>, ready: std::sync::mpsc::Sender<SocketAddr>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    ready.send(listener.local_addr().expect("it is bound")).expect("main waits");
    loop {
        let (mut stream, _) = listener.accept().await.expect("clients connect");
        let requests = requests.clone();
        kymo::spawn_named("connection", async move {
            let mut buffer = [0; 256];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                if stream.write_all(&buffer[..count]).await.is_err() {
                    break;
                }
                requests.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}

/// The child: each connection asks as fast as it is answered, until the server goes.
fn clients(server: &str) {
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let mut stream = TcpStream::connect(server).expect("the server listens");
                stream.set_nodelay(true).expect("a socket option");
                let mut buffer = [7; 128];
                while stream.write_all(&buffer).is_ok() && stream.read_exact(&mut buffer).is_ok() {}
            });
        }
    });
}

/// CPU nanoseconds per request over one slice of time.
fn slice(requests: &AtomicU64) -> f64 {
    let (requests_before, cpu_before, begin) = (requests.load(Ordering::Relaxed), cpu_ns(), Instant::now());
    while begin.elapsed() < SLICE {
        std::thread::sleep(Duration::from_millis(20));
    }
    let requests = requests.load(Ordering::Relaxed) - requests_before;
    (cpu_ns() - cpu_before) as f64 / requests.max(1) as f64
}

fn main() {
    if let Ok(server) = std::env::var("KYMO_ECHO_CLIENTS_OF") {
        return clients(&server);
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = kymo::tokio::instrument(&mut builder, "echo").worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime starts");
    let requests = Arc::new(AtomicU64::new(0));
    let (ready, bound) = std::sync::mpsc::channel();
    runtime.spawn(serve(requests.clone(), ready));
    let server = bound.recv().expect("the server binds").to_string();
    let program = std::env::current_exe().expect("this program has a path");
    let mut child = Command::new(program)
        .env("KYMO_ECHO_CLIENTS_OF", &server)
        .stdin(Stdio::null())
        .spawn()
        .expect("it runs");
    while requests.load(Ordering::Relaxed) < 10_000 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let (mut off, mut events, mut stacks) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        off.push(slice(&requests));
        // What takes stacks is left out, but for those of tasks' awaits.
        let capture =
            rounds::record(Groups(kymo::events::Group::Task.bit() | kymo::events::Group::Worker.bit()));
        events.push(slice(&requests));
        capture.stop();
        let capture = rounds::record(Groups::ALL);
        stacks.push(slice(&requests));
        capture.stop();
    }
    child.kill().expect("the clients stop");
    child.wait().expect("the clients are reaped");
    let ratio = |on: &[f64]| median(on.iter().zip(&off).map(|(on, off)| on / off).collect());
    println!(
        "CPU per request: off {:.0} ns, tasks {:.0} ns, all with default stacks {:.0} ns",
        median(off.clone()),
        median(events.clone()),
        median(stacks.clone())
    );
    budget("echo_tasks_ratio", ratio(&events), 1.03);
    budget("echo_default_stacks_ratio", ratio(&stacks), 1.03);
}
