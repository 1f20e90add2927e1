//! Bytes to a [`Trace`].
//!
//! Finds the sections, merges the runs of all threads in time order, turns ticks into nanoseconds, and lets the
//! [`Builder`] pair beginnings with ends. Events from before the window are context: they open what was open when it
//! began, and count for nothing; those after it are left out. Then the trace is cut to the window, and names and
//! states follow from its tables. Reads no files: symbols are those that the trace brings.

use std::collections::HashMap;

use super::merge::{Merge, Take};
use super::time::Clock;
use super::timeline::Builder;
use super::{Info, Ns, Trace, states, window};
use crate::clock::Sync;
use crate::events::{Event, KINDS, ThreadId};
use crate::format::file::{File, FileError, Problem};
use crate::limits::WALL_CLOCK_STEP_NS;

/// Reads a trace: as much as is valid, together with what is wrong.
///
/// # Errors
/// [`FileError`] if nothing can be used.
///
/// ```
/// use kymo::{events::Groups, record::session::{Capture, CaptureOptions}, record::sink::MemorySink};
/// let sink = MemorySink::new(1 << 20);
/// Capture::start(CaptureOptions { groups: Groups::ALL, cpu_hz: 0, sink: Box::new(sink.clone()), resolver: None })?.stop();
/// let (trace, problems) = kymo::model::load::load(&sink.take())?;
/// assert!(problems.is_empty() && trace.info.complete);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load(bytes: &[u8]) -> Result<(Trace, Vec<Problem>), FileError> {
    let file = File::parse(bytes)?;
    let merge = Merge::new(&file);
    let window = Window::of(&file, merge.first_ticks());
    let builder = Builder::new(window.end_ns - window.zero_ns);
    let mut reading = Reading { clock: window.clock.clone(), window: &window, builder };
    let broken = merge.run(&mut reading);
    let mut trace = reading.builder.finish();
    window::cut(&mut trace, window.start_ns - window.zero_ns);
    trace.info = info(&file, &window);
    let mut problems = file.problems.clone();
    problems.extend(broken);
    take_tables(&mut trace, file);
    states::refine(&mut trace);
    Ok((trace, problems))
}

/// Hands events to the builder, at their times.
struct Reading<'a> {
    clock: Clock,
    window: &'a Window,
    builder: Builder,
}

impl Take for Reading<'_> {
    #[inline]
    fn event(&mut self, thread: ThreadId, ticks: u64, event: &Event) {
        // What was lost up to the window's end is told after it.
        if ticks > self.window.end_ticks && !matches!(event, Event::Loss(_)) {
            return;
        }
        if ticks >= self.window.start_ticks {
            self.builder.count_kind(event);
        }
        let at = self.clock.ascending_nanos(ticks).min(self.window.end_ns);
        self.builder.event(thread, at.saturating_sub(self.window.zero_ns), event);
    }

    fn gap(&mut self, thread: ThreadId) {
        self.builder.gap(thread);
    }
}

/// The capture's window.
struct Window {
    clock: Clock,
    start_ticks: u64,
    end_ticks: u64,
    start_ns: u64,
    end_ns: u64,
    /// The first event's time or the start's, whichever is earlier: from it the builder's times count.
    zero_ns: u64,
}

impl Window {
    fn of(file: &File<'_>, first_ticks: Option<u64>) -> Window {
        let clock = Clock::new(&file.timebase());
        let first_ticks = first_ticks.unwrap_or(file.header.start_ticks);
        let start_ticks = if file.header.start_ticks == 0 { first_ticks } else { file.header.start_ticks };
        let end_ticks = file.end.map_or_else(|| last_ticks(file), |end| end.end_ticks).max(start_ticks);
        let start_ns = clock.nanos(start_ticks);
        let end_ns = clock.nanos(end_ticks).max(start_ns);
        let zero_ns = clock.nanos(first_ticks).min(start_ns);
        Window { clock, start_ticks, end_ticks, start_ns, end_ns, zero_ns }
    }

    fn duration(&self) -> Ns {
        self.end_ns - self.start_ns
    }
}

/// The last stamp of a trace whose writer did not finish.
fn last_ticks(file: &File<'_>) -> u64 {
    let last = |run| file.events(run).map_while(Result::ok).last().map(|stamped| stamped.ticks);
    file.runs.iter().filter_map(last).max().unwrap_or_default()
}

fn info(file: &File<'_>, window: &Window) -> Info {
    let header = &file.header;
    Info {
        writer: header.writer.clone(),
        pid: header.pid,
        program: header.program.clone(),
        start_realtime_ns: header.start_realtime_ns,
        start_monotonic_ns: header.start_monotonic_ns,
        wall_clock: wall_clock(file, window),
        duration_ns: window.duration(),
        wait_stack_ns: header.wait_stack_ns,
        call_stack_ns: header.call_stack_ns,
        sources: header.sources.clone(),
        notes: notes(file, window),
        complete: file.end.is_some(),
    }
}

/// What the wall clock showed at the first sync, and at each before which it was set.
fn wall_clock(file: &File<'_>, window: &Window) -> Vec<(Ns, u64)> {
    let timebase = file.timebase();
    let syncs: Vec<_> = timebase.syncs().iter().filter(|sync| sync.realtime_ns != 0).collect();
    let was_set = |pair: &[&Sync]| {
        let expected = pair[0].realtime_ns.saturating_add(pair[1].monotonic_ns - pair[0].monotonic_ns);
        expected.abs_diff(pair[1].realtime_ns) > WALL_CLOCK_STEP_NS
    };
    let set = syncs.windows(2).filter(|pair| was_set(pair)).map(|pair| pair[1]);
    let place = |sync: &Sync| {
        let before = window.start_ns.saturating_sub(sync.monotonic_ns);
        (sync.monotonic_ns.saturating_sub(window.start_ns), sync.realtime_ns.saturating_add(before))
    };
    syncs.first().copied().into_iter().chain(set).map(place).collect()
}

/// The writer's notes, and what reading the clock showed.
fn notes(file: &File<'_>, window: &Window) -> Vec<(String, String)> {
    let mut notes = file.header.notes.clone();
    for sleep in &window.clock.sleeps {
        let after = sleep.after_ns.saturating_sub(window.start_ns) as f64 / 1e9;
        let text = format!("the machine slept for {:.1} s, {after:.1} s into the capture", sleep.seconds);
        notes.push(("clock".into(), text));
    }
    for pair in wall_clock(file, window).windows(2) {
        let [(from, showed), (at, shows)] = pair else { continue };
        let step = *shows as f64 - (showed + (at - from)) as f64;
        let text = format!(
            "the wall clock was set by {:+.1} s, {:.1} s into the capture",
            step / 1e9,
            *at as f64 / 1e9
        );
        notes.push(("clock".into(), text));
    }
    notes
}

/// Strings, stacks and what they mean; then threads, tasks and counters get their names.
fn take_tables(trace: &mut Trace, file: File<'_>) {
    name(trace, &file);
    let known = KINDS.iter().map(|spec| spec.id).max().unwrap_or_default();
    trace.kinds.truncate(file.unknown_kinds.keys().copied().fold(known, u8::max) as usize + 1);
    trace.unknown_kinds = file.unknown_kinds.into_iter().collect();
    trace.strings = file.strings.iter().map(|(&id, &text)| (id, text.to_owned())).collect();
    trace.stacks.addresses = file.stacks;
    trace.stacks.modules = file.modules;
    trace.stacks.modules.sort_by_key(|module| module.start);
    trace.stacks.symbols = file.symbols.into_iter().map(|symbol| (symbol.address, symbol.frames)).collect();
}

fn name(trace: &mut Trace, file: &File<'_>) {
    let known: HashMap<ThreadId, _> = file.threads.iter().map(|info| (info.thread, info)).collect();
    let text = |id| file.text(id).to_owned();
    for thread in &mut trace.threads {
        let info = known.get(&thread.id);
        thread.tid = info.map_or(thread.tid, |info| info.tid);
        if let Some(info) = info.filter(|info| thread.name_id.0 == 0 || info.name.0 != 0) {
            thread.name_id = info.name;
        }
        // kymo's number 0 loses events on behalf of threads that found no slot.
        thread.name = if thread.id.0 == 0 { "threads without a slot".into() } else { text(thread.name_id) };
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
    trace.counters.sort_by(|a, b| a.name.cmp(&b.name));
}
