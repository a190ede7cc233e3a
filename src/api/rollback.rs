//! Back to the image of an earlier build: what was asked for, and what it came to.

use kube::ResourceExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{HistoryEntry, ImageBuild, ImageBuildStatus, ROLLBACK, Reason};

/// Characters of a request that stand in the status.
const REQUEST: usize = 64;

/// What the annotation whittle.dev/rollback came to. It stands for as long as the annotation does.
// Absent values are written as null, so that a merge patch takes old ones away.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollbackStatus {
    /// The value of the annotation, its first 64 characters.
    pub request: String,
    /// Number of the build that made the image.
    #[serde(default)]
    pub to: Option<i64>,
    /// UnderWay, Done, Refused (nothing was begun) or Failed.
    pub state: RollbackState,
    /// In words.
    pub message: String,
}

/// How far it has come.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema, strum::Display)]
pub enum RollbackState {
    /// A runner reads the image, and moves the tags.
    UnderWay,
    /// The tags point to it.
    Done,
    /// There is no such image to go back to: nothing was begun.
    Refused,
    /// It did not come to its end.
    Failed,
}

/// What the annotation asks for, as the status has it.
pub fn rollback_asked(build: &ImageBuild) -> Option<String> {
    let asked = build.annotations().get(ROLLBACK)?.trim();
    Some(asked.chars().take(REQUEST).collect())
}

impl HistoryEntry {
    /// The digest of an image that tags have pointed to, which can be gone back to.
    pub fn image(&self) -> Option<&str> {
        let good = self.result == Reason::Succeeded.as_str();
        self.digest.as_deref().filter(|_| good)
    }

    /// The build that made its image.
    pub fn made_by(&self) -> i64 {
        self.rolled_back_to.unwrap_or(self.build)
    }
}

impl ImageBuildStatus {
    /// The image that the tags pointed to before the present one came: of an older build, and another one.
    pub fn before_the_present(&self) -> Option<&HistoryEntry> {
        let present = self.digest.as_deref()?;
        let mut images = self.history.iter().filter(|it| it.image().is_some());
        let now = images.clone().find(|it| it.image() == Some(present));
        let newest = now.map_or(i64::MAX, HistoryEntry::made_by);
        images.find(|it| it.build < newest && it.image() != Some(present))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn status(present: &str, history: &[(i64, &str, &str, Option<i64>)]) -> ImageBuildStatus {
        let entry = |(build, result, digest, to): &(i64, &str, &str, Option<i64>)| json!({"build": build, "generation": 1, "result": result, "digest": digest, "rolledBackTo": to});
        let history: Vec<Value> = history.iter().map(entry).collect();
        serde_json::from_value(json!({"digest": present, "history": history})).unwrap()
    }

    fn before(status: &ImageBuildStatus) -> Option<i64> {
        Some(status.before_the_present()?.build)
    }

    #[test]
    fn before_the_present_is_the_newest_older_image_that_is_another_one() {
        let all = [
            (6, "StepFailed", "sha256:rejected", None),
            (5, "Succeeded", "sha256:c", None),
            (4, "Succeeded", "sha256:c", None),
            (3, "ContractBroken", "sha256:broken", None),
            (2, "Succeeded", "sha256:b", None),
            (1, "Succeeded", "sha256:a", None),
        ];
        assert_eq!(before(&status("sha256:c", &all)), Some(2));
        assert_eq!(before(&status("sha256:b", &all)), Some(1));
        assert_eq!(before(&status("sha256:a", &all)), None);
        // The present one is older than all that is known: the newest there is.
        assert_eq!(before(&status("sha256:z", &all)), Some(5));
        assert_eq!(before(&ImageBuildStatus::default()), None);
    }

    #[test]
    fn one_step_further_back_is_before_the_build_that_was_gone_back_to() {
        let all = [
            (5, "Succeeded", "sha256:b", Some(2)),
            (4, "Succeeded", "sha256:d", None),
            (2, "Succeeded", "sha256:b", None),
            (1, "Succeeded", "sha256:a", None),
        ];
        assert_eq!(before(&status("sha256:b", &all)), Some(1));
        let mut newer = all.to_vec();
        newer.insert(0, (6, "Succeeded", "sha256:e", None));
        assert_eq!(before(&status("sha256:e", &newer)), Some(5));
    }

    #[test]
    fn a_request_is_kept_by_its_first_characters() {
        let mut build: ImageBuild = serde_json::from_value(json!({"apiVersion": "whittle.dev/v1alpha1",
            "kind": "ImageBuild", "metadata": {"name": "hello"},
            "spec": {"source": {"inline": {"files": {}}}, "output": {"image": "registry.example.com/hello"}}}))
        .unwrap();
        assert_eq!(rollback_asked(&build), None);
        build
            .annotations_mut()
            .insert(ROLLBACK.into(), format!(" 3 {}", "x".repeat(100)));
        let asked = rollback_asked(&build).unwrap();
        assert!(asked.starts_with("3 xx") && asked.len() == 64, "{asked}");
    }
}
