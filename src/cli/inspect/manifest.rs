//! A manifest's bytes: an image, an index of images, or something that is neither.

use super::error::InspectError;
use whittle_image as image;
use whittle_image::{Descriptor, Entry, Layer, ManifestDocument, ManifestError};

/// The most that is read of a manifest, in bytes: what registries take.
pub(super) const MANIFEST_LIMIT: u64 = 4 << 20;

/// Media types of the configs that images have.
const CONFIGS: [&str; 2] = [
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
];

/// What other things call themselves, by the beginning of their type, and what they are.
const KNOWN: [(&str, &str); 8] = [
    ("application/vnd.cncf.helm.", "a Helm chart"),
    ("application/vnd.cncf.flux.", "a Flux artifact"),
    (
        "application/vnd.cyclonedx",
        "a software bill of materials (SBOM)",
    ),
    ("application/spdx", "a software bill of materials (SBOM)"),
    ("application/vnd.dev.cosign.", "a cosign signature"),
    ("application/vnd.dev.sigstore.", "a cosign signature"),
    ("application/vnd.buildkit.cacheconfig.", "a BuildKit cache"),
    ("application/vnd.wasm.", "a WebAssembly module"),
];

/// What a manifest's bytes are.
#[derive(Debug)]
pub(super) enum Document {
    /// One platform's image.
    Image(ImageDocument),
    /// Images for several platforms.
    Index(Vec<Entry>),
}

/// One platform's manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageDocument {
    /// The manifest itself.
    pub(super) bytes: Vec<u8>,
    /// Bytes of config and layers, as stored.
    pub(super) size: i64,
    /// Digest of the config.
    pub(super) config: String,
    /// Its layers, from the first to the last.
    pub(super) layers: Vec<Layer>,
    /// Where layers lie that are not stored with the image: number from 1, and address.
    pub(super) foreign: Vec<(usize, String)>,
}

impl ImageDocument {
    /// True where layers are stored unpacked.
    pub(super) fn is_uncompressed(&self) -> bool {
        let packed = |layer: &Layer| {
            ["gzip", "zstd"]
                .iter()
                .any(|name| layer.media_type.ends_with(name))
        };
        self.layers.iter().any(|layer| !packed(layer))
    }
}

/// Reads a manifest or an index; what is neither an image nor an index of images is an error that says
/// what it is.
pub(super) fn read(bytes: &[u8]) -> Result<Document, InspectError> {
    let (size, config, layers) = match image::parse(bytes)? {
        image::Manifest::Index(entries) => return Ok(Document::Index(entries)),
        image::Manifest::Image {
            size,
            config,
            layers,
        } => (size, config, layers),
    };
    let manifest = ManifestDocument::parse(bytes).map_err(image::ManifestError::Malformed)?;
    let kind = &manifest.config.media_type;
    if !CONFIGS.contains(&kind.as_str()) {
        return Err(InspectError::Artifact(artifact(&manifest)));
    }
    let foreign = manifest.layers.iter().enumerate();
    Ok(Document::Image(ImageDocument {
        bytes: bytes.to_vec(),
        size,
        config,
        layers,
        foreign: foreign
            .filter_map(|(index, layer)| Some((index + 1, elsewhere(layer)?)))
            .collect(),
    }))
}

/// What an artifact is, by its own type or that of its config.
fn artifact(manifest: &ManifestDocument) -> String {
    let stated = match manifest.artifact_type.as_str() {
        "" => &manifest.config.media_type,
        stated => stated,
    };
    match KNOWN.iter().find(|(start, _)| stated.starts_with(start)) {
        Some((_, name)) => format!("{name} ({stated})"),
        None => format!("an artifact of type {stated}"),
    }
}

/// Where a layer lies, if not with the image.
fn elsewhere(layer: &Descriptor) -> Option<String> {
    let kind = &layer.media_type;
    match layer.urls.first() {
        Some(url) => Some(url.clone()),
        None if kind.contains("foreign") || kind.contains("nondistributable") => {
            Some("an unknown address".into())
        }
        None => None,
    }
}

/// Reads the manifest of one platform's image.
pub(super) fn image(bytes: &[u8], digest: &str) -> Result<ImageDocument, InspectError> {
    match read(bytes)? {
        Document::Image(document) => Ok(document),
        Document::Index(_) => Err(InspectError::NestedIndex(digest.to_owned())),
    }
}

/// Fails where `bytes` do not have the digest `expected`, sha256 or sha512. `what`: `the manifest`.
pub(super) fn verify(bytes: &[u8], expected: &str, what: &str) -> Result<(), InspectError> {
    image::verify(bytes, expected).map_err(|error| of(error, what))
}

/// What is wrong with the manifest that is meant.
pub(super) fn of(error: ManifestError, what: &str) -> InspectError {
    match error {
        ManifestError::WrongDigest { expected, actual } => InspectError::WrongDigest {
            what: what.to_owned(),
            expected,
            actual,
        },
        other => InspectError::Manifest(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use whittle_image::{ImageConfig, LayerSource};

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn manifest(config: &str, rest: &str, layer: &str) -> Vec<u8> {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{}"{rest},
            "config":{{"mediaType":"{config}","digest":"{DIGEST}","size":2}},
            "layers":[{{{layer},"digest":"{DIGEST}","size":10}}]}}"#,
            image::OCI_MANIFEST
        )
        .into_bytes()
    }

    const LAYER: &str = r#""mediaType":"application/vnd.oci.image.layer.v1.tar+gzip""#;

    fn said(bytes: &[u8]) -> String {
        read(bytes).unwrap_err().to_string()
    }

    #[test]
    fn an_image_has_what_its_layers_are_read_by() {
        let Document::Image(image) = read(&manifest(CONFIGS[0], "", LAYER)).unwrap() else {
            panic!("an image");
        };
        assert_eq!((image.size, image.foreign.len()), (12, 0));
        let config = |diff_ids| ImageConfig {
            diff_ids,
            ..ImageConfig::default()
        };
        let sources = LayerSource::all(&image.layers, &config(vec!["sha256:d".into()])).unwrap();
        assert_eq!(
            sources,
            [LayerSource {
                media_type: "application/vnd.oci.image.layer.v1.tar+gzip".into(),
                digest: Some(DIGEST.into()),
                size: Some(10),
                diff_id: Some("sha256:d".into()),
            }]
        );
        let error = LayerSource::all(&image.layers, &config(vec![]));
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("1 layers") && error.contains("has 0"),
            "{error}"
        );
    }

    #[test]
    fn an_artifact_is_no_image_and_says_what_it_is() {
        let helm = manifest("application/vnd.cncf.helm.config.v1+json", "", LAYER);
        assert!(said(&helm).contains("a Helm chart (application/vnd.cncf.helm.config.v1+json)"));
        let report = manifest(
            "application/vnd.oci.empty.v1+json",
            r#","artifactType":"application/vnd.example.report""#,
            LAYER,
        );
        let text = said(&report);
        assert!(
            text.contains("an artifact of type application/vnd.example.report"),
            "{text}"
        );
    }

    #[test]
    fn what_is_no_manifest_is_an_error_that_says_so() {
        assert!(said(b"<html>").starts_with("invalid manifest: "));
        let old = br#"{"schemaVersion":1,"mediaType":"application/vnd.docker.distribution.manifest.v1+prettyjws"}"#;
        assert!(said(old).contains("v1+prettyjws: neither an image manifest nor an index"));
    }

    #[test]
    fn a_layer_that_lies_elsewhere_is_known_by_its_address_or_its_type() {
        for (layer, address) in [
            (
                r#""mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                   "urls":["https://go.microsoft.com/x"]"#,
                "https://go.microsoft.com/x",
            ),
            (
                r#""mediaType":"application/vnd.oci.image.layer.nondistributable.v1.tar""#,
                "an unknown address",
            ),
        ] {
            let Document::Image(image) = read(&manifest(CONFIGS[1], "", layer)).unwrap() else {
                panic!("an image");
            };
            assert_eq!(image.foreign, [(1, address.to_owned())]);
        }
    }

    #[test]
    fn bytes_with_another_digest_are_refused_in_both_algorithms() {
        let long = "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce\
                    47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";
        for digest in [DIGEST.to_owned(), format!("sha512:{long}")] {
            verify(b"", &digest, "it").unwrap();
            let text = verify(b"x", &digest, "it").unwrap_err().to_string();
            assert!(
                text.starts_with("it: digest mismatch: expected sha"),
                "{text}"
            );
        }
        assert!(verify(b"", "md5:00", "it").is_err());
    }
}
