//! ImageBuilds in the states that people meet, for tests.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use whittle_api::ImageBuild;

/// The time at which all of them are looked at.
pub(super) fn now() -> Timestamp {
    "2026-11-25T12:00:00Z".parse().unwrap()
}

/// `hello`, with this laid over a build that has succeeded twice.
pub(super) fn build(over: Value) -> ImageBuild {
    let digest = |c: &str| format!("sha256:{}", c.repeat(64));
    let mut value = json!({
        "apiVersion": "whittle.dev/v1alpha1", "kind": "ImageBuild",
        "metadata": {"name": "hello", "namespace": "demo", "generation": 3, "uid": "u1"},
        "spec": {
            "source": {"inline": {"files": {"Dockerfile": "FROM golang:1.26 AS build\nWORKDIR /src\nCOPY . .\nRUN go build -o /hello .\n\nFROM scratch\nCOPY --from=build /hello /\nENTRYPOINT [\"/hello\"]\n"}}},
            "output": {"image": "registry.example.com/team/hello", "tags": ["latest"]}},
        "status": {
            "observedGeneration": 3, "build": 7,
            "image": format!("registry.example.com/team/hello@{}", digest("a")), "digest": digest("a"),
            "tags": ["latest", "v1"], "revision": "main@sha1:0123456789012345678901234567890123456789",
            "size": 2_516_582, "platforms": [
                {"platform": "linux/amd64", "digest": digest("c"), "size": 2_516_582},
                {"platform": "linux/arm64", "digest": digest("d"), "size": 2_416_582}],
            "steps": {"total": 6, "cached": 4},
            "trigger": {"reason": "Commit", "detail": "0123456", "since": "2026-11-25T11:57:40Z"},
            "startedAt": "2026-11-25T11:57:40Z", "completedAt": "2026-11-25T11:58:00Z", "durationSeconds": 18, "queuedSeconds": 2,
            "history": [
                {"build": 7, "generation": 3, "result": "Succeeded", "digest": digest("a"), "size": 2_516_582, "revision": "main@sha1:0123456", "trigger": "Commit", "completedAt": "2026-11-25T11:58:00Z", "durationSeconds": 18, "queuedSeconds": 2},
                {"build": 6, "generation": 3, "result": "StepFailed", "completedAt": "2026-11-25T11:00:00Z", "durationSeconds": 5},
                {"build": 5, "generation": 2, "result": "Succeeded", "digest": digest("b"), "size": 2_000_000, "unchanged": true, "completedAt": "2026-11-25T10:00:00Z", "durationSeconds": 44}],
            "conditions": [
                {"type": "Ready", "status": "True", "reason": "Succeeded", "message": "registry.example.com/team/hello", "lastTransitionTime": "2026-11-25T11:58:00Z"},
                {"type": "Contract", "status": "True", "reason": "Kept", "message": "the image keeps its contract", "lastTransitionTime": "2026-11-25T11:58:00Z"},
                {"type": "Advice", "status": "True", "reason": "NoUser", "message": "Dockerfile: the image runs as root\nDockerfile:1: golang is named by a tag alone", "lastTransitionTime": "2026-11-25T11:58:00Z"}]}});
    json_patch::merge(&mut value, &over);
    serde_json::from_value(value).unwrap()
}

/// The condition Ready, alone.
pub(super) fn ready(status: &str, reason: &str, message: &str) -> Value {
    json!([{"type": "Ready", "status": status, "reason": reason, "message": message, "lastTransitionTime": "2026-11-25T11:59:00Z"}])
}

/// A build that runs.
pub(super) fn building() -> ImageBuild {
    build(
        json!({"status": {"build": 8, "conditions": ready("Unknown", "Building", "build 8 runs"),
        "current": {"attempt": 2, "job": "hello-1234567890", "generation": 3, "started": true, "since": "2026-11-25T11:59:30Z",
            "message": "4/6 [build 4/4] RUN go build -o /hello .", "lastFailure": "BuilderLost: the builder went away"}},
        "spec": {"retries": 2}}),
    )
}

/// One that waits for its turn.
pub(super) fn queued(uid: &str, since: &str) -> ImageBuild {
    build(
        json!({"metadata": {"name": format!("hello-{uid}"), "uid": uid},
        "status": {"build": 8, "startedAt": since, "conditions": ready("Unknown", "Queued", "waits for its turn: 1 build runs"),
        "current": {"attempt": 1, "job": "j", "generation": 3, "waiting": {"reason": "Queued"}}}}),
    )
}

/// The same, where it is known about when it starts.
pub(super) fn queued_until(uid: &str, since: &str, starts: &str) -> ImageBuild {
    let mut build = queued(uid, since);
    let status = build.status.as_mut().unwrap();
    let waiting = status.current.as_mut().unwrap().waiting.as_mut().unwrap();
    waiting.starts = serde_json::from_value(json!(starts)).unwrap();
    build
}

/// One whose Dockerfile failed.
pub(super) fn failed() -> ImageBuild {
    build(
        json!({"status": {"build": 8, "completedAt": "2026-11-25T11:59:00Z",
        "conditions": [
            {"type": "Ready", "status": "False", "reason": "StepFailed", "message": "m", "lastTransitionTime": "2026-11-25T11:59:00Z"},
            {"type": "Stalled", "status": "True", "reason": "StepFailed", "message": "m", "lastTransitionTime": "2026-11-25T11:59:00Z"}],
        "failure": {"reason": "StepFailed", "message": "Dockerfile:4: RUN go build -o /hello . failed with exit code 1", "step": "RUN go build -o /hello .",
            "dockerfileLine": 4, "log": "main.go:3:1: syntax error\u{1b}]0;owned\u{7}", "hint": "fix main.go"}}}),
    )
}
