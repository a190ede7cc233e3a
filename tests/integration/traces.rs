//! A build as a trace: who collects traces is told of its attempts by their runners, and of its end by the controller.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use kube::ResourceExt;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use whittle_build::course::{Course, Interval, Part};
use whittle_build::report::CallbackBody;

use crate::callback::{Runner, running};
use crate::stage::{Stage, success};

type Spans = Arc<Mutex<Vec<Value>>>;

/// A receiver of traces, and a stage whose controller knows it.
async fn receiver() -> (Spans, Stage) {
    let spans = Spans::default();
    let take = async |State(spans): State<Spans>, body: String| {
        let said: Value = serde_json::from_str(&body).unwrap();
        let told = said["resourceSpans"][0]["scopeSpans"][0]["spans"].clone();
        let told = told.as_array().unwrap().clone();
        spans.lock().unwrap().extend(told);
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new()
        .route("/v1/traces", post(take))
        .with_state(spans.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let mut stage = Stage::new().await;
    stage.settings = json!({"traces": {"otlp": {"url": url}}});
    (spans, stage)
}

/// What a runner tells.
fn course(build: i64) -> CallbackBody {
    let part = |name: &str| Part {
        name: name.into(),
        time: Interval {
            from: 1_000,
            to: 2_000,
        },
        ..Part::default()
    };
    CallbackBody::Course(Box::new(Course {
        build,
        time: Interval {
            from: 1_000,
            to: 3_000,
        },
        failure: None,
        phases: vec![part("source"), part("solve")],
        steps: vec![part("[1/1] COPY a b")],
    }))
}

#[tokio::test]
async fn a_build_is_one_trace_of_what_its_runner_and_the_controller_tell() {
    let (spans, mut stage) = receiver().await;
    let (port, job) = running(&mut stage, json!({})).await;
    let runner = Runner::of_attempt(&stage, port, &job.name_any()).await;
    // Told twice, it is one.
    for _ in 0..2 {
        assert_eq!(runner.says(course(1)).await, StatusCode::NO_CONTENT);
    }
    stage.pod_ends(&job, &success("sha256:aa")).await;
    stage.ready("hello", "True", "Succeeded").await;
    let told = stage.until("the end of the build is told", async || {
        let told = spans.lock().unwrap().clone();
        let ended = told.iter().any(|span| span["name"] == "build");
        ended.then_some(told)
    });
    let told = told.await;
    let by_name: BTreeMap<&str, &Value> = told
        .iter()
        .map(|span| (span["name"].as_str().unwrap(), span))
        .collect();
    let attempts = told.iter().filter(|span| span["name"] == "attempt");
    assert_eq!(attempts.count(), 1, "{told:#?}");
    for (child, parent) in [
        ("attempt", "build"),
        ("solve", "attempt"),
        ("[1/1] COPY a b", "solve"),
    ] {
        let (child, parent) = (by_name[child], by_name[parent]);
        assert_eq!(child["parentSpanId"], parent["spanId"], "{child:#}");
        assert_eq!(child["traceId"], parent["traceId"], "{child:#}");
    }
    let line = r#"whittle_traces_total{result="Delivered"}"#;
    let delivered = stage.until("all is counted", async || {
        (stage.metric(line).await == 2).then_some(())
    });
    delivered.await;
    // Whoever has the credential of an attempt whose Pod does not run tells nothing.
    let late = stage.metric(r#"whittle_callbacks_refused_total{reason="NotRunning"}"#);
    let before = late.await;
    stage
        .apply("hello", json!({"dockerfile": "other"}))
        .await
        .unwrap();
    let next = stage.job("hello").await;
    let next = Runner::of_attempt(&stage, port, &next.name_any()).await;
    assert_eq!(next.says(course(2)).await, StatusCode::CONFLICT);
    let late = stage.metric(r#"whittle_callbacks_refused_total{reason="NotRunning"}"#);
    assert_eq!(late.await, before + 1);
    assert_eq!(spans.lock().unwrap().len(), told.len());
}

#[tokio::test]
async fn where_nobody_collects_traces_a_course_is_heard_and_forgotten() {
    let mut stage = Stage::new().await;
    let (port, job) = running(&mut stage, json!({})).await;
    let runner = Runner::of_attempt(&stage, port, &job.name_any()).await;
    assert_eq!(runner.says(course(1)).await, StatusCode::NO_CONTENT);
    let line = r#"whittle_traces_total{result="Delivered"}"#;
    assert_eq!(stage.metric(line).await, 0);
}
