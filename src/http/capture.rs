//! A recording that somebody asked for over HTTP: it has a length, a reader, and a thread of its own.
//!
//! The thread starts the capture, sleeps until its time is over or [`Stop`] arrives, and stops it, which names the
//! addresses: seconds of work that no runtime's worker should do. The reader's end is an [`Asker`]: dropping it, as
//! hyper does with everything of a connection that is gone, ends the capture at once.
//!
//! A streamed trace goes through a bounded channel, so a slow client costs [`READER_LAG_BYTES`] and then events, which
//! are counted; one that has to be converted is kept in memory up to [`IN_PROCESS_TRACE_BYTES`] and ends there.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::events::Groups;
use crate::format::{Module, Symbol};
use crate::limits::{IN_PROCESS_TRACE_BYTES, READER_LAG_BYTES};
use crate::record;
use crate::record::session::{Capture, CaptureError, CaptureOptions};
use crate::record::sink::{MemorySink, Offer, Received, Sink, channel as sections};

/// Why a capture ends before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Whoever asked for it has left.
    Left,
    /// Its memory is full.
    Full,
    /// Somebody who knows its key asked for its end.
    Asked,
}

/// The captures that can be stopped by their key.
static BY_KEY: LazyLock<Mutex<HashMap<String, Sender<Stop>>>> = LazyLock::new(Mutex::default);

/// Whoever waits for a capture. Dropping it ends the capture.
#[derive(Debug)]
pub(super) struct Asker {
    key: String,
    stop: Sender<Stop>,
}

impl Asker {
    fn new() -> std::io::Result<(Asker, Receiver<Stop>)> {
        let (stop, stops) = channel();
        let key = super::guard::random_key()?;
        by_key().insert(key.clone(), stop.clone());
        Ok((Asker { key, stop }, stops))
    }

    /// What [`stop`] wants.
    pub(super) fn key(&self) -> &str {
        &self.key
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        by_key().remove(&self.key);
        // Fails when the capture is over, which is fine.
        let _ = self.stop.send(Stop::Left);
    }
}

fn by_key() -> std::sync::MutexGuard<'static, HashMap<String, Sender<Stop>>> {
    BY_KEY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends a capture before its time; its trace is whole. False if there is none of that key.
pub(super) fn stop(key: &str) -> bool {
    by_key().get(key).is_some_and(|stop| stop.send(Stop::Asked).is_ok())
}

/// Why there is no trace.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    /// The recorder refuses.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// No thread, or no random numbers for the key.
    #[error("a capture could not be prepared: {0}")]
    System(#[from] std::io::Error),
    /// The capture's thread panicked.
    #[error("the capture's thread panicked")]
    Panicked,
}

/// What to record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    /// For how long.
    pub(super) length: Duration,
    /// Which events.
    pub(super) groups: Groups,
    /// CPU samples for each second that a thread runs.
    pub(super) cpu_hz: u32,
}

impl Asked {
    /// All events.
    pub(super) fn everything(length: Duration, cpu_hz: u32) -> Asked {
        Asked { length, groups: Groups::ALL, cpu_hz }
    }
}

/// A trace while it is recorded.
#[derive(Debug)]
pub(super) struct Stream {
    /// Dropping it ends the capture.
    pub(super) asker: Asker,
    /// Its sections.
    pub(super) sections: Received,
}

/// Records this process for a while; returns once recording is on.
///
/// # Errors
/// [`RecordError`].
pub(super) async fn stream(asked: Asked) -> Result<Stream, RecordError> {
    let (asker, stops) = Asker::new()?;
    let (sink, sections) = sections(READER_LAG_BYTES);
    let (started, starts) = oneshot::channel();
    apart("kymo-capture", move || {
        run(asked, Box::new(sink), &stops, |result| drop(started.send(result)));
    })?;
    starts.await.map_err(|_| RecordError::Panicked)??;
    Ok(Stream { asker, sections })
}

/// A whole trace in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Recorded {
    /// The trace.
    pub(super) bytes: Vec<u8>,
    /// It filled its memory before its time was over, after this long.
    pub(super) cut_after: Option<Duration>,
}

/// Records this process for a while, into memory: events of some groups.
///
/// # Errors
/// [`RecordError`].
pub(super) async fn in_memory(asked: Asked) -> Result<Recorded, RecordError> {
    let (asker, stops) = Asker::new()?;
    let memory = Memory { kept: MemorySink::new(IN_PROCESS_TRACE_BYTES), stop: asker.stop.clone() };
    let kept = memory.kept.clone();
    let (done, recorded) = oneshot::channel();
    apart("kymo-capture", move || {
        let mut started = Ok(());
        let stopped = run(asked, Box::new(memory), &stops, |result| started = result);
        let cut_after = stopped.filter(|(stop, _)| *stop == Stop::Full).map(|(_, after)| after);
        let answer = started.map(|()| Recorded { bytes: kept.take(), cut_after });
        // Nobody waits any more: the client has left.
        drop(done.send(answer));
    })?;
    let recorded = recorded.await.map_err(|_| RecordError::Panicked)?;
    drop(asker);
    Ok(recorded?)
}

/// Does work on a thread of its own that is never recorded: the runtime that waits for it may be the program's.
///
/// # Errors
/// The system has no thread for it.
pub(super) fn apart(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    record::spawn(name, work)
}

/// A capture from start to end: what ended it before its time, and when.
fn run(
    asked: Asked,
    sink: Box<dyn Sink>,
    stops: &Receiver<Stop>,
    started: impl FnOnce(Result<(), CaptureError>),
) -> Option<(Stop, Duration)> {
    let Asked { length, groups, cpu_hz } = asked;
    let options = CaptureOptions { groups, cpu_hz, sink, resolver: Some(resolve) };
    let capture = match Capture::start(options) {
        Ok(capture) => capture,
        Err(error) => {
            started(Err(error));
            return None;
        }
    };
    let begun = Instant::now();
    started(Ok(()));
    // An error is the time that is over, or all senders gone, which can't be while one is asked for.
    let stopped = stops.recv_timeout(length).ok().map(|stop| (stop, begun.elapsed()));
    capture.stop();
    stopped
}

/// Names addresses behind the service's back; the capture's thread has nothing urgent to do after that.
pub(super) fn resolve(addresses: &[u64], modules: &[Module]) -> Vec<Symbol> {
    record::priority::lower_this_threads_priority();
    crate::model::symbols::resolve(addresses, modules)
}

/// Memory that ends the capture when it is full.
struct Memory {
    kept: MemorySink,
    stop: Sender<Stop>,
}

impl Sink for Memory {
    fn offer(&mut self, sections: Vec<u8>) -> Offer {
        let offer = self.kept.offer(sections);
        if offer == Offer::Full {
            // Fails when the capture is over, which is fine.
            let _ = self.stop.send(Stop::Full);
        }
        offer
    }

    fn finish(&mut self, sections: Vec<u8>) -> Offer {
        self.kept.finish(sections)
    }
}
