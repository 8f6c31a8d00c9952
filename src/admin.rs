//! The admin server, on its own thread and runtime: it answers even when every shard is busy.
//!
//! * `GET /metrics` -- Prometheus text format
//! * `GET /livez` -- 200 while every shard turns
//! * `GET /readyz` -- 200 while every socket is bound and the relay is not stopping
//! * `GET /status` -- JSON: inputs, routes, outputs and their ledgers, programs that no route takes

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::shard::Common;
use crate::spool;

mod status;

/// Connections served at once: scrapers and probes, never a crowd.
const CONNECTIONS_MAX: usize = 64;

/// A client that has not sent its request by then is let go.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection is closed after this, whatever it is doing: clients that ask and never read must not keep probes out.
const CONVERSATION_MAX: Duration = Duration::from_secs(60);

/// What the server tells about.
pub struct Admin {
    /// The relay.
    pub common: Arc<Common>,
    /// What listens, as URLs: by input.
    pub listening: Vec<(usize, String)>,
    /// The spool, where there is one.
    pub spool: Option<Arc<spool::Shared>>,
}

/// Binds. Returns the listener and its address (the kernel's choice where the port was 0).
///
/// # Errors
/// When the address is taken, or is none of this machine's.
pub fn bind(address: SocketAddr) -> std::io::Result<(StdTcpListener, SocketAddr)> {
    let listener = StdTcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// The server, not serving yet. Everything that can fail is done.
pub struct Server {
    runtime: Runtime,
    listener: TcpListener,
}

impl Server {
    /// Prepares to serve on `listener`.
    ///
    /// # Errors
    /// When the process is out of files or memory.
    pub fn new(listener: StdTcpListener) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _within = runtime.enter();
            TcpListener::from_std(listener)?
        };
        Ok(Self { runtime, listener })
    }

    /// Serves until the process ends. Runs on the calling thread.
    pub fn serve(self, admin: Arc<Admin>) {
        self.runtime.block_on(accept(self.listener, admin));
    }
}

async fn accept(listener: TcpListener, admin: Arc<Admin>) {
    let mut errors: u64 = 0;
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let admin = Arc::clone(&admin);
                #[expect(clippy::disallowed_methods, reason = "a thread of its own, which no stop waits for")]
                tokio::spawn(async move {
                    converse(stream, admin).await;
                    drop(place);
                });
            }
            Err(error) => {
                errors += 1;
                if errors.is_power_of_two() {
                    warn!(errors, "admin server cannot accept a connection: {error}; trying again");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, admin: Arc<Admin>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(&request, &admin);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    match timeout(CONVERSATION_MAX, server.serve_connection(TokioIo::new(stream), service)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!("admin connection ended: {error}"),
        Err(_) => debug!("admin connection ended: it took too long"),
    }
}

fn answer(request: &Request<Incoming>, admin: &Admin) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n");
    }
    match request.uri().path() {
        "/metrics" => with_type(StatusCode::OK, admin.common.meters.render(), "text/plain; version=0.0.4"),
        "/livez" => live(admin),
        "/readyz" if admin.common.meters.ready.load(Relaxed) => text(StatusCode::OK, "ready\n"),
        "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "not ready: starting or stopping\n"),
        "/status" => with_type(StatusCode::OK, status::render(admin), "application/json"),
        _ => text(StatusCode::NOT_FOUND, "here are /metrics, /livez, /readyz and /status\n"),
    }
}

fn live(admin: &Admin) -> Response<Full<Bytes>> {
    let late = admin.common.late().map(|(shard, age)| format!("shard {shard} has not turned for {age} s\n"));
    let late: String = late.collect();
    if late.is_empty() { text(StatusCode::OK, "alive\n") } else { text(StatusCode::SERVICE_UNAVAILABLE, &late) }
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    with_type(status, body.to_owned(), "text/plain; charset=utf-8")
}

fn with_type(status: StatusCode, body: String, content_type: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
