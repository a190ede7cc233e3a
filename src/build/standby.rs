//! What controller and a runner say to each other that was made in advance: it waits for the request of an attempt that has not
//! begun.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where such a runner waits: POST, without a body, with the credential of its Job. The answer is the request as JSON, or 204
/// after [`HELD`] where no attempt has begun: then it asks again.
pub const STANDBY_PATH: &str = "/v1/standby";
/// How long the controller holds the answer at most.
pub const HELD: Duration = Duration::from_secs(25);
/// Exit code of a runner that has ended before it had its request: nothing was begun.
pub const UNTAKEN: i32 = 75;

/// What stands in the place of its request.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Standby {
    /// Namespace of the ImageBuild.
    pub namespace: String,
    /// Name of the ImageBuild.
    pub name: String,
    /// UID of the ImageBuild.
    pub uid: String,
    /// Name of the Job.
    pub job: String,
    /// The controller: `https://host:port`.
    pub callback: String,
    /// How long it waits at most.
    pub seconds: u64,
}
