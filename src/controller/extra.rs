//! Labels and annotations that an installation gives to the Pods of builds, besides Whittle's own: for accounting, log collectors,
//! meshes. They name nothing that Whittle or Kubernetes finds its own Pods by.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::EnvVar;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// What the keys of others may not begin with. The chart's schema has the same.
const RESERVED: [&str; 7] = [
    "whittle.dev/",
    "app.kubernetes.io/",
    "batch.kubernetes.io/",
    "apps.kubernetes.io/",
    "statefulset.kubernetes.io/",
    "pod-security.kubernetes.io/",
    "cluster-autoscaler.kubernetes.io/safe-to-evict",
];

/// Labels of Kubernetes' own controllers from before they had prefixes.
const RESERVED_WHOLE: [&str; 4] = [
    "controller-uid",
    "job-name",
    "pod-template-hash",
    "controller-revision-hash",
];

/// Labels or annotations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extra(BTreeMap<String, String>);

impl Extra {
    /// Whittle's own with these: where a key is in both, Whittle's stays.
    pub fn with(&self, own: Option<BTreeMap<String, String>>) -> Option<BTreeMap<String, String>> {
        if self.0.is_empty() {
            return own;
        }
        let mut all = self.0.clone();
        all.extend(own.unwrap_or_default());
        Some(all)
    }

    /// What a digest is made of; empty where there are none.
    pub fn text(&self) -> String {
        self.0
            .iter()
            .map(|(key, value)| format!("\n{key}={value}"))
            .collect()
    }
}

fn is_reserved(key: &str) -> bool {
    RESERVED.iter().any(|prefix| key.starts_with(prefix)) || RESERVED_WHOLE.contains(&key)
}

impl<'de> Deserialize<'de> for Extra {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all = BTreeMap::<String, String>::deserialize(deserializer)?;
        match all.keys().find(|key| is_reserved(key)) {
            Some(key) => Err(D::Error::custom(format!(
                "podLabels and podAnnotations: {key} is reserved for whittle and Kubernetes: use a prefix of your own"
            ))),
            None => Ok(Self(all)),
        }
    }
}

/// A variable of the daemon's environment.
#[derive(Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// What is added to the environment of a container of Whittle's, what leads it outside unless it is among that, and what is its
/// own, which nothing changes.
pub fn environment(added: &[Variable], outside: Vec<EnvVar>, own: (&str, String)) -> Vec<EnvVar> {
    let variable = |name: &str, value: &str| EnvVar {
        name: name.into(),
        value: Some(value.into()),
        value_from: None,
    };
    let outside = outside.into_iter().filter(|it| {
        !added
            .iter()
            .any(|added| added.name.eq_ignore_ascii_case(&it.name))
    });
    let added = added.iter().filter(|added| added.name != own.0);
    added
        .map(|added| variable(&added.name, &added.value))
        .chain(outside)
        .chain([variable(own.0, &own.1)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::objects;
    use crate::fixtures;
    use crate::settings::Settings;

    fn read(text: &str) -> Result<Extra, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn labels_by_which_pods_are_found_are_reserved() {
        for key in [
            "whittle.dev/component",
            "app.kubernetes.io/name",
            "batch.kubernetes.io/job-name",
            "job-name",
            "cluster-autoscaler.kubernetes.io/safe-to-evict",
        ] {
            let told = read(&format!(r#"{{"{key}": "x"}}"#)).unwrap_err();
            assert!(
                told.contains(key) && told.contains("prefix of your own"),
                "{told}"
            );
        }
        assert!(read(r#"{"job-name-of-ours": "x", "example.com/cost": "7"}"#).is_ok());
    }

    #[test]
    fn whittles_own_stay_and_without_others_nothing_changes() {
        let own = Some(BTreeMap::from([("a".to_owned(), "own".to_owned())]));
        assert_eq!(Extra::default().with(own.clone()), own);
        assert_eq!(Extra::default().with(None), None);
        assert_eq!(Extra::default().text(), "");
        let extra = read(r#"{"a": "theirs", "b": "more"}"#).unwrap();
        let all = extra.with(own).unwrap();
        assert_eq!((all["a"].as_str(), all["b"].as_str()), ("own", "more"));
        assert_ne!(
            extra.text(),
            read(r#"{"a": "theirs", "b": "less"}"#).unwrap().text()
        );
    }

    fn settings() -> Settings {
        let text = r#"{"runner": {"image": "w"}, "builder": {"image": "b",
            "podLabels": {"example.com/team": "build"}, "podAnnotations": {"example.com/scrape": "true"},
            "env": [{"name": "PATH", "value": "/evil"}, {"name": "BUILDKIT_DEBUG", "value": "1"}]}}"#;
        serde_json::from_str(text).unwrap()
    }

    fn set(
        settings: &Settings,
    ) -> (
        BTreeMap<String, String>,
        BTreeMap<String, String>,
        Vec<String>,
    ) {
        let made = objects::objects(&fixtures::builder(), settings, "c").stateful_set;
        let template = made.spec.unwrap().template;
        let metadata = template.metadata.unwrap();
        let daemon = template.spec.unwrap().containers.remove(0);
        let env = daemon.env.unwrap().into_iter();
        let env = env.map(|it| format!("{}={}", it.name, it.value.unwrap()));
        (
            metadata.labels.unwrap(),
            metadata.annotations.unwrap(),
            env.collect(),
        )
    }

    #[test]
    fn a_builders_pod_has_them_and_starts_anew_where_they_change() {
        let (labels, annotations, env) = set(&settings());
        assert_eq!(labels["example.com/team"], "build");
        assert_eq!(labels["whittle.dev/component"], "builder");
        assert_eq!(annotations["example.com/scrape"], "true");
        assert_eq!(env[0], "BUILDKIT_DEBUG=1");
        assert!(
            env.len() == 2 && env[1].starts_with("PATH=") && !env[1].contains("evil"),
            "{env:?}"
        );
        let digest = |settings: &Settings| set(settings).1[crate::names::CONFIG_DIGEST].clone();
        let mut other = settings();
        other.builder.pod_labels = Extra::default();
        assert_ne!(digest(&settings()), digest(&other));
    }
}
