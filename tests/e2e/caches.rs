//! Caches outlive the daemon's Pod, and its sleep.

use std::path::{Path, PathBuf};
use std::process::Command;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use whittle_api::{Builder, find};

use crate::field::{Field, variable};

const BUILDER: &str = "whittle-builder-default";

/// The demo's web service, which needs a module.
fn service(line: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/demo/hello");
    let mut files = serde_json::Map::new();
    for name in ["Dockerfile", "go.mod", "go.sum", "main.go"] {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        files.insert(name.into(), json!(text));
    }
    let main = files["main.go"].as_str().unwrap();
    files["main.go"] = json!(format!("{main}\n// {line}\n"));
    Value::Object(files)
}

/// A folder of the cluster's module proxy with all modules that the service needs; only this test asks
/// there.
struct Modules {
    name: String,
    folder: PathBuf,
}

impl Modules {
    fn new(name: &str) -> Self {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/demo/hello");
        let downloads = tempfile::tempdir().unwrap();
        let done = Command::new("go")
            .args(["mod", "download"])
            .current_dir(sources)
            .env("GOMODCACHE", downloads.path())
            .env("GOFLAGS", "-modcacherw")
            .status()
            .unwrap();
        assert!(done.success(), "go mod download");
        let folder = Path::new(&variable("GOPROXY_DIR")).join(name);
        copy(&downloads.path().join("cache/download"), &folder);
        Self {
            name: name.into(),
            folder,
        }
    }

    fn url(&self) -> String {
        format!("{}/{}", variable("GOPROXY_URL"), self.name)
    }

    /// How often one of them was asked for.
    fn requests(&self) -> usize {
        let log = std::fs::read_to_string(variable("MODULES_LOG")).unwrap_or_default();
        log.lines()
            .filter(|line| line.contains(&format!("/{}/", self.name)))
            .count()
    }
}

impl Drop for Modules {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn a_one_line_change_downloads_no_module_after_the_pod_was_deleted_nor_after_it_slept() {
    let field = Field::new("caches").await;
    let modules = Modules::new(&field.namespace);
    let spec = json!({"buildArgs": {"GOPROXY": modules.url()}});
    field.build("hello", service("first"), spec.clone()).await;
    field.succeeds("hello").await;
    let first = modules.requests();
    assert!(first > 0, "the first build downloads");

    let pods = field.api::<Pod>();
    pods.delete(&format!("{BUILDER}-0"), &DeleteParams::default())
        .await
        .unwrap();
    field.build("hello", service("second"), spec.clone()).await;
    let status = field.succeeds_again("hello", 2).await;
    assert_eq!(
        modules.requests(),
        first,
        "after the Pod was deleted: {:?}",
        status.steps
    );

    // Now the daemon goes to sleep by itself, as soon as it may.
    let builders: Api<Builder> = field.api();
    let patch = json!({"spec": {"idleTimeout": "1s"}});
    builders
        .patch(
            "default",
            &Default::default(),
            &kube::api::Patch::Merge(patch),
        )
        .await
        .unwrap();
    let sets: Api<StatefulSet> = field.api();
    field
        .until("the builder sleeps, and its Pod is gone", async || {
            let builder = builders.get("default").await.unwrap();
            let ready = find(&builder.status?.conditions, "Ready")?.clone();
            let replicas = sets.get(BUILDER).await.unwrap().spec?.replicas;
            let pod = pods.get_opt(&format!("{BUILDER}-0")).await.unwrap();
            (ready.reason == "Idle"
                && ready.status == "True"
                && replicas == Some(0)
                && pod.is_none())
            .then_some(())
        })
        .await;
    field.build("hello", service("third"), spec).await;
    let status = field.succeeds_again("hello", 3).await;
    assert_eq!(
        modules.requests(),
        first,
        "after it slept: {:?}",
        status.steps
    );
    let steps = status.steps.unwrap();
    assert!(steps.cached >= 4 && steps.cached < steps.total, "{steps:?}");
    assert_eq!(
        field.jobs("hello").await.len(),
        3,
        "each build has one attempt"
    );
    field.close().await;
}
