//! SIGPROF is shared with the program: what is whose, what is interrupted, and what remains when sampling is over.

use std::ffi::{c_int, c_void};
use std::io::Error;
use std::mem::zeroed;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::sampled::{Sampling, burn, sample, sample_unnamed, status, thread_time};
use crate::watched::in_child;

const HZ: u32 = 1000;

static FOREIGN: AtomicU64 = AtomicU64::new(0);

extern "C" fn the_programs_own(_: c_int) {
    FOREIGN.fetch_add(1, Ordering::Relaxed);
}

/// Gives SIGPROF to a handler; who had it.
fn take_signal(handler: extern "C" fn(c_int)) -> libc::sigaction {
    // SAFETY: zeros are a valid sigaction.
    let (mut ours, mut before): (libc::sigaction, libc::sigaction) = unsafe { (zeroed(), zeroed()) };
    ours.sa_sigaction = handler as *const () as usize;
    // SAFETY: the handler only adds to a static.
    assert_eq!(unsafe { libc::sigaction(libc::SIGPROF, &ours, &mut before) }, 0);
    before
}

fn handler() -> usize {
    // SAFETY: zeros are a valid sigaction.
    let mut now: libc::sigaction = unsafe { zeroed() };
    // SAFETY: it writes one sigaction.
    assert_eq!(unsafe { libc::sigaction(libc::SIGPROF, null(), &mut now) }, 0);
    now.sa_sigaction
}

/// Blocks or unblocks SIGPROF on this thread.
fn mask(how: c_int) {
    // SAFETY: zeros are a valid set.
    let mut set: libc::sigset_t = unsafe { zeroed() };
    // SAFETY: it writes to the set.
    unsafe { libc::sigaddset(&mut set, libc::SIGPROF) };
    // SAFETY: it reads the set.
    assert_eq!(unsafe { libc::pthread_sigmask(how, &set, null_mut()) }, 0);
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}: {}", status());
        std::thread::yield_now();
    }
}

#[test]
fn a12_errno_is_what_the_failed_call_left() {
    in_child(|| {
        let ((), sampled) = sample_unnamed(HZ, || {
            let end = thread_time() + Duration::from_secs(1);
            while thread_time() < end {
                for _ in 0..1000 {
                    // SAFETY: there is no such descriptor.
                    assert_eq!(unsafe { libc::close(-1) }, -1);
                    assert_eq!(Error::last_os_error().raw_os_error(), Some(libc::EBADF));
                }
            }
        });
        assert!(sampled.trace.samples.len() > 100, "{}", sampled.trace.samples.len());
    });
}

extern "C" fn spoils_errno(_: c_int) {
    // SAFETY: errno is this thread's own.
    unsafe { *libc::__errno_location() = libc::EXDEV };
}

#[test]
fn a12_errno_is_kept_also_where_the_programs_own_handler_does_not() {
    in_child(|| {
        take_signal(spoils_errno);
        sample_unnamed(HZ, || {
            // SAFETY: there is no such descriptor.
            assert_eq!(unsafe { libc::close(-1) }, -1);
            // SAFETY: it sends a signal, which has a handler.
            unsafe { libc::raise(libc::SIGPROF) };
            assert_eq!(Error::last_os_error().raw_os_error(), Some(libc::EBADF));
        });
    });
}

#[test]
fn a13_signals_of_others_go_to_their_handler_and_are_no_samples() {
    in_child(|| {
        take_signal(the_programs_own);
        let ((), sampled) = sample_unnamed(HZ, || {
            for _ in 0..500 {
                // SAFETY: it sends a signal, which has a handler.
                unsafe { libc::raise(libc::SIGPROF) };
            }
            // SAFETY: as above.
            unsafe { libc::kill(libc::getpid(), libc::SIGPROF) };
            until("all have come", || FOREIGN.load(Ordering::Relaxed) == 501);
            burn(Duration::from_millis(400));
        });
        assert_eq!(FOREIGN.load(Ordering::Relaxed), 501, "none of ours went there");
        let total = sampled.total();
        assert!(total > Duration::from_millis(300) && total < Duration::from_millis(900), "{total:?}");
        // The program's own profiler, of the process's timer.
        let every = libc::timeval { tv_sec: 0, tv_usec: 4000 };
        let times = libc::itimerval { it_interval: every, it_value: every };
        // SAFETY: it reads one itimerval.
        unsafe { libc::setitimer(libc::ITIMER_PROF, &times, null_mut()) };
        let ((), sampled) = sample_unnamed(HZ, || burn(Duration::from_millis(400)));
        assert!(FOREIGN.load(Ordering::Relaxed) > 501 + 20, "{FOREIGN:?}");
        assert!(sampled.total() < Duration::from_millis(900), "{:?}", sampled.total());
    });
}

#[test]
fn a13_timers_of_the_programs_own_are_its_own() {
    in_child(|| {
        take_signal(the_programs_own);
        // SAFETY: zeros are a valid sigevent.
        let mut event: libc::sigevent = unsafe { zeroed() };
        (event.sigev_notify, event.sigev_signo) = (libc::SIGEV_SIGNAL, libc::SIGPROF);
        let mut timer = null_mut();
        let every = libc::timespec { tv_sec: 0, tv_nsec: 4_000_000 };
        let times = libc::itimerspec { it_interval: every, it_value: every };
        // SAFETY: it reads one event and writes one timer.
        assert_eq!(unsafe { libc::timer_create(libc::CLOCK_PROCESS_CPUTIME_ID, &mut event, &mut timer) }, 0);
        let ((), sampled) = sample_unnamed(100, || {
            // SAFETY: it reads one itimerspec.
            assert_eq!(unsafe { libc::timer_settime(timer, 0, &times, null_mut()) }, 0);
            burn(Duration::from_millis(400));
        });
        assert!(FOREIGN.load(Ordering::Relaxed) > 20, "{FOREIGN:?}");
        let total = sampled.total();
        assert!(total > Duration::from_millis(300) && total < Duration::from_millis(600), "{total:?}");
    });
}

/// A wait of a millisecond, which says whether a signal has interrupted it.
type Wait = Box<dyn Fn() -> bool>;

fn waits() -> Vec<(&'static str, Wait)> {
    let failed = |result: i64| result == -1 && Error::last_os_error().raw_os_error() == Some(libc::EINTR);
    let millisecond = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
    // SAFETY: it makes a descriptor.
    let epoll = unsafe { libc::epoll_create1(0) };
    let mut pair = [0; 2];
    // SAFETY: it writes two descriptors.
    assert_eq!(unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, pair.as_mut_ptr()) }, 0);
    let timeout = libc::timeval { tv_sec: 0, tv_usec: 1000 };
    let (from, len) = (std::ptr::from_ref(&timeout).cast::<c_void>(), size_of_val(&timeout) as u32);
    // SAFETY: it reads one timeval.
    unsafe { libc::setsockopt(pair[0], libc::SOL_SOCKET, libc::SO_RCVTIMEO, from, len) };
    vec![
        (
            "poll",
            Box::new(move || {
                // SAFETY: no descriptors.
                failed(unsafe { libc::poll(null_mut(), 0, 1) }.into())
            }),
        ),
        (
            "epoll_wait",
            Box::new(move || {
                let mut event = libc::epoll_event { events: 0, u64: 0 };
                // SAFETY: room for one event.
                failed(unsafe { libc::epoll_wait(epoll, &mut event, 1, 1) }.into())
            }),
        ),
        (
            "clock_nanosleep",
            Box::new(move || {
                // SAFETY: it reads one timespec.
                let error =
                    unsafe { libc::clock_nanosleep(libc::CLOCK_MONOTONIC, 0, &millisecond, null_mut()) };
                error == libc::EINTR
            }),
        ),
        (
            "futex",
            Box::new(move || {
                let word = 0u32;
                let wait = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
                // SAFETY: it reads the word and the timespec.
                failed(unsafe { libc::syscall(libc::SYS_futex, &word, wait, 0, &millisecond) })
            }),
        ),
        (
            "recv",
            Box::new(move || {
                let mut byte = 0u8;
                // SAFETY: room for one byte.
                failed(unsafe { libc::recv(pair[0], (&raw mut byte).cast(), 1, 0) } as i64)
            }),
        ),
    ]
}

/// Waits in turn with work before each, so much of it; which were interrupted.
fn interrupted(work: Duration) -> Vec<&'static str> {
    let waits = waits();
    let end = thread_time() + work;
    let mut interrupted = Vec::new();
    while thread_time() < end {
        for (name, wait) in &waits {
            burn(Duration::from_micros(500));
            if wait() {
                interrupted.push(*name);
            }
        }
    }
    interrupted
}

#[test]
fn a14_no_call_is_interrupted() {
    in_child(|| {
        let (interrupted, sampled) = sample_unnamed(HZ, || interrupted(Duration::from_millis(600)));
        // A thread that sleeps so often meets few of the kernel's ticks, each of which stands for many periods.
        assert!(!sampled.trace.samples.is_empty());
        assert_eq!(interrupted, Vec::<&str>::new());
    });
}

#[test]
fn a14_signals_that_do_not_wait_for_cpu_time_would_be_seen_to_interrupt() {
    in_child(|| {
        take_signal(the_programs_own);
        // SAFETY: pthread_self(3) has no preconditions.
        let (waiter, done) = (unsafe { libc::pthread_self() }, AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    // SAFETY: the thread lives until this one has ended.
                    unsafe { libc::pthread_kill(waiter, libc::SIGPROF) };
                    std::thread::sleep(Duration::from_micros(300));
                }
            });
            assert!(interrupted(Duration::from_millis(200)).len() > 10);
            done.store(true, Ordering::Relaxed);
        });
    });
}

#[test]
fn a15_a_program_that_takes_the_signal_keeps_it_until_the_next_capture() {
    in_child(|| {
        let sampling = Sampling::start(HZ);
        burn(Duration::from_millis(50));
        let ours = take_signal(the_programs_own).sa_sigaction;
        until("the theft is seen", || status().starts_with("stolen"));
        let before = FOREIGN.load(Ordering::Relaxed);
        burn(Duration::from_millis(50));
        assert_eq!(FOREIGN.load(Ordering::Relaxed), before, "kymo's timers have stopped");
        assert!(!sampling.stop().trace.samples.is_empty());
        let ((), sampled) = sample(HZ, || {
            burn(Duration::from_millis(100));
            // SAFETY: it sends a signal, which has a handler.
            unsafe { libc::raise(libc::SIGPROF) };
        });
        assert_eq!(handler(), ours, "taken back");
        assert!(status().starts_with("on"), "{}", status());
        assert!(!sampled.trace.samples.is_empty());
        assert_eq!(FOREIGN.load(Ordering::Relaxed), before + 1, "and passed on");
    });
}

#[test]
fn a15_two_handlers_that_pass_the_signal_to_each_other_do_not_do_so_for_ever() {
    static OURS: AtomicU64 = AtomicU64::new(0);
    extern "C" fn passes_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
        FOREIGN.fetch_add(1, Ordering::Relaxed);
        type Function = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
        // SAFETY: the test has put kymo's handler there, which is of this type.
        let function =
            unsafe { std::mem::transmute::<usize, Function>(OURS.load(Ordering::Relaxed) as usize) };
        function(signal, info, context);
    }
    in_child(|| {
        sample(HZ, || ());
        OURS.store(handler() as u64, Ordering::Relaxed);
        // SAFETY: zeros are a valid sigaction.
        let mut action: libc::sigaction = unsafe { zeroed() };
        action.sa_sigaction = passes_on as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        // SAFETY: the handler is of the type that SA_SIGINFO asks for.
        assert_eq!(unsafe { libc::sigaction(libc::SIGPROF, &action, null_mut()) }, 0);
        // kymo's comes before it, and each has the other as its predecessor.
        sample(HZ, || {
            // SAFETY: it sends a signal, which has a handler.
            unsafe { libc::raise(libc::SIGPROF) };
        });
        assert_eq!(FOREIGN.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a16_a_signal_that_comes_after_the_stop_is_ignored() {
    in_child(|| {
        let sampling = Sampling::start(HZ);
        mask(libc::SIG_BLOCK);
        burn(Duration::from_millis(100));
        sampling.stop();
        let before = handler();
        mask(libc::SIG_UNBLOCK);
        burn(Duration::from_millis(20));
        assert_eq!(handler(), before);
        assert!(!matches!(before, libc::SIG_DFL | libc::SIG_IGN));
        // Whoever raises one finds no handler of the program's, and nothing happens.
        // SAFETY: it sends a signal, which has a handler.
        unsafe { libc::raise(libc::SIGPROF) };
        let timers = std::fs::read_to_string("/proc/self/timers").unwrap_or_default();
        assert_eq!(timers, "", "no timer is left");
    });
}

#[test]
fn a16_a_program_that_is_started_meanwhile_finds_the_signal_as_it_should_be() {
    in_child(|| {
        let (child, _) = sample_unnamed(HZ, || {
            std::process::Command::new("cat").arg("/proc/self/status").output().unwrap()
        });
        let status = String::from_utf8(child.stdout).unwrap();
        for set in ["SigBlk", "SigIgn", "SigCgt"] {
            let line = status.lines().find(|line| line.starts_with(set)).unwrap();
            let bits = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
            assert_eq!(bits >> (libc::SIGPROF - 1) & 1, 0, "{set}");
        }
    });
}

#[test]
fn a18_a_thread_that_blocks_the_signal_is_named() {
    in_child(|| {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let body = || {
                mask(libc::SIG_BLOCK);
                while !stop.load(Ordering::Relaxed) {
                    burn(Duration::from_millis(1));
                }
            };
            let thread = std::thread::Builder::new().name("masked".into());
            thread.spawn_scoped(scope, body).unwrap();
            let sampling = Sampling::start(HZ);
            until("it is seen", || status().contains("block SIGPROF: masked ("));
            let sampled = sampling.stop();
            stop.store(true, Ordering::Relaxed);
            assert_eq!(sampled.in_function("burn"), Duration::ZERO);
        });
    });
}

#[test]
fn a18_time_for_which_the_signal_was_blocked_is_not_put_where_it_was_unblocked() {
    in_child(|| {
        let ((), sampled) = sample_unnamed(HZ, || {
            mask(libc::SIG_BLOCK);
            burn(Duration::from_millis(500));
            mask(libc::SIG_UNBLOCK);
        });
        let late = sampled.trace.samples.iter().filter(|sample| sample.stack.0 == 0);
        let late = Duration::from_nanos(late.map(|sample| sample.weight_ns).sum());
        assert!(late > Duration::from_millis(300), "{late:?}");
        assert!(sampled.total() > Duration::from_millis(450), "all of it is counted: {:?}", sampled.total());
    });
}
