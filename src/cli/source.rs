//! Where a trace is read from: a file, a service that records one now, or standard input.

use std::convert::Infallible;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;
use kymo::format::file::Problem;
use kymo::model::Trace;
use kymo::model::load::load;

use super::record;
use super::remote::Remote;

/// Problems that are listed; a damaged file can have thousands.
const PROBLEMS_LISTED: usize = 5;

/// A trace by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// `-`
    Stdin,
    /// A path.
    File(PathBuf),
    /// A URL, or `host:port` if there is no such file.
    Url(String),
}

impl FromStr for Source {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Source, Infallible> {
        Ok(match text {
            "-" => Source::Stdin,
            url if url.contains("://") => Source::Url(url.into()),
            host if is_host_and_port(host) && !Path::new(host).exists() => Source::Url(host.into()),
            path => Source::File(path.into()),
        })
    }
}

/// `localhost:6060`, `[::1]:6060/debug/pprof/`
fn is_host_and_port(text: &str) -> bool {
    let authority = text.split('/').next().unwrap_or_default();
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    port.is_some_and(|port| port.parse::<u16>().is_ok())
}

/// The arguments that say which trace.
#[derive(Debug, clap::Args)]
pub(super) struct TraceArgs {
    /// A trace: a file, the URL or host:port of a service that serves kymo, or - for standard input
    #[arg(value_name = "TRACE")]
    pub(super) source: Source,
    /// How long to record, where the trace is a URL [default: 5]
    #[arg(long, value_parser = record::seconds)]
    pub(super) seconds: Option<f64>,
    /// The token that the service asks for, where the trace is a URL
    #[arg(long, env = "KYMO_TOKEN", hide_env_values = true)]
    pub(super) token: Option<String>,
}

/// A trace as bytes, and what to call it.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}

impl TraceArgs {
    /// Reads the trace, or records it.
    ///
    /// # Errors
    /// It can't be read.
    pub(super) fn read(&self) -> anyhow::Result<Input> {
        match &self.source {
            Source::Stdin => {
                let mut bytes = Vec::new();
                std::io::stdin().read_to_end(&mut bytes).context("standard input can't be read")?;
                Ok(Input { name: "standard input".into(), bytes })
            }
            Source::File(path) => {
                let bytes =
                    std::fs::read(path).with_context(|| format!("{} can't be read", path.display()))?;
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                Ok(Input { name, bytes })
            }
            Source::Url(url) => {
                let mut bytes = Vec::new();
                record::into(&Remote::new(url, self.token.clone())?, self.seconds, &mut bytes)?;
                Ok(Input { name: url.clone(), bytes })
            }
        }
    }

    /// Reads the trace and understands it; what is wrong with it is told, what is valid is used.
    ///
    /// # Errors
    /// It can't be read, or nothing in it is valid.
    pub(super) fn load(&self) -> anyhow::Result<(Trace, Vec<Problem>)> {
        self.read()?.load()
    }
}

impl Input {
    /// As [`TraceArgs::load`].
    pub(super) fn load(&self) -> anyhow::Result<(Trace, Vec<Problem>)> {
        let (mut trace, problems) = load(&self.bytes).with_context(|| self.name.clone())?;
        trace.stacks.resolve_missing();
        for problem in problems.iter().take(PROBLEMS_LISTED) {
            eprintln!("kymo: {}: {problem}", self.name);
        }
        if let Some(more @ 1..) = problems.len().checked_sub(PROBLEMS_LISTED) {
            eprintln!("kymo: {}: and {more} problems more", self.name);
        }
        Ok((trace, problems))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_urls_and_hosts_are_told_apart() {
        for (text, source) in [
            ("-", Source::Stdin),
            ("t.kymo", Source::File("t.kymo".into())),
            ("dir/t.kymo", Source::File("dir/t.kymo".into())),
            ("c:dir/t.kymo", Source::File("c:dir/t.kymo".into())),
            ("localhost:6060", Source::Url("localhost:6060".into())),
            ("localhost:6060/debug/pprof/", Source::Url("localhost:6060/debug/pprof/".into())),
            ("[::1]:6060", Source::Url("[::1]:6060".into())),
            ("http://h/t", Source::Url("http://h/t".into())),
            ("https://h/t", Source::Url("https://h/t".into())),
        ] {
            assert_eq!(text.parse(), Ok(source));
        }
    }
}
