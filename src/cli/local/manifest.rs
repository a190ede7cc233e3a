//! What stands in the file of `-f`: an ImageBuild, and the objects that it names.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;
use serde::de::DeserializeOwned;
use serde_json::Value;
use whittle_api::{Builder, ImageBuild};
use whittle_probe::manifest::yaml;

use super::{Error, Options};
use crate::probes::is_manifest;

/// The most that a file may have, in bytes.
const LIMIT: u64 = 16 << 20;

/// The objects of a file.
#[derive(Debug, Default)]
pub struct Manifest {
    /// The ImageBuild that is to be built.
    pub build: Option<ImageBuild>,
    /// Builders by name.
    pub builders: BTreeMap<String, Builder>,
    /// ConfigMaps by name.
    pub config_maps: BTreeMap<String, ConfigMap>,
    /// Secrets by name.
    pub secrets: BTreeMap<String, Secret>,
}

impl Manifest {
    /// Reads the file, where one with objects is named.
    pub fn of(options: &Options) -> Result<Self, Error> {
        let Some(file) = options.file.as_deref().filter(|file| is_manifest(file)) else {
            return Ok(Self::default());
        };
        let name = file.display().to_string();
        let failed = |error| Error::new(format!("{name} cannot be read: {error}"));
        let mut text = String::new();
        match file == Path::new("-") {
            true => std::io::stdin().take(LIMIT).read_to_string(&mut text),
            false => std::fs::File::open(file)
                .and_then(|opened| opened.take(LIMIT).read_to_string(&mut text)),
        }
        .map_err(failed)?;
        Self::read(&name, &text, options.name.as_deref())
    }

    /// Reads a text; `wanted`: the ImageBuild's name.
    pub fn read(name: &str, text: &str, wanted: Option<&str>) -> Result<Self, Error> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let read = yaml::read(text)
            .map_err(|error| Error::new(format!("{name}: invalid YAML: {error}")))?;
        let mut found = Self::default();
        let mut builds = vec![];
        for document in read.documents {
            let value = document.root.value();
            let items = match value.get("items") {
                Some(Value::Array(items)) if kind(&value).ends_with("List") => items.clone(),
                _ => vec![value],
            };
            for value in items {
                match kind(&value) {
                    "ImageBuild" => builds.push(object::<ImageBuild>(name, value)?),
                    "Builder" => keep(&mut found.builders, object(name, value)?),
                    "ConfigMap" => keep(&mut found.config_maps, object(name, value)?),
                    "Secret" => keep(&mut found.secrets, object(name, value)?),
                    _ => {}
                }
            }
        }
        let names: Vec<String> = builds.iter().map(ResourceExt::name_any).collect();
        let names = names.join(", ");
        if let Some(wanted) = wanted {
            builds.retain(|build| build.name_any() == wanted);
            if builds.is_empty() {
                return Err(Error::new(format!(
                    "ImageBuild {wanted} not found in {name}; it has {names}"
                )));
            }
        }
        if builds.len() > 1 {
            return Err(Error::new(format!(
                "{name} has several ImageBuilds: name one of them with --name: {names}"
            )));
        }
        let build = builds.pop().ok_or_else(|| {
            Error::new(format!(
                "{name} has no ImageBuild: a file with the ending .yaml, .yml or .json must have one; a Dockerfile has another \
                 name"
            ))
        })?;
        found.build = Some(build);
        Ok(found)
    }
}

fn kind(value: &Value) -> &str {
    value
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn keep<K: ResourceExt>(all: &mut BTreeMap<String, K>, object: K) {
    all.insert(object.name_any(), object);
}

fn object<K: DeserializeOwned>(file: &str, value: Value) -> Result<K, Error> {
    let kind = kind(&value).to_owned();
    let name = value.pointer("/metadata/name").and_then(Value::as_str);
    let name = name.unwrap_or("without a name").to_owned();
    serde_json::from_value(value)
        .map_err(|error| Error::new(format!("{file}: {kind} {name} is invalid: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILD: &str = "apiVersion: whittle.dev/v1alpha1\nkind: ImageBuild\nmetadata: {name: NAME}\nspec: {source: {configMap: {name: files}}, output: {image: r.example/x}}\n";

    fn build(name: &str) -> String {
        BUILD.replace("NAME", name)
    }

    #[test]
    fn an_image_build_is_read_with_what_it_names() {
        let text = format!(
            "{}---\nkind: ConfigMap\nmetadata: {{name: files}}\ndata: {{Dockerfile: FROM scratch}}\n---\nkind: Service\n",
            build("hello")
        );
        let found = Manifest::read("x.yaml", &text, None).unwrap();
        assert_eq!(found.build.unwrap().name_any(), "hello");
        let data = found.config_maps["files"].data.clone().unwrap();
        assert_eq!(data["Dockerfile"], "FROM scratch");
        assert!(found.secrets.is_empty());
    }

    #[test]
    fn of_several_one_is_named() {
        let text = format!("{}---\n{}", build("a"), build("b"));
        let found = Manifest::read("x.yaml", &text, Some("b")).unwrap();
        assert_eq!(found.build.unwrap().name_any(), "b");
        let said = |wanted| {
            Manifest::read("x.yaml", &text, wanted)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            said(None),
            "x.yaml has several ImageBuilds: name one of them with --name: a, b"
        );
        assert_eq!(
            said(Some("c")),
            "ImageBuild c not found in x.yaml; it has a, b"
        );
    }

    #[test]
    fn what_is_no_image_build_is_told_with_file_kind_and_name() {
        let said = |text: &str| {
            Manifest::read("x.yaml", text, None)
                .unwrap_err()
                .to_string()
        };
        assert!(said("kind: Pod\n").starts_with("x.yaml has no ImageBuild"));
        let broken = build("hello").replace("image:", "images:");
        assert!(
            said(&broken).starts_with("x.yaml: ImageBuild hello is invalid: missing field `image`"),
            "{}",
            said(&broken)
        );
        assert!(
            said("a: [").starts_with("x.yaml: invalid YAML: line"),
            "{}",
            said("a: [")
        );
    }
}
