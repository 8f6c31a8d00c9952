//! Filters of every kind as conditions in RainerScript, the language of `routes[].when`.

use std::collections::HashMap;

use super::syntax::PropertyFilter;
use crate::route::quoted;

/// Variables that `set` has given a value on the way here: an expression, or `None` where the value depends on the message.
pub(super) type Variables = HashMap<String, Option<String>>;

/// A selector; `None` where it holds for every message.
pub(super) fn of_selector(text: &str) -> Option<String> {
    (text != "*.*").then(|| format!("prifilt({})", quoted(text)))
}

/// A property filter. `Err`: what is not supported.
pub(super) fn of_property(filter: &PropertyFilter) -> Result<String, String> {
    let property = match filter.property.strip_prefix('!') {
        Some(variable) => format!("$!{variable}"),
        None => format!("${}", filter.property),
    };
    let value = quoted(&filter.value);
    let condition = match filter.operation.as_str() {
        "isequal" => format!("{property} == {value}"),
        "isempty" => format!("{property} == ''"),
        operation @ ("contains" | "contains_i" | "startswith" | "startswith_i" | "endswith") => {
            format!("{property} {operation} {value}")
        }
        "regex" => format!("re_match_bre({property}, {value})"),
        "ereregex" => format!("re_match({property}, {value})"),
        other => return Err(format!("no operation \"{other}\", expected one such as contains or isequal")),
    };
    Ok(if filter.negated { not(&condition) } else { condition })
}

/// The condition that holds where this one does not.
pub(super) fn not(condition: &str) -> String {
    format!("not {}", in_parentheses(condition))
}

/// The condition that holds where all of these do; `None` for none.
pub(super) fn all(conditions: &[String]) -> Option<String> {
    match conditions {
        [] => None,
        [only] => Some(without_parentheses(only).to_owned()),
        // `and` binds no tighter than `or` in RainerScript.
        several => Some(several.iter().map(|each| in_parentheses(each)).collect::<Vec<_>>().join(" and ")),
    }
}

fn in_parentheses(condition: &str) -> String {
    format!("({})", without_parentheses(condition))
}

/// Takes parentheses off that are around the whole of it.
fn without_parentheses(condition: &str) -> &str {
    let condition = condition.trim();
    match condition.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
        Some(inner) if is_balanced(inner) => without_parentheses(inner),
        _ => condition,
    }
}

/// Whether no parenthesis in it belongs to one outside of it.
fn is_balanced(text: &str) -> bool {
    let mut depth = 0_usize;
    for piece in pieces(text) {
        match piece {
            "(" => depth += 1,
            ")" => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return false,
            },
            _ => {}
        }
    }
    depth == 0
}

/// The condition with the values of variables in their places. `Err`: one whose value depends on the message.
pub(super) fn substituted(condition: &str, variables: &Variables) -> Result<String, String> {
    let mut out = String::with_capacity(condition.len());
    for piece in pieces(condition) {
        match variables.get(&piece.to_lowercase()) {
            Some(Some(value)) => out.push_str(value),
            Some(None) => return Err(piece.to_owned()),
            None => out.push_str(piece),
        }
    }
    Ok(out)
}

/// The variables of messages (`$!x`) in it.
pub(super) fn message_variable(condition: &str) -> Option<&str> {
    pieces(condition).find(|piece| piece.starts_with("$!"))
}

/// Texts in quotes and variables whole, everything else character by character; together they are the text.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let end = match first {
            '"' | '\'' => {
                let mut escaped = false;
                let closing = rest.char_indices().skip(1).find(|(_, each)| {
                    let closes = *each == first && !escaped;
                    escaped = *each == '\\' && !escaped;
                    closes
                });
                closing.map_or(rest.len(), |(at, _)| at + 1)
            }
            '$' => rest
                .char_indices()
                .skip(1)
                .find(|(_, each)| !each.is_alphanumeric() && !"$!./_-".contains(*each))
                .map_or(rest.len(), |(at, _)| at),
            other => other.len_utf8(),
        };
        let (piece, after) = rest.split_at_checked(end)?;
        rest = after;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn property_filters_are_conditions() {
        let filter = |negated, operation: &str, value: &str| PropertyFilter {
            property: "msg".to_owned(),
            negated,
            operation: operation.to_owned(),
            value: value.to_owned(),
        };
        let rows = [
            (filter(false, "contains", "a"), "$msg contains 'a'"),
            (filter(true, "contains", "a'b\\"), "not ($msg contains 'a\\'b\\\\')"),
            (filter(false, "isequal", "a"), "$msg == 'a'"),
            (filter(true, "isempty", ""), "not ($msg == '')"),
            (filter(false, "regex", "a\\{2\\}"), "re_match_bre($msg, 'a\\\\{2\\\\}')"),
            (filter(false, "ereregex", "^a+$"), "re_match($msg, '^a+$')"),
        ];
        for (filter, expected) in rows {
            assert_eq!(of_property(&filter), Ok(expected.to_owned()));
        }
        assert!(of_property(&filter(false, "near", "a")).is_err_and(|why| why.contains("near")));
    }

    #[test]
    fn conditions_are_joined_so_that_each_keeps_its_meaning() {
        let texts = |all: &[&str]| all.iter().map(|each| (*each).to_owned()).collect::<Vec<_>>();
        let rows: [(&[&str], Option<&str>); 5] = [
            (&[], None),
            (&["($a == 'b')"], Some("$a == 'b'")),
            (&["($a == 'b') or ($c == 'd')"], Some("($a == 'b') or ($c == 'd')")),
            (
                &["$a == 'b' or $c == ')'", "((not ($d == 'e')))"],
                Some("($a == 'b' or $c == ')') and (not ($d == 'e'))"),
            ),
            (&["(($a == '('))"], Some("$a == '('")),
        ];
        for (given, expected) in rows {
            assert_eq!(all(&texts(given)).as_deref(), expected);
        }
        assert_eq!(not("(a) or (b)"), "not ((a) or (b))");
    }

    #[test]
    fn variables_are_replaced_outside_of_quotes_only() {
        let variables = Variables::from([("$.site".to_owned(), Some("'lyon'".to_owned())), ("$.odd".to_owned(), None)]);
        let found = substituted("$.site == \"$.site\" and $.sites == '' and $.SITE != 'a\\'$.odd'", &variables);
        assert_eq!(found.as_deref(), Ok("'lyon' == \"$.site\" and $.sites == '' and 'lyon' != 'a\\'$.odd'"));
        assert_eq!(substituted("$.odd == 1", &variables), Err("$.odd".to_owned()));
    }
}
