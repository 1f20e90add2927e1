//! A chunk's bytes on loom: whoever reads or writes some of them marks those, four at a time (an event of these checks
//! takes four), and loom fails when a mark is set against another thread's.

use std::cell::UnsafeCell;
use std::ops::Range;

use loom::cell;

use crate::wire::EVENT_MAX;

/// Room for two events.
pub const CHUNK_ROOM: usize = EVENT_MAX + 4;

pub struct Bytes {
    bytes: UnsafeCell<[u8; CHUNK_ROOM]>,
    marks: Vec<cell::UnsafeCell<()>>,
}

// SAFETY: loom runs one thread at a time.
unsafe impl Send for Bytes {}
// SAFETY: as above.
unsafe impl Sync for Bytes {}

impl Bytes {
    pub fn new() -> Bytes {
        Bytes {
            bytes: UnsafeCell::new([0; CHUNK_ROOM]),
            marks: (0..CHUNK_ROOM / 4).map(|_| cell::UnsafeCell::new(())).collect(),
        }
    }

    pub fn with<R>(&self, bytes: Range<usize>, read: impl FnOnce(*const u8) -> R) -> R {
        let _marks: Vec<_> = self.marked(&bytes).iter().map(cell::UnsafeCell::get).collect();
        read(self.bytes.get().cast::<u8>().wrapping_add(bytes.start))
    }

    pub fn with_mut<R>(&self, bytes: Range<usize>, write: impl FnOnce(*mut u8) -> R) -> R {
        let _marks: Vec<_> = self.marked(&bytes).iter().map(cell::UnsafeCell::get_mut).collect();
        write(self.bytes.get().cast::<u8>().wrapping_add(bytes.start))
    }

    /// Those of the two events: nothing is ever behind them.
    fn marked(&self, bytes: &Range<usize>) -> &[cell::UnsafeCell<()>] {
        &self.marks[(bytes.start / 4).min(2)..bytes.end.div_ceil(4).min(2)]
    }
}
