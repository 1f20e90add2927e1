//! A trace in Chrome's JSON: the format that most tools read, for those that don't read Perfetto's.
//!
//! Polls, calls and waits are complete events (`X`) of their threads, tasks and spans asynchronous ones (`b`, `e`),
//! wakes are slices without length, from which a flow leads to the poll: by `bind_id`, which names both ends, since
//! separate flow events (`s`, `f`) attach themselves to whatever else begins in the same nanosecond. Times count from the capture's start, in
//! microseconds with three decimals: as absolute ones they would lose the nanoseconds. The format knows no stacks;
//! Perfetto's has them.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::json::{Event, Events};
use super::labels::{Labels, wait_name};
use super::rows::{Nest, Row, Rows, descriptor, notable};
use crate::events::StrId;
use crate::model::{Cause, Ns, Span, State, TaskWake, Trace};

/// Writes the trace.
///
/// # Errors
/// What `out` returns.
pub fn write(trace: &Trace, out: &mut dyn Write) -> io::Result<()> {
    let labels = Labels::new(trace);
    let events = Events::new("{\"displayTimeUnit\":\"ns\",\"traceEvents\":[", out);
    let mut export = Export { trace, labels: &labels, pid: i64::from(trace.info.pid), events };
    export.metadata();
    export.threads()?;
    export.tasks()?;
    export.spans()?;
    export.counters()?;
    let tail = export.tail();
    export.events.finish(&tail)
}

/// The kernel numbers threads below this (`PID_MAX_LIMIT` is 2^22): from here on we number what has no such number.
const FIRST_FREE_TID: i64 = 1 << 24;

struct Export<'a, 'o> {
    trace: &'a Trace,
    labels: &'a Labels,
    pid: i64,
    events: Events<'o>,
}

/// A thread's row, and those beside it that hold what would cross on it.
struct Lanes {
    tids: Vec<i64>,
    nests: Vec<Nest>,
}

impl<'a> Export<'a, '_> {
    fn metadata(&mut self) {
        let program = match self.trace.info.program.as_str() {
            "" => "process",
            program => program,
        };
        let event =
            self.events.event("M").text("name", "process_name").number("pid", self.pid).number("tid", 0);
        event.arg("name", program).done();
    }

    fn name_thread(&mut self, tid: i64, name: &str, rank: usize) {
        let named = self.events.event("M").text("name", "thread_name").number("pid", self.pid);
        named.number("tid", tid).arg("name", name).done();
        let sorted = self.events.event("M").text("name", "thread_sort_index").number("pid", self.pid);
        sorted.number("tid", tid).arg_number("sort_index", rank as i64).done();
    }

    fn threads(&mut self) -> io::Result<()> {
        let mut free_tid = FIRST_FREE_TID;
        let mut take_tid = || {
            free_tid += 1;
            free_tid - 1
        };
        let mut threads = Vec::with_capacity(self.trace.threads.len());
        for (rank, thread) in self.trace.threads.iter().enumerate() {
            let tid = if thread.tid == 0 { take_tid() } else { thread.tid as i64 };
            self.name_thread(tid, self.labels.thread(rank as u32), rank);
            threads.push(Lanes { tids: vec![tid], nests: vec![Nest::default()] });
        }
        for row in Rows::new(self.trace) {
            let rank = row.thread() as usize;
            let Some(lanes) = threads.get_mut(rank) else { continue };
            let time = row.time();
            let lane = if row.is_instant() { Some(0) } else { lanes.place(time.begin, time.end) };
            let tid = match lane {
                Some(lane) => lanes.tids[lane],
                None => {
                    let tid = take_tid();
                    lanes.add(tid, time.end);
                    let name = format!("{} (overlapping)", self.labels.thread(rank as u32));
                    self.name_thread(tid, &name, rank);
                    tid
                }
            };
            self.row(&row, tid);
            self.events.settle()?;
        }
        Ok(())
    }

    fn row(&mut self, row: &Row<'_>, tid: i64) {
        let (trace, labels, at) = (self.trace, self.labels, row.time().begin);
        match row {
            Row::TaskWake(index, wake) => {
                let at = at - u64::from(at > 0 && self.same_instant(wake));
                let event = self.event("X", "wake", "wake", tid, at).micros("dur", 0);
                let event = match wake.led_to {
                    Some(_) => event.flow(*index, "flow_out"),
                    None => event,
                };
                event.arg_number("task", task_id(trace, wake.task)).done();
            }
            Row::Wake(wake) => {
                let event = self.instant("unlock", "unlock", tid, at).arg_address("address", wake.addr);
                event.arg_number("woken", wake.woken as i64).done();
            }
            Row::Log(log) => {
                let category = self.or(log.category, "log");
                self.instant("log", category, tid, at).arg("message", trace.text(log.message)).done();
            }
            Row::Loss(loss) => {
                let event =
                    self.instant("loss", "events lost", tid, at).arg_number("count", loss.count as i64);
                event.arg("reason", loss.reason.word()).done();
            }
            Row::Park(park) => self.slice("park", "parked", tid, row).open(park.time.open).done(),
            Row::Poll(poll) => {
                let name = labels.task(poll.task);
                let woken_by =
                    poll.woken_by.map(|index| index as usize).filter(|&index| self.leads_somewhere(index));
                let event = self.slice("poll", name, tid, row);
                let event = match woken_by {
                    Some(index) => event.flow(index, "flow_in"),
                    None => event,
                };
                let event = event.arg_number("task", task_id(trace, poll.task));
                let event = match notable(poll.outcome) {
                    Some(outcome) => event.arg("outcome", outcome),
                    None => event,
                };
                event.open(poll.time.open).done();
            }
            Row::Call(call) => {
                let name = self.labels.descriptor(self.trace, call);
                let event = self.slice("syscall", call.call.word(), tid, row);
                let event = match descriptor(call.fd) {
                    Some(fd) => event.arg_number("fd", i64::from(fd)),
                    None => event,
                };
                let event = match name {
                    Some(name) => event.arg("descriptor", name),
                    None => event,
                };
                let own = labels.own(trace.label_set_at(call.thread, call.in_poll, at));
                let event = own.iter().fold(event, |event, (key, value)| event.arg(key, value));
                event.arg_number("result", call.result).open(call.time.open).done();
            }
            Row::Wait(index, wait) => {
                let event = self.slice("wait", wait_name(labels.waiting(*index)), tid, row);
                let event = event.arg_address("address", wait.addr).arg("outcome", wait.outcome.word());
                let event = match labels.holder(*index) {
                    Some(holder) => event.arg("holder", holder),
                    None => event,
                };
                let own = labels.own(trace.label_set_at(wait.thread, wait.in_poll, at));
                let event = own.iter().fold(event, |event, (key, value)| event.arg(key, value));
                event.open(wait.time.open).done();
            }
        }
    }

    fn event(&mut self, phase: &str, category: &str, name: &str, tid: i64, at: Ns) -> Event<'_> {
        let event = self.events.event(phase).text("cat", category).text("name", name);
        event.number("pid", self.pid).number("tid", tid).micros("ts", at)
    }

    fn slice(&mut self, category: &str, name: &str, tid: i64, row: &Row<'_>) -> Event<'_> {
        let time = row.time();
        self.event("X", category, name, tid, time.begin).micros("dur", time.duration())
    }

    fn instant(&mut self, category: &str, name: &str, tid: i64, at: Ns) -> Event<'_> {
        self.event("i", category, name, tid, at).text("s", "t")
    }

    /// Whether the poll that a wake led to began in the same nanosecond. Readers take the longer slice first then,
    /// and would find the flow's end before its begin: such a wake is written one nanosecond earlier.
    fn same_instant(&self, wake: &TaskWake) -> bool {
        let poll = wake.led_to.and_then(|poll| self.trace.polls.get(poll as usize));
        poll.is_some_and(|poll| poll.time.begin == wake.at)
    }

    fn leads_somewhere(&self, wake: usize) -> bool {
        self.trace.task_wakes.get(wake).is_some_and(|wake| wake.led_to.is_some())
    }

    /// One end of a slice on an asynchronous track.
    fn end_of(&mut self, phase: &str, track: (&str, u64), category: &str, name: &str, at: Ns) -> Event<'_> {
        let event = self.events.event(phase).text("cat", category).text("name", name).number("pid", self.pid);
        event.local_id(track.0, track.1).micros("ts", at)
    }

    fn tasks(&mut self) -> io::Result<()> {
        let trace = self.trace;
        for (index, task) in trace.tasks.iter().enumerate() {
            let (name, track) = (self.labels.task(index as u32), ("task", task.id.0));
            let mut event = self.end_of("b", track, "task", name, task.life.begin);
            event = event.arg_number("task", task.id.0 as i64);
            if let Some(outcome) = task.outcome {
                event = event.arg("outcome", outcome.word());
            }
            if !task.site.is_empty() {
                event = event.arg("site", &task.site);
            }
            event.open(task.life.open).done();
            let ends = task.states.iter().skip(1).map(|change| change.at).chain([task.life.end]);
            for (change, end) in task.states.iter().zip(ends) {
                let (begin, end) = (change.at.max(task.life.begin), end.min(task.life.end));
                if begin < end {
                    self.task_state(track, change.state, change.cause, (begin, end));
                }
            }
            self.end_of("e", track, "task", name, task.life.end).done();
            self.events.settle()?;
        }
        Ok(())
    }

    fn task_state(&mut self, track: (&str, u64), state: State, cause: Cause, (begin, end): (Ns, Ns)) {
        let thread = match cause {
            Cause::Poll(poll) => {
                self.trace.polls.get(poll as usize).map(|poll| self.labels.thread(poll.thread))
            }
            _ => None,
        };
        let event = self.end_of("b", track, "task_state", state.word(), begin);
        match thread {
            Some(thread) => event.arg("thread", thread).done(),
            None => event.done(),
        }
        self.end_of("e", track, "task_state", state.word(), end).done();
    }

    /// Spans and user tasks, each on an asynchronous track of its own: so none crosses another.
    fn spans(&mut self) -> io::Result<()> {
        for (index, span) in self.trace.spans.iter().enumerate() {
            self.span(index as u64, span);
            self.events.settle()?;
        }
        Ok(())
    }

    fn span(&mut self, index: u64, span: &Span) {
        let trace = self.trace;
        let category = if span.user_task { "user_task" } else { "span" };
        let name = self.or(span.name, if span.user_task { "user task" } else { "span" });
        let thread = self.labels.thread(span.thread);
        let mut event =
            self.end_of("b", ("span", index), category, name, span.time.begin).arg("thread", thread);
        if let Some(task) = span.task.and_then(|task| trace.tasks.get(task as usize)) {
            event = event.arg_number("task", task.id.0 as i64);
        }
        if let Some(parent) = span.parent {
            event = event.arg_number("parent", parent as i64);
        }
        if !span.active.is_empty() {
            event = event.arg_number("active_ns", span.active_ns() as i64);
        }
        // A key that comes twice would make invalid JSON: the last one stands.
        let fields: BTreeMap<_, _> =
            span.fields.iter().map(|&(key, value)| (trace.text(key), value)).collect();
        for (key, value) in fields {
            event = event.arg(&format!("field.{key}"), trace.text(value));
        }
        event.open(span.time.open).done();
        self.end_of("e", ("span", index), category, name, span.time.end).done();
    }

    fn counters(&mut self) -> io::Result<()> {
        for counter in &self.trace.counters {
            for &(at, value) in &counter.values {
                let event = self.events.event("C").text("name", &counter.name).number("pid", self.pid);
                event.micros("ts", at).arg_number("value", value).done();
                self.events.settle()?;
            }
        }
        Ok(())
    }

    /// What the trace says of itself, as the object's last field.
    fn tail(&self) -> String {
        let info = &self.trace.info;
        let mut fields = vec![
            ("writer".to_owned(), info.writer.clone()),
            ("program".to_owned(), info.program.clone()),
            ("events".to_owned(), self.trace.events().to_string()),
            ("lost".to_owned(), self.trace.lost().to_string()),
            ("start_realtime_ns".to_owned(), info.start_realtime_ns.to_string()),
            ("complete".to_owned(), info.complete.to_string()),
        ];
        fields.extend(info.sources.iter().map(|(name, state)| (format!("source.{name}"), state.clone())));
        fields.extend(info.notes.iter().map(|(name, value)| (format!("note.{name}"), value.clone())));
        let fields: serde_json::Map<_, _> =
            fields.into_iter().map(|(key, text)| (key, text.into())).collect();
        format!("\n],\"metadata\":{}}}\n", serde_json::Value::Object(fields))
    }

    fn or(&self, id: StrId, otherwise: &'static str) -> &'a str {
        match self.trace.text(id) {
            "" => otherwise,
            text => text,
        }
    }
}

fn task_id(trace: &Trace, index: u32) -> i64 {
    trace.tasks.get(index as usize).map_or(0, |task| task.id.0 as i64)
}

impl Lanes {
    /// The first row on which a slice nests, opened there.
    fn place(&mut self, begin: Ns, end: Ns) -> Option<usize> {
        self.nests.iter_mut().position(|nest| {
            nest.close(begin, |_| {});
            nest.open(end)
        })
    }

    fn add(&mut self, tid: i64, end: Ns) {
        let mut nest = Nest::default();
        let fits = nest.open(end);
        debug_assert!(fits, "an empty row takes anything");
        self.tids.push(tid);
        self.nests.push(nest);
    }
}
