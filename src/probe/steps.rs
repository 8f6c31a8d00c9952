//! The steps to each address of each target of each output, timed.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, sleep_until};

use crate::config::{Config, Output, Protocol, Target};
use crate::forward::{Greeting, greet};
use crate::names::{Names, Source};
use crate::road::{ConnectError, Connection, Connector, Steps, Targets};
use crate::time::since_epoch;
use crate::tls::{self, Presented, stamp};

use super::report::{Certificate, Finding, Place, Reached};
use super::{Boxed, advice, all, local};

/// Addresses that are tried at the same time.
const ATTEMPTS_MAX: usize = 32;

/// What Sekoia's FAQ gave as the intake's fixed address for years; firewalls are still pinned to it.
const LONG_PUBLISHED: IpAddr = IpAddr::V4(Ipv4Addr::new(51, 159, 9, 95));

/// A clock that is further off makes certificates and events look wrong.
const SKEW_S_MAX: i64 = 5;

/// What all attempts share.
struct Shared {
    names: Names,
    attempts: Semaphore,
    /// HTTPS requests keep to the configured pace: when the next one may go.
    next_request: Mutex<Instant>,
    request_every: Duration,
}

/// Tries those that are asked for.
pub(super) async fn all_outputs(
    config: &Config,
    clients: &[Option<Arc<tls::Client>>],
    kept: Option<PathBuf>,
    only: Option<&str>,
) -> io::Result<Vec<Finding>> {
    let shared = Shared {
        names: Names::start_reading(kept)?,
        attempts: Semaphore::new(ATTEMPTS_MAX),
        next_request: Mutex::new(Instant::now()),
        request_every: Duration::from_secs(1) / config.http.requests_per_second.max(1),
    };
    let outputs = config.outputs.iter().zip(clients);
    let outputs = outputs.filter(|(output, _)| only.is_none_or(|name| output.name == name));
    let tried = outputs.map(|(output, client)| Box::pin(one_output(output, client.clone(), &shared)) as Boxed<'_, _>);
    Ok(all(tried.collect()).await)
}

async fn one_output(output: &Output, client: Option<Arc<tls::Client>>, shared: &Shared) -> Finding {
    let places = match &output.protocol {
        Protocol::File(file) => vec![local::file(&file.path)],
        _ => {
            let targets = Targets::of(output);
            let connector = Connector::new(output, client.clone(), &targets, &shared.names, None);
            let way = Way { output, client: client.as_deref(), connector: &connector, shared };
            let tried = output.targets.iter().enumerate();
            all(tried.map(|(index, target)| Box::pin(way.place(index, target)) as Boxed<'_, _>).collect()).await
        }
    };
    let works = |place: &Place| match &output.protocol {
        Protocol::File(_) => place.failure.is_none(),
        _ => place.addresses.iter().any(|address| address.failure.is_none()),
    };
    Finding {
        output: output.name.clone(),
        protocol: output.protocol.name(),
        deliverable: places.iter().any(works),
        targets: places,
    }
}

/// The way to one output.
struct Way<'a> {
    output: &'a Output,
    client: Option<&'a tls::Client>,
    connector: &'a Connector<'a>,
    shared: &'a Shared,
}

impl Way<'_> {
    async fn place(&self, index: usize, target: &Target) -> Place {
        let begun = Instant::now();
        let resolved = self.connector.resolve(index).await;
        let proxy = self
            .connector
            .proxy(index)
            .map(|(host, port)| Target { host: host.to_owned(), port, path: String::new() }.address());
        let mut place = Place {
            target: target.address(),
            proxy,
            resolved_by: None,
            resolved_ms: None,
            has_long_published_address: None,
            failure: None,
            notes: Vec::new(),
            addresses: Vec::new(),
        };
        let resolved = match resolved {
            Ok(resolved) => resolved,
            Err(error) => {
                place.failure = Some(advice::of_connect(&error, target));
                return place;
            }
        };
        place.resolved_by = Some(match resolved.source {
            None => "configuration",
            Some(Source::Dns) => "dns",
            Some(Source::LastGood) => "last_good",
            Some(Source::Fallback) => "fallback",
        });
        place.resolved_ms = resolved.source.map(|_| ms(begun.elapsed()));
        let tried = resolved.addresses.iter();
        place.addresses =
            all(tried.map(|peer| Box::pin(self.reach(index, target, *peer)) as Boxed<'_, _>).collect()).await;
        if target.host.ends_with(".sekoia.io") && place.proxy.is_none() {
            let has = resolved.addresses.iter().any(|address| address.ip() == LONG_PUBLISHED);
            place.has_long_published_address = Some(has);
            place.notes.push(of_long_published(has, &resolved.addresses));
        }
        place
    }

    async fn reach(&self, index: usize, target: &Target, peer: SocketAddr) -> Reached {
        let mut reached = Reached { address: peer.to_string(), ..Reached::default() };
        // It is never closed.
        let Ok(_turn) = self.shared.attempts.acquire().await else { return reached };
        if self.output.protocol == Protocol::Udp {
            return self.reach_by_datagrams(target, peer, reached).await;
        }
        let mut steps = Steps::default();
        let connected = self.connector.connect_to(index, peer, &mut steps).await;
        (reached.tcp_ms, reached.proxy_ms, reached.tls_ms) =
            (steps.tcp.map(ms), steps.proxy.map(ms), steps.tls.map(ms));
        match connected {
            Ok(connection) => self.look_at(connection, target, &mut reached).await,
            Err(error) => {
                if matches!(error, ConnectError::Handshake { .. }) {
                    // Left on this thread by the handshake that has just failed.
                    reached.chain = shown(&tls::refused_chain());
                }
                reached.failure = Some(advice::of_connect(&error, target));
            }
        }
        reached.clock = self.clock(&reached);
        reached
    }

    /// What is known of a connection, and what its far end has to say.
    async fn look_at(&self, connection: Connection, target: &Target, reached: &mut Reached) {
        if let Some(session) = connection.stream.session() {
            reached.chain = shown(&session.chain);
            reached.verified = Some(self.verified(target, &session.chain));
            (reached.tls_version, reached.tls_cipher) = (Some(session.version), Some(session.cipher));
        }
        let step = match &self.output.protocol {
            Protocol::Https(_) => {
                let mut next = self.shared.next_request.lock().await;
                sleep_until(*next).await;
                *next = Instant::now() + self.shared.request_every;
                "http"
            }
            Protocol::Relp { .. } => "relp",
            _ => "tls",
        };
        let begun = Instant::now();
        match greet(self.output, self.client, target, connection).await {
            Ok(Greeting { software, status, date }) => {
                reached.answer_ms = (software.is_some() || status.is_some()).then(|| ms(begun.elapsed()));
                (reached.software, reached.http_status) = (software, status);
                reached.clock_ahead_s = date.map(seconds_ahead);
            }
            Err(what) => reached.failure = Some(advice::of_session(what, step, target)),
        }
    }

    async fn reach_by_datagrams(&self, target: &Target, peer: SocketAddr, mut reached: Reached) -> Reached {
        if let Err(source) = crate::road::datagrams_to(peer).await {
            reached.failure = Some(advice::of_connect(&ConnectError::Connect { peer, source }, target));
        }
        reached.clock = Some("cannot be known: UDP has no answers, so that nobody knows who listens either".to_owned());
        reached
    }

    fn verified(&self, target: &Target, chain: &[Presented]) -> String {
        let anchors = match self.output.tls.as_ref().and_then(|tls| tls.ca.as_ref()) {
            Some(path) => format!("an authority of tls.ca ({})", path.display()),
            None => "one of Mozilla's roots".to_owned(),
        };
        let issuer = chain.last().map(|last| format!(" (the chain ends with what {} signed)", last.issuer));
        let name = self.output.server_name(target);
        format!("verified for {name} by {anchors}{}", issuer.unwrap_or_default())
    }

    /// What is known of the clocks.
    fn clock(&self, reached: &Reached) -> Option<String> {
        if let Some(ahead) = reached.clock_ahead_s {
            let by = "by the Date of its answer, to a second or two";
            return Some(match ahead {
                0 => format!("the far end's is ours, {by}"),
                _ if ahead.abs() <= SKEW_S_MAX => format!("the far end's is {ahead:+} s from ours, {by}"),
                _ => format!(
                    "the far end's is {ahead:+} s from ours, {by}: set this machine's (timedatectl), or tell its owner"
                ),
            });
        }
        let leaf = reached.chain.first()?;
        let now = stamp(i64::try_from(since_epoch().as_secs()).unwrap_or(i64::MAX));
        let (from, to) = (&leaf.not_before, &leaf.not_after);
        // Both are stamps in UTC of one form: they compare as they read.
        let words = if reached.failure.is_none() {
            format!("not told; ours ({now}) is within the certificate's time")
        } else if now < *from || now > *to {
            format!(
                "not told; ours ({now}) is outside of the certificate's time ({from} to {to}): one of both is wrong"
            )
        } else {
            return None;
        };
        Some(words)
    }
}

fn of_long_published(has: bool, addresses: &[SocketAddr]) -> String {
    if has && addresses.len() == 1 {
        return format!(
            "{LONG_PUBLISHED} is the address that Sekoia has published for long; it may change without notice"
        );
    }
    let list: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    let found = if has { "is one of several addresses" } else { "is not among the addresses" };
    format!(
        "{LONG_PUBLISHED}, which Sekoia has published for long, {found}: a firewall that is pinned to it has to let {} through, \
         or better the name",
        list.join(", ")
    )
}

fn shown(chain: &[Presented]) -> Vec<Certificate> {
    let now = i64::try_from(since_epoch().as_secs()).unwrap_or(i64::MAX);
    let one = |presented: &Presented| Certificate {
        names: presented.names().to_owned(),
        issuer: presented.issuer.clone(),
        not_before: stamp(presented.not_before),
        not_after: stamp(presented.not_after),
        days_left: presented.not_after.saturating_sub(now).div_euclid(24 * 60 * 60),
    };
    chain.iter().map(one).collect()
}

/// By how much a clock is ahead of ours.
fn seconds_ahead(theirs: SystemTime) -> i64 {
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    match theirs.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(theirs) => seconds(theirs) - seconds(since_epoch()),
        Err(_) => -seconds(since_epoch()),
    }
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}
