//! A text of YAML documents, and handlers that take the place of others in it.
#![no_main]

use json_patch::Patch;
use serde_json::{Value, json};

use whittle_probe::manifest::edit::{Change, edit};
use whittle_probe::manifest::yaml::{Kind, Node, Text, read};

/// Entries of mappings that are offered for a change.
const MOST: usize = 256;

/// Four digits, the path of the new handlers up to the line's end, and the text. The first digit says
/// how many changes there are and which handler they bring, the others in the place of which entry.
fn fuzz(data: &[u8]) {
    let Some((head, data)) = data.split_first_chunk::<4>() else {
        return;
    };
    let head = head.map(|digit| digit.wrapping_sub(b'0'));
    let Ok(data) = std::str::from_utf8(data) else {
        return;
    };
    let (path, text) = data.split_once('\n').unwrap_or(("/", data));
    let Ok(before) = read(text) else {
        return;
    };
    let mut places = Vec::new();
    for (document, found) in before.documents.iter().enumerate() {
        entries(&found.root, String::new(), document, &mut places);
    }
    if places.is_empty() {
        return;
    }
    let changes: Vec<Change> = head[1..=1 + usize::from(head[0] % 3)]
        .iter()
        .map(|at| {
            let (document, parent, key) = &places[usize::from(*at) % places.len()];
            let (name, value) = handler(head[0] / 3, path);
            Change {
                document: *document,
                patch: patch(parent, key, name, &value),
            }
        })
        .collect();
    if let Ok(after) = edit(text, &changes) {
        check(text, &before, &after, &changes);
    }
}

/// Mappings' entries: document, pointer to the mapping, key.
fn entries(
    node: &Node,
    pointer: String,
    document: usize,
    found: &mut Vec<(usize, String, String)>,
) {
    match &node.kind {
        Kind::Scalar(_) => {}
        Kind::Sequence(items) => {
            for (at, item) in items.iter().enumerate() {
                if found.len() < MOST {
                    entries(item, format!("{pointer}/{at}"), document, found);
                }
            }
        }
        Kind::Mapping { entries: all, .. } => {
            for entry in all {
                if found.len() < MOST {
                    let key = entry.key.replace('~', "~0").replace('/', "~1");
                    found.push((document, pointer.clone(), key.clone()));
                    entries(&entry.value, format!("{pointer}/{key}"), document, found);
                }
            }
        }
    }
}

fn handler(which: u8, path: &str) -> (&'static str, Value) {
    match which % 4 {
        0 => ("httpGet", json!({"path": path, "port": 80})),
        1 => (
            "httpGet",
            json!({"httpHeaders": [{"name": "A", "value": path}], "port": path}),
        ),
        2 => ("exec", json!({"command": [path, "x"]})),
        _ => ("grpc", json!({})),
    }
}

fn patch(parent: &str, old: &str, new: &str, value: &Value) -> Patch {
    let patch = json!([
        {"op": "remove", "path": format!("{parent}/{old}")},
        {"op": "add", "path": format!("{parent}/{new}"), "value": value},
    ]);
    serde_json::from_value(patch).unwrap()
}

/// The changed text is what the patches make of the old one, also to other readers, and no comment is
/// another.
fn check(text: &str, before: &Text, after: &str, changes: &[Change]) {
    let now = read(after).unwrap();
    assert_eq!(comments(text, before), comments(after, &now));
    if let Ok(old) = serde_json::from_str::<Value>(text) {
        let new: Value = serde_json::from_str(after).unwrap();
        assert_eq!(vec![new], patched(vec![old], changes));
    }
    // Where it reads the old text as another one, as an empty document, there is nothing to compare.
    let known = before
        .documents
        .iter()
        .map(|document| document.root.value());
    if let Ok(old) = serde_saphyr::from_multiple::<Value>(text)
        && known.eq(old.iter().cloned())
    {
        let new: Vec<Value> = serde_saphyr::from_multiple(after).unwrap();
        assert_eq!(new, patched(old, changes));
    }
}

fn comments<'t>(text: &'t str, read: &Text) -> Vec<&'t str> {
    read.comments
        .iter()
        .map(|at| text[at.clone()].trim_end())
        .collect()
}

fn patched(mut documents: Vec<Value>, changes: &[Change]) -> Vec<Value> {
    for change in changes {
        json_patch::patch(&mut documents[change.document], &change.patch).unwrap();
    }
    documents
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz(data));
