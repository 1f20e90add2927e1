//! Traces made by code: a small runtime played out, with every kind of thing that a trace can hold.
//!
//! The same seed makes the same trace. Threads take turns by their clocks; tasks are polled, wake each other, wait
//! for locks and make calls inside polls, so that everything nests and every wake precedes what it leads to.

use kymo::events::{
    Call, Fd, LossReason, PollOutcome, StackId, StrId, TaskId, TaskOutcome, ThreadId, WaitKind, WaitOutcome,
};
use kymo::format::{Frame, Module};
use kymo::model::{
    CallSpan, Cause, CounterTrack, Interval, LogEntry, Loss, Ns, Park, Poll, Span, State, StateChange,
    Suspension, Task, TaskWake, Thread, Trace, Wait, Wake,
};

/// Numbers that look random and are the same each time.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number in `0..below`.
    pub fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

pub fn interval(begin: Ns, end: Ns) -> Interval {
    Interval { begin, end, open: false }
}

/// The addresses that stacks are made of.
const CODE: u64 = 0x5555_0000_0000;

/// A trace with modules, stacks and symbols, and nothing that happened.
pub fn blank(duration_ns: Ns) -> Trace {
    let mut trace = Trace::default();
    trace.info.writer = "kymo test".into();
    trace.info.program = "made".into();
    trace.info.pid = 4242;
    trace.info.start_realtime_ns = 1_700_000_000_000_000_000;
    trace.info.start_monotonic_ns = 5_000_000_000;
    trace.info.duration_ns = duration_ns;
    trace.info.complete = true;
    trace.info.wait_stack_ns = 20_000;
    trace.info.call_stack_ns = 100_000;
    trace.info.sources = vec![("hooks".into(), "on".into()), ("sched".into(), "off: not permitted".into())];
    trace.info.notes = vec![("kernel".into(), "6.1.0-test".into())];
    trace.stacks.modules = vec![Module {
        start: CODE,
        end: CODE + 0x10_0000,
        bias: CODE,
        offset: 0,
        path: "/usr/bin/made".into(),
        build_id: vec![0xab, 0xcd, 0xef, 0x01],
    }];
    trace.kinds = vec![0; 43];
    trace
}

/// Adds a stack of functions, leaf first, one address each, and gives its number.
pub fn stack(trace: &mut Trace, functions: &[&str]) -> StackId {
    let addresses: Vec<u64> = functions.iter().map(|function| address(trace, &[function])).collect();
    let id = StackId(trace.stacks.addresses.len() as u32 + 2);
    trace.stacks.addresses.insert(id, addresses);
    id
}

/// The address of a function and those inlined into it, innermost first.
pub fn address(trace: &mut Trace, functions: &[&str]) -> u64 {
    let same = |frames: &Vec<Frame>| {
        frames.iter().map(|frame| frame.function.as_str()).eq(functions.iter().copied())
    };
    if let Some((&known, _)) = trace.stacks.symbols.iter().find(|(_, frames)| same(frames)) {
        return known;
    }
    let address = CODE + 0x1000 + 0x10 * trace.stacks.symbols.len() as u64;
    let last = functions.len() - 1;
    let frame = |(place, function): (usize, &&str)| Frame {
        function: (*function).to_owned(),
        mangled: format!("_R{}{}", function.len(), function),
        file: format!("/src/{}.rs", function.split("::").next().unwrap()),
        line: 10 + place as u32,
        inlined: place != last,
    };
    trace.stacks.symbols.insert(address, functions.iter().enumerate().map(frame).collect());
    address
}

/// Adds a string and gives its number.
pub fn string(trace: &mut Trace, text: &str) -> StrId {
    let id = StrId(trace.strings.len() as u32 + 2);
    trace.strings.insert(id, text.into());
    id
}

/// Adds a thread and gives its index.
pub fn thread(trace: &mut Trace, name: &str) -> u32 {
    let index = trace.threads.len() as u32;
    trace.threads.push(Thread {
        id: ThreadId(index + 1),
        tid: u64::from(trace.info.pid + index),
        name: name.into(),
        life: Interval { begin: 0, end: trace.info.duration_ns, open: true },
        ..Thread::default()
    });
    index
}

/// Adds a task that lives through the whole trace and gives its index.
pub fn task(trace: &mut Trace, name: &str) -> u32 {
    let index = trace.tasks.len() as u32;
    trace.tasks.push(Task {
        id: TaskId(u64::from(index) + 1),
        name: name.into(),
        site: "src/main.rs:7:5".into(),
        life: interval(0, trace.info.duration_ns),
        states: vec![StateChange { at: 0, state: State::Runnable, cause: Cause::None }],
        ..Task::default()
    });
    index
}

/// A runtime played out. See the module's head.
pub fn runtime(seed: u64, threads: u32, tasks: u32, polls: u32) -> Trace {
    let mut play = Play::new(seed, threads, tasks);
    for _ in 0..polls {
        play.poll();
    }
    play.finish()
}

struct Play {
    trace: Trace,
    dice: Dice,
    clocks: Vec<Ns>,
    /// When each task may run next, and the wake that says so; `None` while it is suspended.
    ready: Vec<Option<(Ns, Option<u32>)>>,
    /// Since when each suspended task is.
    suspended: Vec<(Ns, StackId)>,
    stacks: Vec<StackId>,
}

impl Play {
    fn new(seed: u64, threads: u32, tasks: u32) -> Play {
        let mut trace = blank(0);
        for index in 0..threads {
            thread(&mut trace, ["main", "worker", "", "\"quoted\" \\ \u{1f980}\n"][index as usize % 4]);
        }
        for index in 0..tasks {
            task(&mut trace, ["handle_conn", "", "reaper <b>", "ta\u{df}k"][index as usize % 4]);
        }
        let stacks = (0..7).map(|index| {
            let names = ["lock", "read", "serve", "handle", "main", "recv", "await"];
            let depth = 1 + index % names.len();
            (0..depth).map(|level| format!("made::{}_{index}", names[level])).collect::<Vec<_>>()
        });
        let stacks: Vec<Vec<String>> = stacks.collect();
        let stacks = stacks
            .iter()
            .map(|names| stack(&mut trace, &names.iter().map(String::as_str).collect::<Vec<_>>()))
            .collect();
        Play {
            trace,
            dice: Dice::new(seed),
            clocks: (0..u64::from(threads)).collect(),
            ready: vec![Some((0, None)); tasks as usize],
            suspended: vec![(0, StackId(0)); tasks as usize],
            stacks,
        }
    }

    fn some_stack(&mut self) -> StackId {
        match self.dice.roll(3) {
            0 => self.stacks[self.dice.roll(self.stacks.len() as u64) as usize],
            _ => StackId(0),
        }
    }

    /// The thread whose clock is behind polls a task that is ready, or parks.
    fn poll(&mut self) {
        let thread = (0..self.clocks.len()).min_by_key(|&thread| self.clocks[thread]).unwrap();
        let begin = self.clocks[thread] + self.dice.roll(3);
        let first = self.dice.roll(self.ready.len() as u64) as usize;
        let tasks = self.ready.len();
        let ready = |task: &usize| self.ready[*task].is_some_and(|(at, _)| at <= begin);
        let Some(task) = (0..tasks).map(|offset| (first + offset) % tasks).find(ready) else {
            return self.park(thread, begin);
        };
        let (_, woken_by) = self.ready[task].take().unwrap();
        self.suspended[task].0 = Ns::MAX;
        let poll = self.trace.polls.len() as u32;
        let thread_index = thread as u32;
        let time = interval(begin, begin);
        let outcome = PollOutcome::Pending;
        self.trace.polls.push(Poll { task: task as u32, thread: thread_index, time, outcome, woken_by });
        if let Some(wake) = woken_by {
            self.trace.task_wakes[wake as usize].led_to = Some(poll);
        }
        self.state(task, begin, State::Running, Cause::Poll(poll));
        let end = self.inside(thread, poll, begin);
        self.trace.polls[poll as usize].time.end = end;
        self.clocks[thread] = end;
        self.suspend(task, end);
    }

    fn park(&mut self, thread: usize, begin: Ns) {
        let end = begin + 1 + self.dice.roll(5_000);
        self.trace.parks.push(Park { thread: thread as u32, time: interval(begin, end) });
        self.clocks[thread] = end;
        // Something from outside wakes a suspended task, so that the play goes on.
        let task = self.dice.roll(self.ready.len() as u64) as usize;
        if self.ready[task].is_none() && self.suspended[task].0 < end {
            self.wake(thread, None, task, end);
        }
    }

    /// What happens inside a poll; when it is over.
    fn inside(&mut self, thread: usize, poll: u32, begin: Ns) -> Ns {
        let mut at = begin + self.dice.roll(50);
        for _ in 0..self.dice.roll(4) {
            let end = at + self.dice.roll(200_000);
            match self.dice.roll(4) {
                0 => self.call(thread, poll, at, end),
                1 => self.wait(thread, poll, at, end),
                2 => self.unlock(thread, poll, at),
                _ => {
                    let task = self.dice.roll(self.ready.len() as u64) as usize;
                    if self.ready[task].is_none() && self.suspended[task].0 < at {
                        self.wake(thread, Some(poll), task, at);
                    }
                }
            }
            at = end + self.dice.roll(100);
        }
        at
    }

    fn call(&mut self, thread: usize, poll: u32, begin: Ns, end: Ns) {
        let call = Call::ALL[1 + self.dice.roll(Call::ALL.len() as u64 - 1) as usize];
        let fd = Fd(self.dice.roll(20) as i32 - 1);
        let result = self.dice.roll(5_000) as i64 - 40;
        let (thread, time, stack) = (thread as u32, interval(begin, end), self.some_stack());
        self.trace.calls.push(CallSpan { thread, in_poll: Some(poll), time, call, fd, result, stack });
    }

    fn wait(&mut self, thread: usize, poll: u32, begin: Ns, end: Ns) {
        let kind = WaitKind::ALL[self.dice.roll(WaitKind::ALL.len() as u64) as usize];
        let outcome = WaitOutcome::ALL[self.dice.roll(WaitOutcome::ALL.len() as u64) as usize];
        let addr = 0x7f00_0000_0000 + 8 * self.dice.roll(5);
        let (thread, time, stack) = (thread as u32, interval(begin, end), self.some_stack());
        self.trace.waits.push(Wait { thread, in_poll: Some(poll), time, addr, kind, outcome, stack });
    }

    fn unlock(&mut self, thread: usize, poll: u32, at: Ns) {
        let addr = 0x7f00_0000_0000 + 8 * self.dice.roll(5);
        let (thread, stack) = (thread as u32, self.some_stack());
        self.trace.wakes.push(Wake { at, thread, in_poll: Some(poll), addr, woken: 1, stack });
    }

    fn wake(&mut self, thread: usize, by_poll: Option<u32>, task: usize, at: Ns) {
        let stack = self.some_stack();
        let by_thread = thread as u32;
        self.ready[task] = Some((at, Some(self.trace.task_wakes.len() as u32)));
        self.trace.task_wakes.push(TaskWake {
            at,
            task: task as u32,
            by_thread,
            by_poll,
            stack,
            led_to: None,
        });
        let (begin, stack) = self.suspended[task];
        let suspension = self.trace.suspensions.len() as u32;
        self.trace.suspensions.push(Suspension { task: task as u32, time: interval(begin, at), stack });
        let states = &mut self.trace.tasks[task].states;
        if let Some(last) = states.last_mut() {
            last.cause = Cause::Suspension(suspension);
        }
        self.state(task, at, State::Runnable, Cause::None);
    }

    fn suspend(&mut self, task: usize, at: Ns) {
        self.suspended[task] = (at, self.some_stack());
        self.state(task, at, State::Waiting, Cause::None);
    }

    fn state(&mut self, task: usize, at: Ns, state: State, cause: Cause) {
        let states = &mut self.trace.tasks[task].states;
        if states.last().is_some_and(|last| last.at == at) {
            states.pop();
        }
        states.push(StateChange { at, state, cause });
    }

    fn finish(mut self) -> Trace {
        let end = self.clocks.iter().copied().max().unwrap_or_default() + 10;
        self.trace.info.duration_ns = end;
        for thread in &mut self.trace.threads {
            thread.life.end = end;
        }
        for task in &mut self.trace.tasks {
            task.life = Interval { begin: 0, end, open: true };
        }
        self.mark_by_the_user(end);
        self.sort()
    }

    /// Spans that nest, that cross and that are open; messages, counters and losses.
    fn mark_by_the_user(&mut self, end: Ns) {
        let trace = &mut self.trace;
        let names = ["request", "parse", ""].map(|name| string(trace, name));
        let (key, value) = (string(trace, "user\"id"), string(trace, "</script>\u{7}"));
        let spans = [(0, 40, None), (5, 20, None), (30, 60, None), (10, 90, Some(0)), (50, 100, Some(0))];
        for (index, (from, to, task)) in spans.into_iter().enumerate() {
            let time = Interval { begin: end * from / 100, end: end * to / 100, open: to == 100 };
            let (name, fields) = (names[index % 3], vec![(key, value)]);
            let (id, parent) = (index as u64, (index > 2).then_some(7));
            trace.spans.push(Span { id, parent, name, task, time, fields, ..Span::default() });
        }
        for (id, from, to) in [(7, 0, 70), (8, 10, 95)] {
            let time = interval(end * from / 100, end * to / 100);
            let (name, fields) = (names[0], Vec::new());
            trace.spans.push(Span { user_task: true, id, name, time, fields, ..Span::default() });
        }
        let thread = (trace.threads.len() - 1) as u32;
        trace.logs.push(LogEntry { at: end / 3, thread, task: None, category: key, message: value });
        trace.losses.push(Loss { at: end / 2, thread, reason: LossReason::NoChunk, count: 17 });
        let values = vec![(0, -5), (end / 2, i64::MAX), (end, 3)];
        trace.counters.push(CounterTrack {
            name: "queue \"depth\"".into(),
            name_id: kymo::events::StrId(0),
            values,
        });
        if let Some(first) = trace.polls.first_mut() {
            first.time.open = true;
            first.outcome = PollOutcome::Unknown;
        }
        trace.tasks[0].outcome = Some(TaskOutcome::Cancelled);
    }

    /// Tables by begin, as a [`Trace`] has them, with the references between them kept.
    fn sort(mut self) -> Trace {
        let trace = &mut self.trace;
        trace.calls.sort_by_key(|call| call.time.begin);
        trace.waits.sort_by_key(|wait| wait.time.begin);
        trace.wakes.sort_by_key(|wake| wake.at);
        trace.parks.sort_by_key(|park| park.time.begin);
        trace.spans.sort_by_key(|span| span.time.begin);
        let polls = order(trace.polls.len(), |index| trace.polls[index].time.begin);
        let wakes = order(trace.task_wakes.len(), |index| trace.task_wakes[index].at);
        let suspensions = order(trace.suspensions.len(), |index| trace.suspensions[index].time.begin);
        trace.polls = permuted(&trace.polls, &polls);
        trace.task_wakes = permuted(&trace.task_wakes, &wakes);
        trace.suspensions = permuted(&trace.suspensions, &suspensions);
        for wake in &mut trace.task_wakes {
            wake.by_poll = wake.by_poll.map(|poll| polls[poll as usize]);
            wake.led_to = wake.led_to.map(|poll| polls[poll as usize]);
        }
        for poll in &mut trace.polls {
            poll.woken_by = poll.woken_by.map(|wake| wakes[wake as usize]);
        }
        let in_polls = (trace.calls.iter_mut().map(|call| &mut call.in_poll))
            .chain(trace.waits.iter_mut().map(|wait| &mut wait.in_poll))
            .chain(trace.wakes.iter_mut().map(|wake| &mut wake.in_poll));
        for in_poll in in_polls {
            *in_poll = in_poll.map(|poll| polls[poll as usize]);
        }
        for change in trace.tasks.iter_mut().flat_map(|task| &mut task.states) {
            change.cause = match change.cause {
                Cause::Poll(poll) => Cause::Poll(polls[poll as usize]),
                Cause::Suspension(index) => Cause::Suspension(suspensions[index as usize]),
                other => other,
            };
        }
        self.trace
    }
}

/// Where each index goes when sorted by key.
fn order(len: usize, key: impl Fn(usize) -> Ns) -> Vec<u32> {
    let mut indices: Vec<usize> = (0..len).collect();
    indices.sort_by_key(|&index| key(index));
    let mut places = vec![0; len];
    for (place, index) in indices.into_iter().enumerate() {
        places[index] = place as u32;
    }
    places
}

fn permuted<T: Copy>(items: &[T], places: &[u32]) -> Vec<T> {
    let mut out = items.to_vec();
    for (item, &place) in items.iter().zip(places) {
        out[place as usize] = *item;
    }
    out
}
