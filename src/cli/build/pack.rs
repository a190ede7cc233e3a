//! A layer of a source: a tar archive, compressed, whose bytes depend on names, contents, links and who may run a file alone.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use futures::stream::{self, Stream};
use tar::{Builder, EntryType, Header};
use whittle_image::{Blocks, Hasher};

use super::walk::{Entry, Kind};

/// Bytes of one chunk on its way to the registry.
const CHUNK: usize = 256 << 10;
/// Chunks between who packs and who sends.
const CHUNKS: usize = 4;
/// How hard is compressed: text loses little by it, and a gigabyte takes a third of the time of the usual 6.
const LEVEL: u32 = 4;

/// A layer, and what it comes to once it is packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packed {
    /// What it holds.
    pub(super) entries: Arc<Vec<Entry>>,
    /// Its digest.
    pub(super) digest: String,
    /// Its bytes.
    pub(super) size: u64,
    /// Bytes of the archive before it was compressed.
    pub(super) unpacked: u64,
}

/// Why a layer could not be packed.
#[derive(thiserror::Error, Debug)]
#[error("{}: {error}", path.display())]
pub(super) struct Unpacked {
    /// Which file.
    pub(super) path: PathBuf,
    /// The system's error.
    pub(super) error: io::Error,
}

/// Packs a layer for its digest: nothing is kept.
pub(super) fn measure(folder: &Path, entries: Vec<Entry>) -> Result<Packed, Unpacked> {
    let sum = Sum {
        hash: Hasher::of("sha256:").expect("sha256 is known"),
        size: 0,
    };
    let (sum, unpacked) = write(folder, &entries, sum)?;
    Ok(Packed {
        entries: Arc::new(entries),
        digest: sum.hash.finish(),
        size: sum.size,
        unpacked,
    })
}

/// Packs a layer into what takes its bytes; how many they are before they are compressed.
pub(super) fn write<W: Write>(
    folder: &Path,
    entries: &[Entry],
    out: W,
) -> Result<(W, u64), Unpacked> {
    let packed = Blocks::new(GzBuilder::new().write(out, Compression::new(LEVEL)));
    let mut archive = Builder::new(Counted { packed, bytes: 0 });
    for entry in entries {
        append(&mut archive, folder, entry).map_err(|error| Unpacked {
            path: folder.join(&entry.path),
            error,
        })?;
    }
    let end = |error| Unpacked {
        path: folder.to_owned(),
        error,
    };
    let Counted { packed, bytes } = archive.into_inner().map_err(end)?;
    let packed = packed.finish().map_err(end)?;
    Ok((packed.finish().map_err(end)?, bytes))
}

/// Counts what is packed.
struct Counted<W: Write> {
    packed: Blocks<GzEncoder<W>>,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.packed.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.packed.flush()
    }
}

fn append(archive: &mut Builder<impl Write>, folder: &Path, entry: &Entry) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    match &entry.kind {
        Kind::Directory => {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(0o755);
            header.set_size(0);
            archive.append_data(&mut header, &entry.path, io::empty())
        }
        Kind::Link(target) => {
            header.set_entry_type(EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            archive.append_link(&mut header, &entry.path, target)
        }
        Kind::File { size, runs } => {
            header.set_entry_type(EntryType::Regular);
            header.set_mode(if *runs { 0o755 } else { 0o644 });
            header.set_size(*size);
            let file = File::open(folder.join(&entry.path))?;
            let exactly = Exactly { file, left: *size };
            archive.append_data(&mut header, &entry.path, exactly)
        }
    }
}

/// A file that has as many bytes as it had when it was found.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        let cut_short = read == 0 && self.left > 0 && !buffer.is_empty();
        match self.left.checked_sub(read as u64) {
            Some(left) if !cut_short => {
                self.left = left;
                Ok(read)
            }
            _ => Err(io::Error::other(
                "it has changed while it was packed: run the command again",
            )),
        }
    }
}

/// Counts, hashes, and forgets.
struct Sum {
    hash: Hasher,
    size: u64,
}

impl Write for Sum {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The layer's bytes, packed as they are asked for. `sent` is told how many.
pub(super) fn stream(
    folder: PathBuf,
    packed: &Packed,
    sent: impl Fn(u64) + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (to, chunks) = tokio::sync::mpsc::channel(CHUNKS);
    let entries = packed.entries.clone();
    tokio::task::spawn_blocking(move || {
        let out = Chunks {
            to: to.clone(),
            held: Vec::with_capacity(CHUNK),
        };
        let written = write(&folder, &entries, out);
        let flushed = written.map_err(io::Error::other);
        if let Err(error) = flushed.and_then(|(mut out, _)| out.send()) {
            // Who asked may be gone.
            let _ = to.blocking_send(Err(error));
        }
    });
    stream::unfold((chunks, sent), async |(mut chunks, sent)| {
        let chunk: io::Result<Bytes> = chunks.recv().await?;
        if let Ok(chunk) = &chunk {
            sent(chunk.len() as u64);
        }
        Some((chunk, (chunks, sent)))
    })
}

struct Chunks {
    to: tokio::sync::mpsc::Sender<io::Result<Bytes>>,
    held: Vec<u8>,
}

impl Chunks {
    fn send(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.held, Vec::with_capacity(CHUNK));
        self.to
            .blocking_send(Ok(chunk.into()))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(bytes);
        if self.held.len() >= CHUNK {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "pack_tests.rs"]
mod tests;
