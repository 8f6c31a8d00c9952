//! The operator's end: asks an admin server, over TCP or a unix socket.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::AdminToken;
use crate::tls;

use super::listen::Octets;
pub use super::query::encode;

/// How long connecting may take, and the head of an answer, which `/top` gives after its seconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// A tap says something every 15 s; a relay that does not is gone, or hangs.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// Octets of a whole answer at most.
const ANSWER_MAX: usize = 16 * 1024 * 1024;

/// Where an admin server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `HOST:PORT`, IPv6 addresses in brackets.
    Tcp(String),
    /// The same, by TLS.
    Tls(String),
    /// A unix socket.
    Unix(PathBuf),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody is there.
    #[error("cannot connect to {place}: {source}")]
    Connect {
        /// Where.
        place: Place,
        /// Why not.
        source: io::Error,
    },
    /// What is there does not speak HTTP, or stopped in the middle.
    #[error("{place} gives no answer: {why}")]
    Answer {
        /// Where.
        place: Place,
        /// What happened.
        why: String,
    },
    /// It answers, and refuses.
    #[error("{words}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its own words.
        words: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(formatter, "http://{address}"),
            Self::Tls(address) => write!(formatter, "https://{address}"),
            Self::Unix(path) => write!(formatter, "unix://{}", path.display()),
        }
    }
}

impl std::str::FromStr for Place {
    type Err = String;

    /// `http://HOST:PORT`, `https://HOST:PORT`, `HOST:PORT`, `unix:///PATH` or `/PATH`.
    fn from_str(text: &str) -> Result<Self, String> {
        let path = text.strip_prefix("unix://").unwrap_or(text);
        if path.starts_with('/') {
            return Ok(Self::Unix(Path::new(path).to_path_buf()));
        }
        let by_tls = text.strip_prefix("https://");
        let address = by_tls.or(text.strip_prefix("http://")).unwrap_or(text).trim_end_matches('/');
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none() || address.contains(['/', '@', ' ']) {
            return Err(format!("found \"{text}\", expected http://HOST:PORT, https://HOST:PORT or unix:///PATH"));
        }
        Ok(if by_tls.is_some() { Self::Tls(address.to_owned()) } else { Self::Tcp(address.to_owned()) })
    }
}

/// Asks one admin server. Each question has a connection of its own.
pub struct Client {
    place: Place,
    runtime: Runtime,
    /// When all has to be over.
    until: Option<Instant>,
    /// What opens the door.
    token: Option<AdminToken>,
    tls: Option<tls::Client>,
}

/// An answer that is being read.
pub struct Answer<'a> {
    client: &'a Client,
    body: Incoming,
    connection: JoinHandle<()>,
    /// Read, and not given out.
    rest: Vec<u8>,
}

impl Client {
    /// Asks nothing yet.
    ///
    /// # Errors
    /// When the process is out of files or memory.
    pub fn new(place: Place) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { place, runtime, until: None, token: None, tls: None })
    }

    /// The same, for whom all that it asks is over by `deadline`.
    #[must_use]
    pub fn until(self, deadline: Instant) -> Self {
        Self { until: Some(deadline), ..self }
    }

    /// The same, with a token that it shows.
    #[must_use]
    pub fn with_token(self, token: Option<AdminToken>) -> Self {
        Self { token, ..self }
    }

    /// The same, with whom it trusts and what it presents over TLS.
    #[must_use]
    pub fn with_tls(self, tls: Option<tls::Client>) -> Self {
        Self { tls, ..self }
    }

    /// Whom it asks.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// `GET`: the whole answer.
    ///
    /// # Errors
    /// See [`AskError`].
    pub fn get(&self, path: &str) -> Result<String, AskError> {
        self.whole(self.open(path)?)
    }

    /// `POST`, with nothing in it: the whole answer.
    ///
    /// # Errors
    /// See [`AskError`].
    pub fn post(&self, path: &str) -> Result<String, AskError> {
        self.whole(self.open_with(Method::POST, path)?)
    }

    fn whole(&self, mut answer: Answer<'_>) -> Result<String, AskError> {
        let mut whole = Vec::new();
        while let Some(chunk) = answer.next_chunk()? {
            whole.extend_from_slice(&chunk);
            if whole.len() > ANSWER_MAX {
                return Err(self.no_answer("it is too long"));
            }
        }
        String::from_utf8(whole).map_err(|_| self.no_answer("it is no text"))
    }

    /// `GET`: an answer that may go on.
    ///
    /// # Errors
    /// See [`AskError`].
    pub fn open(&self, path: &str) -> Result<Answer<'_>, AskError> {
        self.open_with(Method::GET, path)
    }

    fn open_with(&self, method: Method, path: &str) -> Result<Answer<'_>, AskError> {
        let asked = self.runtime.block_on(async { timeout(self.at_most(PATIENCE), self.ask(method, path)).await });
        let (response, connection) = asked.map_err(|_| self.no_answer("it took too long"))??;
        let status = response.status();
        let mut answer = Answer { client: self, body: response.into_body(), connection, rest: Vec::new() };
        if status.is_success() {
            return Ok(answer);
        }
        let mut words = Vec::new();
        while let Some(chunk) = answer.next_chunk()? {
            words.extend_from_slice(&chunk);
            if words.len() > ANSWER_MAX {
                break;
            }
        }
        let words = String::from_utf8_lossy(&words).trim().to_owned();
        Err(AskError::Refused { status: status.as_u16(), words })
    }

    async fn ask(&self, method: Method, path: &str) -> Result<(Response<Incoming>, JoinHandle<()>), AskError> {
        let unreachable = |source| AskError::Connect { place: self.place.clone(), source };
        let stream: std::pin::Pin<Box<dyn Octets>> = match &self.place {
            Place::Tcp(address) => Box::pin(TcpStream::connect(address.as_str()).await.map_err(unreachable)?),
            Place::Tls(address) => {
                let stream = TcpStream::connect(address.as_str()).await.map_err(unreachable)?;
                Box::pin(self.secure(stream, address).await?)
            }
            Place::Unix(path) => Box::pin(UnixStream::connect(path).await.map_err(unreachable)?),
        };
        let failed = |error: hyper::Error| self.no_answer(&error.to_string());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        let connection = self.runtime.spawn(async move {
            // What ends it ends the answer as well, which says so.
            drop(connection.await);
        });
        let host = match &self.place {
            Place::Tcp(address) | Place::Tls(address) => address.as_str(),
            Place::Unix(_) => "localhost",
        };
        let mut request = Request::builder().method(method).uri(path).header(HOST, host);
        if let Some(token) = &self.token {
            let value = HeaderValue::from_bytes(&[b"Bearer ", token.expose()].concat());
            let mut value = value.map_err(|error| self.no_answer(&error.to_string()))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.body(Empty::<Bytes>::new());
        let request = request.map_err(|error| self.no_answer(&error.to_string()))?;
        let response = sender.send_request(request).await.map_err(failed)?;
        Ok((response, connection))
    }

    async fn secure(&self, stream: TcpStream, address: &str) -> Result<TlsStream<TcpStream>, AskError> {
        let Some(tls) = &self.tls else { return Err(self.no_answer("nobody said whom to trust")) };
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(|error| self.no_answer(&error.to_string()))?;
        let shaken = TlsConnector::from(tls.config()).connect(name, stream).await;
        shaken.map_err(|error| self.no_answer(&tls.explain(&error)))
    }

    fn at_most(&self, usual: Duration) -> Duration {
        self.until.map_or(usual, |until| usual.min(until.saturating_duration_since(Instant::now())))
    }

    fn no_answer(&self, why: &str) -> AskError {
        AskError::Answer { place: self.place.clone(), why: why.to_owned() }
    }
}

impl Answer<'_> {
    /// The next octets; `None` at the answer's end.
    ///
    /// # Errors
    /// When the connection breaks, or nothing comes for 45 s.
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>, AskError> {
        loop {
            let frame = self
                .client
                .runtime
                .block_on(async { timeout(self.client.at_most(SILENCE_MAX), self.body.frame()).await });
            let frame = frame.map_err(|_| self.client.no_answer("it has fallen silent"))?;
            match frame.transpose() {
                Ok(None) => return Ok(None),
                Ok(Some(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Err(error) => return Err(self.client.no_answer(&error.to_string())),
            }
        }
    }

    /// The whole lines that have come, at least one, without their ends; `None` at the answer's end. Empty ones are left out.
    ///
    /// # Errors
    /// As [`Self::next_chunk`].
    pub fn next_lines(&mut self) -> Result<Option<Vec<String>>, AskError> {
        loop {
            let Some(chunk) = self.next_chunk()? else { return Ok(None) };
            self.rest.extend_from_slice(&chunk);
            let Some(end) = memchr::memrchr(b'\n', &self.rest) else { continue };
            let whole: Vec<u8> = self.rest.drain(..=end).collect();
            let lines = whole.split(|octet| *octet == b'\n').filter(|line| !line.is_empty());
            let lines: Vec<String> = lines.map(|line| String::from_utf8_lossy(line).into_owned()).collect();
            if !lines.is_empty() {
                return Ok(Some(lines));
            }
        }
    }
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_url_or_what_stands_in_one() {
        let tcp = |address: &str| Ok(Place::Tcp(address.to_owned()));
        let rows = [
            ("http://127.0.0.1:9514", tcp("127.0.0.1:9514")),
            ("http://relay:9514/", tcp("relay:9514")),
            ("[::1]:9514", tcp("[::1]:9514")),
            ("unix:///run/forebay/admin.sock", Ok(Place::Unix("/run/forebay/admin.sock".into()))),
            ("https://relay:9514/", Ok(Place::Tls("relay:9514".to_owned()))),
            ("/run/admin", Ok(Place::Unix("/run/admin".into()))),
        ];
        for (text, expected) in rows {
            assert_eq!(text.parse(), expected);
        }
        for text in
            ["", "relay", "https://relay", "http://relay", "http://a@b:1", "relay:65536", "http://relay:1/metrics"]
        {
            let wrong = text.parse::<Place>().unwrap_err();
            assert!(wrong.contains("expected http://HOST:PORT, https://HOST:PORT or unix:///PATH"), "{wrong}");
        }
    }
}
