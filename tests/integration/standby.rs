//! Runners that are made in advance, and wait for the next build of their ImageBuild (`Builder.spec.standby`), with the test as
//! their runner.

use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use whittle_api::{Builder, ImageBuild};
use whittle_build::request::BuildRequest;
use whittle_build::standby::{STANDBY_PATH, UNTAKEN};
use whittle_controller::names;

use crate::callback::client;
use crate::proxy::{Proxy, When};
use crate::stage::{Stage, ended, success};

/// The runner of this Job, which asks for its request once.
async fn asks(stage: &Stage, port: u16, job: &str) -> JoinHandle<(StatusCode, String)> {
    let uid = stage.get("hello").await.uid().unwrap();
    let name = names::credential(&uid, job);
    let secrets: Api<Secret> = stage.api();
    let secret = stage
        .until("the credential is there", async || {
            secrets.get_opt(&name).await.unwrap()
        })
        .await;
    let token = String::from_utf8(secret.data.unwrap()["token"].0.clone()).unwrap();
    let asks = client(stage)
        .await
        .post(format!("https://localhost:{port}{STANDBY_PATH}"))
        .bearer_auth(token);
    tokio::spawn(async move {
        let answer = asks.send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    })
}

/// The controller holds so many answers.
async fn held(stage: &Stage, number: u64) {
    stage
        .until(&format!("{number} wait"), async || {
            (stage.metric("whittle_runners_waiting").await == number).then_some(())
        })
        .await;
}

async fn made(stage: &Stage) -> Vec<Job> {
    let labelled = ListParams::default().labels(names::STANDBY);
    let jobs = stage.api::<Job>().list(&labelled).await.unwrap().items;
    let stays = |job: &Job| job.metadata.deletion_timestamp.is_none();
    jobs.into_iter().filter(stays).collect()
}

/// The Job that was made in advance for the build of this number.
async fn made_for(stage: &Stage, build: i64) -> Job {
    let build = build.to_string();
    stage
        .until(&format!("one waits for build {build}"), async || {
            let jobs = made(stage).await;
            jobs.into_iter()
                .find(|job| job.annotations()[names::BUILD] == build)
        })
        .await
}

/// The Job that was made in advance for the second build, and its runner's answer, which the controller holds.
async fn waiting(stage: &Stage, port: u16) -> (Job, JoinHandle<(StatusCode, String)>) {
    let waits = made_for(stage, 2).await;
    stage.pod(&waits, json!({"phase": "Running"})).await;
    let runner = asks(stage, port, &waits.name_any()).await;
    held(stage, 1).await;
    (waits, runner)
}

async fn goes(stage: &Stage, job: &Job) {
    let jobs: Api<Job> = stage.api();
    stage
        .until("it is thrown away", async || {
            let found = jobs.get_opt(&job.name_any()).await.unwrap();
            found
                .is_none_or(|it| it.metadata.deletion_timestamp.is_some())
                .then_some(())
        })
        .await;
}

/// The Job that the build has in the place of one that was made in advance. Where that one goes first, its Pod goes with it, as a kubelet
/// ends it: no build begins before.
async fn ordinary(stage: &Stage, waits: &Job) -> Job {
    let (jobs, pods) = (stage.api::<Job>(), stage.api::<Pod>());
    let name = waits.name_any();
    stage
        .until("an ordinary Job takes its place", async || {
            let found = jobs.get_opt(&name).await.unwrap();
            if found.is_none_or(|it| it.metadata.deletion_timestamp.is_some()) {
                let now = DeleteParams::default().grace_period(0);
                // It may have gone before.
                let _ = pods.delete(&format!("{name}-x"), &now).await;
            }
            let current = stage.get("hello").await.status?.current?;
            let job = jobs.get_opt(&current.job).await.unwrap()?;
            (job.name_any() != name).then_some(job)
        })
        .await
}

async fn patch_builder(stage: &Stage, spec: Value) {
    let patch = Patch::Merge(json!({ "spec": spec }));
    let builders: Api<Builder> = stage.api();
    builders
        .patch("default", &PatchParams::default(), &patch)
        .await
        .unwrap();
}

/// Asks for another build of the same.
async fn request(stage: &Stage, value: &str) {
    let patch = json!({"metadata": {"annotations": {"whittle.dev/requestedAt": value}}});
    stage
        .api::<ImageBuild>()
        .patch("hello", &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
}

/// A Builder beside which a runner waits, and an ImageBuild that has built once: the callback's port.
async fn built(stage: &mut Stage, spec: Value) -> u16 {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let port = stage.start_controller().await;
    let mut builder = Builder::new("default", Default::default());
    builder.spec.standby = 1;
    stage
        .api::<Builder>()
        .create(&PostParams::default(), &builder)
        .await
        .unwrap();
    stage.apply("hello", spec).await.unwrap();
    stage.builder_starts().await;
    stage
        .pod_ends(&stage.job("hello").await, &success("sha256:aa"))
        .await;
    stage.ready("hello", "True", "Succeeded").await;
    port
}

async fn succeeded_with(stage: &Stage, digest: &str) -> ImageBuild {
    stage
        .until(&format!("{digest} is there"), async || {
            let build = stage.get("hello").await;
            let status = build.status.as_ref()?;
            (status.digest.as_deref() == Some(digest) && status.current.is_none()).then_some(build)
        })
        .await
}

fn job_of(build: &ImageBuild) -> Option<String> {
    Some(build.status.as_ref()?.current.as_ref()?.job.clone())
}

#[tokio::test]
async fn the_next_build_is_carried_out_by_the_runner_that_waits_and_the_one_after_has_its_own() {
    let mut stage = Stage::new().await;
    let port = built(&mut stage, json!({})).await;
    let waits = made_for(&stage, 2).await;
    stage.pod(&waits, json!({"phase": "Running"})).await;
    // It is no build: nothing runs.
    assert_eq!(stage.metric("whittle_builds_running").await, 0);
    let runner = asks(&stage, port, &waits.name_any()).await;
    held(&stage, 1).await;
    let spec = json!({"buildArgs": {"A": "b"}});
    stage.apply("hello", spec).await.unwrap();
    let (status, text) = runner.await.unwrap();
    assert_eq!(status, 200, "{text}");
    let request: BuildRequest = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (request.job.as_str(), request.build),
        (&*waits.name_any(), 2)
    );
    assert_eq!(request.inputs.build_args["A"], "b");
    assert_eq!(job_of(&stage.get("hello").await), Some(waits.name_any()));
    // The answer was lost on its way: it asks again.
    let again = asks(&stage, port, &waits.name_any()).await;
    assert_eq!(again.await.unwrap(), (StatusCode::OK, text));
    stage.pod_ends(&waits, &success("sha256:bb")).await;
    let status = succeeded_with(&stage, "sha256:bb").await.status.unwrap();
    assert_eq!(status.build, Some(2));
    assert_eq!(status.history[0].job, Some(waits.name_any()));
    let next = made_for(&stage, 3).await;
    assert_ne!(next.name_any(), waits.name_any());
    assert_eq!(stage.metric("whittle_attempts_in_advance_total").await, 1);
    // Its own, that of the first build, and the next one.
    assert_eq!(stage.jobs().await.len(), 3);
    // It has nothing more to be handed.
    let late = asks(&stage, port, &waits.name_any()).await;
    let wait = tokio::time::timeout(Duration::from_millis(500), late);
    assert!(wait.await.is_err());
}

#[tokio::test]
async fn where_a_secret_has_another_name_or_nobody_waits_an_ordinary_job_is_made_at_once() {
    let mut stage = Stage::new().await;
    let output = |secret: &str| json!({"output": {"secretRef": {"name": secret}}});
    let port = built(&mut stage, output("first")).await;
    let (waits, runner) = waiting(&stage, port).await;
    stage.apply("hello", output("second")).await.unwrap();
    let job = ordinary(&stage, &waits).await;
    goes(&stage, &waits).await;
    runner.abort();
    // Its Pod goes, too.
    assert_eq!(ordinary(&stage, &waits).await.name_any(), job.name_any());
    stage.pod_ends(&job, &success("sha256:bb")).await;
    succeeded_with(&stage, "sha256:bb").await;
    // Its runner has not come yet, or hangs.
    let waits = made_for(&stage, 3).await;
    let text = format!("{waits:?}");
    assert!(text.contains("\"second\"") && !text.contains("\"first\""));
    stage.pod(&waits, json!({"phase": "Running"})).await;
    request(&stage, "now").await;
    let job = ordinary(&stage, &waits).await;
    goes(&stage, &waits).await;
    stage.pod_ends(&job, &success("sha256:cc")).await;
    succeeded_with(&stage, "sha256:cc").await;
}

#[tokio::test]
async fn a_runner_that_is_ended_before_it_has_its_request_costs_no_attempt() {
    let mut stage = Stage::new().await;
    let port = built(&mut stage, json!({})).await;
    let (waits, runner) = waiting(&stage, port).await;
    request(&stage, "now").await;
    runner.await.unwrap();
    let mut status = ended("");
    let container = &mut status["containerStatuses"][0]["state"]["terminated"];
    container["exitCode"] = json!(UNTAKEN);
    status["phase"] = json!("Failed");
    stage.pod(&waits, status).await;
    let job = stage
        .until("an ordinary Job takes its place", async || {
            let job = stage.job("hello").await;
            (job.name_any() != waits.name_any()).then_some(job)
        })
        .await;
    goes(&stage, &waits).await;
    let current = stage.get("hello").await.status.unwrap().current.unwrap();
    assert_eq!((current.attempt, current.last_failure), (1, None));
    stage.pod_ends(&job, &success("sha256:bb")).await;
    succeeded_with(&stage, "sha256:bb").await;
}

#[tokio::test]
async fn a_controller_that_comes_back_hands_over_what_the_one_before_has_begun() {
    let mut stage = Stage::new().await;
    let port = built(&mut stage, json!({})).await;
    let (waits, runner) = waiting(&stage, port).await;
    request(&stage, "now").await;
    let (_, text) = runner.await.unwrap();
    // As if the answer had been lost with the controller.
    stage.kill_controller();
    let port = stage.start_controller().await;
    let again = asks(&stage, port, &waits.name_any()).await;
    let (status, handed) = again.await.unwrap();
    assert_eq!(status, 200);
    let request = |text: &str| -> BuildRequest { serde_json::from_str(text).unwrap() };
    let (first, mut second) = (request(&text), request(&handed));
    // Each controller of these tests is served at a port of its own.
    second.callback.clone_from(&first.callback);
    assert_eq!(first, second);
    stage.pod_ends(&waits, &success("sha256:bb")).await;
    let status = succeeded_with(&stage, "sha256:bb").await.status.unwrap();
    assert_eq!(status.build, Some(2));
}

#[tokio::test]
async fn nobody_waits_where_the_builder_does_not_say_so_and_all_go_when_it_does_no_more() {
    let mut stage = Stage::new().await;
    built(&mut stage, json!({})).await;
    let waits = made_for(&stage, 2).await;
    patch_builder(&stage, json!({"standby": 0})).await;
    goes(&stage, &waits).await;
    let maps: Api<ConfigMap> = stage.api();
    stage
        .until("its ConfigMap has gone", async || {
            let found = maps.get_opt(&waits.name_any()).await.unwrap();
            found.is_none().then_some(())
        })
        .await;
    patch_builder(&stage, json!({"standby": 2})).await;
    let waits = made_for(&stage, 2).await;
    // A controller that comes back knows of those that stand there.
    stage.kill_controller();
    let builders: Api<Builder> = stage.api();
    let now = DeleteParams::background();
    builders.delete("default", &now).await.unwrap();
    stage.start_controller().await;
    goes(&stage, &waits).await;
    assert!(made(&stage).await.is_empty());
}

#[tokio::test]
async fn a_runner_is_handed_nothing_by_the_credential_of_another_and_none_without_one() {
    let mut stage = Stage::new().await;
    let port = built(&mut stage, json!({})).await;
    let waits = made_for(&stage, 2).await;
    stage.pod(&waits, json!({"phase": "Running"})).await;
    let first = stage.jobs().await;
    let first = first.iter().find(|job| job.name_any() != waits.name_any());
    let other = asks(&stage, port, &first.unwrap().name_any()).await;
    let runner = asks(&stage, port, &waits.name_any()).await;
    held(&stage, 2).await;
    let url = format!("https://localhost:{port}{STANDBY_PATH}");
    let nobody = client(&stage).await.post(&url).send().await.unwrap();
    assert_eq!(nobody.status(), 401);
    request(&stage, "now").await;
    assert_eq!(runner.await.unwrap().0, 200);
    let wait = tokio::time::timeout(Duration::from_millis(500), other);
    assert!(wait.await.is_err(), "it was handed something");
}

#[tokio::test]
async fn runners_wait_beside_a_builder_that_is_shared_and_sixteen_at_most() {
    let stage = Stage::new().await;
    let builders: Api<Builder> = stage.api();
    let refused = async |name: &str, spec: Value| {
        let builder = json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": name}, "spec": spec});
        let builder: Builder = serde_json::from_value(builder).unwrap();
        let made = builders.create(&PostParams::default(), &builder).await;
        made.err().map(|error| error.to_string())
    };
    let words = refused("thrown-away", json!({"standby": 1, "sharing": "Build"})).await;
    let words = words.expect("accepted");
    assert!(words.contains("sharing must be Namespace"), "{words}");
    assert!(refused("many", json!({"standby": 17})).await.is_some());
    assert_eq!(refused("most", json!({"standby": 16})).await, None);
    assert_eq!(
        refused("none", json!({"standby": 0, "sharing": "Build"})).await,
        None
    );
}

/// How long one build may take in all.
const PATIENCE: Duration = Duration::from_secs(120);

/// Kills the controller at this call of a build for which a runner waits; false where there are fewer calls.
async fn killed(number: usize, when: When) -> bool {
    let mut stage = Stage::new().await;
    let proxy = Proxy::start(stage.server).await;
    stage.account = Some(proxy.kubeconfig(stage.server));
    let port = built(&mut stage, json!({})).await;
    let (waits, mut runner) = waiting(&stage, port).await;
    proxy.hold_at(number, when);
    request(&stage, "now").await;
    let what = format!("{when:?} call {number}");
    let (begun, mut was_killed, mut handed) = (Instant::now(), false, None);
    loop {
        if !was_killed && proxy.reached().is_some() {
            was_killed = true;
            stage.kill_controller();
            proxy.release();
            stage.start_controller().await;
        }
        stage.revive().await;
        if handed.is_none() && runner.is_finished() {
            // As a runner does, it asks again where it was left alone, or has waited for long.
            handed = match runner.await {
                Ok((StatusCode::OK, text)) => Some(text),
                _ => None,
            };
            runner = asks(&stage, stage.callback_port, &waits.name_any()).await;
        }
        let status = stage.get("hello").await.status.unwrap();
        if let Some(current) = &status.current {
            let mine = current.job == waits.name_any();
            let jobs: Api<Job> = stage.api();
            let job = jobs.get_opt(&current.job).await.unwrap();
            match job {
                // It builds once it has its request, and not before.
                Some(job) if !mine || handed.is_some() => {
                    stage.pod_ends(&job, &success("sha256:bb")).await;
                }
                _ => {}
            }
        }
        let jobs: Api<Job> = stage.api();
        let stands = jobs.get_opt(&waits.name_any()).await.unwrap();
        if stands.is_none() && handed.is_none() {
            // The kubelet ends what has no Job any more.
            let now = DeleteParams::default().grace_period(0);
            let pods: Api<k8s_openapi::api::core::v1::Pod> = stage.api();
            let _ = pods.delete(&format!("{}-x", waits.name_any()), &now).await;
        }
        if status.digest.as_deref() == Some("sha256:bb") && status.current.is_none() {
            assert_eq!((status.build, status.history.len()), (Some(2), 2), "{what}");
            let by = status.history[0].job.clone();
            let by_the_one_that_waited = by == Some(waits.name_any());
            // Whose request was handed over has built, and no other.
            assert_eq!(by_the_one_that_waited, handed.is_some(), "{what}");
            break;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "not in time: {what}: {status:#?}\n{}",
            stage.controllers_log()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    runner.abort();
    was_killed
}

#[tokio::test]
async fn wherever_the_controller_is_killed_the_build_is_carried_out_once() {
    let mut calls = 0;
    for number in (1..).step_by(3) {
        for when in [When::Before, When::After] {
            if !killed(number, when).await {
                assert!(calls > 4, "a build takes more than a few calls");
                return;
            }
            calls += 1;
        }
    }
}
