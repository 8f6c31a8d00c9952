//! Which routes a message takes. Pure: no I/O, no waiting, no logging, no counting.
//!
//! [`Conditions`] say what a message must be like and can be asked one by one ([`Conditions::matches`]); [`Matcher`] gives
//! the same answer for all rules at once, at a cost that does not grow with the number of routes by program name.

mod conditions;
pub mod expression;
mod name;
mod set;
mod shadow;
#[cfg(test)]
mod tests;
mod trace;
mod view;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::syslog::Message;
use view::View;

pub use conditions::{Conditions, TextTest, parse_net};
pub use expression::{Expression, quoted};
pub use name::Name;
pub use set::{FacilitySet, SeveritySet};
pub use shadow::shadowed;
pub use trace::{Asked, Part, Trace};

/// Program names whose candidates are remembered. A machine runs some hundreds; a sender that invents more than this many
/// makes all be found again, which costs time but no memory: 4,096 × (255 + 48) octets = 1.2 MiB a shard at the very most.
const CACHED_NAMES_MAX: usize = 4096;

/// Longer program names are not remembered: RFC 5424 section 6 ends APP-NAME at 48 octets.
const CACHED_NAME_LEN_MAX: usize = 255;

/// In a list of candidates: the rule takes all messages of this program, nothing more is asked.
const SURE: u16 = 1 << 15;

/// Indices in all remembered lists of candidates together: 128 KiB a shard.
const CACHED_INDICES_MAX: usize = 65_536;

/// One route's rule: its place in the list is its index.
#[derive(Debug, Clone, Default)]
pub struct Rule {
    /// All must hold.
    pub conditions: Conditions,
    /// Later rules are tried as well.
    pub continues: bool,
}

/// All rules, compiled; with a cache by program name. One a shard.
///
/// No allocation per message, once the program names that occur have been seen.
#[derive(Debug)]
pub struct Matcher {
    /// Each with the number that hits have.
    rules: Vec<(Rule, u16)>,
    cache: HashMap<Box<[u8]>, Candidates, RandomState>,
    /// The lists in `cache`, each kept once: most names share theirs.
    lists: HashSet<Arc<[u16]>, RandomState>,
    /// Indices in `lists` together.
    listed: usize,
    /// Of a name that is not remembered.
    scratch: Vec<u16>,
}

/// The rules that one program name does not exclude, in order, up to the first that surely ends the search.
#[derive(Debug, Clone)]
enum Candidates {
    /// The first one takes them all.
    One(u16),
    /// With [`SURE`] where nothing more is to be asked.
    List(Arc<[u16]>),
}

impl Matcher {
    /// Compiles. Rules beyond 32,768 have no index and are never taken; the configuration allows far fewer.
    pub fn new(rules: &[Rule]) -> Self {
        Self::numbered(rules.iter().cloned().zip(0..SURE))
    }

    /// The same of rules, in the order in which they are asked, that have numbers of their own: those are the hits.
    pub fn numbered(rules: impl Iterator<Item = (Rule, u16)>) -> Self {
        Self {
            rules: rules.take(usize::from(SURE)).collect(),
            cache: HashMap::default(),
            lists: HashSet::default(),
            listed: 0,
            scratch: Vec::new(),
        }
    }

    /// Puts the numbers of the rules that `message` takes into `hits` (cleared first), in order.
    pub fn route(&mut self, message: &Message<'_>, hits: &mut Vec<u16>) {
        hits.clear();
        let program = message.program_name();
        if let Some(candidates) = self.cache.get(program) {
            match candidates {
                Candidates::One(index) => hits.push(*index),
                Candidates::List(list) => self.evaluate(list, message, hits),
            }
            return;
        }
        self.find(program);
        self.evaluate(&self.scratch, message, hits);
        self.remember(program);
    }

    /// Asks the candidates for all but the program name.
    fn evaluate(&self, candidates: &[u16], message: &Message<'_>, hits: &mut Vec<u16>) {
        let view = View::new(message);
        for candidate in candidates {
            let index = candidate & !SURE;
            let Some((rule, number)) = self.rules.get(usize::from(index)) else { continue };
            if candidate & SURE != 0 || rule.conditions.hold_beyond_program(&view) {
                hits.push(*number);
                if !rule.continues {
                    return;
                }
            }
        }
    }

    /// Puts the candidates for `program` into `scratch`.
    fn find(&mut self, program: &[u8]) {
        self.scratch.clear();
        for (index, (rule, _)) in (0..SURE).zip(&self.rules) {
            match rule.conditions.hold_for_program(program) {
                Some(false) => {}
                None => self.scratch.push(index),
                Some(true) => {
                    self.scratch.push(index | SURE);
                    if !rule.continues {
                        return;
                    }
                }
            }
        }
    }

    /// Remembers what is in `scratch` as the candidates for `program`.
    fn remember(&mut self, program: &[u8]) {
        if program.len() > CACHED_NAME_LEN_MAX || self.scratch.len() > CACHED_INDICES_MAX {
            return;
        }
        if self.cache.len() >= CACHED_NAMES_MAX || self.listed + self.scratch.len() > CACHED_INDICES_MAX {
            self.cache.clear();
            self.lists.clear();
            self.listed = 0;
        }
        let last = |index: u16| {
            self.rules.get(usize::from(index)).filter(|(rule, _)| !rule.continues).map(|(_, number)| *number)
        };
        let candidates = match self.scratch.as_slice() {
            [candidate]
                if candidate & SURE != 0
                    && let Some(number) = last(candidate & !SURE) =>
            {
                Candidates::One(number)
            }
            indices => Candidates::List(self.lists.get(indices).cloned().unwrap_or_else(|| {
                let list: Arc<[u16]> = indices.into();
                self.listed += list.len();
                self.lists.insert(Arc::clone(&list));
                list
            })),
        };
        self.cache.insert(program.into(), candidates);
    }
}
