//! A Builder's volume that grows, on a real API server, which decides whether a claim may.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use whittle_api::{Builder, find};

use crate::stage::{Stage, apply};

const CLAIM: &str = "cache-whittle-builder-default-0";

/// A Builder without builds: one that builds is not started anew with other settings before they have ended.
async fn builder(stage: &Stage) {
    let builder = json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder",
        "metadata": {"name": "default", "namespace": stage.namespace}, "spec": {}});
    stage.install(builder).await;
}

/// A claim of the Builder, as its StatefulSet's controller makes it, bound to a volume of a class that allows it to grow or
/// does not.
async fn bound(stage: &Stage, grows: bool) {
    let class = format!("{}-{grows}", stage.namespace);
    apply(
        &stage.client,
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": class},
            "provisioner": "example.com/none", "allowVolumeExpansion": grows}),
    )
    .await;
    let claims: Api<PersistentVolumeClaim> = stage.api();
    let labels = json!({"app.kubernetes.io/managed-by": "whittle", "whittle.dev/component": "builder", "whittle.dev/builder": "default"});
    let claim = json!({"metadata": {"name": CLAIM, "labels": labels},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": class, "volumeName": class,
            "resources": {"requests": {"storage": "20Gi"}}}});
    let claim = serde_json::from_value(claim).unwrap();
    claims.create(&PostParams::default(), &claim).await.unwrap();
    let status = json!({"status": {"phase": "Bound", "capacity": {"storage": "20Gi"}}});
    let (params, status) = (PatchParams::default(), Patch::Merge(status));
    claims.patch_status(CLAIM, &params, &status).await.unwrap();
}

async fn asks_for(stage: &Stage) -> String {
    let claims: Api<PersistentVolumeClaim> = stage.api();
    let spec = claims.get(CLAIM).await.unwrap().spec.unwrap();
    spec.resources.unwrap().requests.unwrap()["storage"]
        .0
        .clone()
}

/// What the Builder says once its spec asks for a volume of this size, and its daemon is up again.
async fn resized(stage: &Stage, size: &str) -> String {
    let builders = stage.api::<Builder>();
    let (params, patch) = (
        PatchParams::default(),
        Patch::Merge(json!({"spec": {"cache": {"size": size}}})),
    );
    let patched = builders.patch("default", &params, &patch).await;
    let generation = patched.unwrap().metadata.generation;
    let said = async || {
        stage.builder_starts().await;
        let status = builders.get("default").await.unwrap().status?;
        let ready = find(&status.conditions, "Ready")?.clone();
        (status.observed_generation == generation && ready.status == "True")
            .then_some(ready.message)
    };
    stage.until("the Builder is ready again", said).await
}

#[tokio::test]
async fn a_claim_grows_with_the_size_of_its_builders_cache() {
    let stage = Stage::with_controller().await;
    builder(&stage).await;
    stage.builder_starts().await;
    bound(&stage, true).await;
    let said = resized(&stage, "30Gi").await;
    assert_eq!(said, "the builder accepts builds");
    assert_eq!(asks_for(&stage).await, "30Gi");
    // Back to what it was made with asks for nothing: a volume cannot shrink.
    resized(&stage, "20Gi").await;
    assert_eq!(asks_for(&stage).await, "30Gi");
}

#[tokio::test]
async fn a_class_whose_volumes_cannot_grow_is_told_and_the_builder_goes_on() {
    let stage = Stage::with_controller().await;
    builder(&stage).await;
    stage.builder_starts().await;
    bound(&stage, false).await;
    let said = resized(&stage, "30Gi").await;
    assert!(
        said.contains("allowVolumeExpansion") && said.contains("30Gi"),
        "{said}"
    );
    assert_eq!(asks_for(&stage).await, "20Gi");
}
