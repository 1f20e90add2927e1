//! `kymo convert IN OUT`: a trace in another tool's format, by the name of the file.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::ValueEnum;
use kymo::export::{chrome, perfetto};
use kymo::format::{file::File, text};

use super::output;
use super::source::TraceArgs;

/// Writes a trace in another format
///
/// By the output's extension: .pftrace or .perfetto-trace for ui.perfetto.dev, .json for chrome://tracing,
/// .txt for people, .kymo for the trace itself.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    trace: TraceArgs,
    /// The file to write, - for standard output
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// The format, where the extension doesn't tell
    #[arg(long, value_enum)]
    to: Option<Format>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Protobuf, for ui.perfetto.dev and trace_processor
    Perfetto,
    /// Trace Event JSON, for chrome://tracing
    Chrome,
    /// One line an event and a table row, for people and tests
    Text,
    /// The trace as it is
    Kymo,
}

/// Does it.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let format = args.to.or_else(|| by_extension(&args.output)).with_context(|| {
        format!(
            "{} has no extension that names a format: .pftrace, .json, .txt or .kymo; or say it by --to",
            args.output.display()
        )
    })?;
    let input = args.trace.read()?;
    let (trace, _) = input.load()?;
    output::write(&args.output, |out: &mut dyn Write| -> io::Result<()> {
        match format {
            Format::Perfetto => perfetto::write(&trace, out),
            Format::Chrome => chrome::write(&trace, out),
            Format::Text => {
                out.write_all(text::write(&File::parse(&input.bytes).map_err(io::Error::other)?).as_bytes())
            }
            Format::Kymo => out.write_all(&input.bytes),
        }
    })
}

fn by_extension(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()? {
        "pftrace" | "perfetto-trace" => Some(Format::Perfetto),
        "json" => Some(Format::Chrome),
        "txt" => Some(Format::Text),
        "kymo" => Some(Format::Kymo),
        _ => None,
    }
}
