//! A file of ours in a program that does not know of it.
//!
//! Such a program may close every descriptor that it does not know, as daemons do, and open others under the same
//! numbers. So before each write the descriptor is asked whether it is still the file; if not, it is over, and the
//! descriptor is left to whoever has it now. It may also count on which number it gets next: so ours is a high one.
//! A process may not write past its limit on the size of files: the signal for that would end it, so we don't try.

#![allow(
    unsafe_code,
    reason = "fcntl(2), getrlimit(2): std can't choose a descriptor's number, nor ask for limits"
)]

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::sink::{Offer, Sink};
use crate::limits::OWN_DESCRIPTORS;

/// A file that only we write.
#[derive(Debug)]
pub(super) struct OwnFile {
    /// None once its descriptor may be another's.
    file: Option<File>,
    identity: Identity,
    is_regular: bool,
    /// Where it ends.
    length: u64,
}

/// Which file it is, on which device.
type Identity = (u64, u64);

impl OwnFile {
    /// Makes the file, readable by its owner only.
    ///
    /// # Errors
    /// It can't be made.
    pub(super) fn open(path: &Path, options: &mut OpenOptions) -> io::Result<OwnFile> {
        let file = out_of_the_way(options.write(true).mode(0o600).open(path)?);
        let metadata = file.metadata()?;
        let (identity, is_regular) = (identity(&metadata), metadata.is_file());
        Ok(OwnFile { file: Some(file), identity, is_regular, length: 0 })
    }

    /// Writes at its end.
    ///
    /// # Errors
    /// It can't be written, or its descriptor is no longer ours.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write(self.length, bytes, |file| (&*file).write_all(bytes))
    }

    /// Writes somewhere in it.
    ///
    /// # Errors
    /// As [`OwnFile::append`].
    pub(super) fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.write(at, bytes, |file| file.write_all_at(bytes, at))
    }

    fn write(
        &mut self,
        at: u64,
        bytes: &[u8],
        write: impl FnOnce(&File) -> io::Result<()>,
    ) -> io::Result<()> {
        let end = at + bytes.len() as u64;
        if self.is_regular && end > largest_file() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let gone = || io::Error::other("its descriptor was closed behind our back");
        write(self.own_file().ok_or_else(gone)?)?;
        self.length = self.length.max(end);
        Ok(())
    }

    /// The file, unless its descriptor was closed or is another's: that one must not be closed either.
    fn own_file(&mut self) -> Option<&mut File> {
        let file = self.file.take()?;
        match file.metadata() {
            Ok(metadata) if identity(&metadata) == self.identity => Some(self.file.insert(file)),
            _ => {
                let _not_ours = file.into_raw_fd();
                None
            }
        }
    }
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        self.own_file();
    }
}

/// Where the process may write to in a file (RLIMIT_FSIZE).
fn largest_file() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is ours, for the call.
    match unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit) } {
        0 => limit.rlim_cur,
        _ => u64::MAX,
    }
}

/// Writes a trace to a file of its own. What is written stays valid whatever happens to the rest.
#[derive(Debug)]
pub struct FileSink {
    /// None after a write that failed.
    file: Option<OwnFile>,
}

impl FileSink {
    /// Makes the file, readable by its owner only; one that is there is emptied.
    ///
    /// # Errors
    /// It can't be made.
    pub fn create(path: &Path) -> io::Result<FileSink> {
        // A pipe that nobody reads would make the program wait here, and end it by a signal later.
        let mut options = File::options();
        let file = OwnFile::open(path, options.create(true).truncate(true).custom_flags(libc::O_NONBLOCK))?;
        match file.is_regular {
            true => Ok(FileSink { file: Some(file) }),
            false => Err(io::Error::other("it is no regular file")),
        }
    }
}

fn out_of_the_way(file: File) -> File {
    // SAFETY: the descriptor is open.
    let fd = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, OWN_DESCRIPTORS) };
    if fd < 0 {
        return file;
    }
    // SAFETY: it was made just now, and is nobody else's.
    unsafe { File::from_raw_fd(fd) }
}

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

impl Sink for FileSink {
    fn offer(&mut self, sections: Vec<u8>) -> Offer {
        let Some(file) = &mut self.file else { return Offer::Closed };
        match file.append(&sections) {
            Ok(()) => Offer::Taken,
            Err(error) => {
                crate::status::set("file", format!("off: {error}"));
                self.file = None;
                Offer::Closed
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d4_a_descriptor_that_became_anothers_is_neither_written_nor_closed() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
        let mut sink = FileSink::create(&ours).unwrap();
        assert_eq!(sink.offer(b"kymo".to_vec()), Offer::Taken);
        let fd = sink.file.as_ref().unwrap().file.as_ref().unwrap().as_raw_fd();
        assert!(fd >= OWN_DESCRIPTORS);
        let other = File::create(&theirs).unwrap();
        let mut theirs_now = reused(fd, &other);
        assert_eq!(sink.offer(b"more".to_vec()), Offer::Closed);
        drop(sink);
        theirs_now.write_all(b"theirs").unwrap();
        assert_eq!(std::fs::read(&ours).unwrap(), b"kymo");
        assert_eq!(std::fs::read(&theirs).unwrap(), b"theirs");
    }

    /// A descriptor's number, of another file from now on: as programs do that close what they don't know.
    fn reused(fd: i32, file: &File) -> File {
        // SAFETY: both descriptors are open; the sink does not count on its own staying what it is.
        let result = unsafe { libc::dup2(file.as_raw_fd(), fd) };
        assert_eq!(result, fd);
        // SAFETY: the number is ours now: the sink gives it up.
        unsafe { File::from_raw_fd(fd) }
    }
}
