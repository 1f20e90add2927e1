//! The tracks that are not threads: tasks with their states, spans, user tasks, counters.
//!
//! They share one sequence, track after track: a switch of the default track costs less than naming it in each event.

use std::collections::BTreeMap;
use std::io;

use super::intern::{Arg, Category, TextId};
use super::packets::{Sequence, TrackEvent, Type, Value};
use super::threads::open;
use super::{Export, tracks};
use crate::events::StackId;
use crate::export::rows::Nest;
use crate::model::{Cause, Ns, Span, State, Task};

/// Writes each task: its life, and inside it the states that it went through.
pub(super) fn write_tasks(export: &mut Export<'_, '_>, sequence: &mut Sequence) -> io::Result<()> {
    let trace = export.trace;
    let words = Words {
        states: State::ALL.map(|state| export.dictionary.text(state.word())),
        threads: (0..trace.threads.len())
            .map(|thread| export.dictionary.text(export.labels.thread(thread as u32)))
            .collect(),
    };
    for (index, task) in trace.tasks.iter().enumerate() {
        let name = export.labels.task(index as u32);
        let track = tracks::task(index, task, name, export);
        sequence.switch_to(track, &mut export.out.raw);
        let name = export.dictionary.text(name);
        write_life(task, name, export, sequence);
        write_states(task, &words, export, sequence);
        sequence.end(task.life.end, &mut export.out.raw);
        export.out.settle()?;
    }
    Ok(())
}

/// Words of states and names of threads by number.
struct Words {
    states: [TextId; 8],
    threads: Vec<TextId>,
}

fn write_life<'a>(task: &'a Task, name: TextId, export: &mut Export<'a, '_>, sequence: &mut Sequence) {
    let mut args = vec![(Arg::Task, Value::Number(task.id.0 as i64))];
    if let Some(outcome) = task.outcome {
        args.push((Arg::Outcome, Value::Text(export.dictionary.text(outcome.word()))));
    }
    if !task.site.is_empty() {
        args.push((Arg::Site, Value::Text(export.dictionary.text(&task.site))));
    }
    if let Some(parent) = task.parent.and_then(|parent| export.trace.tasks.get(parent as usize)) {
        args.push((Arg::Parent, Value::Number(parent.id.0 as i64)));
    }
    args.extend_from_slice(open(task.life.open));
    let event = TrackEvent::new(Type::Begin, Category::Task, name);
    let event = TrackEvent { correlation: task.id.0, args: &args, ..event };
    sequence.event(task.life.begin, &event, &mut export.dictionary, &mut export.out.raw);
}

/// States follow one another without a gap, each inside the task's life.
fn write_states(task: &Task, words: &Words, export: &mut Export<'_, '_>, sequence: &mut Sequence) {
    let ends = task.states.iter().skip(1).map(|change| change.at).chain([task.life.end]);
    for (change, end) in task.states.iter().zip(ends) {
        let (begin, end) = (change.at.max(task.life.begin), end.min(task.life.end));
        if begin >= end {
            continue;
        }
        let (stack, thread) = about(change.cause, words, export);
        let args = thread.map(|thread| [(Arg::Thread, Value::Text(thread))]);
        let event = TrackEvent::new(Type::Begin, Category::TaskState, words.states[change.state as usize]);
        let event = TrackEvent { stack, args: args.as_ref().map_or(&[], |args| args.as_slice()), ..event };
        sequence.event(begin, &event, &mut export.dictionary, &mut export.out.raw);
        sequence.end(end, &mut export.out.raw);
    }
}

/// What a task's state is about: where it awaits, or the thread that polls it.
fn about(cause: Cause, words: &Words, export: &Export<'_, '_>) -> (StackId, Option<TextId>) {
    let trace = export.trace;
    match cause {
        Cause::Suspension(index) => {
            (trace.suspensions.get(index as usize).map_or(StackId(0), |suspension| suspension.stack), None)
        }
        Cause::Poll(index) => {
            let poll = trace.polls.get(index as usize);
            (StackId(0), poll.and_then(|poll| words.threads.get(poll.thread as usize).copied()))
        }
        _ => (StackId(0), None),
    }
}

/// Whose spans stand together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    UserTasks,
    Task(u32),
    Thread(u32),
}

impl Owner {
    fn of(span: &Span) -> Owner {
        match (span.user_task, span.task) {
            (true, _) => Owner::UserTasks,
            (false, Some(task)) => Owner::Task(task),
            (false, None) => Owner::Thread(span.thread),
        }
    }
}

/// Writes spans and user tasks: those of one owner on as few tracks as let them nest.
pub(super) fn write_spans(export: &mut Export<'_, '_>, sequence: &mut Sequence) -> io::Result<()> {
    let mut lanes: BTreeMap<Owner, Vec<(Nest, Vec<&Span>)>> = BTreeMap::new();
    for span in &export.trace.spans {
        let lanes = lanes.entry(Owner::of(span)).or_default();
        let fits = |(nest, _): &mut (Nest, Vec<&Span>)| {
            nest.close(span.time.begin, |_| {});
            nest.open(span.time.end)
        };
        match lanes.iter_mut().position(fits) {
            Some(lane) => lanes[lane].1.push(span),
            None => {
                let mut nest = Nest::default();
                let _fits = nest.open(span.time.end);
                lanes.push((nest, vec![span]));
            }
        }
    }
    for (owner, lanes) in lanes {
        for (_, spans) in lanes {
            let track = span_track(owner, spans[0], export);
            sequence.switch_to(track, &mut export.out.raw);
            write_lane(&spans, export, sequence)?;
        }
    }
    Ok(())
}

fn span_track(owner: Owner, first: &Span, export: &mut Export<'_, '_>) -> u64 {
    match owner {
        Owner::UserTasks => {
            let name = export.trace.text(first.name);
            tracks::user_task(if name.is_empty() { "user task" } else { name }, export)
        }
        Owner::Task(task) => {
            let id = export.trace.tasks.get(task as usize).map_or(0, |task| task.id.0);
            let name = format!("spans of {} #{id}", export.labels.task(task));
            tracks::child(tracks::PROCESS, &name, export)
        }
        Owner::Thread(thread) => {
            let name = format!("spans of {}", export.labels.thread(thread));
            tracks::child(tracks::PROCESS, &name, export)
        }
    }
}

fn write_lane<'a>(
    spans: &[&'a Span],
    export: &mut Export<'a, '_>,
    sequence: &mut Sequence,
) -> io::Result<()> {
    let mut nest = Nest::default();
    for span in spans {
        nest.close(span.time.begin, |end| sequence.end(end, &mut export.out.raw));
        let fits = nest.open(span.time.end);
        debug_assert!(fits, "spans of a lane nest");
        write_span(span, export, sequence);
        export.out.settle()?;
    }
    nest.close(Ns::MAX, |end| sequence.end(end, &mut export.out.raw));
    Ok(())
}

fn write_span<'a>(span: &'a Span, export: &mut Export<'a, '_>, sequence: &mut Sequence) {
    let trace = export.trace;
    let (category, unnamed) = match span.user_task {
        true => (Category::UserTask, "user task"),
        false => (Category::Span, "span"),
    };
    let name = trace.text(span.name);
    let name = export.dictionary.text(if name.is_empty() { unnamed } else { name });
    let thread = export.dictionary.text(export.labels.thread(span.thread));
    let mut args = vec![(Arg::Thread, Value::Text(thread))];
    args.extend(span.parent.map(|parent| (Arg::Parent, Value::Number(parent as i64))));
    if !span.active.is_empty() {
        args.push((Arg::ActiveNs, Value::Number(span.active_ns() as i64)));
    }
    args.extend_from_slice(open(span.time.open));
    let fields: Vec<_> = span
        .fields
        .iter()
        .map(|&(key, value)| {
            (export.dictionary.text(trace.text(key)), export.dictionary.text(trace.text(value)))
        })
        .collect();
    let event = TrackEvent { args: &args, fields: &fields, ..TrackEvent::new(Type::Begin, category, name) };
    sequence.event(span.time.begin, &event, &mut export.dictionary, &mut export.out.raw);
}

/// Writes counters, and one that shows when events were lost.
pub(super) fn write_counters(export: &mut Export<'_, '_>, sequence: &mut Sequence) -> io::Result<()> {
    let trace = export.trace;
    for counter in &trace.counters {
        let track = tracks::counter(&counter.name, export);
        sequence.switch_to(track, &mut export.out.raw);
        for &(at, value) in &counter.values {
            sequence.count(at, value, &mut export.out.raw);
            export.out.settle()?;
        }
    }
    if !trace.losses.is_empty() {
        let track = tracks::counter("kymo: events lost", export);
        sequence.switch_to(track, &mut export.out.raw);
        let mut lost = 0;
        for loss in &trace.losses {
            lost += loss.count as i64;
            sequence.count(loss.at, lost, &mut export.out.raw);
        }
    }
    Ok(())
}
