//! Ctrl-C as a call, for as long as somebody listens; otherwise it ends the process, as ever.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

/// The exit code of a process that Ctrl-C has ended.
const INTERRUPTED: i32 = 130;

type Listener = Box<dyn FnMut() + Send>;

/// Who wants to know, by number.
static LISTENERS: Mutex<Vec<(u64, Listener)>> = Mutex::new(Vec::new());

/// The thread that waits runs, or could not be started.
static WAITING: OnceLock<Result<(), String>> = OnceLock::new();

/// Listens until dropped.
#[derive(Debug)]
pub(super) struct Listening(u64);

/// Calls `each` at every Ctrl-C, on a thread of its own, until the answer is dropped.
///
/// # Errors
/// The system gives no thread or no handler.
pub(super) fn on_interrupt(each: impl FnMut() + Send + 'static) -> anyhow::Result<Listening> {
    WAITING
        .get_or_init(|| wait_apart().map_err(|error| error.to_string()))
        .clone()
        .map_err(|error| anyhow::anyhow!("Ctrl-C can't be listened to: {error}"))?;
    let mut listeners = listeners();
    let number = listeners.last().map_or(0, |(number, _)| number + 1);
    listeners.push((number, Box::new(each)));
    Ok(Listening(number))
}

impl Drop for Listening {
    fn drop(&mut self) {
        listeners().retain(|(number, _)| *number != self.0);
    }
}

fn listeners() -> MutexGuard<'static, Vec<(u64, Listener)>> {
    LISTENERS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait_apart() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    // The handler is there when this returns, not some time later.
    let mut interrupts = {
        let _inside = runtime.enter();
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?
    };
    let waiting = move || {
        runtime.block_on(async {
            while interrupts.recv().await.is_some() {
                let mut listeners = listeners();
                if listeners.is_empty() {
                    std::process::exit(INTERRUPTED);
                }
                listeners.iter_mut().for_each(|(_, listener)| listener());
            }
        });
    };
    thread::Builder::new().name("interrupt".into()).spawn(waiting).map(drop)
}

/// Waits for Ctrl-C.
///
/// # Errors
/// As [`on_interrupt`].
pub(super) fn wait() -> anyhow::Result<()> {
    let (pressed, presses) = std::sync::mpsc::channel();
    let _listening = on_interrupt(move || {
        let _ = pressed.send(());
    })?;
    // The sender lives as long as we listen.
    let _ = presses.recv();
    Ok(())
}
