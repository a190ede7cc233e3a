//! Why an image cannot be inspected.

use std::io;
use std::path::PathBuf;

use whittle_image::{ConfigError, LayerCount, LayerError, ManifestError};
use whittle_registry::{ConfigFault, RegistryError};

/// Why an image cannot be inspected. The messages say what to do next, where something can be done.
#[derive(thiserror::Error, Debug)]
pub enum InspectError {
    /// The argument names no image.
    #[error("{0}")]
    Name(String),
    /// A daemon does not have the image.
    #[error("{0}")]
    Absent(String),
    /// The same rule twice.
    #[error("the rule {0} is in both --enforce and --warn: name it once")]
    RuleTwice(&'static str),
    /// The image that is compared with, and why it cannot be.
    #[error("{image}, to compare with: {cause}")]
    Against {
        /// Which one.
        image: String,
        /// What is wrong with it.
        cause: Box<InspectError>,
    },
    /// A file or folder cannot be read.
    #[error("{}: {cause}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// A path that holds no image.
    #[error("{}: {why}", path.display())]
    NoImage {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A file with credentials that is none.
    #[error("invalid credentials file {}: {why}", path.display())]
    Credentials {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        why: ConfigFault,
    },
    /// The file of --ca.
    #[error("{}: no PEM certificate found", path.display())]
    Certificates {
        /// Which one.
        path: PathBuf,
    },
    /// The registry did not answer as it should.
    #[error("{0}{1}")]
    Registry(RegistryError, Hint),
    /// A manifest or an index that is none.
    #[error("{0}")]
    Manifest(#[from] ManifestError),
    /// A config that is none.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// A layer that cannot be read.
    #[error("{0}")]
    Layer(#[from] LayerError),
    /// Bytes with another digest than was asked for.
    #[error(
        "{what}: digest mismatch: expected {expected}, got {actual}: it is corrupted or was replaced"
    )]
    WrongDigest {
        /// The manifest, the config, …
        what: String,
        /// What was asked for.
        expected: String,
        /// What the bytes have.
        actual: String,
    },
    /// A digest that is not written as one, or of an algorithm that is not known.
    #[error("unsupported digest {0}: neither sha256 nor sha512")]
    UnknownDigest(String),
    /// Something else than a container image.
    #[error("not a container image: this is {0}")]
    Artifact(String),
    /// An index that leads to an index.
    #[error(
        "invalid index: it contains another index, {0}: inspect that one by its digest, or push \
            an index of images"
    )]
    NestedIndex(String),
    /// An index without images.
    #[error("no image found in the index")]
    EmptyIndex,
    /// An index without the platform that was asked for.
    #[error("no image found for {asked}; available: {}", listed(there))]
    NoPlatform {
        /// What was asked for.
        asked: String,
        /// What there is.
        there: Vec<String>,
    },
    /// More than one image, and nothing said about which.
    #[error("several images found: choose one of {}, with {how}", listed(there))]
    Ambiguous {
        /// What there is.
        there: Vec<String>,
        /// How one is named.
        how: &'static str,
    },
    /// Another number of layers than the config has.
    #[error("{0}")]
    LayerCount(#[from] LayerCount),
    /// A layer that lies somewhere else.
    #[error(
        "layer {layer} is a foreign layer, stored at {url} and not with the image, which is \
            unsupported: copy the image with such layers, for example with `crane copy \
            --allow-nondistributable-artifacts`"
    )]
    Foreign {
        /// Which layer, from 1.
        layer: usize,
        /// Where it lies.
        url: String,
    },
}

/// What most likely helps against a registry's error; nothing where that is not known.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Hint(pub Option<String>);

impl std::fmt::Display for Hint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(text) => write!(f, ": {text}"),
            None => Ok(()),
        }
    }
}

/// At most this many names stand in a message.
const NAMED: usize = 20;

fn listed(names: &[String]) -> String {
    let mut text = names[..names.len().min(NAMED)].join(", ");
    if names.len() > NAMED {
        text.push_str(&format!(" and {} more", names.len() - NAMED));
    }
    text
}

/// The file that was meant, and what the system says.
pub(crate) fn file(path: &std::path::Path) -> impl FnOnce(io::Error) -> InspectError {
    let path = path.to_owned();
    move |cause| InspectError::File { path, cause }
}
