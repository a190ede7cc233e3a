//! Our reading of YAML against kubectl's: texts at random and odd ones, with what `go run .` in tests/yaml says.

use super::*;

#[derive(serde::Deserialize)]
struct Reading {
    text: String,
    #[serde(default)]
    values: Vec<Value>,
    error: Option<String>,
}

/// What is read otherwise here, and rare: line breaks and marks of Unicode, a `?` within a flow list, and a comment
/// that is less indented than the block scalar that it stands in.
const OTHERWISE: [&str; 5] = ["\u{85}", "\u{2028}", ": \u{feff}", "---\n\u{feff}", ", ?c"];

/// Numbers as they compare.
fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) if number.as_i64().is_none() => number
            .as_f64()
            .map_or(Value::Null, |float| Value::String(format!("{float:e}"))),
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(entries) => Value::Object(
            entries
                .iter()
                .map(|(key, value)| (key.clone(), plain(value)))
                .collect(),
        ),
        other => other.clone(),
    }
}

#[test]
fn texts_are_read_as_kubectl_reads_them() {
    let mut differ = Vec::new();
    let (mut same, mut refused) = (0, 0);
    // READINGS: those of another run.
    let other = std::env::var("READINGS").map(|path| std::fs::read_to_string(path).unwrap());
    let all = other.unwrap_or_else(|_| include_str!("yaml_readings.jsonl").to_owned());
    for line in all.lines() {
        let reading: Reading = serde_json::from_str(line).unwrap();
        if OTHERWISE.iter().any(|odd| reading.text.contains(odd)) {
            continue;
        }
        let ours = read(&reading.text).map(|text| {
            let values = text
                .documents
                .iter()
                .map(|document| plain(&document.root.value()));
            values.filter(|value| !value.is_null()).collect::<Vec<_>>()
        });
        let theirs: Vec<Value> = reading.values.iter().map(plain).collect();
        match (&ours, &reading.error) {
            (Ok(ours), None) if *ours == theirs => same += 1,
            (Err(_), Some(_)) => refused += 1,
            _ => differ.push(format!(
                "{:?}\n  kubectl: {}\n  here: {}",
                reading.text,
                reading
                    .error
                    .unwrap_or_else(|| Value::Array(theirs).to_string()),
                match ours {
                    Ok(values) => Value::Array(values).to_string(),
                    Err(error) => error.to_string(),
                }
            )),
        }
    }
    println!(
        "{same} are the same, {refused} refused by both, {} differ",
        differ.len()
    );
    assert!(
        differ.is_empty(),
        "{} differ:\n{}",
        differ.len(),
        differ.join("\n")
    );
}
