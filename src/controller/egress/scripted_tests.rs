//! What becomes of what the API server says of its own addresses.

use futures::FutureExt;
use serde_json::{Value, json};

use super::*;
use crate::cluster::scripted::{Server, event, page};
use crate::scripted::context;

const SERVICES: &str = "GET /apis/networking.k8s.io/v1/servicecidrs";
const SLICE: &str = "GET /apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";
/// Whole, and then what the watch lists.
const NODES: &str = "GET /api/v1/nodes?limit=8";
const METADATA: &str = "GET /api/v1/nodes?limit=100";
const WATCH: &str = "GET /api/v1/nodes?watch=true";

fn node(number: u8) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": format!("node-{number}"), "uid": format!("uid-{number}"), "resourceVersion": "7"},
        "spec": {"podCIDR": format!("10.244.{number}.0/24"), "podCIDRs": [format!("10.244.{number}.0/24")]},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": format!("10.0.0.{number}")},
                {"type": "Hostname", "address": format!("node-{number}")},
            ],
            "images": [{"names": ["a"], "sizeBytes": 1}],
        },
    })
}

/// All but the Nodes.
fn rest(server: &Server) {
    let services = json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16"]}});
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "kubernetes"},
        "addressType": "IPv4", "endpoints": [{"addresses": ["192.168.7.7"]}],
    });
    server
        .on(SERVICES, page(&[services], None))
        .on(SLICE, slice);
}

fn has(closed: &Closed, all: &[&str]) -> bool {
    all.iter().all(|one| closed.v4.contains(&(*one).to_owned()))
}

#[tokio::test(start_paused = true)]
async fn a_node_that_comes_closes_its_addresses_within_seconds() {
    let (context, server) = context(&[]);
    let context = Arc::new(context);
    rest(&server);
    server
        .on(NODES, page(&[node(2)], None))
        .on(METADATA, page(&[node(2)], None))
        .watch(
            WATCH,
            &[event("MODIFIED", &node(2)), event("ADDED", &node(5))],
        )
        .hang(WATCH);
    // What the new one brings about.
    rest(&server);
    server.on(NODES, page(&[node(2), node(5)], None));
    let mut changes = Box::pin(context.egress.changes());
    let runs = run(context.clone(), std::future::pending());
    let first = [
        "10.96.0.0/16",
        "10.244.2.0/24",
        "10.0.0.2/32",
        "192.168.7.7/32",
    ];
    let sees = async {
        changes.next().await;
        let closed = context.egress.get().await;
        assert!(has(&closed, &first), "{closed:?}");
        changes.next().await;
        let closed = context.egress.get().await;
        assert!(
            has(&closed, &["10.244.5.0/24", "10.0.0.5/32"]),
            "{closed:?}"
        );
    };
    tokio::select! {
        () = runs => panic!("it runs until it is stopped"),
        () = sees => {}
    }
    server.asked();
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_read_is_not_found_and_said() {
    let (cluster, server) = Server::cluster();
    let denied = "nodes is forbidden";
    server
        .refuse(
            SERVICES,
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
        .refuse(NODES, 403, "Forbidden", denied)
        .refuse(SLICE, 403, "Forbidden", denied);
    let closed = cluster.ranges().await.unwrap().closed();
    assert!(
        closed.note.contains(
            "not found: Service CIDRs, Pod CIDRs, addresses of Nodes, addresses of the API server"
        ),
        "{}",
        closed.note
    );
    assert!(has(&closed, &["169.254.0.0/16"]));
    server.asked();
}

#[tokio::test(start_paused = true)]
async fn an_api_server_in_trouble_is_asked_again_and_nothing_is_opened_meanwhile() {
    let (context, server) = context(&[]);
    let before = context.egress.get().await;
    server
        .refuse(SERVICES, 500, "InternalError", "etcd is away")
        .on(METADATA, page(&[node(2)], None))
        .hang(WATCH);
    rest(&server);
    server.on(NODES, page(&[node(2)], None));
    let context = Arc::new(context);
    let mut changes = Box::pin(context.egress.changes());
    let runs = run(context.clone(), std::future::pending());
    let sees = async {
        assert_eq!(changes.next().now_or_never(), None);
        assert_eq!(context.egress.get().await, before);
        changes.next().await;
        assert!(has(&*context.egress.get().await, &["10.0.0.2/32"]));
    };
    tokio::select! {
        () = runs => panic!("it runs until it is stopped"),
        () = sees => {}
    }
    server.asked();
}
