//! `kymo::Alloc`: who allocates, what lives, and that a program notices nothing.
//!
//! Each test is a process of its own, since the counts and the tables are the process's. The allocator below kymo's is
//! the system's, which notes what it is asked for and can be told to refuse.
#![cfg(feature = "http")]
#![allow(unsafe_code, reason = "an allocator, and calls of it as the language makes them")]
#![allow(clippy::multiple_unsafe_ops_per_block, reason = "what is done to one allocation belongs together")]

#[path = "allocations/edges.rs"]
mod edges;
#[path = "allocations/estimates.rs"]
mod estimates;
#[path = "allocations/moments.rs"]
mod moments;
#[path = "allocations/noting.rs"]
mod noting;
#[path = "allocations/profiles.rs"]
mod profiles;
mod recorded;
mod served;
mod watched;

#[global_allocator]
static ALLOC: kymo::Alloc<noting::Noting> = kymo::Alloc::over(noting::Noting);
