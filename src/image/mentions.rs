//! What files name: paths, libraries and, in an application's own texts, programs. A program opens by name what no header of its
//! file lists, and the name stands in its bytes.
//!
//! Nothing is understood here: what looks like a name is kept, bounded, and whether there is anything of that name is asked later.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};

use memchr::{memchr_iter, memmem};

/// Texts over this size are data.
const TEXT: u64 = 1 << 20;
/// Bytes of a script, of a package database: what is read as a whole.
const WHOLE: u64 = 4 << 20;
/// Bytes of one name.
const NAME: usize = 160;
/// Files with holes over this size are not looked at: holes cost nothing to store, and time to read.
const HOLES: u64 = 64 << 20;
/// Parts of paths that compilers write down: of sources, which nobody opens.
const SOURCES: [&[u8]; 5] = [
    b"/rustc/",
    b"/registry/src/",
    b"/pkg/mod/",
    b"/usr/local/go/src/",
    b"/usr/lib/go/src/",
];
/// Bytes of what one file names.
const FILE: usize = 48 << 10;
/// Folders of the root by which an absolute path is known.
const TOPS: [&[u8]; 14] = [
    b"/etc/", b"/usr/", b"/opt/", b"/var/", b"/lib", b"/bin/", b"/sbin/", b"/srv/", b"/home/",
    b"/root/", b"/app/", b"/data/", b"/run/", b"/nix/",
];

/// Functions of the C library that open something by a name which stands in that library, and what is noted for them.
const SYMBOLS: [(&[u8], &[u8]); 6] = [
    (b"\0system\0", b"/bin/sh"),
    (b"\0popen\0", b"/bin/sh"),
    // Without what stands before: a linker merges a name into the end of a longer one (g_iconv_open of GLib).
    (b"iconv_open\0", ICONV),
    (b"\0pthread_cancel\0", UNWINDER),
    (b"\0pthread_exit\0", UNWINDER),
    (b"\0backtrace\0", UNWINDER),
];
/// What unwinds a stack.
const UNWINDER: &[u8] = b"libgcc_s.so.1";
/// Stands for the converters of character sets.
pub(crate) const ICONV: &[u8] = b"iconv_open()";

/// Stands for files below /tmp, which a program puts together.
pub(crate) const TEMPORARY: &[u8] = b"tmp()";
/// Stands for the starting of other programs by a text of the application.
pub(crate) const SPAWNS: &[u8] = b"spawn()";
/// Words that stand in such a text.
const SPAWNING: [&[u8]; 4] = [b"subprocess", b"os.system", b"os.popen", b"child_process"];

/// What one file names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mentions {
    /// Names, each with a zero byte behind it: paths begin with a slash, libraries have `.so` in them, all else are
    /// words in quotes.
    names: Vec<u8>,
    /// The whole text of a script or of a package database.
    pub(crate) text: Option<Box<[u8]>>,
    /// True where there were more names than are kept.
    pub(crate) cut: bool,
}

impl Mentions {
    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.text.is_none()
    }

    /// Bytes of memory, about.
    pub(crate) fn bytes(&self) -> usize {
        self.names.len() + self.text.as_ref().map_or(0, |text| text.len()) + 96
    }

    /// The names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.names
            .split(|&byte| byte == 0)
            .filter(|name| !name.is_empty())
    }
}

/// How a file is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// By its first bytes: they decide.
    Open,
    /// A program or a library: paths and libraries.
    Binary,
    /// A text: paths, and words in quotes where it is the application's own.
    Text,
    /// Kept whole, besides.
    Whole,
    /// Not at all.
    Not,
}

/// Reads a file, and what it names on the way.
pub(crate) struct Scan<R> {
    inner: R,
    look: Look,
    /// Its path says that it is to be kept whole.
    database: bool,
    /// Its name says that a shell reads it.
    script: bool,
    own: bool,
    size: u64,
    /// What was read and not looked at.
    pending: Vec<u8>,
    seen: HashSet<u64>,
    found: Mentions,
    text: Vec<u8>,
}

/// True for what package managers write down: which packages there are, and which files are whose.
fn is_database(path: &[&[u8]]) -> bool {
    match path {
        [b"var", b"lib", b"dpkg", b"status"] => true,
        [b"var", b"lib", b"dpkg", b"status.d", _] => true,
        [b"var", b"lib", b"dpkg", b"info", name] => name.ends_with(b".list"),
        [b"lib", b"apk", b"db", b"installed"] => true,
        [b"usr", b"lib", b"apk", b"db", b"installed"] => true,
        [b"var", b"lib", b"apt", b"extended_states"] => true,
        [b"etc", b"apk", b"world"] => true,
        [b"etc", b"nsswitch.conf"] => true,
        _ => false,
    }
}

/// Documentation names everything, and opens nothing; nor do lists of users and services.
fn is_prose(path: &[&[u8]]) -> bool {
    match path {
        [b"etc", name] if !is_database(path) => matches!(
            *name,
            b"passwd"
                | b"group"
                | b"shadow"
                | b"gshadow"
                | b"shells"
                | b"services"
                | b"protocols"
                | b"os-release"
        ),
        [b"usr", b"share", folder, ..] => matches!(
            *folder,
            b"doc" | b"man" | b"locale" | b"info" | b"lintian" | b"zoneinfo" | b"i18n" | b"bug"
        ),
        [.., name] => {
            let ends = |end: &[u8]| name.ends_with(end);
            ends(b".md") || ends(b".h") || ends(b".html") || ends(b".po")
        }
        [] => false,
    }
}

impl<R: Read> Scan<R> {
    /// `path`: its parts; `own`: it is in no layer of the base; `holes`: not all of it is stored.
    pub(crate) fn new(path: &[&[u8]], size: u64, own: bool, holes: bool, inner: R) -> Self {
        let database = is_database(path);
        let skipped = is_prose(path) && !database || holes && size > HOLES;
        Self {
            inner,
            look: match skipped {
                true => Look::Not,
                false => Look::Open,
            },
            database,
            script: path.last().is_some_and(|name| name.ends_with(b".sh")),
            own,
            size,
            pending: Vec::new(),
            seen: HashSet::new(),
            found: Mentions::default(),
            text: Vec::new(),
        }
    }

    /// Reads what is left, as far as that is looked at.
    pub(crate) fn finish(mut self) -> io::Result<Mentions> {
        let mut buffer = vec![0; 32 << 10];
        while self.look != Look::Not {
            if self.read(&mut buffer)? == 0 {
                self.settle(true);
                break;
            }
        }
        if self.look == Look::Whole {
            self.found.text = Some(self.text.into_boxed_slice());
        }
        self.found.names.shrink_to_fit();
        Ok(self.found)
    }

    fn decide(&mut self) {
        let start = &self.pending;
        self.look = if start.starts_with(b"\x7fELF") {
            Look::Binary
        } else if self.database && self.size <= WHOLE {
            Look::Whole
        } else if self.size > TEXT || start.contains(&0) {
            Look::Not
        } else if (self.script || start.starts_with(b"#!")) && self.size <= TEXT / 4 {
            Look::Whole
        } else {
            Look::Text
        };
    }

    /// Looks at what was read: all but the end, where a name may be cut.
    fn settle(&mut self, end: bool) {
        if self.look == Look::Open {
            if self.pending.len() < 512 && !end {
                return;
            }
            self.decide();
        }
        if self.look == Look::Not {
            self.pending = Vec::new();
            return;
        }
        if !end && self.pending.len() < 16 << 10 {
            return;
        }
        let pending = std::mem::take(&mut self.pending);
        // Whatever begins before this place ends before the end.
        let until = match end {
            true => pending.len(),
            false => pending.len() - NAME,
        };
        // What package managers write down names everything, and opens nothing.
        if !self.database {
            self.paths(&pending, until);
        }
        if memmem::find(&pending, b"/tmp").is_some() {
            self.keep(TEMPORARY);
        }
        match self.look {
            Look::Binary => self.libraries(&pending, until),
            _ if self.own && !self.database => self.words(&pending, until),
            _ => {}
        }
        if self.look == Look::Whole {
            self.text.extend_from_slice(&pending[..until]);
        }
        if !end {
            self.pending = pending[until..].to_vec();
        }
    }

    fn keep(&mut self, name: &[u8]) {
        if SOURCES
            .iter()
            .any(|part| memmem::find(name, part).is_some())
        {
            return;
        }
        let mut hash = DefaultHasher::new();
        name.hash(&mut hash);
        if self.seen.insert(hash.finish()) {
            if self.found.names.len() + name.len() > FILE {
                self.found.cut = true;
                return;
            }
            self.found.names.extend_from_slice(name);
            self.found.names.push(0);
        }
    }

    fn paths(&mut self, bytes: &[u8], until: usize) {
        let binary = self.look == Look::Binary;
        let mut done = 0;
        for at in memchr_iter(b'/', &bytes[..until]) {
            // In a text, a name has a beginning; in a program, names may stand one behind the other.
            if !binary && (at < done || at > 0 && is_name(bytes[at - 1])) {
                continue;
            }
            let rest = &bytes[at..bytes.len().min(at + NAME)];
            if binary && !TOPS.iter().any(|top| rest.starts_with(top)) {
                continue;
            }
            let length = rest
                .iter()
                .position(|&byte| !is_name(byte) && byte != b'/')
                .unwrap_or(rest.len());
            done = at + length;
            if length > 4 {
                self.keep(&rest[..length]);
            }
        }
    }

    fn libraries(&mut self, bytes: &[u8], until: usize) {
        for (symbol, name) in SYMBOLS {
            if memmem::find(bytes, symbol).is_some_and(|at| at < until) {
                self.keep(name);
            }
        }
        for at in memmem::find_iter(bytes, b".so") {
            if at >= until {
                break;
            }
            let before = bytes[..at].iter().rev();
            let start = at - before.take(64).take_while(|&&byte| is_name(byte)).count();
            let after = bytes[at..].iter().take(24);
            let end = at + after.take_while(|&&byte| is_name(byte)).count();
            // Of a path, the path is kept.
            if start < at && (start == 0 || bytes[start - 1] != b'/') {
                self.keep(&bytes[start..end]);
            }
        }
    }

    /// Words in quotes that may be the names of programs.
    fn words(&mut self, bytes: &[u8], until: usize) {
        let spawns = |word: &&[u8]| memmem::find(bytes, word).is_some();
        if SPAWNING.iter().any(spawns) {
            self.keep(SPAWNS);
        }
        let quote = |byte: u8| matches!(byte, b'"' | b'\'' | b'`');
        let mut at = 0;
        while at < until {
            if !quote(bytes[at]) {
                at += 1;
                continue;
            }
            let word = &bytes[at + 1..bytes.len().min(at + 34)];
            let length = word.iter().take_while(|&&byte| is_name(byte)).count();
            let closes = word
                .get(length)
                .is_some_and(|&byte| quote(byte) || byte == b' ');
            if (2..33).contains(&length) && closes && word[0].is_ascii_lowercase() {
                let word = word[..length].to_vec();
                self.keep(&word);
            }
            at += 1 + length;
        }
    }
}

/// A byte that stands in names.
fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-+@%,~".contains(&byte)
}

impl<R: Read> Read for Scan<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if self.look != Look::Not {
            self.pending.extend_from_slice(&buffer[..count]);
            self.settle(false);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str, own: bool, bytes: &[u8], piece: usize) -> Vec<String> {
        struct Pieces<'a>(&'a [u8], usize);
        impl Read for Pieces<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let most = buffer.len().min(self.1);
                self.0.read(&mut buffer[..most])
            }
        }
        let parts: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
        let scan = Scan::new(&parts, bytes.len() as u64, own, false, Pieces(bytes, piece));
        let found = scan.finish().unwrap();
        let mut names: Vec<String> = found
            .names()
            .map(|name| String::from_utf8(name.to_vec()).unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_program_names_paths_and_libraries_wherever_its_pieces_end() {
        let mut bytes = b"\x7fELF".to_vec();
        bytes.extend(vec![0; 40_000]);
        bytes.extend_from_slice(b"x/etc/resolv.conf/usr/share/zoneinfo/\0libssl.so.3\0/lib/x.so\0");
        for piece in [1000, 4096, 32 << 10] {
            assert_eq!(
                names("app", false, &bytes, piece),
                [
                    "/etc/resolv.conf/usr/share/zoneinfo/",
                    "/lib/x.so",
                    "/usr/share/zoneinfo/",
                    "libssl.so.3"
                ]
            );
        }
    }

    #[test]
    fn a_text_names_paths_that_have_a_beginning_and_own_ones_words_too() {
        let text = b"run(['ffmpeg', \"/usr/bin/convert\"], cwd=a/usr/x) # \"Not\" 'a'";
        assert_eq!(
            names("app.py", true, text, 7),
            ["/usr/bin/convert", "ffmpeg"]
        );
        assert_eq!(names("app.py", false, text, 7), ["/usr/bin/convert"]);
    }

    #[test]
    fn prose_and_data_name_nothing() {
        assert!(names("usr/share/doc/x", true, b"/usr/bin/gcc", 9).is_empty());
        assert!(names("data.bin", true, b"\0/usr/bin/gcc", 9).is_empty());
    }

    #[test]
    fn scripts_and_what_package_managers_write_are_kept_whole() {
        let look = |path: &str, bytes: &[u8]| {
            let parts: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
            let scan = Scan::new(&parts, bytes.len() as u64, false, false, bytes);
            scan.finish().unwrap().text
        };
        assert_eq!(
            look("run.sh", b"#!/bin/sh\nexec app").as_deref(),
            Some(&b"#!/bin/sh\nexec app"[..])
        );
        assert!(look("lib.sh", b"run app").is_some());
        assert_eq!(look("run", b"exec app"), None);
        let long = b"Package: x\n".repeat(9000);
        assert_eq!(
            look("var/lib/dpkg/status", &long).as_deref(),
            Some(&long[..])
        );
    }

    #[test]
    fn what_one_file_names_is_bounded() {
        let text: String = (0..20_000).map(|n| format!("/usr/x/{n}\n")).collect();
        let bytes: usize = names("x", false, text.as_bytes(), 999)
            .iter()
            .map(|name| name.len() + 1)
            .sum();
        assert!(bytes <= FILE, "{bytes}");
    }
}
