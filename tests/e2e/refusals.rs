//! What a cluster refuses is told with the fix, and heals when the cause is gone.

use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Resource};
use serde_json::{Value, json};
use whittle_api::FailureReason::SpecRejected;
use whittle_api::{Builder, ImageBuild, ImageBuildStatus, find};

use crate::field::{Field, registry};

fn files() -> Value {
    json!({"Dockerfile": "FROM scratch\nCOPY a /a\n", "a": "b"})
}

/// The message of condition Ready, once that has this status and reason.
async fn told(field: &Field, name: &str, status: &str, reason: &str) -> String {
    let found: ImageBuildStatus = field.ready(name, status, reason).await;
    let ready = find(&found.conditions, "Ready").unwrap();
    ready.message.clone()
}

fn contains(text: &str, all: &[&str]) {
    for words in all {
        assert!(text.contains(words), "{words:?} is not said: {text}");
    }
}

/// Makes the Builder named `default` before any build asks for it, with these fields besides what the local cluster
/// needs.
async fn builder(field: &Field, fields: Value) {
    let mut spec =
        json!({"cache": {"size": "1Gi"}, "registries": [{"host": registry(), "plainHTTP": true}]});
    json_patch::merge(&mut spec, &fields);
    field
        .create(json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "default"}, "spec": spec}))
        .await;
}

#[tokio::test]
async fn pod_security_level_restricted_is_told_with_one_command_that_heals() {
    let field = Field::new("restricted").await;
    field.hold_to("restricted").await;
    field.build("hello", files(), json!({})).await;
    let message = told(&field, "hello", "False", "PodSecurity").await;
    let command = format!(
        "kubectl label namespace {} pod-security.kubernetes.io/enforce=baseline --overwrite",
        field.namespace
    );
    contains(&message, &[&command, "violates PodSecurity"]);
    field.hold_to("baseline").await;
    field.succeeds("hello").await;
    field.close().await;
}

#[tokio::test]
async fn a_quota_that_wants_requests_is_told_and_its_end_heals() {
    let field = Field::new("quota").await;
    field
        .create(
            json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"},
            "spec": {"hard": {"limits.cpu": "8", "pods": "10"}}}),
        )
        .await;
    let quotas = field.api::<ResourceQuota>();
    field
        .until("the quota holds", async || {
            quotas.get("q").await.unwrap().status?.used
        })
        .await;
    field.build("hello", files(), json!({})).await;
    let message = told(&field, "hello", "False", "QuotaExceeded").await;
    contains(
        &message,
        &["failed quota: q", "kubectl patch builder default -n "],
    );
    quotas.delete("q", &DeleteParams::default()).await.unwrap();
    field.succeeds("hello").await;
    field.close().await;
}

#[tokio::test]
async fn a_quota_on_jobs_is_told_and_its_end_heals() {
    let field = Field::new("jobs").await;
    field
        .create(
            json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"},
            "spec": {"hard": {"count/jobs.batch": "0"}}}),
        )
        .await;
    let quotas = field.api::<ResourceQuota>();
    field
        .until("the quota holds", async || {
            quotas.get("q").await.unwrap().status?.used
        })
        .await;
    field.build("hello", files(), json!({})).await;
    let status = field.ready("hello", "False", "QuotaExceeded").await;
    contains(
        &find(&status.conditions, "Ready").unwrap().message,
        &["exceeded quota: q"],
    );
    quotas.delete("q", &DeleteParams::default()).await.unwrap();
    field.succeeds("hello").await;
    field.close().await;
}

#[tokio::test]
async fn a_build_that_waits_longer_than_it_may_ends_with_what_it_waited_for() {
    let field = Field::new("waits").await;
    let registries = json!([{"host": registry(), "plainHTTP": true}, {"host": "docker.io", "mirrors": [registry()]}]);
    let one = json!({"maxConcurrentBuilds": 1, "registries": registries});
    builder(&field, one).await;
    let long = json!({"Dockerfile": "FROM busybox:1.36\nRUN sleep 3600\n"});
    field.build("first", long, json!({})).await;
    field.step_runs("first", "RUN sleep").await;
    let bounded = json!({"queueTimeout": "5s"});
    field.build("second", files(), bounded).await;
    let message = told(&field, "second", "False", "QueueTimeout").await;
    contains(
        &message,
        &[
            "not started within spec.queueTimeout (5s)",
            "1 running, 0 queued before this one",
            "raise maxConcurrentBuilds",
        ],
    );
    field.close().await;
}

#[tokio::test]
async fn a_node_that_does_not_exist_is_told_and_another_selector_heals() {
    let field = Field::new("node").await;
    builder(
        &field,
        json!({"nodeSelector": {"example.com/nosuch": "true"}}),
    )
    .await;
    field.build("hello", files(), json!({})).await;
    let message = told(&field, "hello", "Unknown", "Unschedulable").await;
    contains(
        &message,
        &[
            "didn't match Pod's node affinity/selector",
            "spec.nodeSelector",
        ],
    );
    let anywhere = Patch::Merge(json!({"spec": {"nodeSelector": null}}));
    let builders = field.api::<Builder>();
    builders
        .patch("default", &PatchParams::default(), &anywhere)
        .await
        .unwrap();
    field.succeeds("hello").await;
    field.close().await;
}

#[tokio::test]
async fn a_storage_class_that_does_not_exist_is_told_and_another_builder_heals() {
    let field = Field::new("class").await;
    builder(&field, json!({"cache": {"storageClassName": "nosuch"}})).await;
    field.build("hello", files(), json!({})).await;
    let message = told(&field, "hello", "False", "VolumePending").await;
    contains(
        &message,
        &["StorageClass nosuch", "kubectl delete builder default -n "],
    );
    let builders = field.api::<Builder>();
    builders
        .delete("default", &DeleteParams::default())
        .await
        .unwrap();
    field.succeeds("hello").await;
    field.close().await;
}

#[tokio::test]
async fn a_registrys_certificates_that_do_not_exist_are_told_and_heal_once_they_do() {
    let field = Field::new("ca").await;
    let ca = json!({"host": "registry.example.com", "caRef": {"name": "corp-ca", "key": "ca.crt"}});
    let plain = json!({"host": registry(), "plainHTTP": true});
    builder(&field, json!({"registries": [plain, ca]})).await;
    field.build("hello", files(), json!({})).await;
    let message = told(&field, "hello", "False", "SecretNotFound").await;
    contains(&message, &["ConfigMap corp-ca not found"]);
    let made = rcgen::generate_simple_self_signed(vec!["registry.example.com".into()]).unwrap();
    let certificates = made.cert.pem();
    field
        .create(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "corp-ca"},
            "data": {"ca.crt": certificates}}),
        )
        .await;
    field.succeeds("hello").await;
    field.close().await;
}

#[tokio::test]
async fn a_builders_image_that_cannot_be_pulled_is_told_and_the_right_one_heals() {
    let field = Field::new("pull").await;
    let image = format!("{}/nosuch/buildkit:1", registry());
    let name = &field.namespace;
    let api = "admissionregistration.k8s.io/v1";
    let here = json!({"matchLabels": {"kubernetes.io/metadata.name": name}});
    let builders = json!({"matchLabels": {"whittle.dev/component": "builder"}});
    let rules = json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]);
    let patch =
        format!("[JSONPatch{{op: 'replace', path: '/spec/containers/0/image', value: '{image}'}}]");
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(field.client.clone());
    let owner = namespaces.get(name).await.unwrap();
    let metadata = json!({"name": name, "ownerReferences": [
        {"apiVersion": "v1", "kind": "Namespace", "name": name, "uid": owner.meta().uid}]});
    field
        .create_for_all(json!({"apiVersion": api, "kind": "MutatingAdmissionPolicy", "metadata": metadata, "spec": {
            "reinvocationPolicy": "Never", "failurePolicy": "Fail",
            "matchConstraints": {"namespaceSelector": here, "objectSelector": builders, "resourceRules": rules},
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": patch}}]}}))
        .await;
    let binding = json!({"apiVersion": api, "kind": "MutatingAdmissionPolicyBinding", "metadata": metadata,
        "spec": {"policyName": name}});
    field.create_for_all(binding).await;
    let pods = field.api::<Pod>();
    // The API server takes a policy up a moment after it was made.
    let probe = json!({"metadata": {"name": "try", "labels": {"whittle.dev/component": "builder"}},
        "spec": {"containers": [{"name": "a", "image": "b"}]}});
    let probe = serde_json::from_value(probe).unwrap();
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    field
        .until("the policy holds", async || {
            let made = pods.create(&dry, &probe).await.ok()?;
            (made.spec?.containers[0].image.as_deref() == Some(&image)).then_some(())
        })
        .await;
    field.build("hello", files(), json!({})).await;
    let message = told(&field, "hello", "False", "ImagePullFailed").await;
    contains(&message, &[&image, "builder.image of the chart"]);

    let request = kube::core::Request::new(format!("/apis/{api}/mutatingadmissionpolicybindings"))
        .delete(name, &DeleteParams::default())
        .unwrap();
    let _: Value = field.client.request(request).await.unwrap();
    field
        .until("the policy is gone", async || {
            let made = pods.create(&dry, &probe).await.ok()?;
            (made.spec?.containers[0].image.as_deref() == Some("b")).then_some(())
        })
        .await;
    let now = DeleteParams::default().grace_period(0);
    pods.delete("whittle-builder-default-0", &now)
        .await
        .unwrap();
    field.succeeds("hello").await;
    field.close().await;
}

#[tokio::test]
async fn a_spec_that_the_api_server_does_not_accept_is_told_and_another_heals() {
    let field = Field::new("spec").await;
    // What the CRD refuses is told by kubectl; what it lets pass, by the status.
    let items = json!([{"key": "Dockerfile", "path": "..x/Dockerfile"}]);
    let spec = json!({"source": {"configMap": {"name": "src", "items": items}}, "output": {"image": field.image("hello")}});
    let object = json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "ImageBuild", "metadata": {"name": "hello"}, "spec": spec});
    let made = field
        .api::<ImageBuild>()
        .create(
            &PostParams::default(),
            &serde_json::from_value(object).unwrap(),
        )
        .await;
    match made {
        Ok(_) => {
            let failure = field.fails("hello", SpecRejected).await;
            contains(&failure.message, &["must not start with '..'"]);
        }
        Err(error) => contains(&error.to_string(), &["path"]),
    }
    field
        .build("hello", files(), json!({"source": {"configMap": null}}))
        .await;
    field.succeeds("hello").await;
    field.close().await;
}
