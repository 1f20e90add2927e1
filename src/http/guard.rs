//! Who may ask: the checks that kymo's own server makes before anything else.
//!
//! - The `Host` must be one that this server answers to, compared whole: a web page that has pointed its own name at
//!   this machine (DNS rebinding) sends its own name. Ports are not compared, so that a forwarded one works.
//! - A browser that says that the request comes from another site is refused, unless a person follows a link.
//! - Where a token is set, it must be there: `Authorization: Bearer …`, or as the password of `Basic`, which browsers
//!   ask for and `go tool pprof http://any:TOKEN@host/…` sends. It is compared in constant time.
//!
//! A router that is mounted in another server leaves these questions to that server.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;

use super::answer;

/// Bytes of a random key.
const KEY_BYTES: usize = 16;

/// Whom the server answers.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    /// Names that a request's `Host` may have, lower case, without port.
    hosts: Vec<String>,
    /// Any address will do as a `Host`: the server listens beyond loopback, and an address can't be rebound.
    any_address: bool,
    token: Option<String>,
}

impl Guard {
    /// For a server at `address`, which may be asked by further names.
    pub(super) fn new(address: SocketAddr, names: &[String], token: Option<String>) -> Guard {
        let loopback = ["localhost", "127.0.0.1", "::1"].map(String::from);
        let own = address.ip().to_string();
        let names = names.iter().map(|name| name.to_ascii_lowercase());
        let hosts = loopback.into_iter().chain([own]).chain(names).collect();
        Guard { hosts, any_address: !address.ip().is_loopback(), token }
    }

    /// None if the request may pass, else the answer that it gets.
    pub(super) fn refuse(&self, request: &Request) -> Option<Response> {
        let headers = request.headers();
        if headers.contains_key(header::TRANSFER_ENCODING) || request.uri().authority().is_some() {
            return Some(bad_request("send a path and, for a body, its Content-Length"));
        }
        if !self.knows(headers) {
            return Some(forbidden(
                "this Host is not served: ask by localhost, or allow it by allow_host(name)",
            ));
        }
        if is_from_another_site(headers, request.method()) {
            return Some(forbidden("requests from other sites are not served"));
        }
        match &self.token {
            Some(token) if !has_token(headers, token) => Some(unauthorized()),
            _ => None,
        }
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        let mut all = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (all.next(), all.next()) else { return false };
        let Some(name) = host.to_str().ok().and_then(without_port) else { return false };
        let name = name.to_ascii_lowercase();
        let is_address = name.parse::<IpAddr>().is_ok();
        self.hosts.contains(&name) || (self.any_address && is_address)
    }
}

/// A `Host` without its port, an address without its brackets; none if it is not of that form.
fn without_port(host: &str) -> Option<&str> {
    if let Some(address) = host.strip_prefix('[') {
        let (address, rest) = address.split_once(']')?;
        return (rest.is_empty() || is_port(rest.strip_prefix(':')?)).then_some(address);
    }
    match host.split_once(':') {
        None => Some(host),
        Some((name, port)) => is_port(port).then_some(name),
    }
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// Browsers say where a request comes from; other clients don't, and are not concerned.
fn is_from_another_site(headers: &HeaderMap, method: &Method) -> bool {
    let says = |name: &str, word: &str| headers.get(name).is_some_and(|value| value == word);
    let follows_a_link = says("sec-fetch-mode", "navigate") && method == Method::GET;
    says("sec-fetch-site", "cross-site") && !follows_a_link
}

fn has_token(headers: &HeaderMap, token: &str) -> bool {
    let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match sent.split_once(' ') {
        Some(("Bearer", sent)) => same(sent.as_bytes(), token.as_bytes()),
        Some(("Basic", sent)) => {
            let Some(pair) = from_base64(sent) else { return false };
            let password =
                pair.iter().position(|&byte| byte == b':').map_or(&[][..], |colon| &pair[colon + 1..]);
            same(password, token.as_bytes())
        }
        _ => false,
    }
}

/// Compares in a time that depends on the lengths only.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut held, mut bytes) = (0u32, 0, Vec::new());
    for digit in text.trim_end_matches('=').bytes() {
        let value = DIGITS.iter().position(|&known| known == digit)?;
        bits = (bits << 6 | value as u32) & 0xff_ffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    Some(bytes)
}

/// A key that can't be guessed, as hex.
///
/// # Errors
/// The system has no random numbers.
pub fn random_key() -> std::io::Result<String> {
    let mut bytes = [0; KEY_BYTES];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn bad_request(why: &str) -> Response {
    let mut answer = answer::error(StatusCode::BAD_REQUEST, why);
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

fn forbidden(why: &str) -> Response {
    answer::error(StatusCode::FORBIDDEN, why)
}

fn unauthorized() -> Response {
    let why = "a token is needed: `Authorization: Bearer TOKEN`, or the token as password";
    let mut answer = answer::error(StatusCode::UNAUTHORIZED, why);
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"kymo\""));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn check(guard: &Guard, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().uri("/debug/pprof/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        guard.refuse(&request).map_or(200, |answer| answer.status().as_u16())
    }

    #[test]
    fn a_loopback_server_is_asked_by_a_loopback_name_only() {
        let guard = Guard::new("127.0.0.1:6060".parse().unwrap(), &["svc.internal".into()], None);
        let good = ["localhost", "localhost:6060", "LOCALHOST:7000", "127.0.0.1:6060", "[::1]:6060", "[::1]"];
        for host in good.into_iter().chain(["svc.internal", "svc.internal:80"]) {
            assert_eq!(check(&guard, &[("host", host)]), 200, "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:6060",
            "localhost:6060.evil.example",
            "localhost:",
            "localhost:99999",
            "[::1",
            "[::1]x",
            "10.0.0.1",
            "localhost@evil.example",
            " localhost",
            "",
        ] {
            assert_eq!(check(&guard, &[("host", host)]), 403, "{host}");
        }
        assert_eq!(check(&guard, &[]), 403, "no Host");
        assert_eq!(check(&guard, &[("host", "localhost"), ("host", "localhost")]), 403, "two Hosts");
    }

    #[test]
    fn a_server_beyond_loopback_is_asked_by_any_address_but_by_no_strange_name() {
        let guard = Guard::new("0.0.0.0:6060".parse().unwrap(), &[], None);
        for (host, status) in [("10.1.2.3:6060", 200), ("[fe80::1]:6060", 200), ("evil.example", 403)] {
            assert_eq!(check(&guard, &[("host", host)]), status, "{host}");
        }
    }

    #[test]
    fn other_sites_may_link_but_not_fetch() {
        let guard = Guard::new("127.0.0.1:6060".parse().unwrap(), &[], None);
        for (site, mode, status) in [
            ("same-origin", "cors", 200),
            ("none", "navigate", 200),
            ("cross-site", "navigate", 200),
            ("cross-site", "no-cors", 403),
            ("cross-site", "cors", 403),
        ] {
            let headers = [("host", "localhost"), ("sec-fetch-site", site), ("sec-fetch-mode", mode)];
            assert_eq!(check(&guard, &headers), status, "{site} {mode}");
        }
    }

    #[test]
    fn a_token_is_a_bearer_or_the_password() {
        let guard = Guard::new("127.0.0.1:6060".parse().unwrap(), &[], Some("s3cret".into()));
        for (sent, status) in [
            ("Bearer s3cret", 200),
            ("Basic YW55OnMzY3JldA==", 200), // any:s3cret
            ("Basic OnMzY3JldA==", 200),     // :s3cret
            ("Bearer s3cre", 401),
            ("Bearer s3cretx", 401),
            ("Bearer ", 401),
            ("Basic czNjcmV0", 401), // s3cret
            ("Basic !!!!", 401),
            ("s3cret", 401),
        ] {
            assert_eq!(check(&guard, &[("host", "localhost"), ("authorization", sent)]), status, "{sent}");
        }
        assert_eq!(check(&guard, &[("host", "localhost")]), 401);
        assert_eq!(check(&guard, &[("host", "evil.example"), ("authorization", "Bearer s3cret")]), 403);
    }

    #[test]
    fn what_a_proxy_could_read_differently_is_refused() {
        let guard = Guard::new("127.0.0.1:6060".parse().unwrap(), &[], None);
        assert_eq!(check(&guard, &[("host", "localhost"), ("transfer-encoding", "chunked")]), 400);
        let request = Request::builder().uri("http://localhost/debug/pprof/").header("host", "localhost");
        let refused = guard.refuse(&request.body(Body::empty()).unwrap()).unwrap();
        assert_eq!(refused.status(), 400);
    }

    #[test]
    fn keys_differ_and_are_long() {
        let (a, b) = (random_key().unwrap(), random_key().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.len(), 2 * KEY_BYTES);
    }
}
