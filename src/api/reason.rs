//! The closed list of reasons: what conditions and events say in one word.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use strum::{Display, EnumIter, IntoEnumIterator, IntoStaticStr};
use whittle_dockerfile::advice::HintKind;

/// Why a build failed. A closed list: each has its fix in `docs/failures.md`.
#[derive(
    Serialize,
    Deserialize,
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    JsonSchema,
    Display,
    EnumIter,
    IntoStaticStr,
)]
pub enum FailureReason {
    /// The git repository, branch, tag, commit or sub-path, the ConfigMap or the OCI artifact does not
    /// exist.
    SourceNotFound,
    /// The source's server refuses the credentials, asks for some where none are given, or cannot prove
    /// that it is the one it should be.
    SourceDenied,
    /// The source's server could not be reached, or kept answering with errors, until the retries were
    /// used up.
    SourceUnreachable,
    /// The source is larger than the runner's scratch folder.
    SourceTooLarge,
    /// The Dockerfile is not at the given path of the source.
    DockerfileNotFound,
    /// The Dockerfile cannot be parsed.
    DockerfileSyntax,
    /// `spec.target`, or a `COPY --from`, names a stage that the Dockerfile does not have.
    StageNotFound,
    /// A `COPY` or `ADD` names a file that is not in its source.
    CopySourceNotFound,
    /// A base image does not exist in its registry.
    BaseImageNotFound,
    /// The registry of a base image refuses.
    BaseImageDenied,
    /// The registry of a base image could not be reached, or kept answering with errors, until the
    /// retries were used up.
    BaseImageUnreachable,
    /// A `RUN` step ended with a non-zero exit code.
    StepFailed,
    /// A Secret, or the key of one, that the build names does not exist.
    SecretNotFound,
    /// The registry refuses the push.
    PushDenied,
    /// The registry could not be reached, or kept answering with errors, until the retries were used up.
    PushFailed,
    /// The build did not end within `spec.timeout`.
    Timeout,
    /// The build did not start within `spec.queueTimeout`.
    QueueTimeout,
    /// A memory limit was hit; the message says whose.
    OutOfMemory,
    /// The builder's cache volume is full, also after pruning.
    CacheFull,
    /// The image of the builder or of the runner cannot be pulled.
    ImagePullFailed,
    /// The builder was lost during the build (restart, eviction, node loss) more often than `spec.retries` allows.
    BuilderLost,
    /// The runner's Pod was lost during the build more often than `spec.retries` allows.
    RunnerLost,
    /// The Builder that the build names does not exist.
    BuilderNotFound,
    /// The API server does not accept what the spec asks for: a Job that cannot be, a request that is too large.
    SpecRejected,
    /// The builder refuses the build as asked (for example a platform that it cannot build for).
    BuildRejected,
    /// The image was built, and breaks its contract: no tag moved.
    ContractBroken,
    /// The image was built, and did not answer `spec.healthCheck`: no tag moved.
    HealthCheckFailed,
    /// The annotation whittle.dev/cancel ended the build.
    Canceled,
    /// The image that was to be gone back to is not in its registry any more: no tag moved.
    ImageNotFound,
    /// Anything else; the message carries what BuildKit said.
    #[default]
    BuildFailed,
}

impl FailureReason {
    /// The name as it stands in conditions and events.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// True for faults of the platform, which another attempt may not meet; false for what only a
    /// change of the input can mend.
    pub fn is_transient(self) -> bool {
        matches!(
            self,
            Self::PushFailed
                | Self::BuilderLost
                | Self::RunnerLost
                | Self::SourceUnreachable
                | Self::BaseImageUnreachable
        )
    }
}

/// Whatever a condition or an Event of Whittle says in one word. A closed list: `docs/api.md` has them all. Each says of
/// which conditions it is. Names are API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Display, EnumIter, IntoStaticStr)]
pub enum Reason {
    /// Ready, Built, Stalled, an Event, and a result in `status.history`: why a build failed. Some are waited for, too:
    /// a Secret, source or Builder that does not exist, an image of the builder that cannot be pulled. Of Contract and
    /// Probed: what the image did not keep or answer.
    #[strum(transparent)]
    Failure(FailureReason),
    /// Ready, Reconciling: as many builds run on the Builder, or are queued before this one, as it takes.
    Queued,
    /// Ready: `spec.suspend` holds a build, or the next attempt of one.
    Suspended,
    /// Ready, Reconciling: the build of the previous spec is being stopped, or has just ended.
    Superseding,
    /// Ready, Reconciling: a Pod of an earlier attempt or build has not ended.
    WaitingForEarlierPod,
    /// Ready, Reconciling: the Builder is being created, woken, started, restarted or deleted.
    WaitingForBuilder,
    /// Ready, Reconciling: the attempt's Job is suspended: it waits in a queue of Kueue, or somebody has suspended it.
    JobSuspended,
    /// Ready, Reconciling: the attempt's Job is being deleted, and is created again afterwards.
    JobDeleted,
    /// Ready, Reconciling: a Job of the attempt's name belongs to somebody else.
    JobConflict,
    /// Ready, Reconciling: the attempt is under way, or its Pod starts.
    Building,
    /// Ready, Reconciling: the image is pushed, and `spec.healthCheck` has not ended.
    HealthCheck,
    /// Ready, Reconciling, and an Event: the platform failed an attempt; another one follows.
    Retrying,
    /// Ready, Built, and an Event: the image is in the registry, and its tags point to it. Also a result in
    /// `status.history`.
    Succeeded,
    /// Ready, Built, and an Event: the tags point to the image of an earlier build, as was asked for. Contract, Probed: that image is
    /// not held to them again.
    RolledBack,
    /// An Event: there is no such image to go back to.
    RollbackRefused,
    /// A result in `status.history`: another spec ended the build.
    Superseded,
    /// Ready, Reconciling; of a Builder too: no node takes the Pod.
    Unschedulable,
    /// Ready, Reconciling; of a Builder too: a volume of the Pod cannot be mounted.
    MountFailed,
    /// Ready, Reconciling; of a Builder too: the node cannot create the Pod's sandbox.
    SandboxFailed,
    /// Ready, Reconciling; of a Builder too: a Pod that should be gone is not, and the next one waits for it.
    PodTerminating,
    /// Ready, Reconciling: the kubelet's word for the runner's image, for as long as it may be fixed.
    ErrImagePull,
    /// Ready, Reconciling: the same, between two tries.
    ImagePullBackOff,
    /// Ready, Reconciling: the same, where the name is invalid.
    InvalidImageName,
    /// Ready, Reconciling: the same, where it must be on the node already.
    ErrImageNeverPull,
    /// Ready, Reconciling, Stalled, an Event; of a Builder too: the object is invalid, or too large.
    Rejected,
    /// Ready, Reconciling, an Event; of a Builder too: the namespace's level of Pod Security.
    PodSecurity,
    /// Ready, Reconciling, an Event; of a Builder too: a ResourceQuota.
    QuotaExceeded,
    /// Ready, Reconciling, an Event; of a Builder too: a LimitRange.
    LimitRange,
    /// Ready, Reconciling, an Event; of a Builder too: an admission policy or webhook.
    AdmissionDenied,
    /// Ready, Reconciling, an Event; of a Builder too: an object of that name is not Whittle's.
    NameTaken,
    /// Ready, Reconciling, an Event; of a Builder too: a PriorityClass, RuntimeClass or ServiceAccount does not
    /// exist.
    ClassNotFound,
    /// Ready, Reconciling, an Event; of a Builder too: a permission of the controller is missing, or anything else
    /// that is forbidden.
    Forbidden,
    /// Ready: the Builder takes builds.
    Ready,
    /// Ready: the Builder is well, and sleeps until the next build.
    Idle,
    /// Ready, Reconciling: the daemon comes up by itself.
    Starting,
    /// Ready, Reconciling: a change that restarts the daemon waits for builds to end.
    Draining,
    /// Ready, Reconciling: the node does not allow the isolation that `spec.isolation` asks for.
    NotIsolated,
    /// Ready, Reconciling: the cache's claim gets no volume.
    VolumePending,
    /// Ready, Reconciling: a container keeps crashing.
    CrashLoop,
    /// Ready, Reconciling: the kubelet's word for a container that it cannot create from its spec.
    CreateContainerConfigError,
    /// Ready, Reconciling: the kubelet's word for a container that it cannot create.
    CreateContainerError,
    /// Ready, Reconciling: the kubelet's word for a container that it cannot start.
    RunContainerError,
    /// Advice: there are no hints.
    NoHints,
    /// Advice: what the first hint is about, see `docs/hints.md`.
    #[strum(transparent)]
    Hint(HintKind),
    /// Contract: the image keeps its contract.
    Kept,
    /// Contract: rules of `contract.warn` alone are broken.
    Warned,
    /// Probed: the image answered its health check.
    Answered,
    /// Probed: the cluster has no node of any platform of the image, so nothing was checked.
    NoNode,
    /// Minimized: the image is the smaller one.
    Applied,
    /// Minimized: `spec.minimize.mode` is Suggest: the message says what could go.
    Suggested,
    /// Minimized: too little would go: nothing was changed.
    TooLittle,
    /// Minimized: what the program reaches is unknown, or the smaller image would break the contract: nothing was changed.
    NotPossible,
    /// Minimized, and an Event: the smaller image does not start as `spec.healthCheck` starts it.
    DoesNotStart,
    /// Minimized, and an Event: the smaller image runs, and did not answer `spec.healthCheck` in time.
    NotReady,
    /// ProbesCompatible: no probe of a workload that uses the image is known to fail.
    Compatible,
    /// ProbesCompatible: probes of workloads that use the image cannot work.
    CannotWork,
    /// ProbeProfile: the status does not say which programs the image has.
    NoReport,
    /// ProbeProfile: the image was not read whole when it was built.
    NotRead,
    /// ProbeProfile: internal error while reading its report.
    NotJudged,
    /// ProbeProfile: a link leads to where nobody knows.
    LinksNotFollowed,
    /// ProbeProfile: more programs than a report lists.
    TooManyPrograms,
    /// ProbeProfile: more names of programs than the probe guard keeps.
    TooManyLinks,
    /// ProbeProfile: the paths of its programs, or its references, take more than the probe guard keeps.
    TooLarge,
    /// ProbeProfile: PATH has more directories than the probe guard looks at.
    PathTooLong,
    /// ProbeProfile: the platforms differ in PATH, or are too many.
    PlatformsDiffer,
    /// ProbeProfile: another ImageBuild of the namespace claims the same reference with different contents.
    ClaimedTwice,
    /// ProbeProfile: an ImageBuild of another namespace does.
    ClaimedElsewhere,
    /// Triggers: all of them can see what they are to look at.
    TriggersWork,
    /// Triggers: the source or its base images have not been looked at yet.
    NotSeenYet,
    /// Triggers, and an Event of a Builder: the watcher that looks at the source and its base images has not reported for minutes.
    WatcherSilent,
    /// Triggers: the ImageBuilds of the Builder have more sources than one watcher looks at, and this one's is left out.
    TooManySources,
    /// Triggers: `spec.triggers.schedule` has no time to come, or its time zone does not exist.
    NoSuchTime,
    /// Triggers: the server of the source or of a base image answers that it is asked too often.
    RateLimited,
    /// Triggers: no tag of the source lies in the range of versions.
    NoVersion,
    /// Triggers: base images have started one build after another, and start no more until something else does.
    Loop,
    /// Ready, Reconciling, Triggers: the source of Flux that `source.flux` names has fetched nothing yet, or cannot.
    SourceNotReady,
    /// An Event of a workload: a probe of it cannot work.
    ProbeCannotWork,
    /// An Event of an ImageBuild: the runner's early report and its record differ.
    ReportDisagrees,
    /// An Event of a Builder: its cache was thrown away, because it was broken or because somebody asked.
    CacheEmptied,
    /// An Event of an ImageBuild: another installation of Whittle looks after its Builder, and does not answer.
    BuilderOfAnotherInstallation,
}

impl Reason {
    /// The name as it stands in conditions and events.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let own = Self::iter().filter(|reason| !matches!(reason, Self::Failure(_) | Self::Hint(_)));
        let failures = FailureReason::iter().map(Self::Failure);
        own.chain(failures).chain(HintKind::iter().map(Self::Hint))
    }

    /// The reason of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|reason| reason.as_str() == name)
    }

    /// True for a reason of Ready with which a build waits: not for those of one that is under way, or has succeeded.
    pub fn waits(self) -> bool {
        !matches!(
            self,
            Self::Building | Self::HealthCheck | Self::Succeeded | Self::RolledBack
        )
    }

    /// True for what a call or a Pod is denied for by the API server.
    pub fn is_denial(self) -> bool {
        matches!(
            self,
            Self::Rejected
                | Self::PodSecurity
                | Self::QuotaExceeded
                | Self::LimitRange
                | Self::AdmissionDenied
                | Self::NameTaken
                | Self::ClassNotFound
                | Self::Forbidden
        )
    }
}

impl From<FailureReason> for Reason {
    fn from(reason: FailureReason) -> Self {
        Self::Failure(reason)
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::named(&name).ok_or_else(|| de::Error::custom(format!("unknown reason {name:?}")))
    }
}

impl JsonSchema for Reason {
    fn schema_name() -> Cow<'static, str> {
        "Reason".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // No list: behind a definition of this version the next one could write no status with a reason of its own.
        json_schema!({ "type": "string", "maxLength": 64 })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const API: &str = include_str!("../../docs/api.md");
    const FAILURES: &str = include_str!("../../docs/failures.md");
    const GUARD: &str = include_str!("../../docs/probe-guard.md");
    const HINTS: &str = include_str!("../../docs/hints.md");

    /// What stands in backquotes in the first column of the table under this heading.
    fn table(text: &str, heading: &str) -> BTreeSet<String> {
        let (_, section) = text.split_once(&format!("\n{heading}\n")).expect(heading);
        let section = section.split("\n#").next().unwrap_or_default();
        let cells = section
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split('|').next());
        let names = cells.flat_map(|cell| cell.split(',').map(|name| name.trim().replace('`', "")));
        let names: BTreeSet<String> = names.collect();
        assert!(!names.is_empty(), "{heading}");
        names
    }

    fn headings(text: &str) -> BTreeSet<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix("### "));
        lines.map(str::to_owned).collect()
    }

    fn all() -> BTreeSet<String> {
        Reason::all().map(|reason| reason.to_string()).collect()
    }

    #[test]
    fn each_failure_has_its_fix_in_the_docs_and_no_other_has_one() {
        let failures = FailureReason::iter().map(|reason| reason.to_string());
        assert_eq!(headings(FAILURES), failures.collect());
    }

    #[test]
    fn each_other_reason_is_in_the_docs_and_the_docs_have_no_other() {
        let own: BTreeSet<String> = all().difference(&headings(FAILURES)).cloned().collect();
        assert_eq!(table(API, "### Reasons"), own);
        let explained = [
            table(FAILURES, "## What waits, and why"),
            table(GUARD, "## Unknown images"),
            headings(HINTS),
        ];
        for name in explained.iter().flatten() {
            assert!(own.contains(name), "{name}");
        }
    }

    #[test]
    fn a_reason_is_found_by_its_name_and_is_the_only_one_of_it() {
        assert_eq!(all().len(), Reason::all().count());
        for reason in Reason::all() {
            let written = serde_json::to_value(reason).unwrap();
            assert_eq!(written, reason.as_str());
            assert_eq!(serde_json::from_value::<Reason>(written).unwrap(), reason);
        }
        assert_eq!(Reason::named("Failure"), None);
    }
}
