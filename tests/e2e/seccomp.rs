//! The seccomp profile of builders in a user namespace: each system call that it adds to the runtime's own profile is needed.

use std::path::{Path, PathBuf};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerState, Pod};
use kube::Api;
use serde_json::{Value, json};

use crate::field::{Field, registry, variable};

const PROFILE: &str = "config/seccomp/builder-v1.json";

/// Steps as people write them: with a host name, files of other owners, mounts of each type, a file of the context.
const DOCKERFILE: &str = "FROM busybox:1.36 AS a
RUN hostname && mkdir /x && chown 1005 /x && chroot / id
RUN --mount=type=cache,target=/c --mount=type=secret,id=s --mount=type=tmpfs,target=/t echo a > /c/a && cat /run/secrets/s
COPY subordinate-ids /ids
FROM scratch
COPY --from=a /x /x
";

/// A profile on the node, as long as this stands.
struct OnNode(PathBuf);

impl OnNode {
    fn put(field: &Field, name: &str, profile: &Value) -> Self {
        let folder = Path::new(&variable("KUBELET_PATH")).join("seccomp/whittle-tests");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{}-{name}.json", field.namespace));
        std::fs::write(&path, profile.to_string()).unwrap();
        Self(path)
    }

    /// As a Pod names it.
    fn name(&self) -> String {
        let file = self.0.file_name().unwrap().to_string_lossy();
        format!("whittle-tests/{file}")
    }
}

impl Drop for OnNode {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A daemon as the Builder's, without TLS, and a client that builds once.
fn pod(name: &str, profile: &str, client: &str) -> Value {
    let ids =
        |path: &str| json!({"name": "source", "mountPath": path, "subPath": "subordinate-ids"});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "hostUsers": false, "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": false,
        "securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000},
        "volumes": [{"name": "source", "configMap": {"name": "source"}}, {"name": "state", "emptyDir": {}}],
        "initContainers": [{
            "name": "daemon", "image": "moby/buildkit:v0.33.1-rootless", "restartPolicy": "Always",
            "command": ["rootlesskit", "buildkitd", "--addr", "tcp://127.0.0.1:1234", "--config", "/source/buildkitd.toml"],
            "startupProbe": {"exec": {"command": ["buildctl", "--addr", "tcp://127.0.0.1:1234", "debug", "workers"]},
                "periodSeconds": 1, "failureThreshold": 60},
            "securityContext": {"procMount": "Unmasked", "allowPrivilegeEscalation": true,
                "seccompProfile": {"type": "Localhost", "localhostProfile": profile}},
            "volumeMounts": [{"name": "source", "mountPath": "/source"},
                {"name": "state", "mountPath": "/home/user/.local/share/buildkit"}, ids("/etc/subuid"), ids("/etc/subgid")],
        }],
        "containers": [{
            "name": "build", "image": client, "command": ["/usr/bin/buildctl"],
            "args": ["--addr", "tcp://127.0.0.1:1234", "build", "--frontend", "dockerfile.v0", "--local", "context=/source",
                "--local", "dockerfile=/source", "--secret", "id=s,src=/source/subordinate-ids"],
            "securityContext": {"runAsUser": 65532},
            "volumeMounts": [{"name": "source", "mountPath": "/source"}],
        }],
    }})
}

fn failed(state: Option<&ContainerState>) -> Option<bool> {
    let ended = state?.terminated.as_ref()?;
    Some(ended.exit_code != 0)
}

/// True where the daemon came up and the build succeeded; false where either failed.
async fn builds(field: &Field, name: &str) -> bool {
    let pods = field.api::<Pod>();
    field
        .until(&format!("Pod {name} has built, or failed"), async || {
            let status = pods.get(name).await.unwrap().status?;
            let daemon = status.init_container_statuses.as_ref()?.first()?;
            let client = status.container_statuses.as_ref()?.first()?;
            if daemon.restart_count > 0 && failed(daemon.last_state.as_ref()) == Some(true) {
                return Some(false);
            }
            failed(client.state.as_ref()).map(|failed| !failed)
        })
        .await
}

#[tokio::test]
async fn each_system_call_that_the_profile_adds_is_needed() {
    let field = Field::new("seccomp").await;
    let system: Api<Deployment> = Api::namespaced(field.client.clone(), "whittle-system");
    let spec = system.get("whittle").await.unwrap().spec.unwrap();
    let client = spec.template.spec.unwrap().containers[0]
        .image
        .clone()
        .unwrap();
    let toml = format!(
        "[registry.\"docker.io\"]\nmirrors = [\"{0}\"]\n[registry.\"{0}\"]\nhttp = true\n",
        registry()
    );
    field
        .create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "source"}, "data": {
            "Dockerfile": DOCKERFILE, "buildkitd.toml": toml, "subordinate-ids": "user:1001:64000\n"}}))
        .await;
    let profile: Value = serde_json::from_str(&std::fs::read_to_string(PROFILE).unwrap()).unwrap();
    let rules = profile["syscalls"].as_array().unwrap();
    let added: Vec<String> =
        serde_json::from_value(rules.last().unwrap()["names"].clone()).unwrap();
    assert!(
        added.contains(&"unshare".to_owned()),
        "the last rule is what is added"
    );
    let without = |name: &str| {
        let mut less = profile.clone();
        let names = less["syscalls"].as_array_mut().unwrap().last_mut().unwrap();
        names["names"]
            .as_array_mut()
            .unwrap()
            .retain(|it| it != name);
        less
    };
    let mut stand = vec![];
    for name in added.iter().map(String::as_str).chain(["nothing"]) {
        let put = OnNode::put(&field, name, &without(name));
        let pod_name = format!("without-{}", name.replace('_', "-"));
        field.create(pod(&pod_name, &put.name(), &client)).await;
        stand.push((name, pod_name, put));
    }
    for (name, pod, _put) in &stand {
        assert_eq!(
            builds(&field, pod).await,
            *name == "nothing",
            "without {name}"
        );
    }
    field.close().await;
}
