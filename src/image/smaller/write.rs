//! What stays of each layer, in their order, into the two layers of the smaller image.

use std::io::{self, BufReader, Read, Write};

use tar_core::EntryType;
use tar_core::builder::EntryBuilder;

use super::layer::{LayerWriter, Packed};
use crate::layer::archive::{Archive, CAPABILITY, Entry};
use crate::layer::{Hasher, Image, LayerError, LayerSource, compare, stream};
use crate::limits::Limits;
use crate::reach::Reach;
use crate::tree::{Kind, NodeId, Tree};

/// Bytes of the extended attributes of one entry that are carried over.
const ATTRIBUTES: usize = 64 << 10;

/// The layers of an image that was read once already, to be read again: in their order.
pub trait Layers {
    /// The packed bytes of the layer with this number, from 0.
    fn open(&mut self, index: usize) -> io::Result<Box<dyn Read + '_>>;

    /// Nothing more is read, whether or not all was: who brings the bytes can end.
    fn end(&mut self) {}
}

/// Reads all layers of an image again, and writes the two of the smaller one: the runtime's and the application's, and where they
/// were written.
pub fn write<L: Layers + ?Sized, W: Write>(
    image: &Image,
    reach: &Reach,
    sources: &[LayerSource],
    layers: &mut L,
    [runtime, application]: [W; 2],
) -> Result<[(Packed, W); 2], WriterError> {
    let mut writer = Writer::new(image, reach, runtime, application);
    let mut sources = sources.iter().enumerate();
    let read = sources.try_for_each(|(index, source)| {
        let opened = layers.open(index);
        let layer = index + 1;
        let bytes = opened.map_err(|cause| LayerError::Read { layer, cause })?;
        writer.add_layer(bytes, source)
    });
    layers.end();
    read?;
    writer.finish()
}

/// Why a smaller image was not written.
#[derive(thiserror::Error, Debug)]
pub enum WriterError {
    /// The full image's layer could not be read again.
    #[error("{0}")]
    Layer(#[from] LayerError),
    /// What is written could not be handed on.
    #[error("cannot write the smaller image: {0}")]
    Write(io::Error),
    /// A file has its capabilities by an entry of another of its names.
    #[error(
        "cannot make the image smaller: the capabilities of {path} stand at another name of the file: set them in a layer of their own"
    )]
    Capabilities {
        /// Which.
        path: String,
    },
    /// What is to stay was not met when the layers were read again.
    #[error(
        "cannot make the image smaller: {count} of its files cannot be carried over, for example {first}"
    )]
    Lost {
        /// How many.
        count: usize,
        /// One of them.
        first: String,
    },
}

/// Writes the two layers.
pub struct Writer<'a, W: Write> {
    image: &'a Image,
    reach: &'a Reach,
    runtime: LayerWriter<W>,
    application: LayerWriter<W>,
    /// What stays, by the number of the entry that it is written from: the one that brought it, or, of a file whose first name does
    /// not stay, the one that brought its bytes.
    places: Vec<(u32, NodeId)>,
    /// How many of these were written.
    done: usize,
    /// Entries that were read, and layers.
    entries: u32,
    layers: usize,
}

impl<'a, W: Write> Writer<'a, W> {
    /// `runtime` and `application`: where their bytes go.
    pub fn new(image: &'a Image, reach: &'a Reach, runtime: W, application: W) -> Self {
        let tree = &image.tree;
        let mut places: Vec<(u32, NodeId)> = std::iter::once(tree.root())
            .chain(tree.all())
            .filter(|id| reach.keeps(*id))
            .filter_map(|id| {
                let from = match image.hard_links.get(&id) {
                    Some(&(first, _)) if !stays(image, reach, first) => first,
                    _ => id,
                };
                let origin = image.origins.get(from.index()).copied();
                Some((origin.filter(|number| *number > 0)?, id))
            })
            .collect();
        places.sort_unstable();
        Self {
            runtime: LayerWriter::new(runtime),
            application: LayerWriter::new(application),
            places,
            done: 0,
            entries: 0,
            layers: 0,
            image,
            reach,
        }
    }

    /// Reads the next layer of the full image once more, and writes what stays of it.
    pub fn add_layer(&mut self, source: impl Read, layer: &LayerSource) -> Result<(), WriterError> {
        self.layers += 1;
        let number = self.layers;
        // The first reading has held it to all bounds, and its digest says that it is the same.
        let limits = Limits::default();
        let hasher = |digest: &Option<String>| digest.as_deref().and_then(Hasher::of);
        let (packed, unpacked) = (hasher(&layer.digest), hasher(&layer.diff_id));
        let (stream, state) = stream::open(source, packed, unpacked, u64::MAX, &limits);
        let failed = |cause: String| match state.failed.borrow_mut().take() {
            Some(cause) => WriterError::Layer(LayerError::Read {
                layer: number,
                cause,
            }),
            None => WriterError::Layer(LayerError::Corrupt {
                layer: number,
                cause,
            }),
        };
        let stream = stream.map_err(|error| failed(error.to_string()))?;
        let mut archive = Archive::new(BufReader::with_capacity(64 << 10, stream));
        let before = self.entries;
        while let Some(entry) = archive.next().map_err(|error| failed(error.to_string()))? {
            self.entries = self.entries.saturating_add(1);
            let begun = self.done;
            while let Some(&(place, id)) = self.places.get(self.done)
                && place == self.entries
            {
                self.done += 1;
                let first = match self.image.hard_links.get(&id) {
                    Some(&(first, _)) if stays(self.image, self.reach, first) => Some(first),
                    // Of a file whose first name is gone, the first that stays has the bytes.
                    _ => Some(self.places[begun].1).filter(|first| *first != id),
                };
                self.entry(id, &entry, &mut archive, first, number)?;
            }
        }
        let mut stream = archive.into_inner();
        let (digest, diff_id) = io::copy(&mut stream, &mut io::sink())
            .and_then(|_| stream.into_inner().finish())
            .map_err(|error| failed(error.to_string()))?;
        compare(number, "digest", "manifest", layer.digest.as_ref(), digest)?;
        compare(number, "diff ID", "config", layer.diff_id.as_ref(), diff_id)?;
        let known = self.image.layers.get(number - 1);
        if known.is_none_or(|facts| facts.entries != u64::from(self.entries - before)) {
            return Err(WriterError::Layer(LayerError::Corrupt {
                layer: number,
                cause: "it has other entries than when it was read first".into(),
            }));
        }
        Ok(())
    }

    fn entry<R: Read>(
        &mut self,
        id: NodeId,
        entry: &Entry,
        archive: &mut Archive<R>,
        first: Option<NodeId>,
        number: usize,
    ) -> Result<(), WriterError> {
        let tree = &self.image.tree;
        let meta = tree.meta(id);
        let path = path_of(tree, id);
        let replaced = self.reach.replaced.get(&id);
        let mut header = EntryBuilder::new_ustar();
        let mut name = path.clone();
        if meta.kind == Kind::Directory && !name.is_empty() {
            name.push(b'/');
        }
        if name.is_empty() {
            name = b"./".to_vec();
        }
        header.path(&name);
        let size = match (meta.kind, first, replaced) {
            (Kind::File, None, None) => entry.size,
            (Kind::File, None, Some(bytes)) => bytes.len() as u64,
            _ => 0,
        };
        let bad = |error: tar_core::HeaderError| {
            WriterError::Write(io::Error::other(format!(
                "{}: {error}",
                String::from_utf8_lossy(&path)
            )))
        };
        // One file: no name of it may change what the others have.
        let shared = match meta.kind {
            Kind::Symlink => meta,
            _ => tree.meta(first.unwrap_or(id)),
        };
        header
            .mode(u32::from(shared.mode))
            .and_then(|header| header.uid(u64::from(shared.uid)))
            .and_then(|header| header.gid(u64::from(shared.gid)))
            .and_then(|header| header.size(size))
            .and_then(|header| header.mtime(entry.mtime))
            .map_err(bad)?;
        match (meta.kind, first) {
            (Kind::File | Kind::Special, Some(first)) => {
                header.entry_type(EntryType::Link);
                header.link_name(path_of(tree, first));
            }
            (Kind::File, None) => {
                header.entry_type(EntryType::Regular);
            }
            (Kind::Directory, _) => {
                header.entry_type(EntryType::Directory);
            }
            (Kind::Symlink, _) => {
                header.entry_type(EntryType::Symlink);
                header.link_name(tree.target(id).unwrap_or_default());
            }
            (Kind::Special, None) => {
                header.entry_type(entry.raw);
                header.device(entry.device.0, entry.device.1).map_err(bad)?;
            }
        }
        // Those of a link count, too: who unpacks it gives the file an owner, by which Linux takes capabilities away. What the file has in
        // the end counts; another entry of it may have given it that, and it cannot be told from what is known of it.
        let known = self.image.capabilities.get(&first.unwrap_or(id)).copied();
        let is_file = meta.kind == Kind::File;
        if is_file && known.is_some() && known != entry.capabilities() {
            return Err(WriterError::Capabilities {
                path: tree.path(id),
            });
        }
        let mut room = ATTRIBUTES;
        for (name, value) in &entry.xattrs {
            if is_file && known.is_none() && name == CAPABILITY {
                continue;
            }
            let cost = name.len() + value.len();
            let Ok(text) = std::str::from_utf8(name) else {
                continue;
            };
            if cost > room {
                break;
            }
            room -= cost;
            header.add_pax(&format!("SCHILY.xattr.{text}"), value);
        }
        let own = match first {
            // All names of a file stand in one layer.
            Some(first) if tree.is_live(first) => self.reach.is_own(first),
            _ => self.reach.is_own(id),
        };
        let out = match own {
            true => &mut self.application,
            false => &mut self.runtime,
        };
        out.write_all(&header.finish_bytes())
            .map_err(WriterError::Write)?;
        out.entries += 1;
        if meta.kind == Kind::File && first.is_none() {
            match replaced {
                Some(bytes) => out.write_all(bytes).map_err(WriterError::Write)?,
                None => {
                    let mut content = archive.content(entry);
                    let copied = copy(&mut content, out, number)?;
                    if copied != entry.size {
                        return Err(WriterError::Layer(LayerError::CutShort {
                            layer: number,
                            read: crate::limits::size(copied),
                            stated: String::new(),
                        }));
                    }
                }
            }
            out.pad(size).map_err(WriterError::Write)?;
        }
        Ok(())
    }

    /// Ends both layers: the runtime's and the application's, and where they were written.
    pub fn finish(self) -> Result<[(Packed, W); 2], WriterError> {
        let tree = &self.image.tree;
        let lost = &self.places[self.done..];
        if let Some(&(_, first)) = lost.first() {
            return Err(WriterError::Lost {
                first: tree.path(first),
                count: lost.len(),
            });
        }
        Ok([
            self.runtime.finish().map_err(WriterError::Write)?,
            self.application.finish().map_err(WriterError::Write)?,
        ])
    }
}

/// What fails in reading is the layer's, what fails in writing is ours.
fn copy(from: &mut impl Read, to: &mut impl Write, layer: usize) -> Result<u64, WriterError> {
    let mut buffer = vec![0; 64 << 10];
    let mut copied = 0;
    loop {
        let count = from
            .read(&mut buffer)
            .map_err(|cause| WriterError::Layer(LayerError::Read { layer, cause }))?;
        if count == 0 {
            return Ok(copied);
        }
        to.write_all(&buffer[..count]).map_err(WriterError::Write)?;
        copied += count as u64;
    }
}

/// The names of an entry, from the root, with slashes between them.
fn path_of(tree: &Tree, id: NodeId) -> Vec<u8> {
    let mut names = Vec::new();
    let mut at = id;
    while at != tree.root() {
        names.push(tree.name(at));
        at = tree.parent(at);
    }
    names.reverse();
    names.join(&b'/')
}

/// True for an entry that is neither gone nor left out.
fn stays(image: &Image, reach: &Reach, id: NodeId) -> bool {
    image.tree.is_live(id) && reach.keeps(id)
}
