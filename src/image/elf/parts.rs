//! The parts of a file that are held while it streams by.

use std::cell::Cell;
use std::ops::Range;

use object::ReadRef;

use super::MAX_STRING;

/// What is held of a file.
pub(super) struct Parts {
    pub(super) size: u64,
    pub(super) start: Vec<u8>,
    /// (offset, bytes)
    pub(super) more: Vec<(u64, Vec<u8>)>,
    /// Bytes of the beginning that may be held.
    pub(super) most: usize,
    /// What was asked for, lies within the file, and is not held.
    pub(super) wanted: Cell<Option<Range<u64>>>,
}

impl Parts {
    /// All that is held from `offset` on.
    pub(super) fn held(&self, offset: u64) -> Option<&[u8]> {
        let start = std::iter::once((0, &self.start[..]));
        let more = self.more.iter().map(|(at, bytes)| (*at, &bytes[..]));
        start.chain(more).find_map(|(at, bytes)| {
            let skip = usize::try_from(offset.checked_sub(at)?).ok()?;
            bytes.get(skip..).filter(|bytes| !bytes.is_empty())
        })
    }
}

impl Parts {
    /// True where the byte at an offset is not held and could be, if the beginning were read on.
    pub(super) fn may_hold(&self, offset: u64) -> bool {
        self.more.is_empty()
            && offset >= self.start.len() as u64
            && offset < self.size.min(self.most as u64)
    }
}

impl<'a> ReadRef<'a> for &'a Parts {
    fn len(self) -> Result<u64, ()> {
        Ok(self.size)
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        if size == 0 {
            return Ok(&[]);
        }
        let end = offset.checked_add(size).ok_or(())?;
        if end > self.size {
            return Err(());
        }
        let length = usize::try_from(size).map_err(|_| ())?;
        if let Some(bytes) = self.held(offset).and_then(|held| held.get(..length)) {
            return Ok(bytes);
        }
        self.wanted.set(Some(offset..end));
        Err(())
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        let end = range.end.min(self.size);
        if range.start >= end {
            return Err(());
        }
        let most = (end - range.start).min(MAX_STRING) as usize;
        let held = self.held(range.start).unwrap_or_default();
        let bytes = &held[..held.len().min(most)];
        match bytes.iter().position(|&byte| byte == delimiter) {
            Some(at) => Ok(&bytes[..at]),
            None if bytes.len() < most => {
                self.wanted
                    .set(Some(range.start..range.start + most as u64));
                Err(())
            }
            None => Err(()),
        }
    }
}
