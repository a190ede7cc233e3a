//! Failures of registries: pushes, and base images.

use super::registry::{Fault, cause, fault};
use super::{Again, Case, Facts, Finding, listed, plain};
use crate::api::{Failure, FailureReason};
use crate::image::Repository;
use crate::plan::request::BuildRequest;

impl Case<'_> {
    pub(super) fn push(&self) -> Option<Finding> {
        let failed = self.failed.as_ref();
        let exporting = failed.is_some_and(|step| step.name.starts_with("exporting to image"));
        if !self.error.contains("failed to push ") && !exporting {
            return None;
        }
        Some(push_finding(
            self.request,
            self.facts,
            &cause(self.error),
            fault(self.error),
        ))
    }

    pub(super) fn base_image(&self) -> Option<Finding> {
        const MARK: &str = "failed to resolve source metadata for ";
        let rest = &self.error[self.error.find(MARK)? + MARK.len()..];
        let image = rest.split(": ").next().unwrap_or(rest);
        let host = Repository::parse(image).host;
        if rest.contains("no match for platform in manifest") {
            return Some((
                FailureReason::BaseImageNotFound,
                format!(
                    "base image {image} has no variant for the platform ({}): take another image, or \
                     build that stage with FROM --platform=$BUILDPLATFORM",
                    self.asked()
                ),
                Again::No,
            ));
        }
        Some(match fault(rest) {
            Fault::NotFound => (
                FailureReason::BaseImageNotFound,
                format!("base image {image} is not in its registry: check name and tag"),
                Again::No,
            ),
            Fault::Denied => (
                FailureReason::BaseImageDenied,
                format!(
                    "the registry of base image {image} refuses: {}; {}",
                    cause(rest),
                    credentials_hint(self.request, self.facts, &host, "pull")
                ),
                Again::No,
            ),
            Fault::Untrusted => (
                FailureReason::BuildFailed,
                untrusted(&host, rest),
                Again::No,
            ),
            Fault::Away => (
                FailureReason::BaseImageUnreachable,
                format!(
                    "base image {image}: its registry cannot be reached or is busy: {}",
                    cause(rest)
                ),
                Again::Later,
            ),
            Fault::Refused | Fault::Unclear => (
                FailureReason::BuildFailed,
                format!("base image {image} cannot be read: {}", cause(rest)),
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
            return self.lines.expand(flag, &self.request.build_args);
        }
        let asked = &self.request.platforms;
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
    let (reason, message, _) = push_finding(request, facts, said, how);
    plain(reason, message)
}

fn push_finding(request: &BuildRequest, facts: &Facts, said: &str, fault: Fault) -> Finding {
    let Repository { host, path } = Repository::parse(&request.image);
    match fault {
        Fault::Denied => (
            FailureReason::PushDenied,
            format!(
                "registry {host} refuses the push of {path}: {said}; {}",
                credentials_hint(request, facts, &host, "push")
            ),
            Again::No,
        ),
        Fault::NotFound | Fault::Refused => (
            FailureReason::PushDenied,
            format!(
                "registry {host} does not take {path}: {said}; check output.image, and whether the \
                 registry wants the repository to be made first"
            ),
            Again::No,
        ),
        Fault::Untrusted => (FailureReason::PushFailed, untrusted(&host, said), Again::No),
        Fault::Away => (
            FailureReason::PushFailed,
            format!("registry {host} cannot be reached or is busy: {said}"),
            Again::Later,
        ),
        Fault::Unclear => (
            FailureReason::PushFailed,
            format!("the push of {path} to registry {host} failed: {said}"),
            Again::Later,
        ),
    }
}

fn untrusted(host: &str, said: &str) -> String {
    format!(
        "the connection to registry {host} is not to be trusted: {}; give its certificate in \
         registries[].caRef of the Builder, or set plainHTTP where it speaks no TLS",
        cause(said)
    )
}

fn credentials_hint(request: &BuildRequest, facts: &Facts, host: &str, right: &str) -> String {
    match &request.registry_secret {
        None => format!(
            "no credentials are given: name a Secret of type kubernetes.io/dockerconfigjson in \
             output.secretRef that may {right}"
        ),
        Some(secret) if facts.credentials.iter().any(|known| known == host) => format!(
            "check that the credentials for {host} in Secret {secret} are valid and may {right}"
        ),
        Some(secret) => format!("Secret {secret} has no credentials for {host}"),
    }
}
