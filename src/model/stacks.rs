//! Interned stacks and what their addresses mean.
//!
//! A stack is a list of addresses, leaf first; an address is one frame, or several where functions were inlined.
//! Frames of an address that nobody could name read `module+0x1234`.

use std::collections::HashMap;

use crate::events::{Call, StackId};
use crate::format::{Frame, Module};

/// Stacks by id, modules, and symbols by address.
#[derive(Debug, Clone, Default)]
pub struct Stacks {
    /// Addresses of each stack, leaf first. Return addresses but for the leaf of a signal's stack.
    pub addresses: HashMap<StackId, Vec<u64>>,
    /// What was mapped where, ascending by start.
    pub modules: Vec<Module>,
    /// Frames of each address, innermost first.
    pub symbols: HashMap<u64, Vec<Frame>>,
}

impl Stacks {
    /// The addresses of a stack, leaf first; none for 0 and for one that is missing.
    pub fn addresses(&self, id: StackId) -> &[u64] {
        self.addresses.get(&id).map_or(&[], Vec::as_slice)
    }

    /// The frames of a stack, leaf first, inlined ones included.
    pub fn frames(&self, id: StackId) -> impl Iterator<Item = &Frame> {
        self.addresses(id).iter().flat_map(|address| self.symbols.get(address).into_iter().flatten())
    }

    /// The frames of a stack as its author knows it, leaf first: without the machinery at the leaf. A stack that is
    /// nothing but machinery (an idle worker's) keeps all its frames.
    pub fn user_frames(&self, id: StackId) -> impl Iterator<Item = &Frame> {
        let machinery = self.machinery(id).count();
        let all = self.frames(id).count();
        self.frames(id).skip(if machinery == all { 0 } else { machinery })
    }

    /// The frames of the machinery at a stack's leaf: what the user's code called, down to kymo's hook.
    pub fn machinery(&self, id: StackId) -> impl Iterator<Item = &Frame> {
        // kymo's own frames come first. Among them, one without a path can't be the user's: it is kymo's, inlined.
        let kymos = |frame: &&Frame| owner(&frame.function).is_none_or(|owner| owner == "kymo");
        let leaf = self.frames(id).take_while(kymos).enumerate();
        let kymos =
            leaf.filter(|(_, frame)| owner(&frame.function).is_some()).last().map_or(0, |(last, _)| last + 1);
        let rest = self.frames(id).skip(kymos).take_while(|frame| is_machinery(frame)).count();
        self.frames(id).take(kymos + rest)
    }

    /// The module that an address lies in.
    pub fn module(&self, address: u64) -> Option<&Module> {
        let after = self.modules.partition_point(|module| module.start <= address);
        self.modules[..after].last().filter(|module| address < module.end)
    }
}

/// Crates that are never where the reader looks for the cause, as long as they stand at the leaf.
const MACHINERY: [&str; 14] = [
    "std",
    "core",
    "alloc",
    "kymo",
    "tokio",
    "parking_lot",
    "parking_lot_core",
    "lock_api",
    "crossbeam_channel",
    "crossbeam_utils",
    "futures_core",
    "futures_channel",
    "futures_util",
    "event_listener",
];

/// Functions of the C library that kymo hooks and that are no [`Call`].
const HOOKED: [&str; 12] = [
    "syscall",
    "pthread_mutex_lock",
    "pthread_cond_wait",
    "pthread_cond_timedwait",
    "pthread_rwlock_rdlock",
    "pthread_rwlock_wrlock",
    "pthread_join",
    "pthread_create",
    "sem_wait",
    "sem_timedwait",
    "sem_post",
    "epoll_pwait2",
];

/// Where their sources are, as far as paths tell: for inlined functions, of which some debug information has only the
/// bare name.
const MACHINERY_SOURCES: [&str; 11] = [
    "/library/std/",
    "/library/core/",
    "/library/alloc/",
    "/tokio-1",
    "/parking_lot-0",
    "/parking_lot_core-0",
    "/lock_api-0",
    "/crossbeam-",
    "/futures-",
    "/event-listener-",
    "/kymo-",
];

/// Whether a function belongs to what programs are built on: the standard library, a runtime, kymo's hooks.
fn is_machinery(frame: &Frame) -> bool {
    match owner(&frame.function) {
        Some(owner) => MACHINERY.contains(&owner),
        None if frame.inlined => MACHINERY_SOURCES.iter().any(|part| frame.file.contains(part)),
        None => {
            let name = frame.function.trim_end_matches("64");
            HOOKED.contains(&name) || Call::WORDS.contains(&name)
        }
    }
}

/// The crate that a function belongs to: of `<&alloc::sync::Arc<T> as a::Trait>::method`, `alloc`. A bare name has none.
fn owner(function: &str) -> Option<&str> {
    let path = function.trim_start_matches(['<', '&', '*', '(', '[']);
    let path =
        ["mut ", "const ", "dyn "].iter().fold(path, |path, word| path.strip_prefix(word).unwrap_or(path));
    let (owner, rest) = path.split_at(path.find(|c: char| !c.is_alphanumeric() && c != '_')?);
    rest.starts_with("::").then_some(owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str) -> Frame {
        Frame { function: function.into(), ..Frame::default() }
    }

    #[test]
    fn the_machinery_is_told_by_the_crate_that_owns_the_function() {
        for function in [
            "syscall",
            "read",
            "openat64",
            "std::sys::sync::mutex::futex::Mutex::lock_contended",
            "<std::sync::poison::mutex::Mutex<T>>::lock",
            "<alloc::sync::Arc<shop::State> as core::ops::drop::Drop>::drop",
            "core::ptr::drop_in_place::<std::sync::poison::mutex::MutexGuard<shop::State>>",
            "<&mut tokio::sync::mutex::Mutex<()> as core::future::future::Future>::poll",
            "kymo::sources::interpose::futex",
        ] {
            assert!(is_machinery(&frame(function)), "{function}");
        }
        for function in [
            "main",
            "shop::main",
            "standard::read",
            "<shop::Lock<std::sync::Mutex<()>>>::take",
            "kymo_demo::f",
            "lock",
        ] {
            assert!(!is_machinery(&frame(function)), "{function}");
        }
    }

    #[test]
    fn inlined_functions_without_a_path_are_told_by_their_file() {
        let inlined =
            |function: &str, file: &str| Frame { inlined: true, file: file.into(), ..frame(function) };
        assert!(is_machinery(&inlined("lock", "/rustc/abc/library/std/src/sync/mutex.rs")));
        assert!(is_machinery(&inlined(
            "with<T>",
            "/home/me/.cargo/registry/src/x/parking_lot_core-0.9.12/src/a.rs"
        )));
        assert!(!is_machinery(&inlined("lock", "/home/me/shop/src/lock.rs")));
    }

    #[test]
    fn a_stack_begins_with_the_function_that_its_author_knows() {
        let mut stacks = Stacks::default();
        let functions = [
            "capture",
            "kymo::record::stack",
            "with",
            "kymo::sources::locks::futex",
            "std::sync::poison::mutex::Mutex<T>::lock",
            "shop::reaper",
            "std::thread::spawn",
            "start_thread",
        ];
        for (address, function) in functions.iter().enumerate() {
            stacks.symbols.insert(address as u64, vec![frame(function)]);
        }
        let mut stack = |id, addresses: std::ops::Range<u64>| {
            stacks.addresses.insert(StackId(id), addresses.collect());
        };
        stack(2, 0..8);
        stack(3, 0..5);
        let names =
            |id| stacks.user_frames(StackId(id)).map(|frame| frame.function.as_str()).collect::<Vec<_>>();
        assert_eq!(names(2), functions[5..]);
        assert_eq!(names(3), functions[..5], "nothing but machinery");
        assert_eq!(stacks.machinery(StackId(2)).count(), 5);
    }
}
