//! A trace's file in a program that does not know of it.
//!
//! Such a program may close every descriptor that it does not know, as daemons do, and open others under the same
//! numbers. So before each write the descriptor is asked whether it is still the file; if not, the capture is over,
//! and the descriptor is left to whoever has it now. It may also count on which number it gets next: so ours is a high
//! one.

#![allow(unsafe_code, reason = "fcntl(2): std can't choose a descriptor's number")]

use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::sink::{Offer, Sink};
use crate::limits::OWN_DESCRIPTORS;

/// Writes a trace to a file of its own. What is written stays valid whatever happens to the rest.
#[derive(Debug)]
pub struct FileSink {
    /// None once its descriptor may be another's.
    file: Option<File>,
    identity: Identity,
}

/// Which file it is, on which device.
type Identity = (u64, u64);

impl FileSink {
    /// Makes the file, readable by its owner only; one that is there is emptied.
    ///
    /// # Errors
    /// It can't be made.
    pub fn create(path: &Path) -> io::Result<FileSink> {
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let file = out_of_the_way(file);
        let identity = identity(&file.metadata()?);
        Ok(FileSink { file: Some(file), identity })
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
        let Some(file) = self.own_file() else { return Offer::Closed };
        match file.write_all(&sections) {
            Ok(()) => Offer::Taken,
            Err(_) => {
                self.file = None;
                Offer::Closed
            }
        }
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        self.own_file();
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
        let fd = sink.file.as_ref().unwrap().as_raw_fd();
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
