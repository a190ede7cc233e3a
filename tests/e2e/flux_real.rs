//! Flux's own source-controller in the place of the test: what it really writes is built. It takes minutes to compile, so `make test-long` runs this
//! and `make test` does not; flux.rs says its part there.

use std::path::{Path, PathBuf};
use std::process::Command;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use whittle_api::{FluxKind, TriggerReason};

use crate::field::{Field, PATIENCE, Repository, registry, variable};
use crate::flux::{COPY, archive, objects as sources};
use crate::registry::{files_of, push_artifact};

/// What a program says on its standard output; the end of the test where it fails.
pub fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The folder with the manifests of the version that is built.
fn manifests(cluster: &Path) -> PathBuf {
    let module = [
        "list",
        "-m",
        "-f",
        "{{.Dir}}",
        "github.com/fluxcd/source-controller",
    ];
    let flux = cluster.join("components/flux");
    PathBuf::from(said(Command::new("go").args(module).current_dir(flux))).join("config")
}

fn objects(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    serde_saphyr::from_multiple(&text).unwrap()
}

/// Builds a component that is built on demand and pushes an image of it; the image as Pods ask for it.
pub fn image(cluster: &Path, namespace: &str, name: &str) -> String {
    let build = ["run", ".", "build", name];
    let folder = said(Command::new("go").args(build).current_dir(cluster));
    let tree = tempfile::tempdir().unwrap();
    let layer = tree.path().join("layer.tar");
    let mut tar = tar::Builder::new(std::fs::File::create(&layer).unwrap());
    let program = Path::new(&folder).join(name);
    tar.append_path_with_name(program, name).unwrap();
    tar.into_inner().unwrap().sync_all().unwrap();
    let there = format!("{}/{namespace}/{name}:e2e", variable("REGISTRY_HOST"));
    let crane = || Command::new(Path::new(&variable("CLUSTER_BIN")).join("crane"));
    let new_layer = ["append", "--insecure", "--new_tag", &there, "--new_layer"];
    said(crane().args(new_layer).arg(&layer));
    let start = format!("/{name}");
    said(crane().args([
        "mutate",
        "--insecure",
        &there,
        "--entrypoint",
        &start,
        "--set-platform",
        "linux/amd64",
        "--tag",
        &there,
    ]));
    format!("{}/{namespace}/{name}:e2e", registry())
}

/// Installs it as its own manifests do, but for this namespace alone.
async fn install(field: &Field) {
    let cluster = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster");
    let config = manifests(&cluster);
    let crds = std::fs::read_dir(config.join("crd/bases")).unwrap();
    for entry in crds {
        for crd in objects(&entry.unwrap().path()) {
            field.create_for_all(crd).await;
        }
    }
    let role = objects(&config.join("rbac/role.yaml")).remove(0);
    field
        .create(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "flux"}, "rules": role["rules"]}))
        .await;
    field
        .create(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "flux"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "flux"},
            "subjects": [{"kind": "ServiceAccount", "name": "default"}]}))
        .await;
    field
        .create(objects(&config.join("manager/service.yaml")).remove(0))
        .await;
    let mut deployment = objects(&config.join("manager/deployment.yaml")).remove(0);
    let pod = &mut deployment["spec"]["template"]["spec"];
    pod["securityContext"] = json!({"fsGroup": 1337, "runAsUser": 65534});
    let container = &mut pod["containers"][0];
    container["image"] = image(&cluster, &field.namespace, "source-controller").into();
    let own = json!([
        "--watch-all-namespaces=false",
        "--log-level=info",
        "--storage-path=/data",
        "--storage-adv-addr=source-controller.$(RUNTIME_NAMESPACE).svc.cluster.local."
    ]);
    container["args"] = own;
    field.create(deployment).await;
    field
        .until("Flux's source-controller runs", async || {
            let deployment = field.api::<Deployment>().get("source-controller").await;
            (deployment.unwrap().status?.ready_replicas == Some(1)).then_some(())
        })
        .await;
}

#[tokio::test]
#[ignore = "compiles Flux's source-controller, which takes minutes: make test-long"]
async fn what_its_source_controller_fetches_is_built_and_again_and_what_it_cannot_fetch_is_told() {
    let mut field = Field::new("flux-real").await;
    field.patience = 4 * PATIENCE;
    install(&field).await;
    let repository = Repository::new(&field.namespace);
    let push = |text: &str| {
        let files = [("cmd/hello/Dockerfile", COPY), ("cmd/hello/text", text)];
        repository.commit(&files, "refs/heads/main")
    };
    let first = push("git, one");
    let of_flux = |kind: &str, spec: Value| json!({"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": kind, "metadata": {"name": "hello"}, "spec": spec});
    let git = |url: &str| {
        of_flux(
            "GitRepository",
            json!({"interval": "5s", "url": url, "ref": {"branch": "main"}}),
        )
    };
    let nothing_to_start = json!({"contract": {"warn": ["RunnableEntrypoint"]}});
    field.create(git(&repository.url)).await;
    let from = json!({"flux": {"kind": "GitRepository", "name": "hello", "subPath": "cmd/hello"}});
    field.apply("git", from, nothing_to_start.clone()).await;
    let source = field.image("source");
    let pushed = push_artifact(&source, "latest", &archive("an artifact")).await;
    let spec = json!({"interval": "5s", "url": format!("oci://{source}"), "ref": {"tag": "latest"}, "insecure": true});
    field.create(of_flux("OCIRepository", spec)).await;
    let from = json!({"flux": {"kind": "OCIRepository", "name": "hello"}});
    field.apply("oci", from, nothing_to_start).await;

    let has = async |name: &str, revision: &str, text: &str| {
        let status = field.has_built(name, revision).await;
        let files = files_of(&field.image(name), status.digest.as_ref().unwrap()).await;
        assert_eq!(files["src/text"], text.as_bytes(), "{name}");
        status
    };
    has("git", &format!("main@sha1:{first}"), "git, one").await;
    has("oci", &format!("oci@{pushed}"), "an artifact").await;

    // What it fetches next is built at once, as a commit.
    let second = push("git, two");
    let status = has("git", &format!("main@sha1:{second}"), "git, two").await;
    let trigger = status.trigger.unwrap();
    assert_eq!(
        (status.build, trigger.reason),
        (Some(2), TriggerReason::Commit)
    );
    let moved = push_artifact(&source, "latest", &archive("another artifact")).await;
    let status = has("oci", &format!("oci@{moved}"), "another artifact").await;
    assert_eq!(status.build, Some(2));

    // In its own words, with the image left as it is.
    field.create(git(&format!("{}.gone", repository.url))).await;
    let words = field.triggers("git", "SourceNotReady").await;
    assert!(
        words.contains("GitRepository hello") && words.contains("not found"),
        "{words}"
    );
    let status = field.succeeds("git").await;
    assert_eq!(status.build, Some(2));
    // They have finalizers, which nobody takes away once source-controller has gone with the namespace.
    for kind in [FluxKind::GitRepository, FluxKind::OCIRepository] {
        let api = sources(&field, kind);
        api.delete("hello", &DeleteParams::default()).await.unwrap();
        field
            .until(&format!("the {kind} is gone"), async || {
                let left = api.get_opt("hello").await.unwrap();
                left.is_none().then_some(())
            })
            .await;
    }
    field.close().await;
}
