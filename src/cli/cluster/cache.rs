//! `whittle cache`: what a builder's volume holds, and how it is emptied.

use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use whittle_api::{Builder, PRUNE};
use whittle_image::display_size;

use super::act::MANAGER;
use super::answer::{self, Failed};
use super::screen::{STRONG, ago, styled, tame};
use super::{Reach, table};

/// What `cache` is asked for.
#[derive(clap::Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    act: Option<Act>,
    #[command(flatten)]
    reach: Reach,
    /// The Builder; all of the namespace by default.
    #[arg(value_name = "BUILDER", add = crate::complete::builders())]
    builder: Option<String>,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum Act {
    /// Empties a Builder's cache, at the next moment without a build: the builds after it begin cold.
    Prune {
        #[command(flatten)]
        reach: Reach,
        /// The Builder.
        #[arg(value_name = "BUILDER", default_value = "default", add = crate::complete::builders())]
        builder: String,
    },
}

/// Shows or empties it.
pub(super) async fn run(options: &Options) -> Result<(), Failed> {
    if let Some(Act::Prune { reach, builder }) = &options.act {
        let cluster = reach.cluster().await?;
        let api: Api<Builder> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
        let value = Timestamp::now().to_string();
        let patch = Patch::Merge(json!({"metadata": {"annotations": {PRUNE: value}}}));
        let params = PatchParams {
            field_manager: Some(MANAGER.into()),
            ..PatchParams::default()
        };
        let done = api.patch(builder, &params, &patch).await;
        done.map_err(|error| of_builder(&error, builder, &cluster.namespace))?;
        anstream::println!(
            "Builder {builder}: its cache is emptied at the next moment without a build"
        );
        return Ok(());
    }
    let cluster = options.reach.cluster().await?;
    let api: Api<Builder> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let builders = match &options.builder {
        Some(name) => {
            let found = api.get(name).await;
            vec![found.map_err(|error| of_builder(&error, name, &cluster.namespace))?]
        }
        None => {
            let listed = api.list(&ListParams::default()).await;
            listed
                .map_err(|error| answer::api(&error, "Builders"))?
                .items
        }
    };
    if builders.is_empty() {
        anstream::println!(
            "No Builders in namespace {}: the first build makes one.",
            cluster.namespace
        );
    }
    let texts: Vec<String> = builders
        .iter()
        .map(|it| text(it, Timestamp::now()))
        .collect();
    anstream::print!("{}", texts.join("\n"));
    Ok(())
}

fn of_builder(error: &kube::Error, name: &str, namespace: &str) -> Failed {
    match error {
        kube::Error::Api(answer) if answer.code == 404 && answer.message.contains(name) => {
            Failed::Refused(format!(
                "Builder {name} not found in namespace {namespace}: see `whittle status`"
            ))
        }
        other => answer::api(other, &format!("Builder {name}")),
    }
}

fn text(builder: &Builder, now: Timestamp) -> String {
    let name = styled(STRONG, &builder.name_any());
    let status = builder.status.clone().unwrap_or_default();
    let size = builder.spec.cache.size.clone();
    let emptied = status
        .emptied
        .map(|it| format!("  emptied {}: {}\n", ago(it.at.0, now), tame(&it.message)));
    let emptied = emptied.unwrap_or_default();
    let Some(cache) = status.cache else {
        return format!("{name}  not measured yet: it is after the next build\n{emptied}");
    };
    let kinds = &cache.by_kind;
    let replica = cache.replica.map(|it| format!("  replica {it}:"));
    let replica = replica.unwrap_or_default();
    let mut text = format!(
        "{name}{replica}  {} of {size}, measured {}\n  layers {}, cache mounts {}, sources {}, other {}\n{emptied}",
        display_size(cache.bytes),
        ago(cache.measured_at.0, now),
        display_size(kinds.layers),
        display_size(kinds.cache_mounts),
        display_size(kinds.sources),
        display_size(kinds.other),
    );
    let others = status.replicas.map(|it| it.each).unwrap_or_default();
    let others = others.iter().filter(|it| Some(it.replica) != cache.replica);
    for (replica, bytes) in others.filter_map(|it| Some((it.replica, it.cache_bytes?))) {
        text += &format!("  replica {replica}: {}\n", display_size(bytes));
    }
    if !cache.mounts.is_empty() {
        let rows: Vec<Vec<String>> = cache
            .mounts
            .iter()
            .map(|it| {
                vec![
                    tame(&it.id),
                    if it.empty {
                        "empty".into()
                    } else {
                        display_size(it.bytes)
                    },
                    it.hits.to_string(),
                    it.last_used
                        .as_ref()
                        .map(|at| ago(at.0, now))
                        .unwrap_or_default(),
                    tame(it.step.lines().next().unwrap_or_default())
                        .chars()
                        .take(60)
                        .collect(),
                ]
            })
            .collect();
        text.push_str(&table::text(
            &["  CACHE MOUNT", "BYTES", "USED", "LAST", "BY"],
            &rows
                .into_iter()
                .map(|mut row| {
                    row[0].insert_str(0, "  ");
                    row
                })
                .collect::<Vec<_>>(),
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_is_told_by_kind_and_mount() {
        let builder: Builder = serde_json::from_value(json!({
            "apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "default"},
            "spec": {"cache": {"size": "20Gi"}},
            "status": {"cache": {"bytes": 3_000_000_000_i64, "byKind": {"layers": 1_000_000_000, "cacheMounts": 2_000_000_000},
                "measuredAt": "2026-11-25T11:58:00Z",
                "mounts": [{"id": "/go/pkg/mod", "bytes": 1_500_000_000, "hits": 12, "lastUsed": "2026-11-25T11:57:00Z", "step": "go build ./..."},
                    {"id": "/root/.npm", "empty": true, "hits": 1}]},
                "emptied": {"at": "2026-11-24T12:00:00Z", "message": "somebody asked"}}}))
        .unwrap();
        let text = text(&builder, super::super::fixtures::now());
        insta::assert_snapshot!(anstream::adapter::strip_str(&text).to_string());
    }
}
