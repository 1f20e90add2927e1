//! Questions to a [`Trace`](crate::model::Trace): pure, no I/O.
//!
//! Each file answers one kind of question and cannot fail: what is not known is said to be unknown.

pub mod contention;
pub mod convoy;
pub mod links;
pub mod locks;
pub mod memory;
pub mod on_cpu;
pub mod queues;
pub mod rows;
pub mod split;
pub mod stat;
pub mod tiles;
pub mod waiting;
