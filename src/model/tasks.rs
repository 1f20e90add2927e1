//! What tasks do: polled, suspended, woken, and the flows from a wake to the poll that it led to.
//!
//! A task is in one phase at a time. The first wake after a poll ended pending makes it runnable and leads to its next
//! poll; so does the first wake during a poll, when that ends pending: then there is no suspension between. Other
//! wakes change nothing. A poll that nobody was seen to wake for ends the suspension itself.
//!
//! The await stack of a suspension is the latest that the task told: a future that keeps its waker over several polls
//! tells it once.

use super::threads::Inside;
use super::timeline::{Builder, close};
use super::track::Track;
use super::{Cause, Ns, Poll, State, Suspension, Task, TaskIndex, TaskWake, ThreadIndex};
use crate::events::{PollOutcome, StackId, TaskId, TaskOutcome, TaskSpawn};

/// Where a task is between its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not known.
    Unknown,
    /// Suspended; index into [`Trace::suspensions`](super::Trace::suspensions).
    Suspended(u32),
    /// New, or woken by this wake.
    Runnable(Option<u32>),
    /// In this poll; woken meanwhile by that wake.
    Polled(u32, Option<u32>),
    /// It will not be polled any more.
    Ended,
}

/// A task while events are read. One cache line: they are met in no order.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct TaskTrack {
    states: Track,
    /// The wake that leads to the next poll; [`NONE`] if there is none.
    wake: u32,
    await_stack: StackId,
    seen: bool,
    spawned: bool,
    end: End,
}

/// Whether a task has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Not,
    /// Its end event came inside its last poll.
    InPoll,
    /// Its end event or its last poll's end was seen.
    Ended,
}

const NONE: u32 = u32::MAX;

const _: () = assert!(size_of::<TaskTrack>() == 64);

impl TaskTrack {
    pub(super) fn new() -> TaskTrack {
        let (states, await_stack) = (Track::unknown(), StackId(0));
        TaskTrack { states, wake: NONE, await_stack, seen: false, spawned: false, end: End::Not }
    }

    /// The phase that its latest state is of.
    #[inline]
    fn phase(&self) -> Phase {
        let wake = (self.wake != NONE).then_some(self.wake);
        match (self.states.cause(), self.states.state()) {
            _ if self.end == End::Ended => Phase::Ended,
            (Cause::Poll(poll), _) => Phase::Polled(poll, wake),
            (Cause::Suspension(suspension), _) => Phase::Suspended(suspension),
            (_, State::Runnable) => Phase::Runnable(wake),
            _ => Phase::Unknown,
        }
    }

    /// Gives the task its states.
    pub(super) fn finish(self, task: &mut Task) {
        task.states = self.states.into_states();
        task.life.open = !(self.spawned && self.end == End::Ended);
    }
}

impl Builder {
    fn task_state(&mut self, task: TaskIndex, at: Ns, state: State, cause: Cause) {
        self.tasks[task as usize].states.change(at, state, cause);
    }

    /// Notes an event of a task. One that had ended goes on: what it did meanwhile is not known.
    #[inline]
    fn task_seen(&mut self, task: TaskIndex, at: Ns) {
        let track = &mut self.tasks[task as usize];
        track.seen = true;
        if track.end == End::Ended {
            (track.end, track.wake) = (End::Not, NONE);
            let info = &mut self.trace.tasks[task as usize];
            track.states.change(info.life.end.min(at), State::Unknown, Cause::None);
            (info.life.end, info.outcome) = (self.end, None);
        }
    }

    pub(super) fn task_spawned(&mut self, at: Ns, spawn: TaskSpawn) {
        let parent = (spawn.parent.0 != 0).then(|| self.task(spawn.parent));
        let task = self.task(spawn.task);
        let info = &mut self.trace.tasks[task as usize];
        (info.parent, info.name_id, info.site_id) = (parent, spawn.name, spawn.site);
        let track = &mut self.tasks[task as usize];
        track.spawned = true;
        if !track.seen {
            info.life.begin = at;
            track.states.begin_anew(at, State::Runnable, Cause::None);
        } else {
            // Told late, by another thread than the one that polled it first: it did not live before that.
            info.life.begin = track.states.forget_unknown_begin();
        }
        self.task_seen(task, at);
    }

    pub(super) fn poll_begins(&mut self, thread: ThreadIndex, at: Ns, id: TaskId) {
        let task = self.task(id);
        self.task_seen(task, at);
        let poll = self.trace.polls.len() as u32;
        let phase = self.tasks[task as usize].phase();
        let woken_by = if let Phase::Runnable(wake) = phase { wake } else { None };
        if let Some(wake) = woken_by {
            self.trace.task_wakes[wake as usize].led_to = Some(poll);
        }
        let (time, outcome) = (self.open_from(at), PollOutcome::Unknown);
        self.trace.polls.push(Poll { task, thread, time, outcome, woken_by });
        if let Phase::Suspended(suspension) = phase {
            close(&mut self.trace.suspensions[suspension as usize].time, at);
        }
        self.tasks[task as usize].wake = NONE;
        self.task_state(task, at, State::Running, Cause::Poll(poll));
        self.enter(thread, at, Inside::Poll(poll));
    }

    pub(super) fn poll_ends(&mut self, thread: ThreadIndex, at: Ns, outcome: PollOutcome) {
        let poll = |inside: &Inside| if let Inside::Poll(poll) = *inside { Some(poll) } else { None };
        let Some(index) = self.leave(thread, at, poll) else {
            // Which task it was of only its beginning tells.
            self.missed_begin(thread, at, State::Running, Cause::None);
            return;
        };
        let poll = &mut self.trace.polls[index as usize];
        close(&mut poll.time, at);
        poll.time.open = self.threads[thread as usize].missed_poll == Some(index);
        poll.outcome = outcome;
        let task = poll.task;
        let track = &mut self.tasks[task as usize];
        let Phase::Polled(polled, woken) = track.phase() else { return };
        if polled != index {
            return;
        }
        match (outcome, track.end) {
            // Its end event, inside its last poll, has told its outcome.
            (_, End::InPoll) => self.task_is_over(task, at, None),
            (PollOutcome::Ready, _) => self.task_is_over(task, at, Some(TaskOutcome::Done)),
            (PollOutcome::Panicked, _) => self.task_is_over(task, at, Some(TaskOutcome::Panicked)),
            _ if woken.is_some() => self.task_state(task, at, State::Runnable, Cause::None),
            _ => self.suspend(task, at),
        }
    }

    fn task_is_over(&mut self, task: TaskIndex, at: Ns, outcome: Option<TaskOutcome>) {
        self.tasks[task as usize].end = End::Ended;
        let task = &mut self.trace.tasks[task as usize];
        task.life.end = at;
        task.outcome = outcome.or(task.outcome);
    }

    /// A poll whose end was lost: what became of its task is not known.
    pub(super) fn poll_cut(&mut self, poll: u32, at: Ns) {
        self.trace.polls[poll as usize].time.end = at;
        let task = self.trace.polls[poll as usize].task;
        let track = &mut self.tasks[task as usize];
        if !matches!(track.phase(), Phase::Polled(polled, _) if polled == poll) {
            return;
        }
        if track.end == End::InPoll {
            return self.task_is_over(task, at, None);
        }
        track.wake = NONE;
        self.task_state(task, at, State::Unknown, Cause::None);
    }

    pub(super) fn task_suspends(&mut self, thread: ThreadIndex, at: Ns, id: TaskId, stack: StackId) {
        let task = self.task(id);
        self.tasks[task as usize].await_stack = stack;
        if self.poll_of(thread).is_none() {
            self.missed_poll(thread, at, task);
        }
    }

    /// A task tells its await on a thread that is in no poll: the poll began before the capture.
    fn missed_poll(&mut self, thread: ThreadIndex, at: Ns, task: TaskIndex) {
        let poll = self.trace.polls.len() as u32;
        let Some(begin) = self.missed_poll_begin(thread, at, poll) else { return };
        let (time, outcome) = (self.open_from(begin), PollOutcome::Unknown);
        self.trace.polls.push(Poll { task, thread, time, outcome, woken_by: None });
        let track = &mut self.tasks[task as usize];
        if !std::mem::replace(&mut track.seen, true) {
            let begin = track.states.begin();
            track.states.begin_anew(begin, State::Running, Cause::Poll(poll));
        }
        self.tasks[task as usize].wake = NONE;
        self.task_state(task, at, State::Running, Cause::Poll(poll));
    }

    fn suspend(&mut self, task: TaskIndex, at: Ns) {
        let index = self.trace.suspensions.len() as u32;
        let (stack, time) = (self.tasks[task as usize].await_stack, self.open_from(at));
        self.trace.suspensions.push(Suspension { task, time, stack });
        self.task_state(task, at, State::Waiting, Cause::Suspension(index));
    }

    pub(super) fn task_woken(&mut self, by_thread: ThreadIndex, at: Ns, id: TaskId, stack: StackId) {
        let task = self.task(id);
        let by_poll = self.poll_of(by_thread);
        let wake = self.trace.task_wakes.len() as u32;
        self.trace.task_wakes.push(TaskWake { at, task, by_thread, by_poll, stack, led_to: None });
        let track = &mut self.tasks[task as usize];
        match track.phase() {
            Phase::Suspended(suspension) => {
                close(&mut self.trace.suspensions[suspension as usize].time, at);
                track.wake = wake;
                track.states.change(at, State::Runnable, Cause::None);
            }
            Phase::Unknown => {
                (track.wake, track.seen) = (wake, true);
                track.states.change(at, State::Runnable, Cause::None);
            }
            Phase::Polled(_, None) => track.wake = wake,
            // Wakers outlive their tasks, and a task that is runnable already needs no other wake.
            Phase::Polled(_, Some(_)) | Phase::Runnable(_) | Phase::Ended => {}
        }
    }

    pub(super) fn task_ends(&mut self, at: Ns, id: TaskId, outcome: TaskOutcome) {
        let task = self.task(id);
        let track = &mut self.tasks[task as usize];
        track.seen = true;
        match track.phase() {
            // Its last poll's end has said when.
            Phase::Ended => self.trace.tasks[task as usize].outcome = Some(outcome),
            Phase::Polled(..) => {
                track.end = End::InPoll;
                self.trace.tasks[task as usize].outcome = Some(outcome);
            }
            Phase::Suspended(suspension) => {
                close(&mut self.trace.suspensions[suspension as usize].time, at);
                self.task_is_over(task, at, Some(outcome));
            }
            Phase::Runnable(_) | Phase::Unknown => self.task_is_over(task, at, Some(outcome)),
        }
    }
}
