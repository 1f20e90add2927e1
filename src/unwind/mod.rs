//! Stacks as lists of addresses: this thread's, now, at about 5 ns a frame.
//!
//! x86_64 programs have no frame pointers, so the way from a frame to its caller is looked up: [`prepare`] reads every
//! module's `.eh_frame` once (`table`, rows as `rule`s), [`capture`] reads the registers and what it may of the stack
//! (`capture`, `maps`), and `walk` goes from one to the other. On aarch64, where compilers keep frame pointers, it
//! follows those.
//!
//! **Addresses in a stack** are return addresses; the address of an interrupted instruction is kept plus one. So the
//! instruction that an address means is always found at `address - 1`, which readers look up, and nothing needs to
//! say which kind an address is.
//!
//! [`capture`] and [`capture_from`] MUST stay async-signal-safe: no lock, no allocation, no libc call. Otherwise a hook
//! or a sample deadlocks the program. [`prepare`] and [`modules`] take the dynamic linker's lock and allocate: they
//! belong to a capture's start.
//!
//! Does not name anything: `model::symbols` does.

mod capture;
mod gone;
mod maps;
#[cfg_attr(target_arch = "aarch64", allow(dead_code, reason = "frame pointers need no frame descriptions"))]
mod modules;
#[cfg(target_arch = "x86_64")]
mod prepare;
mod resident;
#[cfg_attr(target_arch = "aarch64", allow(dead_code, reason = "frame pointers need no rules"))]
mod rule;
#[cfg_attr(target_arch = "aarch64", allow(dead_code, reason = "frame pointers need no rules"))]
mod table;
#[cfg_attr(target_arch = "aarch64", allow(dead_code, reason = "frame pointers need no rules"))]
mod walk;

/// A mapped object, as the dynamic linker lists it.
#[derive(Debug, Clone, Default)]
pub struct LoadedModule {
    /// Address of the first mapped byte.
    pub start: u64,
    /// Address after the last one.
    pub end: u64,
    /// What to subtract from an address to get the one in the file.
    pub bias: u64,
    /// File offset of the executable segment.
    pub offset: u64,
    /// Its path; `[vdso]` for the kernel's.
    pub path: String,
    /// The linker's build id, empty if there is none.
    pub build_id: Vec<u8>,
}

pub use resident::stay;

/// Lists the process's modules, and those that [`Loaded::unloaded`] remembers. Takes the loader's lock: never on the hot
/// path.
pub fn modules() -> Vec<LoadedModule> {
    gone::with_gone(modules::modules())
}

/// What is loaded before something is unloaded while stacks are taken.
#[derive(Debug)]
pub struct Loaded(Vec<LoadedModule>);

impl Loaded {
    /// Now.
    pub fn now() -> Loaded {
        Loaded(modules::modules())
    }

    /// What was unloaded since keeps its place, so that its frames keep their names.
    pub fn unloaded(self) {
        gone::remember(self.0);
    }
}

/// Builds the unwind table for the modules that are mapped now, if they changed since the last call. About a
/// millisecond for each megabyte of code: call it on a thread of kymo's own, or at a capture's start. Until then
/// stacks are empty.
pub fn prepare() {
    #[cfg(target_arch = "x86_64")]
    prepare::prepare();
}

/// The caller's stack: addresses, leaf first; returns how many. A deeper stack than `frames` is cut: its last address
/// is 0. About 5 ns a frame; takes no locks, allocates nothing, async-signal-safe.
///
/// A thread's first call, and the first on another stack, reads `/proc/self/maps` for its bounds.
#[inline(always)]
pub fn capture(frames: &mut [u64]) -> usize {
    capture::capture(frames)
}

/// The stack of what a signal interrupted, from the context that its handler was given; otherwise as [`capture`].
pub fn capture_from(context: &libc::ucontext_t, frames: &mut [u64]) -> usize {
    capture::capture_from(context, frames)
}

#[cfg(target_arch = "x86_64")]
use prepare::published;
