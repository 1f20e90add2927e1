//! Who waited, and who made them wait.
//!
//! A thread's wait ends when somebody wakes its address, but that one need not have held the lock for long: whoever
//! was woken before may have held it for most of the wait. So each wait is split over the wakes inside it (see
//! [`split`](super::split)). Locks that park each thread on an address of its own (parking_lot's) show one wake a wait:
//! there the last unlocker is all that is known.
//!
//! A task waits for an async lock from its suspension to the wake that ended it, and such locks are handed on in
//! order. Who woke it held the lock since it was woken itself, and who woke that one before: so the wait is split
//! along that chain.
//!
//! A thread's wait that lasted less than the header's threshold has a stack with the probability duration / threshold;
//! then it stands for threshold / duration waits, and without one for none: so sums stay unbiased.

use std::collections::{BTreeMap, HashMap};

use super::split::{Share, Stretch, main_wake, split};
use super::waiting::{self, Waiting};
use crate::events::StackId;
use crate::model::{Ns, PollIndex, Suspension, TaskIndex, TaskWake, ThreadIndex, Trace, Wait};

/// A thread, and the task that it polled; both may be unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Who {
    /// Index of the thread; a suspended task is on none.
    pub thread: Option<ThreadIndex>,
    /// Index of the task.
    pub task: Option<TaskIndex>,
}

/// Somebody waited, or somebody made others wait.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Contention {
    /// Who.
    pub who: Who,
    /// For what.
    pub waiting: Waiting,
    /// The lock's address, 0 for a task's.
    pub addr: u64,
    /// Where the waiter waited, or the holder woke; 0 if that is not known.
    pub stack: StackId,
    /// How many waits, and how much time.
    pub share: Share,
}

/// How many waits a wait stands for; `None` if others stand for it.
pub fn weight(wait: &Wait, threshold_ns: u64) -> Option<f64> {
    let duration = wait.time.duration();
    match wait.stack {
        _ if duration >= threshold_ns => Some(1.0),
        StackId(0) => None,
        _ => Some(threshold_ns as f64 / duration.max(1) as f64),
    }
}

/// Everything that another part of the program kept waiting: threads by their waits, tasks by their suspensions, each
/// by itself.
///
/// Left out are idle workers (they wait for work), time that passes, sockets, and waits that had not ended.
pub fn blocked(trace: &Trace) -> Vec<Contention> {
    let parks = Parks::new(trace);
    let threads = trace.waits.iter().filter(|wait| !parks.hold(wait)).filter_map(|wait| {
        let (waiting, contentions) = counted(trace, wait)?;
        Some(Contention {
            who: Who { thread: Some(wait.thread), task: polled(trace, wait.in_poll) },
            waiting,
            addr: wait.addr,
            stack: wait.stack,
            share: Share { contentions, delay_ns: contentions * wait.time.duration() as f64 },
        })
    });
    let tasks =
        trace.suspensions.iter().filter(|suspension| !suspension.time.open).map(|suspension| Contention {
            who: Who { thread: None, task: Some(suspension.task) },
            waiting: waiting::of_await(&trace.stacks, suspension.stack),
            addr: 0,
            stack: suspension.stack,
            share: Share { contentions: 1.0, delay_ns: suspension.time.duration() as f64 },
        });
    // A task that awaits something that nobody knows may await a timer or a socket of its own: it counts for nothing.
    let tasks = tasks.filter(|blocked| blocked.waiting != Waiting::Unknown);
    threads.chain(tasks).filter(|blocked| blocked.waiting.is_blocking()).collect()
}

/// Who held locks that others waited for: one entry for each wake that is blamed, and one for each lock whose unlock
/// was not seen.
pub fn held(trace: &Trace) -> Vec<Contention> {
    let mut held = held_by_threads(trace);
    held.extend(held_by_tasks(trace));
    held
}

/// What a wait is for and how many it stands for, if it counts.
fn counted(trace: &Trace, wait: &Wait) -> Option<(Waiting, f64)> {
    let unseen = wait.time.open && wait.stack == StackId(0);
    let weight = weight(wait, trace.info.wait_stack_ns).filter(|_| !unseen)?;
    Some((waiting::of_wait(&trace.stacks, wait.kind, wait.stack), weight))
}

fn polled(trace: &Trace, poll: Option<PollIndex>) -> Option<TaskIndex> {
    trace.polls.get(poll? as usize).map(|poll| poll.task)
}

/// When each thread, as a worker, had nothing to do.
struct Parks {
    /// Begin and end, ascending, by thread.
    of: Vec<Vec<(Ns, Ns)>>,
}

impl Parks {
    fn new(trace: &Trace) -> Parks {
        let mut of = vec![Vec::new(); trace.threads.len()];
        for park in &trace.parks {
            if let Some(parks) = of.get_mut(park.thread as usize) {
                parks.push((park.time.begin, park.time.end));
            }
        }
        Parks { of }
    }

    fn hold(&self, wait: &Wait) -> bool {
        let Some(parks) = self.of.get(wait.thread as usize) else { return false };
        let before = parks.partition_point(|&(begin, _)| begin <= wait.time.begin);
        parks[..before].last().is_some_and(|&(_, end)| wait.time.end <= end)
    }
}

/// The wakes of each address, as indices into [`Trace::wakes`], ascending in time.
fn wakes_by_address(trace: &Trace) -> HashMap<u64, Vec<u32>> {
    let mut by_address: HashMap<u64, Vec<u32>> = HashMap::new();
    for (index, wake) in trace.wakes.iter().enumerate() {
        by_address.entry(wake.addr).or_default().push(index as u32);
    }
    by_address
}

/// The waits for one lock.
struct Lock {
    waiting: Waiting,
    waits: Vec<Stretch>,
}

fn held_by_threads(trace: &Trace) -> Vec<Contention> {
    let mut locks: BTreeMap<u64, Lock> = BTreeMap::new();
    for wait in &trace.waits {
        let Some((waiting, weight)) = counted(trace, wait).filter(|(waiting, _)| waiting.is_lock()) else {
            continue;
        };
        let lock = locks.entry(wait.addr).or_insert_with(|| Lock { waiting, waits: Vec::new() });
        lock.waits.push(Stretch { begin: wait.time.begin, end: wait.time.end, weight });
    }
    let wakes = wakes_by_address(trace);
    let mut held = Vec::new();
    for (addr, lock) in locks {
        let wakes = wakes.get(&addr).map_or(&[][..], Vec::as_slice);
        let times: Vec<Ns> = wakes.iter().map(|&wake| trace.wakes[wake as usize].at).collect();
        let (shares, nobody) = split(&times, &lock.waits);
        let blame = |who, stack, share| Contention { who, waiting: lock.waiting, addr, stack, share };
        for (&wake, share) in wakes.iter().zip(shares) {
            let wake = &trace.wakes[wake as usize];
            let who = Who { thread: Some(wake.thread), task: polled(trace, wake.in_poll) };
            held.push(blame(who, wake.stack, share));
        }
        held.push(blame(Who::default(), StackId(0), nobody));
    }
    held.retain(|blame| blame.share.contentions > 0.0 || blame.share.delay_ns > 0.0);
    held
}

/// The thread that is blamed for most of each wait, by index of the wait.
pub fn holders(trace: &Trace) -> Vec<Option<ThreadIndex>> {
    let wakes = wakes_by_address(trace);
    let times: HashMap<u64, Vec<Ns>> = wakes
        .iter()
        .map(|(&addr, wakes)| (addr, wakes.iter().map(|&wake| trace.wakes[wake as usize].at).collect()))
        .collect();
    let holder = |wait: &Wait| {
        let main = main_wake(times.get(&wait.addr)?, wait.time.begin, wait.time.end)?;
        Some(trace.wakes[wakes[&wait.addr][main] as usize].thread)
    };
    trace.waits.iter().map(holder).collect()
}

/// Tasks' waits for async locks, and the wakes that ended them.
struct Convoys<'a> {
    trace: &'a Trace,
    /// By task and the time at which it was woken.
    wakes: HashMap<(TaskIndex, Ns), &'a TaskWake>,
    /// Each task's waits for locks, by end.
    waits: HashMap<TaskIndex, Vec<&'a Suspension>>,
}

impl<'a> Convoys<'a> {
    fn new(trace: &'a Trace) -> Convoys<'a> {
        let mut wakes = HashMap::new();
        for wake in &trace.task_wakes {
            wakes.entry((wake.task, wake.at)).or_insert(wake);
        }
        let mut waits: HashMap<TaskIndex, Vec<&Suspension>> = HashMap::new();
        let ended = trace.suspensions.iter().filter(|suspension| !suspension.time.open);
        for wait in ended.filter(|wait| waiting::of_await(&trace.stacks, wait.stack).is_lock()) {
            // A task's suspensions come one after the other, so by begin is by end.
            waits.entry(wait.task).or_default().push(wait);
        }
        Convoys { trace, wakes, waits }
    }

    fn ended_by(&self, wait: &Suspension) -> Option<&'a TaskWake> {
        self.wakes.get(&(wait.task, wait.time.end)).copied()
    }

    /// The wait for a lock from which a task came when it woke another one: since then it held the lock.
    fn before(&self, wake: &TaskWake) -> Option<&'a Suspension> {
        let waits = self.waits.get(&polled(self.trace, wake.by_poll)?)?;
        let ended = waits.partition_point(|wait| wait.time.end < wake.at);
        waits[..ended].last().copied()
    }

    /// Calls `blame` for each stretch of a wait: the wake that ended it, and how long it was.
    fn split(&self, wait: &Suspension, mut blame: impl FnMut(Option<&'a TaskWake>, Ns)) {
        let mut until = wait.time.end;
        let mut wake = self.ended_by(wait);
        while let Some(woke) = wake {
            let Some(before) = self.before(woke).filter(|before| before.time.end > wait.time.begin) else {
                break;
            };
            blame(wake, until - before.time.end);
            until = before.time.end;
            wake = self.ended_by(before);
        }
        blame(wake, until - wait.time.begin);
    }
}

fn held_by_tasks(trace: &Trace) -> Vec<Contention> {
    let convoys = Convoys::new(trace);
    let mut held = Vec::new();
    for wait in convoys.waits.values().flatten() {
        let waiting = waiting::of_await(&trace.stacks, wait.stack);
        let mut contentions = 1.0;
        convoys.split(wait, |wake, delay| {
            let who = wake.map_or(Who::default(), |wake| Who {
                thread: Some(wake.by_thread),
                task: polled(trace, wake.by_poll),
            });
            let stack = wake.map_or(StackId(0), |wake| wake.stack);
            let share = Share { contentions, delay_ns: delay as f64 };
            held.push(Contention { who, waiting, addr: 0, stack, share });
            contentions = 0.0;
        });
    }
    held
}
