//! Paths to answers. Every link and redirect is relative, so the router works below any prefix.

use axum::extract::{Path, Query, Request};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use axum::routing::any;
use axum::{Router, middleware};

use super::params::Params;
use super::survive::survive;
use super::{answer, capture, flight, index, pprof, status, trace};
use crate::sources::{alloc, contention, created};

/// `/debug/pprof/` and everything below, to be merged into a service's own router, or nested at any prefix.
///
/// The service's own server then decides who may ask; these pages show its insides to everybody who can.
/// [`serve`](super::serve) is safer: it listens apart, on loopback.
///
/// ```
/// let app = axum::Router::new().route("/", axum::routing::get(|| async { "hello" }));
/// let app: axum::Router = app.merge(kymo::router()); // or .nest("/internal", kymo::router())
/// ```
pub fn router() -> Router {
    contention::serve();
    alloc::serve();
    created::serve();
    let router = Router::new()
        .route("/debug/pprof", any(to_index))
        .route("/debug/pprof/", any(get_index))
        .route("/debug/pprof/index.css", any(get_style))
        .route("/debug/pprof/status", any(get_status))
        .route("/debug/pprof/trace", any(get_trace))
        .route("/debug/pprof/flight", any(get_flight))
        .route("/debug/pprof/stop", any(post_stop))
        .route("/debug/pprof/{*name}", any(get_profile));
    let router = with_viewer(router).layer(middleware::from_fn(survive));
    router.layer(middleware::map_response(async |answer| answer::with_common_headers(answer)))
}

#[cfg(not(feature = "viewer"))]
fn with_viewer(router: Router) -> Router {
    router
}

/// The viewer, which keeps the traces that it records, as many as its own bound says.
#[cfg(feature = "viewer")]
fn with_viewer(router: Router) -> Router {
    use super::api::{self, Options, Store};
    let record: api::Recorder = std::sync::Arc::new(|seconds| {
        Box::pin(async move {
            let length = std::time::Duration::from_secs_f64(seconds);
            let asked = capture::Asked::everything(length, super::params::SAMPLE_HZ);
            capture::in_memory(asked).await.map(|recorded| recorded.bytes).map_err(|error| error.to_string())
        })
    });
    let options = Options { record: Some(record), ..Options::default() };
    router.merge(api::router("/debug/pprof/ui", std::sync::Arc::new(Store::new()), options))
}

/// Go answers GET and HEAD.
fn is_read(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

fn not_read() -> Response {
    answer::method_not_allowed("GET, HEAD")
}

async fn to_index() -> Response {
    let mut answer = answer::text(StatusCode::MOVED_PERMANENTLY, "pprof/");
    answer.headers_mut().insert(header::LOCATION, HeaderValue::from_static("pprof/"));
    answer
}

async fn get_index(method: Method) -> Response {
    if is_read(&method) { index::page() } else { not_read() }
}

async fn get_style(method: Method) -> Response {
    if is_read(&method) { index::style() } else { not_read() }
}

async fn get_status(method: Method) -> Response {
    if is_read(&method) { status::answer() } else { not_read() }
}

async fn get_trace(method: Method, Query(pairs): Query<Vec<(String, String)>>) -> Response {
    if is_read(&method) { trace::answer(&method, &Params::new(pairs)).await } else { not_read() }
}

async fn get_flight(method: Method, Query(pairs): Query<Vec<(String, String)>>) -> Response {
    if is_read(&method) { flight::answer(&method, &Params::new(pairs)).await } else { not_read() }
}

async fn get_profile(
    Path(name): Path<String>,
    Query(pairs): Query<Vec<(String, String)>>,
    request: Request,
) -> Response {
    let method = request.method();
    if is_read(method) { pprof::answer(method, &name, &Params::new(pairs)).await } else { not_read() }
}

/// Ends a capture before its time, by the key that its answer's head told.
async fn post_stop(method: Method, Query(pairs): Query<Vec<(String, String)>>) -> Response {
    if method != Method::POST {
        return answer::method_not_allowed("POST");
    }
    match capture::stop(Params::new(pairs).first("capture")) {
        true => answer::text(StatusCode::ACCEPTED, "stopping"),
        false => answer::error(StatusCode::NOT_FOUND, "Unknown capture"),
    }
}
