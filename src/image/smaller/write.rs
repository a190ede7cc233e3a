//! What stays of each layer, in their order, into the two layers of the smaller image.

use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};

use tar_core::EntryType;
use tar_core::builder::EntryBuilder;

use super::layer::{LayerWriter, Packed};
use crate::layer::archive::{Archive, Entry, Wanted};
use crate::layer::{Hasher, Image, LayerError, LayerSource, compare, stream};
use crate::limits::Limits;
use crate::reach::Reach;
use crate::tree::{Kind, NodeId, Tree, parts};

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
    /// What is to stay was not found in the layers: names that changed from layer to layer.
    #[error(
        "cannot make the image smaller: {count} of its files cannot be carried over, for example {first}: its layers put folders \
         and links in each other's places"
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
    written: Vec<bool>,
    /// Files whose bytes came under a name that is gone: layer and path of that, and the names that stay.
    orphans: HashMap<(u16, Vec<u8>), Vec<NodeId>>,
    next: u16,
}

impl<'a, W: Write> Writer<'a, W> {
    /// `runtime` and `application`: where their bytes go.
    pub fn new(image: &'a Image, reach: &'a Reach, runtime: W, application: W) -> Self {
        let mut orphans: HashMap<(u16, Vec<u8>), Vec<NodeId>> = HashMap::new();
        let tree = &image.tree;
        for (&link, &(first, layer)) in &image.hard_links {
            if reach.keeps(link) && !(tree.is_live(first) && reach.keeps(first)) {
                let at = (layer, path_of(tree, first));
                orphans.entry(at).or_default().push(link);
            }
        }
        for links in orphans.values_mut() {
            links.sort_unstable();
        }
        Self {
            written: vec![false; tree.ever()],
            runtime: LayerWriter::new(runtime),
            application: LayerWriter::new(application),
            orphans,
            image,
            reach,
            next: 0,
        }
    }

    /// Reads the next layer of the full image once more, and writes what stays of it.
    pub fn add_layer(&mut self, source: impl Read, layer: &LayerSource) -> Result<(), WriterError> {
        let number = usize::from(self.next) + 1;
        let index = self.next;
        self.next += 1;
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
        while let Some(entry) = archive.next().map_err(|error| failed(error.to_string()))? {
            let Some(path) = parts(&entry.path) else {
                continue;
            };
            // Of a file whose first name is gone, the first that stays has the bytes.
            if let Some(names) = self.orphans.remove(&(index, joined(&path))) {
                for &id in &names {
                    let first = (id != names[0]).then_some(names[0]);
                    self.entry(id, &entry, &mut archive, first, number)?;
                }
                continue;
            }
            if let Some(id) = self.name(&path, index, &entry) {
                let link = self.image.hard_links.get(&id);
                let first = link.map(|(first, _)| *first);
                self.entry(id, &entry, &mut archive, first, number)?;
            }
        }
        let mut stream = archive.into_inner();
        let (digest, diff_id) = io::copy(&mut stream, &mut io::sink())
            .and_then(|_| stream.into_inner().finish())
            .map_err(|error| failed(error.to_string()))?;
        compare(number, "digest", "manifest", layer.digest.as_ref(), digest)?;
        compare(number, "diff ID", "config", layer.diff_id.as_ref(), diff_id)?;
        Ok(())
    }

    /// The entry of the smaller image that an entry of the layer stands for.
    fn name(&self, path: &[&[u8]], layer: u16, entry: &Entry) -> Option<NodeId> {
        let tree = &self.image.tree;
        let Some((name, folder)) = path.split_last() else {
            let root = tree.root();
            let same =
                tree.meta(root).layer == layer && entry.wanted == Wanted::Own(Kind::Directory);
            return same.then_some(root);
        };
        let mut at = tree.root();
        for part in folder {
            at = tree.resolve(at, part).ok()?;
        }
        let id = tree.child(at, name)?;
        let meta = tree.meta(id);
        let same = match entry.wanted {
            Wanted::Own(kind) => kind == meta.kind && !meta.hard_link,
            Wanted::HardLink => meta.hard_link,
            Wanted::Nothing => false,
        };
        let stands = same && meta.layer == layer && self.reach.keeps(id);
        // A link whose bytes came under a lost name was written with them.
        let done = meta.hard_link && self.written[id.index()];
        (stands && !done).then_some(id)
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
        header
            .mode(u32::from(meta.mode))
            .and_then(|header| header.uid(u64::from(meta.uid)))
            .and_then(|header| header.gid(u64::from(meta.gid)))
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
        // Those of a link count, too: who unpacks it gives the file an owner, by which Linux takes capabilities away.
        let mut room = ATTRIBUTES;
        for (name, value) in &entry.xattrs {
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
        self.written[id.index()] = true;
        Ok(())
    }

    /// Ends both layers: the runtime's and the application's, and where they were written.
    pub fn finish(self) -> Result<[(Packed, W); 2], WriterError> {
        let tree = &self.image.tree;
        let mut lost = tree.all().filter(|id| {
            let implied = tree.meta(*id).kind == Kind::Directory;
            self.reach.keeps(*id) && !self.written[id.index()] && !implied
        });
        if let Some(first) = lost.next() {
            return Err(WriterError::Lost {
                first: tree.path(first),
                count: 1 + lost.count(),
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
    joined(&names)
}

fn joined(names: &[&[u8]]) -> Vec<u8> {
    names.join(&b'/')
}
