//! The closed list of reasons: why a build waits, runs, or has failed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a build failed. A closed list: each has its cure in `docs/failures.md`.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, JsonSchema)]
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
    /// Anything else; the message carries what BuildKit said.
    BuildFailed,
}

impl FailureReason {
    /// The name as it stands in conditions and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SourceNotFound => "SourceNotFound",
            Self::SourceDenied => "SourceDenied",
            Self::SourceUnreachable => "SourceUnreachable",
            Self::SourceTooLarge => "SourceTooLarge",
            Self::DockerfileNotFound => "DockerfileNotFound",
            Self::DockerfileSyntax => "DockerfileSyntax",
            Self::StageNotFound => "StageNotFound",
            Self::CopySourceNotFound => "CopySourceNotFound",
            Self::BaseImageNotFound => "BaseImageNotFound",
            Self::BaseImageDenied => "BaseImageDenied",
            Self::BaseImageUnreachable => "BaseImageUnreachable",
            Self::StepFailed => "StepFailed",
            Self::SecretNotFound => "SecretNotFound",
            Self::PushDenied => "PushDenied",
            Self::PushFailed => "PushFailed",
            Self::Timeout => "Timeout",
            Self::OutOfMemory => "OutOfMemory",
            Self::CacheFull => "CacheFull",
            Self::ImagePullFailed => "ImagePullFailed",
            Self::BuilderLost => "BuilderLost",
            Self::RunnerLost => "RunnerLost",
            Self::BuilderNotFound => "BuilderNotFound",
            Self::SpecRejected => "SpecRejected",
            Self::BuildRejected => "BuildRejected",
            Self::ContractBroken => "ContractBroken",
            Self::HealthCheckFailed => "HealthCheckFailed",
            Self::BuildFailed => "BuildFailed",
        }
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

impl std::fmt::Display for FailureReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
