use k8s_openapi::jiff::SignedDuration;
use serde_json::{Value, json};

use super::*;
use crate::fixtures;
use whittle_api::TRIGGERS;
use whittle_api::{FluxKind, FluxSource, find};

fn now() -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap()
}

/// An ImageBuild of a Bucket that has been built from this revision.
fn built(revision: &str) -> ImageBuild {
    let mut build = fixtures::inline();
    build.spec.source.inline = None;
    build.spec.source.flux = Some(FluxSource {
        kind: FluxKind::Bucket,
        name: "app".into(),
        sub_path: None,
    });
    build.status = Some(ImageBuildStatus {
        input: Some(decide::input(&build)),
        last_revision: Some(revision.into()),
        ..ImageBuildStatus::default()
    });
    build
}

fn object(revision: &str, ready: &str) -> Object {
    Object::take(json!({"status": {
        "artifact": {"revision": revision, "url": "http://h/a", "digest": format!("sha256:{}", "a".repeat(64))},
        "conditions": [{"type": "Ready", "status": ready, "reason": "r", "message": "m"}],
    }}))
}

fn told(status: &ImageBuildStatus) -> (String, String) {
    let told = find(&status.conditions, TRIGGERS).unwrap();
    (told.status.clone(), told.reason.clone())
}

fn of(status: &str, reason: &str) -> (String, String) {
    (status.into(), reason.into())
}

#[test]
fn another_revision_asks_for_a_build_and_the_same_one_for_none() {
    let mut build = built("r1");
    let status = heard(&build, Some(&object("r1", "True")), now()).unwrap();
    assert_eq!(
        (told(&status), status.pending.clone()),
        (of("True", "TriggersWork"), None)
    );
    build.status = Some(status);
    assert_eq!(heard(&build, Some(&object("r1", "True")), now()), None);
    let status = heard(&build, Some(&object("r2", "True")), now()).unwrap();
    let pending = status.pending.clone().unwrap();
    assert_eq!(
        (pending.reason, pending.revision.as_deref()),
        (TriggerReason::Commit, Some("r2"))
    );
    build.status = Some(status);
    let later = now() + SignedDuration::from_secs(60);
    assert_eq!(heard(&build, Some(&object("r2", "True")), later), None);
}

#[test]
fn a_spec_that_is_due_takes_what_is_there_and_is_built_once() {
    let mut build = built("r1");
    build.spec.rebuild = Some("again".into());
    let status = heard(&build, Some(&object("r2", "True")), now()).unwrap();
    assert_eq!(status.pending, None);
    build.metadata.deletion_timestamp = Some(Time(now()));
    assert_eq!(heard(&build, Some(&object("r2", "True")), now()), None);
}

#[test]
fn a_source_that_fails_or_is_gone_is_told_and_builds_nothing() {
    let build = built("r1");
    let status = heard(&build, Some(&object("r2", "False")), now()).unwrap();
    assert_eq!(
        (told(&status), status.pending),
        (of("False", "SourceNotReady"), None)
    );
    let status = heard(&build, None, now()).unwrap();
    assert_eq!(
        (told(&status), status.pending),
        (of("False", "SourceNotFound"), None)
    );
    // It comes by itself.
    assert_eq!(heard(&build, Some(&object("r2", "Unknown")), now()), None);
    let other = fixtures::inline();
    let nothing: Value = json!({});
    assert_eq!(heard(&other, Some(&Object::take(nothing)), now()), None);
}
