//! Names to addresses: one resolver for the process, with a thread of its own.
//!
//! A name is asked for once, however many shards want it, and again when its TTL has ended ([`TTL`] bounds it). Whoever
//! asks gives a limit; a server that does not answer holds up the one question about that name, nobody else's, and
//! never two at a time. When the servers fail, the addresses of the last good answer are used, which are kept in the
//! spool's folder as well, and after them those that the configuration names.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use known::Known;
use query::Means;

mod desk;
mod file;
mod known;
mod query;

#[cfg(test)]
pub(crate) mod tests;

/// For how long an answer is believed, whatever its TTL says: at least, and at most.
pub const TTL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// How long a failure is believed: a destination that comes back is seen soon, and a server in trouble is left alone.
const FAILURE_TTL: Duration = Duration::from_secs(3);

/// An answer that is younger is believed even when it is doubted: others may have asked for the same reason.
const YOUNG: Duration = Duration::from_secs(2);

/// How often a connected name is looked at, at least.
const WATCH_EVERY: Duration = Duration::from_secs(30);

/// How long one question may take, whoever waits for it.
const QUESTION_MAX: Duration = Duration::from_secs(15);

/// Names that are remembered: a configuration names far fewer.
const NAMES_MAX: usize = 256;

/// Addresses of a name that are kept.
const ADDRESSES_MAX: usize = 16;

/// Questions on their way to the thread; who finds no room waits, within his limit.
const REQUESTS_MAX: usize = 64;

/// Where an answer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The system's files and servers.
    Dns,
    /// Those fail: the last good answer, followed by the addresses that the configuration names.
    LastGood,
    /// Those fail, and there was no good answer: the addresses that the configuration names.
    Fallback,
}

/// What somebody wants to connect to.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The name.
    pub host: &'a str,
    /// The port at its addresses.
    pub port: u16,
    /// Addresses for when the system has none.
    pub fallback: &'a [IpAddr],
    /// How long to wait for an answer.
    pub limit: Duration,
    /// The addresses of the last answer did not do: whatever its TTL, one that is older than some seconds is asked
    /// for again.
    pub is_doubted: bool,
}

/// Where to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// In the order in which to try them, at least one.
    pub addresses: Vec<SocketAddr>,
    /// Where they come from.
    pub source: Source,
    /// Not to be used for a new connection after that.
    pub expires_at: Instant,
}

/// Why a name has no address.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LookupError {
    /// Servers and files were asked, and this came of it.
    #[error("{0}")]
    Failed(Arc<str>),
    /// Nobody answered within the limit.
    #[error("no answer within {0:?}")]
    Late(Duration),
}

/// The resolver. Clones are handles of the same one; its thread ends with the last of them.
#[derive(Debug, Clone)]
pub struct Names {
    requests: mpsc::Sender<Request>,
    known: Arc<Known>,
}

/// A question for the thread.
#[derive(Debug)]
struct Request {
    host: String,
    is_doubted: bool,
    answer: oneshot::Sender<Reply>,
}

/// What the thread knows of a name.
type Reply = Result<Found, LookupError>;

/// An answer of the system's.
#[derive(Debug, Clone)]
struct Found {
    addresses: Vec<IpAddr>,
    expires_at: Instant,
    /// Of this answer: what came of another question has another.
    serial: u64,
}

impl Names {
    /// Starts it, with the system's configuration. The last good addresses are kept in `folder`, in the file
    /// `names`, where there is one; what is there already is read now.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(folder: Option<PathBuf>) -> io::Result<Self> {
        Self::start_with(folder, Means::system())
    }

    /// The same, with what a relay has kept in `folder`, where nothing is written.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start_reading(folder: Option<PathBuf>) -> io::Result<Self> {
        let known = Known::new(folder.map(|folder| folder.join("names")).as_deref());
        Self::run(Arc::new(known), Means::system(), None)
    }

    /// With servers and a library that are not the system's.
    fn start_with(folder: Option<PathBuf>, means: Means) -> io::Result<Self> {
        let path = folder.map(|folder| folder.join("names"));
        Self::run(Arc::new(Known::new(path.as_deref())), means, path)
    }

    /// `path` is where last good addresses are kept.
    fn run(known: Arc<Known>, means: Means, path: Option<PathBuf>) -> io::Result<Self> {
        let (requests, questions) = mpsc::channel(REQUESTS_MAX);
        let shared = Arc::clone(&known);
        let run = move || desk::run(questions, &shared, &means, path.as_deref());
        thread::Builder::new().name("names".into()).spawn(run)?;
        Ok(Self { requests, known })
    }

    /// How often the resolver has begun anew because of a bug. Each time the questions of the moment failed.
    pub fn restarts(&self) -> u64 {
        self.known.restarts()
    }

    /// Addresses to connect to; when there is no answer within the limit, or none that helps, the last good ones and
    /// then the fallback. Families take turns (RFC 8305 section 4). Cancel-safe.
    ///
    /// # Errors
    /// When there is neither an answer nor an address from before.
    pub async fn lookup(&self, question: Question<'_>) -> Result<Answer, LookupError> {
        let Question { host, port, fallback, limit, is_doubted } = question;
        let error = match self.ask(host, limit, is_doubted).await {
            Ok(Found { addresses, expires_at, .. }) => {
                self.known.say(host, Source::Dns, None);
                let addresses = by_turns(addresses).map(|address| SocketAddr::new(address, port)).collect();
                return Ok(Answer { addresses, source: Source::Dns, expires_at });
            }
            Err(error) => error,
        };
        let last_good = self.known.last_good(host);
        let source = if last_good.is_empty() { Source::Fallback } else { Source::LastGood };
        let mut addresses: Vec<_> = by_turns(last_good).map(|address| SocketAddr::new(address, port)).collect();
        for address in fallback.iter().map(|address| SocketAddr::new(*address, port)) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            return Err(error);
        }
        self.known.say(host, source, Some(&error));
        Ok(Answer { addresses, source, expires_at: Instant::now() + FAILURE_TTL })
    }

    /// Completes when `host` has moved away from `peer`: two different answers in a row do not hold its address.
    ///
    /// One answer alone is no move: names that spread load give a part of their addresses each time. Names that give
    /// ever fewer than half of them are moved from now and then, which costs a new connection and nothing else. A
    /// failure is no answer, and neither are the addresses from before. Asks as TTLs end, every 30 s at least. Cancel-safe.
    pub async fn moved(&self, host: &str, peer: SocketAddr) {
        let (mut missed, mut seen) = (0, None);
        loop {
            let wait = match self.ask(host, QUESTION_MAX, false).await {
                Ok(found) => {
                    if seen != Some(found.serial) {
                        seen = Some(found.serial);
                        let is_there = found.addresses.contains(&peer.ip().to_canonical());
                        missed = if is_there { 0 } else { missed + 1 };
                    }
                    if missed >= 2 {
                        return;
                    }
                    found.expires_at.saturating_duration_since(Instant::now())
                }
                Err(_) => {
                    missed = 0;
                    FAILURE_TTL
                }
            };
            sleep(wait.clamp(TTL.0, WATCH_EVERY)).await;
        }
    }

    /// What the system says, from the cache where it may.
    async fn ask(&self, host: &str, limit: Duration, is_doubted: bool) -> Reply {
        let asked = async {
            let (answer, reply) = oneshot::channel();
            let request = Request { host: host.to_owned(), is_doubted, answer };
            // It begins anew, and whoever has asked asks again: connects are tried for ever.
            let failed = || LookupError::Failed("the resolver has failed".into());
            self.requests.send(request).await.map_err(|_| failed())?;
            reply.await.map_err(|_| failed())?
        };
        timeout(limit, asked).await.unwrap_or(Err(LookupError::Late(limit)))
    }
}

/// One of each family in turn, IPv6 first, each family in its order.
fn by_turns(addresses: Vec<IpAddr>) -> impl Iterator<Item = IpAddr> {
    let (six, four): (Vec<_>, Vec<_>) = addresses.into_iter().partition(IpAddr::is_ipv6);
    let (mut six, mut four) = (six.into_iter(), four.into_iter());
    std::iter::from_fn(move || Some([six.next(), four.next()]))
        .take_while(|pair| pair.iter().any(Option::is_some))
        .flatten()
        .flatten()
}
