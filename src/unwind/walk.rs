//! From a frame's registers to its caller's, until the thread's first frame. Pure: memory is a trait.
//!
//! Addresses are in the form that stacks have them (see the folder's head): return addresses, so that a frame's
//! instruction is the one that ends there, looked up at `pc - 1`.
//!
//! Every step moves the stack pointer up by at least a word and reads only at or above it, so a walk ends whatever
//! the rules and the memory hold.

use super::rule::{Base, Cfa, Rule};

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

/// A way from a frame to its caller; `None` where a stack ends.
pub(crate) trait Step {
    fn caller(&self, at: Registers) -> Option<Registers>;
}

impl<F: Fn(Registers) -> Option<Registers>> Step for F {
    #[inline(always)]
    fn caller(&self, at: Registers) -> Option<Registers> {
        self(at)
    }
}

/// Writes the stack that begins at `registers`, leaf first, and returns how many addresses that is. A stack deeper
/// than `frames` is cut: its last address is 0.
#[inline(always)]
pub(crate) fn walk(mut registers: Registers, frames: &mut [u64], step: &impl Step) -> usize {
    let mut count = 0;
    while count < frames.len() {
        frames[count] = registers.pc;
        count += 1;
        match step.caller(registers) {
            Some(caller) => registers = caller,
            None => return count,
        }
    }
    if let Some(last) = frames.last_mut() {
        *last = 0;
    }
    count
}

/// The part of memory that a walk may read. `Copy` and small, to be passed in registers.
pub(crate) trait Words: Copy {
    /// The word at an address, if it may be read.
    fn word(self, address: u64) -> Option<u64>;
}

/// The caller of a frame by its rule; `None` at the thread's first frame and where nothing is known.
#[inline(always)]
pub(crate) fn step(rule: Rule, at: Registers, stack: impl Words) -> Option<Registers> {
    let Some((base, offset)) = rule.base() else { return odd_step(rule, at.pc, at.sp, at.fp, stack) };
    let cfa = if base == Base::Rbp { at.fp } else { at.sp }.wrapping_add(offset);
    let slot = cfa.wrapping_sub(rule.rbp_below());
    // Between a function's `pop rbp` and its `ret` the row still says that rbp is saved, now below rsp: rbp has been
    // restored already, and what is below rsp belongs to nobody.
    let fp = if slot != cfa && slot >= at.sp { stack.word(slot)? } else { at.fp };
    returned(at.sp, cfa, fp, stack)
}

/// The caller, its stack pointer and frame pointer known.
#[inline(always)]
fn returned(sp: u64, cfa: u64, fp: u64, stack: impl Words) -> Option<Registers> {
    if cfa <= sp {
        return None;
    }
    let pc = stack.word(cfa.wrapping_sub(WORD))?;
    (pc != 0).then_some(Registers { pc, sp: cfa, fp })
}

/// The rare rules. The registers come one by one: as a struct they would be passed in memory, and so live there, which
/// doubles the cost of every step.
#[cold]
#[inline(never)]
fn odd_step(rule: Rule, pc: u64, sp: u64, fp: u64, stack: impl Words) -> Option<Registers> {
    match rule.odd() {
        Cfa::Realigned(below) => returned(sp, stack.word(fp.wrapping_sub(below))?, stack.word(fp)?, stack),
        Cfa::Plt(threshold) => {
            let pushed = if pc.wrapping_sub(1) & 15 >= threshold { WORD } else { 0 };
            returned(sp, sp.wrapping_add(WORD + pushed), fp, stack)
        }
        Cfa::Signal => {
            let pc = stack.word(sp.wrapping_add(CONTEXT_PC))?.wrapping_add(1);
            let fp = stack.word(sp.wrapping_add(CONTEXT_FP))?;
            // A handler on a stack of its own was interrupted on another, which is not followed.
            let interrupted =
                stack.word(sp.wrapping_add(CONTEXT_SP)).filter(|&interrupted| interrupted > sp)?;
            Some(Registers { pc, sp: interrupted, fp })
        }
        Cfa::Rsp(_) | Cfa::Rbp(_) | Cfa::End | Cfa::None => None,
    }
}

/// The caller of a frame by its frame pointer, as aarch64 keeps it: the caller's one and the return address, in
/// a record at the frame pointer.
#[cfg_attr(target_arch = "x86_64", allow(dead_code, reason = "x86_64 walks by rules; its tests walk both"))]
#[inline(always)]
pub(crate) fn frame_pointer_step(at: Registers, stack: impl Words) -> Option<Registers> {
    // The top 16 bits may hold the signature of an authenticated return address.
    const ADDRESS: u64 = (1 << 48) - 1;
    if at.fp < at.sp {
        return None;
    }
    let fp = stack.word(at.fp)?;
    let pc = stack.word(at.fp.wrapping_add(WORD))? & ADDRESS;
    (pc != 0).then_some(Registers { pc, sp: at.fp.wrapping_add(2 * WORD), fp })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A stack of words from an address on.
    #[derive(Clone, Copy)]
    struct Stack<'a>(u64, &'a [u64]);

    impl Words for Stack<'_> {
        fn word(self, address: u64) -> Option<u64> {
            let offset = address.checked_sub(self.0).filter(|offset| offset.is_multiple_of(WORD))?;
            self.1.get((offset / WORD) as usize).copied()
        }
    }

    const BASE: u64 = 0x7f00_0000_1000;

    #[test]
    fn a_frame_without_frame_pointer_keeps_rbp() {
        let read = Stack(BASE, &[1, 2, 0x5000]);
        let at = Registers { pc: 0x4000, sp: BASE, fp: 77 };
        let caller = step(Rule::new(Cfa::Rsp(24), 0), at, read);
        assert_eq!(caller, Some(Registers { pc: 0x5000, sp: BASE + 24, fp: 77 }));
    }

    #[test]
    fn a_frame_with_frame_pointer_restores_rbp() {
        let read = Stack(BASE, &[1, 99, 0x5000]);
        let at = Registers { pc: 0x4000, sp: BASE, fp: BASE + 8 };
        let caller = step(Rule::new(Cfa::Rbp(16), 16), at, read);
        assert_eq!(caller, Some(Registers { pc: 0x5000, sp: BASE + 24, fp: 99 }));
    }

    #[test]
    fn after_pop_rbp_the_slot_below_the_stack_is_not_read() {
        let words = [0x6666, 0x5000];
        let read = Stack(BASE - 8, &words);
        let at = Registers { pc: 0x4000, sp: BASE, fp: 77 };
        let caller = step(Rule::new(Cfa::Rsp(8), 16), at, read).unwrap();
        assert_eq!(caller.fp, 77);
    }

    #[test]
    fn a_plt_entry_has_pushed_its_index_from_the_threshold_on() {
        let read = Stack(BASE, &[0x5000, 0x6000]);
        let at = |pc| Registers { pc, sp: BASE, fp: 0 };
        let rule = Rule::new(Cfa::Plt(11), 0);
        assert_eq!(step(rule, at(0x4000 + 11), read).unwrap().pc, 0x5000);
        assert_eq!(step(rule, at(0x4000 + 12), read).unwrap().pc, 0x6000);
    }

    #[test]
    fn a_signals_frame_leads_to_what_it_interrupted() {
        let mut words = [0; 40];
        words[(CONTEXT_PC / WORD) as usize] = 0x5000;
        words[(CONTEXT_SP / WORD) as usize] = BASE + 512;
        words[(CONTEXT_FP / WORD) as usize] = 88;
        let at = Registers { pc: 0x4000, sp: BASE, fp: 0 };
        let interrupted = step(Rule::new(Cfa::Signal, 0), at, Stack(BASE, &words));
        assert_eq!(interrupted, Some(Registers { pc: 0x5001, sp: BASE + 512, fp: 88 }));
    }

    #[test]
    fn a_realigned_frame_keeps_its_cfa_below_rbp() {
        let read = Stack(BASE, &[BASE + 40, 99, 0, 0, 0x5000]);
        let at = Registers { pc: 0x4000, sp: BASE, fp: BASE + 8 };
        let caller = step(Rule::new(Cfa::Realigned(8), 0), at, read);
        assert_eq!(caller, Some(Registers { pc: 0x5000, sp: BASE + 40, fp: 99 }));
    }

    #[test]
    fn frame_pointers_lead_to_the_first_frame() {
        let signed = 0xabcd_0000_0000_5000;
        let words = [BASE + 32, signed, 0, 0, 0, 0];
        let read = Stack(BASE, &words);
        let at = Registers { pc: 0x4000, sp: BASE, fp: BASE };
        let mut frames = [0; 8];
        let count = walk(at, &mut frames, &|at| frame_pointer_step(at, read));
        assert_eq!(&frames[..count], [0x4000, 0x5000]);
    }

    #[test]
    fn a_stack_deeper_than_the_buffer_is_cut_with_a_zero() {
        let at = Registers { pc: 0x4000, sp: BASE, fp: 0 };
        let next =
            |at: Registers| (at.pc < 0x4010).then_some(Registers { pc: at.pc + 1, sp: at.sp + 8, fp: 0 });
        let mut frames = [7; 4];
        assert_eq!(walk(at, &mut frames, &next), 4);
        assert_eq!(frames, [0x4000, 0x4001, 0x4002, 0]);
        let mut frames = [7; 17];
        assert_eq!(walk(at, &mut frames, &next), 17);
        assert_eq!(frames[16], 0x4010);
        assert_eq!(walk(at, &mut [], &next), 0);
    }

    /// Addresses near the stack, near the ends of the address space, and anywhere.
    fn any_address() -> impl Strategy<Value = u64> {
        prop_oneof![BASE - 64..BASE + 640, 0..64u64, u64::MAX - 64..=u64::MAX, any::<u64>()]
    }

    proptest! {
        #[test]
        fn whatever_rules_and_memory_hold_a_walk_reads_upward_and_ends(
            words in prop::collection::vec(any_address(), 0..80),
            rules in prop::collection::vec(any::<u64>(), 1..20),
            (pc, sp, fp) in (any_address(), any_address(), any_address()),
        ) {
            let read = Stack(BASE, &words);
            let mut frames = [0; 200];
            let by_rules = walk(Registers { pc, sp, fp }, &mut frames, &|at: Registers| {
                let caller = step(Rule::from_bits(rules[(at.pc % rules.len() as u64) as usize]), at, read);
                assert!(caller.is_none_or(|caller| caller.sp > at.sp && caller.pc != 0));
                caller
            });
            let by_pointers = walk(Registers { pc, sp, fp }, &mut frames, &|at: Registers| {
                let caller = frame_pointer_step(at, read);
                assert!(caller.is_none_or(|caller| caller.sp > at.sp && caller.pc != 0));
                caller
            });
            prop_assert!(by_rules <= words.len() + 1 && by_pointers <= words.len() + 1);
        }
    }
}
