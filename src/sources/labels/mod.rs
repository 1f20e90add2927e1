//! pprof labels: words about what runs, to select and group profiles by.
//!
//! [`Labels`] hold for what a thread does while a guard lives, or for a future while it is polled. A task that
//! `kymo::spawn` or `.traced()` makes inherits those in force, and keeps them. Changes are events, one for each label;
//! a capture is told of labels that stand already: of a task's at its next poll (`polls`), of a thread's by the drain,
//! which reads them where the thread puts them (`public`).
//!
//! In a task's poll the task's labels are in force and the thread's are not, as with Go's goroutines. Until the first
//! label is made all this costs a poll one load.

#[cfg(feature = "tokio")]
mod polls;
mod public;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(feature = "tokio")]
pub(super) use self::polls::Inherited;
#[cfg(feature = "tokio")]
pub use self::polls::Labelled;
use self::public::Public;
use crate::events::{Group, Label, LabelNumber, StrId, TaskId, Value};
use crate::limits::LABELS;
use crate::record;

/// Whether a label was ever put on.
static USED: AtomicBool = AtomicBool::new(false);

thread_local! {
    static STATE: State = const {
        State { current: RefCell::new(None), task: Cell::new(None), published: Public::new() }
    };
}

/// A text: mostly a literal.
#[derive(Clone)]
enum Text {
    Literal(&'static str),
    Shared(Arc<str>),
}

impl PartialEq for Text {
    fn eq(&self, other: &Text) -> bool {
        self.as_str() == other.as_str()
    }
}

#[derive(Clone, PartialEq)]
enum Word {
    Text(Text),
    Number(i64, &'static str),
}

/// Labels by their keys; `None` are none.
type Set = Option<Arc<[(Text, Word)]>>;

/// What labels this thread has.
struct State {
    /// In force now.
    current: RefCell<Set>,
    /// The task whose poll runs here, 0 if that is not recorded.
    task: Cell<Option<TaskId>>,
    /// Its own, where the drain reads them.
    published: Public,
}

/// Keys with values: what profiles can be selected and grouped by.
///
/// ```
/// use kymo::{FutureExt, Labels};
///
/// let buying = Labels::new().text("endpoint", "/buy").number("shard", 3);
/// {
///     let _labels = buying.enter();
///     // What this thread does here has them, and the tasks that are spawned here.
/// }
/// let request = async { /* … */ }.labelled(buying);
/// # drop(request);
/// ```
#[derive(Clone, Default)]
#[must_use = "labels do nothing until they are entered"]
pub struct Labels(Vec<(Text, Word)>);

impl Labels {
    /// None.
    pub fn new() -> Labels {
        Labels(Vec::new())
    }

    /// And this one. At most [`LABELS`] are kept, and [`STRING_BYTES`](crate::limits::STRING_BYTES) of a text.
    pub fn text(self, key: impl Into<LabelText>, value: impl Into<LabelText>) -> Labels {
        self.with(key.into().0, Word::Text(value.into().0))
    }

    /// And this one, a number.
    pub fn number(self, key: impl Into<LabelText>, value: i64) -> Labels {
        self.quantity(key, value, "")
    }

    /// And this one, a number in a unit (`bytes`).
    pub fn quantity(self, key: impl Into<LabelText>, value: i64, unit: &'static str) -> Labels {
        self.with(key.into().0, Word::Number(value, unit))
    }

    fn with(mut self, key: Text, value: Word) -> Labels {
        put(&mut self.0, key, value);
        self
    }

    /// Puts them on what this thread, or the task that it polls, does until the guard is dropped. Labels of the same
    /// keys come back then.
    ///
    /// The guard must be dropped where it was made: hold it across an await only in a task of `kymo::spawn` or
    /// `.traced()`. Elsewhere give a future its labels by `.labelled()`.
    pub fn enter(&self) -> LabelGuard {
        let before = with_state(|state| {
            let all = self.over(&state.current.borrow());
            state.change(all)
        });
        LabelGuard { before: before.flatten(), _stays: PhantomData }
    }

    /// These and, of other keys, those in a set.
    fn over(&self, outer: &Set) -> Set {
        USED.store(true, Ordering::Relaxed);
        let mut all = outer.as_deref().unwrap_or_default().to_vec();
        self.0.iter().for_each(|(key, value)| put(&mut all, key.clone(), value.clone()));
        (!all.is_empty()).then(|| all.into())
    }
}

/// Replaces a key's value, or adds it where there is room.
fn put(all: &mut Vec<(Text, Word)>, key: Text, value: Word) {
    if let Some((_, old)) = all.iter_mut().find(|(known, _)| *known == key) {
        *old = value;
    } else if all.len() < LABELS {
        all.push((key, value));
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.iter().map(|(key, value)| match value {
            Word::Text(text) => (key.as_str(), text.as_str().to_owned()),
            Word::Number(number, unit) => (key.as_str(), format!("{number}{unit}")),
        });
        f.debug_map().entries(shown).finish()
    }
}

/// A key or a text of a label: a literal, or a `String`.
#[derive(Clone)]
pub struct LabelText(Text);

impl fmt::Debug for LabelText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_str().fmt(f)
    }
}

impl From<&'static str> for LabelText {
    fn from(text: &'static str) -> LabelText {
        LabelText(Text::Literal(text))
    }
}

impl From<String> for LabelText {
    fn from(text: String) -> LabelText {
        LabelText(Text::Shared(text.into()))
    }
}

impl Text {
    fn as_str(&self) -> &str {
        match self {
            Text::Literal(text) => text,
            Text::Shared(text) => text,
        }
    }
}

/// Takes labels off when it is dropped: made by [`Labels::enter`].
#[must_use = "labels are taken off when the guard is dropped"]
pub struct LabelGuard {
    before: Set,
    /// On another thread it would take off that one's labels.
    _stays: PhantomData<*const ()>,
}

impl fmt::Debug for LabelGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LabelGuard").finish_non_exhaustive()
    }
}

impl Drop for LabelGuard {
    fn drop(&mut self) {
        let before = self.before.take();
        with_state(|state| state.change(before));
    }
}

/// Nothing on a thread that is being torn down.
fn with_state<R>(act: impl FnOnce(&State) -> R) -> Option<R> {
    STATE.try_with(act).ok()
}

impl State {
    /// Puts another set in force, and tells what is different. The one before comes back.
    fn change(&self, to: Set) -> Set {
        if record::enabled(Group::Label) {
            let task = self.task.get().unwrap_or_default();
            differences(&self.current.borrow(), &to, |key, value| tell(key, value, task));
        }
        if self.task.get().is_none() {
            self.published.change(&to);
        }
        self.current.replace(to)
    }
}

/// What is to be put on and (without a value) taken off, to get from one set to another.
fn differences(from: &Set, to: &Set, mut each: impl FnMut(&Text, Option<&Word>)) {
    let (from, to) = (from.as_deref().unwrap_or_default(), to.as_deref().unwrap_or_default());
    to.iter().filter(|label| !from.contains(label)).for_each(|(key, value)| each(key, Some(value)));
    let gone = from.iter().filter(|(key, _)| to.iter().all(|(other, _)| other != key));
    gone.for_each(|(key, _)| each(key, None));
}

enum Told {
    Text(Label),
    Number(LabelNumber),
}

fn events(key: &Text, value: Option<&Word>, task: TaskId) -> Told {
    let key = record::string(key.as_str());
    match value {
        None => Told::Text(Label { key, value: StrId(0), task }),
        Some(Word::Text(text)) => Told::Text(Label { key, value: record::spare_string(text.as_str()), task }),
        Some(&Word::Number(number, unit)) => {
            Told::Number(LabelNumber { key, number: Value(number), unit: record::string(unit), task })
        }
    }
}

fn tell(key: &Text, value: Option<&Word>, task: TaskId) {
    match events(key, value, task) {
        Told::Text(label) => record::emit(label),
        Told::Number(label) => record::emit(label),
    }
}
