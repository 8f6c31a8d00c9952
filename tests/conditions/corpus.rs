//! The shared corpus's expressions, where it lies beside this repository.

use forebay::route::Expression;

use crate::{FRAME, holds};

/// The corpus is not a part of this repository.
fn rows() -> Option<Vec<serde_json::Value>> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared").to_owned();
    let path = std::env::var("FOREBAY_SHARED").unwrap_or(beside) + "/corpus/rainerscript_compare.jsonl";
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: {path} is not there");
        return None;
    };
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// Base64 of the one message that all rows are about.
const MESSAGE: &str = "PDM0Pk9jdCAxMSAyMjoxNDoxNSBteW1hY2hpbmUgc3VbMjMxXTogSGVsbG8gV29ybGQgNDI=";

#[test]
fn the_corpus_holds_as_it_says() {
    let Some(rows) = rows() else { return };
    assert!(rows.len() >= 39, "{} rows", rows.len());
    for row in &rows {
        assert_eq!(row["message_b64"], MESSAGE, "{row}: a message that this test does not know");
        let text = row["expr"].as_str().unwrap();
        match (Expression::parse(text), row["expect"].as_bool()) {
            (Ok(expression), Some(expected)) => assert_eq!(holds(&expression, FRAME), expected, "{row}"),
            (Err(_), None) => assert_eq!(row["expect"], "config_error", "{row}"),
            (parsed, _) => panic!("{row}: {parsed:?}"),
        }
    }
}
