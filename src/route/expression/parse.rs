//! Tokens to nodes, with rsyslog's precedence (grammar/grammar.y): `and` and `or` bind equally and from left to right,
//! comparisons bind tighter, `not` tightest of all.

use memchr::memmem;

use super::lexer::{self, Kind as Symbol, Token};
use super::node::{Comparison, Kind, Node, Operator, Right};
use super::priorities::{self, Priorities};
use super::property;
use super::suggest::did_you_mean;
use super::{DEPTH_MAX, ExpressionError, REGEX_SIZE_MAX, Warning};
use crate::posix::{self, Case, Dialect};
use crate::syslog::{Facility, Property, Severity};

/// Functions of an expression, with what their parentheses hold.
const FUNCTIONS: &[(&str, Function)] = &[
    ("re_match", Function::Search(Dialect::Extended, Case::Kept)),
    ("re_match_i", Function::Search(Dialect::Extended, Case::Ignored)),
    ("re_match_bre", Function::Search(Dialect::Basic, Case::Kept)),
    ("prifilt", Function::Prifilt),
    ("strlen", Function::Strlen),
    ("exists", Function::Exists),
];

/// What a list between brackets holds.
type Texts = Vec<Box<[u8]>>;

#[derive(Clone, Copy)]
enum Function {
    Search(Dialect, Case),
    Prifilt,
    Strlen,
    Exists,
}

/// Functions of rsyslog's that are not supported.
const OTHER_FUNCTIONS: &[&str] = &[
    "cnum",
    "cstr",
    "dyn_inc",
    "exec_template",
    "field",
    "format_time",
    "get_property",
    "getenv",
    "http_request",
    "int2hex",
    "ipv42num",
    "is_time",
    "lookup",
    "ltrim",
    "num2ipv4",
    "parse_json",
    "parse_time",
    "previous_action_suspended",
    "random",
    "re_extract",
    "re_extract_i",
    "replace",
    "rtrim",
    "script_error",
    "split",
    "substring",
    "tolower",
    "toupper",
    "wrap",
];

/// The expression and what is odd about it.
pub(super) fn parse(text: &str) -> Result<(Node, Vec<Warning>), ExpressionError> {
    let tokens = lexer::tokens(text)?;
    let mut parser = Parser { text, tokens: &tokens, next: 0, depth: 0, warnings: Vec::new() };
    if parser.peek().kind == Symbol::End {
        return ExpressionError::at(0, "expected a condition such as $programname == 'sshd'");
    }
    let node = parser.logical()?;
    match parser.peek() {
        Token { kind: Symbol::End, .. } => Ok((node, parser.warnings)),
        Token { kind: Symbol::Close, start, .. } => ExpressionError::at(*start, "a `)` without its `(`"),
        Token { start, .. } => {
            let message = format!("found `{}`{}, expected an operator or the end", parser.shown(), parser.meant());
            ExpressionError::at(*start, message)
        }
    }
}

struct Parser<'t> {
    text: &'t str,
    tokens: &'t [Token],
    next: usize,
    /// Of parentheses, brackets and prefixes that are open.
    depth: usize,
    warnings: Vec<Warning>,
}

/// What stands behind the last token, and what a list of none would have.
const END: Token = Token { kind: Symbol::End, start: 0, end: 0 };

impl<'t> Parser<'t> {
    fn peek(&self) -> &'t Token {
        // The last token is the end, and stays.
        self.tokens.get(self.next).or(self.tokens.last()).unwrap_or(&END)
    }

    fn take(&mut self) -> &'t Token {
        let token = self.peek();
        self.next += 1;
        token
    }

    fn eat(&mut self, kind: &Symbol) -> bool {
        let is_it = self.peek().kind == *kind;
        self.next += usize::from(is_it);
        is_it
    }

    /// The next token as it is written, not too much of it.
    fn shown(&self) -> String {
        let Token { start, end, .. } = self.peek();
        let text = self.text.get(*start..*end).unwrap_or_default();
        match text.char_indices().nth(40) {
            Some((cut, _)) => format!("{}…", text.get(..cut).unwrap_or_default()),
            None => text.to_owned(),
        }
    }

    /// Where a word stands in an operator's place: the operator, or what rsyslog's statements have there.
    fn meant(&self) -> String {
        match &self.peek().kind {
            Symbol::Word(word) if word.eq_ignore_ascii_case("then") => {
                " (a condition is what stands between rsyslog's `if` and `then`)".to_owned()
            }
            Symbol::Word(word) => did_you_mean(word, lexer::operator_words()),
            _ => String::new(),
        }
    }

    fn unexpected<T>(&self, expected: &str) -> Result<T, ExpressionError> {
        let token = self.peek();
        let found = match token.kind {
            Symbol::End => "the end".to_owned(),
            _ => format!("`{}`", self.shown()),
        };
        ExpressionError::at(token.start, format!("found {found}, expected {expected}"))
    }

    fn node(&self, start: usize, end: usize, depth: usize, kind: Kind) -> Result<Node, ExpressionError> {
        if depth > DEPTH_MAX {
            return ExpressionError::at(start, format!("more than {DEPTH_MAX} conditions within each other"));
        }
        Ok(Node { start, end, depth, kind })
    }

    /// Goes one deeper for `inner`.
    fn deeper<T>(
        &mut self,
        at: usize,
        inner: impl FnOnce(&mut Self) -> Result<T, ExpressionError>,
    ) -> Result<T, ExpressionError> {
        if self.depth >= DEPTH_MAX {
            return ExpressionError::at(at, format!("more than {DEPTH_MAX} conditions within each other"));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    /// `and` and `or`, from left to right.
    fn logical(&mut self) -> Result<Node, ExpressionError> {
        let mut left = self.comparison()?;
        // In parentheses, a part is not one with what is around it.
        let mut chain: Option<bool> = None;
        loop {
            let token = self.peek();
            let is_and = match token.kind {
                Symbol::And => true,
                Symbol::Or => false,
                _ => return Ok(left),
            };
            self.next += 1;
            if is_and && chain == Some(false) {
                let so_far = self.text.get(left.start..left.end).unwrap_or_default();
                let message = format!(
                    "`and` does not bind tighter than `or` in RainerScript: this means ({so_far}) and …; parentheses \
                     say what is meant"
                );
                self.warnings.push(Warning { at: token.start, message });
            }
            let right = self.comparison()?;
            let (start, end, depth) = (left.start, right.end, left.depth.max(right.depth + 1));
            let same_chain = chain == Some(is_and);
            chain = Some(is_and);
            left = match (left.kind, is_and) {
                (Kind::All(mut nodes), true) | (Kind::Any(mut nodes), false) if same_chain => {
                    nodes.push(right);
                    self.node(start, end, depth, if is_and { Kind::All(nodes) } else { Kind::Any(nodes) })?
                }
                (kind, is_and) => {
                    let first = Node { kind, ..left };
                    let depth = depth.max(first.depth + 1);
                    let nodes = vec![first, right];
                    self.node(start, end, depth, if is_and { Kind::All(nodes) } else { Kind::Any(nodes) })?
                }
            };
        }
    }

    /// Values and what compares them, from left to right.
    fn comparison(&mut self) -> Result<Node, ExpressionError> {
        let starts_with_not = self.peek().kind == Symbol::Not;
        let mut left = self.operand()?;
        while let Symbol::Compare(operator) = self.peek().kind {
            let at = self.take().start;
            if starts_with_not && matches!(left.kind, Kind::Not(_)) {
                let message = "`not` binds tighter than comparisons in RainerScript, so that 0 or 1 is compared here: \
                               write not (…)";
                self.warnings.push(Warning { at: left.start, message: message.to_owned() });
            }
            left = self.compared(left, operator, at)?;
        }
        Ok(left)
    }

    fn compared(&mut self, left: Node, operator: Operator, at: usize) -> Result<Node, ExpressionError> {
        if self.peek().kind == Symbol::OpenArray {
            let (texts, end) = self.array()?;
            if !operator.takes_arrays() {
                return ExpressionError::at(at, "an array cannot be ordered: expected ==, !=, contains or startswith");
            }
            if left.is_number() && matches!(operator, Operator::Equal | Operator::NotEqual) {
                return ExpressionError::at(
                    left.start,
                    "a number cannot be one of an array's texts: expected a property",
                );
            }
            let (start, depth) = (left.start, left.depth + 1);
            let comparison = Comparison { left, operator, right: Right::OneOf(texts) };
            return self.node(start, end, depth, Kind::Compare(Box::new(comparison)));
        }
        let mut right = self.operand()?;
        let (start, end, depth) = (left.start, right.end, left.depth.max(right.depth) + 1);
        if matches!(operator, Operator::Equal | Operator::NotEqual) {
            self.canonical(&left, &mut right);
        }
        let right = match right.kind {
            Kind::Text(text) if operator == Operator::Contains => {
                Right::Needle(Box::new(memmem::Finder::new(&text).into_owned()))
            }
            _ => Right::One(right),
        };
        self.node(start, end, depth, Kind::Compare(Box::new(Comparison { left, operator, right })))
    }

    /// rsyslog looks texts up that `$syslogfacility-text` and `$syslogseverity-text` are compared with: their case does not
    /// count, and `error` is `err`.
    fn canonical(&mut self, left: &Node, right: &mut Node) {
        let Kind::Text(text) = &mut right.kind else { return };
        let name = String::from_utf8_lossy(text).to_ascii_lowercase();
        let canonical = match left.kind {
            Kind::Property(Property::FacilityText) => priorities::facility(&name).map(Facility::name),
            Kind::Property(Property::SeverityText) => Severity::parse(&name).map(Severity::name),
            _ => return,
        };
        let is_number = name.starts_with(|first: char| first.is_ascii_digit());
        match canonical.filter(|_| !is_number) {
            Some(canonical) => *text = canonical.as_bytes().into(),
            None => {
                let message = format!("\"{name}\" is no such name: this is the same for every message");
                self.warnings.push(Warning { at: right.start, message });
            }
        }
    }

    fn operand(&mut self) -> Result<Node, ExpressionError> {
        let token = self.take();
        let (start, end) = (token.start, token.end);
        match &token.kind {
            Symbol::Not => {
                let node = self.deeper(start, Self::operand)?;
                let (end, depth) = (node.end, node.depth + 1);
                self.node(start, end, depth, Kind::Not(Box::new(node)))
            }
            Symbol::Minus => match self.take() {
                Token { kind: Symbol::Number(number), end, .. } => {
                    self.node(start, *end, 1, Kind::Number(number.wrapping_neg()))
                }
                _ => {
                    self.next -= 1;
                    self.unexpected("a number behind the `-`")
                }
            },
            Symbol::Open => {
                let node = self.deeper(start, Self::logical)?;
                if !self.eat(&Symbol::Close) {
                    return self.unexpected("an operator or `)`");
                }
                let end = self.last_end();
                Ok(Node { start, end, ..node })
            }
            Symbol::Number(number) => self.node(start, end, 1, Kind::Number(*number)),
            Symbol::Text(text) => self.node(start, end, 1, Kind::Text(text.as_slice().into())),
            Symbol::Variable(name) => {
                let kind = self.variable(name, start)?;
                self.node(start, end, 1, kind)
            }
            Symbol::Word(name) if self.peek().kind == Symbol::Open => self.function(name, start),
            Symbol::OpenArray => ExpressionError::at(start, "an array belongs on the right side of a comparison"),
            _ => {
                self.next -= 1;
                self.no_value()
            }
        }
    }

    fn no_value(&self) -> Result<Node, ExpressionError> {
        let token = self.peek();
        match &token.kind {
            Symbol::Word(word) if word.eq_ignore_ascii_case("if") => {
                let message = "a condition is what stands between rsyslog's `if` and `then`";
                ExpressionError::at(token.start, message)
            }
            Symbol::Word(word) if property::by_name(word).is_some() => {
                ExpressionError::at(token.start, format!("`{word}` has no `$`: expected ${word}"))
            }
            Symbol::Word(word) => {
                let message = format!("`{word}` is no value: expected a property, a text in quotes, or a number");
                ExpressionError::at(token.start, message)
            }
            _ => self.unexpected("a property, a text in quotes, a number, a function or `(`"),
        }
    }

    /// Where the last token that was taken ends.
    fn last_end(&self) -> usize {
        self.next.checked_sub(1).and_then(|last| self.tokens.get(last)).map_or(0, |token| token.end)
    }

    fn variable(&mut self, name: &str, at: usize) -> Result<Kind, ExpressionError> {
        if name.starts_with(['!', '.', '/']) {
            let message = format!("${name} is never set here: it compares as an empty text");
            self.warnings.push(Warning { at, message });
            return Ok(Kind::Missing);
        }
        if let Some(property) = property::by_name(name) {
            return Ok(Kind::Property(property));
        }
        let message = match property::unsupported(name) {
            Some(why) => format!("${name} is not supported in conditions: {why}"),
            None => {
                let near = did_you_mean(name, property::names()).replace('"', "");
                let near = near.replace("mean ", "mean $");
                format!("no property ${name}{near}: expected one such as $programname or $msg")
            }
        };
        ExpressionError::at(at, message)
    }

    /// Texts between brackets, sorted; and where they end.
    fn array(&mut self) -> Result<(Texts, usize), ExpressionError> {
        self.next += 1;
        let mut texts = Vec::new();
        loop {
            match self.take() {
                Token { kind: Symbol::Text(text), .. } => texts.push(text.as_slice().into()),
                _ => {
                    self.next -= 1;
                    return self.unexpected("a text in quotes: an array holds nothing else");
                }
            }
            match self.take() {
                Token { kind: Symbol::Comma, .. } => {}
                Token { kind: Symbol::CloseArray, end, .. } => {
                    texts.sort_unstable();
                    texts.dedup();
                    return Ok((texts, *end));
                }
                _ => {
                    self.next -= 1;
                    return self.unexpected("`,` or `]`");
                }
            }
        }
    }

    fn function(&mut self, name: &str, start: usize) -> Result<Node, ExpressionError> {
        let known = FUNCTIONS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        let Some((_, function)) = known else {
            let names = || FUNCTIONS.iter().map(|(name, _)| *name);
            let message = match OTHER_FUNCTIONS.iter().any(|other| other.eq_ignore_ascii_case(name)) {
                true => {
                    format!("{name}() is not supported: expected one of {}", names().collect::<Vec<_>>().join(", "))
                }
                false => format!("no function {name}(){}", did_you_mean(name, names())),
            };
            return ExpressionError::at(start, message);
        };
        self.next += 1;
        let (kind, depth) = self.deeper(start, |parser| match *function {
            Function::Search(dialect, case) => parser.search(dialect, case),
            Function::Prifilt => parser.prifilt().map(|kind| (kind, 1)),
            Function::Strlen => {
                let node = parser.logical()?;
                let depth = node.depth + 1;
                Ok((Kind::Length(Box::new(node)), depth))
            }
            Function::Exists => parser.exists().map(|kind| (kind, 1)),
        })?;
        if !self.eat(&Symbol::Close) {
            return self.unexpected("`)`");
        }
        self.node(start, self.last_end(), depth, kind)
    }

    fn search(&mut self, dialect: Dialect, case: Case) -> Result<(Kind, usize), ExpressionError> {
        let node = self.logical()?;
        if !self.eat(&Symbol::Comma) {
            return self.unexpected("`,` and a regular expression");
        }
        let Token { kind: Symbol::Text(expression), start, .. } = self.peek() else {
            return self.unexpected("a regular expression in quotes");
        };
        self.next += 1;
        let regex = posix::search(expression, dialect, case, REGEX_SIZE_MAX);
        let regex = regex.map_err(|fault| self.within(*start, fault.at, fault.message))?;
        let depth = node.depth + 1;
        Ok((Kind::Search(Box::new(node), Box::new(regex)), depth))
    }

    fn prifilt(&mut self) -> Result<Kind, ExpressionError> {
        let Token { kind: Symbol::Text(selectors), start, .. } = self.peek() else {
            return self.unexpected("selectors in quotes such as \"auth,authpriv.*\"");
        };
        self.next += 1;
        let priorities = Priorities::parse(&String::from_utf8_lossy(selectors));
        let priorities = priorities.map_err(|(at, message)| self.within(*start, at, message))?;
        Ok(Kind::Priority(Box::new(priorities)))
    }

    fn exists(&mut self) -> Result<Kind, ExpressionError> {
        match self.take() {
            Token { kind: Symbol::Variable(name), start, .. } if name.starts_with(['!', '.', '/']) => {
                let message = format!("${name} is never set here: exists() never holds");
                self.warnings.push(Warning { at: *start, message });
                Ok(Kind::Exists)
            }
            _ => {
                self.next -= 1;
                self.unexpected("a variable such as $!name: properties exist in every message")
            }
        }
    }

    /// A mistake `at` octets into the text in quotes that begins at `start`; at its beginning where escapes come before.
    fn within(&self, start: usize, at: usize, message: String) -> ExpressionError {
        let written = self.text.get(start + 1..).unwrap_or_default();
        let plain = written.get(..at).is_some_and(|before| !before.contains('\\'));
        ExpressionError { at: if plain { start + 1 + at } else { start }, message }
    }
}
