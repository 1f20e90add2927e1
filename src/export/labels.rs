//! What threads, tasks, waits and descriptors are called where people read it: never nothing.

use crate::analysis::contention::holders;
use crate::analysis::waiting::of_waits;
use crate::model::descriptors::Descriptors;
use crate::model::labels::{Label, LabelValue};
use crate::model::machinery::LockKind;
use crate::model::{CallSpan, Task, Thread, Trace};

/// The words for a trace's threads, tasks and waits, by their index.
#[derive(Debug)]
pub(super) struct Labels {
    threads: Vec<String>,
    tasks: Vec<String>,
    waits: Vec<LockKind>,
    holders: Vec<Option<u32>>,
    descriptors: Descriptors,
    /// The program's own labels, a set after the other.
    sets: Vec<Vec<(String, String)>>,
}

impl Labels {
    pub(super) fn new(trace: &Trace) -> Labels {
        Labels {
            threads: trace.threads.iter().map(thread).collect(),
            tasks: trace.tasks.iter().map(task).collect(),
            waits: of_waits(trace),
            holders: holders(trace),
            descriptors: Descriptors::new(trace),
            sets: (0..trace.label_sets.len() as u32).map(|set| own_labels(trace, set)).collect(),
        }
    }

    pub(super) fn thread(&self, index: u32) -> &str {
        self.threads.get(index as usize).map_or("unknown thread", String::as_str)
    }

    /// What a wait was for.
    pub(super) fn waiting(&self, wait: usize) -> LockKind {
        self.waits.get(wait).copied().unwrap_or(LockKind::Unknown)
    }

    /// The thread that is blamed for most of a lock's wait.
    pub(super) fn holder(&self, wait: usize) -> Option<&str> {
        let holder = self.holders.get(wait).copied().flatten().filter(|_| self.waiting(wait).is_lock())?;
        Some(self.thread(holder))
    }

    /// What a call's descriptor stood for.
    pub(super) fn descriptor<'t>(&self, trace: &'t Trace, call: &CallSpan) -> Option<&'t str> {
        self.descriptors.name_of(trace, call)
    }

    /// The labels that the program gave to what happened: key and value.
    pub(super) fn own(&self, set: u32) -> &[(String, String)] {
        self.sets.get(set as usize).map_or(&[], Vec::as_slice)
    }

    pub(super) fn task(&self, index: u32) -> &str {
        self.tasks.get(index as usize).map_or("unknown task", String::as_str)
    }
}

fn own_labels(trace: &Trace, set: u32) -> Vec<(String, String)> {
    let words = |label: &Label| {
        let value = match label.value {
            LabelValue::Text(text) => trace.text(text).to_owned(),
            LabelValue::Number(number, unit) => format!("{number}{}", trace.text(unit)),
        };
        (format!("label.{}", trace.text(label.key)), value)
    };
    trace.labels_in(set).iter().map(words).collect()
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

/// What a wait's slice is called.
pub(super) fn wait_name(waiting: LockKind) -> &'static str {
    match waiting {
        LockKind::Unknown => "wait",
        LockKind::Mutex => "mutex wait",
        LockKind::RwLock => "rwlock wait",
        LockKind::Once => "once wait",
        LockKind::Semaphore => "semaphore wait",
        LockKind::Condvar => "condvar wait",
        LockKind::Channel => "channel wait",
        LockKind::Notify => "notify wait",
        LockKind::Join => "join",
        LockKind::Park => "park",
        LockKind::Timer => "sleep",
        LockKind::Io => "io wait",
        LockKind::Idle => "idle",
    }
}
