//! What must be true of every [`Trace`], checked by looking again: a second, simpler reading beside the builder's.
//!
//! States are exclusive and fill a life exactly; intervals lie in the window, in order; every index names something;
//! a flow's wake comes before its poll and both know each other; what a thread is inside is nested. A loaded trace
//! that breaks one of these is a fault of kymo's, not of the file: tests assert that there is none, for damaged and
//! contradicting files too.

use std::collections::HashMap;

use super::{Cause, Interval, Ns, StateChange, ThreadIndex, Trace};

/// What is wrong with a trace, a sentence each; at most [`MOST`].
pub fn check(trace: &Trace) -> Vec<String> {
    let mut found = Found { trace, faults: Vec::new() };
    found.indices();
    if found.faults.is_empty() {
        // The other checks follow indices without looking.
        found.tables();
        found.tracks();
        found.flows();
        found.nesting();
    }
    found.faults
}

/// Sentences that [`check`] gives at most: the first ones tell.
pub const MOST: usize = 64;

struct Found<'a> {
    trace: &'a Trace,
    faults: Vec<String>,
}

impl Found<'_> {
    fn expect(&mut self, holds: bool, fault: impl FnOnce() -> String) {
        if !holds && self.faults.len() < MOST {
            self.faults.push(fault());
        }
    }

    /// Every index lies in its table.
    fn indices(&mut self) {
        let trace = self.trace;
        let threads = (trace.polls.iter().map(|poll| poll.thread))
            .chain(trace.task_wakes.iter().map(|wake| wake.by_thread))
            .chain(trace.waits.iter().map(|wait| wait.thread))
            .chain(trace.wakes.iter().map(|wake| wake.thread))
            .chain(trace.calls.iter().map(|call| call.thread))
            .chain(trace.parks.iter().map(|park| park.thread))
            .chain(trace.spans.iter().map(|span| span.thread))
            .chain(trace.logs.iter().map(|log| log.thread))
            .chain(trace.losses.iter().map(|loss| loss.thread))
            .chain(trace.samples.iter().map(|sample| sample.thread))
            .chain(trace.memory.allocations.iter().map(|sample| sample.thread))
            .chain(trace.memory.frees.iter().map(|sample| sample.thread))
            .chain(trace.memory.mappings.iter().map(|mapping| mapping.thread))
            .chain(trace.threads.iter().filter_map(|thread| thread.creator));
        self.all_below("thread", threads, trace.threads.len());
        let tasks = (trace.polls.iter().map(|poll| poll.task))
            .chain(trace.suspensions.iter().map(|suspension| suspension.task))
            .chain(trace.task_wakes.iter().map(|wake| wake.task))
            .chain(trace.spans.iter().filter_map(|span| span.task))
            .chain(trace.logs.iter().filter_map(|log| log.task))
            .chain(trace.samples.iter().filter_map(|sample| sample.task))
            .chain(trace.tasks.iter().filter_map(|task| task.parent));
        self.all_below("task", tasks, trace.tasks.len());
        let polls = (trace.task_wakes.iter().flat_map(|wake| [wake.by_poll, wake.led_to]))
            .chain(trace.waits.iter().map(|wait| wait.in_poll))
            .chain(trace.wakes.iter().map(|wake| wake.in_poll))
            .chain(trace.calls.iter().map(|call| call.in_poll))
            .chain(trace.memory.allocations.iter().map(|sample| sample.in_poll))
            .chain(trace.memory.frees.iter().map(|sample| sample.in_poll));
        let changes = (trace.threads.iter().flat_map(|thread| &thread.labels))
            .chain(trace.tasks.iter().flat_map(|task| &task.labels));
        self.all_below("set of labels", changes.map(|change| change.set), trace.label_sets.len());
        self.all_below("poll", polls.flatten(), trace.polls.len());
        self.all_below("wake", trace.polls.iter().filter_map(|poll| poll.woken_by), trace.task_wakes.len());
        self.causes();
    }

    fn all_below(&mut self, what: &str, indices: impl Iterator<Item = u32>, len: usize) {
        let wrong = indices.into_iter().find(|&index| index as usize >= len);
        self.expect(wrong.is_none(), || format!("{what} {wrong:?} is named, of {len}"));
    }

    fn causes(&mut self) {
        let trace = self.trace;
        let states = (trace.threads.iter().flat_map(|thread| &thread.states))
            .chain(trace.tasks.iter().flat_map(|task| &task.states));
        for change in states {
            let (index, len) = match change.cause {
                Cause::None => continue,
                Cause::Poll(poll) => (poll, trace.polls.len()),
                Cause::Wait(wait) => (wait, trace.waits.len()),
                Cause::Call(call) => (call, trace.calls.len()),
                Cause::Park(park) => (park, trace.parks.len()),
                Cause::Suspension(suspension) => (suspension, trace.suspensions.len()),
            };
            self.expect((index as usize) < len, || format!("{change:?} has a cause that is not there"));
        }
    }

    /// Intervals and moments lie in the window, tables are in order.
    fn tables(&mut self) {
        let trace = self.trace;
        self.intervals("polls", trace.polls.iter().map(|poll| poll.time));
        self.intervals("suspensions", trace.suspensions.iter().map(|suspension| suspension.time));
        self.intervals("waits", trace.waits.iter().map(|wait| wait.time));
        self.intervals("calls", trace.calls.iter().map(|call| call.time));
        self.intervals("parks", trace.parks.iter().map(|park| park.time));
        self.intervals("spans", trace.spans.iter().map(|span| span.time));
        for span in &trace.spans {
            self.intervals("stretches of a span", span.active.iter().map(|stretch| stretch.time));
            let inside = span.active.iter().all(|stretch| contains(span.time, stretch.time));
            self.expect(inside, || format!("{span:?} is entered while it isn't there"));
        }
        self.moments("task wakes", trace.task_wakes.iter().map(|wake| wake.at));
        self.moments("wakes", trace.wakes.iter().map(|wake| wake.at));
        self.moments("logs", trace.logs.iter().map(|log| log.at));
        self.moments("losses", trace.losses.iter().map(|loss| loss.at));
        self.moments("names of descriptors", trace.fd_names.iter().map(|name| name.at));
        self.moments("allocations", trace.memory.allocations.iter().map(|sample| sample.at));
        self.moments("frees", trace.memory.frees.iter().map(|sample| sample.at));
        self.moments("mappings", trace.memory.mappings.iter().map(|mapping| mapping.at));
        self.moments("counters of the heap", trace.memory.heap.iter().map(|reading| reading.at));
        self.moments("counters of memory", trace.memory.process.iter().map(|reading| reading.at));
        for counter in &trace.counters {
            self.moments("values of a counter", counter.values.iter().map(|&(at, _)| at));
        }
        let by_name = trace.counters.is_sorted_by(|a, b| a.name <= b.name);
        self.expect(by_name, || "counters are not in the order of their names".into());
    }

    fn intervals(&mut self, what: &str, times: impl Iterator<Item = Interval>) {
        let end = self.trace.info.duration_ns;
        let mut latest = 0;
        for time in times {
            let lies = time.begin <= time.end && time.end <= end;
            self.expect(lies, || format!("{what}: {time:?} is not in a window of {end}"));
            self.expect(latest <= time.begin, || format!("{what}: {time:?} comes after {latest}"));
            latest = time.begin;
        }
    }

    fn moments(&mut self, what: &str, moments: impl Iterator<Item = Ns>) {
        self.intervals(what, moments.map(|at| Interval { begin: at, end: at, open: false }));
    }

    fn tracks(&mut self) {
        let trace = self.trace;
        for (index, thread) in trace.threads.iter().enumerate() {
            self.track(&format!("thread {index}"), thread.life, &thread.states);
        }
        for (index, task) in trace.tasks.iter().enumerate() {
            self.track(&format!("task {index}"), task.life, &task.states);
        }
    }

    /// States begin with the life, ascend, and their durations add up to it.
    fn track(&mut self, who: &str, life: Interval, states: &[StateChange]) {
        let end = self.trace.info.duration_ns;
        self.expect(life.begin <= life.end && life.end <= end, || format!("{who}: {life:?} of {end}"));
        let first = states.first().map(|first| first.at);
        self.expect(first == Some(life.begin), || format!("{who}: first state at {first:?}, life {life:?}"));
        let ascending = states.is_sorted_by(|a, b| a.at < b.at);
        self.expect(ascending, || format!("{who}: states are not ascending: {states:?}"));
        let ends = states.iter().skip(1).map(|next| next.at).chain([life.end]);
        let sum: Option<Ns> =
            states.iter().zip(ends).map(|(change, end)| end.checked_sub(change.at)).sum::<Option<Ns>>();
        let duration = life.end.checked_sub(life.begin);
        self.expect(sum == duration, || format!("{who}: its states last {sum:?}, its life {duration:?}"));
    }

    /// A wake and the poll that it led to know each other, are of one task, and in this order.
    fn flows(&mut self) {
        let trace = self.trace;
        for (index, wake) in trace.task_wakes.iter().enumerate() {
            let Some(poll) = wake.led_to.map(|poll| &trace.polls[poll as usize]) else { continue };
            let holds =
                poll.woken_by == Some(index as u32) && poll.task == wake.task && wake.at <= poll.time.begin;
            self.expect(holds, || format!("wake {index}, {wake:?}, is said to lead to {poll:?}"));
        }
        for (index, poll) in trace.polls.iter().enumerate() {
            let Some(wake) = poll.woken_by.map(|wake| &trace.task_wakes[wake as usize]) else { continue };
            let holds = wake.led_to == Some(index as u32);
            self.expect(holds, || format!("poll {index}, {poll:?}, is said to follow {wake:?}"));
        }
    }

    /// On each thread, of two intervals that overlap one contains the other; what lies in a poll lies in it whole.
    fn nesting(&mut self) {
        let trace = self.trace;
        let mut by_thread: HashMap<ThreadIndex, Vec<Interval>> = HashMap::new();
        let in_poll = |time: Interval, thread: ThreadIndex, poll: Option<u32>| {
            let poll = poll.map(|poll| &trace.polls[poll as usize]);
            poll.is_none_or(|poll| poll.thread == thread && contains(poll.time, time))
        };
        for poll in &trace.polls {
            by_thread.entry(poll.thread).or_default().push(poll.time);
        }
        for wait in &trace.waits {
            by_thread.entry(wait.thread).or_default().push(wait.time);
            let holds = in_poll(wait.time, wait.thread, wait.in_poll);
            self.expect(holds, || format!("{wait:?} is not in its poll"));
        }
        for call in &trace.calls {
            by_thread.entry(call.thread).or_default().push(call.time);
            let holds = in_poll(call.time, call.thread, call.in_poll);
            self.expect(holds, || format!("{call:?} is not in its poll"));
        }
        for park in &trace.parks {
            by_thread.entry(park.thread).or_default().push(park.time);
        }
        for (thread, mut times) in by_thread {
            times.sort_by_key(|time| (time.begin, std::cmp::Reverse(time.end)));
            let mut around: Vec<Interval> = Vec::new();
            for time in times {
                while around.pop_if(|outer| outer.end <= time.begin).is_some() {}
                let holds = around.last().is_none_or(|outer| contains(*outer, time));
                self.expect(holds, || format!("thread {thread}: {time:?} crosses {around:?}"));
                around.push(time);
            }
        }
    }
}

fn contains(outer: Interval, inner: Interval) -> bool {
    outer.begin <= inner.begin && inner.end <= outer.end
}
