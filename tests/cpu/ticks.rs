//! The handler itself, called at moments of our choice: a signal that a thread sends to itself may say that it is a timer's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::mem::zeroed;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::sampled::{Sampled, Sampling, burn, sample};
use crate::watched::in_child;

/// What kymo's timers put into their signals: its mark, and a period of 10 ms.
const VALUE: u64 = 0x6b79_6d6f << 32 | 10_000_000;

/// Sends this thread a signal as one of kymo's timers would.
fn tick() {
    let mut info = [0u64; 16];
    let code = libc::SI_TIMER as u32;
    (info[0], info[1], info[3]) = (libc::SIGPROF as u64, u64::from(code), VALUE);
    // SAFETY: getpid(2) and gettid(2) take nothing, and the kernel reads one siginfo, of 128 bytes.
    unsafe {
        let (process, thread) = (libc::getpid(), libc::gettid());
        libc::syscall(libc::SYS_rt_tgsigqueueinfo, process, thread, libc::SIGPROF, info.as_ptr());
    }
}

thread_local! {
    static IN_TICK: Cell<bool> = const { Cell::new(false) };
}

static IN_HANDLER: AtomicU64 = AtomicU64::new(0);

/// Counts allocations between a tick's begin and end, of which nothing but the handler is a part.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: everything goes to the system's allocator, unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_HANDLER.fetch_add(u64::from(IN_TICK.get()), Ordering::Relaxed);
        // SAFETY: the caller's own.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_HANDLER.fetch_add(u64::from(IN_TICK.get()), Ordering::Relaxed);
        // SAFETY: the caller's own.
        unsafe { System.dealloc(pointer, layout) }
    }
}

const TICKS: usize = 100_000;

#[test]
fn a5_the_handler_never_allocates() {
    in_child(|| {
        let ((), sampled) = sample(1, || {
            for _ in 0..TICKS {
                IN_TICK.set(true);
                tick();
                IN_TICK.set(false);
            }
        });
        assert!(kept_or_counted(&sampled) >= TICKS as u64);
        assert_eq!(IN_HANDLER.load(Ordering::Relaxed), 0);
        IN_TICK.set(true);
        drop(std::hint::black_box(Box::new(1)));
        IN_TICK.set(false);
        assert_eq!(IN_HANDLER.load(Ordering::Relaxed), 2, "it would be seen");
    });
}

fn kept_or_counted(sampled: &Sampled) -> u64 {
    sampled.trace.samples.len() as u64 + sampled.progress.lost
}

/// From now on a system call that only somebody makes who waits, allocates or asks ends the process with SIGSYS.
fn allow_nothing_but_ticks() {
    const ALLOWED: [libc::c_long; 4] =
        [libc::SYS_rt_tgsigqueueinfo, libc::SYS_rt_sigreturn, libc::SYS_getpid, libc::SYS_gettid];
    let step = |code: u32, k: u32, jt, jf| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
    for number in ALLOWED.into_iter().chain([libc::SYS_exit_group]) {
        filter.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number as u32, 0, 1));
        filter.push(step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0));
    }
    filter.push(step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_KILL_PROCESS, 0, 0));
    filter_calls(&mut filter);
}

/// Filters this thread's system calls.
pub(crate) fn filter_calls(filter: &mut [libc::sock_filter]) {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: numbers only.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the kernel reads the program and its steps.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) }, 0);
}

#[test]
fn a6_the_handler_makes_no_system_call_so_it_waits_for_nobody() {
    in_child(|| {
        let sampling = Sampling::start(1);
        // In a child, since the filter stays; a forked child records nothing, so a thread's is used.
        let ticked = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // The thread's first sample finds its stack and its slot, by system calls.
                tick();
                allow_nothing_but_ticks();
                (0..10_000).for_each(|_| tick());
                ticked.store(true, Ordering::Relaxed);
                // The thread may not even end.
                loop {
                    std::hint::spin_loop();
                }
            });
            while !ticked.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
            let sampled = sampling.stop();
            assert!(kept_or_counted(&sampled) >= 10_000);
            println!("test result: 1 passed");
            std::process::exit(0);
        });
    });
}

/// Spins with the frame pointer as it is told.
#[cfg(target_arch = "x86_64")]
fn spin_with_frame_pointer(value: u64, ticks: u64) {
    // SAFETY: the frame pointer is as it was when the assembly ends, and nothing uses it meanwhile.
    unsafe {
        std::arch::asm!(
            "push rbp", "mov rbp, {value}", "2:", "dec {ticks}", "jnz 2b", "pop rbp",
            value = in(reg) value, ticks = inout(reg) ticks => _,
        );
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a7_a_frame_pointer_may_be_anything() {
    in_child(|| {
        let local = 0u64;
        let here = std::ptr::from_ref(&local).addr() as u64;
        let values = [0, 1, 8, here, here + 1, here & !0xfff, u64::MAX, u64::MAX - 7, 1 << 47, 0x1000];
        let ((), sampled) = sample(1000, || {
            for _ in 0..3 {
                values.iter().for_each(|&value| spin_with_frame_pointer(value, 40_000_000));
            }
        });
        assert!(sampled.trace.samples.len() > 20, "{}", sampled.trace.samples.len());
    });
}

static STEPS: AtomicUsize = AtomicUsize::new(0);

/// After each instruction: a tick, which comes when this handler has returned, because it blocks SIGPROF.
extern "C" fn stepped(_: c_int) {
    STEPS.fetch_add(1, Ordering::Relaxed);
    tick();
}

#[inline(never)]
fn stepped_through() -> u64 {
    let mut to = [0u8; 300];
    let from = std::hint::black_box([7u8; 300]);
    to.copy_from_slice(&from);
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    let text = format!("{} {:?}", time.tv_nsec, std::hint::black_box(&to[..9]));
    text.len() as u64 + std::hint::black_box(vec![1u64; 100]).iter().sum::<u64>()
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a8_a_tick_may_come_between_any_two_instructions() {
    in_child(|| {
        // SAFETY: zeros are a valid sigaction.
        let mut action: libc::sigaction = unsafe { zeroed() };
        action.sa_sigaction = stepped as *const () as usize;
        // SAFETY: it writes to the set.
        unsafe { libc::sigaddset(&mut action.sa_mask, libc::SIGPROF) };
        // SAFETY: the handler is of the type that no SA_SIGINFO asks for.
        unsafe { libc::sigaction(libc::SIGTRAP, &action, null_mut()) };
        let ((), sampled) = sample(1, || {
            tick();
            // SAFETY: the trap flag, which SIGTRAP's handler takes.
            unsafe { std::arch::asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq") };
            std::hint::black_box(stepped_through());
            // SAFETY: as above.
            unsafe { std::arch::asm!("pushfq", "and qword ptr [rsp], -0x101", "popfq") };
        });
        let steps = STEPS.load(Ordering::Relaxed);
        let inside = sampled.in_function("a8_a_tick_may_come").as_nanos() / 10_000_000;
        println!("{steps} steps, {} kept, {inside} down to the test", sampled.trace.samples.len());
        assert!(steps > 1_000, "{steps}");
        assert!(kept_or_counted(&sampled) >= steps as u64);
        assert!(inside * 100 >= steps as u128 * 98, "{inside} of {steps} reach the test's function");
    });
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a9_code_without_description_is_one_frame() {
    in_child(|| {
        // dec rdi; jnz; ret
        const CODE: [u8; 6] = [0x48, 0xff, 0xcf, 0x75, 0xfb, 0xc3];
        let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping.
        let page = unsafe { libc::mmap(null_mut(), 4096, protection, flags, -1, 0) };
        // SAFETY: the page is ours.
        unsafe { std::ptr::copy_nonoverlapping(CODE.as_ptr(), page.cast(), CODE.len()) };
        // SAFETY: the code takes a number and returns.
        let code = unsafe { std::mem::transmute::<*mut c_void, extern "C" fn(u64)>(page) };
        let ((), sampled) = sample(1000, || code(800_000_000));
        let start = page.addr() as u64;
        let inside = |address: &&u64| (start..start + 4096).contains(*address);
        let stacks = sampled.trace.samples.iter().map(|sample| sampled.trace.stacks.addresses(sample.stack));
        let in_page = stacks.filter(|stack| stack.first().iter().any(inside)).count();
        assert!(in_page > 10, "{in_page}");
        let profile = kymo::profile::cpu(&sampled.trace);
        assert!(profile.samples.iter().flat_map(|sample| profile.frames(sample)).count() > 0);
    });
}

/// Bytes of a signal stack that `work` touches.
fn touched(work: impl Fn()) -> usize {
    const SIZE: usize = 64 * 1024;
    const PAINT: u8 = 0xa5;
    let stack = vec![PAINT; SIZE].leak();
    let ours = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: SIZE };
    // SAFETY: the stack is leaked.
    assert_eq!(unsafe { libc::sigaltstack(&ours, null_mut()) }, 0);
    work();
    SIZE - stack.iter().take_while(|&&byte| byte == PAINT).count()
}

extern "C" fn does_nothing(_: c_int) {}

#[test]
fn a10_a_tick_needs_little_stack() {
    in_child(|| {
        // SAFETY: zeros are a valid sigaction.
        let mut action: libc::sigaction = unsafe { zeroed() };
        (action.sa_sigaction, action.sa_flags) = (does_nothing as *const () as usize, libc::SA_ONSTACK);
        // SAFETY: the handler does nothing.
        unsafe { libc::sigaction(libc::SIGUSR1, &action, null_mut()) };
        let frame = touched(|| {
            // SAFETY: it sends a signal, which has a handler.
            unsafe { libc::raise(libc::SIGUSR1) };
        });
        let (whole, _) = sample(1, || {
            tick();
            touched(|| (0..100).for_each(|_| tick()))
        });
        println!("{} bytes, beside {frame} of the kernel's frame", whole - frame);
        assert!(frame > 0 && whole > frame, "the handlers ran there");
        let most = if cfg!(debug_assertions) { 6 * 1024 } else { 2 * 1024 };
        assert!(whole - frame <= most, "{}", whole - frame);
    });
}

#[test]
fn a10_threads_with_the_smallest_stack_there_is_are_sampled() {
    extern "C" fn body(_: *mut c_void) -> *mut c_void {
        burn(Duration::from_millis(200));
        null_mut()
    }
    in_child(|| {
        let ((), sampled) = sample(1000, || {
            // SAFETY: zeros are room for attributes, which the next call makes valid.
            let mut attributes: libc::pthread_attr_t = unsafe { zeroed() };
            let mut thread = 0;
            // SAFETY: attributes and thread are valid places, and the thread is joined.
            unsafe {
                libc::pthread_attr_init(&mut attributes);
                libc::pthread_attr_setstacksize(&mut attributes, 16 * 1024);
                assert_eq!(libc::pthread_create(&mut thread, &attributes, body, null_mut()), 0);
                libc::pthread_join(thread, null_mut());
            }
        });
        assert!(sampled.in_function("burn") > Duration::from_millis(100));
    });
}

#[inline(never)]
fn deep(depth: u32) -> u32 {
    if depth == 0 {
        burn(Duration::from_millis(300));
        return 0;
    }
    std::hint::black_box(deep(depth - 1)) + 1
}

#[test]
fn a11_a_stack_of_a_hundred_thousand_frames_is_cut_and_says_so() {
    in_child(|| {
        let (_, sampled) = sample(1000, || {
            let thread = std::thread::Builder::new().stack_size(256 << 20).spawn(|| deep(100_000));
            thread.unwrap().join().unwrap()
        });
        let stacks = sampled.trace.samples.iter().map(|sample| sampled.trace.stacks.addresses(sample.stack));
        let cut = stacks.filter(|stack| stack.len() == 128 && stack.last() == Some(&0)).count();
        assert!(cut > 20, "{cut}");
    });
}
