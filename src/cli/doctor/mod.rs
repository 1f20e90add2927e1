//! `kymo doctor [BIN|URL]`: what each source can see here, what it costs, and the line that would fix what is missing.
//!
//! Of the machine (`machine`) by trying: the command records itself for a moment and says what its sources said. Of a
//! program (`program`) by its file, of a service (`service`) by its status. Findings are answers, not errors: it fails
//! only where there is nothing to look at.

mod machine;
mod program;
mod service;

use std::fmt;
use std::io::Write;

use serde::Serialize;

use super::source::Source;

/// Says what can be seen on this machine, and of a program or a service
///
/// Each line is a source: whether it is on, what it sees, what it costs, and how to get what is missing.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A program's file, or the URL or host:port of a service that serves kymo
    #[arg(value_name = "BIN|URL")]
    target: Option<Source>,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// The token that the service asks for
    #[arg(long, env = "KYMO_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

/// How a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// It sees everything it can.
    On,
    /// It sees less than it could.
    Partly,
    /// It sees nothing.
    Off,
    /// Nothing tells.
    Unknown,
}

/// What was found out about one source.
#[derive(Debug, Serialize)]
struct Check {
    name: String,
    state: State,
    /// What it is like.
    says: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    costs: Option<&'static str>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl Check {
    fn new(name: impl Into<String>, state: State, says: impl Into<String>) -> Check {
        Check { name: name.into(), state, says: says.into(), costs: None, fix: None }
    }

    fn costs(self, costs: &'static str) -> Check {
        Check { costs: Some(costs), ..self }
    }

    fn fix(self, fix: impl Into<String>) -> Check {
        Check { fix: Some(fix.into()), ..self }
    }

    /// Of a source's own words: `on: …`, `off: why`.
    fn of_status(name: &str, words: &str) -> Check {
        let fix = fix_of(name, words);
        let state = match words.split([':', ',', ' ', ';']).next().unwrap_or_default() {
            "off" if words.contains("no capture wants it") => State::Unknown,
            "off" => State::Off,
            "on" if fix.is_none() => State::On,
            _ => State::Partly,
        };
        let check = Check::new(name, state, words);
        Check { costs: costs_of(name), fix: fix.map(str::to_owned), ..check }
    }
}

/// What an event costs.
const EVENT: &str =
    "an event: 1.35 times a clock read and a store at most, 1 ns while nothing records; 64 MiB in all";

/// What sources cost at most, as the benches of the same names bound it.
fn costs_of(source: &str) -> Option<&'static str> {
    Some(match source {
        "recorder" => EVENT,
        "hooks" => "a hooked call: 1 ns while nothing records, 35 ns while something does",
        "tasks" => "a poll and its wake: 2 ns while nothing records, 35 ns while something does",
        "cpu" => "while a capture asks for it: a signal and a stack for each sample",
        "sched" => "a microsecond for each context switch while a capture asks for them",
        "allocations" => "1 ns for each allocation and its free; a stack for each 512 KiB",
        _ => return None,
    })
}

/// The line that helps, where one of a source's own words calls for it.
fn fix_of(source: &str, words: &str) -> Option<&'static str> {
    let known = [
        ("hooks", "without its feature", "kymo = { version = \"0.1\", features = [\"hooks\"] }"),
        ("hooks", "statically", "RUSTFLAGS=\"-C target-feature=-crt-static\" cargo build"),
        (
            "allocations",
            "not the global",
            "#[global_allocator] static ALLOC: kymo::Alloc = kymo::Alloc::new();",
        ),
        ("cpu", "ulimit -i", "ulimit -i unlimited"),
        ("tasks", "tokio_unstable adds", "RUSTFLAGS=\"--cfg tokio_unstable\" cargo build"),
        ("cpu", "seccomp", "docker run --security-opt seccomp=unconfined"),
        ("cpu", "kernel's tick", "a kernel with CONFIG_HZ=1000 takes a thousand samples a second"),
        ("sched", "may kill", "KYMO_SCHED=rings, if the filter lets perf_event_open(2) pass or refuses it"),
        ("sched", "container", "docker run --security-opt seccomp=unconfined"),
        ("sched", "no room", "sudo sysctl kernel.perf_event_mlock_kb=8192"),
        ("sched", "no perf events", "a kernel with CONFIG_PERF_EVENTS"),
        ("", "perf_event_paranoid", "sudo sysctl kernel.perf_event_paranoid=2"),
    ];
    let fits = |(of, word, _): &&(&str, &str, &str)| (of.is_empty() || *of == source) && words.contains(word);
    known.iter().find(fits).map(|(_, _, fix)| *fix)
}

/// Everything that was found out.
#[derive(Debug, Serialize)]
struct Report {
    kymo: &'static str,
    machine: Vec<Check>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Target>,
}

#[derive(Debug, Serialize)]
struct Target {
    name: String,
    checks: Vec<Check>,
}

/// Does it.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let target = match &args.target {
        None => None,
        Some(Source::Stdin) => anyhow::bail!("a program is looked at by its file's name"),
        Some(Source::File(path)) => {
            Some(Target { name: path.display().to_string(), checks: program::checks(path)? })
        }
        Some(Source::Url(url)) => {
            Some(Target { name: url.clone(), checks: service::checks(url, args.token.clone())? })
        }
    };
    let report = Report { kymo: env!("CARGO_PKG_VERSION"), machine: machine::checks(), target };
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        return Ok(writeln!(out)?);
    }
    Ok(write!(out, "{report}")?)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "this machine")?;
        self.machine.iter().try_for_each(|check| check.fmt(f))?;
        let Some(target) = &self.target else { return Ok(()) };
        writeln!(f, "\n{}", target.name)?;
        target.checks.iter().try_for_each(|check| check.fmt(f))
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::On => "ok",
            State::Partly => "part",
            State::Off => "off",
            State::Unknown => "?",
        };
        writeln!(f, "  {state:4}  {:13} {}", self.name, self.says)?;
        if let Some(costs) = self.costs {
            writeln!(f, "{:21} costs: {costs}", "")?;
        }
        if let Some(fix) = &self.fix {
            writeln!(f, "{:21} fix:   {fix}", "")?;
        }
        Ok(())
    }
}
