//! What starts a build besides people, and what ends one: a commit that is seen, a schedule, the annotation
//! whittle.dev/cancel.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use whittle_api::{ImageBuild, ImageBuildStatus, TRIGGERS, TriggerReason, find};

use crate::faults::{arguments_of, processes_of};
use crate::field::{Field, Repository, variable};
use crate::registry::files_of;

const COPY: &str = "FROM scratch\nCOPY . /src/\n";

impl Field {
    async fn annotate(&self, name: &str, annotation: &str, value: Value) {
        let patch = json!({"metadata": {"annotations": {annotation: value}}});
        self.change(name, patch).await;
    }

    async fn change(&self, name: &str, patch: Value) {
        self.api::<ImageBuild>()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }

    async fn status(&self, name: &str) -> ImageBuildStatus {
        let build = self.api::<ImageBuild>().get(name).await.unwrap();
        build.status.unwrap_or_default()
    }

    /// What the condition of the triggers says, once it says this.
    async fn triggers(&self, name: &str, reason: &str) -> String {
        self.until(
            &format!("the triggers of {name} are {reason}"),
            async || {
                let status = self.status(name).await;
                let told = find(&status.conditions, TRIGGERS)?;
                (told.reason == reason).then(|| told.message.clone())
            },
        )
        .await
    }
}

fn watcher() -> &'static str {
    "whittle-builder-default-watcher"
}

#[tokio::test]
async fn a_commit_to_a_private_repository_is_seen_and_built_and_the_watcher_goes_with_the_trigger()
{
    let field = Field::new("poll").await;
    let password = std::fs::read_to_string(variable("GIT_PASSWORD_FILE")).unwrap();
    field
        .create(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "git"}, "type": "kubernetes.io/basic-auth",
            "stringData": {"username": variable("GIT_USER"), "password": password.trim()}}))
        .await;
    let repository = Repository::new(&format!("private/{}", field.namespace));
    let first = repository.commit(&[("Dockerfile", COPY), ("text", "one")], "refs/heads/main");
    let source = json!({"git": {"url": repository.url, "ref": {"branch": "main"}, "secretRef": {"name": "git"}}});
    let polled = json!({"triggers": {"poll": {"interval": "10s"}}});
    field.apply("hello", source.clone(), polled).await;
    // One whose branch does not exist yet says so, and is built once it does.
    let mut other = source;
    other["git"]["ref"] = json!({"branch": "next"});
    let patch = json!({"triggers": {"poll": {"interval": "10s"}}, "suspend": true});
    field.apply("next", other, patch).await;
    let status = field.succeeds("hello").await;
    assert_eq!(status.revision.unwrap(), format!("main@sha1:{first}"));
    assert_eq!(status.trigger.unwrap().reason, TriggerReason::Spec);
    field.triggers("hello", "TriggersWork").await;
    let said = field.triggers("next", "SourceNotFound").await;
    assert!(
        said.contains("next") && said.contains(&repository.url),
        "{said}"
    );

    let second = repository.commit(&[("text", "two")], "refs/heads/main");
    let status = field.succeeds_again("hello", 2).await;
    let revision = format!("main@sha1:{second}");
    assert_eq!(status.revision.as_deref(), Some(revision.as_str()));
    let trigger = status.trigger.unwrap();
    assert_eq!(
        (trigger.reason, trigger.detail),
        (TriggerReason::Commit, revision)
    );
    let files = files_of(&field.image("hello"), &status.digest.unwrap()).await;
    assert_eq!(files["src/text"], b"two");
    // Asked for once more: the same image, whose tags are not written again.
    field.request("hello").await;
    let status = field.succeeds_again("hello", 3).await;
    assert_eq!(status.trigger.unwrap().reason, TriggerReason::Request);
    assert!(status.history[0].unchanged && !status.history[1].unchanged);
    repository.commit(&[("text", "three")], "refs/heads/next");
    field.triggers("next", "TriggersWork").await;
    field
        .change("next", json!({"spec": {"suspend": false}}))
        .await;
    field.succeeds("next").await;
    // Looked at again and again, and built no more.
    assert_eq!(field.status("hello").await.build, Some(3));

    let deployments = field.api::<Deployment>();
    let pod = deployments
        .get(watcher())
        .await
        .unwrap()
        .spec
        .unwrap()
        .template
        .spec
        .unwrap();
    assert_eq!(pod.automount_service_account_token, Some(false));
    let mounted = pod
        .volumes
        .unwrap()
        .into_iter()
        .filter_map(|it| it.secret?.secret_name);
    let mounted: Vec<String> = mounted.collect();
    assert_eq!(
        mounted,
        ["whittle-builder-default-client", watcher(), "git"]
    );
    for name in ["hello", "next"] {
        field
            .change(name, json!({"spec": {"triggers": null}}))
            .await;
    }
    field
        .until("the watcher has gone, and its Secret", async || {
            let gone = deployments.get_opt(watcher()).await.unwrap().is_none();
            let secret = field.api::<Secret>().get_opt(watcher()).await.unwrap();
            (gone && secret.is_none()).then_some(())
        })
        .await;
    field.close().await;
}

#[tokio::test]
async fn a_build_that_is_canceled_ends_its_step_and_the_next_request_builds_again() {
    let field = Field::new("cancel").await;
    let base = "busybox:1.36";
    let slow = format!("FROM {base}\nARG SECONDS=987\nRUN sleep $SECONDS\n");
    field
        .build("slow", json!({"Dockerfile": slow}), json!({}))
        .await;
    field.step_runs("slow", "sleep").await;
    let daemon = field.api::<k8s_openapi::api::core::v1::Pod>();
    let daemon = daemon
        .get("whittle-builder-default-0")
        .await
        .unwrap()
        .metadata
        .uid
        .unwrap();
    let sleeps = || {
        let mut processes = processes_of(&daemon).into_iter();
        processes.any(|it| arguments_of(it).nth(1).as_deref() == Some("987"))
    };
    field
        .until("the step's process runs", async || sleeps().then_some(()))
        .await;
    field
        .annotate("slow", "whittle.dev/cancel", json!("1"))
        .await;
    let status = field.ready("slow", "False", "Canceled").await;
    assert_eq!(status.history[0].result, "Canceled");
    assert_eq!(status.digest, None);
    field
        .until("the step's process has gone", async || {
            (!sleeps()).then_some(())
        })
        .await;
    field
        .change("slow", json!({"spec": {"buildArgs": {"SECONDS": "0"}}}))
        .await;
    let status = field.succeeds_again("slow", 2).await;
    assert_eq!(status.trigger.unwrap().reason, TriggerReason::Spec);
    field.close().await;
}
