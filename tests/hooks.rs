//! libc calls are seen by their symbols: each with its descriptor and its result, and none of them behaves differently.

#![cfg(feature = "hooks")]
#![allow(unsafe_code, reason = "calls libc by hand, as C programs do")]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a child's, and a cancelled thread's, few calls belong together"
)]

mod calls;
mod recorded;

use std::ffi::{CString, c_char, c_int, c_void};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::ptr::null_mut;

use calls::{Fixture, READ_ONLY, ROOM, TABLE, errno};
use kymo::events::{Call, Event, Group, Groups};
use kymo::model::Trace;
use kymo::model::descriptors::Descriptors;
use recorded::{record_unnamed as record, this_thread};

/// Calls of this thread: which, on what, with what result.
fn calls(trace: &Trace) -> Vec<(Call, i32, i64)> {
    let thread = this_thread(trace);
    let own = trace.calls.iter().filter(|call| call.thread == thread);
    own.map(|call| (call.call, call.fd.0, call.result)).collect()
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
            expected.push(((*call).to_owned(), fd(&fixture), result));
        }
        expected
    });
    let seen: Vec<_> =
        calls(&trace).into_iter().map(|(call, fd, result)| (format!("{call:?}"), fd, result)).collect();
    let mut visited = 0;
    for (seen, expected) in seen.iter().zip(&expected) {
        assert_eq!(seen, expected, "row {visited}");
        visited += 1;
    }
    assert_eq!((visited, seen.len()), (98, 98));
    let failed = expected.iter().filter(|(_, _, result)| *result < 0).count();
    assert_eq!(failed, 23, "only those that are meant to fail: {expected:?}");
}

#[test]
fn memory_that_is_mapped_moved_and_given_back_is_told_in_order() {
    const PAGE: u64 = 4096;
    let (said, events) = recorded::events(Groups::NONE.with(Group::Memory), calls::mappings);
    let told: Vec<_> = events
        .into_iter()
        // A thread that begins maps a stack for its signals.
        .filter(|(thread, _)| *thread == kymo::record::this_thread())
        .filter_map(|(_, event)| match event {
            Event::MemoryMap(map) => Some(("map", map.addr.0, map.length.0 / PAGE)),
            Event::MemoryUnmap(unmap) => Some(("unmap", unmap.addr.0, unmap.length.0 / PAGE)),
            Event::MemoryRelease(release) => Some(("release", release.addr.0, release.length.0 / PAGE)),
            _ => None,
        })
        .collect();
    let [first, second, moved, end] = [0, 1, 3, 9].map(|index: usize| told[index].1);
    let expected = [
        ("map", first, 2),
        ("map", second, 1),
        ("unmap", first, 2),
        ("map", moved, 64),
        ("unmap", moved, 1),
        ("map", second, 1),
        ("release", second, 1),
        ("unmap", second, 1),
        ("unmap", moved + PAGE, 63),
        ("map", end, 1),
        ("unmap", end, 1),
    ];
    assert_eq!(told, expected, "{said}");
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
fn descriptors_from_before_the_capture_have_names_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.json");
    let mut file = std::fs::File::create(&path).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (out, mut into) = std::io::pipe().unwrap();
    let (_accepted, trace) = record(|| {
        file.write_all(b"[]").unwrap();
        client.write_all(b"x").unwrap();
        into.write_all(b"y").unwrap();
        listener.accept().unwrap()
    });
    let descriptors = Descriptors::new(&trace);
    let name_on = |fd: i32| {
        let call = trace.calls.iter().find(|call| call.fd.0 == fd).unwrap();
        descriptors.name_of(&trace, call).unwrap_or("none").to_owned()
    };
    let address = listener.local_addr().unwrap();
    assert_eq!(name_on(file.as_raw_fd()), path.to_str().unwrap());
    assert_eq!(name_on(client.as_raw_fd()), format!("tcp {address}"));
    assert_eq!(name_on(into.as_raw_fd()), "pipe");
    assert_eq!(name_on(listener.as_raw_fd()), format!("tcp {address}, bound"));
    drop(out);
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
