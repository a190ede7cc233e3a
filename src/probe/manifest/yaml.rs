//! Pure: YAML and JSON text → values with the places that they stand at in the text.
//!
//! Values are read as kubectl reads them, which is YAML 1.1 for plain scalars (`yes` is true, `0755` is
//! octal; sigs.k8s.io/yaml). Aliases and merge keys are followed; what they bring keeps the place of its
//! anchor. What kubectl refuses is refused.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use lines::Indented;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use serde_saphyr::granit_parser::{
    ErrorKind, Event, Options, Parser, ScalarStyle, Span, StructureStyle,
};

#[path = "lines.rs"]
mod lines;
#[path = "scalars.rs"]
mod scalars;

/// Values of JSON in one text, one after the other.
const MOST_VALUES: usize = 1_000;

/// Values that may stand in anchors and come by aliases, in all; YAML bombs end here.
const MOST_NODES: usize = 200_000;

/// A place in the text: line and column from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

/// One value.
#[derive(Clone, Debug)]
pub struct Node {
    pub kind: Kind,
    /// Its bytes in the text; of a block, up to the end of its last value; of an alias, the alias.
    pub span: Range<usize>,
    pub end: Place,
}

/// What a value is.
#[derive(Clone, Debug)]
pub enum Kind {
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
pub struct Entry {
    pub key: String,
    /// The key's bytes, quotes included.
    pub span: Range<usize>,
    pub place: Place,
    pub value: Node,
}

/// One document of a text.
#[derive(Clone, Debug)]
pub struct Document {
    pub root: Node,
}

/// A text, read.
#[derive(Clone, Debug, Default)]
pub struct Text {
    pub documents: Vec<Document>,
    /// Bytes of its comments.
    pub comments: Vec<Range<usize>>,
    /// Entries of mappings in whose place parsers take a later one of that name.
    pub doubled: usize,
}

/// Why a text is no YAML: the place and the cause.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
#[error("line {line}, column {column}: {why}", line = .place.line, column = .place.column)]
pub struct Error {
    pub place: Place,
    pub why: String,
}

/// Reads all documents of a text; an empty one between two others is null.
pub fn read(text: &str) -> Result<Text, Error> {
    if let Some(text) = json_stream(text)? {
        return Ok(text);
    }
    let json = is_json(text);
    let mut text = Indented::new(match json {
        true => Cow::Borrowed(text),
        false => lines::separated(text)?,
    });
    loop {
        match parse(&text, json) {
            Ok(found) => return Ok(found),
            // Where a line of a quoted scalar begins counts for nothing.
            Err(Fault::Quoted(error)) => {
                if !text.indent(error.place.line) {
                    return Err(error);
                }
            }
            Err(Fault::Final(error)) => return Err(error),
        }
    }
}

/// Why a text was not read.
enum Fault {
    /// A line of a quoted scalar is not indented enough for the parser.
    Quoted(Error),
    Final(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

fn parse(text: &Indented<'_>, json: bool) -> Result<Text, Fault> {
    let mut options = Options::default();
    // Comments are kept for the edits, however many stand together.
    options.max_buffered_comment_events = usize::MAX;
    // kubectl parts a text at ---, so that a directive stands alone.
    options.disallow_directives = true;
    let mut builder = Builder::new(text, json);
    for event in Parser::new_from_str_with_options(&text.text, options) {
        let (event, span) = event.map_err(|error| {
            let marker = error.marker();
            let told = Error {
                place: Place {
                    line: marker.line(),
                    column: marker.col() + 1,
                },
                why: error.info(),
            };
            match error.kind() {
                ErrorKind::InvalidQuotedScalarIndent | ErrorKind::TabInIndentation => {
                    Fault::Quoted(told)
                }
                _ => Fault::Final(told),
            }
        })?;
        builder.event(event, span)?;
    }
    builder.taken.sort_by_key(|range| range.start);
    if let Some(place) = lines::tab(&text.text, &builder.taken) {
        let why = "a tab is used for indentation: use spaces".to_owned();
        return Err(Error { place, why }.into());
    }
    Ok(builder.found)
}

/// True for a text that is one value of JSON.
fn is_json(text: &str) -> bool {
    text.trim_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Values of JSON, one after the other, as kubectl takes them where the first is an object.
fn json_stream(text: &str) -> Result<Option<Text>, Error> {
    if !text.trim_start().starts_with('{') {
        return Ok(None);
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    let mut ends = Vec::new();
    while let Some(value) = values.next() {
        if value.is_err() || ends.len() >= MOST_VALUES {
            return Ok(None);
        }
        ends.push(values.byte_offset());
    }
    if ends.len() < 2 {
        return Ok(None);
    }
    let mut all = Text::default();
    let mut start = 0;
    for end in ends {
        // What stands before becomes blank, so that each value keeps its place.
        let blank: String = text[..start]
            .chars()
            .map(|c| {
                if c == '\n' {
                    "\n".into()
                } else {
                    " ".repeat(c.len_utf8())
                }
            })
            .collect();
        let mut one = read(&(blank + &text[start..end]))?;
        all.documents.append(&mut one.documents);
        all.doubled += one.doubled;
        start = end;
    }
    Ok(Some(all))
}

impl Node {
    /// The value as JSON.
    pub fn value(&self) -> Value {
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
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.kind {
            Kind::Mapping { entries, .. } => entries.iter().rev().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The node at a JSON pointer (RFC 6901).
    pub fn at(&self, pointer: &str) -> Option<&Self> {
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
    pub fn place(&self, pointer: &str) -> Option<(Place, Place)> {
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
        /// What `<<` brings, each with the number of entries before it.
        merged: Vec<(usize, Node)>,
    },
}

/// A key whose value is still to come.
struct Key {
    name: String,
    span: Range<usize>,
    place: Place,
    /// `<<`, neither quoted nor tagged (isMerge of go-yaml 2).
    merges: bool,
    /// Neither quoted nor a collection.
    is_plain: bool,
    /// Why it can be no key.
    no_key: Option<&'static str>,
}

impl Key {
    fn named(name: String, span: Range<usize>, place: Place) -> Self {
        Self {
            name,
            span,
            place,
            merges: false,
            is_plain: false,
            no_key: None,
        }
    }
}

struct Level {
    open: Open,
    start: usize,
    anchor: usize,
}

struct Builder<'t> {
    source: &'t Indented<'t>,
    json: bool,
    found: Text,
    stack: Vec<Level>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    /// Behind `...` kubectl reads nothing up to the next `---`.
    passes: bool,
    /// Scalars of several lines and flow collections: bytes of what was parsed.
    taken: Vec<Range<usize>>,
    flows: usize,
}

impl<'t> Builder<'t> {
    fn new(source: &'t Indented<'t>, json: bool) -> Self {
        Self {
            source,
            json,
            found: Text::default(),
            stack: Vec::new(),
            anchors: HashMap::new(),
            nodes: 0,
            passes: false,
            taken: Vec::new(),
            flows: 0,
        }
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Error> {
        let parsed = span.byte_range().unwrap_or(0..0);
        let range = self.source.back(parsed.start)..self.source.back(parsed.end);
        let start = Place {
            line: span.start.line(),
            column: self.source.column(parsed.start, span.start.col() + 1),
        };
        let end = Place {
            line: span.end.line(),
            column: self.source.column(parsed.end, span.end.col() + 1),
        };
        match event {
            Event::DocumentStart(explicit, ..) => {
                self.anchors.clear();
                self.passes = !explicit && !self.found.documents.is_empty();
            }
            Event::Comment(..) => self.found.comments.push(range),
            Event::Scalar(text, style, anchor, tag) => {
                let written = &self.source.text[parsed.clone()];
                let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                if self.flows == 0 && (block || written.contains('\n')) {
                    self.taken.push(parsed.clone());
                }
                if block
                    && text.trim_start_matches('\n').starts_with('\t')
                    && !lines::says_indentation(&self.source.text[..parsed.start])
                {
                    return Err(Error {
                        place: start,
                        why: "a tab is used for indentation of a block scalar: use spaces".into(),
                    });
                }
                if !block && self.source.ends_within(&range) {
                    return Err(Error {
                        place: start,
                        why: "found unexpected document indicator ... within a scalar".into(),
                    });
                }
                if style == ScalarStyle::DoubleQuoted
                    && !self.json
                    && let Some(escape) = scalars::bad_escape(written)
                {
                    return Err(Error {
                        place: start,
                        why: format!("found unknown escape character {escape}"),
                    });
                }
                let name = tag.as_ref().map(|tag| tag.to_string());
                let own = name.as_deref().map(|name| {
                    name.strip_prefix("tag:yaml.org,2002:")
                        .or_else(|| name.strip_prefix("!!"))
                });
                let kind = match own {
                    None => scalars::Tag::None,
                    Some(Some(own)) => scalars::Tag::Own(own),
                    Some(None) => scalars::Tag::Other,
                };
                let is_plain = style == ScalarStyle::Plain;
                let value = scalars::value(&text, is_plain, kind)
                    .map_err(|why| Error { place: start, why })?;
                let named = scalars::key(&value);
                let node = Node {
                    kind: Kind::Scalar(value),
                    span: range.clone(),
                    end,
                };
                let key = Key {
                    merges: is_plain && tag.is_none() && text == "<<",
                    no_key: named.as_ref().err().copied(),
                    name: named.unwrap_or_default(),
                    span: range,
                    place: start,
                    is_plain,
                };
                self.add(node, anchor, key)?;
            }
            Event::Alias(anchor) => {
                let known = self.anchors.get(&anchor).ok_or_else(|| Error {
                    place: start,
                    why: "an alias is within its own anchor".into(),
                })?;
                self.nodes += size(known);
                let node = Node {
                    kind: known.kind.clone(),
                    span: range.clone(),
                    end,
                };
                let name = match &node.kind {
                    Kind::Scalar(value) => scalars::key(value),
                    _ => Err("a key must be a string, not a list or a map"),
                };
                let key = Key {
                    no_key: name.as_ref().err().copied(),
                    ..Key::named(name.unwrap_or_default(), range, start)
                };
                self.add(node, 0, key)?;
            }
            Event::SequenceStart(style, anchor, _) => {
                self.begins(style, parsed.start);
                self.open(Open::Sequence(Vec::new()), range.start, anchor);
            }
            Event::MappingStart(style, anchor, _) => {
                self.begins(style, parsed.start);
                let open = Open::Mapping {
                    entries: Vec::new(),
                    flow: style == StructureStyle::Flow,
                    key: None,
                    merged: Vec::new(),
                };
                self.open(open, range.start, anchor);
            }
            Event::SequenceEnd | Event::MappingEnd => {
                // Its end has bytes of its own where it is a bracket.
                if self.flows > 0 {
                    self.flows -= 1;
                    if self.flows == 0
                        && let Some(taken) = self.taken.last_mut()
                    {
                        taken.end = parsed.end;
                    }
                }
                self.close(range, end, start)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// All within a flow collection is flow.
    fn begins(&mut self, style: StructureStyle, at: usize) {
        if self.flows > 0 || style == StructureStyle::Flow {
            self.flows += 1;
            if self.flows == 1 {
                self.taken.push(at..usize::MAX);
            }
        }
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
                    .chain(merged.iter().map(|(_, node)| (node.span.end, node.end)))
                    .max_by_key(|(at, _)| *at);
                let own: HashSet<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
                self.found.doubled += entries.len() - own.len();
                if !merged.is_empty() {
                    entries = with_merged(entries, merged).map_err(|why| Error {
                        place: start,
                        why: why.into(),
                    })?;
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
        let key = Key {
            no_key: Some("a key must be a string, not a list or a map"),
            ..Key::named(String::new(), span, start)
        };
        self.add(node, level.anchor, key)
    }

    /// Adds a value where one is due; as a key it is `own`.
    fn add(&mut self, node: Node, anchor: usize, own: Key) -> Result<(), Error> {
        if anchor != 0 {
            self.nodes += size(&node);
        }
        if self.nodes > MOST_NODES {
            return Err(Error {
                place: own.place,
                why: "too many values from anchors and aliases".into(),
            });
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.stack.last_mut().map(|level| &mut level.open) {
            None if self.passes => {}
            None => self.found.documents.push(Document { root: node }),
            Some(Open::Sequence(items)) => items.push(node),
            Some(Open::Mapping {
                entries,
                key,
                merged,
                flow,
            }) => match key.take() {
                None => match own.no_key.or_else(|| self.source.broken_key(&own.span)) {
                    Some(why) => {
                        return Err(Error {
                            place: own.place,
                            why: why.into(),
                        });
                    }
                    None => *key = Some(own),
                },
                Some(key) if key.merges => merged.push((entries.len(), node)),
                Some(mut key) => {
                    // `{a:}`: go-yaml takes the colon for a part of the key.
                    let behind = node.span.is_empty() && *flow && key.is_plain;
                    if behind
                        && self.source.text[..]
                            .get(key.span.end..)
                            .is_some_and(|rest| rest.starts_with(":}") || rest.starts_with(":,"))
                    {
                        key.name.push(':');
                    }
                    entries.push(Entry {
                        key: key.name,
                        span: key.span,
                        place: key.place,
                        value: node,
                    });
                }
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

/// The entries of a mapping with those of its merge keys (`<<`). What a merge brings takes the place of what stands
/// before it, as go-yaml has it, and of what it brings itself the first counts.
fn with_merged(
    entries: Vec<Entry>,
    merged: Vec<(usize, Node)>,
) -> Result<Vec<Entry>, &'static str> {
    const WRONG: &str = "map merge requires map or sequence of maps as the value";
    let mut brought: Vec<(usize, Entry)> = Vec::new();
    for (at, node) in merged {
        let all = match node.kind {
            Kind::Sequence(items) => items,
            Kind::Mapping { .. } => vec![node],
            Kind::Scalar(_) => return Err(WRONG),
        };
        let mut known = HashSet::new();
        for node in all {
            let Kind::Mapping { entries: more, .. } = node.kind else {
                return Err(WRONG);
            };
            for entry in more {
                if known.insert(entry.key.clone()) {
                    brought.push((at, entry));
                }
            }
        }
    }
    // From the end: of what is brought, what something later hides is left out.
    let mut known: HashSet<String> = HashSet::new();
    let mut all = Vec::new();
    for (at, entry) in entries.into_iter().enumerate().rev() {
        while let Some((_, entry)) = brought.pop_if(|(place, _)| *place > at) {
            if known.insert(entry.key.clone()) {
                all.push(entry);
            }
        }
        known.insert(entry.key.clone());
        all.push(entry);
    }
    for (_, entry) in brought.into_iter().rev() {
        if known.insert(entry.key.clone()) {
            all.push(entry);
        }
    }
    all.reverse();
    Ok(all)
}

#[cfg(test)]
#[path = "yaml_readings_tests.rs"]
mod readings;
#[cfg(test)]
#[path = "yaml_tests.rs"]
mod tests;
