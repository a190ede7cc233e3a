//! Commands that change an ImageBuild: what `kubectl annotate` and `kubectl patch` would do, with the right words.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use whittle_api::{CANCEL, ImageBuild, NO_CACHE, REQUESTED_AT};

use super::answer::{self, Failed};
use super::follow::{Shown, follow};
use super::followed::Until;
use super::select::Selection;
use super::status::State;
use super::wait;
use super::{Cluster, named};

/// Who writes, in managedFields.
pub(crate) const MANAGER: &str = "whittle-cli";

/// What `rebuild` is asked for.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Rebuild {
    #[command(flatten)]
    selection: Selection,
    /// Wait until the build has ended.
    #[arg(long)]
    wait: bool,
    /// Print the build's log, and wait until it has ended; for one ImageBuild.
    #[arg(short, long, conflicts_with = "selector")]
    follow: bool,
    /// Take no step from the cache. What cache mounts hold stays.
    #[arg(long)]
    no_cache: bool,
    /// With --wait and --follow: so long at most, for example 20m.
    #[arg(long, value_parser = wait::duration, default_value = "1h")]
    timeout: Duration,
}

/// What `cancel` is asked for.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Cancel {
    #[command(flatten)]
    selection: Selection,
    /// The build's number: nothing happens where another one runs. Without it: the one that runs now.
    #[arg(long, value_name = "N")]
    build: Option<i64>,
}

/// What `suspend` and `resume` are asked for.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Turn {
    #[command(flatten)]
    selection: Selection,
}

/// Builds again.
pub(super) async fn rebuild(options: &Rebuild) -> Result<(), Failed> {
    let cluster = options.selection.reach.cluster().await?;
    let builds = options.selection.chosen(&cluster).await?;
    if options.follow && builds.len() > 1 {
        return Err(Failed::Use(
            "--follow is for one ImageBuild: use --wait for several".into(),
        ));
    }
    let value = request_value();
    for build in &builds {
        let name = named(&build.metadata, &cluster.namespace);
        request_as(&cluster, build, &value, options.no_cache).await?;
        match build.spec.suspend {
            true => anstream::println!(
                "{name}: a build is requested, and starts when it is resumed: whittle resume {name}"
            ),
            false => anstream::println!("{name}: a build is requested"),
        }
    }
    let until = Until::Request(value);
    match builds.as_slice() {
        [one] if options.follow => {
            follow(
                &cluster.of(one),
                &one.name_any(),
                &until,
                Shown::default(),
                options.timeout,
            )
            .await
        }
        _ if options.wait => wait::ended(&cluster, &builds, &until, options.timeout).await,
        _ => Ok(()),
    }
}

/// Asks for one more build, and says what to wait for.
pub(crate) async fn request(cluster: &Cluster, build: &ImageBuild) -> Result<Until, Failed> {
    let value = request_value();
    request_as(cluster, build, &value, false).await?;
    Ok(Until::Request(value))
}

/// To the nanosecond: each request has a value that none had before.
fn request_value() -> String {
    Timestamp::now().to_string()
}

async fn request_as(
    cluster: &Cluster,
    build: &ImageBuild,
    value: &str,
    no_cache: bool,
) -> Result<(), Failed> {
    let mut annotations = json!({REQUESTED_AT: value});
    if no_cache {
        annotations[NO_CACHE] = value.into();
    }
    patch(
        cluster,
        build,
        json!({"metadata": {"annotations": annotations}}),
    )
    .await
}

/// Cancels.
pub(super) async fn cancel(options: &Cancel) -> Result<(), Failed> {
    let cluster = options.selection.reach.cluster().await?;
    let builds = options.selection.chosen(&cluster).await?;
    let mut idle = vec![];
    for build in &builds {
        let name = named(&build.metadata, &cluster.namespace);
        let running = build.status.as_ref().filter(|it| it.current.is_some());
        let Some(number) = running.and_then(|it| it.build) else {
            idle.push(format!("{name}: no build runs or waits"));
            continue;
        };
        if let Some(asked) = options.build.filter(|asked| *asked != number) {
            idle.push(format!(
                "{name}: build {asked} does not run: build {number} does"
            ));
            continue;
        }
        cancel_one(&cluster, build, number).await?;
        anstream::println!("{name}: build {number} is being canceled");
    }
    match idle.is_empty() {
        true => Ok(()),
        false => Err(Failed::Refused(idle.join("\nwhittle: "))),
    }
}

/// Cancels a build by its number: one that begins meanwhile is not meant.
pub(super) async fn cancel_one(
    cluster: &Cluster,
    build: &ImageBuild,
    number: i64,
) -> Result<(), Failed> {
    let annotations = json!({CANCEL: number.to_string()});
    patch(
        cluster,
        build,
        json!({"metadata": {"annotations": annotations}}),
    )
    .await
}

/// Suspends or resumes.
pub(super) async fn turn(options: &Turn, suspend: bool) -> Result<(), Failed> {
    let cluster = options.selection.reach.cluster().await?;
    for build in options.selection.chosen(&cluster).await? {
        let name = named(&build.metadata, &cluster.namespace);
        let already = build.spec.suspend == suspend;
        if !already {
            patch(&cluster, &build, json!({"spec": {"suspend": suspend}})).await?;
        }
        let runs = match State::of(&build) {
            State::Building if suspend => "; the build that runs goes on (whittle cancel ends it)",
            _ => "",
        };
        let word = if suspend { "suspended" } else { "resumed" };
        let was = if already { " already" } else { "" };
        anstream::println!("{name}: {word}{was}{runs}");
    }
    Ok(())
}

pub(super) async fn patch(
    cluster: &Cluster,
    build: &ImageBuild,
    patch: Value,
) -> Result<(), Failed> {
    let (of, name) = (cluster.of(build), build.name_any());
    let params = PatchParams {
        field_manager: Some(MANAGER.into()),
        ..PatchParams::default()
    };
    let done = of
        .builds()
        .patch(&name, &params, &Patch::Merge(patch))
        .await;
    done.map(drop)
        .map_err(|error| answer::of_build(&error, &name, &of.namespace))
}
