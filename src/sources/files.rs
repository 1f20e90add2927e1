//! Calls on files and descriptors of any kind: read, write, open, close, sync, copy, rename.
//!
//! Each row of the table is one exported C function (see `interpose`). A descriptor that is opened tells its path
//! (see `descriptors`).
//! `open` and `openat` are variadic in C; with the mode as a fixed argument the registers are the same.
//! std calls the names that end in 64; C that was compiled with checks of its buffers calls those that begin with two
//! underscores.

#![allow(unsafe_code, reason = "defines C functions")]

use std::ffi::{c_char, c_int, c_uint, c_void};

use libc::{iovec, mode_t, off_t, off64_t, size_t, ssize_t};

use super::descriptors::opened;
use super::interpose::{ErrorNumber, calls};

calls! {
    /// read(2)
    fn read(fd: c_int, buffer: *mut c_void, count: size_t) -> ssize_t = Read, fd;
    /// read(2), checked
    fn __read_chk(fd: c_int, buffer: *mut c_void, count: size_t, room: size_t) -> ssize_t = Read, fd;
    /// write(2)
    fn write(fd: c_int, buffer: *const c_void, count: size_t) -> ssize_t = Write, fd;
    /// pread(2)
    fn pread(fd: c_int, buffer: *mut c_void, count: size_t, offset: off_t) -> ssize_t = Pread, fd;
    /// pread(2)
    fn pread64(fd: c_int, buffer: *mut c_void, count: size_t, offset: off64_t) -> ssize_t = Pread, fd;
    /// pread(2), checked
    fn __pread_chk(fd: c_int, buffer: *mut c_void, count: size_t, offset: off_t, room: size_t) -> ssize_t
        = Pread, fd;
    /// pread(2), checked
    fn __pread64_chk(fd: c_int, buffer: *mut c_void, count: size_t, offset: off64_t, room: size_t) -> ssize_t
        = Pread, fd;
    /// pwrite(2)
    fn pwrite(fd: c_int, buffer: *const c_void, count: size_t, offset: off_t) -> ssize_t = Pwrite, fd;
    /// pwrite(2)
    fn pwrite64(fd: c_int, buffer: *const c_void, count: size_t, offset: off64_t) -> ssize_t = Pwrite, fd;
    /// readv(2)
    fn readv(fd: c_int, buffers: *const iovec, count: c_int) -> ssize_t = Readv, fd;
    /// writev(2)
    fn writev(fd: c_int, buffers: *const iovec, count: c_int) -> ssize_t = Writev, fd;
    /// preadv(2)
    fn preadv(fd: c_int, buffers: *const iovec, count: c_int, offset: off_t) -> ssize_t = Preadv, fd;
    /// preadv(2)
    fn preadv64(fd: c_int, buffers: *const iovec, count: c_int, offset: off64_t) -> ssize_t = Preadv, fd;
    /// pwritev(2)
    fn pwritev(fd: c_int, buffers: *const iovec, count: c_int, offset: off_t) -> ssize_t = Pwritev, fd;
    /// pwritev(2)
    fn pwritev64(fd: c_int, buffers: *const iovec, count: c_int, offset: off64_t) -> ssize_t = Pwritev, fd;
    /// preadv2(2)
    fn preadv2(fd: c_int, buffers: *const iovec, count: c_int, offset: off_t, flags: c_int) -> ssize_t
        = Preadv2, fd;
    /// preadv2(2)
    fn preadv64v2(fd: c_int, buffers: *const iovec, count: c_int, offset: off64_t, flags: c_int) -> ssize_t
        = Preadv2, fd;
    /// pwritev2(2)
    fn pwritev2(fd: c_int, buffers: *const iovec, count: c_int, offset: off_t, flags: c_int) -> ssize_t
        = Pwritev2, fd;
    /// pwritev2(2)
    fn pwritev64v2(fd: c_int, buffers: *const iovec, count: c_int, offset: off64_t, flags: c_int) -> ssize_t
        = Pwritev2, fd;

    /// open(2)
    fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int = Open, -1, then opened(path);
    /// open(2)
    fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int = Open, -1, then opened(path);
    /// open(2), checked
    fn __open_2(path: *const c_char, flags: c_int) -> c_int = Open, -1, then opened(path);
    /// open(2), checked
    fn __open64_2(path: *const c_char, flags: c_int) -> c_int = Open, -1, then opened(path);
    /// openat(2)
    fn openat(at: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int = Openat, at, then opened(path);
    /// openat(2)
    fn openat64(at: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int
        = Openat, at, then opened(path);
    /// openat(2), checked
    fn __openat_2(at: c_int, path: *const c_char, flags: c_int) -> c_int = Openat, at, then opened(path);
    /// openat(2), checked
    fn __openat64_2(at: c_int, path: *const c_char, flags: c_int) -> c_int = Openat, at, then opened(path);
    /// close(2)
    fn close(fd: c_int) -> c_int = Close, fd;
    /// fsync(2)
    fn fsync(fd: c_int) -> c_int = Fsync, fd;
    /// fdatasync(2)
    fn fdatasync(fd: c_int) -> c_int = Fdatasync, fd;
    /// sync_file_range(2)
    fn sync_file_range(fd: c_int, offset: off64_t, length: off64_t, flags: c_uint) -> c_int = SyncFileRange, fd;

    /// syncfs(2)
    fn syncfs(fd: c_int) -> c_int = Syncfs, fd;
    /// msync(2)
    fn msync(address: *mut c_void, length: size_t, flags: c_int) -> c_int = Msync, -1;
    /// flock(2), which may wait for whoever has the file locked
    fn flock(fd: c_int, operation: c_int) -> c_int = Flock, fd;
    /// lockf(3), which may wait likewise
    fn lockf(fd: c_int, operation: c_int, length: off_t) -> c_int = Lockf, fd;
    /// lockf(3)
    fn lockf64(fd: c_int, operation: c_int, length: off64_t) -> c_int = Lockf, fd;

    /// copy_file_range(2)
    fn copy_file_range(from: c_int, from_offset: *mut off64_t, to: c_int, to_offset: *mut off64_t,
        length: size_t, flags: c_uint) -> ssize_t = CopyFileRange, from;
    /// sendfile(2), told by where it sends to
    fn sendfile(to: c_int, from: c_int, offset: *mut off_t, count: size_t) -> ssize_t = Sendfile, to;
    /// sendfile(2)
    fn sendfile64(to: c_int, from: c_int, offset: *mut off64_t, count: size_t) -> ssize_t = Sendfile, to;
    /// splice(2)
    fn splice(from: c_int, from_offset: *mut off64_t, to: c_int, to_offset: *mut off64_t, length: size_t,
        flags: c_uint) -> ssize_t = Splice, from;
    /// rename(2)
    fn rename(from: *const c_char, to: *const c_char) -> c_int = Rename, -1;
    /// renameat(2), told by the folder that it renames from
    fn renameat(at: c_int, from: *const c_char, to_at: c_int, to: *const c_char) -> c_int = Renameat, at;
    /// renameat2(2), likewise
    fn renameat2(at: c_int, from: *const c_char, to_at: c_int, to: *const c_char, flags: c_uint) -> c_int
        = Renameat2, at;
    /// unlink(2)
    fn unlink(path: *const c_char) -> c_int = Unlink, -1;
    /// unlinkat(2)
    fn unlinkat(at: c_int, path: *const c_char, flags: c_int) -> c_int = Unlinkat, at;
    /// statx(2)
    fn statx(at: c_int, path: *const c_char, flags: c_int, mask: c_uint, result: *mut libc::statx) -> c_int
        = Statx, at;
    /// getdents64(2)
    fn getdents64(fd: c_int, buffer: *mut c_void, count: size_t) -> ssize_t = Getdents64, fd;
    /// ftruncate(2)
    fn ftruncate(fd: c_int, length: off_t) -> c_int = Ftruncate, fd;
    /// ftruncate(2)
    fn ftruncate64(fd: c_int, length: off64_t) -> c_int = Ftruncate, fd;
    /// fallocate(2)
    fn fallocate(fd: c_int, mode: c_int, offset: off_t, length: off_t) -> c_int = Fallocate, fd;
    /// fallocate(2)
    fn fallocate64(fd: c_int, mode: c_int, offset: off64_t, length: off64_t) -> c_int = Fallocate, fd;
    /// posix_fallocate(3), which returns its error instead of setting errno
    fn posix_fallocate(fd: c_int, offset: off_t, length: off_t) -> ErrorNumber = PosixFallocate, fd;
    /// posix_fallocate(3), likewise
    fn posix_fallocate64(fd: c_int, offset: off64_t, length: off64_t) -> ErrorNumber = PosixFallocate, fd;
}
