//! A program behaves under kymo as it does without: the table of calls, made with and without `libkymo.so`.
//!
//! Nothing here names kymo, so this program is not linked with it: it starts itself, once plainly and once preloaded
//! and recorded, and compares what the two say. That the calls were seen is `tests/hooks.rs`'s part.

#![cfg(feature = "hooks")]
#![allow(unsafe_code, reason = "calls libc by hand, as C programs do")]
#![allow(clippy::multiple_unsafe_ops_per_block, reason = "a call and what it is given belong together")]

mod calls;
#[path = "calls/waiters.rs"]
mod waiters;
mod watched;

use std::ffi::{CStr, CString};
use std::fmt::Write;
use std::process::Command;

use calls::{Fixture, ROOM, TABLE, errno};

const CHILD: &str = "KYMO_TEST_EQUIVALENCE";

/// What a test says about itself, without kymo and with it; in the child it says it and ends.
fn both(test: &str, say: impl FnOnce() -> String) -> Option<[String; 2]> {
    if let Some(place) = std::env::var_os(CHILD) {
        std::fs::write(place, say()).unwrap();
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    let said = folder.path().join("said");
    let run = |environment: &[(&str, &std::path::Path)]| {
        let mut command = Command::new(&program);
        command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
        command.env(CHILD, &said).envs(environment.iter().copied());
        watched::within_patience(command);
        std::fs::read_to_string(&said).unwrap()
    };
    let plain = run(&[]);
    let trace = folder.path().join("trace");
    let recorded = run(&[("LD_PRELOAD", &program.with_file_name("libkymo.so")), ("KYMO_TRACE", &trace)]);
    assert!(std::fs::metadata(trace).unwrap().len() > 1_000, "it was recorded");
    Some([plain, recorded])
}

/// The file that a C function comes from.
fn home(function: &CStr) -> String {
    // SAFETY: asks for a symbol, and where it is; both are names that end in zero.
    unsafe {
        let mut place = std::mem::zeroed();
        assert_ne!(libc::dladdr(libc::dlsym(libc::RTLD_DEFAULT, function.as_ptr()), &mut place), 0);
        CStr::from_ptr(place.dli_fname).to_str().unwrap().to_owned()
    }
}

#[test]
fn the_two_programs_differ_in_nothing_but_kymo() {
    let said = both("the_two_programs_differ_in_nothing_but_kymo", || home(c"read"));
    let Some([plain, recorded]) = said else { return };
    assert!(plain.contains("libc.so"), "{plain}");
    assert!(recorded.contains("libkymo.so"), "{recorded}");
}

/// What is different in every process.
const NUMBERED: [&str; 8] = ["Open", "Openat", "Accept", "Accept4", "Waitpid", "Wait", "Wait3", "Wait4"];

#[test]
fn e2_abi_equivalence() {
    let say = || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let fixture = Fixture::new(&path);
        let mut said = String::new();
        for (call, _, run) in TABLE {
            let mut bytes = [b'k'; ROOM];
            // SAFETY: errno is this thread's own.
            unsafe { *libc::__errno_location() = 0 };
            let result = run(&fixture, bytes.as_mut_ptr().cast());
            let result = if NUMBERED.contains(call) { result.min(1) } else { result };
            writeln!(said, "{call} {result} {} {:?}", errno(), String::from_utf8_lossy(&bytes)).unwrap();
        }
        writeln!(said, "{:?}", std::fs::read(path).unwrap()).unwrap();
        said.push_str(&calls::mappings());
        said
    };
    let Some([plain, recorded]) = both("e2_abi_equivalence", say) else { return };
    for (plain, recorded) in plain.lines().zip(recorded.lines()) {
        assert_eq!(plain, recorded);
    }
    assert_eq!(plain, recorded);
    assert!(plain.lines().count() > 98);
}

#[test]
fn e2_cancellation() {
    let Some([plain, recorded]) = both("e2_cancellation", || waiters::cancel_all().0) else { return };
    assert_eq!(plain, recorded);
    assert_eq!(plain.lines().filter(|line| line.ends_with(" 0 -1")).count(), 20);
}

fn load_and_unload() {
    let library = std::env::current_exe().unwrap().with_file_name("libkymo.so");
    let library = CString::new(library.to_str().unwrap()).unwrap();
    // SAFETY: nothing of the library is used, except by itself.
    unsafe {
        let handle = libc::dlopen(library.as_ptr(), libc::RTLD_NOW);
        assert!(!handle.is_null(), "{:?}", CStr::from_ptr(libc::dlerror()));
        assert_eq!(libc::dlclose(handle), 0);
    }
}

/// A plugin that links kymo is loaded and unloaded: what it took of the process, of which there is little, it took once.
#[test]
fn e5_plugin_unload() {
    watched::in_child(|| {
        (0..1_100).for_each(|_| load_and_unload());
        // SAFETY: a live place for a key that has no destructor.
        assert_eq!(unsafe { libc::pthread_key_create(&mut 0, None) }, 0, "there are 1024 in all");
    });
}

/// The same while it records: its thread goes on, and threads end well.
#[test]
fn e5_plugin_unload_while_recording() {
    watched::in_child(|| {
        let folder = tempfile::tempdir().unwrap();
        let trace = folder.path().join("trace");
        // SAFETY: no other thread of this program uses the environment.
        unsafe { std::env::set_var("KYMO_TRACE", &trace) };
        load_and_unload();
        std::thread::spawn(|| ()).join().unwrap();
        let length = || std::fs::metadata(&trace).unwrap().len();
        let before = length();
        // It is sealed each second, by its own thread.
        while length() == before {
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
    });
}
