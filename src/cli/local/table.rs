//! What is printed of a build: the status as a cluster would have it.

use kube::ResourceExt;
use serde_json::Value;
use whittle_api::{ImageBuild, READY, find};

use super::Error;

/// The ImageBuild with its status, without what is absent.
fn value(build: &ImageBuild) -> Value {
    let mut value = serde_json::to_value(build).expect("an ImageBuild has string keys only");
    without_nulls(&mut value);
    value
}

fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

/// As JSON.
pub fn json(build: &ImageBuild) -> String {
    format!("{:#}", value(build))
}

/// As YAML.
pub fn yaml(build: &ImageBuild) -> Result<String, Error> {
    serde_saphyr::to_string(&value(build))
        .map_err(|error| Error::new(format!("the status cannot be written as YAML: {error}")))
}

/// A few lines for people.
pub fn table(build: &ImageBuild) -> String {
    let status = build.status.clone().unwrap_or_default();
    let ready = find(&status.conditions, READY);
    let mut lines = vec![("ImageBuild", build.name_any())];
    if let Some(ready) = ready {
        lines.push(("Ready", format!("{} {}", ready.status, ready.reason)));
        if status.failure.is_some() {
            lines.push(("Message", ready.message.clone()));
        }
    }
    if let Some(failure) = &status.failure {
        lines.extend(failure.hint.clone().map(|hint| ("Hint", hint)));
        lines.extend(failure.image.clone().map(|image| ("Rejected", image)));
    }
    lines.extend(status.image.map(|image| ("Image", image)));
    lines.extend(status.tags.map(|tags| ("Tags", tags.join(" "))));
    lines.extend(status.display_size.map(|size| ("Size", size)));
    lines.extend(status.display_platforms.map(|all| ("Platforms", all)));
    lines.extend(status.debug.map(|debug| ("Debug", debug.image)));
    lines.extend(status.revision.map(|revision| ("Revision", revision)));
    for condition in &status.conditions {
        let name = match condition.type_.as_str() {
            whittle_api::CONTRACT => "Contract",
            whittle_api::PROBED if condition.status != "False" => "Probed",
            whittle_api::ADVICE if condition.status == "True" => "Advice",
            whittle_api::MINIMIZED => "Minimized",
            _ => continue,
        };
        lines.push((name, condition.message.clone()));
    }
    if let Some(seconds) = status.duration_seconds {
        lines.push(("Duration", format!("{seconds} s")));
    }
    let lines = lines.iter().map(|(name, text)| {
        // Further lines stand under the first.
        format!("{name:<12}{}", text.replace('\n', "\n            "))
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn build(status: Value) -> ImageBuild {
        serde_json::from_value(json!({
            "apiVersion": "whittle.dev/v1alpha1",
            "kind": "ImageBuild",
            "metadata": {"name": "hello"},
            "spec": {"source": {}, "output": {"image": "r.example/hello"}},
            "status": status,
        }))
        .unwrap()
    }

    fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
        json!({"type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": "2026-11-27T07:00:00Z"})
    }

    #[test]
    fn a_failure_has_its_message_and_hint_and_lines_stay_in_their_column() {
        let build = build(json!({
            "conditions": [
                condition("Ready", "False", "StepFailed", "Dockerfile:2: step failed"),
                condition("Probed", "True", "Answered", "linux/amd64 was Ready after 1 s"),
                condition("Advice", "True", "RunsAsRoot", "one\ntwo"),
            ],
            "failure": {"reason": "StepFailed", "message": "step failed", "hint": "do this"},
            "durationSeconds": 3,
        }));
        insta::assert_snapshot!(table(&build), @r"
        ImageBuild  hello
        Ready       False StepFailed
        Message     Dockerfile:2: step failed
        Hint        do this
        Probed      linux/amd64 was Ready after 1 s
        Advice      one
                    two
        Duration    3 s
        ");
    }

    #[test]
    fn what_is_absent_is_not_printed() {
        let build = build(json!({"image": "r.example/hello@sha256:00", "conditions": []}));
        let text = json(&build);
        assert!(!text.contains("null"), "{text}");
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["status"]["image"], "r.example/hello@sha256:00");
        assert!(
            yaml(&build)
                .unwrap()
                .contains("image: r.example/hello@sha256:00")
        );
    }
}
