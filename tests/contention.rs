//! Who waited and who made them wait, on small traces whose answer is known; as `go tool pprof` reads it.

#[path = "oracles/mod.rs"]
mod oracles;

use kymo::analysis::contention::{Blame, Contention, blame, blocked, held};
use kymo::events::{PollOutcome, StackId, WaitKind, WaitOutcome};
use kymo::model::machinery::LockKind;
use kymo::model::{Ns, Park, Poll, Suspension, TaskWake, Trace, Wait, Wake};
use kymo::profile::{Label, LabelValue, Profile, block, mutex};
use oracles::made::{blank, interval, stack, task, thread};
use oracles::pprof;

const LOCK: u64 = 0x7f00_0000_1000;
const CONTENDED: &str = "std::sys::sync::mutex::futex::Mutex::lock_contended";
const LOCKED: &str = "<std::sync::poison::mutex::Mutex<T>>::lock";
const DROPPED: &str = "core::ptr::drop_in_place::<std::sync::poison::mutex::MutexGuard<u64>>";

/// Threads, the stacks on which they lock and unlock, and a trace to put waits and wakes into.
struct Locks {
    trace: Trace,
}

impl Locks {
    fn new() -> Locks {
        let mut trace = blank(1_000_000_000);
        for name in ["main", "holder", "innocent", "victim"] {
            thread(&mut trace, name);
        }
        Locks { trace }
    }

    fn waits(&mut self, thread: u32, function: &str, begin: Ns, end: Ns) {
        let stack = stack(&mut self.trace, &["syscall", CONTENDED, LOCKED, function, "locks::main"]);
        self.waits_at(thread, stack, begin, end);
    }

    fn waits_at(&mut self, thread: u32, stack: StackId, begin: Ns, end: Ns) {
        let (kind, outcome) = (WaitKind::Futex, WaitOutcome::Woken);
        let (time, addr) = (interval(begin, end), LOCK);
        self.trace.waits.push(Wait { thread, in_poll: None, time, addr, kind, outcome, stack });
        self.trace.waits.sort_by_key(|wait| wait.time.begin);
    }

    fn wakes(&mut self, thread: u32, function: &str, at: Ns) {
        let stack = stack(&mut self.trace, &["syscall", DROPPED, function, "locks::main"]);
        self.trace.wakes.push(Wake { at, thread, in_poll: None, addr: LOCK, woken: 1, stack });
        self.trace.wakes.sort_by_key(|wake| wake.at);
    }
}

/// Delay in nanoseconds by the leaf function of each sample.
fn delays(profile: &Profile) -> Vec<(String, i64)> {
    let mut delays: Vec<(String, i64)> = Vec::new();
    for sample in &profile.samples {
        let leaf = profile.frames(sample).next().unwrap().function.clone();
        match delays.iter_mut().find(|(function, _)| *function == leaf) {
            Some((_, delay)) => *delay += sample.values[1],
            None => delays.push((leaf, sample.values[1])),
        }
    }
    delays.sort_by_key(|&(_, delay)| -delay);
    delays
}

fn ms(ms: u64) -> Ns {
    ms * 1_000_000
}

/// The holder keeps the lock for 90 ms; when it lets go, an innocent one gets it first, for 1 ms, and wakes the victim.
fn barging() -> Locks {
    let mut locks = Locks::new();
    locks.waits(3, "locks::victim", ms(10), ms(101));
    locks.wakes(1, "locks::slow_holder", ms(100));
    locks.wakes(2, "locks::innocent", ms(101));
    locks
}

#[test]
fn the_holder_is_blamed_and_not_the_last_unlocker() {
    let trace = barging().trace;
    let expected = [("locks::slow_holder".to_owned(), 90_000_000), ("locks::innocent".to_owned(), 1_000_000)];
    assert_eq!(delays(&mutex(&trace)), expected);
    assert_eq!(delays(&block(&trace)), [("locks::victim".to_owned(), 91_000_000)]);
}

#[test]
fn pprof_names_the_planted_functions() {
    let trace = barging().trace;
    let top = pprof(&["-top"], &mutex(&trace).encode());
    let lines: Vec<&str> = top.lines().collect();
    assert!(lines.iter().any(|line| line.contains("Type: delay")), "{top}");
    let first = lines.iter().position(|line| line.trim_start().starts_with("flat")).unwrap() + 1;
    assert!(lines[first].ends_with("locks::slow_holder") && lines[first].contains("90ms"), "{top}");
    assert!(lines[first + 1].ends_with("locks::innocent") && lines[first + 1].contains("1ms"), "{top}");
    let top = pprof(&["-top", "-sample_index=contentions"], &block(&trace).encode());
    assert!(top.contains("Showing nodes accounting for 1, 100% of 1 total"), "{top}");
    let tags = pprof(&["-tags"], &block(&trace).encode());
    assert!(tags.contains("mutex") && tags.contains("victim") && tags.contains("0x7f0000001000"), "{tags}");
}

#[test]
fn pprof_reads_addresses_modules_and_both_names() {
    let raw = pprof(&["-raw"], &mutex(&barging().trace).encode());
    assert!(raw.contains("contentions/count delay/nanoseconds[dflt]"), "{raw}");
    assert!(raw.contains("/usr/bin/made abcdef01 [FN][FL][LN][IN]"), "{raw}");
    assert!(raw.contains("locks::slow_holder /src/locks.rs:10"), "{raw}");
    assert!(raw.contains("s=0(_R18locks::slow_holder)") || raw.contains("_R18locks::slow_holder"), "{raw}");
}

#[test]
fn short_waits_that_were_sampled_stand_for_the_others() {
    let mut locks = Locks::new();
    let sampled = stack(&mut locks.trace, &["syscall", CONTENDED, "locks::busy"]);
    // 1000 waits of 1 µs; at a threshold of 20 µs one in twenty has a stack.
    for wait in 0..1_000 {
        let stack = if wait % 20 == 0 { sampled } else { StackId(0) };
        locks.waits_at(3, stack, wait * 5_000, wait * 5_000 + 1_000);
    }
    let blocked = blocked(&locks.trace);
    assert_eq!(blocked.len(), 50);
    let profile = block(&locks.trace);
    assert_eq!((profile.total(0), profile.total(1)), (1_000, 1_000_000));
}

#[test]
fn idle_workers_and_waits_without_an_end_are_left_out() {
    let mut locks = Locks::new();
    let park =
        ["syscall", "std::sys::sync::condvar::futex::Condvar::wait", "tokio::runtime::park::Inner::park"];
    let parked = stack(&mut locks.trace, &park);
    locks.waits_at(1, parked, 0, ms(900));
    let condvar =
        stack(&mut locks.trace, &["syscall", "std::sys::sync::condvar::futex::Condvar::wait", "app::take"]);
    locks.waits_at(2, condvar, ms(10), ms(300));
    locks.trace.parks.push(Park { thread: 2, time: interval(ms(9), ms(301)) });
    locks.waits_at(3, StackId(0), ms(20), ms(1_000));
    locks.trace.waits.last_mut().unwrap().time.open = true;
    assert_eq!(blocked(&locks.trace), []);
    locks.waits_at(2, condvar, ms(400), ms(500));
    assert_eq!(delays(&block(&locks.trace)), [("app::take".to_owned(), 100_000_000)]);
    assert_eq!(blame(&locks.trace), Blame::default(), "nobody holds a condvar");
}

#[test]
fn a_wait_whose_unlock_was_not_seen_is_nobodys() {
    let mut locks = Locks::new();
    locks.waits(3, "locks::victim", ms(10), ms(30));
    assert_eq!(delays(&mutex(&locks.trace)), [("[unlock not seen]".to_owned(), 20_000_000)]);
}

/// One after the other, three tasks hold an async mutex: the first for 50 ms, the others for 1 ms each.
fn convoy() -> Trace {
    let mut trace = blank(ms(100));
    let worker = thread(&mut trace, "worker");
    let holder = task(&mut trace, "slow_task");
    let tasks: Vec<u32> = (0..3).map(|index| task(&mut trace, &format!("waiter_{index}"))).collect();
    let acquire = "<tokio::sync::batch_semaphore::Acquire as core::future::future::Future>::poll";
    let lock = "tokio::sync::mutex::Mutex<T>::lock::{closure#0}";
    let awaits = stack(&mut trace, &[acquire, lock, "app::waiter::{closure#0}"]);
    let release = "tokio::sync::batch_semaphore::Semaphore::release";
    let slow = stack(&mut trace, &[release, "app::slow_task::{closure#0}"]);
    let quick = stack(&mut trace, &[release, "app::waiter::{closure#0}"]);
    let mut poll = |task, begin, end| {
        let (time, outcome) = (interval(begin, end), PollOutcome::Ready);
        trace.polls.push(Poll { task, thread: worker, time, outcome, woken_by: None });
        trace.polls.len() as u32 - 1
    };
    let polls =
        [poll(holder, ms(50), ms(50)), poll(tasks[0], ms(50), ms(51)), poll(tasks[1], ms(51), ms(52))];
    for (index, (&by_poll, stack)) in polls.iter().zip([slow, quick, quick]).enumerate() {
        let (at, task) = (ms(50 + index as u64), tasks[index]);
        let time = interval(ms(1), at);
        trace.suspensions.push(Suspension { task, time, stack: awaits });
        let (by_poll, led_to) = (Some(by_poll), None);
        trace.task_wakes.push(TaskWake { at, task, by_thread: worker, by_poll, stack, led_to });
    }
    trace
}

#[test]
fn a_convoy_is_blamed_on_the_one_who_held_the_lock_for_long() {
    let trace = convoy();
    let waited: i64 = 49_000_000 + 50_000_000 + 51_000_000;
    assert_eq!(delays(&block(&trace)), [("app::waiter::{closure#0}".to_owned(), waited)]);
    // Each of the three waited for the slow one from 1 ms to 50 ms; the last two also for the quick ones before them.
    let slow = 3 * 49_000_000;
    let expected = [
        ("app::slow_task::{closure#0}".to_owned(), slow),
        ("app::waiter::{closure#0}".to_owned(), waited - slow),
    ];
    assert_eq!(delays(&mutex(&trace)), expected);
    assert!(held(&trace).iter().all(|blame| blame.waiting == LockKind::Mutex));
    let total = |contentions: &[Contention]| contentions.iter().map(|one| one.share.contentions).sum::<f64>();
    assert_eq!((total(&held(&trace)), total(&blocked(&trace))), (3.0, 3.0));
}

#[test]
fn a_profile_comes_back_from_its_bytes() {
    let mut profile = mutex(&barging().trace);
    profile.comments = vec!["made for a test".into()];
    let bytes_label = Label { key: "bytes".into(), value: LabelValue::Number(4096, "bytes".into()) };
    profile.samples[0].labels.push(bytes_label);
    profile.samples[0].values[0] = -3;
    let mut decoded = Profile::decode(&profile.encode()).unwrap();
    // The format has no load bias.
    decoded
        .mappings
        .iter_mut()
        .zip(&profile.mappings)
        .for_each(|(mapping, module)| mapping.bias = module.bias);
    assert_eq!(decoded, profile);
    assert_eq!(Profile::decode(&profile.encode_raw()).unwrap().samples, profile.samples);
}

#[test]
fn damaged_profiles_are_refused_with_a_reason() {
    let raw = mutex(&barging().trace).encode_raw();
    for cut in 0..raw.len() {
        // Where a cut falls between two messages, what remains is a profile or lacks what it refers to.
        let _read_or_refused = Profile::decode(&raw[..cut]);
    }
    let refused = |bytes: &[u8]| Profile::decode(bytes).unwrap_err().to_string();
    assert!(refused(&[0x12, 0x80]).contains("offset 1"), "{}", refused(&[0x12, 0x80]));
    assert!(refused(&[0x1f, 0x8b, 0]).contains("unpacked"));
    assert!(refused(&[0x12, 2, 0x08, 9]).contains("location 9"));
}

#[test]
fn folded_stacks_are_root_first_and_summed() {
    let folded = mutex(&barging().trace).folded(1);
    assert_eq!(folded, "locks::main;locks::innocent 1000000\nlocks::main;locks::slow_holder 90000000\n");
}

#[test]
fn inlined_frames_are_lines_of_one_location() {
    let mut locks = Locks::new();
    let address = oracles::made::address(
        &mut locks.trace,
        &["std::sync::poison::mutex::Mutex<T>::lock", "app::get", "app::run"],
    );
    let contended = oracles::made::address(&mut locks.trace, &[CONTENDED]);
    let id = StackId(77);
    locks.trace.stacks.addresses.insert(id, vec![contended, address]);
    locks.waits_at(3, id, 0, ms(5));
    let profile = block(&locks.trace);
    assert_eq!(profile.samples[0].locations.len(), 1);
    let functions: Vec<_> = profile.locations[0].frames.iter().map(|frame| frame.function.as_str()).collect();
    assert_eq!(functions, ["app::get", "app::run"]);
    let raw = pprof(&["-raw"], &profile.encode());
    assert!(raw.contains("app::get") && raw.contains("app::run") && !raw.contains("lock_contended"), "{raw}");
}
