//! What is refused reaches the person who asked, with the fix, and heals when the cause is gone.
//!
//! The API server's refusals are its own. Where controllers of Kubernetes act for us the test plays them, and writes
//! the events that they write. The words are looked for within ten seconds of the refusal: the reconciles that look
//! for them come two seconds apart at first.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod, ResourceQuota, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use whittle_api::{Builder, ImageBuild, find};

use crate::stage::{Stage, apply, success};

/// The message of condition Ready.
fn said(build: &ImageBuild) -> String {
    let status = build.status.as_ref().unwrap();
    find(&status.conditions, "Ready").unwrap().message.clone()
}

fn contains(text: &str, all: &[&str]) {
    for words in all {
        assert!(text.contains(words), "{words:?} is not said: {text}");
    }
}

/// A controller of Kubernetes writes an event about this object.
pub async fn event(stage: &Stage, about: Value, reason: &str, message: &str) {
    let now = k8s_openapi::jiff::Timestamp::now().to_string();
    let mut about = about;
    about["namespace"] = stage.namespace.clone().into();
    let event = json!({
        "metadata": {"generateName": "played-", "namespace": stage.namespace},
        "involvedObject": about, "type": "Warning", "reason": reason, "message": message,
        "firstTimestamp": now, "lastTimestamp": now,
    });
    let event = serde_json::from_value(event).unwrap();
    let events = stage.api::<Event>();
    events.create(&PostParams::default(), &event).await.unwrap();
}

async fn stateful_set(stage: &Stage) -> StatefulSet {
    let sets = stage.api::<StatefulSet>();
    stage
        .until("the builder's StatefulSet exists", async || {
            sets.get_opt("whittle-builder-default").await.unwrap()
        })
        .await
}

async fn about(stage: &Stage) -> Value {
    let set = stateful_set(stage).await;
    json!({"kind": "StatefulSet", "name": set.name_any(), "uid": set.uid()})
}

/// Plays the StatefulSet controller: the daemon has a Pod, in this state.
pub async fn daemon(stage: &Stage, metadata: Value, status: Value) -> Pod {
    let template = stateful_set(stage).await.spec.unwrap().template;
    let mut pod = Pod {
        metadata: template.metadata.unwrap(),
        spec: template.spec,
        status: None,
    };
    pod.metadata.name = Some("whittle-builder-default-0".into());
    let mut pod = serde_json::to_value(pod).unwrap();
    json_patch::merge(&mut pod["metadata"], &metadata);
    let claim = json!({"name": "cache", "persistentVolumeClaim": {"claimName": "cache-whittle-builder-default-0"}});
    pod["spec"]["volumes"].as_array_mut().unwrap().push(claim);
    let pods = stage.api::<Pod>();
    let pod = serde_json::from_value(pod).unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let status = Patch::Merge(json!({"status": status}));
    let name = "whittle-builder-default-0";
    pods.patch_status(name, &PatchParams::default(), &status)
        .await
        .unwrap()
}

/// The Builder's own condition.
async fn builder_says(stage: &Stage, reason: &str) {
    let builders = stage.api::<Builder>();
    stage
        .until(&format!("the Builder says {reason}"), async || {
            let status = builders.get("default").await.unwrap().status?;
            find(&status.conditions, "Ready").and_then(|c| (c.reason == reason).then_some(()))
        })
        .await;
}

/// Ends the build well, whose Job has been made.
async fn ends_well(stage: &Stage, name: &str) {
    stage
        .pod_ends(&stage.job(name).await, &success("sha256:aa"))
        .await;
    stage.ready(name, "True", "Succeeded").await;
}

/// Waits until what was made to refuse Jobs does so: the API server takes it up a moment later.
async fn no_job_is_taken(stage: &Stage) {
    let jobs = stage.api::<Job>();
    let pod = json!({"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]});
    let job = json!({"metadata": {"name": "try"}, "spec": {"template": {"spec": pod}}});
    let job = serde_json::from_value(job).unwrap();
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let refused = async || jobs.create(&dry, &job).await.err();
    stage.until("Jobs are refused", refused).await;
}

#[tokio::test]
async fn a_quota_on_jobs_is_told_and_its_end_heals() {
    let stage = Stage::with_controller().await;
    let none = json!({"count/jobs.batch": "0"});
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": none}});
    let quotas = stage.api::<ResourceQuota>();
    let quota = serde_json::from_value(quota).unwrap();
    quotas.create(&PostParams::default(), &quota).await.unwrap();
    // Nobody counts here.
    let counted = Patch::Merge(json!({"status": {"hard": none, "used": none}}));
    quotas
        .patch_status("q", &PatchParams::default(), &counted)
        .await
        .unwrap();
    no_job_is_taken(&stage).await;

    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    let build = stage.ready("hello", "False", "QuotaExceeded").await;
    contains(
        &said(&build),
        &["exceeded quota: q", "kubectl describe quota -n"],
    );
    assert!(find(&build.status.unwrap().conditions, "Reconciling").is_some());
    quotas.delete("q", &DeleteParams::default()).await.unwrap();
    ends_well(&stage, "hello").await;
}

#[tokio::test]
async fn a_policy_that_denies_jobs_is_told_and_its_end_heals() {
    const RECONCILES: &str = r#"whittle_reconciles_total{kind="ImageBuild"}"#;
    let stage = Stage::with_controller().await;
    let refused = stage.refuse("CREATE", "jobs", "no Jobs on Fridays").await;
    no_job_is_taken(&stage).await;
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    let build = stage.ready("hello", "False", "AdmissionDenied").await;
    contains(&said(&build), &["creating Job", "no Jobs on Fridays"]);
    let events = stage.api::<Event>();
    stage
        .until("an Event tells too", async || {
            let events = events.list(&ListParams::default()).await.unwrap();
            let mut events = events.items.into_iter();
            events.find(|event| event.reason.as_deref() == Some("AdmissionDenied"))
        })
        .await;
    let before = stage.metric(RECONCILES).await;
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    let tries = stage.metric(RECONCILES).await - before;
    assert!(tries <= 8, "it is tried again {tries} times in ten seconds");
    // Nothing was said meanwhile but this.
    let now = stage.get("hello").await;
    assert_eq!(said(&now), said(&build));
    refused.end().await;
    ends_well(&stage, "hello").await;
}

#[tokio::test]
async fn a_policy_that_denies_the_builder_named_default_is_told_and_its_end_heals() {
    let stage = Stage::with_controller().await;
    let refused = stage
        .refuse("CREATE", "builders", "ask the platform team")
        .await;
    let probe = Builder::new("try", Default::default());
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let builders = stage.api::<Builder>();
    let holds = async || builders.create(&dry, &probe).await.err();
    stage.until("the policy holds", holds).await;
    stage.apply("hello", json!({})).await.unwrap();
    let build = stage.ready("hello", "False", "AdmissionDenied").await;
    contains(
        &said(&build),
        &["creating Builder", "ask the platform team"],
    );
    refused.end().await;
    stage.builder_starts().await;
    ends_well(&stage, "hello").await;
}

#[tokio::test]
async fn a_job_that_cannot_be_ends_its_build_in_the_api_servers_words() {
    let stage = Stage::with_controller().await;
    // What a policy makes of a Job stands for every mistake that only the API server finds.
    let name = stage.namespace.clone();
    let api = "admissionregistration.k8s.io/v1";
    let here = json!({"matchLabels": {"kubernetes.io/metadata.name": name}});
    let rules = json!([{"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}]);
    let path = "JSONPatch{op: 'add', path: '/spec/backoffLimit', value: -1}";
    for object in [
        json!({"apiVersion": api, "kind": "MutatingAdmissionPolicy", "metadata": {"name": name}, "spec": {
            "reinvocationPolicy": "Never", "failurePolicy": "Fail",
            "matchConstraints": {"namespaceSelector": here, "resourceRules": rules},
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": format!("[{path}]")}}]}}),
        json!({"apiVersion": api, "kind": "MutatingAdmissionPolicyBinding", "metadata": {"name": name}, "spec": {"policyName": name}}),
    ] {
        apply(&stage.client, object).await;
    }
    no_job_is_taken(&stage).await;

    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    let build = stage.ready("hello", "False", "SpecRejected").await;
    contains(&said(&build), &["creating Job", "spec.backoffLimit"]);
    let status = build.status.unwrap();
    assert!(find(&status.conditions, "Stalled").is_some() && status.current.is_none());
    assert!(stage.requests().await.is_empty(), "its request goes");
}

/// What the CRD of today takes and the API server refuses later is told; a CRD that refuses it tells at once.
async fn told_somewhere(stage: &Stage, patch: Value, words: &[&str]) {
    let Ok(_) = stage.apply("hello", patch).await else {
        return;
    };
    if stage.get("hello").await.spec.builder_ref.name == "default" {
        stage.builder_starts().await;
    }
    let build = stage.ready("hello", "False", "SpecRejected").await;
    contains(&said(&build), words);
    stage.apply("hello", json!({})).await.unwrap();
}

#[tokio::test]
async fn a_path_with_dots_is_told() {
    let stage = Stage::with_controller().await;
    let items = json!([{"key": "Dockerfile", "path": "Dockerfile"}, {"key": "Dockerfile", "path": "..x/Dockerfile"}]);
    let source = json!({"source": {"inline": null, "configMap": {"name": "src", "items": items}}});
    told_somewhere(&stage, source, &["must not start with '..'"]).await;
}

#[tokio::test]
async fn a_request_that_is_too_large_is_told() {
    let stage = Stage::with_controller().await;
    let large = json!({"buildArgs": {"A": "x".repeat(1_100_000)}});
    told_somewhere(&stage, large, &["creating ConfigMap", "Too long"]).await;
}

#[tokio::test]
async fn a_builder_whose_name_can_never_be_is_told() {
    let stage = Stage::with_controller().await;
    let long = json!({"builderRef": {"name": "a".repeat(64)}});
    told_somewhere(&stage, long, &["spec.builderRef.name", "64 characters"]).await;
}

#[tokio::test]
async fn a_foreign_secret_of_the_builders_name_is_told_and_its_end_heals() {
    let stage = Stage::new().await;
    let name = "whittle-builder-default-client";
    let secrets = stage.api::<Secret>();
    let secret = json!({"metadata": {"name": name}, "stringData": {"a": "b"}});
    let secret = serde_json::from_value(secret).unwrap();
    secrets
        .create(&PostParams::default(), &secret)
        .await
        .unwrap();
    let mut stage = stage;
    stage.start_controller().await;
    stage.apply("hello", json!({})).await.unwrap();
    let build = stage.ready("hello", "False", "NameTaken").await;
    contains(
        &said(&build),
        &[
            "Builder default is not ready",
            "kubectl delete secret whittle-builder-default-client -n",
        ],
    );
    builder_says(&stage, "NameTaken").await;
    secrets
        .delete(name, &DeleteParams::default())
        .await
        .unwrap();
    stage.builder_starts().await;
    ends_well(&stage, "hello").await;
}

#[tokio::test]
async fn pod_security_is_told_with_one_command_and_the_set_is_asked_to_try_again() {
    let stage = Stage::with_controller().await;
    stage.apply("hello", json!({})).await.unwrap();
    let message = r#"create Pod whittle-builder-default-0 in StatefulSet whittle-builder-default failed error: pods "whittle-builder-default-0" is forbidden: violates PodSecurity "restricted:latest": seccompProfile"#;
    event(&stage, about(&stage).await, "FailedCreate", message).await;
    let build = stage.ready("hello", "False", "PodSecurity").await;
    let command = format!(
        "kubectl label namespace {} pod-security.kubernetes.io/enforce=privileged --overwrite",
        stage.namespace
    );
    contains(&said(&build), &[&command, "violates PodSecurity"]);
    let status = build.status.unwrap();
    let told = find(&status.conditions, "Ready").unwrap();
    let took = told
        .last_transition_time
        .0
        .duration_since(status.started_at.unwrap().0);
    assert!(took.as_secs() <= 10, "{took}");
    builder_says(&stage, "PodSecurity").await;
    let tried = stage
        .until("the StatefulSet is touched", async || {
            let set = stateful_set(&stage).await;
            set.annotations().get("whittle.dev/tried-at").cloned()
        })
        .await;
    stage
        .until("it is touched again", async || {
            let set = stateful_set(&stage).await;
            (set.annotations().get("whittle.dev/tried-at") != Some(&tried)).then_some(())
        })
        .await;
    daemon(&stage, json!({}), json!({"phase": "Running"})).await;
    stage.builder_starts().await;
    ends_well(&stage, "hello").await;
}

#[tokio::test]
async fn a_volume_that_does_not_come_is_told() {
    let stage = Stage::with_controller().await;
    stage.apply("hello", json!({})).await.unwrap();
    let unbound = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.";
    let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": unbound});
    daemon(
        &stage,
        json!({}),
        json!({"phase": "Pending", "conditions": [condition]}),
    )
    .await;
    stage.ready("hello", "Unknown", "Unschedulable").await;
    let claim = json!({"kind": "PersistentVolumeClaim", "name": "cache-whittle-builder-default-0", "uid": "c"});
    let words = "no persistent volumes available for this claim and no storage class is set";
    event(&stage, claim, "FailedBinding", words).await;
    let build = stage.ready("hello", "False", "VolumePending").await;
    contains(&said(&build), &[words, "is-default-class=true"]);
}

#[tokio::test]
async fn a_builders_pod_that_does_not_go_is_told() {
    let stage = Stage::with_controller().await;
    stage.apply("hello", json!({})).await.unwrap();
    let held = json!({"finalizers": ["example.com/hold"]});
    let pod = daemon(&stage, held, json!({"phase": "Running"})).await;
    let pods = stage.api::<Pod>();
    let now = DeleteParams::default().grace_period(0);
    pods.delete(&pod.name_any(), &now).await.unwrap();
    let build = stage.ready("hello", "False", "PodTerminating").await;
    contains(&said(&build), &["example.com/hold"]);
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    pods.patch(&pod.name_any(), &PatchParams::default(), &free)
        .await
        .unwrap();
    stage.builder_starts().await;
    ends_well(&stage, "hello").await;
}

#[tokio::test]
async fn a_runners_pod_that_is_refused_is_told() {
    let stage = Stage::with_controller().await;
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    let job = stage.job("hello").await;
    let about = json!({"kind": "Job", "name": job.name_any(), "uid": job.uid()});
    let message = r#"Error creating: pods "hello-x" is forbidden: failed quota: q: must specify limits.cpu for: runner"#;
    event(&stage, about, "FailedCreate", message).await;
    let build = stage.ready("hello", "False", "QuotaExceeded").await;
    contains(
        &said(&build),
        &["must specify limits.cpu", "runner.resources"],
    );
    ends_well(&stage, "hello").await;
}

#[tokio::test]
async fn two_builds_that_wait_for_a_secret_hold_no_place_and_a_third_runs() {
    let stage = Stage::with_controller().await;
    let needs =
        |secret: &str| json!({"secrets": [{"id": "a", "secretRef": {"name": secret, "key": "a"}}]});
    for (name, secret) in [("missing-1", "one"), ("missing-2", "two")] {
        stage.apply(name, needs(secret)).await.unwrap();
    }
    stage.builder_starts().await;
    for (name, secret) in [("missing-1", "one"), ("missing-2", "two")] {
        let pod = stage
            .pod(&stage.job(name).await, json!({"phase": "Pending"}))
            .await;
        let about = json!({"kind": "Pod", "name": pod.name_any(), "uid": pod.uid()});
        let message = format!(
            r#"MountVolume.SetUp failed for volume "secret-0" : secret "{secret}" not found"#
        );
        event(&stage, about, "FailedMount", &message).await;
        stage.ready(name, "False", "SecretNotFound").await;
    }
    // Three at once, of which one would hang as they do.
    stage.apply("missing-3", needs("one")).await.unwrap();
    stage.apply("third", json!({})).await.unwrap();
    stage.apply("fourth", json!({})).await.unwrap();
    for name in ["third", "fourth"] {
        let job = stage.job(name).await;
        stage.pod(&job, json!({"phase": "Running"})).await;
    }
    let build = stage.ready("missing-3", "False", "SecretNotFound").await;
    contains(&said(&build), &["Secret one not found", "missing-1"]);
    let waits = build.status.unwrap().current.unwrap().job;
    assert!(stage.api::<Job>().get_opt(&waits).await.unwrap().is_none());

    // Both places are taken by what runs.
    stage.apply("fifth", json!({})).await.unwrap();
    stage.ready("fifth", "Unknown", "Queued").await;
    ends_well(&stage, "third").await;
    ends_well(&stage, "fifth").await;
    // The Secret comes: the first goes on at once, and the other one in its turn.
    let job = stage.job("missing-1").await;
    stage.pod(&job, json!({"phase": "Running"})).await;
    ends_well(&stage, "fourth").await;
    ends_well(&stage, "missing-1").await;
    ends_well(&stage, "missing-3").await;
}

#[tokio::test]
async fn a_status_that_is_refused_is_told_by_an_event_and_not_tried_without_end() {
    const RECONCILES: &str = r#"whittle_reconciles_total{kind="ImageBuild"}"#;
    let stage = Stage::with_controller().await;
    let refused = stage
        .refuse("UPDATE", "imagebuilds/status", "no status")
        .await;
    let other = stage
        .apply("other", json!({"suspend": true}))
        .await
        .unwrap();
    let builds = stage.api::<ImageBuild>();
    let try_it = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    let patch = Patch::Merge(json!({"status": {"build": 1}}));
    let holds = async || {
        builds
            .patch_status(&other.name_any(), &try_it, &patch)
            .await
            .err()
    };
    stage.until("the policy holds", holds).await;
    let build = stage.apply("hello", json!({})).await.unwrap();
    let events = stage.api::<Event>();
    let uid = build.meta().uid.clone().unwrap();
    let of_it = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
    let event = stage
        .until("an Event tells", async || {
            events.list(&of_it).await.unwrap().items.pop()
        })
        .await;
    contains(
        &event.message.unwrap(),
        &["writing the status of", "no status"],
    );
    let before = stage.metric(RECONCILES).await;
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    let tries = stage.metric(RECONCILES).await - before;
    assert!(tries <= 4, "it is tried again {tries} times in ten seconds");
    refused.end().await;
    stage.builder_starts().await;
    ends_well(&stage, "hello").await;
}
