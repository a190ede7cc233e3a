//! `spec.minimize`: the smaller image is checked, and where it does not answer the full one takes its place, also where the
//! controller is killed in between.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};
use whittle_api::{LeftOut, MinimizeOutcome, find};
use whittle_build::minimized::{Full, FullPlatform, Minimized};
use whittle_build::report::Report;
use whittle_build::request::{BuildRequest, Tagging};

use crate::stage::{Stage, success};

/// What the spec says in these tests.
pub fn asked(on_failure: &str) -> Value {
    json!({"minimize": {"mode": "Apply", "keep": ["/app/templates/**"], "onFailure": on_failure}, "healthCheck": {"tcpSocket": {"port": 80}}})
}

/// What a runner says that has made a smaller image of this full one.
pub fn smaller(small: &str, full: &str) -> Report {
    let Report::Succeeded(mut built) = success(small) else {
        panic!()
    };
    built.minimized = Some(Box::new(Minimized {
        outcome: MinimizeOutcome::Applied,
        message: "left out 1,204 files".into(),
        left: vec![LeftOut {
            path: "/usr/lib/python3".into(),
            size: 30_000_000,
        }],
        digest: Some(small.into()),
        size: Some(1234),
        full: Some(Full {
            digest: full.into(),
            size: 9876,
            platforms: vec![FullPlatform {
                platform: "linux/amd64".into(),
                digest: full.into(),
                size: 9876,
                report: Some("sha256:e0".into()),
            }],
            breaches: vec![],
        }),
        ..Minimized::default()
    }));
    Report::Succeeded(built)
}

/// The Job that checks the image with this digest.
async fn check_of(stage: &Stage, digest: &str) -> Job {
    let labels = ListParams::default().labels("whittle.dev/component=gate");
    let jobs = stage.api::<Job>();
    stage
        .until(&format!("{digest} is checked"), async || {
            let all = jobs.list(&labels).await.unwrap().items;
            all.into_iter().find(|job| image(job).ends_with(digest))
        })
        .await
}

pub fn image(job: &Job) -> String {
    let pod = job.spec.clone().unwrap().template.spec.unwrap();
    pod.containers[0].image.clone().unwrap()
}

pub fn crashed() -> Value {
    json!({"phase": "Failed", "containerStatuses": [{"name": "image", "image": "a", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]})
}

fn ready() -> Value {
    let now = jiff::Timestamp::now().to_string();
    json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}],
        "containerStatuses": [{"name": "image", "image": "a", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {"startedAt": now}}}]})
}

/// What the runner of this Job is asked for.
async fn request(stage: &Stage, job: &Job) -> BuildRequest {
    let map = stage.api::<ConfigMap>().get(&job.name_any()).await.unwrap();
    let data = map.data.unwrap();
    serde_json::from_str(data.values().next().unwrap()).unwrap()
}

/// The Job that moves the tags, which comes after this one.
async fn tags_after(stage: &Stage, runner: &Job) -> Job {
    stage
        .until("the tags are being moved", async || {
            let current = stage.get("hello").await.status?.current?;
            let job = stage.api::<Job>().get_opt(&current.job).await.unwrap()?;
            (job.name_any() != runner.name_any()).then_some(job)
        })
        .await
}

async fn begun(spec: Value) -> (Stage, Job) {
    let stage = Stage::with_controller().await;
    stage.node().await;
    stage.apply("hello", spec).await.unwrap();
    stage.builder_starts().await;
    let runner = stage.job("hello").await;
    (stage, runner)
}

#[tokio::test]
async fn tags_move_to_a_smaller_image_that_answers() {
    let (stage, runner) = begun(asked("UseFull")).await;
    let minimize = request(&stage, &runner).await.inputs.minimize.unwrap();
    assert_eq!(minimize.keep, ["/app/templates/**"]);
    stage
        .pod_ends(&runner, &smaller("sha256:aa", "sha256:f0"))
        .await;
    let check = check_of(&stage, "@sha256:aa").await;
    stage.pod(&check, ready()).await;
    let tags = tags_after(&stage, &runner).await;
    let tagging = request(&stage, &tags).await.tagging;
    assert!(
        matches!(&tagging, Tagging::Only { image, full, .. } if image == "sha256:aa" && full.is_empty()),
        "{tagging:?}"
    );
    stage.pod_ends(&tags, &success("sha256:aa")).await;
    let build = stage.ready("hello", "True", "Succeeded").await;
    let status = build.status.unwrap();
    assert_eq!(status.digest.as_deref(), Some("sha256:aa"));
    let condition = find(&status.conditions, "Minimized").unwrap();
    assert_eq!(
        (condition.status.as_str(), condition.reason.as_str()),
        ("True", "Applied")
    );
    let minimized = status.minimized.unwrap();
    assert_eq!(minimized.outcome, MinimizeOutcome::Applied);
    assert_eq!(minimized.digest.as_deref(), Some("sha256:aa"));
    assert_eq!(
        (minimized.full_digest.as_str(), minimized.full_size),
        ("sha256:f0", Some(9876))
    );
    assert_eq!(minimized.left[0].path, "/usr/lib/python3");
}

#[tokio::test]
async fn where_it_does_not_answer_the_full_one_is_tagged_wherever_the_controller_is_killed() {
    let (mut stage, runner) = begun(asked("UseFull")).await;
    stage
        .pod_ends(&runner, &smaller("sha256:aa", "sha256:f0"))
        .await;
    let small = check_of(&stage, "@sha256:aa").await;
    stage.kill_controller();
    stage.pod(&small, crashed()).await;
    stage.start_controller().await;
    let full = check_of(&stage, "@sha256:f0").await;
    assert_ne!(full.name_any(), small.name_any());
    stage.kill_controller();
    stage.pod(&full, ready()).await;
    stage.start_controller().await;
    let tags = tags_after(&stage, &runner).await;
    let tagging = request(&stage, &tags).await.tagging;
    assert!(
        matches!(&tagging, Tagging::Only { image, full, .. } if image == "sha256:f0" && full[0].report.as_deref() == Some("sha256:e0")),
        "{tagging:?}"
    );
    stage.pod_ends(&tags, &success("sha256:f0")).await;
    let status = stage.ready("hello", "True", "Succeeded").await;
    let status = status.status.unwrap();
    assert_eq!(status.digest.as_deref(), Some("sha256:f0"));
    assert_eq!(status.history.len(), 1);
    let condition = find(&status.conditions, "Minimized").unwrap();
    assert_eq!(
        (condition.status.as_str(), condition.reason.as_str()),
        ("False", "DoesNotStart")
    );
    assert!(condition.message.contains("exited with code 1"));
    let minimized = status.minimized.unwrap();
    assert_eq!(minimized.outcome, MinimizeOutcome::FullUsed);
    assert_eq!(minimized.digest.as_deref(), Some("sha256:aa"));
    let events = stage.api::<Event>();
    stage
        .until("an Event tells of it", async || {
            let all = events.list(&ListParams::default()).await.unwrap().items;
            let told = |event: &&Event| event.reason.as_deref() == Some("DoesNotStart");
            all.iter().any(|event| told(&event)).then_some(())
        })
        .await;
    let left = stage.jobs().await;
    assert!(
        left.iter()
            .all(|job| job.labels()["whittle.dev/component"] == "runner")
    );

    // The next build may come to the same full image.
    let mut other = asked("UseFull");
    other["dockerfile"] = "other".into();
    stage.apply("hello", other).await.unwrap();
    let next = tags_after(&stage, &tags).await;
    let before = request(&stage, &next).await.rejected.unwrap();
    assert_eq!(before.full, "sha256:f0");
}

#[tokio::test]
async fn with_on_failure_fail_no_tag_moves_and_both_images_are_named() {
    let (stage, runner) = begun(asked("Fail")).await;
    stage
        .pod_ends(&runner, &smaller("sha256:aa", "sha256:f0"))
        .await;
    let small = check_of(&stage, "@sha256:aa").await;
    stage.pod(&small, crashed()).await;
    let build = stage.ready("hello", "False", "HealthCheckFailed").await;
    let status = build.status.unwrap();
    assert_eq!(status.digest, None);
    let failure = status.failure.unwrap();
    assert!(failure.message.contains("the smaller image"));
    assert!(failure.message.contains("hello@sha256:f0"));
    assert!(failure.image.unwrap().ends_with("@sha256:aa"));
    let condition = find(&status.conditions, "Minimized").unwrap();
    assert_eq!(condition.reason, "DoesNotStart");
}
