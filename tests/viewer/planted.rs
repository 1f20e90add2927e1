//! A trace made by hand, with names that the tests look for.
//!
//! Four workers poll request tasks; `reaper_serialises_json`, a task on the last worker, holds a mutex for 30 ms of each
//! 100 ms, and every `sendjson` that comes by then blocks inside its poll. `checkout` queues at an async lock.
//! Everything follows from a fixed seed, so that two runs see the same picture.

use std::collections::HashMap;

use kymo::events::{
    Call, Fd, KINDS, LossReason, PollOutcome, StackId, StrId, TaskId, TaskOutcome, ThreadId, WaitKind,
    WaitOutcome,
};
use kymo::format::Frame;
use kymo::model::stacks::Stacks;
use kymo::model::{
    CallSpan, Cause, CounterTrack, Info, Interval, Loss, Ns, Park, Poll, Span, State, StateChange,
    Suspension, Task, TaskWake, Thread, Trace, Wait, Wake,
};

/// The mutex that the reaper holds.
pub(crate) const LOCK: u64 = 0x7f3a_4410_0c40;

/// Workers, then other threads.
const WORKERS: usize = 4;
const TASKS: usize = 48;
const REAPER: usize = TASKS;

const SENDJSON: StackId = StackId(10);
const REAPER_UNLOCK: StackId = StackId(11);
const CHECKOUT_AWAIT: StackId = StackId(12);
const QUERY_AWAIT: StackId = StackId(13);
const FSYNC: StackId = StackId(14);
const WAKER: StackId = StackId(15);

/// The trace: `seconds` of it.
pub(crate) fn trace(seconds: f64) -> Trace {
    let duration = (seconds * 1e9) as Ns;
    let mut planted = Planted::new(duration);
    for worker in 0..WORKERS {
        planted.work(worker);
    }
    planted.other_threads();
    planted.finish()
}

struct Planted {
    trace: Trace,
    duration: Ns,
    seed: u64,
}

impl Planted {
    fn new(duration: Ns) -> Planted {
        let mut trace =
            Trace { info: info(duration), stacks: stacks(), strings: strings(), ..Trace::default() };
        for index in 0..WORKERS + 2 {
            let name = match index {
                0..WORKERS => "tokio-runtime-w".to_string(),
                WORKERS => "io-driver".to_string(),
                _ => "log-writer".to_string(),
            };
            trace.threads.push(Thread {
                id: ThreadId(index as u32 + 1),
                tid: 4100 + index as u64,
                name,
                worker: (index < WORKERS).then(|| ("main".to_string(), index as u64)),
                life: Interval { begin: 0, end: duration, open: true },
                ..Thread::default()
            });
        }
        for index in 0..=TASKS {
            let (name, site) = match index {
                REAPER => ("reaper_serialises_json", "src/pool.rs:12:5"),
                _ if index % 3 == 0 => ("checkout", "src/shop.rs:88:13"),
                _ => ("sendjson", "src/shop.rs:41:9"),
            };
            trace.tasks.push(Task {
                id: TaskId(index as u64 + 17),
                name: name.to_string(),
                site: site.to_string(),
                life: Interval { begin: 0, end: duration, open: true },
                states: vec![StateChange { at: 0, state: State::Waiting, cause: Cause::None }],
                ..Task::default()
            });
        }
        Planted { trace, duration, seed: 0x5eed_cafe }
    }

    fn random(&mut self, from: Ns, to: Ns) -> Ns {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        from + (self.seed >> 33) % (to - from)
    }

    /// One worker's whole life: park until a task is ready, poll it, and again.
    fn work(&mut self, worker: usize) {
        let own: Vec<usize> = (0..TASKS).filter(|task| task % WORKERS == worker).collect();
        let mut ready: Vec<(Ns, usize)> =
            own.into_iter().map(|task| (self.random(0, 4_000_000), task)).collect();
        if worker == WORKERS - 1 {
            ready.push((20_000_000, REAPER));
        }
        let mut now = 0;
        while let Some(at) = ready.iter().map(|entry| entry.0).min().filter(|&at| at.max(now) < self.duration)
        {
            let next = ready.iter().position(|entry| entry.0 == at).unwrap();
            let task = ready[next].1;
            if at > now {
                self.park(worker, now, at);
                now = at;
            }
            self.thread_state(worker, now, State::Runnable, Cause::None);
            now += 2_000;
            let end = if task == REAPER { self.reap(worker, now) } else { self.poll(worker, task, now) };
            let end = end.min(self.duration);
            let wake = self.suspend(task, end);
            ready[next].0 = wake;
            now = end + 1_500;
        }
        if now < self.duration {
            self.park(worker, now, self.duration);
        }
    }

    fn park(&mut self, worker: usize, begin: Ns, end: Ns) {
        let index = self.trace.parks.len() as u32;
        self.trace.parks.push(Park { thread: worker as u32, time: time(begin, end) });
        self.thread_state(worker, begin, State::Idle, Cause::Park(index));
    }

    /// A request: some work, a read, perhaps the mutex, perhaps an fsync. Returns its end.
    fn poll(&mut self, worker: usize, task: usize, begin: Ns) -> Ns {
        let poll = self.begin_poll(worker, task, begin);
        let mut now = begin + self.random(8_000, 60_000);
        now = self.call(worker, poll, now, Call::Recvfrom, (2_000, 9_000));
        now += self.random(4_000, 90_000);
        let held_until = self.held_at(now);
        if let (Some(until), "sendjson") = (held_until, self.trace.tasks[task].name.as_str()) {
            let got = until + self.random(1_000, 60_000);
            now = self.block(worker, poll, now, got);
        }
        if self.random(0, 40) == 0 {
            now = self.call(worker, poll, now, Call::Fsync, (300_000, 2_500_000));
        }
        now += self.random(2_000, 40_000);
        now = self.call(worker, poll, now, Call::Sendto, (3_000, 15_000));
        let end = now + self.random(1_000, 8_000);
        self.end_poll(worker, poll, end);
        end
    }

    /// The reaper holds the mutex while it serialises and writes.
    fn reap(&mut self, worker: usize, begin: Ns) -> Ns {
        let poll = self.begin_poll(worker, REAPER, begin);
        let written = self.call(worker, poll, begin + 22_000_000, Call::Write, (4_000_000, 6_000_000));
        let end = begin.max(written) + 4_000_000;
        self.end_poll(worker, poll, end);
        end
    }

    /// When the reaper gives the mutex away, if it has it.
    fn held_at(&self, at: Ns) -> Option<Ns> {
        let phase = at % 100_000_000;
        (20_000_000..50_000_000).contains(&phase).then(|| at - phase + 50_000_000)
    }

    fn block(&mut self, worker: usize, poll: u32, begin: Ns, end: Ns) -> Ns {
        let end = end.min(self.duration);
        let index = self.trace.waits.len() as u32;
        self.trace.waits.push(Wait {
            thread: worker as u32,
            in_poll: Some(poll),
            time: time(begin, end),
            addr: LOCK,
            kind: WaitKind::Futex,
            outcome: WaitOutcome::Woken,
            stack: SENDJSON,
        });
        self.thread_state(worker, begin, State::Blocked, Cause::Wait(index));
        self.thread_state(worker, end, State::Running, Cause::Poll(poll));
        end
    }

    fn call(&mut self, worker: usize, poll: u32, begin: Ns, call: Call, lasts: (Ns, Ns)) -> Ns {
        // As in a real trace, only what lasts has a stack.
        let stack = if call == Call::Fsync { FSYNC } else { StackId(0) };
        let end = (begin + self.random(lasts.0, lasts.1)).min(self.duration);
        let begin = begin.min(end);
        let index = self.trace.calls.len() as u32;
        self.trace.calls.push(CallSpan {
            thread: worker as u32,
            in_poll: Some(poll),
            time: time(begin, end),
            call,
            fd: Fd(9),
            result: 512,
            stack,
        });
        self.thread_state(worker, begin, State::Syscall, Cause::Call(index));
        self.thread_state(worker, end, State::Running, Cause::Poll(poll));
        end
    }

    fn begin_poll(&mut self, worker: usize, task: usize, begin: Ns) -> u32 {
        let index = self.trace.polls.len() as u32;
        let woken_by =
            self.trace.task_wakes.iter().rposition(|wake| wake.task == task as u32).map(|wake| wake as u32);
        if let Some(wake) = woken_by {
            self.trace.task_wakes[wake as usize].led_to = Some(index);
        }
        self.trace.polls.push(Poll {
            task: task as u32,
            thread: worker as u32,
            time: time(begin, begin),
            outcome: PollOutcome::Pending,
            woken_by,
        });
        self.thread_state(worker, begin, State::Running, Cause::Poll(index));
        self.task_state(task, begin, State::Running, Cause::Poll(index));
        index
    }

    fn end_poll(&mut self, worker: usize, poll: u32, end: Ns) {
        let end = end.min(self.duration);
        self.trace.polls[poll as usize].time.end = end;
        self.thread_state(worker, end, State::Running, Cause::None);
    }

    /// The task awaits until somebody wakes it; returns when.
    fn suspend(&mut self, task: usize, begin: Ns) -> Ns {
        let queues = self.trace.tasks[task].name == "checkout" && self.random(0, 3) == 0;
        let (state, stack) = match (task, queues) {
            (REAPER, _) => (State::Idle, StackId(0)),
            (_, true) => (State::Blocked, CHECKOUT_AWAIT),
            (_, false) => (State::Io, QUERY_AWAIT),
        };
        let wake = match task {
            REAPER => begin - begin % 100_000_000 + 120_000_000,
            _ => begin + self.random(400_000, 9_000_000),
        };
        let index = self.trace.suspensions.len() as u32;
        let end = wake.min(self.duration);
        self.trace.suspensions.push(Suspension { task: task as u32, time: time(begin.min(end), end), stack });
        self.task_state(task, begin, state, Cause::Suspension(index));
        if wake < self.duration {
            self.trace.task_wakes.push(TaskWake {
                at: wake,
                task: task as u32,
                by_thread: WORKERS as u32,
                by_poll: None,
                stack: WAKER,
                led_to: None,
            });
            self.task_state(task, wake, State::Runnable, Cause::None);
        }
        wake
    }

    fn thread_state(&mut self, thread: usize, at: Ns, state: State, cause: Cause) {
        push_state(&mut self.trace.threads[thread].states, at.min(self.duration), state, cause);
    }

    fn task_state(&mut self, task: usize, at: Ns, state: State, cause: Cause) {
        push_state(&mut self.trace.tasks[task].states, at.min(self.duration), state, cause);
    }

    fn other_threads(&mut self) {
        push_state(&mut self.trace.threads[WORKERS].states, 0, State::Io, Cause::None);
        let writer = WORKERS + 1;
        let mut now = 0;
        while now < self.duration {
            self.thread_state(writer, now, State::Idle, Cause::None);
            now += self.random(3_000_000, 20_000_000);
            let begin = now.min(self.duration);
            let end = (now + self.random(100_000, 900_000)).min(self.duration);
            let index = self.trace.calls.len() as u32;
            self.trace.calls.push(CallSpan {
                thread: writer as u32,
                in_poll: None,
                time: time(begin, end),
                call: Call::Write,
                fd: Fd(2),
                result: 120,
                stack: StackId(0),
            });
            self.thread_state(writer, begin, State::Syscall, Cause::Call(index));
            now = end;
        }
        let values = (0..400).map(|step| (step * (self.duration / 400), ((step * 37) % 90) as i64)).collect();
        self.trace.counters.push(CounterTrack { name: "queue depth".to_string(), name_id: StrId(8), values });
        self.trace.losses.push(Loss {
            at: self.duration / 2,
            thread: writer as u32,
            reason: LossReason::NoChunk,
            count: 812,
        });
        for at in 0..self.duration / 100_000_000 {
            let begin = at * 100_000_000 + 10_000_000;
            self.trace.spans.push(Span {
                id: at + 1,
                name: StrId(5),
                task: Some(1),
                time: time(begin, begin + 45_000_000),
                fields: vec![(StrId(6), StrId(7))],
                ..Span::default()
            });
        }
    }

    /// The reaper's wakes, then everything in the order that a loaded trace has.
    fn finish(mut self) -> Trace {
        let mut release = 50_000_000;
        while release < self.duration {
            self.trace.wakes.push(Wake {
                at: release,
                thread: WORKERS as u32 - 1,
                in_poll: None,
                addr: LOCK,
                woken: 1,
                stack: REAPER_UNLOCK,
            });
            release += 100_000_000;
        }
        for wake in &mut self.trace.wakes {
            wake.in_poll = self
                .trace
                .polls
                .iter()
                .position(|poll| {
                    poll.thread == wake.thread && poll.time.begin <= wake.at && wake.at < poll.time.end
                })
                .map(|poll| poll as u32);
        }
        in_order(&mut self.trace);
        self.trace.tasks[REAPER].outcome = Some(TaskOutcome::Cancelled);
        self.trace.kinds = vec![0; KINDS.len() + 1];
        for (name, count) in [
            ("PollBegin", self.trace.polls.len()),
            ("PollEnd", self.trace.polls.len()),
            ("WaitBegin", self.trace.waits.len()),
            ("WaitEnd", self.trace.waits.len()),
            ("SyscallEnter", self.trace.calls.len()),
            ("SyscallExit", self.trace.calls.len()),
        ] {
            let kind = KINDS.iter().find(|kind| kind.name == name).unwrap();
            self.trace.kinds[usize::from(kind.id)] = count as u64;
        }
        self.trace
    }
}

/// Sorts every table by time and renumbers what points into it.
fn in_order(trace: &mut Trace) {
    let polls = sort(&mut trace.polls, |poll| poll.time.begin);
    let waits = sort(&mut trace.waits, |wait| wait.time.begin);
    let calls = sort(&mut trace.calls, |call| call.time.begin);
    let suspensions = sort(&mut trace.suspensions, |suspension| suspension.time.begin);
    let parks = sort(&mut trace.parks, |park| park.time.begin);
    let wakes = sort(&mut trace.task_wakes, |wake| wake.at);
    trace.waits.iter_mut().for_each(|wait| wait.in_poll = wait.in_poll.map(|poll| polls[poll as usize]));
    trace.wakes.iter_mut().for_each(|wake| wake.in_poll = wake.in_poll.map(|poll| polls[poll as usize]));
    trace.calls.iter_mut().for_each(|call| call.in_poll = call.in_poll.map(|poll| polls[poll as usize]));
    trace.polls.iter_mut().for_each(|poll| poll.woken_by = poll.woken_by.map(|wake| wakes[wake as usize]));
    trace.task_wakes.iter_mut().for_each(|wake| wake.led_to = wake.led_to.map(|poll| polls[poll as usize]));
    let threads = trace.threads.iter_mut().map(|thread| &mut thread.states);
    let tasks = trace.tasks.iter_mut().map(|task| &mut task.states);
    for change in threads.chain(tasks).flatten() {
        change.cause = match change.cause {
            Cause::Poll(index) => Cause::Poll(polls[index as usize]),
            Cause::Wait(index) => Cause::Wait(waits[index as usize]),
            Cause::Call(index) => Cause::Call(calls[index as usize]),
            Cause::Suspension(index) => Cause::Suspension(suspensions[index as usize]),
            Cause::Park(index) => Cause::Park(parks[index as usize]),
            Cause::None => Cause::None,
        };
    }
}

/// Sorts a table; gives the new number of each old one.
fn sort<T>(items: &mut Vec<T>, key: impl Fn(&T) -> Ns) -> Vec<u32> {
    let mut numbered: Vec<(usize, T)> = items.drain(..).enumerate().collect();
    numbered.sort_by_key(|(_, item)| key(item));
    let mut renumbered = vec![0; numbered.len()];
    for (new, (old, item)) in numbered.into_iter().enumerate() {
        renumbered[old] = new as u32;
        items.push(item);
    }
    renumbered
}

fn push_state(states: &mut Vec<StateChange>, at: Ns, state: State, cause: Cause) {
    if states.last().is_some_and(|last| last.at == at) {
        states.pop();
    }
    states.push(StateChange { at, state, cause });
}

fn time(begin: Ns, end: Ns) -> Interval {
    Interval { begin, end, open: false }
}

fn info(duration_ns: Ns) -> Info {
    Info {
        writer: "kymo 0.1.0".to_string(),
        pid: 4100,
        program: "shop".to_string(),
        start_realtime_ns: 1_790_000_000_123_456_789,
        duration_ns,
        wait_stack_ns: 20_000,
        call_stack_ns: 100_000,
        sources: vec![("hooks".to_string(), "on".to_string())],
        complete: true,
        ..Info::default()
    }
}

fn strings() -> HashMap<StrId, String> {
    [(5, "GET /sendjson"), (6, "path"), (7, "/sendjson?id=7")]
        .map(|(id, text)| (StrId(id), text.to_string()))
        .into()
}

/// Function, file and line.
type Frames = &'static [(&'static str, &'static str, u32)];

fn stacks() -> Stacks {
    let listed: [(StackId, Frames); 6] = [
        (
            SENDJSON,
            &[
                ("syscall", "", 0),
                (
                    "std::sys::sync::mutex::futex::Mutex::lock_contended",
                    "std/src/sys/sync/mutex/futex.rs",
                    61,
                ),
                ("std::sync::poison::mutex::Mutex<T>::lock", "std/src/sync/poison/mutex.rs", 492),
                ("shop::catalogue::Catalogue::lock", "src/catalogue.rs", 27),
                ("shop::routes::sendjson", "src/shop.rs", 44),
                ("shop::main", "src/main.rs", 9),
            ],
        ),
        (
            REAPER_UNLOCK,
            &[("shop::pool::reaper_serialises_json", "src/pool.rs", 54), ("shop::main", "src/main.rs", 9)],
        ),
        (
            CHECKOUT_AWAIT,
            &[
                ("tokio::sync::batch_semaphore::Acquire::poll", "src/sync/batch_semaphore.rs", 650),
                ("tokio::sync::mutex::Mutex<T>::lock::{{closure}}", "src/sync/mutex.rs", 442),
                ("shop::cart::reserve", "src/cart.rs", 31),
                ("shop::routes::checkout", "src/shop.rs", 91),
            ],
        ),
        (
            QUERY_AWAIT,
            &[
                ("shop::db::Connection::read", "src/db.rs", 120),
                ("shop::db::query", "src/db.rs", 64),
                ("shop::routes::handler", "src/shop.rs", 43),
            ],
        ),
        (
            FSYNC,
            &[("shop::audit::append", "src/audit.rs", 18), ("shop::routes::sendjson", "src/shop.rs", 47)],
        ),
        (WAKER, &[("shop::db::on_readable", "src/db.rs", 203)]),
    ];
    let mut stacks = Stacks::default();
    for (id, frames) in listed {
        let base = u64::from(id.0) * 0x1000;
        stacks.addresses.insert(id, (0..frames.len() as u64).map(|frame| base + frame).collect());
        for (address, (function, file, line)) in (base..).zip(frames) {
            let frame = Frame {
                function: function.to_string(),
                file: file.to_string(),
                line: *line,
                ..Frame::default()
            };
            stacks.symbols.insert(address, vec![frame]);
        }
    }
    stacks
}
