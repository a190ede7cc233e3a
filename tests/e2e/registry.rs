//! What really stands in the registry, and registries that refuse or are away.

use std::collections::BTreeMap;
use std::io::Read;

use serde_json::{Value, json};

use crate::field::{Field, variable};

const TYPES: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// A manifest or index and its digest; `image` as in `spec.output.image`, of the local registry.
pub async fn manifest(image: &str, reference: &str) -> (String, Value) {
    let found = find_manifest(image, reference).await;
    found.unwrap_or_else(|| panic!("{image} has no {reference}"))
}

/// As [`manifest`]; none where there is no such tag or digest.
pub async fn find_manifest(image: &str, reference: &str) -> Option<(String, Value)> {
    let (_, repository) = image.split_once('/').unwrap();
    let url = format!(
        "http://{}/v2/{repository}/manifests/{reference}",
        variable("REGISTRY_HOST")
    );
    let answer = reqwest::Client::new()
        .get(&url)
        .header("accept", TYPES)
        .send()
        .await
        .unwrap();
    if answer.status() == reqwest::StatusCode::NOT_FOUND {
        return None;
    }
    assert!(answer.status().is_success(), "{url}: {}", answer.status());
    let digest = answer.headers()["docker-content-digest"]
        .to_str()
        .unwrap()
        .to_owned();
    let found = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    Some((digest, found))
}

/// The bytes of a blob.
pub async fn blob(image: &str, digest: &str) -> Vec<u8> {
    let (_, repository) = image.split_once('/').unwrap();
    let url = format!(
        "http://{}/v2/{repository}/blobs/{digest}",
        variable("REGISTRY_HOST")
    );
    let answer = reqwest::get(&url).await.unwrap();
    assert!(answer.status().is_success(), "{url}: {}", answer.status());
    answer.bytes().await.unwrap().to_vec()
}

/// Files of a one-platform image of gzip layers: path to content, without folders and links.
pub async fn files_of(image: &str, digest: &str) -> BTreeMap<String, Vec<u8>> {
    let (_, found) = manifest(image, digest).await;
    let mut files = BTreeMap::new();
    for layer in found["layers"].as_array().unwrap() {
        let packed = blob(image, layer["digest"].as_str().unwrap()).await;
        let mut archive = tar::Archive::new(flate2::read::MultiGzDecoder::new(packed.as_slice()));
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            if entry.header().entry_type().is_file() {
                let mut bytes = vec![];
                entry.read_to_end(&mut bytes).unwrap();
                files.insert(entry.path().unwrap().display().to_string(), bytes);
            }
        }
    }
    files
}

/// Pushes an artifact of one blob under a tag; the manifest's digest.
pub async fn push_artifact(image: &str, tag: &str, bytes: &[u8]) -> String {
    let (_, repository) = image.split_once('/').unwrap();
    let base = format!("http://{}/v2/{repository}", variable("REGISTRY_HOST"));
    let client = reqwest::Client::new();
    let config = b"{}".to_vec();
    for blob in [bytes.to_vec(), config.clone()] {
        let answer = client
            .post(format!("{base}/blobs/uploads/"))
            .send()
            .await
            .unwrap();
        let place = answer.headers()["location"].to_str().unwrap().to_owned();
        let and = if place.contains('?') { '&' } else { '?' };
        let place = match place.strip_prefix('/') {
            Some(path) => format!("http://{}/{path}", variable("REGISTRY_HOST")),
            None => place,
        };
        let digest = whittle_image::digest_of(&blob);
        let url = format!("{place}{and}digest={digest}");
        let answer = client.put(url).body(blob).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
    }
    let descriptor = |media_type: &str, bytes: &[u8]| json!({"mediaType": media_type, "digest": whittle_image::digest_of(bytes), "size": bytes.len()});
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.cncf.flux.config.v1+json",
        "config": descriptor("application/vnd.cncf.flux.config.v1+json", &config),
        "layers": [descriptor("application/vnd.cncf.flux.content.v1.tar+gzip", bytes)],
    });
    let answer = client
        .put(format!("{base}/manifests/{tag}"))
        .header("content-type", "application/vnd.oci.image.manifest.v1+json")
        .body(manifest.to_string())
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
    whittle_image::digest_of(manifest.to_string().as_bytes())
}

/// Bytes of a manifest's config and layers.
pub fn size(manifest: &Value) -> i64 {
    let layers: i64 = manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| layer["size"].as_i64().unwrap())
        .sum();
    manifest["config"]["size"].as_i64().unwrap() + layers
}

/// User and password that the second registry takes; the line of its htpasswd file is of them.
const USER: &str = "e2e";
const PASSWORD: &str = "e2e-password";
const HTPASSWD: &str = "e2e:$2b$05$abcdefghijklmnopqrstuueadQeWls67mLlLjbH/TccCNge6gVKkG\n";

/// A registry of this namespace, as a Pod; where it is not `up`, its Pod listens nowhere.
///
/// Returns its host. The program is the node's own, so that there is no image to make.
pub async fn second(field: &Field, up: bool, with_password: bool) -> String {
    let auth = if with_password {
        "auth: {htpasswd: {realm: e2e, path: /etc/registry/htpasswd}}\n"
    } else {
        ""
    };
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: /data}}}}\nhttp: {{addr: \":5000\"}}\n{auth}"
    );
    field.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "registry"}, "data": {"config.yml": config, "htpasswd": HTPASSWD}})).await;
    let labels = json!({"app": "registry"});
    // It has folders of the node.
    field.hold_to("privileged").await;
    // The local cluster's own program: nothing of it is installed on the node.
    let program = variable("REGISTRY_PROGRAM");
    let (folder, program) = program.rsplit_once('/').unwrap();
    let (command, probe) = match up {
        true => (
            json!([
                "/host/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
                "--library-path",
                "/host/usr/lib/x86_64-linux-gnu",
                format!("/host/registry/{program}"),
                "serve",
                "/etc/registry/config.yml",
            ]),
            json!({"tcpSocket": {"port": 5000}, "periodSeconds": 1}),
        ),
        false => (
            json!(["sleep", "3600"]),
            json!({"exec": {"command": ["true"]}}),
        ),
    };
    field
        .create(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "registry"},
            "spec": {"selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": "registry", "image": "busybox:1.36",
                        "command": command,
                        "readinessProbe": probe,
                        "volumeMounts": [
                            {"name": "usr", "mountPath": "/host/usr", "readOnly": true},
                            {"name": "registry", "mountPath": "/host/registry", "readOnly": true},
                            {"name": "config", "mountPath": "/etc/registry"},
                            {"name": "data", "mountPath": "/data"},
                        ],
                    }],
                    "volumes": [
                        {"name": "usr", "hostPath": {"path": "/usr"}},
                        {"name": "registry", "hostPath": {"path": folder}},
                        {"name": "config", "configMap": {"name": "registry"}},
                        {"name": "data", "emptyDir": {}},
                    ],
                },
            }},
        }))
        .await;
    field
        .create(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "registry"},
            "spec": {"selector": labels, "ports": [{"port": 5000}]},
        }))
        .await;
    let host = format!("registry.{}.svc:5000", field.namespace);
    let local = variable("REGISTRY");
    field
        .create(json!({
            "apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "default"},
            "spec": {"cache": {"size": "1Gi"}, "registries": [
                {"host": host, "plainHTTP": true},
                {"host": local, "plainHTTP": true},
                {"host": "docker.io", "mirrors": [local]},
            ]},
        }))
        .await;
    host
}

/// The Secret with which the second registry lets in.
pub async fn credentials(field: &Field, host: &str) {
    let config = json!({"auths": {host: {"username": USER, "password": PASSWORD}}});
    field
        .create(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "registry-credentials"},
            "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": config.to_string()},
        }))
        .await;
}
