//! Threads' tracks: polls, the calls and waits inside them, and the instants at which they woke somebody.
//!
//! Rows come by begin, for all threads together: so the file is in time's order as a whole, and one that was cut
//! keeps the first part of every thread. A slice's end is written when its track's next row comes, which is never
//! too late: nothing of that track lies in between.

use std::io;

use super::intern::{Arg, Category, Dictionary, TextId};
use super::packets::{Flow, Sequence, TrackEvent, Type, Value};
use super::{Export, tracks};
use crate::events::{Call, PollOutcome, WaitOutcome};
use crate::export::labels::{Labels, wait_name};
use crate::export::rows::{Nest, Row, Rows, descriptor, notable};
use crate::model::machinery::LockKind;
use crate::model::{CallSpan, Ns, Poll, TaskWake, ThreadIndex, Trace, Wait, Wake};

/// Writes what happened on every thread.
pub(super) fn write<'a>(export: &mut Export<'a, '_>) -> io::Result<()> {
    let trace = export.trace;
    let mut threads: Vec<Lanes> = Vec::with_capacity(trace.threads.len());
    for index in 0..trace.threads.len() {
        threads.push(Lanes::begin(index as ThreadIndex, export));
    }
    let names = Names::new(export);
    for row in Rows::new(trace) {
        if let Some(lanes) = threads.get_mut(row.thread() as usize) {
            lanes.put(&row, &names, export);
            export.out.settle()?;
        }
    }
    for lanes in &mut threads {
        lanes.close(export);
        export.out.settle()?;
    }
    Ok(())
}

/// A thread's track, and those beside it that hold what would cross on it.
struct Lanes {
    track: u64,
    lanes: Vec<Lane>,
}

struct Lane {
    sequence: Sequence,
    nest: Nest,
}

impl Lane {
    fn begin(track: u64, export: &mut Export<'_, '_>) -> Lane {
        let (id, start) = (export.tracks.next_sequence(), export.tracks.start_monotonic);
        Lane { sequence: Sequence::in_order(id, track, start, &mut export.out.raw), nest: Nest::default() }
    }

    /// Ends what has ended by `at`.
    #[inline]
    fn close(&mut self, at: Ns, out: &mut Vec<u8>) {
        let Lane { sequence, nest } = self;
        nest.close(at, |end| sequence.end(end, out));
    }
}

impl Lanes {
    fn begin(index: ThreadIndex, export: &mut Export<'_, '_>) -> Lanes {
        let (thread, name) = (&export.trace.threads[index as usize], export.labels.thread(index));
        let track = tracks::thread(thread, name, export);
        Lanes { track, lanes: vec![Lane::begin(track, export)] }
    }

    #[inline]
    fn put<'a>(&mut self, row: &Row<'a>, names: &Names, export: &mut Export<'a, '_>) {
        let time = row.time();
        let lane = match row.is_instant() {
            true => {
                self.lanes[0].close(time.begin, &mut export.out.raw);
                0
            }
            false => self.place(time.begin, time.end, export),
        };
        let sequence = &mut self.lanes[lane].sequence;
        let mut to = To { at: time.begin, sequence, export };
        match row {
            Row::TaskWake(index, wake) => to.task_wake(*index, wake, names),
            Row::Wake(wake) => to.wake(wake, names),
            Row::Log(log) => {
                let (category, message) = (export_text(to.export, log.category, "log"), log.message);
                let message = to.export.trace.text(message);
                let message = to.export.dictionary.text(message);
                let event = TrackEvent::new(Type::Instant, Category::Log, category);
                to.put(&TrackEvent { message: Some(message), ..event });
            }
            Row::Loss(loss) => {
                let reason = to.export.dictionary.text(loss.reason.word());
                let args =
                    [(Arg::Count, Value::Number(loss.count as i64)), (Arg::Reason, Value::Text(reason))];
                to.put(&TrackEvent {
                    args: &args,
                    ..TrackEvent::new(Type::Instant, Category::Loss, names.lost)
                });
            }
            Row::Park(park) => {
                let event = TrackEvent::new(Type::Begin, Category::Park, names.parked);
                to.put(&TrackEvent { args: open(park.time.open), ..event });
            }
            Row::Poll(poll) => to.poll(poll, names),
            Row::Call(call) => to.call(call, names),
            Row::Wait(index, wait) => to.wait(*index, wait, names),
        }
    }

    /// The first lane on which a slice nests, opened there.
    #[inline]
    fn place(&mut self, begin: Ns, end: Ns, export: &mut Export<'_, '_>) -> usize {
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            lane.close(begin, &mut export.out.raw);
            if lane.nest.open(end) {
                return index;
            }
        }
        self.add_lane(end, export)
    }

    #[cold]
    fn add_lane(&mut self, end: Ns, export: &mut Export<'_, '_>) -> usize {
        let track = tracks::child(self.track, "overlapping", export);
        let mut lane = Lane::begin(track, export);
        let fits = lane.nest.open(end);
        debug_assert!(fits, "an empty track takes anything");
        self.lanes.push(lane);
        self.lanes.len() - 1
    }

    /// Ends everything.
    fn close(&mut self, export: &mut Export<'_, '_>) {
        for lane in &mut self.lanes {
            lane.close(Ns::MAX, &mut export.out.raw);
        }
    }
}

/// Where one row goes.
struct To<'s, 'e, 'a, 'o> {
    at: Ns,
    sequence: &'s mut Sequence,
    export: &'e mut Export<'a, 'o>,
}

impl To<'_, '_, '_, '_> {
    #[inline]
    fn put(&mut self, event: &TrackEvent<'_>) {
        let Export { dictionary, out, .. } = &mut *self.export;
        self.sequence.event(self.at, event, dictionary, &mut out.raw);
    }

    /// The labels that the program gave to what begins here.
    fn own_labels(&mut self, thread: ThreadIndex, in_poll: Option<u32>) -> Vec<(TextId, TextId)> {
        let Export { trace, labels, dictionary, .. } = &mut *self.export;
        let own = labels.own(trace.label_set_at(thread, in_poll, self.at));
        own.iter().map(|(key, value)| (dictionary.text(key), dictionary.text(value))).collect()
    }

    fn task_id(&self, index: u32) -> u64 {
        self.export.trace.tasks.get(index as usize).map_or(0, |task| task.id.0)
    }

    fn task_wake(&mut self, index: usize, wake: &TaskWake, names: &Names) {
        let task = self.task_id(wake.task);
        let flow = wake.led_to.map_or(Flow::None, |_| Flow::Begins(flow_id(index)));
        let event = TrackEvent::new(Type::Instant, Category::Wake, names.wake);
        self.put(&TrackEvent { correlation: task, flow, stack: wake.stack, ..event });
    }

    fn wake(&mut self, wake: &Wake, names: &Names) {
        let args =
            [(Arg::Address, Value::Address(wake.addr)), (Arg::Woken, Value::Number(wake.woken as i64))];
        let event = TrackEvent::new(Type::Instant, Category::Unlock, names.unlock);
        self.put(&TrackEvent { stack: wake.stack, args: &args, ..event });
    }

    fn poll(&mut self, poll: &Poll, names: &Names) {
        let task = self.task_id(poll.task);
        let flow = self.flow_into(poll);
        let mut args = Args::default();
        if notable(poll.outcome).is_some() {
            args.push(Arg::Outcome, Value::Text(names.poll_outcomes[poll.outcome as usize]));
        }
        args.open(poll.time.open);
        let event = TrackEvent::new(Type::Begin, Category::Poll, names.task(poll.task));
        self.put(&TrackEvent { correlation: task, flow, args: args.slice(), ..event });
    }

    /// The flow that ends at this poll: the wake names the poll too, or else the arrow would have no begin.
    fn flow_into(&self, poll: &Poll) -> Flow {
        let Some(index) = poll.woken_by else { return Flow::None };
        let led_to = self.export.trace.task_wakes.get(index as usize).and_then(|wake| wake.led_to);
        match led_to.is_some() {
            true => Flow::Ends(flow_id(index as usize)),
            false => Flow::None,
        }
    }

    fn call(&mut self, call: &CallSpan, names: &Names) {
        let mut args = Args::default();
        if let Some(fd) = descriptor(call.fd) {
            args.push(Arg::Fd, Value::Number(i64::from(fd)));
        }
        if let Some(name) = self.export.labels.descriptor(self.export.trace, call) {
            args.push(Arg::Descriptor, Value::Text(self.export.dictionary.text(name)));
        }
        args.push(Arg::Result, Value::Number(call.result));
        args.open(call.time.open);
        let event = TrackEvent::new(Type::Begin, Category::Syscall, names.calls[call.call as usize]);
        let fields = self.own_labels(call.thread, call.in_poll);
        self.put(&TrackEvent { stack: call.stack, args: args.slice(), fields: &fields, ..event });
    }

    fn wait(&mut self, index: usize, wait: &Wait, names: &Names) {
        let mut args = Args::default();
        args.push(Arg::Address, Value::Address(wait.addr));
        args.push(Arg::Outcome, Value::Text(names.wait_outcomes[wait.outcome as usize]));
        if let Some(holder) = self.export.labels.holder(index) {
            args.push(Arg::Holder, Value::Text(self.export.dictionary.text(holder)));
        }
        args.open(wait.time.open);
        let name = names.waits[self.export.labels.waiting(index) as usize];
        let event = TrackEvent::new(Type::Begin, Category::Wait, name);
        let fields = self.own_labels(wait.thread, wait.in_poll);
        self.put(&TrackEvent { stack: wait.stack, args: args.slice(), fields: &fields, ..event });
    }
}

/// The arguments of one slice.
struct Args {
    args: [(Arg, Value); 5],
    len: usize,
}

impl Default for Args {
    fn default() -> Args {
        Args { args: [(Arg::Open, Value::True); 5], len: 0 }
    }
}

impl Args {
    #[inline]
    fn push(&mut self, arg: Arg, value: Value) {
        self.args[self.len] = (arg, value);
        self.len += 1;
    }

    #[inline]
    fn open(&mut self, open: bool) {
        if open {
            self.push(Arg::Open, Value::True);
        }
    }

    fn slice(&self) -> &[(Arg, Value)] {
        &self.args[..self.len]
    }
}

/// The argument that says that a slice's begin or end was not seen.
pub(super) fn open(open: bool) -> &'static [(Arg, Value)] {
    match open {
        true => &[(Arg::Open, Value::True)],
        false => &[],
    }
}

/// A flow's number: that of its wake, counted from 1.
fn flow_id(wake: usize) -> u64 {
    wake as u64 + 1
}

fn export_text(export: &mut Export<'_, '_>, id: crate::events::StrId, otherwise: &'static str) -> TextId {
    let text = export.trace.text(id);
    export.dictionary.text(if text.is_empty() { otherwise } else { text })
}

/// Slices' names by number.
struct Names {
    wake: TextId,
    unlock: TextId,
    parked: TextId,
    lost: TextId,
    unknown: TextId,
    tasks: Vec<TextId>,
    calls: Vec<TextId>,
    waits: Vec<TextId>,
    poll_outcomes: Vec<TextId>,
    wait_outcomes: Vec<TextId>,
}

impl Names {
    fn new(export: &mut Export<'_, '_>) -> Names {
        let Export { dictionary, labels, trace, .. } = export;
        let (dictionary, labels): (&mut Dictionary<'_>, &Labels) = (dictionary, labels);
        let trace: &Trace = trace;
        Names {
            wake: dictionary.text("wake"),
            unlock: dictionary.text("unlock"),
            parked: dictionary.text("parked"),
            lost: dictionary.text("events lost"),
            unknown: dictionary.text("unknown task"),
            tasks: (0..trace.tasks.len()).map(|task| dictionary.text(labels.task(task as u32))).collect(),
            calls: Call::WORDS.iter().map(|word| dictionary.text(word)).collect(),
            waits: LockKind::ALL.iter().map(|&waiting| dictionary.text(wait_name(waiting))).collect(),
            poll_outcomes: PollOutcome::WORDS.iter().map(|word| dictionary.text(word)).collect(),
            wait_outcomes: WaitOutcome::WORDS.iter().map(|word| dictionary.text(word)).collect(),
        }
    }

    #[inline]
    fn task(&self, index: u32) -> TextId {
        self.tasks.get(index as usize).copied().unwrap_or(self.unknown)
    }
}
