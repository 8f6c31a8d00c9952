//! The grammar of rsyslog's configuration: lines of old, RainerScript's objects, blocks and conditions
//! (rsyslog, grammar/lexer.l and grammar/grammar.y). Text to statements; every dimension is bounded.

use std::sync::Arc;

use super::scan::Scanner;
use super::syntax::{Kind, Object, Param, PropertyFilter, Statement, unescape};
use crate::config::leaf::mask_keys;
use crate::config::report::Mistake;

/// Blocks in blocks. Nobody reads more than a few; the rest is room for a mistake to be reported as what it is.
const DEPTH_MAX: usize = 64;

/// Objects of the language. What stands before `(` and is none of these is a mistake.
const OBJECTS: [&str; 16] = [
    "action",
    "constant",
    "global",
    "include",
    "input",
    "lookup_table",
    "main_queue",
    "module",
    "parser",
    "ratelimit",
    "ruleset",
    "template",
    "timezone",
    "dyn_stats",
    "perctile_stats",
    "property",
];

/// What a statement can begin with, for reports.
const EXPECTED: &str = "a directive ($…), an object such as action(…), a filter, \"if\", \"stop\", \"set\" or \"call\"";

/// Reads a whole file. `Err`: the first mistake of syntax; nothing else can be said then.
pub(super) fn parse(text: &str, file: &Arc<str>, rank: usize) -> Result<Vec<Statement>, Mistake> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parser = Parser { scan: Scanner::new(text, file, rank), depth: 0 };
    let statements = parser.statements()?;
    match parser.scan.is_at_end() {
        true => Ok(statements),
        false => Err(parser.scan.fault(parser.scan.here(), "found \"}\" without its \"{\"")),
    }
}

struct Parser<'a> {
    scan: Scanner<'a>,
    depth: usize,
}

impl Parser<'_> {
    /// Statements up to a `}` or the end, which are not read.
    fn statements(&mut self) -> Result<Vec<Statement>, Mistake> {
        let mut statements = Vec::new();
        loop {
            self.scan.skip_blanks()?;
            if self.scan.is_at_end() || self.scan.peek() == Some('}') {
                return Ok(statements);
            }
            statements.push(self.statement()?);
        }
    }

    /// One statement, with the actions that `&` joins to it.
    fn statement(&mut self) -> Result<Statement, Mistake> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.scan.fault(self.scan.here(), format!("nested deeper than {DEPTH_MAX} levels")));
        }
        let at = self.scan.here();
        let kind = match self.scan.peek() {
            Some('$') => self.directive()?,
            Some(':') => self.property_filter()?,
            Some('{') => Kind::Block(self.block()?),
            _ => self.by_word()?,
        };
        self.depth -= 1;
        Ok(Statement { at, kind })
    }

    fn directive(&mut self) -> Result<Kind, Mistake> {
        let from = self.scan.here();
        let line = self.scan.line();
        let line = line.strip_prefix('$').unwrap_or(&line);
        let end = line.find(char::is_whitespace).unwrap_or(line.len());
        let (name, value) = line.split_at_checked(end).unwrap_or((line, ""));
        let good =
            |name: &str| !name.is_empty() && name.chars().all(|each| each.is_ascii_alphanumeric() || each == '_');
        match good(name) {
            true => Ok(Kind::Directive { name: name.to_owned(), value: without_comment(value).to_owned() }),
            false => Err(self.scan.fault(from, "found \"$\", expected a directive's name right after it")),
        }
    }

    /// `:property, operation, "value"`, or an action such as `:omusrmsg:*`.
    fn property_filter(&mut self) -> Result<Kind, Mistake> {
        let from = self.scan.offset();
        self.scan.eat(':');
        let property = self.run_of(|each| each.is_alphanumeric() || "$!._-".contains(each));
        self.scan.skip_spaces();
        if !self.scan.eat(',') {
            self.scan.go_to(from);
            return self.legacy();
        }
        self.scan.skip_spaces();
        let negated = self.scan.eat('!');
        let operation = self.run_of(|each| each.is_alphanumeric() || each == '_').to_lowercase();
        self.scan.skip_spaces();
        let value = match (operation.as_str(), self.scan.eat(',')) {
            ("isempty", false) => String::new(),
            (_, false) => return Err(self.scan.unexpected("\",\" and a text in quotes")),
            (_, true) => {
                self.scan.skip_spaces();
                unquoted(self.scan.quoted('"')?)
            }
        };
        let then = self.consequence()?;
        Ok(Kind::Property { filter: PropertyFilter { property, negated, operation, value }, then })
    }

    fn run_of(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let from = self.scan.offset();
        while self.scan.peek().is_some_and(&belongs) {
            self.scan.next();
        }
        self.scan.since(from).to_owned()
    }

    fn block(&mut self) -> Result<Vec<Statement>, Mistake> {
        let opening = self.scan.here();
        self.scan.eat('{');
        let statements = self.statements()?;
        match self.scan.eat('}') {
            true => Ok(statements),
            false => Err(self.scan.fault(opening, "found \"{\" without its \"}\"")),
        }
    }

    /// What a filter or `then` leads to: a block, or a statement, and what `&` joins to it.
    fn consequence(&mut self) -> Result<Vec<Statement>, Mistake> {
        self.scan.skip_blanks()?;
        if self.scan.is_at_end() || self.scan.peek() == Some('}') {
            return Err(self.scan.unexpected("an action or a block"));
        }
        let mut all = match self.scan.peek() {
            Some('{') => self.block()?,
            _ => vec![self.statement()?],
        };
        loop {
            let before = self.scan.offset();
            self.scan.skip_blanks()?;
            if !self.scan.eat('&') {
                self.scan.go_to(before);
                return Ok(all);
            }
            self.scan.skip_blanks()?;
            all.push(self.statement()?);
        }
    }

    fn by_word(&mut self) -> Result<Kind, Mistake> {
        let word = self.scan.peek_word().to_lowercase();
        match word.as_str() {
            "if" => return self.condition(),
            "stop" => return Ok(self.one_word("stop", Kind::Stop)),
            "continue" => {
                let what = "continue".to_owned();
                return Ok(self.one_word("continue", Kind::Other { what }));
            }
            "call" => {
                self.scan.eat_word("call");
                self.scan.skip_spaces();
                let name = self.run_of(|each| !each.is_whitespace() && !"{}&;".contains(each));
                self.scan.eat(';');
                return match name.as_str() {
                    "" => Err(self.scan.unexpected("a ruleset's name")),
                    _ => Ok(Kind::Call(name)),
                };
            }
            "set" | "reset" | "unset" | "call_indirect" | "reload_lookup_table" => return self.assignment(&word),
            "foreach" => return self.foreach(),
            _ => {}
        }
        if OBJECTS.contains(&word.as_str()) && self.opens(word.len()) {
            return self.object(&word);
        }
        let run = self.scan.rest().split(char::is_whitespace).next().unwrap_or_default();
        if is_selector(run.strip_suffix('\\').unwrap_or(run)) {
            let text = self.selector();
            return Ok(Kind::Selector { text, then: self.consequence()? });
        }
        self.legacy()
    }

    /// A selector, continued where its line ends in a backslash.
    fn selector(&mut self) -> String {
        let mut text = String::new();
        loop {
            let part = self.scan.run();
            let continued = part.strip_suffix('\\').filter(|_| self.scan.peek() == Some('\n'));
            text.push_str(continued.unwrap_or(part));
            if continued.is_none() {
                return text;
            }
            self.scan.next();
            self.scan.skip_spaces();
        }
    }

    fn one_word(&mut self, word: &str, kind: Kind) -> Kind {
        self.scan.eat_word(word);
        kind
    }

    /// Whether `(` follows a word of that length.
    fn opens(&self, len: usize) -> bool {
        self.scan.rest().get(len..).is_some_and(|after| after.trim_start().starts_with('('))
    }

    /// An action of one word.
    fn legacy(&mut self) -> Result<Kind, Mistake> {
        let first = self.scan.peek();
        if !matches!(first, Some('/' | '-' | '@' | '~' | ':' | '|' | '^' | '?' | '*')) && !self.is_user() {
            return Err(self.scan.unexpected(EXPECTED));
        }
        let mut text = self.scan.run().to_owned();
        if text == "~" {
            return Ok(Kind::Stop);
        }
        if text.ends_with(';') {
            self.scan.skip_spaces();
            text.push_str(self.scan.run());
        }
        Ok(Kind::Legacy(text))
    }

    /// `*.emerg root,operator`: a word alone behind a selector is somebody's name.
    fn is_user(&self) -> bool {
        let run = self.scan.rest().split(char::is_whitespace).next().unwrap_or_default();
        self.depth > 1
            && run.chars().all(|each| each.is_ascii_alphanumeric() || "_-,".contains(each))
            && run.starts_with(|each: char| each.is_ascii_alphabetic())
            && !run.ends_with('-')
    }

    fn condition(&mut self) -> Result<Kind, Mistake> {
        self.scan.eat_word("if");
        let condition = self.expression(|scan| scan.peek_word().eq_ignore_ascii_case("then"), "\"then\"")?;
        self.scan.eat_word("then");
        let then = self.consequence()?;
        let before = self.scan.offset();
        self.scan.skip_blanks()?;
        let otherwise = match self.scan.eat_word("else") {
            true => self.consequence()?,
            false => {
                self.scan.go_to(before);
                Vec::new()
            }
        };
        Ok(Kind::If { condition, then, otherwise })
    }

    /// An expression up to where `ends` says, comments taken out and blanks made one.
    fn expression(&mut self, ends: impl Fn(&Scanner<'_>) -> bool, expected: &str) -> Result<String, Mistake> {
        let mut text = String::new();
        loop {
            let before = self.scan.offset();
            self.scan.skip_blanks()?;
            if before != self.scan.offset() && !text.is_empty() {
                text.push(' ');
            }
            if ends(&self.scan) {
                return Ok(text.trim().to_owned());
            }
            let from = self.scan.offset();
            match self.scan.peek() {
                None | Some('{' | '}') => return Err(self.scan.unexpected(expected)),
                Some(quote @ ('"' | '\'')) => _ = self.scan.quoted(quote)?,
                Some('$') => {
                    self.scan.next();
                    self.run_of(|each| each.is_alphanumeric() || "$!./_-".contains(each));
                }
                Some(_) => match self.scan.peek_word() {
                    "" => _ = self.scan.next(),
                    word => self.scan.go_to(from + word.len()),
                },
            }
            text.push_str(self.scan.since(from));
        }
    }

    /// `set $.x = …;` and its like.
    fn assignment(&mut self, word: &str) -> Result<Kind, Mistake> {
        self.scan.eat_word(word);
        self.scan.skip_spaces();
        let at = self.scan.here();
        let text = self.expression(|scan| scan.peek() == Some(';'), "\";\"")?;
        self.scan.eat(';');
        if word != "set" {
            return Ok(Kind::Other { what: format!("{word} {text}") });
        }
        match text.split_once('=') {
            Some((variable, value)) if variable.trim().starts_with('$') => {
                Ok(Kind::Set { variable: variable.trim().to_owned(), value: value.trim().to_owned() })
            }
            _ => Err(self.scan.fault(at, "found \"set\", expected $.NAME = EXPRESSION; behind it")),
        }
    }

    fn foreach(&mut self) -> Result<Kind, Mistake> {
        self.scan.eat_word("foreach");
        self.expression(|scan| scan.peek_word().eq_ignore_ascii_case("do"), "\"do\"")?;
        self.scan.eat_word("do");
        self.consequence()?;
        Ok(Kind::Other { what: "foreach".to_owned() })
    }

    fn object(&mut self, name: &str) -> Result<Kind, Mistake> {
        self.scan.eat_word(name);
        self.scan.skip_blanks()?;
        let opening = self.scan.here();
        self.scan.eat('(');
        let mut params = Vec::new();
        loop {
            self.scan.skip_blanks()?;
            if self.scan.eat(')') {
                break;
            }
            if self.scan.is_at_end() {
                return Err(self.scan.fault(opening, "found \"(\" without its \")\""));
            }
            params.push(self.param()?);
        }
        let before = self.scan.offset();
        self.scan.skip_blanks()?;
        let body = match (name, self.scan.peek()) {
            ("ruleset" | "template", Some('{')) => Some(self.block()?),
            _ => {
                self.scan.go_to(before);
                None
            }
        };
        // Parts of a list template and statements share their words: `constant(value="…")`.
        Ok(Kind::Object(Object { name: name.to_owned(), params, body }))
    }

    fn param(&mut self) -> Result<Param, Mistake> {
        let at = self.scan.here();
        let name = self.scan.peek_word().to_lowercase();
        if name.is_empty() {
            return Err(self.scan.unexpected("a parameter's name or \")\""));
        }
        self.scan.eat_word(&name);
        self.scan.skip_blanks()?;
        if !self.scan.eat('=') {
            return Err(self.scan.unexpected(&format!("\"=\" behind {}", mask_keys(&name))));
        }
        self.scan.skip_blanks()?;
        let values = match self.scan.peek() {
            Some('[') => self.list()?,
            Some('`') => {
                let what = "found a text in backquotes, which is not supported: write the value itself";
                return Err(self.scan.fault(self.scan.here(), what));
            }
            _ => vec![self.scan.quoted('"')?.to_owned()],
        };
        Ok(Param { name, at, values })
    }

    fn list(&mut self) -> Result<Vec<String>, Mistake> {
        self.scan.eat('[');
        let mut values = Vec::new();
        loop {
            self.scan.skip_blanks()?;
            if self.scan.eat(']') {
                return Ok(values);
            }
            values.push(self.scan.quoted('"')?.to_owned());
            self.scan.skip_blanks()?;
            if !self.scan.eat(',') && self.scan.peek() != Some(']') {
                return Err(self.scan.unexpected("\",\" or \"]\""));
            }
        }
    }
}

/// Cuts a comment off: `#` behind a blank, outside of quotes.
fn without_comment(value: &str) -> &str {
    let (mut quoted, mut escaped, mut blank) = (false, false, true);
    for (at, each) in value.char_indices() {
        if each == '#' && blank && !quoted {
            return value.get(..at).unwrap_or_default().trim();
        }
        quoted ^= each == '"' && !escaped;
        escaped = each == '\\' && !escaped;
        blank = each.is_whitespace();
    }
    value.trim()
}

/// The text of a property filter: a backslash takes the next character as it is (`parsQuotedCStr`).
fn unquoted(text: &str) -> String {
    match text.contains('\\') {
        true => {
            let mut out = String::with_capacity(text.len());
            let mut chars = text.chars();
            while let Some(each) = chars.next() {
                out.push(if each == '\\' { chars.next().unwrap_or('\\') } else { each });
            }
            out
        }
        false => unescape(text),
    }
}

/// `auth,authpriv.*;*.!debug`
fn is_selector(run: &str) -> bool {
    let allowed = |each: char| each.is_ascii_alphanumeric() || "*,.;=!".contains(each);
    run.contains('.')
        && run.chars().all(allowed)
        && run.starts_with(|each: char| each.is_ascii_alphanumeric() || each == '*')
        && run.split(';').filter(|part| !part.is_empty()).all(|part| part.contains('.'))
}
