//! Objects as large as the API server takes them, and a controller that has the chart's memory.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use whittle_api::{Builder, ImageBuild};

use crate::api_server::ApiServer;
use crate::stage::{Stage, apply_crd, make_namespace, success};

/// `resources.limits.memory` of the chart.
const MEMORY: u64 = 256 << 20;

/// A CRD as it was before there were bounds.
fn unbounded(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            for key in [
                "maxLength",
                "maxItems",
                "maxProperties",
                "pattern",
                "x-kubernetes-validations",
            ] {
                fields.remove(key);
            }
            fields.values_mut().for_each(unbounded);
        }
        Value::Array(all) => all.iter_mut().for_each(unbounded),
        _ => {}
    }
}

fn large(name: &str, suspend: bool, bytes: usize) -> ImageBuild {
    let spec = json!({
        "source": {"inline": {"files": {"Dockerfile": "FROM scratch\n"}}},
        "output": {"image": "registry.example.com/team/large"},
        "buildArgs": {"A": "x".repeat(bytes)},
        "suspend": suspend,
    });
    ImageBuild::new(name, serde_json::from_value(spec).unwrap())
}

#[tokio::test]
async fn objects_from_before_the_bounds_do_not_end_the_controller() {
    let mut stage = Stage::on(ApiServer::alone()).await;
    let bounded = whittle_api::crds()
        .into_iter()
        .find(|crd| crd.name_any() == "imagebuilds.whittle.dev")
        .unwrap();
    let mut old = serde_json::to_value(&bounded).unwrap();
    unbounded(&mut old["spec"]["versions"][0]["schema"]);
    apply_crd(&stage.client, &serde_json::from_value(old).unwrap()).await;
    stage.unbind_metadata().await;
    make_namespace(&stage.client, "evil").await;
    let evil: Api<ImageBuild> = Api::namespaced(stage.client.clone(), "evil");
    // The API server takes a CRD that changes into use a moment later.
    for number in 0..24 {
        let build = large(&format!("large-{number}"), number % 6 > 0, 1_250_000);
        stage
            .until("a large ImageBuild is made", async || {
                evil.create(&PostParams::default(), &build).await.ok()
            })
            .await;
    }
    apply_crd(&stage.client, &bounded).await;
    stage
        .until("the bounds hold", async || {
            let dry = PostParams {
                dry_run: true,
                ..PostParams::default()
            };
            evil.create(&dry, &large("one-more", true, 10_000))
                .await
                .err()
        })
        .await;

    // Labels have no bound in number; what is noted of their owner doubles them.
    let prefix = format!(
        "{}.{}.{}.{}",
        "a".repeat(63),
        "b".repeat(63),
        "c".repeat(63),
        "d".repeat(61)
    );
    for number in 0..12 {
        let mut build = large(&format!("labelled-{number}"), true, 100);
        let label = |at: usize| (format!("{prefix}/{at:063}"), "v".repeat(63));
        build.metadata.labels = Some((0..1300).map(label).collect());
        evil.create(&PostParams::default(), &build).await.unwrap();
    }

    // Short ones take ten times their text where each is kept.
    let short: std::collections::BTreeMap<String, String> = (0..45_000)
        .map(|at| (format!("a{at:05}"), String::new()))
        .collect();
    let deployments: Api<Deployment> = Api::namespaced(stage.client.clone(), "evil");
    for number in 0..12 {
        let name = format!("short-{number}");
        let mut build = large(&name, number > 3, 100);
        build.metadata.labels = Some(short.clone());
        evil.create(&PostParams::default(), &build).await.unwrap();
        let deployment = json!({
            "metadata": {"name": name, "labels": short},
            "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "a", "image": "a"}]},
            }},
        });
        let deployment = serde_json::from_value(deployment).unwrap();
        deployments
            .create(&PostParams::default(), &deployment)
            .await
            .unwrap();
    }

    stage.everywhere();
    stage.start_controller().await;
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    let job = stage.job("hello").await;
    stage.pod(&job, json!({"phase": "Running"})).await;
    let digest = format!("sha256:{}", "a".repeat(64));
    stage.pod_ends(&job, &success(&digest)).await;
    stage.ready("hello", "True", "Succeeded").await;
    // What has a bound now and is over it can be told so: the rest of the object may change.
    let suspended = json!({"spec": {"suspend": true}});
    evil.patch("large-0", &PatchParams::default(), &Patch::Merge(suspended))
        .await
        .unwrap();
    let peak = stage.peak_memory();
    println!("the controller's peak: {} MiB", peak >> 20);
    assert!(peak < MEMORY, "{} MiB", peak >> 20);
}

#[tokio::test]
async fn the_largest_builds_that_the_rules_admit_are_accepted_and_told_what_is_over() {
    let stage = Stage::new().await;
    let refused = async |patch: Value, with: &str| {
        let error = stage
            .apply("bad", patch)
            .await
            .expect_err("accepted")
            .to_string();
        assert!(error.contains(with), "{with}: {error}");
    };
    refused(json!({"buildArgs": {"A": "x".repeat(8193)}}), "Too long").await;
    refused(
        json!({"output": {"labels": {"a=b": "c"}}}),
        "a label named a=b would become another",
    )
    .await;
    refused(
        json!({"secrets": [{"id": "a", "secretRef": {"name": "whittle-builder-default-client", "key": "tls.key"}}]}),
        "are reserved for Whittle's own keys",
    )
    .await;
    refused(
        json!({"output": {"secretRef": {"name": "whittle-attempt-0123456789"}}}),
        "Whittle's own keys",
    )
    .await;
    refused(
        json!({"builderRef": {"name": "b".repeat(37)}}),
        "at most 36 characters",
    )
    .await;
    let half = "x".repeat(131_100);
    refused(
        json!({"source": {"inline": {"files": {"a": half, "b": half}}}}),
        "more than 256 KiB in all",
    )
    .await;
    let many: Value = (0..32)
        .map(|at| (format!("A{at:04}"), Value::from("x".repeat(2042))))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let most = json!({
        "buildArgs": many,
        "output": {"labels": many.as_object().unwrap().iter().take(15).map(|(k, v)| (k.clone(), v.clone())).collect::<serde_json::Map<_, _>>()},
        "source": {"inline": {"files": {"a": "x".repeat(262_000)}}},
    });
    stage.apply("most", most).await.unwrap();

    let builders: Api<Builder> = stage.api();
    let builder = |spec: Value| Builder {
        metadata: ObjectMeta {
            name: Some("b".into()),
            ..ObjectMeta::default()
        },
        spec: serde_json::from_value(spec).unwrap(),
        status: None,
    };
    let long = "x".repeat(1000);
    for spec in [
        json!({"nodeSelector": {"a": long}}),
        json!({"nodeSelector": {long.clone(): "a"}}),
        json!({"tolerations": [{"key": long}]}),
        json!({"tolerations": vec![json!({"key": "a"}); 33]}),
        json!({"resources": {"limits": {"memory": long}}}),
        json!({"resources": {"requests": {long.clone(): "1"}}}),
        json!({"priorityClassName": long}),
        json!({"runtimeClassName": long}),
        json!({"cache": {"storageClassName": long}}),
    ] {
        let made = builders
            .create(&PostParams::default(), &builder(spec.clone()))
            .await;
        assert!(
            made.is_err(),
            "accepted: {}",
            spec.to_string().chars().take(60).collect::<String>()
        );
    }
    let usual = json!({
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "builds", "operator": "Exists", "effect": "NoSchedule"}],
        "resources": {"limits": {"memory": "4Gi", "cpu": 2}},
    });
    let usual = json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "b"}, "spec": usual});
    builders
        .patch("b", &PatchParams::apply("test"), &Patch::Apply(usual))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_callback_at_an_ipv6_address_does_not_end_the_controller() {
    let mut stage = Stage::new().await;
    stage.callback_host = "[fd00::1]".into();
    stage.start_controller().await;
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    stage.job("hello").await;
}

#[tokio::test]
async fn a_runner_trusts_a_callback_at_an_address() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut stage = Stage::new().await;
    stage.callback_host = "127.0.0.1".into();
    let port = stage.start_controller().await;
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    let runner = crate::callback::client(&stage).await;
    let answer = runner
        .get(format!("https://127.0.0.1:{port}/"))
        .send()
        .await;
    assert_eq!(answer.unwrap().status(), 404);
}
