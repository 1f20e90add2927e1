//! The states of one thread or task while they are read.
//!
//! The latest one stands apart from those before it: so a change looks at one place only, and what it appends is
//! written without being read, which with ten thousand tasks is half of what reading costs.

use super::{Cause, Ns, State, StateChange};

#[derive(Debug)]
pub(super) struct Track {
    latest: StateChange,
    before: Vec<StateChange>,
}

impl Track {
    /// Of something of which nothing is known yet.
    pub(super) fn unknown() -> Track {
        Track { latest: StateChange { at: 0, state: State::Unknown, cause: Cause::None }, before: Vec::new() }
    }

    pub(super) fn state(&self) -> State {
        self.latest.state
    }

    /// What the present state is about.
    pub(super) fn cause(&self) -> Cause {
        self.latest.cause
    }

    /// Appends a change; one at the same instant replaces the one before, one that changes nothing is left out.
    #[inline]
    pub(super) fn change(&mut self, at: Ns, state: State, cause: Cause) {
        let latest = &mut self.latest;
        if (latest.state, latest.cause) == (state, cause) {
            return;
        }
        if latest.at < at {
            self.before.push(*latest);
            *latest = StateChange { at, state, cause };
            return;
        }
        (latest.state, latest.cause) = (state, cause);
        if self.before.last().is_some_and(|before| (before.state, before.cause) == (state, cause))
            && let Some(before) = self.before.pop()
        {
            self.latest = before;
        }
    }

    /// When the present state began.
    pub(super) fn latest_at(&self) -> Ns {
        self.latest.at
    }

    /// When it begins.
    pub(super) fn begin(&self) -> Ns {
        self.before.first().unwrap_or(&self.latest).at
    }

    /// Forgets what was, and begins at `at`.
    pub(super) fn begin_anew(&mut self, at: Ns, state: State, cause: Cause) {
        self.before.clear();
        self.latest = StateChange { at, state, cause };
    }

    /// What has no cause so far, but for running, has this one.
    pub(super) fn explain(&mut self, state: State, cause: Cause) {
        for change in
            self.before.iter_mut().chain([&mut self.latest]).filter(|change| change.cause == Cause::None)
        {
            change.cause = cause;
            if matches!(change.state, State::Unknown | State::Waiting) {
                change.state = state;
            }
        }
    }

    /// Forgets the beginning of which nothing is known; says where the track begins then.
    pub(super) fn forget_unknown_begin(&mut self) -> Ns {
        if self.before.first().is_some_and(|first| first.state == State::Unknown) {
            self.before.remove(0);
        }
        self.begin()
    }

    pub(super) fn into_states(self) -> Vec<StateChange> {
        let mut states = self.before;
        states.push(self.latest);
        states
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As [`Track::change`], with one list.
    fn naive(states: &mut Vec<StateChange>, at: Ns, state: State) {
        let cause = Cause::None;
        match states.last_mut() {
            Some(last) if last.state == state => {}
            Some(last) if last.at == at => {
                last.state = state;
                let len = states.len();
                if len > 1 && states[len - 2].state == state {
                    states.pop();
                }
            }
            _ => states.push(StateChange { at, state, cause }),
        }
    }

    proptest! {
        #[test]
        fn changes_are_exclusive_ascending_and_differ(steps in prop::collection::vec((0..3u64, 0..4usize), 0..60)) {
            let (mut track, mut naively) = (Track::unknown(), vec![Track::unknown().latest]);
            let mut at = 0;
            for (step, state) in steps {
                at += step;
                track.change(at, State::ALL[state], Cause::None);
                naive(&mut naively, at, State::ALL[state]);
            }
            let states = track.into_states();
            prop_assert!(states.is_sorted_by(|a, b| a.at < b.at && a.state != b.state));
            prop_assert_eq!(states, naively);
        }
    }
}
