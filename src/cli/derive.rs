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
    /// One line a stack with its nanoseconds, for flame graph tools, instead of pprof's format
    #[arg(long)]
    folded: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Who waited, and where
    Block,
    /// Who held the locks that others waited for, and where
    Mutex,
}

/// Does it.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let (trace, _) = args.trace.load()?;
    let (name, profile) = match args.kind {
        Kind::Block => ("block", profile::block(&trace)),
        Kind::Mutex => ("mutex", profile::mutex(&trace)),
    };
    let extension = if args.folded { "folded" } else { "pb.gz" };
    let path = args.output.clone().unwrap_or_else(|| format!("{name}.{extension}").into());
    output::write(&path, |out| match args.folded {
        true => out.write_all(profile.folded(delay(&profile)).as_bytes()),
        false => out.write_all(&profile.encode()),
    })
}

/// Index of the values that are nanoseconds.
fn delay(profile: &Profile) -> usize {
    profile.sample_types.iter().position(|kind| kind.unit == "nanoseconds").unwrap_or_default()
}
