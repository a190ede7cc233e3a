//! What is said of two images, side by side.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::inspect::said::lines;
use whittle_image::{Contents, ImageConfig, bounded};

/// Bytes of one text.
const TEXT: usize = 1000;
/// Variables of the environment that are compared.
const VARIABLES: usize = 1000;

/// One of them, where it is not the same.
#[derive(Serialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct FactChange {
    /// What: as the table of `whittle inspect` calls it; `ENV NAME` for a variable.
    pub(super) what: String,
    /// Of the first image; absent where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) before: Option<String>,
    /// Of the second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<String>,
}

/// What is not the same of two images.
pub(super) fn facts(
    (before, old): (&Contents, &ImageConfig),
    (after, new): (&Contents, &ImageConfig),
) -> Vec<FactChange> {
    let lines = lines(before).into_iter().zip(lines(after));
    let lines =
        lines
            .filter(|((_, one), (_, other))| one != other)
            .map(|((what, one), (_, other))| FactChange {
                what: what.into(),
                before: Some(bounded(one, TEXT)),
                after: Some(bounded(other, TEXT)),
            });
    let (old, new) = (variables(old), variables(new));
    let mut names: Vec<&str> = old.keys().chain(new.keys()).copied().collect();
    names.sort_unstable();
    names.dedup();
    let text = |value: Option<&&str>| value.map(|value| bounded((*value).to_owned(), TEXT));
    let changed = names
        .into_iter()
        .filter(|name| old.get(name) != new.get(name))
        .map(|name| FactChange {
            what: bounded(format!("ENV {name}"), TEXT),
            before: text(old.get(name)),
            after: text(new.get(name)),
        });
    lines.chain(changed).collect()
}

/// Variables but for PATH, which has a line of its own.
fn variables(config: &ImageConfig) -> BTreeMap<&str, &str> {
    let all = config.env.iter().take(VARIABLES);
    all.filter_map(|text| text.split_once('='))
        .filter(|(name, _)| *name != "PATH")
        .collect()
}
