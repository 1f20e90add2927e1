//! Answers in Go's words: its headers, and its errors, which its tools print.
//!
//! `go tool pprof` shows the text of an error only if it finds `X-Go-Pprof` and `text/plain`.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;

/// The policy of pages that need nothing but their own style sheet.
pub(super) const PAGE_POLICY: &str =
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

const X_GO_PPROF: HeaderName = HeaderName::from_static("x-go-pprof");

/// A text, as Go's `http.Error` writes it.
pub(super) fn text(status: StatusCode, text: &str) -> Response {
    let mut answer = Response::new(Body::from(format!("{text}\n")));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

/// An error, as Go's `serveError` writes it.
pub(super) fn error(status: StatusCode, message: &str) -> Response {
    let mut answer = text(status, message);
    answer.headers_mut().insert(X_GO_PPROF, HeaderValue::from_static("1"));
    answer
}

/// `405`, as Go's mux answers.
pub(super) fn method_not_allowed(allow: &'static str) -> Response {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    answer
}

/// Bytes to be saved under a name.
pub(super) fn download(name: &'static str, body: Body) -> Response {
    let mut answer = Response::new(body);
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if let Ok(disposition) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    answer
}

/// A page, a style sheet, JSON: text of some kind that the browser must not guess.
pub(super) fn page(kind: &'static str, body: String) -> Response {
    let mut answer = Response::new(Body::from(body));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// What every answer carries, unless its maker has said something of its own.
pub(super) fn with_common_headers(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let policy = HeaderValue::from_static(PAGE_POLICY);
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(policy);
    headers.entry(header::REFERRER_POLICY).or_insert(HeaderValue::from_static("no-referrer"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    answer
}
