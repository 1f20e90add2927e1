//! Where events come from; each file turns one kind of happening into calls of [`record`](crate::record).
//!
//! `interpose` exports the C symbols, `locks`, `files`, `sockets`, `processes`, `memory`, `libraries` and `threads` are
//! the hooked calls, a family a file, and `descriptors` names what they work on; `unhooked` says why where there are none
//! (`hooked` is set by `build.rs`).
//! `task` and `tokio` follow tasks, `span` is what the user marks, `alloc` watches the program's allocator.
//! `resident` is the process's memory as the kernel counts it.
//! `task` and `tokio` follow tasks, `span` is what the user marks, `alloc` watches the program's allocator,
//! `sched` asks the kernel which thread runs when.
//! `tracing` is what he marks with those crates, `text` how both write values.
//! `cpu` samples threads while they use one.
//! `labels` are words to group profiles by.

pub mod alloc;
#[cfg(hooked)]
mod cancel;
#[cfg_attr(not(hooked), allow(dead_code, reason = "only hooks tell of waits"))]
pub(crate) mod contention;
mod cpu;
#[cfg_attr(not(hooked), allow(dead_code, reason = "only hooks see threads created"))]
pub(crate) mod created;
#[cfg(hooked)]
mod descriptors;
#[cfg(hooked)]
mod files;
#[cfg(hooked)]
mod interpose;
pub mod labels;
#[cfg(hooked)]
mod libraries;
#[cfg(hooked)]
mod locks;
#[cfg(hooked)]
mod memory;
#[cfg(hooked)]
mod processes;
mod resident;
mod sched;
#[cfg(hooked)]
mod sockets;
pub mod span;
#[cfg(feature = "tokio")]
pub mod task;
mod text;
#[cfg(hooked)]
mod threads;
#[cfg(feature = "tokio")]
pub mod tokio;
#[cfg(feature = "tracing")]
pub mod tracing;
#[cfg(not(hooked))]
mod unhooked;
#[cfg_attr(not(hooked), allow(dead_code, reason = "only hooks tell of waits"))]
mod waiters;
#[cfg(feature = "tokio")]
mod waker;
