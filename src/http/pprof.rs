//! `…/NAME`: profiles by Go's names, parameters and errors.
//!
//! What there is stands in one table, [`PROFILES`], which the index page shows too. With `seconds` a profile is derived
//! from a trace of them: the same bytes, read by the same analysis, as `kymo derive` reads from a file. Without, it is
//! what the process has kept since it began, which each trace tells at its end: so that of a capture of no length.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use tokio::sync::oneshot;

use super::capture::Asked;
use super::params::{BadParam, Params};
use super::{answer, capture, trace};
use crate::events::{Group, Groups};
use crate::model::Trace;
use crate::model::load::load;
use crate::profile::{
    Profile, allocs, allocs_delta, block, cpu, heap, heap_delta, live_block, live_mutex, mutex, threadcreate,
    threadcreate_delta,
};

/// Derives a profile from a trace.
type Derive = fn(&Trace) -> Profile;

/// A profile and how it comes about.
pub(super) struct Served {
    /// Its name, as in its path.
    pub(super) name: &'static str,
    /// A sentence about it.
    pub(super) about: &'static str,
    /// The name of its file when it covers some seconds.
    delta: &'static str,
    /// The events of some seconds that it is derived from.
    groups: Groups,
    /// It is derived from CPU samples: `seconds` has a default, and there is `hz`.
    sampled: bool,
    /// Derives it from them.
    derive: Derive,
    /// The events that say what the process has kept until now, and what they come to.
    live: Option<(Group, Derive)>,
}

impl Served {
    /// What is asked for; none where it is what the process has kept until now.
    fn asks(&self, params: &Params) -> Result<Option<Asked>, BadParam> {
        let (length, cpu_hz) = match self.sampled {
            true => (Some(params.profile_length()?), params.cpu_hz(1)?),
            false => (params.delta_length()?, 0),
        };
        Ok(length.map(|length| Asked { length, groups: self.groups, cpu_hz }))
    }

    fn file(&self, asked: Option<Asked>) -> &'static str {
        if asked.is_some() { self.delta } else { self.name }
    }
}

/// The profiles that are served, by name.
pub(super) const PROFILES: &[Served] = &[
    Served {
        name: "allocs",
        about: "Who has allocated since the process began: objects and bytes, sampled.",
        delta: "allocs-delta",
        groups: Groups::NONE.with(Group::Memory),
        sampled: false,
        derive: allocs_delta,
        live: Some((Group::Memory, allocs)),
    },
    Served {
        name: "block",
        about: "Who waited for locks, channels and other threads, and where: contentions and time.",
        delta: "block-delta",
        groups: Groups::ALL,
        sampled: false,
        derive: block,
        live: Some((Group::Block, live_block)),
    },
    Served {
        name: "heap",
        about: "Who has allocated what lives: objects and bytes, sampled.",
        delta: "heap-delta",
        groups: Groups::NONE.with(Group::Memory),
        sampled: false,
        derive: heap_delta,
        live: Some((Group::Memory, heap)),
    },
    Served {
        name: "mutex",
        about: "Who held the locks that others waited for, and where: contentions and time.",
        delta: "mutex-delta",
        groups: Groups::ALL,
        sampled: false,
        derive: mutex,
        live: Some((Group::Block, live_mutex)),
    },
    Served {
        name: "profile",
        about: "Who used CPUs, and where: samples and time; hz= says how many in a second of a thread's time.",
        delta: "profile",
        groups: Groups::NONE.with(Group::Cpu).with(Group::Thread).with(Group::Label),
        sampled: true,
        derive: cpu,
        live: None,
    },
    Served {
        name: "threadcreate",
        about: "Who has created threads, and how many.",
        delta: "threadcreate-delta",
        groups: Groups::NONE.with(Group::Thread),
        sampled: false,
        derive: threadcreate_delta,
        live: Some((Group::Thread, threadcreate)),
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
    match served.asks(params) {
        Err(bad) => answer::error(StatusCode::BAD_REQUEST, &bad.to_string()),
        Ok(None) if served.live.is_none() => {
            let why =
                format!("{name} needs seconds=N: it is derived from what happens in the next N seconds");
            answer::error(StatusCode::BAD_REQUEST, &why)
        }
        Ok(asked) if method == Method::HEAD => answer::download(served.file(asked), Body::empty()),
        Ok(asked) => derived(served, asked).await,
    }
}

/// Records and derives a profile, on a thread that may take its time: what happens in some seconds, or what the process
/// has kept until now, of which a capture learns at its end.
async fn derived(served: &'static Served, asked: Option<Asked>) -> Response {
    let (groups, derive) = match (asked, served.live) {
        (None, Some((group, derive))) => (Groups::NONE.with(group), derive),
        _ => (served.groups, served.derive),
    };
    let nothing = Asked { length: Duration::ZERO, groups, cpu_hz: 0 };
    let recorded = match capture::in_memory(asked.unwrap_or(nothing)).await {
        Ok(recorded) => recorded,
        Err(error) => return trace::refused(&error),
    };
    let note = trace::note(&recorded);
    let (done, profile) = oneshot::channel();
    let work = move || {
        let profile = load(&recorded.bytes).map(|(trace, _)| derive(&trace).encode());
        // Nobody waits any more: the client has left.
        drop(done.send(profile));
    };
    if let Err(error) = capture::apart("kymo-derive", work) {
        return trace::refused(&error.into());
    }
    let mut answer = match profile.await {
        Ok(Ok(profile)) => answer::download(served.file(asked), profile.into()),
        Ok(Err(error)) => answer::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        Err(_) => trace::refused(&capture::RecordError::Panicked),
    };
    answer.headers_mut().extend(note);
    answer
}
