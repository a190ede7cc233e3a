//! Pure: a text and the patches of its documents → the text with as little changed as can be.
//!
//! Only the handler's own lines are written anew; all else stays byte for byte, comments and all. The new
//! text is read again and has to be what the patches make of the old one, else nothing is changed.

use std::ops::Range;

use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation};
use serde_json::Value;

use super::yaml::{Entry, Kind, Text, read};

/// A patch of one document.
#[derive(Clone, Debug)]
pub struct Change {
    /// Which document, from 0.
    pub document: usize,
    /// Pointers from the document's root.
    pub patch: Patch,
}

/// Why a text is left as it is.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Not one handler in place of another, or the place is not there as a mapping's entry.
    #[error("{0} cannot be replaced in the text: fix it manually")]
    Place(String),
    /// A comment within `{…}`.
    #[error("line {0} has a comment within the text to be replaced: fix it manually")]
    Comment(usize),
    /// Two changes of the same lines.
    #[error(
        "two probes share the same lines (by an anchor) and need different handlers: fix them \
            manually"
    )]
    Shared,
    /// The text means another thing than the patch.
    #[error(
        "the changed text would differ from the fix (an anchor or merge key may be shared): fix \
            it manually"
    )]
    Meaning,
    /// The text cannot be read.
    #[error("invalid YAML: {0}")]
    Unreadable(String),
}

/// Applies changes to a text.
pub fn edit(text: &str, changes: &[Change]) -> Result<String, Refused> {
    let before = read(text).map_err(|error| Refused::Unreadable(error.to_string()))?;
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    for change in changes {
        let edit = one(text, &before, change)?;
        if !edits.contains(&edit) {
            edits.push(edit);
        }
    }
    edits.sort_by_key(|(range, _)| range.start);
    if edits.windows(2).any(|pair| pair[0].0.end > pair[1].0.start) {
        return Err(Refused::Shared);
    }
    let mut edited = text.to_owned();
    for (range, new) in edits.into_iter().rev() {
        edited.replace_range(range, &new);
    }
    verify(&before, &edited, changes)?;
    Ok(edited)
}

/// The bytes to replace and what takes their place.
fn one(text: &str, read: &Text, change: &Change) -> Result<(Range<usize>, String), Refused> {
    let [
        PatchOperation::Remove(RemoveOperation { path: old }),
        PatchOperation::Add(AddOperation { path: new, value }),
    ] = change.patch.0.as_slice()
    else {
        return Err(Refused::Place("the fix".into()));
    };
    let nowhere = || Refused::Place(old.to_string());
    let (Some((parent, _)), Some((same, _))) = (split(old.as_str()), split(new.as_str())) else {
        return Err(nowhere());
    };
    let root = &read
        .documents
        .get(change.document)
        .ok_or_else(nowhere)?
        .root;
    let mapping = root
        .at(parent)
        .filter(|_| parent == same)
        .ok_or_else(nowhere)?;
    let (_, old_key) = split(old.as_str()).ok_or_else(nowhere)?;
    let (_, new_key) = split(new.as_str()).ok_or_else(nowhere)?;
    let entry = mapping.entry(old_key).ok_or_else(nowhere)?;
    let flow = matches!(&mapping.kind, Kind::Mapping { flow: true, .. });
    let range = range_of(text, entry).ok_or_else(nowhere)?;
    let inside: Vec<&Range<usize>> = read
        .comments
        .iter()
        .filter(|comment| range.contains(&comment.start))
        .collect();
    let replacement = if flow {
        if !inside.is_empty() {
            return Err(Refused::Comment(entry.place.line));
        }
        in_flow(text, entry, new_key, value)
    } else {
        let indent = " ".repeat(entry.place.column - 1);
        let mut lines: Vec<String> = inside
            .into_iter()
            .filter_map(|comment| text.get(comment.clone()).map(str::to_owned))
            .collect();
        block(new_key, value, 0, &mut lines);
        lines.join(&format!("{}{indent}", line_end(text)))
    };
    Ok((range, replacement))
}

/// The bytes of an entry, from its key to the end of its value.
fn range_of(text: &str, entry: &Entry) -> Option<Range<usize>> {
    let whole = text.get(entry.span.start..entry.value.span.end.max(entry.span.end))?;
    // Text blocks reach over the line breaks behind them.
    let mut end = entry.span.start + whole.trim_end().len();
    if entry.value.span.end <= entry.span.end {
        // No value: the colon belongs to the entry all the same.
        let rest = text.get(end..)?;
        end += rest.find(':').filter(|at| rest[..*at].trim().is_empty())? + 1;
    }
    Some(entry.span.start..end)
}

fn in_flow(text: &str, entry: &Entry, key: &str, value: &Value) -> String {
    let old = text
        .get(entry.span.start..entry.value.span.end)
        .unwrap_or_default();
    if !old.starts_with('"') {
        return format!("{key}: {value}");
    }
    let key = Value::from(key);
    if !old.contains('\n') {
        let colon = if old.contains(": ") { ": " } else { ":" };
        return format!("{key}{colon}{value}");
    }
    // JSON over several lines stays so, indented as its own line is.
    let line = text[..entry.span.start].rfind('\n').map_or(0, |at| at + 1);
    let indent: String = text[line..]
        .chars()
        .take_while(|c| matches!(c, ' ' | '\t'))
        .collect();
    let pretty = serde_json::to_string_pretty(value).unwrap_or_default();
    let lines: Vec<&str> = pretty.lines().collect();
    format!(
        "{key}: {}",
        lines.join(&format!("{}{indent}", line_end(text)))
    )
}

/// `key: value` in block style, its lines without the indentation of the first.
fn block(key: &str, value: &Value, depth: usize, lines: &mut Vec<String>) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            lines.push(format!("{indent}{key}:"));
            for (key, value) in entries {
                block(key, value, depth + 1, lines);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            lines.push(format!("{indent}{key}:"));
            // JSON is YAML; headers are seldom.
            lines.extend(items.iter().map(|item| format!("{indent}  - {item}")));
        }
        Value::String(text) => lines.push(format!("{indent}{key}: {}", scalar(text))),
        value => lines.push(format!("{indent}{key}: {value}")),
    }
}

/// A text as a plain scalar where that is beyond doubt, else in quotes.
fn scalar(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"/._-?=&%+".contains(&b));
    let same = |text: &str| {
        read(text).is_ok_and(
            |read| matches!(read.documents.as_slice(), [only] if only.root.value() == *text),
        )
    };
    // Some readers take yES for a truth, too.
    if plain && same(&text.to_ascii_lowercase()) {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}

fn line_end(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

/// A pointer's last token, and what stands before it.
fn split(pointer: &str) -> Option<(&str, &str)> {
    pointer.rsplit_once('/')
}

/// Fails where the new text is not what the patches make of the old one.
fn verify(before: &Text, edited: &str, changes: &[Change]) -> Result<(), Refused> {
    let mut expected: Vec<Value> = before
        .documents
        .iter()
        .map(|document| document.root.value())
        .collect();
    for change in changes {
        let document = expected.get_mut(change.document).ok_or(Refused::Meaning)?;
        json_patch::patch(document, &change.patch).map_err(|_| Refused::Meaning)?;
    }
    let after = read(edited).map_err(|_| Refused::Meaning)?;
    let found: Vec<Value> = after
        .documents
        .iter()
        .map(|document| document.root.value())
        .collect();
    // A key that stands twice in a mapping is refused by kubectl.
    let counts = |text: &Text| (text.comments.len(), text.doubled);
    if found != expected || counts(&after) != counts(before) {
        return Err(Refused::Meaning);
    }
    Ok(())
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;
