//! What mends a probe: always in words, and as a patch where a handler is known that works.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation};
use serde::Serialize;
use serde_json::Value;

use super::handler::Handler;

/// What mends a probe.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fix {
    /// What to do: a sentence.
    pub advice: String,
    /// The handler to put in its place, judged as working.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handler: Option<Handler>,
    /// Where that is not quite the same: a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caution: Option<String>,
    /// The same as a JSON patch (RFC 6902) of the PodSpec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch: Option<Patch>,
}

impl Fix {
    /// Words alone.
    pub(super) fn advice(advice: impl Into<String>) -> Self {
        Self {
            advice: advice.into(),
            handler: None,
            caution: None,
            patch: None,
        }
    }

    /// Another handler in a probe or hook at `pointer`, which has handlers named `present`. Its times and
    /// thresholds stay.
    pub(super) fn replace(
        pointer: &str,
        present: &[&str],
        handler: Handler,
        advice: String,
        caution: Option<String>,
    ) -> Self {
        let mut operations: Vec<PatchOperation> = present
            .iter()
            .map(|field| {
                PatchOperation::Remove(RemoveOperation {
                    path: at(pointer, &[field]),
                })
            })
            .collect();
        operations.push(PatchOperation::Add(AddOperation {
            path: at(pointer, &[handler.field()]),
            value: handler.value(),
        }));
        Self {
            advice,
            handler: Some(handler),
            caution,
            patch: Some(Patch(operations)),
        }
    }

    /// A probe where there was none.
    pub(super) fn add(container: &str, field: &str, handler: Handler, advice: String) -> Self {
        let mut probe = serde_json::Map::new();
        probe.insert(handler.field().to_owned(), handler.value());
        Self {
            advice,
            handler: Some(handler),
            caution: None,
            patch: Some(Patch(vec![PatchOperation::Add(AddOperation {
                path: at(container, &[field]),
                value: Value::Object(probe),
            })])),
        }
    }
}

/// A pointer and names below it; names of fields alone, which need no escapes.
fn at(pointer: &str, names: &[&str]) -> PointerBuf {
    let tokens = pointer.split('/').skip(1).chain(names.iter().copied());
    PointerBuf::from_tokens(tokens)
}
