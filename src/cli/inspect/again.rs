//! The layers of an image once more, for what writes a smaller one of them.

use std::io::{self, Read};

use super::error::InspectError;
use super::source::{Found, Source, Stored};
use whittle_image::smaller::Layers;
use whittle_image::{
    Descriptor, Image, ImageConfig, IndexDocument, LayerSource, Limits, ManifestDocument,
};
use whittle_registry::PlatformManifest;

impl Source {
    /// The files of an image, for what its program reaches. `base`: how many of its layers are its base's.
    pub(crate) async fn image(&mut self, found: &Found, base: u16) -> Result<Image, InspectError> {
        let limits = Limits {
            reach: Some(base),
            ..Limits::default()
        };
        self.read(found, limits).await
    }

    /// The files of an image, read within these bounds.
    pub(crate) async fn read(
        &mut self,
        found: &Found,
        limits: Limits,
    ) -> Result<Image, InspectError> {
        match (self, &found.stored) {
            (Self::Remote(remote), Stored::Document(document)) => {
                let client = remote.client();
                let image = client.read(&document.layers, &found.config, limits).await;
                image.map_err(|error| remote.unread(error, document))
            }
            (Self::Layout(layout), Stored::Document(document)) => {
                layout.read_layers(document, &found.config, limits)
            }
            (Self::Archive(archive), Stored::Saved(opened)) => archive.read_layers(opened, limits),
            _ => unreachable!("an image is read from where it was found"),
        }
    }

    /// What is known of an image's layers before they are read.
    pub(crate) fn sources(&self, found: &Found) -> Result<Vec<LayerSource>, InspectError> {
        match (self, &found.stored) {
            (Self::Archive(archive), Stored::Saved(opened)) => archive.sources(opened),
            (_, Stored::Document(document)) => {
                Ok(LayerSource::all(&document.layers, &found.config)?)
            }
            _ => unreachable!("an image is read from where it was found"),
        }
    }

    /// The bytes of an image's config.
    pub(crate) async fn config_bytes(&mut self, found: &Found) -> Result<Vec<u8>, InspectError> {
        match (self, &found.stored) {
            (Self::Remote(remote), Stored::Document(document)) => {
                let client = remote.client();
                let bytes = client.blob(&document.config, ImageConfig::LIMIT).await;
                bytes.map_err(|error| remote.refused(error))
            }
            (Self::Layout(layout), Stored::Document(document)) => layout.config_bytes(document),
            (Self::Archive(archive), Stored::Saved(opened)) => archive.config_bytes(opened),
            _ => unreachable!("an image is read from where it was found"),
        }
    }

    /// The bytes of the index with this digest; where there is none, one of these images.
    pub(crate) async fn index(
        &mut self,
        digest: Option<&str>,
        images: &[Found],
    ) -> Result<Vec<u8>, InspectError> {
        match (self, digest) {
            (Self::Remote(remote), Some(digest)) => {
                let bytes = remote.client().manifest_of(digest).await;
                bytes.map_err(|error| remote.failed(error, "the index"))
            }
            (Self::Layout(layout), Some(digest)) => layout.index(digest),
            _ => {
                let index = IndexDocument {
                    schema_version: 2,
                    manifests: images.iter().map(Found::descriptor).collect(),
                    ..IndexDocument::default()
                };
                Ok(serde_json::to_vec(&index).expect("string keys only"))
            }
        }
    }
}

impl Found {
    /// The digest by which the image is known: that of its manifest, or, where it has none, that of its config.
    pub(crate) fn name(&self) -> &str {
        self.digest.as_deref().unwrap_or(&self.id)
    }

    /// What an index says of it.
    pub(crate) fn descriptor(&self) -> Descriptor {
        Descriptor {
            digest: self.name().to_owned(),
            platform: Some(self.config.document_platform()),
            ..Descriptor::default()
        }
    }

    /// Its manifest, as a registry has it; where it has none, one that names its config alone.
    pub(crate) fn manifest(&self) -> PlatformManifest {
        match &self.stored {
            Stored::Document(document) => PlatformManifest {
                digest: self.name().to_owned(),
                bytes: document.bytes.clone(),
                size: document.size,
                config: document.config.clone(),
                layers: document.layers.clone(),
            },
            Stored::Saved(_) => {
                let manifest = ManifestDocument {
                    schema_version: 2,
                    config: Descriptor {
                        digest: self.id.clone(),
                        ..Descriptor::default()
                    },
                    ..ManifestDocument::default()
                };
                PlatformManifest {
                    digest: self.id.clone(),
                    bytes: serde_json::to_vec(&manifest).expect("string keys only"),
                    size: self.size,
                    config: self.id.clone(),
                    layers: Vec::new(),
                }
            }
        }
    }

    /// Its layers, to be read from `source`, which is that where it was found.
    pub(crate) fn again(&self, source: Source) -> Again {
        Again {
            source,
            stored: self.stored.clone(),
        }
    }
}

/// The layers of an image that lies in files.
pub(crate) struct Again {
    pub(crate) source: Source,
    stored: Stored,
}

impl Layers for Again {
    fn open(&mut self, index: usize) -> io::Result<Box<dyn Read + '_>> {
        let opened = match (&mut self.source, &self.stored) {
            (Source::Layout(layout), Stored::Document(document)) => layout.layer(document, index),
            (Source::Archive(archive), Stored::Saved(opened)) => archive.layer(opened, index),
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        opened.map_err(|error| io::Error::other(error.to_string()))
    }
}
