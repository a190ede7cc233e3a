//! Whether a database of the daemon's is whole.
//!
//! BuildKit writes its databases without waiting for the disk, so a node that loses power may leave one of which some pages are
//! new and others old. bbolt finds that at the first use of such a page, and ends the daemon with a panic, again at every start.
//! So all pages that are in use are looked at before it starts.
//!
//! Source: <https://github.com/etcd-io/bbolt/blob/v1.5.0/internal/common/page.go>, `meta.go`, `bucket.go`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// Bytes of a page's header: its number, flags, count of elements, count of pages that follow it.
const HEADER: usize = 16;
/// Bytes of an element of a branch or of a leaf.
const ELEMENT: usize = 16;
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
const FREE_LIST: u16 = 0x10;
/// No page: the list of free pages is not kept.
const NONE: u64 = u64::MAX;
/// Flag of an element whose value is a bucket.
const BUCKET: u32 = 1;

/// What is wrong with the database at `path`; none where it is whole, empty, missing, or of a version that is not known.
///
/// # Errors
/// Where it cannot be read.
pub(super) fn broken(path: &Path) -> std::io::Result<Option<String>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    if file.metadata()?.len() == 0 {
        return Ok(None);
    }
    match walk(&file) {
        Ok(()) => Ok(None),
        Err(Fault::Unread(error)) if error.kind() != ErrorKind::UnexpectedEof => Err(error),
        Err(Fault::Unread(_)) => Ok(Some("it is cut off".into())),
        Err(Fault::Broken(why)) => Ok(Some(why)),
    }
}

enum Fault {
    Unread(std::io::Error),
    Broken(String),
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::Unread(error)
    }
}

fn broken_page(number: u64, what: &str) -> Fault {
    Fault::Broken(format!("page {number} {what}"))
}

/// The head of a database: where its pages begin.
#[derive(Clone, Copy)]
struct Meta {
    page_size: usize,
    root: u64,
    free_list: u64,
    /// Number of the first page that was never used.
    end: u64,
    transaction: u64,
}

fn walk(file: &File) -> Result<(), Fault> {
    let Some(meta) = meta(file)? else {
        return Ok(());
    };
    if meta.free_list != NONE {
        let page = Page::read(file, &meta, meta.free_list)?;
        if page.flags != FREE_LIST {
            return Err(broken_page(meta.free_list, "is no list of free pages"));
        }
    }
    let mut seen = BTreeSet::new();
    let mut ahead = vec![meta.root];
    while let Some(number) = ahead.pop() {
        if !seen.insert(number) {
            return Err(broken_page(number, "is used twice"));
        }
        Page::read(file, &meta, number)?.leads_to(&mut ahead)?;
    }
    Ok(())
}

/// That of the newest transaction that was written whole; none where this is another version of bbolt's.
fn meta(file: &File) -> Result<Option<Meta>, Fault> {
    let mut first = [0; HEADER + 64];
    file.read_exact_at(&mut first, 0)?;
    let mut found = vec![];
    let mut other_version = false;
    let mut read = |bytes: &[u8]| {
        let (meta, known) = parse_meta(bytes);
        found.extend(meta);
        other_version |= !known;
    };
    read(&first);
    // The second one is a page away; where the first is broken its size may be any that bbolt takes.
    for shift in 9..=16 {
        let mut second = [0; HEADER + 64];
        match file.read_exact_at(&mut second, 1 << shift) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
            other => other?,
        }
        if u32_at(&second, HEADER) == MAGIC {
            read(&second);
            break;
        }
    }
    match found.into_iter().max_by_key(|meta| meta.transaction) {
        Some(meta) => Ok(Some(meta)),
        None if other_version => Ok(None),
        None => Err(Fault::Broken(
            "it is no database: its head is invalid".into(),
        )),
    }
}

/// What a page of the head says, where it is whole; and false where it is of a version that is not known.
fn parse_meta(bytes: &[u8]) -> (Option<Meta>, bool) {
    let at = &bytes[HEADER..];
    if u32_at(at, 0) != MAGIC {
        return (None, true);
    }
    if u32_at(at, 4) != VERSION {
        return (None, false);
    }
    let meta = Meta {
        page_size: u32_at(at, 8) as usize,
        root: u64_at(at, 16),
        free_list: u64_at(at, 32),
        end: u64_at(at, 40),
        transaction: u64_at(at, 48),
    };
    let whole = u64_at(at, 56) == fnv(&at[..56]) && (512..=1 << 16).contains(&meta.page_size);
    (whole.then_some(meta), true)
}

/// FNV-1a, 64 bits, as Go's `hash/fnv`.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

struct Page {
    number: u64,
    flags: u16,
    count: usize,
    bytes: Vec<u8>,
}

impl Page {
    fn read(file: &File, meta: &Meta, number: u64) -> Result<Self, Fault> {
        if number < 2 || number >= meta.end {
            return Err(broken_page(number, "does not exist"));
        }
        let at = number.checked_mul(meta.page_size as u64);
        let at = at.ok_or_else(|| broken_page(number, "does not exist"))?;
        let mut bytes = vec![0; meta.page_size];
        file.read_exact_at(&mut bytes, at)?;
        if u64_at(&bytes, 0) != number {
            return Err(broken_page(number, "was not written"));
        }
        let more = u32_at(&bytes, 12) as usize;
        let size = more.saturating_add(1).saturating_mul(meta.page_size);
        if at.saturating_add(size as u64) > file.metadata()?.len() {
            return Err(broken_page(number, "is cut off"));
        }
        if more > 0 {
            bytes.resize(size, 0);
            file.read_exact_at(&mut bytes, at)?;
        }
        Ok(Self {
            number,
            flags: u16_at(&bytes, 8),
            count: usize::from(u16_at(&bytes, 10)),
            bytes,
        })
    }

    /// The pages that this one names: those below it, and the roots of buckets.
    fn leads_to(&self, ahead: &mut Vec<u64>) -> Result<(), Fault> {
        let past_its_end = || broken_page(self.number, "names bytes past its end");
        if !matches!(self.flags, BRANCH | LEAF) {
            return Err(broken_page(self.number, "is neither branch nor leaf"));
        }
        if HEADER + self.count * ELEMENT > self.bytes.len() {
            return Err(past_its_end());
        }
        for index in 0..self.count {
            let start = HEADER + index * ELEMENT;
            let element = &self.bytes[start..start + ELEMENT];
            let [first, second, third] = [0, 4, 8].map(|at| u32_at(element, at) as usize);
            let (position, length) = match self.flags {
                BRANCH => (first, second),
                _ => (second, third + u32_at(element, 12) as usize),
            };
            let end = start + position + length;
            if end > self.bytes.len() {
                return Err(past_its_end());
            }
            if self.flags == BRANCH {
                ahead.push(u64_at(element, 8));
            } else if u32_at(element, 0) & BUCKET != 0 {
                let value = start + position + third;
                if end - value < HEADER {
                    return Err(broken_page(self.number, "has a bucket without a root"));
                }
                // Without a page of its own it stands in the value.
                let root = u64_at(&self.bytes, value);
                ahead.extend((root != 0).then_some(root));
            }
        }
        Ok(())
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by bbolt v1.5.0 with pages of 1,024 bytes: nested buckets, one of them within its parent's page, a branch, and a
    /// value of several pages.
    const WHOLE: &[u8] = include_bytes!("../testdata/pages.db");

    fn judged(bytes: &[u8]) -> Option<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        broken(file.path()).unwrap()
    }

    /// With the page of this number changed.
    fn with_page(number: usize, change: impl FnOnce(&mut [u8])) -> Option<String> {
        let mut bytes = WHOLE.to_vec();
        change(&mut bytes[number * 1024..(number + 1) * 1024]);
        judged(&bytes)
    }

    fn used() -> Vec<(usize, u16)> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), WHOLE).unwrap();
        let file = File::open(file.path()).unwrap();
        let meta = meta(&file).ok().flatten().unwrap();
        let mut ahead = vec![meta.root];
        let mut used = vec![];
        while let Some(number) = ahead.pop() {
            let page = Page::read(&file, &meta, number).ok().unwrap();
            used.push((usize::try_from(number).unwrap(), page.flags));
            page.leads_to(&mut ahead).ok().unwrap();
        }
        used
    }

    #[test]
    fn a_database_that_bbolt_wrote_is_whole() {
        assert_eq!(judged(WHOLE), None);
        let used = used();
        assert!(used.iter().any(|(_, flags)| *flags == BRANCH), "{used:?}");
        assert!(used.len() > 5, "{used:?}");
    }

    #[test]
    fn one_that_is_missing_or_empty_is_made_anew_by_the_daemon() {
        assert_eq!(broken(Path::new("/no/such/file.db")).unwrap(), None);
        assert_eq!(judged(b""), None);
    }

    #[test]
    fn one_that_is_cut_off_is_broken_wherever_it_is_cut() {
        let last = used().into_iter().map(|(number, _)| number).max().unwrap();
        for end in [1, 100, 1024, 2048, 3000, last * 1024 + 1] {
            assert!(judged(&WHOLE[..end]).is_some(), "{end}");
        }
    }

    #[test]
    fn a_page_in_use_that_was_not_written_is_found_whichever_it_is() {
        for (number, _) in used() {
            let zeros = with_page(number, |page| page.fill(0));
            assert_eq!(zeros, Some(format!("page {number} was not written")));
            let old = with_page(number, |page| {
                page[..8].copy_from_slice(&77_u64.to_ne_bytes())
            });
            assert_eq!(old, Some(format!("page {number} was not written")));
            let other = with_page(number, |page| page[8] = 4);
            assert_eq!(
                other,
                Some(format!("page {number} is neither branch nor leaf"))
            );
            let count = with_page(number, |page| page[10..12].fill(0xff));
            assert_eq!(
                count,
                Some(format!("page {number} names bytes past its end"))
            );
        }
    }

    #[test]
    fn no_byte_that_is_changed_makes_the_check_itself_fail() {
        for at in 0..WHOLE.len() / 61 {
            let mut bytes = WHOLE.to_vec();
            bytes[at * 61] ^= 0xff;
            judged(&bytes);
        }
    }

    #[test]
    fn a_broken_head_is_covered_by_the_other_one_and_two_are_not() {
        assert_eq!(with_page(0, |page| page[HEADER + 16] ^= 1), None);
        assert_eq!(with_page(1, |page| page[HEADER + 16] ^= 1), None);
        let mut bytes = WHOLE.to_vec();
        bytes[..2048].fill(7);
        let said = judged(&bytes);
        assert_eq!(said, Some("it is no database: its head is invalid".into()));
    }

    #[test]
    fn a_version_that_is_not_known_is_left_to_the_daemon() {
        let mut bytes = WHOLE.to_vec();
        for page in [0, 1024] {
            bytes[page + HEADER + 4] = 3;
        }
        bytes[4096..].fill(0);
        assert_eq!(judged(&bytes), None);
    }
}
