//! What holds for any text that is given for a configuration: for the fuzzer and for the property tests. Panics where it
//! does not hold.

use super::{Source, load};

/// What every variable holds. Long and odd enough to stand in no text by chance.
const SECRET: &str = "zQ7hV2mXw9Lr4TbK";

/// For fuzzing: a configuration's text. Relative paths in it are looked up in the working directory, as ever.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data).into_owned();
    let told_by_text = text.contains(SECRET);
    let source = Source::Text { name: "fuzz.yaml".to_owned(), text };
    match load(&source, &|_| Some(SECRET.to_owned())) {
        Ok(loaded) => {
            assert!(loaded.config.cores > 0, "no shard");
            assert!(!loaded.config.inputs.is_empty() && !loaded.config.routes.is_empty(), "nothing to do");
            assert!(!loaded.config.summary().is_empty());
        }
        Err(report) => {
            let shown = report.to_string();
            assert!(!report.mistakes().is_empty(), "refused without a reason");
            assert_eq!(shown.lines().count(), report.mistakes().len(), "{shown}");
            assert!(told_by_text || !shown.contains(SECRET), "a variable's value is shown: {shown}");
        }
    }
}
