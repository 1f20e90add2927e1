//! Labels: which keys and values a thread or a task had at a time.
//!
//! Sets of labels are few and long-lived, so each is kept once, and a thread or a task has a list of when it had which.

use std::collections::HashMap;

use super::timeline::Builder;
use super::{Ns, PollIndex, TaskIndex, ThreadIndex, Trace};
use crate::events::{Label as LabelEvent, LabelNumber, StrId, TaskId};

/// A key and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label {
    /// The key.
    pub key: StrId,
    /// The value.
    pub value: LabelValue,
}

/// What a label says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LabelValue {
    /// A text.
    Text(StrId),
    /// A number in a unit, which may be empty.
    Number(i64, StrId),
}

/// From when on somebody had which labels: an index into [`Trace::label_sets`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LabelChange {
    /// From when on.
    pub at: Ns,
    /// Which.
    pub set: u32,
}

/// The sets seen so far, by what is in them; the first one is empty.
#[derive(Default)]
pub(super) struct LabelSets(HashMap<Vec<Label>, u32>);

impl Builder {
    pub(super) fn labelled(&mut self, thread: ThreadIndex, at: Ns, event: LabelEvent) {
        let value = (event.value != StrId(0)).then_some(LabelValue::Text(event.value));
        self.label_changes(thread, at, event.task, event.key, value);
    }

    pub(super) fn labelled_with_number(&mut self, thread: ThreadIndex, at: Ns, event: LabelNumber) {
        let value = LabelValue::Number(event.number.0, event.unit);
        self.label_changes(thread, at, event.task, event.key, Some(value));
    }

    fn label_changes(
        &mut self,
        thread: ThreadIndex,
        at: Ns,
        task: TaskId,
        key: StrId,
        value: Option<LabelValue>,
    ) {
        let task = (task.0 != 0).then(|| self.task(task));
        let changes = self.label_list(thread, task);
        let old = changes.last().map_or(0, |change| change.set);
        let set = self.label_set(old, key, value);
        let changes = self.label_list(thread, task);
        match changes.last_mut() {
            Some(last) if last.at == at => last.set = set,
            _ => changes.push(LabelChange { at, set }),
        }
    }

    fn label_list(&mut self, thread: ThreadIndex, task: Option<TaskIndex>) -> &mut Vec<LabelChange> {
        match task {
            Some(task) => &mut self.trace.tasks[task as usize].labels,
            None => &mut self.trace.threads[thread as usize].labels,
        }
    }

    /// A set with one label put on or taken off.
    fn label_set(&mut self, old: u32, key: StrId, value: Option<LabelValue>) -> u32 {
        let sets = &mut self.trace.label_sets;
        let mut labels = sets.get(old as usize).cloned().unwrap_or_default();
        labels.retain(|label| label.key != key);
        labels.extend(value.map(|value| Label { key, value }));
        labels.sort_unstable();
        if sets.is_empty() {
            sets.push(Vec::new());
            self.label_index.0.insert(Vec::new(), 0);
        }
        *self.label_index.0.entry(labels).or_insert_with_key(|labels| {
            sets.push(labels.clone());
            sets.len() as u32 - 1
        })
    }
}

impl Trace {
    /// The labels of what happened on a thread at a time: in a poll those of its task, else the thread's own.
    pub fn labels_at(&self, thread: ThreadIndex, in_poll: Option<PollIndex>, at: Ns) -> &[Label] {
        self.labels_in(self.label_set_at(thread, in_poll, at))
    }

    /// The same as an index into [`Trace::label_sets`], by which what happened can be grouped; 0 is the empty set.
    pub fn label_set_at(&self, thread: ThreadIndex, in_poll: Option<PollIndex>, at: Ns) -> u32 {
        match in_poll.and_then(|poll| self.polls.get(poll as usize)) {
            Some(poll) => self.label_set_of_task_at(poll.task, at),
            None => in_force(self.threads.get(thread as usize).map(|thread| &thread.labels), at),
        }
    }

    /// The set of labels that a task had at a time.
    pub fn label_set_of_task_at(&self, task: TaskIndex, at: Ns) -> u32 {
        in_force(self.tasks.get(task as usize).map(|task| &task.labels), at)
    }

    /// The labels in a set, by the order of their keys' numbers.
    pub fn labels_in(&self, set: u32) -> &[Label] {
        self.label_sets.get(set as usize).map_or(&[], Vec::as_slice)
    }
}

fn in_force(changes: Option<&Vec<LabelChange>>, at: Ns) -> u32 {
    let changes = changes.map_or(&[][..], Vec::as_slice);
    let after = changes.partition_point(|change| change.at <= at);
    after.checked_sub(1).map_or(0, |last| changes[last].set)
}
