//! What the user marks: spans and user tasks, messages, counters.
//!
//! An end whose beginning is missing is left out: without its beginning a span has no name.

use super::timeline::{Builder, close};
use super::{CounterTrack, FdName, LogEntry, Ns, Span, Stretch, TaskIndex, ThreadIndex};
use crate::events::{Fd, StrId};

impl Builder {
    /// The task that a thread polls.
    fn polled_task(&self, thread: ThreadIndex) -> Option<TaskIndex> {
        self.poll_of(thread).map(|poll| self.trace.polls[poll as usize].task)
    }

    /// `key`: whether it is a user task, and its number.
    pub(super) fn span_begins(
        &mut self,
        thread: ThreadIndex,
        at: Ns,
        key: (bool, u64),
        parent: Option<u64>,
        name: StrId,
    ) {
        let (user_task, id) = key;
        if self.open_span(key).is_some() {
            // It has told who it is to a capture that began after this one.
            return;
        }
        let (task, time) = (self.polled_task(thread), self.open_from(at));
        self.span_index[usize::from(user_task)].insert(id, self.trace.spans.len() as u32);
        self.trace.spans.push(Span { user_task, id, parent, name, thread, task, time, ..Span::default() });
    }

    fn open_span(&mut self, (user_task, id): (bool, u64)) -> Option<&mut Span> {
        let index = self.span_index[usize::from(user_task)].get(id)?;
        Some(&mut self.trace.spans[index as usize]).filter(|span| span.time.open)
    }

    pub(super) fn span_ends(&mut self, at: Ns, key: (bool, u64)) {
        if let Some(span) = self.open_span(key) {
            close(&mut span.time, at);
            // It can't be entered when it ends: the exits were lost.
            span.active.iter_mut().for_each(|stretch| stretch.time.end = stretch.time.end.min(at));
        }
    }

    /// Whoever enters a span first has it: it may have been made elsewhere, for a task that was then spawned.
    pub(super) fn span_entered(&mut self, thread: ThreadIndex, at: Ns, id: u64) {
        let (task, time) = (self.polled_task(thread), self.open_from(at));
        let Some(span) = self.open_span((false, id)) else { return };
        if span.active.is_empty() {
            (span.thread, span.task) = (thread, task);
        }
        span.active.push(Stretch { thread, task, time });
    }

    pub(super) fn span_exited(&mut self, thread: ThreadIndex, at: Ns, id: u64) {
        let Some(span) = self.open_span((false, id)) else { return };
        let latest = span.active.iter_mut().rfind(|stretch| stretch.time.open && stretch.thread == thread);
        if let Some(stretch) = latest {
            close(&mut stretch.time, at);
        }
    }

    pub(super) fn span_field(&mut self, id: u64, key: StrId, value: StrId) {
        if let Some(index) = self.span_index[0].get(id) {
            self.trace.spans[index as usize].fields.push((key, value));
        }
    }

    pub(super) fn logged(&mut self, thread: ThreadIndex, at: Ns, category: StrId, message: StrId) {
        let task = self.polled_task(thread);
        self.trace.logs.push(LogEntry { at, thread, task, category, message });
    }

    pub(super) fn counted(&mut self, at: Ns, name_id: StrId, value: i64) {
        let counters = &mut self.trace.counters;
        let index = self.counter_index.get_or_insert_with(u64::from(name_id.0), || {
            counters.push(CounterTrack { name: String::new(), name_id, values: Vec::new() });
            counters.len() as u32 - 1
        });
        counters[index as usize].values.push((at, value));
    }

    pub(super) fn named_fd(&mut self, at: Ns, fd: Fd, name: StrId) {
        self.trace.fd_names.push(FdName { at, fd, name });
    }
}
