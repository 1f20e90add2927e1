//! Events in time order to intervals and states: the one place that says what each kind of event means.
//!
//! A thread has a stack of what it is inside (polls, waits, calls, parks); its state is that of the innermost one that
//! is not a poll, else running. A task has at most one poll at a time; between polls it is runnable if somebody woke
//! it, else suspended. An end without its beginning began before the capture; a beginning without its end is open.
//! After a loss a thread's state is unknown until its next event, and what it was inside is closed there.
//!
//! Never fails: events that contradict each other cost what they contradict.

use super::ids::IdMap;
use super::load::is_told;
use super::{
    CallSpan, Cause, CounterTrack, FdName, Interval, LogEntry, Loss, Ns, Park, Poll, Span, State,
    StateChange, Suspension, Task, TaskIndex, TaskWake, Thread, ThreadIndex, Trace, Wait, Wake,
};
use crate::events::{
    Call, Event, Fd, KINDS, PollOutcome, StackId, StrId, TaskId, TaskOutcome, ThreadId, WaitKind, WaitOutcome,
};

/// What a thread is inside: an index into the trace's own tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    Poll(u32),
    Wait(u32),
    Call(u32),
    Park(u32),
}

#[derive(Debug, Default)]
struct ThreadState {
    inside: Vec<Inside>,
    latest: Ns,
}

/// Where a task is between its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    /// Not known yet.
    #[default]
    Unseen,
    /// Suspended since; index into [`Trace::suspensions`].
    Suspended(u32),
    /// Woken or new, by this wake if known.
    Runnable(Option<u32>),
    /// In this poll; woken meanwhile by that wake.
    Polled(u32, Option<u32>),
    Ended,
}

#[derive(Debug, Default)]
struct TaskState {
    phase: Phase,
    await_stack: StackId,
}

/// Builds a [`Trace`] from events in time order.
pub(super) struct Builder {
    trace: Trace,
    end: Ns,
    threads: Vec<ThreadState>,
    tasks: Vec<TaskState>,
    thread_index: IdMap<ThreadIndex>,
    task_index: IdMap<TaskIndex>,
    counter_index: IdMap<usize>,
    span_index: IdMap<usize>,
    /// The thread of the latest event, which is mostly that of the next.
    latest_thread: (ThreadId, ThreadIndex),
}

impl Builder {
    /// For a capture of `duration` nanoseconds.
    pub(super) fn new(duration: Ns) -> Builder {
        Builder {
            trace: Trace { kinds: vec![0; usize::from(u8::MAX) + 1], ..Trace::default() },
            end: duration,
            threads: Vec::new(),
            tasks: Vec::new(),
            thread_index: IdMap::default(),
            task_index: IdMap::default(),
            counter_index: IdMap::default(),
            span_index: IdMap::default(),
            latest_thread: (ThreadId(u32::MAX), 0),
        }
    }

    /// Takes the next event; `inside` says whether it lies in the capture's window.
    #[inline]
    pub(super) fn event(&mut self, id: ThreadId, at: Ns, inside: bool, event: Event) {
        if inside {
            self.trace.kinds[usize::from(event.id())] += 1;
        }
        if is_told(&event) {
            if let Event::Loss(loss) = event {
                self.lose(at, loss);
            }
            return;
        }
        let thread = self.thread(id, at);
        self.know(thread, at);
        match event {
            Event::PollBegin(_) | Event::PollEnd(_) | Event::TaskSuspend(_) | Event::TaskWake(_) => {
                self.task_event(thread, at, event);
            }
            Event::SyscallEnter(enter) => self.call_begins(thread, at, enter.call, enter.fd),
            Event::SyscallExit(exit) => self.call_ends(thread, at, exit.result.0, exit.stack),
            Event::WaitBegin(wait) => self.wait_begins(thread, at, wait.kind, wait.addr.0),
            Event::WaitEnd(wait) => self.wait_ends(thread, at, wait.outcome, wait.stack),
            Event::Wake(wake) => {
                let in_poll = self.poll_of(thread);
                let (addr, woken, stack) = (wake.addr.0, wake.woken.0, wake.stack);
                self.trace.wakes.push(Wake { at, thread, in_poll, addr, woken, stack });
            }
            _ => self.rare_event(thread, at, event),
        }
    }

    fn task_event(&mut self, thread: ThreadIndex, at: Ns, event: Event) {
        match event {
            Event::PollBegin(poll) => self.poll_begins(thread, at, poll.task),
            Event::PollEnd(poll) => self.poll_ends(thread, at, poll.outcome),
            Event::TaskSuspend(suspend) => {
                let task = self.task(suspend.task, at);
                self.tasks[task as usize].await_stack = suspend.stack;
            }
            Event::TaskWake(wake) => self.task_woken(thread, at, wake.task, wake.stack),
            _ => {}
        }
    }

    fn rare_event(&mut self, thread: ThreadIndex, at: Ns, event: Event) {
        match event {
            Event::TaskSpawn(spawn) => {
                let parent = (spawn.parent.0 != 0).then(|| self.task(spawn.parent, at));
                let index = self.task(spawn.task, at);
                let task = &mut self.trace.tasks[index as usize];
                (task.parent, task.name_id, task.site_id) = (parent, spawn.name, spawn.site);
                // A spawn may be told after the first poll, from another thread: then it only says who the task is.
                if self.tasks[index as usize].phase == Phase::Unseen {
                    task.life = Interval { begin: at, end: at, open: true };
                    task.states.clear();
                    self.tasks[index as usize].phase = Phase::Runnable(None);
                    self.task_state(index, at, State::Runnable, Cause::None);
                }
            }
            Event::TaskName(name) => {
                let parent = (name.parent.0 != 0).then(|| self.task(name.parent, at));
                let index = self.task(name.task, at);
                let task = &mut self.trace.tasks[index as usize];
                (task.parent, task.name_id, task.site_id) = (parent, name.name, name.site);
            }
            Event::TaskEnd(end) => self.task_ends(at, end.task, end.outcome),
            Event::ThreadStart(start) => {
                self.thread_starts(thread, at, start.tid.0, start.creator, start.stack)
            }
            Event::ThreadExit(_) => self.thread_exits(thread, at),
            Event::ThreadName(name) => self.trace.threads[thread as usize].name_id = name.name,
            Event::WorkerStart(worker) => {
                let thread = &mut self.trace.threads[thread as usize];
                (thread.worker, thread.runtime_id) = (Some((String::new(), worker.index.0)), worker.runtime);
            }
            Event::WorkerPark(_) => {
                let index = self.trace.parks.len() as u32;
                self.trace
                    .parks
                    .push(Park { thread, time: Interval { begin: at, end: self.end, open: true } });
                self.enter(thread, at, Inside::Park(index));
            }
            Event::WorkerUnpark(_) => self.park_ends(thread, at),
            Event::FdName(name) => self.trace.fd_names.push(FdName { at, fd: name.fd, name: name.name }),
            _ => self.user_event(thread, at, event),
        }
    }

    fn user_event(&mut self, thread: ThreadIndex, at: Ns, event: Event) {
        let task = self.poll_of(thread).map(|poll| self.trace.polls[poll as usize].task);
        match event {
            Event::SpanBegin(span) => self.span_begins(thread, at, (false, span.span.0), None, span.name),
            Event::SpanEnd(span) => self.span_ends(at, (false, span.span.0)),
            Event::SpanField(field) => {
                if let Some(&index) = self.span_index.get(span_key((false, field.span.0))) {
                    self.trace.spans[index].fields.push((field.key, field.value));
                }
            }
            Event::UserTaskBegin(begin) => {
                let parent = (begin.parent.0 != 0).then_some(begin.parent.0);
                self.span_begins(thread, at, (true, begin.user_task.0), parent, begin.name);
            }
            Event::UserTaskEnd(end) => self.span_ends(at, (true, end.user_task.0)),
            Event::Log(log) => {
                let (category, message) = (log.category, log.message);
                self.trace.logs.push(LogEntry { at, thread, task, category, message });
            }
            Event::Counter(counter) => self.count(at, counter.name, counter.value.0),
            // Memory, scheduling, CPU samples and labels have no sources yet: they are counted, not understood.
            _ => {}
        }
    }

    /// The thread with this number, new if it has no events yet. One that appears without a start event has lived
    /// since before the capture; what it did until now is unknown.
    #[inline]
    fn thread(&mut self, id: ThreadId, at: Ns) -> ThreadIndex {
        if self.latest_thread.0 == id {
            return self.latest_thread.1;
        }
        let index = *self.thread_index.get_or_insert_with(u64::from(id.0), || {
            let life = Interval { begin: 0, end: self.end, open: true };
            let states = vec![StateChange { at: 0, state: State::Unknown, cause: Cause::None }];
            self.trace.threads.push(Thread { id, life, states, ..Thread::default() });
            self.threads.push(ThreadState { inside: Vec::new(), latest: at });
            self.trace.threads.len() as ThreadIndex - 1
        });
        self.latest_thread = (id, index);
        index
    }

    fn task(&mut self, id: TaskId, _at: Ns) -> TaskIndex {
        *self.task_index.get_or_insert_with(id.0, || {
            let life = Interval { begin: 0, end: self.end, open: true };
            let states = vec![StateChange { at: 0, state: State::Unknown, cause: Cause::None }];
            self.trace.tasks.push(Task { id, life, states, ..Task::default() });
            self.tasks.push(TaskState::default());
            self.trace.tasks.len() as TaskIndex - 1
        })
    }

    /// An event of a thread says that it runs, unless it is inside something: then the state is that already.
    #[inline]
    fn know(&mut self, thread: ThreadIndex, at: Ns) {
        self.threads[thread as usize].latest = at;
        if self.trace.threads[thread as usize].states.last().is_some_and(|last| last.state == State::Unknown)
        {
            self.settle(thread, at);
        }
    }

    /// Sets a thread's state to what it is inside.
    fn settle(&mut self, thread: ThreadIndex, at: Ns) {
        let inside = &self.threads[thread as usize].inside;
        let (state, cause) = match inside.last() {
            None => (State::Running, Cause::None),
            Some(&Inside::Poll(poll)) => (State::Running, Cause::Poll(poll)),
            Some(&Inside::Wait(wait)) => (State::Blocked, Cause::Wait(wait)),
            Some(&Inside::Park(park)) => (State::Idle, Cause::Park(park)),
            Some(&Inside::Call(call)) => {
                (call_state(self.trace.calls[call as usize].call), Cause::Call(call))
            }
        };
        change(&mut self.trace.threads[thread as usize].states, at, state, cause);
    }

    fn enter(&mut self, thread: ThreadIndex, at: Ns, inside: Inside) {
        self.threads[thread as usize].inside.push(inside);
        self.settle(thread, at);
    }

    /// Leaves the innermost thing of a kind; what is inside that is left too, still open: its end was lost.
    fn leave(&mut self, thread: ThreadIndex, at: Ns, kind: impl Fn(&Inside) -> bool) -> Option<Inside> {
        let inside = &mut self.threads[thread as usize].inside;
        let found = inside.iter().rposition(kind)?;
        let left: Vec<Inside> = inside.drain(found..).collect();
        for &lost in left.iter().skip(1) {
            self.close_open(lost, at);
        }
        self.settle(thread, at);
        left.first().copied()
    }

    /// Ends something whose end event is missing: it stays marked open.
    fn close_open(&mut self, inside: Inside, at: Ns) {
        match inside {
            Inside::Poll(poll) => {
                self.trace.polls[poll as usize].time.end = at;
                let task = self.trace.polls[poll as usize].task;
                self.tasks[task as usize].phase = Phase::Unseen;
                self.task_state(task, at, State::Unknown, Cause::None);
            }
            Inside::Wait(wait) => self.trace.waits[wait as usize].time.end = at,
            Inside::Call(call) => self.trace.calls[call as usize].time.end = at,
            Inside::Park(park) => self.trace.parks[park as usize].time.end = at,
        }
    }

    /// The state before an end whose beginning was before the capture.
    fn was_since_start(&mut self, thread: ThreadIndex, at: Ns, state: State, cause: Cause) {
        let states = &mut self.trace.threads[thread as usize].states;
        let since_start = match states.as_slice() {
            [first] => first.state == State::Unknown,
            [first, second] => first.state == State::Unknown && second.at == at,
            _ => false,
        };
        if since_start {
            states.clear();
            states.push(StateChange { at: 0, state, cause });
            self.settle(thread, at);
        }
    }

    fn poll_of(&self, thread: ThreadIndex) -> Option<u32> {
        self.threads[thread as usize].inside.iter().rev().find_map(|inside| match *inside {
            Inside::Poll(poll) => Some(poll),
            _ => None,
        })
    }

    fn poll_begins(&mut self, thread: ThreadIndex, at: Ns, id: TaskId) {
        let task = self.task(id, at);
        let poll = self.trace.polls.len() as u32;
        let woken_by = match self.tasks[task as usize].phase {
            Phase::Runnable(wake) => wake,
            _ => None,
        };
        if let Some(wake) = woken_by {
            self.trace.task_wakes[wake as usize].led_to = Some(poll);
        }
        let time = Interval { begin: at, end: self.end, open: true };
        self.trace.polls.push(Poll { task, thread, time, outcome: PollOutcome::Unknown, woken_by });
        self.close_suspension(task, at, true);
        self.tasks[task as usize].phase = Phase::Polled(poll, None);
        self.task_state(task, at, State::Running, Cause::Poll(poll));
        self.enter(thread, at, Inside::Poll(poll));
    }

    fn poll_ends(&mut self, thread: ThreadIndex, at: Ns, outcome: PollOutcome) {
        let Some(Inside::Poll(index)) = self.leave(thread, at, |inside| matches!(inside, Inside::Poll(_)))
        else {
            return;
        };
        let poll = &mut self.trace.polls[index as usize];
        close(&mut poll.time, at);
        poll.outcome = outcome;
        let task = poll.task;
        let state = &mut self.tasks[task as usize];
        let Phase::Polled(polled, woken) = state.phase else { return };
        if polled != index {
            return;
        }
        if !matches!(outcome, PollOutcome::Pending | PollOutcome::Unknown) {
            // The task's end event follows; until then nobody will poll it.
            state.phase = Phase::Ended;
            self.task_state(task, at, State::Idle, Cause::None);
        } else if let Some(wake) = woken {
            state.phase = Phase::Runnable(Some(wake));
            self.task_state(task, at, State::Runnable, Cause::None);
        } else {
            self.suspend(task, at);
        }
    }

    fn suspend(&mut self, task: TaskIndex, at: Ns) {
        let index = self.trace.suspensions.len() as u32;
        let stack = self.tasks[task as usize].await_stack;
        let time = Interval { begin: at, end: self.end, open: true };
        self.trace.suspensions.push(Suspension { task, time, stack });
        self.tasks[task as usize].phase = Phase::Suspended(index);
        self.task_state(task, at, State::Waiting, Cause::Suspension(index));
    }

    /// Ends a task's suspension, if it is in one; `open`: nobody was seen to wake it.
    fn close_suspension(&mut self, task: TaskIndex, at: Ns, open: bool) {
        if let Phase::Suspended(index) = self.tasks[task as usize].phase {
            let time = &mut self.trace.suspensions[index as usize].time;
            (time.end, time.open) = (at, open);
        }
    }

    fn task_woken(&mut self, by_thread: ThreadIndex, at: Ns, id: TaskId, stack: StackId) {
        let task = self.task(id, at);
        let by_poll = self.poll_of(by_thread);
        let wake = self.trace.task_wakes.len() as u32;
        self.trace.task_wakes.push(TaskWake { at, task, by_thread, by_poll, stack, led_to: None });
        match self.tasks[task as usize].phase {
            Phase::Suspended(_) | Phase::Unseen => {
                self.close_suspension(task, at, false);
                self.tasks[task as usize].phase = Phase::Runnable(Some(wake));
                self.task_state(task, at, State::Runnable, Cause::None);
            }
            Phase::Polled(poll, None) => self.tasks[task as usize].phase = Phase::Polled(poll, Some(wake)),
            Phase::Polled(_, Some(_)) | Phase::Runnable(_) | Phase::Ended => {}
        }
    }

    fn task_ends(&mut self, at: Ns, id: TaskId, outcome: TaskOutcome) {
        let task = self.task(id, at);
        self.close_suspension(task, at, true);
        self.tasks[task as usize].phase = Phase::Ended;
        let task = &mut self.trace.tasks[task as usize];
        task.life.end = at;
        task.outcome = Some(outcome);
    }

    fn task_state(&mut self, task: TaskIndex, at: Ns, state: State, cause: Cause) {
        change(&mut self.trace.tasks[task as usize].states, at, state, cause);
    }

    fn wait_begins(&mut self, thread: ThreadIndex, at: Ns, kind: WaitKind, addr: u64) {
        let in_poll = self.poll_of(thread);
        let time = Interval { begin: at, end: self.end, open: true };
        let (outcome, stack) = (WaitOutcome::Unknown, StackId(0));
        self.trace.waits.push(Wait { thread, in_poll, time, addr, kind, outcome, stack });
        self.enter(thread, at, Inside::Wait(self.trace.waits.len() as u32 - 1));
    }

    fn wait_ends(&mut self, thread: ThreadIndex, at: Ns, outcome: WaitOutcome, stack: StackId) {
        if let Some(Inside::Wait(index)) = self.leave(thread, at, |inside| matches!(inside, Inside::Wait(_)))
        {
            let wait = &mut self.trace.waits[index as usize];
            close(&mut wait.time, at);
            (wait.outcome, wait.stack) = (outcome, stack);
            return;
        }
        let time = Interval { begin: 0, end: at, open: true };
        let (in_poll, kind) = (self.poll_of(thread), WaitKind::Unknown);
        self.trace.waits.push(Wait { thread, in_poll, time, addr: 0, kind, outcome, stack });
        self.was_since_start(thread, at, State::Blocked, Cause::Wait(self.trace.waits.len() as u32 - 1));
    }

    fn call_begins(&mut self, thread: ThreadIndex, at: Ns, call: Call, fd: Fd) {
        let in_poll = self.poll_of(thread);
        let time = Interval { begin: at, end: self.end, open: true };
        self.trace.calls.push(CallSpan { thread, in_poll, time, call, fd, result: 0, stack: StackId(0) });
        self.enter(thread, at, Inside::Call(self.trace.calls.len() as u32 - 1));
    }

    fn call_ends(&mut self, thread: ThreadIndex, at: Ns, result: i64, stack: StackId) {
        if let Some(Inside::Call(index)) = self.leave(thread, at, |inside| matches!(inside, Inside::Call(_)))
        {
            let call = &mut self.trace.calls[index as usize];
            close(&mut call.time, at);
            (call.result, call.stack) = (result, stack);
            return;
        }
        let time = Interval { begin: 0, end: at, open: true };
        let (in_poll, call, fd) = (self.poll_of(thread), Call::Unknown, Fd(-1));
        self.trace.calls.push(CallSpan { thread, in_poll, time, call, fd, result, stack });
        self.was_since_start(thread, at, State::Syscall, Cause::Call(self.trace.calls.len() as u32 - 1));
    }

    fn park_ends(&mut self, thread: ThreadIndex, at: Ns) {
        if let Some(Inside::Park(index)) = self.leave(thread, at, |inside| matches!(inside, Inside::Park(_)))
        {
            close(&mut self.trace.parks[index as usize].time, at);
            return;
        }
        self.trace.parks.push(Park { thread, time: Interval { begin: 0, end: at, open: true } });
        self.was_since_start(thread, at, State::Idle, Cause::Park(self.trace.parks.len() as u32 - 1));
    }

    fn thread_starts(&mut self, thread: ThreadIndex, at: Ns, tid: u64, creator: ThreadId, stack: StackId) {
        let creator = self.thread_index.get(u64::from(creator.0)).copied();
        let thread = &mut self.trace.threads[thread as usize];
        (thread.tid, thread.creator, thread.creation_stack) = (tid, creator, stack);
        thread.life.begin = at;
        thread.states.clear();
        thread.states.push(StateChange { at, state: State::Running, cause: Cause::None });
    }

    fn thread_exits(&mut self, thread: ThreadIndex, at: Ns) {
        for inside in std::mem::take(&mut self.threads[thread as usize].inside) {
            self.close_open(inside, at);
        }
        self.settle(thread, at);
        let life = &mut self.trace.threads[thread as usize].life;
        (life.end, life.open) = (at, life.begin == 0);
    }

    fn span_begins(
        &mut self,
        thread: ThreadIndex,
        at: Ns,
        key: (bool, u64),
        parent: Option<u64>,
        name: StrId,
    ) {
        let task = self.poll_of(thread).map(|poll| self.trace.polls[poll as usize].task);
        let time = Interval { begin: at, end: self.end, open: true };
        let (user_task, id) = key;
        self.span_index.insert(span_key(key), self.trace.spans.len());
        self.trace.spans.push(Span { user_task, id, parent, name, thread, task, time, fields: Vec::new() });
    }

    fn span_ends(&mut self, at: Ns, key: (bool, u64)) {
        if let Some(&index) = self.span_index.get(span_key(key)) {
            close(&mut self.trace.spans[index].time, at);
        }
    }

    fn count(&mut self, at: Ns, name: StrId, value: i64) {
        let counters = &mut self.trace.counters;
        let index = *self.counter_index.get_or_insert_with(u64::from(name.0), || {
            counters.push(CounterTrack { name: String::new(), name_id: name, values: Vec::new() });
            counters.len() - 1
        });
        counters[index].values.push((at, value));
    }

    /// What a thread did between its latest event and now is not known any more.
    fn lose(&mut self, at: Ns, loss: crate::events::Loss) {
        let thread = self.thread(loss.thread, at);
        self.trace.losses.push(Loss { at, thread, reason: loss.reason, count: loss.count.0 });
        let latest = self.threads[thread as usize].latest;
        for inside in std::mem::take(&mut self.threads[thread as usize].inside) {
            self.close_open(inside, latest);
        }
        change(&mut self.trace.threads[thread as usize].states, latest, State::Unknown, Cause::None);
    }

    /// The trace, but for names.
    pub(super) fn finish(mut self) -> Trace {
        self.trace.waits.sort_by_key(|wait| wait.time.begin);
        for task in &mut self.trace.tasks {
            if task.outcome.is_none() {
                (task.life.end, task.life.open) = (self.end, true);
            } else {
                task.life.open = task.life.begin == 0;
            }
            task.states.retain(|change| change.at <= task.life.end);
        }
        self.trace.kinds.truncate(KINDS.len() + 1);
        self.trace
    }
}

fn close(time: &mut Interval, at: Ns) {
    (time.end, time.open) = (at, false);
}

/// Spans and user tasks number themselves apart.
fn span_key((user_task, id): (bool, u64)) -> u64 {
    id << 1 | u64::from(user_task)
}

/// What a thread does in a call: calls that wait for others are I/O, sleeping is idle.
fn call_state(call: Call) -> State {
    use Call::{
        Accept, Accept4, ClockNanosleep, Connect, EpollPwait, EpollWait, Getaddrinfo, Nanosleep, Ppoll,
        Pselect, Recv, Recvfrom, Recvmmsg, Recvmsg, Select, Usleep,
    };
    match call {
        Nanosleep | ClockNanosleep | Usleep => State::Idle,
        Call::Poll
        | Ppoll
        | Select
        | Pselect
        | EpollWait
        | EpollPwait
        | Accept
        | Accept4
        | Connect
        | Recv
        | Recvfrom
        | Recvmsg
        | Recvmmsg
        | Getaddrinfo => State::Io,
        _ => State::Syscall,
    }
}

/// Appends a change; one at the same instant replaces the one before, one that changes nothing is left out.
#[inline]
fn change(states: &mut Vec<StateChange>, at: Ns, state: State, cause: Cause) {
    if let Some(last) = states.last_mut() {
        let at = at.max(last.at);
        if last.at == at {
            (last.state, last.cause) = (state, cause);
            return;
        }
        if (last.state, last.cause) == (state, cause) {
            return;
        }
        states.push(StateChange { at, state, cause });
        return;
    }
    states.push(StateChange { at, state, cause });
}
