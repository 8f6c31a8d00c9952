//! The admin server, on its own thread and runtime: it answers even when every shard is busy.
//!
//! * `GET /` -- a page for people, which asks for the others
//! * `GET /metrics` -- Prometheus text format
//! * `GET /livez` -- 200 while every shard turns
//! * `GET /readyz` -- 200 while every socket is bound and the relay is not stopping
//! * `GET /status` -- JSON: inputs, routes, outputs and their ledgers, programs that no route takes
//! * `GET /tap` -- messages as they are sent or received, live
//! * `GET /top` -- JSON: the programs and peers that send most, from a sample
//! * `POST /reload` -- reads the configuration again: 200 where it is applied, 422 with the report where not
//!
//! `access` says who gets an answer.

use std::convert::Infallible;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use crate::harden::Standing;
use crate::shard::Common;
use crate::spool;
use crate::tls;

use access::{Peer, Refusal, Way};
use listen::{Accepted, Listener};
pub use listen::{Bound, bind};
use patience::Patience;
pub use reload::{Reloads, Request as ReloadRequest, Verdict};
pub use tap::missed_in_words;

mod access;
pub mod client;
mod listen;
mod page;
mod patience;
mod query;
mod reload;
mod status;
mod tap;
mod top;

/// Connections served at once: scrapers and probes, never a crowd.
const CONNECTIONS_MAX: usize = 64;

/// A client that has not sent its request by then is let go.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Octets that hyper holds for a client that reads slowly.
const BUFFER_BYTES: usize = 64 * 1024;

/// What the server tells about.
pub struct Admin {
    /// The relay.
    pub common: Arc<Common>,
    /// What listens, as URLs: by input.
    pub listening: Vec<(usize, String)>,
    /// What the configuration asks for and is not done, and why.
    pub left_out: Vec<String>,
    /// The spool, where there is one.
    pub spool: Option<Arc<spool::Shared>>,
    /// HTTPS on its TCP addresses.
    pub tls: Option<Arc<tls::Server>>,
    /// What the process has given up.
    pub standing: Arc<Standing>,
    /// When the relay was started.
    pub started: std::time::Instant,
    /// What became of other configurations.
    pub reloads: Arc<Reloads>,
}

/// What the server tells about now: a reload puts another in its place.
pub struct Running(RwLock<Arc<Admin>>);

impl Running {
    /// This, to begin with.
    pub fn new(admin: Admin) -> Self {
        Self(RwLock::new(Arc::new(admin)))
    }

    /// What there is now.
    pub fn now(&self) -> Arc<Admin> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells about this from now on.
    pub fn replace(&self, admin: Admin) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(admin);
    }
}

/// The server, not serving yet. Everything that can fail is done.
pub struct Server {
    runtime: Runtime,
    listeners: Vec<Listener>,
}

type Answer = Response<Either<Full<Bytes>, tap::Stream>>;

impl Server {
    /// Prepares to serve on what is bound.
    ///
    /// # Errors
    /// When the process is out of files or memory.
    pub fn new(bound: Vec<Bound>) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listeners = {
            let _within = runtime.enter();
            bound.into_iter().map(Listener::new).collect::<std::io::Result<_>>()?
        };
        Ok(Self { runtime, listeners })
    }

    /// Serves until the process ends. Runs on the calling thread.
    pub fn serve(self, running: &Arc<Running>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        self.runtime.block_on(async {
            let mut accepting = tokio::task::JoinSet::new();
            for listener in self.listeners {
                accepting.spawn(accept(listener, Arc::clone(running), Arc::clone(&places)));
            }
            while accepting.join_next().await.is_some() {}
        });
    }
}

async fn accept(listener: Listener, running: Arc<Running>, places: Arc<Semaphore>) {
    let mut errors: u64 = 0;
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok(accepted) => {
                let running = Arc::clone(&running);
                #[expect(clippy::disallowed_methods, reason = "a thread of its own, which no stop waits for")]
                tokio::spawn(async move {
                    converse(accepted, running).await;
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

async fn converse(Accepted { stream, way }: Accepted, running: Arc<Running>) {
    let tls = running.now().tls.clone().filter(|_| way != Way::Unix);
    let secured = match tokio::time::timeout(HEADER_TIMEOUT, listen::secure(stream, tls.as_ref())).await {
        Ok(Ok(secured)) => secured,
        Ok(Err(error)) => return debug!("admin connection ended: {error}"),
        Err(_) => return debug!("admin connection ended: its handshake took too long"),
    };
    let (stream, is_certified) = secured;
    let peer = Peer { way, is_certified };
    let patience = Patience::new();
    let service = service_fn(|request: Request<Incoming>| {
        let (running, patience) = (Arc::clone(&running), patience.clone());
        async move { Ok::<_, Infallible>(answer(&request, peer, &running, &patience).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(BUFFER_BYTES);
    tokio::select! {
        served = server.serve_connection(TokioIo::new(stream), service) => {
            if let Err(error) = served {
                debug!("admin connection ended: {error}");
            }
        }
        () = patience.ended() => debug!("admin connection ended: it took too long"),
    }
}

async fn answer(request: &Request<Incoming>, peer: Peer, running: &Arc<Running>, patience: &Patience) -> Answer {
    let admin = &running.now();
    if let Err(refusal) = access::admit(request, peer, &admin.common.config.admin_access) {
        return refused(&refusal, admin);
    }
    if request.uri().path() == "/reload" {
        if request.method() != Method::POST {
            return text(StatusCode::METHOD_NOT_ALLOWED, "POST reads the configuration again\n");
        }
        let (status, words) = admin.reloads.ask().await;
        return text(status, &words);
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n");
    }
    match request.uri().path() {
        "/" => page::dressed(with_type(StatusCode::OK, page::HTML.to_owned(), "text/html; charset=utf-8")),
        "/metrics" => with_type(StatusCode::OK, admin.common.meters.render(), "text/plain; version=0.0.4"),
        "/livez" => live(admin),
        "/readyz" if admin.common.meters.ready.load(Relaxed) => text(StatusCode::OK, "ready\n"),
        "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "not ready: starting or stopping\n"),
        "/status" => with_type(StatusCode::OK, status::render(admin), "application/json"),
        "/tap" | "/top" if request.method() != Method::GET => {
            text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n")
        }
        path @ ("/tap" | "/top") => {
            let query = request.uri().query().unwrap_or_default();
            let answered = if path == "/tap" { tap(query, running, patience) } else { top(query, admin).await };
            answered.unwrap_or_else(|(status, why)| text(status, &why))
        }
        _ => text(StatusCode::NOT_FOUND, "here are /, /metrics, /livez, /readyz, /status, /tap, /top and /reload\n"),
    }
}

/// A browser asks its user for a password where it is told that one is wanted.
fn refused(refusal: &Refusal, admin: &Admin) -> Answer {
    let mut response = text(refusal.status, refusal.words);
    if refusal.status == StatusCode::UNAUTHORIZED && admin.common.config.admin_access.token.is_some() {
        for scheme in ["Bearer realm=\"forebay\"", "Basic realm=\"forebay\", charset=\"UTF-8\""] {
            response.headers_mut().append(WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
        }
    }
    response
}

fn tap(query: &str, running: &Arc<Running>, patience: &Patience) -> Result<Answer, (StatusCode, String)> {
    let wish = tap::Wish::read(query, &running.now().common.config);
    let wish = wish.map_err(|why| (StatusCode::BAD_REQUEST, format!("{why}\n")))?;
    let content_type = wish.content_type();
    let mut response = Response::new(Either::Right(tap::Stream::open(wish, running, patience)?));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(response)
}

async fn top(query: &str, admin: &Admin) -> Result<Answer, (StatusCode, String)> {
    top::answer(query, admin).await.map(|body| with_type(StatusCode::OK, body, "application/json"))
}

fn live(admin: &Admin) -> Answer {
    let late = admin.common.late().map(|(shard, age)| format!("shard {shard} has not turned for {age} s\n"));
    let late: String = late.collect();
    if late.is_empty() { text(StatusCode::OK, "alive\n") } else { text(StatusCode::SERVICE_UNAVAILABLE, &late) }
}

fn text(status: StatusCode, body: &str) -> Answer {
    with_type(status, body.to_owned(), "text/plain; charset=utf-8")
}

fn with_type(status: StatusCode, body: String, content_type: &'static str) -> Answer {
    let mut response = Response::new(Either::Left(Full::new(Bytes::from(body))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
