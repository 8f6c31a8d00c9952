//! rsyslog's configuration, read as it is: files to `inputs`, `outputs`, `routes` and `spool`.
//!
//! `files` finds them, `parse` (on `scan`) makes statements of their text, `globals`, `templates` and `walk` (with `legacy`,
//! `inputs`, `actions`, `outputs`, `queues`) say what each of them is here, `flatten` makes routes of rulesets. What has no equal is
//! a note; nothing is skipped without one. Reads files and looks whether some are there; opens no socket.

mod actions;
mod conditions;
mod files;
mod flatten;
mod fuzz;
mod globals;
mod inputs;
mod legacy;
mod notes;
mod outputs;
mod parse;
mod queues;
mod scan;
mod syntax;
mod templates;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::HashSet;
use std::path::PathBuf;

use super::foreign::{Foreign, unique};
use super::report::{Mistakes, Position};
use super::tree::{Node, Value};
use crate::route::parse_net;
use files::Files;
use flatten::Flattener;
use globals::Globals;
use inputs::Input;
use notes::Notes;
use syntax::Statement;
use walk::{Ruleset, Walked};

#[doc(hidden)]
pub use fuzz::fuzz;

/// Reports follow the order in which files were read: these come after what names them.
pub(crate) const RANK: usize = 1 << 20;

/// Reads the files of all patterns as one configuration. `alone`: nothing else has inputs, so that routes need not name
/// theirs. `Err`: files that cannot be read, or mistakes of syntax; they are in `mistakes`.
pub(crate) fn read(patterns: &[(Position, PathBuf)], alone: bool, mistakes: &mut Mistakes) -> Result<Foreign, ()> {
    let mut notes = Notes::default();
    let before = mistakes.0.len();
    let mut statements = Vec::new();
    let mut files = Files::new(RANK, &mut notes, mistakes);
    for (at, pattern) in patterns {
        statements.extend(files.named(at, pattern));
    }
    if mistakes.0.len() > before {
        return Err(());
    }
    let at = patterns.first().map(|(at, _)| at.clone()).ok_or(())?;
    Ok(meaning(&statements, &at, alone, notes, mistakes))
}

/// What statements are here.
fn meaning(statements: &[Statement], at: &Position, alone: bool, mut notes: Notes, mistakes: &mut Mistakes) -> Foreign {
    let globals = globals::read(statements, &mut notes);
    let templates = templates::read(statements, &mut notes);
    let Walked { rulesets, mut inputs, queues, allowed } = walk::walk(statements, at, &globals, &mut notes);
    let default = globals.default_ruleset.clone().unwrap_or_else(|| globals::DEFAULT_RULESET.to_owned());
    let has_steps = rulesets.iter().any(|each| each.name.eq_ignore_ascii_case(&default) && !each.steps.is_empty());
    inputs.extend(inputs::system_socket(&globals, &mut notes).filter(|_| has_steps));
    tell_of_system_socket(&globals, has_steps, &mut notes);
    let share_a_name = name(&mut inputs, &mut notes);
    complete(&mut inputs, &globals, &allowed, &mut notes);
    let spool = queues::spool(&queues, &globals, &mut notes);

    let mut flattener = Flattener::new(&rulesets, &templates, &mut notes, mistakes);
    let one_way =
        alone && inputs.iter().all(|input| leads_to(input, &default).eq_ignore_ascii_case(first(&inputs, &default)));
    for ruleset in &rulesets {
        let names: Vec<String> = inputs
            .iter()
            .filter(|input| leads_to(input, &default).eq_ignore_ascii_case(&ruleset.name))
            .map(|input| input.name.clone())
            .collect();
        let is_default = ruleset.name.eq_ignore_ascii_case(&default);
        if names.is_empty() && !(is_default && inputs.is_empty()) {
            if !ruleset.steps.is_empty() && !is_called(&rulesets, &ruleset.name) {
                let message = "no input leads to it: its actions are left out";
                flattener.notes.unsupported(&ruleset.at, &format!("ruleset \"{}\"", ruleset.name), message);
            }
            continue;
        }
        flattener.ruleset(ruleset, (!one_way && !names.is_empty()).then_some(names));
    }
    let Flattener { outputs, routes, .. } = flattener;
    if share_a_name {
        tell_of_input_names(&routes, &mut notes);
    }
    for input in &inputs {
        let name = leads_to(input, &default);
        if !rulesets.iter().any(|ruleset| ruleset.name.eq_ignore_ascii_case(name)) {
            mistakes.add(&input.at, &"", format!("there is no ruleset \"{name}\""));
        }
    }
    let mut root = Node::map(at);
    put(&mut root, "inputs", at, inputs.into_iter().map(|input| (input.name, input.node)));
    put(&mut root, "outputs", at, outputs.into_iter());
    if !routes.is_empty() {
        root.set("routes", Node::list(at, routes));
    }
    if let Some(spool) = spool {
        root.set("spool", spool);
    }
    Foreign { root, notes: notes.0 }
}

fn leads_to<'a>(input: &'a Input, default: &'a str) -> &'a str {
    input.ruleset.as_deref().unwrap_or(default)
}

fn first<'a>(inputs: &'a [Input], default: &'a str) -> &'a str {
    inputs.first().map_or(default, |input| leads_to(input, default))
}

fn put(root: &mut Node, key: &str, at: &Position, entries: impl Iterator<Item = (String, Node)>) {
    let mut map = Node::map(at);
    entries.for_each(|(name, node)| map.set(name, node));
    if !matches!(&map.value, Value::Map(entries) if entries.is_empty()) {
        root.set(key, map);
    }
}

fn is_called(rulesets: &[Ruleset], name: &str) -> bool {
    fn calls(steps: &[walk::Step], name: &str) -> bool {
        steps.iter().any(|step| match &step.kind {
            walk::StepKind::Call(called) => called.eq_ignore_ascii_case(name),
            walk::StepKind::When { then, otherwise, .. } => calls(then, name) || calls(otherwise, name),
            walk::StepKind::Never { otherwise } => calls(otherwise, name),
            _ => false,
        })
    }
    rulesets.iter().any(|ruleset| calls(&ruleset.steps, name))
}

fn tell_of_system_socket(globals: &Globals, is_opened: bool, notes: &mut Notes) {
    let Some((at, _)) = globals.modules.get("imuxsock") else { return };
    match is_opened {
        true => notes.mapped(at, "the system's log socket", "an input; the message's own stamp is used"),
        false => {
            notes.meaningless(at, "the system's log socket", "nothing is done with its messages, it is not opened")
        }
    }
}

/// Gives each input a name of its own: its module's, which rsyslog gives to those that have none, where that is one only.
/// Whether inputs share a name for rsyslog.
fn name(inputs: &mut [Input], notes: &mut Notes) -> bool {
    let unnamed: Vec<String> = inputs.iter().filter(|input| !input.is_named).map(|input| input.kind.clone()).collect();
    let is_alone = |kind: &String| unnamed.iter().filter(|other| *other == kind).count() == 1;
    let mut names = HashSet::new();
    let mut share_a_name = false;
    for input in inputs.iter_mut() {
        if !input.is_named && is_alone(&input.kind) {
            input.name.clone_from(&input.kind);
        }
        let given = std::mem::take(&mut input.name);
        input.name = unique(&given, &mut names);
        share_a_name |= input.name != given || !(input.is_named || is_alone(&input.kind));
        notes.mapped(&input.at, &input.construct, format!("inputs.{}", input.name));
    }
    share_a_name
}

/// `inputname` is the name that an input has here.
fn tell_of_input_names(routes: &[Node], notes: &mut Notes) {
    for route in routes {
        for key in ["when", "template"] {
            if let Some(Node { at, value: Value::Scalar(text) }) = route.get(key)
                && text.text.to_lowercase().contains("inputname")
            {
                let why = "inputs that share a name in rsyslog have names of their own here";
                notes.unsupported(at, "inputname", why);
            }
        }
    }
}

/// Sizes, and who may send.
fn complete(inputs: &mut [Input], globals: &Globals, allowed: &[(Position, String, Vec<String>)], notes: &mut Notes) {
    for input in inputs.iter_mut() {
        if let Some((at, text)) = &globals.max_message_size
            && input.node.get("max_message_size").is_none()
        {
            match globals::size(text) {
                Some(octets) => input.node.set("max_message_size", Node::text(at, inputs::message_size(octets))),
                None => notes.unsupported(at, "maxMessageSize", "not a size as rsyslog writes it, such as 64k"),
            }
        }
        let mine = allowed.iter().filter(|(_, protocol, _)| protocol == input.protocol);
        let mut networks = Vec::new();
        for (at, _, senders) in mine {
            if senders.iter().any(|sender| parse_net(sender).is_err()) {
                notes.unsupported(at, "$AllowedSender", "names are not looked up: everybody may send");
                networks.clear();
                break;
            }
            networks.extend(senders.iter().map(|sender| Node::text(at, sender)));
        }
        if let Some(at) = networks.first().map(|node| node.at.clone()) {
            input.node.set("allow", Node::list(&at, networks));
        }
    }
}
