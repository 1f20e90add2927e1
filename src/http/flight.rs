//! `…/flight?format=kymo|perfetto|chrome`: what the flight recorder holds, and how a server comes to have one.
//!
//! A snapshot is made on a thread of its own, since naming addresses may take a second; recording goes on meanwhile.

use axum::body::Body;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use tokio::sync::oneshot;

use super::capture::{self, RecordError};
use super::params::{Params, TraceFormat};
use super::{answer, trace};
use crate::record::flight::{self, FlightConfig, FlightError, FlightRecorder};
use crate::status;

/// The variable that makes every server start the flight recorder.
const VARIABLE: &str = "KYMO_FLIGHT";

/// Answers `flight`.
pub(super) async fn answer(method: &Method, params: &Params) -> Response {
    let format = match params.trace_format() {
        Ok(format) => format,
        Err(bad) => return answer::error(StatusCode::BAD_REQUEST, &bad.to_string()),
    };
    if method == Method::HEAD {
        return match flight::usage() {
            Some(_) => answer::download(file_name(format), Body::empty()),
            None => refused(&FlightError::Disabled),
        };
    }
    let (done, snapshot) = oneshot::channel();
    // Nobody waits any more if it fails: the client has left.
    let work = move || drop(done.send(flight::snapshot(Some(capture::resolve))));
    if let Err(error) = capture::apart("kymo-flight", work) {
        return trace::refused(&error.into());
    }
    match snapshot.await {
        Ok(Ok(bytes)) if format == TraceFormat::Kymo => answer::download(file_name(format), bytes.into()),
        Ok(Ok(bytes)) => trace::export(bytes, format, file_name(format)).await,
        Ok(Err(error)) => refused(&error),
        Err(_) => trace::refused(&RecordError::Panicked),
    }
}

fn file_name(format: TraceFormat) -> &'static str {
    match format {
        TraceFormat::Kymo => "flight",
        TraceFormat::Perfetto => "flight.pftrace",
        TraceFormat::Chrome => "flight.json",
    }
}

fn refused(error: &FlightError) -> Response {
    match error {
        FlightError::Disabled => {
            let how = "start one with kymo::FlightRecorder or Server::builder().flight(…), \
                       or run the service with KYMO_FLIGHT=1";
            answer::error(StatusCode::NOT_FOUND, &format!("{error}: {how}"))
        }
        _ => answer::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// Starts the flight recorder as the environment asks for it; what stands in the way is in the status, for a service
/// should not fail by it.
pub(super) fn start_by_environment() {
    let Ok(asked) = std::env::var(VARIABLE) else { return };
    match config(&asked).map(|config| config.map(start)) {
        // Off, on, or on before: each says so itself.
        Ok(None | Some(Ok(()) | Err(FlightError::Enabled))) => {}
        Ok(Some(Err(error))) => status::set("flight recorder", format!("off: {error}")),
        Err(why) => status::set("flight recorder", format!("off: {VARIABLE}={asked}: {why}")),
    }
}

/// Starts the flight recorder; what it saves has names.
///
/// # Errors
/// As [`FlightRecorder::start`].
pub(super) fn start(config: FlightConfig) -> Result<(), FlightError> {
    let resolver = config.resolver.or(Some(capture::resolve));
    FlightRecorder::new(FlightConfig { resolver, ..config }).start()
}

/// `0`, `1`, or `SECONDS` and perhaps `,MIB`, and then perhaps `,FILE`.
fn config(asked: &str) -> Result<Option<FlightConfig>, &'static str> {
    const FORM: &str = "it must be 0, 1, or seconds, MiB and a file, such as 30,64 or 30,64,/var/tmp/ring";
    let default = FlightConfig::default();
    match asked.trim() {
        "" | "0" => return Ok(None),
        "1" => return Ok(Some(default)),
        _ => {}
    }
    let (seconds, rest) = asked.split_once(',').unwrap_or((asked, "10"));
    let (mebibytes, file) = rest.split_once(',').map_or((rest, None), |(size, file)| (size, Some(file)));
    let file = file.map(Into::into);
    let seconds = seconds.trim().parse::<u32>().map_err(|_| FORM)?;
    let mebibytes = mebibytes.trim().parse::<u16>().map_err(|_| FORM)?;
    let (min_age, max_bytes) =
        (std::time::Duration::from_secs(u64::from(seconds)), usize::from(mebibytes) << 20);
    Ok(Some(FlightConfig { min_age, max_bytes, file, ..default }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_says_whether_how_long_and_how_much() {
        let read = |text| config(text).map(|config| config.map(|c| (c.min_age.as_secs(), c.max_bytes >> 20)));
        assert_eq!(read(""), Ok(None));
        assert_eq!(read("0"), Ok(None));
        assert_eq!(read("1"), Ok(Some((10, 10))));
        assert_eq!(read("30"), Ok(Some((30, 10))));
        assert_eq!(read("30,64"), Ok(Some((30, 64))));
        let file = config("30,64,/tmp/ring").unwrap().and_then(|config| config.file);
        assert_eq!(file.as_deref(), Some("/tmp/ring".as_ref()));
        for wrong in ["on", "-1", "30,", "1e9"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
