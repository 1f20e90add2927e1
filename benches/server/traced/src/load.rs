//! A service in a process of its own, and the load on it: connections that ask as fast as they are answered.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 16;
const SLICE: Duration = Duration::from_millis(250);

pub(crate) struct Loaded {
    service: Child,
    connections: Vec<TcpStream>,
}

impl Loaded {
    pub(crate) fn start(program: &Path, kind: Option<&str>) -> Loaded {
        let mut command = Command::new(program);
        command.args(kind).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut service = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let mut port = String::new();
        let output = service.stdout.as_mut().expect("it is a pipe");
        BufReader::new(output).read_line(&mut port).expect("the service says its port");
        let connect = |_| {
            let stream =
                TcpStream::connect(format!("127.0.0.1:{}", port.trim())).expect("the service listens");
            stream.set_nodelay(true).expect("a TCP option");
            stream
        };
        Loaded { service, connections: (0..CONNECTIONS).map(connect).collect() }
    }

    /// Nanoseconds of the service's CPU for each request of one slice of time.
    pub(crate) fn cpu_per_request(&mut self) -> f64 {
        let before = self.cpu_ns();
        let end = Instant::now() + SLICE;
        let requests: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> =
                self.connections.iter().map(|stream| scope.spawn(move || ask_until(end, stream))).collect();
            threads.into_iter().map(|thread| thread.join().expect("the service answers")).sum()
        });
        (self.cpu_ns() - before) as f64 / requests as f64
    }

    fn cpu_ns(&self) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.service.id())).expect("it runs");
        let times = tasks.flatten().map(|task| std::fs::read_to_string(task.path().join("schedstat")));
        times
            .map(|text| text.ok().and_then(|text| text.split(' ').next()?.parse::<u64>().ok()).unwrap_or(0))
            .sum()
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // It ends when its input does.
        drop(self.service.stdin.take());
        let _ = self.service.wait();
    }
}

fn ask_until(end: Instant, mut stream: &TcpStream) -> u64 {
    let mut answers = BufReader::new(stream);
    let (mut line, mut body, mut requests) = (String::new(), [0; 13], 0);
    while Instant::now() < end {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("the service reads");
        line.clear();
        while !line.ends_with("\r\n\r\n") {
            answers.read_line(&mut line).expect("the service answers");
        }
        answers.read_exact(&mut body).expect("the service answers");
        requests += 1;
    }
    requests
}
