//! A node that stops for a while, with and without what runs on it. No other test runs beside these:
//! .config/nextest.toml.

use std::path::Path;
use std::process::Child;

use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::{
    BUILDER, arguments_of, ended, heals, lasts, processes_of, shell, step_of_hello, uid_of,
};
use crate::field::{Field, variable};

/// Stops processes, kills others at once, and kills those at the end: the local cluster's supervisor starts them again,
/// and does not see before that they do not go on.
const STOP: &str = r#"
trap 'kill -KILL $1' EXIT
kill -STOP $1
# One that has ended by itself is no other fault.
[ -z "$2" ] || kill -KILL $2 2>/dev/null || true
sleep "$3"
"#;

/// Begins to stop the node, and kills what runs in the Pods with these UIDs.
fn stop(pods: &[String]) -> Child {
    let kubelet = variable("KUBELET_PATH");
    let programs = Path::new(&kubelet).parent().unwrap().join("bin");
    let parts = ["kubelet", "containerd"].map(|part| programs.join(part).display().to_string());
    let list = |pids: Vec<u32>| {
        let texts: Vec<String> = pids.iter().map(u32::to_string).collect();
        texts.join(" ")
    };
    let mut node = vec![];
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if arguments_of(pid)
            .next()
            .is_some_and(|name| parts.contains(&name))
        {
            node.push(pid);
        }
    }
    assert_eq!(node.len(), 2, "kubelet and containerd run");
    let lost = pods.iter().flat_map(|uid| processes_of(uid)).collect();
    shell(STOP, &[&list(node), &list(lost), &lasts().to_string()])
}

/// The node can be used again.
async fn node_is_back(field: &Field) {
    field
        .until("the node is Ready", async || {
            let nodes = Api::<Node>::all(field.client.clone());
            let node = nodes.list(&ListParams::default()).await.ok()?.items.pop()?;
            let conditions = node.status?.conditions?;
            let ready = conditions.into_iter().find(|it| it.type_ == "Ready")?;
            (ready.status == "True").then_some(())
        })
        .await;
}

#[tokio::test]
async fn the_node_stopped_for_a_while_during_a_build() {
    let field = Field::new("node-stopped").await;
    let files = json!({"Dockerfile": "FROM busybox:1.36\nRUN sleep 15\n"});
    field.build("hello", files, json!({})).await;
    field.step_runs("hello", "RUN sleep").await;
    let ended = ended(stop(&[])).await;
    heals(
        &field,
        "kubelet and containerd stopped",
        "hello",
        ended,
        1..=1,
    )
    .await;
    node_is_back(&field).await;
    field.close().await;
}

#[tokio::test]
async fn the_node_lost_for_a_while_with_the_builder_and_the_runner() {
    let field = Field::new("node-lost").await;
    step_of_hello(&field).await;
    let runner = field.runner("hello", "Running").await;
    let pods = [uid_of(&field, BUILDER).await, runner.uid().unwrap()];
    let ended = ended(stop(&pods)).await;
    heals(
        &field,
        "node lost with builder and runner",
        "hello",
        ended,
        2..=2,
    )
    .await;
    node_is_back(&field).await;
    field.close().await;
}
