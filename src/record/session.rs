//! One recording, start to stop; several may overlap and share the recorder.
//!
//! A [`Capture`] is a window, a filter and a sink. Starting one seals all lanes, so that older losses are not its own,
//! and opens its window; stopping one closes the window, seals again, then writes what a file ends with. In between,
//! the drain hands it runs of events, of which it keeps those inside its window and groups (`recording`).
//!
//! Losses are its own: those of the threads while it ran, plus what its sink refused. A thread's loss counts for every
//! capture that runs, whatever its groups: what was lost is not known.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::recording::{Counters, Recording};
use super::sink::Sink;
use super::{RECORDER, Recorder, drain, recorder, thread};
use crate::clock;
use crate::events::Groups;
use crate::format::{Module, Symbol};
use crate::limits::CAPTURES;

/// Turns addresses into names: called once, at a capture's end, on the thread that stops it.
pub type Resolver = fn(&[u64], &[Module]) -> Vec<Symbol>;

/// What to record and where to.
pub struct CaptureOptions {
    /// Which events.
    pub groups: Groups,
    /// CPU samples for each second that a thread runs; 0: none are asked for.
    pub cpu_hz: u32,
    /// Where its bytes go.
    pub sink: Box<dyn Sink>,
    /// Who names addresses; without it they are named by whoever reads the trace.
    pub resolver: Option<Resolver>,
}

impl std::fmt::Debug for CaptureOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CaptureOptions").field("groups", &self.groups).finish_non_exhaustive()
    }
}

/// Why a capture can't start.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// As many as may overlap are running.
    #[error("{0} captures are running already, which is the limit")]
    TooMany(usize),
    /// The drain's thread could not be started.
    #[error("kymo's thread could not be started: {0}")]
    Thread(std::io::Error),
    /// Memory for chunks could not be mapped.
    #[error("memory for recording could not be had: {0}")]
    Memory(std::io::Error),
    /// This process was forked from the one that recorded.
    #[error("recording is off in a forked child")]
    Forked,
}

/// How far a capture is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Events given to the sink.
    pub events: u64,
    /// Events lost, for all reasons.
    pub lost: u64,
    /// Bytes given to the sink.
    pub bytes: u64,
    /// Whether the sink has closed.
    pub closed: bool,
}

/// A running capture. Dropping it stops it.
#[derive(Debug)]
pub struct Capture {
    /// Its epoch, unique among captures.
    number: u64,
    counters: Arc<Counters>,
    stopped: AtomicBool,
}

impl Capture {
    /// Starts recording.
    ///
    /// ```
    /// use kymo::{events::Groups, record::session::{Capture, CaptureOptions}, record::sink::MemorySink};
    /// let sink = MemorySink::new(1 << 20);
    /// let options = CaptureOptions { groups: Groups::ALL, cpu_hz: 0, sink: Box::new(sink.clone()), resolver: None };
    /// let capture = Capture::start(options)?;
    /// capture.stop();
    /// assert!(sink.take().starts_with(b"kymo"));
    /// # Ok::<(), kymo::record::session::CaptureError>(())
    /// ```
    ///
    /// # Errors
    /// [`CaptureError`].
    pub fn start(options: CaptureOptions) -> Result<Capture, CaptureError> {
        let recorder = make_recorder()?;
        if recorder.is_of_parent() {
            return Err(CaptureError::Forked);
        }
        thread::quietly(crate::unwind::prepare);
        drain::with(|drain| {
            if drain.recordings.len() >= CAPTURES {
                return Err(CaptureError::TooMany(CAPTURES));
            }
            drain::run(recorder, drain).map_err(CaptureError::Thread)?;
            drain.seal(recorder);
            let (number, counters) =
                (recorder.epoch.load(Ordering::Relaxed) + 1, Arc::new(Counters::default()));
            drain.recordings.push(Recording::begin(options, number, counters.clone()));
            drain.enable();
            drain
                .recordings
                .iter_mut()
                .filter(|recording| recording.number == number)
                .for_each(Recording::open);
            // After its window has begun: what sources tell once in each capture must fall into it.
            recorder.epoch.store(number, Ordering::SeqCst);
            drain.ask_sources_at_edge(recorder, clock::ticks());
            Ok(Capture { number, counters, stopped: AtomicBool::new(false) })
        })
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.counters.progress()
    }

    /// Stops it: every thread's events up to now, the tables and the end mark go to the sink. Naming addresses may
    /// take a second.
    pub fn stop(self) -> Progress {
        self.end();
        self.progress()
    }

    /// Which of all captures it is.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Stops it, if it runs.
    pub(super) fn end(&self) {
        if self.stopped.swap(true, Ordering::Relaxed) {
            return;
        }
        let Some(recorder) = recorder().filter(|recorder| !recorder.is_of_parent()) else { return };
        // Now, however long the drain is busy with what came before.
        let end_ticks = clock::ticks();
        let ending = drain::with(|drain| {
            // It is gone already if its sink has closed.
            let at = drain.recordings.iter().position(|recording| recording.number == self.number)?;
            drain.recordings[at].close_window(end_ticks);
            drain.ask_sources_at_edge(recorder, end_ticks);
            drain.seal(recorder);
            let mut recording = drain.recordings.remove(at);
            drain.enable();
            drain.tell_live(recorder, &mut recording, end_ticks);
            let living = drain.living(recorder, &recording);
            drain.rest(recorder);
            Some((recording, living))
        });
        // Outside the lock: naming addresses takes time, and other captures go on.
        if let Some((recording, living)) = ending {
            thread::quietly(|| recording.end(recorder, &living));
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.end();
    }
}

pub(super) fn make_recorder() -> Result<&'static Recorder, CaptureError> {
    static MAKING: Mutex<()> = Mutex::new(());
    if let Some(recorder) = RECORDER.get() {
        return Ok(recorder);
    }
    let _one = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(recorder) = RECORDER.get() {
        return Ok(recorder);
    }
    let recorder = thread::quietly(Recorder::new).map_err(CaptureError::Memory)?;
    crate::unwind::stay();
    thread::switch_off_in_children();
    Ok(RECORDER.get_or_init(|| recorder))
}
