//! kymo below a prefix of a service's own axum server: `http://127.0.0.1:4000/internal/debug/pprof/`.
//!
//! The service's server decides who may ask; here everybody who reaches its address can.

use axum::Router;
use axum::routing::get;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let app = Router::new().route("/", get(|| async { "hello\n" })).nest("/internal", kymo::router());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:4000").await?;
    println!("http://{}/internal/debug/pprof/", listener.local_addr()?);
    axum::serve(listener, app).await
}
