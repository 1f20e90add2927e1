//! How to get from a frame to its caller, in 28 bits.
//!
//! A call pushed the return address just below the caller's stack pointer: that place is the frame's CFA ("canonical
//! frame address"). A [`Rule`] says where the CFA is, counted from rsp or rbp, and where below it the function saved
//! rbp. Other registers are not followed: what compilers write for x86_64 never needs them.
//!
//! 28 bits leave room for 36 bits of address in one word of the cache (see `table`). What doesn't fit them is
//! [`Rule::NONE`]: the stack ends there.

/// Bits that a rule takes.
pub(crate) const RULE_BITS: u32 = 28;

const KIND_BITS: u32 = 2;
const SLOT_BITS: u32 = 6;
const CFA_SHIFT: u32 = KIND_BITS + SLOT_BITS;
const WORD: u64 = 8;

/// A packed rule: kind, rbp's slot below the CFA in words (0: rbp still holds the caller's), and the kind's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rule(u32);

/// Where the CFA is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cfa {
    /// At rsp plus this many bytes: most functions.
    Rsp(u64),
    /// At rbp plus this many bytes: functions with a frame pointer.
    Rbp(u64),
    /// Read from this many bytes below rbp, where a function that realigned its stack keeps it; the caller's rbp is
    /// where rbp points.
    Realigned(u64),
    /// In a PLT entry: 8 or 16 above rsp, depending on how far into its 16 bytes the address is.
    Plt(u64),
    /// The kernel's signal frame: the interrupted registers are in the context at rsp.
    Signal,
    /// The thread's first frame.
    End,
    /// Nothing known: no row, or one that doesn't fit.
    None,
}

/// What a plain rule counts the CFA from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Base {
    Rsp,
    Rbp,
}

/// Kinds. The two plain ones have this bit, so that one test tells them from the others, and one more which it is.
const PLAIN: u32 = 1;
const KIND_RSP: u32 = PLAIN;
const KIND_RBP: u32 = PLAIN | 2;
const KIND_REALIGNED: u32 = 2;
const ODD_END: u32 = 1 << CFA_SHIFT;
const ODD_SIGNAL: u32 = 2 << CFA_SHIFT;
const ODD_PLT: u32 = 3 << CFA_SHIFT;

impl Rule {
    /// Nothing known.
    pub(crate) const NONE: Rule = Rule(0);

    /// Packs a rule; `rbp_below` is how many bytes below the CFA the caller's rbp is saved, 0 if it is not.
    /// [`Rule::NONE`] for what doesn't fit.
    pub(crate) fn new(cfa: Cfa, rbp_below: u64) -> Rule {
        let (kind, offset) = match cfa {
            Cfa::Rsp(offset) => (KIND_RSP, offset),
            Cfa::Rbp(offset) => (KIND_RBP, offset),
            Cfa::Realigned(below) => (KIND_REALIGNED, below),
            Cfa::Plt(threshold) => return Rule(ODD_PLT | ((threshold as u32 & 15) << KIND_BITS)),
            Cfa::Signal => return Rule(ODD_SIGNAL),
            Cfa::End => return Rule(ODD_END),
            Cfa::None => return Rule::NONE,
        };
        let (words, slot) = (offset / WORD, rbp_below / WORD);
        let whole = offset.is_multiple_of(WORD) && rbp_below.is_multiple_of(WORD);
        if !whole || words >> (RULE_BITS - CFA_SHIFT) != 0 || slot >> SLOT_BITS != 0 {
            return Rule::NONE;
        }
        Rule(kind | (slot as u32) << KIND_BITS | (words as u32) << CFA_SHIFT)
    }

    /// What the CFA is counted from and how many bytes it is above that; `None` for the rules of [`Rule::odd`].
    #[inline(always)]
    pub(crate) fn base(self) -> Option<(Base, u64)> {
        let base = if self.0 & KIND_RBP == KIND_RBP { Base::Rbp } else { Base::Rsp };
        (self.0 & PLAIN != 0).then_some((base, self.offset()))
    }

    #[inline(always)]
    fn offset(self) -> u64 {
        u64::from(self.0 >> CFA_SHIFT) * WORD
    }

    /// Where the CFA is if it is not counted from a register.
    pub(crate) fn odd(self) -> Cfa {
        if self.0 & ((1 << KIND_BITS) - 1) == KIND_REALIGNED {
            return Cfa::Realigned(self.offset());
        }
        match (self.0 >> CFA_SHIFT) << CFA_SHIFT {
            ODD_END => Cfa::End,
            ODD_SIGNAL => Cfa::Signal,
            ODD_PLT => Cfa::Plt(u64::from(self.0 >> KIND_BITS) & 15),
            _ => Cfa::None,
        }
    }

    /// How many bytes below the CFA the caller's rbp is saved; 0: rbp still holds it.
    #[inline(always)]
    pub(crate) fn rbp_below(self) -> u64 {
        u64::from((self.0 >> KIND_BITS) & ((1 << SLOT_BITS) - 1)) * WORD
    }

    /// As the low [`RULE_BITS`] of a number.
    #[inline(always)]
    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.0)
    }

    /// From the low [`RULE_BITS`] of a number.
    #[inline(always)]
    pub(crate) fn from_bits(bits: u64) -> Rule {
        Rule(bits as u32 & ((1 << RULE_BITS) - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Where the CFA is.
    fn cfa(rule: Rule) -> Cfa {
        match rule.base() {
            Some((Base::Rsp, offset)) => Cfa::Rsp(offset),
            Some((Base::Rbp, offset)) => Cfa::Rbp(offset),
            None => rule.odd(),
        }
    }

    fn any_cfa() -> impl Strategy<Value = Cfa> {
        let words = 0..1u64 << (RULE_BITS - CFA_SHIFT);
        prop_oneof![
            words.clone().prop_map(|words| Cfa::Rsp(words * WORD)),
            words.clone().prop_map(|words| Cfa::Rbp(words * WORD)),
            words.prop_map(|words| Cfa::Realigned(words * WORD)),
        ]
    }

    proptest! {
        #[test]
        fn packs_and_unpacks(expected in any_cfa(), slot in 0..1u64 << SLOT_BITS) {
            let rule = Rule::from_bits(Rule::new(expected, slot * WORD).to_bits());
            prop_assert_eq!(cfa(rule), expected);
            prop_assert_eq!(rule.rbp_below(), slot * WORD);
            prop_assert!(rule.to_bits() < 1 << RULE_BITS);
        }

        #[test]
        fn odd_ones_survive_too(threshold in 0..16u64) {
            for expected in [Cfa::Plt(threshold), Cfa::Signal, Cfa::End, Cfa::None] {
                prop_assert_eq!(cfa(Rule::from_bits(Rule::new(expected, 0).to_bits())), expected);
            }
        }

        #[test]
        fn any_bits_are_a_rule(bits: u64) {
            let rule = Rule::from_bits(bits);
            let _ = (cfa(rule), rule.rbp_below());
        }
    }

    #[test]
    fn what_does_not_fit_is_none() {
        assert_eq!(Rule::new(Cfa::Rsp(12), 0), Rule::NONE);
        assert_eq!(Rule::new(Cfa::Rsp(1 << 23), 0), Rule::NONE);
        assert_eq!(Rule::new(Cfa::Rbp(16), 64 * WORD), Rule::NONE);
        assert_eq!(Rule::new(Cfa::Rbp(16), 12), Rule::NONE);
    }
}
