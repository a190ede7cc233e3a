//! Writes in blocks of one size.

use std::io::{self, Write};

/// Bytes of a block.
const BLOCK: usize = 64 << 10;

/// Hands on what is written in blocks of 64 KiB, however it comes. What a compressor gives depends on how its input is cut (zlib-rs looks
/// for matches in what it has), and a digest must not depend on how much the network brought at once.
pub struct Blocks<W> {
    inner: W,
    block: Vec<u8>,
}

impl<W: Write> Blocks<W> {
    /// Nothing is written yet.
    pub fn new(inner: W) -> Self {
        Self {
            inner,
            block: Vec::with_capacity(BLOCK),
        }
    }

    /// Hands on the last block, which may be shorter.
    ///
    /// # Errors
    /// Those of whom it is handed to.
    pub fn finish(mut self) -> io::Result<W> {
        self.inner.write_all(&self.block)?;
        Ok(self.inner)
    }
}

impl<W: Write> Write for Blocks<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.block.len() == BLOCK {
            self.inner.write_all(&self.block)?;
            self.block.clear();
        }
        let count = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    /// A block that is not full stays: it would be cut otherwise.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// Text with matches far and near, as programs have them.
    fn text() -> Vec<u8> {
        let mut state = 1_u32;
        let mut text = vec![];
        while text.len() < 3 * BLOCK + 17 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let from = (state as usize >> 8) % (text.len() + 1);
            let most = 3 + (state as usize >> 4) % 90;
            let again: Vec<u8> = text[from..].iter().take(most).copied().collect();
            text.extend(again);
            text.push((state >> 24) as u8 & 31);
        }
        text
    }

    #[test]
    fn the_same_bytes_are_packed_the_same_however_they_come() {
        let text = text();
        let packed = |chunk: usize| {
            let mut blocks = Blocks::new(GzEncoder::new(Vec::new(), Compression::default()));
            for part in text.chunks(chunk) {
                blocks.write_all(part).unwrap();
            }
            blocks.finish().unwrap().finish().unwrap()
        };
        let whole = packed(text.len());
        for chunk in [1, 511, 4096, 8191, BLOCK, BLOCK + 3] {
            assert!(packed(chunk) == whole, "in chunks of {chunk}");
        }
    }
}
