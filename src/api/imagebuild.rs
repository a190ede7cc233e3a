//! `ImageBuild`: what to build, from where, to where.

// Each printcolumn(...) repeats the same keys, as kube's derive wants it.
#![allow(clippy::duplicated_attributes)]

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::minimize::{NEEDS_A_SERVER, NEEDS_APPLY, NEEDS_HEALTH_CHECK};
use super::names;
use super::variables;
use super::{
    BuilderRef, Contract, HealthCheck, ImageBuildStatus, LocalRef, Minimize, SecretKeyRef, Source,
    Triggers,
};

/// Platforms that BuildKit's `linux` workers know; others are refused by the API server.
const PLATFORM_RULE: &str = "self in ['linux/amd64', 'linux/amd64/v2', 'linux/amd64/v3', 'linux/amd64/v4', 'linux/arm64', \
     'linux/arm64/v8', 'linux/arm/v7', 'linux/arm/v6', 'linux/arm/v5', 'linux/386', 'linux/ppc64le', 'linux/s390x', \
     'linux/riscv64', 'linux/loong64', 'linux/mips64', 'linux/mips64le']";

/// What to write instead of a name that other tools have for a platform.
const PLATFORM_MESSAGE: &str = "'platforms: unknown platform ' + self + ': ' + (self in ['linux/aarch64', 'linux/aarch64/v8', \
     'aarch64', 'arm64'] ? 'write linux/arm64' : self in ['linux/x86_64', 'linux/x86-64', 'linux/amd64/v1', 'x86_64', \
     'amd64'] ? 'write linux/amd64' : self in ['linux/arm', 'linux/armhf', 'linux/armv7', 'linux/armv7l', 'linux/arm/7'] ? \
     'write linux/arm/v7' : self in ['linux/armel', 'linux/armv6', 'linux/arm/6'] ? 'write linux/arm/v6' : self in \
     ['linux/i386', 'linux/x86'] ? 'write linux/386' : 'use for example linux/amd64 or linux/arm64')";

/// Turns a source with a Dockerfile into an image in a registry.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[kube(
    group = "whittle.dev",
    version = "v1alpha1",
    kind = "ImageBuild",
    plural = "imagebuilds",
    shortname = "ib",
    category = "whittle",
    namespaced,
    status = "ImageBuildStatus",
    derive = "PartialEq",
    doc = "Turns a source with a Dockerfile into an image in a registry.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#
    ),
    printcolumn(
        name = "Progress",
        type_ = "string",
        json_path = ".status.current.progress"
    ),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.output.image"),
    printcolumn(name = "Size", type_ = "string", json_path = ".status.displaySize"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Digest",
        type_ = "string",
        json_path = ".status.digest",
        priority = 1
    ),
    printcolumn(
        name = "Platforms",
        type_ = "string",
        json_path = ".status.displayPlatforms",
        priority = 1
    ),
    printcolumn(
        name = "Position",
        type_ = "integer",
        json_path = ".status.current.waiting.position",
        priority = 1
    ),
    printcolumn(
        name = "Starts",
        type_ = "string",
        json_path = ".status.current.waiting.starts",
        priority = 1
    ),
    printcolumn(
        name = "Replica",
        type_ = "integer",
        json_path = ".status.current.replica",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.triggers) || !has(self.triggers.poll) && !has(self.triggers.webhook) || has(self.source.git) || has(self.source.oci)").message("triggers: poll and webhook look at a source of git or oci: files of the ImageBuild itself or of a ConfigMap do not move by themselves, and Flux looks at its sources itself"))]
#[x_kube(validation = Rule::new("!has(self.triggers) || !has(self.triggers.poll) && !has(self.triggers.webhook) || !has(self.source.git) || !has(self.source.git.ref) || !has(self.source.git.ref.commit)").message("triggers: poll and webhook have nothing to look for: source.git.ref.commit never moves: name a branch, a tag or a range of versions"))]
#[x_kube(validation = Rule::new("!has(self.triggers) || !has(self.triggers.poll) && !has(self.triggers.webhook) || !has(self.source.oci) || !self.source.oci.image.contains('@')").message("triggers: poll and webhook have nothing to look for: a digest in source.oci.image never moves: name a tag"))]
#[x_kube(validation = Rule::new(variables::needs_git()).message("a variable of a commit ($(COMMIT), $(BRANCH), $(TAG) and the like) requires source.git or a GitRepository of source.flux: other sources \
    have $(BUILD_NUMBER) alone"))]
#[x_kube(validation = Rule::new(variables::needs_branch()).message("$(BRANCH) requires source.git.ref.branch, or no source.git.ref at all: of a tag or a commit the branch is \
    unknown: use $(TAG) or $(SHORT_COMMIT)"))]
#[x_kube(validation = Rule::new(variables::needs_tag()).message("$(TAG) and $(SEMVER) require source.git.ref.tag or .semver: of a branch or a commit the tag is unknown: use $(BRANCH) or \
    $(SHORT_COMMIT)"))]
#[x_kube(validation = Rule::new(variables::needs_version()).message("$(SEMVER) requires source.git.ref.tag to be a version such as v1.2.3: use $(TAG) for other tags"))]
#[x_kube(validation = Rule::new(NEEDS_HEALTH_CHECK).message("minimize: mode Apply requires healthCheck: only an image that answers it \
    shows that nothing it needs was left out: set healthCheck, or mode: Suggest"))]
#[x_kube(validation = Rule::new(NEEDS_APPLY).message("minimize.trace and minimize.exercise require mode Apply: nothing is run in mode Suggest"))]
#[x_kube(validation = Rule::new("!has(self.debug) || !has(self.debug.full) || !self.debug.full || has(self.minimize)").message("debug.full requires minimize: without it there is just one image"))]
#[x_kube(validation = Rule::new(NEEDS_A_SERVER).message("minimize.exercise: not allowed beside healthCheck.run: a program that has ended can do nothing more"))]
pub struct ImageBuildSpec {
    /// Where the Dockerfile and its context come from: exactly one kind of source.
    pub source: Source,
    /// Path of the Dockerfile within the source (for git: within `subPath`).
    #[serde(default = "defaults::dockerfile")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.split('/').exists(p, p == '..')").message("dockerfile: invalid path: write a path relative to the source, without a leading / and \
        without .."))]
    #[x_kube(validation = Rule::new("!self.matches('[\\\\x00-\\\\x1f\\\\x7f]')").message("dockerfile: control characters are not allowed in a path"))]
    pub dockerfile: String,
    /// The stage to build; the last one by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9][A-Za-z0-9_.-]*$')").message("target: invalid stage name: use letters, digits, _, . and - only, starting with a letter or \
        digit"))]
    pub target: Option<String>,
    /// Values of the Dockerfile's ARGs, with variables of the source, for example $(COMMIT). Not for secrets: they are
    /// in the image's history.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 128, "additionalProperties" = variables::values("buildArgs", 8192)))]
    #[x_kube(validation = Rule::new("self.all(k, k.matches('^[A-Za-z_][A-Za-z0-9_]*$'))").message("buildArgs: invalid name: use letters, digits and _ only, not starting with a digit"))]
    #[x_kube(validation = Rule::new("self.map(k, size(k) + size(self[k])).sum() <= 65536").message("buildArgs: too large: more than 65,536 characters in total: move long values into a file of \
        the source"))]
    #[x_kube(validation = Rule::new("!self.exists(k, k == 'BUILDKIT_SYNTAX')").message("buildArgs: BUILDKIT_SYNTAX is not allowed: external frontends are off"))]
    pub build_args: BTreeMap<String, String>,
    /// Files for `RUN --mount=type=secret,id=…`; they reach no layer, log or history.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["id".into()]))]
    pub secrets: Vec<BuildSecret>,
    /// Platforms to build for, for example linux/amd64 and linux/arm64; the builder's own by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 32)))]
    #[x_kube(validation = Rule::new("!('linux/arm64' in self && 'linux/arm64/v8' in self)").message("platforms: linux/arm64 and linux/arm64/v8 are the same platform: name it once, as linux/arm64"))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub platforms: Vec<Platform>,
    /// Where the image goes.
    pub output: Output,
    /// A second image for debugging, with a tag of its own beside each tag of the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debug: Option<Debug>,
    /// What the image must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract: Option<Contract>,
    /// A probe that the image must answer as a Pod before any tag points to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// Leaves out of the image what its program never reaches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimize: Option<Minimize>,
    /// The Builder of this namespace to build on.
    #[serde(default = "defaults::builder_ref")]
    pub builder_ref: BuilderRef,
    /// Any text, for example a date: a new value builds again although nothing else has changed. It is part of the
    /// spec,
    /// so that tools which wait for a generation to be observed wait for that build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub rebuild: Option<String>,
    /// What starts a build besides a change of the spec and a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub triggers: Option<Triggers>,
    /// Place in the Builder's queue: a higher one is built first, from -100 to 100. Among equals those that a person or a
    /// commit asked for go before those that a base image or a schedule did, and then the first comes first. A build that
    /// runs is never stopped for another.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = -100, max = 100))]
    pub priority: i32,
    /// Time for each attempt from its start, for example 30m: at most 24h. Time in the builder's queue does not
    /// count; a build that cannot start because something else is missing times out after this time, too.
    #[serde(default = "defaults::timeout")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]+(h|m|s))+$') && duration(self) >= duration('1s') && duration(self) <= duration('24h')").message("timeout: invalid duration: write one between 1s and 24h, for example 30m or 1h30m"))]
    pub timeout: String,
    /// How long an attempt may wait until it starts, for example 1h: for its turn on the Builder, for the Builder, or in a queue of Kueue.
    /// A build that has waited longer ends with the reason QueueTimeout, and the next change, request or trigger builds again. Without
    /// it a build waits for its turn as long as that takes; at most 168h. Time in which spec.suspend holds it does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]+(h|m|s))+$') && duration(self) >= duration('1s') && duration(self) <= duration('168h')").message("queueTimeout: invalid duration: write one between 1s and 168h, for example 1h or 90m"))]
    pub queue_timeout: Option<String>,
    /// Further attempts after a fault of the platform (eviction, node loss, an unavailable registry); a failing
    /// Dockerfile is never retried.
    #[serde(default = "defaults::retries")]
    #[schemars(range(min = 0, max = 10))]
    pub retries: i32,
    /// True suspends: no Job is started until it is false again, also not in place of a deleted one. A running
    /// attempt continues, unless what it is built from changes too.
    #[serde(default)]
    pub suspend: bool,
    /// How many builds of the past to keep in `status.history`, and how many of their Jobs.
    #[serde(default = "defaults::history_limit")]
    #[schemars(range(min = 0, max = 50))]
    pub history_limit: i32,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// One secret file.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BuildSecret {
    /// The id in the Dockerfile's `--mount=type=secret,id=…`.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$')").message("secrets: invalid id: use letters, digits, _, . and - only, not starting or ending with . or \
        -: write the same in --mount=type=secret,id="))]
    #[x_kube(validation = Rule::new("!self.startsWith('GIT_AUTH_')").message("secrets: ids that start with GIT_AUTH_ are reserved for the source's own credentials: use \
        git.secretRef"))]
    pub id: String,
    /// The Secret and its key.
    pub secret_ref: SecretKeyRef,
}

/// `os/architecture` or `os/architecture/variant`, as the OCI image index writes them.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[serde(transparent)]
pub struct Platform(pub String);

impl JsonSchema for Platform {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Platform".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "maxLength": 32,
            "x-kubernetes-validations": [{
                "rule": PLATFORM_RULE,
                "messageExpression": PLATFORM_MESSAGE,
            }],
        })
    }
}

/// Where the image goes.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// A repository, for example registry.example.com/team/hello: without tag and digest.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("!self.contains('@') && !self.matches(':[^/]*$')").message("output.image: write the repository without tag and digest: tags belong in output.tags, and \
        the digest is a result of the build"))]
    #[x_kube(validation = Rule::new(names::repository_or_more()).message("output.image: invalid repository: write host/path in lowercase, for example \
        registry.example.com/team/hello; each part of the path starts and ends with a letter or \
        digit, with a single . or _, __, or dashes between"))]
    pub image: String,
    /// Tags that are to point to the image, with variables of the source: for example main-$(SHORT_COMMIT).
    #[serde(default = "defaults::tags")]
    #[schemars(
        length(min = 1, max = 32),
        extend("items" = json!({"type": "string", "minLength": 1, "maxLength": 128,
            "x-kubernetes-validations": variables::tag_rules()}))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub tags: Vec<String>,
    /// A Secret of type kubernetes.io/dockerconfigjson: for the push, and for private base images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
    /// Compression of the layers.
    #[serde(default)]
    pub compression: Compression,
    /// Labels in the image's config. Values may have variables, as buildArgs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 128, "additionalProperties" = variables::values("output.labels", 4096)))]
    #[x_kube(validation = Rule::new("self.all(k, k.matches('^[!#-<>-~]+$'))").message("output.labels: invalid name: use printable ASCII characters without spaces, = and quotes"))]
    #[x_kube(validation = Rule::new("self.map(k, size(k) + size(self[k])).sum() <= 32768").message("output.labels: too large: more than 32,768 characters in total"))]
    pub labels: BTreeMap<String, String>,
    /// Annotations of each platform's manifest. Values may have variables, as buildArgs. Of a git source,
    /// org.opencontainers.image.source, revision and version are set where they are not given here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 128, "additionalProperties" = variables::values("output.annotations", 4096)))]
    #[x_kube(validation = Rule::new("self.all(k, k.matches('^[!#-+\\\\x2d-<>-@\\\\x5b-~]+$'))").message("output.annotations: invalid name: use lowercase ASCII without spaces, =, commas and quotes: \
        BuildKit's client does not support others"))]
    #[x_kube(validation = Rule::new("self.map(k, size(k) + size(self[k])).sum() <= 16384").message("output.annotations: too large: more than 16,384 characters in total: attach long texts to \
        the image as an artifact"))]
    pub annotations: BTreeMap<String, String>,
}

/// The image for debugging: a stage of its own, the image itself with the files of another one (for example a shell) beneath its
/// own, or the image before `spec.minimize` has made it smaller.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.target), has(self.image), has(self.full) && self.full].filter(x, x).size() == 1").message("debug: set exactly one of target (a stage of the Dockerfile), image (for example busybox:1.36) and full: true (the image before it is minimized)"))]
pub struct Debug {
    /// A stage of the Dockerfile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9][A-Za-z0-9_.-]*$')").message("debug.target: invalid stage name: use letters, digits, _, . and - only, starting with a \
        letter or digit"))]
    pub target: Option<String>,
    /// An image whose files are put beneath those of the result: where both have a file, the result's
    /// stays. Entry point, user and environment stay those of the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new(names::image()).message("debug.image: invalid image name: write host/path:tag or host/path@sha256:… in lowercase, \
        for example busybox:1.36; each part of the path starts and ends with a letter or digit, \
        with a single . or _, __, or dashes between"))]
    #[x_kube(validation = Rule::new(names::SHORT).message("debug.image: too long: the repository's name has more than 255 characters"))]
    pub image: Option<String>,
    /// True for the image as it was before `spec.minimize` has made it smaller.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub full: bool,
    /// Added to each of `output.tags`.
    #[serde(default = "defaults::tag_suffix")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9._-]+$')").message("debug.tagSuffix: invalid: it becomes the end of a tag: use letters, digits, _, . and - \
        only, for example -debug"))]
    pub tag_suffix: String,
}

/// Compression of the layers.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Read by every runtime.
    #[default]
    Gzip,
    /// Smaller and quicker; needs containerd 1.5, Docker 23 or later.
    Zstd,
}

impl Compression {
    /// The value of BuildKit's `compression` exporter option.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

mod defaults {
    use super::BuilderRef;

    pub fn dockerfile() -> String {
        "Dockerfile".into()
    }

    pub fn builder_ref() -> BuilderRef {
        BuilderRef {
            name: "default".into(),
        }
    }

    pub fn timeout() -> String {
        "30m".into()
    }

    pub fn retries() -> i32 {
        2
    }

    pub fn history_limit() -> i32 {
        5
    }

    pub fn tag_suffix() -> String {
        "-debug".into()
    }

    pub fn tags() -> Vec<String> {
        vec!["latest".into()]
    }
}
