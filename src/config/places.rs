//! Where the keys of a configuration stand: for what is said of them once it is resolved.

use std::collections::HashMap;

use super::report::{Mistake, Position};
use super::tree::{Node, Value};

/// Keys of keys of keys: `inputs.lan.receive_buffer`. What is below stands in the same place.
const DEPTH: usize = 3;

/// Positions by path (`routes[2].output`).
#[derive(Debug, Default)]
pub struct Places(HashMap<String, Position>);

impl Places {
    pub(super) fn of(tree: &Node) -> Self {
        let mut places = Self::default();
        places.collect(tree, String::new(), DEPTH);
        places
    }

    fn collect(&mut self, node: &Node, path: String, depth: usize) {
        if let Some(depth) = depth.checked_sub(1) {
            match &node.value {
                Value::Map(entries) => {
                    for entry in entries {
                        let key = &entry.key;
                        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                        self.collect(&entry.node, path, depth);
                    }
                }
                Value::List(items) => {
                    for (index, item) in items.iter().enumerate() {
                        self.collect(item, format!("{path}[{index}]"), depth);
                    }
                }
                Value::Nothing | Value::Scalar(_) => {}
            }
        }
        self.0.insert(path, node.at.clone());
    }

    /// A mistake about this key, in the place of its value, or of what it would stand in.
    pub fn mistake(&self, path: &str, message: impl Into<String>) -> Mistake {
        let mut around = path;
        let at = loop {
            match (self.0.get(around), around) {
                (Some(at), _) => break at.clone(),
                (None, "") => break Position { rank: 0, file: "configuration".into(), line: 0, column: 0 },
                _ => around = around.rfind(['.', '[']).and_then(|end| around.get(..end)).unwrap_or_default(),
            }
        };
        Mistake { at, path: path.to_owned(), message: message.into() }
    }
}
