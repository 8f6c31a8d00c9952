//! Rules that can never match, because an earlier one takes all that they could. No false alarms: what takes more than a
//! look at the parts one by one is not found.

use super::Rule;
use super::conditions::Conditions;

/// Pairs of a rule that can never match and the first earlier one that takes all it could, by index.
pub fn shadowed(rules: &[Rule]) -> Vec<(usize, usize)> {
    let ending = || rules.iter().enumerate().filter(|(_, rule)| !rule.continues);
    let shadow_of = |(later, rule): (usize, &Rule)| {
        let earlier = ending().take_while(|(earlier, _)| *earlier < later);
        earlier
            .map(|(earlier, by)| (by, earlier))
            .find(|(by, _)| by.conditions.cover(&rule.conditions))
            .map(|(_, earlier)| (later, earlier))
    };
    rules.iter().enumerate().filter_map(shadow_of).collect()
}

impl Conditions {
    /// Whether these surely hold for every message that `other` hold for.
    fn cover(&self, other: &Self) -> bool {
        let Self { program, hostname, peer, input, facility, severity, message, when, not } = self;
        facility.covers(other.facility)
            && severity.covers(other.severity)
            && list_covers(program, &other.program, |ours, theirs| ours.covers(theirs))
            && list_covers(hostname, &other.hostname, |ours, theirs| ours.covers(theirs))
            && list_covers(peer, &other.peer, |ours, theirs| ours.contains(theirs))
            && list_covers(input, &other.input, |ours, theirs| ours == theirs)
            && list_covers(message, &other.message, |ours, theirs| ours.covers(theirs))
            // Of two expressions, that they are the same is all that a look tells.
            && (when.is_none() || *when == other.when)
            // What ours exclude must be excluded by the other as well.
            && not.as_ref().is_none_or(|ours| other.not.as_ref().is_some_and(|theirs| theirs.cover(ours)))
    }
}

/// Of two lists of alternatives: whether each of `theirs` is covered by one of `ours`. No alternatives: no condition.
fn list_covers<T>(ours: &[T], theirs: &[T], covers: impl Fn(&T, &T) -> bool) -> bool {
    ours.is_empty() || (!theirs.is_empty() && theirs.iter().all(|theirs| ours.iter().any(|ours| covers(ours, theirs))))
}
