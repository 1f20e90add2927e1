//! What samples say agrees with what the kernel counts.

use std::thread;
use std::time::Duration;

use crate::sampled::{burn, churn, sample, sample_unnamed, status, thread_time};
use crate::watched::in_child;

/// CPU time of this process as getrusage(2) has it, without kymo's own threads, which are not sampled.
fn used() -> Duration {
    // SAFETY: zeros are a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: it writes one rusage.
    assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) }, 0);
    let time = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime) - kymos_own()
}

fn kymos_own() -> Duration {
    let of_thread = |thread: std::path::PathBuf| {
        let name = std::fs::read_to_string(thread.join("comm")).ok()?;
        let times = std::fs::read_to_string(thread.join("schedstat")).ok()?;
        let time = times.split(' ').next()?.parse().ok()?;
        name.starts_with("kymo-").then(|| Duration::from_nanos(time))
    };
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    threads.filter_map(|thread| of_thread(thread.unwrap().path())).sum()
}

/// How far one time is from another, in percent.
fn off_by(sampled: Duration, real: Duration) -> f64 {
    (sampled.as_secs_f64() / real.as_secs_f64() - 1.0) * 100.0
}

#[test]
fn k1_samples_add_up_to_what_getrusage_says() {
    in_child(|| {
        for hz in [100, 250, 1000] {
            for threads in [1, 4] {
                let (used, sampled) = sample_unnamed(hz, || {
                    let begin = used();
                    thread::scope(|scope| {
                        let each = Duration::from_millis(1600) / threads;
                        (0..threads).for_each(|_| drop(scope.spawn(move || burn(each))));
                    });
                    used() - begin
                });
                let off = off_by(sampled.total(), used);
                println!("{hz} Hz, {threads} threads: {:?} of {used:?}, {off:+.1} %", sampled.total());
                assert!(off.abs() < 5.0, "{hz} Hz, {threads} threads: {off:+.1} %");
                // One that comes while its thread trades a chunk is lost, and counted.
                assert!(sampled.progress.lost <= 2, "{}", sampled.progress.lost);
            }
        }
    });
}

#[inline(never)]
fn three_parts() {
    (0..300).for_each(|_| churn());
}

#[inline(never)]
fn one_part() {
    (0..100).for_each(|_| churn());
}

#[test]
fn k2_a_function_that_runs_three_times_as_long_has_three_times_the_samples() {
    in_child(|| {
        let ((), sampled) = sample(250, || {
            let end = thread_time() + Duration::from_secs(4);
            while thread_time() < end {
                three_parts();
                one_part();
            }
        });
        let (three, one) = (sampled.in_function("three_parts"), sampled.in_function("one_part"));
        let share = three.as_secs_f64() / (three + one).as_secs_f64();
        println!("{three:?} and {one:?}: {share}");
        // A thousand samples: the share's deviation is 0.014.
        assert!((share - 0.75).abs() < 0.045, "{share}");
    });
}

#[test]
fn k3_threads_that_live_for_less_than_a_period_are_seen() {
    in_child(|| {
        for (hz, threads) in [(250, 1000), (100, 1000)] {
            let (used, sampled) = sample(hz, || {
                let short = || {
                    burn(Duration::from_millis(2));
                    thread_time()
                };
                let threads = (0..threads / 2).map(|_| [thread::spawn(short), thread::spawn(short)]);
                threads.flatten().map(|thread| thread.join().unwrap()).sum::<Duration>()
            });
            let off = off_by(sampled.in_function("burn"), used);
            println!("{hz} Hz: {:?} of {used:?}, {off:+.1} %", sampled.in_function("burn"));
            // Timers that first expire after a period would see nothing, after any part of it a quarter. That not all is
            // seen where CPUs are short is the scheduler's doing: it begins a thread's turn at a tick, so that one of
            // half a tick is gone at the next.
            assert!((-60.0..30.0).contains(&off), "{hz} Hz: {off:+.1} %");
        }
    });
}

#[test]
fn k4_a_rate_that_the_kernel_can_not_keep_is_not_claimed() {
    in_child(|| {
        let ((), sampled) = sample(1000, || burn(Duration::from_millis(500)));
        let profile = kymo::profile::cpu(&sampled.trace);
        let tick = {
            let mut tick = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: it writes one timespec.
            unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &mut tick) };
            tick.tv_nsec
        };
        assert_eq!(profile.period, tick.max(1_000_000), "what is between two samples");
        let taken = 1_000_000_000 / tick;
        assert!(status().contains("1000 samples asked"), "{}", status());
        assert_eq!(status().contains(&format!("{taken} taken")), taken < 1000, "{}", status());
    });
}
