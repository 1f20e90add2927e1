//! `/debug/pprof/*` as a client sees it: Go's headers and errors, traces that stream, clients that leave, strangers.

mod served;

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kymo::events::{Counter, Group, LossReason, StrId, Value};
use kymo::limits::{CAPTURES, HTTP_CONNECTIONS, MEMORY_BYTES, READER_LAG_BYTES};
use kymo::model::Trace;
use kymo::model::load::load;
use served::{Answer, alone, ask, begin, get, send};

/// A server of its own for each test.
fn serve() -> SocketAddr {
    kymo::serve("127.0.0.1:0").unwrap().address()
}

fn path(rest: &str) -> String {
    format!("/debug/pprof/{rest}")
}

/// Counters that [`busy`] has recorded or lost in this process.
static EMITTED: AtomicU64 = AtomicU64::new(0);

/// What one of them takes at least: its kind, a name, and ten bytes of value.
const COUNTER_BYTES: u64 = 12;

/// Records counters as fast as it can while something is recorded and `work` goes on; gives how many.
fn busy<R>(work: impl FnOnce() -> R) -> (R, u64) {
    let before = EMITTED.load(Ordering::Relaxed);
    let stop = AtomicBool::new(false);
    let count = || {
        while !stop.load(Ordering::Relaxed) {
            if kymo::record::enabled(Group::User) {
                kymo::record::emit(Counter { name: StrId(0), value: Value(i64::MAX) });
                EMITTED.fetch_add(1, Ordering::Relaxed);
            } else {
                // The capture is over and its addresses are named: not against us.
                thread::sleep(Duration::from_millis(1));
            }
        }
    };
    let result = thread::scope(|scope| {
        scope.spawn(count);
        let result = work();
        stop.store(true, Ordering::Relaxed);
        result
    });
    (result, EMITTED.load(Ordering::Relaxed) - before)
}

fn until(what: &str, most: Duration, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < most, "not within {most:?}: {what}");
        thread::yield_now();
    }
}

fn captures() -> usize {
    kymo::record::usage().captures
}

fn whole(bytes: &[u8]) -> Trace {
    let (trace, problems) = load(bytes).unwrap();
    assert_eq!(problems, []);
    trace
}

const OCTETS: &str = "application/octet-stream";
const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// Method, path, status, content type, the file's name or the text of an error.
const ANSWERS: &[(&str, &str, u16, &str, &str)] = &[
    ("GET", "trace?seconds=0.05", 200, OCTETS, "trace"),
    ("GET", "trace?seconds=0.05&format=kymo", 200, OCTETS, "trace"),
    ("GET", "trace?seconds=0.05&format=perfetto", 200, OCTETS, "trace.pftrace"),
    ("GET", "trace?seconds=0.05&format=chrome", 200, OCTETS, "trace.json"),
    ("HEAD", "trace?seconds=3000", 200, OCTETS, "trace"),
    ("GET", "trace?format=xml", 400, TEXT, "invalid value for \"format\" - must be kymo, perfetto or chrome"),
    ("GET", "trace?seconds=3601", 400, TEXT, "invalid value for \"seconds\" - must be at most 3600"),
    ("GET", "trace?seconds=1e308", 400, TEXT, "invalid value for \"seconds\" - must be at most 3600"),
    ("POST", "trace?seconds=1", 405, TEXT, "Method Not Allowed"),
    ("PUT", "trace", 405, TEXT, "Method Not Allowed"),
    ("OPTIONS", "trace", 405, TEXT, "Method Not Allowed"),
    ("GET", "block", 200, OCTETS, "block"),
    ("HEAD", "mutex", 200, OCTETS, "mutex"),
    ("GET", "heap", 200, OCTETS, "heap"),
    ("GET", "allocs", 200, OCTETS, "allocs"),
    ("GET", "heap?seconds=1", 200, OCTETS, "heap-delta"),
    ("GET", "block?seconds=1", 200, OCTETS, "block-delta"),
    ("GET", "mutex?seconds=1", 200, OCTETS, "mutex-delta"),
    ("HEAD", "mutex?seconds=1000", 200, OCTETS, "mutex-delta"),
    ("GET", "mutex?seconds=0", 400, TEXT, "invalid value for \"seconds\" - must be a positive integer"),
    ("GET", "mutex?seconds=0.5", 400, TEXT, "invalid value for \"seconds\" - must be a positive integer"),
    ("GET", "block?seconds=-1", 400, TEXT, "invalid value for \"seconds\" - must be a positive integer"),
    ("GET", "block?seconds=1&debug=1", 400, TEXT, "seconds and debug params are incompatible"),
    ("GET", "threadcreate", 200, OCTETS, "threadcreate"),
    ("GET", "threadcreate?seconds=1", 200, OCTETS, "threadcreate-delta"),
    ("GET", "nosuch", 404, TEXT, "Unknown profile"),
    ("GET", "nosuch?seconds=soon", 404, TEXT, "Unknown profile"),
    ("GET", "a/b", 404, TEXT, "Unknown profile"),
    ("GET", "cmdline", 403, TEXT, "cmdline is off: a command's arguments may hold secrets"),
    ("POST", "nosuch", 405, TEXT, "Method Not Allowed"),
    ("GET", "", 200, HTML, ""),
    ("HEAD", "", 200, HTML, ""),
    ("POST", "", 405, TEXT, "Method Not Allowed"),
    ("GET", "status", 200, "application/json", ""),
    (
        "GET",
        "flight",
        404,
        TEXT,
        "the flight recorder is not enabled: start one with kymo::FlightRecorder or Server::builder().flight(…), \
         or run the service with KYMO_FLIGHT=1",
    ),
    (
        "GET",
        "flight?format=xml",
        400,
        TEXT,
        "invalid value for \"format\" - must be kymo, perfetto or chrome",
    ),
    ("POST", "flight", 405, TEXT, "Method Not Allowed"),
    ("DELETE", "status", 405, TEXT, "Method Not Allowed"),
    ("GET", "stop?capture=x", 405, TEXT, "Method Not Allowed"),
    ("POST", "stop?capture=x", 404, TEXT, "Unknown capture"),
];

#[test]
fn each_request_is_answered_in_gos_words() {
    let _alone = alone();
    let server = serve();
    for &(method, rest, status, kind, word) in ANSWERS {
        let answer = ask(server, method, &path(rest), &[]);
        let what = format!("{method} {rest}: {answer:?}");
        assert_eq!(answer.status, status, "{what}");
        assert_eq!(answer.header("content-type"), Some(kind), "{what}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{what}");
        assert!(answer.header("content-security-policy").is_some(), "{what}");
        assert_eq!(answer.header("access-control-allow-origin"), None, "{what}");
        let saved = (kind == OCTETS).then(|| format!("attachment; filename=\"{word}\""));
        assert_eq!(answer.header("content-disposition"), saved.as_deref(), "{what}");
        // Go's mux answers 405, its handlers the rest.
        let is_gos_error = status >= 400 && status != 405;
        assert_eq!(answer.header("x-go-pprof"), is_gos_error.then_some("1"), "{what}");
        if status == 405 {
            let allow = if rest.starts_with("stop") { "POST" } else { "GET, HEAD" };
            assert_eq!(answer.header("allow"), Some(allow), "{what}");
        }
        if status >= 400 {
            assert_eq!(answer.text(), format!("{word}\n"), "{what}");
        }
        assert!(answer.whole && (method != "HEAD" || answer.body.is_empty()), "{what}");
    }
    assert_eq!(captures(), 0);
}

#[test]
fn a_trace_lasts_as_long_as_asked_and_names_functions() {
    let _alone = alone();
    let server = serve();
    let (answer, written) = busy(|| get(server, &path("trace?seconds=2")));
    assert!(answer.whole);
    let trace = whole(&answer.body);
    let seconds = trace.info.duration_ns as f64 / 1e9;
    assert!((seconds / 2.0 - 1.0).abs() < 0.02, "{seconds} s");
    let recorded = trace.counters.iter().map(|counter| counter.values.len() as u64).sum::<u64>();
    assert!(recorded > 10_000 && recorded <= written, "{recorded} of {written}");
    assert_eq!(trace.lost(), 0);
    let kymos_own = trace.threads.iter().find(|thread| thread.name.starts_with("kymo-"));
    assert!(kymos_own.is_none_or(|thread| thread.name == "kymo-drain"), "{kymos_own:?} was recorded");
}

#[test]
fn one_second_is_what_no_number_and_nonsense_mean() {
    let _alone = alone();
    let server = serve();
    thread::scope(|scope| {
        for query in ["", "?seconds=", "?seconds=0", "?seconds=-5", "?seconds=NaN", "?seconds=ten"] {
            scope.spawn(move || {
                let trace = whole(&get(server, &path(&format!("trace{query}"))).body);
                let seconds = trace.info.duration_ns as f64 / 1e9;
                assert!((seconds - 1.0).abs() < 0.1, "{query}: {seconds} s");
            });
        }
    });
}

#[test]
fn other_formats_are_whole_files_of_their_kind() {
    let _alone = alone();
    let server = serve();
    let chrome = get(server, &path("trace?seconds=0.2&format=chrome"));
    let json: serde_json::Value = serde_json::from_slice(&chrome.body).unwrap();
    assert!(json["traceEvents"].is_array(), "{json}");
    let perfetto = get(server, &path("trace?seconds=0.2&format=perfetto"));
    // Field 1, length-delimited: a packet.
    assert_eq!(perfetto.body.first(), Some(&0x0a));
    let block = get(server, &path("block?seconds=1"));
    assert!(kymo::profile::Profile::decode(&block.body).is_ok());
    assert_eq!(chrome.header("x-kymo-note"), None);
}

#[test]
fn captures_overlap_up_to_their_limit_then_429() {
    let _alone = alone();
    let server = serve();
    let running: Vec<_> =
        (0..CAPTURES).map(|_| begin(server, "GET", &path("trace?seconds=1.5"), &[])).collect();
    assert!(running.iter().all(|exchange| exchange.status() == 200));
    let refused = get(server, &path("trace?seconds=1"));
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    assert_eq!(refused.header("x-go-pprof"), Some("1"));
    assert!(refused.text().starts_with("Could not enable tracing: "), "{}", refused.text());
    for exchange in running {
        let answer = exchange.finish();
        assert!(answer.whole && whole(&answer.body).info.complete);
    }
}

#[test]
fn a_client_that_leaves_ends_its_capture_within_a_second() {
    let _alone = alone();
    let server = serve();
    for format in ["kymo", "perfetto"] {
        let request =
            format!("GET {} HTTP/1.1\r\nhost: localhost\r\n\r\n", path("trace?seconds=600&format="));
        let mut client = TcpStream::connect(server).unwrap();
        std::io::Write::write_all(
            &mut client,
            request.replace("format=", &format!("format={format}")).as_bytes(),
        )
        .unwrap();
        until("the capture runs", Duration::from_secs(10), || captures() == 1);
        drop(client);
        until("the capture ended", Duration::from_secs(1), || captures() == 0);
    }
}

#[test]
fn whoever_knows_a_captures_key_may_end_it_and_gets_all_of_it() {
    let _alone = alone();
    let server = serve();
    let running = begin(server, "GET", &path("trace?seconds=600"), &[]);
    let key = running.header("x-kymo-capture").unwrap().to_owned();
    assert_eq!(ask(server, "POST", &path("stop?capture=0"), &[]).status, 404);
    assert_eq!(ask(server, "POST", &path(&format!("stop?capture={key}")), &[]).status, 202);
    let answer = running.finish();
    assert!(answer.whole && whole(&answer.body).info.complete);
    assert_eq!(ask(server, "POST", &path(&format!("stop?capture={key}")), &[]).status, 404);
}

/// Bytes of this process's memory that are resident, beside the recorder's chunks, which have a bound of their own and
/// are the one mapping of their size; 0 once no capture runs, since naming functions at its end takes memory too.
fn resident_while_capturing() -> usize {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let kilobytes = |line: &str, key: &str| -> Option<usize> {
        line.strip_prefix(key)?.trim().strip_suffix(" kB")?.trim().parse().ok()
    };
    let (mut size, mut resident) = (0, 0);
    for line in smaps.lines() {
        size = kilobytes(line, "Size:").unwrap_or(size);
        let chunks = size * 1024 > MEMORY_BYTES / 2;
        resident += kilobytes(line, "Rss:").filter(|_| !chunks).unwrap_or(0) * 1024;
    }
    if captures() == 1 { resident } else { 0 }
}

#[test]
fn a_long_trace_does_not_grow_memory() {
    let _alone = alone();
    let server = serve();
    let (mut streamed, mut before, mut most) = (0, 0, 0);
    busy(|| {
        let mut running = begin(server, "GET", &path("trace?seconds=600"), &[]);
        let key = running.header("x-kymo-capture").unwrap().to_owned();
        let (mut looks, mut stopped) = (0, false);
        running.read_body(|bytes| {
            streamed += bytes.len();
            if streamed > looks * READER_LAG_BYTES / 4 {
                looks += 1;
                let resident = resident_while_capturing();
                before = if before == 0 { resident } else { before };
                most = most.max(resident);
            }
            if streamed > 4 * READER_LAG_BYTES && !std::mem::replace(&mut stopped, true) {
                ask(server, "POST", &path(&format!("stop?capture={key}")), &[]);
            }
        })
    });
    let grown = most.saturating_sub(before);
    assert!(before > 0 && grown < 2 * READER_LAG_BYTES, "{grown} bytes more for {streamed} bytes of trace");
}

#[test]
fn a_client_that_does_not_read_costs_its_lag_then_events_which_are_counted() {
    let _alone = alone();
    let server = serve();
    let (mut before, mut most) = (0, 0);
    let (answer, _) = busy(|| {
        let running = begin(server, "GET", &path("trace?seconds=600"), &[]);
        let key = running.header("x-kymo-capture").unwrap().to_owned();
        before = resident_while_capturing();
        // What the client is too slow for is lost, too, but was recorded before.
        let lost = || {
            let lost = kymo::record::usage().lost;
            lost.iter().sum::<u64>() - lost[LossReason::SlowReader as usize]
        };
        let (emitted_before, lost_before) = (EMITTED.load(Ordering::Relaxed), lost());
        until("much more is recorded than may wait", Duration::from_secs(120), || {
            most = most.max(resident_while_capturing());
            let emitted = EMITTED.load(Ordering::Relaxed) - emitted_before;
            emitted.saturating_sub(lost() - lost_before) * COUNTER_BYTES > 3 * READER_LAG_BYTES as u64
        });
        assert_eq!(ask(server, "POST", &path(&format!("stop?capture={key}")), &[]).status, 202);
        running.finish()
    });
    let grown = most.saturating_sub(before);
    assert!(before > 0 && grown < 2 * READER_LAG_BYTES, "{grown} bytes more");
    let trace = whole(&answer.body);
    assert!(trace.info.complete && trace.lost() > 0);
    assert!(trace.losses.iter().any(|loss| loss.reason == LossReason::SlowReader));
}

#[test]
fn a_program_that_serves_nothing_listens_nowhere_and_other_machines_need_a_word() {
    let exposed = kymo::serve("0.0.0.0:0").unwrap_err();
    assert!(matches!(exposed, kymo::ServeError::Exposed { .. }), "{exposed}");
    assert!(exposed.to_string().contains("allow_unauthenticated"), "{exposed}");
    let empty = kymo::Server::builder().token("").serve("0.0.0.0:0").unwrap_err();
    assert!(matches!(empty, kymo::ServeError::EmptyToken));
    let open = kymo::Server::builder().allow_unauthenticated().serve("0.0.0.0:0").unwrap();
    let reached = SocketAddr::from(([127, 0, 0, 1], open.address().port()));
    assert_eq!(get(reached, &path("status")).status, 200);
    let taken = kymo::serve(reached).unwrap_err();
    assert!(matches!(taken, kymo::ServeError::Bind { .. }), "{taken}");
    let nowhere = kymo::serve("nowhere.invalid:1").unwrap_err();
    assert!(matches!(nowhere, kymo::ServeError::Address(_)), "{nowhere}");
}

#[test]
fn strangers_are_refused_before_anything_happens() {
    let server = serve();
    let with = |headers: &[(&str, &str)]| ask(server, "GET", &path("trace?seconds=600"), headers);
    for headers in [
        &[("Host", "evil.example")][..],
        &[("Host", "localhost.evil.example")],
        &[("Host", "")],
        &[("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")],
    ] {
        let answer = with(headers);
        assert_eq!(answer.status, 403, "{headers:?}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    let bytes = b"GET /debug/pprof/ HTTP/1.1\r\n\r\n";
    assert_eq!(send(server, bytes, true).finish().status, 403, "no Host");
    let guarded = kymo::Server::builder().token("s3cret").serve("127.0.0.1:0").unwrap().address();
    assert_eq!(get(guarded, &path("")).status, 401);
    assert_eq!(ask(guarded, "GET", &path(""), &[("Authorization", "Bearer wrong")]).status, 401);
    assert_eq!(ask(guarded, "GET", &path(""), &[("Authorization", "Bearer s3cret")]).status, 200);
}

#[test]
fn odd_requests_end_in_an_error_and_the_server_goes_on() {
    let server = serve();
    let smuggled = "POST /debug/pprof/stop HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\
                    transfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    let absolute = "GET http://localhost/debug/pprof/ HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let huge = format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "a".repeat(1 << 20));
    let many: String = (0..200).map(|header| format!("x-{header}: 1\r\n")).collect();
    let many = format!("GET / HTTP/1.1\r\nhost: localhost\r\n{many}\r\n");
    for (request, statuses) in [
        (smuggled, &[400][..]),
        (absolute, &[400]),
        (&huge, &[414, 431, 0]),
        (&many, &[431]),
        ("nonsense\r\n\r\n", &[400]),
    ] {
        let status = send(server, request.as_bytes(), true).finish().status;
        assert!(statuses.contains(&status), "{status} for {:.60}", request);
    }
    assert_eq!(get(server, &path("status")).status, 200);
}

#[test]
fn more_connections_than_allowed_are_closed_at_once() {
    let server = serve();
    let idle: Vec<_> = (0..HTTP_CONNECTIONS).map(|_| TcpStream::connect(server).unwrap()).collect();
    let mut one_more = TcpStream::connect(server).unwrap();
    one_more.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    // Closed: an end, or a reset, and not a time-out.
    let closed = match one_more.read(&mut [0]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    };
    assert!(closed);
    drop(idle);
    until("there is room again", Duration::from_secs(5), || get(server, &path("status")).status == 200);
    let status: serde_json::Value = serde_json::from_slice(&get(server, &path("status")).body).unwrap();
    assert!(status["connections_refused"].as_u64() >= Some(1), "{status}");
}

#[test]
fn without_kymos_allocator_the_heap_profile_is_empty_and_says_so() {
    let _alone = alone();
    let server = serve();
    let heap = kymo::profile::Profile::decode(&get(server, &path("heap")).body).unwrap();
    assert_eq!((heap.samples.len(), heap.sample_types.len()), (0, 4));
    assert!(heap.comments.iter().any(|line| line.contains("kymo::Alloc is not")), "{:?}", heap.comments);
    let status: serde_json::Value = serde_json::from_slice(&get(server, &path("status")).body).unwrap();
    assert!(status.to_string().contains("off: kymo::Alloc is not the global allocator"), "{status}");
}

#[test]
fn the_index_shows_what_there_is_and_every_source() {
    let _alone = alone();
    let server = serve();
    // Sources have said how they are once something was recorded.
    get(server, &path("trace?seconds=0.05"));
    let page = get(server, &path(""));
    let (html, sources) = (page.text(), kymo::status::sources());
    assert!(!sources.is_empty());
    for (name, state) in sources {
        assert!(html.contains(&name) && html.contains(state.split('&').next().unwrap()), "{name}: {state}");
    }
    assert!(html.contains("record 5 s") && html.contains("ui/"));
    let links: Vec<_> = html.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(links.len() >= 6, "{links:?}");
    for link in links {
        assert!(!link.starts_with('/') && !link.contains("://"), "{link} is not relative");
        let answer = ask(server, "HEAD", &path(&link.replace("&amp;", "&")), &[]);
        assert_eq!(answer.status, 200, "{link}");
    }
    let status: serde_json::Value = serde_json::from_slice(&get(server, &path("status")).body).unwrap();
    assert_eq!(status["sources"]["recorder"].as_str().map(|state| &state[..2]), Some("on"), "{status}");
}

/// A service's own axum server on a thread of its own.
fn nested() -> SocketAddr {
    let (address, addresses) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let app = axum::Router::new().nest("/svc-a/internal", kymo::router()).merge(kymo::router());
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            address.send(listener.local_addr().unwrap()).unwrap();
            axum::serve(listener, app).await.unwrap();
        });
    });
    addresses.recv().unwrap()
}

#[test]
fn the_router_works_below_any_prefix() {
    let _alone = alone();
    let server = nested();
    for prefix in ["", "/svc-a/internal"] {
        let ask = |rest: &str| get(server, &format!("{prefix}/debug/pprof{rest}"));
        let moved = ask("");
        assert_eq!((moved.status, moved.header("location")), (301, Some("pprof/")), "{prefix}");
        assert_eq!(ask("/").status, 200);
        assert_eq!(ask("/index.css").status, 200);
        assert!(ask("/ui/").text().contains("<script"), "{prefix}");
        assert_eq!(ask("/ui/api/v1/session").status, 200);
        assert_eq!(ask("/nosuch").text(), "Unknown profile\n");
        assert!(whole(&ask("/trace?seconds=0.1").body).info.complete);
    }
}

#[test]
fn the_viewer_records_by_the_same_way() {
    let _alone = alone();
    let server = serve();
    let request = "{\"seconds\":0.2}";
    let head = format!(
        "POST /debug/pprof/ui/api/v1/record HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{request}",
        request.len()
    );
    let Answer { status, body, .. } = send(server, head.as_bytes(), true).finish();
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    let id = serde_json::from_slice::<serde_json::Value>(&body).unwrap()["id"].as_str().unwrap().to_owned();
    assert_eq!(get(server, &path(&format!("ui/api/v1/t/{id}/summary"))).status, 200);
}

#[test]
fn a_server_that_is_stopped_ends_its_captures_and_frees_its_address() {
    let _alone = alone();
    let server = kymo::serve("127.0.0.1:0").unwrap();
    let address = server.address();
    let running = begin(address, "GET", &path("trace?seconds=600"), &[]);
    assert_eq!(running.status(), 200);
    server.stop();
    until("the capture ended", Duration::from_secs(1), || captures() == 0);
    assert!(!running.finish().whole);
    until("the address is free", Duration::from_secs(5), || kymo::serve(address).is_ok());
}
