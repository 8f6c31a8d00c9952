//! The compiled expression, and what it makes of a message. Numbers and texts turn into each other as rsyslog 8.2302 has it
//! (grammar/rainerscript.c, cnfexprEval).

use std::cmp::Ordering;

use memchr::memmem;
use regex::bytes::Regex;

use super::priorities::Priorities;
use crate::route::view::View;
use crate::syslog::{Pri, Property};

/// An expression or a part of one.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Octets of the text.
    pub(super) start: usize,
    pub(super) end: usize,
    /// Nodes within each other, this one included.
    pub(super) depth: usize,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Text(Box<[u8]>),
    Number(i64),
    Property(Property),
    /// `$!x`, `$.x`, `$/x`: nothing sets any.
    Missing,
    /// `strlen(…)`: octets.
    Length(Box<Node>),
    /// `and`
    All(Vec<Node>),
    /// `or`
    Any(Vec<Node>),
    Not(Box<Node>),
    Compare(Box<Comparison>),
    /// `re_match(…)` and its kin.
    Search(Box<Node>, Box<Regex>),
    /// `prifilt(…)`
    Priority(Box<Priorities>),
    /// `exists(…)`
    Exists,
}

#[derive(Clone, Debug)]
pub(super) struct Comparison {
    pub(super) left: Node,
    pub(super) operator: Operator,
    pub(super) right: Right,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Contains,
    ContainsAnyCase,
    StartsWith,
    StartsWithAnyCase,
    EndsWith,
}

impl Operator {
    /// Whether an array may stand on its right side.
    pub(super) const fn takes_arrays(self) -> bool {
        !matches!(self, Self::Less | Self::LessOrEqual | Self::Greater | Self::GreaterOrEqual)
    }
}

/// What stands on the right of an operator.
#[derive(Clone, Debug)]
pub(super) enum Right {
    One(Node),
    /// A text that `contains` looks for.
    Needle(Box<memmem::Finder<'static>>),
    /// An array; sorted.
    OneOf(Vec<Box<[u8]>>),
}

/// What a part gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'v> {
    Number(i64),
    Text(&'v [u8]),
}

/// What is known of a message. Of what is not known, expressions say that they do not know.
pub(super) trait About {
    fn property(&self, property: Property) -> Option<&[u8]>;
    fn pri(&self) -> Option<Pri>;
}

impl About for View<'_> {
    #[inline]
    fn property(&self, property: Property) -> Option<&[u8]> {
        Some(property.of(self))
    }

    fn pri(&self) -> Option<Pri> {
        Some(self.message().fields.pri)
    }
}

/// The program name alone.
pub(super) struct Program<'p>(pub(super) &'p [u8]);

impl About for Program<'_> {
    fn property(&self, property: Property) -> Option<&[u8]> {
        (property == Property::ProgramName).then_some(self.0)
    }

    fn pri(&self) -> Option<Pri> {
        None
    }
}

impl Node {
    /// Whether it gives a number; a text otherwise.
    pub(super) const fn is_number(&self) -> bool {
        !matches!(self.kind, Kind::Text(_) | Kind::Property(_) | Kind::Missing)
    }

    /// Whether nothing but the program name is asked for.
    pub(super) fn is_by_program_only(&self) -> bool {
        match &self.kind {
            Kind::Text(_) | Kind::Number(_) | Kind::Missing | Kind::Exists => true,
            Kind::Property(property) => *property == Property::ProgramName,
            Kind::Priority(_) => false,
            Kind::Length(node) | Kind::Not(node) | Kind::Search(node, _) => node.is_by_program_only(),
            Kind::All(nodes) | Kind::Any(nodes) => nodes.iter().all(Self::is_by_program_only),
            Kind::Compare(comparison) => {
                let right = if let Right::One(node) = &comparison.right { node.is_by_program_only() } else { true };
                right && comparison.left.is_by_program_only()
            }
        }
    }

    /// What it gives; `None` where that takes more than is known.
    pub(super) fn value<'v>(&'v self, about: &'v impl About) -> Option<Value<'v>> {
        match &self.kind {
            Kind::Text(text) => Some(Value::Text(text)),
            Kind::Number(number) => Some(Value::Number(*number)),
            Kind::Property(property) => about.property(*property).map(Value::Text),
            Kind::Missing => Some(Value::Text(b"")),
            Kind::Length(node) => {
                let len = node.value(about)?.text(&mut Decimal::default()).len();
                Some(Value::Number(i64::try_from(len).unwrap_or(i64::MAX)))
            }
            _ => self.holds(about).map(|holds| Value::Number(i64::from(holds))),
        }
    }

    /// Whether it holds; `None` where that takes more than is known.
    pub(super) fn holds(&self, about: &impl About) -> Option<bool> {
        match &self.kind {
            Kind::All(nodes) => first_of(nodes, about, false),
            Kind::Any(nodes) => first_of(nodes, about, true),
            Kind::Not(node) => node.holds(about).map(|holds| !holds),
            Kind::Compare(comparison) => comparison.holds(about),
            Kind::Search(node, regex) => Some(regex.is_match(node.value(about)?.text(&mut Decimal::default()))),
            Kind::Priority(priorities) => about.pri().map(|pri| priorities.contain(pri)),
            Kind::Exists => Some(false),
            Kind::Text(_) | Kind::Number(_) | Kind::Property(_) | Kind::Missing | Kind::Length(_) => {
                // As in C: a text is what number it begins with.
                Some(match self.value(about)? {
                    Value::Number(number) => number != 0,
                    Value::Text(text) => number_at_start(text).0 != 0,
                })
            }
        }
    }
}

/// `decisive` where one of `nodes` is, else the opposite.
fn first_of(nodes: &[Node], about: &impl About, decisive: bool) -> Option<bool> {
    let mut all_known = true;
    for node in nodes {
        match node.holds(about) {
            Some(holds) if holds == decisive => return Some(decisive),
            Some(_) => {}
            None => all_known = false,
        }
    }
    all_known.then_some(!decisive)
}

impl Comparison {
    fn holds(&self, about: &impl About) -> Option<bool> {
        let left = self.left.value(about)?;
        let mut decimal = Decimal::default();
        let right = match &self.right {
            Right::Needle(finder) => return Some(finder.find(left.text(&mut decimal)).is_some()),
            Right::OneOf(texts) => return Some(self.operator.holds_for_one_of(left.text(&mut decimal), texts)),
            Right::One(node) => node.value(about)?,
        };
        Some(match self.operator {
            Operator::Equal => left.equals(right),
            Operator::NotEqual => !left.equals(right),
            Operator::Less => left.order(right).is_lt(),
            Operator::LessOrEqual => left.order(right).is_le(),
            Operator::Greater => left.order(right).is_gt(),
            Operator::GreaterOrEqual => left.order(right).is_ge(),
            _ => self.operator.holds_for(left.text(&mut decimal), right.text(&mut Decimal::default())),
        })
    }
}

impl Operator {
    fn holds_for_one_of(self, text: &[u8], sorted: &[Box<[u8]>]) -> bool {
        let is_one = || sorted.binary_search_by(|one| one.as_ref().cmp(text)).is_ok();
        match self {
            Self::Equal => is_one(),
            Self::NotEqual => !is_one(),
            _ => sorted.iter().any(|one| self.holds_for(text, one)),
        }
    }

    /// Of two texts; the operators that order do not come here.
    fn holds_for(self, text: &[u8], sought: &[u8]) -> bool {
        match self {
            Self::NotEqual => text != sought,
            Self::Contains => memmem::find(text, sought).is_some(),
            Self::ContainsAnyCase => contains_in_any_case(text, sought),
            Self::StartsWith => text.starts_with(sought),
            Self::StartsWithAnyCase => text.get(..sought.len()).is_some_and(|start| start.eq_ignore_ascii_case(sought)),
            Self::EndsWith => text.ends_with(sought),
            _ => text == sought,
        }
    }
}

fn contains_in_any_case(text: &[u8], sought: &[u8]) -> bool {
    let Some((first, _)) = sought.split_first() else { return true };
    let (lower, upper) = (first.to_ascii_lowercase(), first.to_ascii_uppercase());
    let begins =
        |at: usize| text.get(at..at.saturating_add(sought.len())).is_some_and(|part| part.eq_ignore_ascii_case(sought));
    memchr::memchr2_iter(lower, upper, text).any(begins)
}

impl<'v> Value<'v> {
    /// A number in digits, for which `decimal` is the place.
    pub(super) fn text<'t>(self, decimal: &'t mut Decimal) -> &'t [u8]
    where
        'v: 't,
    {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => decimal.write(number),
        }
    }

    /// The number, where the value is one or is the text of one.
    fn number(self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(number),
            Self::Text(text) => {
                let (number, is_all) = number_at_start(text);
                is_all.then_some(number)
            }
        }
    }

    /// Two texts octet by octet; with a number on either side as numbers, where both are such.
    fn equals(self, other: Self) -> bool {
        match (self, other) {
            (Self::Text(left), Self::Text(right)) => left == right,
            _ => match (self.number(), other.number()) {
                (Some(left), Some(right)) => left == right,
                _ => self.text(&mut Decimal::default()) == other.text(&mut Decimal::default()),
            },
        }
    }

    /// As numbers where both are such, else octet by octet.
    fn order(self, other: Self) -> Ordering {
        match (self.number(), other.number()) {
            (Some(left), Some(right)) => left.cmp(&right),
            _ => self.text(&mut Decimal::default()).cmp(other.text(&mut Decimal::default())),
        }
    }
}

/// What decimal number a text begins with, and whether that is all of it: an empty text is a 0, and so is a lone minus.
fn number_at_start(text: &[u8]) -> (i64, bool) {
    let (negative, digits) = match text.split_first() {
        Some((b'-', digits)) => (true, digits),
        _ => (false, text),
    };
    let count = digits.iter().take_while(|octet| octet.is_ascii_digit()).count();
    let number = digits
        .iter()
        .take(count)
        .fold(0_i64, |number, digit| number.wrapping_mul(10).wrapping_add(i64::from(digit - b'0')));
    (if negative { number.wrapping_neg() } else { number }, count == digits.len())
}

/// Room for a number in digits.
#[derive(Default)]
pub(super) struct Decimal(itoa::Buffer);

impl Decimal {
    fn write(&mut self, number: i64) -> &[u8] {
        self.0.format(number).as_bytes()
    }
}
