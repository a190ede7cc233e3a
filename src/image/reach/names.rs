//! What a file names, and what becomes of it: paths, libraries, programs, the interpreter of a script.

use memchr::memmem;

use super::Why;
use super::folders::{is_prose, is_source};
use super::walk::Walk;
use crate::facts::Fact;
use crate::mentions::{ICONV, SPAWNS, TEMPORARY};
use crate::shell::{base_name, outline};
use crate::tree::{Kind, NodeId};

/// Programs that only start another one, which a script's reader passes over.
const STARTERS: [&str; 17] = [
    "chroot",
    "dumb-init",
    "env",
    "flock",
    "gosu",
    "ionice",
    "nice",
    "nohup",
    "runuser",
    "setpriv",
    "stdbuf",
    "su",
    "su-exec",
    "sudo",
    "timeout",
    "tini",
    "xargs",
];

/// Paths that files name and that are looked up; real images have some tens of thousands.
const MOST_NAMED: usize = 500_000;

impl Walk<'_> {
    pub(super) fn script(&mut self, id: NodeId, line: &str) {
        let line = line.trim();
        let mut words = line.split_whitespace();
        if let Some(interpreter) = words.next() {
            self.keep_path(interpreter, Why::Interpreter, Some(id));
            if interpreter.ends_with("/env")
                && let Some(program) =
                    words.find(|word| !word.starts_with('-') && !word.contains('='))
            {
                self.keep_program(program, Why::Interpreter, Some(id));
            }
        }
        let image = self.image;
        let told = image
            .mentions
            .get(&id)
            .and_then(|told| told.text.as_deref());
        let shell = line
            .split_whitespace()
            .any(|word| crate::shell::is_shell(base_name(word)));
        if let Some(text) = told.filter(|_| shell) {
            self.shell_text(&String::from_utf8_lossy(text), Some(id));
        }
    }

    /// A text that a shell reads without it being a program: by its first line or by its name.
    pub(super) fn sourced(&mut self, id: NodeId) {
        let image = self.image;
        let told = image.mentions.get(&id);
        let Some(text) = told.and_then(|told| told.text.as_deref()) else {
            return;
        };
        let text = String::from_utf8_lossy(text);
        let first = text.lines().next().unwrap_or_default();
        let shell = match first.strip_prefix("#!") {
            Some(line) => line
                .split_whitespace()
                .any(|word| crate::shell::is_shell(base_name(word))),
            None => self.tree.name(id).ends_with(b".sh"),
        };
        if shell {
            self.shell_text(&text, Some(id));
        }
    }

    /// Programs that a shell's text calls.
    pub(super) fn shell_text(&mut self, text: &str, from: Option<NodeId>) {
        for command in outline(text).commands {
            self.keep_program(command.program(), Why::Called, from);
        }
        for line in text.lines() {
            let line = line.split(" #").next().unwrap_or_default();
            for word in line.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_') {
                if STARTERS.contains(&word) {
                    self.keep_program(word, Why::Called, from);
                }
            }
        }
    }

    /// All that a file names and the image has.
    pub(super) fn names(&mut self, id: NodeId) {
        let image = self.image;
        let Some(told) = image.mentions.get(&id) else {
            return;
        };
        let own_name = self.tree.name(id);
        // The C library names a shell for system(3), and converters for iconv(3); who calls these has their names.
        let is_libc = own_name.starts_with(b"libc.so") || own_name.starts_with(b"ld-");
        for name in told.names() {
            if name.starts_with(b"/") {
                let only_for_others =
                    name.starts_with(b"/bin/") || memmem::find(name, b"/gconv").is_some();
                if !(is_libc && only_for_others) {
                    self.named(name, Some(id));
                }
            } else if name == TEMPORARY || name == SPAWNS {
                // For the proposal of a stage.
            } else if name == ICONV {
                // These convert from the locale's set, which is UTF-8 or ASCII: the C library does that itself.
                let of_names =
                    own_name.starts_with(b"libidn2.") || own_name.starts_with(b"libunistring.");
                // Of C++ it is inline functions that call it: who uses them has the name itself (ext/codecvt_specializations.h).
                let of_cpp = own_name.starts_with(b"libstdc++.");
                if !is_libc && !of_names && !of_cpp {
                    self.converters(id);
                }
            } else if memmem::find(name, b".so").is_some() {
                self.open_library(&String::from_utf8_lossy(name), id);
            } else {
                self.word(&String::from_utf8_lossy(name), id);
            }
        }
    }

    /// What iconv(3) opens: the converters of the C library that is used.
    fn converters(&mut self, from: NodeId) {
        if std::mem::replace(&mut self.converts, true) {
            return;
        }
        let image = self.image;
        // Of several always the same one.
        let libc = image
            .mentions
            .keys()
            .filter(|id| self.is_kept(**id) && self.tree.name(**id).starts_with(b"libc.so"))
            .min()
            .copied();
        let Some(told) = libc.and_then(|id| image.mentions.get(&id)) else {
            return;
        };
        for name in told
            .names()
            .filter(|name| memmem::find(name, b"/gconv").is_some())
        {
            self.named(name, Some(from));
        }
    }

    /// A quoted word of the application that is the name of a program which its own Dockerfile installed.
    fn word(&mut self, name: &str, from: NodeId) {
        if name == "sh" || name == "bash" {
            self.keep_program(name, Why::Called, Some(from));
            return;
        }
        let Some(file) = self.resolver.called(name).file else {
            return;
        };
        if usize::from(self.tree.meta(file).layer) >= self.base {
            self.keep_program(name, Why::Called, Some(from));
        }
    }

    /// The longest beginning of a name that the image has.
    fn named(&mut self, name: &[u8], from: Option<NodeId>) {
        self.named += 1;
        if self.named > MOST_NAMED {
            return;
        }
        let mut at = self.tree.root();
        let mut path = String::new();
        let mut depth = 0;
        for part in name
            .split(|&byte| byte == b'/')
            .filter(|part| !part.is_empty())
        {
            if self.tree.meta(at).kind != Kind::Directory || part == b"." || part == b".." {
                break;
            }
            let lengths = (1..=part.len()).rev();
            let found = lengths
                .take(160)
                .find(|length| self.tree.child(at, &part[..*length]).is_some());
            let Some(length) = found else { break };
            let Ok(next) = self.tree.resolve(at, &part[..length]) else {
                break;
            };
            path.push('/');
            path.push_str(&String::from_utf8_lossy(&part[..length]));
            at = next;
            depth += 1;
            if length < part.len() {
                break;
            }
        }
        if depth < 2 {
            return;
        }
        match self.tree.meta(at).kind {
            Kind::Directory => {
                // That it is there may be enough: for a log, a lock, a socket.
                self.keep_path(&path, Why::Named, from);
                if !self.is_certificates_of_go(&self.tree.path(at), from) {
                    self.keep_folder(at, Why::Named, from);
                }
            }
            // A compiler writes down where its sources were.
            _ if is_prose(&self.parts(at)) || is_source(&self.parts(at)) => {}
            _ => {
                self.keep_path(&path, Why::Named, from);
            }
        }
    }

    /// Go looks into folders only where it has found no file with all certificates (crypto/x509/root_unix.go).
    fn is_certificates_of_go(&self, path: &str, from: Option<NodeId>) -> bool {
        let fact = from.and_then(|from| self.image.fact(from));
        let go = matches!(fact, Some(Fact::Elf(elf)) if elf.go || elf.is_static());
        go && matches!(path, "/etc/ssl/certs" | "/etc/pki/tls/certs")
            && self.tree.find("/etc/ssl/certs/ca-certificates.crt").is_ok()
    }

    /// A library that is opened by its name, by a program or by the text that a runtime reads.
    pub(super) fn open_library(&mut self, name: &str, from: NodeId) {
        let is_elf = matches!(self.image.fact(from), Some(Fact::Elf(_)));
        let Some(by) = is_elf.then_some(from).or(self.interpreter) else {
            return;
        };
        if let Some(path) = self.loader.open(name, by, self.interpreter) {
            self.keep_path(&path, Why::Opened, Some(from));
        }
    }

    /// What a variable of the image's config names.
    pub(super) fn variable(&mut self, value: &str, from: Option<NodeId>) {
        for part in value.split([':', ' ', ';', ',']).take(64) {
            match (part.starts_with('/'), from) {
                (true, _) => self.named(part.as_bytes(), from),
                (false, Some(from)) if part.contains(".so") => self.open_library(part, from),
                _ => {}
            }
        }
    }

    /// True where not all names were looked up.
    pub(super) fn names_too_many(&self) -> bool {
        self.named > MOST_NAMED
    }
}
