//! Which threads have a timer.
//!
//! New threads arm themselves where kymo's hook starts them; a look at `/proc/self/task` finds the others, and those
//! that have ended. The more threads there are, the rarer the looks. Signal masks are read a few threads at a time.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::time::Instant;

use super::timers::{self, Timer};
use crate::limits::{CPU_LOOK_SHARE, CPU_MASKS};

#[derive(Debug, Default)]
pub(super) struct Threads {
    timers: HashMap<u32, Timer>,
    next_look: Option<Instant>,
    /// Names of those that block SIGPROF.
    masked: BTreeMap<u32, String>,
    /// The latest one whose mask was read.
    mask_read: u32,
}

impl Threads {
    /// Gives a thread a timer.
    ///
    /// # Errors
    /// The system has none.
    pub(super) fn arm(&mut self, tid: u32, period: u64) -> io::Result<()> {
        match Timer::start(tid, first(period), period) {
            Ok(timer) => drop(self.timers.insert(tid, timer)),
            // It has ended meanwhile.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ESRCH)) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    #[cfg(hooked)]
    pub(super) fn disarm(&mut self, tid: u32) {
        self.timers.remove(&tid);
    }

    /// It is time to look.
    pub(super) fn look_soon(&mut self) {
        self.next_look = None;
    }

    /// Looks for threads if it is time to; whether what [`Threads::unsampled`] says has changed.
    ///
    /// # Errors
    /// A thread can't have a timer.
    pub(super) fn look_if_due(&mut self, period: u64) -> io::Result<bool> {
        let now = Instant::now();
        if self.next_look.is_some_and(|next| now < next) {
            return Ok(false);
        }
        self.look(period)?;
        let before = self.masked.clone();
        self.read_masks();
        self.next_look = Some(now + now.elapsed() * CPU_LOOK_SHARE);
        Ok(before != self.masked)
    }

    /// Arms threads that have no timer, drops timers of those that have ended.
    ///
    /// # Errors
    /// A thread can't have a timer, or threads can't be listed.
    pub(super) fn look(&mut self, period: u64) -> io::Result<()> {
        let living = living()?;
        self.timers.retain(|tid, timer| living.contains(tid) && !timer.is_dead());
        self.masked.retain(|tid, _| living.contains(tid));
        for tid in living {
            if !self.timers.contains_key(&tid) {
                self.arm(tid, period)?;
            }
        }
        Ok(())
    }

    /// Who is not sampled: `name (tid)`.
    pub(super) fn unsampled(&self) -> Vec<String> {
        self.masked.iter().map(|(tid, name)| format!("{name} ({tid})")).collect()
    }

    /// Reads the masks of the next few threads.
    fn read_masks(&mut self) {
        let mut tids: Vec<u32> = self.timers.keys().copied().collect();
        tids.sort_unstable();
        let next = tids.partition_point(|&tid| tid <= self.mask_read);
        tids.rotate_left(next);
        for tid in tids.into_iter().take(CPU_MASKS) {
            self.mask_read = tid;
            match masked_name(tid) {
                Some(name) => self.masked.insert(tid, name),
                None => self.masked.remove(&tid),
            };
        }
    }
}

/// When a new timer expires first. In whole ticks, each as likely as another, since only whole ticks are seen: so in
/// each tick that finds a thread running, it is sampled with probability tick / period, however short it lives.
fn first(period: u64) -> u64 {
    let tick = timers::tick();
    let at = ((u128::from(super::random()) * u128::from(period)) >> 64) as u64;
    at / tick * tick + 1
}

fn living() -> io::Result<HashSet<u32>> {
    let entries = fs::read_dir("/proc/self/task")?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// The name of a thread that blocks SIGPROF.
fn masked_name(tid: u32) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/self/task/{tid}/status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let blocked = u64::from_str_radix(field("SigBlk:")?, 16).ok()?;
    (blocked >> (libc::SIGPROF - 1) & 1 == 1).then(|| field("Name:").unwrap_or_default().to_owned())
}
