//! A watcher that cannot start is told with its cause, comes back by itself, and what came meanwhile is built once.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Pod, Secret};
use kube::api::{DeleteParams, ListParams};
use serde_json::json;
use whittle_api::{Builder, ImageBuildStatus, TRIGGERS, TriggerReason, find};

use crate::field::{Field, Repository};

const COPY: &str = "FROM scratch\nCOPY . /src/\n";
const WATCHER: &str = "whittle-builder-default-watcher";

/// What is said of its triggers, once it is this.
async fn says(field: &Field, reason: &str) -> String {
    field
        .until(&format!("the triggers are {reason}"), async || {
            let build = field.api::<whittle_api::ImageBuild>().get("hello").await;
            let status: ImageBuildStatus = build.unwrap().status?;
            let told = find(&status.conditions, TRIGGERS)?;
            (told.reason == reason).then(|| told.message.clone())
        })
        .await
}

#[tokio::test]
async fn a_watcher_whose_secret_is_gone_is_told_and_comes_back_and_the_commit_in_between_is_built_once()
 {
    let mut field = Field::new("silent").await;
    // Three minutes without a word, and the two that a kubelet may wait before it mounts again.
    field.patience = Duration::from_secs(480);
    let repository = Repository::new(&field.namespace);
    repository.commit(&[("Dockerfile", COPY), ("text", "one")], "refs/heads/main");
    let source = json!({"git": {"url": repository.url, "ref": {"branch": "main"}}});
    let polled = json!({"triggers": {"poll": {"interval": "10s"}}});
    field.apply("hello", source, polled).await;
    field.succeeds("hello").await;
    says(&field, "TriggersWork").await;
    // What the runner tells last has the Builder looked at, and with that the Secret made again: that is over.
    field
        .until("the builder's cache is told", async || {
            let builder = field.api::<Builder>().get("default").await.unwrap();
            builder.status?.cache
        })
        .await;

    let now = DeleteParams::default();
    let secrets = field.api::<Secret>();
    secrets.delete(WATCHER, &now).await.unwrap();
    let watchers = ListParams::default().labels("whittle.dev/component=watcher");
    let pods = field.api::<Pod>();
    for pod in pods.list(&watchers).await.unwrap() {
        let name = pod.metadata.name.unwrap();
        pods.delete(&name, &now).await.unwrap();
    }
    let second = repository.commit(&[("text", "two")], "refs/heads/main");
    let message = says(&field, "WatcherSilent").await;
    for words in [
        "watcher of Builder default has not reported for more than 3m",
        &format!("Secret {WATCHER} not found"),
        "kubectl describe pod",
    ] {
        assert!(message.contains(words), "{message}");
    }
    field
        .until("the Builder has an Event that says so", async || {
            let of = "involvedObject.kind=Builder,reason=WatcherSilent";
            let events = field.api::<Event>();
            let events = events.list(&ListParams::default().fields(of)).await;
            let mut events = events.unwrap().items.into_iter();
            events
                .any(|event| event.message.is_some_and(|said| said.contains(WATCHER)))
                .then_some(())
        })
        .await;
    // Its Secret is created again by itself.
    says(&field, "TriggersWork").await;
    let status = field.succeeds_again("hello", 2).await;
    let revision = format!("main@sha1:{second}");
    assert_eq!(status.revision.as_ref(), Some(&revision));
    assert_eq!(status.trigger.unwrap().reason, TriggerReason::Commit);
    let third = repository.commit(&[("text", "three")], "refs/heads/main");
    let status = field.succeeds_again("hello", 3).await;
    assert_eq!(status.revision, Some(format!("main@sha1:{third}")));
    field.close().await;
}
