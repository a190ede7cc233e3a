//! Layers, one after the other, to the file tree of the image: whiteouts, opaque directories, hard and
//! symbolic links as a runtime unpacks them, nothing written, memory bounded.
//!
//! Sources: <https://github.com/opencontainers/image-spec/blob/main/layer.md>; where that is silent, what
//! containerd does (pkg/archive/tar.go).

mod archive;
mod decompress;
mod stream;

pub use decompress::{Compression, Decompressed};
pub use stream::Hasher;

use std::collections::{HashMap, HashSet};
use std::io::{self, BufReader, Read};
use std::sync::Arc;

use archive::{Archive, ArchiveError, Entry, Wanted};
use stream::{State, Unpacked};

use super::elf::Form;
use super::facts::{Fact, FileCapabilities, examine, file_capabilities};
use super::limits::{Exceeded, Limits, Notes, size};
use super::tree::{Kind, Lookup, MAX_NAME, Meta, NodeId, Tree, parts};
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
#[error(
    "the manifest has {manifest} layers, and the image's config has {config}: one of them belongs to another image"
)]
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
    #[error("layer {layer} could not be read: {cause}")]
    Read {
        /// Which layer.
        layer: usize,
        /// The source's error.
        cause: io::Error,
    },
    /// It ends early.
    #[error("layer {layer} is cut short: {read} of it could be read{stated}")]
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
        "layer {layer} has the {what} {actual}, and the {source_name} says {expected}: it was damaged or replaced"
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
    #[error("layer {layer} is named by {digest}, which is neither a sha256 nor a sha512 digest")]
    UnknownDigest {
        /// Which layer.
        layer: usize,
        /// The digest.
        digest: String,
    },
    /// Not a tar, by its media type.
    #[error(
        "layer {layer} has the media type {media_type}, which is no tar: this is an artifact and not a container image"
    )]
    UnknownType {
        /// Which layer.
        layer: usize,
        /// The media type.
        media_type: String,
    },
    /// All of it came as it was written, and it is something else.
    #[error(
        "layer {layer} is no tar archive, neither a plain one nor one compressed by gzip or zstd ({cause}): whatever wrote \
         the image put something else there"
    )]
    NoTar {
        /// Which layer.
        layer: usize,
        /// What the reader says.
        cause: String,
    },
    /// A damaged tar, or packed wrongly.
    #[error("layer {layer} is damaged: {cause}")]
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
    capabilities: HashMap<NodeId, FileCapabilities>,
    fact_bytes: usize,
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
                    "its zstd window has {}, and at most {} are read: compress it at a lower level",
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

    /// Applies one layer. The digests of what was read; `None` where a limit ended it. Where it is no tar, the rest is
    /// read all the same, and `read` has the digests.
    fn apply<R: Read>(
        &mut self,
        stream: Unpacked<R>,
        number: usize,
        read: &mut Option<Digests>,
    ) -> Result<Option<Digests>, ArchiveError> {
        let mut archive = Archive::new(BufReader::with_capacity(64 << 10, stream));
        let mut applying = Applying {
            layer: u16::try_from(number - 1).unwrap_or(u16::MAX - 1),
            number: u32::try_from(number).ok(),
            folder: None,
            purged: HashSet::new(),
            opaque: HashSet::new(),
        };
        loop {
            let entry = match archive.next() {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                Err(error @ ArchiveError::Read(_)) => return Err(error),
                Err(error) => {
                    *read = Some(rest(archive)?);
                    return Err(error);
                }
            };
            self.entries += 1;
            let over = if self.entries > self.limits.entries {
                Some(Exceeded::Entries(self.limits.entries))
            } else if self.tree.bytes() > self.limits.tree_bytes {
                Some(Exceeded::Tree(self.limits.tree_bytes))
            } else if self.tree.is_exhausted() {
                Some(Exceeded::Steps)
            } else {
                None
            };
            if let Some(over) = over {
                self.exceeded(number, over);
                return Ok(None);
            }
            if let Some(facts) = self.layers.last_mut() {
                facts.entries += 1;
                facts.content = facts.content.saturating_add(entry.size);
            }
            self.entry(&entry, &mut archive, &mut applying)?;
        }
        Ok(Some(rest(archive)?))
    }

    fn entry<R: Read>(
        &mut self,
        entry: &Entry,
        archive: &mut Archive<R>,
        applying: &mut Applying,
    ) -> Result<(), ArchiveError> {
        let (layer, number) = (applying.layer, applying.number);
        let refuse = |image: &mut Self, why: &str| {
            let shown =
                String::from_utf8_lossy(&entry.path[..entry.path.len().min(256)]).into_owned();
            image.partial = true;
            image
                .notes
                .add(number, format!("{shown} {why}: it is left out"));
            Ok(())
        };
        if entry.path.len() > self.limits.path_bytes || entry.link.len() > self.limits.path_bytes {
            return refuse(self, "has a longer path than Linux takes");
        }
        let Some(path) = parts(&entry.path) else {
            return refuse(self, "leads out of the image");
        };
        if path.iter().any(|part| part.len() > MAX_NAME) {
            return refuse(self, "has a longer name than Linux takes");
        }
        let meta = |kind| Meta {
            kind,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            size: entry.size,
            layer,
            hard_link: false,
        };
        let Some((name, folder)) = path.split_last() else {
            if entry.wanted == Wanted::Own(Kind::Directory) {
                self.tree.set(self.tree.root(), meta(Kind::Directory));
            }
            return Ok(());
        };
        if name.starts_with(WHITEOUT) {
            self.whiteout(name, folder, applying);
            return Ok(());
        }
        if entry.wanted == Wanted::Nothing {
            return refuse(self, "is of a kind that no runtime unpacks");
        }
        let parent = match self.folder(folder, applying) {
            Ok(parent) => parent,
            Err(lookup) => return refuse(self, &format!("cannot be unpacked: {lookup}")),
        };
        match entry.wanted {
            Wanted::HardLink => match self.hard_link(entry, parent, name, applying) {
                Ok(()) => Ok(()),
                Err(lookup) => refuse(self, &format!("is a hard link, and {lookup}")),
            },
            Wanted::Own(Kind::File) => {
                self.file(entry, archive, parent, &path, meta(Kind::File), applying)
            }
            Wanted::Own(kind) => {
                applying.folder = None;
                let id = self.tree.insert(parent, name, meta(kind), &entry.link);
                self.facts.remove(&id);
                Ok(())
            }
            Wanted::Nothing => Ok(()),
        }
    }

    fn file<R: Read>(
        &mut self,
        entry: &Entry,
        archive: &mut Archive<R>,
        parent: NodeId,
        path: &[&[u8]],
        meta: Meta,
        applying: &mut Applying,
    ) -> Result<(), ArchiveError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut content = archive.content(entry);
        let fact = examine(
            path,
            entry.mode,
            entry.size,
            &mut content,
            &self.limits,
            &mut scratch,
        );
        let cut_short = content.cut_short;
        self.scratch = scratch;
        let fact = fact?;
        if cut_short {
            return Err(ArchiveError::CutShort);
        }
        let capability = entry
            .capability
            .as_deref()
            .and_then(file_capabilities)
            .filter(|found| found.permitted != 0);
        let name = path.last().copied().unwrap_or_default();
        if let Some(old) = self.tree.child(parent, name) {
            applying.folder = None;
            self.tree.remove(old);
        }
        let plain = fact.is_none() && capability.is_none() && entry.mode & 0o6111 == 0;
        if plain && entry.size < ALWAYS_KEPT && self.tree.bytes() > self.limits.tree_bytes / 4 * 3 {
            self.left_out += 1;
            self.left_out_bytes = self.left_out_bytes.saturating_add(entry.size);
            return Ok(());
        }
        let id = self.tree.insert(parent, name, meta, b"");
        if let Some(found) = capability {
            self.capabilities.insert(id, found);
        }
        // Object files are many, and of no interest.
        let other = matches!(&fact, Some(Fact::Elf(elf)) if elf.form == Form::Other);
        if let Some(fact) = fact.filter(|_| !other || entry.mode & 0o111 != 0) {
            self.keep(id, Arc::new(fact));
        }
        Ok(())
    }

    /// Keeps what is known of a file, unless that is too much.
    fn keep(&mut self, id: NodeId, fact: Arc<Fact>) {
        let bytes = fact.bytes();
        if self.fact_bytes + bytes <= self.limits.fact_bytes {
            self.fact_bytes += bytes;
            self.facts.insert(id, fact);
            return;
        }
        self.partial = true;
        self.unexamined = true;
        self.notes.add(
            None,
            format!(
                "the image has more programs, libraries and certificates than {} hold: not all were looked into",
                size(self.limits.fact_bytes as u64)
            ),
        );
    }

    fn hard_link(
        &mut self,
        entry: &Entry,
        parent: NodeId,
        name: &[u8],
        applying: &mut Applying,
    ) -> Result<(), Lookup> {
        applying.folder = None;
        let target = self.tree.resolve_link(self.tree.root(), &entry.link)?;
        let mut meta = self.tree.meta(target);
        if meta.kind == Kind::Directory {
            return Err(Lookup::Missing(self.tree.path(target)));
        }
        // A link to itself changes nothing.
        if self.tree.child(parent, name) == Some(target) {
            return Ok(());
        }
        meta.layer = applying.layer;
        meta.hard_link = true;
        let link = self.tree.target(target).unwrap_or_default().to_vec();
        let id = self.tree.insert(parent, name, meta, &link);
        if let Some(fact) = self.facts.get(&target).cloned() {
            self.keep(id, fact);
        }
        // All names of a file share its attributes; who unpacks gives it an owner, by which Linux takes capabilities
        // away, and sets those of this entry (createTarFile of containerd).
        let found = entry.capability.as_deref().and_then(file_capabilities);
        for id in [target, id] {
            match found.filter(|found| found.permitted != 0) {
                Some(found) => self.capabilities.insert(id, found),
                None => self.capabilities.remove(&id),
            };
        }
        Ok(())
    }

    /// A whiteout hides what lower layers have, whatever its place among the layer's entries.
    fn whiteout(&mut self, name: &[u8], folder: &[&[u8]], applying: &mut Applying) {
        if name.starts_with(AUFS) && name != OPAQUE {
            return;
        }
        applying.folder = None;
        let mut at = self.tree.root();
        for part in folder {
            match self.tree.resolve(at, part) {
                Ok(next) => at = next,
                Err(_) => return,
            }
        }
        let hidden = if name == OPAQUE {
            // The directory itself stays.
            if !applying.opaque.insert(at) {
                return;
            }
            for child in self.tree.children(at).collect::<Vec<_>>() {
                if applying.purged.insert(child) {
                    self.tree.purge(child, applying.layer);
                }
            }
            return;
        } else {
            self.tree.child(at, &name[WHITEOUT.len()..])
        };
        if let Some(hidden) = hidden
            && applying.purged.insert(hidden)
        {
            self.tree.purge(hidden, applying.layer);
        }
    }

    /// The directory at a path, made where it is not there; links are followed within the root.
    fn folder(&mut self, folder: &[&[u8]], applying: &mut Applying) -> Result<NodeId, Lookup> {
        if let Some((known, id)) = &applying.folder
            && known.iter().map(Vec::as_slice).eq(folder.iter().copied())
        {
            return Ok(*id);
        }
        let mut at = self.tree.root();
        for part in folder {
            self.tree.step()?;
            at = match self.tree.child(at, part) {
                None => self
                    .tree
                    .insert(at, part, Meta::implied(applying.layer), b""),
                Some(next) => match self.tree.meta(next).kind {
                    Kind::Directory => next,
                    Kind::Symlink => self.tree.resolve(at, part)?,
                    Kind::File | Kind::Special => {
                        return Err(Lookup::NotADirectory(self.tree.path(next)));
                    }
                },
            };
            if self.tree.meta(at).kind != Kind::Directory {
                return Err(Lookup::NotADirectory(self.tree.path(at)));
            }
        }
        applying.folder = Some((folder.iter().map(|part| part.to_vec()).collect(), at));
        Ok(at)
    }
}

/// Where the application of one layer stands.
struct Applying {
    /// From 0.
    layer: u16,
    /// From 1, for people.
    number: Option<u32>,
    /// The directory of the entry before.
    folder: Option<(Vec<Vec<u8>>, NodeId)>,
    /// What was already freed of lower layers.
    purged: HashSet<NodeId>,
    /// Directories whose lower contents were already hidden.
    opaque: HashSet<NodeId>,
}

fn compare(
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
