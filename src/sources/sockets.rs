//! Calls on sockets, and calls that wait for descriptors or for time.
//!
//! Each row of the table is one exported C function (see `interpose`). A socket that is connected or accepted tells
//! its peer, from the address that is at hand.

#![allow(unsafe_code, reason = "defines C functions")]

use std::ffi::{c_int, c_void};
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use libc::{
    clockid_t, epoll_event, msghdr, nfds_t, pollfd, sigset_t, size_t, sockaddr, socklen_t, ssize_t, timespec,
};

use super::interpose::calls;
use crate::events::{Fd, FdName};
use crate::record;

calls! {
    /// recv(2)
    fn recv(fd: c_int, buffer: *mut c_void, count: size_t, flags: c_int) -> ssize_t = Recv, fd;
    /// recvfrom(2)
    fn recvfrom(fd: c_int, buffer: *mut c_void, count: size_t, flags: c_int, from: *mut sockaddr,
        length: *mut socklen_t) -> ssize_t = Recvfrom, fd;
    /// recvmsg(2)
    fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t = Recvmsg, fd;
    /// send(2)
    fn send(fd: c_int, buffer: *const c_void, count: size_t, flags: c_int) -> ssize_t = Send, fd;
    /// sendto(2)
    fn sendto(fd: c_int, buffer: *const c_void, count: size_t, flags: c_int, to: *const sockaddr,
        length: socklen_t) -> ssize_t = Sendto, fd;
    /// sendmsg(2)
    fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t = Sendmsg, fd;
    /// accept(2)
    fn accept(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int
        = Accept, fd, then |new| has_peer(new >= 0, new, address, length);
    /// accept4(2)
    fn accept4(fd: c_int, address: *mut sockaddr, length: *mut socklen_t, flags: c_int) -> c_int
        = Accept4, fd, then |new| has_peer(new >= 0, new, address, length);
    /// connect(2)
    fn connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int
        = Connect, fd, then |_| has_peer(true, fd, address, &length);
    /// poll(2)
    fn poll(descriptors: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int = Poll, -1;
    /// ppoll(2)
    fn ppoll(descriptors: *mut pollfd, count: nfds_t, timeout: *const timespec, mask: *const sigset_t) -> c_int
        = Ppoll, -1;
    /// epoll_wait(2)
    fn epoll_wait(fd: c_int, events: *mut epoll_event, most: c_int, timeout: c_int) -> c_int = EpollWait, fd;
    /// epoll_pwait(2)
    fn epoll_pwait(fd: c_int, events: *mut epoll_event, most: c_int, timeout: c_int, mask: *const sigset_t) -> c_int
        = EpollPwait, fd;
    /// nanosleep(2)
    fn nanosleep(time: *const timespec, rest: *mut timespec) -> c_int = Nanosleep, -1;
    /// clock_nanosleep(2), which returns its error instead of setting errno
    fn clock_nanosleep(clock: clockid_t, flags: c_int, time: *const timespec, rest: *mut timespec) -> c_int
        = ClockNanosleep, -1;
}

/// A socket's peer, as `tcp 10.0.0.7:5432` or `unix`.
fn has_peer(made: bool, fd: c_int, address: *const sockaddr, length: *const socklen_t) {
    if !made || address.is_null() || length.is_null() {
        return;
    }
    let mut text = Text::default();
    let written = match peer(address, length) {
        Peer::Inet(address) => write!(text, "tcp {address}"),
        Peer::Unix => write!(text, "unix"),
        Peer::Other => return,
    };
    if written.is_ok() {
        record::emit(FdName { fd: Fd(fd), name: record::string(text.as_str()) });
    }
}

enum Peer {
    Inet(SocketAddr),
    Unix,
    Other,
}

fn peer(address: *const sockaddr, length: *const socklen_t) -> Peer {
    // SAFETY: the kernel has just read or written both, and `has_peer` has checked them for null.
    let length = unsafe { *length } as usize;
    if length < size_of::<libc::sa_family_t>() {
        return Peer::Other;
    }
    // SAFETY: every socket address begins with its family, and `length` covers that.
    let family = c_int::from(unsafe { (*address).sa_family });
    match family {
        libc::AF_INET if length >= size_of::<libc::sockaddr_in>() => {
            // SAFETY: the family says which address it is, and `length` that it is whole.
            let inet = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            let ip = Ipv4Addr::from(u32::from_be(inet.sin_addr.s_addr));
            Peer::Inet(SocketAddr::new(ip.into(), u16::from_be(inet.sin_port)))
        }
        libc::AF_INET6 if length >= size_of::<libc::sockaddr_in6>() => {
            // SAFETY: the family says which address it is, and `length` that it is whole.
            let inet = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            let ip = Ipv6Addr::from(inet.sin6_addr.s6_addr);
            Peer::Inet(SocketAddr::new(ip.into(), u16::from_be(inet.sin6_port)))
        }
        libc::AF_UNIX => Peer::Unix,
        _ => Peer::Other,
    }
}

/// The longest peer: `tcp [` + 45 + `%` + scope + `]:65535`.
const PEER_BYTES: usize = 80;

/// Text on the stack: a hook must not allocate.
#[derive(Debug)]
struct Text {
    bytes: [u8; PEER_BYTES],
    len: usize,
}

impl Default for Text {
    fn default() -> Text {
        Text { bytes: [0; PEER_BYTES], len: 0 }
    }
}

impl Text {
    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}
