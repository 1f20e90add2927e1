//! Where an answer is written to: a file, made whole or not at all, or standard output.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

/// Writes a file by way of one beside it, so that a failure leaves the old one as it was; `-` is standard output.
///
/// # Errors
/// It can't be written; nothing is left behind then.
pub(super) fn write(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> anyhow::Result<()> {
    if path == Path::new("-") {
        let mut out = BufWriter::new(io::stdout().lock());
        write(&mut out)?;
        return Ok(out.flush()?);
    }
    let failed = || format!("{} can't be written", path.display());
    let beside = beside(path).with_context(failed)?;
    let written = File::create(&beside).and_then(|file| {
        let mut out = BufWriter::new(file);
        write(&mut out)?;
        out.into_inner()?.sync_all()?;
        std::fs::rename(&beside, path)
    });
    if written.is_err() {
        // It may not even be there.
        let _ = std::fs::remove_file(&beside);
    }
    written.with_context(failed)
}

/// A name in the same folder that nobody else writes to.
fn beside(path: &Path) -> anyhow::Result<PathBuf> {
    let name = path.file_name().context("it names no file")?;
    ensure!(!path.is_dir(), "it is a folder");
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}", std::process::id()));
    Ok(path.with_file_name(hidden))
}

/// `stem.extension`, or the first of `stem-2.extension`, `stem-3.extension`, … that is not there yet.
pub(super) fn free_name(stem: &str, extension: &str) -> PathBuf {
    let names = std::iter::once(format!("{stem}.{extension}"))
        .chain((2_u64..).map(|number| format!("{stem}-{number}.{extension}")));
    // There is always a number that is free.
    names.map(PathBuf::from).find(|path| !path.exists()).unwrap_or_default()
}

/// A number with its thousands apart.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        let numbers = [0, 7, 123, 1234, 123_456, 1_234_567].map(thousands);
        assert_eq!(numbers, ["0", "7", "123", "1 234", "123 456", "1 234 567"]);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pb.gz");
        write(&path, |out| out.write_all(b"old")).unwrap();
        let failed = write(&path, |out| out.write_all(b"new").and(Err(io::ErrorKind::Other.into())));
        assert!(failed.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
