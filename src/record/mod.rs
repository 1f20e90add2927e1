//! The hot path. (skeleton: signatures are agreed, bodies are the record owner's)

pub mod session;

use crate::events::{EventKind, Group, StackId, StrId};

/// Whether events of a group are recorded now: one relaxed load.
#[inline(always)]
pub fn enabled(_group: Group) -> bool {
    false
}

/// Records an event that happens now, if its group is enabled.
#[inline(always)]
pub fn emit<E: EventKind>(event: E) {
    if enabled(E::GROUP) {
        emit_at(crate::clock::ticks(), event);
    }
}

/// Records an event that happened at `ticks`, which must not be before this thread's latest event (it is clamped).
/// The caller has checked [`enabled`].
#[inline(always)]
pub fn emit_at<E: EventKind>(_ticks: u64, _event: E) {}

/// This thread's stack here, interned; leaf first, kymo's own frames still on it (readers take them off by name).
#[inline(never)]
pub fn stack() -> StackId {
    StackId(0)
}

/// The rule for stacks of waits: always from `threshold_ns` on, below that with probability duration / threshold.
#[inline]
pub fn lasted(_begin_ticks: u64, _end_ticks: u64, _threshold_ns: u64) -> bool {
    false
}

/// Interns a string (copied; cut at [`crate::limits::STRING_BYTES`]).
pub fn string(_text: &str) -> StrId {
    StrId(0)
}

/// Never records anything on this thread from now on: for kymo's own threads.
pub fn mute_this_thread() {}
