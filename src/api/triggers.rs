//! What starts a build besides a change of the spec and a request, and what the status says of it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The five fields of a schedule, or one of the words that stand for some
/// (<https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#schedule-syntax>).
const SCHEDULE: &str = "self.matches('^@(yearly|annually|monthly|weekly|daily|midnight|hourly)$') || \
     self.matches('^[0-9*,/?-]+ +[0-9*,/?-]+ +[0-9*,/?-]+ +([0-9*,/?-]|(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec))+ \
      +([0-9*,/?-]|(?i:sun|mon|tue|wed|thu|fri|sat))+$')";

/// What starts a build besides a change of the spec and a request. Several at a time are fine.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.schedule) || !has(self.timeZone)").message("triggers.timeZone: it belongs to a schedule: set triggers.schedule, too"))]
pub struct Triggers {
    /// Looks at the source now and then: at the branch, the tag or the range of versions of git, at the tag of an OCI
    /// artifact. A build starts where it points to something else than what was built last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll: Option<Poll>,
    /// Builds again where a tag that a stage was built from points to another digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_images: Option<BaseImages>,
    /// Builds at these times, in the five fields of cron, for example `0 3 * * 1`. Times that passed while nobody could
    /// build are made up for by one build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new(SCHEDULE).message("triggers.schedule: invalid schedule: write minute, hour, day of the month, month and day of the week, for example 0 3 * * 1 (Mondays at 3:00), or @daily"))]
    pub schedule: Option<String>,
    /// The time zone of the schedule, for example Europe/Berlin; UTC by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z][A-Za-z0-9+_-]*(/[A-Za-z0-9+_-]+)*$')").message("triggers.timeZone: invalid time zone: write a name of the IANA database, for example Europe/Berlin"))]
    pub time_zone: Option<String>,
    /// Has the source looked at once where somebody posts to `status.webhook.path` of the webhook port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
}

/// Looking at the source.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Poll {
    /// Time between two looks, for example 5m: from 10s to 24h.
    #[serde(default = "interval")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]+(h|m|s))+$') && duration(self) >= duration('10s') && duration(self) <= duration('24h')").message("triggers.poll.interval: invalid duration: write one between 10s and 24h, for example 5m or 1h30m"))]
    pub interval: String,
}

fn interval() -> String {
    "5m".into()
}

/// Looking at the tags of base images.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BaseImages {
    /// Time between two looks, for example 1h: from 10s to 24h.
    #[serde(default = "hourly")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]+(h|m|s))+$') && duration(self) >= duration('10s') && duration(self) <= duration('24h')").message("triggers.baseImages.interval: invalid duration: write one between 10s and 24h, for example 1h"))]
    pub interval: String,
}

fn hourly() -> String {
    "1h".into()
}

/// A path for the servers of sources to post to.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {}

/// Why a build was started.
#[derive(
    Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, JsonSchema, strum::Display,
)]
pub enum TriggerReason {
    /// The spec is new, or has changed.
    Spec,
    /// The annotation whittle.dev/requestedAt, or `spec.rebuild`.
    Request,
    /// The source points to something else, as a look at it has shown.
    Commit,
    /// The same, where a webhook asked for the look.
    Webhook,
    /// The tag of a base image points to another digest.
    BaseImage,
    /// The schedule.
    Schedule,
    /// The annotation whittle.dev/rollback: nothing is built.
    Rollback,
}

impl TriggerReason {
    /// True where nobody waits for it: such a build stands back behind those that a person or a commit asked for.
    pub fn stands_back(self) -> bool {
        matches!(self, Self::BaseImage | Self::Schedule)
    }
}

/// What started a build.
// Absent values are written as null, so that a merge patch takes old ones away.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Started {
    /// Why.
    pub reason: TriggerReason,
    /// In words, for example the commit.
    pub detail: String,
    /// When that was seen first.
    pub since: Time,
    /// What the source was seen to point to then: what is built may be newer.
    #[serde(default)]
    pub revision: Option<String>,
    /// Id of the tree of `git.subPath` there, where it is known.
    #[serde(default)]
    pub tree: Option<String>,
    /// True once the source was read: what was seen before that is no news.
    #[serde(default)]
    pub read: bool,
    /// Where it was a base image: the builds that base images have started with nothing else in between.
    #[serde(default)]
    pub row: Option<Row>,
}

/// Something that triggers are to look at, and that cannot be seen.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Unseen {
    /// Which of them: the source, or a base image.
    pub id: String,
    /// Why, as in the condition Triggers.
    pub reason: String,
    /// The thing, the cause and the next step.
    pub message: String,
}

/// Builds that followed one another.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// How many, this one too.
    pub builds: i64,
    /// When the first of them began.
    pub since: Time,
}

/// What a trigger has asked for.
// Absent values are written as null, so that a merge patch takes old ones away.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pending {
    /// Why.
    pub reason: TriggerReason,
    /// In words, for example the commit.
    pub detail: String,
    /// What the source points to, as in `status.revision`.
    #[serde(default)]
    pub revision: Option<String>,
    /// Id of the tree of `git.subPath` there, where it is known.
    #[serde(default)]
    pub tree: Option<String>,
    /// When that was seen.
    pub since: Time,
    /// Since when it may be older than what the last build was made from, whose source moved on before it was read: the source is looked
    /// at again first.
    #[serde(default)]
    pub doubt: Option<Time>,
}

/// The runs of a schedule.
// Absent values are written as null, so that a merge patch takes old ones away.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// The schedule and its time zone, as they stood when this was written.
    pub of: String,
    /// The last time that has passed.
    #[serde(default)]
    pub last: Option<Time>,
    /// The time to come.
    #[serde(default)]
    pub next: Option<Time>,
}

/// What counts of a repository: `git.subPath`, as far as the watcher can see it.
// Absent values are written as null, so that a merge patch takes old ones away.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FolderStatus {
    /// Id of its tree.
    pub tree: String,
    /// The revision with this tree that was built.
    pub built: String,
    /// The last revision that has this tree: nothing below changed between both.
    pub seen: String,
}

impl FolderStatus {
    /// Of what has just been built, or is about to be.
    pub fn of(revision: &str, tree: String) -> Self {
        Self {
            tree,
            built: revision.to_owned(),
            seen: revision.to_owned(),
        }
    }
}

/// Where servers of sources post.
// Absent values are written as null, so that a merge patch takes old ones away.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookStatus {
    /// The path on the webhook port of the controller's Service, or of the Ingress before it. Who knows it can have the
    /// source looked at, and nothing more.
    pub path: String,
}

/// An image that a stage was built from.
// Absent values are written as null, so that a merge patch takes old ones away.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Base {
    /// With its registry and tag.
    pub image: String,
    /// What the tag pointed to.
    pub digest: String,
    /// The first stage that starts from it; absent for `COPY --from`.
    #[serde(default)]
    pub stage: Option<String>,
    /// What the tag was seen to point to since, for which a build was asked.
    #[serde(default)]
    pub seen: Option<String>,
}
