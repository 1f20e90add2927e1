//! One moment of one row, in full: what the slice there is, its facts, its stacks, who woke it and whom it woke.
//!
//! Times are nanoseconds from the trace's start as JSON numbers: exact, since the store refuses traces beyond 2^53 ns.
//! What may be larger goes as text: addresses in hexadecimal, counters, results.

use serde::Serialize;

use super::store::Loaded;
use super::{texts, tracks};
use crate::analysis::links::{Arrow, Direction, Place};
use crate::analysis::rows::{CLASSES, RowKey, Slice, SliceKind};
use crate::analysis::tiles::{Look, Row};
use crate::events::StackId;
use crate::limits::ARROWS;
use crate::model::labels::LabelValue;
use crate::model::{Interval, Ns, PollIndex, ThreadIndex, Trace};

/// A property of a slice.
#[derive(Debug, Serialize)]
pub(super) struct Fact {
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// A time span.
    #[serde(skip_serializing_if = "Option::is_none")]
    ns: Option<Ns>,
    /// An instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Ns>,
    /// The row that it is about: with `at` a place to go to.
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<String>,
}

/// A frame as the page shows it.
#[derive(Debug, Serialize)]
struct FrameText {
    function: String,
    file: String,
    line: u32,
    inlined: bool,
    /// It belongs to what the program is built on: std, the runtime, kymo's hooks.
    machinery: bool,
}

#[derive(Debug, Serialize)]
struct StackText {
    title: &'static str,
    frames: Vec<FrameText>,
}

#[derive(Debug, Serialize)]
struct End {
    at: Ns,
    rows: Vec<String>,
}

/// An arrow as the page draws it.
#[derive(Debug, Serialize)]
struct ArrowText {
    into: bool,
    from: End,
    to: End,
    /// Who wakes whom, in words.
    text: String,
}

/// A number of things in a class.
#[derive(Debug, Serialize)]
struct Number {
    class: u8,
    count: u32,
}

/// What is at a moment of a row.
#[derive(Debug, Serialize)]
pub(super) struct Details {
    row: String,
    track: Option<String>,
    look: u8,
    begin: Ns,
    end: Ns,
    /// It began before the capture, or had not ended when the capture did.
    open: bool,
    title: String,
    subtitle: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<u8>,
    facts: Vec<Fact>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    counts: Vec<Number>,
    stacks: Vec<StackText>,
}

/// The arrows of a slice.
#[derive(Debug, Serialize)]
pub(super) struct Flows {
    arrows: Vec<ArrowText>,
    total: usize,
}

/// Which slice is asked for, seen from an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// The longest that touches the window from there on.
    Here(Ns),
    /// The first that begins after it.
    Next,
    /// The last that begins before it.
    Previous,
}

/// Finds a slice of a row.
pub(super) fn find(row: &Row, at: Ns, which: Which) -> Option<Slice> {
    let slices = row.slices();
    match which {
        Which::Here(dt) => row.pick(at, at.saturating_add(dt)),
        Which::Next => slices.get(slices.partition_point(|slice| slice.begin <= at)).copied(),
        Which::Previous => {
            slices.get(slices.partition_point(|slice| slice.begin < at).checked_sub(1)?).copied()
        }
    }
}

/// Everything about a moment of a row; inside, `None` if nothing is there, and outside if there is no such row.
pub(super) fn details(loaded: &Loaded, key: RowKey, at: Ns, which: Which) -> Option<Option<Details>> {
    let row = loaded.row(key)?;
    Some(match row.look() {
        Look::Steps | Look::Values => Some(moment(loaded, key, &row, at)),
        _ => find(&row, at, which).map(|slice| of_slice(loaded, key, row.look(), &slice)),
    })
}

/// The arrows of a slice of a row.
pub(super) fn flows(loaded: &Loaded, key: RowKey, at: Ns) -> Option<Flows> {
    let row = loaded.row(key)?;
    let Some(slice) = find(&row, at, Which::Here(0)) else {
        return Some(Flows { arrows: Vec::new(), total: 0 });
    };
    let (arrows, total) = loaded.links.arrows(&loaded.trace, &loaded.rows, key, &slice, ARROWS);
    Some(Flows { arrows: arrows.iter().map(|arrow| arrow_text(loaded, arrow)).collect(), total })
}

fn moment(loaded: &Loaded, key: RowKey, row: &Row, at: Ns) -> Details {
    let counts: Vec<Number> = (0..CLASSES as u8)
        .zip(row.counts(at))
        .filter(|(_, count)| *count > 0)
        .map(|(class, count)| Number { class, count })
        .collect();
    let value = row.value(at).map(|value| text("value", value.to_string()));
    let mut facts: Vec<Fact> = value.into_iter().collect();
    facts.extend(
        counts
            .iter()
            .map(|number| text("number", format!("{} {}", number.count, texts::class(number.class)))),
    );
    Details {
        title: track_label(loaded, key),
        subtitle: String::new(),
        row: key.to_string(),
        track: track_key(loaded, key),
        look: row.look() as u8,
        begin: at,
        end: at,
        open: false,
        class: None,
        facts: if counts.is_empty() { facts } else { Vec::new() },
        counts,
        stacks: Vec::new(),
    }
}

fn of_slice(loaded: &Loaded, key: RowKey, look: Look, slice: &Slice) -> Details {
    let (title, mut facts) = describe(loaded, slice);
    let whole = whole(loaded, slice);
    facts.extend(arrow_facts(loaded, key, slice));
    // What a part shows of the whole is said only where it is a part; what leads somewhere comes first.
    facts.retain(|fact| fact.ns != Some(slice.end - slice.begin));
    facts.sort_by_key(|fact| fact.row.is_none());
    let state = if look == Look::States { texts::class(slice.class) } else { String::new() };
    let title = if title.is_empty() { state.clone() } else { title };
    Details {
        subtitle: if title == state { track_label(loaded, key) } else { state },
        title,
        row: key.to_string(),
        track: track_key(loaded, key),
        look: look as u8,
        begin: slice.begin,
        end: slice.end,
        open: whole.is_some_and(|time| time.open),
        class: Some(slice.class),
        facts,
        counts: Vec::new(),
        stacks: stacks(loaded, slice),
    }
}

/// The time of what a slice is about; a slice may be a part of it.
fn whole(loaded: &Loaded, slice: &Slice) -> Option<Interval> {
    let (trace, index) = (&loaded.trace, slice.index as usize);
    match slice.kind {
        SliceKind::State => None,
        SliceKind::Wait => Some(trace.waits[index].time),
        SliceKind::Call => Some(trace.calls[index].time),
        SliceKind::Poll => Some(trace.polls[index].time),
        SliceKind::Suspension => Some(trace.suspensions[index].time),
        SliceKind::Park => Some(trace.parks[index].time),
        SliceKind::Span => Some(trace.spans[index].time),
    }
}

/// What a slice is, and its facts.
fn describe(loaded: &Loaded, slice: &Slice) -> (String, Vec<Fact>) {
    let index = slice.index;
    match slice.kind {
        SliceKind::State => (String::new(), Vec::new()),
        SliceKind::Park => ("parked: nothing to do".to_string(), Vec::new()),
        SliceKind::Poll => describe_poll(loaded, index),
        SliceKind::Wait => describe_wait(loaded, index),
        SliceKind::Call => describe_call(loaded, index),
        SliceKind::Suspension => describe_suspension(loaded, index),
        SliceKind::Span => describe_span(loaded, index),
    }
}

fn describe_poll(loaded: &Loaded, index: u32) -> (String, Vec<Fact>) {
    let trace = &loaded.trace;
    let poll = &trace.polls[index as usize];
    let facts = vec![
        link("task", texts::task(trace, poll.task), RowKey::Task(poll.task), poll.time.begin),
        link("thread", texts::thread(trace, poll.thread), RowKey::Thread(poll.thread), poll.time.begin),
        text("outcome", poll.outcome.word().to_string()),
        span_of("whole poll", poll.time),
    ];
    (format!("poll of {}", texts::task(trace, poll.task)), facts)
}

fn describe_wait(loaded: &Loaded, index: u32) -> (String, Vec<Fact>) {
    let trace = &loaded.trace;
    let wait = &trace.waits[index as usize];
    let mut facts = vec![
        link("thread", texts::thread(trace, wait.thread), RowKey::Thread(wait.thread), wait.time.begin),
        text("address", format!("{:#x}", wait.addr)),
        text("by", wait.kind.word().to_string()),
        text("outcome", wait.outcome.word().to_string()),
    ];
    facts.extend(in_poll(loaded, wait.in_poll));
    facts.extend(labels(trace, wait.thread, wait.in_poll, wait.time.begin));
    let lock = loaded.rows.lock_of_wait[index as usize];
    if let Some(holder) = loaded.holders[index as usize].filter(|_| lock != u32::MAX) {
        let name = texts::thread(trace, holder);
        facts.push(link("held longest by", name, RowKey::Thread(holder), wait.time.begin));
    }
    let title = match loaded.locks.get(lock as usize) {
        Some(text) => {
            facts.push(link("lock", text.label.clone(), RowKey::Lock(lock), wait.time.begin));
            format!("waits for the {}", text.label)
        }
        None => match texts::function(trace, wait.stack) {
            Some(function) => {
                format!("waits in {} ({})", texts::short(function), texts::waits_for(trace, index))
            }
            None => format!("waits ({})", texts::waits_for(trace, index)),
        },
    };
    facts.push(span_of("whole wait", wait.time));
    (title, facts)
}

fn describe_call(loaded: &Loaded, index: u32) -> (String, Vec<Fact>) {
    let trace = &loaded.trace;
    let call = &trace.calls[index as usize];
    let mut facts =
        vec![link("thread", texts::thread(trace, call.thread), RowKey::Thread(call.thread), call.time.begin)];
    if call.fd.0 >= 0 {
        let name = loaded.descriptors.name_of(trace, call);
        facts.push(text(
            "descriptor",
            match name {
                Some(name) => format!("{} ({name})", call.fd.0),
                None => call.fd.0.to_string(),
            },
        ));
    }
    let result = if call.result < 0 { format!("error {}", -call.result) } else { call.result.to_string() };
    facts.push(text("result", result));
    facts.extend(in_poll(loaded, call.in_poll));
    facts.extend(labels(trace, call.thread, call.in_poll, call.time.begin));
    facts.push(span_of("whole call", call.time));
    (call.call.word().to_string(), facts)
}

fn describe_suspension(loaded: &Loaded, index: u32) -> (String, Vec<Fact>) {
    let trace = &loaded.trace;
    let suspension = &trace.suspensions[index as usize];
    let mut facts = vec![link(
        "task",
        texts::task(trace, suspension.task),
        RowKey::Task(suspension.task),
        suspension.time.begin,
    )];
    let lock = loaded.rows.lock_of_suspension[index as usize];
    if let Some(text) = loaded.locks.get(lock as usize) {
        facts.push(link("lock", text.label.clone(), RowKey::Lock(lock), suspension.time.begin));
    }
    facts.push(span_of("whole suspension", suspension.time));
    let title = match texts::function(trace, suspension.stack) {
        Some(function) => format!("awaits {}", texts::short(function)),
        None => "suspended".to_string(),
    };
    (title, facts)
}

fn describe_span(loaded: &Loaded, index: u32) -> (String, Vec<Fact>) {
    let trace = &loaded.trace;
    let span = &trace.spans[index as usize];
    let mut facts =
        vec![link("thread", texts::thread(trace, span.thread), RowKey::Thread(span.thread), span.time.begin)];
    if let Some(task) = span.task {
        facts.push(link("task", texts::task(trace, task), RowKey::Task(task), span.time.begin));
    }
    let fields =
        span.fields.iter().map(|(key, value)| format!("{} = {}", trace.text(*key), trace.text(*value)));
    facts.extend(fields.map(|field| text("field", field)));
    facts.push(span_of("whole span", span.time));
    if !span.active.is_empty() {
        facts.push(Fact { name: "active", text: None, ns: Some(span.active_ns()), at: None, row: None });
        facts.push(text("entered", format!("{} times", span.active.len())));
    }
    (trace.text(span.name).to_string(), facts)
}

fn in_poll(loaded: &Loaded, poll: Option<u32>) -> Option<Fact> {
    let poll = &loaded.trace.polls[poll? as usize];
    let task = texts::task(&loaded.trace, poll.task);
    Some(link("inside a poll of", task, RowKey::Task(poll.task), poll.time.begin))
}

/// The labels that the program gave to what happened.
fn labels(
    trace: &Trace,
    thread: ThreadIndex,
    in_poll: Option<PollIndex>,
    at: Ns,
) -> impl Iterator<Item = Fact> {
    trace.labels_at(thread, in_poll, at).iter().map(|label| {
        let value = match label.value {
            LabelValue::Text(text) => trace.text(text).to_string(),
            LabelValue::Number(number, unit) => format!("{number} {}", trace.text(unit)),
        };
        text("label", format!("{} = {}", trace.text(label.key), value.trim_end()))
    })
}

/// Who woke it and whom it woke, as facts to follow.
fn arrow_facts(loaded: &Loaded, key: RowKey, slice: &Slice) -> Vec<Fact> {
    let (arrows, total) = loaded.links.arrows(&loaded.trace, &loaded.rows, key, slice, FACT_ARROWS);
    let mut facts: Vec<Fact> = arrows
        .iter()
        .map(|arrow| {
            let (name, there) = match arrow.direction {
                Direction::Into => ("woken by", &arrow.from),
                Direction::OutOf => ("woke", &arrow.to),
            };
            link(name, place_text(loaded, there), there.rows[0], there.at)
        })
        .collect();
    if total > facts.len() {
        facts.push(text("woke", format!("{} more", total - facts.len())));
    }
    facts
}

/// Arrows that the details list; the others are drawn.
const FACT_ARROWS: usize = 8;

fn stacks(loaded: &Loaded, slice: &Slice) -> Vec<StackText> {
    let (trace, index) = (&loaded.trace, slice.index as usize);
    let mut stacks = Vec::new();
    let mut add = |title, stack: StackId| {
        if stack != StackId(0) {
            stacks.push(StackText { title, frames: frames(loaded, stack) });
        }
    };
    match slice.kind {
        SliceKind::Wait => {
            add("waits here", trace.waits[index].stack);
            if let Some(wake) = loaded.links.ended_by(slice.index) {
                add("woken here", trace.wakes[wake as usize].stack);
            }
        }
        SliceKind::Call => add("calls here", trace.calls[index].stack),
        SliceKind::Suspension => add("awaits here", trace.suspensions[index].stack),
        SliceKind::Poll => poll_stacks(loaded, slice.index, &mut add),
        SliceKind::State | SliceKind::Park | SliceKind::Span => {}
    }
    stacks
}

/// A poll has no stack of its own: where the task awaited before it, what woke it, where it awaits after it.
fn poll_stacks(loaded: &Loaded, index: u32, add: &mut impl FnMut(&'static str, StackId)) {
    let trace = &loaded.trace;
    let poll = &trace.polls[index as usize];
    let suspended_at = |at: Ns, end: bool| {
        let of = |suspension: &&crate::model::Suspension| {
            suspension.task == poll.task
                && (if end { suspension.time.end <= at } else { suspension.time.begin == at })
        };
        let around = trace.suspensions.partition_point(|suspension| suspension.time.begin < at);
        match end {
            true => trace.suspensions[..around].iter().rev().take(NEARBY).find(of),
            false => trace.suspensions[around..]
                .iter()
                .take_while(|suspension| suspension.time.begin == at)
                .find(of),
        }
    };
    if let Some(after) = suspended_at(poll.time.end, false) {
        add("then awaits here", after.stack);
    }
    if let Some(wake) = poll.woken_by {
        add("woken here", trace.task_wakes[wake as usize].stack);
    }
    if let Some(before) = suspended_at(poll.time.begin, true) {
        add("had awaited here", before.stack);
    }
}

/// How many suspensions back the one before a poll is looked for: others' may have begun in between.
const NEARBY: usize = 4096;

fn frames(loaded: &Loaded, stack: StackId) -> Vec<FrameText> {
    let stacks = &loaded.trace.stacks;
    let machinery = stacks.frames(stack).count() - stacks.user_frames(stack).count();
    stacks
        .frames(stack)
        .enumerate()
        .map(|(depth, frame)| FrameText {
            function: frame.function.clone(),
            file: frame.file.clone(),
            line: frame.line,
            inlined: frame.inlined,
            machinery: depth < machinery,
        })
        .collect()
}

fn arrow_text(loaded: &Loaded, arrow: &Arrow) -> ArrowText {
    let end =
        |place: &Place| End { at: place.at, rows: place.rows.iter().map(ToString::to_string).collect() };
    ArrowText {
        into: arrow.direction == Direction::Into,
        from: end(&arrow.from),
        to: end(&arrow.to),
        text: format!("{} wakes {}", place_text(loaded, &arrow.from), place_text(loaded, &arrow.to)),
    }
}

/// Who is at a place: the task if one is polled, else the thread.
fn place_text(loaded: &Loaded, place: &Place) -> String {
    let task =
        place.rows.iter().find_map(|row| if let RowKey::Task(task) = row { Some(*task) } else { None });
    match (task, place.rows[0]) {
        (Some(task), _) => texts::task(&loaded.trace, task),
        (None, RowKey::Thread(thread)) => texts::thread(&loaded.trace, thread),
        (None, key) => track_label(loaded, key),
    }
}

fn track_label(loaded: &Loaded, key: RowKey) -> String {
    match key {
        RowKey::Overview => "all threads".to_string(),
        _ => tracks::find(loaded, key).map_or(String::new(), |(track, _)| track.label),
    }
}

fn track_key(loaded: &Loaded, key: RowKey) -> Option<String> {
    tracks::find(loaded, key).map(|(track, _)| track.key)
}

fn text(name: &'static str, text: String) -> Fact {
    Fact { name, text: Some(text), ns: None, at: None, row: None }
}

fn span_of(name: &'static str, time: Interval) -> Fact {
    Fact { name, text: None, ns: Some(time.duration()), at: None, row: None }
}

fn link(name: &'static str, text: String, row: RowKey, at: Ns) -> Fact {
    Fact { name, text: Some(text), ns: None, at: Some(at), row: Some(row.to_string()) }
}
