//! libc calls are seen by their symbols: each with its descriptor and result, and none of them behaves differently.

#![cfg(feature = "hooks")]
#![allow(unsafe_code, reason = "calls libc by hand, as C programs do")]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a child's, and a cancelled thread's, few calls belong together"
)]

mod recorded;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Barrier, Condvar, Mutex, RwLock};
use std::time::Duration;

use kymo::events::{Call, WaitKind, WaitOutcome};
use kymo::model::{Trace, Wait};
use recorded::{functions, record, this_thread};

/// Calls of this thread: which, on what, with what result.
fn calls(trace: &Trace) -> Vec<(Call, i32, i64)> {
    let thread = this_thread(trace);
    let own = trace.calls.iter().filter(|call| call.thread == thread);
    own.map(|call| (call.call, call.fd.0, call.result)).collect()
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap()
}

/// A row of the table: what a call should look like, and the call.
type Row = (Call, &'static str, fn(&Fixture) -> i64);

struct Fixture {
    file: i32,
    socket: i32,
    listener: i32,
    epoll: i32,
    path: std::ffi::CString,
    address: libc::sockaddr_in,
}

const BUFFER: [u8; 4] = *b"kymo";

macro_rules! row {
    ($call:ident, $fd:literal, |$f:ident| $body:expr) => {
        (Call::$call, $fd, |$f: &Fixture| {
            let mut buffer = BUFFER;
            let bytes = buffer.as_mut_ptr().cast::<libc::c_void>();
            let _ = bytes;
            // SAFETY: every pointer is to live memory of the size that is passed.
            #[allow(clippy::macro_metavars_in_unsafe, reason = "each row is a libc call")]
            let result = unsafe { $body(bytes) };
            result as i64
        })
    };
}

const TABLE: &[Row] = &[
    row!(Write, "file", |f| |b| libc::write(f.file, b, 4)),
    row!(Read, "file", |f| |b| libc::read(f.file, b, 4)),
    row!(Pread, "file", |f| |b| libc::pread(f.file, b, 2, 0)),
    row!(Pread, "file", |f| |b| libc::pread64(f.file, b, 3, 0)),
    row!(Pwrite, "file", |f| |b: *mut _| libc::pwrite(f.file, b, 4, 0)),
    row!(Pwrite, "file", |f| |b: *mut _| libc::pwrite64(f.file, b, 4, 0)),
    row!(Readv, "file", |f| |b| libc::readv(f.file, &libc::iovec { iov_base: b, iov_len: 1 }, 1)),
    row!(Writev, "file", |f| |b| libc::writev(f.file, &libc::iovec { iov_base: b, iov_len: 1 }, 1)),
    row!(Fsync, "file", |f| |_| libc::fsync(f.file)),
    row!(Fdatasync, "file", |f| |_| libc::fdatasync(f.file)),
    row!(Close, "none", |_f| |_| libc::close(-1)),
    row!(Open, "none", |f| |_| libc::open(f.path.as_ptr(), libc::O_RDONLY)),
    row!(Open, "none", |f| |_| libc::open64(f.path.as_ptr(), libc::O_RDONLY)),
    row!(Open, "none", |_f| |_| libc::open(c"/no/such".as_ptr(), libc::O_RDONLY)),
    row!(Openat, "cwd", |f| |_| libc::openat(libc::AT_FDCWD, f.path.as_ptr(), libc::O_RDONLY)),
    row!(Openat, "cwd", |f| |_| libc::openat64(libc::AT_FDCWD, f.path.as_ptr(), libc::O_RDONLY)),
    row!(Connect, "socket", |f| |_| libc::connect(f.socket, (&raw const f.address).cast(), 16)),
    row!(Accept, "listener", |f| |_| libc::accept(f.listener, std::ptr::null_mut(), std::ptr::null_mut())),
    row!(Accept4, "none", |_f| |_| libc::accept4(-1, std::ptr::null_mut(), std::ptr::null_mut(), 0)),
    row!(Send, "socket", |f| |b| libc::send(f.socket, b, 4, 0)),
    row!(Sendto, "socket", |f| |b| libc::sendto(f.socket, b, 4, 0, std::ptr::null(), 0)),
    row!(Recv, "socket", |f| |b| libc::recv(f.socket, b, 4, libc::MSG_DONTWAIT)),
    row!(Recvfrom, "socket", |f| |b| {
        libc::recvfrom(f.socket, b, 4, libc::MSG_DONTWAIT, std::ptr::null_mut(), std::ptr::null_mut())
    }),
    row!(Recvmsg, "none", |_f| |_| libc::recvmsg(-1, std::ptr::null_mut(), 0)),
    row!(Sendmsg, "none", |_f| |_| libc::sendmsg(-1, std::ptr::null(), 0)),
    row!(Poll, "none", |_f| |_| libc::poll(std::ptr::null_mut(), 0, 0)),
    row!(Ppoll, "none", |_f| |_| {
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        libc::ppoll(std::ptr::null_mut(), 0, &now, std::ptr::null())
    }),
    row!(EpollWait, "epoll", |f| |b: *mut libc::c_void| libc::epoll_wait(f.epoll, b.cast(), 0, 0)),
    row!(EpollPwait, "none", |_f| |b: *mut libc::c_void| libc::epoll_pwait(
        -1,
        b.cast(),
        1,
        0,
        std::ptr::null()
    )),
    row!(Nanosleep, "none", |_f| |_| {
        libc::nanosleep(&libc::timespec { tv_sec: 0, tv_nsec: 1 }, std::ptr::null_mut())
    }),
    row!(ClockNanosleep, "none", |_f| |_| {
        let time = libc::timespec { tv_sec: 0, tv_nsec: -1 };
        libc::clock_nanosleep(libc::CLOCK_MONOTONIC, 0, &time, std::ptr::null_mut())
    }),
];

fn fixture(path: &std::path::Path) -> (Fixture, TcpListener) {
    use std::os::fd::{AsRawFd, IntoRawFd};
    use std::os::unix::ffi::OsStrExt;
    let file =
        std::fs::File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
        sin_zero: [0; 8],
    };
    let fixture = Fixture {
        file: file.into_raw_fd(),
        // SAFETY: makes a descriptor, touches no memory.
        socket: unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) },
        listener: listener.as_raw_fd(),
        // SAFETY: makes a descriptor, touches no memory.
        epoll: unsafe { libc::epoll_create1(0) },
        path: std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap(),
        address,
    };
    (fixture, listener)
}

#[test]
fn every_hooked_call_is_seen_with_its_descriptor_and_its_result() {
    let folder = tempfile::tempdir().unwrap();
    let (fixture, _listener) = fixture(&folder.path().join("file"));
    let descriptor = |name: &str| match name {
        "file" => fixture.file,
        "socket" => fixture.socket,
        "listener" => fixture.listener,
        "epoll" => fixture.epoll,
        "cwd" => libc::AT_FDCWD,
        _ => -1,
    };
    let (expected, trace) = record(|| {
        let mut expected = Vec::with_capacity(TABLE.len());
        for (call, fd, run) in TABLE {
            let result = run(&fixture);
            let result = if result == -1 { -i64::from(errno()) } else { result };
            expected.push((*call, descriptor(fd), result));
        }
        expected
    });
    assert_eq!(calls(&trace), expected);
    assert_eq!(expected.len(), 31);
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
            let polled = unsafe { libc::poll(std::ptr::null_mut(), 0, 0) };
            assert_eq!((polled, errno()), (0, libc::EBADF), "a success must not touch errno");
        }
    });
}

#[test]
fn opens_mode_arrives_though_it_is_variadic_in_c() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("private");
    let ((), _trace) = record(|| {
        let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: a C string, and a mode as O_CREAT wants it.
        let fd = unsafe { libc::open(name.as_ptr(), libc::O_CREAT | libc::O_WRONLY, 0o600) };
        assert!(fd >= 0);
    });
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn descriptors_get_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.json");
    let (port, trace) = record(|| {
        std::fs::write(&path, b"[]").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap();
        listener.local_addr().unwrap().port()
    });
    let names: Vec<_> = trace.fd_names.iter().map(|name| trace.text(name.name)).collect();
    assert!(names.contains(&path.to_str().unwrap()), "{names:?}");
    assert!(names.contains(&format!("tcp 127.0.0.1:{port}").as_str()), "{names:?}");
    assert!(names.iter().filter(|name| name.starts_with("tcp 127.0.0.1:")).count() >= 2, "{names:?}");
}

/// Makes one thread wait until another, which has what it wants, lets go after it is seen waiting.
fn contend(wait: impl Fn() + Sync, hold: impl FnOnce(&dyn Fn())) -> Trace {
    let (holding, waiting) = (Barrier::new(2), Barrier::new(2));
    let ((), trace) = record(|| {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                holding.wait();
                waiting.wait();
                wait();
            });
            hold(&|| {
                holding.wait();
                waiting.wait();
                // Long enough that the other is in the kernel and its wait carries a stack.
                std::thread::sleep(Duration::from_millis(50));
            });
        });
    });
    trace
}

/// The wait that lasted longest among those whose stack has this function, and whether a wake of its address fell in it.
fn longest(trace: &Trace, function: &str) -> (Wait, bool) {
    let named = |wait: &&Wait| functions(trace, wait.stack).iter().any(|name| name.contains(function));
    let wait =
        *trace.waits.iter().filter(named).max_by_key(|wait| wait.time.duration()).unwrap_or_else(|| {
            let stacks: Vec<_> = trace.waits.iter().map(|wait| functions(trace, wait.stack)).collect();
            panic!("no wait in {function}: {stacks:#?}");
        });
    let inside = |at| wait.time.begin <= at && at <= wait.time.end;
    (wait, trace.wakes.iter().any(|wake| wake.addr == wait.addr && inside(wake.at)))
}

#[inline(never)]
fn waits_for_the_mutex(mutex: &Mutex<u32>) -> u32 {
    *mutex.lock().unwrap() + 1
}

#[test]
fn a_contended_std_mutex_is_a_wait_with_a_stack_and_a_wake() {
    let mutex = Arc::new(Mutex::new(1));
    let trace = contend(
        || assert_eq!(waits_for_the_mutex(&mutex), 2),
        |let_wait| {
            let guard = mutex.lock().unwrap();
            let_wait();
            drop(guard);
        },
    );
    let (wait, woken) = longest(&trace, "waits_for_the_mutex");
    assert_eq!((wait.kind, wait.outcome, woken), (WaitKind::Futex, WaitOutcome::Woken, true));
    assert!(wait.time.duration() > 20_000_000);
}

#[inline(never)]
fn waits_for_the_rwlock(lock: &RwLock<u32>) -> u32 {
    *lock.read().unwrap() + 1
}

#[test]
fn a_contended_rwlock_is_a_wait() {
    let lock = RwLock::new(1);
    let trace = contend(
        || assert_eq!(waits_for_the_rwlock(&lock), 2),
        |let_wait| {
            let guard = lock.write().unwrap();
            let_wait();
            drop(guard);
        },
    );
    assert!(longest(&trace, "waits_for_the_rwlock").1);
}

#[inline(never)]
fn waits_for_parking_lot(lock: &parking_lot::Mutex<u32>) -> u32 {
    *lock.lock() + 1
}

#[test]
fn a_contended_parking_lot_mutex_is_a_wait() {
    let lock = parking_lot::Mutex::new(1);
    let trace = contend(
        || assert_eq!(waits_for_parking_lot(&lock), 2),
        |let_wait| {
            let guard = lock.lock();
            let_wait();
            drop(guard);
        },
    );
    assert!(longest(&trace, "waits_for_parking_lot").1);
}

#[inline(never)]
fn waits_for_the_condition(pair: &(Mutex<bool>, Condvar)) {
    drop(pair.1.wait_while(pair.0.lock().unwrap(), |ready| !*ready).unwrap());
}

#[test]
fn conditions_channels_and_parking_are_waits() {
    let pair = (Mutex::new(false), Condvar::new());
    let trace = contend(
        || waits_for_the_condition(&pair),
        |let_wait| {
            let_wait();
            *pair.0.lock().unwrap() = true;
            pair.1.notify_one();
        },
    );
    assert!(longest(&trace, "waits_for_the_condition").1);

    let (sender, receiver) = std::sync::mpsc::channel();
    let receiver = Mutex::new(receiver);
    let trace = contend(
        || assert_eq!(receiver.lock().unwrap().recv(), Ok(1)),
        |let_wait| {
            let_wait();
            sender.send(1).unwrap();
        },
    );
    assert!(longest(&trace, "recv").1);
}

#[test]
fn a_contended_pthread_mutex_is_a_wait_and_an_uncontended_one_is_not() {
    struct Shared(std::cell::UnsafeCell<libc::pthread_mutex_t>);
    // SAFETY: a pthread mutex is made for several threads.
    unsafe impl Sync for Shared {}
    let mutex = Shared(std::cell::UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER));
    let mutex = &mutex;
    // SAFETY: the mutex is initialised and outlives both threads.
    let lock = || assert_eq!(unsafe { libc::pthread_mutex_lock(mutex.0.get()) }, 0);
    // SAFETY: the caller has it locked.
    let unlock = || assert_eq!(unsafe { libc::pthread_mutex_unlock(mutex.0.get()) }, 0);
    let trace = contend(
        || {
            lock();
            unlock();
        },
        |let_wait| {
            lock();
            let_wait();
            unlock();
        },
    );
    let waits: Vec<_> = trace.waits.iter().filter(|wait| wait.kind == WaitKind::PthreadMutex).collect();
    assert_eq!(waits.len(), 1, "only the one that found it taken");
    assert_eq!((waits[0].addr, waits[0].outcome), (mutex.0.get().addr() as u64, WaitOutcome::Woken));
}

#[test]
fn threads_tell_their_creator_name_and_end() {
    #[inline(never)]
    fn creates_a_thread() {
        std::thread::Builder::new()
            .name("worker-7".into())
            .spawn(|| std::hint::black_box(1))
            .unwrap()
            .join()
            .unwrap();
    }
    let ((), trace) = record(creates_a_thread);
    let thread = trace.threads.iter().find(|thread| thread.name == "worker-7").expect("it is named");
    assert_eq!(thread.creator, Some(this_thread(&trace)));
    let stack = functions(&trace, thread.creation_stack);
    assert!(stack.iter().any(|name| name.contains("creates_a_thread")), "{stack:?}");
    assert!(!thread.life.open, "its start and its exit were seen");
    assert!(trace.waits.iter().any(|wait| wait.kind == WaitKind::Join));
}

#[test]
fn a_forked_child_runs_to_its_end_and_the_parents_trace_goes_on() {
    let (statuses, trace) = record(|| {
        (0..20)
            .map(|_| {
                // SAFETY: the child only writes to /dev/null and leaves by _exit.
                match unsafe { libc::fork() } {
                    0 => {
                        // SAFETY: four live bytes; _exit(2) ends the child without running its destructors.
                        unsafe {
                            libc::write(-1, BUFFER.as_ptr().cast(), 4);
                            libc::_exit(i32::from(kymo::record::enabled(kymo::events::Group::Syscall)));
                        }
                    }
                    child => {
                        let mut status = -1;
                        // SAFETY: waits for our own child.
                        unsafe { libc::waitpid(child, &mut status, 0) };
                        status
                    }
                }
            })
            .collect::<Vec<_>>()
    });
    assert_eq!(statuses, [0; 20], "recording is off in the child");
    assert!(trace.calls.iter().all(|call| call.call != Call::Write), "the child's write is not ours");
}

#[test]
fn with_nothing_recording_nothing_is_recorded() {
    let ((), before) = record(|| ());
    std::fs::read("/proc/self/comm").unwrap();
    let ((), after) = record(|| ());
    assert!(before.calls.is_empty() && after.calls.is_empty());
}

#[test]
fn a_cancelled_read_unwinds_through_the_hook() {
    extern "C" fn reads(fd: *mut libc::c_void) -> *mut libc::c_void {
        let mut byte = 0u8;
        // SAFETY: one byte of live memory; the thread is cancelled while it waits here.
        unsafe { libc::read(fd.addr() as i32, (&raw mut byte).cast(), 1) };
        std::ptr::null_mut()
    }
    let (result, trace) = record(|| {
        let mut pipe = [0; 2];
        // SAFETY: two descriptors' room.
        assert_eq!(unsafe { libc::pipe(pipe.as_mut_ptr()) }, 0);
        let mut thread = 0;
        let argument = std::ptr::without_provenance_mut(pipe[0] as usize);
        // SAFETY: the routine takes a descriptor as its argument.
        assert_eq!(unsafe { libc::pthread_create(&mut thread, std::ptr::null(), reads, argument) }, 0);
        let mut result = std::ptr::null_mut();
        // SAFETY: our own thread, cancelled once and joined once.
        unsafe {
            libc::pthread_cancel(thread);
            libc::pthread_join(thread, &mut result);
        }
        result.addr()
    });
    assert_eq!(result, usize::MAX, "PTHREAD_CANCELED");
    assert!(trace.threads.len() >= 2);
}
