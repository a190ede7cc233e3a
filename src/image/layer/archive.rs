//! A tar as a stream of entries: ustar, PAX and GNU, names and sparse maps bounded.

use std::io::{self, Read};

use tar_core::EntryType;
use tar_core::parse::{ParseError, ParseEvent, ParsedEntry, Parser};

use crate::facts::{FileCapabilities, file_capabilities};
use crate::tree::Kind;

const BLOCK: usize = 512;
/// Bytes that one entry's headers may take: names, extended headers and a sparse map.
const MAX_HEADERS: usize = 4 << 20;

/// Why a tar cannot be read on.
#[derive(thiserror::Error, Debug)]
pub(crate) enum ArchiveError {
    /// The stream failed, or was packed wrongly.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// The tar ends within an entry.
    #[error("truncated: the tar archive ends in the middle of an entry")]
    CutShort,
    /// A header that is none. The field's bytes stand behind, which tell nobody anything.
    #[error("{}", .0.to_string().split(": [").next().unwrap_or_default())]
    Header(#[from] ParseError),
    /// One entry's headers are too long.
    #[error(
        "too large: the headers of an entry have more than {} bytes",
        MAX_HEADERS
    )]
    TooLong,
}

/// What an entry is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Something of its own.
    Own(Kind),
    /// Another name of a file.
    HardLink,
    /// Nothing that a runtime unpacks.
    Nothing,
}

/// One entry of a tar.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) wanted: Wanted,
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Bytes of the file as it will be, holes counted.
    pub(crate) size: u64,
    /// Seconds since 1970.
    pub(crate) mtime: u64,
    /// Extended attributes: names without `SCHILY.xattr.`, and values.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// What it is in the tar, and the numbers of a device.
    pub(crate) raw: EntryType,
    pub(crate) device: (u32, u32),
    /// Parts of the file that are stored, (offset, length); none where all of it is.
    sparse: Option<Vec<(u64, u64)>>,
}

impl Entry {
    /// True where not all of the file is stored.
    pub(crate) fn has_holes(&self) -> bool {
        self.sparse.is_some()
    }

    /// The capabilities that it gives whoever runs it; none where these are none.
    pub(crate) fn capabilities(&self) -> Option<FileCapabilities> {
        let mut found = self.xattrs.iter().filter(|(name, _)| name == CAPABILITY);
        let found = file_capabilities(&found.next()?.1);
        found.filter(|found| found.permitted != 0)
    }
}

/// The attribute with the capabilities of a file.
pub(crate) const CAPABILITY: &[u8] = b"security.capability";

/// Reads a tar entry by entry.
pub(crate) struct Archive<R> {
    source: R,
    parser: Parser,
    buffer: Vec<u8>,
    /// Bytes of the current entry that were not read yet, and the padding after them.
    left: u64,
    padding: u64,
}

impl<R: Read> Archive<R> {
    pub(crate) fn new(source: R) -> Self {
        let mut parser = Parser::new(tar_core::parse::Limits::default());
        // As other readers do: a wrong time is no reason to refuse an image.
        parser.set_ignore_pax_errors(true);
        parser.set_allow_empty_path(true);
        // Random bytes would never have a right checksum.
        parser.set_verify_checksums(!cfg!(fuzzing));
        Self {
            source,
            parser,
            buffer: Vec::new(),
            left: 0,
            padding: 0,
        }
    }

    /// The next entry; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, ArchiveError> {
        let rest = self.left.saturating_add(self.padding);
        let skipped = io::copy(&mut (&mut self.source).take(rest), &mut io::sink())?;
        // Some writers leave out the padding of the last entry.
        if skipped < self.left {
            return Err(ArchiveError::CutShort);
        }
        (self.left, self.padding) = (0, 0);
        let mut wanted = BLOCK;
        loop {
            if wanted > MAX_HEADERS {
                return Err(ArchiveError::TooLong);
            }
            let have = self.buffer.len();
            if have < wanted {
                let more = (wanted - have) as u64;
                (&mut self.source)
                    .take(more)
                    .read_to_end(&mut self.buffer)?;
                if self.buffer.len() < wanted {
                    return match self.buffer.iter().all(|&byte| byte == 0) {
                        // Without the two blocks of zeros at the end: as Go reads it.
                        true => Ok(None),
                        false => Err(ArchiveError::CutShort),
                    };
                }
            }
            let (consumed, entry, stored) = match self.parser.parse(&self.buffer)? {
                ParseEvent::NeedData { min_bytes } => {
                    wanted = min_bytes.max(self.buffer.len() + 1);
                    continue;
                }
                ParseEvent::End { .. } => return Ok(None),
                ParseEvent::GlobalExtensions { consumed, .. } => (consumed, None, 0),
                ParseEvent::Entry { consumed, entry } => {
                    let (entry, stored) = read(&entry, None, entry.size);
                    (consumed, Some(entry), stored)
                }
                ParseEvent::SparseEntry {
                    consumed,
                    entry,
                    sparse_map,
                    real_size,
                } => {
                    let map = sparse_map.iter().map(|part| (part.offset, part.length));
                    let (entry, stored) = read(&entry, Some(map.collect()), real_size);
                    (consumed, Some(entry), stored)
                }
            };
            self.buffer.drain(..consumed.min(self.buffer.len()));
            wanted = BLOCK;
            if let Some(entry) = entry {
                self.left = stored;
                self.padding = stored.next_multiple_of(BLOCK as u64) - stored;
                return Ok(Some(entry));
            }
        }
    }

    /// The contents of the entry that came last, holes as zeros.
    pub(crate) fn content<'a>(&'a mut self, entry: &'a Entry) -> Content<'a, R> {
        Content {
            archive: self,
            sparse: entry.sparse.as_deref(),
            part: 0,
            at: 0,
            size: entry.size,
            cut_short: false,
        }
    }

    /// What the tar was read from.
    pub(crate) fn into_inner(self) -> R {
        self.source
    }
}

/// Contents of one entry.
pub(crate) struct Content<'a, R> {
    archive: &'a mut Archive<R>,
    sparse: Option<&'a [(u64, u64)]>,
    part: usize,
    at: u64,
    size: u64,
    /// True once the stream ended within the contents.
    pub(crate) cut_short: bool,
}

impl<R: Read> Content<'_, R> {
    fn stored(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.archive.left.min(buffer.len() as u64) as usize;
        if most == 0 {
            return Ok(0);
        }
        let read = self.archive.source.read(&mut buffer[..most])?;
        self.cut_short |= read == 0;
        self.archive.left -= read as u64;
        Ok(read)
    }
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(sparse) = self.sparse else {
            return self.stored(buffer);
        };
        let most = (self.size - self.at.min(self.size)).min(buffer.len() as u64);
        if most == 0 {
            return Ok(0);
        }
        // Parts that lie before this place are done with, or lie.
        while let Some((offset, length)) = sparse.get(self.part) {
            if offset.saturating_add(*length) > self.at {
                break;
            }
            self.part += 1;
        }
        let read = match sparse.get(self.part) {
            Some((offset, length)) if *offset <= self.at => {
                let most = most.min(offset + length - self.at) as usize;
                self.stored(&mut buffer[..most])?
            }
            next => {
                let most = next.map_or(most, |(offset, _)| most.min(offset - self.at)) as usize;
                buffer[..most].fill(0);
                most
            }
        };
        self.at += read as u64;
        Ok(read)
    }
}

/// The entry, and the bytes that are stored for it.
fn read(parsed: &ParsedEntry<'_>, sparse: Option<Vec<(u64, u64)>>, size: u64) -> (Entry, u64) {
    let wanted = match parsed.entry_type {
        EntryType::Regular | EntryType::Continuous | EntryType::GnuSparse => {
            // As tar before ustar wrote directories.
            if parsed.path.ends_with(b"/") {
                Wanted::Own(Kind::Directory)
            } else {
                Wanted::Own(Kind::File)
            }
        }
        EntryType::Directory => Wanted::Own(Kind::Directory),
        EntryType::Symlink => Wanted::Own(Kind::Symlink),
        EntryType::Char | EntryType::Block | EntryType::Fifo => Wanted::Own(Kind::Special),
        EntryType::Link => Wanted::HardLink,
        _ => Wanted::Nothing,
    };
    // Other kinds have no contents, whatever size their header states: as Go reads it.
    let has_contents = !matches!(
        parsed.entry_type,
        EntryType::Link
            | EntryType::Symlink
            | EntryType::Char
            | EntryType::Block
            | EntryType::Directory
            | EntryType::Fifo
    );
    let stored = if has_contents { parsed.size } else { 0 };
    let entry = Entry {
        path: parsed.path.to_vec(),
        link: parsed.link_target.as_deref().unwrap_or_default().to_vec(),
        wanted,
        mode: (parsed.mode & 0o7777) as u16,
        uid: u32::try_from(parsed.uid).unwrap_or(u32::MAX),
        gid: u32::try_from(parsed.gid).unwrap_or(u32::MAX),
        size: if has_contents { size } else { 0 },
        mtime: parsed.mtime,
        xattrs: parsed
            .xattrs
            .iter()
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect(),
        raw: parsed.entry_type,
        device: (
            parsed.dev_major.unwrap_or_default(),
            parsed.dev_minor.unwrap_or_default(),
        ),
        sparse,
    };
    (entry, stored)
}
