//! The threads that are watched while captures want switches, and what the drain tells of them.
//!
//! At both edges of a capture's window each thread's place (on which CPU, off it, preempted) and its totals are told:
//! so a reader knows of a thread that never switched what it did, and of the others what they did until they switched.
//! A ring goes when its thread has exited.
//!
//! Rings speak CLOCK_MONOTONIC, which is the clock that a reader turns ticks into, by straight lines between syncs a
//! second apart. Here too, between two looks, twenty milliseconds: the error is that of a sync, some ten nanoseconds.
//! The CPU's counter itself could be had where the kernel says how its clock is made of it (`time_mult`), but virtual
//! machines don't say so, and it would gain no more than those nanoseconds.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::ring::{NoRing, Record, Ring, What};
use super::{ANNOUNCED, may_ask, totals};
use crate::clock::{self, Sync};
use crate::events::{Count, LossReason, SchedTotals, SwitchGap, SwitchIn, SwitchOut, ThreadId};
use crate::limits::{SCHED_LOOK_SHARE, SCHED_TOTALS_MS, SCHED_TOTALS_THREADS};
use crate::record::switches::Collector;

/// Shorter stretches make no good line.
const LINE_NS: u64 = 10_000_000;

/// A ring that a new thread has opened for itself.
#[derive(Debug)]
pub(super) struct Announced {
    pub(super) ring: Ring,
    pub(super) thread: ThreadId,
    pub(super) tid: u32,
    pub(super) cpu: u32,
}

/// Where the kernel has a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Not known yet: since when, and what it had run by then.
    Unknown {
        since: u64,
        ran: u64,
    },
    On {
        cpu: u32,
    },
    Off {
        cpu: u32,
        preempted: bool,
    },
    Gone,
}

/// A thread and its ring.
struct Watched {
    ring: Ring,
    /// Asked for while the thread lives: its tid may be another's when its ring is read.
    thread: Option<ThreadId>,
    place: Place,
    /// It is not there any more, though its ring may not tell so.
    exited: bool,
    /// Its ring was full, and nothing has come since then.
    was_full: bool,
}

/// What is watched now.
pub(super) struct Watch {
    /// Switches can be had.
    rings: bool,
    /// What `status` says, without the threads that are not watched.
    state: String,
    watched: HashMap<u32, Watched>,
    /// Threads that have no ring though others have.
    unwatched: usize,
    latest: Sync,
    told: Instant,
    next_look: Instant,
}

impl Watch {
    /// With the rings of all threads there are; so `status` knows how many have none.
    pub(super) fn begin(rings: bool, state: String) -> Watch {
        let now = Instant::now();
        let (watched, unwatched, latest) = (HashMap::new(), 0, clock::sync());
        let mut watch = Watch { rings, state, watched, unwatched, latest, told: now, next_look: now };
        if rings {
            watch.look();
        }
        watch
    }

    /// Whether no thread could be given a ring.
    pub(super) fn found_no_room(&self) -> bool {
        self.watched.is_empty() && self.unwatched > 0
    }

    /// Tells what has come since the last time.
    pub(super) fn collect(&mut self, collector: &mut Collector<'_>) {
        // First, since at a window's end each moment makes them less true.
        let due = self.told.elapsed() >= Duration::from_millis(SCHED_TOTALS_MS);
        let totals = match collector.is_edge() || due && !self.rings {
            true => all_totals(),
            false => HashMap::new(),
        };
        if self.rings {
            self.take_announced(collector);
            if Instant::now() >= self.next_look {
                self.look();
            }
        }
        self.tell(totals, collector.is_edge() || due, collector);
    }

    fn take_announced(&mut self, collector: &mut Collector<'_>) {
        while let Some(announced) = ANNOUNCED.get().and_then(|new| new.pop()) {
            let Announced { ring, thread, tid, cpu } = announced;
            // The drain may have found it before, or not know yet that the number's former thread is gone.
            if let Some(known) = self.watched.get_mut(&tid) {
                known.tell(tid, &Line::new(self.latest, clock::sync()), None, collector);
                if known.place != Place::Gone {
                    known.thread = Some(thread);
                    continue;
                }
            }
            self.watched.insert(
                tid,
                Watched {
                    ring,
                    thread: Some(thread),
                    place: Place::On { cpu },
                    exited: false,
                    was_full: false,
                },
            );
        }
    }

    /// Finds the threads that nobody has announced. With thousands of threads that takes a while, so it is done less
    /// often then.
    fn look(&mut self) {
        let begin = Instant::now();
        let living: HashSet<u32> = threads().into_iter().collect();
        self.watched.iter_mut().for_each(|(tid, watched)| watched.exited |= !living.contains(tid));
        let mut unwatched = 0;
        let mut room = may_ask();
        let new: Vec<u32> = living.into_iter().filter(|tid| !self.watched.contains_key(tid)).collect();
        for tid in new {
            match room.then(|| Ring::open(tid)) {
                Some(Ok(ring)) => drop(self.watched.insert(tid, Watched::from_now(ring, tid))),
                Some(Err(NoRing::Gone)) => {}
                // The next ones would find none either.
                Some(Err(NoRing::NoRoom | NoRing::Refused(_))) | None => {
                    (unwatched, room) = (unwatched + 1, false);
                }
            }
        }
        self.say(unwatched);
        self.next_look = Instant::now() + begin.elapsed() * SCHED_LOOK_SHARE;
    }

    fn say(&mut self, unwatched: usize) {
        if std::mem::replace(&mut self.unwatched, unwatched) == unwatched {
            return;
        }
        let state = match unwatched {
            0 => self.state.clone(),
            _ => format!("{}; totals only of {unwatched} threads: rings have no room for more", self.state),
        };
        crate::status::set("sched", state);
    }

    fn tell(&mut self, mut totals: HashMap<u32, SchedTotals>, due: bool, collector: &mut Collector<'_>) {
        if due {
            self.told = Instant::now();
        }
        let now = clock::sync();
        let line = Line::new(self.latest, now);
        for (tid, watched) in &mut self.watched {
            let edge = due.then(|| Edge { totals: totals.remove(tid) });
            watched.tell(*tid, &line, edge, collector);
        }
        self.watched.retain(|_, watched| watched.place != Place::Gone && !watched.exited);
        for (tid, totals) in totals {
            collector.emit(tid, collector.now(), totals);
        }
        if now.monotonic_ns - self.latest.monotonic_ns >= LINE_NS {
            self.latest = now;
        }
    }
}

/// What is told of a thread where a capture begins or ends, and each second: a flight recorder's window may begin then.
struct Edge {
    totals: Option<SchedTotals>,
}

impl Watched {
    fn from_now(ring: Ring, tid: u32) -> Watched {
        let (since, ran) = (clock::ticks(), totals::cpu_clock(tid).unwrap_or_default());
        Watched { ring, thread: None, place: Place::Unknown { since, ran }, exited: false, was_full: false }
    }

    fn tell(&mut self, tid: u32, line: &Line, edge: Option<Edge>, collector: &mut Collector<'_>) {
        let thread = *self.thread.get_or_insert_with(|| collector.thread(tid));
        // Before the ring is read: if that is empty, the thread has been in one place until here.
        let seen = edge.as_ref().and_then(|_| Seen::of(tid));
        let mut records = Vec::new();
        let full = self.ring.read(|record| records.push((line.ticks(record.at), record)));
        self.was_full = full || self.was_full && records.is_empty();
        if let Place::Unknown { since, ran } = self.place {
            let first = records.iter().find_map(|(_, record)| place_before(record));
            if let Some(place) = first.or_else(|| seen?.place(since, ran)) {
                self.place = place;
                self.tell_place(thread, since, collector);
            }
        }
        let (before, after) = match edge.is_some() {
            true => records.split_at(records.partition_point(|(ticks, _)| *ticks <= collector.now())),
            false => records.split_at(records.len()),
        };
        before.iter().for_each(|(ticks, record)| self.take(thread, *ticks, record, collector));
        if let Some(edge) = edge {
            self.tell_place(thread, collector.now(), collector);
            edge.totals.into_iter().for_each(|totals| collector.emit_of(thread, collector.now(), totals));
        }
        after.iter().for_each(|(ticks, record)| self.take(thread, *ticks, record, collector));
        if self.was_full && self.exited && self.place != Place::Gone {
            // The kernel tells a loss with the next record, and of this thread there is none: one at least is missing.
            let at = records.last().map_or(collector.now(), |(ticks, _)| *ticks);
            self.missing(thread, at, 1, collector);
        }
    }

    fn take(&mut self, thread: ThreadId, ticks: u64, record: &Record, collector: &mut Collector<'_>) {
        let cpu = record.cpu;
        self.place = match record.what {
            What::In => Place::On { cpu },
            What::Out { preempted } => Place::Off { cpu, preempted },
            What::Exit => Place::Off { cpu, preempted: false },
            What::Lost(count) => {
                return self.missing(thread, ticks, count, collector);
            }
        };
        self.tell_place(thread, ticks, collector);
        if record.what == What::Exit {
            self.place = Place::Gone;
        }
    }

    fn missing(&self, thread: ThreadId, ticks: u64, count: u64, collector: &mut Collector<'_>) {
        collector.lose_of(thread, LossReason::KernelRing, count);
        collector.emit_of(thread, ticks, SwitchGap { count: Count(count) });
    }

    fn tell_place(&self, thread: ThreadId, ticks: u64, collector: &mut Collector<'_>) {
        match self.place {
            Place::Unknown { .. } | Place::Gone => {}
            Place::On { cpu } => collector.emit_of(thread, ticks, SwitchIn { cpu: Count(cpu.into()) }),
            Place::Off { cpu, preempted } => {
                let (cpu, preempted) = (Count(cpu.into()), Count(preempted.into()));
                collector.emit_of(thread, ticks, SwitchOut { cpu, preempted });
            }
        }
    }
}

/// Where a thread was before its first record.
fn place_before(record: &Record) -> Option<Place> {
    let cpu = record.cpu;
    match record.what {
        What::In => Some(Place::Off { cpu, preempted: false }),
        What::Out { .. } | What::Exit => Some(Place::On { cpu }),
        What::Lost(_) => None,
    }
}

/// What a thread has run by when, and its latest CPU.
#[derive(Clone, Copy)]
struct Seen {
    at: u64,
    ran: u64,
    cpu: u32,
}

impl Seen {
    fn of(tid: u32) -> Option<Seen> {
        let (at, ran) = (clock::ticks(), totals::cpu_clock(tid)?);
        Some(Seen { at, ran, cpu: totals::cpu(tid)? })
    }

    /// Where it has been all the time since then, without a switch.
    fn place(self, since: u64, ran: u64) -> Option<Place> {
        let (passed, ran) = (clock::nanos_between(since, self.at), self.ran.saturating_sub(ran));
        let cpu = self.cpu;
        Some(if ran > passed / 2 { Place::On { cpu } } else { Place::Off { cpu, preempted: false } })
    }
}

/// CLOCK_MONOTONIC to ticks.
struct Line {
    from: Sync,
    to: Sync,
}

impl Line {
    fn new(from: Sync, to: Sync) -> Line {
        Line { from, to }
    }

    fn ticks(&self, monotonic_ns: u64) -> u64 {
        let Line { from, to } = self;
        let run = i128::from(to.monotonic_ns) - i128::from(from.monotonic_ns);
        let rise = i128::from(to.ticks) - i128::from(from.ticks);
        let past = i128::from(monotonic_ns) - i128::from(from.monotonic_ns);
        (i128::from(from.ticks) + past * rise / run.max(1)).max(0) as u64
    }
}

fn all_totals() -> HashMap<u32, SchedTotals> {
    let tids = threads().into_iter().take(SCHED_TOTALS_THREADS);
    tids.filter_map(|tid| Some((tid, totals::of(tid)?))).collect()
}

/// The kernel's numbers of this process's threads.
fn threads() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ticks: u64, monotonic_ns: u64) -> Sync {
        Sync { ticks, monotonic_ns, realtime_ns: 0 }
    }

    #[test]
    fn the_kernels_nanoseconds_become_ticks_and_back_exactly() {
        let (from, to) = (at(1 << 60, 9_000_000_000), at((1 << 60) + 52_000_000, 9_020_000_000));
        let (line, timebase) = (Line::new(from, to), clock::Timebase::new(vec![from, to]));
        assert_eq!((line.ticks(from.monotonic_ns), line.ticks(to.monotonic_ns)), (from.ticks, to.ticks));
        for ns in (8_999_999_000..9_020_001_000).step_by(997) {
            assert!(timebase.nanos(line.ticks(ns)).abs_diff(ns) <= 1, "{ns}");
        }
    }

    #[test]
    fn a_first_record_tells_where_the_thread_was() {
        let record = |what| Record { at: 5, cpu: 3, what };
        assert_eq!(place_before(&record(What::In)), Some(Place::Off { cpu: 3, preempted: false }));
        assert_eq!(place_before(&record(What::Out { preempted: true })), Some(Place::On { cpu: 3 }));
        assert_eq!(place_before(&record(What::Lost(1))), None);
    }
}
