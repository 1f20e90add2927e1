//! Libraries that are unloaded while something is recorded: remembered, and nothing else is loaded in their place.
//!
//! A stack is addresses, and those are named when the capture ends. Were another library mapped to where an unloaded
//! one was, the old one's frames would get the new one's names. So the place stays reserved, without memory behind it,
//! and the old library stays in the list of modules. When another thread has taken the place at once, nothing there has
//! a name from then on: none is better than a wrong one.

#![allow(unsafe_code, reason = "mmap(2)")]

use std::sync::{Mutex, PoisonError};

use super::{LoadedModule, modules};
use crate::limits::UNLOADED_MODULES;

static GONE: Mutex<Gone> = Mutex::new(Gone { reserved: Vec::new(), taken: Vec::new() });

struct Gone {
    reserved: Vec<LoadedModule>,
    /// Places that were another's before they could be reserved.
    taken: Vec<LoadedModule>,
}

/// Remembers what of `before` is loaded no more.
pub(super) fn remember(before: Vec<LoadedModule>) {
    let after = modules::modules();
    let identity = |module: &LoadedModule| (module.start, module.path.clone(), module.build_id.clone());
    let is_there = |module: &LoadedModule| after.iter().any(|other| identity(other) == identity(module));
    let mut gone = GONE.lock().unwrap_or_else(PoisonError::into_inner);
    for module in before.into_iter().filter(|module| !is_there(module)) {
        // Another thread that unloads at the same time has seen it go too.
        let known = gone.reserved.iter().any(|other| identity(other) == identity(&module));
        if known || gone.reserved.len() + gone.taken.len() >= UNLOADED_MODULES {
            continue;
        }
        match reserve(&module) {
            true => gone.reserved.push(module),
            false => gone.taken.push(module),
        }
    }
}

/// `loaded`, and those that are remembered, without what is at a place that belonged to two.
pub(super) fn with_gone(mut loaded: Vec<LoadedModule>) -> Vec<LoadedModule> {
    let gone = GONE.lock().unwrap_or_else(PoisonError::into_inner);
    loaded.extend(gone.reserved.iter().cloned());
    loaded.retain(|module| {
        !gone.taken.iter().any(|taken| module.start < taken.end && taken.start < module.end)
    });
    loaded
}

/// Whether the module's place was free, and is nobody's from now on.
fn reserve(module: &LoadedModule) -> bool {
    let place = std::ptr::without_provenance_mut(module.start as usize);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
    let length = (module.end - module.start) as usize;
    // SAFETY: it replaces nothing, and nobody may touch it.
    let reserved = unsafe { libc::mmap(place, length, libc::PROT_NONE, flags, -1, 0) };
    reserved == place
}
