//! A manifest instead of a directory: its ImageBuilds and Builders are applied as they are.

use std::io::Read;
use std::path::Path;

use kube::Api;
use serde_json::Value;
use whittle_api::{Builder, ImageBuild};

use super::apply::{How, apply, existing, refused};
use super::manifest::MANAGER;
use super::options::Options;
use super::{After, after, print, show};
use crate::cluster::{Cluster, Failed, ended};

/// The largest manifest that is read, in bytes: three times what the API server takes of one object.
const LIMIT: u64 = 10 << 20;
/// What is in a manifest.
#[derive(Debug, Default, PartialEq)]
struct Documents {
    builders: Vec<Value>,
    builds: Vec<Value>,
    /// What is not applied: kind and name.
    others: Vec<String>,
}

fn read(text: &str, path: &Path) -> Result<Documents, Failed> {
    let invalid = |why: String| Failed::Use(format!("{}: {why}", path.display()));
    let found: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|error| invalid(format!("invalid YAML: {error}")))?;
    let mut documents = Documents::default();
    for document in found {
        match document {
            Value::Null => {}
            Value::Object(mut list) if list.get("kind").is_some_and(|it| it == "List") => {
                match list.remove("items") {
                    Some(Value::Array(items)) => {
                        items.into_iter().for_each(|item| documents.take(item));
                    }
                    _ => return Err(invalid("a List without items".into())),
                }
            }
            Value::Object(_) => documents.take(document),
            _ => return Err(invalid("invalid: not an object of Kubernetes".into())),
        }
    }
    match documents.builds.is_empty() && documents.builders.is_empty() {
        true => Err(invalid(
            "no ImageBuild found: for a Dockerfile of that name, rename it or its ending".into(),
        )),
        false => Ok(documents),
    }
}

impl Documents {
    fn take(&mut self, document: Value) {
        let word = |key: &str| document[key].as_str().unwrap_or_default().to_owned();
        let ours = word("apiVersion").starts_with("whittle.dev/");
        match word("kind").as_str() {
            "ImageBuild" if ours => self.builds.push(document),
            "Builder" if ours => self.builders.push(document),
            kind => {
                let name = document["metadata"]["name"].as_str().unwrap_or_default();
                self.others.push(format!("{kind} {name}"));
            }
        }
    }
}

/// Options that are of a directory.
fn misplaced(options: &Options) -> Option<&'static str> {
    let set = [
        (options.folder.is_some(), "a DIRECTORY"),
        (options.name.is_some(), "--name"),
        (options.image.is_some(), "--image"),
        (!options.tag.is_empty(), "--tag"),
        (!options.platform.is_empty(), "--platform"),
        (options.target.is_some(), "--target"),
        (!options.build_arg.is_empty(), "--build-arg"),
        (!options.label.is_empty(), "--label"),
        (!options.secret.is_empty(), "--secret"),
        (options.push_secret.is_some(), "--push-secret"),
        (options.builder.is_some(), "--builder"),
        (options.source_repository.is_some(), "--source-repository"),
        (options.push_to.is_some(), "--push-to"),
        (options.inline, "--inline"),
    ];
    set.into_iter().find(|(is, _)| *is).map(|(_, name)| name)
}

/// Applies a manifest, and follows its builds.
pub(super) async fn run(options: &Options, path: &Path) -> Result<(), Failed> {
    if let Some(name) = misplaced(options) {
        return Err(Failed::Use(format!(
            "{name} and the manifest {}: give one of both: what a manifest says is built",
            path.display()
        )));
    }
    let documents = read(&text(path)?, path)?;
    for other in &documents.others {
        anstream::eprintln!(
            "note: {other} is not applied: kubectl apply -f {}",
            path.display()
        );
    }
    if options.dry_run {
        let all = documents.builders.iter().chain(&documents.builds);
        return all.into_iter().try_for_each(|it| print(it, options.output));
    }
    let cluster = options.reach.cluster().await?;
    let how = How {
        force: options.force_conflicts,
        dry_run: false,
    };
    for builder in &documents.builders {
        let (cluster, name) = place(&cluster, builder, options)?;
        let builders: Api<Builder> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
        let params = kube::api::PatchParams {
            field_manager: Some(MANAGER.into()),
            force: how.force,
            ..Default::default()
        };
        let applied = builders
            .patch(&name, &params, &kube::api::Patch::Apply(builder))
            .await;
        applied.map_err(|error| refused(&error, "Builder", &name))?;
        anstream::eprintln!("Builder {name}: applied");
    }
    let mut begun = vec![];
    for build in &documents.builds {
        let (cluster, name) = place(&cluster, build, options)?;
        let before = existing(&cluster, &name).await?;
        let now = apply(&cluster, &name, build, how).await?;
        let what = after(&cluster, before.as_ref(), &now, options).await?;
        begun.push((cluster, now, what));
    }
    match begun.as_slice() {
        [(cluster, now, what)] => show(cluster, now, what, options).await,
        several => all(several, options).await,
    }
}

/// Waits for several builds.
async fn all(begun: &[(Cluster, ImageBuild, After)], options: &Options) -> Result<(), Failed> {
    let waits = begun.iter().map(async |(cluster, now, what)| match what {
        After::Begun(until) if !options.no_follow => {
            ended(cluster, std::slice::from_ref(now), until, options.timeout).await
        }
        what => show(cluster, now, what, options).await,
    });
    let results = futures::future::join_all(waits).await;
    results.into_iter().collect()
}

/// The cluster with the namespace of an object, and its name.
fn place(
    cluster: &Cluster,
    object: &Value,
    options: &Options,
) -> Result<(Cluster, String), Failed> {
    let text = |key: &str| object["metadata"][key].as_str();
    let Some(name) = text("name") else {
        return Err(Failed::Use("an object has no metadata.name".into()));
    };
    let mut cluster = cluster.clone();
    match (text("namespace"), &options.reach.namespace) {
        (Some(own), Some(asked)) if own != asked => {
            return Err(Failed::Use(format!(
                "{name} is of the namespace {own}, and -n says {asked}: give one of both"
            )));
        }
        (Some(own), _) => own.clone_into(&mut cluster.namespace),
        (None, _) => {}
    }
    Ok((cluster, name.to_owned()))
}

fn text(path: &Path) -> Result<String, Failed> {
    let failed =
        |error: std::io::Error| Failed::Use(format!("{} cannot be read: {error}", path.display()));
    let mut text = String::new();
    let source: Box<dyn Read> = match path == Path::new("-") {
        true => Box::new(std::io::stdin()),
        false => Box::new(std::fs::File::open(path).map_err(failed)?),
    };
    source
        .take(LIMIT + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    match text.len() as u64 <= LIMIT {
        true => Ok(text),
        false => Err(Failed::Use(format!(
            "{} is too large: more than {LIMIT} bytes",
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Documents, Failed> {
        read(text, Path::new("ib.yaml"))
    }

    #[test]
    fn image_builds_and_builders_are_applied_and_others_are_told() {
        let text = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: token}\n---\n# nothing\n---\napiVersion: \
                    whittle.dev/v1alpha1\nkind: ImageBuild\nmetadata: {name: a}\n---\napiVersion: v1\nkind: List\nitems:\n- \
                    {apiVersion: whittle.dev/v1alpha1, kind: Builder, metadata: {name: b}}\n- {apiVersion: v1, kind: \
                    ConfigMap, metadata: {name: c}}\n- {apiVersion: other.dev/v1, kind: ImageBuild, metadata: {name: d}}\n";
        let found = of(text).unwrap();
        assert_eq!(found.builds.len(), 1);
        assert_eq!(found.builds[0]["metadata"]["name"], "a");
        assert_eq!(found.builders[0]["metadata"]["name"], "b");
        assert_eq!(
            found.others,
            ["Secret token", "ConfigMap c", "ImageBuild d"]
        );
    }

    #[test]
    fn a_manifest_without_an_image_build_and_broken_yaml_are_wrong_use() {
        for (text, why) in [
            ("kind: ConfigMap\napiVersion: v1\n", "no ImageBuild found"),
            ("FROM alpine\nRUN true\n", "not an object of Kubernetes"),
            ("a: [", "invalid YAML"),
            ("kind: List\n", "a List without items"),
            ("", "no ImageBuild found"),
        ] {
            let failed = of(text).unwrap_err();
            assert_eq!(failed.code(), 2);
            assert!(failed.to_string().contains(why), "{failed}");
        }
    }
}
