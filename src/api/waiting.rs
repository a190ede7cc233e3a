//! What a build waits for, and how a Builder is, as data: conditions only tell people of it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use super::{BuilderStatus, ImageBuildStatus, READY, Reason, find};

/// What a build that is due waits for.
// Absent values are written as null, so that a merge patch takes old ones away.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// Why, as in the condition Ready.
    pub reason: Reason,
    /// True where it is the Builder that waits for it.
    #[serde(default)]
    pub of_builder: bool,
    /// The object that does not exist, where the cluster names one.
    #[serde(default)]
    pub missing: Option<Missing>,
    /// In the Builder's queue: the place, 1 is the next one. Exact near the front; further back it is brought up to date as the queue
    /// halves.
    #[serde(default)]
    pub position: Option<i32>,
    /// In the Builder's queue: about when it starts, by how long the last builds of those before it took. Absent where too few of them
    /// have a history.
    #[serde(default)]
    pub starts: Option<Time>,
}

impl Waiting {
    /// For this reason, and nothing more is known.
    pub fn new(reason: Reason) -> Self {
        Self {
            reason,
            of_builder: false,
            missing: None,
            position: None,
            starts: None,
        }
    }
}

/// An object that does not exist.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
pub struct Missing {
    /// Its kind.
    pub kind: MissingKind,
    /// Its name.
    pub name: String,
}

/// Kinds of objects that a Pod may want.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema, strum::Display)]
pub enum MissingKind {
    /// A Secret.
    Secret,
    /// A ConfigMap.
    ConfigMap,
}

impl ImageBuildStatus {
    /// What the build under way waits for; none while its attempt runs.
    pub fn waiting(&self) -> Option<Waiting> {
        let current = self.current.as_ref()?;
        let ready = find(&self.conditions, READY);
        let waiting = current.waiting.clone();
        let waiting = waiting.filter(|waiting| agree(waiting.reason, ready));
        waiting.or_else(|| waiting_by_condition(ready?))
    }
}

impl BuilderStatus {
    /// How the builder is.
    pub fn state(&self) -> Option<Reason> {
        let ready = find(&self.conditions, READY);
        let state = self.state.filter(|state| agree(*state, ready));
        state.or_else(|| Reason::named(&ready?.reason))
    }
}

/// Both are written together. Where they differ, 0.1 has written since, which knows no such field and leaves it as it was.
fn agree(field: Reason, ready: Option<&Condition>) -> bool {
    ready.is_none_or(|ready| ready.reason == field.as_str())
}

/// What a status of 0.1 waits for, which has it in its condition alone; its message begins with the Builder, where that
/// waits.
fn waiting_by_condition(ready: &Condition) -> Option<Waiting> {
    let reason = Reason::named(&ready.reason).filter(|reason| reason.waits())?;
    (ready.status != "True").then(|| Waiting {
        of_builder: ready.message.starts_with("Builder "),
        missing: missing(&ready.message),
        ..Waiting::new(reason)
    })
}

/// What 0.1 and a status behind its definition name in words alone, `Secret npm does not exist: …`: builds that want the same
/// would start one Job each.
fn missing(message: &str) -> Option<Missing> {
    let in_words = [" does not exist", " not found"];
    let (named, _) = in_words
        .iter()
        .find_map(|words| message.split_once(words))?;
    let (kind, name) = named.split_once(' ')?;
    let kind = match kind {
        "Secret" => MissingKind::Secret,
        "ConfigMap" => MissingKind::ConfigMap,
        _ => return None,
    };
    let name = name.to_owned();
    (!name.contains(' ')).then_some(Missing { kind, name })
}

/// What a later version wrote and this one does not know is absent: a status that cannot be read would keep the controller from
/// all others.
pub(super) fn known<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let value = Option::<serde_json::Value>::deserialize(deserializer)?;
    Ok(value.and_then(|value| serde_json::from_value(value).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn build(current: Value, ready: Value) -> ImageBuildStatus {
        let status = json!({"current": {"attempt": 1, "job": "j", "generation": 1}, "conditions": [
            {"type": "Ready", "status": "Unknown", "reason": "Queued", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        let mut status = status;
        json_patch::merge(&mut status["current"], &current);
        json_patch::merge(&mut status["conditions"][0], &ready);
        serde_json::from_value(status).unwrap()
    }

    fn waiting(reason: Reason, of_builder: bool) -> Option<Waiting> {
        Some(Waiting {
            of_builder,
            ..Waiting::new(reason)
        })
    }

    #[test]
    fn a_status_of_0_1_waits_for_what_its_condition_says() {
        let old = |ready| build(json!({}), ready).waiting();
        assert_eq!(old(json!({})), waiting(Reason::Queued, false));
        let of_builder = json!({"status": "False", "reason": "QuotaExceeded", "message": "Builder default is not ready: m"});
        assert_eq!(old(of_builder), waiting(Reason::QuotaExceeded, true));
        for runs in ["Building", "HealthCheck", "SomethingElse"] {
            assert_eq!(old(json!({"reason": runs})), None, "{runs}");
        }
        assert_eq!(old(json!({"status": "True", "reason": "Succeeded"})), None);
        let none = build(json!({"attempt": 1}), json!({}));
        let ended = ImageBuildStatus {
            current: None,
            ..none
        };
        assert_eq!(ended.waiting(), None);
    }

    #[test]
    fn the_field_counts_and_where_0_1_has_written_since_the_condition() {
        let field = json!({"waiting": {"reason": "Queued", "ofBuilder": true}});
        assert_eq!(
            build(field.clone(), json!({})).waiting(),
            waiting(Reason::Queued, true)
        );
        let since = |reason| build(field.clone(), json!({"reason": reason})).waiting();
        assert_eq!(since("Suspended"), waiting(Reason::Suspended, false));
        assert_eq!(since("Building"), None);
        // A short form of the status has no conditions.
        let mut brief = build(field, json!({}));
        brief.conditions = vec![];
        assert_eq!(brief.waiting(), waiting(Reason::Queued, true));
        let builder = |reason: &str| -> BuilderStatus {
            serde_json::from_value(
                json!({"state": "Ready", "conditions": [{"type": "Ready", "status": "True",
                "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}),
            )
            .unwrap()
        };
        assert_eq!(builder("Idle").state(), Some(Reason::Idle));
        assert_eq!(builder("Ready").state(), Some(Reason::Ready));
    }

    #[test]
    fn the_missing_object_of_a_status_of_0_1_is_found_in_its_words() {
        let of = |message: &str| {
            let ready = json!({"status": "False", "reason": "SecretNotFound", "message": message});
            let missing = build(json!({}), ready).waiting().unwrap().missing;
            missing.map(|missing| format!("{} {}", missing.kind, missing.name))
        };
        for (message, expected) in [
            ("Secret npm does not exist: create it", Some("Secret npm")),
            ("ConfigMap app not found: create it", Some("ConfigMap app")),
            ("key a of Secret npm does not exist", None),
            ("Secret npm has no key a", None),
            ("the image does not exist", None),
        ] {
            assert_eq!(of(message).as_deref(), expected, "{message}");
        }
    }

    #[test]
    fn what_a_later_version_waits_for_does_not_make_the_status_unreadable() {
        for later in [json!({"reason": "NewReason"}), json!(1)] {
            let status = build(json!({"waiting": later}), json!({"reason": "NewReason"}));
            assert_eq!(status.waiting(), None);
        }
        let builder = json!({"state": "NewReason"});
        let builder: BuilderStatus = serde_json::from_value(builder).unwrap();
        assert_eq!(builder.state(), None);
    }

    #[test]
    fn the_state_of_a_builder_is_never_null_which_the_api_server_refuses() {
        let written = serde_json::to_value(BuilderStatus::default()).unwrap();
        assert_eq!(written.get("state"), None);
    }

    #[test]
    fn what_a_build_waited_for_goes_with_a_merge_patch() {
        let missing = json!({"kind": "Secret", "name": "npm"});
        let waits = json!({"waiting": {"reason": "SecretNotFound", "missing": missing}});
        let mut old = build(waits, json!({}));
        let mut written = serde_json::to_value(&old).unwrap();
        old.current.as_mut().unwrap().waiting = waiting(Reason::Queued, false);
        json_patch::merge(&mut written, &serde_json::to_value(&old).unwrap());
        assert_eq!(
            serde_json::from_value::<ImageBuildStatus>(written.clone()).unwrap(),
            old
        );
        old.current.as_mut().unwrap().waiting = None;
        json_patch::merge(&mut written, &serde_json::to_value(&old).unwrap());
        assert_eq!(
            serde_json::from_value::<ImageBuildStatus>(written).unwrap(),
            old
        );
    }
}
