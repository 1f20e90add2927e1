//! Processes that are started and waited for, and signals that are waited for.
//!
//! Each row of the table is one exported C function (see `interpose`). `posix_spawn` starts its child inside glibc, on a
//! stack of the child's own, so no hook runs in the child; `fork`, `vfork` and `exec` are not hooked. What a wait
//! returns is the child's number; a spawn's result is zero or its error.

#![allow(unsafe_code, reason = "defines C functions")]

use std::ffi::{c_char, c_int};

use libc::{
    id_t, idtype_t, pid_t, posix_spawn_file_actions_t, posix_spawnattr_t, rusage, siginfo_t, sigset_t,
    timespec,
};

use super::interpose::{ErrorNumber, calls};

calls! {
    /// posix_spawn(3)
    fn posix_spawn(pid: *mut pid_t, path: *const c_char, actions: *const posix_spawn_file_actions_t,
        attributes: *const posix_spawnattr_t, arguments: *const *mut c_char, environment: *const *mut c_char)
        -> ErrorNumber = PosixSpawn, -1;
    /// posix_spawnp(3)
    fn posix_spawnp(pid: *mut pid_t, file: *const c_char, actions: *const posix_spawn_file_actions_t,
        attributes: *const posix_spawnattr_t, arguments: *const *mut c_char, environment: *const *mut c_char)
        -> ErrorNumber = PosixSpawnp, -1;
    /// wait(2)
    fn wait(status: *mut c_int) -> pid_t = Wait, -1;
    /// waitpid(2)
    fn waitpid(pid: pid_t, status: *mut c_int, options: c_int) -> pid_t = Waitpid, -1;
    /// wait3(2)
    fn wait3(status: *mut c_int, options: c_int, usage: *mut rusage) -> pid_t = Wait3, -1;
    /// wait4(2)
    fn wait4(pid: pid_t, status: *mut c_int, options: c_int, usage: *mut rusage) -> pid_t = Wait4, -1;
    /// waitid(2)
    fn waitid(kind: idtype_t, id: id_t, info: *mut siginfo_t, options: c_int) -> c_int = Waitid, -1;

    /// sigtimedwait(2)
    fn sigtimedwait(set: *const sigset_t, info: *mut siginfo_t, timeout: *const timespec) -> c_int
        = Sigtimedwait, -1;
    /// sigwaitinfo(2)
    fn sigwaitinfo(set: *const sigset_t, info: *mut siginfo_t) -> c_int = Sigwaitinfo, -1;
    /// sigwait(3), which returns its error instead of setting errno
    fn sigwait(set: *const sigset_t, signal: *mut c_int) -> ErrorNumber = Sigwait, -1;
    /// sigsuspend(2)
    fn sigsuspend(mask: *const sigset_t) -> c_int = Sigsuspend, -1;
    /// pause(2)
    fn pause() -> c_int = Pause, -1;
}
