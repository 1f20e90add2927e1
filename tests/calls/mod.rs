//! A table of calls that a service makes, with what they work on: one row for each hooked C function, and some that fail.
//!
//! Does not name kymo: the program that shows how calls are without it is not linked with it.

#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::multiple_unsafe_ops_per_block, reason = "a call and what it is given belong together")]

use std::ffi::{CString, c_char, c_int, c_void};
use std::io::Write;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::ptr::{null, null_mut};

pub(crate) fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap()
}

unsafe extern "C" {
    fn __read_chk(fd: c_int, buffer: *mut c_void, count: usize, room: usize) -> isize;
    fn __pread_chk(fd: c_int, buffer: *mut c_void, count: usize, offset: i64, room: usize) -> isize;
    fn __pread64_chk(fd: c_int, buffer: *mut c_void, count: usize, offset: i64, room: usize) -> isize;
    fn __open_2(path: *const c_char, flags: c_int) -> c_int;
    fn __open64_2(path: *const c_char, flags: c_int) -> c_int;
    fn __openat_2(at: c_int, path: *const c_char, flags: c_int) -> c_int;
    fn __openat64_2(at: c_int, path: *const c_char, flags: c_int) -> c_int;
    fn __recv_chk(fd: c_int, buffer: *mut c_void, count: usize, room: usize, flags: c_int) -> isize;
    fn __recvfrom_chk(
        fd: c_int,
        buffer: *mut c_void,
        count: usize,
        room: usize,
        flags: c_int,
        from: *mut libc::sockaddr,
        length: *mut libc::socklen_t,
    ) -> isize;
    fn __poll_chk(descriptors: *mut libc::pollfd, count: u64, timeout: c_int, room: usize) -> c_int;
    fn __ppoll_chk(
        descriptors: *mut libc::pollfd,
        count: u64,
        timeout: *const libc::timespec,
        mask: *const libc::sigset_t,
        room: usize,
    ) -> c_int;
    fn usleep(micros: libc::useconds_t) -> c_int;
    fn lockf64(fd: c_int, operation: c_int, length: i64) -> c_int;
    fn getdents64(fd: c_int, buffer: *mut c_void, count: usize) -> isize;
    fn wait3(status: *mut c_int, options: c_int, usage: *mut libc::rusage) -> c_int;
    fn epoll_pwait2(
        fd: c_int,
        events: *mut libc::epoll_event,
        most: c_int,
        timeout: *const libc::timespec,
        mask: *const libc::sigset_t,
    ) -> c_int;
}

/// What the table's calls work on; `none` is for those without a descriptor.
pub(crate) struct Fixture {
    none: i32,
    cwd: i32,
    file: i32,
    /// A pipe's ends.
    out: i32,
    into: i32,
    socket: i32,
    /// One end of a pair.
    pair: i32,
    listener: i32,
    epoll: i32,
    path: CString,
    address: libc::sockaddr_in,
    _listener: TcpListener,
}

impl Fixture {
    pub(crate) fn new(path: &Path) -> Fixture {
        let file = std::fs::File::options().read(true).write(true).create(true).truncate(true).open(path);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = libc::sockaddr_in {
            sin_family: libc::AF_INET as u16,
            sin_port: listener.local_addr().unwrap().port().to_be(),
            sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
            sin_zero: [0; 8],
        };
        let (pair, mut other) = UnixStream::pair().unwrap();
        other.write_all(&[b'k'; ROOM]).unwrap();
        let _open_forever = other.into_raw_fd();
        let (out, into) = std::io::pipe().unwrap();
        Fixture {
            none: -1,
            cwd: libc::AT_FDCWD,
            file: file.unwrap().into_raw_fd(),
            out: out.into_raw_fd(),
            into: into.into_raw_fd(),
            // SAFETY: makes a descriptor, touches no memory.
            socket: unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) },
            pair: pair.into_raw_fd(),
            listener: listener.as_raw_fd(),
            // SAFETY: makes a descriptor, touches no memory.
            epoll: unsafe { libc::epoll_create1(0) },
            path: CString::new(path.as_os_str().as_bytes()).unwrap(),
            address,
            _listener: listener,
        }
    }
}

/// A row: which call it is (as kymo's `Call` names it), which descriptor it is told with, and the call, given live bytes.
pub(crate) type Row = (&'static str, fn(&Fixture) -> i32, fn(&Fixture, *mut c_void) -> i64);

pub(crate) const ROOM: usize = 64;
const NOW: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 0 };
const NEVER: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: -1 };
pub(crate) const READ_ONLY: c_int = libc::O_RDONLY;
const NO_WAIT: c_int = libc::MSG_DONTWAIT;

macro_rules! table {
    ($($call:ident($fd:ident) |$f:ident, $bytes:ident| $function:expr;)*) => {
        &[$((stringify!($call), |f| f.$fd, |$f, $bytes| {
            let _ = ($f, $bytes);
            // SAFETY: every pointer is to live memory of the size that is passed, or null where that may be.
            #[allow(unused_unsafe, reason = "some rows have functions of their own")]
            #[allow(clippy::macro_metavars_in_unsafe, reason = "each row is a libc call")]
            let result = unsafe { $function };
            result as i64
        }),)*]
    };
}

pub(crate) const TABLE: &[Row] = table! {
    Write(file) |f, b| libc::write(f.file, b, 4);
    Read(file) |f, b| libc::read(f.file, b, 4);
    Read(file) |f, b| __read_chk(f.file, b, 4, ROOM);
    Pwrite(file) |f, b| libc::pwrite(f.file, b, 4, 0);
    Pwrite(file) |f, b| libc::pwrite64(f.file, b, 5, 0);
    Pread(file) |f, b| libc::pread(f.file, b, 2, 0);
    Pread(file) |f, b| libc::pread64(f.file, b, 3, 0);
    Pread(file) |f, b| __pread_chk(f.file, b, 2, 0, ROOM);
    Pread(file) |f, b| __pread64_chk(f.file, b, 3, 0, ROOM);
    Writev(file) |f, b| libc::writev(f.file, &vector(b), 1);
    Readv(file) |f, b| libc::readv(f.file, &vector(b), 1);
    Pwritev(file) |f, b| libc::pwritev(f.file, &vector(b), 1, 0);
    Pwritev(file) |f, b| libc::pwritev64(f.file, &vector(b), 1, 0);
    Preadv(file) |f, b| libc::preadv(f.file, &vector(b), 1, 0);
    Preadv(file) |f, b| libc::preadv64(f.file, &vector(b), 1, 0);
    Pwritev2(file) |f, b| libc::pwritev2(f.file, &vector(b), 1, 0, 0);
    Pwritev2(file) |f, b| libc::pwritev64v2(f.file, &vector(b), 1, 0, 0);
    Preadv2(file) |f, b| libc::preadv2(f.file, &vector(b), 1, 0, 0);
    Preadv2(file) |f, b| libc::preadv64v2(f.file, &vector(b), 1, 0, 0);
    Open(none) |f, b| libc::open(f.path.as_ptr(), READ_ONLY);
    Open(none) |f, b| libc::open64(f.path.as_ptr(), READ_ONLY);
    Open(none) |f, b| __open_2(f.path.as_ptr(), READ_ONLY);
    Open(none) |f, b| __open64_2(f.path.as_ptr(), READ_ONLY);
    Open(none) |f, b| libc::open(c"/no/such".as_ptr(), READ_ONLY);
    Openat(cwd) |f, b| libc::openat(libc::AT_FDCWD, f.path.as_ptr(), READ_ONLY);
    Openat(cwd) |f, b| libc::openat64(libc::AT_FDCWD, f.path.as_ptr(), READ_ONLY);
    Openat(cwd) |f, b| __openat_2(libc::AT_FDCWD, f.path.as_ptr(), READ_ONLY);
    Openat(cwd) |f, b| __openat64_2(libc::AT_FDCWD, f.path.as_ptr(), READ_ONLY);
    Close(none) |f, b| libc::close(-1);
    Fsync(file) |f, b| libc::fsync(f.file);
    Fdatasync(file) |f, b| libc::fdatasync(f.file);
    SyncFileRange(file) |f, b| libc::sync_file_range(f.file, 0, 4, 0);
    Syncfs(file) |f, b| libc::syncfs(f.file);
    Msync(none) |f, b| libc::msync(null_mut(), 0, libc::MS_SYNC);
    Flock(file) |f, b| libc::flock(f.file, libc::LOCK_EX | libc::LOCK_NB);
    Lockf(file) |f, b| libc::lockf(f.file, libc::F_TLOCK, 1);
    Lockf(file) |f, b| lockf64(f.file, libc::F_ULOCK, 1);
    CopyFileRange(file) |f, b| libc::copy_file_range(f.file, null_mut(), -1, null_mut(), 1, 0);
    Sendfile(into) |f, b| libc::sendfile(f.into, f.file, &mut 0, 2);
    Sendfile(into) |f, b| libc::sendfile64(f.into, f.file, &mut 0, 2);
    Splice(out) |f, b| libc::splice(f.out, null_mut(), f.pair, null_mut(), 4, 0);
    Rename(none) |f, b| libc::rename(f.path.as_ptr(), f.path.as_ptr());
    Unlink(none) |f, b| libc::unlink(c"/no/such".as_ptr());
    Renameat(cwd) |f, b| libc::renameat(f.cwd, f.path.as_ptr(), f.cwd, f.path.as_ptr());
    Renameat2(cwd) |f, b| libc::renameat2(f.cwd, f.path.as_ptr(), f.cwd, f.path.as_ptr(), libc::RENAME_NOREPLACE);
    Unlinkat(cwd) |f, b| libc::unlinkat(f.cwd, c"/no/such".as_ptr(), 0);
    Statx(cwd) |f, b| libc::statx(f.cwd, f.path.as_ptr(), 0, libc::STATX_SIZE, &mut std::mem::zeroed());
    Getdents64(file) |f, b| getdents64(f.file, b, ROOM);
    Ftruncate(file) |f, b| libc::ftruncate(f.file, 4);
    Ftruncate(file) |f, b| libc::ftruncate64(f.file, 4);
    Fallocate(file) |f, b| libc::fallocate(f.file, 0, 0, 4);
    Fallocate(file) |f, b| libc::fallocate64(f.file, 0, 0, 4);
    PosixFallocate(file) |f, b| libc::posix_fallocate(f.file, 0, 4);
    PosixFallocate(file) |f, b| libc::posix_fallocate64(f.file, 0, 4);
    PosixFallocate(none) |f, b| -i64::from(libc::posix_fallocate(-1, 0, 4));
    Connect(socket) |f, b| libc::connect(f.socket, (&raw const f.address).cast(), 16);
    Connect(none) |f, b| libc::connect(-1, std::ptr::without_provenance(1), 16);
    Accept(listener) |f, b| libc::accept(f.listener, null_mut(), null_mut());
    Accept4(none) |f, b| libc::accept4(-1, null_mut(), null_mut(), 0);
    Send(pair) |f, b| libc::send(f.pair, b, 4, 0);
    Sendto(pair) |f, b| libc::sendto(f.pair, b, 4, 0, null(), 0);
    Sendmsg(pair) |f, b| libc::sendmsg(f.pair, &message(&mut vector(b)).msg_hdr, 0);
    Sendmmsg(pair) |f, b| libc::sendmmsg(f.pair, &mut message(&mut vector(b)), 1, 0);
    Recv(pair) |f, b| libc::recv(f.pair, b, 4, NO_WAIT);
    Recv(pair) |f, b| __recv_chk(f.pair, b, 4, ROOM, NO_WAIT);
    Recvfrom(pair) |f, b| libc::recvfrom(f.pair, b, 4, NO_WAIT, null_mut(), null_mut());
    Recvfrom(pair) |f, b| __recvfrom_chk(f.pair, b, 4, ROOM, NO_WAIT, null_mut(), null_mut());
    Recvmsg(pair) |f, b| libc::recvmsg(f.pair, &mut message(&mut vector(b)).msg_hdr, NO_WAIT);
    Recvmmsg(pair) |f, b| libc::recvmmsg(f.pair, &mut message(&mut vector(b)), 1, NO_WAIT, null_mut());
    Shutdown(pair) |f, b| libc::shutdown(f.pair, libc::SHUT_WR);
    Getaddrinfo(none) |f, b| resolve(c"127.0.0.1");
    Getaddrinfo(none) |f, b| match resolve(c"no number") {
        libc::EAI_NONAME => -i64::from(libc::ENOENT),
        other => panic!("{other}"),
    };
    Poll(none) |f, b| libc::poll(null_mut(), 0, 0);
    Poll(none) |f, b| __poll_chk(null_mut(), 0, 0, 0);
    Ppoll(none) |f, b| libc::ppoll(null_mut(), 0, &NOW, null());
    Ppoll(none) |f, b| __ppoll_chk(null_mut(), 0, &NOW, null(), 0);
    Select(none) |f, b| libc::select(-1, null_mut(), null_mut(), null_mut(), null_mut());
    Pselect(none) |f, b| libc::pselect(0, null_mut(), null_mut(), null_mut(), &NOW, null());
    EpollWait(epoll) |f, b| libc::epoll_wait(f.epoll, b.cast(), 1, 0);
    EpollPwait(epoll) |f, b| libc::epoll_pwait(f.epoll, b.cast(), 1, 0, null());
    EpollPwait2(epoll) |f, b| epoll_pwait2(f.epoll, b.cast(), 1, &NOW, null());
    Sleep(none) |f, b| libc::sleep(0);
    Usleep(none) |f, b| usleep(1);
    Nanosleep(none) |f, b| libc::nanosleep(&NOW, null_mut());
    Nanosleep(none) |f, b| libc::nanosleep(&NEVER, null_mut());
    ClockNanosleep(none) |f, b| libc::clock_nanosleep(libc::CLOCK_MONOTONIC, 0, &NOW, null_mut());
    ClockNanosleep(none) |f, b| match libc::clock_nanosleep(libc::CLOCK_MONOTONIC, 0, &NEVER, null_mut()) {
        // It returns what others set errno to.
        libc::EINVAL => -i64::from(libc::EINVAL),
        other => panic!("{other}"),
    };
    PosixSpawn(none) |f, b| -i64::from(libc::posix_spawn(null_mut(), c"/no/such".as_ptr(), null(), null(), &null_mut(), &null_mut()));
    PosixSpawnp(none) |f, b| libc::posix_spawnp(null_mut(), c"true".as_ptr(), null(), null(), &null_mut(), &null_mut());
    Waitpid(none) |f, b| libc::waitpid(-1, null_mut(), 0);
    Wait(none) |f, b| libc::wait(null_mut());
    Wait3(none) |f, b| wait3(null_mut(), 0, null_mut());
    Wait4(none) |f, b| libc::wait4(-1, null_mut(), 0, null_mut());
    Waitid(none) |f, b| libc::waitid(libc::P_ALL, 0, null_mut(), libc::WEXITED);
    Sigtimedwait(none) |f, b| libc::sigtimedwait(&std::mem::zeroed(), null_mut(), &NOW);
    Sigwaitinfo(none) |f, b| libc::sigwaitinfo(null(), null_mut());
    Sigwait(none) |f, b| -i64::from(libc::sigwait(null(), &mut 0));
    Sigsuspend(none) |f, b| libc::sigsuspend(null());
};

/// Calls that change what memory is mapped; each says whether it did what it should. Some of them fail.
pub(crate) fn mappings() -> String {
    let (page, private) = (4096, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let (read, write, nowhere) = (libc::PROT_READ, libc::PROT_READ | libc::PROT_WRITE, null_mut());
    let mut said = String::new();
    let mut say = |result: bool| said.push_str(&format!("{result} {} ", errno()));
    // SAFETY: touches only what it maps itself.
    unsafe {
        let first = libc::mmap(nowhere, 2 * page, write, private, -1, 0);
        say(first != libc::MAP_FAILED);
        first.cast::<u8>().write(7);
        let second = libc::mmap64(nowhere, page, read, private, -1, 0);
        say(second != libc::MAP_FAILED);
        say(libc::mmap(nowhere, 0, read, private, -1, 0) == libc::MAP_FAILED);
        let moved = libc::mremap(first, 2 * page, 64 * page, libc::MREMAP_MAYMOVE);
        say(moved.cast::<u8>().read() == 7);
        let put = libc::mremap(moved, page, page, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, second);
        say(put == second && put.cast::<u8>().read() == 7);
        say(libc::madvise(put, page, libc::MADV_DONTNEED) == 0);
        say(put.cast::<u8>().read() == 0);
        say(libc::madvise(put, page, libc::MADV_NORMAL) == 0);
        say(libc::madvise(put, page, -1) == 0);
        say(libc::munmap(put, page) == 0);
        say(libc::munmap(put.wrapping_byte_add(1), page) == 0);
        say(libc::munmap(moved.byte_add(page), 63 * page) == 0);
        let end = libc::sbrk(page as isize);
        say(libc::sbrk(0) == end.byte_add(page));
        say(libc::sbrk(-(page as isize)) == end.byte_add(page));
    }
    said
}

fn resolve(name: &std::ffi::CStr) -> c_int {
    // SAFETY: zero bytes are valid hints, and a C string; what is found is never freed, nor needed.
    unsafe {
        let hints = libc::addrinfo { ai_flags: libc::AI_NUMERICHOST, ..std::mem::zeroed() };
        libc::getaddrinfo(name.as_ptr(), null(), &hints, &mut null_mut())
    }
}

fn vector(bytes: *mut c_void) -> libc::iovec {
    libc::iovec { iov_base: bytes, iov_len: 4 }
}

fn message(vector: *mut libc::iovec) -> libc::mmsghdr {
    // SAFETY: zero bytes are a valid empty message.
    let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
    message.msg_hdr.msg_iov = vector;
    message.msg_hdr.msg_iovlen = 1;
    message
}
