//! CPU samples: where threads are while they use a CPU, told by the kernel's CPU timers.
//!
//! Each thread has a timer that counts its own CPU time and signals it, so a thread that sleeps is never interrupted:
//! no call fails with EINTR because of this. Where the kernel has no timer to spare, one for the whole process does
//! it (`ITIMER_PROF`), and where that is refused too, there are no samples; `status` says which it is, and why.
//!
//! The kernel looks at CPU timers once in each of its ticks: what has expired meanwhile comes as one signal that says
//! how often, and is that sample's weight. More than a sample in a tick can't be had, so the period is at least that.
//! A timer first expires after a random number of ticks: else threads that live for less than a period would never
//! be seen.
//!
//! `threads` arms and disarms, `signal` is the handler, `timers` the system calls.

#![allow(unsafe_code, reason = "runs before main")]

mod signal;
mod threads;
mod timers;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::clock;
use crate::events::Group;
use crate::record::switches::{self, Collector, Wanted};
use threads::Threads;

/// How samples are taken.
#[derive(Debug, Default)]
enum Rung {
    /// Nobody wants any, or none can be had.
    #[default]
    Off,
    /// Each thread has a timer.
    Threads(Threads),
    /// All share one.
    Shared,
}

#[derive(Debug, Default)]
struct Sampler {
    rung: Rung,
    asked: u32,
    period: u64,
    /// What `status` was told last.
    told: String,
}

static SAMPLER: Mutex<Option<Sampler>> = Mutex::new(None);

fn with<R>(work: impl FnOnce(&mut Sampler) -> R) -> R {
    work(SAMPLER.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Sampler::default))
}

/// Whether a thread could not tell of its begin.
static MISSED: AtomicBool = AtomicBool::new(false);

/// A thread begins, on that thread: it is sampled from its first instruction on, if anybody samples. If the lock is
/// taken, a look of the drain's finds it soon.
#[cfg(hooked)]
pub(super) fn thread_begins(tid: u32) {
    on_own_thread(|threads, period| drop(threads.arm(tid, period)));
}

/// A thread ends, on that thread. If the lock is taken, the next look finds it gone.
#[cfg(hooked)]
pub(super) fn thread_ends(tid: u32) {
    on_own_thread(|threads, _| threads.disarm(tid));
}

#[cfg(hooked)]
fn on_own_thread(work: impl FnOnce(&mut Threads, u64)) {
    if !crate::record::enabled(Group::Cpu) {
        return;
    }
    let Ok(mut sampler) = SAMPLER.try_lock() else {
        return MISSED.store(true, Ordering::Relaxed);
    };
    if let Some(Sampler { rung: Rung::Threads(threads), period, .. }) = &mut *sampler {
        work(threads, *period);
    }
}

impl Sampler {
    fn turn(&mut self, wanted: Wanted) {
        let hz = if wanted.groups.contains(Group::Cpu) { wanted.cpu_hz } else { 0 };
        if hz == self.asked {
            return;
        }
        self.stop();
        self.asked = hz;
        if hz > 0 {
            self.period = (1_000_000_000 / u64::from(hz)).max(timers::tick());
            self.start();
        }
    }

    fn start(&mut self) {
        if let Err(error) = signal::install() {
            return self.say(format!("off: SIGPROF can't be handled: {error}"));
        }
        let mut threads = Threads::default();
        signal::sample(true, 0);
        match threads.look(self.period) {
            Ok(()) => {
                self.rung = Rung::Threads(threads);
                self.say_on();
            }
            Err(error) => {
                drop(threads);
                self.share(&error);
            }
        }
    }

    /// The next rung: one timer for all.
    fn share(&mut self, why: &io::Error) {
        self.rung = Rung::Off;
        signal::sample(true, self.period);
        match timers::share(self.period) {
            Ok(()) => {
                self.rung = Rung::Shared;
                self.say(format!("degraded: one timer for all threads (ITIMER_PROF), because {}", hint(why)));
            }
            Err(error) => {
                signal::sample(false, 0);
                self.say(format!("off: {}; ITIMER_PROF: {error}", hint(why)));
            }
        }
    }

    fn stop(&mut self) {
        if matches!(self.rung, Rung::Shared) {
            // It was ours, so it can be stopped.
            let _ = timers::share(0);
        }
        self.rung = Rung::Off;
        signal::sample(false, 0);
    }

    /// What a drain's look finds: new threads, ended ones, somebody else's handler.
    fn look(&mut self) {
        if !matches!(self.rung, Rung::Off) && !signal::is_ours() {
            self.stop();
            return self.say("stolen: the program took SIGPROF; the next capture takes it back".into());
        }
        let Rung::Threads(threads) = &mut self.rung else { return };
        if MISSED.swap(false, Ordering::Relaxed) {
            threads.look_soon();
        }
        match threads.look_if_due(self.period) {
            Ok(false) => {}
            Ok(true) => self.say_on(),
            Err(error) => self.share(&error),
        }
    }

    fn say_on(&mut self) {
        let Rung::Threads(threads) = &self.rung else { return };
        let asked = self.asked;
        let mut state =
            format!("on: a timer for each thread, {asked} samples asked for a second that it runs");
        let most = 1_000_000_000 / self.period;
        if most < u64::from(asked) {
            state += &format!(", {most} taken: the kernel's tick allows no more");
        }
        let unsampled = threads.unsampled();
        if !unsampled.is_empty() {
            state += &format!("; not sampled, because they block SIGPROF: {}", unsampled.join(", "));
        }
        self.say(state);
    }

    fn say(&mut self, state: String) {
        if state != self.told {
            crate::status::set("cpu", state.clone());
            self.told = state;
        }
    }
}

/// Why a thread can't have a timer, and what would help.
fn hint(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => format!("timer_create: {error}; a higher `ulimit -i` helps"),
        Some(libc::EPERM | libc::EACCES | libc::ENOSYS) => {
            format!("timer_create: {error}; a seccomp filter?")
        }
        _ => error.to_string(),
    }
}

fn turn(wanted: Wanted) {
    with(|sampler| sampler.turn(wanted));
}

fn collect(_: &mut Collector<'_>) {
    with(Sampler::look);
}

/// A number that nobody can foresee well enough to run in step with it.
fn random() -> u64 {
    let mut x = clock::ticks().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

extern "C" fn init() {
    switches::on_change(turn);
    switches::on_drain(collect);
    crate::status::set("cpu", "on: when a capture asks for samples");
}

#[used]
#[unsafe(link_section = ".init_array")]
static INIT: extern "C" fn() = init;
