//! The OCI distribution protocol, as far as the operator speaks it: manifests by digest, and tags
//! (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md>).

pub mod answer;
mod auth;
pub mod callback;
mod client;
mod docker_config;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixtures;
mod images;
mod layers;
pub mod layout;
mod mounted;
mod push;
mod referrers;
mod retry;
mod smaller;
mod upload;

pub use auth::Credentials;
pub use client::{Access, Client, Settings};
pub use docker_config::{ConfigFault, DockerConfig};
pub use images::{PlatformManifest, Pointed, ReadError};
pub use mounted::{CONFIG_KEY, LEGACY_KEY, MountFault};
pub use referrers::{EMPTY, EMPTY_TYPE, attach};
pub use retry::Patience;
pub use smaller::SmallerError;

use std::time::Duration;

/// Why a registry did not do what was asked.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum RegistryError {
    /// 401 or 403.
    #[error("{0}")]
    Denied(String),
    /// 404.
    #[error("{0}")]
    NotFound(String),
    /// 429, 5xx, or no connection; asking again may help.
    #[error("{message}")]
    Transient {
        /// What happened.
        message: String,
        /// How long the registry asks to wait.
        retry_after: Option<Duration>,
    },
    /// Anything else; asking again gives the same.
    #[error("{0}")]
    Other(String),
}

/// An error with its causes, each once: reqwest's own text leaves them out.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}
