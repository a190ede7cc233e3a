//! The long tables: `make test-long` runs them whole, other runs a sample of each.

use std::collections::BTreeSet;

/// Whether they run whole.
pub fn whole() -> bool {
    std::env::var_os("LONG").is_some_and(|value| !value.is_empty())
}

/// All rows where tables run whole; else the first of each kind, so that no kind is left out.
pub fn sample<T, K: Ord>(mut rows: Vec<T>, kind: impl Fn(&T) -> K) -> Vec<T> {
    if !whole() {
        let mut seen = BTreeSet::new();
        rows.retain(|row| seen.insert(kind(row)));
    }
    rows
}

/// The file in `target` that a table is written to: documents are copies of whole ones.
pub fn file(name: &str) -> String {
    match whole() {
        true => format!("{name}.md"),
        false => format!("{name}-sample.md"),
    }
}
