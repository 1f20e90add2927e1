//! CPU samples: what they say is true, and taking them hurts nobody. Cases have the ids of the list that they are from.

#![allow(unsafe_code, reason = "threads' clocks, signals and limits, as C programs use them")]
#![allow(clippy::multiple_unsafe_ops_per_block, reason = "a C program's few calls belong together")]

mod oracles;
mod served;
mod watched;

#[path = "cpu/profiled.rs"]
mod profiled;
#[path = "cpu/sampled.rs"]
mod sampled;
#[path = "cpu/signals.rs"]
mod signals;
#[path = "cpu/storms.rs"]
mod storms;
#[path = "cpu/ticks.rs"]
mod ticks;
#[path = "cpu/truth.rs"]
mod truth;
