//! A client for the tests, as plain as can be: it sends the bytes that it is told and shows what came back.

#![allow(dead_code, reason = "each test uses its part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a server said.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The body came whole: its length, or its last chunk.
    pub(crate) whole: bool,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }
}

/// A request on its way: its head is read, its body not yet.
pub(crate) struct Exchange {
    stream: BufReader<TcpStream>,
    answer: Answer,
    has_body: bool,
}

pub(crate) fn get(server: SocketAddr, path: &str) -> Answer {
    ask(server, "GET", path, &[])
}

pub(crate) fn ask(server: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    begin(server, method, path, headers).finish()
}

/// Sends a request and reads the head of its answer.
pub(crate) fn begin(server: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Exchange {
    let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        head += &format!("host: {server}\r\n");
    }
    headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    send(server, format!("{head}\r\n").as_bytes(), method != "HEAD")
}

/// Sends any bytes and reads the head of what comes back.
pub(crate) fn send(server: SocketAddr, bytes: &[u8], has_body: bool) -> Exchange {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // A server that refuses may close before it has read everything.
    let _ = stream.write_all(bytes);
    let mut stream = BufReader::new(stream);
    let mut answer = Answer::default();
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).unwrap_or_default() == 0 || line == "\r\n" {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    if let Some(first) = lines.first() {
        answer.status = first.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    }
    let pairs = lines.iter().skip(1).filter_map(|line| line.split_once(": "));
    answer.headers = pairs.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    Exchange { stream, answer, has_body }
}

impl Exchange {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.answer.header(name)
    }

    pub(crate) fn status(&self) -> u16 {
        self.answer.status
    }

    /// Reads the body and keeps it.
    pub(crate) fn finish(mut self) -> Answer {
        let mut body = Vec::new();
        self.answer.whole = self.read_body(|bytes| body.extend_from_slice(bytes));
        self.answer.body = body;
        self.answer
    }

    /// Reads the body and hands it on in pieces; whether it came whole.
    pub(crate) fn read_body(&mut self, mut take: impl FnMut(&[u8])) -> bool {
        if !self.has_body {
            return true;
        }
        match self.answer.header("content-length").map(|length| length.parse::<u64>().unwrap()) {
            Some(length) => copy(&mut self.stream, length, &mut take) == length,
            None => self.read_chunks(take),
        }
    }

    fn read_chunks(&mut self, mut take: impl FnMut(&[u8])) -> bool {
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).unwrap_or_default() == 0 {
                return false;
            }
            let length = u64::from_str_radix(line.trim(), 16).expect("a chunk begins with its length");
            if copy(&mut self.stream, length, &mut take) < length {
                return false;
            }
            self.stream.read_line(&mut String::new()).unwrap();
            if length == 0 {
                return true;
            }
        }
    }
}

fn copy(from: &mut impl Read, length: u64, take: &mut impl FnMut(&[u8])) -> u64 {
    let (mut buffer, mut done) = (vec![0; 64 * 1024], 0);
    while done < length {
        let most = buffer.len().min((length - done) as usize);
        match from.read(&mut buffer[..most]) {
            Ok(0) | Err(_) => break,
            Ok(read) => {
                take(&buffer[..read]);
                done += read as u64;
            }
        }
    }
    done
}

/// Tests that record take turns where they share a process: they count its captures.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
