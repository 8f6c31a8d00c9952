//! `/status`: the relay's state as one JSON object. Holds no key: routes are named, templates and keys are not shown.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Value, json};

use crate::config::{Action, Input, Output, Route};
use crate::harden::{Held, Standing};
use crate::metrics::{HttpMeters, InputMeters, OutputMeters, RouteMeters};
use crate::spool::{Orphan, Shared};

use super::Admin;

/// Program names without a route that are listed.
const UNMATCHED_SHOWN: usize = 100;

/// The whole object, indented for people.
pub(super) fn render(admin: &Admin) -> String {
    let common = &admin.common;
    let meters = &common.meters;
    meters.look_at_ages();
    let inputs = common.inputs.iter().zip(meters.inputs.iter()).enumerate();
    let inputs: Vec<Value> = inputs.map(|(index, (input, meters))| input_status(admin, index, input, meters)).collect();
    let routes = common.config.routes.iter().zip(meters.routes.iter());
    let routes = routes.enumerate();
    let routes: Vec<Value> = routes.map(|(index, (route, meters))| route_status(admin, index, route, meters)).collect();
    let outputs = common.outputs.iter().zip(meters.outputs.iter());
    let outputs = outputs.zip(&common.config.outputs);
    let outputs: Vec<Value> =
        outputs.map(|((output, meters), now)| output_status(output, now.retired, meters)).collect();
    let unmatched = meters.unmatched_programs.top(UNMATCHED_SHOWN);
    let unmatched: Vec<Value> =
        unmatched.into_iter().map(|(program, messages)| json!({ "program": program, "messages": messages })).collect();
    let status = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ready": meters.ready.load(Relaxed),
        "shards": common.config.cores,
        "uptime_seconds": admin.started.elapsed().as_secs(),
        "taps": common.taps.count_open(),
        "hardening": standing_status(&admin.standing),
        "inputs": inputs,
        "routes": routes,
        "outputs": outputs,
        "http": meters.http.get().map(|meters| http_status(admin, meters)),
        "spool": admin.spool.as_ref().map(|spool| spool_status(admin, spool)),
        "unmatched_programs": unmatched,
        "left_out": admin.left_out,
        "configuration": configuration_status(admin),
        "resolver_restarts": admin.common.names.restarts(),
    });
    format!("{status:#}\n")
}

/// What the process has given up. A protection that is not in force says why.
fn standing_status(standing: &Standing) -> Value {
    let held = |held: &Held| {
        let (abi, why) = match held {
            Held::On(abi) => (*abi, None),
            Held::Off => (None, Some("off in the configuration")),
            Held::Unavailable(why) => (None, Some(why.as_str())),
        };
        json!({ "active": held.is_on(), "abi": abi, "why": why })
    };
    let user = standing
        .account
        .as_ref()
        .map(|account| json!({ "name": account.name, "uid": account.uid, "gid": account.gid }));
    json!({
        "user": user,
        "root": standing.is_root,
        "no_new_privs": held(&standing.no_new_privs),
        "seccomp": held(&standing.seccomp),
        "landlock": held(&standing.landlock),
    })
}

fn input_status(admin: &Admin, index: usize, input: &Input, meters: &InputMeters) -> Value {
    let listening = admin.listening.iter().filter(|(of, _)| *of == index).map(|(_, url)| url.as_str());
    json!({
        "name": input.name,
        "retired": admin.common.config.inputs.get(index).is_some_and(|input| input.retired),
        "listening": listening.collect::<Vec<_>>(),
        "connections": meters.connections.value(),
        "blocked_connections": meters.blocked.value(),
        "refused_connections": meters.refused(),
        "received": meters.received.value(),
        "received_bytes": meters.received_bytes.value(),
        "rejected": meters.rejected_oversize.value() + meters.rejected_peer.value(),
        "discarded": meters.discarded.value(),
        "unmatched": meters.unmatched.value(),
        "routed": meters.routed.value(),
        "truncated": meters.truncated.value(),
        "unfinished": meters.unfinished.value(),
        "kernel_dropped": meters.kernel_drops.value(),
    })
}

fn route_status(admin: &Admin, index: usize, route: &Route, meters: &RouteMeters) -> Value {
    let Action::Forward { output, .. } = &route.action else {
        return json!({
            "name": route.name, "retired": route.retired, "discard": true, "discarded": meters.discarded.value(),
        });
    };
    let parked = admin.common.web.parked(index);
    json!({
        "name": route.name,
        "retired": route.retired,
        "output": admin.common.outputs.get(*output).map(|output| output.name.as_str()),
        "routed": meters.routed.value(),
        "released": meters.released.value(),
        "in_flight": meters.in_flight.value(),
        "waiting": meters.waiting.value(),
        "waiting_bytes": meters.waiting_bytes.value(),
        "spooled": meters.spooled.value(),
        "recovered": meters.recovered.value(),
        "oldest_waiting_seconds": oldest_seconds(meters),
        "dropped": meters.dropped(),
        "dropped_by_reason": meters.dropped_by_reason().into_iter().collect::<BTreeMap<_, _>>(),
        "resent": meters.resent.value(),
        "parked": parked.map(|(why, seconds)| json!({ "why": why, "tried_again_in_seconds": seconds })),
    })
}

/// How long the oldest message that is not written yet has waited, in memory or on the disk; looked at once a second. 0
/// where nothing waits.
fn oldest_seconds(meters: &RouteMeters) -> u64 {
    let in_memory = if meters.waiting.value() > 0 { meters.waiting_oldest.value() } else { 0 };
    let on_disk = if meters.spooled.value() > 0 { meters.spool_oldest_seconds.value() } else { 0 };
    in_memory.max(on_disk)
}

/// Which configuration runs, and what came of the one that was read last.
fn configuration_status(admin: &Admin) -> Value {
    let meters = &admin.common.meters.reloads;
    let (result, report) = match admin.reloads.last() {
        None => (Value::Null, Vec::new()),
        Some(Ok(changes)) => (json!("applied"), changes),
        Some(Err(report)) => (json!("refused"), report),
    };
    json!({
        "generation": meters.generation.value(),
        "applied_at": meters.applied_at.value(),
        "watch": admin.common.config.watch,
        "last_reload": result,
        "report": report,
    })
}

fn http_status(admin: &Admin, meters: &HttpMeters) -> Value {
    json!({
        "requests_per_second": admin.common.config.http.requests_per_second,
        "paused_for_seconds": admin.common.web.paused_for(),
        "queued": meters.queued.value(),
        "succeeded": meters.succeeded.value(),
        "refused": meters.redirected.value() + meters.refused.value() + meters.failed.value(),
        "unanswered": meters.unanswered.value(),
    })
}

fn spool_status(admin: &Admin, spool: &Shared) -> Value {
    let dir = admin.common.config.spool.as_ref().map(|spool| spool.dir.display().to_string());
    let orphans = spool.orphans().into_iter();
    let orphans: Vec<Value> = orphans
        .map(|Orphan { route, messages, bytes }| json!({ "route": route, "messages": messages, "bytes": bytes }))
        .collect();
    let meters = admin.common.meters.spool.as_ref();
    json!({
        "dir": dir,
        "state": spool.state().name(),
        "disk_bytes": meters.map(|meters| meters.disk_bytes.value()),
        "max_bytes": meters.map(|meters| meters.max_bytes.value()),
        "disk_free_bytes": meters.map(|meters| meters.disk_free_bytes.value()),
        "orphans": orphans,
    })
}

fn output_status(output: &Output, retired: bool, meters: &OutputMeters) -> Value {
    json!({
        "name": output.name,
        "retired": retired,
        "to": output.address(),
        "tls": output.tls.is_some(),
        "connections": meters.connections.value(),
        "connects": meters.connects.value(),
        "failed_connects": meters.failed_connects(),
        "broken_connections": meters.broken.value(),
        "written_messages": meters.written_messages.value(),
        "written_bytes": meters.written_bytes.value(),
        "acknowledged_bytes": meters.acknowledged_bytes.value(),
    })
}
