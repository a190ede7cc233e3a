//! A Builder of two replicas: each repository builds on its own one, again and again, and finds its cache there.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};
use whittle_api::{Builder, ImageBuild, ImageBuildStatus};
use whittle_controller::placement::{key, preference};

use crate::field::{Field, Repository, registry};

const FIRST: &str =
    "FROM busybox:1.36\nRUN sleep 8 && head -c 64 /dev/urandom > /made-once\nCOPY name.txt /\n";

fn source(repository: &Repository) -> Value {
    json!({"git": {"url": repository.url}})
}

/// The replica that builds of this repository prefer.
fn home(repository: &Repository) -> i32 {
    let spec = json!({"source": source(repository), "output": {"image": "r.example.com/a"}});
    let build = ImageBuild::new("a", serde_json::from_value(spec).unwrap());
    preference(&key(&build), 0..2)[0]
}

/// A repository whose builds prefer this replica.
fn at_home_on(field: &Field, replica: i32) -> Repository {
    let name = |n| format!("{}-{replica}-{n}", field.namespace);
    let mut all = (0..).map(|n| Repository::new(&name(n)));
    all.find(|it| home(it) == replica).unwrap()
}

async fn told(field: &Field, name: &str) -> ImageBuildStatus {
    let build = field.api::<ImageBuild>().get(name).await.unwrap();
    build.status.unwrap_or_default()
}

#[tokio::test]
async fn two_repositories_build_side_by_side_and_find_their_caches_where_they_were() {
    let field = Field::new("replicas").await;
    field
        .create(json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "default"}, "spec": {
            "replicas": 2, "maxConcurrentBuilds": 1, "cache": {"size": "1Gi"}, "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
            "registries": [{"host": registry(), "plainHTTP": true}, {"host": "docker.io", "mirrors": [registry()]}]}}))
        .await;
    let builders = field.api::<Builder>();
    field
        .until("both replicas take builds", async || {
            let status = builders.get("default").await.unwrap().status?;
            (status.replicas?.ready == 2).then_some(())
        })
        .await;
    let repositories = [0, 1].map(|replica| at_home_on(&field, replica));
    let commit = |replica: usize, name: &str| {
        let dockerfile = format!("{FIRST}# of {replica}\n");
        let files = [("Dockerfile", dockerfile.as_str()), ("name.txt", name)];
        repositories[replica].commit(&files, "refs/heads/main")
    };
    let names = ["zero", "one"];
    for (replica, name) in names.into_iter().enumerate() {
        commit(replica, "first");
        field
            .apply(name, source(&repositories[replica]), json!({}))
            .await;
    }
    field
        .until(
            "both run at the same time, each on its own replica",
            async || {
                let mut on = vec![];
                for name in names {
                    on.extend(told(&field, name).await.current?.replica);
                }
                (on == [0, 1]).then_some(())
            },
        )
        .await;
    let mut before = vec![];
    for name in names {
        before.push(field.succeeds(name).await);
    }
    for (replica, name) in names.into_iter().enumerate() {
        commit(replica, "second");
        field
            .apply(
                name,
                source(&repositories[replica]),
                json!({"rebuild": "2"}),
            )
            .await;
        let status = field.succeeds_again(name, 2).await;
        let on: Vec<_> = status.history.iter().map(|it| it.replica).collect();
        let home = i32::try_from(replica).ok();
        assert_eq!(on, [home, home], "{name}");
        // What was made at random came from the cache of that replica.
        let steps = status.steps.unwrap();
        let first = before[replica].steps.unwrap();
        assert!(
            steps.cached > first.cached,
            "{name}: {first:?}, then {steps:?}"
        );
        assert_ne!(status.digest, before[replica].digest);
    }
    let daemons = ListParams::default().labels("whittle.dev/component=builder");
    let pods = field.api::<Pod>().list(&daemons).await.unwrap();
    let mut pods: Vec<_> = pods.iter().map(ResourceExt::name_any).collect();
    pods.sort();
    assert_eq!(
        pods,
        ["whittle-builder-default-0", "whittle-builder-default-1"]
    );
    field.close().await;
}
