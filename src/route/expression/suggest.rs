//! What a name may have been meant to be.

/// How alike two names must be (0 to 1) for one to be suggested for the other.
const ALIKE_MIN: f64 = 0.6;

/// ` (did you mean "x"?)`, or nothing.
pub(super) fn did_you_mean<'n>(found: &str, names: impl Iterator<Item = &'n str>) -> String {
    let found = found.to_ascii_lowercase();
    // The first favours what begins alike, the second sees letters that changed places.
    let likeness =
        |name| strsim::jaro_winkler(&found, name).midpoint(strsim::normalized_damerau_levenshtein(&found, name));
    let alike = names.map(|name| (likeness(name), name));
    let nearest = alike.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(alike, _)| *alike >= ALIKE_MIN);
    nearest.map(|(_, name)| format!(" (did you mean \"{name}\"?)")).unwrap_or_default()
}
