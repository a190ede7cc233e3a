//! What a runner reports: by callback while it runs, and as the termination message at its end.

use serde::{Deserialize, Serialize};

use crate::api::{Failure, PlatformStatus, Steps};

/// The kubelet's limit for a termination message, in bytes
/// (<https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/>).
pub const TERMINATION_LIMIT: usize = 4096;

/// What an attempt came to.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub enum Report {
    /// Pushed, read back, tagged.
    Succeeded(Built),
    /// Not built, or not pushed.
    Failed(Failed),
}

/// A pushed image.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Built {
    /// Digest of the index, or of the manifest where there is one platform.
    pub digest: String,
    /// Each platform's image.
    pub platforms: Vec<PlatformStatus>,
    /// What was built.
    pub revision: Option<String>,
    /// Steps in all, and from the cache.
    pub steps: Steps,
}

/// Why there is no image.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Failed {
    /// What users see. Whether another attempt may help follows from its reason.
    pub failure: Failure,
    /// What was to be built, where it was known by then.
    pub revision: Option<String>,
    /// Steps that had been done, and from the cache.
    pub steps: Steps,
}

/// What goes on, sent at most every two seconds.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Steps done.
    pub done: i32,
    /// Steps known so far.
    pub total: i32,
    /// Name of the step that runs.
    pub step: String,
}

impl Progress {
    /// As it stands in `status.current.message`, for example `9/14 [build 4/5] RUN go build`.
    pub fn message(&self) -> String {
        format!("{}/{} {}", self.done, self.total, self.step)
    }
}

/// What a runner sends to the controller.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Callback {
    /// Namespace of the ImageBuild; must be that of the client certificate.
    pub namespace: String,
    /// Name of the ImageBuild.
    pub name: String,
    /// Name of the Job: identifies the attempt.
    pub job: String,
    /// What is told.
    pub body: CallbackBody,
}

/// What a callback tells.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub enum CallbackBody {
    /// Goes on.
    Progress(Progress),
    /// The early result; the termination message stays the record.
    Report(Report),
}

/// Path of the callback on the controller's server.
pub const CALLBACK_PATH: &str = "/v1/callback";
