//! Calls on files and descriptors of any kind: read, write, open, close, sync.
//!
//! Each row of the table is one exported C function (see `interpose`). A descriptor that is opened tells its path.
//! `open` and `openat` are variadic in C; with the mode as a fixed argument the registers are the same.

#![allow(unsafe_code, reason = "defines C functions")]

use std::ffi::{CStr, c_char, c_int, c_void};

use libc::{iovec, mode_t, off_t, size_t, ssize_t};

use super::interpose::calls;
use crate::events::{Fd, FdName};
use crate::record;

calls! {
    /// read(2)
    fn read(fd: c_int, buffer: *mut c_void, count: size_t) -> ssize_t = Read, fd;
    /// write(2)
    fn write(fd: c_int, buffer: *const c_void, count: size_t) -> ssize_t = Write, fd;
    /// pread(2)
    fn pread(fd: c_int, buffer: *mut c_void, count: size_t, offset: off_t) -> ssize_t = Pread, fd;
    /// pread(2) with 64-bit offsets, which std calls
    fn pread64(fd: c_int, buffer: *mut c_void, count: size_t, offset: off_t) -> ssize_t = Pread, fd;
    /// pwrite(2)
    fn pwrite(fd: c_int, buffer: *const c_void, count: size_t, offset: off_t) -> ssize_t = Pwrite, fd;
    /// pwrite(2) with 64-bit offsets, which std calls
    fn pwrite64(fd: c_int, buffer: *const c_void, count: size_t, offset: off_t) -> ssize_t = Pwrite, fd;
    /// readv(2)
    fn readv(fd: c_int, buffers: *const iovec, count: c_int) -> ssize_t = Readv, fd;
    /// writev(2)
    fn writev(fd: c_int, buffers: *const iovec, count: c_int) -> ssize_t = Writev, fd;
    /// open(2)
    fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int = Open, -1, then |fd| opened(fd, path);
    /// open(2) with 64-bit offsets, which std calls
    fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int = Open, -1, then |fd| opened(fd, path);
    /// openat(2)
    fn openat(at: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int
        = Openat, at, then |fd| opened(fd, path);
    /// openat(2) with 64-bit offsets
    fn openat64(at: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int
        = Openat, at, then |fd| opened(fd, path);
    /// close(2)
    fn close(fd: c_int) -> c_int = Close, fd;
    /// fsync(2)
    fn fsync(fd: c_int) -> c_int = Fsync, fd;
    /// fdatasync(2)
    fn fdatasync(fd: c_int) -> c_int = Fdatasync, fd;
}

/// A descriptor's path, as the program gave it.
fn opened(fd: c_int, path: *const c_char) {
    if fd < 0 || path.is_null() {
        return;
    }
    // SAFETY: open(2) has just read this path to its end, and succeeded.
    let path = unsafe { CStr::from_ptr(path) };
    // A path that is not UTF-8 keeps the part before that: names are for people.
    let name = path.to_str().unwrap_or_else(|error| {
        std::str::from_utf8(&path.to_bytes()[..error.valid_up_to()]).unwrap_or_default()
    });
    record::emit(FdName { fd: Fd(fd), name: record::string(name) });
}
