//! The demo's messages: what a resolver, a web server, ssh and two firewalls might say, and their way into the relay.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context;
use crossbeam_channel as channel;
use jiff::{Timestamp, Zoned};

/// A relay on the same machine takes a message at once; one that does not is broken.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// The messages' pace, so that they can be watched; and how long all of them take at most.
const PACE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));

/// How a message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    /// RFC 3164 in a datagram.
    Udp3164,
    /// RFC 5424 in a datagram.
    Udp5424,
    /// RFC 3164 and a line feed in a stream (RFC 6587 section 3.4.2).
    Tcp3164,
    /// RFC 5424 behind its octet count in a stream (RFC 6587 section 3.4.1).
    Tcp5424,
}

impl Via {
    /// For people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Udp3164 => "udp 3164",
            Self::Udp5424 => "udp 5424",
            Self::Tcp3164 => "tcp 3164",
            Self::Tcp5424 => "tcp 5424",
        }
    }
}

/// What a program says; `{n}` in its text is the message's number.
#[derive(Debug)]
struct Sentence {
    via: Via,
    /// Of `forebay.yaml`.
    route: &'static str,
    pri: u8,
    hostname: &'static str,
    /// With RFC 3164, how the TAG says it.
    app_name: &'static str,
    procid: u32,
    text: &'static str,
}

/// The route that discards.
const DISCARDING: &str = "cron";

/// Ten messages, told again and again under other numbers.
static SENTENCES: [Sentence; 10] = [
    sentence(Via::Udp3164, "unbound", 30, "ns-1", "unbound", 812, "10.20.0.7 host{n}.example. A IN"),
    sentence(Via::Tcp5424, "sshd", 38, "web-2", "sshd", 4211, "Accepted publickey for ada, key {n}"),
    sentence(Via::Tcp3164, "nginx", 190, "web-2", "nginx", 0, "10.20.2.9 \"GET /orders/{n}\" 200 512"),
    sentence(Via::Udp3164, "firewall", 134, "fw-1", "filterlog", 0, "4,,,igb0,match,block,in,tcp,{n},22"),
    sentence(Via::Udp5424, "unbound", 30, "ns-2", "unbound", 799, "10.20.0.9 host{n}.example. AAAA IN"),
    sentence(Via::Udp3164, DISCARDING, 78, "web-2", "CRON", 977, "(root) CMD (run-parts, number {n})"),
    sentence(Via::Tcp3164, "sshd", 35, "web-1", "sshd", 4377, "error: too many attempts by eve, {n}"),
    sentence(Via::Tcp5424, "default", 22, "mail-1", "postfix/smtpd", 1502, "connect from mx{n}.example"),
    sentence(Via::Tcp5424, "nginx", 187, "web-1", "nginx", 655, "upstream timed out, request {n}"),
    sentence(Via::Udp3164, "firewall", 4, "fw-2", "kernel", 0, "DROP IN=eth0 SRC=198.51.100.9 DPT={n}"),
];

const fn sentence(
    via: Via,
    route: &'static str,
    pri: u8,
    hostname: &'static str,
    app_name: &'static str,
    procid: u32,
    text: &'static str,
) -> Sentence {
    Sentence { via, route, pri, hostname, app_name, procid, text }
}

/// One message.
#[derive(Debug)]
pub(super) struct Sample {
    /// How it goes in.
    pub(super) via: Via,
    /// Which route must take it.
    pub(super) route: &'static str,
    /// Its MSG, blanks in front cut off: unlike every other's, so that its arrival can be told.
    pub(super) text: String,
    /// When it was handed to the kernel.
    pub(super) sent_at: OnceLock<Instant>,
    sentence: &'static Sentence,
}

impl Sample {
    /// Whether it never arrives anywhere, because its route discards it.
    pub(super) fn is_discarded(&self) -> bool {
        self.route == DISCARDING
    }

    /// As its sender writes it, without framing. The stamps are of this moment.
    fn message(&self) -> String {
        let Sentence { via, pri, hostname, app_name, procid, .. } = self.sentence;
        let text = &self.text;
        match via {
            Via::Udp3164 | Via::Tcp3164 => {
                let stamp = Zoned::now().strftime("%b %e %H:%M:%S").to_string();
                let pid = if *procid > 0 { format!("[{procid}]") } else { String::new() };
                format!("<{pri}>{stamp} {hostname} {app_name}{pid}: {text}")
            }
            Via::Udp5424 | Via::Tcp5424 => {
                let now = Timestamp::now();
                format!("<{pri}>1 {now:.6} {hostname} {app_name} {procid} - - {text}")
            }
        }
    }
}

/// The first `count` messages.
pub(super) fn samples(count: u32) -> Arc<[Sample]> {
    let sample = |(number, sentence): (u32, &'static Sentence)| Sample {
        via: sentence.via,
        route: sentence.route,
        text: sentence.text.replace("{n}", &number.to_string()),
        sent_at: OnceLock::new(),
        sentence,
    };
    (1..=count).zip(SENTENCES.iter().cycle()).map(sample).collect()
}

/// Where the relay listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    /// UDP port on loopback.
    pub(super) udp: u16,
    /// TCP port on loopback.
    pub(super) tcp: u16,
}

/// Sends all samples, one after the other at a pace that can be watched. Ends early once `stop`'s other end is dropped.
pub(super) fn send(samples: &[Sample], ports: Ports, stop: &channel::Receiver<()>) -> anyhow::Result<()> {
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot open a UDP socket on 127.0.0.1")?;
    let udp_to = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.udp));
    // One framing a connection, as real senders have it.
    let mut lines = connect(ports.tcp)?;
    let mut counted = connect(ports.tcp)?;
    let pace = PACE.0.min(PACE.1 / u32::try_from(samples.len()).unwrap_or(u32::MAX).max(1));
    let ticks = channel::tick(pace);
    for sample in samples {
        channel::select! {
            recv(ticks) -> _ => {}
            recv(stop) -> _ => return Ok(()),
        }
        let message = sample.message();
        let framed = match sample.via {
            Via::Udp3164 | Via::Udp5424 => message,
            Via::Tcp3164 => format!("{message}\n"),
            Via::Tcp5424 => format!("{} {message}", message.len()),
        };
        // Before it is sent: its arrival may be seen before the call returns. A message is sent once.
        let _first = sample.sent_at.set(Instant::now());
        let sent = match sample.via {
            Via::Udp3164 | Via::Udp5424 => udp.send_to(framed.as_bytes(), udp_to).map(drop),
            Via::Tcp3164 => lines.write_all(framed.as_bytes()),
            Via::Tcp5424 => counted.write_all(framed.as_bytes()),
        };
        sent.with_context(|| format!("cannot send a sample message ({})", sample.via.name()))?;
    }
    Ok(())
}

fn connect(port: u16) -> anyhow::Result<TcpStream> {
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&to, SEND_TIMEOUT).with_context(|| format!("cannot connect to {to}"))?;
    stream.set_write_timeout(Some(SEND_TIMEOUT))?;
    Ok(stream)
}
