//! Pure: the bytes of manifests and indexes → digests, platforms and sizes.
//!
//! Both the OCI and the Docker form are read
//! (<https://github.com/opencontainers/image-spec/blob/main/manifest.md>,
//! <https://distribution.github.io/distribution/spec/manifest-v2-2/>).

mod blocks;
mod certificates;
mod config;
mod contents;
mod contract;
mod difference;
mod directory;
mod document;
mod elf;
mod facts;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixtures;
mod inspect;
mod installed;
mod joined;
mod layer;
mod libraries;
mod limits;
pub mod map;
mod mentions;
mod opened;
pub mod packed;
mod platform;
#[cfg(test)]
mod pod_tests;
pub mod reach;
mod reference;
mod registry_key;
mod report;
mod resolve;
mod script;
#[cfg(test)]
mod seeds;
pub mod shell;
mod size;
pub mod smaller;
pub mod stage;
mod start;
pub mod text;
#[cfg(test)]
mod toolchain_tests;
mod tree;
mod user;

pub use blocks::Blocks;
pub use certificates::Certificates;
pub use config::{ConfigError, DEFAULT_PATH, ImageConfig};
pub use contents::{
    Base, CaCertificates, CommandForm, Contents, Executable, Fault, FolderLink, LayerSize, Listed,
    Os, Privileged, ProgramKind, Runs, SizedFile, Start, TimeZones, Tmp, User,
};
pub use contract::{Budget, Finding, Level, Measured, Outcome, Rule, check, judge};
pub use difference::{
    Change, Changed, Difference, LayerShare, PackageChange, Side, Sum, Totals, compare,
};
pub use document::{
    Descriptor, DocumentPlatform, IndexDocument, ManifestDocument, is_digest, read,
};
pub use elf::{Elf, ElfFault, Form, Machine, is_elf, read_elf};
pub use facts::{DEFAULT_CAPABILITIES, Fact};
pub use inspect::is_library_name;
pub use joined::joined;
pub use layer::{
    Compression, Decompressed, Deed, Hasher, Image, Journal, LayerCount, LayerError, LayerFacts,
    LayerSource, Step,
};
pub use libraries::{Libc, MissingLibrary};
pub use limits::{Exceeded, Limits, Note, Notes};
pub use platform::{normal_platform, same_platform};
pub use reference::{Reference, Repository};
pub use registry_key::{Fit, RegistryKey};
pub use report::{ImageReport, REPORT_TYPE};
pub use resolve::{Make, Program, Resolver, Verdict, reason};
pub use size::display_size;
pub use text::bounded;
pub use tree::{Kind, Lookup, Meta, NodeId, Tree};
pub use user::{Identity, Passwd};

use serde::Deserialize;
use sha2::{Digest, Sha256};

/// Media type of an OCI index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of an OCI manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of Docker's manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Media type of Docker's manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Marks the entries of an index that hold attestations, not images
/// (<https://docs.docker.com/build/metadata/attestations/attestation-storage/>).
const ATTESTATION: &str = "vnd.docker.reference.type";

/// Names the file that a blob of an artifact holds
/// (<https://github.com/opencontainers/image-spec/blob/main/annotations.md>).
const TITLE: &str = "org.opencontainers.image.title";

/// Why bytes are not a manifest that we can read.
#[derive(thiserror::Error, Debug)]
pub enum ManifestError {
    /// Not JSON, or not of the shape that the media type promises.
    #[error("invalid manifest: {0}")]
    Malformed(String),
    /// Neither an image manifest nor an index.
    #[error("unsupported media type {0}: neither an image manifest nor an index")]
    UnknownType(String),
    /// The sizes add up to more than fits.
    #[error("the sizes in the manifest add up to more than 2^63 bytes")]
    TooLarge,
    /// The bytes are not those that were asked for.
    #[error("digest mismatch: the registry answered with {actual}, and {expected} was requested")]
    WrongDigest {
        /// What was asked for.
        expected: String,
        /// What the bytes have.
        actual: String,
    },
    /// A digest of an algorithm that is not known.
    #[error("unsupported digest {0}: neither sha256 nor sha512")]
    UnknownDigest(String),
}

/// A manifest, as far as sizes and platforms go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manifest {
    /// One platform's image.
    Image {
        /// Bytes of config and layers, as stored in the registry.
        size: i64,
        /// Digest of the config.
        config: String,
        /// Its layers, from the first to the last.
        layers: Vec<Layer>,
    },
    /// An index over several platforms; attestations left out.
    Index(Vec<Entry>),
}

/// One layer of an image, or one blob of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its media type, as the manifest states it.
    pub media_type: String,
    /// Digest of its bytes as stored.
    pub digest: String,
    /// Bytes as stored.
    pub size: i64,
    /// The name that `org.opencontainers.image.title` gives it, where it stands for one file.
    pub title: Option<String>,
}

/// One image of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `os/architecture` or `os/architecture/variant`; none where the index does not say.
    pub platform: Option<String>,
    /// Digest of its manifest.
    pub digest: String,
}

/// `sha256:` and 64 hexadecimal digits.
pub fn digest_of(bytes: &[u8]) -> String {
    digest_text(&Sha256::digest(bytes))
}

/// The text of a SHA-256 sum.
pub fn digest_text(sum: &[u8]) -> String {
    let mut text = String::with_capacity(71);
    text.push_str("sha256:");
    for byte in sum {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// Fails where `bytes` do not have the digest `expected`, sha256 or sha512.
pub fn verify(bytes: &[u8], expected: &str) -> Result<(), ManifestError> {
    let Some(mut hash) = Hasher::of(expected) else {
        return Err(ManifestError::UnknownDigest(expected.to_owned()));
    };
    hash.update(bytes);
    let actual = hash.finish();
    if actual == expected {
        return Ok(());
    }
    Err(ManifestError::WrongDigest {
        expected: expected.to_owned(),
        actual,
    })
}

/// The media type of a manifest: its own `mediaType`, or, where it has none, by its shape.
pub fn media_type(bytes: &[u8]) -> Result<String, ManifestError> {
    /// That a field stands there, also with null.
    fn there<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| true)
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        media_type: Option<String>,
        #[serde(default, deserialize_with = "there")]
        config: bool,
        #[serde(default, deserialize_with = "there")]
        manifests: bool,
    }
    let shape: Shape = read(bytes).map_err(ManifestError::Malformed)?;
    match shape.media_type {
        Some(stated) if !stated.is_empty() => Ok(stated),
        _ if shape.manifests => Ok(OCI_INDEX.into()),
        _ if shape.config => Ok(OCI_MANIFEST.into()),
        _ => Err(ManifestError::UnknownType("(none)".into())),
    }
}

/// Reads a manifest or an index.
pub fn parse(bytes: &[u8]) -> Result<Manifest, ManifestError> {
    match media_type(bytes)?.as_str() {
        OCI_INDEX | DOCKER_LIST => {
            let index = IndexDocument::parse(bytes).map_err(ManifestError::Malformed)?;
            let images = index
                .manifests
                .into_iter()
                .filter(|entry| !entry.annotations.contains_key(ATTESTATION));
            Ok(Manifest::Index(
                images
                    .map(|entry| Entry {
                        platform: entry.platform(),
                        digest: entry.digest,
                    })
                    .collect(),
            ))
        }
        OCI_MANIFEST | DOCKER_MANIFEST => {
            let manifest = ManifestDocument::parse(bytes).map_err(ManifestError::Malformed)?;
            let size = manifest
                .layers
                .iter()
                .try_fold(manifest.config.size, |sum, layer| {
                    sum.checked_add(layer.size)
                })
                .and_then(|sum| i64::try_from(sum).ok())
                .ok_or(ManifestError::TooLarge)?;
            Ok(Manifest::Image {
                size,
                config: manifest.config.digest,
                layers: manifest
                    .layers
                    .into_iter()
                    .map(|mut layer| Layer {
                        size: i64::try_from(layer.size).unwrap_or(i64::MAX),
                        title: layer.annotations.remove(TITLE),
                        media_type: layer.media_type,
                        digest: layer.digest,
                    })
                    .collect(),
            })
        }
        other => Err(ManifestError::UnknownType(other.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "sha256:e7821a2ed8b569f64f72d78686c2d8bf3add00eef1ef13639035c83fe7c9f5fc";
    const LAYER: &str = "sha256:104e7df78ddb41b3f7966cbe515d29328fd4c33fe754335a813d8d5e5ae931cb";

    fn manifest(media_type: &str, layers: &[u64]) -> String {
        let layers: Vec<String> = layers
            .iter()
            .map(|size| {
                format!(
                    r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{LAYER}","size":{size}}}"#
                )
            })
            .collect();
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{CONFIG}","size":700}},"layers":[{}]}}"#,
            layers.join(",")
        )
    }

    #[test]
    fn the_size_is_that_of_the_config_and_of_every_layer() {
        for media_type in [OCI_MANIFEST, DOCKER_MANIFEST] {
            assert_eq!(
                parse(manifest(media_type, &[1000, 24]).as_bytes()).unwrap(),
                Manifest::Image {
                    size: 1724,
                    config: CONFIG.into(),
                    layers: [1000, 24]
                        .map(|size| Layer {
                            media_type: "application/vnd.oci.image.layer.v1.tar+gzip".into(),
                            digest: LAYER.into(),
                            size,
                            title: None,
                        })
                        .into(),
                }
            );
        }
    }

    #[test]
    fn an_image_without_layers_has_the_size_of_its_config() {
        assert!(matches!(
            parse(manifest(OCI_MANIFEST, &[]).as_bytes()).unwrap(),
            Manifest::Image { size: 700, .. }
        ));
    }

    #[test]
    fn sizes_that_do_not_fit_are_an_error_and_not_a_wrong_number() {
        assert!(matches!(
            parse(manifest(OCI_MANIFEST, &[u64::MAX]).as_bytes()),
            Err(ManifestError::TooLarge)
        ));
    }

    #[test]
    fn an_index_lists_its_platforms_and_leaves_attestations_out() {
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[
            {{"mediaType":"{OCI_MANIFEST}","digest":"{CONFIG}","size":1,"platform":{{"os":"linux","architecture":"amd64"}}}},
            {{"mediaType":"{OCI_MANIFEST}","digest":"{LAYER}","size":1,"platform":{{"os":"linux","architecture":"arm","variant":"v7"}}}},
            {{"mediaType":"{OCI_MANIFEST}","digest":"{LAYER}","size":1,"platform":{{"os":"unknown","architecture":"unknown"}},
              "annotations":{{"vnd.docker.reference.type":"attestation-manifest"}}}}]}}"#
        );
        assert_eq!(
            parse(index.as_bytes()).unwrap(),
            Manifest::Index(vec![
                Entry {
                    platform: Some("linux/amd64".into()),
                    digest: CONFIG.into()
                },
                Entry {
                    platform: Some("linux/arm/v7".into()),
                    digest: LAYER.into()
                },
            ])
        );
    }

    #[test]
    fn a_manifest_without_a_media_type_is_known_by_its_shape() {
        assert_eq!(
            media_type(br#"{"schemaVersion":2,"manifests":[]}"#).unwrap(),
            OCI_INDEX
        );
        assert_eq!(media_type(br#"{"config":{}}"#).unwrap(), OCI_MANIFEST);
        assert!(matches!(
            media_type(b"{}"),
            Err(ManifestError::UnknownType(_))
        ));
    }

    #[test]
    fn what_is_no_manifest_is_a_typed_error() {
        assert!(matches!(parse(b"<html>"), Err(ManifestError::Malformed(_))));
        assert!(matches!(
            parse(br#"{"mediaType":"text/plain"}"#),
            Err(ManifestError::UnknownType(t)) if t == "text/plain"
        ));
    }

    #[test]
    fn bytes_with_another_digest_are_refused() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest_of(b""), empty);
        verify(b"", empty).unwrap();
        assert!(matches!(
            verify(b"x", empty),
            Err(ManifestError::WrongDigest { .. })
        ));
    }
}
