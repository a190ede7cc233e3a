//! What was asked for, and the document that says so.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Bytes of paths, at most.
const BYTES: usize = 16 << 20;
/// Programs that are named as unread, at most.
const UNREAD: usize = 100;

/// In which way a path was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[repr(u8)]
pub enum How {
    Executed = 1,
    LookedUp = 2,
    Opened = 4,
    ReadLink = 8,
}

const WAYS: [How; 4] = [How::Executed, How::LookedUp, How::Opened, How::ReadLink];

/// The document; the crate's own documentation says what the fields mean.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    pub version: u32,
    pub cut: bool,
    pub unread: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    pub entries: Vec<Entry>,
}

impl Document {
    /// Says why nothing could be traced.
    pub fn of_failure(why: String) -> Self {
        Self {
            version: 1,
            cut: true,
            unread: vec![],
            failed: Some(why),
            entries: vec![],
        }
    }

    /// Writes it: whole or not at all into a file, or one line to standard error.
    pub fn write(&self, output: Option<&Path>) -> io::Result<()> {
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        let Some(path) = output else {
            return io::stderr().lock().write_all(&text);
        };
        let mut part = OsString::from(path);
        part.push(".part");
        let part = PathBuf::from(part);
        std::fs::write(&part, &text)?;
        std::fs::rename(&part, path)
    }
}

/// A path.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub path: String,
    pub how: Vec<How>,
    pub found: bool,
}

#[derive(Default, Clone, Copy)]
struct Seen {
    ways: u8,
    /// Of these, in which something was found.
    found: u8,
}

/// What was asked for so far.
pub struct Notes {
    paths: BTreeMap<String, Seen>,
    limit: usize,
    bytes: usize,
    cut: bool,
    unread: BTreeSet<String>,
}

impl Notes {
    pub fn new(limit: usize) -> Self {
        Self {
            paths: BTreeMap::new(),
            limit,
            bytes: 0,
            cut: false,
            unread: BTreeSet::new(),
        }
    }

    /// Whether that it is found in this way would be no news.
    pub fn knows(&self, path: &str, how: How) -> bool {
        let seen = self.paths.get(path);
        seen.is_some_and(|seen| seen.found & how as u8 != 0)
    }

    pub fn add(&mut self, path: &str, how: How, found: bool) {
        if !self.paths.contains_key(path) {
            if self.paths.len() >= self.limit || self.bytes + path.len() > BYTES {
                self.cut = true;
                return;
            }
            self.bytes += path.len();
            self.paths.insert(path.to_owned(), Seen::default());
        }
        let seen = self.paths.get_mut(path).expect("it is there by now");
        seen.ways |= how as u8;
        seen.found |= if found { how as u8 } else { 0 };
    }

    /// A program whose calls are not seen.
    pub fn unread(&mut self, program: String) {
        if self.unread.len() < UNREAD {
            self.unread.insert(program);
        }
    }

    pub fn document(&self) -> Document {
        let entries = self.paths.iter().map(|(path, seen)| Entry {
            path: path.clone(),
            how: WAYS
                .into_iter()
                .filter(|how| seen.ways & *how as u8 != 0)
                .collect(),
            found: seen.found != 0,
        });
        Document {
            version: 1,
            cut: self.cut,
            unread: self.unread.iter().cloned().collect(),
            failed: None,
            entries: entries.collect(),
        }
    }

    /// Writes the document.
    pub fn write(&self, output: Option<&Path>) -> io::Result<()> {
        self.document().write(output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_noted_once_with_all_its_ways_and_found_where_one_found_it() {
        let mut notes = Notes::new(10);
        notes.add("/b", How::Opened, false);
        notes.add("/b", How::LookedUp, true);
        notes.add("/a", How::ReadLink, false);
        assert!(notes.knows("/b", How::LookedUp));
        assert!(!notes.knows("/b", How::Opened));
        let text = serde_json::to_string(&notes.document()).unwrap();
        assert_eq!(
            text,
            r#"{"version":1,"cut":false,"unread":[],"entries":[{"path":"/a","how":["readLink"],"found":false},"#
                .to_owned()
                + r#"{"path":"/b","how":["lookedUp","opened"],"found":true}]}"#
        );
    }

    #[test]
    fn more_paths_or_bytes_than_the_bounds_are_cut_and_told() {
        let mut notes = Notes::new(2);
        for path in ["/a", "/b", "/a"] {
            notes.add(path, How::Opened, true);
        }
        assert!(!notes.document().cut);
        notes.add("/c", How::Opened, true);
        notes.add("/a", How::LookedUp, true);
        let document = notes.document();
        assert!(document.cut);
        assert_eq!(document.entries.len(), 2);
        assert_eq!(document.entries[0].how, [How::LookedUp, How::Opened]);

        let mut notes = Notes::new(usize::MAX);
        let long = "x".repeat(4000);
        for number in 0..BYTES / 4000 + 1 {
            notes.add(&format!("/{number:06}{long}"), How::Opened, true);
        }
        assert!(notes.document().cut);
        assert!(notes.bytes <= BYTES);
    }
}
