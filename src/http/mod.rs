//! `/debug/pprof/*`: what a browser, curl and Go's tools ask a running service.
//!
//! [`serve`] listens on a thread of its own, with a runtime of its own, never recorded itself; [`router`] is the same
//! for a service that has an axum server already. A request goes through `guard` (who may ask), `pprof` (what is
//! asked, in Go's words) and `capture` (a recording, on a thread of its own); answers are made by the outside half,
//! from bytes, as if they had come from a file.
//!
//! Nothing here listens, records or starts a thread unless it is called.

mod answer;
#[cfg(feature = "viewer")]
pub mod api;
#[cfg(feature = "viewer")]
pub mod assets;
mod capture;
mod export;
mod flight;
mod guard;
mod index;
mod params;
mod pprof;
mod router;
mod server;
mod stall;
mod status;
mod survive;
mod trace;

pub use guard::random_key;
pub use router::router;
pub use server::{Builder, ServeError, Server, serve};
