//! `forebay health`: asks a running relay how it is, where there is no curl to do it: in a container, from cron.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use crate::config::{self, Source, limits};

use super::run::EXIT_RUNTIME;
use super::{Configuration, print, say};

/// What is read of an answer: its head, and a line for each shard that is late.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, Args)]
pub(super) struct Health {
    #[command(flatten)]
    configuration: Configuration,
    /// Where the relay's admin server is, such as http://127.0.0.1:9514; by default as the configuration or FOREBAY_ADMIN
    /// says.
    #[arg(long, value_name = "URL", value_parser = address)]
    admin: Option<SocketAddr>,
    /// Asks whether every shard turns (/livez), and not whether the relay is ready (/readyz).
    #[arg(long)]
    live: bool,
    /// How many seconds all of it may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    timeout: u64,
}

/// Prints one line; 0 where all is well, 1 where not, or where nobody answers in time.
pub(super) fn health(options: &Health) -> ExitCode {
    let deadline = Instant::now() + Duration::from_secs(options.timeout);
    let path = if options.live { "/livez" } else { "/readyz" };
    let asked = options.address().and_then(|address| {
        ask(address, path, deadline).map_err(|error| format!("no answer from http://{address}{path}: {error}"))
    });
    match asked {
        Ok((200, what)) => {
            print(&format!("{what}\n"));
            ExitCode::SUCCESS
        }
        Ok((_, why)) | Err(why) => {
            say(&format!("{why}\n"));
            ExitCode::from(EXIT_RUNTIME)
        }
    }
}

impl Health {
    fn address(&self) -> Result<SocketAddr, String> {
        if let Some(address) = self.admin {
            return Ok(address);
        }
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let address = match &self.configuration.config {
            Some(path) => {
                let loaded = config::load(&Source::from_path(path), &variable).map_err(|report| {
                    let first = report.to_string().lines().next().unwrap_or_default().to_owned();
                    format!("the configuration does not say where to ask, give --admin URL: {first}")
                })?;
                loaded.config.admin
            }
            None => match variable("FOREBAY_ADMIN").as_deref() {
                Some("off") => None,
                given => Some(address(given.unwrap_or(limits::ADMIN))?),
            },
        };
        address.map(reachable).ok_or_else(|| "admin.listen is off: there is nobody to ask".to_owned())
    }
}

/// `http://ADDRESS:PORT` or `ADDRESS:PORT`. No names: who asks is on the same machine, and names take a resolver.
fn address(url: &str) -> Result<SocketAddr, String> {
    let bare = url.strip_prefix("http://").unwrap_or(url);
    let bare = bare.strip_suffix('/').unwrap_or(bare);
    let local = bare.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let parsed = local.as_deref().unwrap_or(bare).parse();
    parsed.map(reachable).map_err(|_| format!("found \"{url}\", expected http://ADDRESS:PORT"))
}

/// Who listens on all addresses is found on loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// Status code, and the body in one line.
fn ask(to: SocketAddr, path: &str, deadline: Instant) -> io::Result<(u16, String)> {
    // A limit of nothing would be none.
    let left = || deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let mut stream = TcpStream::connect_timeout(&to, left())?;
    stream.set_write_timeout(Some(left()))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 1024]);
    loop {
        if Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left()))?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if answer.len() as u64 > ANSWER_BYTES_MAX {
            return Err(io::Error::other("it is no relay's answer"));
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let code = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
    let code = code.ok_or_else(|| io::Error::other("it is no relay's answer"))?;
    Ok((code, body.lines().collect::<Vec<_>>().join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_with_and_without_its_scheme() {
        let rows = [
            ("http://127.0.0.1:9514", "127.0.0.1:9514"),
            ("http://127.0.0.1:9514/", "127.0.0.1:9514"),
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("localhost:9514", "127.0.0.1:9514"),
            ("10.0.0.7:1", "10.0.0.7:1"),
        ];
        for (url, expected) in rows {
            assert_eq!(address(url).map(|address| address.to_string()), Ok(expected.to_owned()), "{url}");
        }
        for url in ["", "127.0.0.1", "https://127.0.0.1:1", "relay:9514", "http://127.0.0.1:1/livez"] {
            assert!(address(url).is_err(), "{url}");
        }
    }
}
