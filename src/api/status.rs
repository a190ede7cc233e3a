//! `ImageBuild.status`. Absent values are written as null, so that a merge patch takes old ones away.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::waiting::known;
use super::{
    Base, ContentsStatus, Current, FailureReason, FolderStatus, MinimizedStatus, Pending,
    PlatformSolve, RollbackStatus, Schedule, Started, TriggerReason, Unseen, WebhookStatus,
};

/// What is known of the last build, and of the one that runs.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageBuildStatus {
    /// The generation of the spec that these conditions speak of; -1 before the first.
    #[serde(default)]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling, Stalled (kstatus), Built, Contract, Probed, Minimized, and Advice.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// The repository with the digest: what to deploy.
    #[serde(default)]
    pub image: Option<String>,
    /// Digest that the tags point at: of the index, or of the manifest where there is one platform.
    #[serde(default)]
    pub digest: Option<String>,
    /// The tags that the last success moved there.
    #[serde(default)]
    pub tags: Option<Vec<String>>,
    /// Bytes as stored in the registry, compressed: config and layers of the largest platform.
    #[serde(default)]
    pub size: Option<i64>,
    /// `size` for people, for example 4.6 MiB.
    #[serde(default)]
    pub display_size: Option<String>,
    /// What was built: `branch@sha1:commit` for git, `inline@sha256:…` for inline files.
    #[serde(default)]
    pub revision: Option<String>,
    /// Each platform's image.
    #[serde(default)]
    pub platforms: Vec<PlatformStatus>,
    /// The platforms for people, for example linux/amd64,linux/arm64.
    #[serde(default)]
    pub display_platforms: Option<String>,
    /// The image for debugging, where `spec.debug` asks for one.
    #[serde(default)]
    pub debug: Option<DebugStatus>,
    /// What `spec.minimize` came to in this image; absent without it.
    #[serde(default, deserialize_with = "known")]
    pub minimized: Option<MinimizedStatus>,
    /// Steps of the last finished build.
    #[serde(default)]
    pub steps: Option<Steps>,
    /// The value of the annotation whittle.dev/requestedAt that the last build was started with, its first 256
    /// characters: whoever requested a build waits until its own value is here, and then for Ready.
    #[serde(default)]
    pub last_handled_request: Option<String>,
    /// What started the last build.
    #[serde(default)]
    pub trigger: Option<Started>,
    /// A build that a trigger has asked for and that has not begun.
    #[serde(default)]
    pub pending: Option<Pending>,
    /// What the last build was made from, whatever became of it, as `revision`: a commit that stands here is not built
    /// again for having been seen.
    #[serde(default)]
    pub last_revision: Option<String>,
    /// The images that the last success was built from, for `spec.triggers.baseImages`.
    #[serde(default)]
    pub bases: Vec<Base>,
    /// What triggers are to look at, and cannot see: the condition Triggers says the first of them.
    #[serde(default)]
    pub unseen: Vec<Unseen>,
    /// What counts of the source for `spec.triggers.poll` and `webhook`, where `git.subPath` names a part of it.
    #[serde(default)]
    pub folder: Option<FolderStatus>,
    /// Where servers of sources post, for `spec.triggers.webhook`.
    #[serde(default)]
    pub webhook: Option<WebhookStatus>,
    /// The runs of `spec.triggers.schedule`.
    #[serde(default)]
    pub schedule: Option<Schedule>,
    /// A value of the annotation whittle.dev/cancel that the last build is not canceled by: it stood there before.
    #[serde(default)]
    pub last_handled_cancel: Option<String>,
    /// What the annotation whittle.dev/rollback came to.
    #[serde(default, deserialize_with = "known")]
    pub rollback: Option<RollbackStatus>,
    /// When the last build became due.
    #[serde(default)]
    pub started_at: Option<Time>,
    /// When the last build ended.
    #[serde(default)]
    pub completed_at: Option<Time>,
    /// Seconds from the start of the first attempt to the end of the last build.
    #[serde(default)]
    pub duration_seconds: Option<i64>,
    /// Seconds before that, from when the last build became due: it waited for its turn, or for its builder.
    #[serde(default)]
    pub queued_seconds: Option<i64>,
    /// Where the time of the last build's last attempt went.
    #[serde(default)]
    pub phase_milliseconds: Option<Phases>,
    /// Number of the last build that was started; 1 is the first.
    #[serde(default)]
    pub build: Option<i64>,
    /// Digest of the inputs of that build: a build is due where the spec's differ.
    #[serde(default)]
    pub input: Option<String>,
    /// The running build; absent if none is running.
    #[serde(default)]
    pub current: Option<Current>,
    /// A result that the runner reported before its Pod ended; absent once its termination message was read.
    #[serde(default)]
    pub early: Option<Early>,
    /// The fetching of the image's programs from the report beside it, where the runner's list of them was lost.
    #[serde(default)]
    pub fetch: Option<Fetch>,
    /// Why the last build failed; absent after a success.
    #[serde(default)]
    pub failure: Option<Failure>,
    /// The last builds, newest first, at most `spec.historyLimit`.
    #[serde(default)]
    pub history: Vec<HistoryEntry>,
}

impl ImageBuildStatus {
    /// Since when the attempt under way runs, or waits. A status of an earlier version has no such time: then since the
    /// build became due.
    pub fn since(&self) -> Option<&Time> {
        let current = self.current.as_ref();
        let since = current.and_then(|current| current.since.as_ref());
        since.or(self.started_at.as_ref())
    }

    /// Seconds that builds of this ImageBuild take: the median of the last ones that succeeded.
    pub fn usual(&self) -> Option<i64> {
        let ended = |it: &&HistoryEntry| it.result == "Succeeded";
        let ended = self.history.iter().filter(ended);
        // Whoever may write statuses writes what they like: no build takes more than a week.
        let seconds = ended.filter_map(|it| it.duration_seconds);
        let mut seconds: Vec<i64> = seconds.map(|it| it.clamp(0, 604_800)).collect();
        seconds.sort_unstable();
        seconds.get(seconds.len() / 2).copied()
    }
}

/// One platform's image.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlatformStatus {
    /// `os/architecture`, or `os/architecture/variant`.
    pub platform: String,
    /// Digest of this platform's manifest.
    pub digest: String,
    /// Bytes as stored in the registry, compressed: config and layers.
    pub size: i64,
    /// Its layers from the first to the last, where there is room for them; the largest ones alone where
    /// there are many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerStatus>,
    /// What it holds, in short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<ContentsStatus>,
    /// On which daemon it was built, and how long that took, where the Builder has daemons for platforms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub solve: Option<PlatformSolve>,
}

/// One layer of an image.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LayerStatus {
    /// Bytes as stored in the registry, compressed.
    pub size: i64,
    /// The instruction that made it, as the image's history tells it.
    pub instruction: String,
}

/// The image for debugging.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DebugStatus {
    /// The repository with the digest.
    pub image: String,
    /// Digest that its tags point at.
    pub digest: String,
    /// Bytes as stored in the registry, compressed: config and layers of the largest platform.
    pub size: i64,
}

/// Steps of a build: the vertices of BuildKit's graph that stand for Dockerfile instructions.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Steps {
    /// All steps.
    pub total: i32,
    /// Those that the cache answered.
    pub cached: i32,
}

/// Where the time of one attempt went, each in milliseconds; what it did not come to is absent.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Phases {
    /// From its Job's creation until the runner began, and from its end until that was known: the Pod's start for the most part.
    /// Whole seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<i64>,
    /// The source and its Dockerfile were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<i64>,
    /// Steps ran, and layers were made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub solve: Option<i64>,
    /// Layers and manifests were pushed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<i64>,
    /// Manifests and configs were read back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_back: Option<i64>,
    /// The image was looked into, held to its contract, and made smaller where that is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<i64>,
    /// Tags were moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<i64>,
}

impl Phases {
    /// Their names, in their order, each with its time.
    pub fn named(&self) -> [(&'static str, Option<i64>); 7] {
        [
            ("start", self.start),
            ("source", self.source),
            ("solve", self.solve),
            ("push", self.push),
            ("readBack", self.read_back),
            ("check", self.check),
            ("tag", self.tag),
        ]
    }

    /// As a runner may have told them: each within a day, and no start, which it cannot know.
    pub fn bounded(self) -> Self {
        let held = |time: Option<i64>| time.map(|it| it.clamp(0, 86_400_000));
        Self {
            start: None,
            source: held(self.source),
            solve: held(self.solve),
            push: held(self.push),
            read_back: held(self.read_back),
            check: held(self.check),
            tag: held(self.tag),
        }
    }
}

/// An early report. The termination message of the runner's Pod is the record: where they differ, the record counts.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Early {
    /// The runner's Job.
    pub job: String,
    /// Digest of the early report.
    pub digest: String,
    /// The status before, packed, to restore if the record differs.
    pub before: String,
    /// Until when the end of the Pod is waited for.
    pub until: Time,
}

/// The fetching of what an image holds from the report beside it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fetch {
    /// Digest of the image, as in `status.digest`.
    pub digest: String,
    /// The try, from 1.
    pub attempt: i32,
    /// The Job that fetches; absent where there will be no more.
    #[serde(default)]
    pub job: Option<String>,
    /// When that Job may start.
    #[serde(default)]
    pub retry_at: Option<Time>,
    /// What ended the try before.
    #[serde(default)]
    pub last_failure: Option<String>,
}

/// Why a build failed.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// From a closed list; see `docs/failures.md`.
    pub reason: FailureReason,
    /// The thing, the cause and the next step.
    pub message: String,
    /// The Dockerfile instruction, as written.
    pub step: Option<String>,
    /// The line of the Dockerfile, from 1.
    pub dockerfile_line: Option<i32>,
    /// The last lines of the step's output, at most 20.
    pub log: Option<String>,
    /// What fixes it most often, where the output is one that we know.
    #[serde(default)]
    pub hint: Option<String>,
    /// The image that was pushed and is rejected, by its digest: no tag points to it.
    #[serde(default)]
    pub image: Option<String>,
}

/// One build of the past.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// The build's number.
    pub build: i64,
    /// Generation of the spec that was built.
    pub generation: i64,
    /// `Succeeded`, or the reason of the failure.
    pub result: String,
    /// Digest that was pushed.
    pub digest: Option<String>,
    /// Bytes, as in `status.size`.
    pub size: Option<i64>,
    /// What was built.
    pub revision: Option<String>,
    /// What started it.
    #[serde(default)]
    pub trigger: Option<TriggerReason>,
    /// Where tags were moved back and nothing was built: the number of the build that made the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back_to: Option<i64>,
    /// Digest of its image for debugging.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debug: Option<String>,
    /// True where the image is the one that the tags pointed to before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unchanged: bool,
    /// When it ended.
    pub completed_at: Option<Time>,
    /// Seconds from the start of its first attempt to its end.
    pub duration_seconds: Option<i64>,
    /// Seconds that it waited before.
    #[serde(default)]
    pub queued_seconds: Option<i64>,
    /// The Job of its last attempt, whose log is the build's: it is kept as long as this entry is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// The replica of the Builder that its last attempt ran on; absent where the Builder had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<i32>,
}
