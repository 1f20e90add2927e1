//! Libraries that are unloaded: their frames keep their names (see [`Loaded`]).

#![allow(unsafe_code, reason = "defines a C function")]

use std::ffi::{c_int, c_void};

use super::interpose::Real;
use crate::record;
use crate::unwind::Loaded;

static CLOSE: Real = Real::new(c"dlclose");

/// The functions behind this file's hooks.
pub(super) static REALS: &[&Real] = &[&CLOSE];

/// dlclose(3)
///
/// # Safety
/// As the C function's.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C-unwind" fn dlclose(handle: *mut c_void) -> c_int {
    type Function = unsafe extern "C-unwind" fn(*mut c_void) -> c_int;
    // SAFETY: dlsym(3) found the function of this name, whose signature this is.
    let real = unsafe { std::mem::transmute::<*mut c_void, Function>(CLOSE.get()) };
    // SAFETY: the caller's argument, unchanged.
    let real = || unsafe { real(handle) };
    if !record::is_on() || record::is_muted() {
        return real();
    }
    let loaded = record::quietly(Loaded::now);
    let result = real();
    record::quietly(|| loaded.unloaded());
    result
}
