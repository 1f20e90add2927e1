//! `kymo`: records services, shows and converts traces, derives profiles. One file a verb.
//!
//! A verb reads from a [`source`] (file, URL, standard input), asks the library, and writes. Progress and problems go to
//! standard error, answers to standard output. It exits with 0; with 1 and one line of what, why and what to do when
//! something failed; with 2 when the arguments make no sense.

mod convert;
mod demo;
mod derive;
mod doctor;
mod interrupt;
mod meter;
mod output;
mod record;
mod recover;
mod remote;
mod source;
mod stat;
mod view;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Records Rust services that serve kymo, and shows what they did.
#[derive(Debug, Parser)]
#[command(name = "kymo", version, propagate_version = true, arg_required_else_help = true)]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Demo(demo::Args),
    Record(record::Args),
    View(view::Args),
    Stat(stat::Args),
    Convert(convert::Args),
    Derive(derive::Args),
    Doctor(doctor::Args),
    Recover(recover::Args),
    #[command(hide = true)]
    DemoService(demo::ServiceArgs),
}

/// Parses the arguments and does what they say.
pub(crate) fn run() -> ExitCode {
    let done = match Command::parse().verb {
        Verb::Demo(args) => demo::run(&args),
        Verb::Record(args) => record::run(&args),
        Verb::View(args) => view::run(&args),
        Verb::Stat(args) => stat::run(&args),
        Verb::Convert(args) => convert::run(&args),
        Verb::Derive(args) => derive::run(&args),
        Verb::Doctor(args) => doctor::run(&args),
        Verb::Recover(args) => recover::run(&args),
        Verb::DemoService(args) => demo::run_service(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has had enough: `kymo stat t.kymo | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kymo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
