//! The ring in a file as well, so that the last seconds outlive a process that is killed.
//!
//! Everything is written through by position, and not by a mapping: the kernel keeps what was written all the same when
//! the process dies by SIGKILL or for want of memory, but a full disk or a file that somebody cut is an error here, where
//! it would be a SIGBUS there. After an error nothing more is written; the ring in memory goes on, and the status says
//! so. `format::ring_file` has the layout, and reads it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::format::ring_file::{Positions, RING_AT};
use crate::limits::FLIGHT_WORDS_BYTES;
use crate::record::file::OwnFile;
use crate::status;

/// The file behind a ring.
pub(super) struct RingFile {
    file: OwnFile,
    positions: Positions,
    /// What the file has of them.
    written: Positions,
}

impl RingFile {
    /// Makes the file, for a ring of `bytes` bytes. One that is there is from a process that ran before, and may be all
    /// that is left of it: it is kept, as `FILE.previous`.
    ///
    /// # Errors
    /// It can't be made.
    pub(super) fn create(path: &Path, bytes: usize) -> io::Result<RingFile> {
        match std::fs::rename(path, previous(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OwnFile::open(path, File::options().create_new(true))?;
        let positions = Positions { ring: bytes as u64, ..Positions::default() };
        let mut file = RingFile { file, positions, written: Positions::default() };
        file.tell()?;
        status::set("flight recorder's file", format!("on: {}", path.display()));
        Ok(file)
    }

    /// Writes a part of the ring.
    pub(super) fn write(&mut self, place: usize, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(RING_AT + place as u64, bytes)
    }

    /// Says where the ring begins and ends.
    pub(super) fn set(&mut self, oldest: u64, end: u64, complete_from: u64) -> io::Result<()> {
        self.positions = Positions { oldest, end, complete_from, ..self.positions };
        self.tell()
    }

    /// Appends a section that events need. There is no room for any number of them.
    pub(super) fn append_words(&mut self, sections: &[u8]) -> io::Result<()> {
        let Positions { ring, words, .. } = self.positions;
        if words + sections.len() as u64 > FLIGHT_WORDS_BYTES as u64 {
            status::set("flight recorder's file", "on: its words are full, later names are missing");
            return Ok(());
        }
        self.file.write_at(RING_AT + ring + words, sections)?;
        self.positions.words += sections.len() as u64;
        self.tell()
    }

    fn tell(&mut self) -> io::Result<()> {
        if self.written != self.positions {
            self.file.write_at(0, &self.positions.to_bytes())?;
            self.written = self.positions;
        }
        Ok(())
    }
}

fn previous(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".previous");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_file_is_its_owners_and_the_one_before_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ring");
        std::fs::write(&path, "the last of a process that was killed").unwrap();
        let _file = RingFile::create(&path, 1024).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(std::fs::read(previous(&path)).unwrap().starts_with(b"the last"));
    }

    #[test]
    fn a_link_that_somebody_has_put_there_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (folder.path().join("ring"), folder.path().join("elsewhere"));
        std::fs::write(&elsewhere, "theirs").unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        let _file = RingFile::create(&path, 1024).unwrap();
        assert_eq!(std::fs::read(&elsewhere).unwrap(), b"theirs");
    }
}
