//! `…/trace?seconds=5&hz=100&format=kymo|perfetto|chrome`: this process recorded for a while.
//!
//! kymo's own format is streamed while it is recorded. The others need the whole trace, so their answer begins when the
//! recording has ended; a trace that ended early for its size says so in the header `X-Kymo-Note`.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use tokio::sync::oneshot;

use super::answer;
use super::capture::{self, Asked, Asker, RecordError, Recorded, Stream};
use super::export::{BodyWriter, body};
use super::params::{BadParam, Params, TraceFormat};
use crate::export::{chrome, perfetto};
use crate::limits::IN_PROCESS_TRACE_BYTES;
use crate::model::Trace;
use crate::model::load::load;
use crate::record::session::CaptureError;
use crate::record::sink::Received;

/// The key by which `POST …/stop?capture=` ends a capture before its time.
const CAPTURE: HeaderName = HeaderName::from_static("x-kymo-capture");

/// What a reader should know of a trace that is not what was asked for.
const NOTE: HeaderName = HeaderName::from_static("x-kymo-note");

/// Answers `trace`.
pub(super) async fn answer(method: &Method, params: &Params) -> Response {
    let asked = || {
        let asked = Asked::everything(params.trace_length()?, params.cpu_hz(0)?);
        Ok::<_, BadParam>((asked, params.trace_format()?))
    };
    let (asked, format) = match asked() {
        Ok(asked) => asked,
        Err(bad) => return answer::error(StatusCode::BAD_REQUEST, &bad.to_string()),
    };
    if method == Method::HEAD {
        return answer::download(file_name(format), Body::empty());
    }
    match format {
        TraceFormat::Kymo => streamed(asked).await,
        TraceFormat::Perfetto | TraceFormat::Chrome => converted(asked, format).await,
    }
}

fn file_name(format: TraceFormat) -> &'static str {
    match format {
        TraceFormat::Kymo => "trace",
        TraceFormat::Perfetto => "trace.pftrace",
        TraceFormat::Chrome => "trace.json",
    }
}

async fn streamed(asked: Asked) -> Response {
    let Stream { asker, sections } = match capture::stream(asked).await {
        Ok(stream) => stream,
        Err(error) => return refused(&error),
    };
    let key = HeaderValue::from_str(asker.key());
    let body = Body::from_stream(Sections { sections, _asker: asker });
    let mut answer = answer::download(file_name(TraceFormat::Kymo), body);
    answer.headers_mut().extend(key.ok().map(|key| (CAPTURE, key)));
    answer
}

/// A trace's sections as the body of an answer; dropped with the connection, which ends the capture.
struct Sections {
    sections: Received,
    _asker: Asker,
}

impl tokio_stream::Stream for Sections {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.sections.poll_next(context).map(|sections| sections.map(|bytes| Ok(bytes.into())))
    }
}

async fn converted(asked: Asked, format: TraceFormat) -> Response {
    let recorded = match capture::in_memory(asked).await {
        Ok(recorded) => recorded,
        Err(error) => return refused(&error),
    };
    let note = note(&recorded);
    let mut answer = export(recorded.bytes, format, file_name(format)).await;
    answer.headers_mut().extend(note);
    answer
}

/// What the answer's head says of a recording that ended early.
pub(super) fn note(recorded: &Recorded) -> Option<(HeaderName, HeaderValue)> {
    let (most, seconds) = (IN_PROCESS_TRACE_BYTES >> 20, recorded.cut_after?.as_secs_f64());
    let note = format!(
        "the trace reached {most} MiB after {seconds:.1} s and ends there; format=kymo has no such limit"
    );
    Some((NOTE, HeaderValue::from_str(&note).ok()?))
}

/// Loads and writes on a thread that may wait for the client.
pub(super) async fn export(bytes: Vec<u8>, format: TraceFormat, file_name: &'static str) -> Response {
    let (writer, body) = body();
    let (loaded, loads) = oneshot::channel();
    let work = move || match load(&bytes) {
        Ok((trace, _)) => {
            drop(bytes);
            drop(loaded.send(Ok(())));
            write(&trace, format, writer);
        }
        Err(error) => drop(loaded.send(Err(error))),
    };
    if let Err(error) = capture::apart("kymo-export", work) {
        return refused(&RecordError::System(error));
    }
    match loads.await {
        Ok(Ok(())) => answer::download(file_name, body),
        Ok(Err(error)) => answer::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        Err(_) => refused(&RecordError::Panicked),
    }
}

fn write(trace: &Trace, format: TraceFormat, mut writer: BodyWriter) {
    let written = match format {
        TraceFormat::Chrome => chrome::write(trace, &mut writer),
        TraceFormat::Kymo | TraceFormat::Perfetto => perfetto::write(trace, &mut writer),
    };
    writer.end(written);
}

/// Why there is no trace: Go's words where it has them.
pub(super) fn refused(error: &RecordError) -> Response {
    let busy = matches!(error, RecordError::Capture(CaptureError::TooMany(_)));
    let status = if busy { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::INTERNAL_SERVER_ERROR };
    let mut answer = answer::error(status, &format!("Could not enable tracing: {error}"));
    if busy {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}
