//! The smaller images of all platforms, into a registry or into files, from either.

use super::target::{Place, Staging, Target};
use crate::inspect::InspectError;
use crate::inspect::error::Hint;
use crate::inspect::remote::{Connection, Remote};
use crate::inspect::source::{Found, Source};
use whittle_image::reach::Reach;
use whittle_image::smaller::{LeftOut, Packed, Smaller, index, write};
use whittle_image::{
    Descriptor, DocumentPlatform, Image, LayerSource, OCI_INDEX, OCI_MANIFEST, digest_of,
};
use whittle_registry::{Access, SmallerError};

/// What is written to.
pub(super) enum Out {
    /// A tag in a registry.
    Registry(Box<Remote>),
    /// An OCI layout.
    Files(Place, Staging),
}

impl Out {
    /// Prepares it: what exists is not written to.
    pub(super) fn open(target: Target, connection: &Connection) -> Result<Self, InspectError> {
        Ok(match target {
            Target::Registry(reference) => {
                let remote = Remote::with(reference, connection, Access::PullPush)?;
                Self::Registry(Box::new(remote))
            }
            Target::Layout(place) => Self::Files(place.clone(), Staging::new(place)?),
        })
    }

    /// Writes one platform's smaller image, by its digest. The source comes back.
    pub(super) async fn add(
        &mut self,
        source: Source,
        found: &Found,
        image: Image,
        reach: Reach,
    ) -> (Source, Result<Smaller, InspectError>) {
        if let (Source::Remote(from), Self::Registry(to)) = (&source, &*self) {
            let full = found.manifest();
            let client = from.client();
            let smaller = client
                .push_smaller(to.client(), &full, &found.config, image, reach)
                .await;
            let smaller = smaller.map_err(|error| failed(error, to));
            return (source, smaller);
        }
        let left = LeftOut::of(&image, &reach);
        let (mut source, layers) = self.layers(source, found, (image, reach)).await;
        let result = async {
            let layers = layers?;
            let config = source.config_bytes(found).await?;
            let full = found.manifest();
            let smaller = Smaller::of(&config, &full.bytes, &full.digest, layers, left)
                .map_err(InspectError::Name)?;
            match self {
                Self::Registry(to) => {
                    let put = to.client().put_smaller(&smaller).await;
                    put.map_err(|error| to.refused(error))?;
                }
                Self::Files(_, staging) => {
                    staging.put(&smaller.config)?;
                    staging.put(&smaller.manifest)?;
                }
            }
            Ok(smaller)
        };
        let smaller = result.await;
        (source, smaller)
    }

    /// The two layers.
    async fn layers(
        &mut self,
        source: Source,
        found: &Found,
        parts: (Image, Reach),
    ) -> (Source, Result<[Packed; 2], InspectError>) {
        match self {
            Self::Registry(to) => {
                let sources = match source.sources(found) {
                    Ok(sources) => sources,
                    Err(error) => return (source, Err(error)),
                };
                let again = found.again(source);
                let (again, layers) = to.client().push_layers(parts, sources, again).await;
                (again.source, layers.map_err(|error| failed(error, to)))
            }
            Self::Files(_, staging) => match source {
                Source::Remote(from) => {
                    let layers = fetched(staging, &from, found, parts).await;
                    (Source::Remote(from), layers)
                }
                source => match source.sources(found) {
                    Ok(sources) => copied(staging, source, found, &sources, &parts),
                    Err(error) => (source, Err(error)),
                },
            },
        }
    }

    /// Gives the image its name: what it is then called. `index`: that of the full image, where it has several platforms;
    /// `written`: the manifests of the smaller images, each with the digest of the full one.
    pub(super) async fn publish(
        self,
        full: Option<&[u8]>,
        written: Vec<(String, Vec<u8>)>,
        platform: DocumentPlatform,
    ) -> Result<String, InspectError> {
        let (media_type, bytes) = match (full, &written[..]) {
            (Some(full), [_, ..]) => (
                OCI_INDEX,
                index(full, &written).map_err(InspectError::Name)?,
            ),
            (None, [(_, manifest)]) => (OCI_MANIFEST, manifest.clone()),
            _ => return Err(InspectError::Name("nothing was written".into())),
        };
        let digest = digest_of(&bytes);
        match self {
            Self::Registry(to) => {
                let reference = to.reference();
                let tag = reference.tag.as_deref().unwrap_or_default();
                let put = to.client().put_manifest(tag, media_type, &bytes).await;
                put.map_err(|error| InspectError::Registry(error, Hint(None)))?;
                let repository = &reference.repository;
                Ok(format!(
                    "{}/{}:{tag}@{digest}",
                    repository.host, repository.path
                ))
            }
            Self::Files(place, mut staging) => {
                staging.put(&bytes)?;
                staging.finish(Descriptor {
                    media_type: media_type.into(),
                    digest: digest.clone(),
                    size: bytes.len() as u64,
                    platform: (media_type == OCI_MANIFEST).then_some(platform),
                    ..Descriptor::default()
                })?;
                Ok(format!("{}, {digest}", place.shown()))
            }
        }
    }
}

/// From a registry into files.
async fn fetched(
    staging: &mut Staging,
    from: &Remote,
    found: &Found,
    parts: (Image, Reach),
) -> Result<[Packed; 2], InspectError> {
    let sinks = staging.layers()?;
    let client = from.client();
    let written = client
        .write_smaller(&found.manifest(), &found.config, parts, sinks)
        .await;
    let written = written.map_err(|error| failed(error, from))?;
    for (packed, part) in &written {
        staging.take(packed, part)?;
    }
    Ok(written.map(|(packed, _)| packed))
}

/// From files into files.
fn copied(
    staging: &mut Staging,
    source: Source,
    found: &Found,
    sources: &[LayerSource],
    (image, reach): &(Image, Reach),
) -> (Source, Result<[Packed; 2], InspectError>) {
    let mut again = found.again(source);
    let mut result = || {
        let sinks = staging.layers()?;
        let written = write(image, reach, sources, &mut again, sinks)
            .map_err(|error| InspectError::Name(error.to_string()))?;
        for (packed, part) in &written {
            staging.take(packed, part)?;
        }
        Ok(written.map(|(packed, _)| packed))
    };
    let result = result();
    (again.source, result)
}

fn failed(error: SmallerError, remote: &Remote) -> InspectError {
    match error {
        SmallerError::Read(error) => remote.failed(error, "the smaller image"),
        error => InspectError::Name(error.to_string()),
    }
}
