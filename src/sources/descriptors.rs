//! What descriptors stand for: the path that was opened, the peer that was connected or accepted.
//!
//! A name is told once, when its descriptor is made, by the hook that made it. Pointers of the caller are read only
//! after the kernel has read them itself; an accepted peer is asked for, since the caller's room for it may be small.
//! Text is put together on the stack: a hook must not allocate. There may be any number of names, so they take only
//! what room the table of strings can spare.
//!
//! What is open at a capture's end is named then, from `/proc/self/fd`, on the thread that ends it: so those from before
//! it have names too, but for those that were closed meanwhile.

#![allow(unsafe_code, reason = "reads paths and addresses that C functions were given")]

use std::ffi::{CStr, c_char, c_int};
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use libc::{sockaddr, socklen_t};

use crate::events::{Fd, FdName};
use crate::limits::{NAMED_DESCRIPTORS, PEER_BYTES};
use crate::record;
use crate::record::switches::Collector;

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
    if let Some(length) = address_by(libc::getpeername, outcome as c_int, &mut bytes) {
        tell_peer(outcome as c_int, "tcp", &bytes[..length]);
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

/// Names everything that is open. For a capture's end.
pub(super) fn tell_open(collector: &mut Collector<'_>) {
    let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") else { return };
    let now = collector.now();
    for entry in descriptors.flatten().take(NAMED_DESCRIPTORS) {
        let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(link) = std::fs::read_link(entry.path()) else { continue };
        let (mut text, link) = (Text::default(), link.to_string_lossy());
        let name = name_by_link(&mut text, fd, &link);
        collector.emit(0, now, FdName { fd: Fd(fd), name: record::spare_string(name) });
    }
}

/// What the kernel's link says, or for a socket its peer; a path as it is, the rest in a word: `pipe`, `eventpoll`.
fn name_by_link<'a>(text: &'a mut Text, fd: c_int, link: &'a str) -> &'a str {
    if link.starts_with('/') {
        return link;
    }
    if link.starts_with("socket:") {
        write_socket(text, fd);
        return text.as_str();
    }
    let kind = link.strip_prefix("anon_inode:").unwrap_or(link);
    let kind = kind.strip_prefix('[').unwrap_or(kind);
    kind.split([':', ']']).next().unwrap_or_default()
}

/// A socket's peer; if it has none, where it is bound.
fn write_socket(text: &mut Text, fd: c_int) {
    let mut bytes = [0; size_of::<libc::sockaddr_storage>()];
    let peer = address_by(libc::getpeername, fd, &mut bytes);
    let own = peer.is_none();
    let Some(length) = peer.or_else(|| address_by(libc::getsockname, fd, &mut bytes)) else { return };
    // Text cuts what does not fit.
    let _ = write_peer(text, protocol(fd), &bytes[..length]);
    if own && text.len > 0 {
        let _ = text.write_str(", bound");
    }
}

type AddressOf = unsafe extern "C" fn(c_int, *mut sockaddr, *mut socklen_t) -> c_int;

/// How long an address of a socket is, once it is there.
fn address_by(function: AddressOf, fd: c_int, bytes: &mut [u8]) -> Option<usize> {
    let mut length = bytes.len() as socklen_t;
    // SAFETY: the buffer is live and as long as is said.
    let failed = unsafe { function(fd, bytes.as_mut_ptr().cast(), &mut length) };
    (failed == 0).then_some(bytes.len().min(length as usize))
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
