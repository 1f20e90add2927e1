//! The command: parse, call one verb, exit code.

fn main() {}
