//! Snapshots in a directory: when something lasted too long, on a panic, on a call.
//!
//! They are few by design: at most one each [`Saving::every`], of which the latest [`Saving::most`] are kept. A file is
//! made anew, is its owner's alone, and appears under its name when it is whole.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, PoisonError, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{FlightError, Running, running};
use crate::limits::{FLIGHT_PANIC_MS, FLIGHT_SAVED, FLIGHT_SAVED_SECONDS};
use crate::record::file::OwnFile;
use crate::record::session::Resolver;
use crate::record::thread;
use crate::status;

/// What files of snapshots begin with: those that are deleted when there are too many.
const PREFIX: &str = "kymo-flight-";

const SUFFIX: &str = ".kymo";

/// When snapshots are saved, and where.
#[derive(Debug, Clone)]
pub struct Saving {
    /// Where to; made if it isn't there. Each file's name says when, which process and why.
    pub directory: PathBuf,
    /// Snapshots that are kept there; the oldest go, also those of earlier processes.
    pub most: usize,
    /// The least time between two of them.
    pub every: Duration,
    /// When the program panics. The hook that is there at the start is called first; one that is set later must call
    /// ours. Addresses are named by whoever reads the file.
    pub on_panic: bool,
    /// When a poll lasts longer than this.
    pub long_poll: Option<Duration>,
    /// When a thread waits longer than this inside a poll or a span.
    pub long_wait: Option<Duration>,
    /// When a span or a user task lasts longer than this.
    pub long_span: Option<Duration>,
}

impl Saving {
    /// To a directory, on a call: ten files, one a minute.
    ///
    /// ```no_run
    /// use kymo::{FlightConfig, FlightRecorder, Saving};
    /// use std::time::Duration;
    /// let long_poll = Some(Duration::from_millis(100));
    /// let saving = Saving { long_poll, on_panic: true, ..Saving::to("/var/tmp/shop") };
    /// FlightRecorder::new(FlightConfig { saving: Some(saving), ..FlightConfig::default() }).start()?;
    /// # Ok::<(), kymo::FlightError>(())
    /// ```
    pub fn to(directory: impl Into<PathBuf>) -> Saving {
        Saving {
            directory: directory.into(),
            most: FLIGHT_SAVED,
            every: Duration::from_secs(FLIGHT_SAVED_SECONDS),
            on_panic: false,
            long_poll: None,
            long_wait: None,
            long_span: None,
        }
    }
}

/// Saves snapshots by these rules.
pub(super) struct Saver {
    pub(super) saving: Saving,
    latest: Mutex<Option<Instant>>,
}

impl Saver {
    pub(super) fn new(saving: Saving) -> Saver {
        if saving.on_panic {
            chain_panic_hook();
        }
        Saver { saving, latest: Mutex::new(None) }
    }

    /// Whether it is time for another one; it counts from now on.
    fn is_time(&self) -> bool {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = latest.is_none_or(|latest| latest.elapsed() >= self.saving.every);
        if is_time {
            *latest = Some(Instant::now());
        }
        is_time
    }

    /// Saves one if it is time, on a thread of its own: for the drain, which holds the locks that a snapshot takes.
    pub(super) fn save_soon(&self, why: &'static str) {
        if self.is_time() {
            // Without a thread there is no snapshot; the next one may have one.
            let _ = apart(move || drop(save_now(why, true)));
        }
    }
}

impl Running {
    /// Saves a snapshot if it is time; where to.
    pub(super) fn save(&self, why: &str) -> Result<Option<PathBuf>, FlightError> {
        let saver = self.saver.as_ref().ok_or(FlightError::NoDirectory)?;
        match thread::quietly(|| saver.is_time()) {
            true => self.save_to(&saver.saving, why, self.resolver).map(Some),
            false => Ok(None),
        }
    }

    fn save_to(
        &self,
        saving: &Saving,
        why: &str,
        resolver: Option<Resolver>,
    ) -> Result<PathBuf, FlightError> {
        let trace = self.snapshot(resolver)?;
        thread::quietly(|| {
            let written = write(saving, why, &trace);
            let told = match &written {
                Ok(path) => format!("on: the latest is {}", path.display()),
                Err(error) => format!("off: {}: {error}", saving.directory.display()),
            };
            status::set("flight recorder's snapshots", told);
            Ok(written?)
        })
    }
}

/// Of whichever flight recorder runs.
fn save_now(why: &str, named: bool) -> Option<PathBuf> {
    let running = running().ok()?;
    let saver = running.saver.as_ref()?;
    running.save_to(&saver.saving, why, running.resolver.filter(|_| named)).ok()
}

/// Writes a trace to the directory and deletes what is too many there.
fn write(saving: &Saving, why: &str, trace: &[u8]) -> io::Result<PathBuf> {
    let directory = &saving.directory;
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let why: String = why.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(32).collect();
    let path = directory.join(format!("{PREFIX}{millis:013}-{}-{why}{SUFFIX}", std::process::id()));
    let part = path.with_extension("part");
    let written = OwnFile::open(&part, File::options().create_new(true))
        .and_then(|mut file| file.write_at(0, trace))
        .and_then(|()| fs::rename(&part, &path));
    if let Err(error) = written {
        // Half a snapshot on a full disk helps nobody.
        let _ = fs::remove_file(&part);
        return Err(error);
    }
    keep_the_latest(directory, saving.most.max(1));
    Ok(path)
}

/// Deletes the oldest snapshots: by name, which begins with the time.
fn keep_the_latest(directory: &Path, most: usize) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let name = |entry: fs::DirEntry| entry.file_name().into_string().ok();
    // Halves of snapshots, too: their process was killed.
    let is_ours = |name: &String| name.starts_with(PREFIX);
    let mut names: Vec<String> = entries.flatten().filter_map(name).filter(is_ours).collect();
    names.sort_unstable();
    let too_many = names.len().saturating_sub(most);
    // What can't be deleted is somebody else's.
    names.iter().take(too_many).for_each(|name| drop(fs::remove_file(directory.join(name))));
}

/// Saves a snapshot when the program panics, after the hook that was there. The thread that panics waits for it, though
/// not for long: the process may end right after.
fn chain_panic_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            before(info);
            // One of kymo's own, which may hold the locks that a snapshot takes.
            if !thread::is_muted() {
                thread::quietly(save_on_panic);
            }
        }));
    });
}

fn save_on_panic() {
    let Ok(running) = running() else { return };
    let Some(saver) = running.saver.as_ref().filter(|saver| saver.saving.on_panic) else { return };
    if !saver.is_time() {
        return;
    }
    let (done, saved) = mpsc::channel();
    if apart(move || drop(done.send(save_now("panic", false)))).is_ok() {
        let _ = saved.recv_timeout(Duration::from_millis(FLIGHT_PANIC_MS));
    }
}

/// Does work on a thread of its own that is never recorded.
fn apart(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    crate::record::spawn("kymo-flight", work)
}
