//! Config, manifest and index of the smaller image.

use serde_json::{Map, Value, json};

use super::Packed;
use crate::document::{Descriptor, IndexDocument, ManifestDocument, Object, read};
use crate::reach::Reach;
use crate::{Image, OCI_INDEX, OCI_MANIFEST, digest_of};

/// Names the full image, by its digest.
pub const FROM_LABEL: &str = "whittle.dev/minimized-from";
/// Media type of a layer (<https://github.com/opencontainers/image-spec/blob/main/layer.md>).
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// Media type of a config.
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// What was left out, for the history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Files that stay and files that went.
    pub files: (u64, u64),
    /// Bytes that went, unpacked.
    pub bytes: u64,
}

impl LeftOut {
    /// Of what is reached.
    pub fn of(image: &Image, reach: &Reach) -> Self {
        let (kept, gone) = reach.tally(image);
        Self {
            files: (kept.files, gone.files),
            bytes: gone.bytes,
        }
    }
}

/// The documents of one platform's smaller image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smaller {
    /// The config.
    pub config: Vec<u8>,
    /// The manifest.
    pub manifest: Vec<u8>,
    /// The layers that the manifest names.
    pub layers: Vec<Packed>,
}

impl Smaller {
    /// Of the full image's config and manifest and the layers that were written. `full`: digest of that manifest.
    pub fn of(
        config: &[u8],
        manifest: &[u8],
        full: &str,
        [runtime, application]: [Packed; 2],
        left: LeftOut,
    ) -> Result<Self, String> {
        let Object(mut document): Object<Map<String, Value>> = read_object(config)?;
        let said = format!(
            "whittle minimize: {} of {} files stay, {} bytes of {full} are left out",
            left.files.0,
            left.files.0 + left.files.1,
            left.bytes
        );
        let both = [(runtime, "base and packages"), (application, "application")];
        let layers: Vec<(Packed, &str)> = both
            .into_iter()
            .filter(|(layer, _)| layer.entries > 0)
            .collect();
        let history: Vec<Value> = layers
            .iter()
            .map(|(_, name)| json!({"created_by": format!("{said} ({name})")}))
            .collect();
        let diff_ids: Vec<&str> = layers
            .iter()
            .map(|(layer, _)| layer.diff_id.as_str())
            .collect();
        document.insert(
            "rootfs".into(),
            json!({"type": "layers", "diff_ids": diff_ids}),
        );
        document.insert("history".into(), Value::Array(history));
        let run = document.entry("config").or_insert_with(|| json!({}));
        if !run.is_object() {
            *run = json!({});
        }
        let labels = run
            .as_object_mut()
            .ok_or("config: not an object")?
            .entry("Labels")
            .or_insert_with(|| json!({}));
        if !labels.is_object() {
            *labels = json!({});
        }
        if let Some(labels) = labels.as_object_mut() {
            labels.insert(FROM_LABEL.into(), Value::String(full.to_owned()));
        }
        let config = serde_json::to_vec(&document).map_err(|error| error.to_string())?;
        let before = ManifestDocument::parse(manifest)?;
        let manifest = ManifestDocument {
            schema_version: 2,
            media_type: OCI_MANIFEST.into(),
            config: Descriptor {
                media_type: CONFIG.into(),
                digest: digest_of(&config),
                size: config.len() as u64,
                ..Descriptor::default()
            },
            layers: layers
                .iter()
                .map(|(layer, _)| Descriptor {
                    media_type: LAYER.into(),
                    digest: layer.digest.clone(),
                    size: layer.size,
                    ..Descriptor::default()
                })
                .collect(),
            annotations: before.annotations,
            ..ManifestDocument::default()
        };
        Ok(Self {
            config,
            manifest: serde_json::to_vec(&manifest).map_err(|error| error.to_string())?,
            layers: layers.into_iter().map(|(layer, _)| layer).collect(),
        })
    }
}

fn read_object(bytes: &[u8]) -> Result<Object<Map<String, Value>>, String> {
    read(bytes)
}

/// The index of the full image with the smaller images in the places of the full ones: (digest of the full one, manifest of the
/// smaller one). What is no image (attestations of the full ones) is left out.
pub fn index(full: &[u8], smaller: &[(String, Vec<u8>)]) -> Result<Vec<u8>, String> {
    let before = IndexDocument::parse(full)?;
    let manifests = before
        .manifests
        .into_iter()
        .filter_map(|entry| {
            let (_, manifest) = smaller.iter().find(|(digest, _)| *digest == entry.digest)?;
            Some(Descriptor {
                media_type: OCI_MANIFEST.into(),
                digest: digest_of(manifest),
                size: manifest.len() as u64,
                ..entry
            })
        })
        .collect();
    let index = IndexDocument {
        schema_version: 2,
        media_type: OCI_INDEX.into(),
        manifests,
        annotations: before.annotations,
    };
    serde_json::to_vec(&index).map_err(|error| error.to_string())
}
