//! The rules of the house, as tests: which folder may import which, where `unsafe` may stand, what a file begins with.
//!
//! They read the sources as text, so they see what the compiler doesn't; each says how many files it visited.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Who may import whom: `a` may name `crate::b` for each b in its row. The way of an event, and no arrow back.
const ARROWS: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("clock", &[]),
    ("limits", &[]),
    ("events", &["wire", "limits"]),
    ("format", &["wire", "events", "clock", "limits"]),
    ("unwind", &["limits"]),
    ("status", &["events", "limits", "clock"]),
    ("record", &["wire", "events", "format", "clock", "limits", "unwind", "status"]),
    ("environment", &["record", "events", "status"]),
    ("sources", &["record", "events", "clock", "limits", "unwind", "status"]),
    ("model", &["wire", "events", "format", "clock", "limits"]),
    ("analysis", &["model", "wire", "events", "format", "limits"]),
    ("profile", &["analysis", "model", "wire", "events", "format", "limits"]),
    ("export", &["profile", "analysis", "model", "wire", "events", "format", "limits"]),
    (
        "http",
        &[
            "export", "profile", "analysis", "model", "sources", "record", "status", "events", "format",
            "clock", "limits", "wire",
        ],
    ),
    (
        "cli",
        &[
            "http", "export", "profile", "analysis", "model", "record", "status", "events", "format",
            "limits", "clock",
        ],
    ),
];

/// The files that may hold `unsafe`, and why each needs it.
const UNSAFE: &[(&str, &str)] = &[
    ("src/clock.rs", "clock_gettime: std has no CLOCK_MONOTONIC as a number"),
    ("src/environment.rs", "runs before main and after it"),
    ("src/model/mapped.rs", "mmap: a mapped file is memory that others can change"),
    ("src/record/file.rs", "a descriptor of a number that is out of the way, signals of a write"),
    ("src/record/pool.rs", "mmap and madvise: the memory of chunks"),
    ("src/record/priority.rs", "setpriority: std has no thread priorities"),
    ("src/record/ring.rs", "chunks are shared by a protocol that the compiler can't check"),
    ("src/record/signals.rs", "pthread_sigmask: a write must not end the program by SIGPIPE or SIGXFSZ"),
    ("src/record/sync.rs", "membarrier"),
    ("src/record/thread.rs", "pthread keys, atfork, names: what std has no word for"),
    ("src/sources/alloc/counts.rs", "pthread keys: what std has no word for"),
    ("src/sources/alloc/mod.rs", "GlobalAlloc is an unsafe trait"),
    ("src/sources/alloc/told.rs", "runs before main, atfork"),
    ("src/sources/cancel.rs", "C functions that clean up after a cancelled thread"),
    ("src/sources/cpu/mod.rs", "runs before main"),
    ("src/sources/cpu/signal.rs", "sigaction, and what the kernel gives a handler"),
    ("src/sources/cpu/timers.rs", "timer_create and setitimer: std has no timers"),
    ("src/sources/descriptors.rs", "paths and addresses that C functions were given"),
    ("src/sources/files.rs", "defines C functions"),
    ("src/sources/interpose.rs", "C symbols, dlsym, errno"),
    ("src/sources/libraries.rs", "defines a C function"),
    ("src/sources/locks.rs", "defines C functions"),
    ("src/sources/memory.rs", "defines C functions"),
    ("src/sources/processes.rs", "defines C functions"),
    ("src/sources/resident.rs", "runs before main, getrusage"),
    ("src/sources/sched/mod.rs", "runs before main, to be told what captures want"),
    ("src/sources/sched/ring.rs", "perf_event_open, and memory that the kernel writes"),
    ("src/sources/sched/totals.rs", "other threads' CPU clocks"),
    ("src/sources/sockets.rs", "defines C functions"),
    ("src/sources/threads.rs", "defines C functions"),
    ("src/sources/unhooked.rs", "runs before main, to say why nothing is hooked"),
    ("src/sources/waker.rs", "RawWaker: Wake does not let one see clones"),
    ("src/unwind/capture.rs", "registers and the stack's memory"),
    ("src/unwind/gone.rs", "mmap: an unloaded library's place stays reserved"),
    ("src/unwind/resident.rs", "dlopen: kymo's own library is never unloaded"),
    ("src/unwind/modules.rs", "the dynamic linker's list is C, and the images are raw memory"),
];

#[test]
fn imports_run_one_way() {
    let mut visited = 0;
    for file in sources() {
        let Some(place) = folder(&file) else { continue };
        let (_, allowed) = ARROWS.iter().find(|(name, _)| *name == place).unwrap_or_else(|| {
            panic!("{}: the folder {place} is not in the table of arrows", file.display());
        });
        for import in imports(&fs::read_to_string(&file).unwrap()) {
            let known = import == place || allowed.contains(&import.as_str()) || !is_folder(&import);
            assert!(known, "{}: {place} must not import {import}", file.display());
        }
        visited += 1;
    }
    assert!(visited >= 30, "only {visited} files visited");
}

#[test]
fn the_arrows_have_no_cycle() {
    for (index, (name, allowed)) in ARROWS.iter().enumerate() {
        for import in *allowed {
            let at = ARROWS.iter().position(|(other, _)| other == import);
            assert!(at.is_some_and(|at| at < index), "{name} may import {import}, which stands after it");
        }
    }
}

#[test]
fn unsafe_stands_only_inside_the_fence() {
    let mut inside = BTreeSet::new();
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        if text.lines().any(|line| !is_comment(line) && line.contains("unsafe_code")) {
            let path = file.to_string_lossy().into_owned();
            assert!(UNSAFE.iter().any(|(allowed, _)| *allowed == path), "{path} is not listed for `unsafe`");
            inside.insert(path);
        }
    }
    assert_eq!(inside.len(), UNSAFE.len(), "a file of the list no longer needs `unsafe`: only {inside:?} do");
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut visited = 0;
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        let head = text.lines().take_while(|line| line.starts_with("//!")).count();
        // A small file may need no more than a sentence; the front page and the hot path deserve a page.
        let least = if text.lines().count() <= 160 { 1 } else { 3 };
        let most = if file.ends_with("record/mod.rs") || file.ends_with("lib.rs") { 90 } else { 30 };
        assert!((least..=most).contains(&head), "{}: its head has {head} lines", file.display());
        visited += 1;
    }
    assert!(visited >= 30, "only {visited} files visited");
}

#[test]
fn files_stay_short() {
    for file in sources() {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= 800, "{} has {lines} lines: split it by subject", file.display());
    }
}

#[test]
fn one_word_per_thing_and_nothing_left_to_do() {
    let banned =
        ["TODO", "FIXME", "XXX", "mod utils", "mod helpers", "mod common", "mod manager", "todo!(", "dbg!("];
    for file in sources() {
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            for word in banned {
                assert!(!line.contains(word), "{}:{}: {word}", file.display(), number + 1);
            }
        }
    }
}

/// Every Rust file below `src`, relative to the package's root.
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|kind| kind == "rs") => found.push(path),
                false => {}
            }
        }
    }
    found.sort();
    found
}

/// The top-level module that a file belongs to; none for `lib.rs` and `main.rs`.
fn folder(file: &Path) -> Option<String> {
    let first = file.strip_prefix("src").unwrap().components().next()?;
    let name = Path::new(first.as_os_str()).file_stem()?.to_string_lossy().into_owned();
    (name != "lib" && name != "main").then_some(name)
}

fn is_folder(name: &str) -> bool {
    ARROWS.iter().any(|(folder, _)| *folder == name)
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

/// What code names after `crate::` (or, in the command, `kymo::`), braces looked into. Test modules at a file's end
/// may use what they like.
fn imports(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
    let code: String = code.lines().filter(|line| !is_comment(line)).flat_map(|line| [line, "\n"]).collect();
    let word =
        |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let mut found = BTreeSet::new();
    for path in ["crate::", "kymo::"] {
        for rest in code.split(path).skip(1) {
            match rest.strip_prefix('{') {
                None => found.extend([word(rest)]),
                Some(list) => found.extend(top_level_items(list).iter().map(|item| word(item.trim()))),
            }
        }
    }
    found
}

/// The comma-separated items of a `{…}` list whose `{` has been read, inner lists left whole.
fn top_level_items(list: &str) -> Vec<String> {
    let (mut depth, mut items) = (0, vec![String::new()]);
    for c in list.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => items.push(String::new()),
            _ => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                items.last_mut().unwrap().push(c);
            }
        }
    }
    items
}

#[test]
fn imports_are_seen_in_lists_too() {
    let seen = imports("use crate::{model::{A, B}, events};\nuse crate::wire::put;\n// use crate::cli;\n");
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["events", "model", "wire"]);
}
