//! A change of one line in each sample, and what the next build takes from the cache.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use flate2::{Compression, write::GzEncoder};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use whittle_api::{ImageBuild, ImageBuildStatus};

use super::table::{Change, SAMPLES};
use super::{image, read};
use crate::field::{Field, Repository, variable};
use crate::long;
use crate::registry::push_artifact;

/// A build after a change.
pub struct Changed {
    pub status: ImageBuildStatus,
    pub took: Duration,
}

const BUILDER: &str = "whittle-builder-default";

/// One after the other, so that the times say something.
pub async fn one_by_one<'a>(
    field: &Field,
    cold: &BTreeMap<String, ImageBuildStatus>,
) -> BTreeMap<&'a str, Changed> {
    let mut all = BTreeMap::new();
    for sample in long::sample(SAMPLES.iter().collect(), |sample| sample.kind()) {
        let name = sample.name;
        let downloads = downloads();
        // The repository goes with this value.
        let (patch, _repository) = prepare(field, name, &sample.change).await;
        let begun = Instant::now();
        change(field, name, patch).await;
        let status = field.succeeds_again(name, 2).await;
        let took = begun.elapsed();
        let steps = status.steps.as_ref().unwrap();
        assert!(steps.cached > 0, "{name}: {steps:?}");
        assert_ne!(
            status.digest, cold[name].digest,
            "{name}: nothing has changed"
        );
        // Row 5: only what copies everything first asks again.
        let asked = super::changes::downloads() - downloads;
        assert_eq!(
            asked > 0,
            name == "go-copy-first",
            "{name}: {asked} requests"
        );
        all.insert(name, Changed { status, took });
    }
    all
}

/// After the builder's Pod was deleted, and after its StatefulSet went to zero, a change of one line downloads
/// no module: not even where a change of go.mod makes `go mod download` run again.
pub async fn without_the_builder(field: &Field) {
    let pods = field.api::<Pod>();
    let pod = format!("{BUILDER}-0");
    let mut build = 2;
    for (how, file, line) in [
        ("deleted", "main.go", "// A line.\n"),
        ("scaled", "main.go", "// Another line.\n"),
        ("deleted again", "go.mod", "// A line.\n"),
    ] {
        let before = pods.get_opt(&pod).await.unwrap().and_then(|pod| pod.uid());
        if how == "scaled" {
            let none = Patch::Merge(json!({"spec": {"replicas": 0}}));
            let sets: Api<StatefulSet> = field.api();
            sets.patch_scale(BUILDER, &PatchParams::default(), &none)
                .await
                .unwrap();
        } else if before.is_some() {
            pods.delete(&pod, &Default::default()).await.unwrap();
        }
        field
            .until("the builder's Pod has gone", async || {
                let now = pods.get_opt(&pod).await.unwrap();
                (now.is_none() || now?.uid() != before).then_some(())
            })
            .await;
        let downloads_before = downloads();
        let files = inline(field, "go-cache").await;
        let text = format!("{}{line}", files[file].as_str().unwrap());
        change(field, "go-cache", inline_patch(file, &text)).await;
        build += 1;
        field.succeeds_again("go-cache", build).await;
        assert_eq!(
            downloads(),
            downloads_before,
            "after the builder's Pod was {how}"
        );
    }
}

/// Requests for the samples' module so far.
fn downloads() -> usize {
    let log = std::fs::read_to_string(variable("MODULES_LOG")).unwrap_or_default();
    log.lines()
        .filter(|line| line.contains(" /example.com/greet/@v/"))
        .count()
}

async fn change(field: &Field, name: &str, patch: Value) {
    field
        .api::<ImageBuild>()
        .patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
}

fn inline_patch(file: &str, text: &str) -> Value {
    json!({"spec": {"source": {"inline": {"files": {file: text}}}}})
}

async fn inline(field: &Field, name: &str) -> Value {
    let build = field.api::<ImageBuild>().get(name).await.unwrap();
    json!(build.spec.source.inline.unwrap().files)
}

/// Makes the changed source, and the patch that leads to it.
async fn prepare(field: &Field, name: &str, change: &Change) -> (Value, Option<Repository>) {
    match change {
        Change::Inline(file, from, to) => {
            let files = inline(field, name).await;
            let text = replaced(files[*file].as_str().unwrap(), from, to);
            (inline_patch(file, &text), None)
        }
        Change::ConfigMap(file, from, to) => {
            let build = field.api::<ImageBuild>().get(name).await.unwrap();
            let of = build.spec.source.config_map.unwrap().name;
            let mut data = field
                .api::<ConfigMap>()
                .get(&of)
                .await
                .unwrap()
                .data
                .unwrap();
            let text = replaced(&data[*file], from, to);
            data.insert((*file).to_owned(), text);
            let changed = format!("{name}-changed");
            field.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": changed}, "data": data})).await;
            (
                json!({"spec": {"source": {"configMap": {"name": changed}}}}),
                None,
            )
        }
        Change::Git(file, from, to) => {
            let folder = "sources/git/hello";
            let text = replaced(&read(format!("{folder}/{file}")), from, to);
            let mut files = files_in(folder);
            files.insert((*file).to_owned(), text);
            let files: Vec<(&str, &str)> = files
                .iter()
                .map(|(name, text)| (name.as_str(), text.as_str()))
                .collect();
            let repository = Repository::new(&field.namespace);
            repository.commit(&files, "refs/heads/main");
            (
                json!({"spec": {"source": {"git": {"url": repository.url}}}}),
                Some(repository),
            )
        }
        Change::Oci(file, from, to) => {
            let mut files = files_in("sources/images/source");
            let text = replaced(&files[*file], from, to);
            files.insert((*file).to_owned(), text);
            let mut archive = tar::Builder::new(GzEncoder::new(vec![], Compression::fast()));
            for (path, text) in files {
                let mut header = tar::Header::new_gnu();
                header.set_size(text.len() as u64);
                header.set_mode(0o644);
                archive
                    .append_data(&mut header, path, text.as_bytes())
                    .unwrap();
            }
            let bytes = archive.into_inner().unwrap().finish().unwrap();
            let artifact = image(field, "changed-source");
            let digest = push_artifact(&artifact, "latest", &bytes).await;
            (
                json!({"spec": {"source": {"oci": {"image": format!("{artifact}@{digest}")}}}}),
                None,
            )
        }
    }
}

/// The files of a folder of the samples that has no folders.
fn files_in(folder: &str) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(super::root().join("config/samples").join(folder)).unwrap();
    entries
        .map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let text = read(format!("{folder}/{name}"));
            (name, text)
        })
        .collect()
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert_eq!(
        text.matches(from).count(),
        1,
        "{from:?} stands once in:\n{text}"
    );
    text.replace(from, to)
}
