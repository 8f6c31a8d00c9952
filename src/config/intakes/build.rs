//! From what was understood to the tree of a configuration.

use super::entry::{Intake, Takes};
use super::host;
use super::settings::{Destination, Settings, place};
use crate::config::report::Position;
use crate::config::tree::Node;

/// The forwarder's template, as between the quotes of its `string="..."`: the time is that of reception, and blanks before
/// the message are cut off.
const TEMPLATE: &str = "<%pri%>1 %timegenerated:::date-rfc3339% %hostname% %app-name% %procid% LOG \
                        [SEKOIA@53288 intake_key=\"%intake_key%\"] %msg:R,ERE,1,FIELD:^[ \\t]*(.*)$--end%\\n";

/// Its template for its own counts.
const STATS_TEMPLATE: &str = "<%pri%>1 %timegenerated:::date-rfc3339% %hostname% %app-name% %procid% LOG \
                              [SEKOIA@53288 intake_key=\"%intake_key%\"] %msg%\\n";

/// The forwarder's `maxMessageSize="250k"`.
const MESSAGE_SIZE: &str = "250KiB";

/// The one output's name.
const OUTPUT: &str = "sekoia";

/// The whole tree. `at` is where the file begins.
pub(super) fn tree(at: &Position, intakes: &[Intake], settings: &Settings) -> Node {
    let mut inputs = Node::map(at);
    let mut routes = Vec::with_capacity(intakes.len());
    for intake in intakes {
        inputs.set(&intake.name, input(intake, settings));
        routes.push(route(intake));
    }
    let mut root = Node::map(at);
    root.set("inputs", inputs);
    root.set("outputs", map(at, [(OUTPUT, output(settings))]));
    root.set("routes", Node::list(at, routes));
    if let Some((dir, size)) = &settings.spool {
        let dir = Node::text(at, literal(&dir.display().to_string()));
        let size = Node::text(&place("DISK_SPACE"), size.to_string());
        root.set("spool", map(at, [("dir", dir), ("max_size", size)]));
    }
    let memory = Node::text(&place("MEMORY_MESSAGES"), settings.memory_max.to_string());
    root.set("memory", map(at, [("max", memory)]));
    let admin = Node::text(&place("FOREBAY_ADMIN"), literal(&settings.admin));
    root.set("admin", map(at, [("listen", admin)]));
    root
}

fn input(intake: &Intake, settings: &Settings) -> Node {
    let (at, protocol, port, tls) = match &intake.takes {
        Takes::Stats => {
            let interval = settings.stats_interval.as_ref();
            let interval =
                interval.map(|text| ("interval", Node::text(&place("FOREBAY_STATS_INTERVAL"), literal(text))));
            return map(&intake.at, [("impstats", map(&intake.at, interval))]);
        }
        Takes::Listener { at, protocol, port, tls } => (at, protocol, port, tls),
    };
    // rsyslog listens on all addresses of both families.
    let mut listen = vec![Node::text(at, format!("{protocol}://0.0.0.0:{port}"))];
    if host::has_ipv6() {
        listen.push(Node::text(at, format!("{protocol}://[::]:{port}")));
    }
    let mut input = map(
        &intake.at,
        [("listen", Node::list(at, listen)), ("max_message_size", Node::text(&intake.at, MESSAGE_SIZE))],
    );
    if let Some([key, cert]) = tls {
        let file = |(at, stem): &(Position, String), extension: &str| {
            let path = settings.certificates.join(format!("{stem}.{extension}"));
            Node::text(at, literal(&path.display().to_string()))
        };
        input.set("tls", map(&intake.at, [("cert", file(cert, "crt")), ("key", file(key, "key"))]));
    }
    input
}

fn route(intake: &Intake) -> Node {
    let template = match intake.takes {
        Takes::Listener { .. } => TEMPLATE,
        Takes::Stats => STATS_TEMPLATE,
    };
    let (key_at, key) = &intake.key;
    let text = |text: &str| Node::text(&intake.at, literal(text));
    map(
        &intake.at,
        [
            ("name", text(&intake.name)),
            ("input", text(&intake.name)),
            ("intake_key", Node::text(key_at, literal(key))),
            ("template", text(template)),
        ],
    )
}

fn output(settings: &Settings) -> Node {
    let (region, endpoint) = (place("REGION"), place("ENDPOINT"));
    let (at, mut output) = match &settings.output {
        Destination::Region(name) => (&region, map(&region, [("region", Node::text(&region, name))])),
        Destination::To(urls) => {
            let urls = urls.iter().map(|url| Node::text(&endpoint, literal(url))).collect();
            (&endpoint, map(&endpoint, [("to", Node::list(&endpoint, urls))]))
        }
    };
    if let Some(ca) = &settings.ca {
        output.set("tls", map(at, [("ca", Node::text(&place("FOREBAY_CA"), literal(ca)))]));
    }
    output
}

fn map<'a>(at: &Position, entries: impl IntoIterator<Item = (&'a str, Node)>) -> Node {
    let mut map = Node::map(at);
    for (key, node) in entries {
        map.set(key, node);
    }
    map
}

/// A text in which nothing is a variable: the forwarder knows none.
fn literal(text: &str) -> String {
    text.replace("${", "$${")
}
