//! A shop that is slow on purpose: a real axum service with planted faults, each in a function named for it.
//!
//! `cargo run --release --features cli --example shop` serves the shop on 127.0.0.1:4000 and kymo on 127.0.0.1:6060;
//! two arguments are other addresses. `kymo demo` runs the same file, with the load of [`load`].
//!
//! | fault | where |
//! |---|---|
//! | a std `Mutex` held across slow work inside a poll | `reaper_serialises_json` holds `sessions` |
//! | its victim | `sendjson` |
//! | a fast user of the same lock, whom a naive profile would blame | `peek_sessions` |
//! | a convoy on a tokio `Mutex` | `convoy` |
//! | a full channel with a slow consumer | `backpressure`, `slow_consumer` |
//! | file I/O inside a poll | `blocking_report` |
//! | a poll that computes for milliseconds | `hot_search` |

use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

#[global_allocator]
static ALLOC: kymo::Alloc = kymo::Alloc::new();

/// What the shop knows.
struct Shop {
    sessions: Mutex<BTreeMap<u64, Session>>,
    ledger: tokio::sync::Mutex<u64>,
    orders: mpsc::Sender<u64>,
    next: AtomicU64,
    waits: Waits,
}

#[derive(Clone, Serialize)]
struct Session {
    user: String,
    cart: Vec<String>,
}

/// How long the shop itself measured that its functions waited for `sessions`: what a profile must agree with.
#[derive(Default, Serialize)]
struct Waits {
    sendjson: Measured,
    peek_sessions: Measured,
    reaper_serialises_json: Measured,
}

#[derive(Default, Serialize)]
struct Measured {
    count: AtomicU64,
    total_ns: AtomicU64,
}

impl Measured {
    /// Notes a wait that began then and has just ended.
    fn since(&self, begin: Instant) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.total_ns.fetch_add(begin.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }
}

/// Serves the shop and kymo until the process ends. Prints a line once both listen.
///
/// # Errors
/// An address can't be bound, or a thread not be started.
pub(crate) fn serve(shop: SocketAddr, kymo: SocketAddr) -> Result<(), Box<dyn Error>> {
    let kymo = kymo::serve(kymo.to_string().as_str())?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = kymo::tokio::instrument(&mut builder, "shop").worker_threads(4).enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(shop).await?;
        println!("shop http://{} kymo http://{}/debug/pprof/", listener.local_addr()?, kymo.address());
        let (orders, received) = mpsc::channel(2);
        let shop = Arc::new(Shop {
            sessions: Mutex::new((0..400).map(|user| (user, session(user))).collect()),
            ledger: tokio::sync::Mutex::new(0),
            orders,
            next: AtomicU64::new(0),
            waits: Waits::default(),
        });
        kymo::spawn_named("reaper", reaper(shop.clone()));
        kymo::spawn_named("slow consumer", slow_consumer(received));
        accept(listener, routes(shop)).await
    })
}

fn session(user: u64) -> Session {
    let cart = (0..6).map(|item| format!("item \"{item}\" of user {user}")).collect();
    Session { user: format!("user {user}"), cart }
}

fn routes(shop: Arc<Shop>) -> Router {
    Router::new()
        .route("/", get(async |State(shop): State<Arc<Shop>>| peek_sessions(&shop).to_string()))
        .route("/sendjson", get(async |State(shop): State<Arc<Shop>>| sendjson(&shop)))
        .route("/orders", get(async |State(shop): State<Arc<Shop>>| backpressure(&shop).await))
        .route("/checkout", get(async |State(shop): State<Arc<Shop>>| convoy(&shop).await.to_string()))
        .route("/search", get(async || hot_search().to_string()))
        .route(
            "/report",
            get(async || blocking_report().map_or_else(|error| error.to_string(), |()| "ok".into())),
        )
        .route("/stats", get(async |State(shop): State<Arc<Shop>>| axum::Json(stats(&shop))))
        .with_state(shop)
}

/// Accepts connections and serves each in a task of its own.
async fn accept(listener: TcpListener, routes: Router) -> Result<(), Box<dyn Error>> {
    loop {
        let (stream, _peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = TowerToHyperService::new(routes.clone());
        kymo::spawn_named("connection", async move {
            // A client that goes away in the middle of a request is its own affair.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// Waits for `sessions`, which somebody holds for long: the victim.
#[inline(never)]
fn sendjson(shop: &Shop) -> String {
    let user = shop.next.fetch_add(1, Ordering::Relaxed) % 400;
    let begin = Instant::now();
    let sessions = shop.sessions.lock().unwrap_or_else(PoisonError::into_inner);
    shop.waits.sendjson.since(begin);
    let session = sessions.get(&user).cloned();
    drop(sessions);
    serde_json::to_string(&session).unwrap_or_default()
}

/// Uses the same lock, but never for long: innocent.
#[inline(never)]
fn peek_sessions(shop: &Shop) -> usize {
    let begin = Instant::now();
    let sessions = shop.sessions.lock().unwrap_or_else(PoisonError::into_inner);
    shop.waits.peek_sessions.since(begin);
    sessions.len()
}

async fn reaper(shop: Arc<Shop>) {
    loop {
        tokio::time::sleep(Duration::from_millis(15)).await;
        black_box(reaper_serialises_json(&shop));
    }
}

/// Holds the lock across slow work, inside a poll: the culprit. Gives the bytes that it made.
#[inline(never)]
fn reaper_serialises_json(shop: &Shop) -> usize {
    let begin = Instant::now();
    let sessions = shop.sessions.lock().unwrap_or_else(PoisonError::into_inner);
    shop.waits.reaper_serialises_json.since(begin);
    let (begin, mut bytes) = (Instant::now(), 0);
    while begin.elapsed() < Duration::from_millis(6) {
        bytes += serde_json::to_vec(&*sessions).map_or(0, |json| json.len());
    }
    bytes
}

/// Holds an async lock across an await; whoever comes meanwhile queues up.
#[inline(never)]
async fn convoy(shop: &Shop) -> u64 {
    let mut ledger = shop.ledger.lock().await;
    tokio::time::sleep(Duration::from_millis(2)).await;
    *ledger += 1;
    *ledger
}

/// Sends into a channel that is full, since nobody empties it fast enough.
#[inline(never)]
async fn backpressure(shop: &Shop) -> &'static str {
    match shop.orders.send(1).await {
        Ok(()) => "ordered",
        Err(_) => "closed",
    }
}

async fn slow_consumer(mut orders: mpsc::Receiver<u64>) {
    while orders.recv().await.is_some() {
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
}

/// Computes for milliseconds without an await: nobody else runs on this worker.
#[inline(never)]
fn hot_search() -> u64 {
    (0..2_000_000_u64).fold(7, |hash, byte| (hash ^ black_box(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Writes and syncs a file inside a poll, where the worker should be polling others.
#[inline(never)]
fn blocking_report() -> std::io::Result<()> {
    let mut file = nameless_file()?;
    file.write_all(&[b'.'; 64 * 1024])?;
    file.sync_all()
}

/// A file that is gone when it is closed, readable by nobody else.
fn nameless_file() -> std::io::Result<std::fs::File> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = format!("shop-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(name);
    let file = std::fs::File::options().write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

fn stats(shop: &Shop) -> serde_json::Value {
    serde_json::json!({ "waits": shop.waits })
}

/// Load on a shop: a few clients with connections that they keep, each at a pace of its own.
#[allow(dead_code, reason = "the service itself has no load: the command runs it")]
pub(crate) mod load {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    /// Routes, how many clients ask for each, and how long each rests between two requests.
    const CLIENTS: [(&str, usize, Duration); 6] = [
        ("/sendjson", 5, Duration::from_micros(500)),
        ("/", 2, Duration::from_micros(700)),
        ("/checkout", 2, Duration::from_millis(20)),
        ("/orders", 2, Duration::from_millis(10)),
        ("/search", 1, Duration::from_millis(60)),
        ("/report", 1, Duration::from_millis(50)),
    ];

    /// Asks until told to stop. Requests that fail end their client.
    pub(crate) fn run(shop: SocketAddr, stop: &AtomicBool) {
        std::thread::scope(|scope| {
            for (route, clients, pause) in CLIENTS {
                for _ in 0..clients {
                    scope.spawn(move || client(shop, route, pause, stop));
                }
            }
        });
    }

    fn client(shop: SocketAddr, route: &str, pause: Duration, stop: &AtomicBool) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(shop)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut answers = BufReader::new(stream.try_clone()?);
        while !stop.load(Ordering::Relaxed) {
            stream.write_all(format!("GET {route} HTTP/1.1\r\nhost: shop\r\n\r\n").as_bytes())?;
            read_answer(&mut answers)?;
            std::thread::sleep(pause);
        }
        Ok(())
    }

    fn read_answer(answers: &mut impl BufRead) -> std::io::Result<()> {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if answers.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or_default();
            }
            if line == "\r\n" {
                break;
            }
        }
        std::io::copy(&mut answers.take(length), &mut std::io::sink()).map(drop)
    }
}

#[allow(dead_code, reason = "the command includes this file and has a main of its own")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut addresses = std::env::args().skip(1);
    let mut address = |default: &str| addresses.next().as_deref().unwrap_or(default).parse::<SocketAddr>();
    serve(address("127.0.0.1:4000")?, address("127.0.0.1:6060")?)
}
