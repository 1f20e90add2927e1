//! A service that serves kymo, seen from outside: its URL, its answers, its refusals.
//!
//! A bare `host:port` means its trace endpoint, as `go tool pprof` completes it. Proxies are not used: a service's
//! insides should not pass through one.

use std::io::Read;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use ureq::http::Uri;

/// How long a service may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// Bytes of a refusal's text that are shown.
const REFUSAL_BYTES: u64 = 1024;

/// Bytes of a service's status that are read.
const STATUS_BYTES: u64 = 1 << 20;

/// Where a trace can be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remote {
    /// Scheme, host, path; without a query.
    base: String,
    query: Vec<String>,
    token: Option<String>,
}

impl Remote {
    /// Understands an address: a URL, or `host:port`.
    ///
    /// # Errors
    /// It is neither.
    pub(super) fn new(address: &str, token: Option<String>) -> anyhow::Result<Remote> {
        let url = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        let uri: Uri =
            url.parse().with_context(|| format!("`{address}` is no URL, such as localhost:6060"))?;
        ensure!(
            uri.scheme_str() == Some("http"),
            "{address}: only http is spoken: forward the port, or use a tunnel"
        );
        let authority = uri.authority().with_context(|| format!("`{address}` names no host"))?;
        let path = match uri.path().trim_end_matches('/') {
            "" => "/debug/pprof/trace".to_owned(),
            path if path.ends_with("/debug/pprof") => format!("{path}/trace"),
            path => path.to_owned(),
        };
        let query = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        Ok(Remote {
            base: format!("http://{authority}{path}"),
            query: query.map(str::to_owned).collect(),
            token,
        })
    }

    /// The URL that records for some seconds, unless the address had a number of its own.
    pub(super) fn trace_url(&self, seconds: Option<f64>) -> String {
        let given = |pair: &&String| pair.starts_with("seconds=");
        let mut query: Vec<String> = self.query.iter().filter(|pair| !given(pair)).cloned().collect();
        query.push(format!("seconds={}", self.seconds(seconds)));
        format!("{}?{}", self.base, query.join("&"))
    }

    /// How long a recording takes: what was asked for, else what the address says, else five seconds.
    pub(super) fn seconds(&self, asked: Option<f64>) -> f64 {
        let own = || self.query.iter().find_map(|pair| pair.strip_prefix("seconds=")?.parse().ok());
        asked.or_else(own).unwrap_or(5.0)
    }

    /// Begins a recording.
    ///
    /// # Errors
    /// The service is not there, or refuses, in its own words.
    pub(super) fn record(&self, seconds: Option<f64>) -> anyhow::Result<Recording> {
        let url = self.trace_url(seconds);
        let mut request = agent().get(&url);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = request.call().with_context(|| {
            format!("{} can't be reached: is the service running, with kymo::serve on that port?", self.base)
        })?;
        if answer.status() != 200 {
            bail!("{}: the service answers {}", self.base, refusal(answer));
        }
        let header = |name| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
        let (capture, note) = (header("x-kymo-capture"), header("x-kymo-note"));
        Ok(Recording { capture, note, body: Box::new(answer.into_body().into_reader()) })
    }

    /// What the service says of itself.
    ///
    /// # Errors
    /// The service is not there, or refuses, in its own words.
    pub(super) fn status(&self) -> anyhow::Result<String> {
        let base = self.base.strip_suffix("trace").unwrap_or(&self.base);
        let url = format!("{}/status", base.trim_end_matches('/'));
        let mut request = agent().get(&url);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = request.call().with_context(|| {
            format!("{url} can't be reached: is the service running, with kymo::serve on that port?")
        })?;
        if answer.status() != 200 {
            bail!("{url}: the service answers {}", refusal(answer));
        }
        let mut text = String::new();
        answer.into_body().into_reader().take(STATUS_BYTES).read_to_string(&mut text)?;
        Ok(text)
    }

    /// Asks the service to end a recording before its time, and to send what belongs to its end.
    ///
    /// # Errors
    /// The service is not there any more, or knows of no such recording.
    pub(super) fn stop(&self, capture: &str) -> anyhow::Result<()> {
        let base = self.base.strip_suffix("trace").unwrap_or(&self.base);
        let mut request = agent().post(format!("{base}stop?capture={capture}"));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = request.send_empty()?;
        ensure!(answer.status().is_success(), "the service answers {}", refusal(answer));
        Ok(())
    }
}

/// A trace on its way.
pub(super) struct Recording {
    /// By which it can be stopped.
    pub(super) capture: Option<String>,
    /// What the service says about it.
    pub(super) note: Option<String>,
    /// Its bytes.
    pub(super) body: Box<dyn Read + Send>,
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .timeout_connect(Some(CONNECT))
        .user_agent(concat!("kymo/", env!("CARGO_PKG_VERSION")));
    config.build().into()
}

/// `404 Not Found: Unknown profile`: the text only where it is one that is meant to be read, as Go marks them.
fn refusal(answer: ureq::http::Response<ureq::Body>) -> String {
    let status = answer.status();
    if !answer.headers().contains_key("x-go-pprof") {
        return status.to_string();
    }
    let mut text = String::new();
    // A text that breaks off is better than none.
    let _ = answer.into_body().into_reader().take(REFUSAL_BYTES).read_to_string(&mut text);
    format!("{status}: {}", text.lines().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(address: &str, seconds: Option<f64>) -> String {
        Remote::new(address, None).unwrap().trace_url(seconds)
    }

    #[test]
    fn a_bare_host_means_its_trace_endpoint() {
        for (address, expected) in [
            ("localhost:6060", "http://localhost:6060/debug/pprof/trace?seconds=5"),
            ("http://localhost:6060/", "http://localhost:6060/debug/pprof/trace?seconds=5"),
            ("http://h/svc/debug/pprof/", "http://h/svc/debug/pprof/trace?seconds=5"),
            ("h:1/debug/pprof/trace?seconds=2.5", "http://h:1/debug/pprof/trace?seconds=2.5"),
            ("h:1/debug/pprof/trace?x=1", "http://h:1/debug/pprof/trace?x=1&seconds=5"),
            ("http://any:secret@h:1", "http://any:secret@h:1/debug/pprof/trace?seconds=5"),
        ] {
            assert_eq!(url(address, None), expected);
        }
    }

    #[test]
    fn seconds_on_the_command_line_win() {
        assert_eq!(url("h:1/t?seconds=9&a=b", Some(0.5)), "http://h:1/t?a=b&seconds=0.5");
    }

    #[test]
    fn what_is_no_http_address_is_refused_with_a_word_of_what_to_do() {
        for (address, word) in [("https://h", "tunnel"), ("ftp://h", "only http"), ("a b", "no URL")] {
            let error = format!("{:#}", Remote::new(address, None).unwrap_err());
            assert!(error.contains(word), "{error}");
        }
    }
}
