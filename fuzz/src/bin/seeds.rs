//! Writes what the fuzzer begins with: `seeds TEXTS DIRECTORY` makes a corpus for each target from traces as text.

use std::ffi::OsStr;
use std::path::Path;
use std::{env, fs};

use kymo::format::{MAGIC, text};
use kymo::{model, profile};

/// Bytes before a section's payload; its type and its length are among them.
const HEAD: usize = 16;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let [texts, corpora] = arguments.as_slice() else { return Err("seeds TEXTS DIRECTORY".into()) };
    for entry in fs::read_dir(texts)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or(OsStr::new("seed"));
        let trace = text::parse(&fs::read_to_string(&path)?)?;
        seed(corpora, "trace", name, &trace)?;
        seed(corpora, "sections", name, &sections(&trace))?;
        let (trace, _) = model::load::load(&trace)?;
        seed(corpora, "profile", name, &profile::block(&trace).encode_raw())?;
    }
    Ok(())
}

fn seed(corpora: &OsStr, target: &str, name: &OsStr, bytes: &[u8]) -> std::io::Result<()> {
    let directory = Path::new(corpora).join(target);
    fs::create_dir_all(&directory)?;
    fs::write(directory.join(name), bytes)
}

/// A whole trace in the layout of `targets/sections.rs`.
fn sections(trace: &[u8]) -> Vec<u8> {
    let mut list = Vec::new();
    let mut rest = &trace[MAGIC.len()..];
    while rest.len() >= HEAD {
        let length = u32::from_le_bytes([rest[8], rest[9], rest[10], rest[11]]) as usize;
        let kept = length.min(usize::from(u16::MAX));
        list.push(rest[4].wrapping_sub(1));
        list.extend_from_slice(&(kept as u16).to_le_bytes());
        list.extend_from_slice(&rest[HEAD..HEAD + kept]);
        rest = &rest[HEAD + length..];
    }
    list
}
