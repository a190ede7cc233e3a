//! What the controller and its Pods may do, and what deletion leaves.

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use whittle_api::{Builder, ImageBuild};

use crate::field::{Field, controllers};

#[tokio::test]
async fn the_controller_may_not_read_secrets_of_a_build() {
    let field = Field::new("cani").await;
    let reviews: Api<SubjectAccessReview> = Api::all(field.client.clone());
    for verb in ["get", "list", "watch"] {
        let review = json!({"spec": {
            "user": "system:serviceaccount:whittle-system:whittle",
            "resourceAttributes": {"verb": verb, "resource": "secrets", "namespace": field.namespace}}});
        let answer = reviews
            .create(
                &PostParams::default(),
                &serde_json::from_value(review).unwrap(),
            )
            .await
            .unwrap();
        assert!(!answer.status.unwrap().allowed, "{verb}");
    }
    field.close().await;
}

#[tokio::test]
async fn pods_have_no_token_and_all_but_the_builder_meet_the_restricted_level() {
    let field = Field::new("pods").await;
    field
        .build(
            "hello",
            json!({"Dockerfile": "FROM scratch\nCOPY a /a\n", "a": "b"}),
            json!({}),
        )
        .await;
    field.succeeds("hello").await;
    let pods = field
        .api::<Pod>()
        .list(&ListParams::default())
        .await
        .unwrap()
        .items;
    assert_eq!(pods.len(), 2);
    for pod in &pods {
        let spec = pod.spec.as_ref().unwrap();
        assert_eq!(
            spec.automount_service_account_token,
            Some(false),
            "{}",
            pod.name_any()
        );
        let tokens = spec
            .volumes
            .iter()
            .flatten()
            .filter(|volume| volume.projected.is_some())
            .count();
        assert_eq!(tokens, 0, "{}", pod.name_any());
    }
    let mut restricted: Vec<Pod> = pods
        .into_iter()
        .filter(|pod| pod.labels()["whittle.dev/component"] == "runner")
        .collect();
    let system: Api<Pod> = Api::namespaced(field.client.clone(), "whittle-system");
    restricted.extend(system.list(&controllers()).await.unwrap());
    assert!(restricted.len() >= 2);
    // The API server itself says whether they meet it.
    let namespaces: Api<Namespace> = Api::all(field.client.clone());
    let name = format!("{}-strict", field.namespace);
    let strict = json!({"metadata": {"name": name, "labels": {"whittle.dev/e2e": "true", "pod-security.kubernetes.io/enforce": "restricted"}}});
    namespaces
        .create(
            &PostParams::default(),
            &serde_json::from_value(strict).unwrap(),
        )
        .await
        .unwrap();
    let strict: Api<Pod> = Api::namespaced(field.client.clone(), &name);
    for pod in restricted {
        let mut spec = pod.spec.clone().unwrap();
        spec.node_name = None;
        spec.service_account_name = None;
        spec.service_account = None;
        spec.priority = None;
        spec.priority_class_name = None;
        let copy = Pod {
            metadata: kube::api::ObjectMeta {
                name: pod.metadata.name.clone(),
                ..Default::default()
            },
            spec: Some(spec),
            status: None,
        };
        let tried = field
            .until("the namespace has its account", async || {
                match strict
                    .create(
                        &PostParams {
                            dry_run: true,
                            ..Default::default()
                        },
                        &copy,
                    )
                    .await
                {
                    Err(kube::Error::Api(status))
                        if status.message.contains("service account")
                            || status.message.contains("serviceaccount") =>
                    {
                        None
                    }
                    other => Some(other),
                }
            })
            .await;
        tried.unwrap_or_else(|error| panic!("{}: {error}", pod.name_any()));
    }
    namespaces
        .delete(&name, &DeleteParams::background())
        .await
        .unwrap();
    field.close().await;
}

#[tokio::test]
async fn deleting_a_build_in_flight_takes_its_job_and_pod_and_leaves_the_cache() {
    let field = Field::new("delete").await;
    field
        .build(
            "hello",
            json!({"Dockerfile": "FROM busybox:1.36\nRUN sleep 600\n"}),
            json!({}),
        )
        .await;
    field.runner("hello", "Running").await;
    field
        .api::<ImageBuild>()
        .delete("hello", &DeleteParams::background())
        .await
        .unwrap();
    field
        .until("the Job and its Pod are gone", async || {
            let jobs = field
                .api::<Job>()
                .list(&ListParams::default())
                .await
                .unwrap()
                .items;
            let pods = field
                .api::<Pod>()
                .list(&ListParams::default().labels("whittle.dev/component=runner"))
                .await
                .unwrap()
                .items;
            (jobs.is_empty() && pods.is_empty()).then_some(())
        })
        .await;
    assert!(
        field
            .api::<Builder>()
            .get_opt("default")
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(
        field
            .api::<PersistentVolumeClaim>()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .len(),
        1
    );
    field.close().await;
}

#[tokio::test]
async fn an_unchanged_spec_is_not_built_again_and_its_image_is_the_same() {
    let field = Field::new("again").await;
    let files = json!({"Dockerfile": "FROM scratch\nCOPY a /a\n", "a": "b"});
    field.build("hello", files.clone(), json!({})).await;
    field.succeeds("hello").await;
    // A field that cannot change the image: the new generation is acknowledged, nothing is built.
    field.build("hello", files, json!({"retries": 1})).await;
    let status = field.succeeds("hello").await;
    assert_eq!(
        (status.build, status.observed_generation),
        (Some(1), Some(2))
    );
    assert_eq!(field.jobs("hello").await.len(), 1);
    field.request("hello").await;
    let status = field.succeeds_again("hello", 2).await;
    assert_eq!(
        status.steps.unwrap().cached,
        status.steps.unwrap().total,
        "all of it was in the cache"
    );
    field.close().await;
}
