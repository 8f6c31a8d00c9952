//! The way through an HTTP proxy: CONNECT (RFC 9110 section 9.3.6), after which the connection is the target's.

use std::io;

use hyper::Uri;
use hyper::header::HeaderValue;
use hyper_util::client::proxy::matcher::Matcher;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::config::{Output, Protocol, Proxy, Target};

/// Octets of a proxy's answer: a status line and some headers. Error pages are longer, and not read.
const ANSWER_MAX: usize = 8 * 1024;

/// Octets of its status line that the log is shown.
const SHOWN_MAX: usize = 100;

/// Port of a proxy in the environment that names none, as curl has it.
const DEFAULT_PORT: u16 = 1080;

/// Why a proxy did not let us through.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It said no.
    #[error("it answered \"{0}\"")]
    Answered(String),
    /// What it said is no answer to CONNECT.
    #[error("what it answered is not HTTP")]
    NotHttp,
    /// The environment names one of another kind.
    #[error("the environment's proxy is {0}://, and only http:// is spoken here")]
    Kind(String),
    /// It said nothing in time.
    #[error("it did not answer in time")]
    Late,
    /// The connection to it broke.
    #[error("{0}")]
    Broken(#[from] io::Error),
}

/// A proxy, and what lets us through.
pub(super) struct Via {
    scheme: String,
    host: String,
    port: u16,
    /// `Proxy-Authorization`; never shown.
    credentials: Option<HeaderValue>,
}

impl Via {
    /// The proxy on the way to a target of `output`: its `proxy`, or what `HTTPS_PROXY` and `NO_PROXY` of the environment
    /// say of a target with TLS.
    pub(super) fn to(target: &Target, output: &Output) -> Option<Self> {
        let Protocol::Https(http) = &output.protocol else { return None };
        match &http.proxy {
            Proxy::Off => None,
            Proxy::Url(host, port) => {
                Some(Self { scheme: "http".to_owned(), host: host.clone(), port: *port, credentials: None })
            }
            Proxy::FromEnvironment if output.tls.is_some() => Self::of(&Matcher::from_env(), target),
            Proxy::FromEnvironment => None,
        }
    }

    fn of(matcher: &Matcher, target: &Target) -> Option<Self> {
        let place: Uri = format!("https://{}/", target.address()).parse().ok()?;
        let proxy = matcher.intercept(&place)?;
        let mut credentials = proxy.basic_auth().cloned();
        if let Some(credentials) = &mut credentials {
            credentials.set_sensitive(true);
        }
        let host = proxy.uri().host().unwrap_or_default();
        Some(Self {
            scheme: proxy.uri().scheme_str().unwrap_or("http").to_owned(),
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: proxy.uri().port_u16().unwrap_or(DEFAULT_PORT),
            credentials,
        })
    }

    /// Its name and port.
    pub(super) fn place(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// Asks it, on a connection to it, for a connection to `host`; what is written after this goes there.
    pub(super) async fn open<S>(&self, stream: &mut S, host: &str, port: u16) -> Result<(), Refusal>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if self.scheme != "http" {
            return Err(Refusal::Kind(self.scheme.clone()));
        }
        let to = Target { host: host.to_owned(), port, path: String::new() }.address();
        let mut request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n").into_bytes();
        if let Some(credentials) = &self.credentials {
            request.extend_from_slice(b"Proxy-Authorization: ");
            request.extend_from_slice(credentials.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        stream.write_all(&request).await?;
        stream.flush().await?;
        read_answer(stream).await
    }
}

/// Reads its answer, and not an octet more: what follows is the target's.
async fn read_answer(stream: &mut (impl AsyncRead + Unpin)) -> Result<(), Refusal> {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") && !is_refusal(&answer) {
        if answer.len() >= ANSWER_MAX {
            return Err(Refusal::NotHttp);
        }
        // An octet at a time: a few hundred, once a connection.
        answer.push(stream.read_u8().await?);
    }
    let (line, _) = first_line(&answer).ok_or(Refusal::NotHttp)?;
    match status(line) {
        Some(200..=299) => Ok(()),
        Some(_) => Err(Refusal::Answered(shown(line))),
        None => Err(Refusal::NotHttp),
    }
}

/// Whether its first line is here and says no: the rest is an error page.
fn is_refusal(answer: &[u8]) -> bool {
    first_line(answer).is_some_and(|(line, _)| !matches!(status(line), Some(200..=299)))
}

fn first_line(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = octets.windows(2).position(|two| two == b"\r\n")?;
    octets.split_at_checked(end)
}

/// The code of a status line.
fn status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let code = rest.split(|octet| *octet == b' ').nth(1)?;
    std::str::from_utf8(code).ok()?.parse().ok()
}

/// A line as the log may show it.
fn shown(line: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(line).chars().filter(|char| !char.is_control()).collect();
    text.chars().take(SHOWN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(host: &str) -> Target {
        Target { host: host.to_owned(), port: 443, path: String::new() }
    }

    fn via(all: &str, no: &str, host: &str) -> Option<(String, u16, Option<String>)> {
        let via = Via::of(&Matcher::builder().https(all).no(no).build(), &target(host))?;
        let credentials = via.credentials.map(|value| value.to_str().unwrap().to_owned());
        Some((via.host, via.port, credentials))
    }

    #[test]
    fn the_environment_names_a_proxy_its_credentials_and_who_needs_none() {
        let plain = Some(("proxy.example".to_owned(), 3128, None));
        assert_eq!(via("http://proxy.example:3128", "", "intake.sekoia.io"), plain);
        assert_eq!(via("proxy.example:3128", "other.example", "intake.sekoia.io"), plain);
        let known = Some(("proxy.example".to_owned(), 1080, Some("Basic QWxhZGRpbjpvcGVuc2VzYW1l".to_owned())));
        assert_eq!(via("http://Aladdin:opensesame@proxy.example", "", "intake.sekoia.io"), known);
        assert_eq!(via("http://[::1]:3128", "", "a.example"), Some(("::1".to_owned(), 3128, None)));
        for no in ["sekoia.io", ".sekoia.io", "intake.sekoia.io", "*", "a.example, sekoia.io"] {
            assert_eq!(via("http://proxy.example:3128", no, "intake.sekoia.io"), None, "{no}");
        }
        assert_eq!(via("http://proxy.example:3128", "10.0.0.0/8", "10.1.2.3"), None);
        assert_eq!(via("http://proxy.example:3128", "10.0.0.0/8", "11.1.2.3"), plain);
        assert_eq!(via("", "", "intake.sekoia.io"), None);
    }

    async fn ask(answer: &str) -> (String, Result<(), String>, Vec<u8>) {
        let (mut near, mut far) = tokio::io::duplex(16 * 1024);
        far.write_all(answer.as_bytes()).await.unwrap();
        let credentials = Some(HeaderValue::from_static("Basic c2VjcmV0"));
        let via = Via { scheme: "http".to_owned(), host: "proxy".to_owned(), port: 1, credentials };
        far.shutdown().await.unwrap();
        let opened = via.open(&mut near, "::1", 443).await.map_err(|refusal| refusal.to_string());
        let mut rest = Vec::new();
        near.read_to_end(&mut rest).await.unwrap();
        drop(near);
        let mut asked = String::new();
        far.read_to_string(&mut asked).await.unwrap();
        (asked, opened, rest)
    }

    #[tokio::test]
    async fn connect_asks_for_the_target_and_leaves_what_follows_the_answer() {
        let (asked, opened, rest) = ask("HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\nhello").await;
        assert_eq!(
            asked,
            "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\nProxy-Authorization: Basic c2VjcmV0\r\n\r\n"
        );
        assert_eq!((opened, rest.as_slice()), (Ok(()), b"hello".as_slice()));
    }

    #[tokio::test]
    async fn a_refusal_is_told_without_what_could_harm_a_terminal_and_without_credentials() {
        let (_, opened, _) = ask("HTTP/1.1 407 Proxy \x1b[31mAuthentication Required\r\n\r\nhtml").await;
        assert_eq!(opened.unwrap_err(), "it answered \"HTTP/1.1 407 Proxy [31mAuthentication Required\"");
        assert_eq!(ask("SSH-2.0-x\r\n\r\n").await.1.unwrap_err(), "what it answered is not HTTP");
        let endless = format!("HTTP/1.1 200 ok\r\nx: {}", "y".repeat(ANSWER_MAX));
        assert_eq!(ask(&endless).await.1.unwrap_err(), "what it answered is not HTTP");
        assert!(ask("HTTP/1.1 200 ok\r\n").await.1.is_err());
    }
}
