//! What a hooked call costs when nothing records and when everything does, against the function behind the hook.
//!
//! `cargo bench --bench hooks`. The real `read` is found as the hooks find it; medians of interleaved rounds.
#![allow(
    unsafe_code,
    clippy::multiple_unsafe_ops_per_block,
    reason = "calls libc by pointer, as the hooks do"
)]

mod rounds;

use std::ffi::{c_int, c_void};
use std::hint::black_box;

use kymo::events::Groups;
use rounds::{budget, medians};

const ROUNDS: usize = 400;
const OPERATIONS: u32 = 2_000;

type Close = unsafe extern "C" fn(c_int) -> c_int;
type Read = unsafe extern "C" fn(c_int, *mut c_void, usize) -> isize;

fn real(name: &std::ffi::CStr) -> *mut c_void {
    // SAFETY: a C string; RTLD_NEXT skips our own definition.
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    assert!(!found.is_null());
    found
}

/// A hooked symbol, called through a pointer like the real one, so that both calls are alike.
fn repeat<R>(operations: u32, call: impl Fn() -> R) {
    for _ in 0..operations {
        black_box(call());
    }
}

fn main() {
    // SAFETY: the functions of these names have these signatures.
    let (real_close, real_read) = unsafe {
        (
            std::mem::transmute::<*mut c_void, Close>(real(c"close")),
            std::mem::transmute::<*mut c_void, Read>(real(c"read")),
        )
    };
    let (hooked_close, hooked_read): (Close, Read) = (libc::close, libc::read);
    let zero = std::fs::File::open("/dev/null").expect("/dev/null opens");
    let fd = std::os::fd::AsRawFd::as_raw_fd(&zero);
    let mut byte = [0u8];
    let bytes = byte.as_mut_ptr().cast::<c_void>();
    // SAFETY: closing no descriptor fails and does nothing else.
    let closes = |close: Close, operations| repeat(operations, || unsafe { black_box(close)(-1) });
    // SAFETY: one byte of live memory.
    let reads = |read: Read, operations| repeat(operations, || unsafe { black_box(read)(fd, bytes, 1) });

    let [real, off] = medians(
        ROUNDS,
        OPERATIONS,
        &mut [&mut |operations| closes(real_close, operations), &mut |operations| {
            closes(hooked_close, operations)
        }],
    );
    println!("close(-1): real {real:.1} ns, hooked and off {off:.1} ns");
    budget("hook_off_ns", off - real, 1.0);

    let [real, off] = medians(
        ROUNDS,
        OPERATIONS,
        &mut [&mut |operations| reads(real_read, operations), &mut |operations| {
            reads(hooked_read, operations)
        }],
    );
    let capture = rounds::record(Groups::ALL);
    let [real_on, on] = medians(
        ROUNDS,
        OPERATIONS,
        &mut [&mut |operations| reads(real_read, operations), &mut |operations| {
            reads(hooked_read, operations)
        }],
    );
    capture.stop();
    println!(
        "read(/dev/null): real {real:.1} ns, off {off:.1} ns; recorded {on:.1} ns beside real {real_on:.1} ns"
    );
    budget("hook_on_ns", on - real_on, 35.0);
}
