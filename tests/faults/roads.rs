//! Faults of the road: the relay as a process in a network namespace of its own, a far end in another, and between them a
//! link that loses, delays and swallows. Whatever happens there, every message arrives, what arrives twice fits in what was
//! in flight, and the books balance.
//!
//! Each test prints a row of the table of docs/RELIABILITY.md; `FOREBAY_COMPARE=1 cargo test --test roads -- --nocapture`
//! has a real rsyslogd travel the same roads, which takes longer and is held to nothing. Needs root, iproute2 and
//! `/dev/net/tun`; where one is missing each test says so and checks nothing.
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

#[path = "../support/harness.rs"]
mod support;

mod far_end;
mod link;
mod names;
mod namespaces;
mod run;

use std::time::Duration;

use far_end::{Act, Speaks};
use link::Weather;
use run::{CALM, OTHER, Run, Scenario, play};
use support::collector::Fault;
use support::installed;
use support::rsyslogd::{drivers, has_module};
use support::waiting::{pause, within};

/// What the relay may take from a fault's end to the first message: a wait between two attempts (3 s at most), and what
/// a connection takes.
const BACK_MAX: Duration = Duration::from_secs(5);

/// How long a connection may stay where its name leads no more: the least time between two looks at a name, and room for one.
const MOVED_MAX: Duration = Duration::from_secs(30);

/// How often a far end is killed.
const KILLS: usize = 50;
/// How often one is that takes longer to start or to find again.
const FEW_KILLS: usize = 10;

/// Of an output in place of 30 s, so that a black hole can last longer.
const SHORT_TIMEOUTS: &str = "stall_timeout: 2s, user_timeout: 2s, connect_timeout: 2s";

/// As it stands there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// So many messages more than wait at a fault's end, of 3 s.
const FLOWS: usize = 20_000;

/// Of an intake that is quick; a fifth of a second is between two requests.
const ANSWERED_WITHIN: Duration = Duration::from_millis(50);

/// Nothing gets through.
const HOLE: Weather = Weather { loss_percent: 0, delay: Duration::ZERO, swallows: true };

const fn loss(percent: u8) -> Weather {
    Weather { loss_percent: percent, delay: Duration::ZERO, swallows: false }
}

/// Holds the run to packets having been lost.
fn loses(run: &mut Run) {
    run.flows_on(5_000);
    let (carried, lost) = run.road.link.counts();
    assert!(lost > 0, "none of {carried} packets was lost");
}

const ONE_PERCENT: Scenario = Scenario { name: "1 % of packets lost", weather: loss(1), fault: loses, ..CALM };

#[test]
fn one_percent_of_lost_packets_costs_no_message_over_tls() {
    play(Speaks::Tls, ONE_PERCENT);
}

#[test]
fn one_percent_of_lost_packets_costs_no_message_over_tcp() {
    play(Speaks::Tcp, ONE_PERCENT);
}

const TEN_PERCENT: Scenario = Scenario { name: "10 % of packets lost", weather: loss(10), fault: loses, ..CALM };

#[test]
fn ten_percent_of_lost_packets_cost_no_message() {
    play(Speaks::Tls, TEN_PERCENT);
}

#[test]
fn two_hundred_milliseconds_of_delay_cost_no_message() {
    let weather = Weather { delay: Duration::from_millis(200), ..Weather::default() };
    play(Speaks::Tls, Scenario { name: "200 ms of delay each way", weather, ..CALM });
}

fn falls_into_a_black_hole(run: &mut Run) {
    let before = run.breaks();
    run.weather_for(HOLE, Duration::from_secs(6));
    assert!(run.relay().is_none() || run.breaks() > before, "a black hole breaks no connection");
    // It may have begun an attempt just before, whose SYN was lost.
    run.is_back_within(BACK_MAX + CONNECT_TIMEOUT);
}

const BLACK_HOLE: Scenario = Scenario {
    name: "black hole of 6 s, timeouts of 2 s",
    output: SHORT_TIMEOUTS,
    messages: 40_000,
    fault: falls_into_a_black_hole,
    ..CALM
};

#[test]
fn a_black_hole_that_lasts_longer_than_the_timeouts_is_found_and_left_over_tls() {
    play(Speaks::Tls, BLACK_HOLE);
}

#[test]
fn a_black_hole_that_lasts_longer_than_the_timeouts_is_found_and_left_over_tcp() {
    play(Speaks::Tcp, BLACK_HOLE);
}

/// The road carries nothing more of the connection, and anything of a new one.
fn is_forgotten(run: &mut Run) {
    run.breaks_by(|run| run.road.link.forget_connections());
    run.is_back_within(2 * BACK_MAX);
}

const FORGOTTEN: Scenario = Scenario {
    name: "connection forgotten, timeouts of 2 s",
    output: SHORT_TIMEOUTS,
    messages: 40_000,
    fault: is_forgotten,
    ..CALM
};

#[test]
fn a_connection_that_a_firewall_has_forgotten_is_found_and_replaced() {
    play(Speaks::Tls, FORGOTTEN);
}

fn is_partitioned(run: &mut Run) {
    run.weather_for(HOLE, Duration::from_secs(3));
    // The kernel's, which doubles its time to the next attempt: as long again as the partition at most.
    run.is_back_within(BACK_MAX);
    // What has waited, and more: the connection is whole, not just its first packets.
    run.flows_on(FLOWS);
    assert_eq!(run.breaks(), 0, "a partition shorter than the timeouts breaks no connection");
}

const PARTITION: Scenario = Scenario { name: "partition of 3 s", messages: 40_000, fault: is_partitioned, ..CALM };

#[test]
fn a_partition_that_heals_in_time_breaks_nothing() {
    play(Speaks::Tls, PARTITION);
}

/// Kills the far end while messages flow, again and again: some lives carry less than a window, some more.
fn is_killed(run: &mut Run, times: usize) {
    dies_and_returns(run, times);
    assert!(run.relay().is_none() || run.breaks() >= times as u64, "a death breaks a connection");
}

fn dies_and_returns(run: &mut Run, times: usize) {
    for _ in 0..times {
        run.flows_on(fastrand::usize(200..15_000));
        run.act(Act::Dies);
        pause(Duration::from_millis(fastrand::u64(10..60)));
        run.act(Act::Returns);
        run.is_back_within(BACK_MAX);
    }
}

#[test]
fn a_collector_killed_fifty_times_under_load_costs_no_message() {
    // After each death rsyslogd waits for 30 s and more.
    let fault = |run: &mut Run| is_killed(run, if run.relay().is_some() { KILLS } else { 5 });
    play(Speaks::Tls, Scenario { name: "killed 50 times (rsyslogd: 5)", fault, ..CALM });
}

const KILLED_TEN_TIMES: Scenario = Scenario { name: "killed 10 times", fault: |run| is_killed(run, FEW_KILLS), ..CALM };

#[test]
fn a_real_rsyslogd_killed_under_load_finds_every_message_on_its_return() {
    // One of them: the other's TLS differs, what becomes of messages does not.
    for driver in drivers().into_iter().take(1) {
        play(Speaks::Rsyslogd(driver), KILLED_TEN_TIMES);
    }
}

fn half_closes_its_writing_side(run: &mut Run) {
    for _ in 0..5 {
        run.breaks_by(|run| run.act(Act::Commits(Fault::ClosesItsWritingSide)));
        run.is_back_within(BACK_MAX);
        run.flows_on(200);
    }
}

#[test]
fn a_collector_that_closes_its_writing_side_gets_every_message() {
    let fault = half_closes_its_writing_side;
    play(Speaks::Tls, Scenario { name: "writing side closed, 5 times", fault, ..CALM });
}

fn half_closes_its_reading_side(run: &mut Run) {
    // What its kernel takes and its process does not read, then the timeout.
    run.breaks_by(|run| run.act(Act::Commits(Fault::ClosesItsReadingSide)));
    run.is_back_within(2 * BACK_MAX);
}

#[test]
fn a_collector_that_closes_its_reading_side_is_left_and_gets_every_message() {
    let (output, fault) = (SHORT_TIMEOUTS, half_closes_its_reading_side);
    play(
        Speaks::Tls,
        Scenario { name: "reading side closed, timeouts of 2 s", output, messages: 40_000, fault, ..CALM },
    );
}

fn resets_in_records(run: &mut Run) {
    for _ in 0..5 {
        run.breaks_by(|run| run.act(Act::Commits(Fault::ResetsInARecord)));
        run.is_back_within(BACK_MAX);
        run.flows_on(200);
    }
}

#[test]
fn a_reset_in_the_middle_of_a_record_costs_no_message() {
    play(Speaks::Tls, Scenario { name: "reset inside a TLS record, 5 times", fault: resets_in_records, ..CALM });
}

/// The name moves to another far end, and the first one dies.
fn name_moves(run: &mut Run) {
    run.names.as_ref().unwrap().lead_to(OTHER);
    run.act(Act::Dies);
    run.is_back_within(BACK_MAX);
    assert!(run.relay().is_none() || run.far_ends[1].arrived() > 0, "the new address is not used");
}

#[test]
fn after_a_break_a_name_that_has_moved_leads_to_its_new_address() {
    play(Speaks::Tls, Scenario { name: "name moved, old address dead", is_named: true, fault: name_moves, ..CALM });
}

/// The name moves to another far end; the first one stays well.
fn name_moves_alone(run: &mut Run) {
    run.names.as_ref().unwrap().lead_to(OTHER);
    let arrives = within(MOVED_MAX, || if run.far_ends[1].arrived() > 0 { Ok(()) } else { Err(String::new()) });
    assert!(arrives.is_ok() || run.relay().is_none(), "the connection stays where the name was");
    assert_eq!(run.breaks(), 0, "who moves closes in order");
}

#[test]
fn a_long_connection_moves_with_its_name_and_is_closed_in_order() {
    let fault = name_moves_alone;
    play(Speaks::Tls, Scenario { name: "name moved, old address well", is_named: true, fault, ..CALM });
}

fn certificate_is_swapped(run: &mut Run) {
    run.act(Act::TakesAStrangersCertificate);
    run.act(Act::Resets);
    pause(Duration::from_secs(3));
    if let Some(relay) = run.relay() {
        let reason = "output=\"sekoia\",reason=\"tls_handshake\"";
        assert!(relay.metric("forebay_output_connect_failures_total", reason) > 0, "the certificate is refused");
    }
    run.act(Act::TakesItsOwnCertificate);
    run.is_back_within(BACK_MAX);
}

#[test]
fn a_certificate_swapped_for_a_strangers_and_back_costs_no_message() {
    let fault = certificate_is_swapped;
    play(Speaks::Tls, Scenario { name: "stranger's certificate for 3 s", messages: 40_000, fault, ..CALM });
}

/// Plays it over RELP to a real imrelp.
fn play_relp(scenario: Scenario) {
    if installed("rsyslogd").is_some() && has_module("imrelp") {
        play(Speaks::Relp, scenario);
    }
}

#[test]
fn one_percent_of_lost_packets_costs_no_message_over_relp() {
    play_relp(ONE_PERCENT);
}

#[test]
fn ten_percent_of_lost_packets_cost_no_message_over_relp() {
    play_relp(TEN_PERCENT);
}

#[test]
fn a_black_hole_that_lasts_longer_than_the_timeouts_is_found_and_left_over_relp() {
    play_relp(BLACK_HOLE);
}

#[test]
fn a_partition_that_heals_in_time_breaks_nothing_over_relp() {
    play_relp(PARTITION);
}

#[test]
fn a_connection_that_a_firewall_has_forgotten_is_found_and_replaced_over_relp() {
    play_relp(FORGOTTEN);
}

#[test]
fn a_real_imrelp_killed_under_load_gets_every_message() {
    play_relp(KILLED_TEN_TIMES);
}

#[test]
fn one_percent_of_lost_packets_costs_no_message_over_https() {
    play(Speaks::Https, ONE_PERCENT);
}

#[test]
fn ten_percent_of_lost_packets_cost_no_message_over_https() {
    play(Speaks::Https, TEN_PERCENT);
}

/// Waits until one request is answered and the next not yet made. A road that breaks while an answer is waited for has
/// nothing to be acknowledged, which `request_timeout` bounds.
fn is_between_requests(run: &Run) {
    run.flows_on(1);
    pause(ANSWERED_WITHIN);
}

#[test]
fn a_black_hole_that_lasts_longer_than_the_timeouts_is_found_and_left_over_https() {
    let fault = |run: &mut Run| {
        is_between_requests(run);
        falls_into_a_black_hole(run);
    };
    play(Speaks::Https, Scenario { fault, ..BLACK_HOLE });
}

#[test]
fn a_partition_that_heals_in_time_breaks_nothing_over_https() {
    play(Speaks::Https, PARTITION);
}

#[test]
fn a_connection_that_a_firewall_has_forgotten_is_found_and_replaced_over_https() {
    let fault = |run: &mut Run| {
        is_between_requests(run);
        is_forgotten(run);
    };
    play(Speaks::Https, Scenario { fault, ..FORGOTTEN });
}

#[test]
fn an_intake_killed_under_load_gets_every_message() {
    // Between two requests a death breaks nothing.
    let fault = |run: &mut Run| {
        run.act(Act::AnswersLate);
        dies_and_returns(run, FEW_KILLS);
    };
    play(Speaks::Https, Scenario { fault, ..KILLED_TEN_TIMES });
}
