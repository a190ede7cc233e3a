//! ImageBuilds for the tests of the guard.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Images;
use super::image::{Image, key};
use whittle_api::ImageBuild;
use whittle_image::Contents;
use whittle_probe::Entry;

/// An ImageBuild whose image has this digest.
pub fn build(key: &str, digest: &str, status: Value) -> ImageBuild {
    let (namespace, name) = key.split_once('/').unwrap();
    let image = format!("r.example.com/{key}");
    let mut build = json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "ImageBuild",
        "metadata": {"name": name, "namespace": namespace, "generation": 1},
        "spec": {"source": {"inline": {"files": {}}}, "output": {"image": image}},
        "status": {"image": format!("{image}@{digest}"), "digest": digest, "observedGeneration": 1, "tags": ["1"]}});
    json_patch::merge(&mut build["status"], &status);
    serde_json::from_value(build).unwrap()
}

/// What is kept of those, judged: they hold nothing.
pub fn images(keys: &[&str]) -> Images {
    let images = keys.iter().map(|name| {
        let build = build(name, "sha256:aa", json!({}));
        let mut image = Image::of(&build).unwrap();
        image.known = Some(Entry::of(&[Contents::default()]).map(Arc::new));
        image.judged = true;
        (key(&build), Box::new(image))
    });
    images.collect()
}
