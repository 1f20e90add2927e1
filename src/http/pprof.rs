//! `…/NAME`: profiles by Go's names, parameters and errors.
//!
//! What there is stands in one table, [`PROFILES`], which the index page shows too. `block` and `mutex` are derived from
//! a trace of the asked-for seconds: the same bytes, read by the same analysis, as `kymo derive` reads from a file.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use tokio::sync::oneshot;

use super::params::Params;
use super::{answer, capture, trace};
use crate::model::Trace;
use crate::model::load::load;
use crate::profile::{Profile, block, mutex};

/// A profile and how it comes about.
pub(super) struct Served {
    /// Its name, as in its path.
    pub(super) name: &'static str,
    /// A sentence about it.
    pub(super) about: &'static str,
    /// The name of its file when it covers some seconds.
    file: &'static str,
    /// Derives it from a trace.
    derive: fn(&Trace) -> Profile,
}

/// The profiles that are served, by name.
pub(super) const PROFILES: &[Served] = &[
    Served {
        name: "block",
        about: "Who waited for locks, channels and other threads, and where: contentions and time.",
        file: "block-delta",
        derive: block,
    },
    Served {
        name: "mutex",
        about: "Who held the locks that others waited for, and where: contentions and time.",
        file: "mutex-delta",
        derive: mutex,
    },
];

/// Answers a profile's name.
pub(super) async fn answer(method: &Method, name: &str, params: &Params) -> Response {
    if name == "cmdline" {
        let why = "cmdline is off: a command's arguments may hold secrets";
        return answer::error(StatusCode::FORBIDDEN, why);
    }
    let Some(served) = PROFILES.iter().find(|served| served.name == name) else {
        return answer::error(StatusCode::NOT_FOUND, "Unknown profile");
    };
    match params.delta_length() {
        Err(bad) => answer::error(StatusCode::BAD_REQUEST, &bad.to_string()),
        Ok(None) => {
            let why =
                format!("{name} needs seconds=N: it is derived from what happens in the next N seconds");
            answer::error(StatusCode::BAD_REQUEST, &why)
        }
        Ok(Some(_)) if method == Method::HEAD => answer::download(served.file, Body::empty()),
        Ok(Some(length)) => derived(served, length).await,
    }
}

/// Records for a while and derives a profile, on a thread that may take its time.
async fn derived(served: &'static Served, length: Duration) -> Response {
    let recorded = match capture::in_memory(length).await {
        Ok(recorded) => recorded,
        Err(error) => return trace::refused(&error),
    };
    let note = trace::note(&recorded);
    let (done, profile) = oneshot::channel();
    let work = move || {
        let profile = load(&recorded.bytes).map(|(trace, _)| (served.derive)(&trace).encode());
        // Nobody waits any more: the client has left.
        drop(done.send(profile));
    };
    if let Err(error) = capture::apart("kymo-derive", work) {
        return trace::refused(&error.into());
    }
    let mut answer = match profile.await {
        Ok(Ok(profile)) => answer::download(served.file, profile.into()),
        Ok(Err(error)) => answer::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        Err(_) => trace::refused(&capture::RecordError::Panicked),
    };
    answer.headers_mut().extend(note);
    answer
}
