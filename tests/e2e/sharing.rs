//! Which builds share a daemon and its cache: `Builder.spec.sharing`.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;
use whittle_api::{Builder, ImageBuild};

use crate::field::{Field, registry};

/// Leaves a line with the build's name in a cache mount, and fails where it finds another than these there.
fn files(name: &str, allowed: &str) -> serde_json::Value {
    json!({"Dockerfile": format!("FROM busybox:1.36\nRUN --mount=type=cache,target=/c {{ ! grep -v -x -e '{allowed}' /c/names; }} 2>/dev/null \
        && echo {name} >> /c/names && sort -u /c/names > /found\n")})
}

async fn builder(field: &Field, sharing: &str) {
    field
        .create(json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "default"}, "spec": {
            "sharing": sharing, "cache": {"size": "1Gi"}, "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
            "registries": [{"host": registry(), "plainHTTP": true}, {"host": "docker.io", "mirrors": [registry()]}]}}))
        .await;
}

/// Names of the Builders that are made after the one that is named.
async fn own(field: &Field) -> Vec<String> {
    let params = ListParams::default().labels("whittle.dev/made-after=default");
    let all = field.api::<Builder>().list(&params).await.unwrap();
    all.iter().map(ResourceExt::name_any).collect()
}

async fn daemons(field: &Field) -> Vec<String> {
    let params = ListParams::default().labels("whittle.dev/component=builder");
    let all = field.api::<Pod>().list(&params).await.unwrap();
    all.iter().map(ResourceExt::name_any).collect()
}

#[tokio::test]
async fn image_builds_that_share_nothing_have_a_cache_each_that_goes_with_them() {
    let field = Field::new("own").await;
    builder(&field, "ImageBuild").await;
    for name in ["a", "b"] {
        field.build(name, files(name, name), json!({})).await;
    }
    for name in ["a", "b"] {
        field.succeeds(name).await;
    }
    let first = own(&field).await;
    assert_eq!(first.len(), 2, "{first:?}");
    assert_eq!(
        daemons(&field).await.len(),
        2,
        "the one that is named has none"
    );

    // Its own cache is there the next time.
    let again = json!({"Dockerfile": "FROM busybox:1.36\nRUN --mount=type=cache,target=/c grep -x a /c/names && echo again\n"});
    field.build("a", again, json!({})).await;
    field.succeeds("a").await;
    assert_eq!(own(&field).await, first);

    // What the Builder says holds for those made after it, from the next build on.
    let patch = Patch::Merge(json!({"spec": {"maxConcurrentBuilds": 1, "idleTimeout": "11m"}}));
    let builders = field.api::<Builder>();
    builders
        .patch("default", &PatchParams::default(), &patch)
        .await
        .unwrap();
    field
        .build("b", files("b", "b"), json!({"rebuild": "2"}))
        .await;
    field.succeeds("b").await;
    let followed = builders.list(&ListParams::default()).await.unwrap();
    assert!(
        followed
            .iter()
            .filter(|it| it.spec.idle_timeout == "11m")
            .count()
            >= 2
    );

    let builds = field.api::<ImageBuild>();
    builds.delete("a", &DeleteParams::default()).await.unwrap();
    field
        .until(
            "the builder of what was deleted, and its volume, are gone",
            async || {
                let claims = field
                    .api::<PersistentVolumeClaim>()
                    .list(&ListParams::default())
                    .await
                    .unwrap();
                (own(&field).await.len() == 1 && claims.items.len() == 1).then_some(())
            },
        )
        .await;
    field.close().await;
}

#[tokio::test]
async fn builds_that_share_nothing_begin_with_nothing_and_leave_nothing() {
    let field = Field::new("thrown").await;
    builder(&field, "Build").await;
    for round in ["1", "2"] {
        // Not even its own line of before.
        field
            .build("a", files("a", "nobody"), json!({"rebuild": round}))
            .await;
        field.succeeds("a").await;
        field
            .until("what it was built on is gone", async || {
                (own(&field).await.is_empty() && daemons(&field).await.is_empty()).then_some(())
            })
            .await;
    }
    let claims = field
        .api::<PersistentVolumeClaim>()
        .list(&ListParams::default())
        .await
        .unwrap();
    assert!(claims.items.is_empty(), "no volume is asked for");
    field.close().await;
}

#[tokio::test]
async fn image_builds_of_one_builder_share_its_cache_by_default() {
    let field = Field::new("shared").await;
    builder(&field, "Namespace").await;
    field.build("a", files("a", "a"), json!({})).await;
    field.succeeds("a").await;
    field.build("b", files("b", "a"), json!({})).await;
    field.succeeds("b").await;
    let seen = json!({"Dockerfile": "FROM busybox:1.36\nRUN --mount=type=cache,target=/c grep -x a /c/names && grep -x b /c/names\n"});
    field.build("c", seen, json!({})).await;
    field.succeeds("c").await;
    assert_eq!(daemons(&field).await.len(), 1);
    field.close().await;
}
