//! The scripts of a context, for the fix where one does not start.

use std::fs;
use std::path::Path;

use super::source::head_of;
use crate::failure::Script;

/// How many files are looked through.
const SEEN: usize = 20_000;
/// How many are looked into.
const OPENED: usize = 1000;
/// How many scripts are kept.
const KEPT: usize = 200;
/// How much of a first line is kept, in bytes.
const LINE: u64 = 256;
/// How the names of scripts end; those without any ending may be some, too.
const ENDINGS: [&str; 7] = ["sh", "bash", "py", "rb", "pl", "js", "php"];

/// The scripts below `folder`, of which all may be strange: what cannot be read is left out.
pub(super) fn scripts(folder: &Path) -> Vec<Script> {
    let mut look = Look {
        root: folder,
        seen: 0,
        opened: 0,
        found: vec![],
    };
    look.folder(folder);
    look.found
}

struct Look<'a> {
    root: &'a Path,
    seen: usize,
    opened: usize,
    found: Vec<Script>,
}

impl Look<'_> {
    fn folder(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            self.seen += 1;
            if self.seen > SEEN || self.opened > OPENED || self.found.len() >= KEPT {
                return;
            }
            let path = entry.path();
            // Of the entry itself: a link is not followed.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && entry.file_name() != ".git" => self.folder(&path),
                Ok(kind) if kind.is_file() && may_be_one(&path) => self.open(&path),
                _ => {}
            }
        }
    }

    fn open(&mut self, path: &Path) {
        self.opened += 1;
        let within = path.strip_prefix(self.root).ok().and_then(Path::to_str);
        let Some(within) = within else { return };
        let Some(bytes) = head_of(self.root, within, LINE) else {
            return;
        };
        let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or(&bytes);
        if bytes.contains(&0) {
            return;
        }
        self.found.push(Script {
            path: within.to_owned(),
            first_line: String::from_utf8_lossy(line).into_owned(),
        });
    }
}

fn may_be_one(path: &Path) -> bool {
    match path.extension() {
        Some(ending) => ENDINGS
            .iter()
            .any(|known| ending.eq_ignore_ascii_case(known)),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_found_with_their_first_line_and_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("bin")).unwrap();
        fs::write(at("bin/run.sh"), "#!/bin/sh\r\necho\r\n").unwrap();
        fs::write(at("start"), "echo").unwrap();
        fs::write(at("photo.png"), "x").unwrap();
        fs::write(at("program"), b"\x7fELF\0\0").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", at("link.sh")).unwrap();
        let mut found = scripts(folder.path());
        found.sort_by(|a, b| a.path.cmp(&b.path));
        let script = |path: &str, line: &str| Script {
            path: path.into(),
            first_line: line.into(),
        };
        assert_eq!(
            found,
            [script("bin/run.sh", "#!/bin/sh\r"), script("start", "echo")]
        );
    }
}
