//! What goes wrong beside the controller while it builds, caused for real: the API server and its etcd, the network
//! between, the clock, certificates, the namespace. The build ends once, rightly, and nobody has to help.
//!
//! Refusals of the API server are in refusals.rs, kills of the controller in crashes.rs and kills.rs.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, LimitRange, Namespace, Pod, Secret, Service};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use whittle_api::{Builder, FailureReason, ImageBuild, find};

use crate::api_server::{ApiServer, Which};
use crate::refusals::event;
use crate::stage::{Stage, failure, pod_of, success};
use crate::wire::Wire;

/// How long each of them lasts: a minute with `LONG=1`.
fn fault() -> Duration {
    let long = std::env::var_os("LONG").is_some();
    Duration::from_secs(if long { 60 } else { 20 })
}
/// So soon after it the build goes on.
const SOON: Duration = Duration::from_secs(30);

/// A runner that runs.
async fn running(stage: &Stage) -> Job {
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    let job = stage.job("hello").await;
    stage.pod(&job, json!({"phase": "Running"})).await;
    stage.ready("hello", "Unknown", "Building").await;
    job
}

/// Status of its condition Ready.
async fn find_ready(stage: &Stage) -> Option<String> {
    let build = Api::<ImageBuild>::namespaced(stage.client.clone(), &stage.namespace)
        .get("hello")
        .await
        .ok()?;
    let status = build.status?;
    Some(find(&status.conditions, "Ready")?.status.clone())
}

/// Succeeded within this time, and built once.
async fn built_once(stage: &mut Stage, within: Duration) -> Duration {
    let begun = Instant::now();
    while find_ready(stage).await.as_deref() != Some("True") && begun.elapsed() < within {
        stage.revive().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let build = stage.ready("hello", "True", "Succeeded").await;
    let took = begun.elapsed();
    println!("it took {} s", took.as_secs_f32());
    assert!(took < within, "{took:?}\n{}", stage.controllers_log());
    let status = build.status.unwrap();
    assert_eq!((status.build, status.history.len()), (Some(1), 1));
    assert_eq!(stage.jobs().await.len(), 1);
    assert_eq!(stage.requests().await.len(), 1);
    took
}

#[tokio::test]
async fn the_api_server_stands_still_during_a_build() {
    let mut stage = Stage::on(ApiServer::alone()).await;
    stage.start_controller().await;
    let job = running(&stage).await;
    stage.pod_ends(&job, &success("sha256:aa")).await;
    stage.server.freeze(Which::ApiServer);
    tokio::time::sleep(fault()).await;
    stage.server.thaw(Which::ApiServer);
    built_once(&mut stage, SOON).await;
}

#[tokio::test]
async fn the_api_server_is_killed_during_a_build_and_comes_back() {
    let mut stage = Stage::on(ApiServer::alone()).await;
    stage.start_controller().await;
    let job = running(&stage).await;
    stage.pod_ends(&job, &success("sha256:aa")).await;
    stage.server.end(Which::ApiServer);
    tokio::time::sleep(fault()).await;
    stage.server.start_again(Which::ApiServer).await;
    built_once(&mut stage, SOON).await;
}

#[tokio::test]
async fn etcd_is_killed_during_a_build_and_comes_back() {
    let mut stage = Stage::on(ApiServer::alone()).await;
    stage.start_controller().await;
    let job = running(&stage).await;
    stage.server.end(Which::Etcd);
    tokio::time::sleep(fault()).await;
    stage.server.start_again(Which::Etcd).await;
    stage.pod_ends(&job, &success("sha256:aa")).await;
    built_once(&mut stage, SOON).await;
}

#[tokio::test]
async fn packets_to_the_api_server_are_lost_for_a_while() {
    let mut stage = Stage::new().await;
    let wire = Wire::to(stage.server).await;
    stage.account = Some(wire.kubeconfig(stage.server));
    stage.start_controller().await;
    let job = running(&stage).await;
    wire.drops();
    stage.pod_ends(&job, &success("sha256:aa")).await;
    tokio::time::sleep(fault()).await;
    wire.flows();
    built_once(&mut stage, SOON).await;
}

/// The connections of the watches are dead, and nobody is told: no packet comes any more. Those of another controller,
/// for whom nothing happens in as long a time, are not, and go on.
#[tokio::test]
async fn watches_that_are_silently_dead_are_noticed_and_quiet_ones_left_alone() {
    const ERRORS: &str = r#"whittle_watch_errors_total{kind="Pod"}"#;
    let (mut stage, mut quiet) = (Stage::new().await, Stage::new().await);
    let wire = Wire::to(stage.server).await;
    stage.account = Some(wire.kubeconfig(stage.server));
    stage.start_controller().await;
    quiet.start_controller().await;
    let job = running(&stage).await;
    // Nothing is asked any more: only the watches could tell.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let begun = Instant::now();
    wire.forgets();
    stage.patience = Duration::from_secs(400);
    stage.pod_ends(&job, &success("sha256:aa")).await;
    built_once(&mut stage, Duration::from_secs(200)).await;
    assert!(stage.metric(ERRORS).await > 0);
    tokio::time::sleep(Duration::from_secs(95).saturating_sub(begun.elapsed())).await;
    assert_eq!(quiet.metric(ERRORS).await, 0, "{}", quiet.controllers_log());
}

#[tokio::test]
async fn the_namespace_is_deleted_during_a_build() {
    const ERRORS: [&str; 2] = [
        r#"whittle_reconcile_errors_total{kind="ImageBuild"}"#,
        r#"whittle_reconcile_errors_total{kind="Builder"}"#,
    ];
    let stage = Stage::with_controller().await;
    let job = running(&stage).await;
    let namespaces = Api::<Namespace>::all(stage.client.clone());
    let now = DeleteParams::default();
    namespaces.delete(&stage.namespace, &now).await.unwrap();
    // What would be begun again cannot be.
    stage.pod(&job, json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."})).await;
    stage.ready("hello", "Unknown", "Retrying").await;
    // Longer than it waits before the next attempt.
    tokio::time::sleep(Duration::from_secs(13)).await;
    assert_eq!(stage.jobs().await.len(), 1);
    // Plays the namespace controller, which knows no order.
    all_go::<Secret>(&stage).await;
    all_go::<ConfigMap>(&stage).await;
    all_go::<StatefulSet>(&stage).await;
    all_go::<Job>(&stage).await;
    all_go::<Pod>(&stage).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    all_go::<Builder>(&stage).await;
    all_go::<ImageBuild>(&stage).await;
    let looks = stage.metric(LOOKS).await;
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(stage.metric(LOOKS).await, looks);
    for errors in ERRORS {
        assert_eq!(
            stage.metric(errors).await,
            0,
            "{errors}: {}",
            stage.controllers_log()
        );
    }
    for left in [stage.jobs().await.len(), stage.requests().await.len()] {
        assert_eq!(left, 0);
    }
}

const LOOKS: &str = r#"whittle_reconciles_total{kind="ImageBuild"}"#;

async fn all_go<K>(stage: &Stage)
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api = stage.api::<K>();
    let now = DeleteParams::background().grace_period(0);
    api.delete_collection(&now, &ListParams::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_deleted_service_of_the_builder_is_there_again_for_the_next_attempt() {
    let stage = Stage::with_controller().await;
    let job = running(&stage).await;
    let services = stage.api::<Service>();
    let now = DeleteParams::default();
    services
        .delete("whittle-builder-default", &now)
        .await
        .unwrap();
    stage
        .pod_ends(&job, &failure(FailureReason::BuilderLost))
        .await;
    stage.ready("hello", "Unknown", "Retrying").await;
    let service = async || services.get_opt("whittle-builder-default").await.unwrap();
    stage.until("the Service is there", service).await;
    let next = stage.until("the second attempt starts", async || {
        let current = stage.get("hello").await.status?.current?;
        let next = stage.api::<Job>().get_opt(&current.job).await.unwrap()?;
        (next.name_any() != job.name_any()).then_some(next)
    });
    stage.pod_ends(&next.await, &success("sha256:aa")).await;
    stage.ready("hello", "True", "Succeeded").await;
}

#[tokio::test]
async fn a_deleted_request_is_there_again_before_its_runner_starts() {
    let mut stage = Stage::with_controller().await;
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    let job = stage.job("hello").await;
    let requests = stage.api::<ConfigMap>();
    let now = DeleteParams::default();
    requests.delete(&job.name_any(), &now).await.unwrap();
    let pod = stage.pod(&job, json!({"phase": "Pending"})).await;
    let about = json!({"kind": "Pod", "name": pod.name_any(), "uid": pod.uid()});
    let words = format!(
        r#"MountVolume.SetUp failed for volume "request" : configmap "{}" not found"#,
        job.name_any()
    );
    event(&stage, about, "FailedMount", &words).await;
    let request = async || requests.get_opt(&job.name_any()).await.unwrap();
    stage.until("the request is there", request).await;
    stage.pod_ends(&job, &success("sha256:aa")).await;
    built_once(&mut stage, SOON).await;
}

#[tokio::test]
async fn a_limit_range_that_runners_do_not_fit_into_is_told_and_its_end_heals() {
    let mut stage = Stage::with_controller().await;
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    let job = stage.job("hello").await;
    let limits = stage.api::<LimitRange>();
    // Of a container it would be a default.
    let most = json!([{"type": "Pod", "max": {"memory": "1Mi"}}]);
    stage.install(json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small", "namespace": stage.namespace}, "spec": {"limits": most}})).await;
    // The Job controller is refused, for real.
    let pods = stage.api::<Pod>();
    let try_it = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let refused = async || pods.create(&try_it, &pod_of(&job)).await.err();
    let refusal = stage.until("the LimitRange holds", refused).await;
    let about = json!({"kind": "Job", "name": job.name_any(), "uid": job.uid()});
    event(
        &stage,
        about,
        "FailedCreate",
        &format!("Error creating: {refusal}"),
    )
    .await;
    let build = stage.ready("hello", "False", "LimitRange").await;
    let said = find(&build.status.unwrap().conditions, "Ready")
        .unwrap()
        .message
        .clone();
    assert!(
        said.contains("maximum memory usage per Pod is 1Mi"),
        "{said}"
    );
    limits
        .delete("small", &DeleteParams::default())
        .await
        .unwrap();
    let taken = async || pods.create(&try_it, &pod_of(&job)).await.ok();
    stage.until("Pods can be made", taken).await;
    stage.pod_ends(&job, &success("sha256:aa")).await;
    built_once(&mut stage, SOON).await;
}
