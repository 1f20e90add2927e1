//! What tasks do: polled, suspended, woken, and the flows from a wake to the poll that it led to.
//!
//! A task is in one phase at a time. The first wake after a poll ended pending makes it runnable and leads to its next
//! poll; so does the first wake during a poll, when that ends pending: then there is no suspension between. Other
//! wakes change nothing. A poll that nobody was seen to wake for ends the suspension itself.
//!
//! The await stack of a suspension is the latest that the task told: a future that keeps its waker over several polls
//! tells it once.

use super::threads::Inside;
use super::timeline::{Builder, change, close};
use super::{Cause, Ns, Poll, State, Suspension, Task, TaskIndex, TaskWake, ThreadIndex};
use crate::events::{PollOutcome, StackId, TaskId, TaskOutcome, TaskSpawn};

/// Where a task is between its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    /// Not known.
    #[default]
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

/// A task while events are read.
#[derive(Debug, Default)]
pub(super) struct TaskTrack {
    phase: Phase,
    await_stack: StackId,
    seen: bool,
    spawned: bool,
    /// When it ended, and how: by its last poll or by its end event, whichever told first.
    ended: Option<(Ns, TaskOutcome)>,
}

impl TaskTrack {
    /// Gives the task its end.
    pub(super) fn finish(&self, task: &mut Task) {
        task.life.open = !(self.spawned && self.ended.is_some());
        if let Some((at, outcome)) = self.ended {
            (task.life.end, task.outcome) = (at, Some(outcome));
        }
    }
}

impl Builder {
    fn task_state(&mut self, task: TaskIndex, at: Ns, state: State, cause: Cause) {
        change(&mut self.trace.tasks[task as usize].states, at, state, cause);
    }

    /// Notes an event of a task. One that had ended goes on: what it did meanwhile is not known.
    #[inline]
    fn task_seen(&mut self, task: TaskIndex, at: Ns) {
        let track = &mut self.tasks[task as usize];
        track.seen = true;
        if track.phase == Phase::Ended
            && let Some((ended, _)) = track.ended.take()
        {
            track.phase = Phase::Unknown;
            self.task_state(task, ended.min(at), State::Unknown, Cause::None);
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
            info.states.clear();
            track.phase = Phase::Runnable(None);
            self.task_state(task, at, State::Runnable, Cause::None);
        } else if let [unknown, first, ..] = info.states.as_slice()
            && unknown.state == State::Unknown
        {
            // Told late, by another thread than the one that polled it first: it did not live before that.
            info.life.begin = first.at;
            info.states.remove(0);
        }
        self.task_seen(task, at);
    }

    pub(super) fn poll_begins(&mut self, thread: ThreadIndex, at: Ns, id: TaskId) {
        let task = self.task(id);
        self.task_seen(task, at);
        let poll = self.trace.polls.len() as u32;
        let phase = self.tasks[task as usize].phase;
        let woken_by = if let Phase::Runnable(wake) = phase { wake } else { None };
        if let Some(wake) = woken_by {
            self.trace.task_wakes[wake as usize].led_to = Some(poll);
        }
        let (time, outcome) = (self.open_from(at), PollOutcome::Unknown);
        self.trace.polls.push(Poll { task, thread, time, outcome, woken_by });
        self.close_suspension(task, at);
        self.tasks[task as usize].phase = Phase::Polled(poll, None);
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
        let Phase::Polled(polled, woken) = track.phase else { return };
        if polled != index {
            return;
        }
        let ended = match outcome {
            PollOutcome::Ready => Some(TaskOutcome::Done),
            PollOutcome::Panicked => Some(TaskOutcome::Panicked),
            PollOutcome::Pending | PollOutcome::Unknown => None,
        };
        if let Some(ended) = track.ended.map(|(_, outcome)| outcome).or(ended) {
            // Its end event may come inside its last poll, or after it.
            (track.phase, track.ended) = (Phase::Ended, Some((at, ended)));
        } else if let Some(wake) = woken {
            track.phase = Phase::Runnable(Some(wake));
            self.task_state(task, at, State::Runnable, Cause::None);
        } else {
            self.suspend(task, at);
        }
    }

    /// A poll whose end was lost: what became of its task is not known.
    pub(super) fn poll_cut(&mut self, poll: u32, at: Ns) {
        self.trace.polls[poll as usize].time.end = at;
        let task = self.trace.polls[poll as usize].task;
        let track = &mut self.tasks[task as usize];
        if matches!(track.phase, Phase::Polled(polled, _) if polled == poll) {
            track.phase = if track.ended.is_some() { Phase::Ended } else { Phase::Unknown };
            self.task_state(task, at, State::Unknown, Cause::None);
        }
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
            let states = &mut self.trace.tasks[task as usize].states;
            states
                .iter_mut()
                .for_each(|first| (first.state, first.cause) = (State::Running, Cause::Poll(poll)));
        }
        self.tasks[task as usize].phase = Phase::Polled(poll, None);
        self.task_state(task, at, State::Running, Cause::Poll(poll));
    }

    fn suspend(&mut self, task: TaskIndex, at: Ns) {
        let index = self.trace.suspensions.len() as u32;
        let (stack, time) = (self.tasks[task as usize].await_stack, self.open_from(at));
        self.trace.suspensions.push(Suspension { task, time, stack });
        self.tasks[task as usize].phase = Phase::Suspended(index);
        self.task_state(task, at, State::Waiting, Cause::Suspension(index));
    }

    fn close_suspension(&mut self, task: TaskIndex, at: Ns) {
        if let Phase::Suspended(index) = self.tasks[task as usize].phase {
            close(&mut self.trace.suspensions[index as usize].time, at);
        }
    }

    pub(super) fn task_woken(&mut self, by_thread: ThreadIndex, at: Ns, id: TaskId, stack: StackId) {
        let task = self.task(id);
        let by_poll = self.poll_of(by_thread);
        let wake = self.trace.task_wakes.len() as u32;
        self.trace.task_wakes.push(TaskWake { at, task, by_thread, by_poll, stack, led_to: None });
        match self.tasks[task as usize].phase {
            Phase::Suspended(_) | Phase::Unknown => {
                self.close_suspension(task, at);
                self.tasks[task as usize].seen = true;
                self.tasks[task as usize].phase = Phase::Runnable(Some(wake));
                self.task_state(task, at, State::Runnable, Cause::None);
            }
            Phase::Polled(poll, None) => self.tasks[task as usize].phase = Phase::Polled(poll, Some(wake)),
            // Wakers outlive their tasks, and a task that is runnable already needs no other wake.
            Phase::Polled(_, Some(_)) | Phase::Runnable(_) | Phase::Ended => {}
        }
    }

    pub(super) fn task_ends(&mut self, at: Ns, id: TaskId, outcome: TaskOutcome) {
        let task = self.task(id);
        self.close_suspension(task, at);
        let track = &mut self.tasks[task as usize];
        track.seen = true;
        let (ended, _) = track.ended.unwrap_or((at, outcome));
        track.ended = Some((ended, outcome));
        if !matches!(track.phase, Phase::Polled(..)) {
            track.phase = Phase::Ended;
        }
    }
}
