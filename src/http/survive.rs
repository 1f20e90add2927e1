//! A handler that panics is an answer of 500, and nothing else: its connection, the server and the service go on.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;

use super::answer;

/// Answers for a handler that panics. The panic has been told by the program's own hook, as any other.
pub(super) async fn survive(request: Request, next: Next) -> Response {
    let mut handler = pin!(next.run(request));
    // What a handler shares with others is behind locks, which are whole after each statement.
    let poll = |context: &mut std::task::Context<'_>| match catch_unwind(AssertUnwindSafe(|| {
        handler.as_mut().poll(context)
    })) {
        Ok(poll) => poll,
        Err(_) => Poll::Ready(panicked()),
    };
    std::future::poll_fn(poll).await
}

fn panicked() -> Response {
    answer::error(
        StatusCode::INTERNAL_SERVER_ERROR,
        "kymo: the handler panicked: the service's standard error says where",
    )
}
