//! `kymo recover FILE`: the last seconds of a process that was killed, from its flight recorder's file.

use std::path::PathBuf;

use anyhow::Context;
use kymo::format::ring_file::recover;

use super::output::{self, free_name};

/// Makes a trace of a flight recorder's file, which outlives its process
///
/// What the process had recorded until a second before it was killed is in it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file that the flight recorder was given
    file: PathBuf,
    /// The trace to write, - for standard output [default: flight.kymo, or the next free flight-N.kymo]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Does it.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let name = args.file.display();
    let bytes = std::fs::read(&args.file).with_context(|| format!("{name} can't be read"))?;
    let trace = recover(&bytes).with_context(|| format!("{name} gives no trace"))?;
    let output = args.output.clone().unwrap_or_else(|| free_name("flight", "kymo"));
    output::write(&output, |out| out.write_all(&trace))?;
    eprintln!("{}: {} bytes; look at it by: kymo view {0}", output.display(), trace.len());
    Ok(())
}
