//! Follows a build to its end: what it waits for, its log, and what came of it.

use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::{WatchStreamExt, watcher};
use whittle_api::{ImageBuild, READY, Stage, find};

use super::answer::{self, Failed};
use super::logs::{Output, Sink};
use super::pods::Streams;
use super::screen::{FAINT, styled, tame};
use super::status::{self, State};
use super::{Cluster, act, pods};

/// So long after the first Ctrl-C a second one cancels the build.
const AGAIN: Duration = Duration::from_secs(5);
/// So long the log of a build that has ended is read on.
const REST: Duration = Duration::from_secs(15);

/// Which build is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// That of this value of the annotation whittle.dev/requestedAt.
    Request(String),
    /// That of this generation of the spec, or none where nothing of it has to be built.
    Generation(i64),
    /// The one that runs or waits now, or else the last one.
    Current,
}

/// How it is shown.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shown {
    /// The log.
    pub(crate) output: Output,
    /// Without the report at the end.
    pub(crate) quiet: bool,
}

/// A watch that asks again after what passes, and ends at what does not.
pub(super) fn lasting<T>(
    watch: impl Stream<Item = Result<T, watcher::Error>>,
) -> impl Stream<Item = Result<T, watcher::Error>> {
    watch.default_backoff().filter(|it| {
        let keep = it.as_ref().map_or_else(answer::is_final, |_| true);
        futures::future::ready(keep)
    })
}

/// What is known of the build that is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has not begun.
    Before,
    /// It waits, or runs.
    UnderWay,
    /// It has ended, or there is nothing to build.
    Ended,
}

/// Where the build stands that is followed. `number`: its number, once it is known.
pub(super) fn phase(build: &ImageBuild, until: &Until, number: &mut Option<i64>) -> Phase {
    let Some(status) = &build.status else {
        return Phase::Before;
    };
    if number.is_none() {
        let begun = match until {
            Until::Request(value) => {
                // Its first 256 characters stand there.
                let handled: Option<String> = status.last_handled_request.clone();
                handled.is_some_and(|handled| !handled.is_empty() && value.starts_with(&handled))
            }
            Until::Generation(generation) => {
                let seen = status.observed_generation.unwrap_or(-1) >= *generation;
                let current = status.current.as_ref();
                seen && current.is_none_or(|it| it.generation >= *generation)
            }
            Until::Current => {
                status.observed_generation.unwrap_or(-1) >= build.metadata.generation.unwrap_or(0)
            }
        };
        if !begun {
            return Phase::Before;
        }
        *number = status.build;
    }
    let mine = number.is_none_or(|number| status.build.is_none_or(|last| last <= number));
    match &status.current {
        Some(_) if mine => Phase::UnderWay,
        _ => Phase::Ended,
    }
}

/// Watches until the build has ended; each state of the object is shown to `see` on the way.
pub(super) async fn end(
    cluster: &Cluster,
    name: &str,
    until: &Until,
    mut see: impl FnMut(&ImageBuild),
) -> Result<ImageBuild, Failed> {
    let mut number = None;
    let mut seen = lasting(watcher::watch_object(cluster.builds(), name)).boxed();
    while let Some(now) = seen
        .try_next()
        .await
        .map_err(|error| answer::watch(&error, name))?
    {
        let Some(now) = now else {
            let text = format!(
                "ImageBuild {name} not found in namespace {}: it was deleted, or never created",
                cluster.namespace
            );
            return Err(Failed::Refused(text));
        };
        let phase = phase(&now, until, &mut number);
        if phase != Phase::Before {
            see(&now);
        }
        if phase == Phase::Ended {
            return Ok(now);
        }
    }
    Err(Failed::Refused(format!(
        "ImageBuild {name}: the watch ended"
    )))
}

/// Prints what a build does until it has ended, and what came of it.
pub(crate) async fn follow(
    cluster: &Cluster,
    name: &str,
    until: &Until,
    shown: Shown,
    timeout: Duration,
) -> Result<(), Failed> {
    let sink = Sink::new(shown.output);
    let mut streams = Streams::new(cluster.clone(), sink.clone());
    let ended = {
        let mut said = String::new();
        let see = |build: &ImageBuild| {
            streams.see(build);
            if let Some(text) = says(build).filter(|text| *text != said) {
                sink.note(&text);
                said = text;
            }
        };
        tokio::select! {
            ended = tokio::time::timeout(timeout, end(cluster, name, until, see)) => Some(ended),
            _ = tokio::signal::ctrl_c() => None,
        }
    };
    let build = match ended {
        Some(Ok(Ok(build))) => build,
        Some(Ok(Err(failed))) => {
            sink.close();
            return Err(failed);
        }
        Some(Err(_)) => {
            sink.close();
            return Err(Failed::Time(format!(
                "{name}: timed out: the build goes on: whittle logs {name} -f"
            )));
        }
        None => {
            sink.close();
            return interrupted(cluster, name).await;
        }
    };
    // So quick that no attempt was seen to run.
    if streams.is_empty()
        && let Some(number) = begun(&build, until)
    {
        for pod in pods::of_build(cluster, &build, number).await? {
            pods::print(cluster, &pod.name_any(), false, &sink).await?;
        }
    }
    streams.rest(REST).await;
    sink.close();
    if !shown.quiet {
        let text = status::text(&build, Timestamp::now());
        match shown.output {
            Output::RawJson => anstream::eprint!("{text}"),
            _ => anstream::print!("\n{text}"),
        }
    }
    match State::of(&build) {
        State::Failed => Err(Failed::Build(String::new())),
        _ => Ok(()),
    }
}

/// The number of the build that was followed; none where nothing of the spec had to be built.
fn begun(build: &ImageBuild, until: &Until) -> Option<i64> {
    let status = build.status.as_ref()?;
    let newest = status.history.first()?;
    match until {
        Until::Generation(generation) if newest.generation < *generation => None,
        _ => Some(newest.build),
    }
}

/// What it waits for, or what else but its log goes on.
fn says(build: &ImageBuild) -> Option<String> {
    let status = build.status.as_ref()?;
    let current = status.current.as_ref()?;
    let ready = find(&status.conditions, READY)?;
    let text = match (status.waiting(), &current.stage) {
        (Some(_), _) => format!("waiting: {}: {}", ready.reason, ready.message),
        (None, Stage::Building) => return None,
        (None, _) => current
            .message
            .clone()
            .unwrap_or_else(|| ready.message.clone()),
    };
    Some(styled(
        FAINT,
        &tame(text.lines().next().unwrap_or_default()),
    ))
}

/// The first Ctrl-C ends the following alone; a second one soon after cancels the build.
async fn interrupted(cluster: &Cluster, name: &str) -> Result<(), Failed> {
    let goes_on =
        format!("the build goes on: whittle logs {name} -f; whittle cancel {name} ends it");
    if !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        return Err(Failed::Interrupted(goes_on));
    }
    anstream::eprintln!(
        "\n{goes_on}. Ctrl-C once more within {} s cancels it.",
        AGAIN.as_secs()
    );
    match tokio::time::timeout(AGAIN, tokio::signal::ctrl_c()).await {
        Err(_) => Err(Failed::Interrupted(String::new())),
        Ok(_) => {
            let build = cluster.build(name).await?;
            let number = build
                .status
                .as_ref()
                .filter(|it| it.current.is_some())
                .and_then(|it| it.build);
            let Some(number) = number else {
                return Err(Failed::Interrupted(format!(
                    "{name}: no build runs any more"
                )));
            };
            act::cancel_one(cluster, &build, number).await?;
            Err(Failed::Interrupted(format!(
                "{name}: build {number} is being canceled"
            )))
        }
    }
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
