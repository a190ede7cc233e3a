//! Where the Dockerfile and its context come from.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::LocalRef;
use super::bounds::{DATA_KEY, OBJECT_NAME, REF_FORM, REF_SIGNS, REF_WHOLE, file};
use super::names;

/// Where the Dockerfile and its context come from.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.git) ? 1 : 0) + (has(self.inline) ? 1 : 0) + (has(self.configMap) ? 1 : 0) + (has(self.oci) ? 1 : 0) + (has(self.flux) ? 1 : 0) == 1").message("source: set exactly one of git, inline, configMap, oci and flux"))]
pub struct Source {
    /// A git repository; BuildKit clones it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<GitSource>,
    /// Files given here: for small builds and tests, 256 KiB in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inline: Option<InlineSource>,
    /// Files in a ConfigMap of this namespace. A change of the ConfigMap alone starts no build: ask for
    /// one with the annotation whittle.dev/requestedAt, or let the name change with the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapSource>,
    /// Files in the layers of an OCI artifact or image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oci: Option<OciSource>,
    /// What a source of Flux in this namespace has fetched. A build starts where it has fetched something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flux: Option<FluxSource>,
}

/// A git repository.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitSource {
    /// `https://…`, `http://…`, `ssh://…` or `git@host:path`.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^(https?|ssh)://[^/ #?]+/[^ #?]+$') || self.matches('^[A-Za-z0-9_.-]+@[A-Za-z0-9.-]+:[^ #?]+$')").message("git.url: invalid URL: write https://host/path, http://host/path, ssh://host/path or \
        git@host:path, without # and ?"))]
    #[x_kube(validation = Rule::new("!self.matches('^https?://[^/]*@')").message("git.url: credentials are not allowed in the URL, where anyone can read them: put them into \
        a Secret and name it in git.secretRef"))]
    #[x_kube(validation = Rule::new("!self.matches('[\\\\x00-\\\\x1f\\\\x7f]')").message("git.url: control characters are not allowed"))]
    pub url: String,
    /// What to build; the remote's HEAD by default.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<GitRef>,
    /// A directory of the repository to use as the context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.contains(':') && !self.split('/').exists(p, p == '..')").message("git.subPath: invalid path: write a path relative to the repository, without a leading /, \
        without : and without .."))]
    #[x_kube(validation = Rule::new("!self.matches('[\\\\x00-\\\\x1f\\\\x7f]')").message("git.subPath: control characters are not allowed in a path"))]
    pub sub_path: Option<String>,
    /// A Secret of type kubernetes.io/basic-auth or kubernetes.io/ssh-auth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
}

/// A branch, a tag, a range of versions or a commit.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.branch) ? 1 : 0) + (has(self.tag) ? 1 : 0) + (has(self.semver) ? 1 : 0) + (has(self.commit) ? 1 : 0) == 1").message("git.ref: set exactly one of branch, tag, semver and commit"))]
pub struct GitRef {
    /// A branch: its newest commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new(REF_WHOLE).message("git.ref.branch: write only the branch's name, main and not refs/heads/main; for refs/tags, \
        refs/pull and the like use git.ref.tag or git.ref.commit"))]
    #[x_kube(validation = Rule::new(REF_SIGNS).message("git.ref.branch: invalid branch name: git does not allow spaces, control characters, ~ ^ : ? \
        * [ and backslash"))]
    #[x_kube(validation = Rule::new(REF_FORM).message("git.ref.branch: invalid branch name: it must not start with - or /, end with / or ., or \
        contain .., // or @{, and no part between slashes may start with . or end with .lock"))]
    #[x_kube(validation = Rule::new("self != 'HEAD'").message("git.ref.branch: HEAD is not a branch: omit git.ref to use the branch that the remote's HEAD \
        points to"))]
    pub branch: Option<String>,
    /// A tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new(REF_WHOLE).message("git.ref.tag: write only the tag's name, v1 and not refs/tags/v1; for a branch use \
        git.ref.branch"))]
    #[x_kube(validation = Rule::new(REF_SIGNS).message("git.ref.tag: invalid tag name: git does not allow spaces, control characters, ~ ^ : ? * [ \
        and backslash"))]
    #[x_kube(validation = Rule::new(REF_FORM).message("git.ref.tag: invalid tag name: it must not start with - or /, end with / or ., or contain \
        .., // or @{, and no part between slashes may start with . or end with .lock"))]
    pub tag: Option<String>,
    /// A range of versions, for example `>=1.2 <2`: the tag with the highest version in it, with or without a leading v.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9A-Za-z.*^~<>=|, +-]+$') && self.matches('[0-9*xX]')").message("git.ref.semver: invalid range: write for example >=1.2 <2, ^1.2, ~1.2.3, 1.x or 1.2 || 2.0"))]
    pub semver: Option<String>,
    /// A full commit: 40 (SHA-1) or 64 (SHA-256) hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9a-fA-F]*$')").message("git.ref.commit: invalid commit: it has hexadecimal digits only (0-9 and a-f): for a branch \
        or a tag use git.ref.branch or git.ref.tag"))]
    #[x_kube(validation = Rule::new("size(self) == 40 || size(self) == 64 || !self.matches('^[0-9a-fA-F]*$')").message(Message::Expression("'git.ref.commit: ' + self + ' is not a full commit, which has 40 hexadecimal digits (64 in \
        a SHA-256 repository): git rev-parse prints all of them'".into())))]
    #[x_kube(validation = Rule::new("!self.matches('[A-F]')").message("git.ref.commit: write the hexadecimal digits in lowercase, as git does"))]
    pub commit: Option<String>,
}

/// Files given in the ImageBuild itself.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct InlineSource {
    /// Path → text. Paths are relative, without `..`; together at most 256 KiB.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 256, "additionalProperties" = file(262_144)))]
    #[x_kube(validation = Rule::new("self.all(p, p != '' && size(p) <= 512 && !p.startsWith('/') && !p.endsWith('/') && !p.split('/').exists(s, s == '..' || s == '.' || s == ''))").message("inline.files: invalid name: write a relative path of at most 512 characters, without . and \
        .. and empty parts"))]
    #[x_kube(validation = Rule::new("self.all(p, !p.matches('[\\\\x00-\\\\x1f\\\\x7f]'))").message("inline.files: control characters are not allowed in a name"))]
    #[x_kube(validation = Rule::new("self.map(p, size(self[p])).sum() <= 262144").message("inline.files: too large: more than 256 KiB in total: put them into a git repository"))]
    pub files: BTreeMap<String, String>,
}

/// Files in a ConfigMap.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapSource {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(OBJECT_NAME).message("configMap.name: invalid name: use lowercase letters, digits, - and ., starting and ending \
        with a letter or digit"))]
    pub name: String,
    /// Which keys are files, and where: a key itself can hold no `/`. Without it, each key is a file of
    /// its name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(validation = Rule::new("self.map(i, size(i.key) + size(i.path)).sum() <= 65536").message("configMap.items: too large: more than 65,536 characters in total"))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["path".into()]))]
    pub items: Vec<ConfigMapItem>,
}

/// One file of a ConfigMap.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapItem {
    /// The key.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(DATA_KEY).message("configMap.items: invalid key: use letters, digits, -, _ and . only"))]
    pub key: String,
    /// The file's path within the source.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.startsWith('..') && !self.endsWith('/') && !self.split('/').exists(p, p == '..' || p == '.' || p == '')").message("configMap.items: invalid path: write a relative path that does not start with .., without . and .. and empty parts"))]
    #[x_kube(validation = Rule::new("!self.matches('[\\\\x00-\\\\x1f\\\\x7f]')").message("configMap.items: control characters are not allowed in a path"))]
    pub path: String,
}

/// Files in the layers of an OCI artifact or image: each layer is a tar archive, plain or compressed with gzip or
/// zstd, as `flux push artifact`, `oras push` of a directory, or a Dockerfile that starts with `FROM scratch`
/// create them.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OciSource {
    /// `host/path@sha256:…`, or `host/path:tag`: `status.revision` is the digest that was really built.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new(names::image()).message("oci.image: invalid image name: write host/path@sha256:… or host/path:tag in lowercase, for \
        example registry.example.com/team/source:main; each part of the path starts and ends \
        with a letter or digit, with a single . or _, __, or dashes between"))]
    #[x_kube(validation = Rule::new(names::SHORT).message("oci.image: too long: the repository's name has more than 255 characters"))]
    pub image: String,
    /// A directory within the layers to use as the context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.split('/').exists(p, p == '..')").message("oci.subPath: invalid path: write a path relative to the layers, without a leading / and \
        without .."))]
    #[x_kube(validation = Rule::new("!self.matches('[\\\\x00-\\\\x1f\\\\x7f]')").message("oci.subPath: control characters are not allowed in a path"))]
    pub sub_path: Option<String>,
    /// A Secret of type kubernetes.io/dockerconfigjson; `output.secretRef` serves where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
}

/// A source of Flux (`source.toolkit.fluxcd.io/v1`) in this namespace.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FluxSource {
    /// Its kind.
    pub kind: FluxKind,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(OBJECT_NAME).message("flux.name: invalid name: use lowercase letters, digits, - and ., starting and ending \
        with a letter or digit"))]
    pub name: String,
    /// A directory within it to use as the context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.contains(':') && !self.split('/').exists(p, p == '..')").message("flux.subPath: invalid path: write a path relative to the source, without a leading /, \
        without : and without .."))]
    #[x_kube(validation = Rule::new("!self.matches('[\\\\x00-\\\\x1f\\\\x7f]')").message("flux.subPath: control characters are not allowed in a path"))]
    pub sub_path: Option<String>,
}

/// The kinds of Flux that fetch something.
#[derive(
    Serialize,
    Deserialize,
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    JsonSchema,
    strum::Display,
)]
pub enum FluxKind {
    /// Its repository is built, at the commit that it has fetched.
    GitRepository,
    /// Its artifact is built, at the digest that it has fetched.
    OCIRepository,
    /// The files that it has fetched are built.
    Bucket,
    /// The files that a controller beside Flux has made are built.
    ExternalArtifact,
}

impl FluxKind {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::GitRepository,
        Self::OCIRepository,
        Self::Bucket,
        Self::ExternalArtifact,
    ];

    /// As it stands in paths of the API server.
    pub fn plural(self) -> &'static str {
        match self {
            Self::GitRepository => "gitrepositories",
            Self::OCIRepository => "ocirepositories",
            Self::Bucket => "buckets",
            Self::ExternalArtifact => "externalartifacts",
        }
    }
}
