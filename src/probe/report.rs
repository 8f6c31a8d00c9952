//! What was found, for programs (serde) and for people.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

/// What an output came to.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// The `outputs:` entry.
    pub output: String,
    /// `syslog`, `udp`, `relp`, `https` or `file`.
    pub protocol: &'static str,
    /// Messages can be delivered: one address of one target answers as it should.
    pub deliverable: bool,
    /// Each target.
    pub targets: Vec<Place>,
}

/// What a target came to.
#[derive(Debug, Clone, Serialize)]
pub struct Place {
    /// `HOST:PORT`, or a file's path.
    pub target: String,
    /// `HOST:PORT` of the proxy on the way there, whose addresses are tried then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// Where the addresses come from: `dns`, `last_good`, `fallback` or `configuration`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved_by: Option<&'static str>,
    /// How long that took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved_ms: Option<f64>,
    /// With a name of Sekoia's: whether 51.159.9.95 is among its addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub has_long_published_address: Option<bool>,
    /// Why there are no addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What is to be known besides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Each address.
    pub addresses: Vec<Reached>,
}

/// What an address came to. Times are milliseconds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Reached {
    /// `ADDRESS:PORT`
    pub address: String,
    /// TCP's handshake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_ms: Option<f64>,
    /// The proxy's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_ms: Option<f64>,
    /// TLS's handshake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_ms: Option<f64>,
    /// The answer to RELP's offers, or to a HEAD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_ms: Option<f64>,
    /// `TLS 1.3`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_version: Option<String>,
    /// Its cipher suite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cipher: Option<String>,
    /// What was presented, whether trusted or not, the far end's own first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<Certificate>,
    /// Whom it was verified by and for which name; absent where it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<String>,
    /// What a RELP server says it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub software: Option<String>,
    /// The status of a HEAD's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// By how many seconds the far end's clock is ahead of ours, where it says what time it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_ahead_s: Option<i64>,
    /// What is known of the clocks, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<String>,
    /// Why it cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// A certificate as it was presented.
#[derive(Debug, Clone, Serialize)]
pub struct Certificate {
    /// Whom it is for: its alternative names, or its subject.
    pub names: String,
    /// Who signed it.
    pub issuer: String,
    /// In UTC.
    pub not_before: String,
    /// In UTC.
    pub not_after: String,
    /// Whole days; negative once it has expired.
    pub days_left: i64,
}

/// What went wrong.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    /// Where: `resolve`, `connect`, `proxy`, `tls`, `relp`, `http`, `file`.
    pub step: &'static str,
    /// What happened.
    pub what: String,
    /// What to do next.
    pub next: String,
}

impl Display for Finding {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let verdict = if self.deliverable { "ok" } else { "FAILED" };
        writeln!(out, "{} ({}): {verdict}", self.output, self.protocol)?;
        self.targets.iter().try_for_each(|place| place.fmt(out))
    }
}

impl Display for Place {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "  {}", self.target)?;
        if let Some(proxy) = &self.proxy {
            write!(out, " through the proxy {proxy}")?;
        }
        let count = self.addresses.len();
        let plural = if count == 1 { "address" } else { "addresses" };
        match (self.resolved_by, self.resolved_ms) {
            (Some("configuration"), _) | (None, _) => out.write_str("\n")?,
            (Some(source), ms) => {
                let source = match source {
                    "dns" => "the system's resolver",
                    "last_good" => "the last good answer; the resolver does not answer, or knows none",
                    _ => "fallback_addresses; the resolver does not answer, or knows none",
                };
                writeln!(out, ": {count} {plural} in {} from {source}", Ms(ms.unwrap_or_default()))?;
            }
        }
        if let Some(failure) = &self.failure {
            write_failure(out, "    ", failure)?;
        }
        self.addresses.iter().try_for_each(|address| address.fmt(out))?;
        self.notes.iter().try_for_each(|note| writeln!(out, "    note: {note}"))
    }
}

impl Display for Reached {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let steps = [
            ("TCP", self.tcp_ms),
            ("proxy", self.proxy_ms),
            ("TLS", self.tls_ms),
            (if self.http_status.is_some() { "HTTP" } else { "RELP" }, self.answer_ms),
        ];
        let steps: Vec<String> = steps.iter().filter_map(|(name, ms)| Some(format!("{name} {}", Ms((*ms)?)))).collect();
        let verdict = if self.failure.is_none() { "ok" } else { "FAILED" };
        let colon = if steps.is_empty() { "" } else { ": " };
        writeln!(out, "    {} {verdict}{colon}{}", self.address, steps.join(", "))?;
        if let (Some(version), Some(cipher)) = (&self.tls_version, &self.tls_cipher) {
            writeln!(out, "      {version}, {cipher}")?;
        }
        for Certificate { names, issuer, not_before, not_after, days_left } in &self.chain {
            let left = match days_left {
                0.. => format!("{days_left} days left"),
                _ => format!("expired {} days ago", -days_left),
            };
            writeln!(out, "      certificate for {names}, issued by {issuer}, {not_before} to {not_after}, {left}")?;
        }
        if let Some(verified) = &self.verified {
            writeln!(out, "      {verified}")?;
        }
        if let Some(software) = &self.software {
            let software = if software.is_empty() { "a server that does not say what it is" } else { software };
            writeln!(out, "      RELP version 0, {software}")?;
        }
        if let Some(status) = self.http_status {
            writeln!(out, "      HEAD was answered with {status}: any status shows that HTTP is spoken")?;
        }
        if let Some(clock) = &self.clock {
            writeln!(out, "      clock: {clock}")?;
        }
        self.failure.iter().try_for_each(|failure| write_failure(out, "      ", failure))
    }
}

fn write_failure(out: &mut Formatter<'_>, indent: &str, failure: &Failure) -> fmt::Result {
    let Failure { step, what, next } = failure;
    writeln!(out, "{indent}{step}: {what}\n{indent}next: {next}")
}

/// Milliseconds, for people.
struct Ms(f64);

impl Display for Ms {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        if self.0 < 10.0 { write!(out, "{:.1} ms", self.0) } else { write!(out, "{:.0} ms", self.0) }
    }
}
