//! Who waited, and who made them wait.
//!
//! A thread's wait ends when somebody wakes its address, but that one need not have held the lock for long: whoever
//! was woken before may have held it for most of the wait. So each wait is split over the turns inside it (see
//! [`split`](super::split)). Locks of parking_lot and of tokio don't show which lock it was: there a wait is split along
//! the chain of those who handed it on (see [`convoy`](super::convoy)).
//!
//! A thread's wait that lasted less than the header's threshold has a stack with the probability duration / threshold;
//! then it stands for threshold / duration waits, and without one for none: so sums stay unbiased.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;

use super::convoy::{Convoy, Link, Whose, Woken};
use super::queues::{Queued, Queues};
use super::split::{Share, Stretch, Turn, main_turn, split};
use super::waiting;
use crate::events::StackId;
use crate::model::machinery::LockKind;
use crate::model::{Ns, PollIndex, Suspension, TaskIndex, ThreadIndex, Trace, Wait};

/// A thread, and the task that it polled; both may be unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Who {
    /// Index of the thread; a suspended task is on none.
    pub thread: Option<ThreadIndex>,
    /// Index of the task.
    pub task: Option<TaskIndex>,
    /// The labels that it had: a set of [`Trace::label_sets`].
    pub labels: u32,
}

/// Somebody waited, or somebody made others wait.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Contention {
    /// Who.
    pub who: Who,
    /// For what.
    pub waiting: LockKind,
    /// The lock's address, 0 for a task's.
    pub addr: u64,
    /// Index of the suspension, if a task waited.
    pub suspension: Option<u32>,
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
            who: who(trace, wait.thread, wait.in_poll, wait.time.begin),
            waiting,
            addr: wait.addr,
            suspension: None,
            stack: wait.stack,
            share: Share { contentions, delay_ns: contentions * wait.time.duration() as f64 },
        })
    });
    let ended = (0..).zip(&trace.suspensions).filter(|(_, suspension)| !suspension.time.open);
    let tasks = ended.map(|(index, suspension)| Contention {
        who: Who {
            thread: None,
            task: Some(suspension.task),
            labels: trace.label_set_of_task_at(suspension.task, suspension.time.begin),
        },
        waiting: waiting::of_await(&trace.stacks, suspension.stack),
        addr: 0,
        suspension: Some(index),
        stack: suspension.stack,
        share: Share { contentions: 1.0, delay_ns: suspension.time.duration() as f64 },
    });
    // A task that awaits something that nobody knows may await a timer or a socket of its own: it counts for nothing.
    let tasks = tasks.filter(|blocked| blocked.waiting != LockKind::Unknown);
    threads.chain(tasks).filter(|blocked| waiting::is_blocking(blocked.waiting)).collect()
}

/// Whose the time is that was waited for locks. All entries together are all waits for locks that have an end.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Blame {
    /// Of those who held a lock while others waited: an entry for each wake and wait.
    pub held: Vec<Contention>,
    /// Nobody's: the lock was free, and the one that had been woken not yet running.
    pub handing_over: Vec<Contention>,
    /// Not explained: nobody was seen to wake.
    pub unexplained: Vec<Contention>,
}

/// Who held locks that others waited for.
pub fn held(trace: &Trace) -> Vec<Contention> {
    blame(trace).held
}

/// Whose the time is that threads and tasks waited for locks.
pub fn blame(trace: &Trace) -> Blame {
    let mut blame = Blame::default();
    blame_threads(trace, &mut blame);
    blame_tasks(trace, &mut blame);
    for part in [&mut blame.held, &mut blame.handing_over, &mut blame.unexplained] {
        part.retain(|blame| blame.share.contentions > 0.0 || blame.share.delay_ns > 0.0);
    }
    blame
}

/// What was waited for, and by which suspension if by a task.
#[derive(Clone, Copy)]
struct Waited {
    waiting: LockKind,
    addr: u64,
    suspension: Option<u32>,
}

impl Waited {
    fn by_thread(waiting: LockKind, addr: u64) -> Waited {
        Waited { waiting, addr, suspension: None }
    }
}

impl Blame {
    /// Adds what is nobody's: neither who nor where is known.
    fn add_nobodys(&mut self, lock: Waited, handing_over_ns: f64, unexplained: Share) {
        let entry = |share| {
            let (who, stack) = (Who::default(), StackId(0));
            Contention {
                who,
                waiting: lock.waiting,
                addr: lock.addr,
                suspension: lock.suspension,
                stack,
                share,
            }
        };
        self.handing_over.push(entry(Share { contentions: 0.0, delay_ns: handing_over_ns }));
        self.unexplained.push(entry(unexplained));
    }

    /// Adds a wait that is split along a convoy; `waker` tells who called a wake and where.
    fn add_handed<K: Hash + Eq + Copy>(
        &mut self,
        convoy: &Convoy<K>,
        wait: &Link<K>,
        weight: f64,
        lock: Waited,
        waker: impl Fn(u32) -> (Who, StackId),
    ) {
        // The wake that ended the wait has it counted.
        let mut contentions = weight;
        convoy.split(wait, |whose, length| {
            let delay_ns = weight * length as f64;
            match whose {
                Whose::Holder(wake) => {
                    let ((who, stack), share) = (waker(wake), Share { contentions, delay_ns });
                    contentions = 0.0;
                    let Waited { waiting, addr, suspension } = lock;
                    self.held.push(Contention { who, waiting, addr, suspension, stack, share });
                }
                Whose::HandingOver => self.add_nobodys(lock, delay_ns, Share::default()),
                Whose::Unexplained => self.add_nobodys(lock, 0.0, Share { contentions, delay_ns }),
            }
        });
    }
}

/// What a wait is for and how many it stands for, if it counts.
fn counted(trace: &Trace, wait: &Wait) -> Option<(LockKind, f64)> {
    let unseen = wait.time.open && wait.stack == StackId(0);
    let weight = weight(wait, trace.info.wait_stack_ns).filter(|_| !unseen)?;
    Some((waiting::of_wait(&trace.stacks, wait.kind, wait.stack), weight))
}

fn who(trace: &Trace, thread: ThreadIndex, poll: Option<PollIndex>, at: Ns) -> Who {
    let labels = trace.label_set_at(thread, poll, at);
    Who { thread: Some(thread), task: polled(trace, poll), labels }
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
    waiting: LockKind,
    waits: Vec<Stretch>,
}

fn blame_threads(trace: &Trace, blame: &mut Blame) {
    let wakes = wakes_by_address(trace);
    let handed = handed_by_threads(trace, &wakes);
    let waker = |wake: u32| waker(trace, wake);
    let mut locks: BTreeMap<u64, Lock> = BTreeMap::new();
    for (index, wait) in trace.waits.iter().enumerate() {
        let Some((waiting, weight)) = counted(trace, wait).filter(|(waiting, _)| waiting.is_lock()) else {
            continue;
        };
        if let Some(link) = handed.links.get(&(index as u32)) {
            blame.add_handed(&handed.convoy, link, weight, Waited::by_thread(waiting, wait.addr), waker);
            continue;
        }
        let lock = locks.entry(wait.addr).or_insert_with(|| Lock { waiting, waits: Vec::new() });
        lock.waits.push(Stretch { begin: wait.time.begin, end: wait.time.end, weight });
    }
    let turns = Turns::new(trace);
    for (addr, Lock { waiting, waits }) in locks {
        let wakes = wakes.get(&addr).map_or(&[][..], Vec::as_slice);
        let split = split(&turns.of(trace, addr, wakes), &waits);
        blame.held.extend(wakes.iter().zip(split.turns).map(|(&wake, share)| {
            let (who, stack) = waker(wake);
            Contention { who, waiting, addr, suspension: None, stack, share }
        }));
        blame.add_nobodys(Waited::by_thread(waiting, addr), split.handing_over_ns, split.unexplained);
    }
}

/// When each thread went on after its waits.
struct Turns {
    /// The ends of its waits on an address, ascending.
    ends: HashMap<(ThreadIndex, u64), Vec<Ns>>,
}

impl Turns {
    fn new(trace: &Trace) -> Turns {
        let mut ends: HashMap<_, Vec<Ns>> = HashMap::new();
        for wait in &trace.waits {
            // A thread's waits come one after the other, so by begin is by end.
            ends.entry((wait.thread, wait.addr)).or_default().push(wait.time.end);
        }
        Turns { ends }
    }

    /// The turns that the wakes of an address ended.
    fn of(&self, trace: &Trace, addr: u64, wakes: &[u32]) -> Vec<Turn> {
        let mut before = 0;
        let mut turn = |&wake: &u32| {
            let wake = &trace.wakes[wake as usize];
            let ends = self.ends.get(&(wake.thread, addr)).map_or(&[][..], Vec::as_slice);
            let went_on = ends[..ends.partition_point(|&end| end <= wake.at)].last().copied().unwrap_or(0);
            let since = went_on.max(before);
            before = wake.at;
            Turn { since, until: wake.at }
        };
        wakes.iter().map(&mut turn).collect()
    }
}

/// Who called a wake, and where.
fn waker(trace: &Trace, wake: u32) -> (Who, StackId) {
    let wake = &trace.wakes[wake as usize];
    (who(trace, wake.thread, wake.in_poll, wake.at), wake.stack)
}

/// Threads' waits for locks that don't show themselves.
struct Handed {
    /// By index of the wait.
    links: HashMap<u32, Link<ThreadIndex>>,
    convoy: Convoy<ThreadIndex>,
}

/// The stacks of waits for locks that don't show themselves.
fn stacks_of_handed_on(trace: &Trace) -> HashSet<StackId> {
    let stacks: HashSet<StackId> = trace.waits.iter().map(|wait| wait.stack).collect();
    stacks.into_iter().filter(|&stack| waiting::is_handed_on(&trace.stacks, stack)).collect()
}

fn handed_by_threads(trace: &Trace, wakes: &HashMap<u64, Vec<u32>>) -> Handed {
    let mut links = HashMap::new();
    let (mut in_order, mut queued) = (Vec::new(), Vec::new());
    let handed_on = stacks_of_handed_on(trace);
    let before = Moments::of(trace, &handed_on);
    for (index, wait) in trace.waits.iter().enumerate() {
        if !handed_on.contains(&wait.stack) {
            continue;
        }
        let last = wakes.get(&wait.addr).and_then(|wakes| {
            let until = wakes.partition_point(|&wake| trace.wakes[wake as usize].at <= wait.time.end);
            wakes[..until].last().copied().filter(|&wake| trace.wakes[wake as usize].at >= wait.time.begin)
        });
        let woken = last.map(|wake| {
            let woke = &trace.wakes[wake as usize];
            Woken { at: woke.at, by: Some(woke.thread), wake }
        });
        let (begin, end) = (wait.time.begin, wait.time.end);
        let link = Link { number: queued.len() as u32, begin, end, on: end, woken };
        let released = woken.map(|woken| trace.wakes[woken.wake as usize].stack);
        let told = waiting::of_wait(&trace.stacks, wait.kind, wait.stack);
        queued.push(Queued {
            waiting: told,
            waits_at: trace.stacks.user_address(wait.stack),
            // Its mutex lets on whoever has queued first; its other locks may not.
            released_at: released
                .filter(|_| told == LockKind::Mutex)
                .map(|stack| trace.stacks.user_address(stack)),
            after: before.latest(wait.thread, begin),
            by: begin,
            granted: woken.map_or(end, |woken| woken.at),
        });
        links.insert(index as u32, link);
        // A thread's waits come one after the other, so by begin is by end.
        in_order.push((wait.thread, link));
    }
    Handed { links, convoy: Convoy::new(in_order.into_iter(), Queues::new(queued)) }
}

/// When threads that wait for locks that don't show themselves did something that was recorded.
struct Moments {
    /// Ascending, by thread.
    of: HashMap<ThreadIndex, Vec<Ns>>,
}

impl Moments {
    fn of(trace: &Trace, handed_on: &HashSet<StackId>) -> Moments {
        let handed = trace.waits.iter().filter(|wait| handed_on.contains(&wait.stack));
        let mut of: HashMap<ThreadIndex, Vec<Ns>> = handed.map(|wait| (wait.thread, Vec::new())).collect();
        let waits = trace.waits.iter().map(|wait| (wait.thread, wait.time.end));
        let wakes = trace.wakes.iter().map(|wake| (wake.thread, wake.at));
        let calls = trace.calls.iter().map(|call| (call.thread, call.time.end));
        for (thread, at) in waits.chain(wakes).chain(calls) {
            if let Some(moments) = of.get_mut(&thread) {
                moments.push(at);
            }
        }
        of.values_mut().for_each(|moments| moments.sort_unstable());
        Moments { of }
    }

    /// The latest one of a thread before `at`; 0 if there is none.
    fn latest(&self, thread: ThreadIndex, at: Ns) -> Ns {
        let moments = self.of.get(&thread).map_or(&[][..], Vec::as_slice);
        moments[..moments.partition_point(|&moment| moment < at)].last().copied().unwrap_or(0)
    }
}

/// The thread that is blamed for most of each wait, by index of the wait.
pub fn holders(trace: &Trace) -> Vec<Option<ThreadIndex>> {
    let wakes = wakes_by_address(trace);
    let handed = handed_by_threads(trace, &wakes);
    let turns = Turns::new(trace);
    let turns: HashMap<u64, Vec<Turn>> =
        wakes.iter().map(|(&addr, wakes)| (addr, turns.of(trace, addr, wakes))).collect();
    let main = |(index, wait): (usize, &Wait)| match handed.links.get(&(index as u32)) {
        Some(link) => {
            let mut most = (0, None);
            handed.convoy.split(link, |whose, length| {
                if let Whose::Holder(wake) = whose {
                    most = most.max((length, Some(wake)));
                }
            });
            most.1
        }
        None => {
            let main = main_turn(turns.get(&wait.addr)?, wait.time.begin, wait.time.end)?;
            Some(wakes[&wait.addr][main])
        }
    };
    let holder = |wake: u32| trace.wakes[wake as usize].thread;
    trace.waits.iter().enumerate().map(|wait| main(wait).map(holder)).collect()
}

/// A task's wait for an async lock: from its suspension to the wake that ended it.
struct TaskWait {
    suspension: u32,
    waiting: LockKind,
    link: Link<TaskIndex>,
}

fn blame_tasks(trace: &Trace, blame: &mut Blame) {
    let waits = task_waits(trace);
    let queues = Queues::new(queued(trace, &waits));
    let convoy = Convoy::new(
        waits.iter().map(|wait| (trace.suspensions[wait.suspension as usize].task, wait.link)),
        queues,
    );
    let waker = |wake: u32| {
        let wake = &trace.task_wakes[wake as usize];
        (who(trace, wake.by_thread, wake.by_poll, wake.at), wake.stack)
    };
    for wait in &waits {
        let waited = Waited { waiting: wait.waiting, addr: 0, suspension: Some(wait.suspension) };
        blame.add_handed(&convoy, &wait.link, 1.0, waited, waker);
    }
}

fn task_waits(trace: &Trace) -> Vec<TaskWait> {
    let mut wakes: HashMap<(TaskIndex, Ns), u32> = HashMap::new();
    for (index, wake) in trace.task_wakes.iter().enumerate() {
        wakes.entry((wake.task, wake.at)).or_insert(index as u32);
    }
    let link = |number: u32, wait: &Suspension| {
        let wake = wakes.get(&(wait.task, wait.time.end)).copied();
        let woken = wake.map(|wake| {
            let woke = &trace.task_wakes[wake as usize];
            Woken { at: woke.at, by: polled(trace, woke.by_poll), wake }
        });
        let (begin, end) = (wait.time.begin, wait.time.end);
        let poll = wake.and_then(|wake| trace.polls.get(trace.task_wakes[wake as usize].led_to? as usize));
        Link { number, begin, end, on: poll.map_or(end, |poll| poll.time.begin.max(end)), woken }
    };
    let ended = (0..).zip(&trace.suspensions).filter(|(_, wait)| !wait.time.open);
    let told = ended.map(|(index, wait)| (index, wait, waiting::of_await(&trace.stacks, wait.stack)));
    (0..)
        .zip(told.filter(|(_, _, waiting)| waiting.is_lock()))
        .map(|(number, (suspension, wait, waiting))| TaskWait {
            suspension,
            waiting,
            link: link(number, wait),
        })
        .collect()
}

/// When each of the waits was queued, and for what, as far as the lines tell.
fn queued(trace: &Trace, waits: &[TaskWait]) -> Vec<Queued> {
    let of = |wait: &TaskWait| &trace.suspensions[wait.suspension as usize];
    // A suspension begins when the poll that queued ends.
    let mut begins: HashMap<(TaskIndex, Ns), Ns> =
        waits.iter().map(|wait| ((of(wait).task, of(wait).time.begin), 0)).collect();
    for poll in &trace.polls {
        if let Some(begin) = begins.get_mut(&(poll.task, poll.time.end)) {
            *begin = poll.time.begin;
        }
    }
    let queued = |wait: &TaskWait| {
        let Suspension { task, time, stack } = *of(wait);
        let release = wait.link.woken.map(|woken| trace.task_wakes[woken.wake as usize].stack);
        let release = release.filter(|&stack| waiting::is_fair_release(&trace.stacks, stack));
        Queued {
            waiting: wait.waiting,
            waits_at: trace.stacks.user_address(stack),
            released_at: release.map(|stack| trace.stacks.user_address(stack)),
            after: begins.get(&(task, time.begin)).copied().unwrap_or(0),
            by: time.begin,
            granted: time.end,
        }
    };
    waits.iter().map(queued).collect()
}
