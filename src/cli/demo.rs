//! `kymo demo`: the shop of `examples/shop.rs`, loaded, recorded and shown, with the lock that slows it named.
//!
//! The shop runs as a process of its own, which is this command with a hidden verb: it ends when its standard input
//! does, so it never outlives us. The load comes from here, over loopback, as from clients elsewhere.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use kymo::model::Trace;
use kymo::profile::{self, Profile};

use super::output::thousands;
use super::record::{self, Recorded};
use super::remote::Remote;
use super::source::Input;
use super::view::{self, ViewerArgs};

#[path = "../../examples/shop.rs"]
mod shop;

/// Where the shop and its kymo listen if they can.
const PORTS: [u16; 2] = [4000, 6060];

/// How long the load runs before the recording begins, so that connections and threads are there.
const WARM_UP: Duration = Duration::from_millis(300);

/// Shows what kymo does: runs a service with planted faults, loads it, records it, names the lock that slows it
///
/// The service is examples/shop.rs. It listens on 127.0.0.1:4000 and :6060, or on free ports where those are taken.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How long to record
    #[arg(long, default_value = "5", value_parser = record::seconds)]
    seconds: f64,
    /// The file to write
    #[arg(short, long, value_name = "FILE", default_value = "demo.kymo")]
    output: PathBuf,
    #[command(flatten)]
    viewer: ViewerArgs,
}

/// The service of the demo
#[derive(Debug, clap::Args)]
pub(super) struct ServiceArgs {
    shop: SocketAddr,
    kymo: SocketAddr,
}

/// Does it.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let service = Service::start()?;
    eprintln!("kymo: a shop at {}, watched by kymo at {}", service.shop, service.kymo);
    let recorded = record_under_load(&service, args)?;
    drop(service);
    ensure!(recorded.complete, "the recording broke off; what came is in {}", args.output.display());
    let input = read(&args.output)?;
    report(&input, &recorded, &args.output)?;
    view::show(&input, None, &args.viewer)
}

fn record_under_load(service: &Service, args: &Args) -> anyhow::Result<Recorded> {
    let (stop, shop) = (Arc::new(AtomicBool::new(false)), service.shop);
    let stopped = stop.clone();
    let load =
        std::thread::Builder::new().name("load".into()).spawn(move || shop::load::run(shop, &stopped))?;
    std::thread::sleep(WARM_UP);
    let remote = Remote::new(&service.kymo.to_string(), None)?;
    let recorded = record::save(&remote, Some(args.seconds), &args.output);
    stop.store(true, Ordering::Relaxed);
    ensure!(load.join().is_ok(), "the load on the shop panicked");
    recorded
}

fn read(path: &Path) -> anyhow::Result<Input> {
    let bytes = std::fs::read(path).with_context(|| format!("{} can't be read", path.display()))?;
    Ok(Input { name: path.display().to_string(), bytes })
}

/// What the demo found, in a few lines.
fn report(input: &Input, recorded: &Recorded, path: &Path) -> anyhow::Result<()> {
    let (trace, _) = input.load()?;
    let (events, lost, path) = (thousands(recorded.events), thousands(recorded.lost), path.display());
    let seconds = trace.info.duration_ns as f64 / 1e9;
    println!("{path}: {events} events in {seconds:.2} s, {lost} lost");
    println!("{} threads, {} tasks, {} polls", trace.threads.len(), trace.tasks.len(), trace.polls.len());
    for (what, derive) in
        [("waited", profile::block as fn(&Trace) -> Profile), ("held locks", profile::mutex)]
    {
        let ranked = by_function(&derive(&trace));
        let all: i64 = ranked.iter().map(|(_, delay)| delay).sum();
        let Some((function, delay)) = ranked.first() else { continue };
        let (seconds, percent) = (*delay as f64 / 1e9, 100.0 * *delay as f64 / all.max(1) as f64);
        println!("{what} longest: {function}, {seconds:.2} s ({percent:.0} %)");
    }
    Ok(())
}

/// Nanoseconds by the function at the leaf, most first.
fn by_function(profile: &Profile) -> Vec<(String, i64)> {
    let nanoseconds =
        profile.sample_types.iter().position(|kind| kind.unit == "nanoseconds").unwrap_or_default();
    let mut ranked: Vec<(String, i64)> = Vec::new();
    for sample in &profile.samples {
        let function = profile.frames(sample).next().map_or("?", |frame| &frame.function);
        let delay = sample.values.get(nanoseconds).copied().unwrap_or_default();
        match ranked.iter_mut().find(|(known, _)| known == function) {
            Some((_, sum)) => *sum += delay,
            None => ranked.push((function.to_owned(), delay)),
        }
    }
    ranked.sort_by_key(|&(_, delay)| std::cmp::Reverse(delay));
    ranked
}

/// The shop, as a process that ends with this value.
struct Service {
    process: Child,
    shop: SocketAddr,
    kymo: SocketAddr,
}

impl Service {
    fn start() -> anyhow::Result<Service> {
        let [shop, kymo] = PORTS.map(|port| free(port).to_string());
        let own = std::env::current_exe().context("this command's own file can't be found")?;
        let mut process = Command::new(own)
            .args(["demo-service", &shop, &kymo])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the demo's service can't be started")?;
        let stdout = process.stdout.take();
        // From here on the process ends with the value, also when the rest fails.
        let unknown = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut service = Service { process, shop: unknown, kymo: unknown };
        let mut line = String::new();
        BufReader::new(stdout.context("the service has no output")?).read_line(&mut line)?;
        let addresses = addresses(&line);
        (service.shop, service.kymo) =
            addresses.context("the demo's service did not start; it says why above")?;
        Ok(service)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `shop http://A kymo http://B/debug/pprof/`
fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let mut urls = line.split_whitespace().filter_map(|word| word.strip_prefix("http://"));
    let mut next = || urls.next()?.split('/').next()?.parse().ok();
    Some((next()?, next()?))
}

/// The port if it is free, else 0, for which the system chooses one.
fn free(port: u16) -> SocketAddr {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    if TcpListener::bind(address).is_ok() { address } else { SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) }
}

/// Is the shop, until standard input ends.
pub(super) fn run_service(args: &ServiceArgs) -> anyhow::Result<()> {
    std::thread::Builder::new().name("parent".into()).spawn(|| {
        // An error is as good an end as any.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    })?;
    shop::serve(args.shop, args.kymo).map_err(|error| anyhow::anyhow!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_line_holds_its_addresses() {
        let line = "shop http://127.0.0.1:4000 kymo http://127.0.0.1:6060/debug/pprof/\n";
        let [shop, kymo] = [4000, 6060].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        assert_eq!(addresses(line), Some((shop, kymo)));
        assert_eq!(addresses(""), None);
    }
}
