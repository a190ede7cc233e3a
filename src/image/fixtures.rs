//! Layers and ELF files made in memory, for tests.

use std::collections::HashMap;
use std::io::Write;

use tar::{EntryType, Header};

use super::{Image, LayerSource, Limits};

/// A tar as it grows; and mode and owner of its files, which links to them repeat.
pub struct Tar(tar::Builder<Vec<u8>>, HashMap<String, (u32, u64)>);

impl Default for Tar {
    fn default() -> Self {
        Self::new()
    }
}

impl Tar {
    pub fn new() -> Self {
        Self(tar::Builder::new(Vec::new()), HashMap::new())
    }

    /// A file with its permission bits.
    pub fn file(self, path: &str, mode: u32, bytes: &[u8]) -> Self {
        self.owned(path, mode, 0, bytes)
    }

    /// A file of an owner, who is its group too.
    pub fn owned(self, path: &str, mode: u32, owner: u64, bytes: &[u8]) -> Self {
        let mut header = header(EntryType::Regular, mode, bytes.len() as u64);
        header.set_uid(owner);
        header.set_gid(owner);
        self.append(header, path, bytes)
    }

    pub fn folder(self, path: &str, mode: u32) -> Self {
        self.append(header(EntryType::Directory, mode, 0), path, b"")
    }

    pub fn symlink(mut self, path: &str, target: &str) -> Self {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        self.0.append_link(&mut header, path, target).unwrap();
        self
    }

    /// With mode and owner of its file, as tools write it; of another layer's file with 0644 and root.
    pub fn hard_link(self, path: &str, target: &str) -> Self {
        let (mode, owner) = self.1.get(target).copied().unwrap_or((0o644, 0));
        self.hard_link_as(path, target, mode, owner)
    }

    /// With a mode and an owner of its own.
    pub fn hard_link_as(mut self, path: &str, target: &str, mode: u32, owner: u64) -> Self {
        let mut header = header(EntryType::Link, mode, 0);
        header.set_uid(owner);
        header.set_gid(owner);
        self.1.insert(path.into(), (mode, owner));
        self.0.append_link(&mut header, path, target).unwrap();
        self
    }

    /// PAX records for the entry that comes next.
    pub fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.0
            .append_pax_extensions(records.iter().copied())
            .unwrap();
        self
    }

    /// Any header, with a path that no checks are made of.
    pub fn raw(mut self, mut header: Header, path: &[u8], bytes: &[u8]) -> Self {
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path);
        header.set_cksum();
        self.0.append(&header, bytes).unwrap();
        self
    }

    fn append(mut self, mut header: Header, path: &str, bytes: &[u8]) -> Self {
        let attributes = (header.mode().unwrap(), header.uid().unwrap());
        self.1.insert(path.into(), attributes);
        self.0.append_data(&mut header, path, bytes).unwrap();
        self
    }

    pub fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// A header of a size, with nothing else.
pub fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// gzip, as BuildKit packs.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// One frame of zstd.
pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// An image of these layers, read whole.
pub fn image(layers: &[Vec<u8>]) -> Image {
    let mut image = Image::new(Limits::default());
    for layer in layers {
        image
            .add_layer(&layer[..], &LayerSource::default())
            .unwrap();
    }
    image
}

/// What an ELF file of a test is to have. 64 bit, little endian.
#[derive(Clone, Debug)]
pub struct ElfFile {
    pub machine: u16,
    pub kind: u16,
    pub interpreter: Option<&'static str>,
    pub needed: Vec<&'static str>,
    pub rpath: Option<&'static str>,
    pub runpath: Option<&'static str>,
    pub soname: Option<&'static str>,
    /// (library, version)
    pub versions_needed: Vec<(&'static str, &'static str)>,
    pub versions: Vec<&'static str>,
    pub flags_1: u64,
    /// Bytes between the strings and the dynamic section.
    pub gap: usize,
    /// True: the strings come behind the dynamic section.
    pub strings_last: bool,
    /// Bytes at the end.
    pub tail: Vec<u8>,
}

pub const AMD64: u16 = object::elf::EM_X86_64;
pub const ARM64: u16 = object::elf::EM_AARCH64;
/// glibc's loader on amd64.
pub const GLIBC: &str = "/lib64/ld-linux-x86-64.so.2";
/// musl's loader on amd64.
pub const MUSL: &str = "/lib/ld-musl-x86_64.so.1";

impl Default for ElfFile {
    fn default() -> Self {
        Self {
            machine: AMD64,
            kind: object::elf::ET_EXEC,
            interpreter: None,
            needed: Vec::new(),
            rpath: None,
            runpath: None,
            soname: None,
            versions_needed: Vec::new(),
            versions: Vec::new(),
            flags_1: 0,
            gap: 0,
            strings_last: false,
            tail: Vec::new(),
        }
    }
}

impl ElfFile {
    /// A program for a loader.
    pub fn program(interpreter: &'static str, needed: &[&'static str]) -> Self {
        Self {
            kind: object::elf::ET_DYN,
            interpreter: Some(interpreter),
            needed: needed.to_vec(),
            ..Self::default()
        }
    }

    /// A library.
    pub fn library(soname: &'static str, needed: &[&'static str]) -> Self {
        Self {
            kind: object::elf::ET_DYN,
            soname: Some(soname),
            needed: needed.to_vec(),
            ..Self::default()
        }
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        use object::elf as e;
        let mut strings = vec![0_u8];
        let mut entries: Vec<(i64, u64)> = Vec::new();
        let names = self.needed.iter().map(|name| (e::DT_NEEDED, *name));
        let others = [
            (e::DT_RPATH, self.rpath),
            (e::DT_RUNPATH, self.runpath),
            (e::DT_SONAME, self.soname),
        ];
        for (tag, name) in names.chain(others.into_iter().filter_map(|(t, n)| Some((t, n?)))) {
            entries.push((tag, strings.len() as u64));
            strings.extend_from_slice(name.as_bytes());
            strings.push(0);
        }
        let mut string = |name: &str| {
            let at = strings.len() as u32;
            strings.extend_from_slice(name.as_bytes());
            strings.push(0);
            at.to_le_bytes()
        };
        let (mut needs, mut has) = (Vec::new(), Vec::new());
        for (index, (library, version)) in self.versions_needed.iter().enumerate() {
            let last = index + 1 == self.versions_needed.len();
            needs.extend_from_slice(&[1, 0, 1, 0]);
            needs.extend_from_slice(&string(library));
            needs.extend_from_slice(&16_u32.to_le_bytes());
            needs.extend_from_slice(&(if last { 0 } else { 32_u32 }).to_le_bytes());
            needs.extend_from_slice(&[0; 8]);
            needs.extend_from_slice(&string(version));
            needs.extend_from_slice(&[0; 4]);
        }
        for (index, version) in self.versions.iter().enumerate() {
            let last = index + 1 == self.versions.len();
            has.extend_from_slice(&[1, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0, 0]);
            has.extend_from_slice(&20_u32.to_le_bytes());
            has.extend_from_slice(&(if last { 0 } else { 28_u32 }).to_le_bytes());
            has.extend_from_slice(&string(version));
            has.extend_from_slice(&[0; 4]);
        }
        let tables = usize::from(!needs.is_empty()) * 2 + usize::from(!has.is_empty()) * 2;
        if self.flags_1 != 0 {
            entries.push((e::DT_FLAGS_1, self.flags_1));
        }
        let has_dynamic = !entries.is_empty() || tables > 0;
        let interpreter = self
            .interpreter
            .map(|name| [name.as_bytes(), b"\0"].concat())
            .unwrap_or_default();
        let segments = 1 + usize::from(has_dynamic) + usize::from(self.interpreter.is_some());
        let interpreter_at = 64 + 56 * segments as u64;
        let body = interpreter_at + interpreter.len() as u64;
        let dynamic_size = 16 * ((entries.len() + tables) as u64 + 3);
        let (strings_at, dynamic_at) = if self.strings_last {
            let dynamic = body + self.gap as u64;
            (dynamic + dynamic_size, dynamic)
        } else {
            (body, body + strings.len() as u64 + self.gap as u64)
        };
        let needs_at = (strings_at + strings.len() as u64).max(dynamic_at + dynamic_size);
        let has_at = needs_at + needs.len() as u64;
        let end = has_at + has.len() as u64;
        for (tag, count, table, at, number) in [
            (
                e::DT_VERNEED,
                e::DT_VERNEEDNUM,
                &needs,
                needs_at,
                self.versions_needed.len(),
            ),
            (
                e::DT_VERDEF,
                e::DT_VERDEFNUM,
                &has,
                has_at,
                self.versions.len(),
            ),
        ] {
            if !table.is_empty() {
                entries.push((tag, at));
                entries.push((count, number as u64));
            }
        }

        let mut file = Vec::new();
        file.extend_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        file.extend_from_slice(&self.kind.to_le_bytes());
        file.extend_from_slice(&self.machine.to_le_bytes());
        file.extend_from_slice(&1_u32.to_le_bytes());
        for word in [0x1000_u64, 64, 0] {
            file.extend_from_slice(&word.to_le_bytes());
        }
        file.extend_from_slice(&0_u32.to_le_bytes());
        for half in [64_u16, 56, segments as u16, 64, 0, 0] {
            file.extend_from_slice(&half.to_le_bytes());
        }
        let mut segment = |kind: u32, offset: u64, size: u64| {
            file.extend_from_slice(&kind.to_le_bytes());
            file.extend_from_slice(&4_u32.to_le_bytes());
            for word in [offset, offset, offset, size, size, 8] {
                file.extend_from_slice(&word.to_le_bytes());
            }
        };
        segment(e::PT_LOAD, 0, end);
        if has_dynamic {
            segment(e::PT_DYNAMIC, dynamic_at, dynamic_size);
        }
        if self.interpreter.is_some() {
            segment(e::PT_INTERP, interpreter_at, interpreter.len() as u64);
        }
        file.extend_from_slice(&interpreter);
        file.resize(end as usize, 0);
        if has_dynamic {
            entries.push((e::DT_STRTAB, strings_at));
            entries.push((e::DT_STRSZ, strings.len() as u64));
            entries.push((e::DT_NULL, 0));
            let mut at = dynamic_at as usize;
            for (tag, value) in entries {
                file[at..at + 8].copy_from_slice(&tag.to_le_bytes());
                file[at + 8..at + 16].copy_from_slice(&value.to_le_bytes());
                at += 16;
            }
        }
        file[needs_at as usize..has_at as usize].copy_from_slice(&needs);
        file[has_at as usize..end as usize].copy_from_slice(&has);
        let at = strings_at as usize;
        file[at..at + strings.len()].copy_from_slice(&strings);
        file.extend_from_slice(&self.tail);
        file
    }
}
