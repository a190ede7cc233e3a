//! Shells, and programs that start others.

use super::{Hook, Reality, Row, exec};

fn sh(image: &'static str, script: &str) -> Row {
    exec(image, &["sh", "-c", script])
}

pub fn rows() -> Vec<Row> {
    let mut rows = plain();
    rows.extend(lists());
    rows.extend(wrappers());
    rows
}

fn plain() -> Vec<Row> {
    vec![
        sh("debian", "/app health"),
        sh("debian", "curl -f http://localhost:8080/")
            .fails()
            .refused(),
        sh("debian", "curl -f http://localhost:8080/")
            .at(Hook::Liveness)
            .fails()
            .refused(),
        sh("debian", "curl -f http://localhost:8080/")
            .at(Hook::Readiness)
            .fails()
            .refused(),
        sh("debian", "curl -f http://localhost:8080/")
            .at(Hook::PostStart)
            .fails()
            .refused(),
        sh("debian", "/usr/bin/curl localhost").fails().refused(),
        sh("debian", "test -f /app"),
        sh("debian", "sleep 0").at(Hook::PreStop),
        exec("debian", &["bash", "-ec", "/app health"]),
        exec("debian", &["/bin/bash", "-c", "type -t ls"]).at(Hook::Liveness),
        sh("busybox", "wget -q -O /dev/null http://127.0.0.1:8080/"),
        sh("busybox", "curl -f http://127.0.0.1:8080/").fails(),
        sh("busybox", "curl -f http://127.0.0.1:8080/")
            .at(Hook::Liveness)
            .fails(),
        sh("busybox", "[ -f /app ]").at(Hook::Readiness),
        exec("busybox", &["busybox", "sh", "-c", "/app health"]),
        exec("alpine", &["/bin/ash", "-c", "exec /app health"]),
    ]
}

fn lists() -> Vec<Row> {
    vec![
        sh("debian", "curl -f http://localhost:8080/ || exit 1").fails(),
        sh("debian", "curl -f http://localhost:8080/ || /app health"),
        sh("debian", "curl -f http://localhost:8080/; exit 0").unknown(Reality::Passes),
        sh("debian", "curl -f http://localhost:8080/ && exit 0").fails(),
        sh("debian", "/app health && curl localhost").fails(),
        sh("debian", "/app health | grep -q well"),
        sh("debian", "curl localhost | cat").unknown(Reality::Passes),
        sh("debian", "curl localhost | grep -q well").unknown(Reality::Fails),
        sh("debian", "set -e; curl localhost; exit 0").fails(),
        sh("debian", "! curl localhost").unknown(Reality::Passes),
        sh("debian", "command -v curl").fails(),
        sh(
            "debian",
            "if command -v curl; then curl localhost; else /app health; fi",
        ),
        sh("debian", "test \"$(/app health)\" = well"),
        sh("debian", "PROGRAM=/app; $PROGRAM health").unknown(Reality::Passes),
        sh("debian", "cd / && ./app health").unknown(Reality::Passes),
        sh("debian", "nginx -s quit; sleep 0")
            .at(Hook::PreStop)
            .unknown(Reality::Passes),
        sh("debian", "nginx -s quit && sleep 0")
            .at(Hook::PreStop)
            .fails(),
        sh(
            "alpine",
            "wget -q -O /dev/null http://127.0.0.1:8080/ || exit 1",
        )
        .at(Hook::Liveness),
        sh(
            "alpine",
            "curl -sf localhost:8080 >/dev/null 2>&1 || exit 1",
        )
        .fails(),
        // Of busybox, and not of this one.
        sh("alpine", "chpst true").unknown(Reality::Fails),
    ]
}

fn wrappers() -> Vec<Row> {
    vec![
        exec("debian", &["timeout", "5", "/app", "health"]),
        exec("debian", &["timeout", "5", "curl", "localhost"]).fails(),
        exec("debian", &["env", "A=B", "/app", "health"]),
        exec("debian", &["env", "A=B", "curl", "localhost"])
            .at(Hook::Liveness)
            .fails(),
        exec("debian", &["nice", "-n", "5", "/app", "health"]),
        sh("debian", "timeout 5 curl localhost || exit 1").fails(),
        exec("busybox", &["timeout", "5", "/app", "health"]),
        exec("busybox", &["env", "A=B", "curl", "localhost"]).fails(),
        exec("busybox", &["busybox", "curl"]).fails(),
        exec("debian", &["env", "-i", "/app", "health"]).unknown(Reality::Passes),
        exec("debian", &["xargs", "curl"]).unknown(Reality::Fails),
    ]
}
