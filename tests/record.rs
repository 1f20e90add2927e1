//! What a capture holds is what was emitted while it ran: exactly, by thread, from any number of threads, whatever
//! threads, sinks, signals and forks do meanwhile; and what it lacks is counted, exactly, by thread and reason.

#![allow(unsafe_code, reason = "fork, signals and pthread keys")]

#[path = "record/captured.rs"]
mod captured;
#[path = "record/captures.rs"]
mod captures;
#[path = "record/losses.rs"]
mod losses;
#[path = "record/payloads.rs"]
mod payloads;
#[path = "record/processes.rs"]
mod processes;
#[path = "record/raced.rs"]
mod raced;
#[path = "record/sinks.rs"]
mod sinks;
#[path = "record/switches.rs"]
mod switches;
#[path = "record/threads.rs"]
mod threads;
