//! What the controller asks of a runner: the one file in the ConfigMap that the runner's Pod mounts.
//!
//! Nothing secret stands here: secrets are mounted by the kubelet, at the paths of [`paths`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::contract::Breach;
use super::inputs::Inputs;
use super::minimized::{FullPlatform, RejectedBefore, ToTry};
use super::place::Place;
use super::trial::Paths;
use whittle_api::{CacheRegistry, RegistryConfig};

/// Where things lie in the runner's Pod.
pub mod paths {
    /// Folder with [`REQUEST_KEY`].
    pub const REQUEST: &str = "/whittle/request";
    /// Key of the ConfigMap, and name of the file.
    pub const REQUEST_KEY: &str = "request.json";
    /// Key of the ConfigMap of a runner that waits for its request: there is no other then.
    pub const STANDBY_KEY: &str = "standby.json";
    /// Folder with `tls.crt` (leaf and intermediate), `tls.key`, `ca.crt` (signs the controller's
    /// certificate) and `builder-ca.crt` (signs the builder's).
    pub const TLS: &str = "/whittle/tls";
    /// Folder with [`TOKEN_KEY`]; absent without a callback.
    pub const ATTEMPT: &str = "/whittle/attempt";
    /// Key of the attempt's own Secret, and name of the file: what the runner is known by at the callback.
    pub const TOKEN_KEY: &str = "token";
    /// Folder with the keys of the Secret of `output.secretRef`; absent without one.
    pub const REGISTRY_AUTH: &str = "/whittle/registry";
    /// Folder with the keys of the Secret of `git.secretRef`; absent without one.
    pub const GIT_AUTH: &str = "/whittle/git";
    /// Folder with the keys of the Secret of the Builder's `cache.registry.secretRef`; absent without one.
    pub const CACHE_AUTH: &str = "/whittle/cache-registry";
    /// Folder in memory for the `config.json` that buildctl reads; absent without any of these two Secrets.
    pub const DOCKER: &str = "/whittle/docker";
    /// Folder with the keys of the Secret of `oci.secretRef`; absent without one.
    pub const SOURCE_AUTH: &str = "/whittle/source-registry";
    /// Folder with the files of the ConfigMap of `source.configMap`; absent without one.
    pub const SOURCE: &str = "/whittle/source";
    /// Folder with one folder for each build secret, named by its id, with one file `value`.
    pub const SECRETS: &str = "/whittle/secrets";
    /// Folder with one folder for each registry that has a `caRef`, named by the host (`:` as `_`),
    /// with one file `ca.crt`.
    pub const REGISTRY_CA: &str = "/whittle/registry-ca";
    /// In the builder's Pod: folder of the daemon's certificate, key and its client's authority.
    pub const BUILDER_TLS: &str = "/etc/buildkit-tls";
    /// Folder with `ca.crt`: what the installation trusts besides the public authorities.
    pub const CA_INSTALLATION: &str = "/whittle/ca/installation";
    /// The same of the Builder's `caRef`.
    pub const CA_BUILDER: &str = "/whittle/ca/builder";
    /// A writable folder (an emptyDir); also `TMPDIR`.
    pub const SCRATCH: &str = "/tmp";
    /// The termination message.
    pub const TERMINATION: &str = "/dev/termination-log";
    /// BuildKit's client in the operator's image.
    pub const BUILDCTL: &str = "/usr/bin/buildctl";
}

/// One attempt at one build.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BuildRequest {
    /// Namespace of the ImageBuild.
    pub namespace: String,
    /// Name of the ImageBuild.
    pub name: String,
    /// UID of the ImageBuild.
    pub uid: String,
    /// Name of the Job: identifies the attempt.
    pub job: String,
    /// The build's number; 0 in a request from before it was told.
    #[serde(default)]
    pub build: i64,
    /// Address of the builder, `tcp://host:port`.
    pub builder_address: String,
    /// Name in the builder's certificate.
    pub builder_server_name: String,
    /// The platforms that the Builder has daemons of their own for, of those that are built. The Builder's ordinary daemon, which is
    /// asked at `builder_address`, builds all others, and reads the source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub natives: Vec<Native>,
    /// Memory limit of the builder, for messages; none where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builder_memory: Option<String>,
    /// Where to send progress and the early result, `https://host:port`; none without a callback.
    pub callback: Option<String>,
    /// What it is made from. Of `source.flux` its git repository or OCI artifact is in `source`, too.
    pub inputs: Inputs,
    /// What `source.flux` has fetched, as it was when the attempt was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flux: Option<Fetched>,
    /// When the tags move.
    #[serde(default)]
    pub tagging: Tagging,
    /// How to reach registries, as the builder is configured.
    pub registries: Vec<RegistryConfig>,
    /// The registry by which the Builder's layers travel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheRegistry>,
    /// The variables of the proxy that holds, which steps get, too; none without one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub proxy: BTreeMap<String, String>,
    /// Each platform of the last good image, for its growth.
    #[serde(default)]
    pub previous: Vec<Previous>,
    /// Digests that tags pointed to after the last good build: to one of these they are not moved again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub standing: Vec<String>,
    /// The smaller image that was rejected in the build before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<RejectedBefore>,
    /// Bytes that the scratch folder may hold.
    #[serde(default = "scratch_bytes")]
    pub scratch_bytes: u64,
    /// True where the builder's cache outlives this attempt, and what it holds is told.
    #[serde(default)]
    pub looks: bool,
    /// True where no step is taken from the cache.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_cache: bool,
    /// True where somebody collects traces, and the controller is told what the attempt has come through.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub traced: bool,
    /// True for a part of a request: what it makes is joined with what other daemons make of the rest.
    #[serde(skip)]
    pub part: bool,
    /// Where all of it is found. Whoever carries the request out says that, and not who asks.
    #[serde(skip)]
    pub place: Place,
}

/// A platform that the Builder has a daemon of its own for. That one has the same name in its certificate as the ordinary one.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Native {
    /// `os/architecture`, or `os/architecture/variant`.
    pub platform: String,
    /// Name of the Builder that it is.
    pub builder: String,
    /// Its address, `tcp://host:port`; none where the ordinary daemon builds the platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Its memory limit, for messages; none where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// What says that limit, for messages: `spec.resources.limits.memory of Builder default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_field: Option<String>,
    /// Why it has no address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// What a source of Flux has fetched.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fetched {
    /// As in `status.revision`.
    pub revision: String,
    /// Its files, of a Bucket and an ExternalArtifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tarball: Option<Tarball>,
}

/// An archive that Flux keeps.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tarball {
    /// Where it is.
    pub url: String,
    /// What it must be.
    pub digest: String,
}

/// What a source may take where nobody says otherwise, in bytes: the chart's `runner.scratchSize` as it comes.
pub const SCRATCH_BYTES: u64 = 8 << 30;

/// What stands in a request from before there was a bound.
fn scratch_bytes() -> u64 {
    SCRATCH_BYTES
}

/// One platform of the last good image.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Previous {
    /// `os/architecture`, or `os/architecture/variant`.
    pub platform: String,
    /// Digest of its manifest.
    pub digest: String,
    /// Bytes as stored in the registry: config and layers.
    pub size: i64,
}

/// Where the report on one platform's image lies.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReportRef {
    /// `os/architecture`, or `os/architecture/variant`.
    pub platform: String,
    /// Digest of the platform's manifest.
    pub digest: String,
    /// Bytes of config and layers.
    pub size: i64,
    /// Digest of the artifact that is the report: what others attach to the image is never taken for it.
    pub report: String,
}

/// When the tags move.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Tagging {
    /// Once all is pushed, and keeps its contract.
    #[default]
    Now,
    /// By another runner, once the image has answered `spec.healthCheck`.
    Later,
    /// Never: an earlier runner has moved them, and its word on what the image holds was lost. Nothing is built; it is
    /// fetched from the reports beside the image.
    Fetch {
        /// Digest of the image.
        image: String,
        /// The report of each platform that lacks its programs.
        reports: Vec<ReportRef>,
    },
    /// By another runner. What an earlier one has pushed was tried since: nothing is built, and it is made smaller.
    Smaller(Box<Tried>),
    /// Now, back to the image of an earlier build: nothing is built. What it holds is read first.
    Back {
        /// Digest of the image.
        image: String,
        /// Digest of its image for debugging.
        debug: Option<String>,
        /// The tags that are moved.
        tags: Vec<String>,
    },
    /// Now, to what an earlier runner has pushed: nothing is built.
    Only {
        /// Digest of the image.
        image: String,
        /// Digest of the image for debugging.
        debug: Option<String>,
        /// Its tags, where variables made them; those of `output.tags` without.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tags: Vec<String>,
        /// Its platforms, where it is the full one beside a smaller image: what it holds is read back and reported, as the
        /// runner before has reported the smaller one.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        full: Vec<FullPlatform>,
    },
}

/// An image that was tried, and is to be made smaller.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Tried {
    /// Digest of the image.
    pub image: String,
    /// Its platforms.
    pub platforms: Vec<FullPlatform>,
    /// What of the contract it breaks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub breaches: Vec<Breach>,
    /// What was found out before it was tried.
    pub of: ToTry,
    /// What each platform was seen to ask for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traces: Vec<Trace>,
    /// Exercises that it did not pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_held: Vec<usize>,
    /// What is to be said of the trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What one platform's image was seen to ask for while it ran.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// `os/architecture`, or `os/architecture/variant`.
    pub platform: String,
    /// What is there.
    pub found: Paths,
}
