//! What Go programs have built in, for Rust.

#[cfg(feature = "analysis")]
pub mod analysis;
pub mod clock;
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
pub use sources::span::{SpanGuard, UserTask};
#[cfg(feature = "tokio")]
pub use sources::task::{FutureExt, Traced, spawn, spawn_named};
#[cfg(feature = "tokio")]
pub use sources::tokio;
