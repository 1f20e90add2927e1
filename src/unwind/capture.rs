//! The calling thread's stack: its registers, what of its stack may be read, and the walk.
//!
//! 1. A naked function hands the caller's registers on, so that no frame of this file is on the stack.
//! 2. The stack's range comes from a thread-local word. The first time, or when the stack pointer lies elsewhere
//!    (a signal's stack, a coroutine), it is the mapping around the stack pointer, read from `/proc/self/maps`.
//! 3. `walk` goes from frame to frame; each word that it reads lies between the stack pointer and the range's end.
//!
//! Invariants: everything here MUST be async-signal-safe. Otherwise a sample deadlocks the program: so no lock, no
//! allocation, and system calls by instruction, since libc's are hooked and would come back here.
//! A read MUST lie in `sp..high` of the mapping that held `sp`. Otherwise a wrong frame description could fault: the
//! mapping is the running stack itself, which stays mapped while it runs.
//!
//! Where `/proc` is not readable, or no descriptor is free, stacks of threads not yet seen are empty.
#![allow(unsafe_code, reason = "registers and the stack's memory can't be read by safe code")]

use std::arch::{asm, naked_asm};
use std::cell::Cell;
use std::ops::Range;

use super::maps::Search;
#[cfg(target_arch = "x86_64")]
use super::rule::{Cfa, Rule};
use super::walk::{Registers, Words, walk};
#[cfg(target_arch = "x86_64")]
use super::walk::{Step, step};

/// Bits of a byte's place in its page: ranges are kept in pages, which are this large at least.
const PAGE_BITS: u32 = 12;

/// Bits that the length of a range takes in its word, in pages: a terabyte.
const LENGTH_BITS: u32 = 28;

thread_local! {
    /// This thread's stack: its first page, and how many. One word, so that a signal handler never sees half of it.
    static STACK: Cell<u64> = const { Cell::new(0) };
}

/// See [`super::capture`].
#[inline(always)]
pub(super) fn capture(frames: &mut [u64]) -> usize {
    // SAFETY: pointer and length are those of one slice that is borrowed for the call.
    unsafe { capture_caller(frames.as_mut_ptr(), frames.len()) }
}

/// See [`super::capture_from`].
pub(super) fn capture_from(context: &libc::ucontext_t, frames: &mut [u64]) -> usize {
    let mut registers = interrupted(context);
    // Its instruction has not been left, and stacks hold addresses after an instruction's begin.
    registers.pc = registers.pc.wrapping_add(1);
    #[cfg(target_arch = "x86_64")]
    if let Some(caller) = caller_of_stub(registers)
        && let [first, rest @ ..] = frames
    {
        *first = registers.pc;
        return 1 + capture_at(caller, rest);
    }
    capture_at(registers, frames)
}

#[cfg(target_arch = "x86_64")]
fn interrupted(context: &libc::ucontext_t) -> Registers {
    let register = |name: libc::c_int| context.uc_mcontext.gregs[name as usize] as u64;
    Registers { pc: register(libc::REG_RIP), sp: register(libc::REG_RSP), fp: register(libc::REG_RBP) }
}

#[cfg(target_arch = "aarch64")]
fn interrupted(context: &libc::ucontext_t) -> Registers {
    let machine = &context.uc_mcontext;
    Registers { pc: machine.pc, sp: machine.sp, fp: machine.regs[29] }
}

/// Passes the registers that its caller has after the call on to [`capture_with`].
///
/// # Safety
/// `frames` points to `length` words that nobody else uses during the call.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
unsafe extern "C" fn capture_caller(frames: *mut u64, length: usize) -> usize {
    naked_asm!(
        "mov rdx, [rsp]",
        "lea rcx, [rsp + 8]",
        "mov r8, rbp",
        "jmp {capture_with}",
        capture_with = sym capture_with,
    )
}

/// Passes the registers that its caller has after the call on to [`capture_with`].
///
/// # Safety
/// `frames` points to `length` words that nobody else uses during the call.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
unsafe extern "C" fn capture_caller(frames: *mut u64, length: usize) -> usize {
    naked_asm!(
        "mov x2, x30",
        "mov x3, sp",
        "mov x4, x29",
        "b {capture_with}",
        capture_with = sym capture_with,
    )
}

/// # Safety
/// `frames` points to `length` words that nobody else uses during the call.
unsafe extern "C" fn capture_with(frames: *mut u64, length: usize, pc: u64, sp: u64, fp: u64) -> usize {
    // SAFETY: the caller of `capture_caller` promised it, and that function passes both on unchanged.
    let frames = unsafe { std::slice::from_raw_parts_mut(frames, length) };
    capture_at(Registers { pc, sp, fp }, frames)
}

#[inline(always)]
fn capture_at(registers: Registers, frames: &mut [u64]) -> usize {
    let Some(memory) = Memory::above(registers.sp) else { return 0 };
    #[cfg(target_arch = "x86_64")]
    {
        let Some(table) = super::published() else { return 0 };
        walk(registers, frames, &ByRules { table, memory })
    }
    #[cfg(target_arch = "aarch64")]
    walk(registers, frames, &|at| super::walk::frame_pointer_step(at, memory))
}

/// Goes from frame to frame by the published rules. A type and not a closure, so that it can be told to be inlined:
/// registers that pass through memory on each step double a stack's cost.
#[cfg(target_arch = "x86_64")]
struct ByRules {
    table: &'static super::table::Table,
    memory: Memory,
}

#[cfg(target_arch = "x86_64")]
impl Step for ByRules {
    #[inline(always)]
    fn caller(&self, at: Registers) -> Option<Registers> {
        step(self.table.rule(at.pc.wrapping_sub(1)), at, self.memory)
    }
}

/// Who called code that has no description, if it was interrupted in what is probably a linker's stub: it has pushed
/// nothing yet, so the return address is on top. Only one that known code ends at is taken for one.
#[cfg(target_arch = "x86_64")]
fn caller_of_stub(at: Registers) -> Option<Registers> {
    let table = super::published()?;
    let rule = |at: Registers| table.rule(at.pc.wrapping_sub(1));
    if rule(at) != Rule::NONE {
        return None;
    }
    let caller = step(Rule::new(Cfa::Rsp(8), 0), at, Memory::above(at.sp)?)?;
    (rule(caller) != Rule::NONE).then_some(caller)
}

/// What may be read of a stack: words at and above its stack pointer.
#[derive(Clone, Copy)]
struct Memory {
    sp: u64,
    /// In how many places above `sp` a word may begin.
    places: u64,
}

impl Memory {
    /// `None` if the pointer is in no stack.
    #[inline(always)]
    fn above(sp: u64) -> Option<Memory> {
        let stack = stack_around(sp)?;
        Some(Memory { sp, places: stack.end.wrapping_sub(sp).saturating_sub(7) })
    }
}

impl Words for Memory {
    #[inline(always)]
    fn word(self, address: u64) -> Option<u64> {
        if address.wrapping_sub(self.sp) >= self.places || !address.is_multiple_of(8) {
            return None;
        }
        // SAFETY: the word lies inside the mapping of the stack that runs, because `stack_around` said where that
        // mapping ends, and it is aligned: both were checked above.
        Some(unsafe { (address as *const u64).read_volatile() })
    }
}

/// The mapping around a stack pointer, as far as it belongs to this thread.
#[inline(always)]
fn stack_around(sp: u64) -> Option<Range<u64>> {
    let stack = unpack(STACK.get());
    if stack.contains(&sp) { Some(stack) } else { find_stack(sp) }
}

#[cold]
fn find_stack(sp: u64) -> Option<Range<u64>> {
    let mut stack = find_mapping(sp)?;
    // The C library puts a thread's descriptor on top of its stack, and the kernel may have merged the mapping with
    // the one above.
    let descriptor = thread_pointer();
    if stack.contains(&descriptor) && sp < descriptor {
        stack.end = descriptor >> PAGE_BITS << PAGE_BITS;
    }
    if stack.end <= sp {
        return None;
    }
    STACK.set(pack(&stack));
    Some(stack)
}

fn pack(stack: &Range<u64>) -> u64 {
    let pages = (stack.end - stack.start) >> PAGE_BITS;
    (stack.start >> PAGE_BITS) << LENGTH_BITS | pages.min((1 << LENGTH_BITS) - 1)
}

#[inline(always)]
fn unpack(word: u64) -> Range<u64> {
    let start = word >> LENGTH_BITS << PAGE_BITS;
    start..start + ((word & ((1 << LENGTH_BITS) - 1)) << PAGE_BITS)
}

/// Looks the mapping of an address up in `/proc/self/maps`.
fn find_mapping(address: u64) -> Option<Range<u64>> {
    let path = c"/proc/self/maps";
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    let path = [libc::AT_FDCWD as usize, path.as_ptr() as usize, flags as usize];
    // SAFETY: openat reads a path that ends with a zero, as a `CStr` does.
    let file = unsafe { system_call(libc::SYS_openat, path) };
    let file = usize::try_from(file).ok()?;
    let found = ask_for_mapping(file, address).or_else(|| read_for_mapping(file, address));
    // SAFETY: the descriptor was opened above and nobody else knows it.
    unsafe { system_call(libc::SYS_close, [file, 0, 0]) };
    found
}

/// Asks the kernel (`PROCMAP_QUERY`): a tenth of the time of reading, since Linux 6.11.
fn ask_for_mapping(file: usize, address: u64) -> Option<Range<u64>> {
    /// The kernel's `struct procmap_query`, as words: its size, flags, the address; the mapping's start, end, flags.
    const WORDS: usize = 13;
    const REQUEST: usize = 0xc000_6611 | (WORDS * 8) << 16;
    const READABLE: u64 = 1;
    let mut query = [0u64; WORDS];
    query[0] = WORDS as u64 * 8;
    query[2] = address;
    // SAFETY: the kernel writes at most as many bytes as the query's first word says, and so many it has.
    let result = unsafe { system_call(libc::SYS_ioctl, [file, REQUEST, query.as_mut_ptr() as usize]) };
    let [_, _, _, start, end, flags, ..] = query;
    (result == 0 && flags & READABLE != 0).then_some(start..end)
}

fn read_for_mapping(file: usize, address: u64) -> Option<Range<u64>> {
    let mut search = Search::new(address);
    let mut piece = [0u8; 1024];
    loop {
        let buffer = [file, piece.as_mut_ptr() as usize, piece.len()];
        // SAFETY: read writes at most as many bytes as the buffer that it is given has.
        let length = unsafe { system_call(libc::SYS_read, buffer) };
        let length = usize::try_from(length).ok().filter(|&length| length > 0)?;
        if let Some(found) = search.feed(&piece[..length]) {
            return Some(found);
        }
    }
}

/// A system call by its instruction; minus the error number when it fails.
///
/// # Safety
/// As the call's own: pointers are valid for what the kernel does with them.
#[cfg(target_arch = "x86_64")]
unsafe fn system_call(number: libc::c_long, arguments: [usize; 3]) -> isize {
    let result: isize;
    // SAFETY: the kernel changes only rax, rcx and r11 and the memory that the caller vouches for.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") arguments[0], in("rsi") arguments[1],
             in("rdx") arguments[2], lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// A system call by its instruction; minus the error number when it fails.
///
/// # Safety
/// As the call's own: pointers are valid for what the kernel does with them.
#[cfg(target_arch = "aarch64")]
unsafe fn system_call(number: libc::c_long, arguments: [usize; 3]) -> isize {
    let result: isize;
    // SAFETY: the kernel changes only x0 and the memory that the caller vouches for.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") arguments[0] => result, in("x1") arguments[1],
             in("x2") arguments[2], options(nostack));
    }
    result
}

/// Where the C library keeps this thread's descriptor.
#[cfg(target_arch = "x86_64")]
fn thread_pointer() -> u64 {
    let pointer: u64;
    // SAFETY: the x86_64 ABI keeps the thread pointer's own value at its address.
    unsafe { asm!("mov {}, fs:0", out(reg) pointer, options(nostack, preserves_flags, readonly)) };
    pointer
}

/// Where the C library keeps this thread's descriptor.
#[cfg(target_arch = "aarch64")]
fn thread_pointer() -> u64 {
    let pointer: u64;
    // SAFETY: every thread may read this register.
    unsafe { asm!("mrs {}, tpidr_el0", out(reg) pointer, options(nostack, preserves_flags, nomem)) };
    pointer
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opens this process's mappings and asks both ways.
    fn both(address: u64) -> [Option<Range<u64>>; 2] {
        let path = c"/proc/self/maps";
        // SAFETY: the path ends with a zero.
        let file = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY) } as usize;
        let found = [ask_for_mapping(file, address), read_for_mapping(file, address)];
        // SAFETY: the descriptor was opened above.
        unsafe { libc::close(file as libc::c_int) };
        found
    }

    #[test]
    fn asking_and_reading_find_the_same_mapping() {
        let local = 0u64;
        for address in [&raw const local as u64, both as *const () as u64, libc::getpid as *const () as u64] {
            let [asked, read] = both(address);
            assert!(read.as_ref().is_some_and(|mapping| mapping.contains(&address)));
            // An older kernel can't be asked.
            assert!(asked.is_none() || asked == read, "{asked:x?} {read:x?}");
        }
        assert_eq!(both(0), [None, None]);
        assert_eq!(both(u64::MAX), [None, None]);
    }

    #[test]
    fn a_stack_ends_below_its_threads_descriptor() {
        std::thread::spawn(|| {
            let local = 0u64;
            let here = &raw const local as u64;
            let stack = stack_around(here).unwrap();
            assert!(stack.contains(&here) && stack.end <= thread_pointer(), "{stack:x?}");
            assert_eq!(unpack(pack(&stack)), stack);
        })
        .join()
        .unwrap();
    }
}
