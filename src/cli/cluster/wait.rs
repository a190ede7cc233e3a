//! `whittle wait`: until an ImageBuild is as somebody wants it, or its build has failed.

use std::cell::Cell;
use std::time::Duration;

use futures::future::join_all;
use kube::ResourceExt;
use whittle_api::{ImageBuild, READY, STALLED, find, is_true, quantity};

use super::answer::Failed;
use super::follow::{End, end, judged};
use super::followed::{Outcome, Until, rests};
use super::select::Selection;
use super::status::{State, is_behind};
use super::{Cluster, named, status};

/// What `wait` is asked for.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    selection: Selection,
    /// What is waited for: a condition that is to be True (Ready, Built, Contract, Probed, Minimized …), or its opposite
    /// with =False; Deleted; or Ended: no build runs or waits any more, whatever became of it.
    #[arg(long = "for", value_name = "CONDITION", default_value = READY, value_parser = goal)]
    goal: Goal,
    /// So long at most, for example 10m.
    #[arg(long, value_parser = duration, default_value = "30m")]
    timeout: Duration,
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// A condition stands at this.
    Condition(String, &'static str),
    /// No build runs or waits.
    Ended,
    /// The object is gone.
    Deleted,
}

/// A duration as in a spec: 90s, 10m, 1h30m; plain digits are seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let plain = text.chars().all(|c| c.is_ascii_digit());
    let read = match plain {
        true => quantity::checked_duration(&format!("{text}s")),
        false => quantity::checked_duration(text),
    };
    read.and_then(|it| Duration::try_from(it).ok())
        .ok_or_else(|| "invalid duration: write for example 90s, 10m or 1h30m".into())
}

fn goal(text: &str) -> Result<Goal, String> {
    if text.eq_ignore_ascii_case("deleted") || text == "delete" {
        return Ok(Goal::Deleted);
    }
    if text.eq_ignore_ascii_case("ended") {
        return Ok(Goal::Ended);
    }
    // As kubectl has it, too.
    let text = text.strip_prefix("condition=").unwrap_or(text);
    let (name, to) = text.split_once('=').unwrap_or((text, "True"));
    let to = ["True", "False", "Unknown"]
        .into_iter()
        .find(|it| it.eq_ignore_ascii_case(to));
    match to.filter(|_| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric())) {
        Some(to) => Ok(Goal::Condition(name.to_owned(), to)),
        None => Err("invalid condition: write for example Ready, Probed or Ready=False".into()),
    }
}

/// How far an ImageBuild is from what is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stands {
    /// It is so.
    Reached,
    /// It may become so.
    Open,
    /// It does not become so by itself.
    Failed,
}

fn judge(build: &ImageBuild, goal: &Goal) -> Stands {
    let seen = build
        .status
        .as_ref()
        .filter(|status| !is_behind(build, status));
    let Some(status) = seen else {
        return Stands::Open;
    };
    let ends = |so: bool| match so {
        true => Stands::Reached,
        false if is_true(&status.conditions, STALLED) && status.current.is_none() => Stands::Failed,
        false => Stands::Open,
    };
    match goal {
        Goal::Ended
            if status.current.is_none() && status.pending.is_none() && rests(build, status) =>
        {
            Stands::Reached
        }
        Goal::Deleted | Goal::Ended => Stands::Open,
        Goal::Condition(name, to) => {
            let stands = find(&status.conditions, name).map(|it| it.status.as_str());
            ends(stands == Some(*to))
        }
    }
}

/// Waits for all of them.
pub(super) async fn run(options: &Options) -> Result<(), Failed> {
    let cluster = options.selection.reach.cluster().await?;
    let goal = &options.goal;
    if *goal == Goal::Deleted && !options.selection.names.is_empty() {
        // What is gone already is what was waited for.
        let named = options.selection.named(&cluster)?;
        let waits = named.into_iter().map(|(of, name)| {
            let shown = match of.namespace == cluster.namespace {
                true => name.clone(),
                false => format!("{}/{name}", of.namespace),
            };
            one(of, shown, name, goal, options.timeout)
        });
        return worst(join_all(waits).await);
    }
    let builds = options.selection.chosen(&cluster).await?;
    let waits = builds.iter().map(|build| {
        let name = named(&build.metadata, &cluster.namespace);
        one(
            cluster.of(build),
            name,
            build.name_any(),
            goal,
            options.timeout,
        )
    });
    worst(join_all(waits).await)
}

/// The first failure of a build, else the first other one.
fn worst(results: Vec<Result<(), Failed>>) -> Result<(), Failed> {
    let mut failed: Vec<Failed> = results.into_iter().filter_map(Result::err).collect();
    failed.sort_by_key(Failed::code);
    match failed.into_iter().next() {
        Some(first) => Err(first),
        None => Ok(()),
    }
}

async fn one(
    cluster: Cluster,
    shown: String,
    name: String,
    goal: &Goal,
    timeout: Duration,
) -> Result<(), Failed> {
    let mut last = None;
    let waits = judged(&cluster, &name, &shown, |now| {
        let Some(now) = now else {
            return Some(match goal {
                Goal::Deleted => Ok(()),
                _ => Err(Failed::Refused(format!("ImageBuild {shown} was deleted"))),
            });
        };
        let stands = judge(&now, goal);
        let answer = match stands {
            Stands::Reached => Some(Ok(())),
            Stands::Failed => {
                anstream::eprint!(
                    "{}",
                    status::text(&now, k8s_openapi::jiff::Timestamp::now())
                );
                Some(Err(Failed::Build(format!("{shown}: the build failed"))))
            }
            Stands::Open => None,
        };
        last = Some(now);
        answer
    });
    let done = tokio::time::timeout(timeout, waits).await;
    match done {
        Ok(Ok(())) => {
            anstream::println!("{shown}: {}", reached(goal));
            Ok(())
        }
        Ok(Err(failed)) => Err(failed),
        Err(_) => {
            let state = last.as_ref().map(|it| {
                let ready = it
                    .status
                    .as_ref()
                    .and_then(|it| find(&it.conditions, READY));
                let why = ready.map(|it| format!(": {}: {}", it.reason, it.message));
                format!("it is {}{}", State::of(it).word(), why.unwrap_or_default())
            });
            Err(Failed::Time(format!(
                "{shown}: timed out after {}: {}",
                super::screen::span(i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX)),
                super::screen::tame(&state.unwrap_or_else(|| "nothing was heard of it".into()))
            )))
        }
    }
}

fn reached(goal: &Goal) -> String {
    match goal {
        Goal::Deleted => "deleted".into(),
        Goal::Ended => "ended".into(),
        Goal::Condition(name, "True") => name.clone(),
        Goal::Condition(name, to) => format!("{name} is {to}"),
    }
}

/// Waits until builds that were asked for have ended.
pub(crate) async fn ended(
    cluster: &Cluster,
    builds: &[ImageBuild],
    until: &Until,
    timeout: Duration,
) -> Result<(), Failed> {
    let waits = builds.iter().map(|build| async {
        let (of, name) = (cluster.of(build), build.name_any());
        let shown = named(&build.metadata, &cluster.namespace);
        let number = Cell::new(None);
        let note = |_: &ImageBuild, note: Option<&str>| {
            if let Some(note) = note {
                anstream::eprintln!("{shown}: {note}");
            }
        };
        let ended = end(&of, &name, until, &number, note);
        let Ok(ended) = tokio::time::timeout(timeout, ended).await else {
            return Err(Failed::Time(format!(
                "{shown}: timed out: the build goes on: whittle status {shown}"
            )));
        };
        let ended = ended?;
        match &ended.outcome {
            Outcome::Failed(reason) => {
                let now = k8s_openapi::jiff::Timestamp::now();
                anstream::eprint!("{}", status::text(&ended.build, now));
                Err(Failed::Build(format!(
                    "{shown}: the build failed: {reason}"
                )))
            }
            Outcome::Suspended => {
                anstream::println!("{shown}: suspended: whittle resume {shown}");
                Ok(())
            }
            Outcome::Succeeded => {
                anstream::println!("{shown}: {}", image(&ended));
                Ok(())
            }
        }
    });
    worst(join_all(waits).await)
}

/// The image of the build that has ended: what the tags point to may be a newer one's.
fn image(ended: &End) -> String {
    let status = ended.build.status.clone().unwrap_or_default();
    let entry = status
        .history
        .iter()
        .find(|it| Some(it.build) == ended.number);
    match entry.and_then(|it| it.digest.as_ref()) {
        Some(digest) => format!("{}@{digest}", ended.build.spec.output.image),
        None => status.image.unwrap_or_default(),
    }
}

#[cfg(test)]
#[path = "wait_tests.rs"]
mod tests;
