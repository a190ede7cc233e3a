//! The objects of a small pack (<https://git-scm.com/docs/gitformat-pack>), in memory and within bounds.

use std::collections::HashMap;
use std::io::Read;

use flate2::bufread::ZlibDecoder;
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

use crate::Error;

/// The most objects that are read.
const OBJECTS: u32 = 100_000;
/// The most that they may hold in all, in bytes.
const ALL: usize = 32 << 20;

/// What kind of object it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Commit,
    Tree,
    /// A blob or a tag: nobody asks for it.
    Other(&'static str),
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Tree => "tree",
            Self::Other(name) => name,
        }
    }
}

/// The objects of a pack, by their ids: these are computed from what is there, so nothing can be passed off as another.
pub(crate) fn objects(
    pack: &[u8],
    sha256: bool,
) -> Result<HashMap<String, (Kind, Vec<u8>)>, Error> {
    read(pack, sha256)
        .ok_or_else(|| Error::protocol("the server's answer is invalid: its pack cannot be read"))
}

fn read(pack: &[u8], sha256: bool) -> Option<HashMap<String, (Kind, Vec<u8>)>> {
    let number = |at: usize| Some(u32::from_be_bytes(pack.get(at..at + 4)?.try_into().ok()?));
    let count = number(8)?;
    if !pack.starts_with(b"PACK") || !matches!(number(4)?, 2 | 3) || count > OBJECTS {
        return None;
    }
    let length = if sha256 { 32 } else { 20 };
    let mut found: HashMap<String, (Kind, Vec<u8>)> = HashMap::new();
    // Where each object begins, for those that are written as a difference to one before.
    let mut places: HashMap<usize, String> = HashMap::new();
    let mut rest = ALL;
    let mut at = 12;
    for _ in 0..count {
        let begin = at;
        let (form, size) = header(pack, &mut at)?;
        let kind = match form {
            1 => Ok(Kind::Commit),
            2 => Ok(Kind::Tree),
            3 => Ok(Kind::Other("blob")),
            4 => Ok(Kind::Other("tag")),
            6 => Err(places
                .get(&begin.checked_sub(distance(pack, &mut at)?)?)?
                .clone()),
            7 => {
                let id = pack.get(at..at + length)?;
                at += length;
                Err(hex(id))
            }
            _ => return None,
        };
        let data = inflate(pack, &mut at, size, &mut rest)?;
        let (kind, data) = match kind {
            Ok(kind) => (kind, data),
            Err(base) => {
                let (kind, base) = found.get(&base)?;

                (*kind, changed(base, &data, &mut rest)?)
            }
        };
        let id = id(kind, &data, sha256);
        places.insert(begin, id.clone());
        found.insert(id, (kind, data));
    }
    Some(found)
}

/// Form and size of an object.
fn header(pack: &[u8], at: &mut usize) -> Option<(u8, usize)> {
    let mut byte = *pack.get(*at)?;
    *at += 1;
    let form = byte >> 4 & 7;
    let mut size = usize::from(byte & 15);
    let mut shift = 4;
    while byte & 0x80 != 0 {
        byte = *pack.get(*at)?;
        *at += 1;
        size |= usize::from(byte & 0x7f).checked_shl(shift)?;
        shift += 7;
        if shift > 40 {
            return None;
        }
    }
    Some((form, size))
}

/// How far before an object its base begins.
fn distance(pack: &[u8], at: &mut usize) -> Option<usize> {
    let mut distance = 0_usize;
    for first in [true, false, false, false, false, false] {
        let byte = *pack.get(*at)?;
        *at += 1;
        distance = (distance + usize::from(!first)) << 7 | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some(distance);
        }
    }
    None
}

fn inflate(pack: &[u8], at: &mut usize, size: usize, rest: &mut usize) -> Option<Vec<u8>> {
    *rest = rest.checked_sub(size)?;
    let mut decoder = ZlibDecoder::new(pack.get(*at..)?);
    let mut data = Vec::with_capacity(size);
    decoder
        .by_ref()
        .take(size as u64 + 1)
        .read_to_end(&mut data)
        .ok()?;
    *at += usize::try_from(decoder.total_in()).ok()?;
    (data.len() == size).then_some(data)
}

/// What becomes of an object by a difference.
fn changed(base: &[u8], difference: &[u8], rest: &mut usize) -> Option<Vec<u8>> {
    let mut at = 0;
    let mut size = || {
        let mut size = 0_usize;
        for shift in (0..42).step_by(7) {
            let byte = *difference.get(at)?;
            at += 1;
            size |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(size);
            }
        }
        None
    };
    let (before, after) = (size()?, size()?);
    if before != base.len() {
        return None;
    }
    *rest = rest.checked_sub(after)?;
    let mut data = Vec::with_capacity(after);
    let mut steps = difference[at..].iter().copied();
    while let Some(step) = steps.next() {
        if step & 0x80 == 0 {
            // So many new bytes; 0 is kept for later versions.
            let new = usize::from(step);
            let taken = data.len();
            data.extend(steps.by_ref().take(new));
            if new == 0 || data.len() != taken + new {
                return None;
            }
        } else {
            // Bytes of the base: four bits say which bytes of the place follow, three which of the length.
            let (mut place, mut length) = (0, 0);
            for bit in 0..4 {
                if step & 1 << bit != 0 {
                    place |= usize::from(steps.next()?) << (8 * bit);
                }
            }
            for bit in 0..3 {
                if step & 1 << (4 + bit) != 0 {
                    length |= usize::from(steps.next()?) << (8 * bit);
                }
            }
            let length = if length == 0 { 0x10000 } else { length };
            data.extend_from_slice(base.get(place..place.checked_add(length)?)?);
        }
        if data.len() > after {
            return None;
        }
    }
    (data.len() == after).then_some(data)
}

fn id(kind: Kind, data: &[u8], sha256: bool) -> String {
    let mut hash = Context::new(if sha256 {
        &SHA256
    } else {
        &SHA1_FOR_LEGACY_USE_ONLY
    });
    hash.update(format!("{} {}\0", kind.name(), data.len()).as_bytes());
    hash.update(data);
    hex(hash.finish().as_ref())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_applied_within_its_bounds() {
        let base = b"hello world";
        let applied = |steps: &[u8], after: u8| {
            let difference = [&[11, after], steps].concat();
            changed(base, &difference, &mut 1000)
        };
        // Five bytes of the base from 0, then two new ones.
        assert_eq!(applied(&[0x90, 5, 2, b'!', b'?'], 7).unwrap(), b"hello!?");
        assert_eq!(applied(&[0x91, 6, 5], 5).unwrap(), b"world");
        for (steps, after) in [
            (&[0x91, 6, 6][..], 6),
            (&[0x90, 5], 6),
            (&[0x90, 5], 4),
            (&[2, b'!'], 2),
            (&[0], 0),
            (&[0x80], 0),
        ] {
            assert_eq!(applied(steps, after), None, "{steps:?}");
        }
        assert_eq!(
            changed(base, &[11, 0xff, 0xff, 0xff, 0x7f], &mut 1000),
            None
        );
    }

    #[test]
    fn what_is_no_pack_or_says_more_than_it_has_is_an_error() {
        for pack in [
            &b""[..],
            b"PACK",
            b"PACK\0\0\0\x02\0\0\0\x01",
            b"PACK\0\0\0\x02\xff\xff\xff\xff",
            b"PACK\0\0\0\x02\0\0\0\x01\x9f\xff\xff\xff\xff\x7f",
            b"PACK\0\0\0\x02\0\0\0\x01\x65\x01",
        ] {
            assert!(objects(pack, false).is_err(), "{pack:?}");
        }
    }
}
