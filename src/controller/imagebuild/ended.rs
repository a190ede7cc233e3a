//! How a build ended, for those who are told of it: by an Event, and by a CloudEvent.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Serialize, Serializer};
use serde_json::json;

use super::decide::Step;
use whittle_api::{ImageBuild, Reason, Started, bounded};

/// Bytes of a revision that are told.
const REVISION: usize = 512;

/// The end of a build.
#[derive(Serialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// `Succeeded`, `RolledBack`, or why it failed.
    pub reason: &'static str,
    /// What stands in its condition.
    pub message: String,
    /// Number of the build.
    pub build: i64,
    /// Generation of the spec that was built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// Repository and digest of the image; of one that was rejected, no tag points to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Its digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The tags that point to it now.
    pub tags: Vec<String>,
    /// What was built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Seconds from the start of the first attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<i64>,
    /// Seconds that it waited before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued_seconds: Option<i64>,
    /// What started it.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "started")]
    pub trigger: Option<Started>,
    /// True where another end of the same build was told before, and was wrong.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub corrects: bool,
    /// When.
    #[serde(skip)]
    pub at: Option<Time>,
}

/// Without what the controller alone counts.
fn started<S: Serializer>(trigger: &Option<Started>, to: S) -> Result<S::Ok, S::Error> {
    let told = trigger.as_ref().map(|it| {
        BTreeMap::from([
            ("reason", json!(it.reason)),
            ("detail", json!(it.detail)),
            ("since", json!(it.since)),
        ])
    });
    told.serialize(to)
}

fn is_good(reason: Reason) -> bool {
    matches!(reason, Reason::Succeeded | Reason::RolledBack)
}

impl Ended {
    /// The end that this step tells of; none where the build goes on.
    pub fn by(build: &ImageBuild, step: &Step) -> Option<Self> {
        let status = &step.status;
        let notice = step.notice.as_ref()?;
        let succeeded = is_good(notice.reason);
        if !succeeded && !matches!(notice.reason, Reason::Failure(_)) || status.current.is_some() {
            return None;
        }
        let at = Some(status.completed_at.clone()?);
        // The newest of the history, where any is kept.
        let entry = status.history.first();
        let entry = entry.filter(|entry| Some(entry.build) == status.build);
        let failure = status.failure.as_ref();
        let image = match succeeded {
            true => status.image.clone(),
            false => failure.and_then(|failure| failure.image.clone()),
        };
        let digest = image.as_ref().and_then(|image| image.split_once('@'));
        let revision = match succeeded {
            true => status.revision.clone(),
            false => entry.and_then(|entry| entry.revision.clone()),
        };
        Some(Self {
            reason: notice.reason.as_str(),
            message: bounded(notice.message.clone(), 1024),
            build: status.build.unwrap_or(1),
            generation: entry
                .map(|entry| entry.generation)
                .or(build.metadata.generation),
            digest: digest.map(|(_, digest)| digest.to_owned()),
            image,
            tags: match succeeded {
                true => status.tags.clone().unwrap_or_default(),
                false => vec![],
            },
            revision: revision.map(|revision| bounded(revision, REVISION)),
            duration_seconds: status.duration_seconds,
            queued_seconds: status.queued_seconds,
            trigger: status.trigger.clone(),
            corrects: step.alarm.is_some(),
            at,
        })
    }

    /// True where the image is in the registry, and its tags point to it.
    pub fn succeeded(&self) -> bool {
        Reason::named(self.reason).is_some_and(is_good)
    }

    /// What an Event has of it for programs, in the form of Flux's: keys of the object's group.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        let number = |number: i64| number.to_string();
        [
            ("build", Some(number(self.build))),
            ("image", self.image.clone()),
            ("digest", self.digest.clone()),
            ("revision", self.revision.clone()),
            ("duration-seconds", self.duration_seconds.map(number)),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((format!("whittle.dev/{key}"), value?)))
        .collect()
    }
}
