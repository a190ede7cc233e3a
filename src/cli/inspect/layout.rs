//! An OCI layout, in a folder or a tar
//! (<https://github.com/opencontainers/image-spec/blob/main/image-layout.md>).

use std::collections::BTreeSet;
use std::io::Read;

use super::error::InspectError;
use super::files::Files;
use super::manifest::{Document, ImageDocument, MANIFEST_LIMIT, image, read, verify};
use super::source::{Pointed, same_name};
use whittle_image::{
    Descriptor, Entry, Image, ImageConfig, IndexDocument, LayerSource, Limits, ManifestError,
    is_digest,
};

/// What marks a layout.
pub(super) const MARK: &str = "oci-layout";
/// What it has, by tag.
const INDEX: &str = "index.json";
/// The tag of an image.
const TAG: &str = "org.opencontainers.image.ref.name";
/// The whole name of an image, as containerd and BuildKit write it.
const NAME: &str = "io.containerd.image.name";
/// Marks attestations within an index.
const ATTESTATION: &str = "vnd.docker.reference.type";

/// An OCI layout.
pub(crate) struct Layout {
    files: Files,
    /// Which of its images.
    name: Option<String>,
}

impl Layout {
    /// True where the files are laid out so.
    pub(super) fn is(files: &Files) -> bool {
        files.has(MARK) && files.has(INDEX)
    }

    /// True for a layout whose index names no image: what Docker 25 saved where it had no manifest to save.
    pub(super) fn is_empty(files: &mut Files) -> Result<bool, InspectError> {
        let Some(bytes) = files.read(INDEX, MANIFEST_LIMIT)? else {
            return Ok(true);
        };
        let index = IndexDocument::parse(&bytes).map_err(ManifestError::Malformed)?;
        Ok(index.manifests.iter().all(attests))
    }

    /// A layout; nothing is read yet. `name`: a tag, a whole name or a digest.
    pub(super) fn new(files: Files, name: Option<String>) -> Self {
        Self { files, name }
    }

    /// What the layout's index, or the name in it, points at.
    pub(super) fn pointed(&mut self) -> Result<Pointed, InspectError> {
        let Some(bytes) = self.files.read(INDEX, MANIFEST_LIMIT)? else {
            return Err(self.refuse(format!("{INDEX} not found: not an OCI layout")));
        };
        let index = IndexDocument::parse(&bytes).map_err(ManifestError::Malformed)?;
        let all: Vec<&Descriptor> = index.manifests.iter().filter(|d| !attests(d)).collect();
        let mut found: Vec<&Descriptor> = match &self.name {
            None => all.clone(),
            Some(name) => all.iter().copied().filter(|d| is_called(d, name)).collect(),
        };
        // Several names of one image are no question.
        let mut seen = BTreeSet::new();
        found.retain(|descriptor| seen.insert(&descriptor.digest));
        let mut names: Vec<String> = all.iter().flat_map(|d| names(d)).collect();
        names.sort();
        names.dedup();
        match (&found[..], &self.name) {
            ([], Some(name)) if names.is_empty() => Err(self.refuse(format!(
                "image {name} not found: its images have no names, so omit the name, or write @ \
                    and a digest"
            ))),
            ([], Some(name)) => Err(self.refuse(format!(
                "image {name} not found; it has {}",
                names.join(", ")
            ))),
            ([], None) => Err(InspectError::EmptyIndex),
            ([one], _) => {
                let digest = one.digest.clone();
                let pointed = match read(&self.manifest(&digest, None)?)? {
                    Document::Image(document) => Pointed::One { digest, document },
                    Document::Index(entries) => Pointed::Many {
                        digest: Some(digest),
                        entries: self.present(entries),
                    },
                };
                Ok(pointed)
            }
            // One image for each platform, without an index of its own.
            (several, _) if several.iter().all(|d| names_of(d) == names_of(several[0])) => {
                let entries = several.iter().map(|descriptor| Entry {
                    platform: descriptor.platform(),
                    digest: descriptor.digest.clone(),
                });
                let entries = entries.collect();
                Ok(Pointed::Many {
                    digest: None,
                    entries: self.present(entries),
                })
            }
            _ => Err(InspectError::Ambiguous {
                there: names,
                how: "the tag behind the path, as in oci:PATH:TAG",
            }),
        }
    }

    /// The manifest of an index's entry.
    pub(super) fn image(&mut self, entry: &Entry) -> Result<ImageDocument, InspectError> {
        let bytes = self.manifest(&entry.digest, entry.platform.as_deref())?;
        image(&bytes, &entry.digest)
    }

    /// An image's config.
    pub(super) fn config(&mut self, document: &ImageDocument) -> Result<ImageConfig, InspectError> {
        Ok(ImageConfig::parse(&self.config_bytes(document)?)?)
    }

    /// The bytes of an image's config.
    pub(super) fn config_bytes(
        &mut self,
        document: &ImageDocument,
    ) -> Result<Vec<u8>, InspectError> {
        self.blob(&document.config, "config", ImageConfig::LIMIT)
    }

    /// The files of an image.
    pub(super) fn read_layers(
        &mut self,
        document: &ImageDocument,
        config: &ImageConfig,
        limits: Limits,
    ) -> Result<Image, InspectError> {
        let mut image = Image::new(limits);
        let sources = LayerSource::all(&document.layers, config)?;
        for (index, source) in sources.iter().enumerate() {
            image.add_layer(self.layer(document, index)?, source)?;
        }
        Ok(image)
    }

    /// The bytes of the layer with this number, from 0.
    pub(super) fn layer(
        &mut self,
        document: &ImageDocument,
        index: usize,
    ) -> Result<Box<dyn Read + '_>, InspectError> {
        let digest = document.layers.get(index).map(|layer| &layer.digest[..]);
        let digest = digest.unwrap_or_default();
        let path = path_of(digest)?;
        if !self.files.has(&path) {
            return Err(self.missing_layer(document, index + 1, digest));
        }
        match self.files.stream(&path)? {
            Some(opened) => Ok(opened.bytes),
            None => Ok(Box::new(std::io::empty())),
        }
    }

    /// The index with this digest.
    pub(super) fn index(&mut self, digest: &str) -> Result<Vec<u8>, InspectError> {
        self.blob(digest, "index", MANIFEST_LIMIT)
    }

    fn missing_layer(&self, document: &ImageDocument, layer: usize, digest: &str) -> InspectError {
        let foreign = document.foreign.iter().find(|(number, _)| *number == layer);
        match foreign {
            Some((_, url)) => InspectError::Foreign {
                layer,
                url: url.clone(),
            },
            None => self.refuse(format!("layer {layer} not found: {digest}")),
        }
    }

    /// The entries whose manifests are there: `docker save` of one platform keeps the whole index. All of
    /// them where none is there, so that the error names one.
    fn present(&self, entries: Vec<Entry>) -> Vec<Entry> {
        let there = |entry: &&Entry| path_of(&entry.digest).is_ok_and(|path| self.files.has(&path));
        let present: Vec<Entry> = entries.iter().filter(there).cloned().collect();
        if present.is_empty() { entries } else { present }
    }

    fn manifest(&mut self, digest: &str, platform: Option<&str>) -> Result<Vec<u8>, InspectError> {
        let what = match platform {
            Some(platform) => format!("manifest for {platform}"),
            None => "manifest".into(),
        };
        self.blob(digest, &what, MANIFEST_LIMIT)
    }

    fn blob(&mut self, digest: &str, what: &str, most: u64) -> Result<Vec<u8>, InspectError> {
        let Some(bytes) = self.files.read(&path_of(digest)?, most)? else {
            return Err(self.refuse(format!("{what} not found: {digest}")));
        };
        verify(&bytes, digest, &format!("the {what}"))?;
        Ok(bytes)
    }

    fn refuse(&self, why: String) -> InspectError {
        InspectError::NoImage {
            path: self.files.path().to_owned(),
            why,
        }
    }
}

/// Where a blob lies. What is no digest could lead anywhere.
fn path_of(digest: &str) -> Result<String, InspectError> {
    match digest.split_once(':') {
        Some((algorithm, digits)) if is_digest(digest) => Ok(format!("blobs/{algorithm}/{digits}")),
        _ => Err(InspectError::UnknownDigest(digest.to_owned())),
    }
}

fn attests(descriptor: &Descriptor) -> bool {
    annotation(descriptor, ATTESTATION).is_some()
}

fn annotation<'a>(descriptor: &'a Descriptor, key: &str) -> Option<&'a str> {
    descriptor.annotations.get(key).map(String::as_str)
}

/// The tag and the whole name of an image.
fn names_of(descriptor: &Descriptor) -> (Option<&str>, Option<&str>) {
    (annotation(descriptor, TAG), annotation(descriptor, NAME))
}

/// By what an image can be asked for.
fn names(descriptor: &Descriptor) -> Option<String> {
    let (tag, name) = names_of(descriptor);
    tag.or(name).map(str::to_owned)
}

fn is_called(descriptor: &Descriptor, asked: &str) -> bool {
    let (tag, name) = names_of(descriptor);
    tag == Some(asked)
        || descriptor.digest == asked
        || [tag, name]
            .into_iter()
            .flatten()
            .any(|name| same_name(name, asked))
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
