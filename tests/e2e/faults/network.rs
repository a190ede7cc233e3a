//! Packets that are lost without a word, between two Pods for a while.

use std::process::Child;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::{BUILDER, arguments_of, ended, heals, lasts, processes_of, shell};
use crate::field::{Field, controllers};

/// Drops what comes from an address, and what goes there, in the network of a process; at the end it says how much.
const DROP: &str = r#"
within() { nsenter --target "$1" --net nft "$2"; }
trap 'within "$1" "delete table inet fault" || true' EXIT
within "$1" "add table inet fault
add chain inet fault in { type filter hook input priority -300; }
add chain inet fault out { type filter hook output priority -300; }
add rule inet fault in ip saddr $2 counter drop
add rule inet fault out ip daddr $2 counter drop"
sleep "$3"
within "$1" "list table inet fault" | grep -q 'counter packets [1-9]'
"#;

/// Begins to drop packets between `pod` and the Pod with this address, for so many seconds.
fn drop_packets(pod: &Pod, address: &str, seconds: u64) -> Child {
    let processes = processes_of(&pod.uid().unwrap());
    // Steps of a build may have networks of their own.
    let first = processes.into_iter().find(|pid| {
        arguments_of(*pid)
            .next()
            .is_some_and(|name| name.ends_with("pause"))
    });
    let pid = first.expect("a Pod has a pause container").to_string();
    shell(DROP, &[&pid, address, &seconds.to_string()])
}

fn address(pod: &Pod) -> String {
    let status = pod.status.as_ref().unwrap();
    status.pod_ip.clone().unwrap()
}

#[tokio::test]
async fn packets_between_runner_and_builder_dropped_for_a_while() {
    let field = Field::new("drop-builder").await;
    let files = json!({"Dockerfile": "FROM busybox:1.36\nRUN sleep 15\nRUN echo 1 > /a\n"});
    field.build("hello", files, json!({})).await;
    field.step_runs("hello", "RUN sleep").await;
    let runner = field.runner("hello", "Running").await;
    let builder = field.api::<Pod>().get(BUILDER).await.unwrap();
    let fault = drop_packets(&builder, &address(&runner), lasts());
    let ended = ended(fault).await;
    heals(
        &field,
        "packets runner-builder dropped",
        "hello",
        ended,
        1..=2,
    )
    .await;
    field.close().await;
}

/// The record says what the callback cannot.
#[tokio::test]
async fn packets_between_runner_and_controller_dropped_for_a_while() {
    let field = Field::new("drop-controller").await;
    let files = json!({"Dockerfile": "FROM busybox:1.36\nRUN sleep 10\n"});
    field.build("hello", files, json!({})).await;
    field.step_runs("hello", "RUN sleep").await;
    let runner = field.runner("hello", "Running").await;
    let pods = Api::<Pod>::namespaced(field.client.clone(), "whittle-system");
    let mut faults = vec![];
    for pod in pods.list(&controllers()).await.unwrap() {
        // Longer than the build takes.
        faults.push(drop_packets(&pod, &address(&runner), lasts().max(45)));
    }
    let status = field.succeeds("hello").await;
    for fault in &mut faults {
        let over = fault.try_wait().unwrap();
        assert_eq!(over, None, "it succeeds while no packet comes through");
    }
    assert!(status.early.is_none(), "{:?}", status.early);
    let mut last = std::time::Instant::now();
    for fault in faults {
        last = ended(fault).await;
    }
    heals(
        &field,
        "packets runner-controller dropped",
        "hello",
        last,
        1..=1,
    )
    .await;
    field.close().await;
}
