//! Looks for the values of secrets everywhere that a build leaves something: in the registry, in the
//! cluster's objects, in logs.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use whittle_api::ImageBuild;

use crate::field::{Field, variable};
use crate::registry::{blob, manifest};

/// The forms that a value may take: as it is, in base64 at each of the three alignments, in
/// hexadecimal, backwards, and as the escaped text of a URL or of JSON (also as Go escapes it).
fn forms(value: &str) -> Vec<Vec<u8>> {
    let mut forms = vec![
        value.as_bytes().to_vec(),
        value.bytes().rev().collect(),
        value
            .bytes()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
            .into_bytes(),
        in_a_url(value),
        serde_json::to_string(value)
            .unwrap()
            .trim_matches('"')
            .as_bytes()
            .to_vec(),
    ];
    // As Go writes it into JSON.
    let escaped = serde_json::to_string(value).unwrap();
    let escaped = escaped.trim_matches('"');
    let escaped = [('<', "\\u003c"), ('>', "\\u003e"), ('&', "\\u0026")]
        .iter()
        .fold(escaped.to_owned(), |text, (from, to)| {
            text.replace(*from, to)
        });
    forms.push(escaped.into_bytes());
    for skip in 0..3 {
        // What the neighbours share a character with is left out.
        let inner = &value.as_bytes()[skip..];
        let inner = &inner[..inner.len() / 3 * 3];
        forms.push(STANDARD_NO_PAD.encode(inner).into_bytes());
        forms.push(URL_SAFE_NO_PAD.encode(inner).into_bytes());
    }
    forms.push(STANDARD.encode(value).into_bytes());
    forms
}

fn in_a_url(value: &str) -> Vec<u8> {
    let url = reqwest::Url::parse_with_params("http://x/", [("v", value)]).unwrap();
    let (_, text) = url.query().unwrap().split_once('=').unwrap();
    text.as_bytes().to_vec()
}

/// Things that were looked through, and where one of the values was found.
pub struct Search {
    forms: Vec<Vec<u8>>,
    pub found: Vec<String>,
    pub places: usize,
}

impl Search {
    pub fn new(values: &[&str]) -> Self {
        assert!(
            values.iter().all(|value| value.len() >= 12),
            "short values are found by chance"
        );
        Self {
            forms: values.iter().flat_map(|value| forms(value)).collect(),
            found: vec![],
            places: 0,
        }
    }

    fn look(&mut self, place: &str, bytes: &[u8]) {
        self.places += 1;
        let found = self
            .forms
            .iter()
            .any(|form| memchr::memmem::find(bytes, form).is_some());
        if found && !self.found.iter().any(|known| known == place) {
            self.found.push(place.to_owned());
        }
    }

    /// Every tag of a repository, with all that hangs on it: indexes, manifests, configs, layers as they
    /// are and unpacked, and referrers.
    pub async fn repository(&mut self, image: &str) {
        let (_, repository) = image.split_once('/').unwrap();
        let url = format!(
            "http://{}/v2/{repository}/tags/list",
            variable("REGISTRY_HOST")
        );
        let tags: Value = reqwest::get(&url).await.unwrap().json().await.unwrap();
        for tag in tags["tags"].as_array().into_iter().flatten() {
            self.reference(image, tag.as_str().unwrap()).await;
        }
    }

    async fn reference(&mut self, image: &str, first: &str) {
        let mut waiting = vec![first.to_owned()];
        while let Some(reference) = waiting.pop() {
            let (digest, found) = manifest(image, &reference).await;
            self.look(
                &format!("manifest {image}@{digest}"),
                found.to_string().as_bytes(),
            );
            for entry in found["manifests"].as_array().into_iter().flatten() {
                waiting.push(entry["digest"].as_str().unwrap().to_owned());
            }
            let layers = found["layers"].as_array().into_iter().flatten();
            for part in layers.chain(found.get("config")) {
                let digest = part["digest"].as_str().unwrap();
                let place = format!(
                    "{} {image}@{digest}",
                    part["mediaType"].as_str().unwrap_or("blob")
                );
                let bytes = blob(image, digest).await;
                self.look(&place, &bytes);
                self.look(&place, &unpacked(&bytes));
            }
        }
    }

    /// All objects of the namespace that a build makes or touches, and the log of every Pod, the
    /// controller's as well.
    pub async fn cluster(&mut self, field: &Field) {
        let params = ListParams::default();
        macro_rules! objects {
            ($($kind:ty),*) => {$(
                for object in field.api::<$kind>().list(&params).await.unwrap() {
                    let place = format!("{} {}", stringify!($kind), object.name_any());
                    self.look(&place, json!(object).to_string().as_bytes());
                }
            )*};
        }
        objects!(ImageBuild, whittle_api::Builder, Job, Pod, ConfigMap, Event);
        for pod in field.api::<Pod>().list(&params).await.unwrap() {
            let log = field.log(&pod.name_any()).await;
            self.look(&format!("log of {}", pod.name_any()), log.as_bytes());
        }
        let controllers = Api::<Pod>::namespaced(field.client.clone(), "whittle-system");
        for pod in controllers.list(&params).await.unwrap() {
            let log = controllers
                .logs(&pod.name_any(), &Default::default())
                .await
                .unwrap_or_default();
            self.look(&format!("log of {}", pod.name_any()), log.as_bytes());
        }
    }
}

/// A layer without its compression; gzip or zstd, else as it is.
fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let mut plain = vec![];
    match bytes {
        [0x1f, 0x8b, ..] => {
            flate2::read::MultiGzDecoder::new(bytes)
                .read_to_end(&mut plain)
                .unwrap();
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            ruzstd::decoding::StreamingDecoder::new(bytes)
                .unwrap()
                .read_to_end(&mut plain)
                .unwrap();
        }
        _ => plain.extend(bytes),
    }
    plain
}

const VALUE: &str = "s3cr3t+value/that?nobody&may=see";

/// Builds that use a secret as they should, in each way that there is, and what the search finds.
#[tokio::test]
async fn a_secret_is_found_nowhere() {
    let field = Field::new("hidden").await;
    field.create(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "token"}, "stringData": {"value": VALUE}})).await;
    let secrets = json!({"secrets": [{"id": "token", "secretRef": {"name": "token", "key": "value"}}],
        "debug": {"image": "busybox:1.36"}, "output": {"compression": "zstd"}});
    let mount = "RUN --mount=type=secret,id=token";
    for (name, steps) in [
        (
            "file",
            format!("{mount} wc -c < /run/secrets/token > /length"),
        ),
        (
            "printed",
            format!("{mount} cat /run/secrets/token && touch /done"),
        ),
        (
            "fails",
            format!("{mount} cat /run/secrets/token; cat /run/secrets/token >&2; exit 1"),
        ),
        (
            "environment",
            format!("{mount},env=TOKEN sh -c 'echo \"$TOKEN\" | wc -c > /length; env'"),
        ),
    ] {
        let files = json!({"Dockerfile": format!("FROM busybox:1.36\n{steps}\n")});
        field.build(name, files, secrets.clone()).await;
    }
    let mut search = Search::new(&[VALUE]);
    for name in ["file", "printed", "environment"] {
        field.succeeds(name).await;
        search.repository(&field.image(name)).await;
    }
    field
        .fails("fails", whittle_api::FailureReason::StepFailed)
        .await;
    search.cluster(&field).await;
    assert!(
        search.places > 40,
        "only {} places were looked through",
        search.places
    );
    assert_eq!(search.found, Vec::<String>::new());
    field.close().await;
}

/// The search itself, with leaks made on purpose.
#[tokio::test]
async fn a_leak_is_found_wherever_it_is() {
    let field = Field::new("leak").await;
    field.create(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "token"}, "stringData": {"value": VALUE}})).await;
    let secrets =
        json!({"secrets": [{"id": "token", "secretRef": {"name": "token", "key": "value"}}]});
    let mount = "RUN --mount=type=secret,id=token";
    for (name, compression, dockerfile) in [
        (
            "layer",
            "gzip",
            format!("FROM busybox:1.36\n{mount} cp /run/secrets/token /leak\n"),
        ),
        (
            "zstd",
            "zstd",
            format!("FROM busybox:1.36\n{mount} cp /run/secrets/token /leak\n"),
        ),
        (
            "base64",
            "gzip",
            format!("FROM busybox:1.36\n{mount} base64 /run/secrets/token > /leak\n"),
        ),
        (
            "history",
            "gzip",
            format!("FROM busybox:1.36\nRUN echo '{VALUE}' > /dev/null\n"),
        ),
        (
            "label",
            "gzip",
            format!("FROM busybox:1.36\nLABEL token=\"{VALUE}\"\n"),
        ),
    ] {
        let mut spec = secrets.clone();
        spec["output"] = json!({"compression": compression});
        field
            .build(name, json!({"Dockerfile": dockerfile}), spec)
            .await;
    }
    for (name, place) in [
        ("layer", "tar+gzip"),
        ("zstd", "tar+zstd"),
        ("base64", "tar+gzip"),
        ("history", "config"),
        ("label", "config"),
    ] {
        field.succeeds(name).await;
        let mut search = Search::new(&[VALUE]);
        search.repository(&field.image(name)).await;
        assert!(
            search.found.iter().any(|found| found.contains(place)),
            "{name}: {:?}",
            search.found
        );
    }
    // The Dockerfiles with the value in them stand in the objects.
    let mut search = Search::new(&[VALUE]);
    search.cluster(&field).await;
    for place in ["ImageBuild history", "ConfigMap history"] {
        assert!(
            search.found.iter().any(|found| found.starts_with(place)),
            "{place}: {:?}",
            search.found
        );
    }
    field.close().await;
}
