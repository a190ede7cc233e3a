//! Builders and runners that are evicted, and a builder that runs out of memory.

use std::time::Instant;

use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, EvictParams, ListParams};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::json;
use whittle_api::FailureReason::OutOfMemory;

use super::{BUILDER, heals, step_of_hello, uid_of};
use crate::field::{Field, registry, variable};

#[tokio::test]
async fn the_builders_pod_evicted_by_the_eviction_api() {
    let field = Field::new("evicted").await;
    // Somebody's, who holds that no builder may be interrupted.
    field
        .create(json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "builders"},
            "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"whittle.dev/component": "builder"}}}}))
        .await;
    step_of_hello(&field).await;
    // A client that does not ask again by itself where it is refused.
    let mut config = Config::infer().await.unwrap();
    config.default_retry = false;
    let client = Client::try_from(config).unwrap();
    let pods = Api::<Pod>::namespaced(client, &field.namespace);
    let before = uid_of(&field, BUILDER).await;
    let refused = pods.evict(BUILDER, &EvictParams::default()).await;
    let Err(kube::Error::Api(refused)) = refused else {
        panic!("a PodDisruptionBudget stands in the way: {refused:?}");
    };
    assert_eq!(refused.code, 429, "{refused:?}");
    assert_eq!(uid_of(&field, BUILDER).await, before);
    field
        .api::<PodDisruptionBudget>()
        .delete("builders", &DeleteParams::default())
        .await
        .unwrap();
    pods.evict(BUILDER, &EvictParams::default()).await.unwrap();
    heals(
        &field,
        "builder evicted by the API",
        "hello",
        Instant::now(),
        2..=2,
    )
    .await;
    assert_ne!(uid_of(&field, BUILDER).await, before);
    field.close().await;
}

#[tokio::test]
async fn the_runners_pod_evicted_by_the_eviction_api() {
    let field = Field::new("evicted").await;
    step_of_hello(&field).await;
    let runner = field.runner("hello", "Running").await.name_any();
    let pods = field.api::<Pod>();
    pods.evict(&runner, &EvictParams::default()).await.unwrap();
    heals(
        &field,
        "runner evicted by the API",
        "hello",
        Instant::now(),
        2..=2,
    )
    .await;
    field.close().await;
}

#[tokio::test]
async fn the_builder_killed_for_want_of_memory_and_the_next_build_on_it() {
    let field = Field::new("hungry").await;
    let local = registry();
    field
        .create(json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "default"}, "spec": {
            "cache": {"size": "1Gi"}, "resources": {"limits": {"memory": "192Mi"}}, "registries": [
                {"host": local, "plainHTTP": true}, {"host": "docker.io", "mirrors": [local]}]}}))
        .await;
    // A step whose own process is killed, as tail keeps the line that does not end; and one whose memory belongs to no
    // process, so that the daemon is.
    for (name, step) in [
        ("step", "tail /dev/zero"),
        (
            "daemon",
            "--mount=type=tmpfs,target=/t dd if=/dev/zero of=/t/a bs=1M count=400",
        ),
    ] {
        let files = |step: &str| json!({"Dockerfile": format!("FROM busybox:1.36\nRUN {step}\n")});
        let before = restarts(&field).await;
        field.build(name, files(step), json!({})).await;
        let status = field.ready(name, "False", OutOfMemory.as_str()).await;
        let ended = Instant::now();
        let message = status.failure.unwrap().message;
        eprintln!("{name}: {message}");
        assert!(
            message.contains("192Mi of Builder default") || message.contains("limit 192Mi"),
            "{message}"
        );
        assert_eq!((status.build, status.history.len()), (Some(1), 1));
        assert_eq!(field.jobs(name).await.len(), 1, "{name} is not retried");
        let next = format!("after-{name}");
        field
            .build(&next, files(&format!("echo {name} > /a")), json!({}))
            .await;
        let fault = format!("out of memory, {name} killed");
        heals(&field, &fault, &next, ended, 1..=1).await;
        let killed = restarts(&field).await > before;
        assert_eq!(killed, name == "daemon", "{name}: who was killed");
    }
    field.close().await;
}

/// How often the builder's container was started again.
async fn restarts(field: &Field) -> i32 {
    let pod = field.api::<Pod>().get_opt(BUILDER).await.unwrap();
    let status = pod.and_then(|pod| pod.status).unwrap_or_default();
    let containers = status.container_statuses.unwrap_or_default();
    containers.iter().map(|it| it.restart_count).sum()
}

/// Every container of the namespace may write so much besides its volumes.
async fn limit(field: &Field) {
    let most = json!({"ephemeral-storage": "200Mi"});
    field
        .create(
            json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "disk"},
            "spec": {"limits": [{"type": "Container", "default": most, "defaultRequest": most}]}}),
        )
        .await;
}

/// Writes more than the limit into an emptyDir of a Pod, where the kubelet measures it.
fn overfill(uid: &str, volume: &str) {
    let folder = format!(
        "{}/pods/{uid}/volumes/kubernetes.io~empty-dir/{volume}",
        variable("KUBELET_PATH")
    );
    std::fs::write(format!("{folder}/much"), vec![1; 300 << 20]).unwrap();
}

/// The kubelet's word that it has evicted a Pod.
async fn is_evicted(field: &Field, pod: &str, uid: &str) -> Instant {
    field
        .until(&format!("{pod} is evicted"), async || {
            let events = field.api::<Event>().list(&ListParams::default()).await;
            let evicted = events.unwrap().items.iter().any(|event| {
                event.reason.as_deref() == Some("Evicted")
                    && event.involved_object.uid.as_deref() == Some(uid)
            });
            evicted.then_some(())
        })
        .await;
    Instant::now()
}

async fn evicted_by_its_node(fault: &str, volume: &str, of_builder: bool) {
    let field = Field::new("disk").await;
    limit(&field).await;
    step_of_hello(&field).await;
    let pod = match of_builder {
        true => BUILDER.to_owned(),
        false => field.runner("hello", "Running").await.name_any(),
    };
    let uid = uid_of(&field, &pod).await;
    overfill(&uid, volume);
    let ended = is_evicted(&field, &pod, &uid).await;
    heals(&field, fault, "hello", ended, 2..=2).await;
    field.close().await;
}

#[tokio::test]
async fn the_runner_evicted_by_its_node_for_its_disk() {
    evicted_by_its_node("runner evicted by its node", "scratch", false).await;
}

#[tokio::test]
async fn the_builder_evicted_by_its_node_for_its_disk() {
    evicted_by_its_node("builder evicted by its node", "tools", true).await;
}
