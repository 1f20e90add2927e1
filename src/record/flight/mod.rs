//! The flight recorder: always on, it holds the last seconds, and writes them as a trace when something has happened.
//!
//! A capture whose sink is a ring (`sink`, `ring`). A snapshot seals all lanes, so that the latest event of every
//! thread is in it, copies the ring and goes on; recording never stops for it, and any number may be taken at once,
//! beside captures. Its header's window begins where the ring is complete: within it every event is there, or told as
//! lost (`snapshot`).
//!
//! # Bounds
//! [`FlightConfig::max_bytes`] is what the ring takes, from the start on, and never more: events, their sections' heads
//! and padding. Stacks and strings lie in the recorder's tables, which all captures share and which have bounds of their
//! own ([`crate::limits`]); full, they answer with the overflow number, and events go on. A snapshot takes two
//! copies of the ring while it is made.

mod file;
mod ring;
mod saving;
mod sink;
mod snapshot;
mod watch;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use file::RingFile;
use ring::Ring;
use saving::Saver;
use sink::{FlightSink, SharedRing};
use snapshot::Held;

pub use saving::Saving;

use super::session::{Capture, CaptureError, CaptureOptions, Resolver};
use super::{drain, recorder, recording, thread};
use crate::clock::{self, Sync};
use crate::events::Groups;
use crate::format::encode;
use crate::format::file::FileError;
use crate::limits::{FLIGHT_BYTES, FLIGHT_LEAST_BYTES, FLIGHT_MOST_BYTES, FLIGHT_SECONDS};

/// What a flight recorder holds.
#[derive(Debug, Clone)]
pub struct FlightConfig {
    /// Events at least this old are dropped, within a second; younger ones only for want of bytes.
    pub min_age: Duration,
    /// What it takes at most; goes before `min_age`.
    pub max_bytes: usize,
    /// Which events.
    pub groups: Groups,
    /// CPU samples for each second that a thread runs; 0: none.
    pub cpu_hz: u32,
    /// A file that has what it holds, too, so that it outlives a process that is killed: `kymo recover FILE -o OUT`. It
    /// takes `max_bytes` and what names take ([`crate::limits::FLIGHT_WORDS_BYTES`] at most). `%p` stands for the
    /// process's number; a file that is there is kept as `FILE.previous`, and this one stays when the recorder stops.
    pub file: Option<PathBuf>,
    /// When snapshots are saved to a directory, and which.
    pub saving: Option<Saving>,
    /// Who names a snapshot's addresses; without it they are named by whoever reads it.
    pub resolver: Option<Resolver>,
}

impl Default for FlightConfig {
    /// Go's: 10 s, 10 MiB; all events.
    fn default() -> FlightConfig {
        FlightConfig {
            min_age: Duration::from_secs(FLIGHT_SECONDS),
            max_bytes: FLIGHT_BYTES,
            groups: Groups::ALL,
            cpu_hz: 0,
            file: None,
            saving: None,
            resolver: None,
        }
    }
}

/// Why the flight recorder can't.
#[derive(Debug, thiserror::Error)]
pub enum FlightError {
    /// This process has one, and it runs.
    #[error("a flight recorder is enabled already")]
    Enabled,
    /// It has not been started, or has ended.
    #[error("the flight recorder is not enabled")]
    Disabled,
    /// `max_bytes` makes no sense.
    #[error(
        "max_bytes is {0}: a flight recorder takes from {FLIGHT_LEAST_BYTES} to {FLIGHT_MOST_BYTES} bytes"
    )]
    Bytes(usize),
    /// Recording can't start.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// This process was forked from the one that records.
    #[error("the flight recorder is off in a forked child")]
    Forked,
    /// The file can't be made.
    #[error("the flight recorder's file could not be made: {0}")]
    File(std::io::Error),
    /// A snapshot was to be saved, and it was not said where.
    #[error("the flight recorder saves no snapshots: FlightConfig::saving says where to")]
    NoDirectory,
    /// What it held is no trace.
    #[error("what the flight recorder held can't be read: {0}")]
    Broken(#[from] FileError),
    /// The snapshot could not be written.
    #[error("the snapshot could not be written: {0}")]
    Write(#[from] std::io::Error),
}

/// Holds the last seconds of this process. One at a time; it records until it is stopped, also when this handle is
/// gone.
///
/// ```
/// use kymo::{FlightConfig, FlightRecorder};
/// let flight = FlightRecorder::new(FlightConfig::default());
/// flight.start()?;
/// // … the service … and when something was slow:
/// let mut file = Vec::new();
/// flight.write_to(&mut file)?;
/// assert!(file.starts_with(b"kymo"));
/// flight.stop();
/// # Ok::<(), kymo::FlightError>(())
/// ```
#[derive(Debug)]
pub struct FlightRecorder {
    config: FlightConfig,
    /// Its capture's number; 0 before it has started.
    number: AtomicU64,
}

/// The one that runs.
static RUNNING: Mutex<Option<Arc<Running>>> = Mutex::new(None);

struct Running {
    capture: Capture,
    ring: SharedRing,
    /// When it began.
    begun: Sync,
    resolver: Option<Resolver>,
    saver: Option<Arc<Saver>>,
    max_bytes: usize,
    snapshots: AtomicU64,
}

/// What the flight recorder holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlightUsage {
    /// Length of the window in which nothing is missing.
    pub window: Duration,
    /// Bytes held, and at most.
    pub bytes: usize,
    /// The bound.
    pub max_bytes: usize,
    /// Snapshots taken.
    pub snapshots: u64,
}

impl FlightRecorder {
    /// One that is off yet.
    pub fn new(config: FlightConfig) -> FlightRecorder {
        FlightRecorder { config, number: AtomicU64::new(0) }
    }

    /// Begins to record.
    ///
    /// # Errors
    /// [`FlightError`].
    pub fn start(&self) -> Result<(), FlightError> {
        let FlightConfig { min_age, max_bytes, groups, cpu_hz, ref file, ref saving, resolver } = self.config;
        if !(FLIGHT_LEAST_BYTES..=FLIGHT_MOST_BYTES).contains(&max_bytes) {
            return Err(FlightError::Bytes(max_bytes));
        }
        quietly(|| {
            let mut running = running_lock();
            if running.as_ref().is_some_and(|running| running.is_alive()) {
                return Err(FlightError::Enabled);
            }
            clock::init();
            let begun = clock::sync();
            let mut ring = Ring::new(max_bytes, begun.ticks);
            if let Some(path) = file {
                ring.write_through(file_of(&ring, path).map_err(FlightError::File)?);
            }
            let ring = Arc::new(Mutex::new(ring));
            let saver = saving.clone().map(|saving| Arc::new(Saver::new(saving)));
            let sink = Box::new(FlightSink::new(ring.clone(), min_age, saver.clone()));
            let capture = Capture::start(CaptureOptions { groups, cpu_hz, sink, resolver: None })?;
            self.number.store(capture.number(), Ordering::Relaxed);
            let snapshots = AtomicU64::new(0);
            *running =
                Some(Arc::new(Running { capture, ring, begun, resolver, saver, max_bytes, snapshots }));
            say_on(min_age, max_bytes);
            Ok(())
        })
    }

    /// Ends it; what it held is gone.
    pub fn stop(&self) {
        if let Ok(running) = self.running() {
            running.stop();
        }
    }

    /// Whether it records.
    pub fn is_enabled(&self) -> bool {
        self.running().is_ok()
    }

    /// What it holds, as a trace. Recording goes on.
    ///
    /// # Errors
    /// [`FlightError`].
    pub fn snapshot(&self) -> Result<Vec<u8>, FlightError> {
        let running = self.running()?;
        running.snapshot(running.resolver)
    }

    /// Writes what it holds as a trace; returns its length. Recording goes on.
    ///
    /// # Errors
    /// [`FlightError`].
    pub fn write_to(&self, writer: &mut dyn Write) -> Result<u64, FlightError> {
        let trace = self.snapshot()?;
        writer.write_all(&trace)?;
        Ok(trace.len() as u64)
    }

    /// Saves what it holds to [`Saving`]'s directory, unless it did so a moment ago ([`Saving::every`]): where to.
    /// `why` becomes part of the file's name.
    ///
    /// # Errors
    /// [`FlightError`].
    pub fn save(&self, why: &str) -> Result<Option<PathBuf>, FlightError> {
        self.running()?.save(why)
    }

    /// What it holds now.
    ///
    /// # Errors
    /// [`FlightError`].
    pub fn usage(&self) -> Result<FlightUsage, FlightError> {
        Ok(self.running()?.usage())
    }

    fn running(&self) -> Result<Arc<Running>, FlightError> {
        let number = self.number.load(Ordering::Relaxed);
        running().and_then(|running| match running.capture.number() == number {
            true => Ok(running),
            false => Err(FlightError::Disabled),
        })
    }
}

/// A snapshot of the flight recorder that runs, its addresses named by `resolver`.
///
/// # Errors
/// [`FlightError`].
pub fn snapshot(resolver: Option<Resolver>) -> Result<Vec<u8>, FlightError> {
    running()?.snapshot(resolver)
}

/// Ends the flight recorder that runs, whoever started it.
pub fn stop() {
    if let Ok(running) = running() {
        running.stop();
    }
}

/// What the flight recorder that runs holds; `None` if there is none.
pub fn usage() -> Option<FlightUsage> {
    Some(running().ok()?.usage())
}

fn running() -> Result<Arc<Running>, FlightError> {
    // First of all: in a forked child the lock may be held by a thread that isn't there.
    if recorder().is_some_and(super::Recorder::is_of_parent) {
        return Err(FlightError::Forked);
    }
    let running = quietly(|| running_lock().clone());
    running.filter(|running| running.is_alive()).ok_or(FlightError::Disabled)
}

impl Running {
    /// Whether its capture still runs: the drain may have died.
    fn is_alive(&self) -> bool {
        !self.capture.progress().closed
    }

    fn stop(self: &Arc<Running>) {
        let stopped = quietly(|| running_lock().take_if(|other| Arc::ptr_eq(other, self)));
        if stopped.is_some() {
            quietly(|| self.capture.end());
            crate::status::set("flight recorder", "off: stopped");
        }
    }

    fn snapshot(&self, resolver: Option<Resolver>) -> Result<Vec<u8>, FlightError> {
        let recorder = recorder().ok_or(FlightError::Disabled)?;
        let held = drain::with(|drain| {
            let end_ticks = clock::ticks();
            drain.ask_sources_at_edge(recorder, end_ticks);
            drain.seal(recorder);
            let number = self.capture.number();
            let recording = drain.recordings.iter().find(|recording| recording.number == number);
            let living = recording.map(|recording| drain.living(recorder, recording)).unwrap_or_default();
            let groups = recording.map_or(Groups::NONE, |recording| recording.groups);
            let live = drain.live_sections(recorder, groups, end_ticks);
            Held::copy(&sink::lock(&self.ring), &live, end_ticks, living)
        });
        self.snapshots.fetch_add(1, Ordering::Relaxed);
        // Outside the lock: other captures go on.
        quietly(|| Ok(held.into_trace(self.begun, recorder, resolver)?))
    }

    fn usage(&self) -> FlightUsage {
        let (bytes, from) = quietly(|| {
            let ring = sink::lock(&self.ring);
            (ring.held(), ring.complete_from())
        });
        FlightUsage {
            window: Duration::from_nanos(clock::nanos_between(from, clock::ticks().max(from))),
            bytes,
            max_bytes: self.max_bytes,
            snapshots: self.snapshots.load(Ordering::Relaxed),
        }
    }
}

/// The file for a ring, with what is loaded now: whoever reads it must name addresses.
fn file_of(ring: &Ring, path: &Path) -> std::io::Result<RingFile> {
    let mut file = RingFile::create(&with_own_number(path), ring.capacity())?;
    let mut modules = Vec::new();
    encode::modules(&mut modules, &recording::modules());
    file.append_words(&modules)?;
    Ok(file)
}

fn with_own_number(path: &Path) -> PathBuf {
    let Some(text) = path.to_str() else { return path.to_owned() };
    text.replace("%p", &std::process::id().to_string()).into()
}

fn say_on(min_age: Duration, max_bytes: usize) {
    let (seconds, kib) = (min_age.as_secs_f64(), max_bytes >> 10);
    crate::status::set("flight recorder", format!("on: the last {seconds} s, {kib} KiB at most"));
}

fn running_lock() -> MutexGuard<'static, Option<Arc<Running>>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Our own locks are no waits of the program.
fn quietly<R>(work: impl FnOnce() -> R) -> R {
    thread::quietly(work)
}
