//! Tags go back to the image of an earlier build, in a real registry.

use serde_json::{Value, json};
use whittle_api::{ImageBuildStatus, find};

use crate::field::Field;
use crate::registry::manifest;

fn files(word: &str) -> Value {
    json!({"Dockerfile": format!("FROM busybox:1.36\nRUN echo {word} >/word\n")})
}

fn change(word: &str) -> Value {
    json!({"spec": {"source": {"inline": {"files": files(word)}}}})
}

async fn tagged(field: &Field, tag: &str) -> String {
    manifest(&field.image("hello"), tag).await.0
}

#[tokio::test]
async fn tags_go_back_and_the_next_change_moves_them_forward() {
    let field = Field::new("rollback").await;
    let more = json!({"output": {"tags": ["latest", "build-$(BUILD_NUMBER)"]}, "debug": {"image": "busybox:1.36"}});
    field.build("hello", files("one"), more).await;
    let first = field.succeeds("hello").await;
    field.change("hello", change("two")).await;
    let second = field.succeeds_again("hello", 2).await;
    let digest = |status: &ImageBuildStatus| status.digest.clone().unwrap();
    assert_ne!(digest(&first), digest(&second));
    assert_eq!(tagged(&field, "latest").await, digest(&second));

    let back = field.whittle(&["rollback", "hello", "--wait"]).await;
    let out = back.ends(0);
    assert!(
        out.contains("hello: a rollback to build 1 is requested\n"),
        "{out}"
    );
    assert!(out.contains("hello: rolled back to build 1: "), "{out}");
    let status = field.ready("hello", "True", "RolledBack").await;
    assert_eq!(digest(&status), digest(&first));
    assert_eq!(tagged(&field, "latest").await, digest(&first));
    assert_eq!(tagged(&field, "build-1").await, digest(&first));
    assert_eq!(tagged(&field, "build-2").await, digest(&second));
    assert_eq!(
        tagged(&field, "latest-debug").await,
        first.debug.clone().unwrap().digest
    );
    assert_eq!((status.build, status.size), (Some(3), first.size));
    assert_eq!(status.platforms[0].digest, first.platforms[0].digest);
    let contents = |it: &ImageBuildStatus| it.platforms[0].contents.clone().unwrap().largest;
    assert_eq!(
        contents(&status),
        contents(&first),
        "what it holds was read again"
    );
    let contract = find(&status.conditions, "Contract").unwrap();
    assert_eq!(contract.status, "Unknown");
    let history = field.whittle(&["history", "hello"]).await;
    let row = history.ends(0).lines().nth(1).unwrap();
    assert!(
        row.starts_with("3 ") && row.contains("Succeeded, back to 1"),
        "{row}"
    );
    let log = field.whittle(&["logs", "hello"]).await;
    assert!(
        log.ends(0).contains(&format!("@{} latest", digest(&first))),
        "{log:?}"
    );

    // Who asks for what there is not is told what there is.
    let none = field.whittle(&["rollback", "hello", "--to", "7"]).await;
    let why = none.fails(3);
    assert!(
        why.contains("build 7 is not in status.history: these can be gone back to: 3, 2, 1"),
        "{why}"
    );

    field.change("hello", change("three")).await;
    let third = field.succeeds_again("hello", 4).await;
    assert_eq!(tagged(&field, "latest").await, digest(&third));

    // Its image lies in another repository: no tag moves, and all stays as it is.
    let elsewhere = json!({"spec": {"output": {"image": field.image("other")}}});
    field.change("hello", elsewhere).await;
    let fifth = field.succeeds_again("hello", 5).await;
    let gone = field
        .whittle(&["rollback", "hello", "--to", "2", "--wait"])
        .await;
    let why = gone.fails(1);
    assert!(
        why.contains("rollback to build 2 failed: image not found: "),
        "{why}"
    );
    let status = field.ready("hello", "True", "Succeeded").await;
    assert_eq!(digest(&status), digest(&fifth));
    assert_eq!(status.history[0].result, "ImageNotFound");
    assert_eq!(
        manifest(&field.image("other"), "latest").await.0,
        digest(&fifth)
    );
    field.close().await;
}
