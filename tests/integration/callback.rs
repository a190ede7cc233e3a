//! The runner's word, over mutual TLS.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::ResourceExt;
use serde_json::json;
use whittle::plan::report::{CALLBACK_PATH, Callback, CallbackBody, Progress};

use crate::stage::{Stage, success};

/// A client with the certificate of this namespace's runners.
pub async fn runner(stage: &Stage) -> reqwest::Client {
    let secrets: Api<Secret> = stage.api();
    let secret = stage
        .until("the runners' certificate exists", async || {
            secrets
                .get_opt("whittle-builder-default-client")
                .await
                .unwrap()
        })
        .await;
    let file = |name: &str| secret.data.as_ref().unwrap()[name].0.clone();
    let identity = [file("tls.crt"), file("tls.key")].concat();
    reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(&file("ca.crt")).unwrap()])
        .identity(reqwest::Identity::from_pem(&identity).unwrap())
        .build()
        .unwrap()
}

#[tokio::test]
async fn an_early_report_ends_the_build_and_one_for_another_namespace_is_refused() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut stage = Stage::new().await;
    let port = stage.start_controller().await;
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    let job = stage.job("hello").await;
    stage.pod(&job, json!({"phase": "Running"})).await;
    let runner = runner(&stage).await;
    let url = format!("https://localhost:{port}{CALLBACK_PATH}");
    let callback = |namespace: &str, body: CallbackBody| Callback {
        namespace: namespace.into(),
        name: "hello".into(),
        job: job.name_any(),
        body,
    };

    let progress = CallbackBody::Progress(Progress {
        done: 1,
        total: 3,
        step: "[2/3] COPY a /a".into(),
    });
    let answer = runner
        .post(&url)
        .json(&callback(&stage.namespace, progress))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 204);
    let message = stage
        .until("the progress is told", async || {
            stage.get("hello").await.status?.current?.message
        })
        .await;
    assert_eq!(message, "1/3 [2/3] COPY a /a");

    let report = || CallbackBody::Report(success("sha256:aa"));
    let answer = runner
        .post(&url)
        .json(&callback("elsewhere", report()))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 403);
    let answer = runner
        .post(&url)
        .json(&callback(&stage.namespace, report()))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 204);
    let status = stage
        .ready("hello", "True", "Succeeded")
        .await
        .status
        .unwrap();
    assert_eq!(status.digest.as_deref(), Some("sha256:aa"));

    // Progress that comes late changes nothing.
    let late = CallbackBody::Progress(Progress {
        done: 2,
        total: 3,
        step: "late".into(),
    });
    let answer = runner
        .post(&url)
        .json(&callback(&stage.namespace, late))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 204);
    assert!(stage.get("hello").await.status.unwrap().current.is_none());
}

#[tokio::test]
async fn without_a_certificate_nobody_is_heard() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut stage = Stage::new().await;
    let port = stage.start_controller().await;
    let anyone = reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .build()
        .unwrap();
    let body = Callback {
        namespace: "x".into(),
        name: "x".into(),
        job: "x".into(),
        body: CallbackBody::Report(success("sha256:aa")),
    };
    assert!(
        anyone
            .post(format!("https://localhost:{port}{CALLBACK_PATH}"))
            .json(&body)
            .send()
            .await
            .is_err()
    );
}
