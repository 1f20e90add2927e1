//! From a frame's registers to its caller's, until the thread's first frame. Pure: memory is a closure.
//!
//! Addresses are in the form that stacks have them (see the folder's head): return addresses, so that a frame's
//! instruction is the one that ends there, looked up at `pc - 1`.
//!
//! Every step moves the stack pointer up by at least a word and reads only at or above it, so a walk ends whatever
//! the rules and the memory hold.

use super::rule::{Cfa, Rule};

const WORD: u64 = 8;

/// What a frame is followed by: the registers at its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Registers {
    /// The return address, or one past the address of an interrupted instruction.
    pub(crate) pc: u64,
    /// The stack pointer.
    pub(crate) sp: u64,
    /// rbp on x86_64, x29 on aarch64.
    pub(crate) fp: u64,
}

/// Offsets into the kernel's `ucontext` on x86_64: the saved rbp, rsp and rip.
const CONTEXT_FP: u64 = 120;
const CONTEXT_SP: u64 = 160;
const CONTEXT_PC: u64 = 168;

/// Writes the stack that begins at `registers`, leaf first, and returns how many addresses that is. A stack deeper
/// than `frames` is cut: its last address is 0.
#[inline(always)]
pub(crate) fn walk(
    mut registers: Registers,
    frames: &mut [u64],
    step: impl Fn(Registers) -> Option<Registers>,
) -> usize {
    let mut count = 0;
    while count < frames.len() {
        frames[count] = registers.pc;
        count += 1;
        match step(registers) {
            Some(caller) => registers = caller,
            None => return count,
        }
    }
    if let Some(last) = frames.last_mut() {
        *last = 0;
    }
    count
}

/// The caller of a frame by its rule; `None` at the thread's first frame and where nothing is known.
/// `read` gives the word at an address that is at or above the stack pointer, if it may be read.
#[inline(always)]
pub(crate) fn step(rule: Rule, at: Registers, read: impl Fn(u64) -> Option<u64>) -> Option<Registers> {
    let cfa = match rule.cfa() {
        Cfa::Rsp(offset) => at.sp.wrapping_add(offset),
        Cfa::Rbp(offset) => at.fp.wrapping_add(offset),
        odd => return odd_step(odd, at, read),
    };
    let slot = cfa.wrapping_sub(rule.rbp_below());
    // Between a function's `pop rbp` and its `ret` the row still says that rbp is saved, now below rsp: rbp has been
    // restored already, and what is below rsp belongs to nobody.
    let fp = if slot != cfa && slot >= at.sp { read(slot)? } else { at.fp };
    returned(at, cfa, fp, read)
}

/// The caller, its stack pointer and frame pointer known.
#[inline(always)]
fn returned(at: Registers, cfa: u64, fp: u64, read: impl Fn(u64) -> Option<u64>) -> Option<Registers> {
    if cfa <= at.sp {
        return None;
    }
    let pc = read(cfa.wrapping_sub(WORD))?;
    (pc != 0).then_some(Registers { pc, sp: cfa, fp })
}

#[cold]
fn odd_step(cfa: Cfa, at: Registers, read: impl Fn(u64) -> Option<u64>) -> Option<Registers> {
    match cfa {
        Cfa::Realigned(below) => {
            let cfa = read(at.fp.wrapping_sub(below))?;
            returned(at, cfa, read(at.fp)?, read)
        }
        Cfa::Plt(threshold) => {
            let pushed = if at.pc.wrapping_sub(1) & 15 >= threshold { WORD } else { 0 };
            returned(at, at.sp.wrapping_add(WORD + pushed), at.fp, read)
        }
        Cfa::Signal => {
            let sp = read(at.sp.wrapping_add(CONTEXT_SP))?;
            let pc = read(at.sp.wrapping_add(CONTEXT_PC))?;
            let fp = read(at.sp.wrapping_add(CONTEXT_FP))?;
            // A handler on a stack of its own was interrupted elsewhere, which the reader wouldn't follow.
            (sp > at.sp).then_some(Registers { pc: pc.wrapping_add(1), sp, fp })
        }
        Cfa::Rsp(_) | Cfa::Rbp(_) | Cfa::End | Cfa::None => None,
    }
}

/// The caller of a frame by its frame pointer, as aarch64 keeps it: the caller's one and the return address, in
/// a record at the frame pointer.
#[cfg_attr(target_arch = "x86_64", allow(dead_code, reason = "x86_64 walks by rules; its tests walk both"))]
#[inline(always)]
pub(crate) fn frame_pointer_step(at: Registers, read: impl Fn(u64) -> Option<u64>) -> Option<Registers> {
    // The top 16 bits may hold the signature of an authenticated return address.
    const ADDRESS: u64 = (1 << 48) - 1;
    if at.fp < at.sp {
        return None;
    }
    let fp = read(at.fp)?;
    let pc = read(at.fp.wrapping_add(WORD))? & ADDRESS;
    (pc != 0).then_some(Registers { pc, sp: at.fp.wrapping_add(2 * WORD), fp })
}
