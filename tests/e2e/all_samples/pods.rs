//! The samples' images as Pods.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};
use whittle_api::ImageBuildStatus;

use super::table::Does;
use crate::field::Field;

/// Runs the pushed digest as a Pod and sees it do what it is there for.
pub async fn run(field: &Field, name: &str, status: &ImageBuildStatus, does: Does) {
    let image = status.image.as_deref().unwrap();
    match does {
        Does::Prints(words) => prints(field, name, image, json!({}), words).await,
        Does::Answers(words) => {
            start(field, name, image, json!({})).await;
            let answer = answer(field, name).await;
            assert!(answer.contains(words), "{name} answers: {answer}");
            stop(field, name).await;
        }
    }
}

/// The Pod ends well, and each of these words stands in its log; `patch` is merged into its container.
pub async fn prints(field: &Field, name: &str, image: &str, patch: Value, words: &[&str]) {
    start(field, name, image, patch).await;
    let phase = field
        .until(&format!("Pod {name} has ended"), async || {
            let pod = field.api::<Pod>().get(name).await.unwrap();
            pod.status?
                .phase
                .filter(|p| p == "Succeeded" || p == "Failed")
        })
        .await;
    let log = field.log(name).await;
    assert_eq!(phase, "Succeeded", "{name}: {log}");
    for word in words {
        assert!(log.contains(word), "{name} prints: {log}");
    }
    stop(field, name).await;
}

/// A Pod of one container, called `main`.
pub async fn start(field: &Field, name: &str, image: &str, patch: Value) {
    let mut container = json!({"name": "main", "image": image});
    json_patch::merge(&mut container, &patch);
    let pod = json!({"metadata": {"name": name}, "spec": {
        "restartPolicy": "Never", "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1,
        "containers": [container]}});
    let pod = serde_json::from_value(pod).unwrap();
    field
        .api::<Pod>()
        .create(&PostParams::default(), &pod)
        .await
        .unwrap();
}

/// What it answers through the API server's proxy, once it does.
pub async fn answer(field: &Field, pod: &str) -> String {
    let path = format!(
        "/api/v1/namespaces/{}/pods/{pod}:8080/proxy/",
        field.namespace
    );
    field
        .until(&format!("{pod} answers"), async || {
            let request = http::Request::get(&path).body(vec![]).unwrap();
            field.client.request_text(request).await.ok()
        })
        .await
}

pub async fn stop(field: &Field, name: &str) {
    field
        .api::<Pod>()
        .delete(name, &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
}
