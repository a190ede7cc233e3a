//! Pure: YAML and JSON text → values with the places that they stand at in the text.
//!
//! Values are read as kubectl reads them, which is YAML 1.1 for plain scalars (`yes` is true, `0755` is
//! octal; sigs.k8s.io/yaml). Aliases and merge keys are followed; what they bring keeps the place of its
//! anchor.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use serde_json::{Map, Number, Value};
use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, Span, StructureStyle};

/// Values that may stand in anchors and come by aliases, in all; YAML bombs end here.
const MOST_NODES: usize = 200_000;

/// A place in the text: line and column from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// One value.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// Its bytes in the text; of a block, up to the end of its last value; of an alias, the alias.
    pub(super) span: Range<usize>,
    pub(super) end: Place,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Scalar(Value),
    Sequence(Vec<Node>),
    Mapping {
        entries: Vec<Entry>,
        /// `{…}`
        flow: bool,
    },
}

/// One entry of a mapping.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    /// The key's bytes, quotes included.
    pub(super) span: Range<usize>,
    pub(super) place: Place,
    pub(super) value: Node,
}

/// One document of a text.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) root: Node,
}

/// A text, read.
#[derive(Clone, Debug, Default)]
pub(super) struct Text {
    pub(super) documents: Vec<Document>,
    /// Bytes of its comments.
    pub(super) comments: Vec<Range<usize>>,
    /// Entries of mappings in whose place parsers take a later one of that name.
    pub(super) doubled: usize,
}

/// Why a text is no YAML: the place and the cause.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
#[error("line {line}, column {column}: {why}", line = .place.line, column = .place.column)]
pub(super) struct Error {
    pub(super) place: Place,
    pub(super) why: String,
}

/// Reads all documents of a text; an empty one between two others is null.
pub(super) fn read(text: &str) -> Result<Text, Error> {
    let mut options = Options::default();
    // Comments are kept for the edits, however many stand together.
    options.max_buffered_comment_events = usize::MAX;
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| {
            let marker = error.marker();
            Error {
                place: Place {
                    line: marker.line(),
                    column: marker.col() + 1,
                },
                why: error.info(),
            }
        })?;
        builder.event(event, span)?;
    }
    Ok(builder.text)
}

impl Node {
    /// The value as JSON.
    pub(super) fn value(&self) -> Value {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::Sequence(items) => Value::Array(items.iter().map(Self::value).collect()),
            Kind::Mapping { entries, .. } => Value::Object(
                entries
                    .iter()
                    .map(|entry| (entry.key.clone(), entry.value.value()))
                    .collect::<Map<_, _>>(),
            ),
        }
    }

    /// The entry of a mapping; the last one of that name, as parsers take it.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.kind {
            Kind::Mapping { entries, .. } => entries.iter().rev().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The node at a JSON pointer (RFC 6901).
    pub(super) fn at(&self, pointer: &str) -> Option<&Self> {
        let mut node = self;
        for token in pointer.split('/').skip(1) {
            let token = token.replace("~1", "/").replace("~0", "~");
            node = match &node.kind {
                Kind::Mapping { .. } => &node.entry(&token)?.value,
                Kind::Sequence(items) => items.get(token.parse::<usize>().ok()?)?,
                Kind::Scalar(_) => return None,
            };
        }
        Some(node)
    }

    /// Where a JSON pointer leads: the place of the last key on its way that is there, and the end of its
    /// value.
    pub(super) fn place(&self, pointer: &str) -> Option<(Place, Place)> {
        let mut node = self;
        let mut found = None;
        for token in pointer.split('/').skip(1) {
            let token = token.replace("~1", "/").replace("~0", "~");
            node = match &node.kind {
                Kind::Mapping { .. } => match node.entry(&token) {
                    Some(entry) => {
                        found = Some((entry.place, entry.value.end));
                        &entry.value
                    }
                    None => break,
                },
                Kind::Sequence(items) => {
                    match token.parse::<usize>().ok().and_then(|at| items.get(at)) {
                        Some(item) => item,
                        None => break,
                    }
                }
                Kind::Scalar(_) => break,
            };
        }
        found
    }
}

/// A collection that is not complete.
enum Open {
    Sequence(Vec<Node>),
    Mapping {
        entries: Vec<Entry>,
        flow: bool,
        key: Option<Key>,
        merged: Vec<Node>,
    },
}

/// A key whose value is still to come.
struct Key {
    name: String,
    span: Range<usize>,
    place: Place,
    /// `<<`, neither quoted nor tagged (isMerge of go-yaml 2).
    merges: bool,
}

impl Key {
    fn named(name: String, span: Range<usize>, place: Place) -> Self {
        Self {
            name,
            span,
            place,
            merges: false,
        }
    }
}

struct Level {
    open: Open,
    start: usize,
    anchor: usize,
}

#[derive(Default)]
struct Builder {
    text: Text,
    stack: Vec<Level>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Error> {
        let range = span.byte_range().unwrap_or(0..0);
        let start = Place {
            line: span.start.line(),
            column: span.start.col() + 1,
        };
        let end = Place {
            line: span.end.line(),
            column: span.end.col() + 1,
        };
        match event {
            Event::DocumentStart(..) => self.anchors.clear(),
            Event::Comment(..) => self.text.comments.push(range),
            Event::Scalar(text, style, anchor, tag) => {
                let string = style != ScalarStyle::Plain
                    || tag
                        .as_ref()
                        .is_some_and(|tag| tag.core_suffix() == Some("str"));
                let value = if string {
                    Value::String(text.clone().into_owned())
                } else {
                    plain(&text)
                };
                let node = Node {
                    kind: Kind::Scalar(value),
                    span: range.clone(),
                    end,
                };
                let key = Key {
                    merges: style == ScalarStyle::Plain && tag.is_none() && text == "<<",
                    name: text.into_owned(),
                    span: range,
                    place: start,
                };
                self.add(node, anchor, key)?;
            }
            Event::Alias(anchor) => {
                let known = self.anchors.get(&anchor).ok_or_else(|| Error {
                    place: start,
                    why: "an alias stands within its own anchor".into(),
                })?;
                self.nodes += size(known);
                let node = Node {
                    kind: known.kind.clone(),
                    span: range.clone(),
                    end,
                };
                let name = match &node.kind {
                    Kind::Scalar(Value::String(text)) => text.clone(),
                    Kind::Scalar(value) => value.to_string(),
                    _ => String::new(),
                };
                self.add(node, 0, Key::named(name, range, start))?;
            }
            Event::SequenceStart(_, anchor, _) => {
                self.open(Open::Sequence(Vec::new()), range.start, anchor);
            }
            Event::MappingStart(style, anchor, _) => self.open(
                Open::Mapping {
                    entries: Vec::new(),
                    flow: style == StructureStyle::Flow,
                    key: None,
                    merged: Vec::new(),
                },
                range.start,
                anchor,
            ),
            Event::SequenceEnd | Event::MappingEnd => self.close(range, end, start)?,
            _ => {}
        }
        Ok(())
    }

    fn open(&mut self, open: Open, start: usize, anchor: usize) {
        self.stack.push(Level {
            open,
            start,
            anchor,
        });
    }

    fn close(&mut self, range: Range<usize>, end: Place, start: Place) -> Result<(), Error> {
        let Some(level) = self.stack.pop() else {
            return Ok(());
        };
        // The event that ends a block stands where the next thing begins; one that ends `[…]` does not.
        let own = !range.is_empty();
        let (kind, last) = match level.open {
            Open::Sequence(items) => {
                let last = items.last().map(|item| (item.span.end, item.end));
                (Kind::Sequence(items), last)
            }
            Open::Mapping {
                mut entries,
                flow,
                merged,
                ..
            } => {
                let last = entries
                    .iter()
                    .map(|entry| (entry.value.span.end, entry.value.end))
                    .chain(merged.iter().map(|node| (node.span.end, node.end)))
                    .max_by_key(|(at, _)| *at);
                let mut known: HashSet<String> =
                    entries.iter().map(|entry| entry.key.clone()).collect();
                self.text.doubled += entries.len() - known.len();
                for node in merged {
                    merge(&mut entries, &mut known, node);
                }
                (Kind::Mapping { entries, flow }, last)
            }
        };
        let (at, end) = match last {
            Some(last) if !own => last,
            _ => (range.end, end),
        };
        let span = level.start..at.max(level.start);
        let node = Node {
            kind,
            span: span.clone(),
            end,
        };
        self.add(node, level.anchor, Key::named(String::new(), span, start))
    }

    /// Adds a value where one is due; as a key it is `own`.
    fn add(&mut self, node: Node, anchor: usize, own: Key) -> Result<(), Error> {
        if anchor != 0 {
            self.nodes += size(&node);
        }
        if self.nodes > MOST_NODES {
            return Err(Error {
                place: own.place,
                why: "anchors and aliases bring in more values than are read".into(),
            });
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.stack.last_mut().map(|level| &mut level.open) {
            None => self.text.documents.push(Document { root: node }),
            Some(Open::Sequence(items)) => items.push(node),
            Some(Open::Mapping {
                entries,
                key,
                merged,
                ..
            }) => match key.take() {
                None => *key = Some(own),
                Some(key) if key.merges => merged.push(node),
                Some(key) => entries.push(Entry {
                    key: key.name,
                    span: key.span,
                    place: key.place,
                    value: node,
                }),
            },
        }
        Ok(())
    }
}

/// How many values there are in one.
fn size(node: &Node) -> usize {
    match &node.kind {
        Kind::Scalar(_) => 1,
        Kind::Sequence(items) => 1 + items.iter().map(size).sum::<usize>(),
        Kind::Mapping { entries, .. } => {
            1 + entries
                .iter()
                .map(|entry| size(&entry.value))
                .sum::<usize>()
        }
    }
}

/// Adds the entries of a merge key (`<<`), or of several, that the mapping does not have itself.
fn merge(entries: &mut Vec<Entry>, known: &mut HashSet<String>, node: Node) {
    match node.kind {
        Kind::Mapping { entries: more, .. } => {
            for entry in more {
                if known.insert(entry.key.clone()) {
                    entries.push(entry);
                }
            }
        }
        Kind::Sequence(items) => items
            .into_iter()
            .for_each(|item| merge(entries, known, item)),
        Kind::Scalar(_) => {}
    }
}

/// A plain scalar (resolve.go of go-yaml 2, which sigs.k8s.io/yaml uses).
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => {
            return true.into();
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => {
            return false.into();
        }
        _ => {}
    }
    if text.starts_with('_') {
        return Value::String(text.to_owned());
    }
    let digits = text.replace('_', "").to_ascii_lowercase();
    let (sign, number) = match digits.strip_prefix('-') {
        Some(number) => (-1, number),
        None => (1, digits.strip_prefix('+').unwrap_or(&digits)),
    };
    let radix = |number: &str, radix| {
        i64::from_str_radix(number, radix)
            .ok()
            .filter(|_| !number.starts_with(['+', '-']))
    };
    let integer = if let Some(number) = number.strip_prefix("0x") {
        radix(number, 16)
    } else if let Some(number) = number.strip_prefix("0b") {
        radix(number, 2)
    } else if let Some(number) = number.strip_prefix("0o") {
        radix(number, 8)
    } else if number.len() > 1
        && number.starts_with('0')
        && number.bytes().all(|b| b.is_ascii_digit())
    {
        radix(number, 8)
    } else {
        radix(number, 10)
    };
    if let Some(integer) = integer {
        return (sign * integer).into();
    }
    // Dates, addresses and the like begin with digits too: only what has the shape of a number is one.
    let shape = number.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && number
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'+' | b'-'));
    match digits
        .parse::<f64>()
        .ok()
        .filter(|_| shape)
        .and_then(Number::from_f64)
    {
        Some(number) => Value::Number(number),
        None => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
#[path = "yaml_tests.rs"]
mod tests;
