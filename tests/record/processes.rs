//! A forked child records nothing, and its parent's trace doesn't know of it.

use kymo::events::Group;
use kymo::record::session::{Capture, CaptureError, CaptureOptions};
use kymo::record::sink::MemorySink;

use super::captured::{USER, all_counters, alone, count, start};

/// Says what is wrong in the child, as its exit code.
fn in_the_child(capture: Capture) -> i32 {
    if kymo::record::enabled(Group::User) {
        return 1;
    }
    count(2);
    let options =
        CaptureOptions { groups: USER, cpu_hz: 0, sink: Box::new(MemorySink::new(1 << 20)), resolver: None };
    if !matches!(Capture::start(options), Err(CaptureError::Forked)) {
        return 2;
    }
    if kymo::record::usage() != kymo::record::Usage::default() {
        return 3;
    }
    capture.stop();
    0
}

#[test]
fn recording_switches_itself_off_in_a_forked_child() {
    let _alone = alone();
    let (capture, sink) = start(USER);
    count(1);
    // SAFETY: the child only does what works in a fork of a program with threads, and leaves by _exit.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let code = in_the_child(capture);
        // SAFETY: ends the child without running what belongs to the parent.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: waits for the child that was just made.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0, "the child's exit code, shifted");
    count(3);
    assert_eq!(capture.stop().lost, 0);
    assert_eq!(all_counters(&sink.take()), [1, 3]);
}
