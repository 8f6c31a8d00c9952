//! `routes:`: references, keys, templates and names.

use std::collections::{HashMap, HashSet};

use super::*;
use crate::config::leaf::{Contains, Pattern, Text};
use crate::config::report::did_you_mean;
use crate::config::{Action, IntakeKey, OutputFraming, Protocol, Route, Spool};
use crate::route::{Conditions, Expression, Rule, shadowed};
use crate::template::Template;

impl Resolver<'_> {
    pub(super) fn routes(
        &mut self,
        raw: Vec<raw::Route>,
        inputs: &[Input],
        outputs: &[Output],
        spool: Option<&Spool>,
    ) -> Vec<Route> {
        let path = Path::root().key("routes");
        if raw.is_empty() {
            self.missing(&path, "no routes, expected at least one");
        }
        if raw.len() > limits::ROUTES_MAX {
            self.mistake(&path, format!("found {} routes, expected at most {}", raw.len(), limits::ROUTES_MAX));
            return Vec::new();
        }
        let names = self.route_names(&raw, &path);
        let mut routes = Vec::with_capacity(raw.len());
        for (index, (mut raw, name)) in raw.into_iter().zip(names).enumerate() {
            let path = path.index(index);
            if self.refused.contains(&path) {
                continue;
            }
            let mut conditions = self.conditions(std::mem::take(&mut raw.conditions), inputs, &path);
            if raw.not.is_some() {
                conditions.not = self.not(raw.not.take(), inputs, &path);
            }
            let continues = raw.continues.as_ref().is_some_and(|continues| continues.0);
            let share = self.share(raw.spool.take(), spool, &path);
            let action = self.action(raw, outputs, &path);
            routes.push(Route { name, conditions, continues, action, spool: share, retired: false });
        }
        if self.mistakes.0.is_empty() {
            self.shadows(&routes, &path);
        }
        routes
    }

    /// Given names first; the others take their first program's, or their place's, and give way to what is there.
    fn route_names(&mut self, raw: &[raw::Route], path: &Path) -> Vec<String> {
        let mut taken: HashMap<String, usize> = HashMap::new();
        for (index, route) in raw.iter().enumerate() {
            let Some(Is(Text(name))) = &route.name else { continue };
            let path = path.index(index).key("name");
            if !is_route_name(name) {
                let max = limits::NAME_LEN_MAX;
                let expected = format!("expected at most {max} printable ASCII characters without blanks");
                self.wrong(&path, &expected, "not a route's name");
            } else if let Some(first) = taken.get(name) {
                let message = format!("found a name that routes[{first}] has already");
                self.mistake(&path, message);
            } else {
                taken.insert(name.clone(), index);
            }
        }
        let mut names: HashSet<String> = taken.into_keys().collect();
        let name = |(index, route): (usize, &raw::Route)| {
            if let Some(Is(Text(name))) = &route.name {
                return name.clone();
            }
            let program = route.conditions.program.first().map(|Is(program)| program.as_str().to_owned());
            let base = program.filter(|program| is_route_name(program)).unwrap_or(format!("route-{}", index + 1));
            let mut name = base.clone();
            // Ends: there are finitely many names, and each round tries another.
            let mut round = 2;
            while !names.insert(name.clone()) {
                name = format!("{base}-{round}");
                round += 1;
            }
            name
        };
        raw.iter().enumerate().map(name).collect()
    }

    fn conditions(&mut self, raw: raw::Conditions, inputs: &[Input], path: &Path) -> Conditions {
        for (index, Is(Text(name))) in raw.input.iter().enumerate() {
            if inputs.iter().any(|input| input.name == *name) {
                continue;
            }
            let path = self.item(&path.key("input"), index);
            self.no_such(&path, "input", name, inputs.iter().map(|input| input.name.as_str()));
        }
        let mut message = Vec::with_capacity(raw.message.len());
        for (index, test) in raw.message.into_iter().enumerate() {
            match (test.contains, test.regex) {
                (Some(Is(Contains(test))), None) | (None, Some(Is(Pattern(test)))) => message.push(test),
                (given, _) => {
                    let path = self.item(&path.key("message"), index);
                    let found = if given.is_some() { "both" } else { "neither" };
                    self.missing_below(&path, &format!("found {found}, expected one of \"contains\" and \"regex\""));
                }
            }
        }
        Conditions {
            program: raw.program.into_iter().map(|Is(name)| name).collect(),
            hostname: raw.hostname.into_iter().map(|Is(name)| name).collect(),
            peer: raw.peer.into_iter().map(|Is(network)| network).collect(),
            input: raw.input.into_iter().map(|Is(Text(name))| name).collect(),
            facility: raw.facility.into_iter().map(|Is(set)| set).collect(),
            severity: raw.severity.into_iter().map(|Is(set)| set).collect(),
            message,
            when: self.when(raw.when, path),
            not: None,
        }
    }

    /// The expression; what is odd about it is a warning.
    fn when(&mut self, raw: Option<Is<Expression>>, path: &Path) -> Option<Expression> {
        let Is(when) = raw?;
        let path = path.key("when");
        for warning in when.warnings() {
            let (at, unplaced) = self.position_within(&path, warning.at);
            self.warnings.add(&at, &path, format!("{}{unplaced}", warning.message));
        }
        Some(when)
    }

    /// An empty `not:` would hold for every message, and so its route for none.
    fn not(&mut self, raw: Option<raw::Conditions>, inputs: &[Input], path: &Path) -> Option<Box<Conditions>> {
        let path = path.key("not");
        if self.names(&path).is_empty() {
            self.missing_below(&path, "found an empty map, expected at least one condition");
        }
        Some(Box::new(self.conditions(raw?, inputs, &path)))
    }

    /// Routes whose messages an earlier one takes away.
    fn shadows(&mut self, routes: &[Route], path: &Path) {
        let rule = |route: &Route| Rule { conditions: route.conditions.clone(), continues: route.continues };
        let rules: Vec<Rule> = routes.iter().map(rule).collect();
        for (later, earlier) in shadowed(&rules) {
            let name = routes.get(earlier).map(|route| route.name.as_str()).unwrap_or_default();
            let message = format!("never takes a message: routes[{earlier}] (\"{name}\") takes all that it could");
            self.warning(&path.index(later), message);
        }
    }

    fn action(&mut self, mut raw: raw::Route, outputs: &[Output], path: &Path) -> Action {
        if raw.discard.as_ref().is_some_and(|discard| discard.0) {
            for key in ["intake_key", "intake_key_file", "output", "template", "http_template", "spool"] {
                if self.node(&path.key(key)).is_some() {
                    self.mistake(&path.key(key), "given, but \"discard: true\" leaves nothing to send");
                }
            }
            return Action::Discard;
        }
        let output = self.output_of(raw.output.take(), outputs, path);
        let given = output.and_then(|index| outputs.get(index)).filter(|output| is_resolved(output));
        let by_https = given.is_some_and(|output| matches!(output.protocol, Protocol::Https(_)));
        if let Some(output) = given {
            self.foreign_template(output, by_https, path);
        }
        let key_given = raw.intake_key.is_some()
            || raw.intake_key_file.is_some()
            || self.is_refused(&path.key("intake_key"))
            || self.is_refused(&path.key("intake_key_file"));
        let intake_key = self.intake_key(&mut raw, path);
        let (template, key, default) = match by_https {
            true => (raw.http_template, "http_template", Template::MESSAGE),
            false => (raw.template, "template", Template::FAQ),
        };
        let template_path = path.key(key);
        let template_refused = self.is_refused(&template_path);
        let template = match template {
            Some(Is(template)) => Some(template),
            None => Template::compile(default).ok(),
        };
        // The defaults compile: a test of the templates says so.
        let Some(template) = template else { return Action::Discard };
        if let Some(output) = given {
            self.odd_template(&template, output, &template_path);
        }
        match (by_https || template.uses_intake_key(), key_given) {
            // What was meant is not known.
            _ if template_refused || self.is_refused(&path.key("discard")) => {}
            (true, false) => {
                let message =
                    "no \"intake_key\" and no \"intake_key_file\", expected one of them (or \"discard: true\")";
                self.mistake(path, message);
            }
            (false, true) => {
                let message = "does not print %intake_key%, so that the route's intake key is not sent";
                self.warning(&template_path, message);
            }
            (true, true) | (false, false) => {}
        }
        let intake_key = intake_key.filter(|_| by_https || template.uses_intake_key());
        // Without an output, a mistake was reported.
        Action::Forward { output: output.unwrap_or_default(), template, intake_key }
    }

    /// Warns of a template that does not fit how its output sends.
    fn odd_template(&mut self, template: &Template, output: &Output, path: &Path) {
        let message = match output.protocol {
            Protocol::Https(_) if template.uses_intake_key() => {
                "prints %intake_key%, which HTTPS carries in a header: it would stand in each event"
            }
            Protocol::Syslog(OutputFraming::Lf) if template.breaks_lines() => {
                "prints an LF before its end, and its output has \"framing: lf\": each message becomes several"
            }
            _ => return,
        };
        self.warning(path, message);
    }

    /// Each way of sending has its own template.
    fn foreign_template(&mut self, output: &Output, by_https: bool, path: &Path) {
        let name = &output.name;
        let (key, message) = match by_https {
            true => ("template", format!("given, but output \"{name}\" is HTTPS, expected \"http_template\"")),
            false => ("http_template", format!("given, but output \"{name}\" is not HTTPS, expected \"template\"")),
        };
        if self.node(&path.key(key)).is_some() {
            self.mistake(&path.key(key), message);
        }
    }

    fn output_of(&mut self, given: Option<Is<Text>>, outputs: &[Output], path: &Path) -> Option<usize> {
        let names = || outputs.iter().map(|output| output.name.as_str());
        let path = path.key("output");
        let Some(Is(Text(name))) = given else {
            match outputs {
                [_] => return Some(0),
                [] => self.missing(&Path::root().key("outputs"), "no outputs, expected at least one"),
                _ => {
                    let names: Vec<&str> = names().collect();
                    self.missing(&path, &format!("missing, expected one of {}", names.join(", ")));
                }
            }
            return None;
        };
        if let Some(index) = outputs.iter().position(|output| output.name == name) {
            return Some(index);
        }
        self.no_such(&path, "output", &name, names());
        None
    }

    fn no_such<'a>(&mut self, path: &Path, noun: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) {
        let message = match self.masked(path) {
            Some(masked) => format!("found {masked}, expected the name of an {noun}"),
            None => match did_you_mean(name, known.clone()) {
                hint if hint.is_empty() && known.clone().next().is_none() => {
                    format!("no {noun} named \"{name}\", there are none")
                }
                hint if hint.is_empty() => {
                    let known: Vec<&str> = known.collect();
                    format!("no {noun} named \"{name}\", expected one of {}", known.join(", "))
                }
                hint => format!("no {noun} named \"{name}\"{hint}"),
            },
        };
        self.mistake(path, message);
    }

    fn intake_key(&mut self, raw: &mut raw::Route, path: &Path) -> Option<IntakeKey> {
        let given = path.key("intake_key");
        let (key, path) = match (raw.intake_key.take(), raw.intake_key_file.take()) {
            (Some(_), Some(_)) => {
                self.mistake(&path.key("intake_key_file"), "given besides \"intake_key\", expected one of the two");
                return None;
            }
            (Some(Is(key)), None) => (key.0, given),
            (None, Some(file)) => {
                let path = path.key("intake_key_file");
                let file = self.key_file(Some(file), &path)?;
                (self.key_of(&file, &path)?, path)
            }
            (None, None) => return None,
        };
        if key.len() < limits::KEY_LEN_MIN || !key.bytes().all(|each| each.is_ascii_alphanumeric()) {
            let message = format!(
                "does not look like an intake key: Sekoia's have {} or more letters and digits and nothing else",
                limits::KEY_LEN_MIN
            );
            self.warning(&path, message);
        }
        Some(IntakeKey::new(key))
    }

    /// A key file's content, without blanks around.
    fn key_of(&mut self, file: &FilePath, path: &Path) -> Option<String> {
        use crate::config::leaf::{Leaf, SecretText};
        self.mistakes.depends_on(file);
        let content = match std::fs::read_to_string(file) {
            Ok(content) => zeroize::Zeroizing::new(content),
            Err(error) => {
                self.no_file(path, file, &format!("cannot be read: {error}"));
                return None;
            }
        };
        match SecretText::parse(content.trim()) {
            Ok(SecretText(key)) => Some(key),
            Err(wrong) => {
                self.mistake(path, format!("{} in the file", wrong.message));
                None
            }
        }
    }
}

/// It was not refused, so that it is known what it speaks.
fn is_resolved(output: &Output) -> bool {
    !output.targets.is_empty() || matches!(output.protocol, Protocol::File(_))
}

fn is_route_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= limits::NAME_LEN_MAX && name.bytes().all(|each| each.is_ascii_graphic())
}
