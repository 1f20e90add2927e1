//! Says in `status` why libc calls are not seen, where they are not hooked.
//!
//! Static programs have no dynamic linker that could find the functions behind the hooks.

#![allow(unsafe_code, reason = "runs before main")]

/// Why.
const STATE: &str = if !cfg!(feature = "hooks") {
    "off: kymo was built without its feature `hooks`"
} else if cfg!(target_feature = "crt-static") {
    "off: libc is linked statically; link it dynamically to see its calls"
} else {
    "off: only Linux's libc calls are hooked"
};

extern "C" fn init() {
    crate::status::set("hooks", STATE);
}

#[used]
#[cfg_attr(target_os = "linux", unsafe(link_section = ".init_array"))]
static INIT: extern "C" fn() = init;
