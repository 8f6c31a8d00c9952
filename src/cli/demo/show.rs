//! What the demo prints: lines of at most a hundred columns, in colour on a terminal only, never with a key in them.

use std::io::Write;
use std::time::Duration;

use crate::config::Action;
use crate::relay::Relay;

use crate::cli::paint::{Paint, Style};

use super::Totals;
use super::samples::{Ports, Via};

/// Columns of a line.
const WIDTH: usize = 100;

/// What stands in a key's place.
const MASK: &str = "****";

/// What stands in front of a key in a rendered message.
const KEY_OPENS: &str = "intake_key=\"";

/// Standard output.
pub(super) struct Screen {
    paint: Paint,
    /// The reader has closed the pipe (`forebay demo | head`): nobody looks any more.
    pub(super) is_closed: bool,
}

/// A message to print.
pub(super) struct Line<'a> {
    /// How the demo sent it; `None`: it was the reader.
    pub(super) via: Option<Via>,
    /// From sending to arrival, where known.
    pub(super) latency: Option<Duration>,
    /// The route whose key it carries; `None` where the key is no route's.
    pub(super) route: Option<&'a str>,
    /// As it arrived.
    pub(super) message: &'a str,
}

impl Screen {
    /// Nothing is printed yet.
    pub(super) fn new() -> Self {
        Self { paint: Paint::of_stdout(), is_closed: false }
    }

    /// What runs where.
    pub(super) fn introduction(&mut self, relay: &Relay, collector_port: u16, messages: usize) {
        let listening: Vec<&str> = relay.listening.iter().map(|(_, url)| url.as_str()).collect();
        let title = self.styled(Style::Bold, "forebay demo");
        self.line(&format!("{title}: a relay, and a TLS collector in Sekoia's place. Nothing leaves this machine."));
        self.line("");
        self.line(&format!("  syslog in   {}", listening.join("  ")));
        let collector = format!("  collector   tls://127.0.0.1:{collector_port}");
        self.line(&format!("{collector}  (a certificate made for this run, and verified)"));
        if let Some(admin) = relay.admin {
            self.line(&format!("  watching    http://{admin}/status  http://{admin}/metrics"));
        }
        self.line("");
        self.line(&format!(
            "Sending {messages} sample messages, RFC 3164 and RFC 5424, over UDP and TCP. What arrives:"
        ));
        self.line("");
        let header = format!("{:<8} {:>10}  {:<8}  {:<17}  message", "sent by", "latency", "route", "its key");
        self.line(&self.styled(Style::Dim, &header));
    }

    /// One message that arrived.
    pub(super) fn arrived(&mut self, line: &Line<'_>) {
        let via = format!("{:<8}", line.via.map_or("you", Via::name));
        let latency = format!("{:>10}", line.latency.map(milliseconds).unwrap_or_default());
        let route = match line.route {
            Some(route) => self.styled(Style::Green, &format!("{route:<8}")),
            None => self.styled(Style::Red, "unknown "),
        };
        let key = format!("{KEY_OPENS}{MASK}\"");
        let key = self.styled(Style::Yellow, &format!("{key:<17}"));
        let before = 8 + 1 + 10 + 2 + 8 + 2 + 17 + 2;
        let message = fit(&in_short(line.message), WIDTH - before);
        let (via, latency) = (self.styled(Style::Cyan, &via), self.styled(Style::Dim, &latency));
        self.line(&format!("{via} {latency}  {route}  {key}  {message}"));
    }

    /// A message with everything in it but the key.
    pub(super) fn whole(&mut self, message: &str) {
        self.line("");
        self.line("The first one, whole, as the collector read it (only the key is masked):");
        for part in wrap(&mask(message), WIDTH - 2) {
            self.line(&format!("  {part}"));
        }
    }

    /// The books of inputs and routes.
    pub(super) fn ledger(&mut self, relay: &Relay) {
        let meters = relay.meters();
        self.line("");
        self.line(&self.styled(Style::Bold, "The ledger: every message ends in exactly one place"));
        for meters in meters.inputs.iter() {
            let (received, routed) = (meters.received.value(), meters.routed.value());
            let rejected = meters.rejected_oversize.value() + meters.rejected_peer.value();
            let (discarded, unmatched) = (meters.discarded.value(), meters.unmatched.value());
            self.line(&format!(
                "  received {received} = routed {routed} + discarded {discarded} + unmatched {unmatched} \
                 + rejected {rejected}"
            ));
        }
        self.line("");
        let header = format!(
            "  {:<8} {:>8} = {:>8} + {:>9} + {:>7} + {:>7}",
            "route", "routed", "released", "in flight", "waiting", "dropped"
        );
        self.line(&self.styled(Style::Dim, &header));
        for (route, meters) in relay.config().routes.iter().zip(meters.routes.iter()) {
            if matches!(route.action, Action::Discard) {
                self.line(&format!(
                    "  {:<8} {:>8}   discarded, as its route says",
                    route.name,
                    meters.discarded.value()
                ));
                continue;
            }
            self.line(&format!(
                "  {:<8} {:>8} = {:>8} + {:>9} + {:>7} + {:>7}",
                route.name,
                meters.routed.value(),
                meters.released.value(),
                meters.in_flight.value(),
                meters.waiting.value(),
                meters.dropped(),
            ));
        }
    }

    /// What the samples came to.
    pub(super) fn summary(&mut self, totals: &mut Totals) {
        let style = if totals.is_clean() { Style::Green } else { Style::Red };
        let Totals { expected, arrived, misrouted, repeated, latencies } = totals;
        latencies.sort_unstable();
        let counts = format!("arrived {arrived} of {expected}, lost {}", expected.saturating_sub(*arrived));
        self.line("");
        self.line(&self.styled(style, &format!("{counts}, with a wrong key {misrouted}, repeated {repeated}")));
        if let (Some(median), Some(worst)) = (latencies.get(latencies.len() / 2), latencies.last()) {
            let (median, worst) = (milliseconds(*median), milliseconds(*worst));
            self.line(&format!(
                "from sending to the collector: median {median}, worst {worst} (the first one connects)"
            ));
        }
    }

    /// How the reader sends.
    pub(super) fn invitation(&mut self, relay: &Relay, ports: Ports) {
        let Ports { udp, tcp } = ports;
        self.line("");
        self.line("Now you: the relay goes on listening. In another terminal, for example:");
        self.line("");
        self.line(&format!("  logger -n 127.0.0.1 -d -P {udp} -t unbound 'which intake is this for?'"));
        self.line(&format!("  logger -n 127.0.0.1 -T -P {tcp} --octet-count -t sshd 'and this one?'"));
        self.line(&format!("  logger -n 127.0.0.1 -T -P {tcp} --rfc3164 -t myapp 'no route of its own'"));
        if let Some(admin) = relay.admin {
            self.line(&format!("  curl http://{admin}/status"));
        }
        self.line("");
        self.line("Ctrl-C ends it.");
        self.line("");
    }

    /// Prints one line.
    pub(super) fn line(&mut self, text: &str) {
        let mut out = std::io::stdout().lock();
        let written = out.write_all(format!("{}\n", text.trim_end()).as_bytes()).and_then(|()| out.flush());
        self.is_closed |= written.is_err();
    }

    fn styled(&self, style: Style, text: &str) -> String {
        self.paint.styled(style, text)
    }
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

/// Fields of a message that was rendered with the FAQ's template.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rendered<'a> {
    hostname: &'a str,
    app_name: &'a str,
    /// Its intake key.
    pub(super) intake_key: &'a str,
    /// MSG, blanks in front cut off.
    pub(super) text: &'a str,
}

/// Takes a message apart; `None` where it is not of the FAQ's template.
pub(super) fn read(message: &str) -> Option<Rendered<'_>> {
    // PRI and VERSION, TIMESTAMP, HOSTNAME, APP-NAME, PROCID, MSGID, and the rest.
    let mut fields = message.splitn(7, ' ');
    let (hostname, app_name) = (fields.nth(2)?, fields.next()?);
    let rest = fields.nth(2)?.strip_prefix("[SEKOIA@53288 ")?.strip_prefix(KEY_OPENS)?;
    let (intake_key, rest) = rest.split_once("\"]")?;
    Some(Rendered { hostname, app_name, intake_key, text: rest.trim() })
}

/// `HOSTNAME APP-NAME: MSG`; a message of another template as it is, masked.
fn in_short(message: &str) -> String {
    match read(message) {
        Some(Rendered { hostname, app_name, text, .. }) => harmless(&format!("{hostname} {app_name}: {text}")),
        None => mask(message),
    }
}

/// The message with every key masked, fit for a terminal.
fn mask(message: &str) -> String {
    let mut masked = String::new();
    let mut rest = message.trim_end();
    while let Some((before, after)) = rest.split_once(KEY_OPENS) {
        masked.push_str(before);
        masked.push_str(KEY_OPENS);
        masked.push_str(MASK);
        rest = after.find('"').and_then(|end| after.get(end..)).unwrap_or_default();
    }
    masked.push_str(rest);
    harmless(&masked)
}

/// Control characters (the relay escapes those of ASCII, not C1 and DEL) never reach a terminal raw.
fn harmless(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char }).collect()
}

/// At most `width` characters; a cut is marked.
fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Lines of at most `width` characters, broken behind spaces where there are any; nothing is left out.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_inclusive(' ') {
        for part in word.chars().collect::<Vec<_>>().chunks(width) {
            let part: String = part.iter().collect();
            match lines.last_mut() {
                Some(line) if line.chars().count() + part.trim_end().chars().count() <= width => line.push_str(&part),
                _ => lines.push(part),
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const RENDERED: &str =
        "<30>1 2026-02-03T04:05:06+00:00 ns-1 unbound 812 LOG [SEKOIA@53288 intake_key=\"secret\"]  info: a \"] b\n";

    #[test]
    fn a_rendered_message_is_taken_apart() {
        let rendered = Rendered { hostname: "ns-1", app_name: "unbound", intake_key: "secret", text: "info: a \"] b" };
        assert_eq!(read(RENDERED), Some(rendered));
        assert_eq!(in_short(RENDERED), "ns-1 unbound: info: a \"] b");
        assert_eq!(read("<30>1 - ns-1 unbound 812 LOG - no key\n"), None);
    }

    #[test]
    fn every_key_is_masked_even_an_unclosed_one() {
        let masked = mask(RENDERED);
        assert!(masked.contains("intake_key=\"****\"]") && !masked.contains("secret"), "{masked}");
        assert_eq!(mask("a intake_key=\"x\" b intake_key=\"y"), "a intake_key=\"****\" b intake_key=\"****");
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        assert_eq!(in_short("no \u{1b}[31m template \u{9b}"), "no \u{fffd}[31m template \u{fffd}");
    }

    #[test]
    fn a_wrapped_message_is_still_whole() {
        assert_eq!(wrap("ab cd efghij k", 5), ["ab cd ", "efghi", "j k"]);
        assert_eq!(wrap(RENDERED, 60).concat(), RENDERED);
    }

    #[test]
    fn long_messages_are_cut_and_marked() {
        assert_eq!(fit("éééé", 4), "éééé");
        assert_eq!(fit("éééééé", 4), "ééé…");
    }
}
