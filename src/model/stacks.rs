//! Interned stacks and what their addresses mean.
//!
//! A stack is a list of addresses, leaf first; an address is one frame, or several where functions were inlined.
//! Frames of an address that nobody could name read `module+0x1234`.

use std::collections::HashMap;

use crate::events::StackId;
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

    /// The module that an address lies in.
    pub fn module(&self, address: u64) -> Option<&Module> {
        let after = self.modules.partition_point(|module| module.start <= address);
        self.modules[..after].last().filter(|module| address < module.end)
    }
}
