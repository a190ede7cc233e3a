//! The chart and the kustomize base, as people install, move and upgrade them.

use std::path::{Path, PathBuf};
use std::process::Command;

use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::stage::{Stage, root};

async fn make_secret(client: Client, namespace: &str, name: &str) -> Result<(), String> {
    let secret: Secret = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    let secrets: Api<Secret> = Api::namespaced(client, namespace);
    let made = secrets.create(&PostParams::default(), &secret).await;
    made.map(drop).map_err(|error| error.to_string())
}

fn bound(name: &str, role: Value, account: &str, namespace: &str) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": role, "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}]})
}

/// What kustomize makes of an object where an overlay names another namespace: it knows nothing of expressions.
fn moved(mut object: Value, namespace: &str) -> Value {
    if object["metadata"]["namespace"] == "whittle-system" {
        object["metadata"]["namespace"] = namespace.into();
    }
    let subjects = object.get_mut("subjects").and_then(Value::as_array_mut);
    for subject in subjects.into_iter().flatten() {
        subject["namespace"] = namespace.into();
    }
    // The account of the other tests' controllers has this name.
    let text = object.to_string();
    let text = text.replace(
        "'system:serviceaccount:whittle-system:",
        "'system:serviceaccount:nowhere:",
    );
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn a_guard_that_was_moved_to_another_namespace_holds_its_controller_and_nobody_else() {
    let (home, other) = (Stage::new().await, Stage::new().await);
    for template in ["rbac.yaml", "selfguard.yaml"] {
        for object in home.rendered(template, &[]) {
            home.install(moved(object, &home.namespace)).await;
        }
    }
    let account = |name: &str| format!("system:serviceaccount:{}:{name}", home.namespace);
    let role = |name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name});
    let may = format!("{}-may-make-secrets", home.namespace);
    home.install(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": may},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]}]})).await;
    for (name, role) in [("other", role(&may)), ("admin", role("cluster-admin"))] {
        let binding = format!("{}-{name}", home.namespace);
        home.install(bound(&binding, role, name, &home.namespace))
            .await;
    }
    let controller = home.server().user(&account("whittle")).await;
    let mut tries = 0;
    let told = home.until("the policy holds", async || {
        tries += 1;
        let name = format!("foreign-{tries}");
        let told = make_secret(controller.clone(), &other.namespace, &name)
            .await
            .err();
        told.filter(|told| told.contains("ValidatingAdmissionPolicy"))
    });
    let told = told.await;
    assert!(told.contains("not whittle's"), "{told}");
    let told = make_secret(controller, &home.namespace, "at-home")
        .await
        .unwrap_err();
    assert!(told.contains("in whittle's own namespace"), "{told}");
    for name in ["other", "admin"] {
        let somebody = home.server().user(&account(name)).await;
        make_secret(somebody, &other.namespace, name).await.unwrap();
    }
}

struct Helm {
    program: PathBuf,
    kubeconfig: PathBuf,
    release: String,
    namespace: String,
}

impl Helm {
    /// What helm prints for these arguments, about this release; all that it says where it fails.
    fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new(&self.program)
            .args(arguments)
            .args(["--namespace", &self.namespace, "--kubeconfig"])
            .arg(&self.kubeconfig)
            .output()
            .unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(said(&output.stdout)),
            false => Err(said(&[output.stdout, output.stderr].concat())),
        }
    }
}

fn copied(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match from.is_dir() {
            true => copied(&from, &to),
            false => drop(std::fs::copy(&from, &to).unwrap()),
        }
    }
}

/// A chart as it was before there was `metadataBounds`, and with another default.
fn earlier_chart(folder: &Path) -> PathBuf {
    let chart = folder.join("whittle");
    copied(&root().join("charts/whittle"), &chart);
    std::fs::remove_file(chart.join("templates/metadatabounds.yaml")).unwrap();
    let values = std::fs::read_to_string(chart.join("values.yaml")).unwrap();
    let before = values.replace("\nmetadataBounds:\n  enabled: true\n", "\n");
    let before = before.replace("\n  automount: false\n", "\n  automount: true\n");
    assert!(!before.contains("metadataBounds:") && before.contains("automount: true"));
    for file in ["values.yaml", "files/defaults.yaml"] {
        std::fs::write(chart.join(file), &before).unwrap();
    }
    chart
}

#[tokio::test]
async fn an_upgrade_has_what_is_new_and_keeps_what_was_set_in_each_of_the_ways_that_helm_has() {
    let stage = Stage::new().await;
    let helm = Helm {
        program: PathBuf::from(std::env::var("CLUSTER_BIN").unwrap()).join("helm"),
        kubeconfig: stage.server().kubeconfig_of_admin(),
        release: stage.namespace.clone(),
        namespace: stage.namespace.clone(),
    };
    let folder = tempfile::tempdir().unwrap();
    let (before, now) = (earlier_chart(folder.path()), root().join("charts/whittle"));
    // The CRDs are there already; and only this release's own account may be held by its policies.
    let set = "crds.install=false,logLevel=debug,probeGuard.mode=Off";
    let (release, before) = (helm.release.as_str(), before.to_str().unwrap());
    let now = now.to_str().unwrap();
    let documented = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let line = documented
        .lines()
        .find(|line| line.starts_with("helm upgrade"))
        .unwrap();
    assert!(line.ends_with(" --reset-then-reuse-values"), "{line}");
    // With --reuse-values defaults stay those of the chart before, and what that did not know has the default of this one.
    for (option, automounted) in [("--reuse-values", 1), ("--reset-then-reuse-values", 0)] {
        helm.run(&["install", release, before, "--set", set])
            .unwrap();
        let installed = helm.run(&["get", "manifest", release]).unwrap();
        assert!(!installed.contains("-metadata\n"));
        helm.run(&["upgrade", release, now, option]).unwrap();
        let upgraded = helm.run(&["get", "manifest", release]).unwrap();
        assert!(upgraded.contains("-metadata\n"), "{option}: {upgraded}");
        assert!(
            upgraded.contains("value: \"debug\""),
            "{option}: what was set is lost"
        );
        let accounts = upgraded.matches("\nautomountServiceAccountToken: true\n");
        assert_eq!(accounts.count(), automounted, "{option}: {upgraded}");
        helm.run(&["uninstall", release]).unwrap();
    }
}
