//! The trace cut to the capture's window, and its tables put in order.
//!
//! The builder's times may begin before the window, and its tables are in the order in which things became known: one
//! that began before the trace stands where its end was. Here what lies before the window goes, what reaches into
//! it is clipped and open, each table is sorted by begin, and every index follows the thing that it names.
//!
//! Most traces need none of this, and then nothing is copied.

use super::{Cause, Interval, Ns, StateChange, Trace};

/// Cuts `trace` to what is not before `start`, from which its times count afterwards.
pub(super) fn cut(trace: &mut Trace, start: Ns) {
    let places = put_in_order(trace, start);
    if !places.all_kept_theirs() {
        follow(trace, &places);
    }
    if start > 0 {
        clip(trace, start);
    }
    for (states, life) in tracks(trace) {
        // What a track became in the moment of its end lasted no time.
        let keep = 1 + states.get(1..).unwrap_or_default().partition_point(|change| change.at < life.end);
        states.truncate(keep);
    }
}

/// Where the things of one table went.
enum Places {
    /// Nowhere.
    Kept,
    /// The new index by the old one, [`GONE`] for what was taken out.
    Moved(Vec<u32>),
}

const GONE: u32 = u32::MAX;

impl Places {
    fn of(&self, index: u32) -> Option<u32> {
        match self {
            Places::Kept => Some(index),
            Places::Moved(places) => places.get(index as usize).copied().filter(|&place| place != GONE),
        }
    }

    fn follow(&self, index: &mut Option<u32>) {
        *index = index.and_then(|index| self.of(index));
    }

    /// For an index to something that stays, since what names it does.
    fn follow_owner(&self, index: &mut u32) {
        *index = self.of(*index).unwrap_or_default();
    }
}

/// Where everything went that others name.
struct AllPlaces {
    threads: Places,
    tasks: Places,
    polls: Places,
    suspensions: Places,
    task_wakes: Places,
    waits: Places,
    calls: Places,
    parks: Places,
}

impl AllPlaces {
    fn all_kept_theirs(&self) -> bool {
        let AllPlaces { threads, tasks, polls, suspensions, task_wakes, waits, calls, parks } = self;
        let all = [threads, tasks, polls, suspensions, task_wakes, waits, calls, parks];
        all.iter().all(|places| matches!(places, Places::Kept))
    }
}

/// Takes out what does not reach into the window and sorts the rest.
fn put_in_order(trace: &mut Trace, start: Ns) -> AllPlaces {
    let inside = |time: &Interval| time.begin >= start || time.end > start;
    // A wake from before the window stays if the poll that it led to begins in it.
    let kept_wakes: Vec<bool> = match start {
        0 => Vec::new(),
        _ => trace
            .task_wakes
            .iter()
            .map(|wake| wake.at >= start || leads_past(trace, wake.led_to, start))
            .collect(),
    };
    let polls = sort(&mut trace.polls, |_, poll| inside(&poll.time), |poll| poll.time.begin);
    let suspensions =
        sort(&mut trace.suspensions, |_, suspension| inside(&suspension.time), |item| item.time.begin);
    let task_wakes = sort(
        &mut trace.task_wakes,
        |index, _| kept_wakes.get(index).copied().unwrap_or(true),
        |wake| wake.at,
    );
    let waits = sort(&mut trace.waits, |_, wait| inside(&wait.time), |wait| wait.time.begin);
    let calls = sort(&mut trace.calls, |_, call| inside(&call.time), |call| call.time.begin);
    let parks = sort(&mut trace.parks, |_, park| inside(&park.time), |park| park.time.begin);
    sort(&mut trace.wakes, |_, wake| wake.at >= start, |wake| wake.at);
    sort(&mut trace.cpus, |_, slice| inside(&slice.time), |slice| slice.time.begin);
    sort(&mut trace.sched_totals, |_, total| total.at >= start, |total| total.at);
    sort(&mut trace.spans, |_, span| inside(&span.time), |span| span.time.begin);
    sort(&mut trace.logs, |_, log| log.at >= start, |log| log.at);
    let memory = &mut trace.memory;
    sort(&mut memory.allocations, |_, sample| sample.at >= start, |sample| sample.at);
    sort(&mut memory.frees, |_, sample| sample.at >= start, |sample| sample.at);
    sort(&mut memory.mappings, |_, mapping| mapping.at >= start, |mapping| mapping.at);
    sort(&mut memory.heap, |_, reading| reading.at >= start, |reading| reading.at);
    sort(&mut memory.process, |_, reading| reading.at >= start, |reading| reading.at);
    sort(&mut trace.losses, |_, loss| loss.at >= start, |loss| loss.at);
    let (used_threads, used_tasks) = if start > 0 { owners(trace) } else { Default::default() };
    let used = |used: &[bool], index: usize| used.get(index).copied().unwrap_or_default();
    let threads =
        sort(&mut trace.threads, |index, thread| inside(&thread.life) || used(&used_threads, index), |_| 0);
    let tasks = sort(&mut trace.tasks, |index, task| inside(&task.life) || used(&used_tasks, index), |_| 0);
    AllPlaces { threads, tasks, polls, suspensions, task_wakes, waits, calls, parks }
}

fn leads_past(trace: &Trace, poll: Option<u32>, start: Ns) -> bool {
    poll.is_some_and(|poll| trace.polls[poll as usize].time.begin >= start)
}

/// Takes out what `keep` refuses, sorts the rest by `key`, and says where everything went.
fn sort<T>(items: &mut Vec<T>, keep: impl Fn(usize, &T) -> bool, key: impl Fn(&T) -> Ns) -> Places {
    if items.is_sorted_by_key(&key) && items.iter().enumerate().all(|(index, item)| keep(index, item)) {
        return Places::Kept;
    }
    let mut places = vec![GONE; items.len()];
    let mut kept: Vec<(usize, T)> = std::mem::take(items).into_iter().enumerate().collect();
    kept.retain(|(index, item)| keep(*index, item));
    kept.sort_by_key(|(_, item)| key(item));
    for (place, (old, item)) in kept.into_iter().enumerate() {
        places[old] = place as u32;
        items.push(item);
    }
    Places::Moved(places)
}

/// The threads and tasks that something names.
fn owners(trace: &Trace) -> (Vec<bool>, Vec<bool>) {
    let (mut threads, mut tasks) = (vec![false; trace.threads.len()], vec![false; trace.tasks.len()]);
    for poll in &trace.polls {
        (threads[poll.thread as usize], tasks[poll.task as usize]) = (true, true);
    }
    for wake in &trace.task_wakes {
        (threads[wake.by_thread as usize], tasks[wake.task as usize]) = (true, true);
    }
    trace.suspensions.iter().for_each(|suspension| tasks[suspension.task as usize] = true);
    let named = (trace.waits.iter().map(|wait| wait.thread))
        .chain(trace.wakes.iter().map(|wake| wake.thread))
        .chain(trace.calls.iter().map(|call| call.thread))
        .chain(trace.parks.iter().map(|park| park.thread))
        .chain(trace.cpus.iter().map(|slice| slice.thread))
        .chain(trace.sched_totals.iter().map(|total| total.thread))
        .chain(trace.spans.iter().map(|span| span.thread))
        .chain(trace.spans.iter().flat_map(|span| &span.active).map(|stretch| stretch.thread))
        .chain(trace.logs.iter().map(|log| log.thread))
        .chain(trace.memory.allocations.iter().map(|sample| sample.thread))
        .chain(trace.memory.frees.iter().map(|sample| sample.thread))
        .chain(trace.memory.mappings.iter().map(|mapping| mapping.thread))
        .chain(trace.losses.iter().map(|loss| loss.thread));
    named.for_each(|thread| threads[thread as usize] = true);
    (threads, tasks)
}

/// Lets every index follow what it names.
fn follow(trace: &mut Trace, places: &AllPlaces) {
    for (states, _) in tracks(trace) {
        for change in states {
            change.cause = followed(change.cause, places).unwrap_or_default();
        }
    }
    trace.threads.iter_mut().for_each(|thread| places.threads.follow(&mut thread.creator));
    trace.tasks.iter_mut().for_each(|task| places.tasks.follow(&mut task.parent));
    for poll in &mut trace.polls {
        places.threads.follow_owner(&mut poll.thread);
        places.tasks.follow_owner(&mut poll.task);
        places.task_wakes.follow(&mut poll.woken_by);
    }
    trace.suspensions.iter_mut().for_each(|item| places.tasks.follow_owner(&mut item.task));
    for wake in &mut trace.task_wakes {
        places.threads.follow_owner(&mut wake.by_thread);
        places.tasks.follow_owner(&mut wake.task);
        places.polls.follow(&mut wake.by_poll);
        places.polls.follow(&mut wake.led_to);
    }
    threads_follow(trace, places);
    for span in &mut trace.spans {
        places.threads.follow_owner(&mut span.thread);
        places.tasks.follow(&mut span.task);
        for stretch in &mut span.active {
            places.threads.follow_owner(&mut stretch.thread);
            places.tasks.follow(&mut stretch.task);
        }
    }
    for log in &mut trace.logs {
        places.threads.follow_owner(&mut log.thread);
        places.tasks.follow(&mut log.task);
    }
}

fn threads_follow(trace: &mut Trace, places: &AllPlaces) {
    for wait in &mut trace.waits {
        places.threads.follow_owner(&mut wait.thread);
        places.polls.follow(&mut wait.in_poll);
    }
    for wake in &mut trace.wakes {
        places.threads.follow_owner(&mut wake.thread);
        places.polls.follow(&mut wake.in_poll);
    }
    for call in &mut trace.calls {
        places.threads.follow_owner(&mut call.thread);
        places.polls.follow(&mut call.in_poll);
    }
    for sample in &mut trace.memory.allocations {
        places.threads.follow_owner(&mut sample.thread);
        places.polls.follow(&mut sample.in_poll);
    }
    for sample in &mut trace.memory.frees {
        places.threads.follow_owner(&mut sample.thread);
        places.polls.follow(&mut sample.in_poll);
    }
    let mappings = trace.memory.mappings.iter_mut();
    mappings.for_each(|mapping| places.threads.follow_owner(&mut mapping.thread));
    trace.parks.iter_mut().for_each(|park| places.threads.follow_owner(&mut park.thread));
    trace.losses.iter_mut().for_each(|loss| places.threads.follow_owner(&mut loss.thread));
    trace.cpus.iter_mut().for_each(|slice| places.threads.follow_owner(&mut slice.thread));
    trace.sched_totals.iter_mut().for_each(|total| places.threads.follow_owner(&mut total.thread));
}

fn followed(cause: Cause, places: &AllPlaces) -> Option<Cause> {
    match cause {
        Cause::None => None,
        Cause::Poll(poll) => places.polls.of(poll).map(Cause::Poll),
        Cause::Wait(wait) => places.waits.of(wait).map(Cause::Wait),
        Cause::Call(call) => places.calls.of(call).map(Cause::Call),
        Cause::Park(park) => places.parks.of(park).map(Cause::Park),
        Cause::Suspension(suspension) => places.suspensions.of(suspension).map(Cause::Suspension),
    }
}

/// Lets all times count from `start`; what reaches over it began before the capture.
fn clip(trace: &mut Trace, start: Ns) {
    let clip = |time: &mut Interval| {
        time.open |= time.begin < start;
        (time.begin, time.end) = (time.begin.saturating_sub(start), time.end.saturating_sub(start));
    };
    trace.threads.iter_mut().for_each(|thread| clip(&mut thread.life));
    trace.tasks.iter_mut().for_each(|task| clip(&mut task.life));
    trace.polls.iter_mut().for_each(|poll| clip(&mut poll.time));
    trace.suspensions.iter_mut().for_each(|suspension| clip(&mut suspension.time));
    trace.waits.iter_mut().for_each(|wait| clip(&mut wait.time));
    trace.calls.iter_mut().for_each(|call| clip(&mut call.time));
    trace.parks.iter_mut().for_each(|park| clip(&mut park.time));
    trace.cpus.iter_mut().for_each(|slice| clip(&mut slice.time));
    for span in &mut trace.spans {
        clip(&mut span.time);
        span.active.retain(|stretch| stretch.time.end >= start);
        span.active.iter_mut().for_each(|stretch| clip(&mut stretch.time));
    }
    let moments = (trace.task_wakes.iter_mut().map(|wake| &mut wake.at))
        .chain(trace.wakes.iter_mut().map(|wake| &mut wake.at))
        .chain(trace.logs.iter_mut().map(|log| &mut log.at))
        .chain(trace.memory.allocations.iter_mut().map(|sample| &mut sample.at))
        .chain(trace.memory.frees.iter_mut().map(|sample| &mut sample.at))
        .chain(trace.memory.mappings.iter_mut().map(|mapping| &mut mapping.at))
        .chain(trace.memory.heap.iter_mut().map(|reading| &mut reading.at))
        .chain(trace.memory.process.iter_mut().map(|reading| &mut reading.at))
        .chain(trace.losses.iter_mut().map(|loss| &mut loss.at))
        .chain(trace.sched_totals.iter_mut().map(|total| &mut total.at))
        .chain(trace.fd_names.iter_mut().map(|name| &mut name.at));
    moments.for_each(|at| *at = at.saturating_sub(start));
    for counter in &mut trace.counters {
        let before = counter.values.partition_point(|&(at, _)| at <= start);
        // The last value from before the window is the one at its start.
        counter.values.drain(..before.saturating_sub(1));
        counter.values.iter_mut().for_each(|(at, _)| *at = at.saturating_sub(start));
    }
    let labels = (trace.threads.iter_mut().map(|thread| &mut thread.labels))
        .chain(trace.tasks.iter_mut().map(|task| &mut task.labels));
    for changes in labels {
        let before = changes.partition_point(|change| change.at <= start);
        changes.drain(..before.saturating_sub(1));
        changes.iter_mut().for_each(|change| change.at = change.at.saturating_sub(start));
    }
    for (states, _) in tracks(trace) {
        let before = states.partition_point(|change| change.at <= start);
        states.drain(..before.saturating_sub(1));
        states.iter_mut().for_each(|change| change.at = change.at.saturating_sub(start));
    }
}

/// The states and the life of every thread and task.
fn tracks(trace: &mut Trace) -> impl Iterator<Item = (&mut Vec<StateChange>, Interval)> {
    let threads = trace.threads.iter_mut().map(|thread| (&mut thread.states, thread.life));
    threads.chain(trace.tasks.iter_mut().map(|task| (&mut task.states, task.life)))
}
