//! Versions of symbols: what a file needs of its libraries, and what a library has.

use std::ops::Range;

use object::{Endianness, ReadRef, elf};

use super::parts::Parts;
use super::{MAX_NEEDED, text};

/// Versions of symbols that are kept of one file.
const MAX_VERSIONS: usize = 512;

/// The tables of symbol versions (<https://refspecs.linuxfoundation.org/LSB_5.0.0/LSB-Core-generic/LSB-Core-generic/symversion.html>).
pub(super) struct Versions<'a> {
    pub(super) parts: &'a Parts,
    pub(super) endian: Endianness,
    pub(super) strings: Range<u64>,
}

impl Versions<'_> {
    fn string(&self, at: u32) -> Option<String> {
        let from = self.strings.start.checked_add(u64::from(at))?;
        let bytes = self
            .parts
            .read_bytes_at_until(from..self.strings.end, 0)
            .ok()?;
        Some(text(bytes))
    }

    /// What a file needs of others, but what it can do without.
    pub(super) fn needed(&self, mut at: u64, count: u64) -> Option<Vec<(String, String)>> {
        let mut found = Vec::new();
        for _ in 0..count.min(MAX_NEEDED as u64) {
            let entry: &elf::Verneed<Endianness> = self.parts.read_at(at).ok()?;
            let library = self.string(entry.vn_file.get(self.endian))?;
            let mut next = at.checked_add(u64::from(entry.vn_aux.get(self.endian)))?;
            for _ in 0..entry.vn_cnt.get(self.endian) {
                let version: &elf::Vernaux<Endianness> = self.parts.read_at(next).ok()?;
                if version.vna_flags.get(self.endian) & elf::VER_FLG_WEAK == 0 {
                    found.push((
                        library.clone(),
                        self.string(version.vna_name.get(self.endian))?,
                    ));
                }
                let step = version.vna_next.get(self.endian);
                if step == 0 || found.len() >= MAX_VERSIONS {
                    break;
                }
                next = next.checked_add(u64::from(step))?;
            }
            let step = entry.vn_next.get(self.endian);
            if step == 0 || found.len() >= MAX_VERSIONS {
                break;
            }
            at = at.checked_add(u64::from(step))?;
        }
        Some(found)
    }

    /// What a library has; its own name, which stands first, left out.
    pub(super) fn defined(&self, mut at: u64, count: u64) -> Option<Vec<String>> {
        let mut found = Vec::new();
        for _ in 0..count.min(MAX_VERSIONS as u64) {
            let entry: &elf::Verdef<Endianness> = self.parts.read_at(at).ok()?;
            if entry.vd_flags.get(self.endian) & elf::VER_FLG_BASE == 0 {
                let first = at.checked_add(u64::from(entry.vd_aux.get(self.endian)))?;
                let name: &elf::Verdaux<Endianness> = self.parts.read_at(first).ok()?;
                found.push(self.string(name.vda_name.get(self.endian))?);
            }
            let step = entry.vd_next.get(self.endian);
            if step == 0 {
                break;
            }
            at = at.checked_add(u64::from(step))?;
        }
        Some(found)
    }
}
