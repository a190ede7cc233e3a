//! Failures of the build's git source.

use super::registry::{Fault, fault};
use super::{Again, Case, Finding, outside, submodule};
use crate::buildctl::whole_ref;
use crate::near;
use crate::near::Near;
use whittle_api::{FailureReason, GitRef, GitSource};

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
        let git = self.request.inputs.source.git.as_ref()?;
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
                "the builder's keys have just been renewed, and it could not decrypt the \
                    credentials of git repository {url}: retrying with the new ones"
            );
            return Some((FailureReason::BuilderLost, message, Again::Later));
        }
        if let Some(finding) = submodule::finding(git, self.error, &DENIED) {
            return Some(finding);
        }
        let not_found = |message: String| Some((FailureReason::SourceNotFound, message, Again::No));
        let no_head = lower.contains("could not find default branch for repository");
        if no_head || lower.contains("does not contain ref ") {
            let log = self.failed.as_ref().map_or(&[][..], |step| &step.log);
            let near = near::told(log.iter().map(String::as_str));
            return not_found(no_ref(git, &near));
        }
        if lower.contains("invalid subdir ") || lower.contains("failed to open subdir ") {
            let folder = git.sub_path.as_deref().unwrap_or_default();
            return not_found(format!(
                "directory {folder} not found in git repository {url} at {}: check git.subPath",
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
                "{} not found in git repository {url}, or its server does not allow fetching it: check git.ref.commit",
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
        if outside::is_untrusted(said) {
            let message = format!(
                "git repository {url} cannot be read: its server's certificate is not trusted: {said}: set its CA in {}",
                outside::CA_FIELD
            );
            return Some((FailureReason::SourceUnreachable, message, Again::No));
        }
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

/// What to say where the ref is not there.
fn no_ref(git: &GitSource, near: &Near) -> String {
    let url = &git.url;
    let names = match near {
        Near::Empty => {
            return format!("git repository {url} is empty: push a commit to it");
        }
        Near::Names(names) => names,
    };
    let wanted = whole_ref(git);
    let what = match &git.reference {
        Some(_) => format!("has no {}", reference(git)),
        None => "has a HEAD that points to a missing branch".to_owned(),
    };
    let hint = match names.split_first() {
        None => "check git.ref".to_owned(),
        Some((first, rest)) => {
            let rest: String = rest
                .iter()
                .map(|name| format!(", or {}", near::named(name)))
                .collect();
            let is_tag = |name: &str| name.starts_with("refs/tags/");
            let as_asked = wanted
                .as_deref()
                .is_some_and(|name| is_tag(name) == is_tag(first));
            let fix = match (as_asked, is_tag(first)) {
                (true, _) => "Check git.ref",
                (_, true) => "Use git.ref.tag",
                _ => "Use git.ref.branch",
            };
            format!("did you mean {}{rest}? {fix}", near::named(first))
        }
    };
    let name = wanted.as_deref().and_then(|name| name.rsplit('/').next());
    let like_commit = name.is_some_and(|name| {
        (7..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_hexdigit())
    });
    let commit = match like_commit {
        true => "; for a commit use git.ref.commit, with all 40 digits",
        false => "",
    };
    format!("git repository {url} {what}: {hint}{commit}")
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
            commit: Some(name), ..
        }) => format!("commit {name}"),
        Some(GitRef {
            branch: Some(name), ..
        }) => format!("branch \"{name}\""),
        Some(GitRef {
            tag: Some(name), ..
        }) => format!("tag \"{name}\""),
        _ => "HEAD".into(),
    }
}

fn denied(git: &GitSource, said: &str) -> String {
    let url = &git.url;
    let ssh = !url.starts_with("http");
    if said.contains("host key verification failed") {
        return format!(
            "host key verification failed: the host key of the git server of {url} has changed \
                or is not in known_hosts: check known_hosts in the Secret of git.secretRef"
        );
    }
    match &git.secret_ref {
        None => format!(
            "authentication required for git repository {url}: name a Secret of type \
                kubernetes.io/{} in git.secretRef",
            if ssh { "ssh-auth" } else { "basic-auth" }
        ),
        Some(secret) => format!(
            "access to git repository {url} is denied with the credentials in Secret {}: check \
                that they are valid, may read it, and are of type kubernetes.io/{}",
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

#[cfg(test)]
mod tests {
    use super::*;

    fn source(branch: Option<&str>, tag: Option<&str>) -> GitSource {
        let reference = GitRef {
            branch: branch.map(Into::into),
            tag: tag.map(Into::into),
            commit: None,
            ..GitRef::default()
        };
        GitSource {
            url: "https://h/x.git".into(),
            reference: (reference != GitRef::default()).then_some(reference),
            sub_path: None,
            secret_ref: None,
        }
    }

    fn told(git: &GitSource, lines: &[&str]) -> String {
        no_ref(git, &near::told(lines.iter().copied()))
    }

    #[test]
    fn what_is_near_to_a_ref_that_is_not_there_is_named_with_its_field() {
        let main = [
            "near by name: refs/heads/main",
            "near by name: refs/tags/main-1",
        ];
        assert_eq!(
            told(&source(Some("mian"), None), &main),
            "git repository https://h/x.git has no branch \"mian\": did you mean branch \"main\", or tag \"main-1\"? Check git.ref"
        );
        assert_eq!(
            told(&source(Some("v1"), None), &["near by name: refs/tags/v1"]),
            "git repository https://h/x.git has no branch \"v1\": did you mean tag \"v1\"? Use \
                git.ref.tag"
        );
        assert_eq!(
            told(&source(None, Some("main")), &main[..1]),
            "git repository https://h/x.git has no tag \"main\": did you mean branch \"main\"? \
                Use git.ref.branch"
        );
        assert_eq!(
            told(&source(None, None), &main[..1]),
            "git repository https://h/x.git has a HEAD that points to a missing branch: did you \
                mean branch \"main\"? Use git.ref.branch"
        );
        assert_eq!(
            told(
                &source(None, None),
                &["the repository has no branch and no tag"]
            ),
            "git repository https://h/x.git is empty: push a commit to it"
        );
    }

    #[test]
    fn a_commit_that_was_given_as_a_branch_is_told_where_it_belongs() {
        assert_eq!(
            told(&source(Some("837dd14"), None), &[]),
            "git repository https://h/x.git has no branch \"837dd14\": check git.ref; for a \
                commit use git.ref.commit, with all 40 digits"
        );
    }
}
