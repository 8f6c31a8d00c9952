//! An intake in Sekoia's place: HTTP over TLS or plain, takes `/plain/batch` as its documentation says, and answers what a
//! test tells it to.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::certificates::Certificates;
use super::waiting::eventually;

/// One request, as it arrived.
#[derive(Debug, Clone)]
pub struct Asked {
    /// When its head was here.
    pub at: Instant,
    /// Counts from 0, over all connections.
    pub number: usize,
    pub method: String,
    pub path: String,
    pub key: String,
    pub headers: BTreeMap<String, String>,
    /// Of the body as it was sent.
    pub octets: usize,
    pub events: Vec<String>,
}

/// What to do with it.
#[derive(Debug, Clone)]
pub enum Answer {
    /// 202 with an id for each event.
    Take,
    /// Status, a header, body. The events are not taken.
    Say(u16, Option<(&'static str, String)>, String),
    /// 200 with this body; events for which it is true are taken.
    Some(fn(usize) -> bool, String),
    /// Takes it after this time.
    Late(Duration),
    /// Takes it, and says so after this time.
    TakeAndSayLate(Duration),
    /// Resets the connection.
    Reset,
}

impl Answer {
    /// A status and nothing else.
    pub fn status(status: u16) -> Self {
        Self::Say(status, None, String::new())
    }
}

type Script = dyn Fn(&Asked) -> Answer + Send + Sync;

/// A running intake; dropping it ends it.
pub struct Intake {
    pub address: SocketAddr,
    is_tls: bool,
    state: Arc<State>,
    listens: Option<watch::Sender<bool>>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    script: Box<Script>,
    seen: Mutex<Seen>,
}

/// What it has seen.
#[derive(Debug, Default)]
pub struct Seen {
    pub asked: Vec<Asked>,
    /// Events that were taken, with their key, in order of arrival.
    pub taken: Vec<(String, String)>,
    pub accepted: u64,
    listening: bool,
}

/// Any port.
const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

impl Intake {
    /// Over TLS, with the certificates' server.
    pub fn start(certificates: &Certificates, script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_at(LOOPBACK, certificates, script)
    }

    /// The same at this address.
    pub fn start_at(
        address: SocketAddr,
        certificates: &Certificates,
        script: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let acceptor = TlsAcceptor::from(certificates.server_config(&certificates.server));
        Self::run(address, Some(acceptor), Box::new(script))
    }

    /// Over plain TCP.
    pub fn start_plain(script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        Self::run(LOOPBACK, None, Box::new(script))
    }

    fn run(address: SocketAddr, acceptor: Option<TlsAcceptor>, script: Box<Script>) -> Self {
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State { script, seen: Mutex::new(Seen { listening: true, ..Seen::default() }) });
        let (is_tls, shared) = (acceptor.is_some(), Arc::clone(&state));
        let (listens_tx, listens) = watch::channel(true);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(live(listener, acceptor, shared, listens));
        });
        Self { address, is_tls, state, listens: Some(listens_tx), thread: Some(thread) }
    }

    /// Ends as a killed process does, with its connections; what was seen stays.
    pub fn stop(&self) {
        self.listen(false);
    }

    /// Listens again.
    pub fn restart(&self) {
        self.listen(true);
    }

    fn listen(&self, listens: bool) {
        self.listens.as_ref().unwrap().send_replace(listens);
        eventually("the intake to do as told", || {
            let listening = self.look(|seen| seen.listening);
            if listening == listens { Ok(()) } else { Err(format!("listening: {listening}")) }
        });
    }

    /// The keys of an `outputs:` entry that leads here, in flow style, and `more`.
    pub fn output(&self, certificates: &Certificates, more: &str) -> String {
        let comma = if more.is_empty() { "" } else { ", " };
        if self.is_tls {
            format!("to: 'https://{}', tls: {{ca: {}}}{comma}{more}", self.address, certificates.ca.display())
        } else {
            format!("to: 'http://{}/base'{comma}{more}", self.address)
        }
    }

    /// Looks at what was seen.
    pub fn look<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.state.seen.lock().unwrap())
    }

    /// Events of `key` that were taken, once there are so many.
    #[track_caller]
    pub fn wait_for(&self, key: &str, count: usize) -> Vec<String> {
        eventually(&format!("{count} events of {key}"), || {
            let taken = self.look(|seen| {
                let taken = seen.taken.iter().filter(|(of, _)| of == key).map(|(_, event)| event.clone());
                taken.collect::<Vec<_>>()
            });
            if taken.len() >= count { Ok(taken) } else { Err(format!("{} are here", taken.len())) }
        })
    }

    /// All requests, once there are so many.
    #[track_caller]
    pub fn wait_for_requests(&self, count: usize) -> Vec<Asked> {
        eventually(&format!("{count} requests"), || {
            let asked = self.look(|seen| seen.asked.clone());
            if asked.len() >= count { Ok(asked) } else { Err(format!("{} came", asked.len())) }
        })
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        drop(self.listens.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// One life after another, until nobody has a say in it any more.
async fn live(
    first: std::net::TcpListener,
    acceptor: Option<TlsAcceptor>,
    state: Arc<State>,
    mut listens: watch::Receiver<bool>,
) {
    let address = first.local_addr().unwrap();
    let mut listener = TcpListener::from_std(first).unwrap();
    loop {
        tokio::select! {
            () = accept(listener, acceptor.clone(), Arc::clone(&state)) => {}
            stopped = listens.wait_for(|listens| !listens) => if stopped.is_err() { return },
        }
        state.seen.lock().unwrap().listening = false;
        if listens.wait_for(|listens| *listens).await.is_err() {
            return;
        }
        listener = TcpListener::bind(address).await.unwrap();
        state.seen.lock().unwrap().listening = true;
    }
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, state: Arc<State>) {
    let mut tasks = JoinSet::new();
    loop {
        let Ok((tcp, _)) = listener.accept().await else { continue };
        state.seen.lock().unwrap().accepted += 1;
        let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
        tasks.spawn(async move {
            match acceptor {
                None => serve(tcp, state).await,
                Some(acceptor) => {
                    if let Ok(tls) = acceptor.accept(tcp).await {
                        serve(tls, state).await;
                    }
                }
            }
        });
    }
}

async fn serve(stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin, state: Arc<State>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let state = Arc::clone(&state);
        // An error ends the connection; what was not read resets it.
        async move { answer(request, &state).await.ok_or("reset") }
    });
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    drop(served);
}

async fn answer(request: Request<Incoming>, state: &State) -> Option<Response<Full<Bytes>>> {
    let at = Instant::now();
    let headers: BTreeMap<String, String> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.to_str().unwrap().to_owned()))
        .collect();
    let mut asked = Asked {
        at,
        number: 0,
        method: request.method().to_string(),
        path: request.uri().to_string(),
        key: headers.get("x-sekoiaio-intake-key").cloned().unwrap_or_default(),
        headers,
        octets: 0,
        events: Vec::new(),
    };
    let body = request.into_body().collect().await.ok()?.to_bytes();
    asked.octets = body.len();
    if !body.is_empty() {
        let mut text = String::new();
        flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut text).unwrap();
        asked.events = text.split('\n').map(str::to_owned).collect();
    }
    asked.number = {
        let mut seen = state.seen.lock().unwrap();
        seen.asked.push(asked.clone());
        seen.asked.len() - 1
    };
    let take = |taken: &dyn Fn(usize) -> bool| {
        let events = asked.events.iter().enumerate().filter(|(place, _)| taken(*place));
        let events = events.map(|(_, event)| (asked.key.clone(), event.clone()));
        state.seen.lock().unwrap().taken.extend(events);
    };
    let ids: Vec<String> = (0..asked.events.len()).map(|place| format!("id-{}-{place}", asked.number)).collect();
    let ids = serde_json::json!({ "event_ids": ids }).to_string();
    let (status, header, body) = match (state.script)(&asked) {
        Answer::Take => {
            take(&|_| true);
            (202, None, ids)
        }
        Answer::Late(time) => {
            tokio::time::sleep(time).await;
            take(&|_| true);
            (202, None, ids)
        }
        Answer::TakeAndSayLate(time) => {
            take(&|_| true);
            tokio::time::sleep(time).await;
            (202, None, ids)
        }
        Answer::Some(taken, body) => {
            take(&taken);
            (200, None, body)
        }
        Answer::Say(status, header, body) => (status, header, body),
        Answer::Reset => return None,
    };
    let mut response = Response::builder().status(status);
    if let Some((name, value)) = header {
        response = response.header(name, value);
    }
    Some(response.body(Full::new(Bytes::from(body))).unwrap())
}

/// A proxy that knows CONNECT only, and wants these credentials where it is given some.
pub struct Proxy {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Leads wherever it is asked to; runs until the tests end.
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let heads = Arc::clone(&seen);
        thread::spawn(move || {
            listener.set_nonblocking(true).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                let mut tasks = JoinSet::new();
                while let Ok((client, _)) = listener.accept().await {
                    let heads = Arc::clone(&heads);
                    tasks.spawn(async move {
                        let _ended: Option<Infallible> = lead(client, &heads).await;
                    });
                }
            });
        });
        Self { address, seen }
    }

    /// The heads of all requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

async fn lead(mut client: TcpStream, heads: &Mutex<Vec<String>>) -> Option<Infallible> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let to = head.strip_prefix("CONNECT ")?.split(' ').next()?.to_owned();
    heads.lock().unwrap().push(head);
    let mut server = TcpStream::connect(to).await.ok()?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.ok()?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.ok()?;
    None
}
