//! The JSON of images and indexes, read as Go reads it: what is null counts as absent, and what is absent as
//! empty (<https://pkg.go.dev/encoding/json#Unmarshal>). Most of what writes such documents is written in Go,
//! where an empty list is null: BuildKit gives an image without layers `"layers": null`.
//!
//! What is of the wrong type is an error that names the field.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// Reads a document. The error says which field is wrong.
pub fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let found = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        match path.as_str() {
            "." | "?" => error.inner().to_string(),
            path => format!("{path}: {}", error.inner()),
        }
    })?;
    reader.end().map_err(|error| error.to_string())?;
    Ok(found)
}

/// The value; its empty form where null stands.
pub(super) fn given<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// What is written as an object alone: by itself, serde takes a list for one, too.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for Entries<T> {
            type Value = T;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(serde::de::value::MapAccessDeserializer::new(map))
            }
        }
        let entries = Entries(std::marker::PhantomData);
        deserializer.deserialize_map(entries).map(Self)
    }
}

/// An object; an empty one where null stands.
fn object<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    maybe(deserializer).map(Option::unwrap_or_default)
}

/// An object; none where null stands.
fn maybe<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let found: Option<Object<T>> = Option::deserialize(deserializer)?;
    Ok(found.map(|object| object.0))
}

/// A list of objects, of which null ones are empty.
fn listed<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let all: Option<Vec<Option<Object<T>>>> = Option::deserialize(deserializer)?;
    let all = all.unwrap_or_default().into_iter();
    Ok(all
        .map(|entry| entry.map_or_else(T::default, |object| object.0))
        .collect())
}

/// Texts, of which null ones are empty.
pub(super) fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let texts: Option<Vec<Option<String>>> = Option::deserialize(deserializer)?;
    let texts = texts.unwrap_or_default().into_iter();
    Ok(texts.map(Option::unwrap_or_default).collect())
}

/// Texts by name, of which null ones are empty.
pub(super) fn named<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let texts: Option<BTreeMap<String, Option<String>>> = Option::deserialize(deserializer)?;
    let texts = texts.unwrap_or_default().into_iter();
    Ok(texts
        .map(|(name, text)| (name, text.unwrap_or_default()))
        .collect())
}

/// What points at a manifest, a config or a layer
/// (<https://github.com/opencontainers/image-spec/blob/main/descriptor.md>).
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Descriptor {
    /// What it points at.
    #[serde(deserialize_with = "given")]
    pub media_type: String,
    /// The digest of that; its form is checked by `Descriptor::check`.
    #[serde(deserialize_with = "given")]
    pub digest: String,
    /// Bytes of that.
    #[serde(deserialize_with = "given")]
    pub size: u64,
    /// What kind of artifact, where it is one.
    #[serde(deserialize_with = "given", skip_serializing_if = "String::is_empty")]
    pub artifact_type: String,
    /// For which platform.
    #[serde(deserialize_with = "maybe", skip_serializing_if = "Option::is_none")]
    pub platform: Option<DocumentPlatform>,
    /// Notes.
    #[serde(deserialize_with = "named", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Where else it lies.
    #[serde(deserialize_with = "texts", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
}

/// The platform of a descriptor.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(default)]
pub struct DocumentPlatform {
    /// `linux`
    #[serde(deserialize_with = "given")]
    pub os: String,
    /// `amd64`
    #[serde(deserialize_with = "given")]
    pub architecture: String,
    /// `v7`
    #[serde(deserialize_with = "given", skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl Descriptor {
    /// `os/architecture[/variant]`, where a platform stands.
    pub fn platform(&self) -> Option<String> {
        let platform = self.platform.as_ref()?;
        // Tools that know none write an empty one.
        if platform.os.is_empty() && platform.architecture.is_empty() {
            return None;
        }
        let mut text = format!("{}/{}", platform.os, platform.architecture);
        if !platform.variant.is_empty() {
            text.push('/');
            text.push_str(&platform.variant);
        }
        Some(text)
    }

    /// Fails where the digest is none: it becomes a part of paths and of URLs.
    pub(super) fn check(&self, what: impl std::fmt::Display) -> Result<(), String> {
        if is_digest(&self.digest) {
            return Ok(());
        }
        Err(match self.digest.as_str() {
            "" => format!("{what}: digest missing"),
            digest => format!("{what}: invalid digest {digest:?}"),
        })
    }
}

/// True for what is written as a digest
/// (<https://github.com/opencontainers/image-spec/blob/main/descriptor.md#digests>).
pub fn is_digest(text: &str) -> bool {
    let Some((algorithm, encoded)) = text.split_once(':') else {
        return false;
    };
    let hexadecimal = |length: usize| {
        encoded.len() == length
            && encoded
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    match algorithm {
        "sha256" => hexadecimal(64),
        "sha384" => hexadecimal(96),
        "sha512" => hexadecimal(128),
        _ => {
            let whole = |part: &str| {
                !part.is_empty()
                    && part
                        .bytes()
                        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            };
            algorithm.split(['+', '.', '_', '-']).all(whole)
                && !encoded.is_empty()
                && encoded
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"=_-".contains(&byte))
        }
    }
}

/// An index (<https://github.com/opencontainers/image-spec/blob/main/image-index.md>).
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct IndexDocument {
    /// 2
    #[serde(deserialize_with = "given")]
    pub schema_version: u32,
    /// Its own type.
    #[serde(deserialize_with = "given", skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// What it names.
    #[serde(deserialize_with = "listed")]
    pub manifests: Vec<Descriptor>,
    /// Notes.
    #[serde(deserialize_with = "named", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl IndexDocument {
    /// Reads the bytes of an index.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let Object(index): Object<Self> = read(bytes)?;
        for (at, entry) in index.manifests.iter().enumerate() {
            entry.check(format_args!("entry {} of the index", at + 1))?;
        }
        Ok(index)
    }
}

/// The manifest of one image, or of an artifact
/// (<https://github.com/opencontainers/image-spec/blob/main/manifest.md>).
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct ManifestDocument {
    /// 2
    #[serde(deserialize_with = "given")]
    pub schema_version: u32,
    /// Its own type.
    #[serde(deserialize_with = "given", skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// What kind of artifact, where it is one.
    #[serde(deserialize_with = "given", skip_serializing_if = "String::is_empty")]
    pub artifact_type: String,
    /// The image's config.
    #[serde(deserialize_with = "object")]
    pub config: Descriptor,
    /// Its layers, from the first to the last.
    #[serde(deserialize_with = "listed")]
    pub layers: Vec<Descriptor>,
    /// What it refers to.
    #[serde(deserialize_with = "maybe", skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Notes.
    #[serde(deserialize_with = "named", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl ManifestDocument {
    /// Reads the bytes of a manifest.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let Object(manifest): Object<Self> = read(bytes)?;
        manifest.config.check("its config")?;
        for (at, layer) in manifest.layers.iter().enumerate() {
            layer.check(format_args!("layer {}", at + 1))?;
        }
        Ok(manifest)
    }
}

/// An image's config, as far as it is read, and what runtimes refuse where it is of the wrong type
/// (<https://github.com/opencontainers/image-spec/blob/main/config.md>).
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ConfigDocument {
    pub(super) os: Option<String>,
    pub(super) architecture: Option<String>,
    #[serde(deserialize_with = "given")]
    pub(super) variant: String,
    #[serde(deserialize_with = "object")]
    pub(super) config: RunDocument,
    #[serde(deserialize_with = "object")]
    pub(super) rootfs: RootfsDocument,
    #[serde(deserialize_with = "listed")]
    pub(super) history: Vec<StepDocument>,
}

/// How a container starts.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct RunDocument {
    #[serde(deserialize_with = "given")]
    pub(super) user: String,
    #[serde(deserialize_with = "texts")]
    pub(super) env: Vec<String>,
    #[serde(deserialize_with = "texts")]
    pub(super) entrypoint: Vec<String>,
    #[serde(deserialize_with = "texts")]
    pub(super) cmd: Vec<String>,
    #[serde(deserialize_with = "given")]
    pub(super) working_dir: String,
    #[serde(rename = "ExposedPorts", deserialize_with = "given")]
    _exposed_ports: BTreeMap<String, Option<Nothing>>,
    #[serde(rename = "Volumes", deserialize_with = "given")]
    pub(super) volumes: BTreeMap<String, Option<Nothing>>,
    #[serde(rename = "Labels", deserialize_with = "named")]
    _labels: BTreeMap<String, String>,
    #[serde(rename = "StopSignal", deserialize_with = "given")]
    _stop_signal: String,
}

/// `{}`, whatever it holds.
#[derive(Deserialize)]
pub(super) struct Nothing {}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct RootfsDocument {
    #[serde(deserialize_with = "texts")]
    pub(super) diff_ids: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct StepDocument {
    #[serde(deserialize_with = "given")]
    pub(super) created_by: String,
    #[serde(deserialize_with = "given")]
    pub(super) empty_layer: bool,
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
