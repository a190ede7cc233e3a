//! A tar on disk by its table of contents: where each file lies in it. One pass finds that out, jumping
//! over contents; then files are read in any order.
//!
//! A compressed tar cannot be jumped in. It is unpacked as it is read, and begun anew only where a file
//! lies before the last one read: time, but neither memory nor disk.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use tar_core::EntryType;
use tar_core::parse::{Limits, ParseEvent, ParsedEntry, Parser};

use super::error::{InspectError, file};
use super::files::{Opened, normal};
use whittle_image::{Compression, Decompressed};

const BLOCK: usize = 512;
/// Bytes read at once.
const CHUNK: usize = 64 << 10;
/// Bytes that the headers of one entry may take.
const MAX_HEADERS: usize = 2 << 20;
/// Files that an image's tar may have: one of 500 layers has some thousand.
const MAX_MEMBERS: usize = 50_000;
/// Bytes of one name: PATH_MAX of Linux.
const MAX_NAME: usize = 4096;
/// Links that lead to links.
const MAX_LINKS: usize = 8;

/// A tar and its table of contents.
pub(super) struct Tarball {
    /// What errors call it, and where it is opened.
    path: PathBuf,
    place: PathBuf,
    /// Keeps a file without a name.
    _spool: Option<File>,
    bytes: Bytes,
    members: HashMap<String, Member>,
}

/// One entry.
enum Member {
    /// Where its contents begin, and how long they are.
    File { offset: u64, size: u64 },
    /// The name of the entry that it is the same as.
    Link(String),
}

/// The tar's bytes.
enum Bytes {
    Plain(BufReader<File>),
    Gzip(Box<Gunzip>),
}

/// The unpacked bytes of a file, from its beginning on.
struct Gunzip {
    decoder: Decompressed<BufReader<File>>,
    /// Unpacked bytes given so far.
    at: u64,
}

impl Read for Gunzip {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.decoder.read(buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Bytes {
    fn open(path: &Path) -> Result<Self, InspectError> {
        let refuse = |why: &str| {
            Err(InspectError::NoImage {
                path: path.to_owned(),
                why: why.to_owned(),
            })
        };
        let mut open = File::open(path).map_err(file(path))?;
        if !open.metadata().map_err(file(path))?.is_file() {
            return refuse(
                "it is neither a directory nor a regular file: an image is read more than once, \
                    so write it to a file first",
            );
        }
        let mut start = Vec::with_capacity(6);
        (&mut open)
            .take(6)
            .read_to_end(&mut start)
            .and_then(|_| open.rewind())
            .map_err(file(path))?;
        let packed = BufReader::with_capacity(CHUNK, open);
        match (Compression::sniff(&start), &start[..]) {
            (Compression::Gzip, _) => Ok(Self::Gzip(Box::new(Gunzip {
                decoder: Decompressed::new(packed, Compression::Gzip, 0),
                at: 0,
            }))),
            (Compression::Zstd, _) => {
                refuse("unsupported compression zstd: unpack it first, with zstd -d")
            }
            (_, [0xfd, b'7', b'z', b'X', b'Z', 0]) => {
                refuse("unsupported compression xz: unpack it first, with xz -d")
            }
            (_, [b'B', b'Z', b'h', ..]) => {
                refuse("unsupported compression bzip2: unpack it first, with bzip2 -d")
            }
            _ => Ok(Self::Plain(packed)),
        }
    }

    /// Goes forward; false where the bytes end before.
    fn skip(&mut self, count: u64) -> io::Result<bool> {
        match self {
            Self::Plain(reader) => {
                let at = reader.stream_position()?;
                let Some(to) = at.checked_add(count) else {
                    return Ok(false);
                };
                let end = reader.get_ref().metadata()?.len();
                // Within the buffer where it can be, so that small files cost no system call.
                match i64::try_from(count) {
                    Ok(count) if to <= end => reader.seek_relative(count).map(|()| true),
                    _ => Ok(false),
                }
            }
            Self::Gzip(reader) => {
                let skipped = io::copy(&mut reader.as_mut().take(count), &mut io::sink())?;
                Ok(skipped == count)
            }
        }
    }
}

impl Read for Bytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(reader) => reader.read(buffer),
            Self::Gzip(reader) => reader.read(buffer),
        }
    }
}

impl Tarball {
    /// Opens a tar and reads its table of contents.
    pub(super) fn open(path: &Path) -> Result<Self, InspectError> {
        Self::at(path, path, None)
    }

    /// A tar in a file without a name. `shown`: what errors call it.
    pub(super) fn spooled(spool: File, shown: &Path) -> Result<Self, InspectError> {
        let place = PathBuf::from(format!("/proc/self/fd/{}", spool.as_raw_fd()));
        Self::at(&place, shown, Some(spool))
    }

    fn at(place: &Path, path: &Path, spool: Option<File>) -> Result<Self, InspectError> {
        let mut tar = Self {
            path: path.to_owned(),
            place: place.to_owned(),
            _spool: spool,
            bytes: Bytes::open(place)?,
            members: HashMap::new(),
        };
        tar.index()?;
        Ok(tar)
    }

    /// Where the tar lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file of a name, which is normal; none where there is no such file.
    pub(super) fn size(&self, name: &str) -> Option<u64> {
        self.find(name).map(|(_, size)| size)
    }

    /// A file's contents; none where there is no such file.
    pub(super) fn stream(&mut self, name: &str) -> Result<Option<Opened<'_>>, InspectError> {
        let Some((offset, size)) = self.find(name) else {
            return Ok(None);
        };
        let failed = file(&self.path);
        if let Bytes::Gzip(reader) = &self.bytes
            && reader.at > offset
        {
            self.bytes = Bytes::open(&self.place)?;
        }
        let reader: &mut dyn Read = match &mut self.bytes {
            Bytes::Plain(reader) => {
                reader.seek(SeekFrom::Start(offset)).map_err(failed)?;
                reader
            }
            Bytes::Gzip(reader) => {
                let ahead = offset - reader.at;
                io::copy(&mut reader.as_mut().take(ahead), &mut io::sink()).map_err(failed)?;
                reader
            }
        };
        Ok(Some(Opened {
            bytes: Box::new(reader.take(size)),
            size,
        }))
    }

    fn find(&self, name: &str) -> Option<(u64, u64)> {
        let mut name = name;
        for _ in 0..MAX_LINKS {
            match self.members.get(name)? {
                Member::File { offset, size } => return Some((*offset, *size)),
                Member::Link(target) => name = target,
            }
        }
        None
    }

    fn refuse(&self, why: impl Into<String>) -> InspectError {
        InspectError::NoImage {
            path: self.path.clone(),
            why: why.into(),
        }
    }

    fn index(&mut self) -> Result<(), InspectError> {
        let mut parser = Parser::new(Limits::default());
        parser.set_ignore_pax_errors(true);
        let (mut buffer, mut wanted, mut at) = (Vec::new(), BLOCK, 0_u64);
        loop {
            if wanted > MAX_HEADERS {
                return Err(self.refuse("a header is too long"));
            }
            let more = wanted.saturating_sub(buffer.len()) as u64;
            let read = (&mut self.bytes).take(more).read_to_end(&mut buffer);
            at += read.map_err(|error| self.unreadable(error))? as u64;
            if buffer.len() < wanted {
                // The blocks of zeros at the end may be missing.
                return match buffer.iter().all(|byte| *byte == 0) && at > 0 {
                    true => Ok(()),
                    false => {
                        Err(self.refuse("truncated, or not a tar archive: it ends within a header"))
                    }
                };
            }
            let event = parser.parse(&buffer).map_err(|error| {
                self.refuse(format!(
                    "it is neither the tar of an OCI layout nor what `docker save` writes: {error}"
                ))
            })?;
            let (consumed, entry, size) = match event {
                ParseEvent::NeedData { min_bytes } => {
                    wanted = min_bytes.max(buffer.len() + 1);
                    continue;
                }
                ParseEvent::End { .. } => return Ok(()),
                ParseEvent::GlobalExtensions { consumed, .. } => (consumed, None, 0),
                ParseEvent::Entry { consumed, entry } => {
                    let (found, size) = Found::of(&entry);
                    (consumed, found, size)
                }
                // No writer of images makes holes: a file with some counts as not there.
                ParseEvent::SparseEntry {
                    consumed, entry, ..
                } => (consumed, None, entry.size),
            };
            if consumed != buffer.len() {
                return Err(self.refuse("invalid header"));
            }
            buffer.clear();
            wanted = BLOCK;
            if let Some(found) = entry {
                self.add(&found, at, size)?;
            }
            if !self
                .bytes
                .skip(size)
                .map_err(|error| self.unreadable(error))?
            {
                return Err(self.refuse("truncated: it ends in the middle of a file"));
            }
            // Some writers leave out the padding of the last file.
            let padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
            if !self
                .bytes
                .skip(padding)
                .map_err(|error| self.unreadable(error))?
            {
                return Ok(());
            }
            at += size + padding;
        }
    }

    fn unreadable(&self, error: io::Error) -> InspectError {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return self.refuse("truncated: its compressed data ends too early");
        }
        file(&self.path)(error)
    }

    fn add(&mut self, found: &Found, offset: u64, size: u64) -> Result<(), InspectError> {
        let text = |bytes: &[u8]| {
            let text = std::str::from_utf8(bytes).ok()?;
            (text.len() <= MAX_NAME).then(|| text.to_owned())
        };
        // Other names are none of an image's files.
        let Some(name) = text(&found.name).and_then(|name| normal(&name)) else {
            return Ok(());
        };
        let member = match &found.kind {
            FoundKind::File => Member::File { offset, size },
            FoundKind::HardLink(target) => match text(target).and_then(|target| normal(&target)) {
                Some(target) => Member::Link(target),
                None => return Ok(()),
            },
            FoundKind::Symlink(target) => {
                let folder = name.rsplit_once('/').map_or(".", |(folder, _)| folder);
                let target = text(target).filter(|target| !target.starts_with('/'));
                match target.and_then(|target| normal(&format!("{folder}/{target}"))) {
                    Some(target) => Member::Link(target),
                    None => return Ok(()),
                }
            }
        };
        if self.members.len() >= MAX_MEMBERS {
            return Err(self.refuse(format!(
                "too many files: more than {MAX_MEMBERS}; not an image"
            )));
        }
        self.members.insert(name, member);
        Ok(())
    }
}

/// An entry that may be one of an image's files.
struct Found {
    name: Vec<u8>,
    kind: FoundKind,
}

enum FoundKind {
    File,
    HardLink(Vec<u8>),
    Symlink(Vec<u8>),
}

impl Found {
    /// The entry, where it is one, and the bytes that are stored for it.
    fn of(entry: &ParsedEntry<'_>) -> (Option<Self>, u64) {
        let target = || entry.link_target.as_deref().unwrap_or_default().to_vec();
        let (kind, size) = match entry.entry_type {
            EntryType::Regular | EntryType::Continuous => (FoundKind::File, entry.size),
            EntryType::Link => (FoundKind::HardLink(target()), 0),
            EntryType::Symlink => (FoundKind::Symlink(target()), 0),
            EntryType::Char | EntryType::Block | EntryType::Directory | EntryType::Fifo => {
                return (None, 0);
            }
            _ => return (None, entry.size),
        };
        let name = entry.path.to_vec();
        (Some(Self { name, kind }), size)
    }
}

#[cfg(test)]
#[path = "tarball_tests.rs"]
mod tests;
