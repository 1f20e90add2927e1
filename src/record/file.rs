//! A file of ours in a program that does not know of it.
//!
//! Such a program may close every descriptor that it does not know, as daemons do, and open others under the same
//! numbers. So before each write the descriptor is asked whether it is still the file; if not, it is over, and the
//! descriptor is left to whoever has it now. It may also count on which number it gets next: so ours is a high one.
//! A pipe's reader may be slow or gone, so nothing here waits for it, and no write raises a signal (`signals`).

#![allow(unsafe_code, reason = "fcntl(2): std can't choose a descriptor's number")]

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use super::signals;
use super::sink::{Offer, Sink};
use crate::limits::{OWN_DESCRIPTORS, READER_LAG_BYTES};

/// How long the end of a trace waits for a slow pipe.
const FINISH: Duration = Duration::from_secs(1);

const NAP: Duration = Duration::from_millis(1);

/// A file that only we write.
#[derive(Debug)]
pub(super) struct OwnFile {
    /// None once its descriptor may be another's.
    file: Option<File>,
    identity: Identity,
}

/// Which file it is, on which device.
type Identity = (u64, u64);

impl OwnFile {
    /// Makes the file, readable by its owner only.
    ///
    /// # Errors
    /// It can't be made.
    pub(super) fn open(path: &Path, options: &mut OpenOptions) -> io::Result<OwnFile> {
        let file = out_of_the_way(options.write(true).mode(0o600).custom_flags(libc::O_NONBLOCK).open(path)?);
        let identity = identity(&file.metadata()?);
        Ok(OwnFile { file: Some(file), identity })
    }

    /// Writes at its end: how many bytes were taken.
    ///
    /// # Errors
    /// It can't be written, or not yet, or its descriptor is no longer ours.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write(|mut file| file.write(bytes))
    }

    /// Writes somewhere in it.
    ///
    /// # Errors
    /// As [`OwnFile::append`].
    pub(super) fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.write(|file| file.write_all_at(bytes, at))
    }

    fn write<R>(&mut self, write: impl FnOnce(&File) -> io::Result<R>) -> io::Result<R> {
        let gone = || io::Error::other("its descriptor was closed behind our back");
        let file = self.own_file().ok_or_else(gone)?;
        signals::without(|| write(file))
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

/// Writes a trace to a file of its own, or to a pipe. What is written stays valid whatever happens to the rest.
///
/// A pipe may be slow: what it can't take yet waits here, up to [`READER_LAG_BYTES`]; more is refused, so its events
/// are lost, and counted.
#[derive(Debug)]
pub struct FileSink {
    /// None after a write that failed.
    file: Option<OwnFile>,
    /// Bytes that were taken and not written yet.
    waiting: Vec<u8>,
}

impl FileSink {
    /// Makes the file, readable by its owner only; one that is there is emptied.
    ///
    /// # Errors
    /// It can't be made, or it is a pipe that nobody reads.
    pub fn create(path: &Path) -> io::Result<FileSink> {
        let file = OwnFile::open(path, File::options().create(true).truncate(true))?;
        Ok(FileSink { file: Some(file), waiting: Vec::new() })
    }

    fn take(&mut self, sections: &[u8], most: usize) -> Offer {
        if let Err(error) = self.write_on() {
            return self.close(&error);
        }
        if self.waiting.len() + sections.len() > most {
            return Offer::Full;
        }
        self.waiting.extend_from_slice(sections);
        match self.write_on() {
            Ok(()) => Offer::Taken,
            Err(error) => self.close(&error),
        }
    }

    /// Writes what waits, as far as it is taken now.
    fn write_on(&mut self) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let file = self.file.as_mut().ok_or_else(gone)?;
        let mut written = 0;
        let result = loop {
            if written == self.waiting.len() {
                break Ok(());
            }
            match file.append(&self.waiting[written..]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => written += length,
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => break Ok(()),
                    _ => break Err(error),
                },
            }
        };
        self.waiting.drain(..written);
        result
    }

    fn close(&mut self, why: &io::Error) -> Offer {
        crate::status::set("trace file", format!("off: {why}; what was written before is valid"));
        self.file = None;
        self.waiting = Vec::new();
        Offer::Closed
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
        self.take(&sections, READER_LAG_BYTES)
    }

    /// What is told each second comes this way, too: so this has a bound as well.
    fn finish(&mut self, sections: Vec<u8>) -> Offer {
        self.take(&sections, 2 * READER_LAG_BYTES)
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        let begun = Instant::now();
        while self.write_on().is_ok() && !self.waiting.is_empty() && begun.elapsed() < FINISH {
            std::thread::sleep(NAP);
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
