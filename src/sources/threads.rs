//! Threads beginning and getting names.
//!
//! `pthread_create` is hooked: while threads are recorded, the new thread first tells who created it and where, then
//! runs its routine. Its end is told by the recorder when it retires the thread's place, which happens however the
//! thread ends. Threads from before the capture have no beginning in it.

#![allow(unsafe_code, reason = "defines C functions")]

use std::ffi::{CStr, c_char, c_int, c_void};

use libc::{pthread_attr_t, pthread_t};

use super::descriptors::text_of;
use super::interpose::{Real, keeping_errno};
use super::{cpu, created, sched};
use crate::events::{Count, Group, StackId, ThreadId, ThreadName, ThreadStart};
use crate::record;

type Routine = unsafe extern "C-unwind" fn(*mut c_void) -> *mut c_void;

static CREATE: Real = Real::new(c"pthread_create");
static SETNAME: Real = Real::new(c"pthread_setname_np");

/// The functions behind this file's hooks.
pub(super) static REALS: &[&Real] = &[&CREATE, &SETNAME];

/// What a new thread does, and who made it.
struct Start {
    routine: Routine,
    argument: *mut c_void,
    creator: ThreadId,
    stack: StackId,
}

/// pthread_create(3)
///
/// # Safety
/// As the C function's.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C-unwind" fn pthread_create(
    thread: *mut pthread_t,
    attributes: *const pthread_attr_t,
    routine: Routine,
    argument: *mut c_void,
) -> c_int {
    type Function =
        unsafe extern "C-unwind" fn(*mut pthread_t, *const pthread_attr_t, Routine, *mut c_void) -> c_int;
    // SAFETY: dlsym(3) found the function of this name, whose signature this is.
    let real = unsafe { std::mem::transmute::<*mut c_void, Function>(CREATE.get()) };
    let recorded = record::enabled(Group::Thread) || record::enabled(Group::Sched);
    if !recorded && !created::is_counted() || record::is_muted() {
        // SAFETY: the caller's arguments, unchanged.
        return unsafe { real(thread, attributes, routine, argument) };
    }
    let stack = keeping_errno(|_| record::stack());
    if !recorded {
        // SAFETY: the caller's arguments, unchanged.
        let result = unsafe { real(thread, attributes, routine, argument) };
        if result == 0 {
            created::created(stack);
        }
        return result;
    }
    let start = keeping_errno(|_| {
        let creator = record::this_thread();
        Box::into_raw(Box::new(Start { routine, argument, creator, stack }))
    });
    // SAFETY: the caller's arguments, with a routine that runs the caller's.
    let result = unsafe { real(thread, attributes, run, start.cast()) };
    if result != 0 {
        // SAFETY: no thread was made, so the box is still ours.
        drop(unsafe { Box::from_raw(start) });
        return result;
    }
    created::created(stack);
    result
}

/// Tells that the thread begins, then runs its routine.
unsafe extern "C-unwind" fn run(start: *mut c_void) -> *mut c_void {
    // SAFETY: `pthread_create` made the box for this thread alone. It is emptied before the routine runs, so nothing
    // is left to drop if that never returns.
    let Start { routine, argument, creator, stack } = *unsafe { Box::from_raw(start.cast::<Start>()) };
    // SAFETY: gettid(2) has no preconditions.
    let tid = unsafe { libc::gettid() };
    record::emit(ThreadStart { tid: Count(tid as u64), creator, stack });
    sched::thread_begins();
    cpu::thread_begins(tid as u32);
    // SAFETY: the routine and argument that the creator gave.
    let result = unsafe { routine(argument) };
    cpu::thread_ends(tid as u32);
    sched::thread_ends();
    result
}

/// pthread_setname_np(3): a thread that names itself tells so; names given by others are read at the capture's end.
///
/// # Safety
/// As the C function's.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C-unwind" fn pthread_setname_np(thread: pthread_t, name: *const c_char) -> c_int {
    type Function = unsafe extern "C-unwind" fn(pthread_t, *const c_char) -> c_int;
    // SAFETY: dlsym(3) found the function of this name, whose signature this is.
    let real = unsafe { std::mem::transmute::<*mut c_void, Function>(SETNAME.get()) };
    // SAFETY: the caller's arguments, unchanged.
    let result = unsafe { real(thread, name) };
    // SAFETY: pthread_self(3) has no preconditions.
    let own = thread == unsafe { libc::pthread_self() };
    if result == 0 && own && record::enabled(Group::Thread) {
        // SAFETY: the real function has just read this name to its end.
        let name = unsafe { CStr::from_ptr(name) };
        keeping_errno(|_| record::emit(ThreadName { name: record::string(text_of(name)) }));
    }
    result
}
