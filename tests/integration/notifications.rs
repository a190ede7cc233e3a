//! Who is told how builds end: programs that read Events, and a sink of CloudEvents, which fails or hangs.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use whittle_api::FailureReason;

use crate::stage::{Stage, failure, success};

/// What a sink was sent, and what it answers first: a status each, or nothing.
#[derive(Default)]
struct Sink {
    received: Vec<(HeaderMap, Value)>,
    first: Vec<Option<StatusCode>>,
}

type Shared = Arc<Mutex<Sink>>;

async fn take(State(sink): State<Shared>, headers: HeaderMap, body: String) -> StatusCode {
    let answer = {
        let mut sink = sink.lock().unwrap();
        let event = serde_json::from_str(&body).unwrap();
        sink.received.push((headers, event));
        match sink.first.is_empty() {
            true => Some(StatusCode::ACCEPTED),
            false => sink.first.remove(0),
        }
    };
    match answer {
        Some(status) => status,
        None => std::future::pending().await,
    }
}

/// A sink, and a stage whose controller is told of it.
async fn sink(first: &[Option<StatusCode>], token: &str) -> (Shared, Stage, tempfile::TempDir) {
    let shared = Shared::default();
    shared.lock().unwrap().first = first.to_vec();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = Router::new()
        .route("/hook/secret-path", post(take))
        .with_state(shared.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, token).unwrap();
    let mut stage = Stage::new().await;
    let url = format!("http://127.0.0.1:{port}/hook/secret-path?key=secret-key");
    stage.settings = json!({"notifications": {"sink": {"url": url, "tokenFile": file}}});
    stage.start_controller().await;
    (shared, stage, folder)
}

async fn received(stage: &Stage, sink: &Shared, count: usize) -> Vec<(HeaderMap, Value)> {
    let what = format!("{count} requests at the sink");
    let all = stage.until(&what, async || {
        let received = sink.lock().unwrap().received.clone();
        (received.len() >= count).then_some(received)
    });
    let all = all.await;
    assert_eq!(all.len(), count, "{all:#?}");
    all
}

async fn counted(stage: &Stage, result: &str) -> u64 {
    let line = format!(r#"whittle_notifications_total{{result="{result}"}}"#);
    stage.metric(&line).await
}

#[tokio::test]
async fn a_sink_that_fails_at_first_is_told_of_each_end_and_can_tell_what_it_has() {
    let away = Some(StatusCode::SERVICE_UNAVAILABLE);
    let (sink, stage, _folder) = sink(&[away, away], "secret-token\n").await;
    let build = stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    let digest = format!("sha256:{}", "a".repeat(64));
    stage
        .pod_ends(&stage.job("hello").await, &success(&digest))
        .await;
    let all = received(&stage, &sink, 3).await;
    for (headers, event) in &all {
        assert_eq!(event, &all[0].1);
        let content = headers["content-type"].to_str().unwrap();
        assert!(
            content.starts_with("application/cloudevents+json"),
            "{content}"
        );
        assert_eq!(headers["authorization"], "Bearer secret-token");
    }
    let event = &all[0].1;
    let uid = build.uid().unwrap();
    let subject = format!("{}/hello", stage.namespace);
    for (attribute, value) in [
        ("specversion", "1.0"),
        ("type", "dev.whittle.imagebuild.succeeded"),
        ("id", &format!("{uid}-1")),
        ("subject", &subject),
        ("source", &format!("/whittle/{}", stage.installation())),
        ("datacontenttype", "application/json"),
    ] {
        assert_eq!(event[attribute], value, "{event:#}");
    }
    assert!(
        event["time"]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .is_ok()
    );
    let data = &event["data"];
    let image = format!("registry.example.com/team/hello@{digest}");
    assert_eq!(data["image"], image);
    assert_eq!(data["digest"], digest);
    assert_eq!(data["tags"], json!(["latest"]));
    assert_eq!(data["revision"], "inline@sha256:00");
    assert_eq!(data["trigger"]["reason"], "Spec");
    assert!(data["durationSeconds"].is_i64(), "{data:#}");

    stage
        .apply("hello", json!({"dockerfile": "other"}))
        .await
        .unwrap();
    stage
        .pod_ends(
            &stage.job("hello").await,
            &failure(FailureReason::StepFailed),
        )
        .await;
    let event = received(&stage, &sink, 4).await.remove(3).1;
    assert_eq!(event["type"], "dev.whittle.imagebuild.failed");
    assert_eq!(event["id"], format!("{uid}-2"));
    assert_eq!(event["data"]["reason"], "StepFailed");
    // The image of the last success is none of this build.
    assert_eq!(event["data"]["digest"], Value::Null);

    stage
        .until("all is counted", async || {
            (counted(&stage, "Delivered").await == 2).then_some(())
        })
        .await;
    assert_eq!(counted(&stage, "Retried").await, 2);
    let log = stage.controllers_log();
    assert!(log.contains("notifications were not delivered"), "{log}");
    for secret in ["secret-path", "secret-key", "secret-token"] {
        assert!(!log.contains(secret), "{log}");
    }

    // An Event of each has the same for programs.
    let events: Api<Event> = stage.api();
    let events = events.list(&ListParams::default()).await.unwrap();
    let told = |reason: &str| {
        let found = events
            .items
            .iter()
            .find(|event| event.reason.as_deref() == Some(reason));
        found.unwrap().annotations().clone()
    };
    let built = told("Succeeded");
    assert_eq!(built["whittle.dev/image"], image);
    assert_eq!(built["whittle.dev/digest"], digest);
    assert_eq!(built["whittle.dev/revision"], "inline@sha256:00");
    assert_eq!(built["whittle.dev/build"], "1");
    assert!(built["whittle.dev/duration-seconds"].parse::<u32>().is_ok());
    let failed = told("StepFailed");
    assert_eq!(failed["whittle.dev/build"], "2");
    assert!(!failed.contains_key("whittle.dev/digest"), "{failed:?}");
}

#[tokio::test]
async fn a_sink_that_hangs_holds_up_no_build_and_nothing_is_lost() {
    let (sink, stage, _folder) = sink(&[None], "t").await;
    stage.apply("first", json!({})).await.unwrap();
    stage.builder_starts().await;
    let end = async |name: &str| {
        stage
            .pod_ends(&stage.job(name).await, &success("sha256:aa"))
            .await;
        stage.ready(name, "True", "Succeeded").await;
    };
    end("first").await;
    received(&stage, &sink, 1).await;
    let begun = std::time::Instant::now();
    stage.apply("second", json!({})).await.unwrap();
    end("second").await;
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(sink.lock().unwrap().received.len(), 1, "it hangs still");
    // The first is sent again once it has hung for ten seconds, and then the second.
    let all = received(&stage, &sink, 3).await;
    let subjects: Vec<_> = all
        .iter()
        .map(|(_, event)| event["subject"].clone())
        .collect();
    let of = |name: &str| Value::from(format!("{}/{name}", stage.namespace));
    assert_eq!(subjects, [of("first"), of("first"), of("second")]);
}
