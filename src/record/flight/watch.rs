//! What a flight recorder looks out for: a poll, a span, or a wait inside one of them, that lasts longer than it should.
//!
//! The drain looks through the sections on their way into the ring, so that no traced thread pays for it. What goes on
//! is seen a second later at most, also while it lasts: a hang has no end. A thread that waits with nothing to do, as a
//! pool's threads do, is no news: so waits count only inside a poll or a span.

use std::collections::HashMap;
use std::time::Duration;

use super::Saving;
use crate::clock;
use crate::events::{Event, Loss, LossReason};
use crate::format::decode::{Arity, Events};
use crate::format::{EventsHead, Lane};
use crate::limits::FLIGHT_WATCHED;

/// Looks at what comes.
pub(super) struct Watch {
    poll: Option<Duration>,
    wait: Option<Duration>,
    span: Option<Duration>,
    arity: Arity,
    threads: HashMap<u32, Busy>,
    /// When each open span and user task began, and whether it has been news.
    spans: HashMap<(bool, u64), Begun>,
}

/// What a thread is inside of, innermost last.
#[derive(Default)]
struct Busy {
    polls: Vec<Begun>,
    waits: Vec<Begun>,
    /// Spans that it began outside of polls.
    spans: u32,
}

impl Busy {
    fn is_inside(&self) -> bool {
        self.spans > 0 || !self.polls.is_empty() || !self.waits.is_empty()
    }
}

#[derive(Clone, Copy)]
struct Begun {
    ticks: u64,
    was_news: bool,
}

impl Begun {
    fn at(ticks: u64) -> Begun {
        Begun { ticks, was_news: false }
    }

    /// Whether it has lasted too long by now, for the first time that this is asked.
    fn is_news(&mut self, now: u64, limit: Option<Duration>) -> bool {
        let Some(limit) = limit.filter(|_| !self.was_news && self.ticks < now) else { return false };
        self.was_news = clock::nanos_between(self.ticks, now) as u128 > limit.as_nanos();
        self.was_news
    }
}

/// What lasted too long.
pub(super) type News = &'static str;

impl Watch {
    /// None if there is nothing to look out for.
    pub(super) fn new(saving: &Saving) -> Option<Watch> {
        let Saving { long_poll: poll, long_wait: wait, long_span: span, .. } = *saving;
        poll.or(wait).or(span)?;
        let arity = Arity::default();
        Some(Watch { poll, wait, span, arity, threads: HashMap::new(), spans: HashMap::new() })
    }

    /// Looks through a run; the last of what lasted too long.
    pub(super) fn look(&mut self, head: &EventsHead, bytes: &[u8]) -> Option<News> {
        if head.lane != Lane::Normal {
            return None;
        }
        let mut news = None;
        let arity = self.arity.clone();
        for stamped in Events::new(bytes, head.base_ticks, &arity).flatten() {
            if let Event::Loss(loss) = stamped.event {
                self.forget(&loss);
            }
            news = self.take(head.thread.0, stamped.ticks, &stamped.event).or(news);
        }
        news
    }

    fn take(&mut self, thread: u32, now: u64, event: &Event) -> Option<News> {
        match *event {
            Event::PollBegin(_) => self.busy(thread)?.polls.push(Begun::at(now)),
            Event::PollEnd(_) => {
                let limit = self.poll;
                let mut begun = self.busy(thread)?.polls.pop()?;
                return begun.is_news(now, limit).then_some("poll");
            }
            Event::WaitBegin(_) => {
                let busy = self.busy(thread)?;
                if !busy.polls.is_empty() || busy.spans > 0 {
                    busy.waits.push(Begun::at(now));
                }
            }
            Event::WaitEnd(_) => {
                let limit = self.wait;
                let mut begun = self.busy(thread)?.waits.pop()?;
                return begun.is_news(now, limit).then_some("wait");
            }
            Event::SpanBegin(begin) => self.span_begins(thread, now, (false, begin.span.0)),
            Event::UserTaskBegin(begin) => self.span_begins(thread, now, (true, begin.user_task.0)),
            Event::SpanEnd(end) => return self.span_ends(thread, now, (false, end.span.0)),
            Event::UserTaskEnd(end) => return self.span_ends(thread, now, (true, end.user_task.0)),
            Event::ThreadExit(_) => drop(self.threads.remove(&thread)),
            _ => {}
        }
        None
    }

    /// None for a thread more than can be watched.
    fn busy(&mut self, thread: u32) -> Option<&mut Busy> {
        if self.threads.len() >= FLIGHT_WATCHED && !self.threads.contains_key(&thread) {
            // Most of them have ended.
            self.threads.retain(|_, busy| busy.is_inside());
            (self.threads.len() < FLIGHT_WATCHED).then_some(())?;
        }
        Some(self.threads.entry(thread).or_default())
    }

    fn span_begins(&mut self, thread: u32, now: u64, key: (bool, u64)) {
        if self.spans.len() < FLIGHT_WATCHED {
            self.spans.insert(key, Begun::at(now));
        }
        if let Some(busy) = self.busy(thread).filter(|busy| busy.polls.is_empty()) {
            busy.spans += 1;
        }
    }

    fn span_ends(&mut self, thread: u32, now: u64, key: (bool, u64)) -> Option<News> {
        let limit = self.span;
        if let Some(busy) = self.busy(thread).filter(|busy| busy.polls.is_empty()) {
            busy.spans = busy.spans.saturating_sub(1);
        }
        self.spans.remove(&key)?.is_news(now, limit).then_some("span")
    }

    /// What goes on by now, and for too long.
    pub(super) fn overdue(&mut self, now: u64) -> Option<News> {
        let (poll, wait, span) = (self.poll, self.wait, self.span);
        let mut news = None;
        for busy in self.threads.values_mut() {
            if busy.polls.iter_mut().any(|poll_begun| poll_begun.is_news(now, poll)) {
                news = Some("poll");
            }
            if busy.waits.iter_mut().any(|wait_begun| wait_begun.is_news(now, wait)) {
                news = Some("wait");
            }
        }
        let mut spans = self.spans.values_mut();
        news.or_else(|| spans.any(|begun| begun.is_news(now, span)).then_some("span"))
    }

    /// Events were lost: what was begun may have ended unseen. The kernel's rings hold none of what is watched.
    fn forget(&mut self, loss: &Loss) {
        if loss.reason != LossReason::KernelRing {
            self.threads.remove(&loss.thread.0);
            self.spans.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{
        Addr, Count, Id, PollBegin, PollEnd, PollOutcome, SpanBegin, SpanEnd, StackId, StrId, TaskId,
        ThreadId, WaitBegin, WaitEnd, WaitKind, WaitOutcome,
    };

    const MS: u64 = 1_000_000_000;

    fn watch() -> Watch {
        clock::init();
        let limit = Some(Duration::from_millis(1));
        let saving = Saving { long_poll: limit, long_wait: limit, long_span: limit, ..Saving::to("unused") };
        Watch::new(&saving).unwrap()
    }

    /// Ticks that are surely longer than the limit, and surely shorter.
    const LONG: u64 = 1000 * MS;
    const SHORT: u64 = 10;

    fn all(watch: &mut Watch, events: &[(u64, Event)]) -> Vec<News> {
        events.iter().filter_map(|(ticks, event)| watch.take(1, *ticks, event)).collect()
    }

    fn poll(begin: u64, end: u64) -> [(u64, Event); 2] {
        let outcome = PollOutcome::Pending;
        [(begin, PollBegin { task: TaskId(1) }.into()), (end, PollEnd { outcome }.into())]
    }

    fn wait(begin: u64, end: u64) -> [(u64, Event); 2] {
        let ended = WaitEnd { outcome: WaitOutcome::Woken, stack: StackId(0) };
        [(begin, WaitBegin { kind: WaitKind::Futex, addr: Addr(1) }.into()), (end, ended.into())]
    }

    #[test]
    fn what_lasts_too_long_is_news_and_what_does_not_is_none() {
        assert_eq!(all(&mut watch(), &poll(10, 10 + LONG)), ["poll"]);
        assert_eq!(all(&mut watch(), &poll(10, 10 + SHORT)), Vec::<News>::new());
        let span = Id(7);
        let begin = SpanBegin { span, name: StrId(0), parent: Id(0) };
        assert_eq!(all(&mut watch(), &[(1, begin.into()), (1 + LONG, SpanEnd { span }.into())]), ["span"]);
    }

    #[test]
    fn a_wait_is_news_only_inside_a_poll_or_a_span() {
        assert_eq!(all(&mut watch(), &wait(10, 10 + LONG)), Vec::<News>::new());
        let [begins, ends] = poll(1, 20 + LONG);
        let [waits, woken] = wait(10, 10 + LONG);
        assert_eq!(all(&mut watch(), &[begins, waits, woken, ends]), ["wait", "poll"]);
    }

    #[test]
    fn what_never_ends_is_news_once() {
        let mut watch = watch();
        let [begins, ends] = poll(10, 20 + LONG);
        assert_eq!(all(&mut watch, &[begins]), Vec::<News>::new());
        assert_eq!(watch.overdue(10 + SHORT), None);
        assert_eq!((watch.overdue(10 + LONG), watch.overdue(11 + LONG)), (Some("poll"), None));
        assert_eq!(all(&mut watch, &[ends]), Vec::<News>::new());
    }

    #[test]
    fn after_a_loss_what_was_begun_is_forgotten_unless_the_kernels_rings_lost_it() {
        let span = SpanBegin { span: Id(7), name: StrId(0), parent: Id(0) };
        for (reason, news) in [(LossReason::KernelRing, Some("span")), (LossReason::NoChunk, None)] {
            let mut watch = watch();
            assert_eq!(all(&mut watch, &[(10, span.into())]), Vec::<News>::new());
            watch.forget(&Loss { thread: ThreadId(1), reason, count: Count(1) });
            assert_eq!(watch.overdue(10 + LONG), news);
        }
    }
}
