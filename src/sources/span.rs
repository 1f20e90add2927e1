//! What the user marks: spans, user tasks, messages, counters.
//!
//! A call site is a static that keeps its interned name, so that marking costs an event and no look-up. Guards may be
//! held across an await and dropped on another thread: the end is recorded wherever that is. With recording off each
//! costs one load. Messages are formatted on the stack, and only while somebody records.

use std::fmt::Arguments;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::text::Text;
use crate::events::{
    Counter, Group, Id, Log, SpanBegin, SpanEnd, SpanField, StrId, UserTaskBegin, UserTaskEnd, Value,
};
use crate::record;

/// Numbers of spans and user tasks.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A place in the code that marks under one name.
#[derive(Debug)]
pub struct Site {
    name: &'static str,
    /// The name's number; 0 until it is interned.
    number: AtomicU32,
}

impl Site {
    /// Under this name.
    pub const fn new(name: &'static str) -> Site {
        Site { name, number: AtomicU32::new(0) }
    }

    #[inline]
    fn id(&self) -> StrId {
        match self.number.load(Ordering::Relaxed) {
            0 => self.intern(),
            number => StrId(number),
        }
    }

    #[cold]
    fn intern(&self) -> StrId {
        let id = record::string(self.name);
        self.number.store(id.0, Ordering::Relaxed);
        id
    }
}

/// A span's number.
#[inline]
pub(super) fn new_span() -> Id {
    Id(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Records a field of a span, its value cut if it is long.
pub(super) fn tell_field(span: Id, key: &str, value: Arguments<'_>) {
    if record::enabled(Group::User) {
        let value = record::spare_string(Text::of(value).as_str());
        record::emit(SpanField { span, key: record::string(key), value });
    }
}

/// A named interval, which ends when this is dropped: made by [`span!`](crate::span).
#[derive(Debug)]
#[must_use = "a span ends when it is dropped"]
pub struct SpanGuard(Option<Id>);

impl SpanGuard {
    /// Begins a span.
    #[inline]
    pub fn begin(site: &'static Site) -> SpanGuard {
        if !record::enabled(Group::User) {
            return SpanGuard(None);
        }
        let span = new_span();
        record::emit(SpanBegin { span, name: site.id(), parent: Id(0) });
        SpanGuard(Some(span))
    }

    /// Notes something about it; a long value is cut.
    pub fn field(&self, key: &str, value: &str) {
        if let Some(span) = self.0 {
            tell_field(span, key, format_args!("{value}"));
        }
    }
}

impl Drop for SpanGuard {
    #[inline]
    fn drop(&mut self) {
        if let Some(span) = self.0 {
            record::emit(SpanEnd { span });
        }
    }
}

/// A piece of work that may cross threads and tasks: a request, a job. It ends when this is dropped.
///
/// ```
/// let order = kymo::UserTask::new("order");
/// let charge = order.child("charge");
/// drop(charge);
/// ```
#[derive(Debug)]
#[must_use = "a user task ends when it is dropped"]
pub struct UserTask(Id);

impl UserTask {
    /// Begins one.
    pub fn new(name: &str) -> UserTask {
        UserTask::begin(name, Id(0))
    }

    /// Begins one that is part of this one.
    pub fn child(&self, name: &str) -> UserTask {
        UserTask::begin(name, self.0)
    }

    fn begin(name: &str, parent: Id) -> UserTask {
        let user_task = Id(NEXT.fetch_add(1, Ordering::Relaxed));
        if record::enabled(Group::User) {
            record::emit(UserTaskBegin { user_task, parent, name: record::string(name) });
        }
        UserTask(user_task)
    }
}

impl Drop for UserTask {
    fn drop(&mut self) {
        record::emit(UserTaskEnd { user_task: self.0 });
    }
}

/// Records a message: see [`log!`](crate::log).
pub fn log(category: &'static Site, message: Arguments<'_>) {
    if !record::enabled(Group::User) {
        return;
    }
    let text = Text::of(message);
    record::emit(Log { category: category.id(), message: record::spare_string(text.as_str()) });
}

/// Records a counter's value: see [`counter!`](crate::counter).
#[inline]
pub fn counter(name: &'static Site, value: i64) {
    if record::enabled(Group::User) {
        record::emit(Counter { name: name.id(), value: Value(value) });
    }
}

/// Begins a span that ends when the returned guard is dropped. The name is a literal.
///
/// ```
/// let _render = kymo::span!("render");
/// ```
#[macro_export]
macro_rules! span {
    ($name:expr) => {{
        static SITE: $crate::sources::span::Site = $crate::sources::span::Site::new($name);
        $crate::sources::span::SpanGuard::begin(&SITE)
    }};
}

/// Records a message under a category, formatted only while somebody records.
///
/// ```
/// kymo::log!("db", "slow query: {} ms", 48);
/// ```
#[macro_export]
macro_rules! log {
    ($category:expr, $($message:tt)+) => {{
        static SITE: $crate::sources::span::Site = $crate::sources::span::Site::new($category);
        $crate::sources::span::log(&SITE, ::std::format_args!($($message)+));
    }};
}

/// Records a counter's value.
///
/// ```
/// kymo::counter!("queue depth", 7);
/// ```
#[macro_export]
macro_rules! counter {
    ($name:expr, $value:expr) => {{
        static SITE: $crate::sources::span::Site = $crate::sources::span::Site::new($name);
        $crate::sources::span::counter(&SITE, $value);
    }};
}
