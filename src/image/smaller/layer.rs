//! One layer as it is written: a tar, compressed, with the digests of both.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use crate::blocks::Blocks;
use crate::digest_text;

/// Counts and hashes what passes.
struct Hashed<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Hashed<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            bytes: 0,
        }
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.hash.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A layer that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Digest of the compressed bytes.
    pub digest: String,
    /// Digest of the tar.
    pub diff_id: String,
    /// Compressed bytes.
    pub size: u64,
    /// Bytes of the tar.
    pub unpacked: u64,
    /// Entries of the tar.
    pub entries: u64,
}

/// Writes one layer: what comes in is a tar, what goes out is gzip.
pub struct LayerWriter<W: Write> {
    tar: Hashed<Blocks<GzEncoder<Hashed<W>>>>,
    pub(super) entries: u64,
}

impl<W: Write> LayerWriter<W> {
    /// Nothing is written yet.
    pub fn new(inner: W) -> Self {
        // Without a time, so that the same tar gives the same bytes.
        let packed = GzEncoder::new(Hashed::new(inner), Compression::default());
        Self {
            tar: Hashed::new(Blocks::new(packed)),
            entries: 0,
        }
    }

    pub(super) fn pad(&mut self, size: u64) -> io::Result<()> {
        let padding = size.next_multiple_of(512) - size;
        self.tar.write_all(&[0; 512][..padding as usize])
    }

    /// Ends the tar; gives what it came to, and where it was written.
    pub fn finish(mut self) -> io::Result<(Packed, W)> {
        self.tar.write_all(&[0; 1024])?;
        let entries = self.entries;
        let (diff_id, unpacked) = (digest_text(&self.tar.hash.finalize()), self.tar.bytes);
        let mut packed = self.tar.inner.finish()?.finish()?;
        packed.flush()?;
        let found = Packed {
            digest: digest_text(&packed.hash.finalize()),
            diff_id,
            size: packed.bytes,
            unpacked,
            entries,
        };
        Ok((found, packed.inner))
    }
}

impl<W: Write> Write for LayerWriter<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.tar.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
