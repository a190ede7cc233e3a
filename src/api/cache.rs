//! What a Builder's volume holds, for people; and the registry by which layers travel.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LocalRef, names};

/// A registry that layers are imported from before a build, and exported to after it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CacheRegistry {
    /// A repository, for example registry.example.com/team/cache: without tag and digest, as each ImageBuild has a tag of
    /// its own there.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("!self.contains('@') && !self.matches(':[^/]*$')").message("cache.registry.image: write the repository without tag and digest: each ImageBuild has a tag of its own \
        there"))]
    #[x_kube(validation = Rule::new(names::repository_or_more()).message("cache.registry.image: invalid repository: write host/path in lowercase, for example \
        registry.example.com/team/cache; each part of the path starts and ends with a letter or \
        digit, with a single . or _, __, or dashes between"))]
    pub image: String,
    /// A Secret of type kubernetes.io/dockerconfigjson for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
}

/// What a Builder's volume held when its daemon was last asked, after a build.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CacheStatus {
    /// Bytes of all of it.
    #[serde(default)]
    pub bytes: i64,
    /// The same for people, for example 4.6 GiB.
    #[serde(default)]
    pub display: String,
    /// Bytes by what they are for.
    #[serde(default)]
    pub by_kind: CacheKinds,
    /// The largest cache mounts, ten at most.
    #[serde(default)]
    pub mounts: Vec<CacheMountStatus>,
    /// When the daemon was asked.
    pub measured_at: Time,
    /// The replica whose daemon it was; absent where the Builder has one.
    #[serde(default)]
    pub replica: Option<i32>,
}

/// Bytes of a cache by what they are for.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CacheKinds {
    /// Results of steps, and layers of base images.
    #[serde(default)]
    pub layers: i64,
    /// What steps keep by RUN --mount=type=cache.
    #[serde(default)]
    pub cache_mounts: i64,
    /// Contexts and git repositories.
    #[serde(default)]
    pub sources: i64,
    /// The daemon's own.
    #[serde(default)]
    pub other: i64,
}

/// A cache mount that steps share: RUN --mount=type=cache.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CacheMountStatus {
    /// The id by which steps share it: their target where they name none.
    pub id: String,
    /// Where the step that made it had it.
    #[serde(default)]
    pub target: String,
    /// Bytes that it holds; 0 while a step uses it.
    #[serde(default)]
    pub bytes: i64,
    /// True where it holds nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty: bool,
    /// When a step last used it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<Time>,
    /// How often steps have used it.
    #[serde(default)]
    pub hits: i64,
    /// The command of the step that made it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub step: String,
}
