//! Calls on sockets, and calls that wait for descriptors or for time.
//!
//! Each row of the table is one exported C function (see `interpose`). A socket that is connected or accepted tells
//! its peer (see `descriptors`). Names that begin with two underscores are what C calls that was compiled with checks
//! of its buffers.

#![allow(unsafe_code, reason = "defines C functions")]

use std::ffi::{c_char, c_int, c_uint, c_void};

use libc::{
    addrinfo, clockid_t, epoll_event, fd_set, mmsghdr, msghdr, nfds_t, pollfd, sigset_t, size_t, sockaddr,
    socklen_t, ssize_t, timespec, timeval, useconds_t,
};

use super::descriptors::{accepted, connected};
use super::interpose::{CResult, ErrorNumber, calls};

calls! {
    /// recv(2)
    fn recv(fd: c_int, buffer: *mut c_void, count: size_t, flags: c_int) -> ssize_t = Recv, fd;
    /// recv(2), checked
    fn __recv_chk(fd: c_int, buffer: *mut c_void, count: size_t, room: size_t, flags: c_int) -> ssize_t
        = Recv, fd;
    /// recvfrom(2)
    fn recvfrom(fd: c_int, buffer: *mut c_void, count: size_t, flags: c_int, from: *mut sockaddr,
        length: *mut socklen_t) -> ssize_t = Recvfrom, fd;
    /// recvfrom(2), checked
    fn __recvfrom_chk(fd: c_int, buffer: *mut c_void, count: size_t, room: size_t, flags: c_int,
        from: *mut sockaddr, length: *mut socklen_t) -> ssize_t = Recvfrom, fd;
    /// recvmsg(2)
    fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t = Recvmsg, fd;
    /// recvmmsg(2)
    fn recvmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int, timeout: *mut timespec) -> c_int
        = Recvmmsg, fd;
    /// send(2)
    fn send(fd: c_int, buffer: *const c_void, count: size_t, flags: c_int) -> ssize_t = Send, fd;
    /// sendto(2)
    fn sendto(fd: c_int, buffer: *const c_void, count: size_t, flags: c_int, to: *const sockaddr,
        length: socklen_t) -> ssize_t = Sendto, fd;
    /// sendmsg(2)
    fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t = Sendmsg, fd;
    /// sendmmsg(2)
    fn sendmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int = Sendmmsg, fd;
    /// accept(2)
    fn accept(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int
        = Accept, fd, then accepted();
    /// accept4(2)
    fn accept4(fd: c_int, address: *mut sockaddr, length: *mut socklen_t, flags: c_int) -> c_int
        = Accept4, fd, then accepted();
    /// connect(2)
    fn connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int
        = Connect, fd, then connected(fd, address, length);
    /// shutdown(2)
    fn shutdown(fd: c_int, how: c_int) -> c_int = Shutdown, fd;
    /// getaddrinfo(3): what a resolver says is told as the error that comes next to it
    fn getaddrinfo(node: *const c_char, service: *const c_char, hints: *const addrinfo,
        result: *mut *mut addrinfo) -> Resolved = Getaddrinfo, -1;
    /// poll(2)
    fn poll(descriptors: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int = Poll, -1;
    /// poll(2), checked
    fn __poll_chk(descriptors: *mut pollfd, count: nfds_t, timeout: c_int, room: size_t) -> c_int = Poll, -1;
    /// ppoll(2)
    fn ppoll(descriptors: *mut pollfd, count: nfds_t, timeout: *const timespec, mask: *const sigset_t) -> c_int
        = Ppoll, -1;
    /// ppoll(2), checked
    fn __ppoll_chk(descriptors: *mut pollfd, count: nfds_t, timeout: *const timespec, mask: *const sigset_t,
        room: size_t) -> c_int = Ppoll, -1;
    /// select(2)
    fn select(count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout: *mut timeval)
        -> c_int = Select, -1;
    /// pselect(2)
    fn pselect(count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set,
        timeout: *const timespec, mask: *const sigset_t) -> c_int = Pselect, -1;
    /// epoll_wait(2)
    fn epoll_wait(fd: c_int, events: *mut epoll_event, most: c_int, timeout: c_int) -> c_int = EpollWait, fd;
    /// epoll_pwait(2)
    fn epoll_pwait(fd: c_int, events: *mut epoll_event, most: c_int, timeout: c_int, mask: *const sigset_t) -> c_int
        = EpollPwait, fd;
    /// epoll_pwait2(2)
    fn epoll_pwait2(fd: c_int, events: *mut epoll_event, most: c_int, timeout: *const timespec,
        mask: *const sigset_t) -> c_int = EpollPwait2, fd;
    /// sleep(3), which returns the seconds that are left
    fn sleep(seconds: c_uint) -> c_uint = Sleep, -1;
    /// usleep(3)
    fn usleep(micros: useconds_t) -> c_int = Usleep, -1;
    /// nanosleep(2)
    fn nanosleep(time: *const timespec, rest: *mut timespec) -> c_int = Nanosleep, -1;
    /// clock_nanosleep(2), which returns its error instead of setting errno
    fn clock_nanosleep(clock: clockid_t, flags: c_int, time: *const timespec, rest: *mut timespec)
        -> ErrorNumber = ClockNanosleep, -1;
}

/// What getaddrinfo(3) returns: zero, or a number of its own family of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Resolved(c_int);

impl CResult for Resolved {
    fn outcome(self, errno: c_int) -> i64 {
        -i64::from(match self.0 {
            0 => 0,
            libc::EAI_SYSTEM => errno,
            libc::EAI_NONAME => libc::ENOENT,
            libc::EAI_AGAIN => libc::EAGAIN,
            libc::EAI_MEMORY => libc::ENOMEM,
            libc::EAI_FAIL => libc::EIO,
            _ => libc::EINVAL,
        })
    }
}
