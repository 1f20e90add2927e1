//! What is on, what is off and why: each source says so here, `/status`, the trace's header and the viewer show it.
//!
//! A line is set at most a few times in a process's life, never on the hot path.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

static SOURCES: Mutex<Vec<(&'static str, String)>> = Mutex::new(Vec::new());
static CONSUMER_DEAD: AtomicBool = AtomicBool::new(false);

/// Says how a source is: `on`, or `off: why and what would help`.
pub fn set(source: &'static str, state: impl Into<String>) {
    let mut sources = SOURCES.lock().unwrap_or_else(PoisonError::into_inner);
    let state = state.into();
    match sources.iter_mut().find(|(name, _)| *name == source) {
        Some(line) => line.1 = state,
        None => sources.push((source, state)),
    }
}

/// Every source that has said how it is.
pub fn sources() -> Vec<(String, String)> {
    let sources = SOURCES.lock().unwrap_or_else(PoisonError::into_inner);
    let mut lines: Vec<_> = sources.iter().map(|(name, state)| ((*name).to_owned(), state.clone())).collect();
    if CONSUMER_DEAD.load(Ordering::Relaxed) {
        lines.push((
            "drain".into(),
            "consumer_dead: it panicked; the captures of that time have ended".into(),
        ));
    }
    lines
}

/// Notes that the drain has panicked once.
pub fn consumer_died() {
    CONSUMER_DEAD.store(true, Ordering::Relaxed);
}
