//! What is kept about the contents of files while they stream by.

use std::io::{self, Read};

use super::certificates::Certificates;
use super::elf::{Elf, ElfFault, is_elf, read_elf};
use super::limits::Limits;
use super::shell::{Marks, may_be_shell};

/// Bytes of a script's first line that Linux reads (BINPRM_BUF_SIZE).
const SCRIPT_LINE: usize = 256;

/// What is known of one file's contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A program or a library.
    Elf(Elf),
    /// An ELF file that cannot be judged.
    BadElf(ElfFault),
    /// The first line of an executable script, after `#!`.
    Script(String),
    /// A program of another system: which one.
    Foreign(&'static str),
    /// A PEM file.
    Certificates(Certificates),
    /// The whole contents of a small file: passwd, os-release, the loader's settings.
    Text(Vec<u8>),
    /// A file of one of these kinds that is too large to be held.
    TooLarge,
}

impl Fact {
    /// Bytes of memory, about, with the place in a map.
    pub(super) fn bytes(&self) -> usize {
        let own = match self {
            Self::Elf(elf) => elf.bytes(),
            Self::Script(line) => line.len(),
            Self::Certificates(found) => found.bytes(),
            Self::Text(bytes) => bytes.len(),
            Self::BadElf(_) | Self::Foreign(_) | Self::TooLarge => 0,
        };
        own + size_of::<Self>() + 48
    }
}

/// A file in which a shell's marks are looked for as it is read.
struct Marked<R> {
    inner: R,
    marks: Marks,
}

impl<R: Read> Read for Marked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.marks.add(&buffer[..count]);
        Ok(count)
    }
}

/// What to look for in a file, by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interest {
    Program,
    Text,
    Certificates,
}

fn interest(path: &[&[u8]]) -> Interest {
    let name = path.last().copied().unwrap_or_default();
    let folder = path.iter().rev().nth(1).copied().unwrap_or_default();
    match name {
        b"passwd" | b"group" if folder == b"etc" => Interest::Text,
        b"os-release" | b"ld.so.conf" | b"ld.so.cache" => Interest::Text,
        _ if folder == b"ld.so.conf.d" && name.ends_with(b".conf") => Interest::Text,
        _ if name.starts_with(b"ld-musl-") && name.ends_with(b".path") => Interest::Text,
        _ if name.ends_with(b".pem") || name.ends_with(b".crt") => Interest::Certificates,
        _ => Interest::Program,
    }
}

/// Looks into a file of `size` bytes. `path`: its parts; `mode`: its permission bits. What is not read
/// of `content` is left there.
pub(super) fn examine(
    path: &[&[u8]],
    mode: u16,
    size: u64,
    content: &mut impl Read,
    limits: &Limits,
    scratch: &mut Vec<u8>,
) -> io::Result<Option<Fact>> {
    let interest = interest(path);
    if interest != Interest::Program {
        if size > limits.text_bytes {
            return Ok(Some(Fact::TooLarge));
        }
        let mut bytes = Vec::new();
        content.take(limits.text_bytes).read_to_end(&mut bytes)?;
        return Ok(match interest {
            Interest::Certificates => {
                let found = Certificates::read(&bytes);
                (found != Certificates::default()).then_some(Fact::Certificates(found))
            }
            _ => Some(Fact::Text(bytes)),
        });
    }
    let mut start = Vec::with_capacity(4);
    content.take(4).read_to_end(&mut start)?;
    if is_elf(&start) {
        let mut whole = start.as_slice().chain(content);
        let name = String::from_utf8_lossy(path.last().copied().unwrap_or_default());
        let (found, shell) = if may_be_shell(&name) {
            let mut marked = Marked {
                inner: whole,
                marks: Marks::default(),
            };
            let found = read_elf(&mut marked, size, limits.elf_bytes, scratch)?;
            io::copy(&mut marked, &mut io::sink())?;
            (found, Some(marked.marks.shell()))
        } else {
            let found = read_elf(&mut whole, size, limits.elf_bytes, scratch)?;
            (found, None)
        };
        return Ok(Some(match found {
            Ok(elf) => Fact::Elf(Elf { shell, ..elf }),
            Err(fault) => Fact::BadElf(fault),
        }));
    }
    if mode & 0o111 == 0 {
        return Ok(None);
    }
    if start.starts_with(b"#!") {
        let mut line = start[2..].to_vec();
        content
            .take((SCRIPT_LINE - start.len()) as u64)
            .read_to_end(&mut line)?;
        let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
        return Ok(Some(Fact::Script(
            String::from_utf8_lossy(line).into_owned(),
        )));
    }
    Ok(match start.as_slice() {
        [b'M', b'Z', ..] => Some(Fact::Foreign("Windows")),
        [0xcf | 0xce, 0xfa, 0xed, 0xfe] | [0xca, 0xfe, 0xba, 0xbe] => Some(Fact::Foreign("macOS")),
        _ => None,
    })
}

/// Capabilities of a file (capabilities(7), `struct vfs_cap_data`), as masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileCapabilities {
    /// What it gives.
    pub(super) permitted: u64,
    /// What whoever runs it must be able to gain: with the effective bit all that is permitted, else nothing.
    pub(super) demanded: u64,
}

/// The value of the attribute security.capability. `None` where the value is none.
///
/// With the effective bit Linux refuses to run the file (EPERM) where it cannot give all that is permitted, which
/// the bounding set bounds, for root as for others, with no_new_privs as without (bprm_caps_from_vfs_caps of
/// security/commoncap.c). A file whose root is another user namespace's gives nothing and demands nothing.
pub(super) fn file_capabilities(value: &[u8]) -> Option<FileCapabilities> {
    let word = |at: usize| -> Option<u32> {
        Some(u32::from_le_bytes(value.get(at..at + 4)?.try_into().ok()?))
    };
    let magic = word(0)?;
    let revision = magic >> 24;
    let permitted = match revision {
        1 => u64::from(word(4)?),
        2 | 3 => u64::from(word(4)?) | u64::from(word(12)?) << 32,
        _ => return None,
    };
    let foreign = revision == 3 && word(20).unwrap_or_default() != 0;
    let effective = magic & 1 != 0 && !foreign;
    // Bits that Linux has no capability for are passed over (CAP_VALID_MASK).
    let valid = (1 << CAPABILITIES.len()) - 1;
    Some(FileCapabilities {
        permitted,
        demanded: if effective { permitted & valid } else { 0 },
    })
}

/// What containers have where their Pod says nothing of capabilities (defaultUnixCaps of containerd,
/// pkg/oci/spec.go).
pub const DEFAULT_CAPABILITIES: [&str; 14] = [
    "chown",
    "dac_override",
    "fsetid",
    "fowner",
    "mknod",
    "net_raw",
    "setgid",
    "setuid",
    "setfcap",
    "setpcap",
    "net_bind_service",
    "sys_chroot",
    "kill",
    "audit_write",
];

/// True where every container has all of a mask that drops none.
pub(super) fn had_by_default(mask: u64) -> bool {
    let default = |bit: usize| {
        CAPABILITIES
            .get(bit)
            .is_some_and(|name| DEFAULT_CAPABILITIES.contains(name))
    };
    (0..64).all(|bit| mask >> bit & 1 == 0 || default(bit))
}

/// Names of capabilities, by their bit (include/uapi/linux/capability.h of Linux 6.6).
const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// The names of a mask's capabilities: `cap_net_bind_service`.
pub(super) fn capability_names(mask: u64) -> Vec<String> {
    (0..64)
        .filter(|bit| mask >> bit & 1 == 1)
        .map(|bit| match CAPABILITIES.get(bit) {
            Some(name) => format!("cap_{name}"),
            None => format!("cap_{bit}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(path: &str, mode: u16, bytes: &[u8]) -> Option<Fact> {
        let parts: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
        let mut scratch = Vec::new();
        examine(
            &parts,
            mode,
            bytes.len() as u64,
            &mut &bytes[..],
            &Limits::default(),
            &mut scratch,
        )
        .unwrap()
    }

    #[test]
    fn a_script_keeps_its_first_line_only_where_it_is_executable() {
        assert_eq!(
            look("run", 0o755, b"#!/bin/sh -e\necho"),
            Some(Fact::Script("/bin/sh -e".into()))
        );
        assert_eq!(look("run", 0o644, b"#!/bin/sh\n"), None);
        let long = format!("#!/{}\n", "x".repeat(1000));
        assert!(matches!(
            look("run", 0o755, long.as_bytes()),
            Some(Fact::Script(line)) if line.len() == 254
        ));
    }

    #[test]
    fn programs_of_other_systems_are_told_apart() {
        assert_eq!(
            look("a.exe", 0o755, b"MZ\x90\0"),
            Some(Fact::Foreign("Windows"))
        );
        assert_eq!(
            look("a", 0o755, &[0xcf, 0xfa, 0xed, 0xfe, 7]),
            Some(Fact::Foreign("macOS"))
        );
        assert_eq!(look("a", 0o755, b""), None);
    }

    #[test]
    fn small_settings_are_kept_whole_and_large_ones_are_said_to_be() {
        assert_eq!(
            look("etc/passwd", 0o644, b"x"),
            Some(Fact::Text(b"x".to_vec()))
        );
        assert_eq!(look("var/passwd", 0o644, b"xxxx"), None);
        assert_eq!(
            look("etc/passwd", 0o644, &vec![b'x'; 3 << 20]),
            Some(Fact::TooLarge)
        );
    }

    #[test]
    fn capabilities_have_their_names() {
        let value = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        let found = file_capabilities(&value).unwrap();
        assert_eq!(
            capability_names(found.permitted),
            ["cap_net_bind_service", "cap_mac_override"]
        );
        assert_eq!(file_capabilities(&[1, 0]), None);
    }

    #[test]
    fn the_effective_bit_demands_what_is_permitted() {
        let value = |revision: u8, effective: u8, mask: u64, root: u32| {
            let mut value = vec![effective, 0, 0, revision];
            value.extend((mask as u32).to_le_bytes());
            value.extend([0; 4]);
            if revision > 1 {
                value.extend(((mask >> 32) as u32).to_le_bytes());
                value.extend([0; 4]);
            }
            if revision == 3 {
                value.extend(root.to_le_bytes());
            }
            file_capabilities(&value).unwrap()
        };
        let (ipc_lock, bpf) = (1 << 14, 1 << 39);
        for (found, permitted, demanded) in [
            (value(1, 1, ipc_lock, 0), ipc_lock, ipc_lock),
            (
                value(2, 1, ipc_lock | bpf, 0),
                ipc_lock | bpf,
                ipc_lock | bpf,
            ),
            (value(2, 0, ipc_lock, 0), ipc_lock, 0),
            (value(3, 1, ipc_lock, 0), ipc_lock, ipc_lock),
            (value(3, 1, ipc_lock, 1000), ipc_lock, 0),
            (value(2, 1, 1 << 62, 0), 1 << 62, 0),
            (value(2, 1, 0, 0), 0, 0),
        ] {
            assert_eq!((found.permitted, found.demanded), (permitted, demanded));
        }
        assert!(had_by_default(1 << 10 | 1 << 13) && had_by_default(0));
        assert!(!had_by_default(1 << 10 | ipc_lock) && !had_by_default(1 << 63));
    }
}
