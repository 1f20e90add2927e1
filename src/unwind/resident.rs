//! Keeps the library that kymo is in loaded.
//!
//! A plugin that links kymo may be loaded and unloaded any number of times, and each time kymo would take a key of the
//! process's 1024, and its handlers of forks and of ending threads would point to where nothing is.

#![allow(unsafe_code, reason = "asks the dynamic linker")]

use std::ffi::c_void;
use std::sync::Once;

/// From now on dlclose(3) does not unload it. Nothing to do in a program that is linked with kymo.
pub fn stay() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let own = object_of(stay as *const c_void);
        // SAFETY: getauxval(3) has no preconditions.
        let program =
            object_of(std::ptr::without_provenance(unsafe { libc::getauxval(libc::AT_PHDR) } as usize));
        let (Some(own), Some(program)) = (own, program) else { return };
        if own.dli_fbase == program.dli_fbase {
            return;
        }
        let flags = libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
        // SAFETY: the linker's own name of a library that is loaded. The handle is kept, which is what it is for.
        unsafe { libc::dlopen(own.dli_fname, flags) };
    });
}

/// What is mapped at an address.
fn object_of(address: *const c_void) -> Option<libc::Dl_info> {
    // SAFETY: null pointers are what it may be without an answer.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: a live place for the answer; the address is only compared.
    let found = unsafe { libc::dladdr(address, &mut info) };
    (found != 0 && !info.dli_fname.is_null()).then_some(info)
}
