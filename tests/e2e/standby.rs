//! Runners that wait for the next build of their ImageBuild: `Builder.spec.standby`.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;
use whittle_api::Builder;

use crate::field::{Field, registry};

/// The Pod that waits for this build of an ImageBuild, once it runs and its runner has said that it waits.
async fn waits(field: &Field, name: &str, build: i64) -> Pod {
    let params = ListParams::default().labels("whittle.dev/standby");
    let number = build.to_string();
    field
        .until(
            &format!("a runner waits for build {build} of {name}"),
            async || {
                let pods = field.api::<Pod>().list(&params).await.unwrap();
                let pod = pods.into_iter().find(|pod| {
                    let has = |key: &str, value: &str| {
                        pod.annotations().get(key).is_some_and(|it| it == value)
                    };
                    has("whittle.dev/imagebuild", name) && has("whittle.dev/build", &number)
                })?;
                let phase = pod.status.as_ref()?.phase.as_deref()?;
                let log = match phase {
                    "Running" => field.log(&pod.name_any()).await,
                    _ => String::new(),
                };
                log.contains("waiting for the next build").then_some(pod)
            },
        )
        .await
}

fn job_of(pod: &Pod) -> String {
    pod.owner_references()[0].name.clone()
}

#[tokio::test]
async fn an_unchanged_build_takes_the_pod_that_waits_and_each_image_build_has_its_own() {
    let field = Field::new("standby").await;
    field
        .create(json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "default"}, "spec": {
            "standby": 2, "cache": {"size": "1Gi"}, "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
            "registries": [{"host": registry(), "plainHTTP": true}, {"host": "docker.io", "mirrors": [registry()]}]}}))
        .await;
    let files = json!({"Dockerfile": "FROM busybox:1.36\nRUN --mount=type=secret,id=token test -s /run/secrets/token\n"});
    field
        .create(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "token"}, "stringData": {"value": "of-the-namespace"}}))
        .await;
    let secrets =
        json!({"secrets": [{"id": "token", "secretRef": {"name": "token", "key": "value"}}]});
    for name in ["a", "b"] {
        field.build(name, files.clone(), secrets.clone()).await;
        field.succeeds(name).await;
    }
    let (of_a, of_b) = (waits(&field, "a", 2).await, waits(&field, "b", 2).await);
    assert_ne!(job_of(&of_a), job_of(&of_b));
    // The second build begins in the Pod that waits, and not before it is connected.
    let mut number = 2;
    loop {
        let pod = waits(&field, "a", number).await;
        field.request("a").await;
        let status = field.succeeds_again("a", number).await;
        if status.history[0].job == Some(job_of(&pod)) {
            break;
        }
        // It had just begun to wait.
        number += 1;
        assert!(number < 6, "no build was carried out by one that waits");
    }
    // That of the other one waits still, and the next one of this one has another.
    let after = waits(&field, "b", 2).await;
    assert_eq!(after.uid(), of_b.uid());
    let next = waits(&field, "a", number + 1).await;
    let log = field.log(&next.name_any()).await;
    assert!(!log.contains("begins"), "{log}");

    let builders = field.api::<Builder>();
    builders
        .delete("default", &DeleteParams::default())
        .await
        .unwrap();
    let waiting = [job_of(&next), job_of(&of_b)];
    field
        .until("nothing waits, and nothing is left of it", async || {
            for job in &waiting {
                let found = field.api::<Job>().get_opt(job).await.unwrap();
                let map = field.api::<ConfigMap>().get_opt(job).await.unwrap();
                if found.is_some() || map.is_some() {
                    return None;
                }
            }
            let params = ListParams::default().labels("whittle.dev/standby");
            let pods = field.api::<Pod>().list(&params).await.unwrap();
            pods.iter()
                .all(|pod| !waiting.contains(&job_of(pod)))
                .then_some(())
        })
        .await;
    field.close().await;
}
