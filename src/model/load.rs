//! Bytes to a [`Trace`].
//!
//! Finds the sections, merges the runs of all threads in time order, turns ticks into nanoseconds from the capture's
//! start, and lets the [`Builder`](super::timeline::Builder) pair beginnings with ends. Events from before the window
//! are context: they open what was open, and count for nothing. Names and refined states come last, when the stacks
//! are known. Reads no files: symbols are those that the trace brings.

use std::collections::HashMap;

use super::timeline::Builder;
use super::{Info, Ns, Trace, merge, states};
use crate::clock::{Sync, Timebase};
use crate::events::{Event, ThreadId};
use crate::format::file::{File, FileError, Problem};

/// Reads a trace: as much as is valid, together with what is wrong.
///
/// # Errors
/// [`FileError`] if nothing can be used.
///
/// ```
/// use kymo::{events::Groups, record::session::{Capture, CaptureOptions}, record::sink::MemorySink};
/// let sink = MemorySink::new(1 << 20);
/// Capture::start(CaptureOptions { groups: Groups::ALL, sink: Box::new(sink.clone()), resolver: None })?.stop();
/// let (trace, problems) = kymo::model::load::load(&sink.take())?;
/// assert!(problems.is_empty() && trace.info.complete);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load(bytes: &[u8]) -> Result<(Trace, Vec<Problem>), FileError> {
    let file = File::parse(bytes)?;
    let window = Window::of(&file);
    let mut clock = window.clock();
    let mut builder = Builder::new(window.duration);
    let mut problems = file.problems.clone();
    let broken = merge::merge(&file, |thread, ticks, event| {
        if ticks <= window.end_ticks {
            let inside = ticks >= window.start_ticks;
            builder.event(
                thread,
                clock.nanos(ticks).saturating_sub(window.start_ns).min(window.duration),
                inside,
                event,
            );
        }
    });
    problems.extend(broken);
    let mut trace = builder.finish();
    trace.info = info(&file, &window);
    take_tables(&mut trace, &file);
    name(&mut trace, &file);
    states::refine(&mut trace);
    Ok((trace, problems))
}

/// The capture's window in ticks, and what it is in nanoseconds.
struct Window {
    timebase: Timebase,
    start_ticks: u64,
    end_ticks: u64,
    start_ns: u64,
    duration: Ns,
}

impl Window {
    fn of(file: &File<'_>) -> Window {
        let timebase = file.timebase();
        let first = || file.runs.iter().map(|run| run.head.base_ticks).min().unwrap_or_default();
        let start_ticks = if file.header.start_ticks == 0 { first() } else { file.header.start_ticks };
        let end_ticks = file.end.map_or_else(|| last_ticks(file), |end| end.end_ticks).max(start_ticks);
        let start_ns = timebase.nanos(start_ticks);
        let duration = timebase.nanos(end_ticks).saturating_sub(start_ns);
        Window { timebase, start_ticks, end_ticks, start_ns, duration }
    }

    fn clock(&self) -> Clock<'_> {
        Clock {
            timebase: &self.timebase,
            from: Sync { ticks: 1, monotonic_ns: 0, realtime_ns: 0 },
            until: 0,
            rate: 0.0,
        }
    }
}

/// The last stamp of a trace whose writer did not finish.
fn last_ticks(file: &File<'_>) -> u64 {
    let last = |run| file.events(run).map_while(Result::ok).last().map(|stamped| stamped.ticks);
    file.runs.iter().filter_map(last).max().unwrap_or_default()
}

/// Ticks to nanoseconds by the current stretch between two syncs: a multiplication where [`Timebase::nanos`] searches
/// and divides. Agrees with it to the nanosecond's rounding, and is as monotone.
struct Clock<'a> {
    timebase: &'a Timebase,
    from: Sync,
    until: u64,
    rate: f64,
}

impl Clock<'_> {
    #[inline]
    fn nanos(&mut self, ticks: u64) -> u64 {
        if ticks < self.from.ticks || ticks >= self.until {
            self.find(ticks);
        }
        match ticks.checked_sub(self.from.ticks) {
            Some(since) => self.from.monotonic_ns + (since as f64 * self.rate) as u64,
            None => self.timebase.nanos(ticks),
        }
    }

    #[cold]
    fn find(&mut self, ticks: u64) {
        let syncs = self.timebase.syncs();
        let after = syncs.partition_point(|sync| sync.ticks <= ticks);
        self.until = syncs.get(after).map_or(u64::MAX, |sync| sync.ticks);
        if let (Some(&from), [.., a, b]) = (syncs[..after].last(), &syncs[..(after + 1).min(syncs.len())]) {
            self.from = from;
            self.rate = (b.monotonic_ns - a.monotonic_ns) as f64 / (b.ticks - a.ticks) as f64;
        } else {
            // Before the first sync, or with one only: rare enough for the slow way.
            self.from = Sync { ticks: u64::MAX, monotonic_ns: 0, realtime_ns: 0 };
        }
    }
}

fn info(file: &File<'_>, window: &Window) -> Info {
    let header = &file.header;
    Info {
        writer: header.writer.clone(),
        pid: header.pid,
        program: header.program.clone(),
        start_realtime_ns: header.start_realtime_ns,
        start_monotonic_ns: header.start_monotonic_ns,
        duration_ns: window.duration,
        wait_stack_ns: header.wait_stack_ns,
        call_stack_ns: header.call_stack_ns,
        sources: header.sources.clone(),
        notes: header.notes.clone(),
        complete: file.end.is_some(),
    }
}

fn take_tables(trace: &mut Trace, file: &File<'_>) {
    trace.strings = file.strings.iter().map(|(&id, &text)| (id, text.to_owned())).collect();
    trace.stacks.addresses = file.stacks.clone();
    trace.stacks.modules = file.modules.clone();
    trace.stacks.modules.sort_by_key(|module| module.start);
    trace.stacks.symbols =
        file.symbols.iter().map(|symbol| (symbol.address, symbol.frames.clone())).collect();
}

/// Threads get their names and tids, tasks theirs, once the strings are known.
fn name(trace: &mut Trace, file: &File<'_>) {
    let known: HashMap<ThreadId, _> = file.threads.iter().map(|info| (info.thread, info)).collect();
    let text = |id| file.text(id).to_owned();
    for thread in &mut trace.threads {
        let info = known.get(&thread.id);
        thread.tid = info.map_or(thread.tid, |info| info.tid);
        if let Some(info) = info.filter(|info| thread.name_id.0 == 0 || info.name.0 != 0) {
            thread.name_id = info.name;
        }
        thread.name = text(thread.name_id);
        if let Some((runtime, _)) = &mut thread.worker {
            *runtime = text(thread.runtime_id);
        }
    }
    for task in &mut trace.tasks {
        task.site = text(task.site_id);
        task.name = if task.name_id.0 == 0 { task.site.clone() } else { text(task.name_id) };
    }
    for counter in &mut trace.counters {
        counter.name = text(counter.name_id);
    }
}

/// Whether an event belongs to kymo's own thread: it tells of others.
pub(super) fn is_told(event: &Event) -> bool {
    matches!(event, Event::ClockSync(_) | Event::Loss(_))
}
