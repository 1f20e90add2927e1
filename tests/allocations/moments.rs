//! Allocations before main and after it, while a thread ends, in a forked child.

use std::cell::RefCell;
use std::hint::black_box;

use crate::watched::{in_child, within_patience};

const BEFORE_MAIN: usize = 123_456;

/// Runs before kymo has prepared anything.
extern "C" fn before_main() {
    kymo::set_mem_profile_rate(1);
    std::mem::forget(black_box(vec![1_u8; BEFORE_MAIN]));
    drop(black_box(vec![1_u8; BEFORE_MAIN]));
    kymo::set_mem_profile_rate(512 * 1024);
}

#[used]
#[unsafe(link_section = ".init_array.00200")]
static BEFORE_ALL: extern "C" fn() = before_main;

#[test]
fn c6_what_was_allocated_before_main_is_in_the_profile() {
    in_child(|| {
        let (_, trace) = crate::recorded::record_unnamed(|| ());
        let early = trace.memory.stacks.iter().find(|total| total.stack.0 == 0).expect("it has no stack");
        assert!(early.live_bytes >= BEFORE_MAIN as u64, "{early:?}");
        assert!(early.allocated_bytes >= 2 * BEFORE_MAIN as u64, "{early:?}");
    });
}

/// Allocates when its thread ends, as late as that may be.
struct Late(Vec<u8>);

impl Drop for Late {
    fn drop(&mut self) {
        self.0 = black_box(vec![2; 10_000]);
        black_box(self.0.clone());
    }
}

thread_local! {
    static LATE: RefCell<Option<Late>> = const { RefCell::new(None) };
}

/// A pthread key's destructor that asks to be called again until nobody does any more.
unsafe extern "C" fn key_ends(value: *mut libc::c_void) {
    drop(black_box(vec![3_u8; 1000]));
    let key = KEY.load(std::sync::atomic::Ordering::SeqCst);
    // SAFETY: the key was made by the test and lives as long as the process.
    unsafe { libc::pthread_setspecific(key, value) };
}

static KEY: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

#[test]
fn b3_allocations_of_a_thread_that_ends_are_counted_and_let_go() {
    in_child(|| {
        let mut key = 0;
        // SAFETY: the destructor has the right signature.
        assert_eq!(unsafe { libc::pthread_key_create(&mut key, Some(key_ends)) }, 0);
        KEY.store(key, std::sync::atomic::Ordering::SeqCst);
        kymo::set_mem_profile_rate(1);
        let ends = || {
            std::thread::spawn(move || {
                LATE.set(Some(Late(Vec::new())));
                // SAFETY: the key lives as long as the process.
                unsafe { libc::pthread_setspecific(key, std::ptr::dangling_mut()) };
            })
            .join()
            .unwrap();
        };
        let ((), trace) = crate::recorded::record_unnamed(|| {
            ends();
            let before = kymo::heap_counts();
            (0..100).for_each(|_| ends());
            let after = kymo::heap_counts();
            // The recorder has a thread, too; a hundred threads' last allocations would be a megabyte.
            assert!(after.live_bytes().abs_diff(before.live_bytes()) < 100_000, "{before:?} {after:?}");
            let late = after.allocated_bytes - before.allocated_bytes;
            assert!(late >= 100 * (2 * 10_000 + 4 * 1000), "{late}");
        });
        let samples = |size| trace.memory.allocations.iter().filter(|sample| sample.size == size).count();
        // glibc calls a key's destructor four times; by the last time the thread has left the recorder.
        assert_eq!(samples(10_000), 101 * 2);
        assert!((101 * 3..=101 * 4).contains(&samples(1000)), "{}", samples(1000));
    });
}

extern "C" fn after_main() {
    let all = black_box(vec![4_u8; 100_000]);
    println!("after main: {} {}", all.len(), kymo::heap_counts().live_bytes() > 100_000);
}

#[test]
fn c6_a_program_may_allocate_after_main() {
    const MARK: &str = "KYMO_TEST_AFTER_MAIN";
    if std::env::var_os(MARK).is_some() {
        kymo::set_mem_profile_rate(1);
        let _server = kymo::serve("127.0.0.1:0").unwrap();
        // SAFETY: the function is the program's own, which stays loaded.
        assert_eq!(unsafe { libc::atexit(after_main) }, 0);
        return;
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["moments::c6_a_program_may_allocate_after_main", "--exact", "--nocapture"]).env(MARK, "1");
    let said = within_patience(command);
    assert!(said.contains("after main: 100000 true"), "{said}");
}

#[test]
fn d_a_forked_child_allocates_and_frees_what_was_sampled() {
    in_child(|| {
        kymo::set_mem_profile_rate(1);
        let kept: Vec<Vec<u8>> = (0..100).map(|size| vec![0; 100 + size]).collect();
        // SAFETY: the child calls the allocator, which a child of a program with one busy thread may.
        let child = unsafe { libc::fork() };
        if child == 0 {
            drop(kept);
            drop(black_box(vec![0_u8; 10_000]));
            kymo::set_mem_profile_rate(1);
            let off = kymo::mem_profile_rate() == 0;
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(if off { 7 } else { 8 }) };
        }
        let mut status = 0;
        // SAFETY: waits for the child.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(libc::WEXITSTATUS(status), 7, "{status}");
        assert_eq!(kymo::mem_profile_rate(), 1);
    });
}
