//! Waits that their thread is cancelled in.
//!
//! pthread_cancel(3) unwinds a thread out of the middle of a wait: the hook's frame is gone without having returned, and
//! a destructor must not stand in it (see [`interpose`](super::interpose)). So the hook leaves a cleanup handler with
//! the C library, by the functions behind the older form of pthread_cleanup_push(3), whose record is plain data.

#![allow(unsafe_code, reason = "registers C functions with the C library")]

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;

/// As the C library declares it; its contents are the library's.
#[repr(C)]
struct Record {
    routine: *const c_void,
    argument: *mut c_void,
    cancel_type: c_int,
    previous: *mut Record,
}

unsafe extern "C-unwind" {
    fn _pthread_cleanup_push(
        record: *mut Record,
        routine: unsafe extern "C-unwind" fn(*mut c_void),
        argument: *mut c_void,
    );
    fn _pthread_cleanup_pop(record: *mut Record, execute: c_int);
}

/// Does `call`; if its thread is cancelled meanwhile, `cancelled` is told of `what` and `call` never returns.
#[inline(always)]
pub(super) fn cancellable<W: Copy, R: Copy>(
    what: &W,
    cancelled: unsafe extern "C-unwind" fn(*mut c_void),
    call: impl FnOnce() -> R,
) -> R {
    let mut record = MaybeUninit::<Record>::uninit();
    let argument = std::ptr::from_ref(what).cast_mut().cast();
    // SAFETY: the record stays where it is until it is popped, or until the frame is unwound, which pops it.
    unsafe { _pthread_cleanup_push(record.as_mut_ptr(), cancelled, argument) };
    let result = call();
    // SAFETY: the record that was pushed last: `call` has popped its own.
    unsafe { _pthread_cleanup_pop(record.as_mut_ptr(), 0) };
    result
}
