//! `ADD` of something from elsewhere: an URL, or a git repository.

use super::outside::CA_FIELD;
use super::registry::{Fault, cause, fault};
use super::{Again, Case, Finding};
use whittle_api::FailureReason;

impl Case<'_> {
    pub(super) fn fetch(&self) -> Option<Finding> {
        let mut words = self.vertex().split_whitespace();
        if !words.next()?.eq_ignore_ascii_case("ADD") {
            return None;
        }
        let urls: Vec<&str> = words.filter(|word| is_remote(word)).collect();
        let what = match urls.as_slice() {
            [] => return None,
            [url] => (*url).to_owned(),
            // BuildKit does not say which.
            several => format!("one of {}", super::listed(several)),
        };
        // Where the error names one of them, it is that one.
        let what = urls
            .iter()
            .find(|url| urls.len() > 1 && self.error.contains(**url))
            .map_or(what, |url| (*url).to_owned());
        let head = format!("{}: ADD {what}", self.place(self.line()));
        self.status(&head)
            .or_else(|| self.mismatch(&head))
            .or_else(|| self.git_of_add(&head))
            .or_else(|| self.network(&head))
    }

    /// `invalid response status 404`
    fn status(&self, head: &str) -> Option<Finding> {
        let (_, rest) = self.error.split_once("invalid response status ")?;
        let status: u16 = rest.get(..3)?.parse().ok()?;
        let name = match status {
            401 => " Unauthorized",
            403 => " Forbidden",
            404 => " Not Found",
            410 => " Gone",
            429 => " Too Many Requests",
            500 => " Internal Server Error",
            502 => " Bad Gateway",
            503 => " Service Unavailable",
            504 => " Gateway Timeout",
            _ => "",
        };
        let said = format!("{head}: the server answered {status}{name}");
        Some(match status {
            401 | 403 | 407 => (
                FailureReason::SourceDenied,
                format!(
                    "{said}: ADD sends no credentials; download it in a RUN with \
                        --mount=type=secret"
                ),
                Again::No,
            ),
            408 | 429 | 500.. => (FailureReason::SourceUnreachable, said, Again::Later),
            _ => (
                FailureReason::CopySourceNotFound,
                format!("{said}: check the URL"),
                Again::No,
            ),
        })
    }

    /// `digest mismatch sha256:GOT: sha256:WANTED`, and of git `expected checksum to match WANTED, got GOT`.
    fn mismatch(&self, head: &str) -> Option<Finding> {
        let file = || {
            let (_, rest) = self.error.split_once("digest mismatch ")?;
            rest.split(": ").next()
        };
        let git = || {
            let (_, rest) = self.error.split_once("expected checksum to match ")?;
            Some(rest.split_once(", got ")?.1)
        };
        let got = file().or_else(git)?;
        Some((
            FailureReason::BuildRejected,
            format!(
                "{head}: checksum mismatch: the file has {got}, not that of --checksum: if the \
                    change is intended, update --checksum"
            ),
            Again::No,
        ))
    }

    fn git_of_add(&self, head: &str) -> Option<Finding> {
        let lower = self.error.to_lowercase();
        if lower.contains("no ssh key ") {
            return Some((
                FailureReason::SourceDenied,
                format!(
                    "{head}: git requires an SSH key, and the build has none: use a git source with \
                        a Secret of type kubernetes.io/ssh-auth (source.git.secretRef)"
                ),
                Again::No,
            ));
        }
        if !lower.contains("git stderr:") && !lower.contains("repository does not contain ref ") {
            return None;
        }
        let said = super::git::stderr(self.error);
        let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        let busy = has(&["returned error: 5", "returned error: 429"]);
        let (reason, fix, again) = if busy || fault(said) == Fault::Away {
            (FailureReason::SourceUnreachable, "", Again::Later)
        } else if super::git::denies(&lower) {
            let fix = ": check its address; a private one needs a Secret in source.git.secretRef, of a source on the \
                        same server";
            (FailureReason::SourceDenied, fix, Again::No)
        } else {
            let fix = ": check its address, and its branch, tag or commit";
            (FailureReason::CopySourceNotFound, fix, Again::No)
        };
        let message = format!("{head}: the git repository cannot be read: {said}{fix}");
        Some((reason, message, again))
    }

    fn network(&self, head: &str) -> Option<Finding> {
        let said = self
            .error
            .rsplit_once("failed to load cache key: ")
            .map_or(self.error, |(_, said)| said);
        match fault(said) {
            Fault::Untrusted => Some((
                FailureReason::BuildFailed,
                format!(
                    "{head}: the certificate is not trusted: {}; set the server's CA in {CA_FIELD}, or download the file in a RUN \
                        that trusts it",
                    cause(said)
                ),
                Again::No,
            )),
            _ if said.contains("first record does not look like a TLS handshake") => Some((
                FailureReason::BuildFailed,
                format!(
                    "{head}: the server does not support TLS: write http:// instead of https://"
                ),
                Again::No,
            )),
            _ if said.ends_with("EOF") => Some((
                FailureReason::SourceUnreachable,
                format!("{head}: connection lost: {said}"),
                Again::Later,
            )),
            Fault::Away => Some((
                FailureReason::SourceUnreachable,
                format!("{head}: unreachable: {}", cause(said)),
                Again::Later,
            )),
            _ => None,
        }
    }
}

/// True for what `ADD` fetches from elsewhere.
fn is_remote(word: &str) -> bool {
    let word = word.trim_matches(['"', '\'', '[', ']', ',']);
    ["http://", "https://", "git://", "ssh://", "git@"]
        .iter()
        .any(|start| word.starts_with(start))
}
