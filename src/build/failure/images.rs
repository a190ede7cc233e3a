//! Failures of registries: pushes, and base images.

use super::outside::{self, CA_FIELD};
use super::registry::{Fault, cause, fault, kind};
use super::{Again, Case, Facts, Finding, listed, plain};
use crate::request::BuildRequest;
use whittle_api::{Failure, FailureReason};
use whittle_image::{RegistryKey, Repository};
use whittle_registry::answer::Kind;

impl Case<'_> {
    pub(super) fn push(&self) -> Option<Finding> {
        let failed = self.failed.as_ref();
        let exporting = failed.filter(|step| step.name.starts_with("exporting to image"));
        // A token server's refusal stands at the end without what it was for; the step's error has all.
        let error = match (self.error.contains("failed to push "), exporting) {
            (true, _) => self.error,
            (false, Some(step)) if step.error.contains("failed to push ") => &step.error,
            (false, Some(_)) => self.error,
            (false, None) => return None,
        };
        Some(push_finding(
            self.request,
            self.facts,
            &cause(error),
            fault(error),
            kind(error),
        ))
    }

    pub(super) fn base_image(&self) -> Option<Finding> {
        const MARK: &str = "failed to resolve source metadata for ";
        const LOADING: &str = "[internal] load metadata for ";
        let failed = self.failed.as_ref();
        let after = |text: &'_ str| text.find(MARK).map(|at| text[at + MARK.len()..].to_owned());
        let loading = failed.and_then(|step| {
            let image = step.name.strip_prefix(LOADING)?;
            let said = after(&step.error).unwrap_or_else(|| format!("{image}: {}", step.error));
            Some(said)
        });
        let rest = after(self.error).or(loading)?;
        let image = rest.split(": ").next().unwrap_or(&rest);
        let repository = Repository::parse(image);
        let host = repository.host.clone();
        if rest.contains("no match for platform in manifest") {
            return Some((
                FailureReason::BaseImageNotFound,
                format!(
                    "base image {image} not found for platform {}: use another image, or build \
                        that stage with FROM --platform=$BUILDPLATFORM",
                    self.asked()
                ),
                Again::No,
            ));
        }
        let said = rest.split_once(": ").map_or(&rest[..], |(_, said)| said);
        let kind = kind(said);
        let fix = |fix: Option<String>| fix.map_or(String::new(), |fix| format!("; {fix}"));
        Some(match fault(said) {
            Fault::NotFound => (
                FailureReason::BaseImageNotFound,
                format!("base image {image} not found in its registry: check name and tag"),
                Again::No,
            ),
            Fault::Denied => (
                FailureReason::BaseImageDenied,
                format!(
                    "access to base image {image} is denied: {}; {}",
                    cause(said),
                    denied(self.request, self.facts, &repository, kind, "pull")
                ),
                Again::No,
            ),
            Fault::Untrusted => (
                FailureReason::BuildFailed,
                untrusted(&host, said),
                Again::No,
            ),
            Fault::Away => (
                FailureReason::BaseImageUnreachable,
                format!(
                    "base image {image}: its registry is unreachable or unavailable: {}{}",
                    cause(said),
                    fix(pull_cure(self.request, self.facts, &repository, kind))
                ),
                Again::Later,
            ),
            Fault::Refused | Fault::Unclear => (
                FailureReason::BuildFailed,
                format!(
                    "base image {image} cannot be read: {}{}",
                    cause(said),
                    fix(pull_cure(self.request, self.facts, &repository, kind))
                ),
                Again::No,
            ),
        })
    }
}

impl Case<'_> {
    /// The platforms that were asked for: by the `FROM`, or by the build.
    fn asked(&self) -> String {
        let text = self.instruction().map_or("", |one| one.text.as_str());
        let mut words = text.split_whitespace();
        let flag = words.find_map(|word| word.strip_prefix("--platform="));
        if let Some(flag) = flag.filter(|flag| !flag.contains("PLATFORM")) {
            return self.lines.expand(flag, &self.request.inputs.build_args);
        }
        let asked = &self.request.inputs.platforms;
        match asked.is_empty() {
            true => "the builder's own".into(),
            false => listed(&asked.iter().map(|p| p.0.as_str()).collect::<Vec<_>>()),
        }
    }
}

/// How a registry failed where the runner itself spoke with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushFault {
    /// 401 or 403.
    Denied,
    /// Another answer that will not change.
    Refused,
    /// Busy, or not to be reached.
    Away,
}

/// The failure where a registry does not answer the runner as it should: when the pushed manifests are
/// read back, or when tags are moved. `said` are its words.
pub fn push_failure(request: &BuildRequest, facts: &Facts, how: PushFault, said: &str) -> Failure {
    let how = match how {
        PushFault::Denied => Fault::Denied,
        PushFault::Refused if fault(said) == Fault::Untrusted => Fault::Untrusted,
        PushFault::Refused => Fault::Refused,
        PushFault::Away => Fault::Away,
    };
    let (reason, message, _) = push_finding(request, facts, said, how, kind(said));
    Failure {
        hint: outside::hint(&request.proxy, reason, said, None),
        ..plain(reason, message)
    }
}

fn push_finding(
    request: &BuildRequest,
    facts: &Facts,
    said: &str,
    fault: Fault,
    kind: Kind,
) -> Finding {
    let repository = Repository::parse(&request.inputs.output.image);
    let Repository { host, path } = &repository;
    match fault {
        Fault::Denied => (
            FailureReason::PushDenied,
            format!(
                "registry {host} denied the push of {path}: {said}; {}",
                denied(request, facts, &repository, kind, "push")
            ),
            Again::No,
        ),
        Fault::NotFound | Fault::Refused => (
            FailureReason::PushDenied,
            format!(
                "registry {host} rejected {path}: {said}; {}",
                push_cure(said, kind)
            ),
            Again::No,
        ),
        Fault::Untrusted => (FailureReason::PushFailed, untrusted(host, said), Again::No),
        Fault::Away => (
            FailureReason::PushFailed,
            format!(
                "registry {host} is unreachable or unavailable: {said}{}",
                match kind {
                    Kind::RateLimited =>
                        "; rate limit exceeded: build less often, or ask its owner for a higher \
                            limit",
                    _ => "",
                }
            ),
            Again::Later,
        ),
        Fault::Unclear => (
            FailureReason::PushFailed,
            format!("the push of {path} to registry {host} failed: {said}"),
            Again::Later,
        ),
    }
}

/// What to do about an answer to a push that no credentials mend.
fn push_cure(said: &str, kind: Kind) -> &'static str {
    match kind {
        Kind::Immutable => {
            "the tag already exists and is immutable: use a new tag for each build in \
                output.tags, or remove that rule in the registry"
        }
        Kind::Overwrite => {
            "the tag already exists, and the account may not overwrite it: grant it that \
                permission (in Artifactory Delete/Overwrite), or use a new tag for each build \
                in output.tags"
        }
        Kind::TooLarge => {
            "a layer is too large for the proxy in front of the registry: raise its limit \
                (nginx: client_max_body_size 0; Ingress: the annotation \
                nginx.ingress.kubernetes.io/proxy-body-size: \"0\"; Cloudflare allows at most \
                100 MB), or make the layers smaller"
        }
        Kind::Quota => "its storage quota is exceeded: delete images there, or raise the quota",
        Kind::Missing if said.contains("registry with id") => {
            "repository not found, and this registry requires it to be created first: aws ecr \
                create-repository --repository-name NAME; or check output.image"
        }
        Kind::ReadOnly => {
            "this repository is read-only (a proxy, cache or group of others, locked, or a \
                registry in read-only mode): name another in output.image, or ask its owner"
        }
        Kind::NoHead => {
            "HEAD requests are blocked, and a push needs them: allow them in the proxy in front \
                of the registry"
        }
        Kind::NoRegistry => {
            "the server there is a web server, not a registry: check the host of output.image, \
                its port, and that the proxy in front of the registry passes /v2/ on"
        }
        Kind::WantsTls => {
            "it requires TLS: remove plainHTTP for this host in registries of the Builder"
        }
        Kind::Format => {
            "unsupported manifest type (OCI): upgrade the registry; if output.compression is \
                zstd, try gzip"
        }
        _ => {
            "check output.image, and whether the registry requires the repository to be created first"
        }
    }
}

/// What to do about an answer to a pull.
fn pull_cure(
    request: &BuildRequest,
    facts: &Facts,
    repository: &Repository,
    kind: Kind,
) -> Option<String> {
    let host = &repository.host;
    Some(match kind {
        Kind::RateLimited if request.inputs.registry_secret().is_none() => format!(
            "rate limit exceeded; it is higher for authenticated users: put credentials for \
                {host} into a Secret and name it in output.secretRef, or set a mirror in \
                registries of the Builder"
        ),
        Kind::RateLimited => format!(
            "rate limit exceeded: {}, or set a mirror in registries of the Builder",
            credentials_hint(request, facts, repository, "pull")
        ),
        Kind::NoRegistry => {
            format!("{host} is a web server, not a registry: check the image's name")
        }
        Kind::WantsTls => {
            "it requires TLS: remove plainHTTP for this host in registries of the Builder".into()
        }
        _ => return None,
    })
}

/// What to do about a refusal.
fn denied(
    request: &BuildRequest,
    facts: &Facts,
    repository: &Repository,
    kind: Kind,
    right: &str,
) -> String {
    let host = &repository.host;
    match (kind, request.inputs.registry_secret()) {
        (Kind::Expired, Some(secret)) => format!(
            "the credentials for {host} in Secret {secret} have expired (those of ECR are valid \
                for 12 hours): renew them"
        ),
        (Kind::Blocked, _) => {
            "a firewall or proxy in front of the registry denies access, whatever the credentials: allow the addresses \
             of the builder and of the runners there"
                .into()
        }
        _ => credentials_hint(request, facts, repository, right),
    }
}

fn untrusted(host: &str, said: &str) -> String {
    format!(
        "the certificate of registry {host} is not trusted: {}; set its CA in registries[].caRef of the Builder, or for all \
            servers in {CA_FIELD}; or plainHTTP if it does not use TLS",
        cause(said)
    )
}

fn credentials_hint(
    request: &BuildRequest,
    facts: &Facts,
    repository: &Repository,
    right: &str,
) -> String {
    let host = &repository.host;
    let Some(secret) = request.inputs.registry_secret() else {
        return format!(
            "credentials missing: name a Secret of type kubernetes.io/dockerconfigjson in \
                output.secretRef that may {right}"
        );
    };
    let keys: Vec<RegistryKey> = facts
        .credentials
        .iter()
        .map(|key| RegistryKey::parse(key))
        .collect();
    if keys.iter().any(|key| key.fit(repository).is_some()) {
        return format!(
            "check that the credentials for {host} in Secret {secret} are valid and may {right}"
        );
    }
    let of_host = |key: &str| RegistryKey::parse(key).is_of_host(host);
    let notes = &facts.secret;
    if let Some((_, why)) = notes
        .unusable
        .iter()
        .find(|(key, why)| of_host(key) && (why.contains("base64") || notes.helpers.is_empty()))
    {
        return format!(
            "Secret {secret} has an invalid entry for {host}: {why}; recreate it with `kubectl \
                create secret docker-registry {secret} --docker-server={host} …`"
        );
    }
    // A program for this host alone goes before one for all.
    let helper = notes
        .helpers
        .iter()
        .find(|(key, _)| !key.is_empty() && of_host(key))
        .or(notes.helpers.iter().find(|(key, _)| key.is_empty()));
    if let Some((_, program)) = helper {
        return format!(
            "Secret {secret} uses the credential store {program} and has no password for {host}: \
                credential stores are programs of the machine where the file was written, and \
                unsupported here; create the Secret with `kubectl create secret docker-registry \
                {secret} --docker-server={host} …`"
        );
    }
    let others: Vec<String> = keys
        .iter()
        .filter(|key| key.is_of_host(host))
        .map(ToString::to_string)
        .collect();
    if !others.is_empty() {
        return format!(
            "Secret {secret} has credentials for {}, but not for {host}/{}",
            listed(&others),
            repository.path
        );
    }
    format!("Secret {secret} has no credentials for {host}")
}
