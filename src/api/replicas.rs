//! A Builder's replicas: how many, and how each of them is.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most replicas that a Builder has.
pub const MOST_REPLICAS: i32 = 32;

/// Between how many replicas a Builder has, by what waits for it.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.min <= self.max").message("autoscale: min is larger than max: write for example min: 1, max: 4"))]
pub struct Autoscale {
    /// So many at least, while the builder is awake.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 32))]
    pub min: i32,
    /// So many at most.
    #[schemars(range(min = 1, max = 32))]
    pub max: i32,
}

fn one() -> i32 {
    1
}

/// A Builder's replicas.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicasStatus {
    /// How many are to run while the builder is awake: builds go to no others.
    #[serde(default)]
    pub desired: i32,
    /// How many of them take builds.
    #[serde(default)]
    pub ready: i32,
    /// Each of them, where there may be several, and those that have yet to go.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub each: Vec<ReplicaStatus>,
    /// When spec.autoscale last changed desired.
    #[serde(default)]
    pub scaled_at: Option<Time>,
    /// Since when fewer replicas would do for spec.autoscale.
    #[serde(default)]
    pub spare_since: Option<Time>,
}

/// One replica of a Builder.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaStatus {
    /// Its number, from 0, which its Pod's name ends with.
    pub replica: i32,
    /// True where it takes builds.
    #[serde(default)]
    pub ready: bool,
    /// Since when it does, or does not; absent where it has not been ready yet, and so has no cache.
    #[serde(default)]
    pub since: Option<Time>,
    /// Builds that run on it, as of the last look at the Builder.
    #[serde(default)]
    pub running: i32,
    /// Bytes of its cache when its daemon was last asked.
    #[serde(default)]
    pub cache_bytes: Option<i64>,
    /// True for one that goes once its builds have ended: it gets no more of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
}
