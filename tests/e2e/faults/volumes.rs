//! Volumes that are full, and volumes that cannot be mounted.

use std::path::PathBuf;
use std::time::Instant;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::DeleteParams;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use whittle_api::FailureReason::CacheFull;
use whittle_api::{Builder, ImageBuild, READY, Reason, find};

use super::{BUILDER, heals};
use crate::field::{Field, registry, variable};
use crate::long::whole;

/// A Builder of the name `default` with this cache.
async fn builder(field: &Field, cache: Value) {
    let local = registry();
    field
        .create(json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "default"}, "spec": {
            "cache": cache, "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}}, "registries": [
                {"host": local, "plainHTTP": true}, {"host": "docker.io", "mirrors": [local]}]}}))
        .await;
}

/// Files of a build whose step writes so many MiB, of which the image has none.
fn writes(mebibytes: usize, mark: &str) -> Value {
    json!({"Dockerfile": format!(
        "FROM busybox:1.36 AS much\nRUN dd if=/dev/zero of=/much bs=1M count={mebibytes} && echo {mark} > /little\n\
         FROM scratch\nCOPY --from=much /little /\n")})
}

#[tokio::test]
async fn the_cache_volume_filled_again_and_again() {
    // What is a whole number of Gi would be written so, and the class `memory` reads Mi.
    let (rounds, size) = if whole() { (10, 2047) } else { (2, 200) };
    let field = Field::new("filled").await;
    let cache = json!({"size": format!("{size}Mi"), "storageClassName": "memory"});
    builder(&field, cache).await;
    let mut pruned = 0;
    for round in 1..=rounds {
        // Two of these have no room beside each other.
        let name = format!("fits-{round}");
        let files = writes(size * 6 / 10, &name);
        field.build(&name, files, json!({})).await;
        let status = field.succeeds(&name).await;
        assert_eq!((status.build, status.history.len()), (Some(1), 1));
        assert_eq!(field.jobs(&name).await.len(), 1, "{name}");
        let runner = field.runner_any(&name).await.unwrap().name_any();
        let log = field.log(&runner).await;
        pruned += usize::from(log.contains("pruning, then retrying once"));
        let name = format!("large-{round}");
        let files = writes(size * 12 / 10, &name);
        field.build(&name, files, json!({})).await;
        let failure = field.fails(&name, CacheFull).await;
        let ended = Instant::now();
        assert!(failure.message.contains("cache.size"), "{failure:?}");
        let name = format!("small-{round}");
        field.build(&name, writes(1, &name), json!({})).await;
        let fault = format!("cache volume of {size} MiB filled, round {round} of {rounds}");
        heals(&field, &fault, &name, ended, 1..=1).await;
    }
    eprintln!("{pruned} of {rounds} builds that fit had to prune first");
    field.close().await;
}

/// Why the build waits, once it does for one of these reasons; the Builder says the same.
async fn waits(field: &Field, reasons: &[Reason]) -> String {
    field
        .until(&format!("hello waits: {reasons:?}"), async || {
            let build = field.api::<ImageBuild>().get("hello").await.unwrap();
            let build = build.status?;
            let said = find(&build.conditions, READY)?;
            let builder = field.api::<Builder>().get("default").await.unwrap();
            let builder = builder.status?;
            let why = find(&builder.conditions, READY)?;
            let both =
                reasons.iter().any(|it| it.as_str() == why.reason) && said.reason == why.reason;
            both.then(|| format!("{}: {}", why.reason, why.message))
        })
        .await
}

#[tokio::test]
async fn a_volume_that_cannot_be_provisioned_and_then_not_mounted() {
    let field = Field::new("unmounted").await;
    let name = field.namespace.clone();
    let namespaces = Api::<Namespace>::all(field.client.clone());
    let owner = namespaces.get(&name).await.unwrap().uid().unwrap();
    // They go with the namespace.
    let metadata = json!({"name": name, "ownerReferences": [
        {"apiVersion": "v1", "kind": "Namespace", "name": name, "uid": owner}]});
    field
        .create_for_all(json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": metadata,
            "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"}))
        .await;
    builder(&field, json!({"size": "1Gi", "storageClassName": name})).await;
    field.build("hello", writes(1, "hello"), json!({})).await;
    let why = waits(&field, &[Reason::VolumePending, Reason::Unschedulable]).await;
    eprintln!("without a volume: {why}");
    let node = Api::<k8s_openapi::api::core::v1::Node>::all(field.client.clone());
    let node = node
        .list(&Default::default())
        .await
        .unwrap()
        .items
        .pop()
        .unwrap();
    let volumes = PathBuf::from(variable("KUBELET_PATH"));
    let folder = volumes.parent().unwrap().join("volumes").join(&name);
    field
        .create_for_all(json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": name,
            "persistentVolumeReclaimPolicy": "Retain", "local": {"path": folder},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [node.name_any()]}]}]}}}}))
        .await;
    let why = waits(&field, &[Reason::MountFailed]).await;
    eprintln!("without its directory: {why}");
    assert!(why.contains(&folder.display().to_string()), "{why}");
    std::fs::create_dir_all(&folder).unwrap();
    heals(&field, "volume not mounted", "hello", Instant::now(), 1..=1).await;
    // What is in it belongs to nobody once the builder is gone.
    field
        .api::<Builder>()
        .delete("default", &DeleteParams::default())
        .await
        .unwrap();
    field
        .until("the builder is gone", async || {
            let pod = field.api::<Pod>().get_opt(BUILDER).await.unwrap();
            pod.is_none().then_some(())
        })
        .await;
    std::fs::remove_dir_all(&folder).unwrap();
    field.close().await;
}
