//! One recording, start to stop. (skeleton: signatures are agreed, bodies are the record owner's)

use crate::events::Groups;
use crate::format::{Module, Symbol};

/// What a sink did with a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// It has it.
    Taken,
    /// Its reader lags: the section was not taken; the capture counts its events as lost (`slow_reader`).
    Full,
    /// It will never take another one: the capture is over.
    Closed,
}

/// Where a capture's sections go. Called by the drain, so it must not wait.
pub trait Sink: Send {
    /// Takes one or more whole sections, or refuses them whole.
    fn offer(&mut self, sections: Vec<u8>) -> Offer;
}

/// Turns addresses into names: called once, at a capture's end, on the thread that stops it.
pub type Resolver = fn(&[u64], &[Module]) -> Vec<Symbol>;

/// What to record and where to.
pub struct CaptureOptions {
    /// Which events.
    pub groups: Groups,
    /// Where its bytes go.
    pub sink: Box<dyn Sink>,
    /// Who names addresses; without it they are named by whoever reads the trace.
    pub resolver: Option<Resolver>,
}

/// Why a capture can't start.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// As many as may overlap are running.
    #[error("{0} captures are running already")]
    TooMany(usize),
    /// The drain's thread could not be started.
    #[error("kymo's thread could not be started: {0}")]
    Thread(std::io::Error),
    /// Memory for chunks could not be mapped.
    #[error("memory for recording could not be mapped: {0}")]
    Memory(std::io::Error),
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
pub struct Capture {}

impl Capture {
    /// Starts recording.
    ///
    /// # Errors
    /// [`CaptureError`].
    pub fn start(_options: CaptureOptions) -> Result<Capture, CaptureError> {
        Err(CaptureError::TooMany(0))
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        Progress::default()
    }

    /// Stops it: every thread's events up to now, the tables and the end mark go to the sink.
    pub fn stop(self) -> Progress {
        Progress::default()
    }
}
