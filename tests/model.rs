//! What the model makes of recorded events: intervals, states, flows. Traces are recorded for real, with stamps set.

use kymo::events::{
    Addr, Count, Event, Fd, PollOutcome, StackId, StrId, TaskId, TaskOutcome, Value, WaitKind,
};
use kymo::events::{Call, WaitOutcome};
use kymo::events::{ClockSync, Loss, LossReason, Nanos, ThreadId, WaitBegin, WaitEnd, Wake};
use kymo::events::{
    PollBegin, PollEnd, SyscallEnter, SyscallExit, TaskEnd, TaskSpawn, TaskSuspend, TaskWake,
};
use kymo::format::{End, EventsHead, Header, Lane, ThreadInfo, encode};
use kymo::model::load::load;
use kymo::model::{State, Trace};
use kymo::wire::{Cursor, EVENT_MAX};

/// A trace of events given as (thread, tick, event), with a tick of one nanosecond and a window of 0 to 1000.
fn trace(events: &[(u32, u64, Event)]) -> Trace {
    let mut out = Vec::new();
    encode::magic(&mut out);
    let header = Header { start_ticks: 1_000, start_monotonic_ns: 1_000, ..Header::default() };
    encode::header(&mut out, &header);
    encode::schema(&mut out);
    let sync = Event::from(ClockSync { monotonic: Nanos(2_000), realtime: Nanos(0) });
    let mut all = events.to_vec();
    all.push((0, 1_000, sync));
    for thread in 0..=9 {
        let (mut bytes, mut last) = (Vec::new(), 0);
        for &(_, at, event) in all.iter().filter(|(owner, ..)| *owner == thread) {
            let mut room = [0; EVENT_MAX];
            let mut cursor = Cursor::new(&mut room);
            event.put(at - last, &mut cursor);
            let len = cursor.len();
            bytes.extend_from_slice(&room[..len]);
            last = at;
        }
        let head = EventsHead { thread: ThreadId(thread), lane: Lane::Normal, base_ticks: 1_000 };
        if !bytes.is_empty() {
            encode::events(&mut out, &head, &bytes);
        }
    }
    let info = ThreadInfo { thread: ThreadId(1), tid: 77, name: StrId(2) };
    encode::strings(&mut out, 2, ["main", "reaper"].into_iter());
    encode::threads(&mut out, &[info]);
    encode::end(&mut out, &End { end_ticks: 2_000, events: 0, lost: 0 });
    let (trace, problems) = load(&out).unwrap();
    assert_eq!(problems, []);
    trace
}

fn states(states: &[kymo::model::StateChange]) -> Vec<(u64, State)> {
    states.iter().map(|change| (change.at, change.state)).collect()
}

const TASK: TaskId = TaskId(5);

fn spawn() -> Event {
    TaskSpawn { task: TASK, parent: TaskId(0), name: StrId(3), site: StrId(0) }.into()
}

fn begin() -> Event {
    PollBegin { task: TASK }.into()
}

fn end(outcome: PollOutcome) -> Event {
    PollEnd { outcome }.into()
}

fn wake() -> Event {
    TaskWake { task: TASK, stack: StackId(0) }.into()
}

#[test]
fn a_task_is_runnable_when_spawned_or_woken_running_when_polled_waiting_between() {
    let trace = trace(&[
        (1, 100, spawn()),
        (2, 150, begin()),
        (2, 190, TaskSuspend { task: TASK, stack: StackId(0) }.into()),
        (2, 190, end(PollOutcome::Pending)),
        (1, 400, wake()),
        (2, 450, begin()),
        (2, 500, end(PollOutcome::Ready)),
        (2, 500, TaskEnd { task: TASK, outcome: TaskOutcome::Done }.into()),
    ]);
    let task = &trace.tasks[0];
    assert_eq!(task.name, "reaper");
    let expected = [
        (100, State::Runnable),
        (150, State::Running),
        (190, State::Waiting),
        (400, State::Runnable),
        (450, State::Running),
        (500, State::Idle),
    ];
    assert_eq!(states(&task.states), expected);
    assert_eq!((task.life.begin, task.life.end, task.outcome), (100, 500, Some(TaskOutcome::Done)));
    assert_eq!((trace.suspensions[0].time.begin, trace.suspensions[0].time.end), (190, 400));
    assert_eq!((trace.task_wakes[0].led_to, trace.polls[1].woken_by), (Some(1), Some(0)));
}

#[test]
fn a_wake_during_the_poll_leads_to_the_next_one_without_a_suspension() {
    let trace = trace(&[
        (2, 100, begin()),
        (1, 120, wake()),
        (1, 130, wake()),
        (2, 150, end(PollOutcome::Pending)),
        (2, 160, begin()),
        (2, 170, end(PollOutcome::Pending)),
    ]);
    assert_eq!(trace.task_wakes[0].led_to, Some(1));
    assert_eq!(trace.task_wakes[1].led_to, None, "the second wake changed nothing");
    assert_eq!(trace.suspensions.len(), 1);
    assert_eq!((trace.suspensions[0].time.begin, trace.suspensions[0].time.open), (170, true));
}

#[test]
fn a_threads_state_is_that_of_the_innermost_thing_it_is_in() {
    let lock = Addr(0xbeef);
    let trace = trace(&[
        (1, 100, begin()),
        (1, 200, SyscallEnter { call: Call::Fsync, fd: Fd(7) }.into()),
        (1, 300, SyscallExit { result: Value(-5), stack: StackId(0) }.into()),
        (1, 400, WaitBegin { kind: WaitKind::PthreadMutex, addr: lock }.into()),
        (2, 450, Wake { addr: lock, woken: Count(1), stack: StackId(0) }.into()),
        (1, 460, WaitEnd { outcome: WaitOutcome::Woken, stack: StackId(0) }.into()),
        (1, 500, end(PollOutcome::Ready)),
    ]);
    let thread = &trace.threads[0];
    assert_eq!((thread.tid, thread.name.as_str()), (77, "main"));
    let expected = [
        (0, State::Unknown),
        (100, State::Running),
        (200, State::Syscall),
        (300, State::Running),
        (400, State::Blocked),
        (460, State::Running),
    ];
    let mut seen = states(&thread.states);
    seen.dedup_by_key(|change| change.1);
    assert_eq!(seen, expected);
    assert_eq!((trace.calls[0].result, trace.calls[0].in_poll, trace.calls[0].fd), (-5, Some(0), Fd(7)));
    assert_eq!((trace.waits[0].in_poll, trace.waits[0].addr), (Some(0), 0xbeef));
    assert_eq!((trace.wakes[0].thread, trace.wakes[0].woken), (1, 1));
}

#[test]
fn an_end_without_a_beginning_lasted_since_the_start_and_a_beginning_without_an_end_is_open() {
    let trace = trace(&[
        (1, 300, WaitEnd { outcome: WaitOutcome::Woken, stack: StackId(0) }.into()),
        (1, 700, SyscallEnter { call: Call::EpollWait, fd: Fd(3) }.into()),
    ]);
    let wait = trace.waits[0];
    assert_eq!((wait.time.begin, wait.time.end, wait.time.open), (0, 300, true));
    let call = trace.calls[0];
    assert_eq!((call.time.begin, call.time.end, call.time.open), (700, 1_000, true));
    let expected = [(0, State::Blocked), (300, State::Running), (700, State::Io)];
    assert_eq!(states(&trace.threads[0].states), expected);
}

#[test]
fn after_a_loss_nothing_is_claimed_until_the_next_event() {
    let lost = Loss { thread: ThreadId(1), reason: LossReason::NoChunk, count: Count(9) };
    let trace = trace(&[
        (1, 100, SyscallEnter { call: Call::Read, fd: Fd(3) }.into()),
        (0, 500, lost.into()),
        (1, 600, begin()),
    ]);
    assert_eq!(trace.lost(), 9);
    let mut seen = states(&trace.threads[0].states);
    seen.dedup_by_key(|change| change.1);
    assert_eq!(seen, [(0, State::Unknown), (600, State::Running)]);
    assert!(trace.calls[0].time.open);
}

#[test]
fn what_lies_before_the_window_is_context_and_counts_for_nothing() {
    let stamped = |at| (1, at, spawn());
    let trace = trace(&[stamped(0), (1, 10, begin())]);
    assert_eq!(trace.kinds[usize::from(begin().id())], 1);
    assert_eq!(trace.events(), 3, "spawn, begin, and the clock");
}
