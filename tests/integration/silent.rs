//! What is said of a watcher that says nothing, and of sources for which it has no room. There is no kubelet: a watcher runs
//! where a test starts one.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use whittle_api::{ImageBuild, ImageBuildStatus, TRIGGERS, find};
use whittle_controller::names;
use whittle_git::fixtures::{Repository, Server};

use crate::kubelet::Kubelet;
use crate::stage::Stage;
use crate::triggers::{head, of_revision, polled, push};
use crate::watcher::Watcher;

/// Seconds that make a silence here.
const SILENT_AFTER: u64 = 4;

async fn status(stage: &Stage, name: &str) -> ImageBuildStatus {
    stage.get(name).await.status.unwrap_or_default()
}

/// What is said of the triggers of an ImageBuild.
async fn said(stage: &Stage, name: &str) -> Option<Condition> {
    find(&status(stage, name).await.conditions, TRIGGERS).cloned()
}

/// The message, once this is said.
async fn says(stage: &Stage, name: &str, reason: &str) -> String {
    let what = format!("the triggers of {name} are {reason}");
    let said = async || {
        let told = said(stage, name).await?;
        (told.reason == reason).then_some(told.message)
    };
    stage.until(&what, said).await
}

/// Plays the kubelet until the last commit of `a` is in its image.
async fn has_built(stage: &Stage, watcher: &Watcher, repository: &Repository) {
    let newest = head(repository, "a");
    let mut kubelet = Kubelet::default();
    let built = async || {
        watcher.mount(stage).await;
        let ends = |_: &_| of_revision(head(repository, "a"));
        kubelet.turn_with(stage, ends).await;
        let status = status(stage, "a").await;
        (status.current.is_none() && status.revision.as_ref() == Some(&newest)).then_some(())
    };
    stage.until("the last commit is built", built).await;
}

/// Plays a Pod of the watcher that keeps crashing.
async fn crashes(stage: &Stage) {
    let watcher = names::watcher("default");
    let name = format!("{watcher}-5d4f-x");
    let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{watcher}-5d4f"), "uid": "s", "controller": true});
    let pod = json!({"metadata": {"name": name, "labels": names::watcher_labels("default"), "ownerReferences": [owner]},
        "spec": {"containers": [{"name": "watcher", "image": "whittle:test"}]}});
    let pods = stage.api::<Pod>();
    let pod = serde_json::from_value(pod).unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let state = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}});
    let last = json!({"terminated": {"exitCode": 3, "reason": "Error"}});
    let patch = json!({"status": {"phase": "Running", "containerStatuses": [{"name": "watcher", "image": "whittle:test", "imageID": "",
        "ready": false, "restartCount": 7, "state": state, "lastState": last}]}});
    pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_silent_watcher_is_said_once_with_its_cause_and_what_came_meanwhile_is_built_once() {
    let mut stage = Stage::new().await;
    stage.settings = json!({"triggers": {"silentAfterSeconds": SILENT_AFTER}});
    let repository = Repository::new("sha1");
    let server = Server::start(&repository).await;
    let url = format!("http://127.0.0.1:{}/open/team/hello.git", server.port);
    let mut watcher = Watcher::new();
    push(&repository, "a");
    push(&repository, "b");
    stage.start_controller().await;
    polled(&stage, "a", &url, json!({})).await;
    polled(&stage, "b", &url, json!({"suspend": true})).await;
    let scheduled = json!({"triggers": {"schedule": "@yearly"}, "suspend": true});
    stage.apply("scheduled", scheduled).await.unwrap();
    has_built(&stage, &watcher, &repository).await;
    // No watcher has ever been there.
    for name in ["a", "b"] {
        says(&stage, name, "WatcherSilent").await;
        // What was looked at first may have been how things stood before its Deployment was made.
        let cause = async || {
            let message = said(&stage, name).await?.message;
            let words = [
                "watcher of Builder default has not reported for more than 4s",
                "Deployment whittle-builder-default-watcher has no Pod",
                "kubectl describe deployment",
            ];
            words.iter().all(|it| message.contains(it)).then_some(())
        };
        stage.until("the cause is said", cause).await;
        assert_eq!(said(&stage, name).await.unwrap().status, "Unknown");
    }
    assert_eq!(
        said(&stage, "scheduled").await.unwrap().reason,
        "TriggersWork"
    );
    // Each was written once, and nothing follows.
    let version = stage.get("b").await.resource_version();
    let until = Instant::now() + Duration::from_secs(SILENT_AFTER);
    while Instant::now() < until {
        assert_eq!(stage.get("b").await.resource_version(), version);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // One that comes now says so, too; and so does the next controller, before which nothing heals.
    polled(&stage, "late", &url, json!({"suspend": true})).await;
    says(&stage, "late", "WatcherSilent").await;
    stage.kill_controller();
    stage.start_controller().await;

    push(&repository, "a");
    assert_eq!(said(&stage, "a").await.unwrap().reason, "WatcherSilent");
    watcher.start();
    has_built(&stage, &watcher, &repository).await;
    for name in ["a", "b"] {
        says(&stage, name, "TriggersWork").await;
    }
    // Its branch does not exist.
    says(&stage, "late", "SourceNotFound").await;

    // It crashes, and what it needs has been deleted.
    watcher.kill();
    push(&repository, "a");
    crashes(&stage).await;
    let (secrets, deployments) = (stage.api::<Secret>(), stage.api::<Deployment>());
    let (name, now) = (names::watcher("default"), DeleteParams::default());
    secrets.delete(&name, &now).await.unwrap();
    deployments.delete(&name, &now).await.unwrap();
    let first = says(&stage, "a", "WatcherSilent").await;
    assert!(first.contains("not found"), "{first}");
    says(&stage, "late", "WatcherSilent").await;
    let again = async || {
        let secret = secrets.get_opt(&name).await.unwrap()?;
        deployments.get_opt(&name).await.unwrap().map(|_| secret)
    };
    stage.until("they are created again", again).await;
    let crash = async || {
        let message = said(&stage, "a").await?.message;
        message.contains("keeps crashing").then_some(message)
    };
    let message = stage.until("another cause is said", crash).await;
    for words in ["exit code 3", "7 restarts", "kubectl logs"] {
        assert!(message.contains(words), "{message}");
    }
    // Nobody has looked.
    assert_eq!(status(&stage, "a").await.build, Some(2));
    watcher.start();
    has_built(&stage, &watcher, &repository).await;
    says(&stage, "late", "SourceNotFound").await;
    // Four commits, four builds: none was lost, and none was built twice.
    push(&repository, "a");
    has_built(&stage, &watcher, &repository).await;
    assert_eq!(status(&stage, "a").await.build, Some(4));
    says(&stage, "a", "TriggersWork").await;
}

/// Waits until what is made from now on is a second younger.
async fn a_second_passes(stage: &Stage) {
    let now = Timestamp::now().as_second();
    let passed = async || (Timestamp::now().as_second() > now + 1).then_some(());
    stage.until("a second has passed", passed).await;
}

#[tokio::test]
async fn of_more_sources_than_a_watcher_has_room_for_the_youngest_say_that_they_are_left_out() {
    let mut stage = Stage::new().await;
    stage.start_controller().await;
    // It makes its Builder, without which there is no watcher.
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    let with_secret = async |name: &str| {
        let git = json!({"git": {"secretRef": {"name": format!("secret-of-{name}")}}});
        let patch = json!({"suspend": true, "source": git});
        polled(
            &stage,
            name,
            "https://git.example.com/team/hello.git",
            patch,
        )
        .await;
    };
    for at in 0..100 {
        with_secret(&format!("old-{at}")).await;
    }
    a_second_passes(&stage).await;
    with_secret("second").await;
    a_second_passes(&stage).await;
    with_secret("third").await;
    for name in ["second", "third"] {
        let message = says(&stage, name, "TooManySources").await;
        for words in [
            "git repository https://git.example.com/team/hello.git",
            "100",
            "spec.builderRef",
        ] {
            assert!(message.contains(words), "{message}");
        }
        assert_eq!(said(&stage, name).await.unwrap().status, "False");
    }
    let volumes = async || {
        let name = names::watcher("default");
        let deployment = stage.api::<Deployment>().get_opt(&name).await.unwrap()?;
        let volumes = deployment.spec?.template.spec?.volumes?.into_iter();
        let names = volumes.filter_map(|volume| volume.secret?.secret_name);
        let of_builds = names.filter(|name| name.starts_with("secret-of-"));
        Some(of_builds.collect::<BTreeSet<String>>())
    };
    // What is left out is told before the Deployment is written.
    let mounted = stage
        .until(
            "the Secrets of all that have room are mounted",
            async || volumes().await.filter(|mounted| mounted.len() == 100),
        )
        .await;
    assert!(!mounted.contains("secret-of-second"));
    says(&stage, "old-99", "NotSeenYet").await;
    // What waits longest has the next place.
    let builds = stage.api::<ImageBuild>();
    builds
        .delete("old-7", &DeleteParams::default())
        .await
        .unwrap();
    says(&stage, "second", "NotSeenYet").await;
    assert_eq!(
        said(&stage, "third").await.unwrap().reason,
        "TooManySources"
    );
    let mounts = async || volumes().await?.contains("secret-of-second").then_some(());
    stage.until("its Secret is mounted", mounts).await;
    // Another Builder has room.
    let patch = json!({"spec": {"builderRef": {"name": "other"}}});
    builds
        .patch("third", &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
    stage
        .install(json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "other", "namespace": stage.namespace}, "spec": {}}))
        .await;
    says(&stage, "third", "NotSeenYet").await;
}
