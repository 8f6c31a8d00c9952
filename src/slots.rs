//! Things by number, of which there may come more while others look. What a number stands for neither changes nor moves, and is
//! there for as long as the list.

use std::fmt;
use std::ops::Index;

/// A list that grows at its end only, also while it is read: by other threads, and by whoever holds something of it.
pub struct Slots<T>(boxcar::Vec<T>);

impl<T> Slots<T> {
    /// The one with this number. No lock; two loads more than a slice takes.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.0.get(index)
    }

    /// Puts one more behind the others.
    pub fn push(&self, one: T) {
        self.0.push(one);
    }

    /// Puts as many behind the others as are missing from `count`; `make` is told each one's number.
    pub fn fill(&self, count: usize, mut make: impl FnMut(usize) -> T) {
        (self.len()..count).for_each(|index| self.push(make(index)));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first.
    pub fn first(&self) -> Option<&T> {
        self.get(0)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|(_, one)| one)
    }
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self(boxcar::Vec::new())
    }
}

impl<T: fmt::Debug> fmt::Debug for Slots<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

impl<T> FromIterator<T> for Slots<T> {
    fn from_iter<I: IntoIterator<Item = T>>(all: I) -> Self {
        Self(all.into_iter().collect())
    }
}

impl<T> Index<usize> for Slots<T> {
    type Output = T;

    fn index(&self, index: usize) -> &T {
        self.0.index(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_stays_where_it_is_while_others_come() {
        let slots: Slots<String> = ["a".to_owned()].into_iter().collect();
        let first = slots.first().unwrap();
        slots.fill(1_000, |index| index.to_string());
        assert_eq!((first.as_str(), slots.len()), ("a", 1_000));
        assert_eq!(
            slots.iter().skip(1).cloned().collect::<Vec<_>>(),
            (1..1_000).map(|n| n.to_string()).collect::<Vec<_>>()
        );
        assert!(slots.get(1_000).is_none());
    }
}
