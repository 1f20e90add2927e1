//! The command as people and scripts use it: verbs, exit codes, what goes to which output, Ctrl-C.

mod command;
mod served;

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use command::{Running, kymo, kymo_with_input};
use kymo::events::Groups;
use kymo::model::Trace;
use kymo::model::load::load;
use kymo::model::symbols::resolve;
use kymo::profile::{Profile, Sample};
use kymo::record::session::{Capture, CaptureOptions};
use kymo::record::sink::MemorySink;
use served::{alone, get};
use tempfile::{TempDir, tempdir};

const VERBS: [&str; 8] = ["demo", "record", "view", "stat", "convert", "derive", "doctor", "recover"];

/// Waits for the lock that [`holds`] has.
#[inline(never)]
fn waits(lock: &Mutex<u64>, together: &Barrier) {
    together.wait();
    *lock.lock().unwrap() += 1;
    together.wait();
}

#[inline(never)]
fn holds(lock: &Mutex<u64>, together: &Barrier) {
    let held = lock.lock().unwrap();
    together.wait();
    thread::sleep(Duration::from_millis(20));
    drop(held);
    together.wait();
}

/// A small trace: two threads and a lock.
fn trace() -> Vec<u8> {
    let sink = MemorySink::new(64 << 20);
    let options = CaptureOptions {
        groups: Groups::ALL,
        cpu_hz: 0,
        sink: Box::new(sink.clone()),
        resolver: Some(resolve),
    };
    let capture = Capture::start(options).unwrap();
    let (lock, together) = (Mutex::new(0), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| (0..3).for_each(|_| holds(&lock, &together)));
        scope.spawn(|| (0..3).for_each(|_| waits(&lock, &together)));
    });
    capture.stop();
    sink.take()
}

/// A folder with `t.kymo` in it.
fn folder() -> TempDir {
    let folder = tempdir().unwrap();
    std::fs::write(folder.path().join("t.kymo"), trace()).unwrap();
    folder
}

fn json(bytes: &[u8]) -> serde_json::Value {
    serde_json::from_slice(bytes)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(bytes)))
}

fn is_perfetto(bytes: &[u8]) -> bool {
    // Field 1, length-delimited: a packet.
    bytes.first() == Some(&0x0a)
}

#[test]
fn help_names_every_verb_and_every_verb_has_help() {
    let here = tempdir().unwrap();
    let help = kymo(here.path(), &["--help"]);
    for verb in VERBS {
        assert!(help.text().contains(&format!("\n  {verb} ")), "{verb}: {}", help.text());
        let own = kymo(here.path(), &[verb, "--help"]);
        assert!(own.text().contains(&format!("Usage: kymo {verb}")), "{}", own.text());
        // Two sentences at most on a line, and no hidden verb.
        assert!(own.text().lines().all(|line| !line.contains("demo-service")));
    }
    assert!(!help.text().contains("demo-service"));
    assert!(kymo(here.path(), &["--version"]).text().starts_with("kymo 0."));
}

#[test]
fn arguments_that_make_no_sense_exit_with_2() {
    let here = tempdir().unwrap();
    for args in [
        &[][..],
        &["nosuch"],
        &["stat"],
        &["stat", "t.kymo", "--nosuch"],
        &["derive", "nosuch", "t.kymo"],
        &["record"],
        &["record", "h:1", "--seconds", "0"],
        &["record", "h:1", "--seconds", "3601"],
        &["record", "h:1", "--seconds", "soon"],
        &["view", "t.kymo", "--http", "here"],
        &["convert", "t.kymo", "t.out", "--to", "pdf"],
    ] {
        let done = kymo(here.path(), args);
        assert_eq!(done.code, Some(2), "{args:?}: {done:?}");
        assert!(
            done.out.is_empty() && done.errors.contains("Usage:") || done.errors.contains("--help"),
            "{done:?}"
        );
    }
}

#[test]
fn failures_are_one_line_of_what_why_and_what_to_do() {
    let here = tempdir().unwrap();
    std::fs::write(here.path().join("page.html"), "<html>").unwrap();
    std::fs::write(here.path().join("t.kymo"), trace()).unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for (args, words) in [
        (&["stat", "no.kymo"][..], &["no.kymo can't be read", "No such file"][..]),
        (&["stat", "."], &["can't be read", "directory"]),
        (&["stat", "page.html"], &["page.html", "not a kymo trace"]),
        (&["stat", "-"], &["standard input", "not a kymo trace"]),
        (&["convert", "t.kymo", "t.out"], &["t.out", "extension", ".pftrace", "--to"]),
        (&["convert", "t.kymo", "no/t.json"], &["no/t.json can't be written", "No such file"]),
        (&["derive", "block", "t.kymo", "-o", "."], &["can't be written"]),
        (&["recover", "t.kymo"], &["t.kymo gives no trace", "not a flight recorder's file"]),
        (&["recover", "no.ring"], &["no.ring can't be read", "No such file"]),
        (&["record", &closed], &["can't be reached", "is the service running", "Connection refused"]),
        (&["record", "https://localhost"], &["only http", "tunnel"]),
        (&["stat", &closed], &["can't be reached"]),
    ] {
        let done = kymo(here.path(), args);
        for word in words {
            assert!(done.complaint().contains(word), "{args:?}: {}", done.errors);
        }
    }
    let left: Vec<_> = std::fs::read_dir(here.path()).unwrap().collect();
    assert_eq!(left.len(), 2, "a failure leaves no file: {left:?}");
}

#[test]
fn stat_counts_for_people_and_for_scripts() {
    let _alone = alone();
    let here = folder();
    let text = kymo(here.path(), &["stat", "t.kymo"]);
    assert!(text.text().contains(" 0 lost, ") && text.text().contains("WaitBegin"), "{}", text.text());
    let stat = json(kymo(here.path(), &["stat", "t.kymo", "--json"]).text().as_bytes());
    for key in ["events", "lost", "duration_ns", "threads", "tasks"] {
        assert!(stat[key].is_u64(), "{key}: {stat}");
    }
    let kinds = stat["kinds"].as_object().unwrap();
    assert_eq!(
        kinds.values().map(|count| count.as_u64().unwrap()).sum::<u64>(),
        stat["events"].as_u64().unwrap()
    );
    let bytes = std::fs::read(here.path().join("t.kymo")).unwrap();
    let piped = kymo_with_input(here.path(), &["stat", "-", "--json"], &bytes);
    assert_eq!(json(&piped.out), stat);
}

#[test]
fn convert_goes_by_the_extension() {
    let _alone = alone();
    let here = folder();
    let convert = |args: &[&str]| kymo(here.path(), &[&["convert", "t.kymo"], args].concat());
    let read = |name: &str| std::fs::read(here.path().join(name)).unwrap();
    for name in ["t.pftrace", "t.perfetto-trace"] {
        assert_eq!(convert(&[name]).text(), "");
        assert!(is_perfetto(&read(name)));
    }
    convert(&["t.json"]).text();
    assert!(json(&read("t.json"))["traceEvents"].as_array().is_some_and(|events| events.len() > 5));
    convert(&["copy.kymo"]).text();
    assert_eq!(read("copy.kymo"), read("t.kymo"));
    assert!(is_perfetto(&convert(&["-", "--to", "perfetto"]).out));
    assert_eq!(json(&convert(&["-", "--to", "chrome"]).out), json(&read("t.json")));
}

#[test]
fn derive_names_the_waiter_and_the_holder() {
    let _alone = alone();
    let here = folder();
    for (kind, culprit) in [("block", "waits"), ("mutex", "holds")] {
        assert_eq!(kymo(here.path(), &["derive", kind, "t.kymo"]).text(), "");
        let bytes = std::fs::read(here.path().join(format!("{kind}.pb.gz"))).unwrap();
        let profile = Profile::decode(&bytes).unwrap();
        let is_culprits = |sample: &&Sample| {
            let leaf = profile.frames(sample).next();
            leaf.is_some_and(|frame| frame.function.ends_with(&format!("cli::{culprit}")))
        };
        let delay: i64 = profile.samples.iter().filter(is_culprits).map(|sample| sample.values[1]).sum();
        assert!(delay > 15_000_000, "{kind}: {delay} ns");
        let folded = kymo(here.path(), &["derive", kind, "t.kymo", "--folded", "-o", "-"]);
        let total: i64 =
            folded.text().lines().map(|line| line.rsplit(' ').next().unwrap().parse::<i64>().unwrap()).sum();
        assert_eq!(total, profile.total(1));
    }
}

#[test]
fn of_a_damaged_trace_the_valid_part_is_used_and_the_rest_is_told() {
    let _alone = alone();
    let here = folder();
    let whole = std::fs::read(here.path().join("t.kymo")).unwrap();
    std::fs::write(here.path().join("cut.kymo"), &whole[..whole.len() * 2 / 3]).unwrap();
    for args in [
        &["stat", "cut.kymo", "--json"][..],
        &["convert", "cut.kymo", "cut.json"],
        &["derive", "block", "cut.kymo", "-o", "-"],
    ] {
        let done = kymo(here.path(), args);
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(done.errors.contains("kymo: cut.kymo: truncated: "), "{}", done.errors);
    }
    let stat = json(&kymo(here.path(), &["stat", "cut.kymo", "--json"]).out);
    assert_eq!(stat["complete"], serde_json::json!(false));
    assert!(stat["problems"].as_array().is_some_and(|problems| !problems.is_empty()));
}

#[test]
fn view_prints_an_address_that_nobody_can_guess_and_serves_until_ctrl_c() {
    let _alone = alone();
    let here = folder();
    let mut view = Running::start(here.path(), &["view", "t.kymo", "--no-open"]);
    let url = view.line();
    let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let (server, path): (SocketAddr, _) = (address.parse().unwrap(), format!("/{path}"));
    assert!(server.ip().is_loopback() && path.len() > 32 && path.ends_with('/'), "{url}");
    let page = get(server, &path);
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let session = json(&get(server, &format!("{path}api/v1/session")).body);
    assert_eq!(session["traces"][0]["name"], "t.kymo");
    assert_eq!(session["can_record"], serde_json::json!(false));
    for guess in ["/", "/api/v1/session", "/ui/"] {
        assert_eq!(get(server, guess).status, 404, "{guess}");
    }
    view.interrupt();
    assert_eq!(view.finish().code, Some(0));
}

/// A service to record, in this process.
fn service() -> SocketAddr {
    kymo::serve("127.0.0.1:0").unwrap().address()
}

fn whole(folder: &TempDir, name: &str) -> Trace {
    let (trace, problems) = load(&std::fs::read(folder.path().join(name)).unwrap()).unwrap();
    assert_eq!(problems, []);
    trace
}

#[test]
fn record_saves_what_a_service_sends() {
    let _alone = alone();
    let (here, server) = (tempdir().unwrap(), service().to_string());
    let done = kymo(here.path(), &["record", &server, "--seconds", "0.5", "-o", "mine.kymo"]);
    assert_eq!(done.text(), "", "the answer is a file");
    assert!(done.errors.contains("mine.kymo: ") && done.errors.contains(" 0 lost"), "{}", done.errors);
    let trace = whole(&here, "mine.kymo");
    assert!((trace.info.duration_ns as f64 / 0.5e9 - 1.0).abs() < 0.05);
    for name in ["trace.kymo", "trace-2.kymo"] {
        let done = kymo(here.path(), &["record", &format!("http://{server}/"), "--seconds", "0.1", "--json"]);
        let said = json(done.errors.as_bytes());
        assert_eq!(said["file"], name);
        assert_eq!(said["recorded"]["complete"], serde_json::json!(true));
        assert!(whole(&here, name).info.complete);
    }
    let piped = kymo(here.path(), &["record", &server, "--seconds", "0.1", "-o", "-", "--quiet"]);
    assert!(load(&piped.out).unwrap().0.info.complete && piped.errors.is_empty());
    // Wherever a trace is read, a service will do.
    let stat = kymo(here.path(), &["stat", &server, "--seconds", "0.1", "--json"]);
    assert_eq!(json(&stat.out)["complete"], serde_json::json!(true));
}

#[test]
fn record_shows_a_services_refusal_in_its_own_words() {
    let (here, server) = (tempdir().unwrap(), service());
    let refused = kymo(here.path(), &["record", &format!("{server}/debug/pprof/nosuch")]);
    assert!(
        refused.complaint().ends_with("the service answers 404 Not Found: Unknown profile"),
        "{}",
        refused.errors
    );
    let page = kymo(here.path(), &["record", &format!("{server}/debug/pprof/status")]);
    assert!(page.complaint().contains("not a kymo trace"), "{}", page.errors);
    let guarded = kymo::Server::builder().token("s3cret").serve("127.0.0.1:0").unwrap().address().to_string();
    let stranger = kymo(here.path(), &["record", &guarded]);
    assert!(stranger.complaint().contains("401 Unauthorized: a token is needed"), "{}", stranger.errors);
    let named = format!("http://any:s3cret@{guarded}");
    for args in [&["--token", "s3cret", &guarded][..], &[&named]] {
        let done = kymo(here.path(), &[&["record", "--seconds", "0.1", "-o", "t.kymo"], args].concat());
        assert_eq!(done.code, Some(0), "{}", done.errors);
    }
}

#[test]
fn ctrl_c_while_recording_saves_a_whole_trace() {
    let _alone = alone();
    let (here, server) = (tempdir().unwrap(), service().to_string());
    let recording = Running::start(here.path(), &["record", &server, "--seconds", "600", "-o", "t.kymo"]);
    let begun = Instant::now();
    while kymo::record::usage().captures == 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "the recording did not begin");
        thread::yield_now();
    }
    // It has seen the trace's beginning when the file has one.
    while std::fs::metadata(here.path().join("t.kymo")).map_or(0, |file| file.len()) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "nothing was written");
        thread::yield_now();
    }
    recording.interrupt();
    let done = recording.finish();
    assert_eq!(done.code, Some(0), "{}", done.errors);
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert!(whole(&here, "t.kymo").info.complete);
    assert_eq!(kymo::record::usage().captures, 0);
}

#[test]
fn of_a_service_that_dies_the_beginning_is_saved_and_the_command_says_so() {
    let _alone = alone();
    let here = tempdir().unwrap();
    // Half of a trace, then nothing: a service that was killed.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let bytes = trace();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let half = &bytes[..bytes.len() / 2];
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        client.write_all(format!("{head}{:x}\r\n", half.len()).as_bytes()).unwrap();
        client.write_all(half).unwrap();
    });
    let done = kymo(here.path(), &["record", &address, "-o", "t.kymo", "--quiet"]);
    assert!(done.complaint().contains("broke off; what came is saved"), "{}", done.errors);
    let (trace, problems) = load(&std::fs::read(here.path().join("t.kymo")).unwrap()).unwrap();
    assert!(trace.events() > 0 && !problems.is_empty());
}

#[test]
fn recover_makes_a_trace_of_what_a_flight_recorder_left() {
    let _alone = alone();
    let here = tempdir().unwrap();
    let file = Some(here.path().join("shop.ring"));
    let flight = kymo::FlightRecorder::new(kymo::FlightConfig { file, ..Default::default() });
    flight.start().unwrap();
    kymo::counter!("kept", 7);
    // Seals, which is what writes the file.
    flight.snapshot().unwrap();
    let done = kymo(here.path(), &["recover", "shop.ring"]);
    assert!(done.text().is_empty() && done.errors.contains("kymo view flight.kymo"), "{done:?}");
    let (trace, problems) = load(&std::fs::read(here.path().join("flight.kymo")).unwrap()).unwrap();
    assert_eq!(problems.len(), 1, "only the end is missing: {problems:?}");
    assert_eq!(trace.counters.iter().map(|counter| counter.name.as_str()).collect::<Vec<_>>(), ["kept"]);
    flight.stop();
}

#[test]
fn a_flight_recorder_is_recorded_by_its_url() {
    let _alone = alone();
    let here = tempdir().unwrap();
    let server = kymo::Server::builder().flight(kymo::FlightConfig::default()).serve("127.0.0.1:0").unwrap();
    kymo::counter!("before", 1);
    let url = format!("http://{}/debug/pprof/flight", server.address());
    let done = kymo(here.path(), &["record", &url, "-o", "f.kymo", "--json"]);
    assert!(done.errors.contains("\"complete\":true"), "{done:?}");
    let (trace, problems) = load(&std::fs::read(here.path().join("f.kymo")).unwrap()).unwrap();
    assert_eq!(problems, []);
    assert!(trace.counters.iter().any(|counter| counter.name == "before"));
    kymo::record::flight::stop();
    let off = kymo(here.path(), &["record", &url]);
    assert!(off.complaint().contains("the flight recorder is not enabled"), "{off:?}");
}
