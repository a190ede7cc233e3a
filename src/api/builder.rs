//! `Builder`: a warm rootless BuildKit daemon with a volume of its own.

// Each printcolumn(...) repeats the same keys, as kube's derive wants it.
#![allow(clippy::duplicated_attributes)]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr};

use super::bounds::{DATA_KEY, OBJECT_NAME, item};
use super::waiting::known;

/// The name of the Builder that is made on demand.
pub const DEFAULT_BUILDER: &str = "default";

/// A warm rootless BuildKit daemon with a volume of its own.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[kube(
    group = "whittle.dev",
    version = "v1alpha1",
    kind = "Builder",
    plural = "builders",
    category = "whittle",
    namespaced,
    status = "BuilderStatus",
    derive = "PartialEq",
    doc = "A warm rootless BuildKit daemon whose caches persist; the one named default is created on demand.",
    validation = Rule::new("size(self.metadata.name) <= 36").message("metadata.name: too long: at most 36 characters, because names of the Builder's objects are \
        derived from it"),
    validation = Rule::new("!has(self.spec.standby) || self.spec.standby == 0 || !has(self.spec.sharing) || self.spec.sharing == 'Namespace'").message("spec.standby: runners wait beside a Builder that builds share: \
        sharing must be Namespace where standby is not 0"),
    validation = Rule::new("!has(self.spec.sharing) || self.spec.sharing == 'Namespace' || self.spec.replicas == 1 && !has(self.spec.autoscale)").message("replicas and autoscale are for \
        sharing: Namespace: with ImageBuild and Build there is a Builder of its own for each, which is one daemon"),
    validation = Rule::new("!has(self.spec.autoscale) || self.spec.replicas == 1").message("replicas and autoscale exclude each other: leave replicas out, and write what you want at least \
        as autoscale.min"),
    validation = Rule::new("!has(self.spec.platforms) || size(self.spec.platforms) == 0 || !has(self.spec.sharing) || self.spec.sharing == 'Namespace'").message("spec.platforms: daemons for platforms stand beside a \
        Builder that builds share: sharing must be Namespace"),
    validation = Rule::new("!has(self.spec.platforms) || size(self.spec.platforms) == 0 || self.spec.replicas == 1 && !has(self.spec.autoscale)").message("spec.platforms: each platform has one daemon: leave \
        replicas and autoscale out, or use another Builder for builds of several platforms"),
    validation = Rule::new("!self.metadata.name.contains('.')").message("metadata.name: dots are not allowed, because the Builder's Service is named after it"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Isolation", type_ = "string", json_path = ".status.isolation.mode"),
    printcolumn(name = "Cache", type_ = "string", json_path = ".spec.cache.size"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Used", type_ = "string", json_path = ".status.cache.display", priority = 1),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.replicas.desired", priority = 1),
    printcolumn(name = "Up", type_ = "integer", json_path = ".status.replicas.ready", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct BuilderSpec {
    /// Daemons, each with a volume of its own. A build goes to the one that builds of its repository and target always go to, so that
    /// it finds its cache there; to another one where that one is busy or down for long.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 32))]
    pub replicas: i32,
    /// How many there are by what waits for them, in the place of replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscale: Option<super::Autoscale>,
    /// Platforms that have a daemon of their own, each with a volume of its own, on nodes of that platform: they are built there, at the
    /// same time as the others. Where such a daemon is not up, the ordinary one builds its platform.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(validation = Rule::new("!(self.exists(p, p.platform == 'linux/arm64') && self.exists(p, p.platform == 'linux/arm64/v8'))").message("platforms: linux/arm64 and linux/arm64/v8 are the same platform: name it once, as linux/arm64"))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["platform".into()]))]
    pub platforms: Vec<super::PlatformDaemon>,
    /// How the builder is isolated from the node.
    #[serde(default)]
    pub isolation: Isolation,
    /// Which builds share a daemon, and so its cache.
    #[serde(default)]
    pub sharing: Sharing,
    /// The volume that holds layers and cache mounts.
    #[serde(default)]
    pub cache: Cache,
    /// How long the builder may be idle before it sleeps; it wakes for the next build, and its volume is kept. For
    /// example 10m; 0s keeps it awake.
    #[serde(default = "idle_timeout")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]+(h|m|s))+$') && duration(self) <= duration('720h')").message("idleTimeout: invalid duration: write at most 720h, for example 10m, or 0s for a builder \
        that never sleeps"))]
    pub idle_timeout: String,
    /// How many builds may run at a time on a replica; the others wait, in the order in which they became due.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 100))]
    pub max_concurrent_builds: i32,
    /// How many runners wait beside the builder for a build to begin, at most one for each ImageBuild: those that build most often
    /// first. Such a build does not wait for the start of a Pod. 0: none.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0, max = 16))]
    pub standby: i32,
    /// Requests and limits of the builder; every build step runs within them.
    #[serde(default)]
    #[schemars(schema_with = "super::bounds::resources")]
    pub resources: ResourceRequirements,
    /// Nodes that the builder may run on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "super::bounds::node_selector")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the builder tolerates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::bounds::tolerations")]
    pub tolerations: Vec<Toleration>,
    /// Priority class of the builder's Pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub priority_class_name: Option<String>,
    /// Runtime class of the builder's Pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub runtime_class_name: Option<String>,
    /// How to reach registries: mirrors, plain HTTP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["host".into()]))]
    pub registries: Vec<RegistryConfig>,
    /// The proxy by which builds reach what is outside of the cluster, in the place of the installation's; {}: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<super::Proxy>,
    /// A ConfigMap of the same namespace with certificates, PEM, that sign those of any registry, git server or proxy, besides
    /// the public ones and the installation's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<ConfigMapKeyRef>,
}

impl Default for BuilderSpec {
    fn default() -> Self {
        Self {
            replicas: one(),
            autoscale: None,
            platforms: vec![],
            isolation: Isolation::default(),
            sharing: Sharing::default(),
            cache: Cache::default(),
            idle_timeout: idle_timeout(),
            max_concurrent_builds: two(),
            standby: 0,
            resources: ResourceRequirements::default(),
            node_selector: BTreeMap::new(),
            tolerations: vec![],
            priority_class_name: None,
            runtime_class_name: None,
            registries: vec![],
            proxy: None,
            ca_ref: None,
        }
    }
}

/// How the builder is isolated from the node, and steps from each other.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Isolation {
    /// UserNamespace where the node allows it, else Rootless; status.isolation says which, and why.
    #[default]
    Auto,
    /// A user namespace of the Pod's own (hostUsers: false), a seccomp profile, and a PID namespace and a /proc of its own for
    /// each step: works at Pod Security level `baseline`. Nodes need Whittle's seccomp profile.
    UserNamespace,
    /// Rootless BuildKit as uid 1000, seccomp and AppArmor unconfined: needs Pod Security level `privileged`.
    Rootless,
}

/// Which builds share a daemon, and so its cache: who builds on it can read and write what others left there.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, JsonSchema)]
pub enum Sharing {
    /// All that name the Builder: those of its namespace.
    #[default]
    Namespace,
    /// Those of one ImageBuild: each has a Builder of its own, with a volume, which goes with it.
    ImageBuild,
    /// None: each attempt has a Builder of its own, with an empty cache, which is thrown away after it.
    Build,
}

/// How the builder's Pod is isolated now.
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
    EnumString,
    IntoStaticStr,
)]
pub enum IsolationMode {
    /// [`Isolation::UserNamespace`].
    #[default]
    UserNamespace,
    /// [`Isolation::Rootless`].
    Rootless,
}

impl IsolationMode {
    /// The name as it stands in the spec.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// How a builder is isolated, and why not better.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct IsolationStatus {
    /// How the builder's Pod is isolated.
    #[serde(default)]
    pub mode: IsolationMode,
    /// True once the builder has taken builds in this mode: its cache is of this mode.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proven: bool,
    /// When it last did not start in a user namespace though spec.isolation asks for one; it is tried again later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Time>,
    /// Why it is not UserNamespace where spec.isolation is Auto, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,
}

/// The volume that holds layers and cache mounts.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cache {
    /// Size of the volume.
    #[serde(default = "cache_size")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("isQuantity(self) && quantity(self).isGreaterThan(quantity('100Mi'))").message("cache.size: invalid: write a quantity over 100Mi, for example 20Gi"))]
    pub size: String,
    /// Storage class of the volume; the cluster's default one where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub storage_class_name: Option<String>,
    /// How much of the volume the builder keeps free, in percent.
    #[serde(default = "min_free")]
    #[schemars(length(max = 3))]
    #[x_kube(validation = Rule::new("self.matches('^([1-9]|[1-8][0-9]|90)%$')").message("cache.minFree: invalid: write a percentage of the volume from 1% to 90%, for example 10%"))]
    pub min_free: String,
    /// A registry by which layers travel too: for builders whose volume is new. Cache mounts (RUN --mount=type=cache) do
    /// not travel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<super::CacheRegistry>,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            size: cache_size(),
            storage_class_name: None,
            min_free: min_free(),
            registry: None,
        }
    }
}

fn one() -> i32 {
    1
}

fn two() -> i32 {
    2
}

// As serde asks.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &i32) -> bool {
    *number == 0
}

fn idle_timeout() -> String {
    "10m".into()
}

fn cache_size() -> String {
    "20Gi".into()
}

fn min_free() -> String {
    "10%".into()
}

/// How to reach one registry.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryConfig {
    /// The host as written in image names, with its port where it has one.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?([.][A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*(:[0-9]{1,5})?$')").message("registries.host: invalid host: write it as in image names, with its port, without https:// \
        and without a path, for example registry.example.com:5000"))]
    pub host: String,
    /// Hosts to ask first, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        extend("items" = item(0, 255, "self.matches('^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?([.][A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*(:[0-9]{1,5})?(/[A-Za-z0-9]+([._-]+[A-Za-z0-9]+)*)*/?$')",
                "registries.mirrors: invalid mirror: write host[:port][/path] without https://, \
                    for example mirror.example.com/docker"))
    )]
    pub mirrors: Vec<String>,
    /// True speaks HTTP without TLS: for registries within a cluster.
    #[serde(
        default,
        rename = "plainHTTP",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub plain_http: bool,
    /// A ConfigMap of the same namespace with the certificates, PEM, that sign this registry's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<ConfigMapKeyRef>,
}

impl RegistryConfig {
    /// The host as the name of a folder: `:` is not allowed in a mount's path.
    pub fn folder(&self) -> String {
        self.host.replace(':', "_")
    }
}

/// One key of a ConfigMap in the same namespace.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKeyRef {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(OBJECT_NAME).message("caRef.name: invalid name: use lowercase letters, digits, - and ., starting and ending with \
        a letter or digit"))]
    pub name: String,
    /// Key within the ConfigMap.
    #[serde(default = "ca_key")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(DATA_KEY).message("caRef.key: invalid key: use letters, digits, -, _ and . only"))]
    pub key: String,
}

fn ca_key() -> String {
    "ca.crt".into()
}

/// What is known of a Builder.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BuilderStatus {
    /// The generation of the spec that these conditions speak of; -1 before the first.
    #[serde(default)]
    pub observed_generation: Option<i64>,
    /// The installation of Whittle that it belongs to, `namespace/name` of its release; others leave it alone.
    #[serde(default)]
    #[schemars(length(max = 317))]
    pub installation: Option<String>,
    /// Ready, Reconciling, Stalled (kstatus).
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// How the builder is: the reason of its condition Ready.
    // Never null: an API server takes no null for one of a list.
    #[serde(
        default,
        deserialize_with = "known",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "crate::Reason")]
    pub state: Option<crate::Reason>,
    /// How the builder is isolated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<IsolationStatus>,
    /// Its replicas: how many there are to be, and how many of them take builds.
    #[serde(default)]
    pub replicas: Option<super::ReplicasStatus>,
    /// The daemons of platforms that have one of their own.
    #[serde(default)]
    #[schemars(length(max = 8))]
    pub platforms: Option<Vec<super::PlatformDaemonStatus>>,
    /// When the cache was thrown away last, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emptied: Option<Emptied>,
    /// The certificates that the builder and its runners use.
    #[serde(default)]
    pub certificates: Option<Certificates>,
    /// What the volume held when the daemon was last asked: after a build, while no other one ran.
    #[serde(default)]
    pub cache: Option<super::CacheStatus>,
}

/// That a builder's cache was thrown away.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Emptied {
    /// When.
    pub at: Time,
    /// Why: somebody asked for it, or it was broken.
    #[schemars(length(max = 4096))]
    pub message: String,
    /// Stands for the value of the annotation whittle.dev/prune that was heeded last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub heeded: Option<String>,
}

/// What is known of certificates without reading their Secret.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Certificates {
    /// Fingerprint of the certificate authority that issued them.
    pub authority: String,
    /// When they end.
    pub not_after: Time,
    /// When they are to be renewed.
    pub renew_at: Time,
    /// Which files the Secrets have, and a digest of them: the daemon restarts when it changes.
    pub digest: String,
}
