//! Stacks of this process against framehop's of the same moment, where programs go: recursion, closures, generic code,
//! panics, C code that calls back, signals; and what happens where there is nothing to go by.
#![cfg(all(feature = "analysis", target_arch = "x86_64"))]
#![allow(unsafe_code, reason = "signals, C callbacks and the oracle's reading of the stack")]

mod oracle;

use std::alloc::{GlobalAlloc, Layout, System};
use std::arch::naked_asm;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kymo::unwind::{capture, capture_from, prepare};
use oracle::{Oracle, Registers, registers, stack_end};

const FRAMES: usize = 128;

/// Counts what this thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Compares stacks with the oracle's; counts how often.
struct Compared {
    oracle: RefCell<Oracle>,
    end: u64,
    times: Cell<usize>,
}

impl Compared {
    fn new() -> Compared {
        prepare();
        Compared { oracle: RefCell::new(Oracle::new()), end: stack_end(), times: Cell::new(0) }
    }

    /// Both stacks of the caller; they may only differ in where exactly in this function they begin.
    #[inline(never)]
    fn here(&self) {
        let (mut ours, mut theirs) = ([0; FRAMES], [0; FRAMES]);
        let ours_count = capture(&mut ours);
        let theirs_count = self.oracle.borrow_mut().stack(registers(), self.end, &mut theirs);
        assert!(ours_count > 8, "only {ours_count} frames");
        assert_eq!(ours[1..ours_count], theirs[1..theirs_count]);
        self.times.set(self.times.get() + 1);
    }
}

fn modules() -> Vec<kymo::format::Module> {
    let modules = kymo::unwind::modules().into_iter();
    let module = |module: kymo::unwind::LoadedModule| kymo::format::Module {
        start: module.start,
        end: module.end,
        bias: module.bias,
        offset: module.offset,
        path: module.path,
        build_id: module.build_id,
    };
    modules.map(module).collect()
}

/// The functions of a stack, leaf first, inlined ones included.
fn names(frames: &[u64]) -> Vec<String> {
    let symbols = kymo::model::symbols::resolve(frames, &modules());
    let symbol = |address| symbols.iter().find(|symbol| symbol.address == address).unwrap();
    let frames = frames.iter().flat_map(|&address| &symbol(address).frames);
    frames.map(|frame| frame.function.clone()).collect()
}

#[inline(never)]
fn leaf(frames: &mut [u64]) -> usize {
    black_box(capture(frames))
}

#[test]
fn a_stack_goes_down_to_the_threads_beginning() {
    prepare();
    let mut frames = [0; FRAMES];
    let count = leaf(&mut frames);
    let names = names(&frames[..count]);
    let at = |name: &str| {
        names.iter().position(|found| found == name).unwrap_or_else(|| panic!("{name}: {names:#?}"))
    };
    assert!(at("unwind::leaf") < at("unwind::a_stack_goes_down_to_the_threads_beginning"));
    assert!(at("unwind::a_stack_goes_down_to_the_threads_beginning") < at("start_thread"));
    assert_eq!(at("start_thread"), names.len() - 2, "{names:#?}");
}

#[inline(never)]
fn recursion(depth: u32, compared: &Compared) {
    // Different frame sizes, some with a large array.
    if depth.is_multiple_of(3) {
        black_box([depth; 200]);
    }
    match depth {
        0 => compared.here(),
        _ => recursion(depth - 1, compared),
    }
    black_box(depth);
}

#[inline(never)]
fn nested<F: Fn(u32) -> u32>(depth: u32, compared: &Compared, f: F) -> u32 {
    compared.here();
    if depth == 0 { f(depth) } else { nested(depth - 1, compared, &f as &dyn Fn(u32) -> u32) + f(depth) }
}

/// Compares where it is written, from inside of `core::fmt`.
struct Shown<'a>(&'a Compared);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.here();
        f.write_str("shown")
    }
}

/// Compares where it is dropped: also while a panic goes through.
struct Dropped<'a>(&'a Compared);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.0.here();
    }
}

/// Needs a stack aligned to 64 bytes, so its frame hangs on rbp.
#[inline(never)]
fn aligned(compared: &Compared) {
    #[repr(align(64))]
    struct Wide([u8; 256]);
    let wide = black_box(Wide([1; 256]));
    compared.here();
    black_box(wide.0[3]);
}

#[test]
fn frames_are_those_of_the_oracle() {
    let compared = Compared::new();
    for depth in [0, 1, 10, 50, 90] {
        recursion(depth, &compared);
    }
    nested(10, &compared, |depth| {
        compared.here();
        depth
    });
    aligned(&compared);
    let _ = format!("{:>10} {}", Shown(&compared), Shown(&compared));
    let mut numbers: Vec<u32> = (0..60).map(|number| number * 7919 % 61).collect();
    numbers.sort_by(|a, b| {
        compared.here();
        a.cmp(b)
    });
    let map: BTreeMap<u32, u32> = numbers.iter().map(|&number| (number, number)).collect();
    map.values().for_each(|_| compared.here());
    std::thread::LocalKey::with(&ALLOCATIONS, |_| compared.here());
    assert!(compared.times.get() > 200, "{}", compared.times.get());
}

#[test]
fn a_panic_is_walked_while_it_unwinds() {
    let compared = Compared::new();
    let before = compared.times.get();
    let result = catch_unwind(AssertUnwindSafe(|| {
        let _dropped = Dropped(&compared);
        std::panic::resume_unwind(Box::new("on purpose"));
    }));
    assert!(result.is_err());
    assert_eq!(compared.times.get(), before + 1);
}

type Order = extern "C" fn(*const libc::c_void, *const libc::c_void) -> libc::c_int;

fn sort_by_c(numbers: &mut [u64], order: Order) {
    // SAFETY: the array, its length and the size of a number belong together.
    unsafe { libc::qsort(numbers.as_mut_ptr().cast(), numbers.len(), 8, Some(order)) };
}

/// One of the numbers that [`sort_by_c`] asks to compare.
fn number_at(pointer: *const libc::c_void) -> u64 {
    // SAFETY: qsort passes pointers to two of the numbers that it was given.
    unsafe { *pointer.cast() }
}

#[test]
fn c_code_that_calls_back_is_walked_through() {
    thread_local! {
        static COMPARED: Compared = Compared::new();
    }
    extern "C" fn by_value(a: *const libc::c_void, b: *const libc::c_void) -> libc::c_int {
        COMPARED.with(Compared::here);
        number_at(a).cmp(&number_at(b)) as libc::c_int
    }
    let mut numbers: Vec<u64> = (0..100).map(|number| number * 37 % 101).collect();
    sort_by_c(&mut numbers, by_value);
    assert!(numbers.is_sorted());
    assert!(COMPARED.with(|compared| compared.times.get()) > 100);
}

#[test]
fn a_stack_deeper_than_the_buffer_is_cut_and_says_so() {
    #[inline(never)]
    fn deep(depth: u32, frames: &mut [u64]) -> usize {
        let count = if depth == 0 { capture(frames) } else { deep(depth - 1, frames) };
        black_box(count)
    }
    prepare();
    let mut frames = [7; 64];
    assert_eq!(deep(100, &mut frames), 64);
    assert_eq!(frames[63], 0);
    assert!(frames[..63].iter().all(|&address| address > 0x1000));
    assert_eq!(deep(0, &mut []), 0);
}

/// Calls `then` with a frame pointer that points nowhere, and nothing that says so.
#[unsafe(naked)]
extern "C" fn with_frame_pointer(_value: usize, _then: extern "C" fn()) {
    naked_asm!("push rbp", "mov rbp, rdi", "call rsi", "pop rbp", "ret")
}

#[test]
fn a7_corrupt_frame_pointer() {
    thread_local! {
        static TAKEN: Cell<usize> = const { Cell::new(0) };
    }
    extern "C" fn take() {
        let mut frames = [0; FRAMES];
        TAKEN.set(capture(&mut frames));
    }
    prepare();
    let word = 0usize;
    let here = &raw const word as usize;
    // Frames that lead back to themselves, and to each other.
    let mut cycle = [0usize; 4];
    let at = cycle.as_mut_ptr() as usize;
    cycle = [at + 16, here, at, here];
    let itself = &mut [0usize, here];
    itself[0] = itself.as_ptr() as usize;
    // The last words of a page that nothing follows.
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: two new pages.
    let pages = unsafe { libc::mmap(std::ptr::null_mut(), 2 * 4096, access, kind, -1, 0) };
    // SAFETY: the second of them.
    assert_eq!(unsafe { libc::munmap(pages.wrapping_byte_add(4096), 4096) }, 0);
    let edge = pages as usize + 4096;
    let (tell, told) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn(move || {
        let word = 0usize;
        tell.send(&raw const word as usize).unwrap();
        ended.recv().unwrap_err();
    });
    let theirs = told.recv().unwrap();
    let bad = [0, 1, 7, 8, 0xdead_beef, here, usize::MAX, usize::MAX - 7, 1 << 63, here | 1];
    let leading_astray =
        [at, at + 16, itself.as_ptr() as usize, edge - 8, edge - 16, edge, theirs, here & !4095];
    for value in bad.into_iter().chain(leading_astray) {
        with_frame_pointer(value, take);
        assert!((1..FRAMES).contains(&TAKEN.get()), "{value:#x}: {} frames", TAKEN.get());
    }
    std::hint::black_box(cycle);
    drop(end);
    other.join().unwrap();
}

#[test]
fn any_registers_in_a_signals_context_are_survived() {
    prepare();
    // SAFETY: a context is plain numbers.
    let mut context: libc::ucontext_t = unsafe { std::mem::zeroed() };
    let mut frames = [0; FRAMES];
    let here = &raw const frames as u64;
    let code = leaf as *const () as u64;
    let interesting =
        [0, 1, 8, here, here + 8, here + 1, here - (1 << 20), code, code + 4, u64::MAX, 1 << 63, 1 << 47];
    for pc in interesting {
        for sp in interesting {
            for fp in interesting {
                for (register, value) in [(libc::REG_RIP, pc), (libc::REG_RSP, sp), (libc::REG_RBP, fp)] {
                    context.uc_mcontext.gregs[register as usize] = value as i64;
                }
                assert!(capture_from(&context, &mut frames) <= FRAMES);
            }
        }
    }
}

#[test]
fn a_handler_on_a_stack_of_its_own_sees_its_own_frames() {
    static TAKEN: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn handler(_: libc::c_int) {
        let mut frames = [0; FRAMES];
        TAKEN.store(capture(&mut frames), Ordering::Relaxed);
    }
    prepare();
    std::thread::spawn(|| {
        let mut memory = vec![0u8; 64 * 1024];
        let stack = libc::stack_t { ss_sp: memory.as_mut_ptr().cast(), ss_flags: 0, ss_size: memory.len() };
        // SAFETY: the memory lives until the thread ends, which takes no signal after this one.
        assert_eq!(unsafe { libc::sigaltstack(&stack, std::ptr::null_mut()) }, 0);
        // SAFETY: all of its fields may be zero.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_ONSTACK;
        // SAFETY: the handler is async-signal-safe.
        assert_eq!(unsafe { libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()) }, 0);
        let before = leaf(&mut [0; FRAMES]);
        // SAFETY: the handler is there.
        assert_eq!(unsafe { libc::raise(libc::SIGUSR1) }, 0);
        // The handler, the kernel's return from it, and, if that stack lies below, what was interrupted.
        assert!((2..=3).contains(&TAKEN.load(Ordering::Relaxed)), "{TAKEN:?}");
        assert_eq!(leaf(&mut [0; FRAMES]), before);
    })
    .join()
    .unwrap();
}

#[test]
fn every_thread_sees_its_own_stack_and_allocates_nothing_for_it() {
    prepare();
    let counts: Vec<(usize, usize)> = std::thread::scope(|scope| {
        let take = || {
            let mut frames = [0; FRAMES];
            let before = ALLOCATIONS.get();
            (leaf(&mut frames), ALLOCATIONS.get() - before)
        };
        let threads: Vec<_> = (0..20).map(|_| scope.spawn(take)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
    assert!(counts[0].0 > 4, "{counts:?}");
    assert_eq!(counts[0].1, 0);
}

#[test]
fn a_library_that_is_loaded_later_is_walked_after_the_next_preparation() {
    const LIBRARY: &str = "void call_back(void (*f)(void)) { volatile int after = 0; f(); after = 1; }\n";
    thread_local! {
        static TAKEN: Cell<usize> = const { Cell::new(0) };
    }
    extern "C" fn take() {
        TAKEN.set(capture(&mut [0; FRAMES]));
    }
    prepare();
    let source = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("loaded_later.c");
    let library = source.with_extension("so");
    std::fs::write(&source, LIBRARY).unwrap();
    let flags = ["-shared", "-fPIC", "-O2", "-fomit-frame-pointer", "-o"];
    let status = std::process::Command::new("cc").args(flags).args([&library, &source]).status().unwrap();
    assert!(status.success());
    let path = std::ffi::CString::new(library.to_str().unwrap()).unwrap();
    // SAFETY: the library has no initializer.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
    assert!(!handle.is_null());
    // SAFETY: the handle was just opened.
    let symbol = unsafe { libc::dlsym(handle, c"call_back".as_ptr()) };
    assert!(!symbol.is_null());
    // SAFETY: this is the function's type in its source.
    let call_back: extern "C" fn(extern "C" fn()) = unsafe { std::mem::transmute(symbol) };
    call_back(take);
    assert_eq!(TAKEN.get(), 2, "its caller's address is known, its frame is not");
    prepare();
    call_back(take);
    assert!(TAKEN.get() > 8, "{}", TAKEN.get());
}

/// Stacks that a signal's handler took of what it interrupted, against the oracle's.
mod sampled {
    use super::*;

    pub(super) static SAMPLES: AtomicUsize = AtomicUsize::new(0);
    pub(super) static COMPLETE: AtomicUsize = AtomicUsize::new(0);
    pub(super) static EQUAL: AtomicUsize = AtomicUsize::new(0);
    pub(super) static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

    thread_local! {
        pub(super) static ORACLE: RefCell<Option<(Oracle, u64)>> = const { RefCell::new(None) };
    }

    pub(super) extern "C" fn handler(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the kernel passes a context that is valid during the handler.
        let context = unsafe { &*context.cast::<libc::ucontext_t>() };
        let before = ALLOCATIONS.get();
        let (mut ours, mut theirs) = ([0; FRAMES], [0; FRAMES]);
        let ours_count = capture_from(context, &mut ours);
        ALLOCATED.fetch_add(ALLOCATIONS.get() - before, Ordering::Relaxed);
        let register = |name: libc::c_int| context.uc_mcontext.gregs[name as usize] as u64;
        let at = Registers {
            pc: register(libc::REG_RIP),
            sp: register(libc::REG_RSP),
            fp: register(libc::REG_RBP),
        };
        ORACLE.with_borrow_mut(|oracle| {
            let Some((oracle, end)) = oracle else { return };
            let theirs_count = oracle.stack(at, *end, &mut theirs);
            SAMPLES.fetch_add(1, Ordering::Relaxed);
            let equal = ours[..ours_count] == theirs[..theirs_count];
            EQUAL.fetch_add(usize::from(equal), Ordering::Relaxed);
            // Every thread's stack ends with the same two functions.
            COMPLETE.fetch_add(usize::from(ours_count > 4), Ordering::Relaxed);
            if !equal {
                eprintln!("{:x?}\n{:x?}", &ours[..ours_count], &theirs[..theirs_count]);
            }
        });
    }

    /// Code of all kinds: allocation, copying, formatting, C's sorting, system calls.
    pub(super) fn work(round: u64) -> u64 {
        let mut numbers: Vec<u64> = (0..300).map(|number| (number * 7919 + round) % 1009).collect();
        let copy = black_box(numbers.clone());
        numbers.sort_unstable();
        let text: String =
            numbers.iter().take(20).map(|number| format!("{number:>5} {:.3}", *number as f64)).collect();
        let map: BTreeMap<String, u64> = text.split(' ').map(|word| (word.to_owned(), round)).collect();
        extern "C" fn by_value(a: *const libc::c_void, b: *const libc::c_void) -> libc::c_int {
            number_at(a).cmp(&number_at(b)) as libc::c_int
        }
        let mut copy = copy;
        sort_by_c(&mut copy, by_value);
        let _ = std::fs::metadata("/proc/self/stat").map(|metadata| black_box(metadata.len()));
        map.len() as u64 + copy[0] + std::time::SystemTime::now().elapsed().map_or(0, |time| time.as_secs())
    }
}

#[test]
fn what_a_signal_interrupts_is_walked_from_anywhere() {
    prepare();
    // SAFETY: all of its fields may be zero.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = sampled::handler as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    // SAFETY: the handler is async-signal-safe.
    assert_eq!(unsafe { libc::sigaction(libc::SIGUSR2, &action, std::ptr::null_mut()) }, 0);
    sampled::ORACLE.set(Some((Oracle::new(), stack_end())));
    // SAFETY: this only asks for the calling thread's handle.
    let worker = unsafe { libc::pthread_self() };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // SAFETY: the worker waits for this thread at the end of the scope.
                unsafe { libc::pthread_kill(worker, libc::SIGUSR2) };
                // At a pace of its own, so that the signals come anywhere.
                for _ in 0..black_box(3000) {
                    std::hint::spin_loop();
                }
            }
        });
        let mut round = 0;
        while sampled::SAMPLES.load(Ordering::Relaxed) < 10_000 {
            round += black_box(sampled::work(round)) | 1;
        }
        done.store(true, Ordering::Relaxed);
    });
    sampled::ORACLE.set(None);
    let [samples, complete, equal] =
        [&sampled::SAMPLES, &sampled::COMPLETE, &sampled::EQUAL].map(|count| count.load(Ordering::Relaxed));
    println!("{samples} samples, {complete} complete, {equal} equal");
    assert_eq!(sampled::ALLOCATED.load(Ordering::Relaxed), 0);
    assert!(complete as f64 >= samples as f64 * 0.999, "{complete} of {samples} are complete");
    assert!(equal as f64 >= samples as f64 * 0.999, "{equal} of {samples} are equal");
}
