//! Why a git server did not say what was asked.

use std::time::Duration;

use crate::Remote;

/// What it comes down to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The URL is not one that is spoken.
    Url,
    /// The server has no such repository, or does not show it.
    NotFound,
    /// The repository has no such branch or tag.
    NoRef,
    /// No tag is within the range of versions.
    NoMatch,
    /// The range of versions cannot be read.
    Range,
    /// The credentials are missing, or do not do.
    Denied,
    /// The host key of an ssh server is unknown, or another than known.
    HostKey,
    /// No connection, no answer in time, or a fault of the server: asking again may help.
    Unreachable,
    /// It is asked too often.
    RateLimited,
    /// It leads to another host.
    Redirect,
    /// It does not speak git's protocol.
    Protocol,
}

/// Why a git server did not say what was asked. The words name neither URL nor Secret, and hold nothing of what the
/// server wrote but its status.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
#[error("{said}")]
pub struct Error {
    /// What it comes down to.
    pub kind: Kind,
    /// The cause, for people.
    pub said: String,
    /// How long the server asks to wait.
    pub retry_after: Option<Duration>,
}

impl Error {
    pub(crate) fn new(kind: Kind, said: impl Into<String>) -> Self {
        Self {
            kind,
            said: said.into(),
            retry_after: None,
        }
    }

    pub(crate) fn protocol(said: &str) -> Self {
        Self::new(Kind::Protocol, said)
    }

    pub(crate) fn unreachable(said: impl Into<String>) -> Self {
        Self::new(Kind::Unreachable, said)
    }
}

impl Error {
    /// The thing, the cause and the next step, for people: of this repository, asked with the credentials of this Secret.
    pub fn told(&self, url: &str, secret: Option<&str>) -> String {
        let said = &self.said;
        let ssh = !url.starts_with("http");
        let kind = if ssh { "ssh-auth" } else { "basic-auth" };
        match (self.kind, secret) {
            // The URL is not shown: there may be a password in it.
            (Kind::Url, _) => format!("git.url: {said}"),
            (Kind::Range, _) => format!("git.ref: {said}"),
            (Kind::NotFound, Some(name)) => format!(
                "git repository {url} not found: check git.url, and whether the credentials in Secret {name} may read it"
            ),
            (Kind::NotFound, None) => format!(
                "git repository {url} not found: check git.url; a private repository needs git.secretRef"
            ),
            (Kind::NoRef, _) => format!("git repository {url}: {said}: check git.ref"),
            (Kind::NoMatch, _) => {
                format!("git repository {url}: {said}: push such a tag, or change git.ref")
            }
            (Kind::Denied, Some(name)) => format!(
                "access to git repository {url} is denied with the credentials in Secret {name}: {said}: check that they are \
                valid, may read it, and are of type kubernetes.io/{kind}"
            ),
            (Kind::Denied, None) => format!(
                "authentication required for git repository {url}: {said}: name a Secret of type kubernetes.io/{kind} in git.secretRef"
            ),
            (Kind::HostKey, name) => {
                let host = Remote::parse(url)
                    .map(|remote| remote.host())
                    .unwrap_or_default();
                let host = host.rsplit_once(':').map_or("", |(host, _)| host);
                format!(
                    "git repository {url}: {said}: add the output of `ssh-keyscan {host}` to key known_hosts of Secret {}, after \
                    checking it",
                    name.unwrap_or_default(),
                )
            }
            (Kind::Unreachable, _) if said.contains("invalid peer certificate") => format!(
                "git repository {url} cannot be read: its server's certificate is not trusted: {said}: set its CA in caRef of the \
                Builder (caBundle of the chart, for all namespaces); retrying"
            ),
            (Kind::Unreachable, _) => {
                format!("git repository {url} cannot be read: {said}; retrying")
            }
            (Kind::RateLimited, _) => {
                format!("git repository {url}: rate limit exceeded: {said}; retrying later")
            }
            (Kind::Redirect, _) => {
                format!("git repository {url}: {said}: write the URL that git clones in git.url")
            }
            (Kind::Protocol, _) => format!("git repository {url}: {said}: check git.url"),
        }
    }
}
