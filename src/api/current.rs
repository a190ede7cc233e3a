//! `ImageBuild.status.current`: the build that is under way.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::Waiting;
use super::waiting::known;

/// The build that runs.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(from = "Written", into = "Written")]
pub struct Current {
    /// The attempt, from 1.
    pub attempt: i32,
    /// The runner's Job: `kubectl logs job/NAME`.
    pub job: String,
    /// Generation of the spec that is being built.
    pub generation: i64,
    /// How far it has come.
    pub stage: Stage,
    /// What goes on, for example `9/14 [build 4/5] RUN go build`.
    pub message: Option<String>,
    /// Steps that are done, and all that are known by now: `9/14`.
    pub progress: Option<String>,
    /// When the next attempt may start.
    pub retry_at: Option<Time>,
    /// What ended the attempt before this one.
    pub last_failure: Option<String>,
    /// Since when the attempt runs: `spec.timeout` counts from here. Before it does, since when it waits for something
    /// other than its turn on the builder.
    pub since: Option<Time>,
    /// True once the attempt's Job was made.
    pub started: bool,
    /// Since when the attempt waits for its start, and nobody holds it: `spec.queueTimeout` counts from here. None once it runs.
    pub waiting_since: Option<Time>,
    /// The Job that was made in advance and carries the attempt out, or has pushed what another one goes on with.
    pub standby: Option<String>,
    /// The replica of the Builder that was chosen for the attempt, for good; none before, and where the Builder has one.
    pub replica: Option<i32>,
    /// That of the attempt before this one.
    pub last_replica: Option<i32>,
    /// What the attempt waits for; [`ImageBuildStatus::waiting`](super::ImageBuildStatus::waiting) reads it.
    pub waiting: Option<Waiting>,
}

/// How far a build has come, with what that stage needs: there are no others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The image is being built and pushed, or waits for its builder.
    Building,
    /// The image is pushed, no tag points to it, and it is held to `spec.healthCheck`.
    Checking {
        /// The report of the runner that pushed it, packed.
        pushed: String,
    },
    /// The image was tried, and another runner makes it smaller.
    Minimizing {
        /// The report of the runner that pushed it, packed.
        pushed: String,
    },
    /// The image has answered, and the tags are being moved to it.
    Tagging {
        /// The report of the runner that pushed it, packed.
        pushed: String,
    },
}

impl Stage {
    /// The packed report on the image that this build has pushed.
    pub fn pushed(&self) -> Option<&str> {
        match self {
            Self::Building => None,
            Self::Checking { pushed } | Self::Minimizing { pushed } | Self::Tagging { pushed } => {
                Some(pushed)
            }
        }
    }

    /// True where a runner goes on with a pushed image, and needs nothing of the builder.
    pub fn is_after_push(&self) -> bool {
        matches!(self, Self::Minimizing { .. } | Self::Tagging { .. })
    }

    /// True where all that is left are the tags.
    pub fn is_tagging(&self) -> bool {
        matches!(self, Self::Tagging { .. })
    }
}

/// How far the build has come: Building; Checking, the pushed image is held to `spec.healthCheck`; Minimizing, it is made smaller;
/// Tagging, the tags are being moved.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
enum Name {
    /// The image is being built and pushed, or waits for its builder.
    Building,
    /// The image is pushed, no tag points to it, and it is held to `spec.healthCheck`.
    Checking,
    /// The image was tried, and another runner makes it smaller.
    Minimizing,
    /// The image has answered, and the tags are being moved to it.
    Tagging,
}

/// The build that runs.
// Absent values are written as null, so that a merge patch takes old ones away.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Written {
    /// The attempt, from 1.
    attempt: i32,
    /// The runner's Job: `kubectl logs job/NAME`.
    job: String,
    /// Generation of the spec that is being built.
    generation: i64,
    /// How far it has come: Building, Checking (the pushed image is held to `spec.healthCheck`), Minimizing (it is made
    /// smaller), Tagging (the tags are being moved).
    #[serde(default)]
    stage: Option<Name>,
    /// What goes on, for example `9/14 [build 4/5] RUN go build`.
    message: Option<String>,
    /// Steps that are done, and all that are known by now, for example `9/14`.
    #[serde(default)]
    progress: Option<String>,
    /// When the next attempt may start.
    retry_at: Option<Time>,
    /// What ended the attempt before this one.
    last_failure: Option<String>,
    /// Since when the attempt runs: `spec.timeout` counts from here. Before it does, since when it waits for something
    /// other than its turn on the builder.
    #[serde(default)]
    since: Option<Time>,
    /// True once the attempt's Job was made.
    #[serde(default)]
    started: Option<bool>,
    /// Since when the attempt waits for its start, or for a queue of Kueue: `spec.queueTimeout` counts from here; absent while it runs
    /// and while `spec.suspend` holds it.
    #[serde(default)]
    waiting_since: Option<Time>,
    /// The Job that was made in advance (`spec.standby` of the Builder) and carries the attempt out, or has pushed what another
    /// one goes on with.
    #[serde(default)]
    standby: Option<String>,
    /// The replica of the Builder that was chosen for the attempt, for good; absent before, and where the Builder has one.
    #[serde(default)]
    replica: Option<i32>,
    /// That of the attempt before this one.
    #[serde(default)]
    last_replica: Option<i32>,
    /// What the attempt waits for before it runs; absent while it does.
    #[serde(default, deserialize_with = "known")]
    waiting: Option<Waiting>,
    /// What the attempt has pushed, while no tag points to it: its report, packed. Of all stages but Building.
    #[serde(default)]
    pushed: Option<String>,
    /// True in Tagging: what versions that know no stage read, and a CRD of theirs keeps.
    #[serde(default)]
    checked: Option<bool>,
}

impl From<Written> for Current {
    /// Reads what 0.1 wrote, too. What cannot be, a check of nothing, is a build that goes on: a status that is refused
    /// would keep the controller from all others.
    fn from(written: Written) -> Self {
        let name = written.stage.unwrap_or(match written.checked {
            Some(true) => Name::Tagging,
            _ => Name::Checking,
        });
        let stage = match (name, written.pushed) {
            (Name::Building, _) | (_, None) => Stage::Building,
            (Name::Checking, Some(pushed)) => Stage::Checking { pushed },
            (Name::Minimizing, Some(pushed)) => Stage::Minimizing { pushed },
            (Name::Tagging, Some(pushed)) => Stage::Tagging { pushed },
        };
        Self {
            attempt: written.attempt,
            job: written.job,
            generation: written.generation,
            stage,
            message: written.message,
            progress: written.progress,
            retry_at: written.retry_at,
            last_failure: written.last_failure,
            since: written.since,
            started: written.started == Some(true),
            waiting_since: written.waiting_since,
            standby: written.standby,
            replica: written.replica,
            last_replica: written.last_replica,
            waiting: written.waiting,
        }
    }
}

impl From<Current> for Written {
    fn from(current: Current) -> Self {
        let checked = current.stage.is_tagging().then_some(true);
        let (name, pushed) = match current.stage {
            Stage::Building => (Name::Building, None),
            Stage::Checking { pushed } => (Name::Checking, Some(pushed)),
            Stage::Minimizing { pushed } => (Name::Minimizing, Some(pushed)),
            Stage::Tagging { pushed } => (Name::Tagging, Some(pushed)),
        };
        Self {
            attempt: current.attempt,
            job: current.job,
            generation: current.generation,
            stage: Some(name),
            message: current.message,
            progress: current.progress,
            retry_at: current.retry_at,
            last_failure: current.last_failure,
            since: current.since,
            started: current.started.then_some(true),
            waiting_since: current.waiting_since,
            standby: current.standby,
            replica: current.replica,
            last_replica: current.last_replica,
            waiting: current.waiting,
            pushed,
            checked,
        }
    }
}

impl JsonSchema for Current {
    fn schema_name() -> Cow<'static, str> {
        "Current".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Written::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(more: Value) -> Current {
        let mut current = json!({"attempt": 2, "job": "j", "generation": 3});
        let all = current.as_object_mut().unwrap();
        all.extend(more.as_object().unwrap().clone());
        serde_json::from_value(current).unwrap()
    }

    fn pushed() -> String {
        "z:p".into()
    }

    #[test]
    fn what_0_1_wrote_is_read() {
        for (written, expected) in [
            (json!({}), Stage::Building),
            (json!({"pushed": null, "checked": null}), Stage::Building),
            (
                json!({"pushed": "z:p"}),
                Stage::Checking { pushed: pushed() },
            ),
            (
                json!({"pushed": "z:p", "checked": false}),
                Stage::Checking { pushed: pushed() },
            ),
            (
                json!({"pushed": "z:p", "checked": true}),
                Stage::Tagging { pushed: pushed() },
            ),
            // It could be written, and never was meant.
            (json!({"checked": true}), Stage::Building),
        ] {
            assert_eq!(read(written.clone()).stage, expected, "{written}");
        }
    }

    #[test]
    fn each_stage_is_read_as_it_was_written_and_takes_what_stood_there_away() {
        for stage in [
            Stage::Building,
            Stage::Checking { pushed: pushed() },
            Stage::Minimizing { pushed: pushed() },
            Stage::Tagging { pushed: pushed() },
        ] {
            let current = Current {
                stage: stage.clone(),
                ..read(json!({"started": true, "message": "m"}))
            };
            let written = serde_json::to_value(&current).unwrap();
            for field in ["stage", "pushed", "checked"] {
                assert!(written.as_object().unwrap().contains_key(field), "{field}");
            }
            assert_eq!(serde_json::from_value::<Current>(written).unwrap(), current);
            // As a merge patch over the status of an earlier version.
            let mut old = json!({"attempt": 1, "job": "j", "generation": 3, "pushed": "old", "checked": true});
            json_patch::merge(&mut old, &serde_json::to_value(&current).unwrap());
            assert_eq!(serde_json::from_value::<Current>(old).unwrap().stage, stage);
        }
    }

    #[test]
    fn a_stage_outlives_a_definition_that_does_not_know_it() {
        for stage in [
            Stage::Checking { pushed: pushed() },
            Stage::Tagging { pushed: pushed() },
        ] {
            let current = Current {
                stage: stage.clone(),
                ..read(json!({}))
            };
            let mut pruned = serde_json::to_value(current).unwrap();
            pruned.as_object_mut().unwrap().remove("stage");
            assert_eq!(
                serde_json::from_value::<Current>(pruned).unwrap().stage,
                stage
            );
        }
    }

    #[test]
    fn a_stage_without_what_it_needs_is_a_build_that_goes_on() {
        for name in ["Checking", "Minimizing", "Tagging"] {
            assert_eq!(read(json!({"stage": name})).stage, Stage::Building);
        }
    }
}
