//! `kymo stat TRACE`: what is in a trace, counted.

use std::io::Write;

use kymo::analysis::stat::stat;

use super::source::TraceArgs;

/// Counts what is in a trace: events by kind, threads, tasks, losses, time by state
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    trace: TraceArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Does it.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let (trace, problems) = args.trace.load()?;
    let stat = stat(&trace, &problems);
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &stat)?;
        return Ok(writeln!(out)?);
    }
    Ok(write!(out, "{stat}")?)
}
