//! `…/NAME`: profiles by Go's names, parameters and errors.
//!
//! What there is stands in one table, [`PROFILES`], which the index page shows too. `block` and `mutex` are derived from
//! a trace of the asked-for seconds: the same bytes, read by the same analysis, as `kymo derive` reads from a file.

use axum::http::{Method, StatusCode};
use axum::response::Response;

use super::answer;
use super::params::Params;

/// What is served below `/debug/pprof/`, in the order of the index page.
pub const PROFILES: &[(&str, &str)] = &[
    ("block", "Who waited for locks, and where: contentions and nanoseconds, for the next seconds."),
    ("mutex", "Who held the locks that others waited for, and where: for the next seconds."),
    ("status", "What kymo sees and what it can't, what was lost, the memory it takes; as JSON."),
    (
        "trace",
        "Everything that happens in the next seconds: the execution trace, for `kymo view` or Perfetto.",
    ),
];

/// Answers a profile's name.
pub(super) async fn answer(_method: &Method, name: &str, _params: &Params) -> Response {
    match name {
        "cmdline" => answer::error(
            StatusCode::FORBIDDEN,
            "cmdline is off: arguments may hold secrets, and this version has no way to allow it",
        ),
        _ => answer::error(StatusCode::NOT_FOUND, "Unknown profile"),
    }
}
