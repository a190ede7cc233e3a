//! BuildKit's own lines of JSON without secrets: what steps print is base64 in them, and arrives in pieces that may end
//! within a secret; JSON's escapes hide others. So a line is read, cleaned and written anew, and output goes on by
//! whole lines.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::redact::Redactor;

/// How many bytes of a line of output that has no end yet are kept; the rest of it is left out.
const OPEN_BYTES: usize = 64 * 1024;
/// How many steps can have such a line at the same time; what more of them print is left out.
const STEPS: usize = 4096;

/// What was printed after the last end of a line, by step and stream.
#[derive(Default)]
pub(super) struct Raw {
    open: BTreeMap<(String, i64), Open>,
}

#[derive(Default)]
struct Open {
    bytes: Vec<u8>,
    /// As it stood in BuildKit's last piece.
    time: Value,
}

impl Raw {
    /// The line as it may be seen; none where nothing of it can be told yet. What is no JSON becomes a message.
    pub(super) fn line(&mut self, line: &str, redactor: &Redactor) -> Option<String> {
        if line.trim().is_empty() {
            return None;
        }
        let Ok(Value::Object(mut status)) = serde_json::from_str(line) else {
            return Some(json!({"message": redactor.line(line)}).to_string());
        };
        let pieces = match status.remove("logs") {
            Some(Value::Array(pieces)) => pieces,
            _ => vec![],
        };
        let mut logs: Vec<Value> = vec![];
        for piece in &pieces {
            logs.extend(self.piece(piece, redactor));
        }
        for step in ended(&status) {
            logs.extend(self.rest(Some(&step), redactor));
        }
        if let Some(Value::Array(warnings)) = status.get_mut("warnings") {
            warnings.iter_mut().for_each(|it| warning(it, redactor));
        }
        status.values_mut().for_each(|it| clean(it, redactor));
        if !logs.is_empty() {
            status.insert("logs".into(), logs.into());
        }
        // BuildKit writes null for what it has none of.
        let says = status.values().any(|value| !value.is_null());
        says.then(|| Value::Object(status).to_string())
    }

    /// What no line has ended, once nothing more comes.
    pub(super) fn end(&mut self, redactor: &Redactor) -> Option<String> {
        let logs = self.rest(None, redactor);
        (!logs.is_empty()).then(|| json!({"logs": logs}).to_string())
    }

    /// Takes a piece of output; the lines that end in it.
    fn piece(&mut self, piece: &Value, redactor: &Redactor) -> Option<Value> {
        let step = piece["vertex"].as_str()?.to_owned();
        let stream = piece["stream"].as_i64().unwrap_or_default();
        let data = STANDARD.decode(piece["data"].as_str()?).ok()?;
        let key = (step, stream);
        if self.open.len() >= STEPS && !self.open.contains_key(&key) {
            return None;
        }
        let open = self.open.entry(key.clone()).or_default();
        open.time = piece["timestamp"].clone();
        let at = data.iter().rposition(|b| matches!(b, b'\n' | b'\r'));
        let (whole, rest) = data.split_at(at.map_or(0, |at| at + 1));
        let mut told = vec![];
        if !whole.is_empty() {
            told = std::mem::take(&mut open.bytes);
            told.extend_from_slice(whole);
        }
        // The end of an endless line: without it no secret can be told from what it is not.
        let room = OPEN_BYTES.saturating_sub(open.bytes.len());
        let fits = rest.len() <= room;
        open.bytes.extend_from_slice(if fits { rest } else { &[] });
        let value = log(&key, &open.time, &told, redactor);
        if open.bytes.is_empty() {
            self.open.remove(&key);
        }
        value
    }

    /// What has no end of a line, of this step or of all.
    fn rest(&mut self, step: Option<&str>, redactor: &Redactor) -> Vec<Value> {
        let of_step = |key: &(String, i64)| step.is_none_or(|step| step == key.0);
        let keys: Vec<_> = self
            .open
            .keys()
            .filter(|key| of_step(key))
            .cloned()
            .collect();
        let told = keys.into_iter().filter_map(|key| {
            let open = self.open.remove(&key)?;
            log(&key, &open.time, &open.bytes, redactor)
        });
        told.collect()
    }
}

fn log(
    (step, stream): &(String, i64),
    time: &Value,
    bytes: &[u8],
    redactor: &Redactor,
) -> Option<Value> {
    let text = redactor.line(&String::from_utf8_lossy(bytes));
    let data = STANDARD.encode(text);
    let time = time.as_str().filter(|it| it.parse::<Timestamp>().is_ok());
    let value =
        json!({"vertex": redactor.name(step), "stream": stream, "data": data, "timestamp": time});
    (!bytes.is_empty()).then_some(value)
}

/// The steps that this line tells the end of.
fn ended(status: &Map<String, Value>) -> Vec<String> {
    let all = status.get("vertexes").and_then(Value::as_array);
    let ended = all
        .into_iter()
        .flatten()
        .filter(|it| it["completed"].is_string());
    ended
        .filter_map(|it| Some(it["digest"].as_str()?.to_owned()))
        .collect()
}

/// Texts of a warning are base64, too, and the Dockerfile that it is about.
fn warning(value: &mut Value, redactor: &Redactor) {
    if let Some(short) = value.get_mut("short") {
        decoded(short, redactor);
    }
    if let Some(Value::Array(details)) = value.get_mut("detail") {
        details.iter_mut().for_each(|it| decoded(it, redactor));
    }
    if let Some(Value::Object(info)) = value.get_mut("info") {
        // The steps as BuildKit sends them between its parts: nobody reads a warning for these.
        info.remove("definition");
        if let Some(data) = info.get_mut("data") {
            decoded(data, redactor);
        }
    }
}

fn decoded(value: &mut Value, redactor: &Redactor) {
    if let Value::String(text) = value {
        let bytes = STANDARD.decode(&*text).unwrap_or_default();
        *text = STANDARD.encode(redactor.line(&String::from_utf8_lossy(&bytes)));
    }
}

/// Cleans every text.
fn clean(value: &mut Value, redactor: &Redactor) {
    match value {
        Value::String(text) => *text = redactor.name(text),
        Value::Array(items) => items.iter_mut().for_each(|it| clean(it, redactor)),
        Value::Object(fields) => fields.values_mut().for_each(|it| clean(it, redactor)),
        _ => {}
    }
}

impl Redactor {
    /// The text without secrets. Digests and times are what they are: a short secret may be part of one by chance.
    fn name(&self, text: &str) -> String {
        match whittle_api::is_digest(text) || text.parse::<Timestamp>().is_ok() {
            true => text.to_owned(),
            false => self.line(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2026-11-27T01:00:00Z";

    fn redactor() -> Redactor {
        Redactor::of(&["hunter22", r#"pa"ss\word"#])
    }

    fn piece(data: &str) -> String {
        let data = STANDARD.encode(data);
        json!({"vertexes": null, "logs": [{"vertex": "v", "stream": 1, "data": data, "timestamp": TIME}]})
            .to_string()
    }

    /// The output in a line.
    fn said(line: &str) -> String {
        let value: Value = serde_json::from_str(line).unwrap();
        let logs = value["logs"].as_array().unwrap().clone();
        let texts = logs.iter().map(|log| {
            let bytes = STANDARD.decode(log["data"].as_str().unwrap()).unwrap();
            String::from_utf8(bytes).unwrap()
        });
        texts.collect()
    }

    #[test]
    fn a_secret_in_the_output_of_a_step_is_blotted_out_also_where_pieces_part_it() {
        let (mut raw, redactor) = (Raw::default(), redactor());
        let whole = raw.line(&piece("a hunter22 b\n"), &redactor).unwrap();
        assert_eq!(said(&whole), "a [secret] b\n");
        assert_eq!(raw.line(&piece("x hun"), &redactor), None);
        let rest = raw.line(&piece("ter22 y\nhunt"), &redactor).unwrap();
        assert_eq!(said(&rest), "x [secret] y\n");
        // The end of the step tells what has no end of a line.
        let end = json!({"vertexes": [{"digest": "v", "name": "n", "completed": TIME}], "logs": [
            {"vertex": "v", "stream": 1, "data": STANDARD.encode("er22"), "timestamp": TIME}]});
        let end = raw.line(&end.to_string(), &redactor).unwrap();
        assert_eq!(said(&end), "[secret]");
        assert!(end.contains(TIME));
        assert_eq!(raw.end(&redactor), None);
        assert!(raw.open.is_empty());
    }

    #[test]
    fn what_was_cut_off_is_told_at_the_end_and_streams_do_not_mix() {
        let (mut raw, redactor) = (Raw::default(), redactor());
        assert_eq!(raw.line(&piece("out hunter"), &redactor), None);
        let other = piece("err\n").replace(r#""stream":1"#, r#""stream":2"#);
        assert_eq!(said(&raw.line(&other, &redactor).unwrap()), "err\n");
        assert_eq!(raw.line(&piece("22"), &redactor), None);
        assert_eq!(said(&raw.end(&redactor).unwrap()), "out [secret]");
    }

    #[test]
    fn an_endless_line_is_bounded() {
        let (mut raw, redactor) = (Raw::default(), redactor());
        for _ in 0..10 {
            assert_eq!(raw.line(&piece(&"x".repeat(10_000)), &redactor), None);
        }
        assert!(said(&raw.end(&redactor).unwrap()).len() <= OPEN_BYTES);
    }

    #[test]
    fn names_errors_and_warnings_are_clean_whatever_jsons_escapes_make_of_them() {
        let secret = r#"RUN curl -u pa"ss\word hunter22"#;
        let encoded = STANDARD.encode(secret);
        let digest = format!("sha256:{}", "0".repeat(64));
        let line = json!({
            "vertexes": [{"digest": digest, "name": secret, "error": secret, "started": TIME}],
            "statuses": [{"id": secret, "vertex": digest, "current": 7}],
            "warnings": [{"short": encoded, "detail": [encoded], "url": "https://x.example", "info":
                {"filename": "Dockerfile", "data": encoded, "definition": {"def": [encoded]}}}],
        });
        let clean = Raw::default().line(&line.to_string(), &redactor()).unwrap();
        let value: Value = serde_json::from_str(&clean).unwrap();
        let expected = "RUN curl -u [secret] [secret]";
        assert_eq!(value["vertexes"][0]["name"], expected);
        assert_eq!(value["vertexes"][0]["error"], expected);
        assert_eq!(value["vertexes"][0]["digest"], digest);
        assert_eq!(value["vertexes"][0]["started"], TIME);
        assert_eq!(value["statuses"][0]["id"], expected);
        assert_eq!(value["statuses"][0]["current"], 7);
        let encoded_clean = STANDARD.encode(expected);
        assert_eq!(value["warnings"][0]["short"], encoded_clean);
        assert_eq!(value["warnings"][0]["detail"][0], encoded_clean);
        assert_eq!(value["warnings"][0]["info"]["data"], encoded_clean);
        assert!(!clean.contains(&encoded), "{clean}");
    }

    #[test]
    fn what_is_no_json_becomes_a_message() {
        let (mut raw, redactor) = (Raw::default(), redactor());
        assert_eq!(
            raw.line("error: hunter22", &redactor).as_deref(),
            Some(r#"{"message":"error: [secret]"}"#)
        );
        assert_eq!(raw.line("", &redactor), None);
    }
}
