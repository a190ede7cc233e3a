//! Sources of Flux, built for real: the objects of config/samples/examples/flux.yaml. The test says in their statuses what Flux has fetched, in Flux's
//! place, and serves the archives that Flux would keep.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::runtime::{conditions, wait};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use whittle_api::{FluxKind, ImageBuildStatus, TriggerReason};

use crate::field::{Field, PATIENCE, Repository, registry};
use crate::registry::{files_of, push_artifact};

const SAMPLE: &str = include_str!("../../config/samples/examples/flux.yaml");
pub const COPY: &str = "FROM scratch\nCOPY . /src/\n";

/// A kind of Flux with all of its fields and none of its rules; where Flux is installed, its own stays.
async fn install(client: &Client, kind: FluxKind) {
    let (plural, name) = (kind.plural(), kind.to_string());
    let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let crd: CustomResourceDefinition = serde_json::from_value(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.source.toolkit.fluxcd.io")},
        "spec": {
            "group": "source.toolkit.fluxcd.io", "scope": "Namespaced",
            "names": {"kind": name, "plural": plural, "singular": name.to_lowercase()},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": any, "status": any}}},
            }],
        },
    }))
    .unwrap();
    let crds = Api::<CustomResourceDefinition>::all(client.clone());
    let name = crd.name_any();
    if crds.get_opt(&name).await.unwrap().is_none() {
        let (params, crd) = (PatchParams::apply("e2e"), Patch::Apply(&crd));
        crds.patch(&name, &params, &crd).await.unwrap();
    }
    let established = wait::await_condition(crds, &name, conditions::is_crd_established());
    let established = tokio::time::timeout(PATIENCE, established).await;
    established
        .expect("the kind is established in time")
        .unwrap();
}

pub fn objects(field: &Field, kind: FluxKind) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk("source.toolkit.fluxcd.io", "v1", &kind.to_string());
    let resource = ApiResource::from_gvk_with_plural(&gvk, kind.plural());
    Api::namespaced_with(field.client.clone(), &field.namespace, &resource)
}

/// Flux has fetched this.
async fn fetched(field: &Field, kind: FluxKind, artifact: Value) {
    let ready = json!({"type": "Ready", "status": "True", "reason": "Succeeded", "message": "stored artifact",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let status =
        json!({"status": {"observedGeneration": 1, "conditions": [ready], "artifact": artifact}});
    let api = objects(field, kind);
    let (params, status) = (PatchParams::default(), Patch::Merge(status));
    api.patch_status("hello", &params, &status).await.unwrap();
}

/// An archive as Flux makes them.
pub fn archive(text: &str) -> Vec<u8> {
    let packed = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    let mut tar = tar::Builder::new(packed);
    for (name, text) in [("Dockerfile", COPY), ("text", text)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

/// Serves archives as Flux's source-controller does; its address.
async fn serve(field: &Field, archives: &[(&str, &[u8])]) -> String {
    let data: serde_json::Map<String, Value> = archives
        .iter()
        .map(|(name, bytes)| ((*name).to_owned(), STANDARD.encode(bytes).into()))
        .collect();
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "archives"}, "binaryData": data});
    field.create(map).await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "archives"}, "spec": {"terminationGracePeriodSeconds": 0,
        "containers": [{"name": "archives", "image": "busybox:1.36", "command": ["httpd", "-f", "-p", "9090", "-h", "/data"],
            "readinessProbe": {"tcpSocket": {"port": 9090}, "periodSeconds": 1},
            "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
        "volumes": [{"name": "data", "configMap": {"name": "archives"}}]}});
    field.create(pod).await;
    let address = field.until("the archives are served", async || {
        let status = field.api::<Pod>().get("archives").await.unwrap().status?;
        let ready = status.container_statuses?.first()?.ready;
        ready.then_some(status.pod_ip).flatten()
    });
    format!("http://{}:9090", address.await)
}

async fn has(field: &Field, name: &str, status: &ImageBuildStatus, revision: &str, text: &str) {
    assert_eq!(status.revision.as_deref(), Some(revision), "{name}");
    let files = files_of(&field.image(name), status.digest.as_ref().unwrap()).await;
    assert_eq!(files["src/text"], text.as_bytes(), "{name}");
}

#[tokio::test]
async fn what_flux_has_fetched_is_built_of_each_kind_and_again_and_a_source_that_has_gone_is_told()
{
    let field = Field::new("flux").await;
    for kind in FluxKind::ALL {
        install(&field.client, kind).await;
    }
    let repository = Repository::new(&field.namespace);
    let push = |text: &str| {
        let files = [("cmd/hello/Dockerfile", COPY), ("cmd/hello/text", text)];
        repository.commit(&files, "refs/heads/main")
    };
    let first = push("git, one");
    let here = SAMPLE
        .replace("https://git.example.com/team/hello.git", &repository.url)
        .replace(
            "registry.example.com/team",
            &format!("{}/{}", registry(), field.namespace),
        );
    for mut object in serde_saphyr::from_multiple::<Value>(&here).unwrap() {
        if object["kind"] == "ImageBuild" {
            // There is nothing to start in them.
            object["spec"]["contract"] = json!({"warn": ["RunnableEntrypoint"]});
        }
        field.create(object).await;
    }
    field.create(json!({"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "ExternalArtifact", "metadata": {"name": "hello"}, "spec": {}})).await;
    // Nothing has been fetched.
    field.ready("flux-git", "Unknown", "SourceNotReady").await;

    // The archive of a GitRepository is not used, and not there.
    let git = |commit: &str| {
        json!({"revision": format!("main@sha1:{commit}"), "digest": format!("sha256:{}", "0".repeat(64)),
            "path": "a.tar.gz", "url": "http://192.0.2.1/a.tar.gz", "lastUpdateTime": "2026-01-01T00:00:00Z"})
    };
    fetched(&field, FluxKind::GitRepository, git(&first)).await;
    let pushed = push_artifact(&field.image("source"), "latest", &archive("an artifact")).await;
    let artifact = json!({"revision": format!("latest@{pushed}"), "digest": pushed, "path": "b.tar.gz",
        "url": "http://192.0.2.1/b.tar.gz", "lastUpdateTime": "2026-01-01T00:00:00Z"});
    fetched(&field, FluxKind::OCIRepository, artifact).await;
    let (bucket, external) = (archive("a bucket"), archive("something else"));
    let files = [
        ("bucket.tar.gz", bucket.as_slice()),
        ("external.tar.gz", external.as_slice()),
    ];
    let url = serve(&field, &files).await;
    let kept = |name: &str, bytes: &[u8], revision: &str| {
        json!({"revision": revision, "digest": whittle_image::digest_of(bytes), "path": name, "url": format!("{url}/{name}"),
            "lastUpdateTime": "2026-01-01T00:00:00Z"})
    };
    let revision = format!("sha256:{}", "b".repeat(64));
    let archive = kept("bucket.tar.gz", &bucket, &revision);
    fetched(&field, FluxKind::Bucket, archive).await;
    let archive = kept("external.tar.gz", &external, "v1@sha256:cc");
    fetched(&field, FluxKind::ExternalArtifact, archive).await;

    let status = field.succeeds("flux-git").await;
    has(
        &field,
        "flux-git",
        &status,
        &format!("main@sha1:{first}"),
        "git, one",
    )
    .await;
    let tags = ["latest".to_owned(), format!("main-{}", &first[..7])];
    assert_eq!(status.tags.as_deref(), Some(&tags[..]));
    let status = field.succeeds("flux-oci").await;
    has(
        &field,
        "flux-oci",
        &status,
        &format!("oci@{pushed}"),
        "an artifact",
    )
    .await;
    let status = field.succeeds("flux-bucket").await;
    has(&field, "flux-bucket", &status, &revision, "a bucket").await;
    let status = field.succeeds("flux-external").await;
    has(
        &field,
        "flux-external",
        &status,
        "v1@sha256:cc",
        "something else",
    )
    .await;

    // It is held to the commit that Flux has fetched, also where the branch has moved on.
    let second = push("git, two");
    push("git, three");
    fetched(&field, FluxKind::GitRepository, git(&second)).await;
    let revision = format!("main@sha1:{second}");
    let status = field.has_built("flux-git", &revision).await;
    has(&field, "flux-git", &status, &revision, "git, two").await;
    let trigger = status.trigger.unwrap();
    assert_eq!(
        (status.build, trigger.reason),
        (Some(2), TriggerReason::Commit)
    );

    // It is deleted: told, and the image stays.
    let api = objects(&field, FluxKind::GitRepository);
    api.delete("hello", &DeleteParams::default()).await.unwrap();
    let said = field.triggers("flux-git", "SourceNotFound").await;
    assert!(said.starts_with("GitRepository hello not found"), "{said}");
    let status = field.succeeds("flux-git").await;
    assert_eq!(status.build, Some(2));
    field.close().await;
}
