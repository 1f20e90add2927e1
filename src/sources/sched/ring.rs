//! One thread's context switches, as the kernel writes them into memory that it shares with us.
//!
//! The event counts nothing; it exists for its `PERF_RECORD_SWITCH`es, and for `PERF_RECORD_EXIT`, which says when the
//! thread was gone. The mapping keeps the event alive, so its descriptor is closed at once: the program's descriptors
//! are its own, a forked child inherits nothing (the kernel doesn't copy such mappings), and unmapping ends it all.
//!
//! Does not know which threads there are, nor ticks: times are CLOCK_MONOTONIC nanoseconds.

#![allow(unsafe_code, reason = "perf_event_open(2), and memory that the kernel writes")]

use std::io::{Error, ErrorKind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::limits::{SCHED_RING_BYTES, SCHED_RING_PAGES};

/// Bytes of all rings.
static MAPPED: AtomicUsize = AtomicUsize::new(0);

/// What the kernel noted of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    /// CLOCK_MONOTONIC nanoseconds.
    pub(super) at: u64,
    pub(super) cpu: u32,
    pub(super) what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    In,
    Out {
        preempted: bool,
    },
    Exit,
    /// The ring was full: so many records before this one are missing.
    Lost(u64),
}

/// Why a thread has no ring.
#[derive(Debug)]
pub(super) enum NoRing {
    /// It is gone.
    Gone,
    /// Rings have taken what memory they may.
    NoRoom,
    /// The kernel refuses such events.
    Refused(Error),
}

/// A ring that one thread's switches go to.
#[derive(Debug)]
pub(super) struct Ring {
    base: *mut u8,
    pages: usize,
    /// Where the next record begins, counted since the ring's beginning.
    read: u64,
}

// SAFETY: the mapping belongs to whoever holds the ring, and the kernel doesn't mind which thread reads it.
unsafe impl Send for Ring {}

impl Ring {
    /// For a thread of this process, by the kernel's number; 0 is the caller.
    pub(super) fn open(tid: u32) -> Result<Ring, NoRing> {
        let fd = open_event(tid)?;
        let ring = Ring::map(fd);
        // SAFETY: the descriptor was just opened and nobody else knows it.
        unsafe { libc::syscall(libc::SYS_close, i64::from(fd)) };
        ring
    }

    /// As large as there is room for: many threads with large rings would be too much, and most need little.
    fn map(fd: libc::c_int) -> Result<Ring, NoRing> {
        for &(pages, share) in SCHED_RING_PAGES {
            let bytes = (pages + 1) * page_bytes();
            if MAPPED.fetch_add(bytes, Ordering::Relaxed) + bytes <= SCHED_RING_BYTES / 4 * share {
                let base = map_ring(fd, bytes);
                if !base.is_null() {
                    return Ok(Ring { base, pages, read: 0 });
                }
            }
            MAPPED.fetch_sub(bytes, Ordering::Relaxed);
        }
        Err(NoRing::NoRoom)
    }

    /// Gives what has come since the last time, oldest first; whether the ring was full, so that more may be missing.
    pub(super) fn read(&mut self, mut take: impl FnMut(Record)) -> bool {
        let head = self.position(HEAD).load(Ordering::Acquire);
        let full = head.saturating_sub(self.read) + LONGEST > (self.pages * page_bytes()) as u64;
        while self.read < head {
            let header = self.word(self.read);
            let (kind, misc, size) = (header as u32, (header >> 32) as u16, header >> 48);
            if size < 32 || size % 8 != 0 || self.read + size > head {
                self.read = head;
                break;
            }
            if let Some(record) = self.record(kind, misc, size) {
                take(record);
            }
            self.read += size;
        }
        self.position(TAIL).store(self.read, Ordering::Release);
        full
    }

    /// Every record ends in thread, time and CPU (`sample_id_all`).
    fn record(&self, kind: u32, misc: u16, size: u64) -> Option<Record> {
        let end = self.read + size;
        let (at, cpu) = (self.word(end - 16), self.word(end - 8) as u32);
        let what = match kind {
            RECORD_SWITCH if misc & MISC_OUT == 0 => What::In,
            RECORD_SWITCH => What::Out { preempted: misc & MISC_PREEMPT != 0 },
            RECORD_EXIT => What::Exit,
            RECORD_LOST => What::Lost(self.word(self.read + 16)),
            _ => return None,
        };
        Some(Record { at, cpu, what })
    }

    /// Eight bytes of a record; records lie at multiples of eight, so none of these is split by the ring's end.
    fn word(&self, position: u64) -> u64 {
        let offset = page_bytes() + position as usize % (self.pages * page_bytes());
        // SAFETY: the offset is within the mapping and aligned; the kernel writes nothing between tail and head.
        unsafe { self.base.wrapping_add(offset).cast::<u64>().read() }
    }

    fn position(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: both positions are aligned words of the mapping's first page, which lives as long as the ring.
        unsafe { &*self.base.wrapping_add(offset).cast::<AtomicU64>() }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let bytes = (self.pages + 1) * page_bytes();
        // SAFETY: the mapping was made by `map_ring`, and nothing refers to it any more.
        unsafe { libc::syscall(libc::SYS_munmap, self.base, bytes) };
        MAPPED.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Bytes of the longest record that comes, one of a thread's exit, and of the loss that would be told before it.
const LONGEST: u64 = 56 + 48;

// Of linux/perf_event.h.
const HEAD: usize = 1024;
const TAIL: usize = 1032;
const RECORD_LOST: u32 = 2;
const RECORD_EXIT: u32 = 4;
const RECORD_SWITCH: u32 = 14;
const MISC_OUT: u16 = 1 << 13;
const MISC_PREEMPT: u16 = 1 << 14;
const TYPE_SOFTWARE: u32 = 1;
const COUNT_SW_DUMMY: u64 = 9;
const SAMPLE_TID_TIME_CPU: u64 = 1 << 1 | 1 << 2 | 1 << 7;
const EXCLUDE_KERNEL_HV: u64 = 1 << 5 | 1 << 6;
const TASK: u64 = 1 << 13;
const SAMPLE_ID_ALL: u64 = 1 << 18;
const USE_CLOCKID: u64 = 1 << 25;
const CONTEXT_SWITCH: u64 = 1 << 26;
const FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;

/// `struct perf_event_attr` as far as the clock (`PERF_ATTR_SIZE_VER3`).
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    breakpoint: [u64; 2],
    branch_sample_type: u64,
    sample_regs_user: u64,
    sample_stack_user: u32,
    clockid: i32,
}

const _: () = assert!(size_of::<Attributes>() == 96);

/// Through `syscall`, as all here: a hooked call would be the program's own in the trace.
fn open_event(tid: u32) -> Result<libc::c_int, NoRing> {
    let attributes = Attributes {
        kind: TYPE_SOFTWARE,
        size: size_of::<Attributes>() as u32,
        config: COUNT_SW_DUMMY,
        sample_type: SAMPLE_TID_TIME_CPU,
        flags: EXCLUDE_KERNEL_HV | TASK | SAMPLE_ID_ALL | USE_CLOCKID | CONTEXT_SWITCH,
        clockid: libc::CLOCK_MONOTONIC,
        ..Attributes::default()
    };
    let (tid, any, none) = (i64::from(tid), -1i64, -1i64);
    // SAFETY: the attributes live through the call, and say how long they are.
    let fd = unsafe {
        libc::syscall(libc::SYS_perf_event_open, &raw const attributes, tid, any, none, FLAG_FD_CLOEXEC)
    };
    if fd >= 0 {
        return Ok(fd as libc::c_int);
    }
    let error = Error::last_os_error();
    Err(match error.raw_os_error() {
        Some(libc::ESRCH) => NoRing::Gone,
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => NoRing::NoRoom,
        _ if error.kind() == ErrorKind::Interrupted => NoRing::NoRoom,
        _ => NoRing::Refused(error),
    })
}

/// Null if the user may not lock more memory.
fn map_ring(fd: libc::c_int, bytes: usize) -> *mut u8 {
    // Whole registers, all of them: a variadic call leaves the upper half of an int to chance.
    let (anywhere, start) = (std::ptr::null_mut::<u8>(), 0usize);
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
    let (protection, flags, fd) = (i64::from(protection), i64::from(flags), i64::from(fd));
    // SAFETY: a new mapping of our own event, at a place of the kernel's choice.
    let base = unsafe { libc::syscall(libc::SYS_mmap, anywhere, bytes, protection, flags, fd, start) };
    if base == -1 { std::ptr::null_mut() } else { std::ptr::with_exposed_provenance_mut(base as usize) }
}

fn page_bytes() -> usize {
    // SAFETY: sysconf(3) has no preconditions.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}
