//! After the push: reads the manifests back, checks and measures them, and moves the tags.

use std::path::Path;

use futures::future::try_join_all;
use serde::Deserialize;

use super::contents;
use crate::buildctl::registry_ca;
use crate::contract;
use crate::contract::Breach;
use crate::failure::{Facts, PushFault, plain, push_failure};
use crate::health::Unhealthy;
use crate::report::keep_largest;
use crate::request::{BuildRequest, Tagging};
use whittle_api::{DebugStatus, Failure, FailureReason, LayerStatus, PlatformStatus};
use whittle_image::{
    ConfigError, Descriptor, ImageConfig, Layer, Manifest, ManifestError, Repository, display_size,
    media_type, parse, verify,
};
use whittle_registry::{
    Access, Client, DockerConfig, Patience, ReadError, RegistryError, Settings,
};

/// The largest config that is read, in bytes.
const CONFIG_LIMIT: u64 = 4 * 1024 * 1024;
/// How many layers of a platform are told.
const LAYERS: usize = 32;

/// What buildctl tells of the image that it pushed.
#[derive(Debug)]
pub(super) struct Pushed {
    pub digest: String,
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
    let asked = request
        .inputs
        .platforms
        .first()
        .map(|platform| platform.0.clone());
    Ok(Pushed {
        platform: metadata
            .descriptor
            .as_ref()
            .and_then(Descriptor::platform)
            .or(asked),
        digest: metadata.digest,
    })
}

/// What stands in the registry, with its tags.
pub(super) struct Published {
    /// Digest of the index, or of the manifest where there is one platform.
    pub digest: String,
    /// Each platform's image.
    pub platforms: Vec<PlatformStatus>,
    /// The image for debugging.
    pub debug: Option<DebugStatus>,
}

/// What an image's contents say.
#[derive(Default)]
pub(super) struct Held {
    /// What of the contract it breaks.
    pub breaches: Vec<Breach>,
    /// Health checks that cannot work in it.
    pub unhealthy: Vec<Unhealthy>,
}

/// What was read back of a pushed image.
struct Checked {
    bytes: Vec<u8>,
    media_type: String,
    platforms: Vec<Stored>,
}

/// One platform's image, as it lies in the registry.
pub(super) struct Stored {
    /// Its manifest, for what refers to it.
    pub manifest: Vec<u8>,
    pub layers: Vec<Layer>,
    pub config: ImageConfig,
    pub status: PlatformStatus,
}

/// Reads back, checks and measures both images, holds the first to its contract, then moves the tags: all
/// of them only once all is well. `held`: what was found on the way, also where that is no failure.
pub(super) async fn finish(
    request: &BuildRequest,
    config: &DockerConfig,
    facts: &Facts,
    (image, debug): (Pushed, Option<Pushed>),
    held: &mut Held,
) -> Result<Published, Failure> {
    let failed = |error: Trouble| error.failure(request, facts);
    let client = client(
        request,
        &Repository::parse(&request.inputs.output.image),
        config,
        true,
    )
    .map_err(failed)?;
    let mut first = check(&client, &image).await.map_err(failed)?;
    for stored in &first.platforms {
        let platform = &stored.status;
        let size = display_size(platform.size);
        println!(
            "pushed {} {}@{} {size}",
            platform.platform, request.inputs.output.image, platform.digest
        );
    }
    let second = match &debug {
        Some(pushed) => Some(check(&client, pushed).await.map_err(failed)?),
        None => None,
    };
    (held.breaches, held.unhealthy) = contents::hold(&client, request, &mut first.platforms)
        .await
        .map_err(failed)?;
    let reference = format!("{}@{}", request.inputs.output.image, image.digest);
    let contract = request.inputs.contract.clone().unwrap_or_default();
    if let Some(failure) = contract::failure(&held.breaches, &contract, &reference) {
        return Err(failure);
    }
    let later = request.tagging == Tagging::Later;
    if !later {
        tag(&client, &first, &image.digest, request, "")
            .await
            .map_err(failed)?;
    }
    let mut status = None;
    if let (Some(checked), Some(pushed), Some(debug)) = (second, debug, &request.inputs.debug) {
        if !later {
            let suffix = &debug.tag_suffix;
            tag(&client, &checked, &pushed.digest, request, suffix)
                .await
                .map_err(failed)?;
        }
        let sizes = checked.platforms.iter().map(|p| p.status.size);
        status = Some(DebugStatus {
            image: format!("{}@{}", request.inputs.output.image, pushed.digest),
            digest: pushed.digest,
            size: sizes.max().unwrap_or(0),
        });
    }
    Ok(Published {
        digest: image.digest,
        platforms: first.platforms.into_iter().map(|p| p.status).collect(),
        debug: status,
    })
}

/// Moves the tags to what an earlier runner has pushed, and the image has shown since that it works.
pub(super) async fn retag(
    request: &BuildRequest,
    config: &DockerConfig,
    facts: &Facts,
    image: &str,
    debug: Option<&str>,
) -> Result<Published, Failure> {
    let failed = |error: Trouble| error.failure(request, facts);
    let client = client(
        request,
        &Repository::parse(&request.inputs.output.image),
        config,
        true,
    )
    .map_err(failed)?;
    let mut images = vec![(image, "")];
    if let (Some(digest), Some(debug)) = (debug, &request.inputs.debug) {
        images.push((digest, debug.tag_suffix.as_str()));
    }
    // Both must be there before any tag moves.
    let mut found = vec![];
    for (digest, suffix) in images {
        let bytes = read(&client, digest).await.map_err(failed)?;
        let media_type = media_type(&bytes).map_err(|error| failed(error.into()))?;
        let platforms = vec![];
        let checked = Checked {
            bytes,
            media_type,
            platforms,
        };
        found.push((checked, digest, suffix));
    }
    for (checked, digest, suffix) in &found {
        tag(&client, checked, digest, request, suffix)
            .await
            .map_err(failed)?;
    }
    Ok(Published {
        digest: image.to_owned(),
        platforms: vec![],
        debug: None,
    })
}

async fn check(client: &Client, image: &Pushed) -> Result<Checked, Trouble> {
    let bytes = read(client, &image.digest).await?;
    Ok(Checked {
        platforms: platforms(client, &bytes, image).await?,
        media_type: media_type(&bytes)?,
        bytes,
    })
}

async fn tag(
    client: &Client,
    image: &Checked,
    digest: &str,
    request: &BuildRequest,
    suffix: &str,
) -> Result<(), Trouble> {
    let tags: Vec<String> = request
        .inputs
        .output
        .tags
        .iter()
        .map(|tag| format!("{tag}{suffix}"))
        .collect();
    let puts = tags
        .iter()
        .map(|tag| client.put_manifest(tag, &image.media_type, &image.bytes));
    try_join_all(puts).await?;
    println!(
        "tagged {}@{digest} {}",
        request.inputs.output.image,
        tags.join(" ")
    );
    Ok(())
}

#[derive(thiserror::Error, Debug)]
pub(super) enum Trouble {
    #[error("{0}")]
    Registry(#[from] RegistryError),
    #[error("{0}")]
    Manifest(#[from] ManifestError),
    #[error("{0}")]
    Config(#[from] ConfigError),
    #[error("the registry has an index within an index, which is no image")]
    Nested,
    /// The layers are not what the manifest says.
    #[error("the pushed image cannot be read back: {0}")]
    Read(ReadError),
    #[error("the certificates of the registry's caRef cannot be read: {0}")]
    Certificates(std::io::Error),
}

impl From<ReadError> for Trouble {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Registry(error) => Self::Registry(error),
            other => Self::Read(other),
        }
    }
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
            Self::Read(_)
            | Self::Manifest(_)
            | Self::Config(_)
            | Self::Nested
            | Self::Certificates(_) => {
                return plain(FailureReason::PushFailed, said);
            }
        };
        push_failure(request, facts, how, &said)
    }
}

/// A client for a repository, as the builder is configured. `fresh`: the build has just pushed to it.
pub(super) fn client(
    request: &BuildRequest,
    repository: &Repository,
    config: &DockerConfig,
    fresh: bool,
) -> Result<Client, Trouble> {
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
        plain_http: known.map_or_else(|| repository.is_loopback(), |r| r.plain_http),
        ca,
        credentials: config.find(repository).cloned(),
        patience: match fresh {
            true => Patience::FRESH,
            false => Patience::USUAL,
        },
        access: Access::PullPush,
    };
    let client = Client::new(repository.clone(), settings)?;
    Ok(if fresh { client.fresh() } else { client })
}

async fn read(client: &Client, digest: &str) -> Result<Vec<u8>, Trouble> {
    let bytes = client.manifest(digest).await?;
    verify(&bytes, digest)?;
    Ok(bytes)
}

async fn platforms(client: &Client, bytes: &[u8], image: &Pushed) -> Result<Vec<Stored>, Trouble> {
    match parse(bytes)? {
        Manifest::Image { .. } => {
            let platform = image.platform.clone();
            let stored = stored(client, platform, &image.digest, bytes.to_vec());
            Ok(vec![stored.await?])
        }
        Manifest::Index(entries) => {
            try_join_all(entries.into_iter().map(async |entry| {
                let bytes = read(client, &entry.digest).await?;
                stored(client, entry.platform, &entry.digest, bytes).await
            }))
            .await
        }
    }
}

async fn stored(
    client: &Client,
    platform: Option<String>,
    digest: &str,
    manifest: Vec<u8>,
) -> Result<Stored, Trouble> {
    let Manifest::Image {
        size,
        config,
        layers,
    } = parse(&manifest)?
    else {
        return Err(Trouble::Nested);
    };
    let config = ImageConfig::parse(&client.blob(&config, CONFIG_LIMIT).await?)?;
    let mut told: Vec<LayerStatus> = layers
        .iter()
        .enumerate()
        .map(|(at, layer)| LayerStatus {
            size: layer.size,
            instruction: config.instructions.get(at).cloned().unwrap_or_default(),
        })
        .collect();
    keep_largest(&mut told, LAYERS);
    Ok(Stored {
        manifest,
        layers,
        config,
        status: PlatformStatus {
            platform: platform.unwrap_or_else(|| "unknown".into()),
            digest: digest.to_owned(),
            size,
            layers: told,
            contents: None,
        },
    })
}
