//! What the model makes of recorded events: intervals, states, flows. Traces are texts; a tick is a nanosecond, and
//! the window goes from tick 1000 to 2000, so that an event at tick 1100 is at 100 ns.
#![cfg(feature = "analysis")]

use kymo::events::{Call, Fd, TaskOutcome, WaitOutcome};
use kymo::format::file::Problem;
use kymo::format::text;
use kymo::model::check::check;
use kymo::model::load::load;
use kymo::model::{Interval, State, StateChange, Trace};

/// Loads runs of events in a window of 1000 ns; nothing may be wrong with them.
fn trace(runs: &str) -> Trace {
    let (trace, problems) = load_text(&format!("{HEAD}{runs}{TABLES}end 2000\n"));
    assert_eq!(problems, []);
    trace
}

const HEAD: &str = "header start=1000 start_monotonic_ns=1000\nschema\n";
const TABLES: &str = "string 2 \"main\"\nstring 3 \"reaper\"\nthread 1 tid=77 name=2\n";

fn load_text(text: &str) -> (Trace, Vec<Problem>) {
    let bytes = text::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let (trace, problems) = load(&bytes).unwrap();
    assert_eq!(check(&trace), Vec::<String>::new(), "{text}");
    (trace, problems)
}

fn states(states: &[StateChange]) -> Vec<(u64, State)> {
    states.iter().map(|change| (change.at, change.state)).collect()
}

/// The states of a thread, changes of cause alone left out.
fn thread_states(trace: &Trace, thread: usize) -> Vec<(u64, State)> {
    let mut states = states(&trace.threads[thread].states);
    states.dedup_by_key(|change| change.1);
    states
}

fn closed(begin: u64, end: u64) -> Interval {
    Interval { begin, end, open: false }
}

fn open(begin: u64, end: u64) -> Interval {
    Interval { begin, end, open: true }
}

#[test]
fn a_task_is_runnable_when_spawned_or_woken_running_when_polled_waiting_between() {
    let trace = trace(
        "run 1 normal base=1000
  1100 TaskSpawn task=5 name=3
  1400 TaskWake task=5
run 2 normal base=1000
  1150 PollBegin task=5
  1190 TaskSuspend task=5
  1190 PollEnd outcome=pending
  1450 PollBegin task=5
  1500 PollEnd outcome=ready
  1510 TaskEnd task=5 outcome=done
",
    );
    let task = &trace.tasks[0];
    assert_eq!(task.name, "reaper");
    let expected = [
        (100, State::Runnable),
        (150, State::Running),
        (190, State::Waiting),
        (400, State::Runnable),
        (450, State::Running),
    ];
    assert_eq!(states(&task.states), expected);
    assert_eq!((task.life, task.outcome), (closed(100, 500), Some(TaskOutcome::Done)));
    assert_eq!(trace.suspensions[0].time, closed(190, 400));
    assert_eq!((trace.task_wakes[0].led_to, trace.polls[1].woken_by), (Some(1), Some(0)));
}

#[test]
fn a_wake_during_the_poll_leads_to_the_next_one_without_a_suspension() {
    let trace = trace(
        "run 1 normal base=1000
  1120 TaskWake task=5
  1130 TaskWake task=5
run 2 normal base=1000
  1100 PollBegin task=5
  1150 PollEnd outcome=pending
  1160 PollBegin task=5
  1170 PollEnd outcome=pending
",
    );
    assert_eq!(trace.task_wakes[0].led_to, Some(1));
    assert_eq!(trace.task_wakes[1].led_to, None, "the second wake changed nothing");
    assert_eq!(trace.suspensions.len(), 1);
    assert_eq!(trace.suspensions[0].time, open(170, 1000));
}

#[test]
fn a_task_that_is_polled_though_nobody_was_seen_to_wake_it_was_suspended_until_then() {
    let trace = trace(
        "run 1 normal base=1000
  1100 PollBegin task=5
  1150 PollEnd outcome=pending
  1400 PollBegin task=5
",
    );
    assert_eq!(trace.suspensions[0].time, closed(150, 400));
    assert_eq!(trace.polls[1].woken_by, None);
}

#[test]
fn a_spawn_that_is_told_after_the_first_poll_says_who_the_task_is_and_that_it_did_not_live_before() {
    let trace = trace(
        "run 1 normal base=1000
  1100 PollBegin task=5
run 2 normal base=1000
  1120 TaskSpawn task=5 name=3
",
    );
    assert_eq!((trace.tasks[0].name.as_str(), trace.tasks[0].life), ("reaper", open(100, 1000)));
    assert_eq!(states(&trace.tasks[0].states), [(100, State::Running)]);
}

#[test]
fn a_task_that_ends_inside_its_last_poll_lives_until_that_ends() {
    let trace = trace(
        "run 1 normal base=1000
  1100 TaskSpawn task=5
  1200 PollBegin task=5
  1290 TaskEnd task=5 outcome=cancelled
  1300 PollEnd outcome=ready
  1400 TaskWake task=5
",
    );
    assert_eq!(
        (trace.tasks[0].life, trace.tasks[0].outcome),
        (closed(100, 300), Some(TaskOutcome::Cancelled))
    );
    assert_eq!(trace.task_wakes.len(), 1, "a wake of a task that has ended counts, and changes nothing");
}

#[test]
fn the_await_stack_of_a_future_that_keeps_its_waker_is_not_lost_when_it_is_polled_again() {
    let trace = trace(
        "run 1 normal base=1000
  1100 PollBegin task=5
  1110 TaskSuspend task=5 stack=9
  1120 PollEnd outcome=pending
  1200 TaskWake task=5
  1210 PollBegin task=5
  1220 PollEnd outcome=pending
",
    );
    assert_eq!(trace.suspensions.iter().map(|suspension| suspension.stack.0).collect::<Vec<_>>(), [9, 9]);
}

#[test]
fn a_threads_state_is_that_of_the_innermost_thing_it_is_in() {
    let trace = trace(
        "run 1 normal base=1000
  1100 PollBegin task=5
  1200 SyscallEnter call=fsync fd=7
  1300 SyscallExit result=-5
  1400 WaitBegin kind=pthread_mutex addr=0xbeef
  1460 WaitEnd outcome=woken
  1500 PollEnd outcome=ready
run 2 normal base=1000
  1450 Wake addr=0xbeef woken=1
",
    );
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
    assert_eq!(thread_states(&trace, 0), expected);
    let call = trace.calls[0];
    assert_eq!((call.call, call.result, call.in_poll, call.fd), (Call::Fsync, -5, Some(0), Fd(7)));
    let wait = trace.waits[0];
    assert_eq!((wait.in_poll, wait.addr, wait.outcome), (Some(0), 0xbeef, WaitOutcome::Woken));
    assert_eq!((trace.wakes[0].thread, trace.wakes[0].woken), (1, 1));
}

#[test]
fn a_parked_worker_is_idle_whatever_its_park_is_made_of() {
    let trace = trace(
        "run 1 normal base=1000
  1100 WorkerPark
  1110 SyscallEnter call=epoll_wait fd=3
  1300 SyscallExit result=1
  1310 WorkerUnpark
",
    );
    assert_eq!(thread_states(&trace, 0), [(0, State::Unknown), (100, State::Idle), (310, State::Running)]);
    assert_eq!((trace.parks[0].time, trace.calls[0].time), (closed(100, 310), closed(110, 300)));
}

#[test]
fn waits_without_a_stack_of_their_own_take_the_kind_of_others_on_the_same_address() {
    let trace = trace(
        "run 1 normal base=1000
  1100 WaitBegin kind=futex addr=0x10
  1200 WaitEnd stack=2
  1300 WaitBegin kind=futex addr=0x10
  1301 WaitEnd
  1400 WaitBegin kind=futex addr=0x20
  1401 WaitEnd
stack 2 0xaa
symbol 0xaa
  frame \"std::sys::sync::condvar::futex::Condvar::wait_optional_timeout\"
",
    );
    let expected = [
        (0, State::Unknown),
        (100, State::Waiting),
        (200, State::Running),
        (300, State::Waiting),
        (301, State::Running),
        (400, State::Blocked),
        (401, State::Running),
    ];
    assert_eq!(thread_states(&trace, 0), expected);
}

#[test]
fn an_end_without_a_beginning_lasted_since_the_start_and_a_beginning_without_an_end_is_open() {
    let trace = trace(
        "run 1 normal base=1000
  1300 WaitEnd outcome=woken
  1700 SyscallEnter call=epoll_wait fd=3
",
    );
    assert_eq!(trace.waits[0].time, open(0, 300));
    assert_eq!(trace.calls[0].time, open(700, 1000));
    assert_eq!(thread_states(&trace, 0), [(0, State::Blocked), (300, State::Running), (700, State::Io)]);
}

#[test]
fn an_await_that_is_told_before_any_poll_is_of_one_that_began_before_the_capture() {
    let trace = trace(
        "run 1 normal base=1000
  1300 TaskSuspend task=5
  1310 PollEnd outcome=pending
",
    );
    assert_eq!(trace.polls[0].time, open(0, 310));
    assert_eq!(states(&trace.tasks[0].states), [(0, State::Running), (310, State::Waiting)]);
    assert_eq!(thread_states(&trace, 0), [(0, State::Running)]);
}

#[test]
fn what_began_earlier_stands_first_though_it_became_known_later_and_is_found_by_its_state() {
    let trace = trace(
        "run 1 normal base=1000
  1100 WaitBegin kind=pthread_mutex addr=0x10
  1200 WaitEnd
run 2 normal base=1000
  1900 WaitEnd
",
    );
    assert_eq!(trace.waits.iter().map(|wait| wait.time.begin).collect::<Vec<_>>(), [0, 100]);
    let wait_of = |thread: usize| {
        trace.threads[thread].states.iter().find_map(|change| match change.cause {
            kymo::model::Cause::Wait(wait) => Some(trace.waits[wait as usize].thread),
            _ => None,
        })
    };
    assert_eq!((wait_of(0), wait_of(1)), (Some(0), Some(1)));
}

#[test]
fn an_end_that_was_not_recorded_is_put_where_the_thing_around_it_ends_and_stays_open() {
    let trace = trace(
        "run 1 normal base=1000
  1100 PollBegin task=5
  1200 WaitBegin kind=futex addr=0x10
  1300 PollEnd outcome=pending
",
    );
    assert_eq!((trace.waits[0].time, trace.polls[0].time), (open(200, 300), closed(100, 300)));
}

#[test]
fn between_two_runs_around_which_events_were_lost_nothing_is_claimed() {
    let trace = trace(
        "run 0 normal base=1000
  1400 ClockSync monotonic=1400
  1700 ClockSync monotonic=1700
  1700 Loss thread=1 reason=no_chunk count=9
run 1 normal base=1000
  1100 SyscallEnter call=read fd=3
run 1 normal base=1600
  1600 PollBegin task=5
  1620 WaitEnd
",
    );
    assert_eq!(trace.lost(), 9);
    let expected = [(0, State::Unknown), (600, State::Running), (620, State::Unknown)];
    assert_eq!(thread_states(&trace, 0), expected, "more may have been lost before it was told");
    assert_eq!(trace.calls[0].time, open(100, 100));
    assert_eq!(trace.waits[0].time, open(620, 620), "it may have begun in the gap");
}

#[test]
fn a_loss_touches_only_its_thread_and_its_time() {
    let trace = trace(
        "run 0 normal base=1000
  1200 ClockSync monotonic=1200
  1300 Loss thread=2 reason=overwritten count=1
run 1 normal base=1000
  1100 SyscallEnter call=read fd=3
run 1 normal base=1600
  1600 SyscallExit result=1
run 2 normal base=1000
  1010 SyscallEnter call=read fd=3
  1500 SyscallExit result=1
run 2 normal base=1600
  1600 SyscallEnter call=read fd=3
run 2 normal base=1800
  1800 SyscallExit result=1
",
    );
    let of = |id: u32| trace.threads.iter().position(|thread| thread.id.0 == id).unwrap() as u32;
    let calls = |thread| trace.calls.iter().filter(move |call| call.thread == thread).map(|call| call.time);
    assert_eq!(calls(of(1)).collect::<Vec<_>>(), [closed(100, 600)]);
    assert_eq!(calls(of(2)).collect::<Vec<_>>(), [closed(10, 500), closed(600, 800)]);
}

#[test]
fn after_a_loss_that_no_event_follows_nothing_is_claimed() {
    let trace = trace(
        "run 0 normal base=1000
  1900 Loss thread=1 reason=slow_reader count=4
run 1 normal base=1000
  1100 PollBegin task=5
",
    );
    assert_eq!(thread_states(&trace, 0), [(0, State::Unknown)]);
    assert_eq!(trace.polls[0].time, open(100, 100));
    assert_eq!(states(&trace.tasks[0].states), [(0, State::Unknown)]);
}

#[test]
fn losses_of_threads_without_a_slot_are_told_of_number_zero() {
    let trace = trace("run 0 normal base=1000\n  1500 Loss thread=0 reason=no_thread count=7\n");
    assert_eq!((trace.lost(), trace.threads[0].name.as_str()), (7, "threads without a slot"));
}

#[test]
fn what_lies_before_the_window_is_context_and_counts_for_nothing() {
    let trace = trace(
        "run 1 normal base=500
  500 TaskSpawn task=5
  510 PollBegin task=5
  520 PollEnd outcome=pending
  600 SyscallEnter call=read fd=3
  610 SyscallExit result=1
  700 PollBegin task=6
  710 TaskWake task=5
  720 WaitBegin kind=pthread_mutex addr=0x10
  1100 WaitEnd
  1200 PollEnd outcome=pending
  1300 PollBegin task=5
run 2 normal base=500
  800 ThreadExit
run 3 normal base=500
  600 Counter name=2 value=4
  700 Counter name=2 value=5
  1800 Counter name=2 value=6
",
    );
    assert_eq!(trace.events(), 4, "wait end, poll end, poll begin, counter");
    assert_eq!(trace.threads.iter().map(|thread| thread.id.0).collect::<Vec<_>>(), [1, 3]);
    let polls: Vec<_> =
        trace.polls.iter().map(|poll| (trace.tasks[poll.task as usize].id.0, poll.time)).collect();
    assert_eq!(polls, [(6, open(0, 200)), (5, open(300, 1000))]);
    assert_eq!((trace.waits[0].time, trace.waits[0].in_poll), (open(0, 100), Some(0)));
    assert_eq!(trace.calls.len(), 0);
    assert_eq!((trace.task_wakes.len(), trace.task_wakes[0].at, trace.task_wakes[0].led_to), (1, 0, Some(1)));
    assert_eq!(trace.counters[0].values, [(0, 5), (800, 6)]);
    assert_eq!(thread_states(&trace, 0)[0], (0, State::Blocked));
    assert_eq!(trace.tasks[0].life, open(0, 1000));
}

#[test]
fn what_lies_after_the_window_is_left_out() {
    let trace = trace("run 1 normal base=1000\n  1900 PollBegin task=5\n  2100 PollEnd outcome=pending\n");
    assert_eq!((trace.events(), trace.polls[0].time), (1, open(900, 1000)));
}

#[test]
fn of_equal_stamps_ends_come_first_so_that_a_task_is_in_one_poll_at_a_time() {
    let trace = trace(
        "run 1 normal base=1000
  1200 PollBegin task=5
  1300 PollEnd outcome=pending
run 2 normal base=1000
  1100 PollBegin task=5
  1200 PollEnd outcome=pending
run 3 normal base=1000
  1200 TaskWake task=5
",
    );
    assert_eq!(
        trace.suspensions.iter().map(|item| item.time).collect::<Vec<_>>(),
        [closed(200, 200), open(300, 1000)]
    );
    assert_eq!(trace.task_wakes[0].led_to, Some(1));
}

#[test]
fn runs_that_are_out_of_order_in_the_file_are_read_by_time() {
    let trace = trace(
        "run 1 normal base=1500
  1500 SyscallExit result=1
run 1 signal base=1200
  1300 CpuSample weight=4
run 1 normal base=1000
  1100 SyscallEnter call=read fd=3
",
    );
    assert_eq!(trace.calls[0].time, closed(100, 500));
    assert_eq!(trace.threads.len(), 1);
}

#[test]
fn a_stamp_that_runs_backwards_counts_as_the_one_before() {
    let trace = trace(
        "run 1 normal base=1000
  1600 SyscallEnter call=read fd=3
run 1 normal base=1100
  1500 SyscallExit result=1
",
    );
    assert_eq!(trace.calls[0].time, closed(600, 600));
}

#[test]
fn switches_of_the_kernel_tell_running_from_runnable() {
    let trace = trace(
        "run 1 normal base=1000
  1100 ThreadName name=2
run 1 kernel base=1000
  1200 SwitchOut preempted=1
  1300 SwitchIn
  1400 SwitchOut preempted=0
  1500 SwitchIn
run 2 kernel base=1000
  1450 SchedWaking thread=1
",
    );
    let expected = [
        (0, State::Unknown),
        (100, State::Running),
        (200, State::Runnable),
        (300, State::Running),
        (400, State::Waiting),
        (450, State::Runnable),
        (500, State::Running),
    ];
    assert_eq!(thread_states(&trace, 0), expected);
}

#[test]
fn threads_live_from_their_start_to_their_exit() {
    let trace = trace(
        "run 1 normal base=1000
  1050 PollBegin task=5
run 2 normal base=1000
  1040 ThreadStart tid=78 creator=1 stack=4
  1900 ThreadExit
run 3 normal base=1000
  1500 ThreadName name=3
",
    );
    let [born, _, old] = trace.threads.as_slice() else { panic!("three threads") };
    assert_eq!((born.life, born.tid, born.creator, born.creation_stack.0), (closed(40, 900), 78, Some(1), 4));
    assert_eq!((old.life, old.name.as_str()), (open(0, 1000), "reaper"));
}

#[test]
fn spans_know_their_thread_and_task_and_end_where_they_are_ended() {
    let trace = trace(
        "run 1 normal base=1000
  1100 PollBegin task=5
  1110 SpanBegin span=7 name=2 parent=0
  1120 SpanField span=7 key=2 value=3
  1130 UserTaskBegin user_task=7 parent=1 name=3
  1140 Log category=2 message=3
run 2 normal base=1000
  1200 SpanEnd span=7
  1300 SpanEnd span=8
",
    );
    let [span, user_task] = trace.spans.as_slice() else { panic!("an end without a beginning has no name") };
    assert_eq!((span.time, span.thread, span.task, span.fields.len()), (closed(110, 200), 0, Some(0), 1));
    assert_eq!((user_task.user_task, user_task.parent, user_task.time), (true, Some(1), open(130, 1000)));
    assert_eq!((trace.logs[0].at, trace.logs[0].task), (140, Some(0)));
}

#[test]
fn a_trace_whose_writer_did_not_finish_ends_with_its_last_event() {
    let (trace, problems) = load_text(&format!("{HEAD}run 1 normal base=1000\n  1400 PollBegin task=5\n"));
    assert_eq!((trace.info.duration_ns, trace.info.complete), (400, false));
    assert_eq!(problems, [Problem::Unfinished]);
}

#[test]
fn a_trace_without_a_header_begins_with_its_first_event() {
    let (trace, problems) = load_text("schema\nrun 1 normal base=900\n  950 PollBegin task=5\nend 1000\n");
    assert_eq!((trace.info.duration_ns, trace.polls[0].time), (50, open(0, 50)));
    assert_eq!(problems, [Problem::NoHeader]);
}

#[test]
fn a_sleep_of_the_machine_is_no_slice_and_is_noted() {
    let mut text = String::from("header start=1 start_monotonic_ns=1\nschema\nrun 0 normal base=1\n");
    for second in 1..=6_u64 {
        let ticks = second * 1_000_000_000 + if second > 3 { 3_600_000_000_000 } else { 0 };
        text += &format!("  {ticks} ClockSync monotonic={}\n", second * 1_000_000_000);
    }
    text +=
        "run 1 normal base=1\n  3100000000 SyscallEnter call=read\n  3603900000000 SyscallExit result=1\n";
    let (trace, _) = load_text(&(text + "end 3606000000000\n"));
    assert!(trace.calls[0].time.duration() < 1_000_000_000, "{:?}", trace.calls[0].time);
    let note = &trace.info.notes[0].1;
    assert!(note.starts_with("the machine slept for 3600.0 s, 3.0 s into the capture"), "{note}");
}
