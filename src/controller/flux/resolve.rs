//! What a source of Flux stands for: pure. What others write into its object is bounded before it is kept.

use serde::Deserialize;
use serde_json::Value;

use crate::imagebuild::outcome::Pending;
use whittle_api::{
    FailureReason, FluxKind, FluxSource, GitRef, GitSource, LocalRef, OciSource, Reason, Source,
    bounded, is_digest, is_managed_secret,
};
use whittle_build::request::{Fetched, Tarball};

/// Bytes of a URL.
const URL: usize = 2048;
/// Bytes of a revision: it goes into statuses, and comes back in a record, where a longer one may be cut.
const REVISION: usize = 256;
/// Bytes of what Flux says.
const WORDS: usize = 512;

/// What is used of a source of Flux (<https://fluxcd.io/flux/components/source/api/v1/>).
#[derive(Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Object {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    generation: Option<i64>,
}

#[derive(Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    url: Option<String>,
    secret_ref: Option<Named>,
    #[serde(rename = "ref")]
    reference: Option<Ref>,
    provider: Option<String>,
}

#[derive(Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(default)]
struct Named {
    name: String,
}

#[derive(Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(default)]
struct Ref {
    tag: Option<String>,
    semver: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    observed_generation: Option<i64>,
    artifact: Option<Artifact>,
    conditions: Vec<Condition>,
}

#[derive(Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(default)]
struct Artifact {
    revision: String,
    url: String,
    digest: String,
}

#[derive(Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: String,
    message: String,
}

impl Object {
    /// Takes what is used; an object that is not as Flux defines it says nothing.
    pub fn take(object: Value) -> Self {
        let mut object: Self = serde_json::from_value(object).unwrap_or_default();
        object.status.conditions.retain(|it| it.kind == "Ready");
        object.status.conditions.truncate(1);
        for condition in &mut object.status.conditions {
            let message = std::mem::take(&mut condition.message);
            condition.message = bounded(message, WORDS);
        }
        object
    }
}

/// What an attempt is held to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// The git repository at its commit, or the artifact at its digest; neither for an archive.
    pub source: Source,
    /// What the runner is told beside that.
    pub fetched: Fetched,
}

/// What an attempt is to be made from; or what the build waits for, in words.
pub fn resolve(source: &FluxSource, object: Option<&Object>) -> Result<Pinned, Pending> {
    let title = format!("{} {}", source.kind, source.name);
    let waits = |message: String| Pending::new(Reason::SourceNotReady, message);
    let Some(object) = object else {
        let message = format!(
            "{title} not found in this namespace: create it (apiVersion source.toolkit.fluxcd.io/v1), or check source.flux; \
             the build then continues by itself"
        );
        return Err(Pending::new(FailureReason::SourceNotFound, message).blocked());
    };
    let Object {
        metadata,
        spec,
        status,
    } = object;
    let ready = status.conditions.first();
    if let Some(ready) = ready.filter(|ready| ready.status == "False") {
        return Err(waits(format!(
            "{title} is not ready: Flux says {}: {}",
            bounded(ready.reason.clone(), 64),
            // go-git's errors end so where there is no cause.
            ready.message.trim_end_matches([':', ' '])
        ))
        .blocked());
    }
    // Of a spec that Flux fails to fetch this one stays behind.
    if let (Some(now), Some(seen)) = (metadata.generation, status.observed_generation)
        && seen < now
    {
        return Err(waits(format!(
            "waiting for Flux: it has not yet fetched what {title} asks for since its last change"
        )));
    }
    // Who makes these need not say more than that they are there.
    let is_there = source.kind == FluxKind::ExternalArtifact && ready.is_none();
    if !is_there && ready.is_none_or(|ready| ready.status != "True") {
        return Err(waits(format!("waiting for Flux: it is fetching {title}")));
    }
    let Some(artifact) = &status.artifact else {
        return Err(waits(format!(
            "waiting for Flux: {title} has no artifact yet"
        )));
    };
    let cannot = |why: &str| waits(format!("{title} cannot be built: {why}")).blocked();
    let by_itself =
        source.kind == FluxKind::GitRepository || source.kind == FluxKind::OCIRepository;
    let provider = spec.provider.as_deref().unwrap_or("generic");
    if by_itself && provider != "generic" {
        let provider = bounded(provider.to_owned(), 64);
        return Err(cannot(&format!(
            "its spec.provider is {provider}, whose credentials only Flux has: use spec.secretRef and the provider generic"
        )));
    }
    let secret = spec.secret_ref.as_ref().filter(|_| by_itself);
    if let Some(Named { name }) = secret
        && is_managed_secret(name)
    {
        return Err(cannot(&format!(
            "Secret {name} belongs to Whittle and is not allowed in builds"
        )));
    }
    let secret_ref = secret.map(|Named { name }| LocalRef { name: name.clone() });
    let revision = artifact.revision.as_str();
    let (name, object) = revision.rsplit_once('@').unwrap_or(("", revision));
    if object.is_empty() || object.len() > REVISION || revision.contains(char::is_control) {
        return Err(cannot("status.artifact.revision is missing or invalid"));
    }
    // A branch may have a long name.
    let revision = match revision.len() > REVISION {
        true => object,
        false => revision,
    };
    let sub_path = source.sub_path.clone();
    let url = spec.url.as_deref().unwrap_or_default();
    let mut pinned = Pinned {
        source: Source::default(),
        fetched: Fetched {
            revision: revision.to_owned(),
            tarball: None,
        },
    };
    match source.kind {
        FluxKind::GitRepository => {
            let commit = commit(object).ok_or_else(|| {
                cannot("status.artifact.revision does not end in sha1: or sha256: and a commit")
            })?;
            git_url(url).map_err(|why| cannot(&why))?;
            pinned.source.git = Some(GitSource {
                url: url.to_owned(),
                reference: Some(reference(spec.reference.as_ref(), name, commit)),
                sub_path,
                secret_ref,
            });
        }
        FluxKind::OCIRepository => {
            let image = url.strip_prefix("oci://").filter(|it| is_plain(it, "@"));
            let image = image.ok_or_else(|| cannot("spec.url is not oci:// and a repository"))?;
            if !is_digest(object) {
                return Err(cannot("status.artifact.revision does not end in a digest"));
            }
            pinned.fetched.revision = format!("oci@{object}");
            pinned.source.oci = Some(OciSource {
                image: format!("{image}@{object}"),
                sub_path,
                secret_ref,
            });
        }
        FluxKind::Bucket | FluxKind::ExternalArtifact => {
            let Artifact { url, digest, .. } = artifact;
            let http = url.starts_with("http://") || url.starts_with("https://");
            if !http || !is_plain(url, "") || !is_digest(digest) {
                return Err(cannot(
                    "status.artifact has no http:// URL and digest of an archive",
                ));
            }
            pinned.fetched.tarball = Some(Tarball {
                url: url.clone(),
                digest: digest.clone(),
            });
        }
    }
    Ok(pinned)
}

/// The branch or the tag that Flux has followed stands beside the commit, for variables.
fn reference(asked: Option<&Ref>, name: &str, commit: &str) -> GitRef {
    let asked = asked.cloned().unwrap_or_default();
    let named = Some(name.to_owned()).filter(|name| !name.is_empty() && asked.name.is_none());
    let tagged = asked.tag.is_some() || asked.semver.is_some();
    let (tag, branch) = match tagged {
        true => (named, None),
        false => (None, named),
    };
    GitRef {
        branch,
        tag,
        semver: None,
        commit: Some(commit.to_owned()),
    }
}

fn commit(object: &str) -> Option<&str> {
    let (algorithm, commit) = object.split_once(':')?;
    let digits = match algorithm {
        "sha1" => 40,
        "sha256" => 64,
        _ => return None,
    };
    let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    (commit.len() == digits && commit.bytes().all(hex)).then_some(commit)
}

/// True for a URL, or a part of one, that has none of these characters nor what ends one.
fn is_plain(url: &str, not: &str) -> bool {
    let allowed = |c: char| c.is_ascii_graphic() && !not.contains(c);
    (1..=URL).contains(&url.len()) && url.chars().all(allowed)
}

/// As the rules of `source.git.url` have it.
fn git_url(url: &str) -> Result<(), String> {
    let known = ["https://", "http://", "ssh://"];
    let scheme = known.iter().find(|scheme| url.starts_with(**scheme));
    let rest = scheme.map(|scheme| &url[scheme.len()..]);
    let Some(rest) = rest.filter(|rest| is_plain(rest, "#?") && rest.contains('/')) else {
        return Err("spec.url is not a URL of https, http or ssh without # and ?".into());
    };
    let server = rest.split('/').next().unwrap_or_default();
    match url.starts_with("http") && server.contains('@') {
        true => Err("spec.url has credentials: put them into the Secret of spec.secretRef".into()),
        false => Ok(()),
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
