//! Events in time order to intervals and states: the one place that says what each kind of event means.
//!
//! Here each kind finds its rule; the rules stand by subject in `threads`, `tasks`, `marks` and `memory`. An end without its
//! beginning began before the capture; a beginning without its end is open; across a gap nothing is claimed.
//! Never fails: events that contradict each other cost what they contradict.

use super::ids::IdMap;
use super::labels::LabelSets;
use super::tasks::TaskTrack;
use super::threads::{Inside, ThreadTrack};
use super::{
    Contended, CpuSample, Created, Interval, Ns, Park, Task, TaskIndex, Thread, ThreadIndex, Trace, Wake,
};
use crate::events::{Event, LiveContention, TaskId, ThreadId};

/// Builds a [`Trace`] from events in time order. Times count from the first event or the capture's start, whichever
/// is earlier.
pub(super) struct Builder {
    pub(super) trace: Trace,
    pub(super) end: Ns,
    pub(super) threads: Vec<ThreadTrack>,
    pub(super) tasks: Vec<TaskTrack>,
    pub(super) thread_index: IdMap,
    pub(super) task_index: IdMap,
    pub(super) counter_index: IdMap,
    pub(super) span_index: [IdMap; 2],
    pub(super) label_index: LabelSets,
    /// The thread of the latest event, which is mostly that of the next.
    latest_thread: (ThreadId, ThreadIndex),
}

impl Builder {
    /// For a trace that ends at `end`.
    pub(super) fn new(end: Ns) -> Builder {
        Builder {
            trace: Trace { kinds: vec![0; usize::from(u8::MAX) + 1], ..Trace::default() },
            end,
            threads: Vec::new(),
            tasks: Vec::new(),
            thread_index: IdMap::default(),
            task_index: IdMap::default(),
            counter_index: IdMap::default(),
            span_index: Default::default(),
            label_index: LabelSets::default(),
            latest_thread: (ThreadId(u32::MAX), 0),
        }
    }

    /// Counts an event that lies in the capture's window.
    #[inline]
    pub(super) fn count_kind(&mut self, event: &Event) {
        self.trace.kinds[usize::from(event.id())] += 1;
    }

    /// Takes the next event.
    #[inline]
    pub(super) fn event(&mut self, id: ThreadId, at: Ns, event: &Event) {
        match *event {
            Event::ClockSync(_) => return,
            Event::Loss(loss) => return self.lost(at, loss),
            // Of no thread.
            Event::HeapCounters(_)
            | Event::ProcessMemory(_)
            | Event::LiveHeap(_)
            | Event::HeapSampling(_) => {
                return self.trace.memory.told(at, event);
            }
            Event::LiveContention(live) => return self.trace.contended.push(contended(live)),
            Event::ThreadsCreated(created) => {
                let (stack, threads) = (created.stack, created.threads.0);
                return self.trace.created.push(Created { stack, threads });
            }
            Event::SwitchIn(_) | Event::SwitchOut(_) | Event::SwitchGap(_) | Event::SchedTotals(_) => {
                return self.sched_event(id, at, event);
            }
            _ => {}
        }
        let thread = self.thread(id);
        self.know(thread, at);
        match *event {
            Event::PollBegin(poll) => self.poll_begins(thread, at, poll.task),
            Event::PollEnd(poll) => self.poll_ends(thread, at, poll.outcome),
            Event::TaskSuspend(suspend) => self.task_suspends(thread, at, suspend.task, suspend.stack),
            Event::TaskWake(wake) => self.task_woken(thread, at, wake.task, wake.stack),
            Event::SyscallEnter(enter) => self.call_begins(thread, at, enter.call, enter.fd),
            Event::SyscallExit(exit) => self.call_ends(thread, at, exit.result.0, exit.stack),
            Event::WaitBegin(wait) => self.wait_begins(thread, at, wait.kind, wait.addr.0),
            Event::WaitEnd(wait) => self.wait_ends(thread, at, wait.outcome, wait.stack),
            Event::Wake(wake) => {
                let in_poll = self.poll_of(thread);
                let (addr, woken, stack) = (wake.addr.0, wake.woken.0, wake.stack);
                self.trace.wakes.push(Wake { at, thread, in_poll, addr, woken, stack });
            }
            Event::CpuSample(sample) => {
                let task = (sample.task.0 != 0).then(|| self.task(sample.task));
                let (stack, weight_ns, cpu) = (sample.stack, sample.weight.0, sample.cpu.0 as u32);
                self.trace.samples.push(CpuSample { at, thread, task, stack, weight_ns, cpu });
            }
            _ => self.rare_event(thread, at, *event),
        }
    }

    #[cold]
    fn rare_event(&mut self, thread: ThreadIndex, at: Ns, event: Event) {
        match event {
            Event::TaskSpawn(spawn) => self.task_spawned(at, spawn),
            Event::TaskName(name) => {
                let parent = (name.parent.0 != 0).then(|| self.task(name.parent));
                let index = self.task(name.task);
                let task = &mut self.trace.tasks[index as usize];
                (task.parent, task.name_id, task.site_id) = (parent, name.name, name.site);
            }
            Event::TaskEnd(end) => self.task_ends(at, end.task, end.outcome),
            Event::ThreadStart(start) => {
                self.thread_starts(thread, at, start.tid.0, start.creator, start.stack);
            }
            Event::ThreadExit(_) => self.thread_exits(thread, at),
            Event::ThreadName(name) => self.trace.threads[thread as usize].name_id = name.name,
            Event::WorkerStart(worker) => {
                let thread = &mut self.trace.threads[thread as usize];
                (thread.worker, thread.runtime_id) = (Some((String::new(), worker.index.0)), worker.runtime);
            }
            Event::WorkerPark(_) => {
                self.trace.parks.push(Park { thread, time: self.open_from(at) });
                self.enter(thread, at, Inside::Park(self.trace.parks.len() as u32 - 1));
            }
            Event::WorkerUnpark(_) => self.park_ends(thread, at),
            Event::SchedWaking(waking) => self.waking(waking.thread, at),
            _ => self.user_event(thread, at, event),
        }
    }

    #[cold]
    fn user_event(&mut self, thread: ThreadIndex, at: Ns, event: Event) {
        match event {
            Event::SpanBegin(span) => {
                let parent = (span.parent.0 != 0).then_some(span.parent.0);
                self.span_begins(thread, at, (false, span.span.0), parent, span.name);
            }
            Event::SpanEnter(enter) => self.span_entered(thread, at, enter.span.0),
            Event::SpanExit(exit) => self.span_exited(thread, at, exit.span.0),
            Event::SpanEnd(span) => self.span_ends(at, (false, span.span.0)),
            Event::SpanField(field) => self.span_field(field.span.0, field.key, field.value),
            Event::UserTaskBegin(begin) => {
                let parent = (begin.parent.0 != 0).then_some(begin.parent.0);
                self.span_begins(thread, at, (true, begin.user_task.0), parent, begin.name);
            }
            Event::UserTaskEnd(end) => self.span_ends(at, (true, end.user_task.0)),
            Event::Log(log) => self.logged(thread, at, log.category, log.message),
            Event::Counter(counter) => self.counted(at, counter.name, counter.value.0),
            Event::Label(label) => self.labelled(thread, at, label),
            Event::LabelNumber(label) => self.labelled_with_number(thread, at, label),
            Event::FdName(name) => self.named_fd(at, name.fd, name.name),
            _ => self.memory_event(thread, at, event),
        }
    }

    /// The thread with this number, new if it has no events yet. One that appears without a start event has lived
    /// since before the capture; what it did until now is unknown.
    #[inline]
    pub(super) fn thread(&mut self, id: ThreadId) -> ThreadIndex {
        if self.latest_thread.0 != id {
            let index = self.thread_index.get(u64::from(id.0));
            self.latest_thread = (id, index.unwrap_or_else(|| self.new_thread(id)));
        }
        self.latest_thread.1
    }

    fn new_thread(&mut self, id: ThreadId) -> ThreadIndex {
        let index = self.trace.threads.len() as ThreadIndex;
        let life = self.open_from(0);
        self.trace.threads.push(Thread { id, life, ..Thread::default() });
        self.threads.push(ThreadTrack::new());
        self.thread_index.insert(u64::from(id.0), index);
        index
    }

    /// The task with this number, as [`Builder::thread`].
    #[inline]
    pub(super) fn task(&mut self, id: TaskId) -> TaskIndex {
        match self.task_index.get(id.0) {
            Some(index) => index,
            None => self.new_task(id),
        }
    }

    fn new_task(&mut self, id: TaskId) -> TaskIndex {
        let index = self.trace.tasks.len() as TaskIndex;
        let life = self.open_from(0);
        self.trace.tasks.push(Task { id, life, ..Task::default() });
        self.tasks.push(TaskTrack::new());
        self.task_index.insert(id.0, index);
        index
    }

    /// An interval whose end has not been seen yet.
    pub(super) fn open_from(&self, begin: Ns) -> Interval {
        Interval { begin, end: self.end, open: true }
    }

    /// The trace, but for names, in the order of events.
    pub(super) fn finish(mut self) -> Trace {
        for (thread, track) in self.trace.threads.iter_mut().zip(self.threads) {
            thread.life.open = !(track.started && track.exited);
            thread.creator = track.creator.and_then(|id| self.thread_index.get(u64::from(id.0)));
            thread.states = track.states.into_states();
        }
        for (task, track) in self.trace.tasks.iter_mut().zip(self.tasks) {
            track.finish(task);
        }
        self.trace
    }
}

fn contended(live: LiveContention) -> Contended {
    let LiveContention { profile, stack, contentions, delay } = live;
    Contended { profile, stack, contentions: contentions.0, delay_ns: delay.0 }
}

/// Ends an interval whose end was seen; one whose beginning was not stays open.
pub(super) fn close(time: &mut Interval, at: Ns) {
    (time.end, time.open) = (at, false);
}
