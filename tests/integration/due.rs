//! When a build is due, and what can be waited for.

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use whittle_api::{Builder, ImageBuild, find};

use crate::stage::{Stage, success};

async fn patch(stage: &Stage, patch: Value) {
    let builds = stage.api::<ImageBuild>();
    let merge = Patch::Merge(patch);
    builds
        .patch("hello", &PatchParams::default(), &merge)
        .await
        .unwrap();
}

async fn built(digest: &str) -> Stage {
    let stage = Stage::with_controller().await;
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    let job = stage.job("hello").await;
    stage.pod_ends(&job, &success(digest)).await;
    stage.ready("hello", "True", "Succeeded").await;
    stage
}

#[tokio::test]
async fn whoever_asks_for_a_build_and_waits_gets_the_new_image() {
    let stage = built("sha256:aa").await;
    // kubectl annotate, then kubectl wait --for=jsonpath='{.status.lastHandledRequest}'=two.
    patch(
        &stage,
        json!({"metadata": {"annotations": {"whittle.dev/requestedAt": "two"}}}),
    )
    .await;
    let handled = stage.until("the request is handled", async || {
        let build = stage.get("hello").await;
        let handled = build.status.as_ref()?.last_handled_request.clone()?;
        (handled == "two").then_some(build)
    });
    let status = handled.await.status.unwrap();
    assert_ne!(find(&status.conditions, "Ready").unwrap().status, "True");
    stage
        .pod_ends(&stage.job("hello").await, &success("sha256:bb"))
        .await;
    let status = stage
        .ready("hello", "True", "Succeeded")
        .await
        .status
        .unwrap();
    assert_eq!(status.digest.as_deref(), Some("sha256:bb"));

    // spec.rebuild: kubectl wait --for=condition=Ready holds the condition against the generation, as this does.
    patch(&stage, json!({"spec": {"rebuild": "2026-11-26"}})).await;
    let stale = stage.get("hello").await;
    let ready = find(&stale.status.as_ref().unwrap().conditions, "Ready").unwrap();
    assert!(ready.status != "True" || ready.observed_generation < stale.metadata.generation);
    let job = stage.until("the third build has a Job", async || {
        let status = stage.get("hello").await.status?;
        let job = status.current.filter(|_| status.build == Some(3))?.job;
        stage.api::<Job>().get_opt(&job).await.unwrap()
    });
    stage.pod_ends(&job.await, &success("sha256:cc")).await;
    let status = stage
        .ready("hello", "True", "Succeeded")
        .await
        .status
        .unwrap();
    assert_eq!(status.digest.as_deref(), Some("sha256:cc"));
}

#[tokio::test]
async fn a_deleted_job_stays_deleted_while_its_build_is_suspended() {
    let stage = Stage::with_controller().await;
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    let job = stage.job("hello").await.name_any();
    patch(&stage, json!({"spec": {"suspend": true}})).await;
    let jobs = stage.api::<Job>();
    jobs.delete(&job, &DeleteParams::background())
        .await
        .unwrap();
    stage.ready("hello", "False", "Suspended").await;
    assert!(stage.active_jobs().await.is_empty());
    patch(&stage, json!({"spec": {"suspend": false}})).await;
    assert_eq!(stage.job("hello").await.name_any(), job);
}

#[tokio::test]
async fn a_builder_that_was_edited_goes_on_taking_builds() {
    let mut stage = built("sha256:aa").await;
    // Neither loop has seen the edit when a build is due: whichever looks first.
    stage.kill_controller();
    let builders = stage.api::<Builder>();
    for round in 0..4 {
        let edit = Patch::Merge(json!({"spec": {"idleTimeout": format!("{}m", 20 + round)}}));
        builders
            .patch("default", &PatchParams::default(), &edit)
            .await
            .unwrap();
        patch(&stage, json!({"spec": {"rebuild": round.to_string()}})).await;
        stage.start_controller().await;
        let job = stage.until("the build starts", async || {
            let status = stage.get("hello").await.status?;
            let job = status
                .current
                .filter(|_| status.build == Some(2 + round))?
                .job;
            stage.api::<Job>().get_opt(&job).await.unwrap()
        });
        stage
            .pod_ends(&job.await, &success(&format!("sha256:b{round}")))
            .await;
        stage.ready("hello", "True", "Succeeded").await;
        stage.kill_controller();
    }
}
