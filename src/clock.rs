//! Ticks, and what they are in nanoseconds.
//!
//! Events carry raw ticks (TSC or CNTVCT), since converting them would cost more than writing them. The recorder notes
//! a [`Sync`] each second, the same instant in ticks and in the system's clocks; a reader's [`Timebase`] interpolates
//! between them. The counter is read where `quanta` trusts it (the CPU says that it is invariant) and the kernel does
//! (it keeps its own time by it, or by a clock made of it); elsewhere ticks are CLOCK_MONOTONIC: [`source`] says which.
//! `KYMO_CLOCK=monotonic` chooses the latter, for a counter that neither of them found out about.

#![allow(
    unsafe_code,
    reason = "std has no CLOCK_MONOTONIC as a number, and traces must name it for others to align with; and the \
              CPU's counter, which costs twice as much behind a call"
)]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// What ticks count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The CPU's own counter.
    Counter,
    /// CLOCK_MONOTONIC in nanoseconds: no counter here that can be trusted.
    Monotonic,
}

impl Source {
    /// The word for it in trace headers.
    pub const fn word(self) -> &'static str {
        match self {
            Source::Counter => "counter",
            Source::Monotonic => "monotonic",
        }
    }
}

/// One instant in ticks and in the system's clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sync {
    /// Raw ticks.
    pub ticks: u64,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub monotonic_ns: u64,
    /// Nanoseconds since the epoch.
    pub realtime_ns: u64,
}

static CLOCK: OnceLock<quanta::Clock> = OnceLock::new();

/// Whether `quanta` trusts the CPU's counter, which is then read here, without a call.
static COUNTS: AtomicBool = AtomicBool::new(false);

/// How far apart two reads of one counter may be, one right after the other, in ticks: some ten microseconds.
const NEAR: u64 = 1 << 16;

/// Chooses what ticks are: `monotonic` never reads the CPU's counter.
const VARIABLE: &str = "KYMO_CLOCK";

/// What the kernel keeps its time by.
const KERNELS: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

/// What it keeps it by when it has found the CPU's counter to be unstable, or to have none.
const WITHOUT_COUNTER: [&str; 5] = ["hpet", "acpi_pm", "pit", "jiffies", "refined-jiffies"];

/// Calibrates the clock; the first call may take a few hundred milliseconds (quanta's calibration). Call it before
/// recording starts: [`ticks`] is 0 until then.
pub fn init() {
    let clock = CLOCK.get_or_init(quanta::Clock::new);
    // quanta doesn't tell what it reads: the counter, if both agree; tried anew in case of a preemption between them.
    let agree = || (0..8).any(|_| counter().abs_diff(clock.raw()) < NEAR);
    let asked = std::env::var(VARIABLE).unwrap_or_default();
    let kernel = std::fs::read_to_string(KERNELS).unwrap_or_default();
    COUNTS.store(may_count(&asked, &kernel) && agree(), Ordering::Relaxed);
}

/// Whether nobody has a word against the counter: the user, the kernel.
fn may_count(asked: &str, kernel: &str) -> bool {
    asked != Source::Monotonic.word() && !WITHOUT_COUNTER.contains(&kernel.trim())
}

/// The current ticks, about 9 ns. No locks, no allocation, async-signal-safe.
#[inline(always)]
pub fn ticks() -> u64 {
    if COUNTS.load(Ordering::Relaxed) { counter() } else { ticks_without_counter() }
}

#[cold]
fn ticks_without_counter() -> u64 {
    CLOCK.get().map_or(0, |_| monotonic_ns())
}

/// The CPU's counter, which [`ticks`] are if [`source`] says so.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub fn counter() -> u64 {
    // SAFETY: every x86_64 CPU has the instruction, and it touches no memory.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The CPU's counter, which [`ticks`] are if [`source`] says so.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
pub fn counter() -> u64 {
    let count: u64;
    // SAFETY: Linux lets programs read this register, and that touches no memory.
    unsafe {
        core::arch::asm!("mrs {}, cntvct_el0", out(reg) count, options(nomem, nostack, preserves_flags))
    };
    count
}

/// No counter that we could read: agrees with nothing.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline(always)]
pub fn counter() -> u64 {
    u64::MAX
}

/// Nanoseconds from one raw tick to a later one, by quanta's calibration: good to a few parts in a thousand, for
/// rules of thumb on the hot path. Readers use a [`Timebase`].
#[inline]
pub fn nanos_between(begin_ticks: u64, end_ticks: u64) -> u64 {
    match COUNTS.load(Ordering::Relaxed) {
        true => CLOCK.get().map_or(0, |clock| clock.delta_as_nanos(begin_ticks, end_ticks)),
        false => end_ticks.saturating_sub(begin_ticks),
    }
}

/// What ticks count on this machine.
pub fn source() -> Source {
    match COUNTS.load(Ordering::Relaxed) {
        true => Source::Counter,
        false => Source::Monotonic,
    }
}

/// CLOCK_MONOTONIC in nanoseconds.
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a live timespec, which is all that clock_gettime(2) asks for; CLOCK_MONOTONIC always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Notes the present instant in all clocks. The ticks are read between two reads of the monotonic clock, and the
/// tightest of a few tries is kept, so that a preemption in between does not skew it.
pub fn sync() -> Sync {
    let read = || {
        let before = monotonic_ns();
        let ticks = ticks();
        let after = monotonic_ns();
        (after - before, ticks, before + (after - before) / 2)
    };
    // Four tries: a preemption hits one of them at most, in practice.
    let (_, ticks, monotonic_ns) = [read(), read(), read(), read()].into_iter().min().unwrap_or_else(read);
    let realtime_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    Sync { ticks, monotonic_ns, realtime_ns }
}

/// Turns ticks into CLOCK_MONOTONIC nanoseconds, by straight lines between syncs.
///
/// ```
/// use kymo::clock::{Sync, Timebase};
/// let at = |ticks, monotonic_ns| Sync { ticks, monotonic_ns, realtime_ns: 0 };
/// let timebase = Timebase::new(vec![at(1_000, 0), at(4_000, 1_000)]);
/// assert_eq!(timebase.nanos(2_500), 500);
/// assert_eq!(timebase.nanos(7_000), 2_000);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Timebase {
    /// Ascending in ticks and in nanoseconds.
    syncs: Vec<Sync>,
}

impl Timebase {
    /// From syncs in any order. Those that contradict an earlier one (time running backwards) are left out.
    pub fn new(mut syncs: Vec<Sync>) -> Timebase {
        syncs.sort_by_key(|sync| sync.ticks);
        let mut kept: Vec<Sync> = Vec::with_capacity(syncs.len());
        for sync in syncs {
            if kept.last().is_none_or(|last| sync.ticks > last.ticks && sync.monotonic_ns > last.monotonic_ns)
            {
                kept.push(sync);
            }
        }
        Timebase { syncs: kept }
    }

    /// The syncs that are used, ascending.
    pub fn syncs(&self) -> &[Sync] {
        &self.syncs
    }

    /// CLOCK_MONOTONIC nanoseconds at `ticks`, extrapolated outside the syncs, never below 0. With one sync or none
    /// a tick counts as a nanosecond.
    #[inline]
    pub fn nanos(&self, ticks: u64) -> u64 {
        let after = self.syncs.partition_point(|sync| sync.ticks <= ticks);
        let right = after.clamp(1, self.syncs.len().max(2) - 1);
        let (Some(a), b) = (self.syncs.get(right - 1), self.syncs.get(right)) else { return ticks };
        let from_a = ticks as i128 - i128::from(a.ticks);
        let Some(b) = b else { return (i128::from(a.monotonic_ns) + from_a).max(0) as u64 };
        let (run, rise) = (i128::from(b.ticks - a.ticks), i128::from(b.monotonic_ns - a.monotonic_ns));
        (i128::from(a.monotonic_ns) + (from_a * rise).div_euclid(run)).max(0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ticks: u64, monotonic_ns: u64) -> Sync {
        Sync { ticks, monotonic_ns, realtime_ns: 0 }
    }

    #[test]
    fn f4_no_tsc_when_the_kernel_or_the_user_mistrusts_it() {
        for kernel in ["tsc\n", "kvm-clock\n", "arch_sys_counter\n", "hyperv_clocksource_tsc_page\n", ""] {
            assert!(may_count("", kernel), "{kernel}");
            assert!(!may_count("monotonic", kernel), "{kernel}");
        }
        for kernel in WITHOUT_COUNTER {
            assert!(!may_count("", &format!("{kernel}\n")), "{kernel}");
        }
    }

    #[test]
    fn time_is_monotone_and_exact_at_each_sync() {
        let syncs = [at(100, 1_000), at(300, 1_050), at(1_000, 9_000)];
        let timebase = Timebase::new(syncs.to_vec());
        assert!(syncs.iter().all(|sync| timebase.nanos(sync.ticks) == sync.monotonic_ns));
        let times: Vec<_> = (0..2_000).map(|ticks| timebase.nanos(ticks)).collect();
        assert!(times.is_sorted());
    }

    #[test]
    fn a_sync_that_runs_backwards_is_left_out() {
        let timebase = Timebase::new(vec![at(100, 1_000), at(200, 900), at(300, 1_200)]);
        assert_eq!(timebase.syncs(), [at(100, 1_000), at(300, 1_200)]);
    }

    #[test]
    fn without_syncs_a_tick_is_a_nanosecond() {
        assert_eq!(Timebase::default().nanos(17), 17);
        assert_eq!(Timebase::new(vec![at(10, 100)]).nanos(17), 107);
    }

    #[test]
    fn ninety_days_of_ticks_do_not_overflow() {
        let day = 86_400_000_000_000_u64;
        let timebase = Timebase::new(vec![at(0, 1), at(day * 90 * 4, day * 90)]);
        assert!(timebase.nanos(day * 45 * 4).abs_diff(day * 45) <= 1);
    }

    #[test]
    fn the_clock_advances_with_the_systems() {
        init();
        let (a, b) = (sync(), sync());
        assert!(b.ticks > a.ticks && b.monotonic_ns > a.monotonic_ns);
    }
}
