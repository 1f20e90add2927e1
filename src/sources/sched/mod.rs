//! The kernel's context switches of this process's threads, or what it counts of them where those can't be had.
//!
//! While a capture wants them, each thread has a perf ring (`ring`): the kernel notes when it comes onto a CPU and when it
//! leaves one, willingly or preempted. An ordinary user may see that of their own threads. A new thread opens its own
//! ring before its routine runs; one that nobody announced is found in `/proc/self/task`. The drain reads the rings
//! (`watch`). With the last capture they go: open events cost each switch a microsecond.
//!
//! Where the kernel refuses, each thread's totals are told instead (`totals`): at a capture's begin and end, each second
//! in between, and by a thread that ends. `KYMO_SCHED=totals` asks for that.
//!
//! A seccomp filter may kill a process for asking, and there is no way to know: so behind one nothing is asked unless
//! `KYMO_SCHED=rings` says that it may be.

#![allow(unsafe_code, reason = "runs before main; prctl")]

mod ring;
mod totals;
mod watch;

use std::io::Error;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering, fence};
use std::sync::{Mutex, OnceLock, PoisonError};

use crossbeam_queue::ArrayQueue;

use self::ring::{NoRing, Ring};
use self::watch::{Announced, Watch};
use crate::events::{Count, Group, SwitchIn};
use crate::limits::SCHED_ANNOUNCED;
use crate::record;
use crate::record::switches::{self, Collector, Wanted};

/// What new threads do: see [`OFF`], [`RINGS`], [`TOTALS`].
static MODE: AtomicU8 = AtomicU8::new(OFF);
const OFF: u8 = 0;
/// Open their ring.
const RINGS: u8 = 1;
/// Tell their totals when they end.
const TOTALS: u8 = 2;

/// Rings are asked for behind a seccomp filter too.
static ASK_ANYWAY: AtomicBool = AtomicBool::new(false);

/// Rings that new threads have opened, on their way to the drain.
static ANNOUNCED: OnceLock<ArrayQueue<Announced>> = OnceLock::new();

static WATCH: Mutex<Option<Watch>> = Mutex::new(None);

/// Called by the listeners only, one at a time.
fn with_watch<R>(work: impl FnOnce(&mut Option<Watch>) -> R) -> R {
    work(&mut WATCH.lock().unwrap_or_else(PoisonError::into_inner))
}

fn turn(wanted: Wanted) {
    with_watch(|watch| match (wanted.groups.contains(Group::Sched), watch.is_some()) {
        (true, false) => *watch = Some(begin()),
        (false, true) => end(watch),
        _ => {}
    });
}

fn begin() -> Watch {
    ANNOUNCED.get_or_init(|| ArrayQueue::new(SCHED_ANNOUNCED));
    let why_not = match why_not_rings() {
        None => {
            // From here on new threads open their own, so that the look at those there are misses none.
            MODE.store(RINGS, Ordering::SeqCst);
            let watch = Watch::begin(true, say("on: each context switch, by perf rings".into()));
            if !watch.found_no_room() {
                return watch;
            }
            "no memory can be locked for rings; a higher RLIMIT_MEMLOCK would help".into()
        }
        Some(why) => why,
    };
    MODE.store(TOTALS, Ordering::SeqCst);
    Watch::begin(false, say(format!("totals only: {why_not}")))
}

fn say(state: String) -> String {
    crate::status::set("sched", state.as_str());
    state
}

fn end(watch: &mut Option<Watch>) {
    MODE.store(OFF, Ordering::SeqCst);
    fence(Ordering::SeqCst);
    *watch = None;
    close_announced();
    crate::status::set("sched", "off: no capture wants it");
}

/// The reason for totals, if they are all there is.
fn why_not_rings() -> Option<String> {
    let asked = std::env::var("KYMO_SCHED").unwrap_or_default();
    if asked == "totals" {
        return Some("KYMO_SCHED asks for them".into());
    }
    ASK_ANYWAY.store(asked == "rings", Ordering::Relaxed);
    if !may_ask() {
        return Some(
            "a seccomp filter is on, which may kill for perf_event_open; KYMO_SCHED=rings tries it".into(),
        );
    }
    match Ring::open(0) {
        Err(NoRing::Refused(error)) => Some(refusal(&error)),
        _ => None,
    }
}

/// Why perf_event_open(2) is refused, and what would help.
fn refusal(error: &Error) -> String {
    let paranoid = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
    let advice = match paranoid.trim().parse::<i32>() {
        Ok(3..) => format!("kernel.perf_event_paranoid is {}, 2 would do", paranoid.trim()),
        Err(_) => "the kernel has no perf events".into(),
        Ok(_) => "in a container its seccomp profile must allow the call".into(),
    };
    format!("perf_event_open is refused ({error}): {advice}")
}

/// Whether nothing could kill this thread for asking.
fn may_ask() -> bool {
    const FILTER: libc::c_int = 2;
    // SAFETY: PR_GET_SECCOMP takes nothing and changes nothing.
    ASK_ANYWAY.load(Ordering::Relaxed) || unsafe { libc::prctl(libc::PR_GET_SECCOMP) != FILTER }
}

/// Closes what threads have announced and nobody will take.
fn close_announced() {
    while ANNOUNCED.get().and_then(ArrayQueue::pop).is_some() {}
}

/// A new thread is about to run: it opens its ring, and tells that it is on a CPU.
#[cfg_attr(not(hooked), expect(dead_code, reason = "threads are announced by a hook"))]
pub(super) fn thread_begins() {
    if MODE.load(Ordering::SeqCst) != RINGS || !record::enabled(Group::Sched) {
        return;
    }
    let Some(announced) = ANNOUNCED.get().filter(|_| may_ask()) else { return };
    // The drain, which will find the thread, tries again and says why not.
    let Ok(ring) = Ring::open(0) else { return };
    let cpu = this_cpu();
    record::emit(SwitchIn { cpu: Count(cpu.into()) });
    let _ = announced.push(Announced { ring, thread: record::this_thread(), tid: this_tid(), cpu });
    fence(Ordering::SeqCst);
    // Rings have been turned off meanwhile: the drain may have looked before this one was there.
    if MODE.load(Ordering::SeqCst) != RINGS {
        close_announced();
    }
}

/// A thread's routine has returned: what the kernel counts of it would be gone with it.
#[cfg_attr(not(hooked), expect(dead_code, reason = "threads are followed by a hook"))]
pub(super) fn thread_ends() {
    if record::enabled(Group::Sched)
        && let Some(totals) = record::quietly(|| totals::of(this_tid()))
    {
        record::emit(totals);
    }
}

fn this_tid() -> u32 {
    // SAFETY: gettid(2) has no preconditions.
    unsafe { libc::gettid() as u32 }
}

fn this_cpu() -> u32 {
    // SAFETY: sched_getcpu(3) has no preconditions.
    unsafe { libc::sched_getcpu() }.max(0) as u32
}

extern "C" fn init() {
    crate::status::set("sched", "off: no capture wants it");
    switches::on_change(turn);
    switches::on_drain(|collector: &mut Collector<'_>| {
        with_watch(|watch| watch.iter_mut().for_each(|watch| watch.collect(collector)));
    });
}

#[used]
#[cfg_attr(target_os = "linux", unsafe(link_section = ".init_array"))]
static INIT: extern "C" fn() = init;
