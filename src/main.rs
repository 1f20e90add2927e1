//! The command: parse, call one verb, exit code.

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
