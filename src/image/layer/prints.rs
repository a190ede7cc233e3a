//! What is noted of an image while it is read, for who asks for it: a print of each file's bytes, by which the files of two
//! images are compared, and what each layer added, replaced and removed.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

use crate::installed::DATABASE;
use crate::tree::NodeId;

/// The print of a file whose bytes are not known.
const UNKNOWN: u128 = 0;

/// Prints of files, by their place in the tree: half of a SHA-256 sum.
#[derive(Default)]
pub(crate) struct Prints(Vec<u128>);

impl Prints {
    /// The print of a file; none where it is not known.
    pub(crate) fn get(&self, id: NodeId) -> Option<u128> {
        let found = self.0.get(id.index()).copied();
        found.filter(|print| *print != UNKNOWN)
    }

    pub(super) fn set(&mut self, id: NodeId, print: u128) {
        if self.0.len() <= id.index() {
            self.0.resize(id.index() + 1, UNKNOWN);
        }
        self.0[id.index()] = print;
    }
}

/// Passes a file's bytes on, and sums them up where that is asked for.
pub(super) struct Tee<R> {
    inner: R,
    sum: Option<Sha256>,
    kept: Option<Vec<u8>>,
}

impl<R: Read> Tee<R> {
    /// `sum`: whether there is to be a print; `keep`: whether the bytes are wanted, too.
    pub(super) fn new(inner: R, sum: bool, keep: bool) -> Self {
        Self {
            inner,
            sum: sum.then(Sha256::new),
            kept: keep.then(Vec::new),
        }
    }

    /// Reads what is left; the print, and the bytes.
    pub(super) fn finish(mut self) -> io::Result<(u128, Option<Vec<u8>>)> {
        if self.sum.is_none() && self.kept.is_none() {
            return Ok((UNKNOWN, None));
        }
        io::copy(&mut self, &mut io::sink())?;
        let print = self.sum.map_or(UNKNOWN, |sum| {
            let mut half = [0; 16];
            half.copy_from_slice(&sum.finalize()[..16]);
            u128::from_le_bytes(half).max(1)
        });
        Ok((print, self.kept))
    }
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if let Some(sum) = &mut self.sum {
            sum.update(&buffer[..read]);
        }
        if let Some(kept) = &mut self.kept {
            let room = (DATABASE as usize).saturating_sub(kept.len());
            kept.extend_from_slice(&buffer[..read.min(room)]);
        }
        Ok(read)
    }
}

/// What a layer did to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It is new.
    Added,
    /// It took the place of one of a lower layer.
    Replaced,
    /// A lower layer's is hidden.
    Removed,
}

/// One thing that a layer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which entry, which may be gone: its path is still known.
    pub id: NodeId,
    /// The layer, from 0.
    pub layer: u16,
    /// What was done.
    pub deed: Deed,
    /// True for a directory.
    pub folder: bool,
    /// Bytes of the file that it brought.
    pub bytes: u64,
    /// Bytes of the file that it hides.
    pub hides: u64,
}

/// What all layers did, in their order.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    /// The first of them.
    pub steps: Vec<Step>,
    /// How many are not noted.
    pub omitted: u64,
    most: usize,
}

impl Journal {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            ..Self::default()
        }
    }

    pub(super) fn is_kept(&self) -> bool {
        self.most > 0
    }

    pub(super) fn note(&mut self, step: Step) {
        if self.steps.len() < self.most {
            self.steps.push(step);
        } else if self.most > 0 {
            self.omitted += 1;
        }
    }
}
