//! In: every kind of input and framing, through real sockets, to a TLS collector.

#[path = "support/harness.rs"]
mod support;

use support::senders::send_udp;
use support::{Bench, ROUTE_ALL};

#[test]
fn a_datagram_arrives_as_a_frame_with_the_key() {
    let bench = Bench::start(&format!("inputs: {{lan: {{listen: 'udp://127.0.0.1:0'}}}}\n{ROUTE_ALL}"));
    send_udp(bench.relay.address("lan", "udp"), &["<13>Nov 22 10:00:00 gate wheel[3]: it turns"]);
    let frames = bench.collector.wait_for(1);
    assert!(frames[0].starts_with("<13>1 "), "{frames:?}");
    assert!(frames[0].ends_with(" gate wheel 3 LOG [SEKOIA@53288 intake_key=\"key-of-all\"]  it turns\n"), "{frames:?}");
}
