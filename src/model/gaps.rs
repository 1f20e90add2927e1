//! Where a thread's events are missing.
//!
//! Losses are told by kymo's own thread once a second, with the thread and a count, not with their place. But a
//! thread that can't record gets a new chunk afterwards, and what a reader could not take or a damaged section held
//! are whole runs: so events are missing between two runs of a thread, and such a boundary is a gap when a loss was
//! told for the time around it, when the file is damaged between them, or when the first of them breaks off.
//! What a thread was doing is not known across a gap.

use std::collections::HashMap;

use crate::events::{Event, LossReason, ThreadId};
use crate::format::file::{File, Problem, Run};

/// Where events may be missing.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    /// For each thread, in which ticks (after the first, up to the second) it lost events.
    lossy: HashMap<ThreadId, Vec<(u64, u64)>>,
    /// Offsets of damage in the file, ascending.
    damage: Vec<usize>,
}

/// Where a thread's latest run stopped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stop {
    /// Where its section begins in the file.
    pub(super) offset: usize,
    /// The last stamp.
    pub(super) ticks: u64,
    /// Whether it broke off.
    pub(super) broken: bool,
}

impl Gaps {
    /// From the losses and the damage of a file.
    pub(super) fn of(file: &File<'_>) -> Gaps {
        let offset = |problem: &Problem| match *problem {
            Problem::Damaged { offset, .. } | Problem::Truncated { offset } => Some(offset),
            Problem::Payload { offset, .. } => Some(offset),
            _ => None,
        };
        let mut gaps =
            Gaps { lossy: HashMap::new(), damage: file.problems.iter().filter_map(offset).collect() };
        gaps.damage.sort_unstable();
        let mut told_before = file.header.start_ticks;
        for run in file.runs.iter().filter(|run| run.head.thread == ThreadId(0)) {
            let mut told = told_before;
            for stamped in file.events(run).map_while(Result::ok) {
                told = stamped.ticks;
                if let Event::Loss(loss) = stamped.event
                    && !matches!(loss.reason, LossReason::Reentrant | LossReason::KernelRing)
                {
                    gaps.lossy.entry(loss.thread).or_default().push((told_before, stamped.ticks));
                }
            }
            told_before = told;
        }
        gaps
    }

    /// Whether events of `thread` may be missing between the end of one run and the beginning of the next.
    pub(super) fn between(&self, thread: ThreadId, stop: Stop, next: &Run<'_>) -> bool {
        let (from, to) = (stop.offset.min(next.offset), stop.offset.max(next.offset));
        let damaged = self.damage.iter().any(|damage| (from..to).contains(damage));
        let lossy = |&(after, until): &(u64, u64)| stop.ticks <= until && next.head.base_ticks >= after;
        stop.broken || damaged || self.lossy.get(&thread).is_some_and(|all| all.iter().any(lossy))
    }

    /// Whether events of `thread` may be missing after its last run.
    pub(super) fn after(&self, thread: ThreadId, stop: Stop) -> bool {
        let damaged = self.damage.last().is_some_and(|&damage| damage > stop.offset);
        let lossy = |&(_, until): &(u64, u64)| stop.ticks <= until;
        stop.broken || damaged || self.lossy.get(&thread).is_some_and(|all| all.iter().any(lossy))
    }
}
