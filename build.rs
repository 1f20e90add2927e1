//! Says whether libc calls are hooked: where the feature asks for it and the dynamic linker can find the real ones.
//!
//! Cargo also wants a build script beside `links`, which keeps two copies of the hooks out of one program.

use std::env::var;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(hooked)");
    let wanted = var("CARGO_FEATURE_HOOKS").is_ok();
    let linux = var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux");
    let features = var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    let is_static = features.split(',').any(|feature| feature == "crt-static");
    if wanted && linux && !is_static {
        println!("cargo::rustc-cfg=hooked");
    }
}
