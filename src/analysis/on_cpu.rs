//! How long each thread was on a CPU, wanted one, and lost one.
//!
//! The kernel's totals are what the thread's own CPU clock says: without interrupts, and without what a hypervisor took
//! from the CPU meanwhile. They are told at both ends of the window, at a thread's birth (nothing) and at its end; where they
//! were not, its time on CPUs between switches counts.

use crate::model::{CpuSlice, Ns, SchedTotal, ThreadIndex, Trace};

/// What is known of a thread's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OnCpu {
    /// Nanoseconds on a CPU.
    pub running: u64,
    /// Nanoseconds for which it wanted one.
    pub runnable: u64,
    /// How often one was taken from it.
    pub preemptions: u64,
}

/// By thread, as in [`Trace::threads`]; `None` where nothing tells.
pub fn on_cpu(trace: &Trace) -> Vec<Option<OnCpu>> {
    let counted = counted(trace);
    let told = |counted: &Option<Counted>| counted.map(|counted| counted.between());
    let mut sums: Vec<Option<OnCpu>> = counted.iter().map(told).collect();
    for slice in &trace.cpus {
        let thread = slice.thread as usize;
        let sum = sums[thread].get_or_insert_default();
        sum.running += counted[thread].map_or(slice.time.duration(), |counted| counted.outside(slice));
        sum.preemptions += u64::from(slice.preempted && counted[thread].is_none());
    }
    sums
}

/// What the kernel counted of a thread until two moments.
#[derive(Clone, Copy)]
struct Counted {
    first: SchedTotal,
    last: SchedTotal,
}

impl Counted {
    fn between(self) -> OnCpu {
        let Counted { first, last } = self;
        OnCpu {
            running: last.running.saturating_sub(first.running),
            runnable: last.runnable.saturating_sub(first.runnable),
            preemptions: last.preemptions.saturating_sub(first.preemptions),
        }
    }

    /// How much of a slice lies before the first or after the last moment.
    fn outside(self, slice: &CpuSlice) -> Ns {
        let before = self.first.at.min(slice.time.end).saturating_sub(slice.time.begin);
        let after = slice.time.end.saturating_sub(self.last.at.max(slice.time.begin));
        before + after
    }
}

fn counted(trace: &Trace) -> Vec<Option<Counted>> {
    let mut counted: Vec<Option<Counted>> = vec![None; trace.threads.len()];
    for &total in &trace.sched_totals {
        let first = at_birth(trace, total.thread).unwrap_or(total);
        counted[total.thread as usize].get_or_insert(Counted { first, last: total }).last = total;
    }
    counted
}

/// A thread that was born in the window began with nothing.
fn at_birth(trace: &Trace, thread: ThreadIndex) -> Option<SchedTotal> {
    let begin = trace.threads[thread as usize].life.begin;
    (begin > 0).then_some(SchedTotal { at: begin, thread, running: 0, runnable: 0, preemptions: 0 })
}
