//! `KYMO_TRACE=FILE`: records a program from before its `main` to its exit.
//!
//! For programs that nobody wants to change, or whose source nobody has: `libkymo.so` in `LD_PRELOAD` brings the hooks,
//! and this starts a capture of everything, to a file. `%p` in its name stands for the process's number. With it, the
//! programs that this one starts are recorded too, each to its own file; without it the variable is taken out of the
//! environment, since they would all write to the same one.
//!
//! What exit(3) does not run for (`_exit`, abort, a signal) leaves a file without an end, whole up to a second before.
//! A program that runs with the rights of another user than its caller (set-user-ID) is not recorded.

#![allow(clippy::multiple_unsafe_ops_per_block, reason = "one walk along the environment")]
#![allow(unsafe_code, reason = "runs before main and after it, and changes the environment before main")]

use std::ffi::{CStr, OsStr, OsString, c_char};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::{Mutex, PoisonError};

use crate::events::Groups;
use crate::record::file::FileSink;
use crate::record::session::{Capture, CaptureOptions};
use crate::status;

const VARIABLE: &str = "KYMO_TRACE";

static CAPTURE: Mutex<Option<Capture>> = Mutex::new(None);

extern "C" fn before_main() {
    let Some(wanted) = std::env::var_os(VARIABLE).filter(|wanted| !wanted.is_empty()) else { return };
    // SAFETY: getauxval(3) has no preconditions.
    if unsafe { libc::getauxval(libc::AT_SECURE) } != 0 {
        return;
    }
    let path = with_own_number(&wanted);
    if path == wanted {
        take_out_of_environment();
    }
    match start(&path) {
        Ok(capture) => *CAPTURE.lock().unwrap_or_else(PoisonError::into_inner) = Some(capture),
        // The program goes on all the same; whoever set the variable reads this.
        Err(error) => eprintln!("kymo: {VARIABLE}={}: not recorded: {error}", path.display()),
    }
}

fn start(path: &OsStr) -> Result<Capture, Box<dyn std::error::Error>> {
    let sink = Box::new(FileSink::create(path.as_ref())?);
    let capture = Capture::start(CaptureOptions { groups: Groups::ALL, cpu_hz: 0, sink, resolver: None })?;
    status::set("environment", format!("on: {VARIABLE} records to {}", path.display()));
    Ok(capture)
}

/// By hand: programs such as bash have an `unsetenv` of their own, which does something else before their `main`.
fn take_out_of_environment() {
    unsafe extern "C" {
        static mut environ: *mut *mut c_char;
    }
    let is_ours = |entry: &CStr| {
        entry.to_bytes().strip_prefix(VARIABLE.as_bytes()).is_some_and(|rest| rest.starts_with(b"="))
    };
    // SAFETY: before main, so nobody else reads the environment; a list of C strings that ends in a null pointer.
    unsafe {
        let (mut from, mut to) = (environ, environ);
        while !(*from).is_null() {
            *to = *from;
            to = to.add(usize::from(!is_ours(CStr::from_ptr(*from))));
            from = from.add(1);
        }
        *to = std::ptr::null_mut();
    }
}

/// Whatever stands for the process's number replaced by it.
fn with_own_number(path: &OsStr) -> OsString {
    let number = std::process::id().to_string();
    let mut rest = path.as_bytes();
    let mut bytes = Vec::new();
    while let Some(at) = rest.windows(2).position(|pair| pair == b"%p") {
        bytes.extend_from_slice(&rest[..at]);
        bytes.extend_from_slice(number.as_bytes());
        rest = &rest[at + 2..];
    }
    bytes.extend_from_slice(rest);
    OsString::from_vec(bytes)
}

/// In exit(3), after the program's own handlers. Other threads may still run, and their calls after this are not seen.
extern "C" fn after_main() {
    // Held by nobody, unless exit was called out of a signal handler that interrupted this very function.
    let capture = CAPTURE.try_lock().ok().and_then(|mut capture| capture.take());
    if let Some(capture) = capture {
        capture.stop();
    }
}

#[used]
#[cfg_attr(target_os = "linux", unsafe(link_section = ".init_array"))]
static BEFORE_MAIN: extern "C" fn() = before_main;

#[used]
#[cfg_attr(target_os = "linux", unsafe(link_section = ".fini_array"))]
static AFTER_MAIN: extern "C" fn() = after_main;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_number_stands_wherever_it_is_asked_for() {
        let number = std::process::id();
        let named = |path: &str| with_own_number(path.as_ref()).into_string().unwrap();
        assert_eq!(named("/tmp/a-%p.kymo"), format!("/tmp/a-{number}.kymo"));
        assert_eq!(named("%p%p"), format!("{number}{number}"));
        assert_eq!(named("100%.kymo"), "100%.kymo");
    }
}
