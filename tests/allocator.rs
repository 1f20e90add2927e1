//! E1: a program with a malloc of its own, which maps memory with a lock held and from before any constructor.
//!
//! A hook that allocated, or a look-up that did, would come back into that malloc while it is inside.

#![cfg(feature = "hooks")]
#![allow(unsafe_code, reason = "defines malloc")]
#![allow(clippy::multiple_unsafe_ops_per_block, reason = "what a thread needs belongs together")]

mod recorded;

use std::ffi::c_void;
use std::ptr::{copy_nonoverlapping, null_mut};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use kymo::events::{Event, Group, Groups};

/// Bytes that are mapped at a time.
const PIECE: usize = 1 << 16;
/// Bytes before an allocation, where its size is.
const HEAD: usize = 16;

/// Whom the lock belongs to: the address of its errno, or 0.
static OWNER: AtomicUsize = AtomicUsize::new(0);
static REENTERED: AtomicU64 = AtomicU64::new(0);
static PIECES: AtomicU64 = AtomicU64::new(0);
/// The rest of the latest piece, written by the lock's owner only.
static REST: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

/// # Safety
/// As the C function's.
#[unsafe(no_mangle)]
unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
    // SAFETY: it only says where errno is.
    let me = unsafe { libc::__errno_location() }.addr();
    if OWNER.load(Ordering::Relaxed) == me {
        REENTERED.fetch_add(1, Ordering::Relaxed);
        return null_mut();
    }
    while OWNER.compare_exchange_weak(0, me, Ordering::Acquire, Ordering::Relaxed).is_err() {
        std::hint::spin_loop();
    }
    let place = take(size.next_multiple_of(HEAD) + HEAD);
    OWNER.store(0, Ordering::Release);
    // SAFETY: that many bytes are nobody else's.
    unsafe {
        place.cast::<usize>().write(size);
        place.byte_add(HEAD)
    }
}

fn take(size: usize) -> *mut c_void {
    let [mut start, mut room] = REST.each_ref().map(|rest| rest.load(Ordering::Relaxed));
    if room < size {
        room = size.max(PIECE);
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: new memory, wherever the kernel likes.
        start = unsafe { libc::mmap(null_mut(), room, access, kind, -1, 0) }.expose_provenance();
        PIECES.fetch_add(1, Ordering::Relaxed);
    }
    REST[0].store(start + size, Ordering::Relaxed);
    REST[1].store(room - size, Ordering::Relaxed);
    std::ptr::with_exposed_provenance_mut(start)
}

/// # Safety
/// As the C function's.
#[unsafe(no_mangle)]
unsafe extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    // SAFETY: mapped memory is zero, and never used twice.
    unsafe { malloc(count * size) }
}

/// # Safety
/// As the C function's.
#[unsafe(no_mangle)]
unsafe extern "C" fn realloc(old: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: the size stands before every allocation, and as much as both have is copied.
    unsafe {
        let new = malloc(size);
        if !old.is_null() {
            let old_size = old.byte_sub(HEAD).cast::<usize>().read();
            copy_nonoverlapping(old.cast::<u8>(), new.cast(), old_size.min(size));
        }
        new
    }
}

/// # Safety
/// As the C function's.
#[unsafe(no_mangle)]
unsafe extern "C" fn free(_place: *mut c_void) {}

extern "C" fn before_everything() {
    // SAFETY: as in C.
    let place = unsafe { malloc(2 * PIECE) };
    assert!(!place.is_null());
}

#[used]
#[unsafe(link_section = ".preinit_array")]
static BEFORE_EVERYTHING: extern "C" fn() = before_everything;

/// The C library keeps a thread's first 32 values beside the thread, and calls malloc for others.
fn use_up_the_keys_that_need_no_memory() {
    for _ in 0..32 {
        // SAFETY: a live place for a key that has no destructor.
        assert_eq!(unsafe { libc::pthread_key_create(&mut 0, None) }, 0);
    }
}

#[test]
fn e1_dlsym_bootstrap() {
    use_up_the_keys_that_need_no_memory();
    let before = PIECES.load(Ordering::Relaxed);
    assert!(before > 1, "malloc was called before main");
    let memory = Groups::NONE.with(Group::Memory);
    let (mapped, events) = recorded::events(memory, || {
        let (mut thread, mut result) = (0, null_mut());
        // SAFETY: the routine needs no argument.
        unsafe {
            assert_eq!(libc::pthread_create(&mut thread, std::ptr::null(), allocate, null_mut()), 0);
            libc::pthread_join(thread, &mut result);
        }
        result.addr()
    });
    let of_thread =
        |(_, event): &&(_, Event)| matches!(event, Event::MemoryMap(map) if map.length.0 as usize == mapped);
    assert_eq!(events.iter().filter(of_thread).count(), 1);
    assert_eq!(REENTERED.load(Ordering::Relaxed), 0);
}

/// A thread whose first event comes from within malloc; how much it maps.
extern "C" fn allocate(_: *mut c_void) -> *mut c_void {
    // SAFETY: as in C.
    let place = unsafe { malloc(3 * PIECE) };
    let mapped = if place.is_null() { 0 } else { 3 * PIECE + HEAD };
    std::ptr::without_provenance_mut(mapped)
}
