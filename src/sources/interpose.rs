//! The exported C symbols and the real ones behind them.
//!
//! kymo defines `read`, `write`, `syscall` and others under their C names, so the linker binds the program's, std's and
//! every C library's calls to these. Each asks whether recording is on (one load) and goes to the real function, which
//! [`Real`] holds; the families (`locks`, `files`, `sockets`, `processes`, `memory`, `threads`) say what to record around it.
//!
//! # Invariants
//! 1. A hook MUST return what the real function returned, with its errno. Otherwise the program behaves differently
//!    when it is watched: so recording saves and restores errno.
//! 2. A hook's frame MUST hold nothing with a destructor while the real function runs. Otherwise a thread that is
//!    cancelled in it would unwind through foreign code: so these are `C-unwind`, and closures capture plain data.
//! 3. Real functions MUST be looked up before they are needed in a signal handler, since dlsym(3) takes a lock: all
//!    are, in `.init_array`; one that is called earlier still looks itself up.
//! 4. `clone`, `vfork`, `fork` and `exit` MUST pass untouched. Otherwise a second return would find a frame that is
//!    gone: `syscall` is a naked function which only ever jumps.
//!
//! Not seen: calls by instruction (rustix's linux_raw, Go), glibc's calls of itself, libraries that bind elsewhere.

#![allow(unsafe_code, reason = "C symbols, function pointers from dlsym(3), errno")]

use std::ffi::{CStr, c_int, c_long, c_uint, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::clock;
use crate::events::{Call, Fd, Group, SyscallEnter, SyscallExit, Value};
use crate::limits::CALL_STACK_NS;
use crate::record;

/// The next definition of a C symbol: libc's, or that of whoever else interposes.
#[derive(Debug)]
pub(super) struct Real {
    name: &'static CStr,
    function: AtomicPtr<c_void>,
}

impl Real {
    pub(super) const fn new(name: &'static CStr) -> Real {
        Real { name, function: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// Its address.
    #[inline(always)]
    pub(super) fn get(&self) -> *mut c_void {
        let function = self.function.load(Ordering::Relaxed);
        if function.is_null() { self.find() } else { function }
    }

    /// Looks it up; null if this libc does not have it.
    fn look_up(&self) -> *mut c_void {
        // SAFETY: the name is a C string, and RTLD_NEXT asks for the definition after this one.
        let function = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        self.function.store(function, Ordering::Relaxed);
        function
    }

    /// A call before `.init_array`, or of what this libc does not have: those say so as the kernel would, which std and
    /// others that look for new functions expect.
    #[cold]
    fn find(&self) -> *mut c_void {
        let function = self.look_up();
        if function.is_null() { missing as *mut c_void } else { function }
    }
}

/// In place of what this libc does not have.
unsafe extern "C-unwind" fn missing() -> isize {
    // SAFETY: it only says where this thread's errno is.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: errno is this thread's own.
    unsafe { *place = libc::ENOSYS };
    -1
}

/// Defines hooks that record a call: `fn name(arguments) -> type = Call, descriptor;`, with `then` for who
/// tells more, given its outcome (the result, or minus errno) first. Yields `REALS`, for the early look-up.
macro_rules! calls {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty
        = $call:ident, $fd:expr $(, then $tell:ident($($told:expr),*))?;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Safety
            /// As the C function's of this name.
            #[unsafe(no_mangle)]
            #[allow(clippy::too_many_arguments, reason = "libc's signature")]
            pub(super) unsafe extern "C-unwind" fn $name($($arg: $type),*) -> $result {
                type Function = unsafe extern "C-unwind" fn($($type),*) -> $result;
                // SAFETY: dlsym(3) found the function of this name, whose signature this is.
                let real = unsafe { std::mem::transmute::<*mut std::ffi::c_void, Function>(real::$name.get()) };
                if !crate::record::enabled(crate::events::Group::Syscall) {
                    // SAFETY: the caller's arguments, unchanged.
                    return unsafe { real($($arg),*) };
                }
                // Apart, so that the way past it needs no frame.
                #[cold]
                #[inline(never)]
                #[allow(clippy::too_many_arguments, reason = "libc's signature")]
                unsafe fn traced($($arg: $type,)* real: Function) -> $result {
                    // SAFETY: the caller's arguments, unchanged.
                    let call = || unsafe { real($($arg),*) };
                    crate::sources::interpose::traced_call(crate::events::Call::$call, $fd, call, |_outcome| {
                        $($tell(_outcome, $($told),*))?
                    })
                }
                // SAFETY: the caller's arguments, unchanged.
                unsafe { traced($($arg,)* real) }
            }
        )*

        #[allow(non_upper_case_globals, reason = "named like the functions they stand for")]
        mod real {
            use crate::sources::interpose::{Real, c_name};

            $(pub(super) static $name: Real = Real::new(c_name(concat!(stringify!($name), "\0")));)*
        }

        /// The functions behind this file's hooks.
        pub(super) static REALS: &[&crate::sources::interpose::Real] = &[$(&real::$name,)*];
    };
}
pub(super) use calls;

/// A C string of a literal that ends in its zero.
pub(super) const fn c_name(name: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(name.as_bytes()) {
        Ok(name) => name,
        Err(_) => panic!("a hook's name ends in a zero"),
    }
}

/// What a call that is recorded returns.
pub(super) trait CResult: Copy {
    /// The result, or minus the error's number, given the errno that the call left.
    fn outcome(self, errno: c_int) -> i64;
}

/// Bytes, -1 meaning that errno says why not.
impl CResult for isize {
    fn outcome(self, errno: c_int) -> i64 {
        if self == -1 { -i64::from(errno) } else { self as i64 }
    }
}

/// A descriptor, a count or zero, -1 meaning that errno says why not.
impl CResult for c_int {
    fn outcome(self, errno: c_int) -> i64 {
        if self == -1 { -i64::from(errno) } else { i64::from(self) }
    }
}

/// Seconds that are left.
impl CResult for c_uint {
    fn outcome(self, _errno: c_int) -> i64 {
        i64::from(self)
    }
}

/// An `int` that is zero or the error's number itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct ErrorNumber(pub(super) c_int);

impl CResult for ErrorNumber {
    fn outcome(self, _errno: c_int) -> i64 {
        -i64::from(self.0)
    }
}

/// Records a call around the real one; `then` tells what its outcome means besides.
#[inline(always)]
pub(super) fn traced_call<R: CResult>(
    call: Call,
    fd: c_int,
    real: impl FnOnce() -> R,
    then: impl FnOnce(i64),
) -> R {
    let begin = clock::ticks();
    keeping_errno(|_| record::emit_at(begin, SyscallEnter { call, fd: Fd(fd) }));
    let result = real();
    // If the capture has ended meanwhile, nobody wants the rest.
    if record::enabled(Group::Syscall) {
        keeping_errno(|errno| {
            let end = clock::ticks();
            let outcome = result.outcome(errno);
            let stack = record::stack_if_lasted(begin, end, CALL_STACK_NS);
            record::emit_at(end, SyscallExit { result: Value(outcome), stack });
            then(outcome);
        });
    }
    result
}

/// Does `work`, which is told errno, and leaves errno as it was.
#[inline(always)]
pub(super) fn keeping_errno<R>(work: impl FnOnce(c_int) -> R) -> R {
    // SAFETY: it only says where this thread's errno is, which lives as long as the thread.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: errno is this thread's own.
    let errno = unsafe { *place };
    let result = work(errno);
    // SAFETY: errno is this thread's own.
    unsafe { *place = errno };
    result
}

/// The real `syscall(2)`.
pub(super) static REAL_SYSCALL: Real = Real::new(c"syscall");

extern "C" fn find_syscall() {
    REAL_SYSCALL.find();
}

/// syscall(2): futexes go to [`super::locks::futex`] while waits are recorded, all else jumps straight on.
///
/// # Safety
/// As the C function's.
#[cfg(target_arch = "x86_64")]
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub(super) unsafe extern "C-unwind" fn syscall() -> c_long {
    std::arch::naked_asm!(
        "cmp rdi, {futex_number}",
        "je 2f",
        "1:",
        "mov rax, qword ptr [rip + {real} + {function}]",
        "test rax, rax",
        "jz 3f",
        "jmp rax",
        "2:",
        "test dword ptr [rip + {enabled}], {waits}",
        "jz 1b",
        "jmp {futex}",
        // Called before `.init_array`: look it up, with the arguments kept and the stack aligned.
        "3:",
        "push rdi",
        "push rsi",
        "push rdx",
        "push rcx",
        "push r8",
        "push r9",
        "sub rsp, 8",
        "call {find}",
        "add rsp, 8",
        "pop r9",
        "pop r8",
        "pop rcx",
        "pop rdx",
        "pop rsi",
        "pop rdi",
        "jmp 1b",
        futex_number = const libc::SYS_futex,
        real = sym REAL_SYSCALL,
        function = const std::mem::offset_of!(Real, function),
        enabled = sym record::ENABLED,
        waits = const record::WAITS,
        futex = sym super::locks::futex,
        find = sym find_syscall,
    )
}

/// syscall(2): futexes go to [`super::locks::futex`] while waits are recorded, all else jumps straight on.
///
/// # Safety
/// As the C function's.
#[cfg(target_arch = "aarch64")]
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub(super) unsafe extern "C-unwind" fn syscall() -> c_long {
    std::arch::naked_asm!(
        "cmp x0, {futex_number}",
        "b.eq 2f",
        "1:",
        "adrp x9, {real}",
        "add x9, x9, :lo12:{real}",
        "ldr x9, [x9, {function}]",
        "cbz x9, 3f",
        "br x9",
        "2:",
        "adrp x9, {enabled}",
        "ldr w9, [x9, :lo12:{enabled}]",
        "mov w10, {waits_low}",
        "movk w10, {waits_high}, lsl 16",
        "tst w9, w10",
        "b.eq 1b",
        "b {futex}",
        // Called before `.init_array`: look it up, with the arguments kept.
        "3:",
        "stp x29, x30, [sp, -80]!",
        "stp x0, x1, [sp, 16]",
        "stp x2, x3, [sp, 32]",
        "stp x4, x5, [sp, 48]",
        "str x6, [sp, 64]",
        "bl {find}",
        "ldr x6, [sp, 64]",
        "ldp x4, x5, [sp, 48]",
        "ldp x2, x3, [sp, 32]",
        "ldp x0, x1, [sp, 16]",
        "ldp x29, x30, [sp], 80",
        "b 1b",
        futex_number = const libc::SYS_futex,
        real = sym REAL_SYSCALL,
        function = const std::mem::offset_of!(Real, function),
        enabled = sym record::ENABLED,
        waits_low = const record::WAITS & 0xffff,
        waits_high = const record::WAITS >> 16,
        futex = sym super::locks::futex,
        find = sym find_syscall,
    )
}

/// Looks up every real function before `main`, and says that hooks are linked.
extern "C" fn init() {
    let families = [
        super::files::REALS,
        super::sockets::REALS,
        super::processes::REALS,
        super::memory::REALS,
        super::libraries::REALS,
        super::locks::REALS,
        super::threads::REALS,
    ];
    for real in families.into_iter().flatten().chain([&&REAL_SYSCALL]) {
        real.look_up();
    }
    record::reserve();
    record::switches::on_end(super::descriptors::tell_open);
    crate::status::set("hooks", "on: libc calls by symbol");
}

#[used]
#[unsafe(link_section = ".init_array")]
static INIT: extern "C" fn() = init;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_libc_does_not_have_is_not_implemented() {
        static NEWER: Real = Real::new(c"a_function_of_next_year");
        type Function = unsafe extern "C-unwind" fn(c_int) -> c_int;
        // SAFETY: `missing` takes what it is given, and returns a number.
        let function = unsafe { std::mem::transmute::<*mut c_void, Function>(NEWER.get()) };
        // SAFETY: as above.
        let result = unsafe { function(7) };
        assert_eq!(keeping_errno(|errno| result.outcome(errno)), -i64::from(libc::ENOSYS));
    }
}
