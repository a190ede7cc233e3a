//! The ImageBuild that is applied: what this command has said of it before, and what it says now. Pure.
//!
//! Server-side apply takes away what its manager has said before and says no more
//! (<https://kubernetes.io/docs/reference/using-api/server-side-apply/#clearing-managedfields>): so what stands under our
//! manager goes along, as client-go's `ExtractInto` has it.

use kube::ResourceExt;
use serde_json::{Map, Value, json};
use whittle_api::ImageBuild;

/// Who writes, in managedFields.
pub(super) const MANAGER: &str = "whittle-build";

/// The ImageBuild. `said`: its spec, as far as something was said before; `given`: as far as something is said now, but for the
/// source.
pub(super) fn object(
    namespace: Option<&str>,
    name: &str,
    said: Map<String, Value>,
    given: &Map<String, Value>,
    source: Value,
) -> Value {
    let mut spec = Value::Object(said);
    merge(&mut spec, &Value::Object(given.clone()));
    // Whole: a source of one kind is not one of another.
    spec["source"] = source;
    let mut metadata = json!({"name": name});
    if let Some(namespace) = namespace {
        metadata["namespace"] = namespace.into();
    }
    json!({
        "apiVersion": "whittle.dev/v1alpha1",
        "kind": "ImageBuild",
        "metadata": metadata,
        "spec": spec,
    })
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

/// What this command has said of the spec before.
pub(super) fn said(build: &ImageBuild) -> Map<String, Value> {
    let ours = build.managed_fields().iter().find(|entry| {
        entry.manager.as_deref() == Some(MANAGER)
            && entry.operation.as_deref() == Some("Apply")
            && entry.subresource.is_none()
    });
    let fields = ours.and_then(|entry| entry.fields_v1.as_ref());
    let live = serde_json::to_value(&build.spec).unwrap_or_default();
    match fields.map(|fields| extract(&fields.0["f:spec"], &live)) {
        Some(Value::Object(said)) => said,
        _ => Map::new(),
    }
}

/// The part of `live` that a set of fields names
/// (<https://kubernetes.io/docs/reference/using-api/server-side-apply/#list-map-or-set>, FieldsV1).
fn extract(fields: &Value, live: &Value) -> Value {
    let Some(fields) = fields.as_object() else {
        return Value::Null;
    };
    // Nothing within it is named: it is meant as a whole.
    if fields.keys().all(|key| key == ".") {
        return live.clone();
    }
    match live {
        Value::Object(live) => {
            let mut part = Map::new();
            for (key, fields) in fields {
                let name = key.strip_prefix("f:");
                if let Some((name, live)) = name.and_then(|name| Some((name, live.get(name)?))) {
                    part.insert(name.to_owned(), extract(fields, live));
                }
            }
            Value::Object(part)
        }
        Value::Array(items) => {
            let named = |item: &&Value| fields.keys().any(|key| names(key, item));
            items.iter().filter(named).cloned().collect()
        }
        other => other.clone(),
    }
}

/// True where a key of fields names an item of a list: `v:VALUE`, or `k:{KEYS}`.
fn names(key: &str, item: &Value) -> bool {
    let parsed = |text: &str| serde_json::from_str::<Value>(text).ok();
    if let Some(value) = key.strip_prefix("v:").and_then(parsed) {
        return value == *item;
    }
    match key.strip_prefix("k:").and_then(parsed) {
        Some(Value::Object(keys)) => keys.iter().all(|(key, value)| item.get(key) == Some(value)),
        _ => false,
    }
}

/// A field that others manage, and who.
pub(super) fn conflicts(answer: &kube::core::Status) -> Vec<(String, String)> {
    let causes = answer.details.iter().flat_map(|details| &details.causes);
    causes
        .filter(|cause| cause.reason == "FieldManagerConflict")
        .map(|cause| {
            let manager = cause.message.split('"').nth(1).unwrap_or("another");
            (
                cause.field.trim_start_matches('.').to_owned(),
                manager.to_owned(),
            )
        })
        .collect()
}

/// The kinds of source that an ImageBuild has, other than `kind`, and that stay when ours is applied: others have set them.
pub(super) fn other_sources(
    build: &ImageBuild,
    said: &Map<String, Value>,
    kind: &str,
) -> Vec<String> {
    let live = serde_json::to_value(&build.spec.source).unwrap_or_default();
    let ours = said.get("source").and_then(Value::as_object);
    let kinds = live.as_object().into_iter().flat_map(Map::keys);
    kinds
        .filter(|it| *it != kind && ours.is_none_or(|ours| !ours.contains_key(*it)))
        .cloned()
        .collect()
}

/// Who manages a kind of source.
pub(super) fn manager_of(build: &ImageBuild, kind: &str) -> String {
    let entries = build.managed_fields().iter();
    let found = entries.into_iter().find(|entry| {
        let fields = entry.fields_v1.as_ref();
        fields.is_some_and(|it| !it.0["f:spec"]["f:source"][format!("f:{kind}")].is_null())
    });
    let name = found.and_then(|entry| entry.manager.clone());
    name.unwrap_or_else(|| "another manager".into())
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
