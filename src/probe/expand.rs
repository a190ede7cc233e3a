//! `$(NAME)` in the command of an exec probe, as the kubelet fills it in.
//!
//! The kubelet knows no image and no ConfigMap there: it takes the values that stand literally in the
//! container's `env`, and nothing for those that have a `valueFrom` (ExpandContainerCommandOnlyStatic,
//! pkg/kubelet/container/helpers.go; syntax: third_party/forked/golang/expansion of Kubernetes). Commands
//! of preStop and postStart are not filled in at all (pkg/kubelet/lifecycle/handlers.go).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::EnvVar;

/// Bytes of a command that Linux starts: a quarter of a stack of 8 MiB (execve(2)).
const MOST: usize = 2 << 20;

/// Names to values, as the kubelet has them for a probe; the last entry of a name counts.
pub(super) fn values(env: &[EnvVar]) -> BTreeMap<&str, &str> {
    env.iter()
        .map(|variable| {
            (
                variable.name.as_str(),
                variable.value.as_deref().unwrap_or_default(),
            )
        })
        .collect()
}

/// The words of a command with their references filled in; none where it comes to more than Linux starts. `values`: names to values,
/// as the container's `env` has them literally.
pub fn all(words: &[String], values: &BTreeMap<&str, &str>) -> Option<Vec<String>> {
    let mut left = MOST;
    words
        .iter()
        .map(|word| {
            let text = expand(word, values)?;
            left = left.checked_sub(text.len())?;
            Some(text)
        })
        .collect()
}

/// One word with its references filled in; those to unknown names stay as they are. None where it comes to
/// more than Linux starts a program with.
pub(super) fn expand(word: &str, values: &BTreeMap<&str, &str>) -> Option<String> {
    let mut text = String::with_capacity(word.len());
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        if text.len() > MOST {
            return None;
        }
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            text.push('$');
            rest = after;
        } else if let Some((name, after)) =
            rest.strip_prefix('(').and_then(|open| open.split_once(')'))
        {
            match values.get(name) {
                Some(value) => text.push_str(value),
                None => text.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            text.push('$');
        }
    }
    text.push_str(rest);
    Some(text).filter(|text| text.len() <= MOST)
}

/// Names that a word refers to as `$(NAME)`.
pub(super) fn references(word: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
        } else if let Some((name, after)) =
            rest.strip_prefix('(').and_then(|open| open.split_once(')'))
        {
            names.push(name);
            rest = after;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_filled_in_as_the_kubelet_does_it() {
        let values = BTreeMap::from([("A", "1"), ("EMPTY", "")]);
        for (word, expanded) in [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$(EMPTY)z", "z"),
            ("$(MISSING)", "$(MISSING)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$A ${A} $", "$A ${A} $"),
            ("$(A", "$(A"),
            ("ü$(A)ü$ü", "ü1ü$ü"),
        ] {
            assert_eq!(expand(word, &values).as_deref(), Some(expanded), "{word}");
        }
        assert_eq!(references("$(A) $$(B) $(C $(D)"), ["A", "C $(D"]);
    }

    #[test]
    fn what_many_references_come_to_is_not_made_in_memory() {
        let large = "x".repeat(500_000);
        let values = BTreeMap::from([("A", large.as_str())]);
        assert_eq!(expand(&"$(A)".repeat(100_000), &values), None);
        assert_eq!(all(&vec!["$(A)".to_owned(); 100_000], &values), None);
        assert_eq!(all(&vec!["$(A)".to_owned(); 4], &values).unwrap().len(), 4);
    }
}
