//! What `docker save` writes, in a tar or unpacked
//! (<https://github.com/moby/moby/blob/master/image/spec/spec.md#combined-image-json--filesystem-changeset-format>).

use std::collections::BTreeSet;
use std::io::Read;

use serde::Deserialize;

use super::error::{InspectError, file};
use super::files::Files;
use super::source::same_name;
use whittle_image::{
    Compression, Contents, Image, ImageConfig, LayerCount, LayerSource, Limits, ManifestError,
    digest_of, read,
};

/// What it has.
const MANIFEST: &str = "manifest.json";
/// The most that is read of it, in bytes.
const LIMIT: u64 = 4 << 20;

/// What `docker save` wrote.
pub(crate) struct Archive {
    files: Files,
    /// Which of its images.
    name: Option<String>,
}

/// One of its images.
#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// An image whose config was read.
#[derive(Clone)]
pub(crate) struct Opened {
    saved: Saved,
    /// The image's ID: the digest of its config.
    pub(super) id: String,
    /// Its config.
    pub(super) config: ImageConfig,
    /// Bytes of config and layers, as they stand in the tar.
    pub(super) size: i64,
    /// True where layers are not compressed: Docker writes them so, other tools do not.
    pub(super) uncompressed: bool,
}

impl Archive {
    /// True where the files are laid out so.
    pub(super) fn is(files: &Files) -> bool {
        files.has(MANIFEST)
    }

    /// An archive; nothing is read yet. `name`: a name with a tag, or the image's ID.
    pub(super) fn new(files: Files, name: Option<String>) -> Self {
        Self { files, name }
    }

    /// The image that is meant.
    pub(super) fn open(&mut self) -> Result<Opened, InspectError> {
        let Some(bytes) = self.files.read(MANIFEST, LIMIT)? else {
            return Err(self.refuse(format!(
                "{MANIFEST} not found: not the output of `docker save`"
            )));
        };
        let all: Vec<Saved> = read::<Option<_>>(&bytes)
            .map_err(ManifestError::Malformed)?
            .unwrap_or_default();
        let mut names: Vec<String> = all.iter().flat_map(Saved::names).collect();
        names.sort();
        names.dedup();
        let mut found: Vec<&Saved> = match &self.name {
            None => all.iter().collect(),
            Some(asked) => all.iter().filter(|saved| saved.is_called(asked)).collect(),
        };
        // Several names of one image are no question: one config has one list of layers.
        let mut seen = BTreeSet::new();
        found.retain(|saved| seen.insert(&saved.config));
        let saved = match (&found[..], &self.name) {
            ([one], _) => (*one).clone(),
            ([], None) => return Err(InspectError::EmptyIndex),
            ([], Some(asked)) => {
                return Err(self.refuse(format!(
                    "image {asked} not found; it has {}",
                    names.join(", ")
                )));
            }
            _ => {
                return Err(InspectError::Ambiguous {
                    there: names,
                    how: "the name behind the path, as in docker-archive:PATH:NAME:TAG",
                });
            }
        };
        self.read(saved)
    }

    fn read(&mut self, saved: Saved) -> Result<Opened, InspectError> {
        let Some(bytes) = self.files.read(&saved.config, ImageConfig::LIMIT)? else {
            return Err(self.refuse(format!("config {} not found", saved.config)));
        };
        let id = digest_of(&bytes);
        // The name is the digest, unless another tool than Docker wrote it.
        if let Some(digits) = saved.digits()
            && !id.ends_with(digits)
        {
            return Err(InspectError::WrongDigest {
                what: "the config".into(),
                expected: format!("sha256:{digits}"),
                actual: id,
            });
        }
        let config = ImageConfig::parse(&bytes)?;
        let layers = saved.layers();
        if layers.len() != config.diff_ids.len() {
            return Err(InspectError::LayerCount(LayerCount {
                manifest: layers.len(),
                config: config.diff_ids.len(),
            }));
        }
        let mut size = bytes.len() as u64;
        for (index, layer) in layers.iter().enumerate() {
            match self.files.size(layer) {
                Some(bytes) => size = size.saturating_add(bytes),
                None => return Err(self.missing(index + 1, layer)),
            }
        }
        let uncompressed = match layers.first() {
            Some(first) => !self.is_compressed(first)?,
            None => false,
        };
        Ok(Opened {
            saved,
            id,
            uncompressed,
            config,
            size: i64::try_from(size).unwrap_or(i64::MAX),
        })
    }

    /// True for a compressed layer, by its first bytes.
    fn is_compressed(&mut self, layer: &str) -> Result<bool, InspectError> {
        let path = self.files.path().to_owned();
        let mut start = Vec::with_capacity(4);
        if let Some(opened) = self.files.stream(layer)? {
            opened
                .bytes
                .take(4)
                .read_to_end(&mut start)
                .map_err(file(&path))?;
        }
        Ok(Compression::sniff(&start) != Compression::None)
    }

    /// The bytes of the image's config.
    pub(super) fn config_bytes(&mut self, opened: &Opened) -> Result<Vec<u8>, InspectError> {
        let bytes = self.files.read(&opened.saved.config, ImageConfig::LIMIT)?;
        let bytes = bytes.unwrap_or_default();
        match digest_of(&bytes) {
            actual if actual == opened.id => Ok(bytes),
            actual => Err(InspectError::WrongDigest {
                what: "the config".into(),
                expected: opened.id.clone(),
                actual,
            }),
        }
    }

    /// What the image holds. `now`: seconds since 1970.
    pub(super) fn contents(&mut self, opened: &Opened, now: i64) -> Result<Contents, InspectError> {
        let image = self.read_layers(opened, Limits::default())?;
        Ok(Contents::of(&image, &opened.config, now))
    }

    /// The files of the image.
    pub(super) fn read_layers(
        &mut self,
        opened: &Opened,
        limits: Limits,
    ) -> Result<Image, InspectError> {
        let mut image = Image::new(limits);
        for (index, source) in self.sources(opened)?.iter().enumerate() {
            image.add_layer(self.layer(opened, index)?, source)?;
        }
        Ok(image)
    }

    /// What is known of the layers before they are read.
    pub(super) fn sources(&self, opened: &Opened) -> Result<Vec<LayerSource>, InspectError> {
        let layers = opened.saved.layers().iter().zip(&opened.config.diff_ids);
        let source = |(index, (layer, diff_id)): (usize, (&String, &String))| {
            let size = self.files.size(layer);
            Ok(LayerSource {
                size: Some(size.ok_or_else(|| self.missing(index + 1, layer))?),
                diff_id: Some(diff_id.clone()),
                ..LayerSource::default()
            })
        };
        layers.enumerate().map(source).collect()
    }

    /// The bytes of the layer with this number, from 0.
    pub(super) fn layer(
        &mut self,
        opened: &Opened,
        index: usize,
    ) -> Result<Box<dyn Read + '_>, InspectError> {
        let layers = opened.saved.layers();
        let name = layers.get(index).map(String::as_str).unwrap_or_default();
        if !self.files.has(name) {
            return Err(self.missing(index + 1, name));
        }
        match self.files.stream(name)? {
            Some(file) => Ok(file.bytes),
            None => Ok(Box::new(std::io::empty())),
        }
    }

    fn missing(&self, number: usize, layer: &str) -> InspectError {
        self.refuse(format!("layer {number} not found: {layer}"))
    }

    fn refuse(&self, why: String) -> InspectError {
        InspectError::NoImage {
            path: self.files.path().to_owned(),
            why,
        }
    }
}

impl Saved {
    fn layers(&self) -> &[String] {
        self.layers.as_deref().unwrap_or_default()
    }

    fn names(&self) -> Vec<String> {
        match self.repo_tags.as_deref() {
            None | Some([]) => vec![match self.digits() {
                Some(digits) => format!("sha256:{digits}"),
                None => self.config.clone(),
            }],
            Some(names) => names.to_vec(),
        }
    }

    /// The digest in the config's name: `HEX.json`, or `blobs/sha256/HEX`.
    fn digits(&self) -> Option<&str> {
        let name = self.config.rsplit('/').next()?;
        let digits = name.strip_suffix(".json").unwrap_or(name);
        let is_digest = digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        is_digest.then_some(digits)
    }

    fn is_called(&self, asked: &str) -> bool {
        let id = asked.strip_prefix("sha256:").unwrap_or(asked);
        self.digits() == Some(id) || self.names().iter().any(|name| same_name(name, asked))
    }
}

#[cfg(test)]
#[path = "docker_tests.rs"]
mod tests;
