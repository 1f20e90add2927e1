//! The traces that the viewer shows: loaded once, grouped to rows, with the row indexes that somebody looked at.
//!
//! A trace's id is a checksum of its bytes, so that a link to a moment in it survives a restart. Traces and row
//! indexes are bounded by `limits`; what was used longest ago goes first, and an index is built again when needed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::texts::{self, LockText};
use crate::analysis::contention;
use crate::analysis::links::Links;
use crate::analysis::rows::{RowKey, Rows};
use crate::analysis::tiles::Row;
use crate::format::file::FileError;
use crate::limits::{ROW_INDEX_BYTES, VIEWED_NS, VIEWED_TRACES};
use crate::model::descriptors::Descriptors;
use crate::model::{ThreadIndex, Trace, load};

/// Why a trace can't be shown.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// Nothing in it can be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its times would not be exact in the page.
    #[error("the trace lasts {0} ns, the viewer shows at most 2^53 ns (104 days)")]
    TooLong(u64),
}

/// A trace, ready to be asked.
#[derive(Debug)]
pub struct Loaded {
    /// Checksum and length of its bytes.
    pub id: String,
    /// What it is called: a file's name, or when it was recorded.
    pub name: String,
    /// The trace.
    pub trace: Trace,
    /// What was wrong with its bytes.
    pub problems: Vec<String>,
    /// Its rows.
    pub rows: Rows,
    /// Who woke whom.
    pub links: Links,
    /// What its descriptors stood for.
    pub(super) descriptors: Descriptors,
    /// What its locks are called.
    pub(super) locks: Vec<LockText>,
    /// The thread that is blamed for most of each wait.
    pub(super) holders: Vec<Option<ThreadIndex>>,
    indexes: Mutex<Indexes>,
}

#[derive(Debug, Default)]
struct Indexes {
    rows: HashMap<RowKey, (Arc<Row>, u64)>,
    bytes: usize,
    /// Counts look-ups: a row's latest one tells how long ago it was used.
    clock: u64,
}

impl Loaded {
    /// Groups a trace.
    ///
    /// # Errors
    /// [`AddError::TooLong`].
    pub fn new(id: String, name: String, trace: Trace, problems: Vec<String>) -> Result<Loaded, AddError> {
        if trace.info.duration_ns > VIEWED_NS {
            return Err(AddError::TooLong(trace.info.duration_ns));
        }
        let (rows, links) = (Rows::of(&trace), Links::of(&trace));
        let (locks, holders) = (texts::locks(&trace, &rows), contention::holders(&trace));
        let (descriptors, indexes) = (Descriptors::new(&trace), Mutex::default());
        Ok(Loaded { id, name, trace, problems, rows, links, locks, holders, descriptors, indexes })
    }

    /// A row with its index; `None` if the trace has no such row.
    pub fn row(&self, key: RowKey) -> Option<Arc<Row>> {
        if let Some(row) = locked(&self.indexes).used(key) {
            return Some(row);
        }
        // Built outside the lock: two who ask for the same new row build it twice, and nobody waits for the other.
        let row = Arc::new(Row::new(self.rows.content(&self.trace, key)?));
        locked(&self.indexes).keep(key, Arc::clone(&row));
        Some(row)
    }
}

impl Indexes {
    fn used(&mut self, key: RowKey) -> Option<Arc<Row>> {
        self.clock += 1;
        let (row, used) = self.rows.get_mut(&key)?;
        *used = self.clock;
        Some(Arc::clone(row))
    }

    fn keep(&mut self, key: RowKey, row: Arc<Row>) {
        self.bytes += row.bytes();
        if let Some((old, _)) = self.rows.insert(key, (row, self.clock)) {
            self.bytes -= old.bytes();
        }
        while self.bytes > ROW_INDEX_BYTES && self.rows.len() > 1 {
            let Some((&oldest, _)) = self.rows.iter().min_by_key(|(_, (_, used))| *used) else { return };
            self.bytes -= self.rows.remove(&oldest).map_or(0, |(row, _)| row.bytes());
        }
    }
}

/// The traces that the viewer shows.
#[derive(Debug, Default)]
pub struct Store {
    traces: Mutex<Vec<Arc<Loaded>>>,
}

impl Store {
    /// Without a trace.
    pub fn new() -> Store {
        Store::default()
    }

    /// Reads a trace and keeps it; gives its id. The same bytes are kept once.
    ///
    /// # Errors
    /// [`AddError`].
    pub fn add(&self, name: &str, bytes: &[u8]) -> Result<String, AddError> {
        let id = format!("{:08x}{:x}", crc32c::crc32c(bytes), bytes.len());
        if self.get(&id).is_none() {
            let (trace, problems) = load::load(bytes)?;
            let problems = problems.iter().map(ToString::to_string).collect();
            self.keep(Loaded::new(id.clone(), name.to_string(), trace, problems)?);
        }
        Ok(id)
    }

    /// Keeps a loaded trace; the oldest one goes if there are too many.
    pub fn keep(&self, loaded: Loaded) {
        let mut traces = locked(&self.traces);
        traces.retain(|kept| kept.id != loaded.id);
        traces.push(Arc::new(loaded));
        if traces.len() > VIEWED_TRACES {
            traces.remove(0);
        }
    }

    /// A trace by its id.
    pub fn get(&self, id: &str) -> Option<Arc<Loaded>> {
        locked(&self.traces).iter().find(|loaded| loaded.id == id).cloned()
    }

    /// All of them, the oldest first.
    pub fn all(&self) -> Vec<Arc<Loaded>> {
        locked(&self.traces).clone()
    }
}

/// The lock's content, also when a thread panicked with it: it is whole after each statement.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
