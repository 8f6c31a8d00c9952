//! The tables that are made of a state, and what of it is alarming.

use std::collections::BTreeMap;

use super::state::{State, View, received};
use super::status::{Input, Output, Route, Sample, Sampled, Status};
use super::table::{Builder, Cell, Mood, Table, duration, number, rate, short, text};

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
    let rate = |input: &Input, count: fn(&Input) -> u64| {
        rate_of(state, |status| &status.inputs, |other| other.name == input.name, count)
    };
    let lost_cell = |input: &Input| {
        let is_losing = rate(input, lost_by).unwrap_or(0.0) > 0.0;
        Cell::count(lost_by(input)).when(lost_by(input) > 0, Mood::Notice).when(is_losing, Mood::Alarm)
    };
    let blocked = |count: u64| Cell::count(count).when(count > 0, Mood::Notice);
    Builder::new("inputs", &now.inputs)
        .column(text("input", 14, 0), |input| Cell::text(&input.name))
        .column(number("msg/s", 7, 0), |input| Cell::rate(rate(input, |input| input.received)))
        .column(number("B/s", 7, 3), |input| Cell::rate(rate(input, |input| input.received_bytes)))
        .column(number("conns", 6, 1), |input| Cell::count(input.connections))
        .column(number("blocked", 7, 4), |input| blocked(input.blocked_connections))
        .column(number("refused", 7, 5), |input| Cell::count(input.refused_connections))
        .column(number("unmat/s", 7, 4), |input| Cell::rate(rate(input, |input| input.unmatched)))
        .column(number("discard/s", 9, 5), |input| Cell::rate(rate(input, |input| input.discarded)))
        .column(number("lost", 6, 1), lost_cell)
        .column(text("listens", 30, 6), |input| Cell::text(&input.listening.join(" ")))
        .table()
}

/// What an input has not taken.
fn lost_by(input: &Input) -> u64 {
    input.rejected + input.kernel_dropped
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

fn name(route: &Route) -> Cell {
    Cell::text(&route.name).when(route.parked.is_some(), Mood::Alarm)
}

/// Why a route drops messages, or sends none.
fn note(route: &Route) -> Cell {
    let reasons = route.dropped_by_reason.iter().filter(|(_, messages)| **messages > 0);
    let reasons: Vec<String> =
        reasons.map(|(reason, messages)| format!("{reason} {}", short(*messages as f64))).collect();
    let note = match &route.parked {
        Some(parked) => format!("parked: {}", parked.why),
        None => reasons.join(", "),
    };
    Cell::text(&note).when(true, Mood::Notice)
}

fn routes(state: &State, now: &Status) -> Table {
    Builder::new("routes", &now.routes)
        .column(text("route", 14, 0), name)
        .column(number("in/s", 7, 0), |route| Cell::rate(route_rate(state, route, taken)))
        .column(number("out/s", 7, 1), |route| Cell::rate(route_rate(state, route, |route| route.released)))
        .column(number("waiting", 7, 2), |route| Cell::count(route.waiting))
        .column(number("on disk", 7, 4), |route| Cell::count(route.spooled))
        .column(number("oldest", 7, 3), oldest)
        .column(number("dropped", 7, 1), |route| dropped(state, route))
        .column(text("to", 12, 5), |route| Cell::text(to(route)))
        .table()
}

fn routes_in_full(state: &State, now: &Status) -> Table {
    Builder::new("routes", &now.routes)
        .column(text("route", 14, 0), name)
        .column(number("in/s", 7, 0), |route| Cell::rate(route_rate(state, route, taken)))
        .column(number("out/s", 7, 1), |route| Cell::rate(route_rate(state, route, |route| route.released)))
        .column(number("taken", 7, 5), |route| Cell::count(taken(route)))
        .column(number("released", 8, 5), |route| Cell::count(route.released))
        .column(number("flight", 7, 4), |route| Cell::count(route.in_flight))
        .column(number("waiting", 7, 2), |route| Cell::count(route.waiting))
        .column(number("on disk", 7, 3), |route| Cell::count(route.spooled))
        .column(number("oldest", 7, 2), oldest)
        .column(number("resent", 7, 6), |route| Cell::count(route.resent))
        .column(number("dropped", 7, 1), |route| dropped(state, route))
        .column(text("to", 12, 7), |route| Cell::text(to(route)))
        .column(text("drops, and why", 24, 8), note)
        .table()
}

fn outputs(state: &State, now: &Status) -> Table {
    let rate = |output: &Output, count: fn(&Output) -> u64| {
        rate_of(state, |status| &status.outputs, |other| other.name == output.name, count)
    };
    let failures = |output: &Output| output.failed_connects + output.broken_connections;
    let failed =
        |output: &Output, count: u64| Cell::count(count).when(rate(output, failures).unwrap_or(0.0) > 0.0, Mood::Alarm);
    Builder::new("outputs", &now.outputs)
        .column(text("output", 14, 0), |output| Cell::text(&output.name))
        .column(number("msg/s", 7, 0), |output| Cell::rate(rate(output, |output| output.written_messages)))
        .column(number("B/s", 7, 2), |output| Cell::rate(rate(output, |output| output.written_bytes)))
        .column(number("conns", 6, 1), |output| Cell::count(output.connections))
        .column(number("failed", 7, 2), |output| failed(output, output.failed_connects))
        .column(number("broken", 7, 2), |output| failed(output, output.broken_connections))
        .column(text("to", 28, 3), |output| Cell::text(&output.to))
        .table()
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
    let unmatched = |sum: &Sampled| {
        let unmatched = percent(sum.unmatched, sum.messages);
        Cell { text: format!("{unmatched:.0}%"), value: unmatched, mood: Mood::Quiet }
            .when(unmatched > 0.0, Mood::Notice)
    };
    let share = |sum: &Sampled| {
        let share = percent(sum.messages, looked_at);
        Cell { text: format!("{share:.1}%"), value: share, mood: Mood::Plain }
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
    Builder::new(title, &rows)
        .column(text(kind, 20, 0), |(name, _)| program(name))
        .column(number("~msg/s", 8, 0), |(_, sum)| Cell::rate(Some(sum.messages as f64 * factor)))
        .column(number("share", 7, 1), |(_, sum)| share(sum))
        .column(number("~B/s", 8, 2), |(_, sum)| Cell::rate(Some(sum.bytes as f64 * factor)))
        .column(number("B/msg", 6, 3), |(_, sum)| Cell::count(sum.bytes.checked_div(sum.messages).unwrap_or(0)))
        .column(number("unmatched", 9, 2), |(_, sum)| unmatched(sum))
        .table()
}

fn unmatched(state: &State, now: &Status) -> Table {
    let of = |status: &Status, name: &str| {
        status.unmatched_programs.iter().find(|other| other.program == name).map_or(0, |other| other.messages)
    };
    let title = "programs that no route takes, the hundred most frequent since the start";
    Builder::new(title, &now.unmatched_programs)
        .column(text("program", 20, 0), |unmatched| program(&unmatched.program))
        .column(number("msg/s", 8, 0), |unmatched| Cell::rate(state.rate_of(|status| of(status, &unmatched.program))))
        .column(number("messages", 9, 0), |unmatched| Cell::count(unmatched.messages))
        .table()
}

/// A program's name, or a peer's; some messages have none.
fn program(name: &str) -> Cell {
    Cell::text(if name.is_empty() { "(none)" } else { name })
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
    let of_inputs: u64 = status.inputs.iter().map(lost_by).sum();
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
        let per_second = rate_of(state, |status| &status.inputs, |other| other.name == input.name, lost_by);
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
