//! What led to a slice and what it led to: the arrows from who wakes to who goes on.
//!
//! [`Links::of`] orders a trace's wakes once, by lock and by thread; [`Links::arrows`] then finds the direct
//! neighbours of one slice, never their closure. A wait that somebody ended is paired with the last wake of its address
//! within it; a suspension with the wake at its end, a poll with the wake that the model names.

use std::collections::HashMap;

use super::rows::{RowKey, Rows, Slice, SliceKind};
use crate::events::{StackId, WaitOutcome};
use crate::model::{Ns, Trace, Wait};

/// One end of an arrow: an instant, and the rows that show it, the most telling first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// When.
    pub at: Ns,
    /// Where.
    pub rows: Vec<RowKey>,
}

/// Whether an arrow ends at the slice that was asked for, or begins there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Somebody woke it.
    Into,
    /// It woke somebody.
    OutOf,
}

/// Somebody wakes, somebody goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrow {
    /// As the slice that was asked for sees it.
    pub direction: Direction,
    /// Who wakes.
    pub from: Place,
    /// Who goes on.
    pub to: Place,
    /// Where in the code it was woken.
    pub stack: StackId,
}

/// A trace's wakes, ordered for look-ups.
#[derive(Debug, Clone, Default)]
pub struct Links {
    /// Wakes of threads by the thread that wakes.
    wakes: Vec<Vec<u32>>,
    /// Wakes of tasks by the thread that wakes.
    task_wakes: Vec<Vec<u32>>,
    /// The wake that ended each wait, `u32::MAX` for none.
    ended_by: Vec<u32>,
    /// Wake and wait that it ended, ascending.
    ended: Vec<(u32, u32)>,
}

impl Links {
    /// Orders the wakes: one pass over each table.
    pub fn of(trace: &Trace) -> Links {
        let empty = || vec![Vec::new(); trace.threads.len()];
        let mut links = Links { wakes: empty(), task_wakes: empty(), ..Links::default() };
        let mut by_addr: HashMap<u64, Vec<u32>> = HashMap::new();
        for (index, wake) in trace.wakes.iter().enumerate() {
            by_addr.entry(wake.addr).or_default().push(index as u32);
            links.wakes[wake.thread as usize].push(index as u32);
        }
        for (index, wake) in trace.task_wakes.iter().enumerate() {
            links.task_wakes[wake.by_thread as usize].push(index as u32);
        }
        for (index, wait) in trace.waits.iter().enumerate() {
            let wake = by_addr.get(&wait.addr).and_then(|wakes| last_wake(trace, wakes, wait));
            links.ended_by.push(wake.unwrap_or(u32::MAX));
            links.ended.extend(wake.map(|wake| (wake, index as u32)));
        }
        links.ended.sort_unstable();
        links
    }

    /// The wake that ended a wait, if somebody did.
    pub fn ended_by(&self, wait: u32) -> Option<u32> {
        self.ended_by.get(wait as usize).copied().filter(|&wake| wake != u32::MAX)
    }

    /// The direct neighbours of a slice of the row `key`: at most `limit` arrows, and how many there are.
    pub fn arrows(
        &self,
        trace: &Trace,
        rows: &Rows,
        key: RowKey,
        slice: &Slice,
        limit: usize,
    ) -> (Vec<Arrow>, usize) {
        let mut arrows = Vec::new();
        let mut count = 0;
        let mut add = |arrow: Arrow| {
            count += 1;
            if arrows.len() < limit {
                arrows.push(arrow);
            }
        };
        match slice.kind {
            SliceKind::Wait => self.before_wait(trace, rows, slice.index).into_iter().for_each(&mut add),
            SliceKind::Suspension => {
                before_suspension(trace, rows, slice.index).into_iter().for_each(&mut add)
            }
            SliceKind::Poll => before_poll(trace, rows, slice.index).into_iter().for_each(&mut add),
            _ => {}
        }
        if let Some(thread) = thread_of(trace, key, slice) {
            self.out_of(trace, rows, thread, slice, &mut add);
        }
        (arrows, count)
    }

    fn before_wait(&self, trace: &Trace, rows: &Rows, index: u32) -> Option<Arrow> {
        let wait = &trace.waits[index as usize];
        let wake = &trace.wakes[self.ended_by(index)? as usize];
        Some(Arrow {
            direction: Direction::Into,
            from: place_on_thread(trace, rows, wake.thread, wake.in_poll, wake.at),
            to: Place { at: wait.time.end, rows: wait_rows(rows, trace, index) },
            stack: wake.stack,
        })
    }

    /// What a thread woke during a slice.
    fn out_of(&self, trace: &Trace, rows: &Rows, thread: u32, slice: &Slice, add: &mut impl FnMut(Arrow)) {
        let wakes = &self.task_wakes[thread as usize];
        for &index in between(wakes, slice, |index| trace.task_wakes[index as usize].at) {
            let wake = &trace.task_wakes[index as usize];
            let Some(poll) = wake.led_to else { continue };
            add(Arrow {
                direction: Direction::OutOf,
                from: place_on_thread(trace, rows, thread, wake.by_poll, wake.at),
                to: poll_place(trace, rows, poll),
                stack: wake.stack,
            });
        }
        let wakes = &self.wakes[thread as usize];
        for &index in between(wakes, slice, |index| trace.wakes[index as usize].at) {
            let wake = &trace.wakes[index as usize];
            for wait in self.waits_ended(index) {
                add(Arrow {
                    direction: Direction::OutOf,
                    from: place_on_thread(trace, rows, thread, wake.in_poll, wake.at),
                    to: Place { at: trace.waits[wait as usize].time.end, rows: wait_rows(rows, trace, wait) },
                    stack: wake.stack,
                });
            }
        }
    }

    /// The waits that a wake ended.
    fn waits_ended(&self, wake: u32) -> impl Iterator<Item = u32> {
        let first = self.ended.partition_point(|pair| pair.0 < wake);
        self.ended[first..].iter().take_while(move |pair| pair.0 == wake).map(|pair| pair.1)
    }
}

/// The last wake, of those of its address, that another thread made during the wait.
fn last_wake(trace: &Trace, wakes: &[u32], wait: &Wait) -> Option<u32> {
    if wait.outcome != WaitOutcome::Woken {
        return None;
    }
    let until = wakes.partition_point(|&wake| trace.wakes[wake as usize].at <= wait.time.end);
    wakes[..until]
        .iter()
        .rev()
        .map(|&index| (index, &trace.wakes[index as usize]))
        .take_while(|(_, wake)| wake.at >= wait.time.begin)
        .find(|(_, wake)| wake.thread != wait.thread && wake.woken > 0)
        .map(|(index, _)| index)
}

/// The wakes that lie in a slice, of a list in time order.
fn between<'a>(wakes: &'a [u32], slice: &Slice, at: impl Fn(u32) -> Ns) -> &'a [u32] {
    let first = wakes.partition_point(|&wake| at(wake) < slice.begin);
    let after = wakes.partition_point(|&wake| at(wake) < slice.end.max(slice.begin + 1));
    &wakes[first..after]
}

fn before_poll(trace: &Trace, rows: &Rows, index: u32) -> Option<Arrow> {
    let wake = &trace.task_wakes[trace.polls[index as usize].woken_by? as usize];
    Some(Arrow {
        direction: Direction::Into,
        from: place_on_thread(trace, rows, wake.by_thread, wake.by_poll, wake.at),
        to: poll_place(trace, rows, index),
        stack: wake.stack,
    })
}

fn before_suspension(trace: &Trace, rows: &Rows, index: u32) -> Option<Arrow> {
    let suspension = &trace.suspensions[index as usize];
    let first = trace.task_wakes.partition_point(|wake| wake.at < suspension.time.end);
    let wake = trace.task_wakes[first..]
        .iter()
        .take_while(|wake| wake.at == suspension.time.end)
        .find(|wake| wake.task == suspension.task)?;
    Some(Arrow {
        direction: Direction::Into,
        from: place_on_thread(trace, rows, wake.by_thread, wake.by_poll, wake.at),
        to: Place { at: suspension.time.end, rows: task_rows(rows, suspension.task).to_vec() },
        stack: wake.stack,
    })
}

/// The thread that runs during a slice, if it is about one.
fn thread_of(trace: &Trace, key: RowKey, slice: &Slice) -> Option<u32> {
    match (key, slice.kind) {
        (_, SliceKind::Poll) => Some(trace.polls[slice.index as usize].thread),
        (RowKey::Thread(thread) | RowKey::Polls(thread, _), _) => Some(thread),
        (_, SliceKind::Span) => Some(trace.spans[slice.index as usize].thread),
        _ => None,
    }
}

/// Where a thread is at an instant: the poll it is in, the thread itself, the poll's task.
fn place_on_thread(trace: &Trace, rows: &Rows, thread: u32, poll: Option<u32>, at: Ns) -> Place {
    let mut places = Vec::new();
    if let Some(poll) = poll {
        places.push(RowKey::Polls(thread, rows.lane_of_poll(trace, poll)));
        places.push(RowKey::Thread(thread));
        places.extend(task_rows(rows, trace.polls[poll as usize].task));
    } else {
        places.push(RowKey::Thread(thread));
    }
    Place { at, rows: places }
}

fn poll_place(trace: &Trace, rows: &Rows, index: u32) -> Place {
    let poll = &trace.polls[index as usize];
    place_on_thread(trace, rows, poll.thread, Some(index), poll.time.begin)
}

fn task_rows(rows: &Rows, task: u32) -> [RowKey; 2] {
    [RowKey::Task(task), RowKey::Site(rows.site_of[task as usize])]
}

fn wait_rows(rows: &Rows, trace: &Trace, wait: u32) -> Vec<RowKey> {
    let mut places = vec![RowKey::Thread(trace.waits[wait as usize].thread)];
    let lock = rows.lock_of_wait[wait as usize];
    if lock != u32::MAX {
        places.push(RowKey::Lock(lock));
    }
    places
}
