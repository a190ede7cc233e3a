//! Failures of a git source's submodules. Whoever writes the repository writes their URLs: they are strangers' words.

use super::registry::{Fault, fault};
use super::{Again, Finding};
use crate::buildctl::server;
use whittle_api::{FailureReason, GitSource, bounded};
use whittle_image::text::words;

/// Bytes of a path, and of a URL, in a sentence.
const NAME: usize = 200;

/// The submodule that could not be had.
#[derive(Debug, Default, PartialEq, Eq)]
struct Lost {
    /// Where it lies in the source.
    path: String,
    /// Where it comes from, as `.gitmodules` and the repository's own URL make it.
    url: String,
    /// Why, in git's words.
    said: String,
    /// The commit that the repository names, where that is what is missing.
    commit: Option<String>,
    /// There is no URL for it.
    no_url: bool,
}

/// What to say where it was a submodule that could not be had; `error`: what buildctl says at its end.
pub(super) fn finding(git: &GitSource, error: &str, denied: &[&str]) -> Option<Finding> {
    let lost = lost(error)?;
    let (reason, why, again) = why(git, &lost, denied);
    let from = match lost.url.as_str() {
        "" => String::new(),
        url => format!(" ({})", shown(url)),
    };
    let path = shown(&lost.path);
    let source = &git.url;
    let message = format!("submodule {path}{from} of git repository {source}: {why}");
    Some((reason, message, again))
}

fn why(git: &GitSource, lost: &Lost, denied: &[&str]) -> (FailureReason, String, Again) {
    use FailureReason::{SourceDenied, SourceNotFound, SourceUnreachable};
    let refused = |why: String| (SourceDenied, why, Again::No);
    let missing = |why: String| (SourceNotFound, why, Again::No);
    if lost.no_url {
        return missing(
            "URL missing in .gitmodules: add it there (git submodule add), or remove the entry from the repository \
             (git rm --cached)"
                .into(),
        );
    }
    if let Some(commit) = &lost.commit {
        let commit = shown(commit);
        return missing(format!(
            "commit {commit} not found, to which the repository points: push that commit there, or point the \
             repository to an existing one"
        ));
    }
    let lower = lost.said.to_lowercase();
    let own = server(&git.url);
    let (source_http, http) = (is_http(&git.url), is_http(&lost.url));
    let open = http || lost.url.starts_with("git://") || lost.url.is_empty();
    if !open && ssh_host(&lost.url).is_none() {
        return missing(
            "unsupported URL: use an https URL in .gitmodules, or a relative one such as ../lib.git"
                .into(),
        );
    }
    if let Some(host) = ssh_host(&lost.url)
        && source_http
    {
        let host = shown(host);
        return refused(format!(
            "SSH key missing, because the source is not read over SSH: use its https URL on {host} or a relative one \
             such as ../lib.git in .gitmodules, or read the source over SSH, with a Secret of type \
             kubernetes.io/ssh-auth"
        ));
    }
    if let Some(host) = ssh_host(&lost.url)
        && lower.contains("host key verification failed")
    {
        let host = shown(host);
        return refused(format!(
            "host key verification failed: its server's host key is missing from known_hosts of \
                the Secret of git.secretRef, or has changed: add the output of `ssh-keyscan \
                {host}`, after checking it"
        ));
    }
    let server_denies = ["returned error: 401", "returned error: 403"];
    if server_denies
        .iter()
        .chain(denied)
        .any(|it| lower.contains(it))
    {
        return refused(no_credentials(git, lost, &own, http));
    }
    if lower.contains("not found") || lower.contains("returned error: 404") {
        return missing(match (&git.secret_ref, !http || server(&lost.url) == own) {
            (Some(secret), true) => format!(
                "not found: check its URL in .gitmodules, and whether the credentials in Secret \
                    {} may read it",
                secret.name
            ),
            (None, true) => {
                "not found: check its URL in .gitmodules; a private one needs git.secretRef".into()
            }
            (_, false) => "not found: check its URL in .gitmodules".into(),
        });
    }
    let said = bounded(words(&lost.said), 2 * NAME);
    let busy = lower.contains("returned error: 5") || lower.contains("returned error: 429");
    if busy || fault(&lost.said) == Fault::Away {
        let why = format!("unreachable: {said}");
        return (SourceUnreachable, why, Again::Later);
    }
    missing(format!("cannot be read: {said}"))
}

/// Why credentials do not serve, or which there should be.
fn no_credentials(git: &GitSource, lost: &Lost, own: &str, http: bool) -> String {
    let source_http = is_http(&git.url);
    if http && server(&lost.url) != own {
        let relative = if source_http {
            own
        } else {
            "the server of the source"
        };
        return format!(
            "authentication required, and it is on another server than the source (scheme, host and port count): the \
             credentials of git.secretRef are never sent to another server. Make it public, or keep a copy of it on \
             {relative} and use that URL in .gitmodules"
        );
    }
    match &git.secret_ref {
        Some(secret) => format!(
            "access denied with the credentials in Secret {}: they must be allowed to read the \
                submodule too",
            secret.name
        ),
        None => format!(
            "authentication required: name a Secret of type kubernetes.io/{} in git.secretRef \
                that may read it",
            if source_http {
                "basic-auth"
            } else {
                "ssh-auth"
            }
        ),
    }
}

/// Reads what git says: <https://github.com/git/git/blob/v2.39.5/builtin/submodule--helper.c>.
fn lost(error: &str) -> Option<Lost> {
    let (_, said) = error.split_once("failed to update submodules for ")?;
    let said = said
        .split_once("git stderr:\n")
        .map_or(said, |(_, said)| said);
    let between = |line: &str, before: &str, after: &str| {
        let (_, rest) = line.split_once(before)?;
        rest.split_once(after).map(|(text, _)| text.to_owned())
    };
    let find =
        |before: &str, after: &str| said.lines().find_map(|line| between(line, before, after));
    if let Some(path) = find("No url found for submodule path '", "' in .gitmodules") {
        return Some(Lost {
            path,
            no_url: true,
            ..Lost::default()
        });
    }
    // Of each: its URL, and its path from the source's root.
    let registered: Vec<(String, String)> = said
        .lines()
        .filter_map(|line| {
            let (_, rest) = line.strip_prefix("Submodule '")?.split_once("' (")?;
            let (url, rest) = rest.split_once(") registered for path '")?;
            Some((url.to_owned(), rest.trim_end_matches('\'').to_owned()))
        })
        .collect();
    if let Some(path) = find("Fetched in submodule path '", "', but it did not contain ") {
        let url = registered.iter().rev().find(|(_, at)| *at == path);
        return Some(Lost {
            url: url.map(|(url, _)| url.clone()).unwrap_or_default(),
            commit: find("', but it did not contain ", ". Direct fetching"),
            path,
            ..Lost::default()
        });
    }
    let url = find("clone of '", "' into submodule path '");
    let url = url.or_else(|| registered.last().map(|(url, _)| url.clone()));
    let own = find("Failed to clone '", "'").unwrap_or_default();
    let path = registered
        .iter()
        .rev()
        .find(|(from, _)| Some(from) == url.as_ref())
        .map_or(own, |(_, path)| path.clone());
    let why = |line: &&str| {
        let begins = |with: &str| line.starts_with(with);
        let consequence = begins("fatal: clone of ")
            || begins("fatal: Failed to recurse")
            || begins("fatal: Could not read from remote repository");
        (begins("fatal: ")
            || begins("ssh: ")
            || line.contains("ermission denied")
            || begins("Host key"))
            && !consequence
    };
    let cause = said.lines().find(why).or_else(|| said.lines().next());
    let cause = cause.unwrap_or_default();
    Some(Lost {
        path: if path.is_empty() {
            "(unnamed)".into()
        } else {
            path
        },
        url: url.unwrap_or_default(),
        said: cause.strip_prefix("fatal: ").unwrap_or(cause).to_owned(),
        ..Lost::default()
    })
}

fn is_http(url: &str) -> bool {
    let lower = url.to_ascii_lowercase();
    lower.starts_with("https://") || lower.starts_with("http://")
}

/// The host of `ssh://user@host:port/path` or `user@host:path`.
fn ssh_host(url: &str) -> Option<&str> {
    let place = match url.split_once("://") {
        Some((scheme, place)) if scheme.to_ascii_lowercase().contains("ssh") => place,
        Some(_) => return None,
        // As git has it: a colon before the first slash. Two of them name a helper.
        None => {
            let (host, path) = url.split_once(':')?;
            Some(host).filter(|host| !host.contains('/') && !path.starts_with(':'))?
        }
    };
    let authority = place.split('/').next()?;
    let host = authority.rsplit('@').next()?;
    Some(host.split(':').next().unwrap_or(host))
}

/// A stranger's word in a sentence: cut, and without a password that a URL may have.
fn shown(text: &str) -> String {
    let plain = match text.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            match authority.rsplit_once('@') {
                Some((user, host)) if user.contains(':') || is_http(text) => {
                    format!("{scheme}://{host}{path}")
                }
                _ => text.to_owned(),
            }
        }
        None => text.to_owned(),
    };
    bounded(words(&plain), NAME)
}

#[cfg(test)]
#[path = "submodule_tests.rs"]
mod tests;
