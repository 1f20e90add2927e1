//! What threads and tasks are called where people read it: never nothing.

use crate::events::WaitKind;
use crate::model::{Task, Thread, Trace};

/// The names of a trace's threads and tasks, by their index.
#[derive(Debug)]
pub(super) struct Labels {
    pub(super) threads: Vec<String>,
    pub(super) tasks: Vec<String>,
}

impl Labels {
    pub(super) fn new(trace: &Trace) -> Labels {
        Labels {
            threads: trace.threads.iter().map(thread).collect(),
            tasks: trace.tasks.iter().map(task).collect(),
        }
    }

    pub(super) fn thread(&self, index: u32) -> &str {
        self.threads.get(index as usize).map_or("unknown thread", String::as_str)
    }

    pub(super) fn task(&self, index: u32) -> &str {
        self.tasks.get(index as usize).map_or("unknown task", String::as_str)
    }
}

fn thread(thread: &Thread) -> String {
    match (&thread.name, &thread.worker) {
        (name, _) if !name.is_empty() => name.clone(),
        (_, Some((runtime, index))) => format!("{runtime} worker {index}"),
        _ => format!("thread {}", thread.tid),
    }
}

fn task(task: &Task) -> String {
    match task.name.is_empty() {
        false => task.name.clone(),
        true => "task".into(),
    }
}

/// What a wait is called.
pub(super) fn wait_name(kind: WaitKind) -> &'static str {
    match kind {
        WaitKind::Unknown => "wait",
        WaitKind::Futex => "futex wait",
        WaitKind::PthreadMutex => "mutex wait",
        WaitKind::PthreadCond => "condvar wait",
        WaitKind::PthreadRead => "rwlock read wait",
        WaitKind::PthreadWrite => "rwlock write wait",
        WaitKind::Join => "join",
        WaitKind::Semaphore => "semaphore wait",
    }
}
