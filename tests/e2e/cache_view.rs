//! What a Builder's cache holds is seen, mounts that stay empty are told, and layers travel by a registry.

use std::time::Duration;

use serde_json::{Value, json};
use whittle_api::{Builder, CacheStatus, ImageBuildStatus, find};

use crate::field::{Field, registry};

fn files(steps: &str) -> Value {
    json!({"Dockerfile": format!("FROM busybox:1.36\n{steps}")})
}

fn advice(status: &ImageBuildStatus) -> String {
    let condition = find(&status.conditions, "Advice").expect("the condition is there");
    condition.message.clone()
}

async fn cache(field: &Field, what: &str, is: impl Fn(&CacheStatus) -> bool) -> CacheStatus {
    let builders = field.api::<Builder>();
    field
        .until(what, async || {
            let builder = builders.get("default").await.unwrap();
            builder.status?.cache.filter(&is)
        })
        .await
}

#[tokio::test]
async fn a_builder_says_what_its_cache_holds_and_a_mount_that_stays_empty_is_told_until_it_fills() {
    let field = Field::new("cacheview").await;
    let steps = |npm: &str| {
        files(&format!(
            "RUN --mount=type=cache,id=few,target=/few echo a > /few/a\n\
             RUN --mount=type=cache,target=/full dd if=/dev/urandom of=/full/x bs=1024 count=3000\n\
             RUN --mount=type=cache,target=/root/.npm {npm}\n"
        ))
    };
    field
        .build("hello", steps("mkdir -p /home/app/.npm"), json!({}))
        .await;
    let told = advice(&field.succeeds("hello").await);
    let empty: Vec<&str> = told
        .lines()
        .filter(|line| line.contains("is still empty"))
        .collect();
    assert_eq!(empty.len(), 1, "{told}");
    assert!(
        empty[0].starts_with("Dockerfile:4: the cache mount /root/.npm is still empty"),
        "{told}"
    );

    let seen = cache(&field, "the cache is told", |_| true).await;
    let mount = |id: &str| seen.mounts.iter().find(|mount| mount.id == id).unwrap();
    assert!(
        (3_000_000..4_000_000).contains(&mount("/full").bytes),
        "{seen:#?}"
    );
    assert!(mount("/root/.npm").empty && !mount("/full").empty && !mount("few").empty);
    assert_eq!(mount("few").target, "/few");
    assert_eq!(mount("few").step, "/bin/sh -c echo a > /few/a");
    assert_eq!(mount("few").hits, 1);
    assert!(mount("few").last_used.is_some());
    let kinds = &seen.by_kind;
    assert!(
        kinds.cache_mounts > 3_000_000 && kinds.layers > 1_000_000,
        "{seen:#?}"
    );
    let sum = kinds.layers + kinds.cache_mounts + kinds.sources + kinds.other;
    assert_eq!(seen.bytes, sum);

    // Once the step fills it, nothing is said any more.
    field
        .build(
            "hello",
            steps("dd if=/dev/urandom of=/root/.npm/x bs=1024 count=3000"),
            json!({}),
        )
        .await;
    let told = advice(&field.succeeds_again("hello", 2).await);
    assert!(!told.contains("is still empty"), "{told}");
    cache(
        &field,
        "the mount that fills is seen, a minute later",
        |seen| {
            let mut mounts = seen.mounts.iter();
            mounts.any(|mount| mount.id == "/root/.npm" && mount.bytes > 3_000_000)
        },
    )
    .await;
    field.close().await;
}

#[tokio::test]
async fn a_cache_is_not_measured_while_a_step_of_another_build_may_need_a_mount_of_it() {
    let field = Field::new("cachebusy").await;
    let long = files("RUN --mount=type=cache,target=/c sleep 60\n");
    field.build("long", long, json!({})).await;
    field.step_runs("long", "sleep 60").await;
    field
        .build("short", files("RUN echo short\n"), json!({}))
        .await;
    field.succeeds("short").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let builder = field.api::<Builder>().get("default").await.unwrap();
    assert_eq!(builder.status.unwrap().cache, None);
    field.succeeds("long").await;
    cache(&field, "the last build that ran measures", |_| true).await;
    field.close().await;
}

/// A Builder of which each attempt has one of its own, with this registry for layers.
async fn thrown_away(field: &Field, image: &str) {
    field
        .create(json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "default"}, "spec": {
            "sharing": "Build", "cache": {"size": "1Gi", "registry": {"image": image}},
            "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
            "registries": [{"host": registry(), "plainHTTP": true}, {"host": "docker.io", "mirrors": [registry()]}]}}))
        .await;
}

#[tokio::test]
async fn layers_travel_by_a_registry_to_a_builder_that_has_nothing_and_cache_mounts_do_not() {
    let field = Field::new("travels").await;
    thrown_away(&field, &field.image("layers")).await;
    let source = |last: &str| {
        files(&format!(
            "RUN --mount=type=cache,target=/c date > /c/when && cat /c/when > /when\n\
             RUN --mount=type=cache,target=/c {last}\n"
        ))
    };
    field
        .build("hello", source("test -e /c/when"), json!({}))
        .await;
    let first = field.succeeds("hello").await;
    assert_eq!(first.steps.unwrap().cached, 0, "nothing was there");
    assert!(
        !advice(&first).contains("cache.registry"),
        "{}",
        advice(&first)
    );

    field
        .build("hello", source("! test -e /c/when"), json!({}))
        .await;
    let second = field.succeeds_again("hello", 2).await;
    let steps = second.steps.unwrap();
    assert!(steps.cached > 0 && steps.cached < steps.total, "{steps:?}");
    field.close().await;
}

#[tokio::test]
async fn a_registry_for_layers_that_is_away_fails_no_build_and_is_told() {
    let field = Field::new("nolayers").await;
    thrown_away(&field, "no-such-registry.invalid/layers").await;
    field.build("hello", files("RUN true\n"), json!({})).await;
    let told = advice(&field.succeeds("hello").await);
    assert!(
        told.contains("layers cannot be exported to no-such-registry.invalid/layers"),
        "{told}"
    );
    field.close().await;
}
