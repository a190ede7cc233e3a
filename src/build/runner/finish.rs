//! After the push: reads the manifests back, checks and measures them, and moves the tags.

use std::path::Path;
use std::time::Instant;

use futures::future::try_join_all;
use serde::Deserialize;

use super::attempt::milliseconds;
use super::contents;
use super::minimize::{self, Could, Judged, Told};
use crate::contract::{self, Breach};
use crate::failure::{Facts, PushFault, plain, push_failure};
use crate::health::Unhealthy;
use crate::minimized::FullPlatform;
use crate::report::keep_largest;
use crate::request::{BuildRequest, ReportRef, Tagging, Tried};
use whittle_api::{DebugStatus, Failure, FailureReason, LayerStatus, Phases, PlatformStatus};
use whittle_image::{Descriptor, ImageConfig, Repository, display_size, media_type};
use whittle_registry::{
    Access, Client, DockerConfig, Patience, PlatformManifest, Pointed, ReadError, RegistryError,
    Settings,
};

/// How many layers of a platform are told.
const LAYERS: usize = 32;

/// What buildctl tells of the image that it pushed.
#[derive(Clone, Debug)]
pub(super) struct Pushed {
    pub digest: String,
    pub platform: Option<String>,
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
            format!("invalid metadata of the pushed image from buildctl: {error}"),
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
    /// What is told of a smaller image.
    pub smaller: Told,
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
pub(super) struct Checked {
    pub bytes: Vec<u8>,
    pub media_type: String,
    pub platforms: Vec<Stored>,
}

/// One platform's image, as it lies in the registry.
pub(super) struct Stored {
    pub manifest: PlatformManifest,
    pub config: ImageConfig,
    pub status: PlatformStatus,
    /// What of it the program reaches, where that was sought.
    pub could: Option<Could>,
}

/// The config of one platform's image that was just pushed.
pub(super) async fn config_of(
    request: &BuildRequest,
    config: &DockerConfig,
    facts: &Facts,
    digest: &str,
) -> Result<ImageConfig, Failure> {
    let failed = |error: Trouble| error.failure(request, facts);
    let client = of_output(request, config, true).map_err(failed)?;
    let manifest = client.platform_manifest(digest).await;
    let manifest = manifest.map_err(|error| failed(error.into()))?;
    let read = client.image_config(&manifest.config).await;
    read.map_err(|error| failed(error.into()))
}

/// Reads back, checks and measures both images, holds the first to its contract, then moves the tags: all
/// of them only once all is well. `used`: the images that stages start from; `held`: what was found on the way, also
/// where that is no failure; `phases`: how long its parts took.
pub(super) async fn finish(
    request: &BuildRequest,
    config: &DockerConfig,
    facts: &Facts,
    (image, debug): (Pushed, Option<Pushed>),
    used: &[(String, String)],
    held: &mut Held,
    phases: &mut Phases,
) -> Result<Published, Failure> {
    let failed = |error: Trouble| error.failure(request, facts);
    let client = of_output(request, config, true).map_err(failed)?;
    let begun = Instant::now();
    let read = async {
        let first = check(&client, &image).await.map_err(failed)?;
        let second = match &debug {
            Some(pushed) => Some(check(&client, pushed).await.map_err(failed)?),
            None => None,
        };
        Ok((first, second))
    };
    let read = read.await;
    phases.read_back = Some(milliseconds(begun.elapsed()));
    let (mut first, second) = read?;
    for stored in &first.platforms {
        let platform = &stored.status;
        let size = display_size(platform.size);
        request.place.say(&format!(
            "{} {} {}@{} {size}",
            request.place.did(),
            platform.platform,
            request.inputs.output.image,
            platform.digest
        ));
    }
    let begun = Instant::now();
    let sought = minimize::sought(request, config, used, &first.platforms).await;
    let chosen = async {
        let full = Judged {
            held: contents::hold(&client, request, &mut first.platforms, sought.as_ref()).await?,
            pushed: image,
            checked: first,
        };
        minimize::choose(&client, request, full, sought.as_ref()).await
    };
    let chosen = chosen.await;
    phases.check = Some(milliseconds(begun.elapsed()));
    let (chosen, smaller) = chosen.map_err(failed)?;
    let Judged {
        pushed: image,
        checked: first,
        held: judged,
    } = chosen;
    *held = judged;
    let begun = Instant::now();
    let minimized = smaller.minimized.as_ref();
    // One that is tried first is judged once it is smaller.
    if minimized.is_none_or(|it| it.trial.is_none()) {
        judge(request, held, &image.digest)?;
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
    phases.tag = (!later).then(|| milliseconds(begun.elapsed()));
    Ok(Published {
        digest: image.digest,
        platforms: first.platforms.into_iter().map(|p| p.status).collect(),
        debug: status,
        smaller,
    })
}

/// Holds an image to its contract.
fn judge(request: &BuildRequest, held: &Held, digest: &str) -> Result<(), Failure> {
    let reference = format!("{}@{digest}", request.inputs.output.image);
    let contract = request.inputs.contract.clone().unwrap_or_default();
    contract::failure(&held.breaches, &contract, &reference).map_or(Ok(()), Err)
}

/// Makes an image smaller that an earlier runner has pushed, and that was tried since; `held`: what was found on the way.
pub(super) async fn smaller(
    request: &BuildRequest,
    config: &DockerConfig,
    facts: &Facts,
    tried: &Tried,
    held: &mut Held,
) -> Result<Published, Failure> {
    let failed = |error: Trouble| error.failure(request, facts);
    let client = of_output(request, config, true).map_err(failed)?;
    let made = minimize::of_tried(&client, request, tried).await;
    let (judged, smaller) = made.map_err(failed)?;
    *held = judged.held;
    let digest = judged.pushed.digest;
    judge(request, held, &digest)?;
    let platforms = judged.checked.platforms.into_iter();
    Ok(Published {
        digest,
        platforms: platforms.map(|stored| stored.status).collect(),
        debug: None,
        smaller,
    })
}

/// Moves the tags to what an earlier runner has pushed, and the image has shown since that it works.
pub(super) async fn retag(
    request: &BuildRequest,
    config: &DockerConfig,
    facts: &Facts,
    image: &str,
    debug: Option<&str>,
    full: &[FullPlatform],
) -> Result<Published, Failure> {
    let failed = |error: Trouble| error.failure(request, facts);
    let client = of_output(request, config, true).map_err(failed)?;
    let mut found = vec![];
    let mut images = vec![(image, "")];
    if !full.is_empty() {
        let checked = minimize::read_back(&client, request, image, full).await;
        found.push((checked.map_err(failed)?, image, ""));
        images.clear();
    }
    if let (Some(digest), Some(debug)) = (debug, &request.inputs.debug) {
        images.push((digest, debug.tag_suffix.as_str()));
    }
    // Both must be there before any tag moves.
    for (digest, suffix) in images {
        let bytes = client.manifest_of(digest).await;
        let bytes = bytes.map_err(|error| failed(error.into()))?;
        let media_type =
            media_type(&bytes).map_err(|error| failed(ReadError::from(error).into()))?;
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
    let read = found.swap_remove(0).0.platforms;
    Ok(Published {
        digest: image.to_owned(),
        platforms: read.into_iter().map(|stored| stored.status).collect(),
        debug: None,
        smaller: Told::default(),
    })
}

/// Moves the tags back to the image of an earlier build. It is read whole before any of them moves: a registry may have thrown
/// parts of it away.
pub(super) async fn back(
    request: &BuildRequest,
    config: &DockerConfig,
    facts: &Facts,
    image: &str,
    debug: Option<&str>,
) -> Result<Published, Failure> {
    let repository = &request.inputs.output.image;
    let failed = |error: Trouble, digest: &str| match error.is_gone() {
        true => plain(
            FailureReason::ImageNotFound,
            format!(
                "image not found: {repository}@{digest}: {error}: no tag was moved: its registry keeps it no longer, or it was pushed to \
                 another output.image: roll back to another build, or build its revision again"
            ),
        ),
        false => error.failure(request, facts),
    };
    let client = of_output(request, config, false).map_err(|error| failed(error, image))?;
    let known = async |digest: &str| {
        let pushed = Pushed {
            digest: digest.to_owned(),
            platform: None,
        };
        let checked = check(&client, &pushed).await;
        checked.map_err(|error| failed(error, digest))
    };
    let mut first = known(image).await?;
    let read = contents::hold(&client, request, &mut first.platforms, None).await;
    read.map_err(|error| failed(error, image))?;
    let second = match (debug, &request.inputs.debug) {
        (Some(digest), Some(debug)) => Some((known(digest).await?, digest, &debug.tag_suffix)),
        _ => None,
    };
    let moved = tag(&client, &first, image, request, "").await;
    moved.map_err(|error| error.failure(request, facts))?;
    let mut status = None;
    if let Some((checked, digest, suffix)) = second {
        let moved = tag(&client, &checked, digest, request, suffix).await;
        moved.map_err(|error| error.failure(request, facts))?;
        let sizes = checked.platforms.iter().map(|it| it.status.size);
        status = Some(DebugStatus {
            image: format!("{repository}@{digest}"),
            digest: digest.to_owned(),
            size: sizes.max().unwrap_or(0),
        });
    }
    Ok(Published {
        digest: image.to_owned(),
        platforms: first.platforms.into_iter().map(|it| it.status).collect(),
        debug: status,
        smaller: Told::default(),
    })
}

/// What the reports beside an image that an earlier runner has pushed say of it.
pub(super) async fn fetch(
    request: &BuildRequest,
    config: &DockerConfig,
    facts: &Facts,
    image: &str,
    reports: &[ReportRef],
) -> Result<Published, Failure> {
    let failed = |error: Trouble| error.failure(request, facts);
    let client = of_output(request, config, false).map_err(failed)?;
    let mut platforms = vec![];
    for report in reports {
        let contents = contents::fetch(&client, report).await.map_err(failed)?;
        request.place.say(&format!(
            "read the report on {} {}@{}",
            report.platform, request.inputs.output.image, report.digest
        ));
        platforms.push(PlatformStatus {
            platform: report.platform.clone(),
            digest: report.digest.clone(),
            size: report.size,
            solve: None,
            layers: vec![],
            contents: Some(contents),
        });
    }
    Ok(Published {
        digest: image.to_owned(),
        platforms,
        debug: None,
        smaller: Told::default(),
    })
}

/// A client for the repository that the build pushes to. `fresh`: it has just done so.
pub(super) fn of_output(
    request: &BuildRequest,
    config: &DockerConfig,
    fresh: bool,
) -> Result<Client, Trouble> {
    let repository = Repository::parse(&request.inputs.output.image);
    let client = client(request, &repository, config, fresh)?;
    Ok(match &request.place.layout {
        Some(folder) => client.in_layout(folder.clone(), request.inputs.output.image.clone()),
        None => client,
    })
}

pub(super) async fn check(client: &Client, image: &Pushed) -> Result<Checked, Trouble> {
    let pointed = client.pointed_at(&image.digest).await?;
    let bytes = pointed.bytes().to_vec();
    let platforms = match pointed {
        Pointed::Image(manifest) => vec![stored(client, image.platform.clone(), manifest).await?],
        Pointed::Index { entries, .. } => {
            try_join_all(entries.into_iter().map(async |entry| {
                let manifest = client.platform_manifest(&entry.digest).await?;
                stored(client, entry.platform, manifest).await
            }))
            .await?
        }
    };
    Ok(Checked {
        platforms,
        media_type: media_type(&bytes).map_err(ReadError::from)?,
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
    let repository = &request.inputs.output.image;
    let moved = moved(client, &tags, digest, request).await;
    if moved.len() < tags.len() {
        let said = format!("unchanged: tags of {repository} point to {digest} already");
        request.place.say(&said);
    }
    let puts = moved
        .iter()
        .map(|tag| client.put_manifest(tag, &image.media_type, &image.bytes));
    try_join_all(puts).await?;
    if !moved.is_empty() {
        let said = format!("tagged {repository}@{digest} {}", moved.join(" "));
        request.place.say(&said);
    }
    Ok(())
}

/// The tags that do not point to this digest yet: one that is written again looks like a new image to all who watch the
/// registry. Asked for only where the image is one that tags pointed to before.
async fn moved<'a>(
    client: &Client,
    tags: &'a [String],
    digest: &str,
    request: &BuildRequest,
) -> Vec<&'a str> {
    let stands = request.standing.iter().any(|known| known == digest);
    let asked = tags.iter().map(async |tag| {
        // Where it cannot be told, it is written.
        let there = stands && client.digest(tag).await.is_ok_and(|it| it == digest);
        (!there).then_some(tag.as_str())
    });
    let moved = futures::future::join_all(asked).await;
    moved.into_iter().flatten().collect()
}

#[derive(thiserror::Error, Debug)]
pub(super) enum Trouble {
    #[error("{0}")]
    Registry(#[from] RegistryError),
    #[error("{0}")]
    Image(ReadError),
    #[error("the index is empty")]
    Empty,
    /// The layers are not what the manifest says.
    #[error("the pushed image cannot be read back: {0}")]
    Layers(ReadError),
    #[error("cannot read the certificates of the registry's caRef: {0}")]
    Certificates(std::io::Error),
}

impl From<ReadError> for Trouble {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Registry(error) => Self::Registry(error),
            ReadError::Layer(_) | ReadError::Mismatch(_) => Self::Layers(error),
            ReadError::Manifest(_) | ReadError::Nested(_) | ReadError::Config(_) => {
                Self::Image(error)
            }
        }
    }
}

impl Trouble {
    /// True where the registry says that it is not there.
    fn is_gone(&self) -> bool {
        matches!(self, Self::Registry(RegistryError::NotFound(_)))
    }

    pub(super) fn failure(self, request: &BuildRequest, facts: &Facts) -> Failure {
        let said = self.to_string();
        let how = match self {
            Self::Registry(RegistryError::Denied(_)) => PushFault::Denied,
            // What was pushed a moment ago may not be seen everywhere yet.
            Self::Registry(RegistryError::Transient { .. } | RegistryError::NotFound(_)) => {
                PushFault::Away
            }
            Self::Registry(RegistryError::Other(_)) => PushFault::Refused,
            Self::Image(_) | Self::Layers(_) | Self::Empty | Self::Certificates(_) => {
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
            let path = request.place.registry_ca(&registry.host);
            Some(std::fs::read(path).map_err(Trouble::Certificates)?)
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

async fn stored(
    client: &Client,
    platform: Option<String>,
    manifest: PlatformManifest,
) -> Result<Stored, Trouble> {
    let config = client.image_config(&manifest.config).await?;
    let mut told: Vec<LayerStatus> = manifest
        .layers
        .iter()
        .enumerate()
        .map(|(at, layer)| LayerStatus {
            size: layer.size,
            instruction: config.instructions.get(at).cloned().unwrap_or_default(),
        })
        .collect();
    keep_largest(&mut told, LAYERS);
    Ok(Stored {
        status: PlatformStatus {
            platform: platform.unwrap_or_else(|| config.platform()),
            digest: manifest.digest.clone(),
            size: manifest.size,
            solve: None,
            layers: told,
            contents: None,
        },
        could: None,
        manifest,
        config,
    })
}
