//! What each part of an expression gives for one message.

use super::node::{Decimal, Kind, Node};
use crate::route::view::View;

/// A part of an expression that holds or does not: `and`, `or`, `not`, a comparison, a function, or a value alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step<'e> {
    /// How deep it lies: 0 is the whole.
    pub depth: usize,
    /// Where it stands in the expression, in octets.
    pub start: usize,
    /// As it is written.
    pub text: &'e str,
    /// Whether it holds.
    pub holds: bool,
    /// Whether it was asked: what is left of it in an `and` or `or` may have decided already.
    pub asked: bool,
    /// What stands left of a comparison's operator, or in a function, for this message.
    pub value: Option<Vec<u8>>,
}

/// The parts, each before what it consists of.
pub(super) fn steps<'e>(root: &'e Node, text: &'e str, view: &View<'_>) -> Vec<Step<'e>> {
    let mut steps = Vec::new();
    walk(root, text, view, (0, true), &mut steps);
    steps
}

fn walk<'e>(node: &'e Node, text: &'e str, view: &View<'_>, place: (usize, bool), steps: &mut Vec<Step<'e>>) {
    let (depth, asked) = place;
    let holds = |node: &Node| node.holds(view).unwrap_or_default();
    let value = |node: &Node| node.value(view).map(|value| value.text(&mut Decimal::default()).to_vec());
    let subject = match &node.kind {
        Kind::Compare(comparison) => Some(&comparison.left),
        Kind::Search(subject, _) | Kind::Length(subject) => Some(subject.as_ref()),
        Kind::Property(_) | Kind::Missing => Some(node),
        _ => None,
    };
    steps.push(Step {
        depth,
        start: node.start,
        text: text.get(node.start..node.end).unwrap_or_default(),
        holds: holds(node),
        asked,
        value: subject.and_then(value),
    });
    match &node.kind {
        Kind::All(nodes) | Kind::Any(nodes) => {
            let decisive = matches!(node.kind, Kind::Any(_));
            let mut asked = asked;
            for node in nodes {
                walk(node, text, view, (depth + 1, asked), steps);
                asked &= holds(node) != decisive;
            }
        }
        Kind::Not(node) => walk(node, text, view, (depth + 1, asked), steps),
        _ => {}
    }
}
