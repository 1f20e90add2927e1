//! `/debug/pprof/flight` as a client sees it: the last seconds in each format, while the service goes on.

mod served;

use std::time::Duration;

use kymo::events::{Counter, Groups, Value};
use kymo::model::Trace;
use kymo::model::load::load;
use kymo::record::session::{Capture, CaptureOptions};
use kymo::record::sink::MemorySink;
use kymo::{FlightConfig, FlightRecorder, Server};
use served::{alone, ask, get};

const FLIGHT: &str = "/debug/pprof/flight";

fn count(name: &str, value: i64) {
    kymo::record::emit(Counter { name: kymo::record::string(name), value: Value(value) });
}

fn values(trace: &Trace, name: &str) -> Vec<i64> {
    let counter = trace.counters.iter().filter(|counter| counter.name == name);
    counter.flat_map(|counter| counter.values.iter().map(|(_, value)| *value)).collect()
}

fn whole(bytes: &[u8]) -> Trace {
    let (trace, problems) = load(bytes).unwrap();
    assert_eq!(problems, []);
    assert!(trace.info.complete);
    trace
}

#[test]
fn what_was_before_the_request_is_in_the_answer_in_each_format() {
    let _alone = alone();
    let server = Server::builder().flight(FlightConfig::default()).serve("127.0.0.1:0").unwrap();
    let address = server.address();
    count("before", 7);
    let answer = get(address, FLIGHT);
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/octet-stream")));
    assert_eq!(answer.header("content-disposition"), Some("attachment; filename=\"flight\""));
    let trace = whole(&answer.body);
    assert_eq!(values(&trace, "before"), [7]);
    assert!(trace.info.duration_ns > 0);

    let chrome = get(address, &format!("{FLIGHT}?format=chrome"));
    assert_eq!(chrome.header("content-disposition"), Some("attachment; filename=\"flight.json\""));
    let json: serde_json::Value = serde_json::from_slice(&chrome.body).unwrap();
    let events = json["traceEvents"].as_array().unwrap();
    assert!(events.iter().any(|event| event["name"].as_str().is_some_and(|name| name.contains("before"))));
    let perfetto = get(address, &format!("{FLIGHT}?format=perfetto"));
    assert_eq!(perfetto.header("content-disposition"), Some("attachment; filename=\"flight.pftrace\""));
    assert_eq!((perfetto.status, perfetto.body.first()), (200, Some(&0x0a)), "packets");
    assert_eq!(ask(address, "HEAD", FLIGHT, &[]).status, 200);

    // It is shown, and records on.
    count("before", 8);
    assert_eq!(values(&whole(&get(address, FLIGHT).body), "before"), [7, 8]);
    let status: serde_json::Value =
        serde_json::from_slice(&get(address, "/debug/pprof/status").body).unwrap();
    assert_eq!(status["flight"]["bytes_max"], 10 << 20, "{status}");
    assert!(status["sources"]["flight recorder"].as_str().unwrap().starts_with("on"), "{status}");
    assert!(get(address, "/debug/pprof/").text().contains("href=\"flight\""));
    kymo::record::flight::stop();
    assert_eq!(get(address, FLIGHT).status, 404);
}

#[test]
fn captures_come_and_go_beside_it() {
    let _alone = alone();
    let flight = FlightRecorder::new(FlightConfig { min_age: Duration::from_secs(60), ..Default::default() });
    flight.start().unwrap();
    let server = kymo::serve("127.0.0.1:0").unwrap();
    count("beside", 1);
    for value in 2..5 {
        let sink = MemorySink::new(1 << 20);
        let options =
            CaptureOptions { groups: Groups::ALL, cpu_hz: 0, sink: Box::new(sink.clone()), resolver: None };
        let capture = Capture::start(options).unwrap();
        count("beside", value);
        let seen = values(&whole(&get(server.address(), FLIGHT).body), "beside");
        assert_eq!(seen, (1..=value).collect::<Vec<_>>());
        capture.stop();
        assert_eq!(values(&whole(&sink.take()), "beside"), [value]);
    }
    flight.stop();
}
