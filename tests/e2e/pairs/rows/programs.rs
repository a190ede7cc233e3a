//! Programs that are there, are not there, and do not start.

use serde_json::json;

use super::{Hook, Reality, Row, exec};

pub fn rows() -> Vec<Row> {
    let mut rows = found();
    rows.extend(not_starting());
    rows.extend(permissions());
    rows
}

fn found() -> Vec<Row> {
    vec![
        exec("bare", &["/app", "health"]),
        exec("bare", &["/app", "health"]).at(Hook::Liveness),
        exec("bare", &["/app", "health"]).at(Hook::Readiness),
        exec("bare", &["/app", "health"]).at(Hook::PostStart),
        exec("bare", &["/app", "health"]).at(Hook::PreStop),
        exec("bare", &["./app", "health"]),
        exec("bare", &["/bin/app", "health"]).errors().refused(),
        exec("bare", &["app", "health"]).errors().refused(),
        exec("bare", &["bin/app", "health"]).errors(),
        exec("bare", &["curl", "-f", "http://localhost:8080/"])
            .errors()
            .refused(),
        exec("bare", &["curl", "-f", "http://localhost:8080/"])
            .at(Hook::Liveness)
            .errors()
            .refused(),
        exec("bare", &["curl", "-f", "http://localhost:8080/"])
            .at(Hook::Readiness)
            .errors()
            .refused(),
        exec("bare", &["sh", "-c", "/app health"])
            .errors()
            .refused(),
        exec("bare", &["/bin/sh", "-c", "true"])
            .at(Hook::PostStart)
            .errors()
            .refused(),
        exec("bare", &["sleep", "1"])
            .at(Hook::PreStop)
            .errors()
            .refused(),
        exec("bare", &["sh", "-c", "sleep 1"])
            .at(Hook::PreStop)
            .errors()
            .refused(),
        exec("distroless", &["/app", "health"]),
        exec("distroless", &["/bin/sh", "-c", "/app health"])
            .errors()
            .refused(),
        exec("distroless", &["/busybox/sh", "-c", "/app health"])
            .errors()
            .refused(),
        exec(
            "distroless",
            &["wget", "-q", "-O", "/dev/null", "http://localhost:8080/"],
        )
        .at(Hook::Liveness)
        .errors()
        .refused(),
        exec("alpine", &["/app", "health"]).at(Hook::Liveness),
        exec(
            "alpine",
            &["wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8080/"],
        ),
        exec(
            "alpine",
            &[
                "/usr/bin/wget",
                "-q",
                "-O",
                "/dev/null",
                "http://127.0.0.1:8080/",
            ],
        ),
        exec("alpine", &["/sbin/wget", "-q", "http://127.0.0.1:8080/"])
            .errors()
            .refused(),
        exec("alpine", &["curl", "-f", "http://127.0.0.1:8080/"])
            .errors()
            .refused(),
        exec("alpine", &["bash", "-c", "true"]).errors().refused(),
        exec("busybox", &["/bin/cat", "/check"]),
        exec("busybox", &["/bin/busybox", "true"]),
        exec("busybox", &["grpc_health_probe", "-addr=:9090"])
            .errors()
            .refused(),
        exec("debian", &["pgrep", "app"]).errors().refused(),
        exec("debian", &["/bin/cat", "/etc/hostname"]),
        exec("own", &["tool", "health"]),
        exec("own", &["check", "health"]).errors().refused(),
        exec("own", &["bin/check", "health"]),
        exec("own", &["/srv/bin/../bin/check", "health"]).unknown(Reality::Passes),
        // Made by the kernel.
        exec("bare", &["/proc/1/exe", "health"]).unknown(Reality::Passes),
        exec("bare", &["/proc/1/root/app", "health"]).unknown(Reality::Passes),
    ]
}

fn not_starting() -> Vec<Row> {
    vec![
        exec("own", &["/opt/tools/bin/loaderless", "-c", "exit 0"])
            .fails()
            .refused(),
        exec("own", &["loaderless", "-c", "exit 0"])
            .at(Hook::PreStop)
            .fails()
            .refused(),
        exec("broken", &["/bin/libless", "-c", "exit 0"])
            .fails()
            .refused(),
        exec("broken", &["/bin/libless", "-c", "exit 0"])
            .at(Hook::Liveness)
            .fails()
            .refused(),
        exec("broken", &["/check"]).fails().refused(),
        exec("broken", &["/check"])
            .at(Hook::Liveness)
            .fails()
            .refused(),
        exec("broken", &["/plain"]).fails().refused(),
        exec("broken", &["/unrunnable"]).errors().refused(),
        exec("broken", &["/bin/libless", "-c", "exit 0"])
            .with(
                "LD_LIBRARY_PATH=/opt/spare",
                json!({"env": [{"name": "LD_LIBRARY_PATH", "value": "/opt/spare"}]}),
            )
            .unknown(Reality::Passes),
        exec("broken", &["/bin/libless", "-c", "exit 0"])
            .with(
                "envFrom: LD_LIBRARY_PATH=/opt/spare",
                json!({"envFrom": [{"configMapRef": {"name": "libraries"}}]}),
            )
            .unknown(Reality::Passes),
        exec("busybox", &["/check"]),
        exec("busybox", &["/envcheck"]),
        exec("busybox", &["/badenv"]).fails().refused(),
        exec("busybox", &["/plain"]).fails().refused(),
        exec("busybox", &["sh", "-c", "/plain"]).unknown(Reality::Passes),
        exec("debian", &["sh", "-c", "/plain"]).unknown(Reality::Passes),
        exec("debian", &["sh", "-c", "/opt/check"]).fails(),
        exec("busybox", &["sh", "/check"]),
    ]
}

fn permissions() -> Vec<Row> {
    vec![
        exec("user", &["/app", "health"]),
        // The runtime has DAC_OVERRIDE, unless the Pod drops it.
        exec("user", &["rootonly", "health"]).unknown(Reality::Passes),
        exec("user", &["/bin/rootonly", "health"])
            .with(
                "capabilities: drop ALL",
                json!({"securityContext": {"capabilities": {"drop": ["ALL"]}}}),
            )
            .unknown(Reality::Errors),
        exec("user", &["/bin/rootonly", "health"])
            .with("runAsUser: 0", json!({"securityContext": {"runAsUser": 0}}))
            .unknown(Reality::Passes),
        exec("user", &["rootonly", "health"])
            .in_pod(
                "runAsUser: 0 of the Pod",
                json!({"securityContext": {"runAsUser": 0}}),
            )
            .unknown(Reality::Passes),
        exec("busybox", &["/theirs", "health"]),
        exec("busybox", &["/theirs", "health"])
            .with(
                "capabilities: drop ALL",
                json!({"securityContext": {"capabilities": {"drop": ["ALL"]}}}),
            )
            .unknown(Reality::Errors),
        exec("busybox", &["/theirs", "health"])
            .with(
                "runAsUser: 1000",
                json!({"securityContext": {"runAsUser": 1000}}),
            )
            .unknown(Reality::Passes),
    ]
}
