//! What a build asks of the API server, however many others there are.

use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use crate::api_server::ApiServer;
use crate::many::finished;
use crate::stage::{Stage, success};

/// Finished builds of its Builder beside the one that is counted, at first and then.
const FEW: usize = 10;
const MANY: usize = 200;
/// A look more or less is chance: what wakes a build may come at once or one by one.
const LOOKS: usize = 2;
/// Requests of one look.
const A_LOOK: usize = 7;

/// Makes those of these numbers, each with a Job of its Builder that has failed. The controller is away: it would begin
/// to build them before they have ended.
async fn others(stage: &mut Stage, numbers: std::ops::Range<usize>) {
    stage.kill_controller();
    let (builds, jobs) = (stage.api(), stage.api::<Job>());
    futures::stream::iter(numbers)
        .map(async |number| {
            finished(builds.clone(), number).await;
            let name = format!("app-{number}-0123456789");
            let labels = json!({"whittle.dev/component": "runner", "whittle.dev/builder": "default"});
            let container = json!({"name": "runner", "image": "whittle:test"});
            let job: Job = serde_json::from_value(json!({
                "metadata": {"name": name, "labels": labels},
                "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
            }))
            .unwrap();
            jobs.create(&PostParams::default(), &job).await.unwrap();
            let conditions: Vec<_> = ["FailureTarget", "Failed"]
                .map(|kind| json!({"type": kind, "status": "True", "reason": "BackoffLimitExceeded", "lastTransitionTime": "2026-11-01T00:01:00Z"}))
                .into();
            let failed = json!({"status": {"startTime": "2026-11-01T00:00:00Z", "failed": 1, "conditions": conditions}});
            jobs.patch_status(&name, &PatchParams::default(), &Patch::Merge(failed))
                .await
                .unwrap();
        })
        .buffer_unordered(8)
        .collect::<Vec<()>>()
        .await;
    stage.start_controller().await;
}

/// All that was asked, once nothing more is.
async fn asked(stage: &Stage) -> Vec<String> {
    let quiet = Duration::from_secs(3);
    let (mut before, mut since) = (stage.server.asked(), Instant::now());
    stage
        .until("the controller has nothing to ask", async || {
            let now = stage.server.asked();
            if now.len() != before.len() {
                (before, since) = (now, Instant::now());
            }
            (since.elapsed() > quiet).then_some(())
        })
        .await;
    before
}

/// What one build asks, from its first look to its end.
async fn one(stage: &Stage, name: &str) -> Vec<String> {
    let before = asked(stage).await.len();
    stage.apply(name, json!({})).await.unwrap();
    let job = stage.job(name).await;
    stage
        .pod_ends(&job, &success(&format!("sha256:{}", "a".repeat(64))))
        .await;
    stage.ready(name, "True", "Succeeded").await;
    asked(stage).await.split_off(before)
}

#[tokio::test]
async fn a_build_asks_no_more_of_the_api_server_where_there_are_many_others() {
    let mut stage = Stage::on(ApiServer::listening()).await;
    stage.start_controller().await;
    // The first one makes its Builder.
    stage.apply("first", json!({})).await.unwrap();
    stage.builder_starts().await;
    stage
        .pod_ends(&stage.job("first").await, &success("sha256:aa"))
        .await;
    stage.ready("first", "True", "Succeeded").await;
    others(&mut stage, 0..FEW).await;
    let few = one(&stage, "few").await;
    others(&mut stage, FEW..MANY).await;
    let many = one(&stage, "many").await;
    // Each list of its looks fits on one page.
    let pages: Vec<_> = many.iter().filter(|it| it.contains("continue=")).collect();
    assert!(pages.is_empty(), "{pages:#?}");
    assert!(
        many.len() <= few.len() + LOOKS * A_LOOK,
        "with {FEW} others {}, with {MANY} {}: {few:#?} {many:#?}",
        few.len(),
        many.len()
    );
    // So that the comparison counts: all of it was heard.
    assert!(few.iter().any(|asked| asked.starts_with("create ")));
    println!(
        "with {FEW} others {}, with {MANY} {}",
        few.len(),
        many.len()
    );
}
