//! `kymo derive KIND TRACE`: a profile out of a trace, for `go tool pprof` and everything that reads its format.

use std::path::PathBuf;

use clap::ValueEnum;
use kymo::profile::{self, Profile};

use super::output;
use super::source::TraceArgs;

/// Derives a profile from a trace
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which profile
    #[arg(value_enum)]
    kind: Kind,
    #[command(flatten)]
    trace: TraceArgs,
    /// The file to write, - for standard output [default: KIND.pb.gz, or KIND.folded]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// One line a stack with its nanoseconds or bytes, for flame graph tools, instead of pprof's format
    #[arg(long)]
    folded: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Who waited, and where
    Block,
    /// Who held the locks that others waited for, and where
    Mutex,
    /// Who allocated what lived at the end
    Heap,
    /// Who allocated since the process began
    Allocs,
    /// Who allocated during the trace
    Alloc,
    /// Who used CPUs, and where: of a trace that has CPU samples
    Cpu,
    /// Who created threads
    Threadcreate,
}

/// Does it.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let (trace, _) = args.trace.load()?;
    let (name, profile) = match args.kind {
        Kind::Block => ("block", profile::block(&trace)),
        Kind::Mutex => ("mutex", profile::mutex(&trace)),
        Kind::Heap => ("heap", profile::heap(&trace)),
        Kind::Allocs => ("allocs", profile::allocs(&trace)),
        Kind::Alloc => ("alloc", profile::allocs_delta(&trace)),
        Kind::Cpu => ("cpu", profile::cpu(&trace)),
        Kind::Threadcreate => ("threadcreate", profile::threadcreate(&trace)),
    };
    let lost = trace.lost();
    if lost > 0 {
        eprintln!(
            "kymo: {lost} events were lost, so the profile has less than there was; kymo stat says whose"
        );
    }
    let extension = if args.folded { "folded" } else { "pb.gz" };
    let path = args.output.clone().unwrap_or_else(|| format!("{name}.{extension}").into());
    output::write(&path, |out| match args.folded {
        true => out.write_all(profile.folded(first(&profile)).as_bytes()),
        false => out.write_all(&profile.encode()),
    })
}

/// Index of the values that are shown first.
fn first(profile: &Profile) -> usize {
    profile.sample_types.iter().position(|kind| kind.kind == profile.default_sample_type).unwrap_or_default()
}
