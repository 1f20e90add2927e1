//! Memory that the program maps, unmaps and gives back by itself: allocators, mapped files, stacks of its own making.
//!
//! An instant each, of the memory group, told when the kernel has done it, by the thread that asked; the stack says who.
//! What is unmapped is stamped before the call, since another thread may have mapped the same place when it returns.
//! A mapping that moves or grows is its old place unmapped and its new one mapped. Allocators call these with their
//! locks held, so nothing here may allocate.
//!
//! Not seen: what glibc maps for itself (malloc's large blocks and arenas, stacks of new threads).

#![allow(unsafe_code, reason = "defines C functions")]

use std::ffi::{c_int, c_void};

use libc::{MAP_FAILED, intptr_t, off_t, off64_t, size_t};

use super::interpose::{Real, c_name, keeping_errno};
use crate::clock;
use crate::events::{Addr, Bytes, Group, MemoryMap, MemoryRelease, MemoryUnmap};
use crate::record;

/// Defines hooks: each says what to tell when its call, begun at `begin`, has returned `result`.
macro_rules! mappings {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),*) -> $output:ty,
        |$begin:ident, $result:ident| $tell:expr;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Safety
            /// As the C function's of this name.
            #[unsafe(no_mangle)]
            pub(super) unsafe extern "C-unwind" fn $name($($arg: $type),*) -> $output {
                type Function = unsafe extern "C-unwind" fn($($type),*) -> $output;
                // SAFETY: dlsym(3) found the function of this name, whose signature this is.
                let real = unsafe { std::mem::transmute::<*mut c_void, Function>(real::$name.get()) };
                if !record::enabled(Group::Memory) || record::is_muted() {
                    // SAFETY: the caller's arguments, unchanged.
                    return unsafe { real($($arg),*) };
                }
                let $begin = clock::ticks();
                // SAFETY: the caller's arguments, unchanged.
                let $result = unsafe { real($($arg),*) };
                keeping_errno(|_| $tell);
                $result
            }
        )*

        #[allow(non_upper_case_globals, reason = "named like the functions they stand for")]
        mod real {
            use super::{Real, c_name};

            $(pub(super) static $name: Real = Real::new(c_name(concat!(stringify!($name), "\0")));)*
        }

        /// The functions behind this file's hooks.
        pub(super) static REALS: &[&Real] = &[$(&real::$name,)*];
    };
}

mappings! {
    /// mmap(2)
    fn mmap(address: *mut c_void, length: size_t, protection: c_int, flags: c_int, fd: c_int, offset: off_t)
        -> *mut c_void, |_begin, result| mapped(result, length);
    /// mmap(2)
    fn mmap64(address: *mut c_void, length: size_t, protection: c_int, flags: c_int, fd: c_int, offset: off64_t)
        -> *mut c_void, |_begin, result| mapped(result, length);
    /// munmap(2)
    fn munmap(address: *mut c_void, length: size_t) -> c_int,
        |begin, result| unmapped(begin, result == 0, address, length);
    /// mremap(2), whose last argument is variadic in C: as a fixed one it has the same register
    fn mremap(address: *mut c_void, length: size_t, new_length: size_t, flags: c_int, new_address: *mut c_void)
        -> *mut c_void, |begin, result| {
            unmapped(begin, result != MAP_FAILED, address, length);
            mapped(result, new_length);
        };
    /// madvise(2)
    fn madvise(address: *mut c_void, length: size_t, advice: c_int) -> c_int,
        |_begin, result| advised(result == 0, address, length, advice);
    /// sbrk(2)
    fn sbrk(increment: intptr_t) -> *mut c_void, |begin, result| moved(begin, result, increment);
}

fn mapped(place: *mut c_void, length: size_t) {
    if place != MAP_FAILED {
        let (addr, length) = (Addr(place.addr() as u64), Bytes(length as u64));
        record::emit(MemoryMap { addr, length, stack: record::stack() });
    }
}

fn unmapped(at: u64, done: bool, place: *mut c_void, length: size_t) {
    if done {
        record::emit_at(at, MemoryUnmap { addr: Addr(place.addr() as u64), length: Bytes(length as u64) });
    }
}

fn advised(done: bool, place: *mut c_void, length: size_t, advice: c_int) {
    if done && matches!(advice, libc::MADV_DONTNEED | libc::MADV_FREE | libc::MADV_REMOVE) {
        record::emit(MemoryRelease { addr: Addr(place.addr() as u64), length: Bytes(length as u64) });
    }
}

/// The heap's end moved, from where `before` says.
fn moved(at: u64, before: *mut c_void, increment: intptr_t) {
    if before == MAP_FAILED {
        return;
    }
    match increment {
        0 => {}
        1.. => mapped(before, increment.unsigned_abs()),
        _ => unmapped(at, true, before.wrapping_byte_offset(increment), increment.unsigned_abs()),
    }
}
