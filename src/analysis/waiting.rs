//! What a wait is for, told by the functions between the user's code and the kernel.
//!
//! Locks of std, parking_lot and tokio look the same to the kernel: a futex, or a waker that was kept. The machinery's
//! frames tell them apart, and the outermost that says something decides: a channel that parks its thread is a
//! channel, a lock that is made of a semaphore is a lock. What stands outside the user's code says nothing.
//!
//! Does not know threads' states: those are the model's, and coarser.

use std::collections::HashMap;

use crate::events::{StackId, WaitKind};
use crate::model::Trace;
use crate::model::stacks::Stacks;

/// What a thread or a task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Waiting {
    /// Nothing tells.
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

impl Waiting {
    /// All of them, in their order.
    pub const ALL: [Waiting; 13] = [
        Waiting::Unknown,
        Waiting::Mutex,
        Waiting::RwLock,
        Waiting::Once,
        Waiting::Semaphore,
        Waiting::Condvar,
        Waiting::Channel,
        Waiting::Notify,
        Waiting::Join,
        Waiting::Park,
        Waiting::Timer,
        Waiting::Io,
        Waiting::Idle,
    ];

    /// The word for it, in labels and names of slices.
    pub const fn word(self) -> &'static str {
        match self {
            Waiting::Unknown => "unknown",
            Waiting::Mutex => "mutex",
            Waiting::RwLock => "rwlock",
            Waiting::Once => "once",
            Waiting::Semaphore => "semaphore",
            Waiting::Condvar => "condvar",
            Waiting::Channel => "channel",
            Waiting::Notify => "notify",
            Waiting::Join => "join",
            Waiting::Park => "park",
            Waiting::Timer => "timer",
            Waiting::Io => "io",
            Waiting::Idle => "idle",
        }
    }

    /// Whether somebody holds what is waited for: what a mutex profile is about.
    pub const fn is_lock(self) -> bool {
        matches!(self, Waiting::Mutex | Waiting::RwLock | Waiting::Once)
    }

    /// Whether another part of the program makes it last: what a block profile is about. As in Go, time that passes,
    /// sockets and idle workers are not.
    pub const fn is_blocking(self) -> bool {
        !matches!(self, Waiting::Timer | Waiting::Io | Waiting::Idle)
    }
}

/// What a thread waits for, by the hooked function and its stack.
pub fn of_wait(stacks: &Stacks, kind: WaitKind, stack: StackId) -> Waiting {
    let hooked = match kind {
        WaitKind::Unknown | WaitKind::Futex => Waiting::Unknown,
        WaitKind::PthreadMutex => Waiting::Mutex,
        WaitKind::PthreadRead | WaitKind::PthreadWrite => Waiting::RwLock,
        WaitKind::PthreadCond => Waiting::Condvar,
        WaitKind::Join => Waiting::Join,
        WaitKind::Semaphore => Waiting::Semaphore,
    };
    told(stacks, stack, hooked)
}

/// What a task waits for, by its await stack.
pub fn of_await(stacks: &Stacks, stack: StackId) -> Waiting {
    told(stacks, stack, Waiting::Unknown)
}

/// What each wait of a trace is for, by its index. One without a stack (it was short) takes the answer of another one
/// on its address.
pub fn of_waits(trace: &Trace) -> Vec<Waiting> {
    let mut by_place: HashMap<(WaitKind, StackId), Waiting> = HashMap::new();
    let mut by_address: HashMap<u64, Waiting> = HashMap::new();
    let mut own = Vec::with_capacity(trace.waits.len());
    for wait in &trace.waits {
        let place = by_place.entry((wait.kind, wait.stack));
        let waiting = *place.or_insert_with(|| of_wait(&trace.stacks, wait.kind, wait.stack));
        if waiting != Waiting::Unknown {
            by_address.insert(wait.addr, waiting);
        }
        own.push(waiting);
    }
    for (waiting, wait) in
        own.iter_mut().zip(&trace.waits).filter(|(waiting, _)| **waiting == Waiting::Unknown)
    {
        *waiting = by_address.get(&wait.addr).copied().unwrap_or(Waiting::Unknown);
    }
    own
}

/// Whether a wait's address tells nothing of the lock: parking_lot parks each thread on an address of its own.
pub fn is_handed_on(stacks: &Stacks, stack: StackId) -> bool {
    stacks.machinery(stack).any(|frame| frame.function.contains("parking_lot_core"))
}

fn told(stacks: &Stacks, stack: StackId, hooked: Waiting) -> Waiting {
    stacks.machinery(stack).fold(hooked, |so_far, frame| step(so_far, &frame.function))
}

/// What one more frame, further out, says.
fn step(so_far: Waiting, function: &str) -> Waiting {
    // The pool's threads wait for work by a condvar, and for each other by a mutex: only the first is idleness.
    if function.contains("tokio::runtime::blocking::pool") && so_far == Waiting::Condvar {
        return Waiting::Idle;
    }
    let said = SAYS.iter().find(|(part, _)| function.contains(part));
    said.map_or(so_far, |&(_, waiting)| waiting)
}

/// What a function says, by a part of its name.
const SAYS: [(&str, Waiting); 34] = [
    ("tokio::sync::mutex", Waiting::Mutex),
    ("tokio::sync::rwlock", Waiting::RwLock),
    ("tokio::sync::once_cell", Waiting::Once),
    ("tokio::sync::set_once", Waiting::Once),
    ("tokio::sync::mpsc", Waiting::Channel),
    ("tokio::sync::oneshot", Waiting::Channel),
    ("tokio::sync::broadcast", Waiting::Channel),
    ("tokio::sync::watch", Waiting::Channel),
    ("tokio::sync::notify", Waiting::Notify),
    ("tokio::sync::barrier", Waiting::Notify),
    ("tokio::sync::semaphore", Waiting::Semaphore),
    ("tokio::sync::batch_semaphore", Waiting::Semaphore),
    ("tokio::runtime::task::join", Waiting::Join),
    ("tokio::task::join_set", Waiting::Join),
    ("tokio::time::sleep", Waiting::Timer),
    ("tokio::time::interval", Waiting::Timer),
    ("tokio::runtime::io", Waiting::Io),
    ("tokio::net", Waiting::Io),
    ("tokio::runtime::park", Waiting::Idle),
    ("tokio::runtime::scheduler::multi_thread::park", Waiting::Idle),
    ("std::sync::mpmc", Waiting::Channel),
    ("std::sync::mpsc", Waiting::Channel),
    ("crossbeam_channel", Waiting::Channel),
    ("futures_channel", Waiting::Channel),
    ("std::thread::scoped", Waiting::Join),
    ("JoinInner", Waiting::Join),
    ("ondvar", Waiting::Condvar),
    ("std::sync::barrier", Waiting::Condvar),
    ("rwlock", Waiting::RwLock),
    ("mutex", Waiting::Mutex),
    ("sync::once", Waiting::Once),
    ("sync::poison::once", Waiting::Once),
    ("parking_lot::once", Waiting::Once),
    ("park", Waiting::Park),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn of(functions: &[&str]) -> Waiting {
        functions.iter().fold(Waiting::Unknown, |so_far, function| step(so_far, function))
    }

    #[test]
    fn the_outermost_that_says_something_decides() {
        let park = "std::sys::sync::thread_parking::futex::Parker::park";
        assert_eq!(of(&["syscall", park, "std::thread::park"]), Waiting::Park);
        assert_eq!(of(&[park, "std::sync::mpmc::list::Channel<T>::recv"]), Waiting::Channel);
        assert_eq!(of(&["std::sys::sync::mutex::futex::Mutex::lock_contended"]), Waiting::Mutex);
        assert_eq!(of(&["parking_lot::raw_mutex::RawMutex::lock_slow"]), Waiting::Mutex);
        assert_eq!(
            of(&["parking_lot_core::parking_lot::park", "parking_lot::raw_rwlock::RawRwLock::x"]),
            Waiting::RwLock
        );
        let acquire = "<tokio::sync::batch_semaphore::Acquire as core::future::future::Future>::poll";
        assert_eq!(of(&[acquire]), Waiting::Semaphore);
        assert_eq!(of(&[acquire, "tokio::sync::mutex::Mutex<T>::lock::{closure#0}"]), Waiting::Mutex);
        assert_eq!(
            of(&[acquire, "tokio::sync::mpsc::bounded::Sender<T>::reserve::{closure#0}"]),
            Waiting::Channel
        );
    }

    #[test]
    fn idle_workers_are_told_from_busy_ones() {
        let condvar = "std::sys::sync::condvar::futex::Condvar::wait_optional_timeout";
        assert_eq!(
            of(&[condvar, "tokio::runtime::scheduler::multi_thread::park::Parker::park"]),
            Waiting::Idle
        );
        assert_eq!(of(&[condvar, "tokio::runtime::blocking::pool::Inner::run"]), Waiting::Idle);
        let lock = "std::sys::sync::mutex::futex::Mutex::lock_contended";
        assert_eq!(of(&[lock, "tokio::runtime::blocking::pool::Inner::run"]), Waiting::Mutex);
        assert!(!Waiting::Idle.is_blocking() && Waiting::Mutex.is_lock() && !Waiting::Semaphore.is_lock());
    }
}
