//! Why a git server did not say what was asked.

use std::time::Duration;

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
