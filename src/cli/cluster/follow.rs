//! Follows a build to its end: what it waits for, its log, and what came of it.

use std::cell::Cell;
use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::jiff::Timestamp;
use kube::runtime::{WatchStreamExt, watcher};
use whittle_api::{ImageBuild, READY, Stage, find};

use super::answer::{self, Failed};
use super::followed::{Followed, Outcome, Phase, Until};
use super::logs::{Output, Sink};
use super::pods::Streams;
use super::screen::{FAINT, styled, tame};
use super::status::{self, State};
use super::{Cluster, act, pods};

/// So long after the first Ctrl-C a second one cancels the build.
const AGAIN: Duration = Duration::from_secs(5);
/// So long the log of a build that has ended is read on.
const REST: Duration = Duration::from_secs(15);

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

/// Watches one ImageBuild until `judge` has an answer; it gets none where the object does not exist. `shown`: its name in messages.
pub(super) async fn judged<T>(
    cluster: &Cluster,
    name: &str,
    shown: &str,
    mut judge: impl FnMut(Option<ImageBuild>) -> Option<Result<T, Failed>>,
) -> Result<T, Failed> {
    let mut seen = lasting(watcher::watch_object(cluster.builds(), name)).boxed();
    while let Some(now) = seen
        .try_next()
        .await
        .map_err(|error| answer::watch(&error, shown))?
    {
        if let Some(answer) = judge(now) {
            return answer;
        }
    }
    Err(Failed::Refused(format!(
        "ImageBuild {shown}: the watch ended"
    )))
}

/// Watches until the build has ended; each state of the object is shown to `see` on the way. `number`: that of the build, once it
/// has begun.
pub(super) async fn end(
    cluster: &Cluster,
    name: &str,
    until: &Until,
    number: &Cell<Option<i64>>,
    mut see: impl FnMut(&ImageBuild, Option<&str>),
) -> Result<End, Failed> {
    let mut followed = Followed::new(until);
    judged(cluster, name, name, |now| {
        let Some(build) = now else {
            let text = format!(
                "ImageBuild {name} not found in namespace {}: it was deleted, or never created",
                cluster.namespace
            );
            return Some(Err(Failed::Refused(text)));
        };
        let phase = followed.see(&build);
        number.set(followed.number);
        match phase {
            Phase::Before => {}
            Phase::UnderWay => see(&build, None),
            Phase::Superseded(old, new) => {
                let text =
                    format!("build {old} was superseded by build {new}, which is followed now");
                see(&build, Some(&text));
            }
            Phase::Ended(outcome) => {
                let number = followed.number.filter(|_| !followed.nothing);
                return Some(Ok(End {
                    build,
                    outcome,
                    number,
                }));
            }
        }
        None
    })
    .await
}

/// A build that has ended.
pub(super) struct End {
    /// The object then.
    pub(super) build: ImageBuild,
    /// What became of it.
    pub(super) outcome: Outcome,
    /// Its number; none where nothing had to be built.
    pub(super) number: Option<i64>,
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
    let number = Cell::new(None);
    let followed = async {
        let mut streams = Streams::new(cluster.clone(), sink.clone());
        let mut said = String::new();
        let see = |build: &ImageBuild, note: Option<&str>| {
            note.into_iter().for_each(|note| sink.note(note));
            streams.see(build);
            if let Some(text) = says(build).filter(|text| *text != said) {
                sink.note(&text);
                said = text;
            }
        };
        let end = end(cluster, name, until, &number, see);
        let end = tokio::time::timeout(timeout, end).await.map_err(|_| {
            Failed::Time(format!(
                "{name}: timed out: the build goes on: whittle logs {name} -f"
            ))
        })??;
        // So quick that no attempt was seen to run.
        if streams.is_empty()
            && let Some(number) = end.number
            && let Err(failed) = pods::print_all(cluster, &end.build, number, &sink).await
        {
            sink.note(&failed.to_string());
        }
        if !streams.rest(REST).await {
            sink.note(&format!(
                "the rest of the log takes long: whittle logs {name}"
            ));
        }
        Ok::<End, Failed>(end)
    };
    let ended = tokio::select! {
        ended = followed => Some(ended),
        _ = tokio::signal::ctrl_c() => None,
    };
    sink.close();
    let Some(ended) = ended else {
        return interrupted(cluster, name, number.get()).await;
    };
    let end = ended?;
    if !shown.quiet {
        let text = status::text(&end.build, Timestamp::now());
        match shown.output {
            Output::RawJson => anstream::eprint!("{text}"),
            _ => anstream::print!("\n{text}"),
        }
    }
    match (&end.outcome, end.number) {
        (Outcome::Failed(_), _) if State::of(&end.build) == State::Failed => {
            Err(Failed::Build(String::new()))
        }
        // The report above is of the build that has begun since.
        (Outcome::Failed(reason), Some(number)) => Err(Failed::Build(format!(
            "{name}: build {number} failed: {reason}"
        ))),
        (Outcome::Failed(reason), None) => Err(Failed::Build(format!("{name}: {reason}"))),
        (Outcome::Succeeded | Outcome::Suspended, _) => Ok(()),
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

/// The first Ctrl-C ends the following alone; a second one soon after cancels the build that was followed, and no other.
async fn interrupted(cluster: &Cluster, name: &str, number: Option<i64>) -> Result<(), Failed> {
    let goes_on =
        format!("the build goes on: whittle logs {name} -f; whittle cancel {name} ends it");
    let Some(number) = number.filter(|_| std::io::IsTerminal::is_terminal(&std::io::stdin()))
    else {
        return Err(Failed::Interrupted(goes_on));
    };
    anstream::eprintln!(
        "\n{goes_on}. Ctrl-C once more within {} s cancels it.",
        AGAIN.as_secs()
    );
    if tokio::time::timeout(AGAIN, tokio::signal::ctrl_c())
        .await
        .is_err()
    {
        return Err(Failed::Interrupted(String::new()));
    }
    let build = cluster.build(name).await?;
    let status = build.status.as_ref();
    let runs = status.is_some_and(|it| it.current.is_some() && it.build == Some(number));
    if !runs {
        return Err(Failed::Interrupted(format!(
            "{name}: build {number} does not run any more"
        )));
    }
    act::cancel_one(cluster, &build, number).await?;
    Err(Failed::Interrupted(format!(
        "{name}: build {number} is being canceled"
    )))
}
