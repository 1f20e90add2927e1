//! What tests share that run a program under `libkymo.so`.

#![allow(dead_code, reason = "each test uses its part")]

use std::path::{Path, PathBuf};
use std::process::Command;

use kymo::model::Trace;

/// Cargo builds it beside the tests.
pub(crate) fn library() -> PathBuf {
    std::env::current_exe().unwrap().with_file_name("libkymo.so")
}

/// A program that is recorded to `trace`.
pub(crate) fn preloaded<'a>(command: &'a mut Command, trace: &Path) -> &'a mut Command {
    command.env("LD_PRELOAD", library()).env("KYMO_TRACE", trace)
}

/// A trace that has an end, and no damage.
pub(crate) fn trace(path: &Path) -> Trace {
    let (trace, problems) = kymo::model::load::load(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(problems, []);
    trace
}
