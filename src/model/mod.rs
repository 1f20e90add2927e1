//! A trace, understood: bytes become threads and tasks with exclusive states, waits, polls, calls, spans and wakes.
//!
//! [`load`](load::load) orders the events of all threads, pairs beginnings with ends and returns a [`Trace`] together
//! with what was wrong; it never returns one without the other. Times are nanoseconds from the capture's start;
//! what began before is clipped to 0, what had not ended is clipped to the end and marked `open`.
//! A `Trace` is plain data and immutable after loading: analyses, exporters and the viewer only read it.
//!
//! Does not know HTTP, files' paths or a running session.

pub mod check;
pub mod descriptors;
mod gaps;
mod ids;
mod image;
pub mod labels;
pub mod load;
pub mod machinery;
mod mapped;
mod marks;
pub mod memory;
mod merge;
mod sched;
mod source_path;
pub mod stacks;
mod states;
pub mod symbols;
mod tasks;
mod threads;
mod time;
mod timeline;
mod track;
mod window;

use crate::events::{
    Call, Fd, LiveProfile, LossReason, PollOutcome, StackId, StrId, TaskId, TaskOutcome, ThreadId, WaitKind,
    WaitOutcome,
};

/// Nanoseconds from the capture's start.
pub type Ns = u64;

/// Index of a thread in [`Trace::threads`].
pub type ThreadIndex = u32;

/// Index of a task in [`Trace::tasks`].
pub type TaskIndex = u32;

/// Index of a poll in [`Trace::polls`].
pub type PollIndex = u32;

/// A stretch of time: `begin..end`, clipped to the capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interval {
    /// First nanosecond.
    pub begin: Ns,
    /// Nanosecond after the last one.
    pub end: Ns,
    /// One of its sides was not seen: it began before the capture, had not ended when the capture did, or its end was
    /// lost.
    pub open: bool,
}

impl Interval {
    /// Its length in nanoseconds.
    pub fn duration(&self) -> Ns {
        self.end - self.begin
    }
}

/// What a thread or a task is doing: exactly one of these at each moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    /// Not known: before the first event, or events were lost.
    Unknown = 0,
    /// On a CPU, as far as the sources tell; a task: polled.
    Running = 1,
    /// Wants a CPU; a task: woken, waits for a worker.
    Runnable = 2,
    /// Blocked on a lock: futex, mutex, rwlock, semaphore.
    Blocked = 3,
    /// Waits for something to happen: condvar, join, channel, notify.
    Waiting = 4,
    /// In a system call.
    Syscall = 5,
    /// Waits for a socket, a pipe, a disk.
    Io = 6,
    /// Sleeps or idles: timer, parked worker.
    Idle = 7,
}

impl State {
    /// All of them, in the order of their numbers.
    pub const ALL: [State; 8] = [
        State::Unknown,
        State::Running,
        State::Runnable,
        State::Blocked,
        State::Waiting,
        State::Syscall,
        State::Io,
        State::Idle,
    ];

    /// The word for it: in `--json`, in the viewer, in exports.
    pub const fn word(self) -> &'static str {
        match self {
            State::Unknown => "unknown",
            State::Running => "running",
            State::Runnable => "runnable",
            State::Blocked => "blocked",
            State::Waiting => "waiting",
            State::Syscall => "syscall",
            State::Io => "io",
            State::Idle => "idle",
        }
    }
}

/// Where a state begins; it lasts until the next one of its track, or the end of the trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateChange {
    /// When.
    pub at: Ns,
    /// Which state begins.
    pub state: State,
    /// What it is about.
    pub cause: Cause,
}

/// What a state is about: an index into the trace's own tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cause {
    /// Nothing in particular.
    #[default]
    None,
    /// [`Trace::waits`].
    Wait(u32),
    /// [`Trace::calls`].
    Call(u32),
    /// [`Trace::polls`]: for a task that runs, and for a thread that polls.
    Poll(PollIndex),
    /// [`Trace::suspensions`].
    Suspension(u32),
    /// [`Trace::parks`].
    Park(u32),
}

/// A thread of the traced process.
#[derive(Debug, Clone, Default)]
pub struct Thread {
    /// kymo's number, unique in the trace.
    pub id: ThreadId,
    /// The kernel's number.
    pub tid: u64,
    /// Its name, empty if it has none.
    pub name: String,
    /// The same, interned.
    pub name_id: StrId,
    /// The runtime and index if it is a worker.
    pub worker: Option<(String, u64)>,
    /// The runtime's name, interned.
    pub runtime_id: StrId,
    /// The thread that created it.
    pub creator: Option<ThreadIndex>,
    /// Where it was created.
    pub creation_stack: StackId,
    /// Its life as far as the trace saw it; a start or exit event closes that side.
    pub life: Interval,
    /// Its states, ascending in time; the first is at `life.begin`.
    pub states: Vec<StateChange>,
    /// When it had which labels, outside of polls.
    pub labels: Vec<labels::LabelChange>,
}

/// A task of an async runtime.
#[derive(Debug, Clone, Default)]
pub struct Task {
    /// kymo's number, unique in the trace.
    pub id: TaskId,
    /// The name its spawner gave it, else the spawn site, else empty.
    pub name: String,
    /// The name its spawner gave it, interned.
    pub name_id: StrId,
    /// `file:line:column` of its spawn, empty if not known.
    pub site: String,
    /// The same, interned.
    pub site_id: StrId,
    /// The task that spawned it.
    pub parent: Option<TaskIndex>,
    /// Its life as far as the trace saw it; spawn and end events close their sides.
    pub life: Interval,
    /// How it ended, if the trace saw that.
    pub outcome: Option<TaskOutcome>,
    /// Its states, ascending in time; the first is at `life.begin`.
    pub states: Vec<StateChange>,
    /// When it had which labels.
    pub labels: Vec<labels::LabelChange>,
}

/// One poll of a task.
#[derive(Debug, Clone, Copy)]
pub struct Poll {
    /// The task.
    pub task: TaskIndex,
    /// The thread that polled it.
    pub thread: ThreadIndex,
    /// When.
    pub time: Interval,
    /// How it ended.
    pub outcome: PollOutcome,
    /// The wake that led to it, index into [`Trace::task_wakes`].
    pub woken_by: Option<u32>,
}

/// A task between the end of a pending poll and the wake that ended its waiting (then it is runnable).
#[derive(Debug, Clone, Copy)]
pub struct Suspension {
    /// The task.
    pub task: TaskIndex,
    /// From the pending poll's end to the first wake after it.
    pub time: Interval,
    /// The await stack, leaf first.
    pub stack: StackId,
}

/// A task was woken. The first one after a suspension makes it runnable; the others change nothing.
#[derive(Debug, Clone, Copy)]
pub struct TaskWake {
    /// When.
    pub at: Ns,
    /// Who was woken.
    pub task: TaskIndex,
    /// The thread that called `wake`.
    pub by_thread: ThreadIndex,
    /// The poll in which it did, if it polled.
    pub by_poll: Option<PollIndex>,
    /// Where it was called, when the suspension had lasted.
    pub stack: StackId,
    /// The poll that it led to: a flow. Only the wake that made the task runnable has one.
    pub led_to: Option<PollIndex>,
}

/// A thread waited for a lock, a condition, another thread.
#[derive(Debug, Clone, Copy)]
pub struct Wait {
    /// Who waited.
    pub thread: ThreadIndex,
    /// The poll inside which it waited: the async bug.
    pub in_poll: Option<PollIndex>,
    /// When.
    pub time: Interval,
    /// The lock's address; for a join the other thread's handle.
    pub addr: u64,
    /// The hooked function's word.
    pub kind: WaitKind,
    /// How it ended.
    pub outcome: WaitOutcome,
    /// Where, taken when it had lasted (see [`Info::wait_stack_ns`]).
    pub stack: StackId,
}

/// A thread woke waiters of an address.
#[derive(Debug, Clone, Copy)]
pub struct Wake {
    /// When.
    pub at: Ns,
    /// Who woke.
    pub thread: ThreadIndex,
    /// The poll in which it did.
    pub in_poll: Option<PollIndex>,
    /// The lock's address.
    pub addr: u64,
    /// How many it woke, as the kernel said.
    pub woken: u64,
    /// Where: for a lock, its holder's unlock.
    pub stack: StackId,
}

/// A hooked call.
#[derive(Debug, Clone, Copy)]
pub struct CallSpan {
    /// Who called.
    pub thread: ThreadIndex,
    /// The poll inside which it did.
    pub in_poll: Option<PollIndex>,
    /// When.
    pub time: Interval,
    /// Which call.
    pub call: Call,
    /// On which descriptor; -1 if none.
    pub fd: Fd,
    /// What it returned, or minus its errno.
    pub result: i64,
    /// Where, when it lasted (see [`Info::call_stack_ns`]).
    pub stack: StackId,
}

/// A worker had nothing to do.
#[derive(Debug, Clone, Copy)]
pub struct Park {
    /// The worker.
    pub thread: ThreadIndex,
    /// When.
    pub time: Interval,
}

/// What a thread did with its CPU at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuSample {
    /// When.
    pub at: Ns,
    /// The thread.
    pub thread: ThreadIndex,
    /// The task that it polled.
    pub task: Option<TaskIndex>,
    /// Where; none if the time was spent where no sample could be taken.
    pub stack: StackId,
    /// The CPU time that it stands for, nanoseconds.
    pub weight_ns: u64,
    /// The CPU.
    pub cpu: u32,
}

/// A thread was on a CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuSlice {
    /// Which CPU.
    pub cpu: u32,
    /// Which thread.
    pub thread: ThreadIndex,
    /// When.
    pub time: Interval,
    /// It would have gone on.
    pub preempted: bool,
}

/// What a thread has run and waited for a CPU since it began, by the kernel's account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchedTotal {
    /// When.
    pub at: Ns,
    /// Which thread.
    pub thread: ThreadIndex,
    /// Nanoseconds on a CPU.
    pub running: u64,
    /// Nanoseconds for which it wanted one.
    pub runnable: u64,
    /// How often one was taken from it.
    pub preemptions: u64,
}

/// What the user marked as a named interval: a span, or a user task, which may cross threads.
#[derive(Debug, Clone, Default)]
pub struct Span {
    /// `true` for a user task.
    pub user_task: bool,
    /// Its id.
    pub id: u64,
    /// The span or user task that it is part of: one of its own kind.
    pub parent: Option<u64>,
    /// Its name.
    pub name: StrId,
    /// The thread on which it began, or was entered first.
    pub thread: ThreadIndex,
    /// The task in whose poll it did.
    pub task: Option<TaskIndex>,
    /// When.
    pub time: Interval,
    /// Its fields, key and value.
    pub fields: Vec<(StrId, StrId)>,
    /// When it was entered, for one that can be left and entered again; others are active from begin to end.
    pub active: Vec<Stretch>,
}

impl Span {
    /// How long it was active: of a span that can be left and entered again the stretches, of others all of it.
    pub fn active_ns(&self) -> Ns {
        match self.active.as_slice() {
            [] => self.time.end - self.time.begin,
            active => active.iter().map(|stretch| stretch.time.end - stretch.time.begin).sum(),
        }
    }
}

/// A thread was inside a span that it had entered.
#[derive(Debug, Clone, Copy)]
pub struct Stretch {
    /// The thread.
    pub thread: ThreadIndex,
    /// The task that it polled.
    pub task: Option<TaskIndex>,
    /// When.
    pub time: Interval,
}

/// A message that the user logged.
#[derive(Debug, Clone, Copy)]
pub struct LogEntry {
    /// When.
    pub at: Ns,
    /// The thread that logged.
    pub thread: ThreadIndex,
    /// The task in whose poll it did.
    pub task: Option<TaskIndex>,
    /// Its category.
    pub category: StrId,
    /// Its text.
    pub message: StrId,
}

/// A counter: a name and its values in time order.
#[derive(Debug, Clone)]
pub struct CounterTrack {
    /// Its name.
    pub name: String,
    /// The same, interned.
    pub name_id: StrId,
    /// When and what.
    pub values: Vec<(Ns, i64)>,
}

/// What a descriptor stood for, from a moment on.
#[derive(Debug, Clone, Copy)]
pub struct FdName {
    /// From when on.
    pub at: Ns,
    /// The descriptor.
    pub fd: Fd,
    /// A path, a socket's peer.
    pub name: StrId,
}

/// Events that a thread could not record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// When it was noted: they were lost before that.
    pub at: Ns,
    /// The thread.
    pub thread: ThreadIndex,
    /// Why.
    pub reason: LossReason,
    /// How many.
    pub count: u64,
}

/// What one of the process's own contention profiles holds for a stack: since its rate was first set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contended {
    /// Which profile.
    pub profile: LiveProfile,
    /// Where.
    pub stack: StackId,
    /// How many waits.
    pub contentions: u64,
    /// How long all together.
    pub delay_ns: u64,
}

/// Threads that a stack has created since the process first counted them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Created {
    /// Where; none for those that were there already.
    pub stack: StackId,
    /// How many.
    pub threads: u64,
}

/// What a trace says of itself.
#[derive(Debug, Clone, Default)]
pub struct Info {
    /// Who wrote it: `kymo 0.1.0`.
    pub writer: String,
    /// The traced process.
    pub pid: u32,
    /// Its command name.
    pub program: String,
    /// The capture's start, nanoseconds since the epoch.
    pub start_realtime_ns: u64,
    /// The capture's start, CLOCK_MONOTONIC nanoseconds.
    pub start_monotonic_ns: u64,
    /// What the wall clock showed at a time: again wherever it was set.
    pub wall_clock: Vec<(Ns, u64)>,
    /// The capture's length.
    pub duration_ns: Ns,
    /// Waits at least this long carry a stack; shorter ones do with probability duration / this.
    pub wait_stack_ns: u64,
    /// The same for hooked calls.
    pub call_stack_ns: u64,
    /// Each source and its state.
    pub sources: Vec<(String, String)>,
    /// What else is good to know.
    pub notes: Vec<(String, String)>,
    /// Whether the writer finished.
    pub complete: bool,
}

impl Info {
    /// What the wall clock showed at a time, nanoseconds since the epoch: where it was set in between, as it was then.
    pub fn realtime_ns(&self, at: Ns) -> u64 {
        let after = self.wall_clock.partition_point(|&(set, _)| set <= at);
        match self.wall_clock.get(after.saturating_sub(1)) {
            Some(&(since, showed)) => showed.saturating_add(at).saturating_sub(since),
            None => self.start_realtime_ns.saturating_add(at),
        }
    }
}

/// A trace, understood. See the module's head for what times mean.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// What the trace says of itself.
    pub info: Info,
    /// Threads that have events, by first appearance.
    pub threads: Vec<Thread>,
    /// Tasks that have events, by first appearance.
    pub tasks: Vec<Task>,
    /// Polls by begin.
    pub polls: Vec<Poll>,
    /// Suspensions by begin.
    pub suspensions: Vec<Suspension>,
    /// Wakes of tasks by time.
    pub task_wakes: Vec<TaskWake>,
    /// Waits by begin.
    pub waits: Vec<Wait>,
    /// Wakes of waiting threads by time.
    pub wakes: Vec<Wake>,
    /// What the process's own contention profiles held at the capture's end.
    pub contended: Vec<Contended>,
    /// Threads that the process had created by the capture's end, if it counted them.
    pub created: Vec<Created>,
    /// Hooked calls by begin.
    pub calls: Vec<CallSpan>,
    /// Workers' idle times by begin.
    pub parks: Vec<Park>,
    /// CPU samples by time.
    pub samples: Vec<CpuSample>,
    /// Which thread was on which CPU, by begin.
    pub cpus: Vec<CpuSlice>,
    /// Threads' totals by the kernel's account, by time.
    pub sched_totals: Vec<SchedTotal>,
    /// Spans and user tasks by begin.
    pub spans: Vec<Span>,
    /// Sets of labels that threads and tasks had; the first is empty.
    pub label_sets: Vec<Vec<labels::Label>>,
    /// Messages by time.
    pub logs: Vec<LogEntry>,
    /// Counters by name.
    pub counters: Vec<CounterTrack>,
    /// Allocations, counters of memory, what lives.
    pub memory: memory::Memory,
    /// Names of descriptors, by time.
    pub fd_names: Vec<FdName>,
    /// What was lost, by time.
    pub losses: Vec<Loss>,
    /// Events inside the capture's window, by the number of their kind.
    pub kinds: Vec<u64>,
    /// Names of the kinds that only a newer kymo knows, as the file's schema has them.
    pub unknown_kinds: std::collections::BTreeMap<u8, String>,
    /// Interned strings, by id.
    pub strings: std::collections::HashMap<StrId, String>,
    /// Stacks and what their addresses mean.
    pub stacks: stacks::Stacks,
}

impl Trace {
    /// The text of an interned string, empty if it is missing.
    pub fn text(&self, id: StrId) -> &str {
        self.strings.get(&id).map_or("", String::as_str)
    }

    /// Events inside the capture's window, of all kinds.
    pub fn events(&self) -> u64 {
        self.kinds.iter().sum()
    }

    /// Events lost, for all reasons.
    pub fn lost(&self) -> u64 {
        self.losses.iter().map(|loss| loss.count).sum()
    }
}
