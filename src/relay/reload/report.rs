//! What is said of a reload: what it changes, and what takes a restart.

use crate::config::{Action, Config, Input, Loaded, Mistake, Order, Output, Route, Spool};

/// Entries that may have come and gone while the process runs, of each kind: their numbers and counters stay.
const ENTRIES_MAX: usize = 16_384;

const RESTART: &str = "changed, which takes a restart: nothing of the new configuration is applied";

/// What a running relay cannot change: a mistake for each, in the place of its key.
pub(super) fn unchangeable(before: &Config, loaded: &Loaded) -> Vec<Mistake> {
    let now = &loaded.config;
    let mut mistakes = Vec::new();
    let mut unless = |is_same: bool, path: &str| {
        if !is_same {
            mistakes.push(loaded.places.mistake(path, RESTART));
        }
    };
    unless(before.cores == now.cores, "cores");
    unless(before.admin == now.admin, "admin.listen");
    unless(before.admin_access.tls == now.admin_access.tls, "admin.tls");
    unless(before.user == now.user, "user");
    unless(before.hardening == now.hardening, "hardening");
    unless(before.log.format == now.log.format, "log.format");
    match (&before.spool, &now.spool) {
        (Some(before), Some(now)) => of_spool(before, now).iter().for_each(|(is_same, path)| unless(*is_same, path)),
        (before, now) => unless(before.is_some() == now.is_some(), "spool"),
    }
    for input in &now.inputs {
        let known = before.inputs.iter().find(|known| known.name == input.name && !known.retired);
        let stays = known.is_some_and(|known| known.listen.iter().any(|listen| input.listen.contains(listen)));
        let is_same = known.is_none_or(|known| known.receive_buffer == input.receive_buffer);
        unless(is_same || !stays, &format!("inputs.{}.receive_buffer", input.name));
    }
    let has_spool = now.spool.is_some();
    for output in &now.outputs {
        let known = before.outputs.iter().find(|known| known.name == output.name);
        let is_same = known.is_none_or(|known| is_newest_first(known) == is_newest_first(output));
        unless(is_same || !has_spool, &format!("outputs.{}.order", output.name));
    }
    for (index, route) in now.routes.iter().enumerate().filter(|_| has_spool) {
        let known = before.routes.iter().find(|known| known.name == route.name);
        let orders = known.and_then(|known| order_of(before, known)).zip(order_of(now, route));
        let is_same = orders.is_none_or(|(before, now)| before == now);
        unless(is_same, &format!("routes[{index}].output"));
    }
    let counts = [
        (before.inputs.len() + now.inputs.len(), "inputs"),
        (before.outputs.len() + now.outputs.len(), "outputs"),
        (before.routes.len() + now.routes.len(), "routes"),
    ];
    for (count, path) in counts {
        if count > ENTRIES_MAX {
            let message = "too many have come and gone since the relay was started: restart it";
            mistakes.push(loaded.places.mistake(path, message));
        }
    }
    mistakes.sort();
    mistakes.dedup();
    mistakes
}

fn of_spool(before: &Spool, now: &Spool) -> [(bool, &'static str); 9] {
    [
        (before.dir == now.dir, "spool.dir"),
        (before.max_size == now.max_size, "spool.max_size"),
        (before.when_full == now.when_full, "spool.when_full"),
        (before.durability == now.durability, "spool.durability"),
        (before.sync == now.sync, "spool.sync"),
        (before.min_free == now.min_free, "spool.min_free"),
        (before.compression == now.compression, "spool.compression"),
        (before.spill_after == now.spill_after, "spool.spill_after"),
        (before.encryption_key == now.encryption_key, "spool.encryption_key_file"),
    ]
}

fn is_newest_first(output: &Output) -> bool {
    matches!(output.order, Order::NewestFirst { .. })
}

fn order_of(config: &Config, route: &Route) -> Option<bool> {
    match route.action {
        Action::Forward { output, .. } => config.outputs.get(output).map(is_newest_first),
        Action::Discard => None,
    }
}

/// What is another now, in words.
pub(super) fn changes(before: &Config, now: &Config) -> Vec<String> {
    let mut changes = Vec::new();
    let inputs =
        |config: &Config| -> Vec<_> { config.inputs.iter().map(|input| (input.name.clone(), input.retired)).collect() };
    let outputs = |config: &Config| -> Vec<_> {
        config.outputs.iter().map(|output| (output.name.clone(), output.retired)).collect()
    };
    let routes =
        |config: &Config| -> Vec<_> { config.routes.iter().map(|route| (route.name.clone(), route.retired)).collect() };
    of_names("input", &inputs(before), &inputs(now), &mut changes);
    of_names("output", &outputs(before), &outputs(now), &mut changes);
    of_names("route", &routes(before), &routes(now), &mut changes);
    for (known, input) in before.inputs.iter().zip(&now.inputs).filter(|(_, input)| !input.retired) {
        if !known.retired
            && (Input { listen: Vec::new(), ..known.clone() }) != (Input { listen: Vec::new(), ..input.clone() })
        {
            changes.push(format!("input {} changed: new connections are taken as it says", input.name));
        }
    }
    for (known, output) in before.outputs.iter().zip(&now.outputs).filter(|(_, output)| !output.retired) {
        if !known.retired && !super::are_alike(known, output) {
            changes.push(format!("output {} changed: its connections are made anew", output.name));
        }
    }
    for (known, route) in before.routes.iter().zip(&now.routes).filter(|(_, route)| !route.retired) {
        let parts = if known.retired { Vec::new() } else { parts_of_route((before, known), (now, route)) };
        if !parts.is_empty() {
            changes.push(format!("route {} changed: {}", route.name, parts.join(", ")));
        }
    }
    let order = |config: &Config| -> Vec<usize> {
        config.order.iter().filter(|route| before.order.contains(route) && now.order.contains(route)).copied().collect()
    };
    if order(before) != order(now) {
        changes.push("routes are asked in another order".to_owned());
    }
    if before.log.level != now.log.level {
        changes.push(format!("log.level is {}", now.log.level));
    }
    if before.memory_max != now.memory_max {
        changes.push("memory.max changed".to_owned());
    }
    changes
}

/// What of a route is another.
fn parts_of_route((before, known): (&Config, &Route), (now, route): (&Config, &Route)) -> Vec<&'static str> {
    let mut parts = Vec::new();
    // As people read them, all of them are in it.
    if format!("{:?}", known.conditions) != format!("{:?}", route.conditions) || known.continues != route.continues {
        parts.push("conditions");
    }
    let forward = |config: &Config, route: &Route| match &route.action {
        Action::Forward { output, template, intake_key } => {
            let output = config.outputs.get(*output).map(|output| output.name.clone());
            Some((output, template.text_hash(), intake_key.clone()))
        }
        Action::Discard => None,
    };
    match (forward(before, known), forward(now, route)) {
        (Some(known), Some(route)) => {
            parts.extend((known.0 != route.0).then_some("output"));
            parts.extend((known.1 != route.1).then_some("template"));
            parts.extend((known.2 != route.2).then_some("intake key"));
        }
        (None, None) => {}
        _ => parts.push("discard"),
    }
    if known.spool != route.spool {
        parts.push("spool");
    }
    parts
}

/// Names that came, left, or came back.
fn of_names(kind: &str, before: &[(String, bool)], now: &[(String, bool)], changes: &mut Vec<String>) {
    for (index, (name, retired)) in now.iter().enumerate() {
        let was_there = before.get(index).is_some_and(|(_, retired)| !retired);
        match (was_there, retired) {
            (false, false) => changes.push(format!("{kind} {name} added")),
            (true, true) if kind == "route" => {
                changes.push(format!("route {name} removed: it takes nothing more, what waits in it still goes out"));
            }
            (true, true) => changes.push(format!("{kind} {name} removed")),
            _ => {}
        }
    }
}
