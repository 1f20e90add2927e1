//! The process's memory as the kernel counts it: what is in memory, what is mapped, page faults.
//!
//! Asked for on the drain's thread while a capture wants memory: one read of `/proc/self/statm` and one call, some
//! microseconds, told when something has changed. The kernel adds up what its threads have touched now and then, so a
//! reading may lack some pages a thread.

#![allow(unsafe_code, reason = "runs before main; getrusage(2), sysconf(3)")]

use std::io::Read;
use std::sync::Mutex;

use crate::events::{Bytes, Count, Group, ProcessMemory};
use crate::record;
use crate::record::switches::{self, Collector};

extern "C" fn init() {
    switches::on_drain(tell);
}

#[used]
#[cfg_attr(target_os = "linux", unsafe(link_section = ".init_array"))]
static INIT: extern "C" fn() = init;

fn tell(collector: &mut Collector<'_>) {
    /// What was told last, and in which capture that was the latest.
    static TOLD: Mutex<Option<(u64, ProcessMemory)>> = Mutex::new(None);
    if !record::enabled(Group::Memory) {
        return;
    }
    let Some(memory) = process_memory() else { return };
    let Ok(mut told) = TOLD.lock() else { return };
    let now = Some((record::epoch(), memory));
    if *told != now {
        *told = now;
        collector.emit(0, collector.now(), memory);
    }
}

fn process_memory() -> Option<ProcessMemory> {
    let mut text = [0; 128];
    let length = std::fs::File::open("/proc/self/statm").ok()?.read(&mut text).ok()?;
    let text = std::str::from_utf8(&text[..length]).ok()?;
    let mut pages = text.split(' ').map(str::parse::<u64>);
    let (mapped, resident) = (pages.next()?.ok()?, pages.next()?.ok()?);
    // SAFETY: it only asks.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
    let [minor_faults, major_faults] = faults();
    Some(ProcessMemory {
        resident_bytes: Bytes(resident * page),
        mapped_bytes: Bytes(mapped * page),
        minor_faults: Count(minor_faults),
        major_faults: Count(major_faults),
    })
}

/// Page faults of the process so far: those that only needed memory, and those that waited for a disk.
fn faults() -> [u64; 2] {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel writes a whole `rusage` to where it is told.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
    // SAFETY: zeros are a `rusage`, too.
    let usage = unsafe { usage.assume_init() };
    [usage.ru_minflt, usage.ru_majflt].map(|faults| faults as u64)
}
