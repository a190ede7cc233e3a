//! What of the chart's `values.schema.json` comes from the kinds: `builder.defaults` is the spec of a Builder.
//!
//! Helm's JSON schema knows no CEL. A rule that it can say as well becomes a pattern or a bound; what it cannot say, the
//! API server says once the Builder is made. So the chart takes whatever the API server takes, and maybe more.

use std::collections::BTreeMap;

use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use super::{Builder, quantity};

/// Its name among the schema's definitions.
const DEFINITION: &str = "builderDefaults";
/// What stands in a schema of Kubernetes and in one of Helm, with the same meaning.
const SAME: [&str; 9] = [
    "enum",
    "maxItems",
    "maxLength",
    "maxProperties",
    "minItems",
    "minLength",
    "required",
    "type",
    "uniqueItems",
];
/// Columns of a line.
const WIDTH: usize = 120;

/// The chart's schema with what comes from the kinds; none where it has no place for that.
pub fn values_schema(text: &str) -> Option<String> {
    let begin = format!("\n    \"{DEFINITION}\": ");
    let start = text.find(&begin)? + begin.len();
    // Its last line is the first one after it that is indented like its name.
    let end = start + text[start..].find("\n    }")? + "\n    }".len();
    let own = written(&builder_defaults(), 4);
    Some(format!("{}{own}{}", &text[..start], &text[end..]))
}

/// `spec` of a Builder, as JSON schema.
fn builder_defaults() -> Value {
    let crd = serde_json::to_value(Builder::crd()).expect("plain data is always JSON");
    converted(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"])
}

fn converted(schema: &Value) -> Value {
    let mut own = Map::new();
    for name in SAME {
        if let Some(value) = schema.get(name) {
            own.insert(name.to_owned(), value.clone());
        }
    }
    for name in ["minimum", "maximum"] {
        if let Some(bound) = schema.get(name).and_then(Value::as_f64) {
            own.insert(name.to_owned(), json!(bound as i64));
        }
    }
    if schema["x-kubernetes-int-or-string"] == true {
        // The controller writes numbers as texts.
        own.insert("type".into(), json!(["number", "string"]));
    }
    if let Some(properties) = schema["properties"].as_object() {
        let of = |(name, schema): (&String, &Value)| (name.clone(), converted(schema));
        own.insert("properties".into(), properties.iter().map(of).collect());
        own.insert("additionalProperties".into(), json!(false));
    }
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(name).filter(|inner| inner.is_object()) {
            own.insert(name.to_owned(), converted(inner));
        }
    }
    let rules = schema["x-kubernetes-validations"].as_array();
    for rule in rules.into_iter().flatten() {
        own.extend(rule["rule"].as_str().and_then(said));
    }
    Value::Object(own)
}

/// A rule, or the first part of one, as a schema says it.
fn said(rule: &str) -> Option<(String, Value)> {
    if let Some((pattern, rest)) = rule
        .strip_prefix("self.matches('")
        .and_then(|rest| rest.split_once("')"))
        // Nothing is there to be read differently in CEL and in JSON.
        && !pattern.contains('\\')
        && (rest.is_empty() || rest.starts_with(" && "))
    {
        return Some(("pattern".into(), json!(pattern)));
    }
    if let Some(bound) = rule
        .strip_prefix("isQuantity(self) && quantity(self).isGreaterThan(quantity('")
        .and_then(|rest| rest.strip_suffix("'))"))
        .and_then(quantity::bytes)
    {
        return Some(("pattern".into(), json!(over(bound.into()))));
    }
    let most: u64 = (rule.strip_prefix("self.all(k, size(k) <= ")?)
        .strip_suffix(')')?
        .parse()
        .ok()?;
    Some(("propertyNames".into(), json!({"maxLength": most})))
}

/// A pattern of quantities over this many bytes, short enough to be read in an error: it counts digits, and so takes some
/// that are a bit less.
fn over(bound: u128) -> String {
    let units = |base: u128| (1..=6).map(move |power| base.pow(power));
    let decimal = ["k", "M", "G", "T", "P", "E"].into_iter().zip(units(1000));
    let binary = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]
        .into_iter()
        .zip(units(1024));
    let mut by_digits: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    by_digits.entry(digits(bound * 1000)).or_default().push("m");
    by_digits.entry(digits(bound)).or_default().push("");
    for (name, unit) in decimal.chain(binary) {
        by_digits
            .entry(digits(bound / unit))
            .or_default()
            .push(name);
    }
    let forms = by_digits.into_iter().map(|(digits, names)| {
        let number = match digits {
            0 => r"([0-9]+(\.[0-9]*)?|\.[0-9]+)".to_owned(),
            digits => format!(r"[1-9][0-9]{{{},}}(\.[0-9]*)?", digits - 1),
        };
        format!("{number}({})", names.join("|"))
    });
    let forms: Vec<String> = forms.collect();
    format!(r"^\+?0*({}|[0-9.]+[eE][+-]?[0-9]+)$", forms.join("|"))
}

/// Digits of a whole number; none of zero.
fn digits(number: u128) -> usize {
    number.checked_ilog10().map_or(0, |log| log as usize + 1)
}

/// JSON with what fits on a line there, and its keys in order.
fn written(value: &Value, indent: usize) -> String {
    let line = on_a_line(value);
    if indent + line.len() <= WIDTH || !matches!(value, Value::Object(_)) {
        return line;
    }
    let inner = indent + 2;
    let entries: Vec<String> = sorted(value)
        .map(|(key, value)| format!("{:inner$}\"{key}\": {}", "", written(value, inner)))
        .collect();
    format!("{{\n{}\n{:indent$}}}", entries.join(",\n"), "")
}

fn on_a_line(value: &Value) -> String {
    let parts = |parts: Vec<String>| parts.join(", ");
    match value {
        Value::Object(_) => {
            let entries =
                sorted(value).map(|(key, value)| format!("\"{key}\": {}", on_a_line(value)));
            format!("{{{}}}", parts(entries.collect()))
        }
        Value::Array(items) => format!("[{}]", parts(items.iter().map(on_a_line).collect())),
        other => other.to_string(),
    }
}

fn sorted(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let mut entries: Vec<_> = value.as_object().into_iter().flatten().collect();
    entries.sort_by_key(|(key, _)| *key);
    entries.into_iter()
}

#[cfg(test)]
#[path = "values_tests.rs"]
mod tests;
