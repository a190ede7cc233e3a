//! A build as a trace, at a real OpenTelemetry Collector. It takes minutes to compile, so `make test-long` runs this and `make test` does not:
//! tests/integration/traces.rs says there what is told.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use serde_json::json;

use crate::field::Field;
use crate::flux_real::{image, said};

const SYSTEM: &str = "whittle-system";

const CONFIG: &str = "
receivers: {otlp: {protocols: {http: {endpoint: '0.0.0.0:4318'}}}}
exporters: {debug: {verbosity: detailed}}
service: {pipelines: {traces: {receivers: [otlp], exporters: [debug]}}, telemetry: {metrics: {level: none}}}
";

/// Has the installation tell this receiver, or nobody.
fn tells(url: &str) {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/whittle");
    let url = format!("traces.otlp.url={url}");
    said(
        Command::new("helm")
            .args(["upgrade", "whittle"])
            .arg(chart)
            .args(["--namespace", SYSTEM, "--reuse-values", "--set", &url])
            .args(["--wait", "--timeout", "3m"]),
    );
}

/// The spans that the collector has printed, each by its name: its own identifier, and its parent's.
fn spans(log: &str) -> BTreeMap<String, (String, String)> {
    let mut spans = BTreeMap::new();
    let (mut parent, mut own) = (String::new(), String::new());
    for line in log.lines() {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        match key.trim() {
            "Parent ID" => parent = value.trim().to_owned(),
            "ID" => own = value.trim().to_owned(),
            "Name" => _ = spans.insert(value.trim().to_owned(), (own.clone(), parent.clone())),
            _ => {}
        }
    }
    spans
}

#[tokio::test]
#[ignore = "compiles the OpenTelemetry Collector, which takes minutes: make test-long"]
async fn a_real_collector_takes_the_trace_of_a_build_with_its_steps() {
    let field = Field::new("traces").await;
    let cluster = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster");
    let image = image(&cluster, &field.namespace, "collector");
    let data = json!({"config.yaml": CONFIG});
    field
        .create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "collector"}, "data": data}))
        .await;
    let labels = json!({"app": "collector"});
    let container = json!({"name": "collector", "image": image, "args": ["--config=file:/etc/collector/config.yaml"],
        "volumeMounts": [{"name": "config", "mountPath": "/etc/collector"}]});
    let pod = json!({"containers": [container], "volumes": [{"name": "config", "configMap": {"name": "collector"}}]});
    field
        .create(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "collector"},
            "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}}))
        .await;
    field
        .create(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "collector"},
            "spec": {"selector": labels, "ports": [{"port": 4318}]}}),
        )
        .await;
    let deployments: Api<Deployment> = field.api();
    field
        .until("the collector runs", async || {
            let deployment = deployments.get("collector").await.unwrap();
            (deployment.status?.ready_replicas == Some(1)).then_some(())
        })
        .await;
    tells(&format!("http://collector.{}.svc:4318", field.namespace));
    let dockerfile = "FROM busybox:1\nRUN echo traced > /file\nCMD [\"cat\", \"/file\"]\n";
    field
        .build("traced", json!({"Dockerfile": dockerfile}), json!({}))
        .await;
    field.succeeds("traced").await;
    let log = || {
        let namespace = ["--namespace", field.namespace.as_str()];
        let logs = ["logs", "deployment/collector", "--tail=-1"];
        said(Command::new("kubectl").args(namespace).args(logs))
    };
    let told = field.until("the build's end is told", async || {
        let told = spans(&log());
        told.contains_key("build").then_some(told)
    });
    let told = told.await;
    tells("");
    let run = told
        .keys()
        .find(|name| name.contains("RUN echo traced"))
        .unwrap_or_else(|| panic!("no step: {told:#?}"));
    for (child, parent) in [
        ("attempt", "build"),
        ("source", "attempt"),
        ("solve", "attempt"),
        ("push", "attempt"),
        ("tag", "attempt"),
        (run, "solve"),
    ] {
        let of_child = told
            .get(child)
            .unwrap_or_else(|| panic!("no {child}: {told:#?}"));
        assert_eq!(of_child.1, told[parent].0, "{child}: {told:#?}");
    }
    let text = log();
    for expected in [
        "whittle.build.result: Str(Succeeded)",
        "whittle.imagebuild.name: Str(traced)",
        "service.name: Str(whittle)",
        "oci.manifest.digest: Str(sha256:",
    ] {
        assert!(text.contains(expected), "no {expected}:\n{text}");
    }
    field.close().await;
}
