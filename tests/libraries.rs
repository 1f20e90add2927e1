//! Libraries that come and go while a program is recorded: no frame gets another library's name.

#![cfg(feature = "hooks")]
#![allow(unsafe_code, reason = "loads libraries")]

mod recorded;
mod watched;

use std::ffi::{CString, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;

use kymo::events::Call;
use kymo::model::Trace;

type Runs = extern "C" fn(extern "C" fn());

/// A library whose one function, of that name, calls back. All such libraries are as long as each other.
fn library(folder: &Path, name: &str) -> PathBuf {
    let (source, library) = (folder.join(format!("{name}.c")), folder.join(format!("lib{name}.so")));
    let text = format!("void {name}(void (*f)(void)) {{ volatile int after = 0; f(); after = 1; }}\n");
    std::fs::write(&source, text).unwrap();
    // In another file first: who has the old one mapped keeps it.
    let made = folder.join(format!("{name}.new"));
    let flags = ["-shared", "-fPIC", "-O1", "-Wl,--build-id", "-o"];
    let status = Command::new("cc").args(flags).args([&made, &source]).status().unwrap();
    assert!(status.success());
    std::fs::rename(made, &library).unwrap();
    library
}

/// Loads a library, lets its function call back, unloads it; where it was.
fn run(library: &Path, name: &str, back: extern "C" fn()) -> usize {
    let path = CString::new(library.to_str().unwrap()).unwrap();
    let name = CString::new(name).unwrap();
    // SAFETY: the library has no initializer; so below.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    assert!(!handle.is_null(), "{path:?}");
    // SAFETY: the handle was just opened.
    let function = unsafe { libc::dlsym(handle, name.as_ptr()) };
    assert!(!function.is_null());
    // SAFETY: this is the function's type in its source.
    let runs = unsafe { std::mem::transmute::<*mut c_void, Runs>(function) };
    runs(back);
    // SAFETY: nothing of the library is used any more.
    assert_eq!(unsafe { libc::dlclose(handle) }, 0);
    function.addr()
}

/// A call that lasts long enough to carry its stack.
extern "C" fn nap() {
    std::thread::sleep(std::time::Duration::from_micros(200));
}

/// The plugin on the stack of each nap, by thread, in the order of time: a function, or an offset in a library.
fn plugins(trace: &Trace) -> Vec<Vec<&str>> {
    let mut by_thread = vec![Vec::new(); trace.threads.len()];
    for nap in trace.calls.iter().filter(|call| call.call == Call::ClockNanosleep) {
        let mut frames = trace.stacks.frames(nap.stack).map(|frame| frame.function.as_str());
        by_thread[nap.thread as usize]
            .push(frames.find(|function| function.contains("plugin")).unwrap_or("none"));
    }
    by_thread.retain(|naps| !naps.is_empty());
    by_thread
}

#[test]
fn e5_plugin_unload() {
    watched::in_child(|| {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["plugin_first", "plugin_other"].map(|name| library(folder.path(), name));
        // Without recording the second is mapped to where the first was.
        let free = run(&first, "plugin_first", nap);
        assert_eq!(run(&second, "plugin_other", nap), free);
        let (places, trace) =
            recorded::record(|| [run(&first, "plugin_first", nap), run(&second, "plugin_other", nap)]);
        assert_ne!(places[0], places[1]);
        assert_eq!(plugins(&trace), [["plugin_first", "plugin_other"]]);
    });
}

#[test]
fn a3_dlopen_dlclose_storm() {
    const ROUNDS: usize = 30;
    watched::in_child(|| {
        let folder = tempfile::tempdir().unwrap();
        let names = ["plugin_a", "plugin_b", "plugin_c"];
        let libraries = names.map(|name| library(folder.path(), name));
        let ((), trace) = recorded::record(|| {
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    let libraries = &libraries;
                    scope.spawn(move || {
                        for round in 0..ROUNDS {
                            let which = (thread + round) % names.len();
                            run(&libraries[which], names[which], nap);
                        }
                    });
                }
                // One of them becomes another library meanwhile.
                library(folder.path(), names[2]);
            });
        });
        let plugins = plugins(&trace);
        assert_eq!(plugins.iter().map(Vec::len).collect::<Vec<_>>(), [ROUNDS; 4]);
        for naps in plugins {
            // Each thread takes them in turn, beginning with another one.
            let plugin = |round: usize| names.iter().position(|name| naps[round].contains(name));
            let named: Vec<_> =
                (0..ROUNDS).filter_map(|round| plugin(round).map(|plugin| (round, plugin))).collect();
            let first = named[0].1 + names.len() * ROUNDS - named[0].0;
            assert!(named.iter().all(|(round, plugin)| (first + round) % names.len() == *plugin), "{naps:?}");
            assert!(named.len() > ROUNDS / 2, "places that two took have no names: {naps:?}");
        }
    });
}
