//! Much at once: panics, backtraces, libraries, threads, captures; and systems that give little.

use std::ffi::CString;
use std::os::unix::process::ExitStatusExt;
use std::panic::{catch_unwind, resume_unwind};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kymo::events::{Counter, Group, StrId, Value};
use kymo::record::session::{Capture, CaptureOptions};
use kymo::record::sink::MemorySink;

use crate::sampled::{SAMPLES, Sampled, Sampling, burn, sample, status, thread_time};
use crate::ticks::filter_calls;
use crate::watched::{in_child, within_patience};

const HZ: u32 = 999;

/// Four threads do the same until each has used half a second; the CPU time that they used. Work that mostly waits
/// ends after five seconds.
fn storm(work: impl Fn() + Sync) -> (Duration, Sampled) {
    let latest = Instant::now() + Duration::from_secs(5);
    sample(HZ, || {
        thread::scope(|scope| {
            let body = || {
                let end = thread_time() + Duration::from_millis(500);
                while thread_time() < end && Instant::now() < latest {
                    work();
                }
                thread_time()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(body)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        })
    })
}

/// At least 90 % of the ticks that were due are kept or counted.
fn assert_nothing_is_hidden(used: Duration, sampled: &Sampled) {
    println!("{:?} of {used:?} sampled, {} events lost", sampled.total(), sampled.progress.lost);
    // Each thread's first and last period may not have come to their ends.
    let due = used.saturating_sub(Duration::from_millis(4 * 8)).mul_f64(0.9);
    let counted = sampled.total() + sampled.progress.lost as u32 * Duration::from_millis(4);
    assert!(counted >= due, "{counted:?} of {used:?}");
    assert!(sampled.progress.lost < 20, "{} events lost", sampled.progress.lost);
}

fn panic_deep(depth: u32) {
    match depth {
        0 => resume_unwind(Box::new(())),
        _ => panic_deep(std::hint::black_box(depth) - 1),
    }
}

#[test]
fn a1_panics_that_unwind_are_sampled() {
    in_child(|| {
        let (used, sampled) = storm(|| assert!(catch_unwind(|| panic_deep(30)).is_err()));
        assert_nothing_is_hidden(used, &sampled);
        assert!(sampled.in_function("panic_deep") > used / 2, "{:?}", sampled.in_function("panic_deep"));
    });
}

#[test]
fn a2_backtraces_are_sampled() {
    in_child(|| {
        let (used, sampled) = storm(|| drop(std::backtrace::Backtrace::force_capture()));
        assert_nothing_is_hidden(used, &sampled);
    });
}

#[test]
fn a3_libraries_may_come_and_go() {
    in_child(|| {
        let names = ["libresolv.so.2", "libutil.so.1", "libanl.so.1", "libnss_dns.so.2", "libthread_db.so.1"];
        let names = names.map(|name| CString::new(name).unwrap());
        let (used, sampled) = storm(|| {
            for name in &names {
                // SAFETY: libraries of the C library, which may be loaded and unloaded.
                let library = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) };
                if !library.is_null() {
                    // SAFETY: it was opened.
                    unsafe { libc::dlclose(library) };
                }
            }
        });
        assert_nothing_is_hidden(used, &sampled);
    });
}

/// A forked child that ends at once, as it should.
fn fork_once() {
    // SAFETY: the child only ends itself.
    let child = unsafe { libc::fork() };
    if child == 0 {
        burn(Duration::from_millis(2));
        // SAFETY: as above.
        unsafe { libc::_exit(7) };
    }
    let mut status = 0;
    // SAFETY: it writes one status.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(libc::WEXITSTATUS(status), 7);
}

#[test]
fn a4_all_of_it_at_once_leaves_memory_as_it_was() {
    in_child(|| {
        let turn = AtomicU64::new(0);
        let work = || match turn.fetch_add(1, Ordering::Relaxed) % 64 {
            0 => fork_once(),
            1..8 => drop(std::backtrace::Backtrace::force_capture()),
            8..16 => thread::spawn(|| burn(Duration::from_micros(50))).join().unwrap(),
            16..32 => drop(std::hint::black_box(vec![1u8; 100_000])),
            // SAFETY: a library of the C library, which may be loaded and unloaded.
            32 => unsafe {
                let library = libc::dlopen(c"libresolv.so.2".as_ptr(), libc::RTLD_NOW);
                if !library.is_null() {
                    libc::dlclose(library);
                }
            },
            _ => assert!(catch_unwind(|| panic_deep(30)).is_err()),
        };
        let _sampling = Sampling::start(HZ);
        let rounds = |rounds| {
            thread::scope(|scope| {
                (0..4).for_each(|_| drop(scope.spawn(|| (0..rounds).for_each(|_| work()))));
            });
        };
        rounds(500);
        let before = resident();
        rounds(1500);
        let grown = resident().saturating_sub(before);
        println!("{grown} bytes more");
        assert!(grown < 24 << 20, "{grown} bytes more");
    });
}

#[test]
fn a17_captures_may_start_and_stop_at_any_rate() {
    in_child(|| {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        burn(Duration::from_millis(1));
                    }
                });
            }
            let starters: Vec<_> = (0..8)
                .map(|index| {
                    scope.spawn(move || {
                        for round in 0..50 {
                            let sink = Box::new(MemorySink::new(1 << 20));
                            let cpu_hz = 100 + (index * 50 + round) % 900;
                            let options = CaptureOptions { groups: SAMPLES, cpu_hz, sink, resolver: None };
                            Capture::start(options).unwrap().stop();
                        }
                    })
                })
                .collect();
            starters.into_iter().for_each(|starter| starter.join().unwrap());
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(timers(), 0);
    });
}

/// Timers that this process has.
fn timers() -> usize {
    std::fs::read_to_string("/proc/self/timers").unwrap().matches("ID:").count()
}

fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn b1_threads_that_come_and_go_leave_nothing_behind() {
    in_child(|| {
        let sampling = Sampling::start(HZ);
        let churn = |threads| (0..threads).for_each(|_| thread::spawn(|| ()).join().unwrap());
        churn(500);
        let before = resident();
        let mut most = 0;
        for _ in 0..20 {
            churn(200);
            most = most.max(timers());
        }
        let grown = resident().saturating_sub(before);
        println!("{most} timers at most, {grown} bytes more");
        assert!(most < 100, "{most} timers");
        assert!(grown < 8 << 20, "{grown} bytes more");
        sampling.stop();
        assert_eq!(timers(), 0);
    });
}

#[test]
fn b5_without_timers_to_spare_all_threads_share_one() {
    in_child(|| {
        let few = libc::rlimit { rlim_cur: 20, rlim_max: 20 };
        // SAFETY: it reads one rlimit.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_SIGPENDING, &few) }, 0);
        let sampling = Sampling::start(250);
        let used: Duration = thread::scope(|scope| {
            let body = || {
                burn(Duration::from_millis(10));
                thread::park_timeout(Duration::from_millis(500));
                burn(Duration::from_millis(10));
                thread_time()
            };
            let threads: Vec<_> = (0..100).map(|_| scope.spawn(body)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!(status().starts_with("degraded: one timer for all threads"), "{}", status());
        assert!(status().contains("ulimit -i"), "{}", status());
        let sampled = sampling.stop();
        let share = sampled.total().as_secs_f64() / used.as_secs_f64();
        // Until the first thread is refused each has its own timer, whose begun period is lost. Without the process's clock
        // to say what a signal stands for it would be half.
        assert!((0.65..1.3).contains(&share), "{share} of {used:?}");
    });
}

/// Refuses system calls with an error.
fn refuse(numbers: &[libc::c_long], error: i32) {
    let step = |code: u32, k: u32, jt, jf| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
    for &number in numbers {
        filter.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number as u32, 0, 1));
        filter.push(step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | error as u32, 0, 0));
    }
    filter.push(step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0));
    filter_calls(&mut filter);
}

#[test]
fn a21_where_timers_are_refused_the_next_rung_is_taken_and_says_why() {
    in_child(|| {
        refuse(&[libc::SYS_timer_create], libc::EPERM);
        let ((), sampled) = sample(100, || burn(Duration::from_millis(500)));
        assert!(status().starts_with("degraded"), "{}", status());
        assert!(status().contains("timer_create: Operation not permitted"), "{}", status());
        assert!(sampled.in_function("burn") > Duration::from_millis(300), "{:?}", sampled.total());
        let ((), sampled) = sample(100, || burn(Duration::from_millis(100)));
        assert!(!sampled.trace.samples.is_empty(), "also the second time");
        refuse(&[libc::SYS_setitimer], libc::ENOSYS);
        let ((), sampled) = sample(100, || burn(Duration::from_millis(200)));
        assert!(status().starts_with("off"), "{}", status());
        assert!(status().contains("ITIMER_PROF: Function not implemented"), "{}", status());
        assert!(sampled.trace.samples.is_empty());
    });
}

#[test]
fn a22_the_timer_of_another_profiler_is_left_to_it() {
    in_child(|| {
        let every = libc::timeval { tv_sec: 0, tv_usec: 5000 };
        let times = libc::itimerval { it_interval: every, it_value: every };
        extern "C" fn handled(_: libc::c_int) {
            SEEN.fetch_add(1, Ordering::Relaxed);
        }
        static SEEN: AtomicU64 = AtomicU64::new(0);
        // SAFETY: the handler only adds to a static.
        unsafe { libc::signal(libc::SIGPROF, handled as *const () as usize) };
        // SAFETY: it reads one itimerval.
        unsafe { libc::setitimer(libc::ITIMER_PROF, &times, std::ptr::null_mut()) };
        refuse(&[libc::SYS_timer_create], libc::EPERM);
        let ((), sampled) = sample(100, || burn(Duration::from_millis(200)));
        assert!(status().starts_with("off") && status().contains("ITIMER_PROF"), "{}", status());
        assert!(sampled.trace.samples.is_empty());
        assert!(SEEN.load(Ordering::Relaxed) > 10, "{SEEN:?}");
    });
}

/// Set for a child that is to end by a signal.
const CRASH: &str = "KYMO_TEST_CRASH";

extern "C" fn exits(_: libc::c_int) {
    // SAFETY: it ends the process.
    unsafe { libc::_exit(42) };
}

#[test]
fn a19_a_program_that_crashes_does_so_as_without_us() {
    match std::env::var(CRASH).as_deref() {
        Ok(how) => crash(how),
        Err(_) => {
            let exit = |how| {
                let mut command = Command::new(std::env::current_exe().unwrap());
                command.args(["storms::a19_a_program_that_crashes_does_so_as_without_us", "--exact"]);
                command.env(CRASH, how).output().unwrap().status
            };
            assert_eq!(exit("default").signal(), Some(libc::SIGSEGV));
            assert_eq!(exit("own handler").code(), Some(42));
            assert_eq!(exit("abort").signal(), Some(libc::SIGABRT));
        }
    }
}

fn crash(how: &str) {
    let _sampling = Sampling::start(HZ);
    thread::spawn(|| burn(Duration::from_secs(10)));
    burn(Duration::from_millis(50));
    if how == "abort" {
        std::process::abort();
    }
    if how == "own handler" {
        // SAFETY: the handler only ends the process.
        unsafe { libc::signal(libc::SIGSEGV, exits as *const () as usize) };
    }
    // SAFETY: none: this is the crash.
    unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(0) };
}

#[test]
fn a20_a_process_that_is_stopped_and_goes_on_is_sampled_as_before() {
    in_child(|| {
        let pid = std::process::id().to_string();
        let script =
            "for i in 1 2 3 4 5 6 7 8 9 10; do kill -STOP $1; sleep 0.01; kill -CONT $1; sleep 0.02; done";
        let mut stops = Command::new("sh");
        stops.args(["-c", script, "sh", &pid]);
        let ((), sampled) = sample(100, || {
            let stopper = thread::spawn(|| within_patience(stops));
            burn(Duration::from_millis(700));
            stopper.join().unwrap();
        });
        let burnt = sampled.in_function("burn").as_secs_f64();
        assert!((0.6..0.85).contains(&burnt), "{burnt} s");
    });
}

#[test]
fn b13_a_sample_that_interrupts_a_write_leaves_it_whole() {
    in_child(|| {
        let sink = MemorySink::new(512 << 20);
        let options = CaptureOptions {
            groups: SAMPLES.with(Group::User),
            cpu_hz: HZ,
            sink: Box::new(sink.clone()),
            resolver: None,
        };
        let capture = Capture::start(options).unwrap();
        let end = thread_time() + Duration::from_secs(1);
        let mut emitted = 0;
        while thread_time() < end {
            for _ in 0..100 {
                kymo::record::emit(Counter { name: StrId(0), value: Value(emitted) });
                emitted += 1;
            }
        }
        let progress = capture.stop();
        let (trace, problems) = kymo::model::load::load(&sink.take()).unwrap();
        assert_eq!(problems, []);
        let values: Vec<i64> = trace.counters[0].values.iter().map(|(_, value)| *value).collect();
        assert!(values.is_sorted_by(|a, b| a < b), "no event is torn");
        let sampled: u64 = trace.samples.iter().map(|sample| sample.weight_ns).sum();
        println!("{emitted} events, {} samples, {} lost", trace.samples.len(), progress.lost);
        assert!(values.len() as u64 + progress.lost >= emitted as u64);
        assert!(sampled > 800_000_000 || progress.lost > 0, "{sampled}");
    });
}
