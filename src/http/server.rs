//! kymo's own server: a thread of its own with a current-thread runtime, never recorded.
//!
//! It answers on loopback unless told otherwise. What a client may take is bounded: connections, the size and time of
//! a request's head, the time that an answer waits for its reader. Captures are bounded by the recorder.

use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware;
use axum::response::IntoResponse;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::{Semaphore, oneshot};

use super::flight;
use super::guard::Guard;
use super::stall::Impatient;
use super::status::CONNECTIONS_REFUSED;
use super::survive::survive;
use crate::limits::{HTTP_CONNECTIONS, HTTP_HEAD_BYTES, HTTP_HEAD_SECONDS, HTTP_HEADERS, HTTP_STALL_SECONDS};
use crate::record::flight::{FlightConfig, FlightError};

/// How long the accept loop rests when the system has no descriptor or memory for a connection.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Why kymo does not listen. A service may well go on without it.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Not an address.
    #[error("no address to listen on (such as 127.0.0.1:6060): {0}")]
    Address(std::io::Error),
    /// The address is taken, or not ours.
    #[error("kymo can't listen on {address}: {error}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why not.
        error: std::io::Error,
    },
    /// Other machines could read this process's insides.
    #[error(
        "{address} can be reached from other machines: set a token, allow_unauthenticated(), or listen on 127.0.0.1"
    )]
    Exposed {
        /// Where.
        address: SocketAddr,
    },
    /// A token that is no protection.
    #[error("the token is empty")]
    EmptyToken,
    /// The flight recorder that the builder asks for can't start.
    #[error(transparent)]
    Flight(#[from] FlightError),
    /// No thread, or no runtime on it.
    #[error("kymo's thread could not be started: {0}")]
    Thread(std::io::Error),
}

/// Serves `/debug/pprof/` at an address: the one line.
///
/// Returns once it listens; port 0 takes a free one. With `KYMO_FLIGHT=1` in the environment (or seconds and MiB:
/// `30,64`, or with a file: `30,64,FILE`) it starts the flight recorder, too. The server runs until the process ends, whether the [`Server`] is
/// kept or dropped; [`Server::stop`] ends it before. The thread and its runtime are kymo's own and never recorded.
///
/// ```
/// let server = kymo::serve("127.0.0.1:0")?;
/// println!("http://{}/debug/pprof/", server.address());
/// # server.stop();
/// # Ok::<(), kymo::ServeError>(())
/// ```
///
/// # Errors
/// [`ServeError`]: the address is taken, or can be reached from other machines, which needs [`Server::builder`].
pub fn serve(address: impl ToSocketAddrs) -> Result<Server, ServeError> {
    Server::builder().serve(address)
}

/// Who may ask kymo's own server, where not only this machine.
///
/// ```no_run
/// let token = std::env::var("KYMO_TOKEN").unwrap();
/// kymo::Server::builder().token(token).allow_host("shop.internal").serve("0.0.0.0:6060")?;
/// # Ok::<(), kymo::ServeError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Builder {
    token: Option<String>,
    unauthenticated: bool,
    hosts: Vec<String>,
    router: Option<Router>,
    flight: Option<FlightConfig>,
}

impl Builder {
    /// Asks for a token with each request: `Authorization: Bearer TOKEN`, or the token as password.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Builder {
        self.token = Some(token.into());
        self
    }

    /// Answers everybody who can reach the address. They can read what the process does, down to its stacks.
    #[must_use]
    pub fn allow_unauthenticated(mut self) -> Builder {
        self.unauthenticated = true;
        self
    }

    /// Answers requests for one more `Host`, given without port.
    #[must_use]
    pub fn allow_host(mut self, name: impl Into<String>) -> Builder {
        self.hosts.push(name.into());
        self
    }

    /// Starts the flight recorder, which `/debug/pprof/flight` shows; it records until the process ends.
    #[must_use]
    pub fn flight(mut self, config: FlightConfig) -> Builder {
        self.flight = Some(config);
        self
    }

    /// Serves other paths than [`router`](super::router)'s, by the same rules.
    #[must_use]
    pub fn router(mut self, router: Router) -> Builder {
        self.router = Some(router);
        self
    }

    /// Listens, as [`serve`] does.
    ///
    /// # Errors
    /// [`ServeError`].
    pub fn serve(self, address: impl ToSocketAddrs) -> Result<Server, ServeError> {
        if self.token.as_deref() == Some("") {
            return Err(ServeError::EmptyToken);
        }
        let guarded = self.token.is_some() || self.unauthenticated;
        let listener = listen(address, guarded)?;
        let address = listener.local_addr().map_err(ServeError::Thread)?;
        let guard = Arc::new(Guard::new(address, &self.hosts, self.token));
        let router = self.router.unwrap_or_else(super::router).layer(middleware::from_fn(survive));
        let router = router.layer(middleware::from_fn(move |request: Request, next: middleware::Next| {
            let refused = guard.refuse(&request);
            async move {
                match refused {
                    Some(answer) => super::answer::with_common_headers(answer).into_response(),
                    None => next.run(request).await,
                }
            }
        }));
        match self.flight {
            Some(config) => flight::start(config)?,
            None => flight::start_by_environment(),
        }
        let (stop, stopped) = oneshot::channel();
        start(listener, router, stopped).map_err(ServeError::Thread)?;
        Ok(Server { address, stop })
    }
}

/// A running server. Dropping it leaves it running.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
}

impl Server {
    /// More than an address: a token, names, other machines.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Where it listens, with the port it got.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it: no more connections, open ones are closed, their captures end.
    pub fn stop(self) {
        // Fails when its thread has ended, which is what we want.
        let _ = self.stop.send(());
    }
}

/// Binds the first of the addresses that is free.
fn listen(address: impl ToSocketAddrs, guarded: bool) -> Result<TcpListener, ServeError> {
    let mut failed = ServeError::Address(std::io::ErrorKind::AddrNotAvailable.into());
    for address in address.to_socket_addrs().map_err(ServeError::Address)? {
        if !guarded && !is_loopback(address.ip()) {
            return Err(ServeError::Exposed { address });
        }
        match TcpListener::bind(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = ServeError::Bind { address, error },
        }
    }
    Err(failed)
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Starts the server's thread.
fn start(listener: TcpListener, router: Router, stopped: oneshot::Receiver<()>) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let listener = {
        let _inside = runtime.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    let serving = async move {
        tokio::select! {
            () = accept(listener, router) => {}
            // Dropping the server leaves it running.
            () = async { if stopped.await.is_err() { std::future::pending().await } } => {}
        }
    };
    super::capture::apart("kymo-http", move || runtime.block_on(serving))
}

async fn accept(listener: tokio::net::TcpListener, router: Router) {
    let room = Arc::new(Semaphore::new(HTTP_CONNECTIONS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_REST).await;
            continue;
        };
        let Ok(place) = room.clone().try_acquire_owned() else {
            CONNECTIONS_REFUSED.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let io = TokioIo::new(Impatient::new(stream, Duration::from_secs(HTTP_STALL_SECONDS)));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(HTTP_HEAD_SECONDS))
                .max_buf_size(HTTP_HEAD_BYTES)
                .max_headers(HTTP_HEADERS)
                .serve_connection(io, service);
            // A client's fault or its leaving: neither is news to the service.
            let _ = connection.await;
            drop(place);
        });
    }
}
