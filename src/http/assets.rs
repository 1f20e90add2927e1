//! The page's files: embedded in the binary, or read from a folder while somebody works on them.
//!
//! A fixed table of content types, no compression, no directory listing: a path is either a name of the table's kinds
//! below `viewer/`, or it is not found. Every answer carries the policy that keeps the page to its own origin.

use std::borrow::Cow;
use std::path::{Component, Path, PathBuf};

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "viewer/"]
struct Embedded;

/// What the page may load: only what its own origin serves. Nobody may frame it.
pub const POLICY: &str = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; \
                          form-action 'none'; frame-ancestors 'none'";

/// Extensions of the page's files and what they are.
const TYPES: &[(&str, &str)] = &[
    ("html", "text/html; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("svg", "image/svg+xml"),
];

/// Where the page's files come from.
#[derive(Debug, Clone, Default)]
pub enum Assets {
    /// This binary.
    #[default]
    Embedded,
    /// A folder, read anew for each request.
    Folder(PathBuf),
}

impl Assets {
    /// The file at `path`, which is relative to the page; the empty path is the page itself.
    pub fn answer(&self, path: &str) -> Response<Body> {
        let path = if path.is_empty() { "index.html" } else { path };
        let kind = Path::new(path).extension().and_then(|extension| extension.to_str());
        let content_type =
            TYPES.iter().find(|(extension, _)| Some(*extension) == kind).map(|(_, name)| *name);
        match content_type.and_then(|content_type| Some((content_type, self.bytes(path)?))) {
            Some((content_type, bytes)) => with_headers(StatusCode::OK, content_type, bytes.into_owned()),
            None => with_headers(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", b"not found\n".to_vec()),
        }
    }

    fn bytes(&self, path: &str) -> Option<Cow<'static, [u8]>> {
        match self {
            Assets::Embedded => Embedded::get(path).map(|file| file.data),
            Assets::Folder(folder) => {
                let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
                inside.then(|| std::fs::read(folder.join(path)).ok()).flatten().map(Cow::Owned)
            }
        }
    }
}

fn with_headers(status: StatusCode, content_type: &'static str, bytes: Vec<u8>) -> Response<Body> {
    let mut answer = Response::new(Body::from(bytes));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer
}
