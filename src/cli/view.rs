//! `kymo view TRACE`: the timeline, served to this machine's browser until stopped.
//!
//! The address holds a random word, so that no other page and no other user of the machine can guess it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use kymo::Server;
use kymo::http::api::{self, Loaded, Options, Recorder, Store};
use kymo::http::random_key;

use super::source::{Input, Source, TraceArgs};
use super::{interrupt, record};
use crate::cli::remote::Remote;

/// Shows a trace in the browser
///
/// Prints the viewer's address on a line of its own and serves it until Ctrl-C.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    trace: TraceArgs,
    #[command(flatten)]
    viewer: ViewerArgs,
}

/// The arguments that say how to show a trace.
#[derive(Debug, clap::Args)]
pub(super) struct ViewerArgs {
    /// Don't open the browser
    #[arg(long)]
    pub(super) no_open: bool,
    /// Where to serve the viewer
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub(super) http: SocketAddr,
    /// Serve the page's files from this folder, for those who work on it
    #[arg(long, value_name = "FOLDER", hide = true)]
    pub(super) assets: Option<PathBuf>,
}

/// Does it.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let input = args.trace.read()?;
    let record = match &args.trace.source {
        Source::Url(url) => Some(recorder(Remote::new(url, args.trace.token.clone())?)),
        Source::File(_) | Source::Stdin => None,
    };
    show(&input, record, &args.viewer)
}

/// Serves a trace until Ctrl-C.
///
/// # Errors
/// The trace can't be read, or the address not be served.
pub(super) fn show(input: &Input, record: Option<Recorder>, args: &ViewerArgs) -> anyhow::Result<()> {
    let (trace, problems) = input.load()?;
    let problems = problems.iter().map(ToString::to_string).collect();
    let store = Store::new();
    store.keep(Loaded::new(random_key()?, input.name.clone(), trace, problems)?);
    let word = random_key()?;
    let options = Options { record, assets_dir: args.assets.clone() };
    let router = api::router(&format!("/{word}"), Arc::new(store), options);
    // The word in the path is the token: who doesn't know it finds nothing.
    let server = Server::builder().router(router).allow_unauthenticated().serve(args.http)?;
    let address = format!("http://{}/{word}/", server.address());
    println!("{address}");
    if !args.no_open && webbrowser::open(&address).is_err() {
        eprintln!("kymo: no browser could be opened: open the address above");
    }
    eprintln!("kymo: Ctrl-C ends it");
    interrupt::wait()
}

/// Records the service again when the page asks.
fn recorder(remote: Remote) -> Recorder {
    Arc::new(move |seconds| {
        let remote = remote.clone();
        Box::pin(async move {
            let (done, recorded) = tokio::sync::oneshot::channel();
            let work = move || {
                let mut bytes = Vec::new();
                let recorded = record::into(&remote, Some(seconds), &mut bytes).map(|_| bytes);
                // Nobody waits any more: the page is closed.
                drop(done.send(recorded.map_err(|error| format!("{error:#}"))));
            };
            std::thread::Builder::new()
                .name("record".into())
                .spawn(work)
                .map_err(|error| error.to_string())?;
            recorded.await.unwrap_or_else(|_| Err("the recording broke off".into()))
        })
    })
}
