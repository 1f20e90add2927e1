//! What a request asks for, by Go's rules: the first value of a name counts, and what can't be read is a default or
//! Go's own error.
//!
//! Does not know what is recorded for it: `pprof` and `trace` do.

use std::time::Duration;

use crate::limits::{CAPTURE_SECONDS, CPU_HZ};

/// CPU samples for each second that a thread runs, where nothing else is asked for. Go's.
pub(super) const SAMPLE_HZ: u32 = 100;

/// The parameters of a request's query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Params(Vec<(String, String)>);

/// What a trace is to be written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TraceFormat {
    /// kymo's own, streamed.
    Kymo,
    /// Protobuf for ui.perfetto.dev.
    Perfetto,
    /// JSON for chrome://tracing.
    Chrome,
}

/// A parameter that can't be served; its text is for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadParam {
    #[error("invalid value for \"seconds\" - must be a positive integer")]
    NotPositive,
    #[error("seconds and debug params are incompatible")]
    SecondsWithDebug,
    #[error("invalid value for \"seconds\" - must be at most {CAPTURE_SECONDS}")]
    TooLong,
    #[error("invalid value for \"hz\" - must be a number from {least} to {CPU_HZ}")]
    Rate { least: u32 },
    #[error("invalid value for \"format\" - must be kymo, perfetto or chrome")]
    Format,
}

impl Params {
    pub(super) fn new(pairs: Vec<(String, String)>) -> Params {
        Params(pairs)
    }

    pub(super) fn first(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// The length of a trace: any number of seconds; 1 where it is missing, not above 0 or not a number, as in Go.
    pub(super) fn trace_length(&self) -> Result<Duration, BadParam> {
        let seconds = self.first("seconds").parse::<f64>().ok().filter(|seconds| *seconds > 0.0);
        length(seconds.unwrap_or(1.0))
    }

    /// The length of a profile that is the difference of two moments: whole seconds. None if it was not asked for.
    pub(super) fn delta_length(&self) -> Result<Option<Duration>, BadParam> {
        match self.first("seconds") {
            "" => Ok(None),
            seconds => {
                let seconds = seconds.parse::<u64>().ok().filter(|seconds| *seconds > 0);
                let seconds = seconds.ok_or(BadParam::NotPositive)?;
                if self.debug() != 0 {
                    return Err(BadParam::SecondsWithDebug);
                }
                length(seconds as f64).map(Some)
            }
        }
    }

    /// The length of a CPU profile: whole seconds; 30 where it is missing, not above 0 or not a number, as in Go.
    pub(super) fn profile_length(&self) -> Result<Duration, BadParam> {
        let seconds = self.first("seconds").parse::<u64>().ok().filter(|seconds| *seconds > 0);
        length(seconds.unwrap_or(30) as f64)
    }

    /// CPU samples for each second that a thread runs; 100 where it is missing, as in Go.
    pub(super) fn cpu_hz(&self, least: u32) -> Result<u32, BadParam> {
        match self.first("hz") {
            "" => Ok(SAMPLE_HZ),
            hz => {
                let hz = hz.parse::<u32>().ok().filter(|hz| (least..=CPU_HZ).contains(hz));
                hz.ok_or(BadParam::Rate { least })
            }
        }
    }

    fn debug(&self) -> i64 {
        self.first("debug").parse().unwrap_or_default()
    }

    pub(super) fn trace_format(&self) -> Result<TraceFormat, BadParam> {
        match self.first("format") {
            "" | "kymo" => Ok(TraceFormat::Kymo),
            "perfetto" => Ok(TraceFormat::Perfetto),
            "chrome" => Ok(TraceFormat::Chrome),
            _ => Err(BadParam::Format),
        }
    }
}

fn length(seconds: f64) -> Result<Duration, BadParam> {
    if seconds > CAPTURE_SECONDS {
        return Err(BadParam::TooLong);
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Params {
        let pair = |pair: &str| pair.split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned()));
        Params::new(query.split('&').filter_map(pair).collect())
    }

    #[test]
    fn a_trace_lasts_what_go_would_make_it_last() {
        for (query, seconds) in [
            ("", 1.0),
            ("seconds=", 1.0),
            ("seconds=5", 5.0),
            ("seconds=0.25", 0.25),
            ("seconds=1e1", 10.0),
            ("seconds=0", 1.0),
            ("seconds=-1", 1.0),
            ("seconds=NaN", 1.0),
            ("seconds=five", 1.0),
            ("seconds=2&seconds=9", 2.0),
            ("seconds=3600", 3600.0),
        ] {
            let length = params(query).trace_length();
            assert_eq!(length, Ok(Duration::from_secs_f64(seconds)), "{query}");
        }
        for query in ["seconds=3600.1", "seconds=1e308", "seconds=inf"] {
            assert_eq!(params(query).trace_length(), Err(BadParam::TooLong), "{query}");
        }
    }

    #[test]
    fn a_delta_takes_whole_seconds_and_no_debug() {
        for (query, length) in [
            ("", Ok(None)),
            ("debug=1", Ok(None)),
            ("seconds=14", Ok(Some(Duration::from_secs(14)))),
            ("seconds=14&debug=0", Ok(Some(Duration::from_secs(14)))),
            ("seconds=0", Err(BadParam::NotPositive)),
            ("seconds=-3", Err(BadParam::NotPositive)),
            ("seconds=0.5", Err(BadParam::NotPositive)),
            ("seconds=soon", Err(BadParam::NotPositive)),
            ("seconds=soon&debug=1", Err(BadParam::NotPositive)),
            ("seconds=3&debug=2", Err(BadParam::SecondsWithDebug)),
            ("seconds=3601", Err(BadParam::TooLong)),
        ] {
            assert_eq!(params(query).delta_length(), length, "{query}");
        }
    }

    #[test]
    fn a_cpu_profile_lasts_what_go_would_make_it_last() {
        for (query, seconds) in
            [("", 30), ("seconds=", 30), ("seconds=5", 5), ("seconds=0", 30), ("seconds=0.5", 30)]
        {
            assert_eq!(params(query).profile_length(), Ok(Duration::from_secs(seconds)), "{query}");
        }
        assert_eq!(params("seconds=3601").profile_length(), Err(BadParam::TooLong));
    }

    #[test]
    fn a_rate_is_one_that_the_kernel_may_keep() {
        for (query, hz) in [("", 100), ("hz=250", 250), ("hz=1000", 1000), ("hz=0", 0)] {
            assert_eq!(params(query).cpu_hz(0), Ok(hz), "{query}");
        }
        for query in ["hz=1001", "hz=-1", "hz=fast"] {
            assert_eq!(params(query).cpu_hz(0), Err(BadParam::Rate { least: 0 }), "{query}");
        }
        assert!(params("hz=0").cpu_hz(1).is_err(), "a profile without samples is none");
    }

    #[test]
    fn a_format_is_one_of_three_words() {
        assert_eq!(params("format=").trace_format(), Ok(TraceFormat::Kymo));
        assert_eq!(params("format=perfetto").trace_format(), Ok(TraceFormat::Perfetto));
        assert_eq!(params("format=chrome").trace_format(), Ok(TraceFormat::Chrome));
        assert_eq!(params("format=Chrome").trace_format(), Err(BadParam::Format));
    }
}
