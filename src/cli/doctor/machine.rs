//! What this machine allows: by recording this process for a moment, and by what `/proc` and `/sys` say.

use std::fs::read_to_string;

use kymo::clock;
use kymo::events::Groups;
use kymo::limits::MEMORY_BYTES;
use kymo::record::session::{Capture, CaptureOptions};
use kymo::record::sink::{Offer, Sink};

use super::{Check, State};

/// As many as anybody asks for, so that the kernel's bound shows.
const CPU_HZ: u32 = 1000;

/// Sources that depend on a program and not on the machine.
const OF_PROGRAMS: [&str; 7] =
    ["hooks", "tasks", "allocations", "contention", "environment", "flight recorder", "file"];

pub(super) fn checks() -> Vec<Check> {
    let mut checks = vec![clock(), perf_events()];
    checks.extend(sources());
    checks.extend([seccomp(), pending_signals(), open_files()].into_iter().flatten());
    checks.extend(memory());
    checks
}

fn trimmed(path: &str) -> Option<String> {
    Some(read_to_string(path).ok()?.trim().to_owned())
}

fn clock() -> Check {
    clock::init();
    let kernel = trimmed("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    let kernel = kernel.map(|name| format!("; the kernel's is {name}")).unwrap_or_default();
    match clock::source() {
        clock::Source::Counter => {
            Check::new("clock", State::On, format!("events are stamped with the CPU's counter{kernel}"))
        }
        clock::Source::Monotonic => {
            let says = format!("no invariant counter: a stamp is a call of clock_gettime(2){kernel}");
            Check::new("clock", State::Partly, says).fix(
                "a CPU or virtual machine with invariant TSC (`constant_tsc nonstop_tsc` in /proc/cpuinfo)",
            )
        }
    }
}

/// Whether a process may watch itself by the kernel's events.
fn perf_events() -> Check {
    const PATH: &str = "/proc/sys/kernel/perf_event_paranoid";
    let level = trimmed(PATH).and_then(|text| text.parse::<i32>().ok());
    match level {
        None => Check::new("perf events", State::Off, "the kernel has none"),
        Some(level @ ..=2) => {
            let says = format!("perf_event_paranoid is {level}: a process may watch its own threads");
            Check::new("perf events", State::On, says)
        }
        Some(level) => {
            let says = format!("perf_event_paranoid is {level}: when threads are switched is not seen");
            Check::new("perf events", State::Off, says).fix("sudo sysctl kernel.perf_event_paranoid=2")
        }
    }
}

/// Takes everything and keeps nothing.
struct Discard;

impl Sink for Discard {
    fn offer(&mut self, _: Vec<u8>) -> Offer {
        Offer::Taken
    }
}

/// What the sources say that depend on the machine, after they were asked for.
fn sources() -> Vec<Check> {
    let options =
        CaptureOptions { groups: Groups::ALL, cpu_hz: CPU_HZ, sink: Box::new(Discard), resolver: None };
    let capture = match Capture::start(options) {
        Ok(capture) => capture,
        Err(error) => {
            let says = format!("off: {error}");
            return vec![
                Check::new("recorder", State::Off, says).fix("more memory, or a higher `ulimit -v`"),
            ];
        }
    };
    // Some are off again once nobody asks for them.
    let said = kymo::status::sources();
    capture.stop();
    let of_machine = said.iter().filter(|(name, _)| !OF_PROGRAMS.contains(&name.as_str()));
    of_machine.map(|(name, words)| Check::of_status(name, words)).collect()
}

/// A field of `/proc/self/status`.
fn status(name: &str) -> Option<String> {
    let text = read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

fn seccomp() -> Option<Check> {
    Some(match status("Seccomp")?.as_str() {
        "0" => Check::new("seccomp", State::On, "no filter"),
        _ => {
            let says = "a filter may refuse perf_event_open(2) and timer_create(2); the sources above tell";
            Check::new("seccomp", State::Partly, says)
                .fix("docker run --cap-add PERFMON, or --security-opt seccomp=unconfined")
        }
    })
}

/// A soft limit of `/proc/self/limits`; none if there is no limit.
fn limit(name: &str) -> Option<u64> {
    let text = read_to_string("/proc/self/limits").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn pending_signals() -> Option<Check> {
    let most = limit("Max pending signals")?;
    let says = format!("{most} pending signals: so many threads can have a CPU timer of their own");
    Some(match most {
        1024.. => Check::new("ulimit -i", State::On, says),
        _ => Check::new("ulimit -i", State::Partly, says).fix("ulimit -i unlimited"),
    })
}

fn open_files() -> Option<Check> {
    let most = limit("Max open files")?;
    let says = format!("{most} open files: the kernel's events take one for each thread");
    Some(match most {
        1024.. => Check::new("ulimit -n", State::On, says),
        _ => Check::new("ulimit -n", State::Partly, says).fix("ulimit -n 4096"),
    })
}

/// The control group's bound, where there is one that the recorder could come near.
fn memory() -> Option<Check> {
    let group = trimmed("/proc/self/cgroup")?;
    let path = group.lines().find_map(|line| line.strip_prefix("0::"))?;
    let bound = ["", path]
        .iter()
        .find_map(|path| trimmed(&format!("/sys/fs/cgroup{path}/memory.max"))?.parse::<u64>().ok())?;
    let (bound_mib, most_mib) = (bound >> 20, MEMORY_BYTES >> 20);
    let says = format!("the control group allows {bound_mib} MiB; recording takes {most_mib} MiB at most");
    Some(match bound / MEMORY_BYTES as u64 {
        4.. => Check::new("memory", State::On, says),
        _ => Check::new("memory", State::Partly, says).fix("a higher memory.max while recording"),
    })
}
