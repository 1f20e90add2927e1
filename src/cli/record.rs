//! `kymo record URL`: a service's trace, saved while it comes in.
//!
//! A thread reads, the main one writes and counts, so that Ctrl-C is heard while nothing comes. The first Ctrl-C asks
//! the service to end the recording, which sends names of threads and functions; the second takes what is there.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use kymo::limits::{CAPTURE_SECONDS, READ_BUFFER_BYTES};
use serde::Serialize;

use super::interrupt::on_interrupt;
use super::meter::{Counts, Meter};
use super::output::{free_name, thousands};
use super::remote::Remote;

/// How often the progress bar moves.
const TICK: Duration = Duration::from_millis(100);

/// Records a service for some seconds and saves the trace
///
/// Ctrl-C ends the recording early and saves what came; a second one does not wait for the names of functions.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The service: host:port, or a URL; /debug/pprof/trace is added where there is no path
    url: String,
    /// How long [default: 5]
    #[arg(long, value_parser = seconds)]
    seconds: Option<f64>,
    /// The file to write, - for standard output [default: trace.kymo, or the next free trace-N.kymo]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The token that the service asks for
    #[arg(long, env = "KYMO_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Says what was recorded as JSON
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    /// Says nothing
    #[arg(short, long)]
    quiet: bool,
}

/// What was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Recorded {
    pub(super) events: u64,
    pub(super) lost: u64,
    pub(super) bytes: u64,
    /// The service has sent all of it.
    pub(super) complete: bool,
    /// Ctrl-C was pressed.
    pub(super) interrupted: bool,
}

/// A number of seconds that a service may be asked for.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= CAPTURE_SECONDS => Ok(seconds),
        _ => Err(format!("it must be a number above 0, at most {CAPTURE_SECONDS}")),
    }
}

/// Does it.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let remote = Remote::new(&args.url, args.token.clone())?;
    let output = args.output.clone().unwrap_or_else(|| free_name("trace", "kymo"));
    let recorded = save(&remote, args.seconds, &output)?;
    let name = output.display();
    if args.json {
        let recorded = serde_json::json!({ "file": output, "recorded": recorded });
        eprintln!("{recorded}");
    } else if !args.quiet {
        let Recorded { events, lost, bytes, .. } = recorded;
        let (events, lost, bytes) = (thousands(events), thousands(lost), HumanBytes(bytes));
        eprintln!("{name}: {events} events, {lost} lost, {bytes}");
    }
    ensure!(
        recorded.complete || recorded.interrupted,
        "{name}: the service broke off; what came is saved, but has no names of threads and functions"
    );
    Ok(())
}

/// Records into a file, or standard output.
///
/// # Errors
/// The service can't be recorded, or the file not be written.
pub(super) fn save(remote: &Remote, seconds: Option<f64>, output: &Path) -> anyhow::Result<Recorded> {
    if output == Path::new("-") {
        return into(remote, seconds, &mut io::stdout().lock());
    }
    // Asked first: a service that refuses leaves no empty file.
    let recording = remote.record(seconds)?;
    let failed = || format!("{} can't be written", output.display());
    let mut file = File::create(output).with_context(failed)?;
    follow(remote, recording, seconds, &mut file)
}

/// Records into anything.
///
/// # Errors
/// As [`save`].
pub(super) fn into(remote: &Remote, seconds: Option<f64>, out: &mut dyn Write) -> anyhow::Result<Recorded> {
    follow(remote, remote.record(seconds)?, seconds, out)
}

enum Message {
    Bytes(Vec<u8>),
    End(io::Result<()>),
    Interrupt,
}

fn follow(
    remote: &Remote,
    recording: super::remote::Recording,
    seconds: Option<f64>,
    out: &mut dyn Write,
) -> anyhow::Result<Recorded> {
    let (send, messages) = channel();
    let interrupts = send.clone();
    let _listening = on_interrupt(move || drop(interrupts.send(Message::Interrupt)))?;
    let (body, capture) = (recording.body, recording.capture);
    std::thread::Builder::new().name("reader".into()).spawn(move || read(body, &send))?;
    let bar = Bar::new(remote.seconds(seconds));
    if let Some(note) = recording.note {
        bar.0.println(format!("kymo: {note}"));
    }
    let mut follower = Follower { remote, capture, bar, meter: Meter::default(), bytes: 0, presses: 0 };
    let counts = follower.until_the_end(&messages, out);
    follower.bar.0.finish_and_clear();
    let Counts { events, lost, complete } = counts?;
    out.flush()?;
    Ok(Recorded { events, lost, bytes: follower.bytes, complete, interrupted: follower.presses > 0 })
}

fn read(mut body: impl Read, to: &Sender<Message>) {
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    let end = loop {
        match body.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(length) => {
                if to.send(Message::Bytes(buffer[..length].to_vec())).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    // Nobody listens after the second Ctrl-C.
    let _ = to.send(Message::End(end));
}

struct Follower<'a> {
    remote: &'a Remote,
    capture: Option<String>,
    bar: Bar,
    meter: Meter,
    bytes: u64,
    presses: u32,
}

impl Follower<'_> {
    fn until_the_end(&mut self, messages: &Receiver<Message>, out: &mut dyn Write) -> anyhow::Result<Counts> {
        let mut counts = Counts::default();
        loop {
            match messages.recv_timeout(TICK) {
                Ok(Message::Bytes(bytes)) => {
                    counts = self.meter.take(&bytes)?;
                    out.write_all(&bytes).context("the trace can't be written")?;
                    self.bytes += bytes.len() as u64;
                }
                Ok(Message::End(Err(error))) if self.bytes == 0 => {
                    return Err(error).context("the service broke off before it sent anything");
                }
                Ok(Message::End(_)) | Err(RecvTimeoutError::Disconnected) => return Ok(counts),
                Ok(Message::Interrupt) if self.is_enough() => return Ok(counts),
                Ok(Message::Interrupt) | Err(RecvTimeoutError::Timeout) => {}
            }
            self.bar.show(counts, self.bytes, self.presses > 0);
        }
    }

    /// Ctrl-C: asks the service for a good end; true if there is nothing to wait for.
    fn is_enough(&mut self) -> bool {
        self.presses += 1;
        let capture = self.capture.take();
        capture.is_none_or(|capture| self.remote.stop(&capture).is_err())
    }
}

/// The progress bar; nothing where standard error is no terminal.
struct Bar(ProgressBar, Instant);

impl Bar {
    fn new(seconds: f64) -> Bar {
        let bar = ProgressBar::new((seconds * 1000.0) as u64);
        let style = ProgressStyle::with_template("{spinner} {bar:30} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Bar(bar, Instant::now())
    }

    fn show(&self, counts: Counts, bytes: u64, stopping: bool) {
        let Bar(bar, begun) = self;
        let passed = begun.elapsed().as_millis() as u64;
        bar.set_position(passed.min(bar.length().unwrap_or_default()));
        let (events, lost) = (thousands(counts.events), thousands(counts.lost));
        let over = stopping || passed > bar.length().unwrap_or_default();
        let phase = if over { ", naming functions" } else { "" };
        bar.set_message(format!("{events} events, {lost} lost, {}{phase}", HumanBytes(bytes)));
    }
}
