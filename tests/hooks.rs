//! libc calls are seen by their symbols: each with its descriptor and its result, and none of them behaves differently.

#![cfg(feature = "hooks")]
#![allow(unsafe_code, reason = "calls libc by hand, as C programs do")]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a child's, and a cancelled thread's, few calls belong together"
)]

mod recorded;

use std::ffi::{CString, c_char, c_int, c_void};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::ptr::{null, null_mut};

use kymo::events::Call;
use kymo::model::Trace;
use recorded::{record_unnamed as record, this_thread};

/// Calls of this thread: which, on what, with what result.
fn calls(trace: &Trace) -> Vec<(Call, i32, i64)> {
    let thread = this_thread(trace);
    let own = trace.calls.iter().filter(|call| call.thread == thread);
    own.map(|call| (call.call, call.fd.0, call.result)).collect()
}

fn errno() -> i32 {
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
}

/// What the table's calls work on; `none` is for those without a descriptor.
struct Fixture {
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
    fn new(path: &Path) -> Fixture {
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

/// A row: which call it is, which descriptor it is told with, and the call, given live bytes.
type Row = (Call, fn(&Fixture) -> i32, fn(&Fixture, *mut c_void) -> i64);

const ROOM: usize = 64;
const NOW: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 0 };
const NEVER: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: -1 };
const READ_ONLY: c_int = libc::O_RDONLY;
const NO_WAIT: c_int = libc::MSG_DONTWAIT;

macro_rules! table {
    ($($call:ident($fd:ident) |$f:ident, $bytes:ident| $function:expr;)*) => {
        &[$((Call::$call, |f| f.$fd, |$f, $bytes| {
            let _ = ($f, $bytes);
            // SAFETY: every pointer is to live memory of the size that is passed, or null where that may be.
            #[allow(clippy::macro_metavars_in_unsafe, reason = "each row is a libc call")]
            let result = unsafe { $function };
            result as i64
        }),)*]
    };
}

const TABLE: &[Row] = table! {
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
    CopyFileRange(file) |f, b| libc::copy_file_range(f.file, null_mut(), -1, null_mut(), 1, 0);
    Sendfile(into) |f, b| libc::sendfile(f.into, f.file, &mut 0, 2);
    Sendfile(into) |f, b| libc::sendfile64(f.into, f.file, &mut 0, 2);
    Splice(out) |f, b| libc::splice(f.out, null_mut(), f.pair, null_mut(), 4, 0);
    Rename(none) |f, b| libc::rename(f.path.as_ptr(), f.path.as_ptr());
    Unlink(none) |f, b| libc::unlink(c"/no/such".as_ptr());
    Ftruncate(file) |f, b| libc::ftruncate(f.file, 4);
    Ftruncate(file) |f, b| libc::ftruncate64(f.file, 4);
    Fallocate(file) |f, b| libc::fallocate(f.file, 0, 0, 4);
    Fallocate(file) |f, b| libc::fallocate64(f.file, 0, 0, 4);
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
    Poll(none) |f, b| libc::poll(null_mut(), 0, 0);
    Poll(none) |f, b| __poll_chk(null_mut(), 0, 0, 0);
    Ppoll(none) |f, b| libc::ppoll(null_mut(), 0, &NOW, null());
    Ppoll(none) |f, b| __ppoll_chk(null_mut(), 0, &NOW, null(), 0);
    Select(none) |f, b| libc::select(-1, null_mut(), null_mut(), null_mut(), null_mut());
    Pselect(none) |f, b| libc::pselect(0, null_mut(), null_mut(), null_mut(), &NOW, null());
    EpollWait(epoll) |f, b| libc::epoll_wait(f.epoll, b.cast(), 1, 0);
    EpollPwait(epoll) |f, b| libc::epoll_pwait(f.epoll, b.cast(), 1, 0, null());
    Usleep(none) |f, b| usleep(1);
    Nanosleep(none) |f, b| libc::nanosleep(&NOW, null_mut());
    Nanosleep(none) |f, b| libc::nanosleep(&NEVER, null_mut());
    ClockNanosleep(none) |f, b| libc::clock_nanosleep(libc::CLOCK_MONOTONIC, 0, &NOW, null_mut());
    ClockNanosleep(none) |f, b| match libc::clock_nanosleep(libc::CLOCK_MONOTONIC, 0, &NEVER, null_mut()) {
        // It returns what others set errno to.
        libc::EINVAL => -i64::from(libc::EINVAL),
        other => panic!("{other}"),
    };
};

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

#[test]
fn every_hooked_call_is_seen_with_its_descriptor_and_its_result() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(&folder.path().join("file"));
    let (expected, trace) = record(|| {
        let mut expected = Vec::with_capacity(TABLE.len());
        for (call, fd, run) in TABLE {
            let mut bytes = [b'k'; ROOM];
            let result = run(&fixture, bytes.as_mut_ptr().cast());
            let result = if result == -1 { -i64::from(errno()) } else { result };
            expected.push((*call, fd(&fixture), result));
        }
        expected
    });
    let seen = calls(&trace);
    let mut visited = 0;
    for (seen, expected) in seen.iter().zip(&expected) {
        assert_eq!(seen, expected, "row {visited}");
        visited += 1;
    }
    assert_eq!((visited, seen.len()), (66, 66));
    let failed = expected.iter().filter(|(_, _, result)| *result < 0).count();
    assert_eq!(failed, 9, "only those that are meant to fail: {expected:?}");
}

#[test]
fn a_failing_call_keeps_its_errno_and_a_succeeding_one_leaves_errno_alone() {
    let ((), _trace) = record(|| {
        for _ in 0..10_000 {
            let mut byte = 0u8;
            // SAFETY: one byte of live memory.
            let read = unsafe { libc::read(-1, (&raw mut byte).cast(), 1) };
            assert_eq!((read, errno()), (-1, libc::EBADF));
            // SAFETY: no memory is passed.
            let polled = unsafe { libc::poll(null_mut(), 0, 0) };
            assert_eq!((polled, errno()), (0, libc::EBADF), "a success must not touch errno");
        }
    });
}

#[test]
fn bad_pointers_fail_as_they_do_without_hooks() {
    let nowhere = || std::ptr::without_provenance_mut::<c_void>(1);
    let (results, trace) = record(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let failing = |result: i64| (result == -1).then(errno);
        // SAFETY: the kernel finds that the pointers are bad, and says so; so below.
        let opened = failing(unsafe { libc::open(nowhere().cast(), READ_ONLY) }.into());
        // SAFETY: as above.
        let connected = failing(unsafe { libc::connect(listener.as_raw_fd(), nowhere().cast(), 16) }.into());
        // SAFETY: as above.
        let accepted =
            failing(unsafe { libc::accept(listener.as_raw_fd(), nowhere().cast(), nowhere().cast()) }.into());
        [opened, connected, accepted]
    });
    assert_eq!(results, [Some(libc::EFAULT); 3]);
    let failed = calls(&trace).iter().filter(|call| call.2 == -i64::from(libc::EFAULT)).count();
    assert_eq!(failed, 3);
}

#[test]
fn an_accepted_address_that_does_not_fit_is_cut_and_nothing_else_is_written() {
    let (after, _trace) = record(|| {
        let listener = TcpListener::bind("[::1]:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut room = [0xaa_u8; 28];
        let mut length: libc::socklen_t = 4;
        // SAFETY: four bytes of live memory, as `length` says.
        let fd = unsafe { libc::accept(listener.as_raw_fd(), room.as_mut_ptr().cast(), &mut length) };
        assert!(fd >= 0);
        (room, length)
    });
    assert_eq!(after.1, 28, "the length that it has");
    assert_eq!(after.0[4..], [0xaa; 24]);
}

#[test]
fn opens_mode_arrives_though_it_is_variadic_in_c() {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str, open: fn(*const c_char, c_int, libc::mode_t) -> c_int| {
        let path = folder.path().join(name);
        let name = CString::new(path.as_os_str().as_bytes()).unwrap();
        let flags = libc::O_CREAT | libc::O_WRONLY;
        let ((), _trace) = record(|| assert!(open(name.as_ptr(), flags, 0o640) >= 0));
        assert_eq!(open(name.as_ptr(), flags | libc::O_EXCL, 0o640), -1, "flags arrive too");
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777
    };
    // SAFETY: sets this process's mask, touches no memory.
    unsafe { libc::umask(0) };
    // SAFETY: C strings, and a mode as O_CREAT wants it; so below.
    assert_eq!(make("open", |path, flags, mode| unsafe { libc::open(path, flags, mode) }), 0o640);
    // SAFETY: as above.
    assert_eq!(make("open64", |path, flags, mode| unsafe { libc::open64(path, flags, mode) }), 0o640);
    // SAFETY: as above.
    assert_eq!(make("openat", |path, flags, mode| unsafe { libc::openat(-1, path, flags, mode) }), 0o640);
    // SAFETY: as above.
    assert_eq!(make("openat64", |path, flags, mode| unsafe { libc::openat64(-1, path, flags, mode) }), 0o640);
}

#[test]
fn descriptors_get_names() {
    let folder = tempfile::tempdir().unwrap();
    let (path, socket) = (folder.path().join("orders.json"), folder.path().join("db.sock"));
    let (ports, trace) = record(|| {
        std::fs::write(&path, b"[]").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, peer) = listener.accept().unwrap();
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap();
        let resolver = UdpSocket::bind("127.0.0.1:0").unwrap();
        resolver.connect("127.0.0.1:53").unwrap();
        let local = UnixListener::bind(&socket).unwrap();
        let _client = UnixStream::connect(&socket).unwrap();
        local.accept().unwrap();
        (listener.local_addr().unwrap().port(), peer.port())
    });
    let names: Vec<_> = trace.fd_names.iter().map(|name| trace.text(name.name).to_owned()).collect();
    let expected = [
        path.display().to_string(),
        format!("tcp 127.0.0.1:{}", ports.0),
        format!("tcp 127.0.0.1:{}", ports.1),
        "udp 127.0.0.1:53".to_owned(),
        format!("unix {}", socket.display()),
        "unix".to_owned(),
    ];
    for name in expected {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
}

#[test]
fn a_connection_that_is_refused_or_pending_keeps_what_it_meant() {
    let ((), trace) = record(|| {
        let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(TcpStream::connect(unused).is_err());
        // Times out only after the connection was begun, without waiting for it.
        let begun =
            TcpStream::connect_timeout(&"192.0.2.1:81".parse().unwrap(), std::time::Duration::from_millis(1));
        assert!(begun.is_err());
    });
    let names: Vec<_> = trace.fd_names.iter().map(|name| trace.text(name.name)).collect();
    let connects: Vec<_> = calls(&trace).into_iter().filter(|call| call.0 == Call::Connect).collect();
    assert_eq!(connects.len(), 2);
    assert_eq!(connects[0].2, -i64::from(libc::ECONNREFUSED));
    if connects[1].2 == -i64::from(libc::EINPROGRESS) {
        assert!(names.contains(&"tcp 192.0.2.1:81"), "{names:?}");
    }
    assert!(names.iter().all(|name| !name.is_empty()));
}
