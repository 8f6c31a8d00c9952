//! The tables that are made of a state, and what of it is alarming.

use std::collections::BTreeMap;

use super::state::{State, View, received};
use super::status::{Input, Output, Route, Sample, Sampled, Status};
use super::table::{Cell, Mood, Table, duration, number, rate, short, text};

/// What waits for so long is worth a look.
const OLD_SECONDS: u64 = 10;

/// Alarms that are shown.
const ALARMS_MAX: usize = 4;

/// The tables of the present view, sorted and filtered.
pub(super) fn tables(state: &State) -> Vec<Table> {
    let Some(now) = state.now.as_ref().map(|now| &now.status) else { return Vec::new() };
    let mut tables = match state.view {
        View::Overview => vec![inputs(state, now), routes(state, now), outputs(state, now)],
        View::Routes => vec![routes_in_full(state, now)],
        View::Programs => vec![sampled(state, "program", |sample| &sample.programs)],
        View::Peers => vec![sampled(state, "peer", |sample| &sample.peers)],
        View::Unmatched => vec![unmatched(state, now)],
    };
    for table in &mut tables {
        table.filter(&state.filter);
    }
    // Inputs and outputs have other columns; they are few.
    let sorted = tables.get_mut(usize::from(state.view == View::Overview));
    if let Some(table) = sorted {
        table.sort(state.sort());
    }
    tables
}

/// Which of the tables the keys sort and scroll.
pub(super) fn main_table(view: View) -> usize {
    usize::from(view == View::Overview)
}

/// How a count of the thing with the same name changes, a second.
fn rate_of<T>(
    state: &State,
    list: fn(&Status) -> &[T],
    is_it: impl Fn(&T) -> bool,
    count: fn(&T) -> u64,
) -> Option<f64> {
    state.rate_of(|status| list(status).iter().find(|one| is_it(one)).map_or(0, count))
}

fn inputs(state: &State, now: &Status) -> Table {
    let row = |input: &Input| {
        let rate =
            |count: fn(&Input) -> u64| rate_of(state, |status| &status.inputs, |other| other.name == input.name, count);
        let lost = |input: &Input| input.rejected + input.kernel_dropped;
        let losing = rate(|input| input.rejected + input.kernel_dropped).unwrap_or(0.0) > 0.0;
        vec![
            Cell::text(&input.name),
            Cell::rate(rate(|input| input.received)),
            Cell::rate(rate(|input| input.received_bytes)),
            Cell::count(input.connections),
            Cell::count(input.blocked_connections).when(input.blocked_connections > 0, Mood::Notice),
            Cell::count(input.refused_connections),
            Cell::rate(rate(|input| input.unmatched)),
            Cell::rate(rate(|input| input.discarded)),
            Cell::count(lost(input)).when(lost(input) > 0, Mood::Notice).when(losing, Mood::Alarm),
            Cell::text(&input.listening.join(" ")),
        ]
    };
    Table {
        title: "inputs".to_owned(),
        columns: vec![
            text("input", 14, 0),
            number("msg/s", 7, 0),
            number("B/s", 7, 3),
            number("conns", 6, 1),
            number("blocked", 7, 4),
            number("refused", 7, 5),
            number("unmat/s", 7, 4),
            number("discard/s", 9, 5),
            number("lost", 6, 1),
            text("listens", 30, 6),
        ],
        rows: now.inputs.iter().map(row).collect(),
    }
}

/// A rate of a route; of those that discard, of what they take.
fn route_rate(state: &State, route: &Route, count: fn(&Route) -> u64) -> Option<f64> {
    rate_of(state, |status| &status.routes, |other| other.name == route.name, count)
}

fn taken(route: &Route) -> u64 {
    if route.discard { route.discarded } else { route.routed }
}

fn to(route: &Route) -> &str {
    if route.discard { "(discards)" } else { route.output.as_deref().unwrap_or("?") }
}

fn oldest(route: &Route) -> Cell {
    Cell::seconds(route.oldest_waiting_seconds).when(route.oldest_waiting_seconds >= OLD_SECONDS, Mood::Notice)
}

fn dropped(state: &State, route: &Route) -> Cell {
    let losing = route_rate(state, route, |route| route.dropped).unwrap_or(0.0) > 0.0;
    Cell::count(route.dropped).when(route.dropped > 0, Mood::Notice).when(losing, Mood::Alarm)
}

fn routes(state: &State, now: &Status) -> Table {
    let row = |route: &Route| {
        vec![
            Cell::text(&route.name).when(route.parked.is_some(), Mood::Alarm),
            Cell::rate(route_rate(state, route, taken)),
            Cell::rate(route_rate(state, route, |route| route.released)),
            Cell::count(route.waiting),
            Cell::count(route.spooled),
            oldest(route),
            dropped(state, route),
            Cell::text(to(route)),
        ]
    };
    Table {
        title: "routes".to_owned(),
        columns: vec![
            text("route", 14, 0),
            number("in/s", 7, 0),
            number("out/s", 7, 1),
            number("waiting", 7, 2),
            number("on disk", 7, 4),
            number("oldest", 7, 3),
            number("dropped", 7, 1),
            text("to", 12, 5),
        ],
        rows: now.routes.iter().map(row).collect(),
    }
}

fn routes_in_full(state: &State, now: &Status) -> Table {
    let row = |route: &Route| {
        let reasons = route.dropped_by_reason.iter().filter(|(_, messages)| **messages > 0);
        let reasons: Vec<String> =
            reasons.map(|(reason, messages)| format!("{reason} {}", short(*messages as f64))).collect();
        let note = match &route.parked {
            Some(parked) => format!("parked: {}", parked.why),
            None => reasons.join(", "),
        };
        vec![
            Cell::text(&route.name).when(route.parked.is_some(), Mood::Alarm),
            Cell::rate(route_rate(state, route, taken)),
            Cell::rate(route_rate(state, route, |route| route.released)),
            Cell::count(taken(route)),
            Cell::count(route.released),
            Cell::count(route.in_flight),
            Cell::count(route.waiting),
            Cell::count(route.spooled),
            oldest(route),
            Cell::count(route.resent),
            dropped(state, route),
            Cell::text(to(route)),
            Cell::text(&note).when(true, Mood::Notice),
        ]
    };
    Table {
        title: "routes".to_owned(),
        columns: vec![
            text("route", 14, 0),
            number("in/s", 7, 0),
            number("out/s", 7, 1),
            number("taken", 7, 5),
            number("released", 8, 5),
            number("flight", 7, 4),
            number("waiting", 7, 2),
            number("on disk", 7, 3),
            number("oldest", 7, 2),
            number("resent", 7, 6),
            number("dropped", 7, 1),
            text("to", 12, 7),
            text("drops, and why", 24, 8),
        ],
        rows: now.routes.iter().map(row).collect(),
    }
}

fn outputs(state: &State, now: &Status) -> Table {
    let row = |output: &Output| {
        let rate = |count: fn(&Output) -> u64| {
            rate_of(state, |status| &status.outputs, |other| other.name == output.name, count)
        };
        let failing = rate(|output| output.failed_connects + output.broken_connections).unwrap_or(0.0) > 0.0;
        vec![
            Cell::text(&output.name),
            Cell::rate(rate(|output| output.written_messages)),
            Cell::rate(rate(|output| output.written_bytes)),
            Cell::count(output.connections),
            Cell::count(output.failed_connects).when(failing, Mood::Alarm),
            Cell::count(output.broken_connections).when(failing, Mood::Alarm),
            Cell::text(&output.to),
        ]
    };
    Table {
        title: "outputs".to_owned(),
        columns: vec![
            text("output", 14, 0),
            number("msg/s", 7, 0),
            number("B/s", 7, 2),
            number("conns", 6, 1),
            number("failed", 7, 2),
            number("broken", 7, 2),
            text("to", 28, 3),
        ],
        rows: now.outputs.iter().map(row).collect(),
    }
}

/// Counts by name of all samples together, as rates of all that passed.
fn sampled(state: &State, kind: &'static str, names: fn(&Sample) -> &[Sampled]) -> Table {
    let (mut seconds, mut passed, mut looked_at) = (0.0, 0, 0);
    let mut sums: BTreeMap<&str, Sampled> = BTreeMap::new();
    for sample in &state.samples {
        seconds += sample.seconds;
        passed += sample.passed;
        looked_at += sample.sampled;
        for one in names(sample) {
            let sum = sums.entry(&one.name).or_default();
            sum.messages += one.messages;
            sum.bytes += one.bytes;
            sum.unmatched += one.unmatched;
        }
    }
    // What was not looked at is taken to be like what was.
    let factor = if looked_at == 0 || seconds == 0.0 { 0.0 } else { passed as f64 / looked_at as f64 / seconds };
    let mut rows: Vec<(&str, Sampled)> = sums.into_iter().collect();
    rows.sort_by(|left, right| right.1.messages.cmp(&left.1.messages).then_with(|| left.0.cmp(right.0)));
    let percent = |part: u64, of: u64| if of == 0 { 0.0 } else { part as f64 * 100.0 / of as f64 };
    let row = |(name, sum): &(&str, Sampled)| {
        let share = percent(sum.messages, looked_at);
        let unmatched = percent(sum.unmatched, sum.messages);
        vec![
            Cell::text(if name.is_empty() { "(none)" } else { name }),
            Cell::rate(Some(sum.messages as f64 * factor)),
            Cell { text: format!("{share:.1}%"), value: share, mood: Mood::Plain },
            Cell::rate(Some(sum.bytes as f64 * factor)),
            Cell::count(sum.bytes.checked_div(sum.messages).unwrap_or(0)),
            Cell { text: format!("{unmatched:.0}%"), value: unmatched, mood: Mood::Quiet }
                .when(unmatched > 0.0, Mood::Notice),
        ]
    };
    let of = if passed == looked_at {
        format!("all {} messages", short(passed as f64))
    } else {
        format!("sampled: {} of {} messages", short(looked_at as f64), short(passed as f64))
    };
    let title = match (&state.sample_trouble, state.samples.is_empty()) {
        (Some(why), _) => format!("{kind}s: {why}"),
        (None, true) => format!("{kind}s: looking…"),
        (None, false) => format!("{kind}s, {of} that arrived in the last {}", duration(seconds.round() as u64)),
    };
    Table {
        title,
        columns: vec![
            text(kind, 20, 0),
            number("~msg/s", 8, 0),
            number("share", 7, 1),
            number("~B/s", 8, 2),
            number("B/msg", 6, 3),
            number("unmatched", 9, 2),
        ],
        rows: rows.iter().map(row).collect(),
    }
}

fn unmatched(state: &State, now: &Status) -> Table {
    let of = |status: &Status, name: &str| {
        status.unmatched_programs.iter().find(|other| other.program == name).map_or(0, |other| other.messages)
    };
    let rows = now.unmatched_programs.iter().map(|unmatched| {
        vec![
            Cell::text(if unmatched.program.is_empty() { "(none)" } else { &unmatched.program }),
            Cell::rate(state.rate_of(|status| of(status, &unmatched.program))),
            Cell::count(unmatched.messages),
        ]
    });
    Table {
        title: "programs that no route takes, the hundred most frequent since the start".to_owned(),
        columns: vec![text("program", 20, 0), number("msg/s", 8, 0), number("messages", 9, 0)],
        rows: rows.collect(),
    }
}

/// One line about everything.
pub(super) fn summary(state: &State, now: &Status) -> String {
    let known = |rate_of: Option<f64>| rate_of.map_or_else(|| "…".to_owned(), rate);
    let sum = |count: fn(&Route) -> u64| now.routes.iter().map(count).sum::<u64>() as f64;
    let oldest = now.routes.iter().map(|route| route.oldest_waiting_seconds).max().unwrap_or(0);
    let written = |status: &Status| status.outputs.iter().map(|output| output.written_messages).sum();
    let mut text = format!(
        "in {}/s  out {}/s  waiting {}",
        known(state.rate_of(received)),
        known(state.rate_of(written)),
        short(sum(|route| route.waiting))
    );
    if now.spool.is_some() {
        text.push_str(&format!("  on disk {}", short(sum(|route| route.spooled))));
    }
    if oldest > 0 {
        text.push_str(&format!("  oldest {}", duration(oldest)));
    }
    let lost = lost(now);
    text.push_str(&format!("  lost {}", short(lost as f64)));
    text
}

fn lost(status: &Status) -> u64 {
    let of_inputs: u64 = status.inputs.iter().map(|input| input.rejected + input.kernel_dropped).sum();
    of_inputs + status.routes.iter().map(|route| route.dropped).sum::<u64>()
}

/// What somebody should look at now, worst first.
pub(super) fn alarms(state: &State, now: &Status) -> Vec<String> {
    let mut alarms = Vec::new();
    if !now.ready {
        alarms.push("the relay is stopping".to_owned());
    }
    if now.configuration.last_reload.as_deref() == Some("refused") {
        alarms.push("the new configuration is refused, and an older one runs".to_owned());
    }
    for route in &now.routes {
        let per_second = route_rate(state, route, |route| route.dropped).unwrap_or(0.0);
        if per_second > 0.0 {
            let reasons = route.dropped_by_reason.iter().filter(|(_, messages)| **messages > 0);
            let reasons: Vec<&str> = reasons.map(|(reason, _)| reason.as_str()).collect();
            alarms.push(format!("route {} drops {}/s ({})", route.name, rate(per_second), reasons.join(", ")));
        }
        if let Some(parked) = &route.parked {
            alarms.push(format!("route {} is parked: {}", route.name, parked.why));
        }
    }
    for input in &now.inputs {
        let lost = |input: &Input| input.rejected + input.kernel_dropped;
        let per_second = rate_of(state, |status| &status.inputs, |other| other.name == input.name, lost);
        if per_second.is_some_and(|per_second| per_second > 0.0) {
            alarms.push(format!("input {} loses {}/s", input.name, rate(per_second.unwrap_or(0.0))));
        }
    }
    for output in &now.outputs {
        let waits = |route: &&Route| route.output.as_ref() == Some(&output.name) && route.waiting + route.spooled > 0;
        if output.connections == 0 && now.routes.iter().any(|route| waits(&route)) {
            alarms.push(format!("output {} has no connection, and messages wait for it", output.name));
        }
    }
    if let Some(spool) = now.spool.as_ref().filter(|spool| spool.state == "full" || spool.state == "failing") {
        alarms.push(format!("the spool is {}", spool.state));
    }
    alarms.truncate(ALARMS_MAX);
    alarms
}
