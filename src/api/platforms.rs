//! The platforms that a Builder has daemons of their own for, and on which daemon a platform was built.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr};

use super::Platform;

/// The most platforms that a Builder has daemons of their own for.
pub const MOST_PLATFORMS: usize = 8;

/// A platform that has a daemon of its own, on nodes of that platform.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlatformDaemon {
    /// As spec.platforms of an ImageBuild names it, for example linux/arm64.
    #[schemars(length(max = 32))]
    pub platform: Platform,
    /// Nodes that the daemon may run on; those of the platform's os and architecture by default.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "super::bounds::node_selector")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that it tolerates, in the place of the Builder's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::bounds::tolerations")]
    pub tolerations: Vec<Toleration>,
    /// Its requests and limits, in the place of the Builder's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::bounds::resources")]
    pub resources: Option<ResourceRequirements>,
}

/// How the daemon of a platform is.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlatformDaemonStatus {
    /// As in spec.platforms.
    pub platform: String,
    /// The Builder that it is: its own conditions say more.
    pub builder: String,
    /// True where it takes builds, or sleeps until the next one.
    #[serde(default)]
    pub ready: bool,
    /// Why not: builds of this platform go to the Builder's ordinary daemon meanwhile.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

/// On which daemon of its Builder a platform was built.
#[derive(
    Serialize,
    Deserialize,
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    JsonSchema,
    EnumString,
    IntoStaticStr,
)]
pub enum BuiltBy {
    /// The platform's own.
    Native,
    /// The ordinary one, by the Dockerfile's cross-compilation or by emulation: the platform's own was not up.
    Cross,
    /// The ordinary one: the platform has none of its own.
    #[default]
    Ordinary,
}

impl BuiltBy {
    /// Its name, as it stands in a status.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The build of one platform, where its Builder has daemons for platforms.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlatformSolve {
    /// On which daemon.
    #[serde(default)]
    pub builder: BuiltBy,
    /// How long it took there, in milliseconds: its steps, its layers, and their push. Platforms that one daemon built together have
    /// the same.
    #[serde(default)]
    pub milliseconds: i64,
}

impl PlatformSolve {
    /// As a runner may have told it: within a day.
    pub fn bounded(self) -> Self {
        Self {
            milliseconds: self.milliseconds.clamp(0, 86_400_000),
            ..self
        }
    }
}
