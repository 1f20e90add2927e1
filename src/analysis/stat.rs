//! What is in a trace, counted: what `kymo stat` prints and scripts read.
//!
//! Every number counts what lies in the capture's window, by one sentence of its own below; exporters must agree with
//! them exactly. Does not derive anything: shares and latencies are other analyses.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::memory::{MemoryUse, memory};
use super::on_cpu::{self, OnCpu};
use crate::events::kind;
use crate::format::file::Problem;
use crate::model::{Ns, State, StateChange, Thread, Trace};

/// A trace in numbers. The names of the fields are the keys of `kymo stat --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stat {
    /// Who wrote it.
    pub writer: String,
    /// The traced program.
    pub program: String,
    /// Its process number.
    pub pid: u32,
    /// The capture's length, nanoseconds.
    pub duration_ns: u64,
    /// Whether the writer finished.
    pub complete: bool,
    /// Events of all kinds.
    pub events: u64,
    /// Events that were not recorded, for all reasons.
    pub lost: u64,
    /// Events by the name of their kind; kinds without events are left out.
    pub kinds: BTreeMap<String, u64>,
    /// Threads that have events.
    pub threads: usize,
    /// Tasks that have events.
    pub tasks: usize,
    /// Polls, those that began before the capture included.
    pub polls: usize,
    /// Wakes of tasks.
    pub task_wakes: usize,
    /// Wakes that led to a poll: arrows.
    pub flows: usize,
    /// Suspensions of tasks.
    pub suspensions: usize,
    /// Waits of threads.
    pub waits: usize,
    /// Wakes of waiting threads.
    pub wakes: usize,
    /// Hooked calls.
    pub calls: usize,
    /// Idle times of workers.
    pub parks: usize,
    /// Spans and user tasks.
    pub spans: usize,
    /// Messages.
    pub logs: usize,
    /// Values of counters.
    pub counter_values: usize,
    /// Nanoseconds that threads spent in each state, all threads together.
    pub thread_ns: BTreeMap<&'static str, u64>,
    /// The same for tasks.
    pub task_ns: BTreeMap<&'static str, u64>,
    /// Memory over time.
    pub memory: MemoryUse,
    /// What threads had of the CPUs, by the kernel's word; those of which it told nothing are left out.
    pub on_cpu: Vec<OnCpuLine>,
    /// Losses, by thread and reason.
    pub losses: Vec<LossLine>,
    /// Each source and its state.
    pub sources: BTreeMap<String, String>,
    /// What is wrong with the trace.
    pub problems: Vec<String>,
}

/// Events that a thread lost for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LossLine {
    /// kymo's number of the thread.
    pub thread: u32,
    /// The kernel's number.
    pub tid: u64,
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: &'static str,
    /// How many.
    pub count: u64,
}

/// What a thread had of the CPUs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OnCpuLine {
    /// kymo's number of the thread.
    pub thread: u32,
    /// The kernel's number.
    pub tid: u64,
    /// Its name.
    pub name: String,
    /// Nanoseconds on a CPU.
    pub running_ns: u64,
    /// Nanoseconds for which it wanted one.
    pub runnable_ns: u64,
    /// How often one was taken from it.
    pub preemptions: u64,
}

/// Counts a trace.
pub fn stat(trace: &Trace, problems: &[Problem]) -> Stat {
    let info = &trace.info;
    Stat {
        writer: info.writer.clone(),
        program: info.program.clone(),
        pid: info.pid,
        duration_ns: info.duration_ns,
        complete: info.complete,
        events: trace.events(),
        lost: trace.lost(),
        kinds: kinds(trace),
        threads: trace.threads.len(),
        tasks: trace.tasks.len(),
        polls: trace.polls.len(),
        task_wakes: trace.task_wakes.len(),
        flows: trace.task_wakes.iter().filter(|wake| wake.led_to.is_some()).count(),
        suspensions: trace.suspensions.len(),
        waits: trace.waits.len(),
        wakes: trace.wakes.len(),
        calls: trace.calls.len(),
        parks: trace.parks.len(),
        spans: trace.spans.len(),
        logs: trace.logs.len(),
        counter_values: trace.counters.iter().map(|counter| counter.values.len()).sum(),
        thread_ns: totals(trace.threads.iter().map(|thread| (thread.states.as_slice(), thread.life.end))),
        task_ns: totals(trace.tasks.iter().map(|task| (task.states.as_slice(), task.life.end))),
        memory: memory(trace),
        on_cpu: on_cpu(trace),
        losses: losses(trace),
        sources: info.sources.iter().cloned().collect(),
        problems: problems.iter().map(Problem::to_string).collect(),
    }
}

/// Kinds that only a newer kymo knows have the name that the file gives them.
fn kinds(trace: &Trace) -> BTreeMap<String, u64> {
    let name = |id: u8| match kind(id) {
        Some(spec) => spec.name.to_owned(),
        None => trace.unknown_kinds.get(&id).cloned().unwrap_or_else(|| format!("kind {id}")),
    };
    let counted = (0..=u8::MAX).zip(&trace.kinds).filter(|(_, count)| **count > 0);
    counted.map(|(id, count)| (name(id), *count)).collect()
}

/// Nanoseconds by state.
fn totals<'a>(tracks: impl Iterator<Item = (&'a [StateChange], Ns)>) -> BTreeMap<&'static str, u64> {
    let mut totals = BTreeMap::new();
    for (states, end) in tracks {
        let ends = states.iter().skip(1).map(|next| next.at).chain([end]);
        for (change, until) in states.iter().zip(ends) {
            *totals.entry(change.state.word()).or_default() += until.saturating_sub(change.at);
        }
    }
    totals
}

/// The busiest first.
fn on_cpu(trace: &Trace) -> Vec<OnCpuLine> {
    let told = on_cpu::on_cpu(trace);
    let line = |(thread, told): (&Thread, Option<OnCpu>)| {
        let OnCpu { running, runnable, preemptions } = told?;
        let (id, tid, name) = (thread.id.0, thread.tid, thread.name.clone());
        Some(OnCpuLine { thread: id, tid, name, running_ns: running, runnable_ns: runnable, preemptions })
    };
    let mut lines: Vec<_> = trace.threads.iter().zip(told).filter_map(line).collect();
    lines.sort_by_key(|line| std::cmp::Reverse(line.running_ns));
    lines
}

fn losses(trace: &Trace) -> Vec<LossLine> {
    let mut by_thread: BTreeMap<(u32, u8), u64> = BTreeMap::new();
    for loss in &trace.losses {
        *by_thread.entry((loss.thread, loss.reason as u8)).or_default() += loss.count;
    }
    let line = |((thread, reason), count): ((u32, u8), u64)| {
        let thread = &trace.threads[thread as usize];
        let reason = crate::events::LossReason::WORDS[usize::from(reason)];
        LossLine { thread: thread.id.0, tid: thread.tid, name: thread.name.clone(), reason, count }
    };
    by_thread.into_iter().map(line).collect()
}

impl fmt::Display for Stat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.duration_ns as f64 / 1e9;
        writeln!(f, "{} (pid {}), {seconds:.3} s, by {}", self.program, self.pid, self.writer)?;
        writeln!(
            f,
            "{} events, {} lost, {} threads, {} tasks",
            self.events, self.lost, self.threads, self.tasks
        )?;
        writeln!(f, "\n{:<16} {:>12}", "kind", "events")?;
        for (name, count) in &self.kinds {
            writeln!(f, "{name:<16} {count:>12}")?;
        }
        writeln!(f, "\n{:<16} {:>12} {:>12}", "state", "threads, s", "tasks, s")?;
        for state in State::ALL {
            let of = |totals: &BTreeMap<&str, u64>| {
                totals.get(state.word()).copied().unwrap_or_default() as f64 / 1e9
            };
            writeln!(f, "{:<16} {:>12.3} {:>12.3}", state.word(), of(&self.thread_ns), of(&self.task_ns))?;
        }
        write!(f, "{}", self.memory)?;
        if !self.on_cpu.is_empty() {
            writeln!(f, "\n{:<16} {:>12} {:>12} {:>12}", "on a CPU", "seconds", "waited, s", "preempted")?;
        }
        for line in &self.on_cpu {
            let (running, runnable) = (line.running_ns as f64 / 1e9, line.runnable_ns as f64 / 1e9);
            writeln!(f, "{:<16} {running:>12.3} {runnable:>12.3} {:>12}", line.name, line.preemptions)?;
        }
        for loss in &self.losses {
            writeln!(f, "lost: {} of thread {} ({}): {}", loss.count, loss.tid, loss.name, loss.reason)?;
        }
        for (source, state) in &self.sources {
            writeln!(f, "source {source}: {state}")?;
        }
        self.problems.iter().try_for_each(|problem| writeln!(f, "problem: {problem}"))
    }
}
