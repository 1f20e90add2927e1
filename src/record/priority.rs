//! Steps back behind the service: for work inside the traced process that may take a while, as naming addresses.

#![allow(unsafe_code, reason = "setpriority(2)")]

/// How nice the thread becomes: about a third of a service thread's share when all CPUs are busy. Nicer than that, and
/// whoever waits for a busy service's trace waits for long.
const NICE: libc::c_int = 5;

/// Lowers this thread's priority for the rest of its life. A refusal is fine: then it competes as any other.
pub fn lower_this_threads_priority() {
    // SAFETY: plain numbers; on Linux `who` 0 is the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}
