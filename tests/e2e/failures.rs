//! The reasons for a failure that need more than a slip in the spec, each caused for real. Together with
//! the other tests all of the closed list is caused: the last test here sees to that.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use whittle_api::FailureReason::*;
use whittle_api::{READY, find};

use crate::field::{Field, variable};
use crate::registry;

const SCRATCH: &str = "FROM scratch\nCOPY a /a\n";

/// A Builder of the name `default` with these fields besides what the local cluster needs.
async fn builder(field: &Field, fields: Value) {
    let local = variable("REGISTRY");
    let mut spec = json!({"cache": {"size": "1Gi"}, "registries": [
        {"host": local, "plainHTTP": true}, {"host": "docker.io", "mirrors": [local]}]});
    json_patch::merge(&mut spec, &fields);
    field
        .create(json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "default"}, "spec": spec}))
        .await;
}

#[tokio::test]
async fn servers_that_are_away_or_refuse_are_told_apart() {
    let field = Field::new("servers").await;
    let host = registry::second(&field, true, true).await;
    let git = json!({"git": {"url": "http://nosuch.whittle.local:3000/a.git"}});
    field.apply("source-away", git, json!({"retries": 0})).await;
    let base = |host: &str| json!({"Dockerfile": format!("FROM {host}/team/base:1\nCOPY a /a\n"), "a": "b"});
    field.build("base-denied", base(&host), json!({})).await;
    let away = "nosuch.whittle.local:5000";
    field
        .build("base-away", base(away), json!({"retries": 0}))
        .await;
    let files = json!({"Dockerfile": SCRATCH, "a": "b"});
    let output = json!({"output": {"image": format!("{away}/team/hello")}, "retries": 0});
    field.build("push-away", files.clone(), output).await;
    // It speaks HTTP, and nothing says so.
    let plain = format!("registry.{}.svc.cluster.local:5000", field.namespace);
    field.build("not-trusted", base(&plain), json!({})).await;
    for (name, reason, words) in [
        ("source-away", SourceUnreachable, "nosuch.whittle.local"),
        ("base-denied", BaseImageDenied, "credentials missing"),
        ("base-away", BaseImageUnreachable, away),
        ("push-away", PushFailed, away),
        ("not-trusted", BuildFailed, "plainHTTP"),
    ] {
        let failure = field.fails(name, reason).await;
        assert!(
            failure.message.contains(words),
            "{name}: {}",
            failure.message
        );
    }
    field.close().await;
}

#[tokio::test]
async fn what_the_builder_cannot_do_is_rejected_with_the_way_out() {
    let field = Field::new("rejected").await;
    let secret =
        "FROM busybox:1.36\nRUN --mount=type=secret,id=token,required cat /run/secrets/token\n";
    field
        .build("secret", json!({"Dockerfile": secret}), json!({}))
        .await;
    let insecure = "FROM busybox:1.36\nRUN --security=insecure true\n";
    field
        .build("insecure", json!({"Dockerfile": insecure}), json!({}))
        .await;
    for (name, words) in [
        ("secret", "spec.secrets has none"),
        ("insecure", "which is never allowed"),
    ] {
        let failure = field.fails(name, BuildRejected).await;
        assert!(
            failure.message.contains(words),
            "{name}: {}",
            failure.message
        );
    }
    field
        .build(
            "elsewhere",
            json!({"Dockerfile": SCRATCH, "a": "b"}),
            json!({"builderRef": {"name": "other"}}),
        )
        .await;
    let status = field.ready("elsewhere", "False", "BuilderNotFound").await;
    assert!(
        find(&status.conditions, READY)
            .unwrap()
            .message
            .contains("Builder other not found")
    );
    field.close().await;
}

#[tokio::test]
async fn a_step_that_needs_more_memory_than_the_builder_has_is_told_so() {
    let field = Field::new("memory").await;
    builder(
        &field,
        json!({"resources": {"limits": {"memory": "192Mi"}}}),
    )
    .await;
    // tail keeps the line that does not end.
    let dockerfile = "FROM busybox:1.36\nRUN tail /dev/zero\n";
    field
        .build(
            "hello",
            json!({"Dockerfile": dockerfile}),
            json!({"retries": 0}),
        )
        .await;
    let failure = field
        .ready("hello", "False", "OutOfMemory")
        .await
        .failure
        .unwrap();
    for words in ["resources.limits.memory", "192Mi of Builder default"] {
        assert!(failure.message.contains(words), "{}", failure.message);
    }
    field.close().await;
}

#[tokio::test]
async fn a_cache_volume_that_is_full_is_pruned_and_then_told() {
    let field = Field::new("full").await;
    builder(
        &field,
        json!({"cache": {"size": "200Mi", "storageClassName": "memory"}}),
    )
    .await;
    let dockerfile = "FROM busybox:1.36\nRUN dd if=/dev/zero of=/big bs=1M count=400\n";
    field
        .build("big", json!({"Dockerfile": dockerfile}), json!({}))
        .await;
    let failure = field.fails("big", CacheFull).await;
    assert!(
        failure.message.contains("cache.size"),
        "{}",
        failure.message
    );
    let runner = field.runner_any("big").await.unwrap().name_any();
    assert!(
        field
            .log(&runner)
            .await
            .contains("pruning, then retrying once")
    );
    // What is smaller than the volume is built all the same.
    field
        .build("small", json!({"Dockerfile": SCRATCH, "a": "b"}), json!({}))
        .await;
    field.succeeds("small").await;
    field.close().await;
}

#[tokio::test]
async fn a_builder_or_runner_that_is_lost_too_often_ends_the_build() {
    let field = Field::new("lost").await;
    let dockerfile = "FROM busybox:1.36\nRUN sleep 600\n";
    for (name, reason) in [("runner", RunnerLost), ("builder", BuilderLost)] {
        field
            .build(
                name,
                json!({"Dockerfile": dockerfile}),
                json!({"retries": 0}),
            )
            .await;
        field.step_runs(name, "RUN sleep").await;
        let pod = match reason {
            RunnerLost => field.runner(name, "Running").await.name_any(),
            _ => "whittle-builder-default-0".to_owned(),
        };
        field
            .api::<Pod>()
            .delete(&pod, &DeleteParams::default().grace_period(0))
            .await
            .unwrap();
        field.fails(name, reason).await;
    }
    field.close().await;
}

/// Many clusters send all images through a mirror of their own: here one that has nothing.
#[tokio::test]
async fn a_runner_whose_image_cannot_be_pulled_is_told_with_the_images_name() {
    let field = Field::new("pull").await;
    let namespaces = kube::Api::<k8s_openapi::api::core::v1::Namespace>::all(field.client.clone());
    let owner = namespaces.get(&field.namespace).await.unwrap();
    let image = format!("{}/nosuch/whittle:1", variable("REGISTRY"));
    // It goes with the namespace, and concerns nothing else.
    let metadata = json!({"name": field.namespace, "ownerReferences": [
        {"apiVersion": "v1", "kind": "Namespace", "name": field.namespace, "uid": owner.uid().unwrap()}]});
    let api = "admissionregistration.k8s.io/v1";
    field
        .create_for_all(json!({"apiVersion": api, "kind": "MutatingAdmissionPolicy", "metadata": metadata, "spec": {
            "reinvocationPolicy": "Never", "failurePolicy": "Fail",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": field.namespace}},
                "objectSelector": {"matchLabels": {"whittle.dev/component": "runner"}},
                "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]},
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {
                "expression": format!("[JSONPatch{{op: 'replace', path: '/spec/containers/0/image', value: '{image}'}}]")}}]}}))
        .await;
    field
        .create_for_all(json!({"apiVersion": api, "kind": "MutatingAdmissionPolicyBinding", "metadata": metadata,
            "spec": {"policyName": field.namespace}}))
        .await;
    // The API server takes a policy up a moment after it was made.
    field
        .until("the policy holds", async || {
            let pod = json!({"metadata": {"name": "try", "labels": {"whittle.dev/component": "runner"}},
                "spec": {"containers": [{"name": "a", "image": "b"}]}});
            let params = kube::api::PostParams { dry_run: true, ..Default::default() };
            let made = field.api::<Pod>().create(&params, &serde_json::from_value(pod).unwrap()).await.ok()?;
            (made.spec?.containers[0].image.as_deref() == Some(&image)).then_some(())
        })
        .await;
    field
        .build("hello", json!({"Dockerfile": SCRATCH, "a": "b"}), json!({}))
        .await;
    let failure = field.fails("hello", ImagePullFailed).await;
    assert!(failure.message.contains(&image), "{}", failure.message);
    field.close().await;
}

#[test]
fn every_reason_of_the_closed_list_is_caused_in_a_test() {
    const TESTS: [&str; 9] = [
        include_str!("contents.rs"),
        include_str!("contract.rs"),
        include_str!("debug.rs"),
        include_str!("failures.rs"),
        include_str!("gate.rs"),
        include_str!("mistakes.rs"),
        include_str!("refusals.rs"),
        include_str!("sources.rs"),
        include_str!("triggers.rs"),
    ];
    let schema = serde_json::to_value(schemars::schema_for!(whittle_api::FailureReason)).unwrap();
    let mut reasons = vec![];
    collect(&schema, &mut reasons);
    assert!(reasons.len() > 20, "{schema:#}");
    for reason in reasons {
        assert!(
            TESTS.iter().any(|text| text.contains(&reason)),
            "{reason} is caused in no test"
        );
    }
}

fn collect(schema: &Value, reasons: &mut Vec<String>) {
    match schema {
        Value::Object(fields) => {
            if let Some(value) = fields.get("const").and_then(Value::as_str) {
                reasons.push(value.to_owned());
            }
            for value in fields.values() {
                collect(value, reasons);
            }
        }
        Value::Array(items) => {
            for item in items {
                match item.as_str() {
                    Some(text)
                        if text.chars().all(|c| c.is_ascii_alphanumeric())
                            && text.chars().any(char::is_uppercase) =>
                    {
                        reasons.push(text.to_owned())
                    }
                    _ => collect(item, reasons),
                }
            }
        }
        _ => {}
    }
}
