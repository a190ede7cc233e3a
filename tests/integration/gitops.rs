//! What deploys objects makes of ours, at each stage of a build: kstatus (Flux, Helm) and Argo CD. The scripts of Argo CD are
//! in config/argocd; tests/argocd judges.
//!
//! With WRITE=1 what is seen becomes the testdata of those scripts.

use std::io::Write;
use std::process::{Command, Stdio};

use k8s_openapi::api::core::v1::Event;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Resource, ResourceExt};
use serde_json::{Value, json};
use whittle_api::{Builder, FailureReason, ImageBuild, Reason};

use crate::stage::{Stage, failure, root, success};

/// Objects as they were seen, by kind and what was the matter, and what is to be made of them.
#[derive(Default)]
struct Seen {
    objects: Vec<Value>,
    expected: Vec<(String, Verdict)>,
}

/// Of kstatus, and of Argo CD.
type Verdict = (&'static str, &'static str);

const IN_PROGRESS: Verdict = ("InProgress", "Progressing");
const CURRENT: Verdict = ("Current", "Healthy");
const FAILED: Verdict = ("Failed", "Degraded");
const SUSPENDED: Verdict = ("InProgress", "Suspended");
const TERMINATING: Verdict = ("Terminating", "Progressing");

/// Where the scripts and their tests are.
const FOLDER: &str = "config/argocd/resource_customizations/whittle.dev";

/// Whether what is seen becomes their testdata.
fn write() -> bool {
    std::env::var_os("WRITE").is_some()
}

/// What each action makes of an object: its kind, what was the matter with it, and the change.
const ACTIONS: [(&str, &str, &str, &str); 5] = [
    (
        "ImageBuild",
        "succeeded",
        "rebuild",
        r#"{"metadata": {"annotations": {"whittle.dev/requestedAt": "2026-01-01T00:00:00Z"}}}"#,
    ),
    (
        "ImageBuild",
        "building",
        "cancel",
        r#"{"metadata": {"annotations": {"whittle.dev/cancel": "1"}}}"#,
    ),
    (
        "ImageBuild",
        "building",
        "suspend",
        r#"{"spec": {"suspend": true}}"#,
    ),
    (
        "ImageBuild",
        "suspended",
        "resume",
        r#"{"spec": {"suspend": false}}"#,
    ),
    (
        "Builder",
        "ready",
        "prune",
        r#"{"metadata": {"annotations": {"whittle.dev/prune": "2026-01-01T00:00:00Z"}}}"#,
    ),
];

impl Seen {
    /// As the API server gives it to those who know nothing of its kind.
    async fn is<K>(&mut self, stage: &Stage, name: &str, what: &str, verdict: Verdict)
    where
        K: Resource<DynamicType = ()>,
    {
        let resource = ApiResource::erase::<K>(&());
        let (client, namespace) = (stage.client.clone(), &stage.namespace);
        let api = Api::<DynamicObject>::namespaced_with(client, namespace, &resource);
        let object = api.get(name).await.unwrap();
        let mut object = serde_json::to_value(object).unwrap();
        object["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("managedFields");
        let kind = K::kind(&()).into_owned();
        if write() && verdict != TERMINATING {
            let write = |path: String, object: &Value| {
                let text = serde_saphyr::to_string(object).unwrap();
                let text = text.replace(&stage.namespace, "team");
                std::fs::write(root().join(FOLDER).join(path), text).unwrap();
            };
            write(format!("{kind}/testdata/{what}.yaml"), &object);
            for (_, _, action, patch) in ACTIONS.iter().filter(|it| (it.0, it.1) == (&kind, what)) {
                let mut after = object.clone();
                json_patch::merge(&mut after, &serde_json::from_str(patch).unwrap());
                write(format!("{kind}/actions/testdata/{action}.yaml"), &after);
            }
        }
        self.expected
            .push((format!("{kind}/testdata/{what}.yaml"), verdict));
        self.objects.push(object);
    }

    /// What Argo CD's tests of each kind expect: what was just judged.
    fn write_tests(&self, verdicts: &[Value]) {
        for kind in ["Builder", "ImageBuild"] {
            let judged = self.expected.iter().zip(verdicts);
            let tests: Vec<Value> = judged
                .filter(|((_, verdict), _)| *verdict != TERMINATING)
                .filter_map(|((path, _), said)| {
                    let path = path.strip_prefix(kind)?.strip_prefix('/')?;
                    let health = json!({"status": said["status"], "message": said["message"]});
                    Some(json!({"inputPath": path, "healthStatus": health}))
                })
                .collect();
            let text = serde_saphyr::to_string(&json!({"tests": tests})).unwrap();
            let text = text.replace(
                self.objects[0]["metadata"]["namespace"].as_str().unwrap(),
                "team",
            );
            std::fs::write(
                root().join(FOLDER).join(kind).join("health_test.yaml"),
                text,
            )
            .unwrap();
        }
    }

    /// All of them are judged as expected.
    fn are_judged(self) {
        let folder = root().join("tests/argocd");
        let mut go = Command::new("go")
            .args(["run", ".", "judge"])
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("go is installed");
        let objects = serde_json::to_vec(&self.objects).unwrap();
        go.stdin.take().unwrap().write_all(&objects).unwrap();
        let output = go.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", folder.display());
        let verdicts: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let found: Vec<_> = self
            .expected
            .iter()
            .zip(&verdicts)
            .map(|((what, _), said)| (what.clone(), text(&said["kstatus"]), text(&said["status"])))
            .collect();
        let expected: Vec<_> = self
            .expected
            .iter()
            .map(|(what, (kstatus, health))| {
                (what.clone(), (*kstatus).to_owned(), (*health).to_owned())
            })
            .collect();
        assert_eq!(found, expected, "{verdicts:#?}");
        if write() {
            self.write_tests(&verdicts);
        }
        // What Argo CD shows beside it is never empty.
        assert!(
            verdicts
                .iter()
                .all(|said| !text(&said["message"]).is_empty()),
            "{verdicts:#?}"
        );
    }
}

async fn patch(stage: &Stage, patch: Value) {
    let builds = stage.api::<ImageBuild>();
    let merge = Patch::Merge(patch);
    builds
        .patch("hello", &PatchParams::default(), &merge)
        .await
        .unwrap();
}

/// A build for which the kubelet finds no Secret.
async fn waits_for_a_secret(stage: &Stage) {
    let secret = json!({"output": {"image": "registry.example.com/team/hello", "secretRef": {"name": "registry"}}});
    stage.apply("hello", secret).await.unwrap();
    let pod = stage
        .pod(&stage.job("hello").await, json!({"phase": "Pending"}))
        .await;
    let event: Event = serde_json::from_value(json!({
        "metadata": {"name": "mount", "namespace": stage.namespace},
        "involvedObject": {"kind": "Pod", "namespace": stage.namespace, "name": pod.name_any(), "uid": pod.uid()},
        "type": "Warning", "reason": "FailedMount",
        "message": "MountVolume.SetUp failed for volume \"registry\" : secret \"registry\" not found",
    }))
    .unwrap();
    let events: Api<Event> = stage.api();
    events.create(&PostParams::default(), &event).await.unwrap();
    stage.ready("hello", "False", "SecretNotFound").await;
}

#[tokio::test]
async fn each_stage_of_a_build_is_what_kstatus_and_argo_cd_take_it_for() {
    let mut stage = Stage::new().await;
    let mut seen = Seen::default();
    let builders = stage.api::<Builder>();
    for (name, spec) in [
        ("default", json!({"maxConcurrentBuilds": 1})),
        (
            "invalid",
            json!({"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}}),
        ),
    ] {
        let builder = json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": name}, "spec": spec});
        let builder = serde_json::from_value(builder).unwrap();
        let new = PostParams::default();
        builders.create(&new, &builder).await.unwrap();
    }
    stage.apply("hello", json!({})).await.unwrap();
    seen.is::<ImageBuild>(&stage, "hello", "not_seen", IN_PROGRESS)
        .await;
    seen.is::<Builder>(&stage, "default", "not_seen", IN_PROGRESS)
        .await;

    stage.start_controller().await;
    stage.ready("hello", "Unknown", "WaitingForBuilder").await;
    stage
        .until("the Builder starts", async || {
            let status = builders.get("default").await.unwrap().status?;
            let starts = status.state() == Some(Reason::Starting);
            (starts && status.observed_generation == Some(1)).then_some(())
        })
        .await;
    seen.is::<ImageBuild>(&stage, "hello", "waits_for_builder", IN_PROGRESS)
        .await;
    seen.is::<Builder>(&stage, "default", "starting", IN_PROGRESS)
        .await;

    stage
        .until("the API server has rejected the other one", async || {
            let status = builders.get("invalid").await.unwrap().status?;
            whittle_api::find(&status.conditions, "Stalled").map(drop)
        })
        .await;
    seen.is::<Builder>(&stage, "invalid", "rejected", FAILED)
        .await;

    stage.builder_starts().await;
    let job = stage.job("hello").await;
    stage.pod(&job, json!({"phase": "Running"})).await;
    stage
        .until("it builds", async || {
            let status = stage.get("hello").await.status?;
            let ready = whittle_api::find(&status.conditions, "Ready")?;
            (ready.message == "building").then_some(())
        })
        .await;
    seen.is::<ImageBuild>(&stage, "hello", "building", IN_PROGRESS)
        .await;
    seen.is::<Builder>(&stage, "default", "ready", CURRENT)
        .await;

    // One runs on the Builder, another one waits for its turn.
    stage.apply("other", json!({})).await.unwrap();
    stage.ready("other", "Unknown", "Queued").await;
    seen.is::<ImageBuild>(&stage, "other", "queued", IN_PROGRESS)
        .await;
    let now = DeleteParams::default();
    stage
        .api::<ImageBuild>()
        .delete("other", &now)
        .await
        .unwrap();

    stage.pod_ends(&job, &success("sha256:aa")).await;
    stage.ready("hello", "True", "Succeeded").await;
    seen.is::<ImageBuild>(&stage, "hello", "succeeded", CURRENT)
        .await;

    // What needs no build leaves it as it is; held by suspend, too, as nothing is due.
    stage
        .apply("hello", json!({"suspend": true}))
        .await
        .unwrap();
    stage.ready("hello", "True", "Succeeded").await;
    seen.is::<ImageBuild>(&stage, "hello", "succeeded_suspended", CURRENT)
        .await;
    let edit = json!({"suspend": true, "dockerfile": "other"});
    stage.apply("hello", edit).await.unwrap();
    stage.ready("hello", "False", "Suspended").await;
    seen.is::<ImageBuild>(&stage, "hello", "suspended", SUSPENDED)
        .await;

    // Edited while nobody looks.
    stage.kill_controller();
    stage
        .apply("hello", json!({"dockerfile": "other"}))
        .await
        .unwrap();
    seen.is::<ImageBuild>(&stage, "hello", "edited", IN_PROGRESS)
        .await;
    stage.start_controller().await;
    let job = stage.job("hello").await;
    stage
        .pod_ends(&job, &failure(FailureReason::StepFailed))
        .await;
    stage.ready("hello", "False", "StepFailed").await;
    seen.is::<ImageBuild>(&stage, "hello", "failed", FAILED)
        .await;

    // Asked for again: the generation stays, and kstatus goes by the conditions.
    patch(
        &stage,
        json!({"metadata": {"annotations": {"whittle.dev/requestedAt": "2026-01-01T00:00:00Z"}}}),
    )
    .await;
    stage
        .until("the request is handled", async || {
            stage.get("hello").await.status?.last_handled_request
        })
        .await;
    seen.is::<ImageBuild>(&stage, "hello", "requested", IN_PROGRESS)
        .await;
    stage
        .pod_ends(&stage.job("hello").await, &success("sha256:bb"))
        .await;
    stage.ready("hello", "True", "Succeeded").await;

    waits_for_a_secret(&stage).await;
    seen.is::<ImageBuild>(&stage, "hello", "secret_not_found", IN_PROGRESS)
        .await;

    // As the action does it.
    let build = stage.get("hello").await.status.unwrap().build.unwrap();
    let cancel = json!({"whittle.dev/cancel": build.to_string()});
    patch(&stage, json!({"metadata": {"annotations": cancel}})).await;
    stage.ready("hello", "False", "Canceled").await;
    seen.is::<ImageBuild>(&stage, "hello", "canceled", FAILED)
        .await;

    patch(
        &stage,
        json!({"metadata": {"finalizers": ["example.com/kept"]}}),
    )
    .await;
    stage
        .api::<ImageBuild>()
        .delete("hello", &now)
        .await
        .unwrap();
    seen.is::<ImageBuild>(&stage, "hello", "deleted", TERMINATING)
        .await;
    patch(&stage, json!({"metadata": {"finalizers": null}})).await;
    seen.are_judged();
}
