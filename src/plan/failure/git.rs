//! Failures of the build's git source.

use super::registry::{Fault, fault};
use super::{Again, Case, Finding};
use crate::api::{FailureReason, GitRef, GitSource};

const DENIED: [&str; 9] = [
    "could not read username",
    "could not read password",
    "authentication failed",
    "invalid username or",
    "permission denied",
    "host key verification failed",
    "no ssh key ",
    "access denied",
    "error: 401",
];

/// Words of [`crate::seal::Error`] where the runner and the daemon do not have the same key, or one has none.
const NOT_SEALED: [&str; 2] = [
    "were not sealed for this builder and host",
    "the key for git credentials is invalid",
];

impl Case<'_> {
    pub(super) fn source(&self) -> Option<Finding> {
        let git = self.request.source.git.as_ref()?;
        let by_name = self
            .failed
            .as_ref()
            .is_some_and(|step| step.name.starts_with("[internal] load git source "));
        if !by_name {
            return None;
        }
        let url = &git.url;
        let lower = self.error.to_lowercase();
        if NOT_SEALED.iter().any(|words| lower.contains(words)) {
            // The daemon has other keys than the runner mounted: its Builder's Secrets were made anew in between.
            let message = format!(
                "the builder's keys have just been renewed, and it could not open the credentials of git repository \
                 {url} that were sealed with those before: retrying with the new ones"
            );
            return Some((FailureReason::BuilderLost, message, Again::Later));
        }
        let not_found = |message: String| Some((FailureReason::SourceNotFound, message, Again::No));
        if lower.contains("does not contain ref ") {
            return not_found(format!(
                "git repository {url} has no {}: check git.ref",
                reference(git)
            ));
        }
        if lower.contains("invalid subdir ") || lower.contains("failed to open subdir ") {
            let folder = git.sub_path.as_deref().unwrap_or_default();
            return not_found(format!(
                "git repository {url} has no folder {folder} at {}: check git.subPath",
                reference(git)
            ));
        }
        let gone = [
            "reference is not a tree",
            "not our ref",
            "unadvertised object",
        ];
        if gone.iter().any(|words| lower.contains(words)) {
            return not_found(format!(
                "git repository {url} has no {}, or does not hand it out: check git.ref.commit",
                reference(git)
            ));
        }
        if denies(&lower) {
            return Some((FailureReason::SourceDenied, denied(git, &lower), Again::No));
        }
        if lower.contains("not found") && lower.contains("repository")
            || lower.contains("returned error: 404")
        {
            let hint = match &git.secret_ref {
                Some(secret) => format!(
                    "check git.url, and whether the credentials in Secret {} may read it",
                    secret.name
                ),
                None => "check git.url; a private repository needs git.secretRef".into(),
            };
            return not_found(format!("git repository {url} not found: {hint}"));
        }
        let said = stderr(self.error);
        let busy = lower.contains("returned error: 5") || lower.contains("returned error: 429");
        let (reason, again) = if busy || fault(said) == Fault::Away {
            (FailureReason::SourceUnreachable, Again::Later)
        } else {
            (FailureReason::SourceNotFound, Again::No)
        };
        Some((
            reason,
            format!("git repository {url} cannot be read: {said}"),
            again,
        ))
    }
}

/// True where git's words, in small letters, say that its server refuses.
pub(super) fn denies(lower: &str) -> bool {
    lower.contains("returned error: 403")
        || lower.contains("returned error: 401")
        || DENIED.iter().any(|words| lower.contains(words))
}

fn reference(git: &GitSource) -> String {
    match &git.reference {
        Some(GitRef {
            branch: Some(name), ..
        }) => format!("branch \"{name}\""),
        Some(GitRef {
            tag: Some(name), ..
        }) => format!("tag \"{name}\""),
        Some(GitRef {
            commit: Some(name), ..
        }) => format!("commit {name}"),
        _ => "HEAD".into(),
    }
}

fn denied(git: &GitSource, said: &str) -> String {
    let url = &git.url;
    let ssh = !url.starts_with("http");
    if said.contains("host key verification failed") {
        return format!(
            "the git server of {url} has another host key than known: check known_hosts in the Secret \
             of git.secretRef"
        );
    }
    match &git.secret_ref {
        None => format!(
            "git repository {url} asks for credentials: name a Secret of type kubernetes.io/{} in \
             git.secretRef",
            if ssh { "ssh-auth" } else { "basic-auth" }
        ),
        Some(secret) => format!(
            "git repository {url} refuses the credentials in Secret {}: check that they are valid, may \
             read it, and are of type kubernetes.io/{}",
            secret.name,
            if ssh { "ssh-auth" } else { "basic-auth" }
        ),
    }
}

/// What git itself said after `git stderr:`: where ssh could not connect, that; else the line that begins
/// with `fatal:`.
pub(super) fn stderr(error: &str) -> &str {
    let said = error.split("git stderr:\n").nth(1).unwrap_or(error);
    let after = |mark| said.lines().find_map(|line| line.strip_prefix(mark));
    after("ssh: ")
        .or_else(|| after("fatal: "))
        .or_else(|| said.lines().next())
        .unwrap_or(said)
}
