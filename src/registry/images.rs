//! An image in a registry, from what names it to what it holds: manifest, config, layers, contents, each checked
//! against its digest. It is read in no other way.

use super::layers::read_image;
use super::referrers::{artifact, attached};
use super::{Client, RegistryError};
use whittle_image::{
    ConfigError, Contents, Entry, ImageConfig, ImageReport, Layer, LayerCount, LayerError, Limits,
    Manifest, ManifestError, REPORT_TYPE, Reference, digest_of, parse, verify,
};

/// The largest report that is read, in bytes: ours have at most about one MiB.
const REPORT_LIMIT: u64 = 16 << 20;

/// Why an image could not be read.
#[derive(thiserror::Error, Debug)]
pub enum ReadError {
    /// The registry did not give it.
    #[error("{0}")]
    Registry(#[from] RegistryError),
    /// Its manifest is none, or another.
    #[error("{0}")]
    Manifest(#[from] ManifestError),
    /// An index stands where an image should; its digest.
    #[error("invalid index: it contains another index, {0}")]
    Nested(String),
    /// Its config is none.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// Its layers are none, or damaged.
    #[error("{0}")]
    Layer(#[from] LayerError),
    /// The manifest and the config do not belong together.
    #[error("{0}")]
    Mismatch(#[from] LayerCount),
}

/// What a reference or a digest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pointed {
    /// One platform's image.
    Image(PlatformManifest),
    /// Images for several platforms.
    Index {
        /// The digest of the index.
        digest: String,
        /// The index itself.
        bytes: Vec<u8>,
        /// Its images.
        entries: Vec<Entry>,
    },
}

impl Pointed {
    /// The bytes of the manifest or the index.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Image(manifest) => &manifest.bytes,
            Self::Index { bytes, .. } => bytes,
        }
    }

    fn read(digest: String, bytes: Vec<u8>) -> Result<Self, ReadError> {
        Ok(match parse(&bytes)? {
            Manifest::Image {
                size,
                config,
                layers,
            } => Self::Image(PlatformManifest {
                digest,
                bytes,
                size,
                config,
                layers,
            }),
            Manifest::Index(entries) => Self::Index {
                digest,
                bytes,
                entries,
            },
        })
    }
}

/// One platform's manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformManifest {
    /// Its digest.
    pub digest: String,
    /// Itself.
    pub bytes: Vec<u8>,
    /// Bytes of config and layers, as stored.
    pub size: i64,
    /// Digest of the config.
    pub config: String,
    /// Its layers, from the first to the last.
    pub layers: Vec<Layer>,
}

impl Client {
    /// The bytes of a manifest or index with this digest.
    pub async fn manifest_of(&self, digest: &str) -> Result<Vec<u8>, ReadError> {
        let bytes = self.manifest(digest).await?;
        verify(&bytes, digest)?;
        Ok(bytes)
    }

    /// What a reference names: by its digest, or, where it has none, by its tag.
    pub async fn pointed(&self, reference: &Reference) -> Result<Pointed, ReadError> {
        if let Some(digest) = &reference.digest {
            return self.pointed_at(digest).await;
        }
        let bytes = self.manifest(reference.wanted()).await?;
        Pointed::read(digest_of(&bytes), bytes)
    }

    /// What a digest names.
    pub async fn pointed_at(&self, digest: &str) -> Result<Pointed, ReadError> {
        Pointed::read(digest.to_owned(), self.manifest_of(digest).await?)
    }

    /// The image that an index names by this digest.
    pub async fn platform_manifest(&self, digest: &str) -> Result<PlatformManifest, ReadError> {
        match self.pointed_at(digest).await? {
            Pointed::Image(manifest) => Ok(manifest),
            Pointed::Index { digest, .. } => Err(ReadError::Nested(digest)),
        }
    }

    /// The config with this digest.
    pub async fn image_config(&self, digest: &str) -> Result<ImageConfig, ReadError> {
        Ok(ImageConfig::parse(
            &self.blob(digest, ImageConfig::LIMIT).await?,
        )?)
    }

    /// What an image of these layers holds. `now`: seconds since 1970. Takes up to 64 MiB of memory.
    pub async fn contents(
        &self,
        layers: &[Layer],
        config: &ImageConfig,
        now: i64,
    ) -> Result<Contents, ReadError> {
        let image = read_image(self, layers, config, Limits::default()).await?;
        Ok(Contents::of(&image, config, now))
    }

    /// What the report says that was put beside the image with this digest, where there is one.
    pub async fn report(&self, digest: &str) -> Result<Option<Contents>, RegistryError> {
        let bytes = attached(self, digest, REPORT_TYPE, REPORT_LIMIT).await?;
        let report = bytes.and_then(|bytes| serde_json::from_slice::<ImageReport>(&bytes).ok());
        // A report of something else is none of this image.
        Ok(report
            .filter(|report| report.digest == digest)
            .map(|report| report.contents))
    }

    /// What the report with the digest `report` says of the image with the digest `image`: nothing else that lies beside
    /// the image is taken for it.
    pub async fn report_at(&self, report: &str, image: &str) -> Result<Contents, RegistryError> {
        let broken = |why: String| RegistryError::Other(format!("report {report}: {why}"));
        let bytes = artifact(self, report, REPORT_LIMIT).await?;
        let bytes = bytes.ok_or_else(|| broken("it is empty".into()))?;
        let found: ImageReport = serde_json::from_slice(&bytes)
            .map_err(|error| broken(format!("it is invalid: {error}")))?;
        if found.digest != image {
            return Err(broken(format!(
                "it is about another image, {}",
                found.digest
            )));
        }
        Ok(found.contents)
    }
}

#[cfg(test)]
#[path = "images_tests.rs"]
mod tests;
