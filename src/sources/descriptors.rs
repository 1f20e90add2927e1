//! What descriptors stand for: the path that was opened, the peer that was connected or accepted.
//!
//! A name is told once, when its descriptor is made, by the hook that made it. Pointers of the caller are read only
//! after the kernel has read them itself; an accepted peer is asked for, since the caller's room for it may be small.
//! Text is put together on the stack: a hook must not allocate. There may be any number of names, so they take only
//! what room the table of strings can spare.
//!
//! Does not name descriptors from before the capture.

#![allow(unsafe_code, reason = "reads paths and addresses that C functions were given")]

use std::ffi::{CStr, c_char, c_int};
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use libc::{sockaddr, socklen_t};

use crate::events::{Fd, FdName};
use crate::limits::PEER_BYTES;
use crate::record;

/// A descriptor was opened, if `outcome` is one: its path, as the program gave it.
pub(super) fn opened(outcome: i64, path: *const c_char) {
    if outcome < 0 || path.is_null() {
        return;
    }
    // SAFETY: the kernel has just read this path to its end, because the call that was given it succeeded.
    tell(outcome as c_int, text_of(unsafe { CStr::from_ptr(path) }));
}

/// A connection was accepted, if `outcome` is its descriptor.
pub(super) fn accepted(outcome: i64) {
    if outcome < 0 {
        return;
    }
    let mut bytes = [0; size_of::<libc::sockaddr_storage>()];
    let mut length = bytes.len() as socklen_t;
    // SAFETY: the buffer is live and as long as is said.
    let failed = unsafe { libc::getpeername(outcome as c_int, bytes.as_mut_ptr().cast(), &mut length) };
    if failed == 0 {
        tell_peer(outcome as c_int, "tcp", &bytes[..bytes.len().min(length as usize)]);
    }
}

/// A descriptor was connected, or (if it does not block) begins to be.
pub(super) fn connected(outcome: i64, fd: c_int, address: *const sockaddr, length: socklen_t) {
    if (outcome < 0 && outcome != -i64::from(libc::EINPROGRESS)) || address.is_null() {
        return;
    }
    // SAFETY: the kernel has just read this address whole, because the call that was given it got that far.
    let bytes = unsafe { std::slice::from_raw_parts(address.cast(), length as usize) };
    tell_peer(fd, protocol(fd), bytes);
}

/// What an internet socket speaks.
fn protocol(fd: c_int) -> &'static str {
    let mut kind: c_int = 0;
    let mut length = size_of::<c_int>() as socklen_t;
    let place = (&raw mut kind).cast();
    // SAFETY: `place` is a live int, and `length` says so.
    let failed = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_TYPE, place, &mut length) };
    match kind {
        libc::SOCK_DGRAM if failed == 0 => "udp",
        _ => "tcp",
    }
}

fn tell_peer(fd: c_int, protocol: &str, address: &[u8]) {
    let mut text = Text::default();
    // Text cuts what does not fit; a peer without a name stays without one.
    let _ = write_peer(&mut text, protocol, address);
    tell(fd, text.as_str());
}

fn tell(fd: c_int, name: &str) {
    if !name.is_empty() && !record::is_muted() {
        record::emit(FdName { fd: Fd(fd), name: record::spare_string(name) });
    }
}

/// A C string as far as it is UTF-8: names are for people.
pub(super) fn text_of(text: &CStr) -> &str {
    text.to_bytes().utf8_chunks().next().map_or("", |chunk| chunk.valid())
}

/// Writes `tcp 10.0.0.7:5432`, `udp [::1]:53`, `unix /run/db.sock`; nothing for an address of another family.
fn write_peer(text: &mut Text, protocol: &str, address: &[u8]) -> std::fmt::Result {
    let Some((family, rest)) = address.split_first_chunk() else { return Ok(()) };
    match c_int::from(libc::sa_family_t::from_ne_bytes(*family)) {
        libc::AF_INET => match inet(rest) {
            Some(peer) => write!(text, "{protocol} {peer}"),
            None => Ok(()),
        },
        libc::AF_INET6 => match inet6(rest) {
            Some(peer) => write!(text, "{protocol} {peer}"),
            None => Ok(()),
        },
        libc::AF_UNIX => write!(text, "unix{}", UnixPath(rest)),
        _ => Ok(()),
    }
}

/// The rest of a `sockaddr_in`: port, address.
fn inet(rest: &[u8]) -> Option<SocketAddr> {
    let (port, rest) = rest.split_first_chunk()?;
    let ip = Ipv4Addr::from_octets(*rest.first_chunk()?);
    Some(SocketAddr::new(ip.into(), u16::from_be_bytes(*port)))
}

/// The rest of a `sockaddr_in6`: port, flow, address, scope.
fn inet6(rest: &[u8]) -> Option<SocketAddr> {
    let (port, rest) = rest.split_first_chunk()?;
    let (_flow, rest) = rest.split_first_chunk::<4>()?;
    let (ip, rest) = rest.split_first_chunk()?;
    let scope = u32::from_ne_bytes(*rest.first_chunk()?);
    Some(SocketAddrV6::new(Ipv6Addr::from_octets(*ip), u16::from_be_bytes(*port), 0, scope).into())
}

/// The rest of a `sockaddr_un`: a path that ends at a zero or at the address's end, or a zero and an abstract name.
struct UnixPath<'a>(&'a [u8]);

impl std::fmt::Display for UnixPath<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (mark, name) = match self.0 {
            [] | [0] => return Ok(()),
            [0, name @ ..] => (" @", name),
            path => (" ", path),
        };
        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        let name = name.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        if name.is_empty() { Ok(()) } else { write!(f, "{mark}{name}") }
    }
}

/// Text on the stack.
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
        // Only whole pieces of UTF-8 were put in.
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let cut = text.floor_char_boundary(self.bytes.len() - self.len);
        self.bytes[self.len..self.len + cut].copy_from_slice(&text.as_bytes()[..cut]);
        self.len += cut;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &[u8]) -> String {
        let mut text = Text::default();
        write_peer(&mut text, "tcp", address).unwrap();
        text.as_str().to_owned()
    }

    fn address(family: c_int, rest: &[u8]) -> Vec<u8> {
        [&(family as libc::sa_family_t).to_ne_bytes(), rest].concat()
    }

    #[test]
    fn peers_read_as_people_write_them() {
        let v4 = address(libc::AF_INET, &[0x15, 0x38, 10, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(peer(&v4), "tcp 10.0.0.7:5432");
        let mut v6 = vec![0, 53, 0, 0, 0, 0];
        v6.extend(Ipv6Addr::LOCALHOST.octets());
        v6.extend(0u32.to_ne_bytes());
        assert_eq!(peer(&address(libc::AF_INET6, &v6)), "tcp [::1]:53");
        assert_eq!(peer(&address(libc::AF_UNIX, b"/run/db.sock\0")), "unix /run/db.sock");
        assert_eq!(peer(&address(libc::AF_UNIX, b"/run/db.sock")), "unix /run/db.sock");
        assert_eq!(peer(&address(libc::AF_UNIX, b"\0bus")), "unix @bus");
        assert_eq!(peer(&address(libc::AF_UNIX, b"")), "unix", "a client that bound no name");
    }

    #[test]
    fn what_is_no_address_has_no_name() {
        let v4 = address(libc::AF_INET, &[0x15, 0x38, 10, 0, 0, 7]);
        assert!((0..v4.len()).all(|cut| peer(&v4[..cut]).is_empty()));
        assert_eq!(peer(&address(libc::AF_UNSPEC, &[0; 14])), "", "connect(2) that dissolves an association");
        assert_eq!(peer(&address(libc::AF_NETLINK, &[0; 10])), "");
    }

    #[test]
    fn a_long_path_is_cut_and_a_broken_one_ends_where_it_breaks() {
        let long = address(libc::AF_UNIX, "ä".repeat(200).as_bytes());
        assert!(peer(&long).starts_with("unix ää") && peer(&long).len() <= PEER_BYTES);
        assert_eq!(peer(&address(libc::AF_UNIX, b"/run/\xff/x")), "unix /run/");
        assert_eq!(text_of(c"/tmp/\xff"), "/tmp/");
    }
}
