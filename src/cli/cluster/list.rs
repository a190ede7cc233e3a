//! `whittle status`: one ImageBuild in sentences, or a namespace as a table.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::json;
use whittle_api::{Builder, ImageBuild, READY, Reason, ReplicasStatus, find};
use whittle_controller::imagebuild::decide;
use whittle_image::display_size;

use super::answer::Failed;
use super::named;
use super::screen::{ago, since, span, tame};
use super::select::Selection;
use super::status::{self, State};
use super::{table, written};

/// What `status` is asked for.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    selection: Selection,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Output {
    /// Sentences for one, a table for many.
    #[default]
    Table,
    /// The objects as JSON.
    Json,
    /// The objects as YAML.
    Yaml,
    /// imagebuild.whittle.dev/NAME, a line each.
    Name,
}

/// Prints it. One that is named and whose last build failed ends it with 1.
pub(super) async fn run(options: &Options) -> Result<(), Failed> {
    let cluster = options.selection.reach.cluster().await?;
    let builds = options.selection.builds(&cluster).await?;
    let named = !options.selection.names.is_empty();
    let now = Timestamp::now();
    if options.output != Output::Table {
        anstream::print!("{}", objects(&builds, options.output, named)?);
    } else if named {
        let texts: Vec<String> = builds.iter().map(|it| status::text(it, now)).collect();
        anstream::print!("{}", texts.join("\n"));
    } else {
        let mut builders: Vec<Builder> = vec![];
        // Whoever may not read Builders still learns how the ImageBuilds are.
        if let Ok(found) = match options.selection.all_namespaces {
            true => Api::all(cluster.client.clone()),
            false => Api::namespaced(cluster.client.clone(), &cluster.namespace),
        }
        .list(&ListParams::default())
        .await
        {
            builders = found.items;
        }
        let own = (!options.selection.all_namespaces).then_some(cluster.namespace.as_str());
        // Of a selection it is not known how many others wait.
        let places = match options.selection.selector.is_some() {
            true => BTreeMap::new(),
            false => places(&builds),
        };
        anstream::print!("{}", overview(&builds, &builders, &places, own, now));
    }
    let failed = |it: &&ImageBuild| State::of(it) == State::Failed;
    match named && builds.iter().any(|it| failed(&it)) {
        // It is said above.
        true => Err(Failed::Build(String::new())),
        false => Ok(()),
    }
}

/// The objects, as `kubectl get -o` writes them: one by itself where one was named, else a List.
fn objects(builds: &[ImageBuild], output: Output, alone: bool) -> Result<String, Failed> {
    let builds: Vec<ImageBuild> = builds
        .iter()
        .map(|it| {
            let mut it = it.clone();
            it.metadata.managed_fields = None;
            it
        })
        .collect();
    if output == Output::Name {
        let lines = builds
            .iter()
            .map(|it| format!("imagebuild.whittle.dev/{}\n", it.name_any()));
        return Ok(lines.collect());
    }
    let value = match builds.as_slice() {
        [one] if alone => json!(one),
        all => json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": all}),
    };
    match output {
        Output::Yaml => written::yaml(&value),
        _ => written::json(&value),
    }
}

/// Places of builds that wait for their turn, by UID: the place, and of how many.
fn places(builds: &[ImageBuild]) -> BTreeMap<String, (usize, usize)> {
    let mut queues: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for build in builds {
        let waiting = build.status.as_ref().and_then(|it| it.waiting());
        if waiting.is_some_and(|it| it.reason == Reason::Queued)
            && let (Some(turn), Some(uid)) = (decide::turn(build), build.uid())
        {
            let builder = (build.namespace(), build.spec.builder_ref.name.clone());
            queues.entry(builder).or_default().push((turn, uid));
        }
    }
    let mut places = BTreeMap::new();
    for mut queue in queues.into_values() {
        queue.sort();
        let all = queue.len();
        for (index, (_, uid)) in queue.into_iter().enumerate() {
            places.insert(uid, (index + 1, all));
        }
    }
    places
}

/// A namespace (`own`) or all of them: its ImageBuilds, and its builders.
fn overview(
    builds: &[ImageBuild],
    builders: &[Builder],
    places: &BTreeMap<String, (usize, usize)>,
    own: Option<&str>,
    now: Timestamp,
) -> String {
    if builds.is_empty() {
        let place = own.map_or_else(
            || "any namespace".to_owned(),
            |own| format!("namespace {own}"),
        );
        return format!(
            "No ImageBuilds in {place}: make one with `whittle build`, or kubectl apply.\n"
        );
    }
    let rows: Vec<Vec<String>> = builds
        .iter()
        .map(|build| {
            let status = build.status.clone().unwrap_or_default();
            let size = status.size.map(display_size).unwrap_or_default();
            let at = status.completed_at.as_ref().map(|at| ago(at.0, now));
            vec![
                named(&build.metadata, own.unwrap_or_default()),
                State::of(build).word().into(),
                cell(&goes_on(build, places, now)),
                build.spec.output.image.clone(),
                size,
                at.unwrap_or_default(),
            ]
        })
        .collect();
    let mut text = table::text(&["NAME", "STATE", "NOW", "IMAGE", "SIZE", "BUILT"], &rows);
    if !builders.is_empty() {
        let rows: Vec<Vec<String>> = builders
            .iter()
            .map(|builder| {
                let status = builder.status.clone().unwrap_or_default();
                let uses = |build: &&ImageBuild| {
                    build.namespace() == builder.namespace()
                        && build.spec.builder_ref.name == builder.name_any()
                };
                let running = builds
                    .iter()
                    .filter(uses)
                    .filter(|it| State::of(it) == State::Building)
                    .count();
                let waiting = builds
                    .iter()
                    .filter(uses)
                    .filter(|it| State::of(it) == State::Waiting)
                    .count();
                let state = match status.state() {
                    Some(Reason::Idle) => "asleep".to_owned(),
                    Some(state) => state.to_string(),
                    None => "Unknown".into(),
                };
                vec![
                    named(&builder.metadata, own.unwrap_or_default()),
                    state,
                    status.replicas.as_ref().map(up).unwrap_or_default(),
                    running.to_string(),
                    waiting.to_string(),
                ]
            })
            .collect();
        text.push('\n');
        text.push_str(&table::text(
            &["BUILDER", "STATE", "UP", "RUNNING", "WAITING"],
            &rows,
        ));
    }
    text
}

/// How many replicas of a Builder take builds, of how many.
fn up(replicas: &ReplicasStatus) -> String {
    format!("{}/{}", replicas.ready, replicas.desired)
}

/// One line of others' words, short enough for a table.
fn cell(text: &str) -> String {
    const MOST: usize = 60;
    let line = tame(text.lines().next().unwrap_or_default()).replace('\t', " ");
    match line.chars().count() > MOST {
        true => line.chars().take(MOST - 1).chain(['…']).collect(),
        false => line,
    }
}

/// What goes on in it, in a few words.
fn goes_on(
    build: &ImageBuild,
    places: &BTreeMap<String, (usize, usize)>,
    now: Timestamp,
) -> String {
    let Some(status) = &build.status else {
        return String::new();
    };
    let place = build.uid().and_then(|uid| places.get(&uid).copied());
    match (State::of(build), &status.current, &status.failure) {
        (State::Building, Some(current), _) => {
            let time = status.since().map(|at| span(since(at.0, now)));
            let message = current.message.clone().unwrap_or_default();
            [time, Some(message)]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join("  ")
        }
        (State::Waiting, Some(_), _) => match place {
            Some((place, all)) => {
                let starts = status.waiting().and_then(|waiting| waiting.starts);
                let about = starts.filter(|at| at.0 > now);
                let about = about.map(|at| format!(", about {}", span(since(now, at.0))));
                format!("Queued: {place} of {all}{}", about.unwrap_or_default())
            }
            None => {
                let ready = find(&status.conditions, READY);
                ready
                    .map(|it| format!("{}: {}", it.reason, it.message))
                    .unwrap_or_default()
            }
        },
        (State::Failed, _, Some(failure)) => format!("{}: {}", failure.reason, failure.message),
        _ => String::new(),
    }
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
