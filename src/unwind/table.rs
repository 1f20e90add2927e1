//! From an address to the rule of its frame: `.eh_frame` read once, then only looked up.
//!
//! Compilers describe every function's frames in `.eh_frame`, as programs for a small machine. Running those costs a
//! hundred times a lookup, so a [`ModuleTable`] runs each once and keeps `(address, rule)` rows, sorted. A [`Table`]
//! holds the process's modules and a cache in front of them, 4096 words, each a whole entry: 36 bits of address (the
//! 12 others follow from the place) and 28 of [`Rule`]. One relaxed load or store moves an entry, so threads and
//! signal handlers share the cache without a lock; two that want one word overwrite each other, which costs a lookup.
//!
//! Invariants: a published `Table` MUST never be freed or changed but for its cache. Otherwise a signal handler that
//! walks it reads freed memory. `Table::rule` MUST not allocate, lock or panic: it runs in signal handlers.
//!
//! Does not read files or the process: `modules` hands it bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, EndianSlice, LittleEndian, RegisterRule, UnwindContext,
    UnwindSection, UnwindTableRow, X86_64,
};

use super::rule::{Cfa, RULE_BITS, Rule};

/// Bits of an address that name its word in the cache.
const INDEX_BITS: u32 = 12;

/// Bits of an address. User space has 47; where it is configured to 56, those above this end a stack.
const ADDRESS_BITS: u32 = 64 - RULE_BITS + INDEX_BITS;

/// The rows of one module. Addresses are the file's, so a module that is mapped elsewhere keeps its rows.
#[derive(Debug, Default)]
pub(crate) struct ModuleTable {
    /// Where each row begins; it ends where the next one begins.
    starts: Vec<u32>,
    rules: Vec<Rule>,
}

/// `.eh_frame` as it is mapped.
#[derive(Debug, Clone)]
pub(crate) struct EhFrameBytes {
    /// Its bytes, up to the end of its segment at most.
    pub(crate) bytes: Vec<u8>,
    /// The file's address of the first one.
    pub(crate) address: u64,
}

type Slice<'a> = EndianSlice<'a, LittleEndian>;

impl ModuleTable {
    /// Runs every frame description of a module. A damaged one has no rows; after a damaged length there are none.
    pub(crate) fn build(section: &EhFrameBytes) -> ModuleTable {
        let eh_frame = EhFrame::new(&section.bytes, LittleEndian);
        let bases = BaseAddresses::default().set_eh_frame(section.address);
        let mut context = UnwindContext::new();
        let mut rows: Vec<(u32, Rule)> = Vec::new();
        let mut entries = eh_frame.entries(&bases);
        while let Ok(Some(entry)) = entries.next() {
            if let CieOrFde::Fde(partial) = entry
                && let Ok(fde) = partial.parse(EhFrame::cie_from_offset)
            {
                rows_of(&eh_frame, &bases, &mut context, &fde, &mut rows);
            }
        }
        Self::from_rows(rows)
    }

    /// Sorts rows; where two functions meet, the end of the first gives way to the second's beginning.
    fn from_rows(mut rows: Vec<(u32, Rule)>) -> ModuleTable {
        rows.sort_by_key(|&(start, rule)| (start, rule != Rule::NONE));
        let mut table = ModuleTable::default();
        for (start, rule) in rows {
            if table.starts.last() == Some(&start) {
                table.starts.pop();
                table.rules.pop();
            }
            if table.rules.last() != Some(&rule) {
                table.starts.push(start);
                table.rules.push(rule);
            }
        }
        table.starts.shrink_to_fit();
        table.rules.shrink_to_fit();
        table
    }

    /// The rule of the instruction at an address of the file.
    fn rule(&self, address: u64) -> Rule {
        let Ok(address) = u32::try_from(address) else { return Rule::NONE };
        let after = self.starts.partition_point(|&start| start <= address);
        after.checked_sub(1).and_then(|row| self.rules.get(row)).copied().unwrap_or(Rule::NONE)
    }
}

/// Adds the rows of one function, and one that ends it.
fn rows_of<'a>(
    eh_frame: &EhFrame<Slice<'a>>,
    bases: &BaseAddresses,
    context: &mut UnwindContext<usize>,
    fde: &gimli::FrameDescriptionEntry<Slice<'a>>,
    rows: &mut Vec<(u32, Rule)>,
) {
    // A linker that drops a function leaves its description at 0; addresses past 4 GiB have no place in a row.
    let (Ok(first), Ok(end)) = (u32::try_from(fde.initial_address()), u32::try_from(fde.end_address()))
    else {
        return;
    };
    if first == 0 || first >= end || fde.cie().return_address_register() != X86_64::RA {
        return;
    }
    rows.push((end, Rule::NONE));
    if fde.is_signal_trampoline() {
        return rows.push((first, Rule::new(Cfa::Signal, 0)));
    }
    let Ok(mut table) = fde.rows(eh_frame, bases, context) else { return };
    while let Ok(Some(row)) = table.next_row() {
        if let Ok(start) = u32::try_from(row.start_address()) {
            rows.push((start, rule_of(eh_frame, row)));
        }
    }
}

/// What one row says, as far as a [`Rule`] can.
fn rule_of<'a>(eh_frame: &EhFrame<Slice<'a>>, row: &UnwindTableRow<usize>) -> Rule {
    match row.register(X86_64::RA) {
        Some(RegisterRule::Undefined) => return Rule::new(Cfa::End, 0),
        Some(RegisterRule::Offset(-8)) => {}
        _ => return Rule::NONE,
    }
    let cfa = match row.cfa() {
        &CfaRule::RegisterAndOffset { register, offset } => match (register, u64::try_from(offset)) {
            (X86_64::RSP, Ok(offset)) => Cfa::Rsp(offset),
            (X86_64::RBP, Ok(offset)) => Cfa::Rbp(offset),
            _ => Cfa::None,
        },
        CfaRule::Expression(expression) => {
            expression.get(eh_frame).map_or(Cfa::None, |expression| cfa_of(expression.0.slice()))
        }
    };
    match (cfa, row.register(X86_64::RBP)) {
        (Cfa::Realigned(_), Some(RegisterRule::Expression(saved))) => {
            let at_rbp = [gimli::DW_OP_breg6.0, 0];
            let known = saved.get(eh_frame).is_ok_and(|saved| saved.0.slice() == at_rbp);
            if known { Rule::new(cfa, 0) } else { Rule::NONE }
        }
        (Cfa::Realigned(_), _) => Rule::NONE,
        (_, None | Some(RegisterRule::Undefined | RegisterRule::SameValue)) => Rule::new(cfa, 0),
        (_, Some(RegisterRule::Offset(offset))) if offset < 0 => Rule::new(cfa, offset.unsigned_abs()),
        _ => Rule::NONE,
    }
}

/// The two expressions that compilers and linkers write for a CFA.
fn cfa_of(expression: &[u8]) -> Cfa {
    use gimli::{
        DW_OP_and, DW_OP_breg6, DW_OP_breg7, DW_OP_breg16, DW_OP_deref, DW_OP_ge, DW_OP_lit0, DW_OP_lit3,
    };
    use gimli::{DW_OP_lit15, DW_OP_plus, DW_OP_shl};
    match *expression {
        // *(rbp - n), n as one byte of SLEB128: a function that realigned its stack.
        [breg, offset @ 0x40..0x80, deref] if breg == DW_OP_breg6.0 && deref == DW_OP_deref.0 => {
            Cfa::Realigned(u64::from(0x80 - offset))
        }
        // rsp + 8 + ((rip & 15) >= n) << 3: an entry of the procedure linkage table.
        [breg7, 8, breg16, 0, lit15, and, lit, ge, lit3, shl, plus]
            if [breg7, breg16, lit15, and] == [DW_OP_breg7.0, DW_OP_breg16.0, DW_OP_lit15.0, DW_OP_and.0]
                && [ge, lit3, shl, plus] == [DW_OP_ge.0, DW_OP_lit3.0, DW_OP_shl.0, DW_OP_plus.0]
                && (DW_OP_lit0.0..=DW_OP_lit15.0).contains(&lit) =>
        {
            Cfa::Plt(u64::from(lit - DW_OP_lit0.0))
        }
        _ => Cfa::None,
    }
}

/// A module's rows and where it is mapped.
#[derive(Debug, Clone)]
pub(crate) struct MappedTable {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) bias: u64,
    pub(crate) rows: Arc<ModuleTable>,
}

/// Every module's rows, behind one cache.
#[derive(Debug)]
pub(crate) struct Table {
    /// Ascending by start.
    modules: Vec<MappedTable>,
    cache: Box<[AtomicU64; 1 << INDEX_BITS]>,
}

impl Table {
    pub(crate) fn new(mut modules: Vec<MappedTable>) -> Table {
        modules.sort_by_key(|module| module.start);
        Table { modules, cache: Box::new([const { AtomicU64::new(0) }; 1 << INDEX_BITS]) }
    }

    /// The rule of the instruction at an address.
    #[inline(always)]
    pub(crate) fn rule(&self, address: u64) -> Rule {
        let page = address >> INDEX_BITS;
        // Neighbours in a page keep apart, equal places of different pages too. With the page known this can be
        // undone, so an entry needs to name the page only.
        let word = &self.cache[((address ^ page) & ((1 << INDEX_BITS) - 1)) as usize];
        let entry = word.load(Relaxed);
        if entry >> RULE_BITS == page { Rule::from_bits(entry) } else { self.look_up(address, word) }
    }

    #[cold]
    fn look_up(&self, address: u64, word: &AtomicU64) -> Rule {
        if address >> ADDRESS_BITS != 0 {
            return Rule::NONE;
        }
        let rule = self.search(address);
        word.store((address >> INDEX_BITS) << RULE_BITS | rule.to_bits(), Relaxed);
        rule
    }

    fn search(&self, address: u64) -> Rule {
        let after = self.modules.partition_point(|module| module.start <= address);
        let module = after.checked_sub(1).and_then(|index| self.modules.get(index));
        match module.filter(|module| address < module.end) {
            Some(module) => module.rows.rule(address.wrapping_sub(module.bias)),
            None => Rule::NONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unwind::modules;
    use proptest::prelude::*;

    /// This program's own frame descriptions and where they are mapped.
    fn program() -> (crate::unwind::LoadedModule, EhFrameBytes) {
        let here = program as fn() -> _ as usize as u64;
        let holds = |module: &crate::unwind::LoadedModule| (module.start..module.end).contains(&here);
        modules::modules_with_frames().into_iter().find(|(module, _)| holds(module)).unwrap()
    }

    /// The rule of an address by looking through every description, and through its rows.
    fn naive(section: &EhFrameBytes, address: u64) -> Rule {
        let eh_frame = EhFrame::new(&section.bytes, LittleEndian);
        let bases = BaseAddresses::default().set_eh_frame(section.address);
        let mut context = UnwindContext::new();
        let row = eh_frame.unwind_info_for_address(&bases, &mut context, address, EhFrame::cie_from_offset);
        row.map_or(Rule::NONE, |row| rule_of(&eh_frame, row))
    }

    #[test]
    fn rows_say_what_a_search_through_all_descriptions_says() {
        let (module, section) = program();
        let rows = ModuleTable::build(&section);
        let (first, last) = (rows.starts[0], *rows.starts.last().unwrap());
        // Both sides of some rows' beginnings, and places in between: a search takes a millisecond.
        let some = rows.starts.iter().copied().step_by(rows.starts.len() / 40 + 1);
        let between = (first..last).step_by(((last - first) / 40) as usize);
        for address in some.flat_map(|start| [start - 1, start]).chain(between).map(u64::from) {
            assert_eq!(rows.rule(address), naive(&section, address), "at {address:#x} of {}", module.path);
        }
    }

    #[test]
    fn rows_are_sorted_and_different_from_their_neighbours() {
        let rows = ModuleTable::build(&program().1);
        assert!(rows.starts.len() > 1000, "only {} rows", rows.starts.len());
        assert!(rows.starts.is_sorted_by(|a, b| a < b));
        assert!(rows.rules.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn a_lookup_is_the_same_with_and_without_the_cache() {
        let (module, section) = program();
        let rows = Arc::new(ModuleTable::build(&section));
        let mapped =
            MappedTable { start: module.start, end: module.end, bias: module.bias, rows: rows.clone() };
        let table = Table::new(vec![mapped]);
        // More addresses than the cache has words, twice, so that words are filled, found and overwritten.
        for _ in 0..2 {
            for address in (module.start..module.end).step_by(509).take(20_000) {
                assert_eq!(table.rule(address), rows.rule(address - module.bias), "at {address:#x}");
            }
        }
        for outside in [0, 1, module.start - 1, module.end, 1 << 48, u64::MAX] {
            assert_eq!(table.rule(outside), Rule::NONE, "at {outside:#x}");
        }
    }

    #[test]
    fn where_functions_meet_the_second_one_begins() {
        let rule = Rule::new(Cfa::Rsp(16), 0);
        let rows = ModuleTable::from_rows(vec![(20, Rule::NONE), (20, rule), (30, Rule::NONE), (10, rule)]);
        assert_eq!(
            [rows.rule(9), rows.rule(10), rows.rule(20), rows.rule(29)],
            [Rule::NONE, rule, rule, rule]
        );
        assert_eq!([rows.rule(30), rows.rule(u64::MAX)], [Rule::NONE, Rule::NONE]);
    }

    #[test]
    fn the_expression_of_a_plt_entry_is_known() {
        let lld = [0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22];
        assert_eq!(cfa_of(&lld), Cfa::Plt(11));
        assert_eq!(cfa_of(&lld[..10]), Cfa::None);
        assert_eq!(cfa_of(&[0x76, 0x78, 0x06]), Cfa::Realigned(8));
    }

    proptest! {
        #[test]
        fn damaged_descriptions_are_survived(cut in 0..4096usize, damage in prop::collection::vec((0..4096usize, any::<u8>()), 0..8)) {
            let (_, mut section) = program();
            section.bytes.truncate(cut);
            for (at, byte) in damage {
                if let Some(place) = section.bytes.get_mut(at) {
                    *place = byte;
                }
            }
            ModuleTable::build(&section).rule(0x1000);
        }
    }
}
