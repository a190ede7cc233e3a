//! ELF files, read from a stream: what a program or library needs in order to start.
//!
//! Sources: the System V ABI (<https://refspecs.linuxfoundation.org/elf/gabi4+/contents.html>), ld.so(8).
//! Nothing that a file says of its own offsets is believed: each is checked against the file.

mod parts;
mod versions;

use super::shell::ShellFile;
use std::cell::Cell;
use std::io::{self, Read};

use object::elf;
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, ReadRef};

use parts::Parts;
use versions::Versions;

/// Bytes of one string (a library's name, a search path).
const MAX_STRING: u64 = 4096;
/// Needed libraries of one file.
const MAX_NEEDED: usize = 1024;
/// Bytes of a dynamic section, or of the strings behind it, read past the beginning of a file.
const MAX_PART: u64 = 4 << 20;
/// Program headers; real files have about a dozen.
const MAX_SEGMENTS: usize = 4096;
/// Places of one file that are read past its beginning.
const MAX_PARTS: usize = 32;
/// Bytes of notes that are looked into.
const MAX_NOTES: u64 = 4096;
/// Bytes that suffice for programs without a dynamic section.
const FIRST: usize = 64 << 10;

/// What an ELF file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A program at a fixed address (ET_EXEC).
    Executable,
    /// A program at any address (ET_DYN, marked as one or with an interpreter).
    PositionIndependent,
    /// A shared library (ET_DYN).
    Library,
    /// An object file, a kernel module or a core dump: nothing that is started.
    Other,
}

/// A machine: what e_machine says, with class and byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    /// e_machine.
    pub code: u16,
    /// True for ELFCLASS64.
    pub wide: bool,
    /// True for ELFDATA2LSB.
    pub little: bool,
}

impl Machine {
    /// The architecture as OCI and Go call it; `None` for one that Go does not know.
    pub fn architecture(self) -> Option<&'static str> {
        Some(match (self.code, self.wide, self.little) {
            (elf::EM_X86_64, true, true) => "amd64",
            (elf::EM_AARCH64, true, true) => "arm64",
            (elf::EM_ARM, false, true) => "arm",
            (elf::EM_386, false, true) => "386",
            (elf::EM_PPC64, true, true) => "ppc64le",
            (elf::EM_PPC64, true, false) => "ppc64",
            (elf::EM_S390, true, false) => "s390x",
            (elf::EM_RISCV, true, true) => "riscv64",
            (elf::EM_LOONGARCH, true, true) => "loong64",
            (elf::EM_MIPS, true, false) => "mips64",
            (elf::EM_MIPS, true, true) => "mips64le",
            (elf::EM_MIPS, false, false) => "mips",
            (elf::EM_MIPS, false, true) => "mipsle",
            _ => return None,
        })
    }

    /// The architecture for people: `amd64`, or the number where it is not known.
    pub fn display(self) -> String {
        self.architecture().map_or_else(
            || {
                format!(
                    "ELF machine {} ({} bit)",
                    self.code,
                    if self.wide { 64 } else { 32 }
                )
            },
            str::to_owned,
        )
    }
}

/// What is known of one ELF file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elf {
    /// What it is for.
    pub form: Form,
    /// What it runs on.
    pub machine: Machine,
    /// PT_INTERP: the loader.
    pub interpreter: Option<String>,
    /// DT_NEEDED, in their order.
    pub needed: Vec<String>,
    /// DT_RPATH, as written; several parts parted by colons.
    pub rpath: Option<String>,
    /// DT_RUNPATH, as written.
    pub runpath: Option<String>,
    /// DT_SONAME.
    pub soname: Option<String>,
    /// Versions of symbols that other libraries must have: (library, version), weak ones left out. Empty
    /// where the table could not be read.
    pub versions_needed: Vec<(String, String)>,
    /// Versions of symbols that it has itself.
    pub versions: Vec<String>,
    /// DF_1_NODEFLIB: the default directories and the cache are not searched.
    pub no_default_paths: bool,
    /// Of glibc's loader: the directories that it was built to search.
    pub system_paths: Vec<String>,
    /// True where Go's linker has noted its build ID, as it does unless told otherwise.
    pub go: bool,
    /// Of a file that is named as shells are: which it is.
    pub shell: Option<ShellFile>,
}

impl Elf {
    /// True where nothing else is needed to start it.
    pub fn is_static(&self) -> bool {
        self.interpreter.is_none() && self.needed.is_empty()
    }

    /// Bytes of memory, about.
    pub(super) fn bytes(&self) -> usize {
        let strings = [&self.interpreter, &self.rpath, &self.runpath, &self.soname];
        size_of::<Self>()
            + strings
                .into_iter()
                .flatten()
                .map(|s| s.len() + 16)
                .sum::<usize>()
            + self.needed.iter().map(|s| s.len() + 40).sum::<usize>()
            + self.versions.iter().map(|s| s.len() + 40).sum::<usize>()
            + self
                .versions_needed
                .iter()
                .map(|(library, version)| library.len() + version.len() + 80)
                .sum::<usize>()
    }
}

/// Why an ELF file cannot be judged.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElfFault {
    /// It ends before what its headers point at.
    #[error("it is truncated: its headers point past its end")]
    CutShort,
    /// It contradicts itself.
    #[error("it is not a valid ELF file: {0}")]
    Malformed(&'static str),
    /// What it needs lies behind what was held, or is too much.
    #[error("it is too large to be read from a stream")]
    TooLarge,
}

/// True where a file begins as ELF does.
pub fn is_elf(start: &[u8]) -> bool {
    start.starts_with(&elf::ELFMAG)
}

/// Reads an ELF file of `size` bytes from `content`, which may end early, holding at most `held` bytes of
/// its beginning in `scratch`. What a file needs mostly lies at its beginning or at its end; where it
/// lies in parts that went by, the file is `TooLarge`. The outer error is that of the stream.
pub fn read_elf(
    content: &mut impl Read,
    size: u64,
    held: usize,
    scratch: &mut Vec<u8>,
) -> io::Result<Result<Elf, ElfFault>> {
    scratch.clear();
    let mut parts = Parts {
        size,
        start: std::mem::take(scratch),
        more: Vec::new(),
        most: held,
        wanted: Cell::new(None),
    };
    let result = fill(content, &mut parts, held);
    *scratch = parts.start;
    // A loader is small: it lies in `scratch` whole.
    Ok(result?.map(|mut elf| {
        if is_loader(elf.soname.as_deref()) {
            elf.system_paths = system_paths(scratch);
        }
        elf
    }))
}

fn fill(
    content: &mut impl Read,
    parts: &mut Parts,
    held: usize,
) -> io::Result<Result<Elf, ElfFault>> {
    let mut position = more(content, &mut parts.start, held.min(FIRST))?;
    loop {
        let fault = match parse(parts) {
            Ok(elf) if !is_loader(elf.soname.as_deref()) => return Ok(Ok(elf)),
            // The loader's own paths may lie further on.
            Ok(elf) => {
                more(content, &mut parts.start, held)?;
                return Ok(Ok(elf));
            }
            Err(fault) => fault,
        };
        let Some(wanted) = parts.wanted.take() else {
            return Ok(Err(fault));
        };
        // The whole beginning first: what lies far off mostly points back into it.
        if parts.more.is_empty() && parts.start.len() < held {
            let before = position;
            position = more(content, &mut parts.start, held)?;
            if position > before {
                continue;
            }
        }
        if position < parts.size && position < wanted.start {
            let skip = wanted.start - position;
            position += io::copy(&mut content.by_ref().take(skip), &mut io::sink())?;
        }
        let length = wanted.end - wanted.start;
        if wanted.start < position || length > MAX_PART || parts.more.len() >= MAX_PARTS {
            return Ok(Err(ElfFault::TooLarge));
        }
        let mut bytes = Vec::new();
        let read = content.by_ref().take(length).read_to_end(&mut bytes)? as u64;
        position += read;
        if read < length {
            return Ok(Err(ElfFault::CutShort));
        }
        parts.more.push((wanted.start, bytes));
    }
}

/// Reads on until `buffer` holds `most` bytes or the end has come; gives its length.
fn more(content: &mut impl Read, buffer: &mut Vec<u8>, most: usize) -> io::Result<u64> {
    let left = most.saturating_sub(buffer.len()) as u64;
    content.by_ref().take(left).read_to_end(buffer)?;
    Ok(buffer.len() as u64)
}

fn parse(parts: &Parts) -> Result<Elf, ElfFault> {
    if parts.start.len() < 20 {
        return Err(ElfFault::CutShort);
    }
    match parts.start[4] {
        elf::ELFCLASS32 => parse_class::<elf::FileHeader32<Endianness>>(parts),
        elf::ELFCLASS64 => parse_class::<elf::FileHeader64<Endianness>>(parts),
        _ => Err(ElfFault::Malformed("invalid class: neither 32 nor 64 bit")),
    }
}

fn parse_class<H: FileHeader<Endian = Endianness>>(parts: &Parts) -> Result<Elf, ElfFault> {
    let cut = |_| ElfFault::CutShort;
    let header = parts.read_at::<H>(0).map_err(|()| ElfFault::CutShort)?;
    if !header.is_supported() {
        return Err(ElfFault::Malformed("unknown ELF version"));
    }
    let endian = header
        .endian()
        .map_err(|_| ElfFault::Malformed("unknown byte order"))?;
    let machine = Machine {
        code: header.e_machine(endian),
        wide: header.is_class_64(),
        little: endian == Endianness::Little,
    };
    let mut found = Elf {
        form: Form::Other,
        machine,
        interpreter: None,
        needed: Vec::new(),
        rpath: None,
        runpath: None,
        soname: None,
        versions_needed: Vec::new(),
        versions: Vec::new(),
        no_default_paths: false,
        system_paths: Vec::new(),
        go: false,
        shell: None,
    };
    let kind = header.e_type(endian);
    if kind != elf::ET_EXEC && kind != elf::ET_DYN {
        return Ok(found);
    }
    let segments = header.program_headers(endian, parts).map_err(cut)?;
    if segments.len() > MAX_SEGMENTS {
        return Err(ElfFault::Malformed("too many program headers"));
    }
    for segment in segments {
        let (offset, size) = segment.file_range(endian);
        // Linux maps what lies behind the end, and ends the program at its first touch.
        if segment.p_type(endian) == elf::PT_LOAD
            && offset.checked_add(size).is_none_or(|end| end > parts.size)
        {
            return Err(ElfFault::CutShort);
        }
        // It stands at the beginning; where it does not, it is not worth a search.
        if segment.p_type(endian) == elf::PT_NOTE
            && let Some(held) = parts.held(offset)
        {
            let size = usize::try_from(size.min(MAX_NOTES)).unwrap_or(0);
            found.go |= is_go(&held[..held.len().min(size)]);
        }
        if segment.p_type(endian) == elf::PT_INTERP {
            if size > MAX_STRING {
                return Err(ElfFault::Malformed("the interpreter's name is too long"));
            }
            let bytes = parts
                .read_bytes_at(offset, size)
                .map_err(|()| ElfFault::CutShort)?;
            let name = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
            found.interpreter = Some(text(name));
        }
    }
    let marked = dynamic::<H>(parts, endian, segments, &mut found)?;
    found.form = match kind {
        elf::ET_EXEC => Form::Executable,
        _ if marked || found.interpreter.is_some() => Form::PositionIndependent,
        // Linkers before 2016 did not mark static programs at any address.
        _ if found.soname.is_none()
            && found.needed.is_empty()
            && header.e_entry(endian).into() != 0 =>
        {
            Form::PositionIndependent
        }
        _ => Form::Library,
    };
    Ok(found)
}

/// True where notes have one of the owner Go of type 4, its build ID
/// (<https://github.com/golang/go/blob/go1.26.0/src/cmd/link/internal/ld/elf.go>), in either byte order.
fn is_go(notes: &[u8]) -> bool {
    notes.windows(8).any(|window| {
        matches!(
            window,
            [4, 0, 0, 0, b'G', b'o', 0, 0] | [0, 0, 0, 4, b'G', b'o', 0, 0]
        )
    })
}

/// Reads the dynamic section; true where it says that the file is a program (DF_1_PIE).
fn dynamic<H: FileHeader<Endian = Endianness>>(
    parts: &Parts,
    endian: Endianness,
    segments: &[H::ProgramHeader],
    found: &mut Elf,
) -> Result<bool, ElfFault> {
    let Some(segment) = segments
        .iter()
        .find(|segment| segment.p_type(endian) == elf::PT_DYNAMIC)
    else {
        return Ok(false);
    };
    if segment.file_range(endian).1 > MAX_PART {
        return Err(ElfFault::Malformed("the dynamic section is too long"));
    }
    let entries = segment
        .dynamic(endian, parts)
        .map_err(|_| ElfFault::CutShort)?
        .unwrap_or_default();
    let mut marked = false;
    // Addresses and numbers of the tables of versions.
    let (mut needs, mut has) = ((None, 0), (None, 0));
    let mut strings = (None, 0_u64);
    // (tag, offset into the strings)
    let mut names: Vec<(i64, u64)> = Vec::new();
    for entry in entries {
        let value = entry.val(endian);
        match entry.tag(endian) {
            elf::DT_NULL => break,
            elf::DT_STRTAB => strings.0 = Some(value),
            elf::DT_STRSZ => strings.1 = value,
            elf::DT_VERNEED => needs.0 = Some(value),
            elf::DT_VERNEEDNUM => needs.1 = value,
            elf::DT_VERDEF => has.0 = Some(value),
            elf::DT_VERDEFNUM => has.1 = value,
            elf::DT_FLAGS_1 => {
                marked = value & elf::DF_1_PIE as u64 != 0;
                found.no_default_paths = value & elf::DF_1_NODEFLIB as u64 != 0;
            }
            tag @ (elf::DT_NEEDED | elf::DT_RPATH | elf::DT_RUNPATH | elf::DT_SONAME) => {
                if names.len() >= MAX_NEEDED {
                    return Err(ElfFault::Malformed("too many libraries"));
                }
                names.push((tag, value));
            }
            _ => {}
        }
    }
    if names.is_empty() {
        return Ok(marked);
    }
    let Some(address) = strings.0 else {
        return Err(ElfFault::Malformed(
            "the dynamic section has no string table",
        ));
    };
    let start = offset_of::<H>(endian, segments, address).ok_or(ElfFault::Malformed(
        "the string table is outside of all segments",
    ))?;
    let end = start.checked_add(strings.1).ok_or(ElfFault::CutShort)?;
    if end > parts.size {
        return Err(ElfFault::CutShort);
    }
    // At once, where it can be: what lies behind the dynamic section then goes by just once.
    if strings.1 <= MAX_PART && parts.held(start).is_none() {
        parts
            .read_bytes_at(start, strings.1)
            .map_err(|()| ElfFault::CutShort)?;
    }
    for (tag, at) in names {
        let from = start.checked_add(at).ok_or(ElfFault::CutShort)?;
        let name = parts
            .read_bytes_at_until(from..end, 0)
            .map_err(|()| ElfFault::Malformed("a name is outside of the string table"))?;
        let name = text(name);
        match tag {
            elf::DT_NEEDED => found.needed.push(name),
            elf::DT_RPATH => found.rpath = Some(name),
            elf::DT_RUNPATH => found.runpath = Some(name),
            _ => found.soname = Some(name),
        }
    }
    let tables = Versions {
        parts,
        endian,
        strings: start..end,
    };
    for ((address, count), needed) in [(needs, true), (has, false)] {
        let Some(at) = address.and_then(|address| offset_of::<H>(endian, segments, address)) else {
            continue;
        };
        // What went by, or is not held any more, is not known: that is no fault of the file.
        if parts.held(at).is_none() {
            if parts.may_hold(at) {
                parts
                    .read_bytes_at(at, 1)
                    .map_err(|()| ElfFault::CutShort)?;
            }
            continue;
        }
        if needed {
            found.versions_needed = tables.needed(at, count).unwrap_or_default();
        } else {
            found.versions = tables.defined(at, count).unwrap_or_default();
        }
        // A table that is held in part makes the same again.
        if parts
            .wanted
            .take()
            .is_some_and(|wanted| parts.may_hold(wanted.start))
        {
            parts.wanted.set(Some(at..at + 1));
            return Err(ElfFault::CutShort);
        }
    }
    Ok(marked)
}

/// Where in the file the byte at a virtual address lies.
fn offset_of<H: FileHeader<Endian = Endianness>>(
    endian: Endianness,
    segments: &[H::ProgramHeader],
    address: u64,
) -> Option<u64> {
    segments.iter().find_map(|segment| {
        if segment.p_type(endian) != elf::PT_LOAD {
            return None;
        }
        let within = address.checked_sub(segment.p_vaddr(endian).into())?;
        let (offset, size) = segment.file_range(endian);
        (within < size)
            .then(|| offset.checked_add(within))
            .flatten()
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// True for the SONAMEs of glibc's loader: ld-linux-x86-64.so.2, ld64.so.2, ld.so.1.
fn is_loader(soname: Option<&str>) -> bool {
    soname.is_some_and(|name| {
        name.starts_with("ld-linux") || name.starts_with("ld64.so") || name.starts_with("ld.so")
    })
}

/// The directories that glibc's loader was built to search, out of its bytes: strings one after the
/// other that begin and end with a slash (`system_dirs` in elf/dl-load.c). Debian's has
/// `/lib/x86_64-linux-gnu/`, `/usr/lib/x86_64-linux-gnu/`, `/lib/`, `/usr/lib/`; Fedora's `/lib64/`,
/// `/usr/lib64/`. None where there are none.
fn system_paths(bytes: &[u8]) -> Vec<String> {
    let mut run: Vec<String> = Vec::new();
    let mut best: Vec<String> = Vec::new();
    for string in bytes.split(|&byte| byte == 0) {
        // What stands before the first one may touch it.
        let path = match string.iter().position(|&byte| byte == b'/') {
            Some(at) if run.is_empty() => &string[at..],
            _ => string,
        };
        let is_path = path.len() > 2
            && path.len() < 256
            && path.starts_with(b"/")
            && path.ends_with(b"/")
            && path
                .iter()
                .all(|byte| (0x21..0x7f).contains(byte) && *byte != b'%');
        if is_path {
            run.push(text(path).trim_end_matches('/').to_owned());
            continue;
        }
        if run.len() > best.len() && run.iter().any(|path| path.contains("/lib")) {
            best = std::mem::take(&mut run);
        }
        run.clear();
    }
    best.truncate(16);
    best
}

#[cfg(test)]
mod tests;
