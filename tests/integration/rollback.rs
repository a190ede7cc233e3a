//! Tags go back to the image of an earlier build: once, whoever is killed meanwhile.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use whittle_api::{FailureReason, ImageBuild, ImageBuildStatus, RollbackState};
use whittle_build::request::{BuildRequest, Tagging, paths};

use crate::stage::{Stage, failure, success};

const FIRST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const SECOND: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const THIRD: &str = "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";

async fn annotate(stage: &Stage, value: Value) {
    let patch = json!({"metadata": {"annotations": {"whittle.dev/rollback": value}}});
    let builds = stage.api::<ImageBuild>();
    let patch = Patch::Merge(patch);
    builds
        .patch("hello", &PatchParams::default(), &patch)
        .await
        .unwrap();
}

/// Once the build of this number has ended.
async fn ended(stage: &Stage, number: i64) -> ImageBuildStatus {
    stage
        .until(&format!("build {number} has ended"), async || {
            let status = stage.get("hello").await.status?;
            let last = status.history.first()?.build;
            (last == number && status.current.is_none()).then_some(status)
        })
        .await
}

/// The number of the build that this Job is of.
fn number(job: &Job) -> &str {
    &job.annotations()["whittle.dev/build"]
}

async fn tagging(stage: &Stage, job: &Job) -> Tagging {
    let asked = stage.api::<ConfigMap>().get(&job.name_any()).await.unwrap();
    let request: BuildRequest =
        serde_json::from_str(&asked.data.unwrap()[paths::REQUEST_KEY]).unwrap();
    request.tagging
}

async fn events(stage: &Stage, reason: &str) -> Vec<String> {
    let all = ListParams::default();
    let found = stage.api::<Event>().list(&all).await.unwrap();
    let of_reason = found
        .into_iter()
        .filter(|it| it.reason.as_deref() == Some(reason));
    of_reason.filter_map(|it| it.note).collect()
}

#[tokio::test]
async fn a_rollback_happens_once_whenever_the_controller_is_killed_and_the_next_spec_builds() {
    let mut stage = Stage::with_controller().await;
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    for (build, digest) in [(1, FIRST), (2, SECOND)] {
        let spec = json!({"rebuild": build.to_string()});
        stage.apply("hello", spec).await.unwrap();
        let job = stage
            .until("the build of this spec has a Job", async || {
                let job = stage.job("hello").await;
                let current = stage.get("hello").await;
                let of_spec = current.status?.current?.generation;
                (Some(of_spec) == current.metadata.generation).then_some(job)
            })
            .await;
        stage.pod_ends(&job, &success(digest)).await;
        stage.ready("hello", "True", "Succeeded").await;
    }
    let before = stage.get("hello").await.status.unwrap();
    assert_eq!(before.digest.as_deref(), Some(SECOND));
    let (last, earlier) = (before.build.unwrap(), before.history[1].build);
    assert_eq!(before.history[1].digest.as_deref(), Some(FIRST));

    // Asked for while nobody looks; killed once it was begun, and once its runner has ended.
    stage.kill_controller();
    annotate(&stage, json!(earlier.to_string())).await;
    stage.start_controller().await;
    let job = stage.job("hello").await;
    assert_eq!(number(&job), (last + 1).to_string());
    let Tagging::Back { image, tags, .. } = tagging(&stage, &job).await else {
        panic!("nothing is built");
    };
    assert_eq!((image.as_str(), tags), (FIRST, vec!["latest".into()]));
    stage.kill_controller();
    stage.pod_ends(&job, &success(FIRST)).await;
    stage.start_controller().await;
    stage.ready("hello", "True", "RolledBack").await;
    let status = ended(&stage, last + 1).await;
    assert_eq!(status.digest.as_deref(), Some(FIRST));
    assert_eq!(status.history[0].rolled_back_to, Some(earlier));
    assert_eq!(status.rollback.unwrap().state, RollbackState::Done);
    stage
        .until("an Event tells of it", async || {
            let told = events(&stage, "RolledBack").await;
            let first = told.first()?.clone();
            let expected = format!("rolled back to build {earlier}: ");
            assert!(first.starts_with(&expected), "{told:?}");
            Some(())
        })
        .await;

    // One that comes back has nothing to do, and what cannot be had changes nothing.
    stage.kill_controller();
    stage.start_controller().await;
    annotate(&stage, json!("99")).await;
    let refused = stage
        .until("it is refused", async || {
            let told = stage.get("hello").await.status?.rollback?;
            (told.state == RollbackState::Refused).then_some(told.message)
        })
        .await;
    let choice = format!("can be gone back to: {}, {last}, {earlier}", last + 1);
    assert!(refused.contains(&choice), "{refused}");
    let status = stage.get("hello").await.status.unwrap();
    assert_eq!(
        (status.build, status.digest.as_deref()),
        (Some(last + 1), Some(FIRST))
    );
    stage.ready("hello", "True", "RolledBack").await;

    // An image that is gone leaves all as it was.
    annotate(&stage, json!(format!("{last} once more"))).await;
    let job = stage.job("hello").await;
    stage
        .pod_ends(&job, &failure(FailureReason::ImageNotFound))
        .await;
    let status = ended(&stage, last + 2).await;
    assert_eq!(status.history[0].result, "ImageNotFound");
    assert_eq!(
        (status.digest.as_deref(), status.failure),
        (Some(FIRST), None)
    );
    stage.ready("hello", "True", "Succeeded").await;

    stage
        .apply("hello", json!({"rebuild": "next"}))
        .await
        .unwrap();
    let job = stage.job("hello").await;
    assert_eq!(number(&job), (last + 3).to_string());
    assert_eq!(tagging(&stage, &job).await, Tagging::Now);
    stage.pod_ends(&job, &success(THIRD)).await;
    let status = ended(&stage, last + 3).await;
    assert_eq!(status.digest.as_deref(), Some(THIRD));
}
