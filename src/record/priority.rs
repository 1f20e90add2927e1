//! Steps back behind the service: for work inside the traced process that may take a while, as naming addresses.

#![allow(unsafe_code, reason = "setpriority(2)")]

/// How nice the thread becomes; about a tenth of a service thread's share when all CPUs are busy.
const NICE: libc::c_int = 10;

/// Lowers this thread's priority for the rest of its life. A refusal is fine: then it competes as any other.
pub fn lower_this_threads_priority() {
    // SAFETY: plain numbers; on Linux `who` 0 is the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}
