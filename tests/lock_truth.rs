//! Waits, as recorded, are what the program's own clocks say; what was waited for and who ended it are named right.
//!
//! Every lock and channel of std, parking_lot, crossbeam, pthread and tokio is waited for, all at the same time: one
//! thread or task holds (or owes) it for a while, another waits and looks at its clock before and after.

#![cfg(all(feature = "hooks", feature = "tokio", feature = "analysis"))]
#![allow(unsafe_code, reason = "the locks of C programs")]

#[path = "lock_truth/tasks.rs"]
mod tasks;
#[path = "lock_truth/threads.rs"]
mod threads;

mod recorded;
mod watched;

use std::time::Duration;

use kymo::analysis::contention;
use kymo::events::StackId;
use kymo::model::Trace;
use kymo::model::machinery::LockKind;

/// How long each planted holder makes the other wait.
const HELD: Duration = Duration::from_millis(400);

/// Who makes a wait end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// Whoever holds the lock: the mutex profile names it.
    Holder,
    /// Whoever sends, notifies, unparks: the wake names it.
    Waker,
    /// The kernel: a timer, a socket, a thread that is gone.
    Kernel,
}

/// A wait that the program has measured itself.
struct Planted {
    /// The path of the two functions `wait` and `end`.
    path: &'static str,
    kind: LockKind,
    ends: Ends,
    waited_ns: f64,
    /// How much of that it would have run, but for other threads of the machine: what is spent before the kernel is
    /// asked to wait, or after it has woken.
    delayed_ns: f64,
}

impl Planted {
    /// Whether a stack passes through one of the two functions.
    fn passes(&self, trace: &Trace, stack: StackId, function: &str) -> bool {
        let function = format!("{}::{function}", self.path);
        trace.stacks.frames(stack).any(|frame| frame.function.contains(&function))
    }

    #[track_caller]
    fn agrees(&self, what: &str, recorded_ns: f64) {
        let Planted { path, waited_ns, delayed_ns, .. } = self;
        println!("truth {path} {what} {:.4} delayed {delayed_ns}", recorded_ns / waited_ns);
        let off = (recorded_ns - waited_ns).abs();
        assert!(
            off < 0.02 * waited_ns + delayed_ns,
            "{path}: {what} {recorded_ns} ns, its clock says {waited_ns} ns ({delayed_ns} ns delayed)"
        );
    }

    /// The holder's part of the mutex profile is the whole wait, and the waiter has none.
    fn has_its_holder_named(&self, trace: &Trace) {
        let blamed = |function: &str| {
            let held = contention::held(trace).into_iter();
            let of = held.filter(|blame| self.passes(trace, blame.stack, function));
            of.map(|blame| (blame.waiting, blame.share.delay_ns)).collect::<Vec<_>>()
        };
        let held = blamed("end");
        let of = |kind| -> f64 {
            held.iter().filter(|(is, _)| (*is == self.kind) == kind).map(|(_, ns)| ns).sum()
        };
        // The threads that tell each other when also meet for some microseconds at locks of std's own.
        assert!(of(false) < 0.01 * self.waited_ns, "{}: {held:?}", self.path);
        self.agrees("held", of(true));
        assert!(blamed("wait").is_empty(), "{}: {:?}", self.path, blamed("wait"));
    }
}

#[test]
fn threads_wait_as_long_as_their_clocks_say_and_for_what_they_do() {
    watched::in_child(|| {
        threads::are_told_truly();
    });
}

#[test]
fn tasks_wait_as_long_as_their_clocks_say_and_for_what_they_do() {
    watched::in_child(|| {
        tasks::are_told_truly();
    });
}

#[test]
fn each_of_several_parking_lot_locks_has_its_own_holder() {
    watched::in_child(|| {
        threads::nested_holders_are_told_apart();
    });
}

#[test]
fn each_of_several_async_locks_has_its_own_holder() {
    watched::in_child(|| {
        tasks::nested_holders_are_told_apart();
    });
}
