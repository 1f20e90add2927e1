//! Where a capture's bytes go: memory, a file, a channel to whoever reads while it is recorded.
//!
//! The drain offers whole sections and never waits: a sink takes them, says that its reader lags, or that it is over.
//! Each is bounded: memory by its cap, the channel by the bytes on their way.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// What a sink did with the sections that it was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// It has them.
    Taken,
    /// Its reader lags: they were not taken; the capture counts their events as lost (`slow_reader`).
    Full,
    /// It will never take another one: the capture is over.
    Closed,
}

/// What is in a section of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// How many.
    pub events: u64,
    /// Ticks of the latest one.
    pub last_ticks: u64,
}

/// Where a capture's sections go. Called by the drain, so it must not wait.
pub trait Sink: Send {
    /// Takes one or more whole sections, or refuses them whole.
    fn offer(&mut self, sections: Vec<u8>) -> Offer;

    /// As [`Sink::offer`], for one section of events and what is in it.
    fn offer_events(&mut self, section: Vec<u8>, extent: Extent) -> Offer {
        let _ = extent;
        self.offer(section)
    }

    /// Whether it wants to know threads' names while they live: its trace may be read without its end.
    fn wants_the_living(&self) -> bool {
        false
    }

    /// Takes a section of threads that live.
    fn offer_living(&mut self, section: &[u8]) {
        let _ = section;
    }

    /// Takes what ends the trace, whatever its bound says. May wait a little: called on the thread that stops.
    fn finish(&mut self, sections: Vec<u8>) -> Offer {
        self.offer(sections)
    }
}

/// Keeps a trace in memory, up to a cap; what comes later is refused, the end is not.
#[derive(Debug, Clone)]
pub struct MemorySink {
    bytes: Arc<Mutex<Vec<u8>>>,
    cap: usize,
}

impl MemorySink {
    /// Up to `cap` bytes.
    pub fn new(cap: usize) -> MemorySink {
        MemorySink { bytes: Arc::default(), cap }
    }

    /// Takes what is there.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *lock(&self.bytes))
    }
}

impl Sink for MemorySink {
    fn offer(&mut self, sections: Vec<u8>) -> Offer {
        let mut bytes = lock(&self.bytes);
        if bytes.len() + sections.len() > self.cap {
            return Offer::Full;
        }
        bytes.extend_from_slice(&sections);
        Offer::Taken
    }

    fn finish(&mut self, sections: Vec<u8>) -> Offer {
        lock(&self.bytes).extend_from_slice(&sections);
        Offer::Taken
    }
}

/// Writes a trace to a file or anything like it. A failed write ends the capture; what was written stays valid.
#[derive(Debug)]
pub struct WriteSink<W> {
    writer: W,
    error: Arc<Mutex<Option<std::io::Error>>>,
}

impl<W: Write + Send> WriteSink<W> {
    /// To `writer`, whose writes should not wait for long.
    pub fn new(writer: W) -> WriteSink<W> {
        WriteSink { writer, error: Arc::default() }
    }

    /// Where the error will be that ended the capture.
    pub fn error(&self) -> Arc<Mutex<Option<std::io::Error>>> {
        self.error.clone()
    }
}

impl<W: Write + Send> Sink for WriteSink<W> {
    fn offer(&mut self, sections: Vec<u8>) -> Offer {
        if lock(&self.error).is_some() {
            return Offer::Closed;
        }
        match self.writer.write_all(&sections) {
            Ok(()) => Offer::Taken,
            Err(error) => {
                *lock(&self.error) = Some(error);
                Offer::Closed
            }
        }
    }

    fn finish(&mut self, sections: Vec<u8>) -> Offer {
        let offer = self.offer(sections);
        match self.writer.flush() {
            Ok(()) => offer,
            Err(_) => Offer::Closed,
        }
    }
}

/// A bounded channel: [`channel`] makes both ends.
#[derive(Debug)]
pub struct ChannelSink(Arc<Channel>);

/// The reader's end: blocking by [`Received::next`], in async code by [`Received::poll_next`]. Dropping it ends the
/// capture.
#[derive(Debug)]
pub struct Received(Arc<Channel>);

#[derive(Debug)]
struct Channel {
    state: Mutex<ChannelState>,
    arrived: Condvar,
    cap: usize,
}

#[derive(Debug, Default)]
struct ChannelState {
    sections: VecDeque<Vec<u8>>,
    bytes: usize,
    waker: Option<Waker>,
    /// The sink is gone: what is here is all.
    ended: bool,
    /// The reader is gone.
    closed: bool,
}

/// A channel on which at most `cap` bytes are on their way.
pub fn channel(cap: usize) -> (ChannelSink, Received) {
    let channel = Arc::new(Channel { state: Mutex::default(), arrived: Condvar::new(), cap });
    (ChannelSink(channel.clone()), Received(channel))
}

impl ChannelSink {
    fn push(&self, sections: Vec<u8>, cap: usize) -> Offer {
        let mut state = lock(&self.0.state);
        if state.closed {
            return Offer::Closed;
        }
        if state.bytes + sections.len() > cap {
            return Offer::Full;
        }
        state.bytes += sections.len();
        state.sections.push_back(sections);
        self.0.notify(state);
        Offer::Taken
    }
}

impl Sink for ChannelSink {
    fn offer(&mut self, sections: Vec<u8>) -> Offer {
        self.push(sections, self.0.cap)
    }

    fn finish(&mut self, sections: Vec<u8>) -> Offer {
        self.push(sections, usize::MAX)
    }
}

impl Drop for ChannelSink {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.ended = true;
        self.0.notify(state);
    }
}

impl Channel {
    fn notify(&self, mut state: MutexGuard<'_, ChannelState>) {
        let waker = state.waker.take();
        drop(state);
        self.arrived.notify_one();
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Received {
    /// The next sections; `None` when the trace is whole.
    pub fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        let mut state = lock(&self.0.state);
        if let Some(sections) = state.pop() {
            return Poll::Ready(Some(sections));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Iterator for Received {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut state = lock(&self.0.state);
        loop {
            if let Some(sections) = state.pop() {
                return Some(sections);
            }
            if state.ended {
                return None;
            }
            state = self.0.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.closed = true;
        state.sections.clear();
    }
}

impl ChannelState {
    fn pop(&mut self) -> Option<Vec<u8>> {
        let sections = self.sections.pop_front()?;
        self.bytes -= sections.len();
        Some(sections)
    }
}

/// A sink's data is whole between two of its statements, so a panic elsewhere doesn't spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_channel_refuses_what_its_reader_has_no_room_for_but_takes_the_end() {
        let (mut sink, mut received) = channel(10);
        assert_eq!(sink.offer(vec![1; 8]), Offer::Taken);
        assert_eq!(sink.offer(vec![2; 8]), Offer::Full);
        assert_eq!(sink.finish(vec![3; 8]), Offer::Taken);
        drop(sink);
        assert_eq!(received.next(), Some(vec![1; 8]));
        assert_eq!(received.next(), Some(vec![3; 8]));
        assert_eq!(received.next(), None);
    }

    #[test]
    fn a_reader_that_leaves_closes_the_sink() {
        let (mut sink, received) = channel(10);
        drop(received);
        assert_eq!(sink.offer(vec![1]), Offer::Closed);
    }

    #[test]
    fn a_failed_write_closes_and_keeps_the_reason() {
        let mut sink = WriteSink::new(std::fs::File::options().write(true).open("/dev/full").unwrap());
        let error = sink.error();
        assert_eq!(sink.offer(vec![1]), Offer::Closed);
        assert_eq!(lock(&error).as_ref().map(std::io::Error::kind), Some(std::io::ErrorKind::StorageFull));
    }
}
