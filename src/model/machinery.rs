//! What programs are built on: locks, channels, runtimes, the standard library, kymo's own hooks. As data.
//!
//! A stack of a wait begins in the kernel's door and ends in the thread's first function; in between stands the code
//! that its reader wrote. What is on the leaf's side of that is machinery: it tells what kind of wait it was
//! ([`LockKind`]) and is otherwise in the way.
//!
//! Functions are told by their paths, in each of the forms that compilers write: `a::B<T>::f`, `<a::B<T>>::f`,
//! `<a::B as c::D>::f`, and `a::f` for inlined ones whose type is not known.

use super::State;
use crate::events::Call;

/// Crates that are machinery whole.
const CRATES: [&str; 28] = [
    "__rustc",
    "std",
    "core",
    "alloc",
    "tokio",
    "parking_lot",
    "parking_lot_core",
    "lock_api",
    "crossbeam_channel",
    "crossbeam_epoch",
    "crossbeam_utils",
    "once_cell",
    "futures_channel",
    "futures_core",
    "futures_executor",
    "futures_task",
    "futures_util",
    "pin_project_lite",
    "event_listener",
    "async_lock",
    "async_channel",
    "flume",
    "backtrace",
    "libc",
    "mio",
    "tracing",
    "tracing_core",
    "tracing_subscriber",
];

/// kymo, and its modules that stand between the program and the kernel. Not all of it: its demo is a program.
const KYMO: &str = "kymo";
const OWN: [&str; 6] = ["record", "sources", "unwind", "clock", "events", "wire"];

/// Functions of the C library that wait or wake and are no [`Call`]; what they call begins with two underscores.
const C: [&str; 33] = [
    "futex_wait",
    "futex_wake",
    "madvise",
    "mmap",
    "mremap",
    "munmap",
    "pthread_barrier_wait",
    "pthread_clockjoin_np",
    "pthread_cond_broadcast",
    "pthread_cond_clockwait",
    "pthread_cond_signal",
    "pthread_cond_timedwait",
    "pthread_cond_wait",
    "pthread_create",
    "pthread_join",
    "pthread_mutex_clocklock",
    "pthread_mutex_lock",
    "pthread_mutex_timedlock",
    "pthread_mutex_unlock",
    "pthread_rwlock_clockrdlock",
    "pthread_rwlock_clockwrlock",
    "pthread_rwlock_rdlock",
    "pthread_rwlock_timedrdlock",
    "pthread_rwlock_timedwrlock",
    "pthread_rwlock_unlock",
    "pthread_rwlock_wrlock",
    "pthread_timedjoin_np",
    "sem_clockwait",
    "sem_post",
    "sem_timedwait",
    "sem_wait",
    "start_thread",
    "syscall",
];

/// Files whose code is all machinery, by the beginning of their names: the C library in its parts, the kernel's vDSO.
const MODULES: [&str; 9] =
    ["libc.so", "libc-", "libpthread", "ld-linux", "ld-musl", "libm.so", "libgcc_s", "[vdso]", "linux-vdso"];

/// What a thread or a task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum LockKind {
    /// Nothing tells.
    #[default]
    Unknown,
    /// A mutex.
    Mutex,
    /// A reader-writer lock.
    RwLock,
    /// Somebody else's initialization of something that exists once.
    Once,
    /// A semaphore.
    Semaphore,
    /// A condition variable, a barrier.
    Condvar,
    /// A channel, empty or full.
    Channel,
    /// A notification of a task.
    Notify,
    /// A thread or task to end.
    Join,
    /// Its thread's own unpark.
    Park,
    /// Time to pass.
    Timer,
    /// A socket, a pipe, a file.
    Io,
    /// Work: a runtime's thread has none.
    Idle,
}

impl LockKind {
    /// All of them, in their order.
    pub const ALL: [LockKind; 13] = [
        LockKind::Unknown,
        LockKind::Mutex,
        LockKind::RwLock,
        LockKind::Once,
        LockKind::Semaphore,
        LockKind::Condvar,
        LockKind::Channel,
        LockKind::Notify,
        LockKind::Join,
        LockKind::Park,
        LockKind::Timer,
        LockKind::Io,
        LockKind::Idle,
    ];

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            LockKind::Unknown => "unknown",
            LockKind::Mutex => "mutex",
            LockKind::RwLock => "rwlock",
            LockKind::Once => "once",
            LockKind::Semaphore => "semaphore",
            LockKind::Condvar => "condvar",
            LockKind::Channel => "channel",
            LockKind::Notify => "notify",
            LockKind::Join => "join",
            LockKind::Park => "park",
            LockKind::Timer => "timer",
            LockKind::Io => "io",
            LockKind::Idle => "idle",
        }
    }

    /// The state of whoever waits for it; `None` if nothing is known.
    pub const fn state(self) -> Option<State> {
        match self {
            LockKind::Unknown => None,
            LockKind::Mutex | LockKind::RwLock | LockKind::Once | LockKind::Semaphore => Some(State::Blocked),
            LockKind::Condvar | LockKind::Channel | LockKind::Notify | LockKind::Join | LockKind::Park => {
                Some(State::Waiting)
            }
            LockKind::Io => Some(State::Io),
            LockKind::Timer | LockKind::Idle => Some(State::Idle),
        }
    }

    /// Whether somebody holds what is waited for: what a mutex profile is about.
    pub const fn is_lock(self) -> bool {
        matches!(self, LockKind::Mutex | LockKind::RwLock | LockKind::Once)
    }
}

/// What a function says of a wait below it, by the beginning of its path. The first that fits is it.
const SAYS: [(&str, LockKind); 79] = [
    ("std::sync::poison::mutex", LockKind::Mutex),
    ("std::sync::nonpoison::mutex", LockKind::Mutex),
    ("std::sync::mutex", LockKind::Mutex),
    ("std::sync::reentrant_lock", LockKind::Mutex),
    ("std::sys::sync::mutex", LockKind::Mutex),
    ("std::sys::unix::locks::futex_mutex", LockKind::Mutex),
    ("parking_lot::raw_mutex", LockKind::Mutex),
    ("parking_lot::raw_fair_mutex", LockKind::Mutex),
    ("lock_api::mutex", LockKind::Mutex),
    ("lock_api::remutex", LockKind::Mutex),
    ("async_lock::mutex", LockKind::Mutex),
    ("futures_util::lock", LockKind::Mutex),
    ("tokio::sync::mutex", LockKind::Mutex),
    ("std::sync::poison::rwlock", LockKind::RwLock),
    ("std::sync::nonpoison::rwlock", LockKind::RwLock),
    ("std::sync::rwlock", LockKind::RwLock),
    ("std::sys::sync::rwlock", LockKind::RwLock),
    ("std::sys::unix::locks::futex_rwlock", LockKind::RwLock),
    ("parking_lot::raw_rwlock", LockKind::RwLock),
    ("lock_api::rwlock", LockKind::RwLock),
    ("crossbeam_utils::sync::sharded_lock", LockKind::RwLock),
    ("async_lock::rwlock", LockKind::RwLock),
    ("tokio::sync::rwlock", LockKind::RwLock),
    ("std::sync::poison::once", LockKind::Once),
    ("std::sync::once", LockKind::Once),
    ("std::sync::lazy_lock", LockKind::Once),
    ("std::sys::sync::once", LockKind::Once),
    ("std::sys_common::once", LockKind::Once),
    ("parking_lot::once", LockKind::Once),
    ("once_cell", LockKind::Once),
    ("async_lock::once_cell", LockKind::Once),
    ("tokio::sync::once_cell", LockKind::Once),
    ("tokio::sync::set_once", LockKind::Once),
    ("tokio::sync::semaphore", LockKind::Semaphore),
    ("tokio::sync::batch_semaphore", LockKind::Semaphore),
    ("async_lock::semaphore", LockKind::Semaphore),
    ("std::sync::poison::condvar", LockKind::Condvar),
    ("std::sync::nonpoison::condvar", LockKind::Condvar),
    ("std::sync::condvar", LockKind::Condvar),
    ("std::sync::barrier", LockKind::Condvar),
    ("std::sys::sync::condvar", LockKind::Condvar),
    ("std::sys::unix::locks::futex_condvar", LockKind::Condvar),
    ("parking_lot::condvar", LockKind::Condvar),
    ("crossbeam_utils::sync::wait_group", LockKind::Condvar),
    ("tokio::sync::barrier", LockKind::Condvar),
    ("async_lock::barrier", LockKind::Condvar),
    ("std::sync::mpsc", LockKind::Channel),
    ("std::sync::mpmc", LockKind::Channel),
    ("crossbeam_channel", LockKind::Channel),
    ("async_channel", LockKind::Channel),
    ("futures_channel", LockKind::Channel),
    ("flume", LockKind::Channel),
    ("tokio::sync::mpsc", LockKind::Channel),
    ("tokio::sync::oneshot", LockKind::Channel),
    ("tokio::sync::broadcast", LockKind::Channel),
    ("tokio::sync::watch", LockKind::Channel),
    ("tokio::sync::notify", LockKind::Notify),
    ("event_listener", LockKind::Notify),
    ("std::thread::join_handle", LockKind::Join),
    ("std::thread::lifecycle::JoinInner", LockKind::Join),
    ("std::thread::JoinInner", LockKind::Join),
    ("std::thread::JoinHandle", LockKind::Join),
    ("std::thread::scoped", LockKind::Join),
    ("tokio::runtime::task::join", LockKind::Join),
    ("tokio::task::join_set", LockKind::Join),
    ("std::thread::park", LockKind::Park),
    ("std::thread::functions::park", LockKind::Park),
    ("std::thread::thread::Thread", LockKind::Park),
    ("std::sys::sync::thread_parking", LockKind::Park),
    ("parking_lot_core", LockKind::Park),
    ("crossbeam_utils::sync::parker", LockKind::Park),
    ("tokio::time", LockKind::Timer),
    ("tokio::runtime::time", LockKind::Timer),
    ("tokio::runtime::io", LockKind::Io),
    ("tokio::net", LockKind::Io),
    ("tokio::process", LockKind::Io),
    ("tokio::runtime::park", LockKind::Idle),
    ("tokio::runtime::scheduler", LockKind::Idle),
    ("tokio::runtime::blocking", LockKind::Idle),
];

/// What a C function says, by the beginning of its name.
const C_SAYS: [(&str, LockKind); 8] = [
    ("pthread_barrier", LockKind::Condvar),
    ("pthread_timedjoin", LockKind::Join),
    ("pthread_clockjoin", LockKind::Join),
    ("pthread_mutex", LockKind::Mutex),
    ("pthread_rwlock", LockKind::RwLock),
    ("pthread_cond", LockKind::Condvar),
    ("pthread_join", LockKind::Join),
    ("sem_", LockKind::Semaphore),
];

/// What is waited for, when the functions from the leaf to `outer` say `inner` and `outer` is the next one out.
///
/// The outermost that says something decides: a channel that parks its thread is a channel, a lock that is made of a
/// semaphore is a lock. But a mutex that is found taken is what it is, whatever was about to be done under it.
pub(crate) fn wait_kind(inner: LockKind, outer: &str) -> LockKind {
    if matches!(inner, LockKind::Mutex | LockKind::RwLock) {
        return inner;
    }
    let said = match outer.contains("::") {
        true => SAYS.iter().find(|(start, _)| begins(path(outer), start)),
        false => C_SAYS.iter().find(|(start, _)| outer.starts_with(start)),
    };
    said.map_or(inner, |&(_, kind)| kind)
}

/// Whether a function belongs to what programs are built on.
pub fn is_machinery(function: &str) -> bool {
    if !function.contains("::") {
        return is_c(function);
    }
    let (of_trait, path) = (trait_path(function), path(function));
    // A foreign trait's method for a machinery's type is foreign, and so is a machinery's trait for a foreign type;
    // for a type without a path (`u8`, `F`) the trait decides alone.
    let known = |path: &str| of_crate(path).is_none_or(|name| CRATES.contains(&name) || is_own(path));
    known(path) && of_trait.is_none_or(known) && (of_crate(path).is_some() || of_trait.is_some())
}

/// Whether a function is of kymo's part between the program and the kernel.
pub(crate) fn is_kymos(function: &str) -> bool {
    is_own(path(function))
}

/// Whether a module's code is all machinery.
pub(crate) fn is_machinery_module(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    MODULES.iter().any(|start| name.starts_with(start))
}

/// A C function's name: hooked, or the C library's own. Large-file and cancellation variants are the same function.
fn is_c(function: &str) -> bool {
    let name = function.trim_end_matches("64");
    name.starts_with("__") || C.contains(&name) || Call::WORDS.contains(&name)
}

fn is_own(path: &str) -> bool {
    let module = path.strip_prefix(KYMO).and_then(|rest| rest.strip_prefix("::"));
    module.is_some_and(|module| OWN.iter().any(|own| begins(module, own)))
}

/// Whether a path begins with another one, whole words of it.
fn begins(path: &str, start: &str) -> bool {
    path.strip_prefix(start).is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
}

/// Where a function is at home: its name from the first path on, of `<&alloc::sync::Arc<T> as a::B>::c` the part from
/// `alloc` on.
fn path(function: &str) -> &str {
    let mut path = function;
    loop {
        let before = path;
        path = path.trim_start_matches(['<', '&', '*', '(', '[', ' ']);
        for word in ["mut ", "const ", "dyn ", "impl ", "unsafe "] {
            path = path.strip_prefix(word).unwrap_or(path);
        }
        if path == before {
            return path;
        }
    }
}

/// The trait of `<a::B as c::D>::f`, from `c` on.
fn trait_path(function: &str) -> Option<&str> {
    if !function.starts_with('<') {
        return None;
    }
    let mut depth = 0;
    for (at, byte) in function.bytes().enumerate() {
        match byte {
            b'<' => depth += 1,
            // The arrow of a function's type.
            b'>' if function[..at].ends_with('-') => {}
            b'>' => depth -= 1,
            b' ' if depth == 1 && function[at..].starts_with(" as ") => {
                return Some(&function[at + " as ".len()..]);
            }
            _ => {}
        }
        if depth == 0 {
            return None;
        }
    }
    None
}

/// The crate that a path begins with; `None` for what has no path.
fn of_crate(path: &str) -> Option<&str> {
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
    path[end..].starts_with("::").then(|| &path[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machinery_is_told_in_every_form_of_a_name() {
        for function in [
            "syscall",
            "read",
            "openat64",
            "__futex_abstimed_wait_common",
            "std::sys::pal::unix::futex::futex_wait",
            "<std::sys::sync::mutex::futex::Mutex>::lock_contended",
            "std::sync::poison::mutex::Mutex<T>::lock",
            "std::sys::sync::mutex::futex::lock",
            "core::ptr::drop_in_place<std::sync::poison::mutex::MutexGuard<shop::State>>",
            "core::ptr::drop_in_place::<std::sync::poison::mutex::MutexGuard<shop::State>>",
            "<alloc::sync::Arc<shop::State> as core::ops::drop::Drop>::drop",
            "<&mut core::pin::Pin<P> as core::future::future::Future>::poll",
            "<F as core::ops::function::FnOnce<()>>::call_once",
            "<fn() -> shop::State as core::ops::function::FnOnce<()>>::call_once",
            "core::ops::function::FnOnce::call_once{{vtable.shim}}",
            "<parking_lot_core::thread_parker::imp::ThreadParker as parking_lot_core::thread_parker::ThreadParkerT>::park",
            "tokio::runtime::park::CachedParkThread::park::{{closure}}",
            "__rustc::__rust_alloc",
            "kymo::record::stack",
            "<kymo::sources::task::Traced<shop::f> as core::future::future::Future>::poll",
        ] {
            assert!(is_machinery(function), "{function}");
        }
    }

    #[test]
    fn the_programs_own_is_told_from_it() {
        for function in [
            "main",
            "sqlite3_step",
            "shop::reaper_serialises_json",
            "shop::handler::{{closure}}",
            "<shop::Hat as core::ops::drop::Drop>::drop",
            "<alloc::vec::Vec<shop::Hat> as shop::Sell>::sell",
            "<u64 as shop::Sell>::sell",
            "stdx::sync::lock",
            "kymo::cli::demo::shop::reaper_serialises_json",
            "kymo::recorder::mine",
            "hyper::proto::h1::dispatch::Dispatcher<D,Bs,I,T>::poll_loop",
            "libc.so.6x+0x1234",
        ] {
            assert!(!is_machinery(function), "{function}");
        }
    }

    fn of(functions: &[&str]) -> LockKind {
        functions.iter().fold(LockKind::Unknown, |inner, outer| wait_kind(inner, outer))
    }

    #[test]
    fn the_outermost_decides_but_a_taken_mutex_stays_one() {
        let wait = "<std::sys::sync::condvar::futex::Condvar>::wait";
        let lock = "std::sync::poison::mutex::Mutex<T>::lock";
        let pool = "tokio::runtime::blocking::pool::Inner::run";
        assert_eq!(of(&[wait]), LockKind::Condvar);
        assert_eq!(of(&[wait, pool]), LockKind::Idle);
        assert_eq!(of(&[lock, pool]), LockKind::Mutex);
        assert_eq!(
            of(&[wait, "tokio::runtime::park::Inner::park", "tokio::sync::mutex::blocking_lock"]),
            LockKind::Mutex
        );
        let acquire = "<tokio::sync::batch_semaphore::Acquire as core::future::future::Future>::poll";
        assert_eq!(of(&[acquire]), LockKind::Semaphore);
        assert_eq!(
            of(&[acquire, "tokio::sync::mpsc::bounded::Sender<T>::send::{{closure}}"]),
            LockKind::Channel
        );
        assert_eq!(of(&["shop::f", "core::fmt::write"]), LockKind::Unknown);
    }

    #[test]
    fn c_functions_are_told_by_their_family() {
        assert_eq!(of(&["pthread_rwlock_rdlock"]), LockKind::RwLock);
        assert_eq!(of(&["pthread_cond_timedwait"]), LockKind::Condvar);
        assert_eq!(of(&["sem_timedwait"]), LockKind::Semaphore);
        assert!(is_machinery_module("/lib/x86_64-linux-gnu/libc.so.6"));
        assert!(!is_machinery_module("/usr/bin/libcute"));
    }

    #[test]
    fn each_kind_has_its_word() {
        let words: std::collections::HashSet<_> = LockKind::ALL.iter().map(|kind| kind.word()).collect();
        assert_eq!(words.len(), LockKind::ALL.len());
    }
}
