//! After the push: reads the manifests back, checks and measures them, and moves the tags.

use std::path::Path;

use futures::future::try_join_all;
use oci_spec::image::Descriptor;
use serde::Deserialize;

use crate::api::{Failure, FailureReason, PlatformStatus, Steps};
use crate::image::{
    Manifest, ManifestError, Repository, display_size, media_type, parse, platform_of, verify,
};
use crate::plan::buildctl::registry_ca;
use crate::plan::failure::{Facts, PushFault, plain, push_failure};
use crate::plan::report::Built;
use crate::plan::request::BuildRequest;
use crate::registry::{Client, DockerConfig, Patience, RegistryError, Settings};

/// What buildctl tells of the image that it pushed.
#[derive(Debug)]
pub(super) struct Pushed {
    digest: String,
    platform: Option<String>,
}

/// Reads buildctl's metadata file.
pub(super) fn pushed(request: &BuildRequest, metadata: &Path) -> Result<Pushed, Failure> {
    #[derive(Deserialize)]
    struct Metadata {
        #[serde(rename = "containerimage.digest")]
        digest: String,
        #[serde(rename = "containerimage.descriptor")]
        descriptor: Option<Descriptor>,
    }
    let broken = |error: String| {
        plain(
            FailureReason::BuildFailed,
            format!("buildctl's word on the pushed image is not understood: {error}"),
        )
    };
    let text = std::fs::read(metadata).map_err(|error| broken(error.to_string()))?;
    let metadata: Metadata =
        serde_json::from_slice(&text).map_err(|error| broken(error.to_string()))?;
    let asked = request.platforms.first().map(|platform| platform.0.clone());
    Ok(Pushed {
        platform: metadata.descriptor.as_ref().and_then(platform_of).or(asked),
        digest: metadata.digest,
    })
}

/// Reads back, checks, measures, tags. The result has no revision and no steps yet.
pub(super) async fn finish(
    request: &BuildRequest,
    config: &DockerConfig,
    facts: &Facts,
    image: Pushed,
) -> Result<Built, Failure> {
    let failed = |error: Trouble| error.failure(request, facts);
    let client = client(request, config).map_err(failed)?;
    let bytes = read(&client, &image.digest).await.map_err(failed)?;
    let platforms = platforms(&client, &bytes, &image).await.map_err(failed)?;
    for platform in &platforms {
        let size = display_size(platform.size);
        println!(
            "pushed {} {}@{} {size}",
            platform.platform, request.image, platform.digest
        );
    }
    let media_type = media_type(&bytes).map_err(Trouble::from).map_err(failed)?;
    let tags = request
        .tags
        .iter()
        .map(|tag| client.put_manifest(tag, &media_type, &bytes));
    try_join_all(tags)
        .await
        .map_err(Trouble::from)
        .map_err(failed)?;
    println!(
        "tagged {}@{} {}",
        request.image,
        image.digest,
        request.tags.join(" ")
    );
    Ok(Built {
        digest: image.digest,
        platforms,
        revision: None,
        steps: Steps::default(),
    })
}

#[derive(thiserror::Error, Debug)]
enum Trouble {
    #[error("{0}")]
    Registry(#[from] RegistryError),
    #[error("{0}")]
    Manifest(#[from] ManifestError),
    #[error("the registry has an index within an index, which is no image")]
    Nested,
    #[error("the certificates of the registry's caRef cannot be read: {0}")]
    Certificates(std::io::Error),
}

impl Trouble {
    fn failure(self, request: &BuildRequest, facts: &Facts) -> Failure {
        let said = self.to_string();
        let how = match self {
            Self::Registry(RegistryError::Denied(_)) => PushFault::Denied,
            // What was pushed a moment ago may not be seen everywhere yet.
            Self::Registry(RegistryError::Transient { .. } | RegistryError::NotFound(_)) => {
                PushFault::Away
            }
            Self::Registry(RegistryError::Other(_)) => PushFault::Refused,
            Self::Manifest(_) | Self::Nested | Self::Certificates(_) => {
                return plain(FailureReason::PushFailed, said);
            }
        };
        push_failure(request, facts, how, &said)
    }
}

fn client(request: &BuildRequest, config: &DockerConfig) -> Result<Client, Trouble> {
    let repository = Repository::parse(&request.image);
    let known = request
        .registries
        .iter()
        .find(|registry| registry.host == repository.host);
    let ca = match known.filter(|registry| registry.ca_ref.is_some()) {
        Some(registry) => {
            Some(std::fs::read(registry_ca(&registry.host)).map_err(Trouble::Certificates)?)
        }
        None => None,
    };
    let settings = Settings {
        plain_http: known.map_or_else(|| is_loopback(&repository.host), |r| r.plain_http),
        ca,
        credentials: config.get(&repository.host).cloned(),
        patience: Patience::USUAL,
    };
    Ok(Client::new(repository, settings)?)
}

/// As BuildKit takes it: a registry on this very machine, of which nothing is configured, speaks HTTP.
fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost"
        || name
            .parse()
            .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

async fn read(client: &Client, digest: &str) -> Result<Vec<u8>, Trouble> {
    let bytes = client.manifest(digest).await?;
    verify(&bytes, digest)?;
    Ok(bytes)
}

async fn platforms(
    client: &Client,
    bytes: &[u8],
    image: &Pushed,
) -> Result<Vec<PlatformStatus>, Trouble> {
    let entries = match parse(bytes)? {
        Manifest::Image { size, .. } => {
            return Ok(vec![PlatformStatus {
                platform: image.platform.clone().unwrap_or_else(|| "unknown".into()),
                digest: image.digest.clone(),
                size,
            }]);
        }
        Manifest::Index(entries) => entries,
    };
    try_join_all(entries.into_iter().map(async |entry| {
        let bytes = read(client, &entry.digest).await?;
        let Manifest::Image { size, .. } = parse(&bytes)? else {
            return Err(Trouble::Nested);
        };
        Ok(PlatformStatus {
            platform: entry.platform.unwrap_or_else(|| "unknown".into()),
            digest: entry.digest,
            size,
        })
    }))
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_counts_as_loopback() {
        for (host, expected) in [
            ("localhost:5000", true),
            ("127.0.0.1", true),
            ("registry.example.com:5000", false),
            ("10.0.0.1:5000", false),
        ] {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
    }
}
