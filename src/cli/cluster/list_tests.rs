use serde_json::json;

use super::super::fixtures::{build, building, failed, now, queued, queued_until};
use super::*;

#[test]
fn a_namespace_is_a_table_with_places_in_the_queue_and_builders() {
    let builder: Builder = serde_json::from_value(json!({
        "apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "default", "namespace": "demo"}, "spec": {"replicas": 3},
        "status": {"replicas": {"desired": 3, "ready": 0}, "conditions": [{"type": "Ready", "status": "True", "reason": "Idle", "message": "", "lastTransitionTime": "2026-11-25T11:58:00Z"}]}}))
    .unwrap();
    let builds = [
        build(json!({})),
        building(),
        failed(),
        queued("u3", "2026-11-25T11:59:00Z"),
        queued_until("u2", "2026-11-25T11:58:00Z", "2026-11-25T12:04:00Z"),
        // What was expected is over.
        queued_until("u4", "2026-11-25T11:59:30Z", "2026-11-25T11:59:59Z"),
    ];
    insta::assert_snapshot!(overview(
        &builds,
        &[builder],
        &places(&builds),
        Some("demo"),
        now()
    ));
    assert_eq!(
        overview(&[], &[], &BTreeMap::new(), Some("demo"), now()),
        "No ImageBuilds in namespace demo: make one with `whittle build`, or kubectl apply.\n"
    );
}

#[test]
fn objects_are_written_as_kubectl_writes_them() {
    let builds = [build(
        json!({"metadata": {"managedFields": [{"manager": "x"}]}}),
    )];
    assert_eq!(
        objects(&builds, Output::Name, true).unwrap(),
        "imagebuild.whittle.dev/hello\n"
    );
    let one = objects(&builds, Output::Json, true).unwrap();
    assert!(
        one.contains("\"kind\": \"ImageBuild\"") && !one.contains("managedFields"),
        "{one}"
    );
    let list = objects(&builds, Output::Yaml, false).unwrap();
    assert!(list.contains("kind: List"), "{list}");
}
