//! The service under load: a stock axum hello on one worker. Says its port, and serves until its input ends.

use std::io::Read;

use axum::{Router, routing::get};

pub(crate) fn serve() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let router = Router::new().route("/", get(|| async { "Hello, World!" }));
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
    println!("{}", listener.local_addr().expect("it is bound").port());
    runtime.spawn(async move { axum::serve(listener, router).await });
    std::io::stdin().read_to_end(&mut Vec::new()).expect("the bench holds the other end");
}
