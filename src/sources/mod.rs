//! Where events come from; each file turns one kind of happening into calls of [`record`](crate::record).
//!
//! `interpose` exports the C symbols, `locks`, `files`, `sockets` and `threads` are the hooked calls, a family a file;
//! `task` and `tokio` follow tasks, `span` is what the user marks.

#[cfg(all(feature = "hooks", target_os = "linux", not(target_feature = "crt-static")))]
mod files;
#[cfg(all(feature = "hooks", target_os = "linux", not(target_feature = "crt-static")))]
mod interpose;
#[cfg(all(feature = "hooks", target_os = "linux", not(target_feature = "crt-static")))]
mod locks;
#[cfg(all(feature = "hooks", target_os = "linux", not(target_feature = "crt-static")))]
mod sockets;
pub mod span;
#[cfg(feature = "tokio")]
pub mod task;
#[cfg(all(feature = "hooks", target_os = "linux", not(target_feature = "crt-static")))]
mod threads;
#[cfg(feature = "tokio")]
pub mod tokio;
#[cfg(feature = "tokio")]
mod waker;
