//! What a Builder's NetworkPolicy closes to its steps, on a real API server.

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::networking::v1::{NetworkPolicy, ServiceCIDR};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::stage::Stage;

/// The prefixes that are left out, once the policy is there.
async fn closed(stage: &Stage) -> Option<Vec<String>> {
    let policies = stage.api::<NetworkPolicy>();
    let policy = policies.get_opt("whittle-builder-default").await.unwrap()?;
    let rules = policy.spec?.egress?.into_iter();
    let peers = rules.flat_map(|rule| rule.to.unwrap_or_default());
    let blocks = peers.filter_map(|peer| peer.ip_block?.except);
    Some(blocks.flatten().collect())
}

#[tokio::test]
async fn a_policy_closes_services_and_a_node_that_comes_and_opens_what_goes() {
    let stage = Stage::with_controller().await;
    stage.apply("hello", json!({})).await.unwrap();
    let services = Api::<ServiceCIDR>::all(stage.client.clone());
    let services = services.list(&ListParams::default()).await.unwrap();
    let services = services.items[0].spec.clone().unwrap().cidrs.unwrap();
    let first = stage
        .until("the policy has egress", async || closed(&stage).await)
        .await;
    assert!(first.contains(&services[0]), "{services:?}: {first:?}");
    assert!(first.contains(&"169.254.0.0/16".to_owned()), "{first:?}");

    // Not of Linux: other tests ask which platforms there are.
    let name = format!("node-of-{}", stage.namespace);
    let (range, address) = ("172.29.7.0/24", "172.30.7.9");
    let nodes = Api::<Node>::all(stage.client.clone());
    let node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/os": "windows"}},
        "spec": {"podCIDR": range, "podCIDRs": [range], "unschedulable": true}});
    let node: Node = serde_json::from_value(node).unwrap();
    nodes.create(&PostParams::default(), &node).await.unwrap();
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": address}]}});
    nodes
        .patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
    let address = format!("{address}/32");
    stage
        .until("the Node's addresses are closed", async || {
            let closed = closed(&stage).await?;
            let has = |one: &str| closed.iter().any(|it| it == one);
            (has(range) && has(&address)).then_some(())
        })
        .await;
    let now = DeleteParams::default();
    nodes.delete(&node.name_any(), &now).await.unwrap();
    stage
        .until("they are open again", async || {
            let closed = closed(&stage).await?;
            let has = |one: &str| closed.iter().any(|it| it == one);
            (!has(range) && !has(&address)).then_some(())
        })
        .await;
}
