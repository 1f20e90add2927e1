//! What threads do: waits, calls, idle times, polls as seen from their thread, and the state that follows.
//!
//! A thread has a stack of what it is inside; its state is that of the innermost one. A parked worker is idle whatever
//! it calls meanwhile (its park is made of those calls); a poll counts as running. Where the kernel's switches are
//! known they have the last word: a thread that was taken off its CPU is runnable, not running.
//!
//! An end whose beginning is missing lasted since the capture's start if it is the thread's first event and nothing
//! was lost; else nobody knows how long, and the interval is empty.

use super::sched::Place;
use super::timeline::{Builder, close};
use super::track::Track;
use super::{CallSpan, Cause, Loss, Ns, PollIndex, State, ThreadIndex, Wait};
use crate::events::{Call, Fd, StackId, ThreadId, WaitKind, WaitOutcome};

/// What a thread is inside: an index into the trace's own tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inside {
    Poll(u32),
    Wait(u32),
    Call(u32),
    Park(u32),
}

/// A thread while events are read.
#[derive(Debug)]
pub(super) struct ThreadTrack {
    pub(super) states: Track,
    pub(super) inside: Vec<Inside>,
    latest: Ns,
    /// It has had an event, or lost one.
    seen: bool,
    /// The present event is its first: what ends now has lasted since the start.
    first: bool,
    /// The poll whose beginning was not seen.
    pub(super) missed_poll: Option<PollIndex>,
    /// It may have no events yet: which thread it is, is looked up at the end.
    pub(super) creator: Option<ThreadId>,
    pub(super) started: bool,
    pub(super) exited: bool,
    pub(super) place: Place,
}

impl ThreadTrack {
    pub(super) fn new() -> ThreadTrack {
        ThreadTrack {
            states: Track::unknown(),
            inside: Vec::new(),
            latest: 0,
            seen: false,
            first: false,
            missed_poll: None,
            creator: None,
            started: false,
            exited: false,
            place: Place::Untold,
        }
    }
}

impl Builder {
    /// An event of a thread says that it runs, unless it is inside something: then the state is that already.
    #[inline]
    pub(super) fn know(&mut self, thread: ThreadIndex, at: Ns) {
        let track = &mut self.threads[thread as usize];
        track.latest = at;
        track.first = !std::mem::replace(&mut track.seen, true);
        let (unknown, exited) = (track.states.state() == State::Unknown, track.exited);
        if unknown {
            self.settle(thread, at);
        }
        if exited {
            self.lives_on(thread, at);
        }
    }

    /// Sets a thread's state to what it is inside.
    #[inline]
    pub(super) fn settle(&mut self, thread: ThreadIndex, at: Ns) {
        let (state, cause) = self.doing(thread);
        self.threads[thread as usize].states.change(at, state, cause);
    }

    fn doing(&self, thread: ThreadIndex) -> (State, Cause) {
        let track = &self.threads[thread as usize];
        let (state, cause) = match track.inside.last() {
            None => (State::Running, Cause::None),
            Some(&Inside::Poll(poll)) => (State::Running, Cause::Poll(poll)),
            Some(&Inside::Park(park)) => (State::Idle, Cause::Park(park)),
            Some(&inside) => match park_around(&track.inside) {
                Some(park) => (State::Idle, Cause::Park(park)),
                None => self.waiting_in(inside),
            },
        };
        match track.place {
            Place::Untold => (state, cause),
            // Also in a call or before a wait: as long as it runs, it doesn't wait.
            Place::On { .. } => (State::Running, cause),
            Place::Wanted => (State::Runnable, cause),
            // It waits for something that no hook saw: a page, a lock in the kernel.
            Place::Off if state == State::Running => (State::Waiting, cause),
            Place::Off => (state, cause),
        }
    }

    fn waiting_in(&self, inside: Inside) -> (State, Cause) {
        match inside {
            Inside::Call(call) => (call_state(self.trace.calls[call as usize].call), Cause::Call(call)),
            // Which kind of wait it is the stacks tell, at the end.
            Inside::Wait(wait) => (State::Blocked, Cause::Wait(wait)),
            Inside::Poll(poll) => (State::Running, Cause::Poll(poll)),
            Inside::Park(park) => (State::Idle, Cause::Park(park)),
        }
    }

    #[inline]
    pub(super) fn enter(&mut self, thread: ThreadIndex, at: Ns, inside: Inside) {
        self.threads[thread as usize].inside.push(inside);
        self.settle(thread, at);
    }

    /// Leaves the innermost thing of a kind; what is inside that is left too, still open: its end was lost.
    #[inline]
    pub(super) fn leave(
        &mut self,
        thread: ThreadIndex,
        at: Ns,
        kind: impl Fn(&Inside) -> Option<u32>,
    ) -> Option<u32> {
        let inside = &self.threads[thread as usize].inside;
        let found = inside.iter().rposition(|inside| kind(inside).is_some())?;
        let index = kind(&inside[found]);
        while let Some(left) = self.threads[thread as usize].inside.pop() {
            if self.threads[thread as usize].inside.len() == found {
                break;
            }
            self.close_open(left, at);
        }
        self.settle(thread, at);
        index
    }

    /// Ends something whose end event is missing: it stays marked open.
    fn close_open(&mut self, inside: Inside, at: Ns) {
        match inside {
            Inside::Poll(poll) => self.poll_cut(poll, at),
            Inside::Wait(wait) => self.trace.waits[wait as usize].time.end = at,
            Inside::Call(call) => self.trace.calls[call as usize].time.end = at,
            Inside::Park(park) => self.trace.parks[park as usize].time.end = at,
        }
    }

    /// When something began whose end comes now and whose beginning is missing. The thread was in it until now, if
    /// this is the first that the trace tells of it.
    pub(super) fn missed_begin(&mut self, thread: ThreadIndex, at: Ns, state: State, cause: Cause) -> Ns {
        if !self.threads[thread as usize].first {
            return at;
        }
        let track = &mut self.threads[thread as usize];
        let begin = track.states.begin();
        match track.place {
            Place::Untold => track.states.begin_anew(begin, state, cause),
            // When it ran meanwhile is known; why it didn't is known now.
            _ => track.states.explain(state, cause),
        }
        self.settle(thread, at);
        begin
    }

    /// As [`Builder::missed_begin`], for a poll that goes on.
    pub(super) fn missed_poll_begin(&mut self, thread: ThreadIndex, at: Ns, poll: PollIndex) -> Option<Ns> {
        if !self.threads[thread as usize].first {
            return None;
        }
        let begin = self.missed_begin(thread, at, State::Running, Cause::Poll(poll));
        self.enter(thread, at, Inside::Poll(poll));
        self.threads[thread as usize].missed_poll = Some(poll);
        Some(begin)
    }

    /// The poll that a thread is in.
    #[inline]
    pub(super) fn poll_of(&self, thread: ThreadIndex) -> Option<PollIndex> {
        self.threads[thread as usize].inside.iter().rev().find_map(|inside| match *inside {
            Inside::Poll(poll) => Some(poll),
            _ => None,
        })
    }

    pub(super) fn wait_begins(&mut self, thread: ThreadIndex, at: Ns, kind: WaitKind, addr: u64) {
        let (in_poll, time) = (self.poll_of(thread), self.open_from(at));
        let (outcome, stack) = (WaitOutcome::Unknown, StackId(0));
        self.trace.waits.push(Wait { thread, in_poll, time, addr, kind, outcome, stack });
        self.enter(thread, at, Inside::Wait(self.trace.waits.len() as u32 - 1));
    }

    pub(super) fn wait_ends(&mut self, thread: ThreadIndex, at: Ns, outcome: WaitOutcome, stack: StackId) {
        let wait = |inside: &Inside| if let Inside::Wait(wait) = *inside { Some(wait) } else { None };
        if let Some(index) = self.leave(thread, at, wait) {
            let wait = &mut self.trace.waits[index as usize];
            close(&mut wait.time, at);
            (wait.outcome, wait.stack) = (outcome, stack);
            return;
        }
        let index = self.trace.waits.len() as u32;
        let begin = self.missed_begin(thread, at, State::Blocked, Cause::Wait(index));
        let mut time = self.open_from(begin);
        time.end = at;
        let (in_poll, kind) = (self.poll_of(thread), WaitKind::Unknown);
        self.trace.waits.push(Wait { thread, in_poll, time, addr: 0, kind, outcome, stack });
    }

    pub(super) fn call_begins(&mut self, thread: ThreadIndex, at: Ns, call: Call, fd: Fd) {
        let (in_poll, time) = (self.poll_of(thread), self.open_from(at));
        self.trace.calls.push(CallSpan { thread, in_poll, time, call, fd, result: 0, stack: StackId(0) });
        self.enter(thread, at, Inside::Call(self.trace.calls.len() as u32 - 1));
    }

    pub(super) fn call_ends(&mut self, thread: ThreadIndex, at: Ns, result: i64, stack: StackId) {
        let call = |inside: &Inside| if let Inside::Call(call) = *inside { Some(call) } else { None };
        if let Some(index) = self.leave(thread, at, call) {
            let call = &mut self.trace.calls[index as usize];
            close(&mut call.time, at);
            (call.result, call.stack) = (result, stack);
            return;
        }
        let index = self.trace.calls.len() as u32;
        let begin = self.missed_begin(thread, at, State::Syscall, Cause::Call(index));
        let mut time = self.open_from(begin);
        time.end = at;
        let (in_poll, call, fd) = (self.poll_of(thread), Call::Unknown, Fd(-1));
        self.trace.calls.push(CallSpan { thread, in_poll, time, call, fd, result, stack });
    }

    pub(super) fn park_ends(&mut self, thread: ThreadIndex, at: Ns) {
        let park = |inside: &Inside| if let Inside::Park(park) = *inside { Some(park) } else { None };
        if let Some(index) = self.leave(thread, at, park) {
            close(&mut self.trace.parks[index as usize].time, at);
            return;
        }
        let index = self.trace.parks.len() as u32;
        let begin = self.missed_begin(thread, at, State::Idle, Cause::Park(index));
        let mut time = self.open_from(begin);
        time.end = at;
        self.trace.parks.push(super::Park { thread, time });
    }

    pub(super) fn thread_starts(
        &mut self,
        thread: ThreadIndex,
        at: Ns,
        tid: u64,
        creator: ThreadId,
        stack: StackId,
    ) {
        let info = &mut self.trace.threads[thread as usize];
        (info.tid, info.creation_stack) = (tid, stack);
        let track = &mut self.threads[thread as usize];
        track.creator = Some(creator);
        if track.first {
            track.started = true;
            info.life.begin = at;
            track.states.begin_anew(at, State::Running, Cause::None);
        }
    }

    pub(super) fn thread_exits(&mut self, thread: ThreadIndex, at: Ns) {
        for inside in std::mem::take(&mut self.threads[thread as usize].inside) {
            self.close_open(inside, at);
        }
        self.settle(thread, at);
        self.threads[thread as usize].exited = true;
        self.trace.threads[thread as usize].life.end = at;
    }

    /// A thread that had told its exit has another event: destructors may run after it.
    #[cold]
    fn lives_on(&mut self, thread: ThreadIndex, at: Ns) {
        self.trace.threads[thread as usize].life.end = at;
    }

    pub(super) fn lost(&mut self, at: Ns, loss: crate::events::Loss) {
        let thread = self.thread(loss.thread);
        self.trace.losses.push(Loss { at, thread, reason: loss.reason, count: loss.count.0 });
    }

    /// Events of a thread are missing: what it did from its latest event to its next one is not known, and what it
    /// was inside may have ended.
    pub(super) fn gap(&mut self, id: ThreadId) {
        let thread = self.thread(id);
        let track = &mut self.threads[thread as usize];
        track.seen = true;
        let latest = track.latest;
        for inside in std::mem::take(&mut track.inside) {
            self.close_open(inside, latest);
        }
        let track = &mut self.threads[thread as usize];
        match track.place {
            Place::Untold => track.states.change(latest, State::Unknown, Cause::None),
            _ => self.settle(thread, latest),
        }
    }
}

/// The park that a thread is in, if what it is in otherwise belongs to that.
fn park_around(inside: &[Inside]) -> Option<u32> {
    inside.iter().rev().find_map(|inside| match *inside {
        Inside::Park(park) => Some(Some(park)),
        Inside::Poll(_) => Some(None),
        _ => None,
    })?
}

/// What a thread does in a call: calls that wait for others are I/O, sleeping is idle.
fn call_state(call: Call) -> State {
    use Call::{
        Accept, Accept4, ClockNanosleep, Connect, EpollPwait, EpollPwait2, EpollWait, Flock, Getaddrinfo,
        Lockf, Nanosleep, Pause, Poll, Ppoll, Pselect, Recv, Recvfrom, Recvmmsg, Recvmsg, Select, Sigsuspend,
        Sigtimedwait, Sigwait, Sigwaitinfo, Sleep, Usleep, Wait, Wait3, Wait4, Waitid, Waitpid,
    };
    match call {
        Nanosleep | ClockNanosleep | Usleep | Sleep => State::Idle,
        Poll | Ppoll | Select | Pselect | EpollWait | EpollPwait | EpollPwait2 | Accept | Accept4
        | Connect | Recv | Recvfrom | Recvmsg | Recvmmsg | Getaddrinfo => State::Io,
        Wait | Wait3 | Wait4 | Waitpid | Waitid | Sigtimedwait | Sigwait | Sigwaitinfo | Sigsuspend
        | Pause | Flock | Lockf => State::Waiting,
        _ => State::Syscall,
    }
}
