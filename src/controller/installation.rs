//! Several installations in one cluster: which of them a Builder belongs to.
//!
//! A Builder's certificates come from one installation's authority, and its status says which: the others leave it
//! alone, and with it the ImageBuilds that build on it. Two that wrote in turns would issue its certificates anew
//! for ever, and restart its daemon each time.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use whittle_api::Builder;

/// Whose a Builder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim<'a> {
    /// This installation's.
    Ours,
    /// Nobody's yet: it is new, was handed over, or was made before installations were told apart.
    Nobodys,
    /// Another installation's, by name.
    Theirs(&'a str),
}

/// Whose `builder` is, as seen by `installation`.
pub fn claim<'a>(builder: &'a Builder, installation: &str) -> Claim<'a> {
    let status = builder.status.as_ref();
    match status.and_then(|status| status.installation.as_deref()) {
        None | Some("") => Claim::Nobodys,
        Some(name) if name == installation => Claim::Ours,
        Some(name) => Claim::Theirs(name),
    }
}

/// What a person reads of an object that is another installation's.
pub fn explain(namespace: &str, builder: &str, other: &str, installation: &str) -> String {
    format!(
        "Builder {namespace}/{builder} belongs to the installation {other}, not to {installation}, which leaves it and its \
         ImageBuilds alone; if {other} was uninstalled, hand it over: kubectl patch builder {builder} -n {namespace} \
         --subresource status --type merge -p '{{\"status\":{{\"installation\":null}}}}'; else name a Builder of \
         {installation} in builderRef"
    )
}

/// Labels that make an object one that `selector` selects, as far as labels can.
pub fn labels(selector: &LabelSelector) -> BTreeMap<String, String> {
    let mut labels = selector.match_labels.clone().unwrap_or_default();
    for wanted in selector.match_expressions.iter().flatten() {
        let value = match wanted.operator.as_str() {
            "In" => wanted.values.iter().flatten().next().cloned(),
            "Exists" => Some("true".to_owned()),
            _ => None,
        };
        if let Some(value) = value {
            labels.entry(wanted.key.clone()).or_insert(value);
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use whittle_api::BuilderStatus;

    fn claimed(by: Option<&str>) -> Builder {
        let mut builder = fixtures::builder();
        builder.status = Some(BuilderStatus {
            installation: by.map(Into::into),
            ..BuilderStatus::default()
        });
        builder
    }

    #[test]
    fn a_builder_from_before_installations_were_told_apart_is_nobodys() {
        assert_eq!(claim(&fixtures::builder(), "a/w"), Claim::Nobodys);
        assert_eq!(claim(&claimed(None), "a/w"), Claim::Nobodys);
    }

    #[test]
    fn a_builder_belongs_to_the_installation_that_its_status_names() {
        assert_eq!(claim(&claimed(Some("a/w")), "a/w"), Claim::Ours);
        assert_eq!(claim(&claimed(Some("b/w")), "a/w"), Claim::Theirs("b/w"));
    }

    #[test]
    fn a_builder_made_on_demand_is_one_that_the_selector_selects() {
        let selector: LabelSelector = serde_json::from_value(serde_json::json!({
            "matchLabels": {"a": "1"},
            "matchExpressions": [
                {"key": "b", "operator": "In", "values": ["2", "3"]},
                {"key": "c", "operator": "Exists"},
                {"key": "d", "operator": "NotIn", "values": ["4"]},
            ],
        }))
        .unwrap();
        let wanted = [("a", "1"), ("b", "2"), ("c", "true")];
        assert_eq!(
            labels(&selector),
            wanted.map(|(k, v)| (k.into(), v.into())).into()
        );
        use kube::core::{Selector, SelectorExt};
        let parsed = Selector::try_from(selector.clone()).unwrap();
        assert!(parsed.matches(&labels(&selector)));
    }
}
