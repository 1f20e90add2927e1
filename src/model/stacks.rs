//! Interned stacks and what their addresses mean.
//!
//! A stack is a list of addresses, leaf first, each one past the instruction that it means (see `crate::unwind`); an
//! address is one frame, or several where functions were inlined. Frames that nobody could name read `module+0x1234`.
//!
//! The leaf's side of a wait's stack is machinery: kymo's hook, a lock's slow path. [`Stacks::user_frames`] begins
//! where the program's own code does, [`Stacks::wait_kind`] reads from the machinery what kind of wait it was.

use std::collections::HashMap;

use super::machinery::{self, LockKind};
use crate::events::StackId;
use crate::format::{Frame, Module};

/// Stacks by id, modules, and symbols by address.
#[derive(Debug, Clone, Default)]
pub struct Stacks {
    /// Addresses of each stack, leaf first: return addresses, or one past an interrupted instruction. 0 as the last
    /// one: the stack was cut there.
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

    /// The frames of a stack from the first one on that is the program's own, inlined ones included. A stack that is
    /// nothing but machinery (an idle worker's) keeps all of them.
    pub fn user_frames(&self, id: StackId) -> impl Iterator<Item = &Frame> {
        let machinery = self.machinery(id).count();
        let all = machinery == self.frames(id).count();
        self.frames(id).skip(if all { 0 } else { machinery })
    }

    /// The address of the first frame that is the program's own; 0 if there is none.
    pub fn user_address(&self, id: StackId) -> u64 {
        let mut machinery = self.machinery(id).count();
        let own = |address: &&u64| {
            let frames = self.symbols.get(address).map_or(0, Vec::len);
            let own = machinery < frames;
            machinery = machinery.saturating_sub(frames);
            own
        };
        self.addresses(id).iter().find(own).copied().unwrap_or(0)
    }

    /// The frames of a stack before the first one that is the program's own: what that called, down to the hook.
    pub fn machinery(&self, id: StackId) -> impl Iterator<Item = &Frame> {
        // A function without a path is not told by its name. Inside of kymo's hook it can't be the program's.
        let inside = |frame: &&Frame| !frame.function.contains("::") || machinery::is_kymos(&frame.function);
        let hook = self.frames(id).take_while(inside).enumerate();
        let hook = hook.filter(|(_, frame)| machinery::is_kymos(&frame.function)).last();
        let hook = hook.map_or(0, |(last, _)| last + 1);
        let with_address = |&address: &u64| {
            self.symbols.get(&address).into_iter().flatten().map(move |frame| (address, frame))
        };
        let beyond = self.addresses(id).iter().flat_map(with_address).skip(hook);
        let beyond = beyond.take_while(|&(address, frame)| self.is_machinery(address, frame)).count();
        self.frames(id).take(hook + beyond)
    }

    fn is_machinery(&self, address: u64, frame: &Frame) -> bool {
        let in_machinery =
            || self.module(address).is_some_and(|module| machinery::is_machinery_module(&module.path));
        machinery::is_machinery(&frame.function) || in_machinery()
    }

    /// What kind of wait a stack is of, told by its machinery.
    pub fn wait_kind(&self, id: StackId) -> LockKind {
        self.machinery(id)
            .fold(LockKind::Unknown, |inner, frame| machinery::wait_kind(inner, &frame.function))
    }

    /// Names the addresses that have no names yet, from the files of their modules: for a trace that was recorded
    /// without. Takes from milliseconds to seconds, by the size of the programs.
    pub fn resolve_missing(&mut self) {
        let addresses = self.addresses.values().flatten().copied();
        let missing: Vec<u64> =
            addresses.filter(|address| *address != 0 && !self.symbols.contains_key(address)).collect();
        if missing.is_empty() {
            return;
        }
        let symbols = super::symbols::resolve(&missing, &self.modules);
        self.symbols.extend(symbols.into_iter().map(|symbol| (symbol.address, symbol.frames)));
    }

    /// The module that an address lies in.
    pub fn module(&self, address: u64) -> Option<&Module> {
        let after = self.modules.partition_point(|module| module.start <= address);
        self.modules[..after].last().filter(|module| address < module.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let frame = Frame { function: (*function).into(), ..Frame::default() };
            stacks.symbols.insert(address as u64, vec![frame]);
        }
        stacks.addresses.insert(StackId(2), (0..8).collect());
        stacks.addresses.insert(StackId(3), (0..5).collect());
        let names =
            |id| stacks.user_frames(StackId(id)).map(|frame| frame.function.as_str()).collect::<Vec<_>>();
        assert_eq!(names(2), functions[5..]);
        assert_eq!(names(3), functions[..5], "nothing but machinery");
        assert_eq!(stacks.machinery(StackId(2)).count(), 5);
        assert_eq!(stacks.wait_kind(StackId(2)), LockKind::Mutex);
    }

    #[test]
    fn code_of_the_c_library_is_machinery_without_a_name_too() {
        let mut stacks = Stacks::default();
        for (address, function) in [(0x1010, "libc.so.6+0x10"), (0x2010, "shop+0x10")] {
            let frame = Frame { function: function.into(), ..Frame::default() };
            stacks.symbols.insert(address, vec![frame]);
        }
        let module =
            |start, path: &str| Module { start, end: start + 0x1000, path: path.into(), ..Module::default() };
        stacks.modules = vec![module(0x1000, "/lib/libc.so.6"), module(0x2000, "/usr/bin/shop")];
        stacks.addresses.insert(StackId(2), vec![0x1010, 0x2010]);
        assert_eq!(stacks.user_frames(StackId(2)).next().unwrap().function, "shop+0x10");
    }
}
