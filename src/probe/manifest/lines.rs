//! Pure: what go-yaml and kubectl see in the lines of a text, and the parser here sees otherwise.
//!
//! kubectl parts a text at its lines that begin with `---`, wherever they stand (YAMLReader of
//! k8s.io/apimachinery, pkg/util/yaml). go-yaml takes the lines of a quoted scalar at any column, and a tab in front of
//! nothing that may be a key (scannerc.go).

use std::borrow::Cow;
use std::ops::Range;

use super::{Error, Place};

/// Bytes that are put in and parsed again in all, for texts that are no longer than this.
const MOST: usize = 64 << 20;
/// Lines of quoted scalars that are indented anew.
const MOST_LINES: usize = 5_000;

/// The text with its separators as the parser takes them, and byte for byte as long.
pub(super) fn separated(text: &str) -> Result<Cow<'_, str>, Error> {
    let mut parted = Cow::Borrowed(text);
    let mut at = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if let Some(rest) = line.strip_prefix("---") {
            let said = rest.trim();
            if !said.is_empty() && !said.starts_with('#') {
                return Err(Error {
                    place: Place {
                        line: number + 1,
                        column: 4,
                    },
                    why: format!(
                        "unexpected {} after ---: kubectl allows only a comment there",
                        said.chars().take(40).collect::<String>()
                    ),
                });
            }
            // `---# comment`
            if rest.starts_with('#') {
                let end = at + 3 + rest.trim_end_matches(['\r', '\n']).len();
                parted
                    .to_mut()
                    .replace_range(at + 3..end, &" ".repeat(end - at - 3));
            }
        }
        at += line.len();
    }
    Ok(parted)
}

/// A text in which lines of quoted scalars are indented further than in the file.
pub(super) struct Indented<'t> {
    /// As it is in the file, but for its separators.
    original: Cow<'t, str>,
    pub(super) text: Cow<'t, str>,
    /// Where blanks stand in it in place of others: from, how many there are, and how many there were.
    moved: Vec<(usize, usize, usize)>,
    deep: usize,
    work: usize,
}

impl<'t> Indented<'t> {
    pub(super) fn new(text: Cow<'t, str>) -> Self {
        let blanks = |line: &str| line.bytes().take_while(|b| *b == b' ').count();
        // Deeper than all there is.
        let deep = text.lines().map(blanks).max().unwrap_or_default() + 2;
        Self {
            original: text.clone(),
            text,
            moved: Vec::new(),
            deep,
            work: 0,
        }
    }

    /// Indents a line that begins within a quoted scalar; false where that is too much.
    pub(super) fn indent(&mut self, line: usize) -> bool {
        self.work += self.text.len() + self.deep;
        if self.work > MOST || self.moved.len() >= MOST_LINES {
            return false;
        }
        let start: usize = self
            .text
            .split_inclusive('\n')
            .take(line.saturating_sub(1))
            .map(str::len)
            .sum();
        let had = self.text[start..]
            .bytes()
            .take_while(|b| matches!(b, b' ' | b'\t'))
            .count();
        if self.moved.iter().any(|(at, ..)| *at == start) {
            return false;
        }
        self.text
            .to_mut()
            .replace_range(start..start + had, &" ".repeat(self.deep));
        let more = self.deep - had.min(self.deep);
        let less = had.saturating_sub(self.deep);
        for (at, ..) in &mut self.moved {
            if *at > start {
                *at = *at + more - less;
            }
        }
        self.moved.push((start, self.deep, had));
        self.moved.sort_unstable();
        true
    }

    /// True where a line of a scalar, but for its first, begins as the end of a document does.
    pub(super) fn ends_within(&self, range: &Range<usize>) -> bool {
        let lines = self.original[range.clone()].split('\n').skip(1);
        lines
            .filter_map(|line| line.strip_prefix("..."))
            .any(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r']))
    }

    /// Why a key is none, where it stands on several lines without a `?`.
    pub(super) fn broken_key(&self, range: &Range<usize>) -> Option<&'static str> {
        let broken = self.original[range.clone()].contains('\n')
            && !self.original[..range.start].trim_end().ends_with('?');
        broken.then_some("a key spans more than one line")
    }

    /// Where a byte stands in the file.
    pub(super) fn back(&self, at: usize) -> usize {
        let mut back = at;
        for (start, now, had) in &self.moved {
            if at <= *start {
                break;
            }
            let within = (at - start).min(*now);
            back = back - within + within.min(*had);
        }
        back
    }

    /// Where a place of a line stands in the file.
    pub(super) fn column(&self, at: usize, column: usize) -> usize {
        column
            - (at - self.back(at))
                .min(column.saturating_sub(1))
                .min(self.shift(at))
    }

    /// By how much the line of a byte was moved.
    fn shift(&self, at: usize) -> usize {
        let line = self.text[..at.min(self.text.len())]
            .rfind('\n')
            .map_or(0, |end| end + 1);
        let moved = self.moved.iter().find(|(start, ..)| *start == line);
        moved.map_or(0, |(_, now, had)| now.saturating_sub(*had))
    }
}

/// The first tab that begins a line, or stands behind a `-`, where go-yaml takes none; `taken`: the bytes of scalars of
/// more than one line and of flow collections, in their order.
pub(super) fn tab(text: &str, taken: &[Range<usize>]) -> Option<Place> {
    if !text.contains('\t') {
        return None;
    }
    let mut at = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let lead = line.trim_start_matches([' ', '-', '?', '\t']);
        let begin = &line[..line.len() - lead.len()];
        // A dash without a blank behind it begins a scalar.
        let marks = begin.trim_start_matches([' ', '\t']);
        let begin = match marks.is_empty() || marks.ends_with([' ', '\t']) {
            true => begin,
            false => &begin[..begin.len() - marks.len()],
        };
        if let Some(column) = begin.find('\t')
            && !line.starts_with("---")
        {
            let place = at + column;
            let before = taken.partition_point(|range| range.start <= place);
            // They do not lie within one another.
            if taken[..before]
                .last()
                .is_none_or(|range| place >= range.end)
            {
                return Some(Place {
                    line: number + 1,
                    column: column + 1,
                });
            }
        }
        at += line.len();
    }
    None
}

/// True where the block scalar that a text ends before says in its head how far it is indented: `|2`.
pub(super) fn says_indentation(before: &str) -> bool {
    let head = before.rfind(['|', '>']).map_or("", |at| &before[at + 1..]);
    head.chars()
        .take_while(|c| matches!(c, '0'..='9' | '+' | '-'))
        .any(|c| c.is_ascii_digit())
}
