//! The viewer: its questions over HTTP, its page in a real browser, its modules by themselves, its types.
//!
//! The browser's tests are in `tests/viewer/`; what they need comes from npm by the names in `tests/viewer/package.json`,
//! into `tests/.cache`. Chromium is the system's own.
#![cfg(feature = "viewer")]

use std::fs::File;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use kymo::http::api::{self, Loaded, Options, Recorder, Store};
use serde_json::Value;
use tower::ServiceExt;

#[path = "viewer/live.rs"]
mod live;
#[path = "viewer/planted.rs"]
mod planted;

const PREFIX: &str = "/debug/pprof/ui";

fn planted_store() -> Arc<Store> {
    let store = Arc::new(Store::new());
    let loaded =
        Loaded::new("planted".to_string(), "planted.kymo".to_string(), planted::trace(2.0), Vec::new());
    store.keep(loaded.unwrap());
    store
}

/// Answers recordings with one that was made when the test began.
fn recorder(bytes: Vec<u8>) -> Recorder {
    Arc::new(move |seconds| {
        let bytes = bytes.clone();
        Box::pin(
            async move { if seconds > 60.0 { Err("too long for a test".to_string()) } else { Ok(bytes) } },
        )
    })
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn ask(request: Request<Body>) -> (StatusCode, axum::http::HeaderMap, Bytes) {
    let options = Options { record: Some(recorder(Vec::new())), assets_dir: None };
    let router = api::router(PREFIX, planted_store(), options);
    block_on(async {
        let answer = router.oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        (parts.status, parts.headers, body.collect().await.unwrap().to_bytes())
    })
}

fn get(path: &str) -> (StatusCode, axum::http::HeaderMap, Bytes) {
    ask(Request::get(format!("{PREFIX}{path}")).body(Body::empty()).unwrap())
}

fn json(path: &str) -> Value {
    let (status, _, body) = get(path);
    assert_eq!(status, StatusCode::OK, "{path}: {}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}

/// The status and the `error` of a refusal.
fn refused(answer: (StatusCode, axum::http::HeaderMap, Bytes)) -> (u16, String) {
    let body: Value = serde_json::from_slice(&answer.2).unwrap_or_default();
    (answer.0.as_u16(), body["error"].as_str().unwrap_or_default().to_string())
}

#[test]
fn the_page_is_a_folder_that_loads_from_nowhere_else() {
    let (status, headers, _) = get("");
    assert_eq!(
        (status, &headers[header::LOCATION]),
        (StatusCode::PERMANENT_REDIRECT, &"ui/".parse().unwrap())
    );
    let (status, headers, body) = get("/");
    assert_eq!(
        (status, &headers[header::CONTENT_TYPE]),
        (StatusCode::OK, &"text/html; charset=utf-8".parse().unwrap())
    );
    assert!(headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap().starts_with("default-src 'self'"));
    assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    let page = String::from_utf8(body.to_vec()).unwrap();
    assert!(!page.contains("://"), "the page names another origin");
    let (status, headers, _) = get("/timeline/rows.js");
    assert_eq!(
        (status, &headers[header::CONTENT_TYPE]),
        (StatusCode::OK, &"text/javascript; charset=utf-8".parse().unwrap())
    );
    for path in ["/nothing.js", "/types.d.ts", "/timeline", "/../Cargo.toml", "/timeline/../main.js"] {
        assert_eq!(get(path).0, StatusCode::NOT_FOUND, "{path}");
    }
}

#[test]
fn the_page_is_served_beside_everything_else_and_below_any_prefix() {
    let nested = axum::Router::new().nest("/internal", kymo::router());
    for (router, prefix) in [(kymo::router(), ""), (nested, "/internal")] {
        for (path, expected) in
            [("", 308), ("/", 200), ("/main.js", 200), ("/timeline/rows.js", 200), ("/nothing.js", 404)]
        {
            let request = Request::get(format!("{prefix}{PREFIX}{path}")).body(Body::empty()).unwrap();
            let status = block_on(router.clone().oneshot(request)).unwrap().status();
            assert_eq!(status.as_u16(), expected, "{prefix}{PREFIX}{path}");
        }
    }
}

#[test]
fn a_folder_of_assets_gives_nothing_from_outside() {
    let options = Options { record: None, assets_dir: Some(PathBuf::from("viewer")) };
    let router = api::router("", Arc::new(Store::new()), options);
    for (path, expected) in [("/", 200), ("/app.css", 200), ("/../README.md", 404), ("//etc/hosts.json", 404)]
    {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let status = block_on(router.clone().oneshot(request)).unwrap().status();
        assert_eq!(status.as_u16(), expected, "{path}");
    }
}

#[test]
fn the_summary_names_the_lock_and_who_has_it() {
    let summary = json("/api/v1/t/planted/summary");
    let finding = &summary["findings"][0];
    assert_eq!(finding["label"], "mutex in Catalogue::lock");
    assert_eq!(finding["holder"], "pool::reaper_serialises_json");
    assert!(finding["in_poll_ns"].as_u64().unwrap() > 1_000_000_000);
    assert_eq!(summary["losses"][0]["count"], 812);
    assert_eq!(summary["start_realtime_ns"], "1790000000123456789", "beyond 2^53, so as text");
}

#[test]
fn tracks_come_in_pages_that_fit_together() {
    let mut keys = Vec::new();
    let mut cursor = Some(0);
    while let Some(from) = cursor {
        let page = json(&format!("/api/v1/t/planted/tracks?group=site.0&cursor={from}&limit=7"));
        assert_eq!(page["total"], 32);
        keys.extend(
            page["tracks"].as_array().unwrap().iter().map(|track| track["key"].as_str().unwrap().to_string()),
        );
        cursor = page["cursor"].as_u64();
    }
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 32);
    let found = json("/api/v1/t/planted/tracks?row=task.46");
    assert_eq!(found["groups"][0], "sites");
    assert!(keys.contains(&found["track"]["key"].as_str().unwrap().to_string()));
}

#[test]
fn a_wait_tells_where_by_whom_it_was_woken_and_in_which_poll() {
    let item = json("/api/v1/t/planted/item?row=thread.2&at=430000000");
    assert_eq!(item["title"], "waits for the mutex in Catalogue::lock");
    let fact = |name: &str| {
        item["facts"].as_array().unwrap().iter().find(|fact| fact["name"] == name).unwrap().clone()
    };
    assert_eq!(fact("woken by")["text"], "reaper_serialises_json");
    assert_eq!(fact("inside a poll of")["text"], "sendjson");
    assert_eq!(item["stacks"][0]["frames"][4]["function"], "shop::routes::sendjson");
    assert_eq!(item["stacks"][1]["frames"][0]["function"], "shop::pool::reaper_serialises_json");
    let flows = json(&format!("/api/v1/t/planted/flows?row=thread.2&at={}", item["begin"]));
    assert_eq!(flows["arrows"][0]["to"]["at"], item["end"]);
}

#[test]
fn what_is_asked_wrongly_is_refused_with_a_reason() {
    let post = |path: &str, body: &str| {
        let request =
            Request::post(format!("{PREFIX}{path}")).header(header::CONTENT_TYPE, "application/json");
        refused(ask(request.body(Body::from(body.to_string())).unwrap()))
    };
    let (status, why) = refused(get("/api/v1/t/nothing/summary"));
    assert_eq!((status, why.as_str()), (404, "there is no trace nothing"));
    assert_eq!(
        refused(get("/api/v1/t/planted/item?row=nope&at=1")),
        (400, "`nope` is not the key of a row".to_string())
    );
    assert_eq!(refused(get("/api/v1/t/planted/item?row=task.999&at=1")).0, 404);
    assert_eq!(refused(get("/api/v1/t/planted/item?row=task.1&at=-1")).0, 400);
    assert_eq!(refused(get("/api/v1/t/planted/item?row=task.1&at=1&which=last")).0, 400);
    assert_eq!(refused(get("/api/v1/t/planted/tracks?group=workers.9")).0, 404);
    assert_eq!(post("/api/v1/t/planted/tiles", r#"{"z":63,"want":[]}"#).0, 400);
    assert_eq!(
        post("/api/v1/t/planted/tiles", r#"{"z":10,"want":[["task.1",18446744073709551615]]}"#).0,
        400
    );
    assert_eq!(post("/api/v1/record", r#"{"seconds":0}"#).0, 400);
    assert_eq!(post("/api/v1/record", r#"{"seconds":61}"#), (503, "too long for a test".to_string()));
    let (status, why) = post("/api/v1/open?name=x", "{}");
    assert_eq!((status, why.as_str()), (400, "the header x-kymo is missing"));
    let request = Request::post(format!("{PREFIX}/api/v1/open?name=x")).header("x-kymo", "1");
    let (status, why) = refused(ask(request.body(Body::from("not a trace")).unwrap()));
    assert!(status == 422 && why.contains("not a kymo trace"), "{status}: {why}");
}

#[test]
fn the_page_knows_exactly_the_meanings_that_rust_has() {
    let path = Path::new("viewer/schema.json");
    let fresh = api::schema();
    if std::env::var_os("KYMO_WRITE").is_some() {
        std::fs::write(path, &fresh).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap();
    assert!(committed == fresh, "viewer/schema.json is not what src has: run this test with KYMO_WRITE=1");
}

#[test]
fn modules_are_short_ask_in_one_place_and_make_no_markup() {
    let mut visited = 0;
    let mut folders = vec![PathBuf::from("viewer")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|kind| kind != "js") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let name = path.display();
            assert!(text.lines().count() < 400, "{name} is too long: split it by subject");
            assert!(
                text.starts_with("// @ts-check\n/**\n"),
                "{name}: types are checked, and a head says what it is for"
            );
            assert!(path.ends_with("viewer/api.js") || !text.contains("fetch("), "{name} asks by itself");
            for banned in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "ts-ignore",
                "ts-expect-error",
            ] {
                assert!(!text.contains(banned), "{name}: {banned}");
            }
            visited += 1;
        }
    }
    assert!(visited >= 25, "only {visited} modules visited");
}

#[test]
fn the_types_of_the_modules_hold() {
    let modules = node_modules();
    run(Command::new(modules.join(".bin/tsc")).args([
        "--pretty",
        "false",
        "-p",
        "tests/viewer/tsconfig.json",
    ]));
}

#[test]
fn the_modules_do_their_sums_right() {
    run(node().args(["--test", "tests/viewer/pure.test.mjs"]));
}

#[test]
fn the_page_works_in_a_browser() {
    let chromium = found("chromium", "chromium (apt-get install chromium)");
    let modules = node_modules();
    let recording = live::recording();
    let live = Arc::new(Store::new());
    live.add("live.kymo", &recording).unwrap();
    let with = |store, record| api::router(PREFIX, store, Options { record, assets_dir: None });
    let planted = serve(with(planted_store(), Some(recorder(recording))));
    let live = serve(with(live, None));
    let empty = serve(api::router("", Arc::new(Store::new()), Options::default()));
    run(node()
        .args(["--test", "tests/viewer/page.test.mjs"])
        .env("KYMO_NODE_MODULES", modules.canonicalize().unwrap())
        .env("KYMO_CHROMIUM", chromium)
        .env("KYMO_PLANTED", format!("http://{planted}{PREFIX}/"))
        .env("KYMO_LIVE", format!("http://{live}{PREFIX}/"))
        .env("KYMO_EMPTY", format!("http://{empty}/")));
}

/// Serves until the test's process ends.
fn serve(router: axum::Router) -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
    });
    address
}

fn node() -> Command {
    Command::new(found("node", "node 20 or newer (apt-get install nodejs npm)"))
}

/// The path of a program; fails with what to install.
fn found(program: &str, install: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{program} is missing: install {install}"))
}

/// Where the packages of `tests/viewer/package.json` are; fetched if they are not the ones it names.
fn node_modules() -> PathBuf {
    let npm = found("npm", "npm (apt-get install npm)");
    let cache = PathBuf::from("tests/.cache/viewer");
    std::fs::create_dir_all(&cache).unwrap();
    // Tests run in processes of their own: one fetches, the others wait for it.
    let lock = File::create(cache.join("lock")).unwrap();
    lock.lock().unwrap();
    let wanted = std::fs::read_to_string("tests/viewer/package.json").unwrap();
    let done = cache.join("done.json");
    if std::fs::read_to_string(&done).ok().as_deref() != Some(&wanted) {
        std::fs::write(cache.join("package.json"), &wanted).unwrap();
        run(Command::new(npm)
            .args(["install", "--no-package-lock", "--no-audit", "--no-fund"])
            .current_dir(&cache));
        std::fs::write(&done, &wanted).unwrap();
    }
    cache.join("node_modules")
}

/// Runs a program to its end; fails with all that it said.
fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).join("\n");
    assert!(output.status.success(), "{command:?} failed:\n{said}");
}
