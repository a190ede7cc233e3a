//! Layers, one after the other, to the file tree of the image: whiteouts, opaque directories, hard and
//! symbolic links as a runtime unpacks them, nothing written, memory bounded.
//!
//! Sources: <https://github.com/opencontainers/image-spec/blob/main/layer.md>; where that is silent, what
//! containerd does (pkg/archive/tar.go).

mod apply;
pub(crate) mod archive;
mod decompress;
mod prints;
pub(crate) mod stream;

pub use decompress::{Compression, Decompressed};
pub use prints::{Deed, Journal, Step};
pub use stream::Hasher;

use std::collections::HashMap;
use std::io::{self, BufReader, Read};
use std::sync::Arc;

use archive::{Archive, ArchiveError};
use prints::Prints;
use stream::{State, Unpacked};

use super::facts::{Fact, FileCapabilities};
use super::installed::Package;
use super::limits::{Exceeded, Limits, Notes, size};
use super::mentions::Mentions;
use super::tree::{NodeId, Tree};
use super::{ImageConfig, Layer};

/// Marks what a layer removes.
const WHITEOUT: &[u8] = b".wh.";
/// Marks a directory whose lower contents are hidden.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Begins names that AUFS kept for itself.
const AUFS: &[u8] = b".wh..wh.";
/// Files of this size are always kept, also in a tree that is nearly full.
const ALWAYS_KEPT: u64 = 1 << 20;

/// What a manifest and a config say of one layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerSource {
    /// Media type, as the manifest states it; empty where there is none (a `docker save` tar).
    pub media_type: String,
    /// Digest of the packed bytes, as the manifest states it; not checked where there is none.
    pub digest: Option<String>,
    /// Packed bytes, as the manifest states them.
    pub size: Option<u64>,
    /// Digest of the unpacked tar, as the config states it; not checked where there is none.
    pub diff_id: Option<String>,
}

/// The manifest and the config do not belong together.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
#[error("corrupted image: the manifest has {manifest} layers, and the image's config has {config}")]
pub struct LayerCount {
    /// Layers of the manifest.
    pub manifest: usize,
    /// Layers of the config.
    pub config: usize,
}

impl LayerSource {
    /// The layers of a manifest, each with what the config says of it.
    pub fn all(layers: &[Layer], config: &ImageConfig) -> Result<Vec<Self>, LayerCount> {
        if layers.len() != config.diff_ids.len() {
            return Err(LayerCount {
                manifest: layers.len(),
                config: config.diff_ids.len(),
            });
        }
        let pairs = layers.iter().zip(&config.diff_ids);
        Ok(pairs
            .map(|(layer, diff_id)| Self {
                media_type: layer.media_type.clone(),
                digest: Some(layer.digest.clone()),
                size: u64::try_from(layer.size).ok(),
                diff_id: Some(diff_id.clone()),
            })
            .collect())
    }
}

/// What was read of one layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerFacts {
    /// Digest, where the manifest states one.
    pub digest: Option<String>,
    /// Packed bytes.
    pub packed: u64,
    /// Bytes of the tar.
    pub unpacked: u64,
    /// Bytes of the files that it holds.
    pub content: u64,
    /// Entries of the tar.
    pub entries: u64,
    /// True where all of it was read.
    pub complete: bool,
}

/// Why a layer cannot be read. The number counts from 1.
#[derive(thiserror::Error, Debug)]
pub enum LayerError {
    /// The source failed: the network, mostly. Another try may help.
    #[error("cannot read layer {layer}: {cause}")]
    Read {
        /// Which layer.
        layer: usize,
        /// The source's error.
        cause: io::Error,
    },
    /// It ends early.
    #[error("layer {layer} is truncated: {read} of it could be read{stated}")]
    CutShort {
        /// Which layer.
        layer: usize,
        /// Packed bytes that came, for people.
        read: String,
        /// What the manifest says of its size.
        stated: String,
    },
    /// Its bytes are others than the manifest or the config names.
    #[error(
        "layer {layer} has the wrong {what} ({actual}, and the {source_name} says {expected}): \
            it is corrupted or was replaced"
    )]
    WrongDigest {
        /// Which layer.
        layer: usize,
        /// `digest` or `diff ID`.
        what: &'static str,
        /// `manifest` or `config`.
        source_name: &'static str,
        /// What is stated.
        expected: String,
        /// What the bytes have.
        actual: String,
    },
    /// A digest of an algorithm that is not known.
    #[error("layer {layer} has an unsupported digest {digest}: neither sha256 nor sha512")]
    UnknownDigest {
        /// Which layer.
        layer: usize,
        /// The digest.
        digest: String,
    },
    /// Not a tar, by its media type.
    #[error(
        "layer {layer} has the media type {media_type}, which is not a tar archive: this is an \
            artifact, not a container image"
    )]
    UnknownType {
        /// Which layer.
        layer: usize,
        /// The media type.
        media_type: String,
    },
    /// All of it came as it was written, and it is something else.
    #[error(
        "layer {layer} is not a tar archive, neither plain nor compressed with gzip or zstd \
            ({cause})"
    )]
    NoTar {
        /// Which layer.
        layer: usize,
        /// What the reader says.
        cause: String,
    },
    /// A damaged tar, or packed wrongly.
    #[error("layer {layer} is corrupted: {cause}")]
    Corrupt {
        /// Which layer.
        layer: usize,
        /// What the reader says.
        cause: String,
    },
}

/// Digest and diff ID of what was read, where they were asked for.
type Digests = (Option<String>, Option<String>);

/// Reads what is left.
fn rest<R: Read>(archive: Archive<BufReader<Unpacked<R>>>) -> Result<Digests, ArchiveError> {
    let mut stream = archive.into_inner();
    io::copy(&mut stream, &mut io::sink())?;
    Ok(stream.into_inner().finish()?)
}

fn cut_short(number: usize, packed: u64, layer: &LayerSource) -> LayerError {
    LayerError::CutShort {
        layer: number,
        read: size(packed),
        stated: layer
            .size
            .map(|stated| format!(", and the manifest says {}", size(stated)))
            .unwrap_or_default(),
    }
}

/// An image as far as its layers were read.
pub struct Image {
    /// Its files.
    pub tree: Tree,
    /// What was read of each layer.
    pub layers: Vec<LayerFacts>,
    /// What was left out.
    pub notes: Notes,
    /// Plain files that were counted and not kept, because the tree was nearly full.
    pub left_out: u64,
    /// Bytes of these.
    pub left_out_bytes: u64,
    /// True where something was not read: what is missing may be there.
    pub partial: bool,
    facts: HashMap<NodeId, Arc<Fact>>,
    pub(crate) capabilities: HashMap<NodeId, FileCapabilities>,
    fact_bytes: usize,
    /// What files name, where that was asked for.
    pub(crate) mentions: HashMap<NodeId, Mentions>,
    mention_bytes: usize,
    /// True where something of that was too much.
    pub(crate) unheard: bool,
    /// Of a hard link: the entry that brought the file's bytes, which may be gone, and its layer.
    pub(crate) hard_links: HashMap<NodeId, (NodeId, u16)>,
    /// Which entry of the layers brought what stands in the tree, by its number from 1 over all layers; 0: none did, it is a folder
    /// above others. Where what is reached is asked for.
    pub(crate) origins: Vec<u32>,
    /// What each layer did, where that was asked for.
    pub journal: Journal,
    /// Prints of files, where these were asked for.
    pub(crate) prints: Prints,
    /// What databases of packages name, where that was asked for.
    pub(crate) packages: HashMap<NodeId, Arc<Vec<Package>>>,
    package_count: usize,
    /// True where not all files and databases were summed up or read for a comparison: those with holes, too many packages.
    pub(crate) unsummed: bool,
    limits: Limits,
    unpacked: u64,
    entries: u64,
    /// True where something is not known of files that stand in the tree.
    unexamined: bool,
    /// Set where a limit of the whole image was passed.
    stopped: bool,
    scratch: Vec<u8>,
}

impl Image {
    /// An image without layers.
    pub fn new(limits: Limits) -> Self {
        Self {
            tree: Tree::new(),
            layers: Vec::new(),
            notes: Notes::default(),
            left_out: 0,
            left_out_bytes: 0,
            partial: false,
            facts: HashMap::new(),
            capabilities: HashMap::new(),
            fact_bytes: 0,
            mentions: HashMap::new(),
            mention_bytes: 0,
            unheard: false,
            hard_links: HashMap::new(),
            origins: Vec::new(),
            journal: Journal::new(limits.steps),
            prints: Prints::default(),
            packages: HashMap::new(),
            package_count: 0,
            unsummed: false,
            limits,
            unpacked: 0,
            entries: 0,
            unexamined: false,
            stopped: false,
            scratch: Vec::new(),
        }
    }

    /// What is known of a file's contents.
    pub fn fact(&self, id: NodeId) -> Option<&Fact> {
        self.facts.get(&id).map(Arc::as_ref)
    }

    /// True where nothing is known of a file because there were too many: not that there is nothing.
    pub fn is_unexamined(&self, id: NodeId) -> bool {
        self.unexamined && !self.facts.contains_key(&id)
    }

    /// Capabilities that a file gives to whoever runs it: a mask.
    pub fn capability(&self, id: NodeId) -> Option<u64> {
        let found = self.capabilities.get(&id)?;
        Some(found.permitted).filter(|mask| *mask != 0)
    }

    /// Capabilities without which Linux runs a file for nobody: a mask.
    pub fn demands(&self, id: NodeId) -> u64 {
        self.capabilities.get(&id).map_or(0, |found| found.demanded)
    }

    /// Reads the next layer and applies it to the tree. All of `source` is read, and its digest and size
    /// compared, unless a limit is passed: then the rest is left, a note says so, and the image is
    /// `partial`. After an error the image holds what was read until then, and is `partial`.
    pub fn add_layer(&mut self, source: impl Read, layer: &LayerSource) -> Result<(), LayerError> {
        let number = self.layers.len() + 1;
        if self.stopped {
            self.layers.push(LayerFacts {
                digest: layer.digest.clone(),
                ..LayerFacts::default()
            });
            return Ok(());
        }
        if number > self.limits.layers {
            self.exceeded(number, Exceeded::Layers(self.limits.layers));
            return Ok(());
        }
        let result = self.read_layer(source, layer, number);
        self.partial |= result.is_err();
        // What later layers removed or replaced needs no memory any more.
        let tree = &self.tree;
        self.facts.retain(|id, _| tree.is_live(*id));
        self.capabilities.retain(|id, _| tree.is_live(*id));
        self.mentions.retain(|id, _| tree.is_live(*id));
        self.packages.retain(|id, _| tree.is_live(*id));
        self.hard_links.retain(|id, _| tree.is_live(*id));
        self.mention_bytes = self.mentions.values().map(Mentions::bytes).sum();
        self.fact_bytes = self.facts.values().map(|fact| fact.bytes()).sum();
        result
    }

    fn read_layer(
        &mut self,
        source: impl Read,
        layer: &LayerSource,
        number: usize,
    ) -> Result<(), LayerError> {
        self.layers.push(LayerFacts {
            digest: layer.digest.clone(),
            ..LayerFacts::default()
        });
        let media_type = &layer.media_type;
        if !media_type.is_empty()
            && (!media_type.contains("tar") || media_type.contains("encrypted"))
        {
            return Err(LayerError::UnknownType {
                layer: number,
                media_type: media_type.clone(),
            });
        }
        let hasher = |digest: &Option<String>| match digest {
            None => Ok(None),
            Some(digest) => Hasher::of(digest)
                .map(Some)
                .ok_or_else(|| LayerError::UnknownDigest {
                    layer: number,
                    digest: digest.clone(),
                }),
        };
        let (packed, unpacked) = (hasher(&layer.digest)?, hasher(&layer.diff_id)?);
        let left = self.limits.unpacked_bytes - self.unpacked.min(self.limits.unpacked_bytes);
        let (stream, state) = stream::open(source, packed, unpacked, left, &self.limits);
        let mut digests = None;
        let result = match stream {
            Ok(stream) => self.apply(stream, number, &mut digests),
            Err(error) => Err(error.into()),
        };
        self.unpacked += state.unpacked.get();
        if let Some(facts) = self.layers.last_mut() {
            facts.packed = state.packed.get();
            facts.unpacked = state.unpacked.get();
        }
        match result {
            Ok(None) => Ok(()),
            Ok(Some((digest, diff_id))) => {
                compare(number, "digest", "manifest", layer.digest.as_ref(), digest)?;
                compare(number, "diff ID", "config", layer.diff_id.as_ref(), diff_id)?;
                if let Some(facts) = self.layers.last_mut() {
                    facts.complete = true;
                }
                Ok(())
            }
            Err(error) => match digests {
                Some(digests) => self.no_tar(error, &state, layer, number, digests),
                None => self.fault(error, &state, layer, number),
            },
        }
    }

    /// What it means that all of a layer came, and is no tar from some place on.
    fn no_tar(
        &self,
        error: ArchiveError,
        state: &State,
        layer: &LayerSource,
        number: usize,
        (digest, diff_id): (Option<String>, Option<String>),
    ) -> Result<(), LayerError> {
        let packed = state.packed.get();
        let short = layer.size.is_some_and(|stated| packed < stated);
        let proven = digest.is_some() && digest == layer.digest
            || diff_id.is_some() && diff_id == layer.diff_id;
        // A tar that just ends is one that was cut, unless its digest says that there never was more.
        if short || matches!(error, ArchiveError::CutShort) && !proven {
            return Err(cut_short(number, packed, layer));
        }
        compare(number, "digest", "manifest", layer.digest.as_ref(), digest)?;
        compare(number, "diff ID", "config", layer.diff_id.as_ref(), diff_id)?;
        let cause = error.to_string();
        let entries = self.layers.last().map_or(0, |facts| facts.entries);
        Err(match entries {
            0 => LayerError::NoTar {
                layer: number,
                cause,
            },
            _ => LayerError::Corrupt {
                layer: number,
                cause: format!("after {entries} entries, {cause}"),
            },
        })
    }

    /// What a failed read means: a limit that was passed, or an error.
    fn fault(
        &mut self,
        error: ArchiveError,
        state: &State,
        layer: &LayerSource,
        number: usize,
    ) -> Result<(), LayerError> {
        if let Some(exceeded) = state.exceeded.get() {
            self.exceeded(number, exceeded);
            return Ok(());
        }
        if let Some(window) = state.window.get() {
            self.partial = true;
            self.notes.add(
                u32::try_from(number).ok(),
                format!(
                    "its zstd window is too large: {}, and at most {} are supported: compress it \
                        at a lower level",
                    size(window),
                    size(self.limits.zstd_window)
                ),
            );
            return Ok(());
        }
        if let Some(cause) = state.failed.borrow_mut().take() {
            return Err(LayerError::Read {
                layer: number,
                cause,
            });
        }
        let packed = state.packed.get();
        // Decoders do not all tell an early end from damage; the manifest's size does.
        let early = match (&error, layer.size) {
            (ArchiveError::CutShort, _) => true,
            (_, Some(stated)) => packed < stated,
            (ArchiveError::Read(_), None) => state.ended.get(),
            _ => false,
        };
        if early {
            return Err(cut_short(number, packed, layer));
        }
        Err(LayerError::Corrupt {
            layer: number,
            cause: error.to_string(),
        })
    }

    fn exceeded(&mut self, number: usize, exceeded: Exceeded) {
        self.partial = true;
        self.stopped |= !matches!(exceeded, Exceeded::Ratio { .. });
        self.notes
            .add(u32::try_from(number).ok(), exceeded.to_string());
    }
}

pub(crate) fn compare(
    layer: usize,
    what: &'static str,
    source_name: &'static str,
    expected: Option<&String>,
    actual: Option<String>,
) -> Result<(), LayerError> {
    match (expected, actual) {
        (Some(expected), Some(actual)) if *expected != actual => Err(LayerError::WrongDigest {
            layer,
            what,
            source_name,
            expected: expected.clone(),
            actual,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
