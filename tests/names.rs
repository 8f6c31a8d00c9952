//! Names that do not resolve: what the relay connects to all the same.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::string_slice,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test may panic, and says what it skips"
)]

#[path = "support/harness.rs"]
mod support;

use support::ROUTE_ALL;
use support::collector::Collector;
use support::load::numbered;
use support::relay::Relay;
use support::senders::send_tcp;

const INPUT: &str = "inputs: {lan: {listen: 'tcp://127.0.0.1:0'}}\n";

fn resolutions(relay: &Relay, source: &str) -> u64 {
    let series = format!("forebay_output_resolutions_total{{output=\"sekoia\",source=\"{source}\"}} ");
    let metrics = relay.metrics();
    let value = metrics.lines().find_map(|line| line.strip_prefix(&series));
    value.unwrap_or_else(|| panic!("no {series}in {metrics}")).parse().unwrap()
}

#[test]
fn a_name_that_does_not_resolve_is_reached_at_its_fallback_addresses() {
    let collector = Collector::start_plain();
    let port = collector.address.port();
    let mut relay = Relay::start(&format!(
        "{INPUT}outputs: {{sekoia: {{to: 'tcp://no-such-host.invalid:{port}', fallback_addresses: [127.0.0.1]}}}}\n{ROUTE_ALL}"
    ));
    send_tcp(relay.address("lan", "tcp"), (0..100).map(numbered).collect::<String>().as_bytes());
    collector.wait_for(100);
    assert!(resolutions(&relay, "fallback") > 0);
    assert_eq!((resolutions(&relay, "dns"), resolutions(&relay, "last_good")), (0, 0));
    relay.stop_clean();
}

#[test]
fn a_name_that_does_not_resolve_is_reached_where_an_earlier_run_found_it() {
    let collector = Collector::start_plain();
    let port = collector.address.port();
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let configuration = format!(
        "{INPUT}spool: {{dir: {}, min_free: 0}}\noutputs: {{sekoia: {{to: 'tcp://no-such-host.invalid:{port}'}}}}\n{ROUTE_ALL}",
        spool.display()
    );
    // The folder is the spool's: it is made first.
    Relay::start(&configuration).stop_clean();
    std::fs::write(spool.join("names"), "forebay names 1\nno-such-host.invalid 127.0.0.1\n\0 damage\n").unwrap();
    let mut relay = Relay::start(&configuration);
    send_tcp(relay.address("lan", "tcp"), (0..100).map(numbered).collect::<String>().as_bytes());
    collector.wait_for(100);
    assert!(resolutions(&relay, "last_good") > 0);
    relay.stop_clean();
}
