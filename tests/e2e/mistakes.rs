//! Bad input: each is told with its reason, nothing hangs, and mending it heals.

use serde_json::json;
use whittle_api::FailureReason::*;

use crate::field::{Field, Repository};
use crate::registry;

const SCRATCH: &str = "FROM scratch\nCOPY a /a\n";

#[tokio::test]
async fn a_missing_secret_is_named_and_its_build_goes_on_when_it_appears() {
    let field = Field::new("secret").await;
    let files = json!({"Dockerfile": SCRATCH, "a": "b"});
    let output = json!({"output": {"secretRef": {"name": "push"}}});
    field.build("push", files.clone(), output).await;
    let secrets =
        json!({"secrets": [{"id": "token", "secretRef": {"name": "token", "key": "value"}}]});
    field.build("token", files.clone(), secrets).await;
    for name in ["push", "token"] {
        let status = field.ready(name, "False", "SecretNotFound").await;
        let message = &whittle_api::find(&status.conditions, "Ready")
            .unwrap()
            .message;
        assert!(
            message.contains(&format!("Secret {name} not found")),
            "{message}"
        );
    }
    field
        .create(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "push"}, "type": "kubernetes.io/dockerconfigjson",
            "stringData": {".dockerconfigjson": "{\"auths\": {}}"}}))
        .await;
    field.create(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "token"}, "stringData": {"other": "x"}})).await;
    field.succeeds("push").await;
    field
        .until("the missing key is named", async || {
            let status = field
                .api::<whittle_api::ImageBuild>()
                .get("token")
                .await
                .unwrap()
                .status?;
            whittle_api::find(&status.conditions, "Ready")
                .filter(|c| c.message.contains("key value not found in the Secret"))
                .map(drop)
        })
        .await;
    field.create(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "token"}, "stringData": {"value": "x"}})).await;
    field.succeeds("token").await;
    for name in ["push", "token"] {
        assert_eq!(field.jobs(name).await.len(), 1, "{name} is built once");
    }
    field.close().await;
}

#[tokio::test]
async fn a_git_repository_or_branch_that_does_not_exist_is_named() {
    let field = Field::new("git").await;
    let repository = Repository::new(&field.namespace);
    let commit = repository.commit(&[("Dockerfile", SCRATCH), ("a", "b")], "refs/heads/main");
    let elsewhere = repository.url.replace(".git", "-nowhere.git");
    field
        .apply("repository", json!({"git": {"url": elsewhere}}), json!({}))
        .await;
    field
        .apply(
            "branch",
            json!({"git": {"url": repository.url, "ref": {"branch": "nosuch"}}}),
            json!({}),
        )
        .await;
    let failure = field.fails("repository", SourceNotFound).await;
    assert!(
        failure.message.contains("-nowhere.git"),
        "{}",
        failure.message
    );
    let failure = field.fails("branch", SourceNotFound).await;
    assert!(failure.message.contains("nosuch"), "{}", failure.message);
    field
        .apply(
            "branch",
            json!({"git": {"url": repository.url, "ref": {"branch": "main"}}}),
            json!({}),
        )
        .await;
    let status = field.succeeds("branch").await;
    assert_eq!(status.revision.unwrap(), format!("main@sha1:{commit}"));
    field.close().await;
}

#[tokio::test]
async fn a_mistake_in_the_dockerfile_is_told_with_its_line() {
    let field = Field::new("dockerfile").await;
    let build = async |name: &str, dockerfile: &str, patch: serde_json::Value| {
        field
            .build(name, json!({"Dockerfile": dockerfile, "a": "b"}), patch)
            .await;
    };
    let run = "FROM busybox:1.36\nCOPY a /a\nRUN echo before the fall; echo and then; exit 3\n";
    build("step", run, json!({})).await;
    build("nofile", SCRATCH, json!({"dockerfile": "build/Dockerfile"})).await;
    build("copy", "FROM scratch\nCOPY nosuch /a\n", json!({})).await;
    build(
        "stage",
        "FROM scratch AS build\nCOPY a /a\nFROM scratch AS runtime\nCOPY a /a\n",
        json!({"target": "runtme"}),
    )
    .await;
    build("base", "FROM nosuch/image:1\nCOPY a /a\n", json!({})).await;
    build("syntax", "FROM scratch\nCOPPY a /a\n", json!({})).await;

    let failure = field.fails("step", StepFailed).await;
    assert_eq!(failure.dockerfile_line, Some(3), "{failure:#?}");
    assert!(
        failure
            .step
            .as_deref()
            .unwrap_or_default()
            .contains("RUN echo before the fall"),
        "{failure:#?}"
    );
    assert!(
        failure
            .log
            .as_deref()
            .unwrap_or_default()
            .contains("before the fall"),
        "{failure:#?}"
    );
    assert!(
        failure.message.contains('3'),
        "the exit code is told: {}",
        failure.message
    );
    field.fails("nofile", DockerfileNotFound).await;
    let failure = field.fails("copy", CopySourceNotFound).await;
    assert!(failure.message.contains("nosuch"), "{}", failure.message);
    assert_eq!(failure.dockerfile_line, Some(2));
    let failure = field.fails("stage", StageNotFound).await;
    assert!(
        failure.message.contains("runtme") && failure.message.contains("runtime"),
        "{}",
        failure.message
    );
    let failure = field.fails("base", BaseImageNotFound).await;
    assert!(
        failure.message.contains("nosuch/image"),
        "{}",
        failure.message
    );
    let failure = field.fails("syntax", DockerfileSyntax).await;
    assert_eq!(failure.dockerfile_line, Some(2), "{failure:#?}");

    build(
        "step",
        "FROM busybox:1.36\nCOPY a /a\nRUN echo fine\n",
        json!({}),
    )
    .await;
    field.succeeds("step").await;
    field.close().await;
}

#[tokio::test]
async fn a_registry_that_refuses_is_told_once_and_the_credentials_heal_it() {
    let field = Field::new("refuses").await;
    let host = registry::second(&field, true, true).await;
    let image = json!({"output": {"image": format!("{host}/team/hello")}});
    let files = json!({"Dockerfile": SCRATCH, "a": "b"});
    field.build("hello", files.clone(), image.clone()).await;
    // The registry may still be starting: then the push is tried again before it is refused.
    let status = field.ready("hello", "False", "PushDenied").await;
    let failure = status.failure.unwrap();
    assert!(failure.message.contains(&host), "{}", failure.message);
    registry::credentials(&field, &host).await;
    let mut with_secret = image;
    with_secret["output"]["secretRef"] = json!({"name": "registry-credentials"});
    field.build("hello", files, with_secret).await;
    field.succeeds("hello").await;
    field.close().await;
}

#[tokio::test]
async fn a_registry_that_is_away_is_waited_for() {
    let field = Field::new("away").await;
    let host = registry::second(&field, false, false).await;
    let image = json!({"output": {"image": format!("{host}/team/hello")}, "retries": 5});
    field
        .build("hello", json!({"Dockerfile": SCRATCH, "a": "b"}), image)
        .await;
    field
        .until("the attempt meets the absent registry", async || {
            let status = field
                .api::<whittle_api::ImageBuild>()
                .get("hello")
                .await
                .unwrap()
                .status?;
            let told = serde_json::to_string(&status.current).unwrap();
            let log = match field.jobs("hello").await.first() {
                Some(_) => {
                    field
                        .log(&kube::ResourceExt::name_any(
                            &field.runner_any("hello").await?,
                        ))
                        .await
                }
                None => return None,
            };
            (told.contains("PushFailed") || log.contains("refused") || log.contains("no route"))
                .then_some(())
        })
        .await;
    registry::second(&field, true, false).await;
    let status = field.succeeds("hello").await;
    assert_eq!(
        status.history.len(),
        1,
        "it is one build, whatever the number of attempts"
    );
    field.close().await;
}

#[tokio::test]
async fn a_build_that_takes_too_long_is_ended() {
    let field = Field::new("timeout").await;
    let dockerfile = "FROM busybox:1.36\nRUN sleep 600\n";
    field
        .build(
            "slow",
            json!({"Dockerfile": dockerfile}),
            json!({"timeout": "20s"}),
        )
        .await;
    let failure = field.fails("slow", Timeout).await;
    assert!(
        failure.message.contains("spec.timeout"),
        "{}",
        failure.message
    );
    field.close().await;
}
