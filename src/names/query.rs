//! One question about one name: /etc/hosts, the servers of /etc/resolv.conf, and what the C library knows beyond them.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};
use tracing::{debug, info};

use super::{ADDRESSES_MAX, LookupError, QUESTION_MAX, TTL};

/// Calls of the C library that may hang at the same time. A further one is not made.
pub(super) const LIBRARY_MAX: usize = 2;

/// For how long is believed what comes without a TTL: what the C library says, and files, whose changes are seen.
const NO_TTL: Duration = Duration::from_secs(30);

/// What a server is given at most before it is asked again, or another one is, and how often that happens. The usual
/// 5 s would leave no time for a second within the limits of a connect.
const PATIENCE: (Duration, usize) = (Duration::from_secs(2), 2);

/// What configures the resolver: looked at before each question.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// The C library's way to addresses, which may block for as long as it likes.
pub(super) type Library = fn(&str) -> io::Result<Vec<IpAddr>>;

/// Whom to ask.
#[derive(Debug, Clone)]
pub(super) struct Means {
    /// Servers; `None`: those of the system's files, which are read again when they change.
    pub(super) servers: Option<Vec<SocketAddr>>,
    /// Asked when these find nothing: it may know of modules of the name service switch (mDNS, directories).
    pub(super) library: Option<Library>,
}

impl Means {
    /// Those of the system.
    pub(super) fn system() -> Self {
        Self { servers: None, library: Some(ask_library) }
    }
}

fn ask_library(host: &str) -> io::Result<Vec<IpAddr>> {
    Ok((host, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

/// When the files were changed last; `None` for one that is not there.
type Stamps = [Option<SystemTime>; FILES.len()];

/// Asks. Bound to the runtime on which it was first used.
pub(super) struct Asker {
    means: Means,
    stamps: Option<Stamps>,
    hosts: Arc<Hosts>,
    resolver: Option<TokioResolver>,
    library_calls: Arc<Semaphore>,
}

impl Asker {
    pub(super) fn new(means: Means) -> Self {
        let library_calls = Arc::new(Semaphore::new(LIBRARY_MAX));
        Self { means, stamps: None, hosts: Arc::default(), resolver: None, library_calls }
    }

    /// Reads the system's files where they have changed since the last time. Whether they have.
    pub(super) fn refresh(&mut self) -> bool {
        let stamps = match &self.means.servers {
            None => FILES.map(|path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok()),
            Some(_) => [None; FILES.len()],
        };
        if self.stamps == Some(stamps) {
            return false;
        }
        let is_first = self.stamps.replace(stamps).is_none();
        let built = match &self.means.servers {
            None => {
                self.hosts = Arc::new(Hosts::from_system().unwrap_or_default());
                TokioResolver::builder_tokio()
            }
            Some(servers) => {
                let config = ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(server).collect());
                Ok(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()))
            }
        };
        let built = built.and_then(|mut builder| {
            let options = builder.options_mut();
            options.timeout = options.timeout.min(PATIENCE.0);
            options.attempts = options.attempts.min(PATIENCE.1);
            // The thread keeps answers itself, within bounds of its own; files are looked at before, for both families
            // together, since a host of one of them would wait for a server's word on the other.
            options.cache_size = 0;
            options.use_hosts_file = ResolveHosts::Never;
            builder.build()
        });
        match &built {
            Err(error) => info!("no name servers are configured ({error}): names are what the C library knows"),
            Ok(_) if !is_first => info!("the system's name servers or hosts have changed, and are read again"),
            Ok(_) => {}
        }
        self.resolver = built.ok();
        !is_first
    }

    /// A question, which takes [`QUESTION_MAX`] at most: addresses, and for how long they may be believed.
    pub(super) fn ask(
        &self,
        host: String,
    ) -> impl Future<Output = Result<(Vec<IpAddr>, Duration), LookupError>> + Send + 'static {
        let (hosts, resolver) = (Arc::clone(&self.hosts), self.resolver.clone());
        let (library, calls) = (self.means.library, Arc::clone(&self.library_calls));
        async move {
            if let Some(addresses) = in_hosts(&hosts, &host) {
                return Ok((addresses, NO_TTL));
            }
            let asked = async {
                let error = match resolver {
                    Some(resolver) => match ask_servers(&resolver, &host).await {
                        Ok(found) => return Ok(found),
                        Err(error) => error,
                    },
                    None => failed("no name server is configured"),
                };
                match library {
                    Some(library) => ask_beyond(library, calls, host).await.ok_or(error),
                    None => Err(error),
                }
            };
            let (addresses, ttl) =
                timeout(QUESTION_MAX, asked).await.map_err(|_| LookupError::Late(QUESTION_MAX))??;
            Ok((addresses, ttl.clamp(TTL.0, TTL.1)))
        }
    }
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let with_port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    NameServerConfig::new(
        address.ip(),
        true,
        vec![with_port(ConnectionConfig::udp()), with_port(ConnectionConfig::tcp())],
    )
}

fn failed(why: impl Into<Arc<str>>) -> LookupError {
    LookupError::Failed(why.into())
}

fn in_hosts(hosts: &Hosts, host: &str) -> Option<Vec<IpAddr>> {
    let name: Name = host.to_ascii_lowercase().parse().ok()?;
    let of_kind = |kind| hosts.lookup_static_host(&Query::query(name.clone(), kind));
    let found = [RecordType::AAAA, RecordType::A].into_iter().filter_map(of_kind);
    let addresses =
        found.flat_map(|lookup| lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect::<Vec<_>>());
    let addresses: Vec<IpAddr> = addresses.take(ADDRESSES_MAX).collect();
    (!addresses.is_empty()).then_some(addresses)
}

async fn ask_servers(resolver: &TokioResolver, host: &str) -> Result<(Vec<IpAddr>, Duration), LookupError> {
    let found = resolver.lookup_ip(host).await.map_err(|error| match error {
        error if error.is_no_records_found() => failed("the name servers know no address of it"),
        NetError::Timeout => failed("the name servers do not answer"),
        error => failed(error.to_string()),
    })?;
    let addresses: Vec<IpAddr> = found.iter().take(ADDRESSES_MAX).collect();
    if addresses.is_empty() {
        return Err(failed("the name servers know no address of it"));
    }
    let ttl = Instant::from_std(found.valid_until()).saturating_duration_since(Instant::now());
    Ok((addresses, ttl))
}

/// What the C library knows. It cannot be cancelled: a call that hangs keeps its permit, and no more are made than
/// there are permits.
async fn ask_beyond(library: Library, calls: Arc<Semaphore>, host: String) -> Option<(Vec<IpAddr>, Duration)> {
    let Ok(permit) = calls.try_acquire_owned() else {
        debug!(%host, "the C library is not asked: earlier calls hang");
        return None;
    };
    let call = spawn_blocking(move || {
        let found = library(&host);
        drop(permit);
        found
    });
    let mut addresses = call.await.ok()?.ok()?;
    addresses.dedup();
    addresses.truncate(ADDRESSES_MAX);
    (!addresses.is_empty()).then_some((addresses, NO_TTL))
}
