//! What is asked of the cluster.

use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Map, Value, json};
use whittle_api::ImageBuild;

use super::manifest::{MANAGER, conflicts, manager_of, other_sources};
use crate::cluster::{Cluster, Failed, answer};

/// The ImageBuild of this name, where there is one.
pub(super) async fn existing(cluster: &Cluster, name: &str) -> Result<Option<ImageBuild>, Failed> {
    let found = cluster.builds().get_opt(name).await;
    match found {
        // Without the kind there is none of a name: the list tells the two apart.
        Ok(None) => {
            let one = kube::api::ListParams::default().limit(1);
            match cluster.builds().list_metadata(&one).await {
                Err(error @ kube::Error::Api(_)) if is_missing(&error) => {
                    Err(answer::api(&error, "ImageBuilds"))
                }
                _ => Ok(None),
            }
        }
        other => other.map_err(|error| answer::api(&error, &format!("ImageBuild {name}"))),
    }
}

fn is_missing(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(answer) if answer.code == 404)
}

/// How it is applied.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    /// Fields of others are taken over.
    pub(super) force: bool,
    /// Nothing is kept of it.
    pub(super) dry_run: bool,
}

/// Applies an object by server-side apply.
pub(super) async fn apply(
    cluster: &Cluster,
    name: &str,
    object: &Value,
    how: How,
) -> Result<ImageBuild, Failed> {
    let params = PatchParams {
        field_manager: Some(MANAGER.into()),
        force: how.force,
        dry_run: how.dry_run,
        ..PatchParams::default()
    };
    let builds: Api<ImageBuild> = cluster.builds();
    let applied = builds.patch(name, &params, &Patch::Apply(object)).await;
    applied.map_err(|error| refused(&error, "ImageBuild", name))
}

/// Takes the place of sources of other kinds, which others have set: server-side apply alone leaves them. True where there was one.
pub(super) async fn replace_source(
    cluster: &Cluster,
    build: &ImageBuild,
    said: &Map<String, Value>,
    source: &Value,
    how: How,
) -> Result<bool, Failed> {
    let kind = source.as_object().and_then(|it| it.keys().next());
    let kind = kind.map(String::as_str).unwrap_or_default();
    let others = other_sources(build, said, kind);
    let Some(first) = others.first() else {
        return Ok(false);
    };
    let name = build.name_any();
    if !how.force {
        return Err(Failed::Refused(format!(
            "ImageBuild {name} conflicts: its source is {first}, set by {}: --force-conflicts replaces it with the directory, or build \
             under another --name",
            manager_of(build, first)
        )));
    }
    let mut patch = source.clone();
    for other in &others {
        patch[other] = Value::Null;
    }
    let params = PatchParams {
        field_manager: Some(MANAGER.into()),
        dry_run: how.dry_run,
        ..PatchParams::default()
    };
    let patch = Patch::Merge(json!({"spec": {"source": patch}}));
    let patched = cluster.builds().patch(&name, &params, &patch).await;
    patched
        .map(|_| true)
        .map_err(|error| refused(&error, "ImageBuild", &name))
}

/// What the API server says of what was applied.
pub(super) fn refused(error: &kube::Error, kind: &str, name: &str) -> Failed {
    if let kube::Error::Api(answer) = error {
        let conflicts = conflicts(answer);
        if !conflicts.is_empty() {
            let fields: Vec<String> = conflicts
                .iter()
                .map(|(field, manager)| format!("{field} is set by {manager}"))
                .collect();
            return Failed::Refused(format!(
                "{kind} {name} conflicts: {}: --force-conflicts takes these fields over, or build under another --name",
                fields.join(", ")
            ));
        }
    }
    answer::api(error, &format!("{kind} {name}"))
}
