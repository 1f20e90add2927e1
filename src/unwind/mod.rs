//! Stacks as lists of addresses. (skeleton: signatures are agreed, bodies are the unwind owner's)

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
    /// Its path.
    pub path: String,
    /// The linker's build id.
    pub build_id: Vec<u8>,
}

/// Lists the process's modules. Takes the loader's lock: never on the hot path.
pub fn modules() -> Vec<LoadedModule> {
    Vec::new()
}

/// Builds the unwind table for the modules that are mapped now, if they changed since the last call. Milliseconds to
/// a hundred: call it on a thread of kymo's own, or at a capture's start. Until then stacks are empty.
pub fn prepare() {}

/// The caller's stack: return addresses, leaf first; returns how many. About 5 ns a frame; takes no locks,
/// allocates nothing, async-signal-safe.
#[inline(never)]
pub fn capture(_frames: &mut [u64]) -> usize {
    0
}
