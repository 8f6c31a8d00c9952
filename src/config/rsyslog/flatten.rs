//! From rulesets to routes. Nothing that is left changes a message, so that what happens to one can be asked for from the
//! front: each action and each `stop` is a route, with the conditions around it.
//!
//! A route goes on (`continue`) unless what surely happens next is a `stop` or the ruleset's end. What `else` leads to has
//! the condition negated. `call` is its ruleset's steps in its place; where that has a queue of its own, it works on a copy:
//! its `stop` ends the copy's way, not the message's.

use std::collections::HashSet;

use super::actions::Send;
use super::conditions::{self, Variables};
use super::notes::Notes;
use super::outputs::Made;
use super::templates::{self, Templates};
use super::walk::{Ruleset, Step, StepKind};
use crate::config::foreign::unique;
use crate::config::limits;
use crate::config::report::{Mistakes, Position};
use crate::config::tree::{Node, Value};

/// Rulesets that call each other.
const CALLS_DEEP_MAX: usize = 16;

/// Steps that are looked at, those of called rulesets each time they are called: many times what a file of the largest size
/// has without calls.
const STEPS_MAX: usize = 200_000;

/// Octets of a route's condition; the loader's own limit is the same.
const CONDITION_LEN_MAX: usize = 65_536;

/// Makes routes and outputs.
pub(super) struct Flattener<'a> {
    pub(super) rulesets: &'a [Ruleset],
    pub(super) templates: &'a Templates,
    pub(super) notes: &'a mut Notes,
    pub(super) mistakes: &'a mut Mistakes,
    /// By name, in the order of their first use.
    pub(super) outputs: Vec<(String, Node)>,
    pub(super) routes: Vec<Node>,
    names: HashSet<String>,
    output_names: HashSet<String>,
    steps: usize,
}

/// What surely happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Nothing more: the message's way ends.
    End,
    /// `stop`
    Stop,
    /// Something that depends on the message, or another action.
    Other,
}

/// The way to a step.
#[derive(Clone, Default)]
struct Way {
    /// All of them hold.
    guard: Vec<String>,
    variables: Variables,
    /// For each copy that this is on the way of: under which conditions it was stopped.
    copies: Vec<Vec<Option<String>>>,
    /// Rulesets that are being called.
    calls: Vec<String>,
    /// Names of the inputs; `None`: all there are.
    inputs: Option<Vec<String>>,
}

impl<'a> Flattener<'a> {
    pub(super) fn new(
        rulesets: &'a [Ruleset],
        templates: &'a Templates,
        notes: &'a mut Notes,
        mistakes: &'a mut Mistakes,
    ) -> Self {
        Self {
            rulesets,
            templates,
            notes,
            mistakes,
            outputs: Vec::new(),
            routes: Vec::new(),
            names: HashSet::new(),
            output_names: HashSet::new(),
            steps: 0,
        }
    }

    /// The routes of a ruleset, for messages of these inputs.
    pub(super) fn ruleset(&mut self, ruleset: &Ruleset, inputs: Option<Vec<String>>) {
        let mut way = Way { inputs, calls: vec![ruleset.name.to_lowercase()], ..Way::default() };
        self.steps(&ruleset.steps, &mut way, Next::End);
    }

    /// Whether every message that comes here has its way ended here.
    fn steps(&mut self, steps: &[Step], way: &mut Way, next: Next) -> bool {
        let mut ended = false;
        for (index, step) in steps.iter().enumerate() {
            if ended {
                // What follows a `stop`, or the action in front of one, is that `stop`, or never reached.
                if !matches!(step.kind, StepKind::Stop) {
                    self.notes.meaningless(&step.at, "a statement", "never reached: a \"stop\" stands before it");
                }
                continue;
            }
            let next = next_of(steps.get(index + 1..).unwrap_or_default(), next);
            ended = self.step(step, way, next);
        }
        ended
    }

    fn step(&mut self, step: &Step, way: &mut Way, next: Next) -> bool {
        self.steps += 1;
        if self.steps >= STEPS_MAX || self.routes.len() > limits::ROUTES_MAX {
            if self.steps == STEPS_MAX {
                let message = format!("more than {STEPS_MAX} steps: rulesets that are called too often");
                self.mistakes.add(&step.at, &"", message);
            }
            return true;
        }
        match &step.kind {
            StepKind::Send(send) => self.send(&step.at, send, way, next),
            StepKind::Stop => self.stop(&step.at, way),
            StepKind::When { condition: None, then, .. } => self.steps(then, way, next),
            StepKind::When { condition: Some(condition), then, otherwise } => {
                match conditions::substituted(condition, &way.variables) {
                    Ok(condition) => self.branches(&condition, then, otherwise, way, next),
                    Err(variable) => {
                        let why = "its value depends on the message: the condition is taken never to hold";
                        self.notes.unsupported(&step.at, &variable, why);
                        self.steps(otherwise, way, next)
                    }
                }
            }
            StepKind::Never { otherwise } => self.steps(otherwise, way, next),
            StepKind::Call(name) => self.call(&step.at, name, way, next),
            StepKind::Set { variable, value } => {
                self.set(&step.at, variable, value, way);
                false
            }
        }
    }

    fn branches(&mut self, condition: &str, then: &[Step], otherwise: &[Step], way: &mut Way, next: Next) -> bool {
        let before = way.variables.clone();
        way.guard.push(condition.to_owned());
        let first_ended = self.steps(then, way, next);
        way.guard.pop();
        let after_first = std::mem::replace(&mut way.variables, before);
        way.guard.push(conditions::not(condition));
        let second_ended = self.steps(otherwise, way, next);
        way.guard.pop();
        // What one way has set and the other has not depends on the message from here on.
        let second = std::mem::take(&mut way.variables);
        for variable in after_first.keys().chain(second.keys()) {
            let (one, other) = (after_first.get(variable), second.get(variable));
            let value = if one == other { one.cloned().flatten() } else { None };
            way.variables.insert(variable.clone(), value);
        }
        first_ended && second_ended && !otherwise.is_empty()
    }

    fn set(&mut self, at: &Position, variable: &str, value: &str, way: &mut Way) {
        let construct = format!("set {variable}");
        if !variable.starts_with("$.") {
            self.notes.unsupported(at, &construct, "messages are not changed");
            way.variables.insert(variable.to_lowercase(), None);
            return;
        }
        let value = conditions::substituted(value, &way.variables).ok().filter(|value| is_operand(value));
        match &value {
            Some(_) => self.notes.mapped(at, &construct, "its value stands in the conditions that ask for it"),
            None => self.notes.unsupported(at, &construct, "a value that is computed"),
        }
        way.variables.insert(variable.to_lowercase(), value);
    }

    fn call(&mut self, at: &Position, name: &str, way: &mut Way, next: Next) -> bool {
        let rulesets = self.rulesets;
        let Some(ruleset) = rulesets.iter().find(|ruleset| ruleset.name.eq_ignore_ascii_case(name)) else {
            self.mistakes.add(at, &"", format!("call {name}: there is no ruleset of that name"));
            return false;
        };
        let lower = name.to_lowercase();
        if way.calls.contains(&lower) || way.calls.len() >= CALLS_DEEP_MAX {
            self.mistakes.add(at, &"", format!("call {name}: rulesets that call each other without an end"));
            return false;
        }
        way.calls.push(lower);
        let ended = if ruleset.own_queue {
            let variables = way.variables.clone();
            way.copies.push(Vec::new());
            self.steps(&ruleset.steps, way, Next::Other);
            way.copies.pop();
            way.variables = variables;
            false
        } else {
            self.steps(&ruleset.steps, way, next)
        };
        way.calls.pop();
        ended
    }

    fn stop(&mut self, at: &Position, way: &mut Way) -> bool {
        let guard = conditions::all(&way.guard);
        if let Some(copy) = way.copies.last_mut() {
            copy.push(guard);
            return true;
        }
        let mut route = self.route(at, "stop", way);
        route.set("discard", Node::text(at, "true"));
        self.add(at, route);
        true
    }

    fn send(&mut self, at: &Position, send: &Send, way: &Way, next: Next) -> bool {
        let ends = next != Next::Other && way.copies.is_empty();
        let template = send.template.as_str();
        let Some(found) = templates::find(self.templates, template, at) else {
            let message = format!("there is no template \"{template}\", nor one that could be taken over");
            self.mistakes.add(at, &"", message);
            return ends;
        };
        if way.copies.iter().flatten().any(Option::is_none) {
            // Stopped whatever it is like.
            return false;
        }
        let own_template = (!template.starts_with("RSYSLOG_")).then_some(template);
        let name = send.name.as_deref().or(own_template).unwrap_or(&send.output.name);
        let mut route = self.route(at, name, way);
        let output = self.output(&send.output);
        self.notes.mapped(at, &send.construct, format!("a route to outputs.{output}"));
        route.set("output", Node::text(at, output));
        route.set("template", Node::text(&found.at, found.text));
        if let Some(key) = found.key {
            route.set("intake_key", Node::text(&found.at, key));
        }
        if !ends {
            route.set("continue", Node::text(at, "true"));
        }
        self.add(at, route);
        ends
    }

    /// A route with its name and conditions.
    fn route(&mut self, at: &Position, name: &str, way: &Way) -> Node {
        let name: String = name.chars().filter(char::is_ascii_graphic).take(56).collect();
        let name = if name.is_empty() { "route".to_owned() } else { name };
        let mut route = Node::map(at);
        route.set("name", Node::text(at, unique(&name, &mut self.names)));
        if let Some(inputs) = &way.inputs {
            let names = inputs.iter().map(|name| Node::text(at, name)).collect();
            route.set("input", Node::list(at, names));
        }
        let stopped = way.copies.iter().flatten().flatten().map(|condition| conditions::not(condition));
        let guard: Vec<String> = way.guard.iter().cloned().chain(stopped).collect();
        if let Some(when) = conditions::all(&guard) {
            if when.len() > CONDITION_LEN_MAX {
                self.mistakes.add(at, &"", format!("conditions of more than {CONDITION_LEN_MAX} octets around this"));
                return route;
            }
            route.set("when", Node::text(at, when));
        }
        route
    }

    fn add(&mut self, at: &Position, route: Node) {
        match self.routes.len() {
            limits::ROUTES_MAX => {
                self.mistakes.add(at, &"", format!("more than {} routes", limits::ROUTES_MAX));
            }
            len if len > limits::ROUTES_MAX => return,
            _ => {}
        }
        self.routes.push(route);
    }

    /// The output's name; equal ones are one.
    fn output(&mut self, made: &Made) -> String {
        if let Some((name, _)) = self.outputs.iter().find(|(_, node)| is_same(node, &made.node)) {
            return name.clone();
        }
        let name = unique(&made.name, &mut self.output_names);
        self.outputs.push((name.clone(), made.node.clone()));
        name
    }
}

/// What surely comes first of these steps, else `after`.
fn next_of(steps: &[Step], after: Next) -> Next {
    for step in steps {
        match &step.kind {
            StepKind::Stop => return Next::Stop,
            StepKind::Set { .. } => {}
            StepKind::When { condition: None, then, .. } => match next_of(then, Next::End) {
                Next::End => {}
                next => return next,
            },
            _ => return Next::Other,
        }
    }
    after
}

/// A text, a number or one property: what can stand where a variable stands.
fn is_operand(value: &str) -> bool {
    let inner = value.get(1..value.len().saturating_sub(1)).unwrap_or_default();
    let is_quoted =
        |quote: char| value.len() > 1 && value.starts_with(quote) && value.ends_with(quote) && !inner.contains(quote);
    let is_property = value.strip_prefix('$').is_some_and(|name| {
        !name.is_empty() && name.chars().all(|each| each.is_ascii_alphanumeric() || each == '-' || each == '_')
    });
    is_quoted('"')
        || is_quoted('\'')
        || is_property
        || (!value.is_empty() && value.chars().all(|each| each.is_ascii_digit()))
}

/// Equal but for where they stand.
fn is_same(one: &Node, other: &Node) -> bool {
    match (&one.value, &other.value) {
        (Value::Nothing, Value::Nothing) => true,
        (Value::Scalar(one), Value::Scalar(other)) => one.text == other.text,
        (Value::List(one), Value::List(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Map(one), Value::Map(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|(one, other)| one.key == other.key && is_same(&one.node, &other.node))
        }
        _ => false,
    }
}
