//! Addresses to functions, files and lines, inlined ones included.
//!
//! 1. Addresses are grouped by the module that they lie in; each module's file is opened once (see `image`).
//! 2. A stack's address is a return address (see `crate::unwind`), so what is looked up is the byte before it.
//! 3. Debug information names the function, the ones inlined into it there, and their lines (paths that it leaves out
//!    are told from files, see `source_path`); without it the symbol table names the function; without that the frame
//!    reads `module+0x1234`, with the file's own address.
//!
//! A file that is not the one that was running (another build id) is not asked: no name is better than a wrong one.
//! Mapping files and parsing takes from milliseconds to a second, so nothing here belongs on a thread that serves:
//! whoever calls [`resolve`] inside the traced process does so on a thread that it gave a low priority.

use std::collections::HashMap;

use super::image::Image;
use super::source_path::Crates;
use crate::format::{Frame, Module, Symbol};

/// Names addresses by the symbols and debug information of the modules they lie in: a symbol for each different
/// address, ascending. Every symbol has a frame at least.
pub fn resolve(addresses: &[u64], modules: &[Module]) -> Vec<Symbol> {
    let mut addresses = addresses.to_vec();
    addresses.sort_unstable();
    addresses.dedup();
    let mut modules: Vec<&Module> = modules.iter().collect();
    modules.sort_by_key(|module| module.start);
    let mut symbols = Vec::with_capacity(addresses.len());
    let mut rest = addresses.as_slice();
    for module in modules {
        let below = rest.partition_point(|&address| address <= module.start);
        symbols.extend(rest[..below].iter().map(|&address| unknown(address)));
        rest = &rest[below..];
        let inside = rest.partition_point(|&address| address <= module.end);
        resolve_in(module, &rest[..inside], &mut symbols);
        rest = &rest[inside..];
    }
    symbols.extend(rest.iter().map(|&address| unknown(address)));
    symbols
}

/// Names the addresses of one module.
fn resolve_in(module: &Module, addresses: &[u64], symbols: &mut Vec<Symbol>) {
    if addresses.is_empty() {
        return;
    }
    let mut names = Names::default();
    let named = Image::with(module, |image| {
        for &address in addresses {
            let mut frames = image.frames((address - 1).wrapping_sub(module.bias));
            if frames.is_empty() {
                frames.push(offset_in(module, address));
            }
            names.complete(&mut frames, image.crates());
            symbols.push(Symbol { address, frames });
        }
    });
    if named.is_none() {
        symbols.extend(
            addresses.iter().map(|&address| Symbol { address, frames: vec![offset_in(module, address)] }),
        );
    }
}

/// `module+0x1234`: the file's address, which `addr2line -e module` understands.
fn offset_in(module: &Module, address: u64) -> Frame {
    let name = module.path.rsplit('/').next().unwrap_or_default();
    Frame { function: format!("{name}+{:#x}", (address - 1).wrapping_sub(module.bias)), ..Frame::default() }
}

/// An address outside of every module.
fn unknown(address: u64) -> Symbol {
    let frame = Frame { function: format!("{address:#x}"), ..Frame::default() };
    Symbol { address, frames: vec![frame] }
}

/// Names that were demangled already: the same function has many addresses.
#[derive(Default)]
struct Names(HashMap<String, String>);

impl Names {
    /// Fills in what people call the functions of an address.
    fn complete(&mut self, frames: &mut [Frame], crates: &Crates) {
        for frame in frames.iter_mut().filter(|frame| !frame.mangled.is_empty()) {
            frame.function.clone_from(self.demangled(&frame.mangled));
        }
        let outermost = frames.last().map(|frame| (frame.function.clone(), frame.file.clone()));
        let outermost = outermost.as_ref().map(|(function, file)| (function.as_str(), file.as_str()));
        let nameless = |frame: &&mut Frame| frame.mangled.is_empty() && !frame.file.is_empty();
        for frame in frames.iter_mut().filter(nameless) {
            frame.function = crates.path(&frame.function, &frame.file, outermost);
        }
    }

    fn demangled(&mut self, mangled: &str) -> &String {
        if !self.0.contains_key(mangled) {
            let name = rustc_demangle::try_demangle(mangled);
            let name = name.map_or_else(|_| mangled.to_owned(), |name| format!("{name:#}"));
            self.0.insert(mangled.to_owned(), name);
        }
        &self.0[mangled]
    }
}
