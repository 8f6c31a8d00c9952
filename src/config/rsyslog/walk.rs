//! From statements to rulesets of steps: filters have become conditions, actions outputs, and what is none of these a note.

use super::actions::{self, Send};
use super::conditions;
use super::globals::{DEFAULT_RULESET, Globals};
use super::inputs::{self, Input};
use super::legacy::Legacy;
use super::notes::Notes;
use super::queues::Queue;
use super::syntax::{Kind, Object, Statement};
use crate::config::report::Position;
use crate::route::Expression;

/// A ruleset.
pub(super) struct Ruleset {
    pub(super) name: String,
    pub(super) at: Position,
    /// Who calls it goes on with the message, whatever becomes of the copy that it gets.
    pub(super) own_queue: bool,
    pub(super) steps: Vec<Step>,
}

/// What is done with a message, in order.
pub(super) struct Step {
    pub(super) at: Position,
    pub(super) kind: StepKind,
}

/// One thing that is done.
pub(super) enum StepKind {
    /// One of two ways; without a condition the first.
    When {
        condition: Option<String>,
        then: Vec<Step>,
        otherwise: Vec<Step>,
    },
    /// A condition that we do not understand: the second way is taken.
    Never {
        otherwise: Vec<Step>,
    },
    Send(Box<Send>),
    Stop,
    Call(String),
    Set {
        variable: String,
        value: String,
    },
}

/// What a configuration's statements come to.
pub(super) struct Walked {
    /// The default one first.
    pub(super) rulesets: Vec<Ruleset>,
    pub(super) inputs: Vec<Input>,
    pub(super) queues: Vec<Queue>,
    /// Who may send: protocol, networks.
    pub(super) allowed: Vec<(Position, String, Vec<String>)>,
}

/// Walks through all statements in their order, which is what directives of old depend on.
pub(super) fn walk(statements: &[Statement], at: &Position, globals: &Globals, notes: &mut Notes) -> Walked {
    let default = Ruleset { name: DEFAULT_RULESET.to_owned(), at: at.clone(), own_queue: false, steps: Vec::new() };
    let walked = Walked { rulesets: vec![default], inputs: Vec::new(), queues: Vec::new(), allowed: Vec::new() };
    let mut walker = Walker { globals, notes, legacy: Legacy::new(), walked };
    for statement in statements {
        walker.top_level(statement);
    }
    let Walker { legacy, mut walked, .. } = walker;
    walked.queues.extend(legacy.queue.into_iter().chain(legacy.main_queue));
    walked.allowed = legacy.allowed;
    walked
}

struct Walker<'a> {
    globals: &'a Globals,
    notes: &'a mut Notes,
    legacy: Legacy,
    walked: Walked,
}

impl Walker<'_> {
    fn top_level(&mut self, statement: &Statement) {
        if let Kind::Object(object) = &statement.kind
            && object.name == "ruleset"
            && self.is_enabled(&statement.at, object)
        {
            let steps = self.steps(object.body.as_deref().unwrap_or_default());
            let queue = Queue::of_object(object, self.notes);
            let name = object.text("name").unwrap_or_default();
            self.notes.mapped(&statement.at, &format!("ruleset \"{name}\""), "the routes of its inputs");
            for param in object.params.iter().filter(|param| param.name != "name" && !param.name.starts_with("queue."))
            {
                let construct = format!("ruleset(name=\"{name}\" {})", param.name);
                self.notes.unsupported(&param.at, &construct, "messages are read as rsyslog's own parsers do");
            }
            let ruleset = self.ruleset(&name, &statement.at);
            ruleset.steps.extend(steps);
            ruleset.own_queue |= queue.is_some();
            self.walked.queues.extend(queue);
            return;
        }
        if let Some(step) = self.step(statement) {
            let name = self.legacy.ruleset.clone();
            let own_queue = self.legacy.own_queue && name != DEFAULT_RULESET;
            let ruleset = self.ruleset(&name, &statement.at);
            ruleset.steps.push(step);
            ruleset.own_queue |= own_queue;
        }
    }

    /// The ruleset of that name, made where it is missing.
    fn ruleset(&mut self, name: &str, at: &Position) -> &mut Ruleset {
        let rulesets = &mut self.walked.rulesets;
        let index =
            rulesets.iter().position(|ruleset| ruleset.name.eq_ignore_ascii_case(name)).unwrap_or(rulesets.len());
        if index == rulesets.len() {
            rulesets.push(Ruleset { name: name.to_owned(), at: at.clone(), own_queue: false, steps: Vec::new() });
        }
        #[expect(clippy::indexing_slicing, reason = "found, or pushed above")]
        &mut rulesets[index]
    }

    fn steps(&mut self, statements: &[Statement]) -> Vec<Step> {
        statements.iter().filter_map(|statement| self.step(statement)).collect()
    }

    fn step(&mut self, statement: &Statement) -> Option<Step> {
        let at = &statement.at;
        let kind = match &statement.kind {
            Kind::Directive { name, value } => {
                let input = self.legacy.directive(at, name, value, self.globals, self.notes);
                self.walked.inputs.extend(input);
                return None;
            }
            Kind::Object(object) => self.object(at, object)?,
            Kind::If { condition, then, otherwise } => {
                let (then, otherwise) = (self.steps(then), self.steps(otherwise));
                match self.is_understood(at, condition) {
                    true => StepKind::When { condition: Some(condition.clone()), then, otherwise },
                    false => StepKind::Never { otherwise },
                }
            }
            Kind::Selector { text, then } => {
                let then = self.steps(then);
                StepKind::When { condition: conditions::of_selector(text), then, otherwise: Vec::new() }
            }
            Kind::Property { filter, then } => {
                let then = self.steps(then);
                match conditions::of_property(filter) {
                    Ok(condition) if self.is_understood(at, &condition) => {
                        StepKind::When { condition: Some(condition), then, otherwise: Vec::new() }
                    }
                    Ok(_) => return None,
                    Err(why) => {
                        self.notes.unsupported(at, &format!(":{}, …", filter.property), why);
                        return None;
                    }
                }
            }
            Kind::Block(statements) => {
                StepKind::When { condition: None, then: self.steps(statements), otherwise: Vec::new() }
            }
            Kind::Legacy(word) => {
                let mut send = actions::of_word(at, word, self.globals, &mut self.legacy, self.notes)?;
                self.walked.queues.extend(send.queue.take());
                StepKind::Send(Box::new(send))
            }
            Kind::Stop => StepKind::Stop,
            Kind::Call(name) => StepKind::Call(name.clone()),
            Kind::Set { variable, value } => StepKind::Set { variable: variable.clone(), value: value.clone() },
            Kind::Other { what } => {
                self.notes.unsupported(at, what.split(' ').next().unwrap_or_default(), "nothing is done in its place");
                return None;
            }
        };
        Some(Step { at: at.clone(), kind })
    }

    /// Messages have no variables of their own here: where the configuration fills them, what they hold is not known. Other
    /// mistakes are the loader's.
    fn is_understood(&mut self, at: &Position, condition: &str) -> bool {
        if let Some(variable) = conditions::message_variable(condition).filter(|_| self.globals.fills_variables) {
            let why = "what it holds is not known here: the condition is taken never to hold";
            self.notes.unsupported(at, variable, why);
            return false;
        }
        match Expression::parse(condition) {
            Err(error) if error.message.contains("not supported") => {
                let why = format!("{}; the condition is taken never to hold", error.message);
                self.notes.unsupported(at, "a condition", why);
                false
            }
            _ => true,
        }
    }

    fn object(&mut self, at: &Position, object: &Object) -> Option<StepKind> {
        if !self.is_enabled(at, object) {
            return None;
        }
        match object.name.as_str() {
            "action" => {
                let mut send = actions::of_object(at, object, self.globals, &self.legacy, self.notes)?;
                self.walked.queues.extend(send.queue.take());
                return Some(StepKind::Send(Box::new(send)));
            }
            "input" => {
                let input = inputs::of_object(at, object, self.globals, self.notes);
                self.walked.inputs.extend(input);
            }
            "main_queue" => {
                let queue = Queue::of_object(object, self.notes);
                self.walked.queues.extend(queue);
            }
            // Read before: what holds for the whole configuration.
            "global" | "module" | "template" => {}
            other => self.notes.unsupported(at, &format!("{other}(…)"), "there is no such thing here"),
        }
        None
    }

    /// `config.enabled="off"` turns an object off.
    fn is_enabled(&mut self, at: &Position, object: &Object) -> bool {
        let is_off = !object.is_enabled();
        if is_off {
            self.notes.mapped(at, &format!("{}(…)", object.name), "turned off by config.enabled");
        }
        !is_off
    }
}
