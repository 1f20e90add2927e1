//! What Go programs have built in, for Rust: `/debug/pprof/*` on one line of code, an execution tracer, a trace viewer,
//! and an answer to *why was this slow?*
//!
//! ```no_run
//! # #[cfg(feature = "http")]
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let _kymo = kymo::serve("127.0.0.1:6060")?;
//!     // … the service …
//!     Ok(())
//! }
//! # #[cfg(not(feature = "http"))]
//! # fn main() {}
//! ```
//!
//! Then `curl -o t.kymo 'http://127.0.0.1:6060/debug/pprof/trace?seconds=5'` while it is under load, and
//! `kymo view t.kymo`; or open `http://127.0.0.1:6060/debug/pprof/` and press *record*.
//!
//! # What is seen without a change to the program
//! Waits of std, parking_lot, crossbeam and C locks with who woke them, hooked libc calls, threads: through C symbols
//! that this crate defines (feature `hooks`) and that forward to the real ones. With nothing recording, a hook costs a
//! nanosecond at most.
//!
//! # What a word from you adds
//! [`spawn`] and [`FutureExt::traced`] show tasks: polls, who woke them, where they await. [`tokio::instrument`] shows a
//! runtime's workers. [`span!`], [`UserTask`], [`log!`] and [`counter!`] put your own marks on the timeline;
//! `kymo::tracing::layer` takes those of the `tracing` crates. [`Labels`] are words to group profiles by.
//!
//! # The way of an event
//! ```text
//! sources → record → format → model → analysis → profile, export → http, cli
//! ```
//! Inside the traced program [`sources`] turn what happens into events, [`record`] carries them to the captures that run.
//! A trace is bytes ([`mod@format`]); whoever asks reads them ([`model`]), whether they come from a file or from a service
//! that still runs. With `default-features = false, features = ["analysis"]` the crate is a library for reading traces.
//!
//! # Promises
//! The traced thread never waits for whoever reads the trace; what can't be kept is lost and counted, by thread and
//! reason, in the file itself ([`record`]). Memory is bounded ([`limits`]). Nothing listens, and no thread is started,
//! before it is asked for ([`serve`]).

#[cfg(feature = "analysis")]
pub mod analysis;
pub mod clock;
mod environment;
pub mod events;
#[cfg(feature = "analysis")]
pub mod export;
pub mod format;
#[cfg(feature = "http")]
pub mod http;
pub mod limits;
#[cfg(feature = "analysis")]
pub mod model;
#[cfg(feature = "analysis")]
pub mod profile;
pub mod record;
pub mod sources;
pub mod status;
pub mod unwind;
pub mod wire;

#[cfg(feature = "http")]
pub use http::{ServeError, Server, router, serve};
pub use record::flight::{FlightConfig, FlightError, FlightRecorder, Saving};
pub use sources::alloc::{Alloc, HeapCounts, heap_counts, mem_profile_rate, set_mem_profile_rate};
pub use sources::contention::{set_block_profile_rate, set_mutex_profile_fraction};
pub use sources::labels::{LabelGuard, Labels};
pub use sources::span::{SpanGuard, UserTask};
#[cfg(feature = "tokio")]
pub use sources::task::{FutureExt, Traced, spawn, spawn_named};
#[cfg(feature = "tokio")]
pub use sources::tokio;
#[cfg(feature = "tracing")]
pub use sources::tracing;
