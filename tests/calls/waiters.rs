//! Threads that wait in a call, one for each that may be cancelled, and are.
//!
//! Frames as C has them: what may unwind in Rust is called by other functions, since a frame that forbids it would end the
//! program instead of the thread.

use std::ffi::{c_int, c_void};
use std::os::fd::AsRawFd;
use std::ptr::{null, null_mut};

/// Waits in a call until it is cancelled, given a descriptor that nothing comes from.
type Waiter = extern "C" fn(*mut c_void) -> *mut c_void;

macro_rules! waiters {
    ($($name:ident |$fd:ident| $call:expr;)*) => {
        &[$((stringify!($name), {
            extern "C" fn waiter(argument: *mut c_void) -> *mut c_void {
                let $fd = argument as usize as c_int;
                let _ = $fd;
                // SAFETY: pointers are to live memory of this frame, or null where that may be.
                #[allow(clippy::macro_metavars_in_unsafe, reason = "each row is a libc call")]
                let _ = unsafe { $call };
                null_mut()
            }
            waiter as Waiter
        }),)*]
    };
}

const LONG: libc::timespec = libc::timespec { tv_sec: 1_000, tv_nsec: 0 };
const MUTEX: libc::pthread_mutex_t = libc::PTHREAD_MUTEX_INITIALIZER;
const CONDITION: libc::pthread_cond_t = libc::PTHREAD_COND_INITIALIZER;

unsafe extern "C" {
    fn usleep(micros: libc::useconds_t) -> c_int;
}

/// Each by the name of the call that it waits in.
const WAITERS: &[(&str, Waiter)] = waiters! {
    read |fd| libc::read(fd, [0u8; 1].as_mut_ptr().cast(), 1);
    readv |fd| libc::readv(fd, &libc::iovec { iov_base: [0u8; 1].as_mut_ptr().cast(), iov_len: 1 }, 1);
    recv |fd| libc::recv(fd, [0u8; 1].as_mut_ptr().cast(), 1, 0);
    recvfrom |fd| libc::recvfrom(fd, [0u8; 1].as_mut_ptr().cast(), 1, 0, null_mut(), null_mut());
    recvmsg |fd| libc::recvmsg(fd, &mut libc::msghdr {
        msg_name: null_mut(), msg_namelen: 0,
        msg_iov: &mut libc::iovec { iov_base: [0u8; 1].as_mut_ptr().cast(), iov_len: 1 }, msg_iovlen: 1,
        msg_control: null_mut(), msg_controllen: 0, msg_flags: 0,
    }, 0);
    poll |fd| libc::poll(&mut libc::pollfd { fd, events: libc::POLLIN, revents: 0 }, 1, -1);
    ppoll |fd| libc::ppoll(&mut libc::pollfd { fd, events: libc::POLLIN, revents: 0 }, 1, null(), null());
    select |fd| libc::select(0, null_mut(), null_mut(), null_mut(), null_mut());
    pselect |fd| libc::pselect(0, null_mut(), null_mut(), null_mut(), null(), null());
    epoll_wait |fd| libc::epoll_wait(libc::epoll_create1(0), &mut libc::epoll_event { events: 0, u64: 0 }, 1, -1);
    epoll_pwait |fd| libc::epoll_pwait(libc::epoll_create1(0), &mut libc::epoll_event { events: 0, u64: 0 }, 1, -1, null());
    pause |fd| libc::pause();
    sleep |fd| libc::sleep(1_000);
    usleep |fd| usleep(999_999_999);
    nanosleep |fd| libc::nanosleep(&LONG, null_mut());
    clock_nanosleep |fd| libc::clock_nanosleep(libc::CLOCK_MONOTONIC, 0, &LONG, null_mut());
    sem_wait |fd| {
        let mut semaphore = [0u64; 4];
        libc::sem_init(semaphore.as_mut_ptr().cast(), 0, 0);
        libc::sem_wait(semaphore.as_mut_ptr().cast())
    };
    pthread_join |fd| {
        let (mut thread, own) = (0, sleeper as Waiter);
        libc::pthread_create(&mut thread, null(), own, null_mut());
        libc::pthread_join(thread, null_mut())
    };
    pthread_cond_wait |fd| {
        let (mut condition, mut mutex) = (CONDITION, MUTEX);
        libc::pthread_mutex_lock(&mut mutex);
        libc::pthread_cond_wait(&mut condition, &mut mutex)
    };
    pthread_cond_timedwait |fd| {
        let (mut condition, mut mutex) = (CONDITION, MUTEX);
        libc::pthread_mutex_lock(&mut mutex);
        libc::pthread_cond_timedwait(&mut condition, &mut mutex, &libc::timespec { tv_sec: i64::MAX, tv_nsec: 0 })
    };
};

/// Ends with the process.
extern "C" fn sleeper(_: *mut c_void) -> *mut c_void {
    // SAFETY: waits for a signal.
    unsafe { libc::pause() };
    null_mut()
}

/// Cancels a thread in each; what it came to, a line a call, and how many threads there were.
pub(crate) fn cancel_all() -> (String, usize) {
    let (socket, _open) = std::os::unix::net::UnixStream::pair().unwrap();
    let argument = std::ptr::without_provenance_mut(socket.as_raw_fd() as usize);
    let mut said = String::new();
    for (name, waiter) in WAITERS {
        let (mut thread, mut result) = (0, null_mut());
        // SAFETY: the routine takes a descriptor as its argument; the thread is cancelled and joined once.
        let made = unsafe {
            let made = libc::pthread_create(&mut thread, null(), *waiter, argument);
            libc::pthread_cancel(thread);
            libc::pthread_join(thread, &mut result);
            made
        };
        said.push_str(&format!("{name} {made} {}\n", result as isize));
    }
    (said, WAITERS.len())
}
