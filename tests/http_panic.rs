//! A handler that panics costs its own answer.
#![cfg(feature = "http")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use axum::Router;
use axum::routing::get;

/// What the server says to requests on one connection, to its end.
fn ask(server: SocketAddr, paths: &[&str]) -> String {
    let mut stream = TcpStream::connect(server).unwrap();
    for (index, path) in (1..).zip(paths) {
        let connection = if index == paths.len() { "close" } else { "keep-alive" };
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {server}\r\nconnection: {connection}\r\n\r\n").unwrap();
    }
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said
}

async fn panics() -> &'static str {
    panic!("as planned")
}

async fn panics_later() -> &'static str {
    tokio::task::yield_now().await;
    panic!("as planned, later")
}

#[test]
fn i15_handler_panic() {
    let router =
        Router::new().route("/panics", get(panics)).route("/later", get(panics_later)).merge(kymo::router());
    let server = kymo::Server::builder().router(router).serve("127.0.0.1:0").unwrap();
    let said = ask(server.address(), &["/panics", "/later", "/debug/pprof/status"]);
    let statuses: Vec<_> = said.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["500", "500", "200"], "the connection lives: {said}");
    assert_eq!(said.matches("the handler panicked").count(), 2, "{said}");
    assert!(!said.contains("as planned"), "what a panic says may be a secret");
    assert!(ask(server.address(), &["/debug/pprof/"]).starts_with("HTTP/1.1 200"), "the server lives");
}
