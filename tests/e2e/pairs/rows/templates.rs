//! What the Pod template itself brings: variables, directories, volumes, commands.

use serde_json::{Value, json};

use super::{Hook, Reality, Row, exec};

fn env(values: &[(&str, &str)]) -> Value {
    let values: Vec<Value> = values
        .iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    json!({"env": values})
}

fn mount(path: &str) -> Value {
    json!({"volumeMounts": [{"name": "volume", "mountPath": path}]})
}

fn empty() -> Value {
    json!({"volumes": [{"name": "volume", "emptyDir": {}}]})
}

/// An emptyDir with a copy of the program as `check`.
fn filled() -> Value {
    json!({"volumes": [{"name": "volume", "emptyDir": {}}],
        "initContainers": [{"name": "fill", "image": "IMAGE", "command": ["/app", "install", "/filled/check"],
            "volumeMounts": [{"name": "volume", "mountPath": "/filled"}]}]})
}

fn scripts(mode: i32) -> Value {
    json!({"volumes": [{"name": "volume", "configMap": {"name": "scripts", "defaultMode": mode}}]})
}

pub fn rows() -> Vec<Row> {
    let mut rows = variables();
    rows.extend(volumes());
    rows.extend(commands());
    rows
}

fn variables() -> Vec<Row> {
    let from_pod = json!({"env": [{"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]});
    let from_map = json!({"env": [{"name": "PATH", "valueFrom": {"configMapKeyRef": {"name": "env", "key": "PATH"}}}]});
    vec![
        exec("bare", &["app", "health"]).with("PATH=/", env(&[("PATH", "/")])),
        exec("own", &["check", "health"]).with("PATH=/srv/bin", env(&[("PATH", "/srv/bin")])),
        exec("own", &["tool", "health"])
            .with("PATH=/srv/bin", env(&[("PATH", "/srv/bin")]))
            .errors(),
        exec("own", &["tool", "health"])
            .with(
                "PATH=/srv/bin:$(PATH)",
                env(&[("PATH", "/srv/bin:$(PATH)")]),
            )
            .errors(),
        exec("own", &["check", "health"]).with(
            "PATH=/opt:$(HERE)",
            env(&[("HERE", "/srv/bin"), ("PATH", "/opt:$(HERE)")]),
        ),
        exec("own", &["check", "health"])
            .with("PATH by valueFrom", from_map)
            .unknown(Reality::Passes),
        exec("own", &["check", "health"])
            .with(
                "PATH by envFrom",
                json!({"envFrom": [{"configMapRef": {"name": "env"}}]}),
            )
            .unknown(Reality::Passes),
        exec("own", &["check", "health"])
            .with(
                "envFrom with a prefix",
                json!({"envFrom": [{"prefix": "MY_", "configMapRef": {"name": "env"}}]}),
            )
            .errors(),
        exec("own", &["bin/check", "health"])
            .with("workingDir: /opt", json!({"workingDir": "/opt"}))
            .errors(),
        exec("own", &["./check", "health"])
            .with("workingDir: /srv/bin", json!({"workingDir": "/srv/bin"})),
        exec("bare", &["$(PROGRAM)", "health"]).with("PROGRAM=/app", env(&[("PROGRAM", "/app")])),
        exec("bare", &["/$(PROGRAM)", "health"]).with("PROGRAM=app", env(&[("PROGRAM", "app")])),
        exec("debian", &["sh", "-c", "$(PROGRAM) health"])
            .with("PROGRAM=/app", env(&[("PROGRAM", "/app")])),
        exec("bare", &["$(PROGRAM)", "health"])
            .at(Hook::PreStop)
            .with("PROGRAM=/app", env(&[("PROGRAM", "/app")]))
            .errors(),
        exec("bare", &["/$(PROGRAM)", "health"]).errors(),
        exec("bare", &["/$$(PROGRAM)", "health"])
            .with("PROGRAM=app", env(&[("PROGRAM", "app")]))
            .errors(),
        exec("bare", &["/app$(NAME)", "health"]).with("NAME by valueFrom", from_pod),
    ]
}

fn volumes() -> Vec<Row> {
    vec![
        exec("bare", &["/tools/check", "health"])
            .with("a volume at /tools", mount("/tools"))
            .in_pod("an init container fills it", filled())
            .unknown(Reality::Passes),
        exec("bare", &["check", "health"])
            .with("a volume at /usr/local/bin", mount("/usr/local/bin"))
            .in_pod("an init container fills it", filled())
            .unknown(Reality::Passes),
        exec("bare", &["/tools/check", "health"])
            .with("a volume at /tools", mount("/tools"))
            .in_pod("empty", empty())
            .unknown(Reality::Errors),
        exec("bare", &["/tools/check", "health"])
            .with(
                "a file of a volume at /tools/check",
                json!({"volumeMounts": [{"name": "volume", "mountPath": "/tools/check", "subPath": "check"}]}),
            )
            .in_pod("an init container fills it", filled())
            .unknown(Reality::Passes),
        exec("bare", &["/tools/check", "health"])
            .with("a volume at /data", mount("/data"))
            .in_pod("an init container fills it", filled())
            .errors()
            .refused(),
        exec("debian", &["/bin/cat", "/etc/hostname"])
            .with("a volume at /usr/bin", mount("/usr/bin"))
            .in_pod("empty", empty())
            .unknown(Reality::Errors),
        exec("debian", &["/bin/check", "health"])
            .with("a volume at /usr/bin", mount("/usr/bin"))
            .in_pod("an init container fills it", filled())
            .unknown(Reality::Passes),
        exec("busybox", &["/scripts/check"])
            .with("a ConfigMap at /scripts", mount("/scripts"))
            .in_pod("defaultMode: 0755", scripts(0o755))
            .unknown(Reality::Passes),
        exec("busybox", &["/scripts/check"])
            .with("a ConfigMap at /scripts", mount("/scripts"))
            .in_pod("defaultMode: 0644", scripts(0o644))
            .unknown(Reality::Errors),
        exec("busybox", &["sh", "/scripts/check"])
            .with("a ConfigMap at /scripts", mount("/scripts"))
            .in_pod("defaultMode: 0644", scripts(0o644))
            .unknown(Reality::Passes),
        exec("debian", &["sh", "-c", "/scripts/check"])
            .with("a ConfigMap at /scripts", mount("/scripts"))
            .in_pod("defaultMode: 0755", scripts(0o755))
            .unknown(Reality::Passes),
        // The interpreter lies on a volume.
        exec("broken", &["/check"])
            .with("a volume at /bin", mount("/bin"))
            .in_pod(
                "an init container puts a program there as sh",
                json!({"volumes": [{"name": "volume", "emptyDir": {}}],
                    "initContainers": [{"name": "fill", "image": "IMAGE", "args": ["install", "/filled/sh"],
                        "volumeMounts": [{"name": "volume", "mountPath": "/filled"}]}]}),
            )
            .unknown(Reality::Passes),
        exec("broken", &["/toolcheck"])
            .with("a volume at /opt/shell", mount("/opt/shell"))
            .in_pod(
                "an init container puts an interpreter there",
                json!({"volumes": [{"name": "volume", "emptyDir": {}}],
                    "initContainers": [{"name": "fill", "image": "IMAGE", "args": ["install", "/filled/run"],
                        "volumeMounts": [{"name": "volume", "mountPath": "/filled"}]}]}),
            )
            .unknown(Reality::Passes),
    ]
}

fn commands() -> Vec<Row> {
    vec![
        exec("bare", &["/checks", "health"])
            .with("args: serve /checks", json!({"args": ["serve", "/checks"]}))
            .unknown(Reality::Passes),
        exec("alpine", &["curl", "health"])
            .with(
                "command: cp /app /usr/bin/curl",
                json!({"command": ["sh", "-c", "cp /app /usr/bin/curl; exec /app"]}),
            )
            .unknown(Reality::Passes),
        exec("alpine", &["curl", "health"])
            .with(
                "command: cp /app /usr/bin/curl",
                json!({"command": ["sh", "-c", "cp /app /usr/bin/curl; exec /app"]}),
            )
            .with(
                "readOnlyRootFilesystem",
                json!({"securityContext": {"readOnlyRootFilesystem": true}}),
            )
            .errors()
            .refused(),
        exec("debian", &["sh", "-c", "curl health"])
            .with(
                "command: cp /app /usr/bin/curl",
                json!({"command": ["sh", "-c", "cp /app /usr/bin/curl; exec /app"]}),
            )
            .unknown(Reality::Passes),
        exec("debian", &["curl", "health"])
            .with("command: /app serve", json!({"command": ["/app", "serve"]}))
            .errors()
            .refused(),
    ]
}
