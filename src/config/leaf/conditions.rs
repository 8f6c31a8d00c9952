//! What a route's conditions may be.

use super::{Leaf, Wrong};
use crate::route::{Expression, FacilitySet, Name, SeveritySet, TextTest};

impl Leaf for Name {
    fn expected() -> String {
        "expected a name or a pattern with *, ? and [...]".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "" => Err(format!("found \"\", {}", Self::expected()).into()),
            text => Self::parse(text).map_err(Wrong::from),
        }
    }
}

impl Leaf for FacilitySet {
    fn expected() -> String {
        "expected a facility such as auth or local0, a number from 0 to 23, a range such as local0..local7, or *"
            .to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        Self::parse(text).map_err(Wrong::from)
    }
}

impl Leaf for SeveritySet {
    fn expected() -> String {
        "expected a severity such as err or warning, a number from 0 to 7, a range such as err..emerg, or *".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        Self::parse(text).map_err(Wrong::from)
    }
}

/// A text to be found in MSG.
#[derive(Debug, Clone)]
pub(crate) struct Contains(pub(crate) TextTest);

impl Leaf for Contains {
    fn expected() -> String {
        "expected some text".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        TextTest::contains(text).map(Self).map_err(Wrong::from)
    }
}

/// A regular expression to be found in MSG.
#[derive(Debug, Clone)]
pub(crate) struct Pattern(pub(crate) TextTest);

impl Leaf for Pattern {
    fn expected() -> String {
        "expected a regular expression".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        TextTest::regex(text).map(Self).map_err(Wrong::from)
    }
}

impl Leaf for Expression {
    fn expected() -> String {
        "expected a condition such as $programname == 'sshd'".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        Self::parse(text).map_err(|error| Wrong { message: error.message, at: Some(error.at) })
    }
}
