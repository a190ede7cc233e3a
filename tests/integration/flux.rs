//! Sources of Flux: the test writes the objects in Flux's place, and installs its kinds late.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use whittle_api::{FluxKind, ImageBuild, TriggerReason, find};
use whittle_build::report::Report;
use whittle_build::request::{BuildRequest, paths};

use crate::stage::{Stage, apply_crd, success};

/// A kind of Flux with all of its fields and none of its rules.
fn crd(kind: FluxKind) -> CustomResourceDefinition {
    let (plural, kind) = (kind.plural(), kind.to_string());
    let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    serde_json::from_value(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.source.toolkit.fluxcd.io")},
        "spec": {
            "group": "source.toolkit.fluxcd.io", "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": any, "status": any}}},
            }],
        },
    }))
    .unwrap()
}

/// The objects of one kind, in the place of Flux.
struct Flux(Api<DynamicObject>, ApiResource);

impl Flux {
    fn of(stage: &Stage, kind: FluxKind) -> Self {
        let gvk = GroupVersionKind::gvk("source.toolkit.fluxcd.io", "v1", &kind.to_string());
        let resource = ApiResource::from_gvk_with_plural(&gvk, kind.plural());
        let api = Api::namespaced_with(stage.client.clone(), &stage.namespace, &resource);
        Self(api, resource)
    }

    async fn make(&self, spec: Value) {
        let object = DynamicObject::new("app", &self.1).data(json!({"spec": spec}));
        let made = self.0.create(&PostParams::default(), &object).await;
        made.unwrap();
    }

    async fn says(&self, ready: &str, message: &str, artifact: Value) {
        let ready = json!({"type": "Ready", "status": ready, "reason": "GitOperationFailed", "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let status = json!({"status": {"observedGeneration": 1, "conditions": [ready], "artifact": artifact}});
        let params = PatchParams::default();
        let status = Patch::Merge(status);
        let said = self.0.patch_status("app", &params, &status).await;
        said.unwrap();
    }
}

fn revision(digit: char) -> String {
    format!("main@sha1:{}", digit.to_string().repeat(40))
}

fn artifact(revision: &str) -> Value {
    json!({"revision": revision, "digest": format!("sha256:{}", "a".repeat(64)), "path": "a.tar.gz",
        "url": "http://source-controller.flux-system.svc/a.tar.gz"})
}

fn of(kind: FluxKind) -> Value {
    json!({"source": {"inline": null, "flux": {"kind": kind, "name": "app"}}})
}

/// The Job of this build, and what its runner is asked for.
async fn asked(stage: &Stage, name: &str, number: i64) -> (Job, BuildRequest) {
    let what = format!("build {number} of {name} has a Job");
    let job = stage.until(&what, async || {
        let status = stage.get(name).await.status?;
        let job = status.current.filter(|_| status.build == Some(number))?.job;
        stage.api::<Job>().get_opt(&job).await.unwrap()
    });
    let job = job.await;
    let maps = stage.api::<ConfigMap>();
    let map = maps.get(&job.name_any()).await.unwrap();
    let request = serde_json::from_str(&map.data.unwrap()[paths::REQUEST_KEY]).unwrap();
    (job, request)
}

async fn ends(stage: &Stage, (job, request): (Job, BuildRequest), digest: &str) {
    let Report::Succeeded(mut built) = success(digest) else {
        unreachable!()
    };
    built.revision = request.flux.map(|fetched| fetched.revision);
    stage.pod_ends(&job, &Report::Succeeded(built)).await;
}

async fn triggers(stage: &Stage, name: &str, status: &str, reason: &str) -> ImageBuild {
    stage
        .until(
            &format!("Triggers of {name} is {status}, {reason}"),
            async || {
                let build = stage.get(name).await;
                let found = find(&build.status.as_ref()?.conditions, "Triggers")?;
                (found.status == status && found.reason == reason).then_some(build)
            },
        )
        .await
}

#[tokio::test]
async fn what_flux_fetches_is_built_and_flux_may_come_later_fail_and_go() {
    let mut stage = Stage::with_controller().await;
    stage
        .apply("hello", of(FluxKind::GitRepository))
        .await
        .unwrap();
    let waits = stage.ready("hello", "False", "SourceNotFound").await;
    let ready = find(&waits.status.as_ref().unwrap().conditions, "Ready").unwrap();
    assert!(
        ready.message.starts_with("GitRepository app not found"),
        "{}",
        ready.message
    );

    // Flux is installed, and its object made; the build goes on once something has been fetched.
    for kind in FluxKind::ALL {
        apply_crd(&stage.client, &crd(kind)).await;
    }
    let git = Flux::of(&stage, FluxKind::GitRepository);
    git.make(json!({"url": "https://git.example.com/app", "ref": {"branch": "main"}, "secretRef": {"name": "git"}}))
        .await;
    stage.ready("hello", "Unknown", "SourceNotReady").await;
    git.says("True", "stored", artifact(&revision('a'))).await;
    stage.builder_starts().await;
    let first = asked(&stage, "hello", 1).await;
    let source = first.1.inputs.source.git.clone().unwrap();
    assert_eq!(source.url, "https://git.example.com/app");
    let reference = source.reference.unwrap();
    assert_eq!(reference.commit.unwrap(), "a".repeat(40));
    assert_eq!(reference.branch.as_deref(), Some("main"));
    let pod = first.0.spec.clone().unwrap().template.spec.unwrap();
    let mut volumes = pod.volumes.unwrap().into_iter();
    assert!(
        volumes.any(|volume| {
            volume.secret.and_then(|it| it.secret_name).as_deref() == Some("git")
        })
    );
    ends(&stage, first, "sha256:aa").await;
    let built = stage.ready("hello", "True", "Succeeded").await;
    assert_eq!(built.status.unwrap().revision, Some(revision('a')));

    // A new revision begins a build; what Flux says again begins none.
    triggers(&stage, "hello", "True", "TriggersWork").await;
    git.says("True", "stored again", artifact(&revision('a')))
        .await;
    git.says("True", "stored", artifact(&revision('b'))).await;
    let second = asked(&stage, "hello", 2).await;
    assert_eq!(second.1.flux.as_ref().unwrap().revision, revision('b'));
    ends(&stage, second, "sha256:bb").await;
    let status = stage
        .ready("hello", "True", "Succeeded")
        .await
        .status
        .unwrap();
    let started = status.trigger.unwrap();
    assert_eq!(
        (started.reason, started.detail),
        (TriggerReason::Commit, revision('b'))
    );

    // What moves while no controller runs is seen by the next one.
    stage.kill_controller();
    git.says("True", "stored", artifact(&revision('c'))).await;
    stage.start_controller().await;
    let third = asked(&stage, "hello", 3).await;
    assert_eq!(third.1.flux.as_ref().unwrap().revision, revision('c'));
    ends(&stage, third, "sha256:cc").await;
    stage.ready("hello", "True", "Succeeded").await;

    // Where Flux fails, a build that somebody asks for waits with its words, and then goes on.
    git.says("False", "no route to host", artifact(&revision('c')))
        .await;
    triggers(&stage, "hello", "False", "SourceNotReady").await;
    let rebuild = json!({"source": of(FluxKind::GitRepository)["source"], "rebuild": "again"});
    stage.apply("hello", rebuild).await.unwrap();
    let waits = stage.ready("hello", "False", "SourceNotReady").await;
    let ready = find(&waits.status.as_ref().unwrap().conditions, "Ready").unwrap();
    assert!(
        ready
            .message
            .ends_with("Flux says GitOperationFailed: no route to host"),
        "{}",
        ready.message
    );
    git.says("True", "stored", artifact(&revision('c'))).await;
    let fourth = asked(&stage, "hello", 4).await;
    ends(&stage, fourth, "sha256:dd").await;
    stage.ready("hello", "True", "Succeeded").await;

    // It is deleted: said, and the image stays.
    git.0.delete("app", &DeleteParams::default()).await.unwrap();
    let gone = triggers(&stage, "hello", "False", "SourceNotFound").await;
    assert_eq!(gone.status.unwrap().build, Some(4));
    stage.ready("hello", "True", "Succeeded").await;

    // The other kinds.
    let oci = Flux::of(&stage, FluxKind::OCIRepository);
    oci.make(json!({"url": "oci://ghcr.io/team/app"})).await;
    let digest = format!("sha256:{}", "d".repeat(64));
    oci.says("True", "stored", artifact(&format!("latest@{digest}")))
        .await;
    stage
        .apply("artifact", of(FluxKind::OCIRepository))
        .await
        .unwrap();
    let (_, request) = asked(&stage, "artifact", 1).await;
    let image = request.inputs.source.oci.unwrap().image;
    assert_eq!(image, format!("ghcr.io/team/app@{digest}"));
    let bucket = Flux::of(&stage, FluxKind::Bucket);
    bucket.make(json!({"bucketName": "app"})).await;
    bucket.says("True", "stored", artifact("sha256:bb")).await;
    stage.apply("files", of(FluxKind::Bucket)).await.unwrap();
    let (_, request) = asked(&stage, "files", 1).await;
    let tarball = request.flux.unwrap().tarball.unwrap();
    assert_eq!(
        tarball.url,
        "http://source-controller.flux-system.svc/a.tar.gz"
    );

    // No watch of a kind that did not exist was tried.
    let failed = r#"whittle_watch_errors_total{kind="GitRepository"}"#;
    assert_eq!(stage.metric(failed).await, 0);
}
