//! Ports, sleep, and other places of a probe.

use serde_json::{Value, json};

use super::{Hook, Row, exec, of};

fn http(port: Value) -> Value {
    json!({"httpGet": {"path": "/", "port": port}})
}

fn tcp(port: Value) -> Value {
    json!({"tcpSocket": {"port": port}})
}

fn ports() -> Value {
    json!({"ports": [{"name": "web", "containerPort": 8080}, {"name": "health", "containerPort": 9090}]})
}

/// A second container that has the port.
fn other() -> Value {
    json!({"initContainers": [{"name": "other", "image": "IMAGE", "restartPolicy": "Always", "command": ["/app"],
        "ports": [{"name": "web", "containerPort": 8080}]}]})
}

pub fn rows() -> Vec<Row> {
    vec![
        of("bare", http(json!(8080))),
        of("bare", http(json!("web"))).with("ports web, health", ports()),
        of("bare", http(json!("http")))
            .with("ports web, health", ports())
            .errors(),
        of("bare", http(json!("http")))
            .at(Hook::Liveness)
            .with("ports web, health", ports())
            .errors(),
        of("bare", http(json!("web")))
            .at(Hook::Readiness)
            .in_pod("another container has the port web", other())
            .errors(),
        of("bare", http(json!(8080))).with(
            "ports health",
            json!({"ports": [{"name": "health", "containerPort": 9090}]}),
        ),
        of("bare", http(json!("web")))
            .at(Hook::Readiness)
            .with("ports web, health", ports()),
        of("bare", tcp(json!(8080))),
        of("distroless", tcp(json!("web")))
            .at(Hook::Readiness)
            .with("ports web, health", ports()),
        of("bare", tcp(json!("postgres"))).errors(),
        of("bare", json!({"grpc": {"port": 9090}})),
        of("alpine", json!({"grpc": {"port": 9090, "service": "any"}})).at(Hook::Readiness),
        of("bare", json!({"sleep": {"seconds": 1}})).at(Hook::PreStop),
        of("distroless", json!({"sleep": {"seconds": 1}})).at(Hook::PostStart),
        of("bare", http(json!(8080))).at(Hook::PreStop),
        of("bare", http(json!("http")))
            .at(Hook::PreStop)
            .with("ports web, health", ports())
            .errors(),
        of("bare", tcp(json!(8080))).at(Hook::PreStop).errors(),
        of("bare", tcp(json!(8080))).at(Hook::PostStart).errors(),
        exec("bare", &["/app", "health"]).into_sidecar(),
        exec("bare", &["/bin/sh", "-c", "/app health"])
            .into_sidecar()
            .errors()
            .refused(),
    ]
}
