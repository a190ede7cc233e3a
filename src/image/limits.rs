//! How much of an image is read, so that no image costs more memory or time than this, and what a
//! report says where it stopped.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::display_size;

/// Bounds of one image's reading. The defaults keep the whole process under 64 MiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes unpacked, over all layers.
    pub unpacked_bytes: u64,
    /// Unpacked bytes a packed byte, for one layer, once `ratio_floor` bytes are unpacked.
    pub ratio: u64,
    /// Bytes of a layer that are unpacked before its ratio counts: files of zeros are no bomb.
    pub ratio_floor: u64,
    /// Entries of tars, over all layers.
    pub entries: u64,
    /// Layers.
    pub layers: usize,
    /// Bytes of one path or link target; PATH_MAX of Linux.
    pub path_bytes: usize,
    /// Bytes of the file tree in memory. Past three quarters, plain files are counted and not kept.
    pub tree_bytes: usize,
    /// Bytes of what is kept about the contents of files.
    pub fact_bytes: usize,
    /// Bytes of one file that is kept whole (passwd, os-release, certificates).
    pub text_bytes: u64,
    /// Bytes of an ELF file's beginning that are held while it is read.
    pub elf_bytes: usize,
    /// Where it is to be found out what the image's program reaches: how many of its layers are its base's. Files are
    /// then read for what they name.
    pub reach: Option<u16>,
    /// Whether a print of each file's bytes is kept, and the names of packages: for comparing two images.
    pub prints: bool,
    /// How many things are noted that layers did to files; 0: none.
    pub steps: usize,
    /// Bytes of what is kept about what files name.
    pub mention_bytes: usize,
    /// Bytes of window that a zstd frame may ask for (RFC 8878, section 3.1.1.1.2).
    pub zstd_window: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            unpacked_bytes: 64 << 30,
            ratio: 200,
            ratio_floor: 1 << 30,
            entries: 4_000_000,
            layers: 512,
            path_bytes: 4096,
            tree_bytes: 30 << 20,
            fact_bytes: 6 << 20,
            text_bytes: 2 << 20,
            elf_bytes: 8 << 20,
            reach: None,
            prints: false,
            steps: 0,
            mention_bytes: 10 << 20,
            zstd_window: 8 << 20,
        }
    }
}

/// Something that was not read, or that a runtime would not unpack as it stands: the report is partial.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    /// The layer, from 1, where one is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<u32>,
    /// What was left out, and why.
    pub message: String,
}

/// Notes, bounded: the first of them, and how many more there were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// The first ones.
    pub first: Vec<Note>,
    /// How many more.
    pub omitted: u64,
}

impl Notes {
    /// Notes kept.
    const KEPT: usize = 20;

    /// Adds one; the same words twice stand once.
    pub(super) fn add(&mut self, layer: Option<u32>, message: String) {
        let note = Note { layer, message };
        if self.first.contains(&note) {
            return;
        }
        if self.first.len() < Self::KEPT {
            self.first.push(note);
        } else {
            self.omitted += 1;
        }
    }

    /// True where nothing was left out.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }
}

/// A bound that a layer went over.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// Bytes, over all layers.
    #[error("the image is too large: more than {} unpacked; the rest was not read", size(*.0))]
    Bytes(u64),
    /// Bytes unpacked a byte packed.
    #[error(
        "the layer unpacks to more than {ratio} times its packed size ({} from {}), as a decompression bomb does: \
         the rest was not read", size(*.unpacked), size(*.packed)
    )]
    Ratio {
        /// The bound.
        ratio: u64,
        /// Bytes unpacked so far.
        unpacked: u64,
        /// Bytes packed so far.
        packed: u64,
    },
    /// Entries, over all layers.
    #[error("too many entries: more than {0} in the image's layers; the rest was not read")]
    Entries(u64),
    /// Layers.
    #[error("too many layers: more than {0}; the rest was not read")]
    Layers(usize),
    /// Work for links that lead to links.
    #[error("too many symbolic links to follow; the rest was not read")]
    Steps,
    /// Memory for the tree.
    #[error("the image's file tree is too large: it needs more than {}; the rest was not read", size(*.0 as u64))]
    Tree(usize),
}

/// At most `most` bytes of a text, with an ellipsis where it is cut.
pub(super) fn short(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let mut end = most.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

/// Bytes for people.
pub(super) fn size(bytes: u64) -> String {
    display_size(i64::try_from(bytes).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_bounded_and_the_same_words_stand_once() {
        let mut notes = Notes::default();
        for index in 0..30 {
            notes.add(Some(1), format!("note {index}"));
            notes.add(Some(1), format!("note {}", index.min(19)));
        }
        assert_eq!((notes.first.len(), notes.omitted), (20, 10));
    }

    #[test]
    fn a_bound_that_was_passed_says_what_was_read() {
        assert_eq!(
            Exceeded::Ratio {
                ratio: 200,
                unpacked: 1 << 30,
                packed: 1 << 20
            }
            .to_string(),
            "the layer unpacks to more than 200 times its packed size (1.0 GiB from 1.0 MiB), as a decompression \
             bomb does: the rest was not read"
        );
    }
}
