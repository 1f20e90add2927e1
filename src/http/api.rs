//! The viewer's questions and their answers: `api/v1/…` beside the page's own files.
//!
//! | | |
//! |---|---|
//! | `GET session` | which traces there are, and whether this process can record one |
//! | `POST record` `{seconds}` | records this process; answers with the trace's id |
//! | `POST open?name=` + bytes | keeps a trace that somebody dropped on the page |
//! | `GET t/{id}/summary` | bounds, counts, losses, findings, groups of tracks |
//! | `GET t/{id}/tracks?group=&cursor=&limit=` | a page of tracks; `?row=` instead: the track of a row, and the groups it is in |
//! | `POST t/{id}/tiles` `{z, want: [[key, i], …]}` | the windows of rows that a frame needs, binary (`analysis::tiles`) |
//! | `GET t/{id}/item?row=&at=&dt=&which=` | one slice in full, with its stacks; `null` if none is there |
//! | `GET t/{id}/flows?row=&at=` | its arrows: who woke it, whom it woke |
//! | `GET t/{id}/search?q=` | names |
//!
//! Times are nanoseconds from the trace's start. They are JSON numbers, for the store refuses a trace of 2^53 ns or more:
//! so each is exact as a double too. Each answer is worked out on a thread of its own that is never recorded: the
//! runtime that serves it may be the program's own.
//!
//! Paths are relative: the same router serves `/debug/pprof/ui/` in a traced process and `kymo view` at its own address.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, OriginalUri, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::assets::Assets;
use crate::analysis::rows::RowKey;
use crate::analysis::tiles::Answer;
use crate::limits::{CAPTURE_SECONDS, DROPPED_TRACE_BYTES, TILES};

mod details;
mod schema;
mod store;
mod summary;
mod texts;
mod tracks;

pub use schema::schema;
pub use store::{AddError, Loaded, Store};

/// A recording on its way: the trace's bytes, or why there is none.
pub type Recording = Pin<Box<dyn Future<Output = Result<Vec<u8>, String>> + Send>>;

/// Records this process for some seconds.
pub type Recorder = Arc<dyn Fn(f64) -> Recording + Send + Sync>;

/// What the viewer serves beside its traces.
#[derive(Clone, Default)]
pub struct Options {
    /// Records this process; `None` where there is nothing to record.
    pub record: Option<Recorder>,
    /// Serve the page's files from here instead of from the binary.
    pub assets_dir: Option<PathBuf>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("record", &self.record.is_some())
            .field("assets_dir", &self.assets_dir)
            .finish()
    }
}

#[derive(Clone)]
struct Viewer {
    store: Arc<Store>,
    record: Option<Recorder>,
    assets: Assets,
}

/// The viewer below `prefix` (`/debug/pprof/ui`, or empty): its page at `prefix/`, its questions below
/// `prefix/api/v1/`. To be merged, or nested anywhere: the page uses relative addresses only.
pub fn router(prefix: &str, store: Arc<Store>, options: Options) -> Router {
    let assets = options.assets_dir.map_or(Assets::Embedded, Assets::Folder);
    let viewer = Viewer { store, record: options.record, assets };
    if prefix.is_empty() {
        return questions().with_state(viewer);
    }
    // A nested router never sees its own path with a slash at the end, which is where the page is.
    let index = |State(viewer): State<Viewer>| async move { viewer.assets.answer("") };
    Router::new().route(&format!("{prefix}/"), get(index)).nest(prefix, questions()).with_state(viewer)
}

fn questions() -> Router<Viewer> {
    Router::new()
        .route("/api/v1/session", get(session))
        .route("/api/v1/record", post(record))
        .route("/api/v1/open", post(open).layer(DefaultBodyLimit::max(DROPPED_TRACE_BYTES)))
        .route("/api/v1/t/{id}/summary", get(get_summary))
        .route("/api/v1/t/{id}/tracks", get(get_tracks))
        .route("/api/v1/t/{id}/tiles", post(post_tiles))
        .route("/api/v1/t/{id}/item", get(get_item))
        .route("/api/v1/t/{id}/flows", get(get_flows))
        .route("/api/v1/t/{id}/search", get(get_search))
        // Routes, not a fallback: one of those would lose to a wildcard of the router that this is merged into.
        .route("/", get(page))
        .route("/{*path}", get(page))
}

/// Why a question has no answer.
#[derive(Debug)]
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response<Body> {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Refusal {
        Refusal(rejection.status(), rejection.body_text())
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Refusal {
        Refusal(rejection.status(), rejection.body_text())
    }
}

fn bad(message: impl ToString) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, message.to_string())
}

fn missing(what: &str) -> Refusal {
    Refusal(StatusCode::NOT_FOUND, format!("there is no {what}"))
}

type Answered = Result<Response<Body>, Refusal>;

/// A page's file. The page itself is a folder: its relative addresses need the slash at the end.
async fn page(State(viewer): State<Viewer>, OriginalUri(original): OriginalUri, uri: Uri) -> Response<Body> {
    if uri.path() == "/" && !original.path().ends_with('/') {
        let last = original.path().rsplit('/').next().unwrap_or_default();
        return (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, format!("{last}/"))]).into_response();
    }
    viewer.assets.answer(uri.path().trim_start_matches('/'))
}

async fn session(State(viewer): State<Viewer>) -> Response<Body> {
    let traces = viewer.store.all();
    let traces = traces.iter().map(|loaded| {
        json!({ "id": loaded.id, "name": loaded.name, "duration_ns": loaded.trace.info.duration_ns })
    });
    answer(&json!({ "traces": traces.collect::<Vec<_>>(), "can_record": viewer.record.is_some() }))
}

#[derive(Deserialize)]
struct RecordRequest {
    seconds: f64,
}

async fn record(
    State(viewer): State<Viewer>,
    request: Result<Json<RecordRequest>, JsonRejection>,
) -> Answered {
    let Json(RecordRequest { seconds }) = request?;
    let Some(record) = viewer.record else { return Err(missing("process to record here")) };
    if !(seconds > 0.0 && seconds <= CAPTURE_SECONDS) {
        return Err(bad(format!("seconds must be above 0 and at most {CAPTURE_SECONDS}, not {seconds}")));
    }
    let bytes = record(seconds).await.map_err(|why| Refusal(StatusCode::SERVICE_UNAVAILABLE, why))?;
    keep(viewer.store, format!("recorded {seconds} s"), bytes).await
}

#[derive(Deserialize)]
struct OpenRequest {
    name: String,
}

/// Only the page itself may open a trace: the header makes a browser ask first when another site tries.
async fn open(
    State(viewer): State<Viewer>,
    query: Result<Query<OpenRequest>, QueryRejection>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Answered {
    let Query(OpenRequest { name }) = query?;
    if !headers.contains_key("x-kymo") {
        return Err(bad("the header x-kymo is missing"));
    }
    keep(viewer.store, name, bytes.into()).await
}

async fn keep(store: Arc<Store>, name: String, bytes: Vec<u8>) -> Answered {
    apart(move || {
        let id = store
            .add(&name, &bytes)
            .map_err(|error| Refusal(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
        Ok(answer(&json!({ "id": id })))
    })
    .await
}

async fn get_summary(State(viewer): State<Viewer>, Path(id): Path<String>) -> Answered {
    ask(viewer, id, |loaded| Ok(answer(&summary::summary(loaded)))).await
}

#[derive(Deserialize)]
struct TracksRequest {
    group: Option<String>,
    row: Option<String>,
    #[serde(default)]
    cursor: usize,
    #[serde(default = "whole_page")]
    limit: usize,
}

fn whole_page() -> usize {
    crate::limits::PAGE_ROWS
}

async fn get_tracks(
    State(viewer): State<Viewer>,
    Path(id): Path<String>,
    query: Result<Query<TracksRequest>, QueryRejection>,
) -> Answered {
    let Query(request) = query?;
    ask(viewer, id, move |loaded| match (&request.group, &request.row) {
        (Some(group), _) => tracks::page(loaded, group, request.cursor, request.limit)
            .map(|page| answer(&page))
            .ok_or_else(|| missing(&format!("group {group}"))),
        (None, Some(row)) => {
            let found = tracks::find(loaded, row.parse().map_err(bad)?);
            let (track, groups) = found.ok_or_else(|| missing(&format!("track for the row {row}")))?;
            Ok(answer(&json!({ "track": track, "groups": groups })))
        }
        (None, None) => Ok(answer(&tracks::groups(loaded))),
    })
    .await
}

#[derive(Deserialize)]
struct TilesRequest {
    z: u32,
    want: Vec<(String, u64)>,
}

/// The widest column, 2^z ns: a tile of them is as long as the longest trace.
const Z_MOST: u32 = 43;

async fn post_tiles(
    State(viewer): State<Viewer>,
    Path(id): Path<String>,
    request: Result<Json<TilesRequest>, JsonRejection>,
) -> Answered {
    let Json(TilesRequest { z, want }) = request?;
    if z > Z_MOST || want.len() > TILES || want.iter().any(|&(_, i)| i >> (Z_MOST - z) != 0) {
        return Err(bad(format!("at most {TILES} tiles of z <= {Z_MOST}, within 2^53 ns")));
    }
    ask(viewer, id, move |loaded| {
        let mut tiles = Answer::default();
        for (key, i) in &want {
            let row = key.parse::<RowKey>().ok().and_then(|key| loaded.row(key));
            tiles.add(row.as_deref(), z, *i, |slice| texts::slice(loaded, slice));
        }
        let kind = HeaderValue::from_static("application/octet-stream");
        Ok(([(header::CONTENT_TYPE, kind)], tiles.finish()).into_response())
    })
    .await
}

#[derive(Deserialize)]
struct ItemRequest {
    row: String,
    at: u64,
    #[serde(default)]
    dt: u64,
    which: Option<String>,
}

async fn get_item(
    State(viewer): State<Viewer>,
    Path(id): Path<String>,
    query: Result<Query<ItemRequest>, QueryRejection>,
) -> Answered {
    let Query(request) = query?;
    let which = match request.which.as_deref() {
        None => details::Which::Here(request.dt),
        Some("next") => details::Which::Next,
        Some("previous") => details::Which::Previous,
        Some(other) => return Err(bad(format!("which must be next or previous, not {other}"))),
    };
    let key: RowKey = request.row.parse().map_err(bad)?;
    ask(viewer, id, move |loaded| {
        let found = details::details(loaded, key, request.at, which);
        found.map(|details| answer(&details)).ok_or_else(|| missing(&format!("row {key}")))
    })
    .await
}

async fn get_flows(
    State(viewer): State<Viewer>,
    Path(id): Path<String>,
    query: Result<Query<ItemRequest>, QueryRejection>,
) -> Answered {
    let Query(request) = query?;
    let key: RowKey = request.row.parse().map_err(bad)?;
    ask(viewer, id, move |loaded| {
        let flows = details::flows(loaded, key, request.at);
        flows.map(|flows| answer(&flows)).ok_or_else(|| missing(&format!("row {key}")))
    })
    .await
}

#[derive(Deserialize)]
struct SearchRequest {
    q: String,
}

async fn get_search(
    State(viewer): State<Viewer>,
    Path(id): Path<String>,
    query: Result<Query<SearchRequest>, QueryRejection>,
) -> Answered {
    let Query(SearchRequest { q }) = query?;
    ask(viewer, id, move |loaded| Ok(answer(&summary::search(loaded, &q)))).await
}

fn answer(value: &impl Serialize) -> Response<Body> {
    let headers = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (headers, Json(value)).into_response()
}

/// Asks a trace, apart from the runtime.
async fn ask(
    viewer: Viewer,
    id: String,
    question: impl FnOnce(&Loaded) -> Answered + Send + 'static,
) -> Answered {
    let loaded = viewer.store.get(&id).ok_or_else(|| missing(&format!("trace {id}")))?;
    apart(move || question(&loaded)).await
}

/// Works on a thread of its own, which is never recorded.
async fn apart(work: impl FnOnce() -> Answered + Send + 'static) -> Answered {
    let (done, result) = tokio::sync::oneshot::channel();
    let worker = crate::record::spawn("kymo-view", move || {
        // Nobody listens any more: the browser has left.
        let _ = done.send(work());
    });
    let failed = |why: String| Refusal(StatusCode::INTERNAL_SERVER_ERROR, why);
    worker.map_err(|error| failed(format!("no thread for the answer: {error}")))?;
    result.await.map_err(|_| failed("the answer's thread panicked".to_string()))?
}
