//! Builds the process's unwind table and publishes it to signal handlers.
//!
//! Tables stand in a fixed row of places, each filled once and never freed: a handler that walks an old one can go on
//! doing so. The newest place's number is published after the table is in it. When the modules have changed, the
//! next place gets a table that shares the rows of the modules that stayed. When the places are used up
//! ([`UNWIND_TABLES`]), the last table stays, and stacks end at code that was loaded later.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::modules::{self, Generation};
use super::table::{MappedTable, ModuleTable, Table};
use crate::limits::UNWIND_TABLES;

static TABLES: [OnceLock<Table>; UNWIND_TABLES] = [const { OnceLock::new() }; UNWIND_TABLES];

/// How many places are filled.
static FILLED: AtomicUsize = AtomicUsize::new(0);

/// What the newest table was built from.
static BUILT: Mutex<Built> = Mutex::new(Built { generation: None, modules: Vec::new() });

struct Built {
    generation: Option<Generation>,
    modules: Vec<(Fingerprint, Arc<ModuleTable>)>,
}

/// Tells whether a module's frame descriptions are those of one that is known: the file's address, length, checksum.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Fingerprint(u64, usize, u32);

/// The newest table, if there is one yet.
#[inline(always)]
pub(super) fn published() -> Option<&'static Table> {
    let filled = FILLED.load(Ordering::Acquire);
    TABLES.get(filled.wrapping_sub(1))?.get()
}

pub(super) fn prepare() {
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let generation = modules::generation();
    let filled = FILLED.load(Ordering::Relaxed);
    if built.generation == Some(generation) || filled == UNWIND_TABLES {
        return;
    }
    let mut kept = Vec::new();
    let mut mapped = Vec::new();
    for (module, section) in modules::modules_with_frames() {
        let fingerprint = Fingerprint(section.address, section.bytes.len(), crc32c::crc32c(&section.bytes));
        let known = built.modules.iter().find(|(known, _)| *known == fingerprint);
        let rows = known.map_or_else(|| Arc::new(ModuleTable::build(&section)), |(_, rows)| rows.clone());
        kept.push((fingerprint, rows.clone()));
        mapped.push(MappedTable { start: module.start, end: module.end, bias: module.bias, rows });
    }
    // Nobody else fills places: the lock is held.
    if TABLES[filled].set(Table::new(mapped)).is_ok() {
        FILLED.store(filled + 1, Ordering::Release);
        *built = Built { generation: Some(generation), modules: kept };
    }
}
