//! `whittle rollback`: the tags go back to the image of an earlier build, and nothing is built.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde_json::json;
use whittle_api::{HistoryEntry, ImageBuild, ImageBuildStatus, ROLLBACK, RollbackState};

use super::act::patch;
use super::answer::Failed;
use super::follow::judged;
use super::screen::{span, tame};
use super::{Cluster, Reach, wait};

/// What `rollback` is asked for.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    reach: Reach,
    /// The ImageBuild.
    #[arg(value_name = "NAME", add = crate::complete::builds())]
    name: String,
    /// The build's number, as `whittle history` has it. Without it: the one whose image the tags pointed to before.
    #[arg(long, value_name = "N")]
    to: Option<i64>,
    /// Wait until the tags are moved.
    #[arg(long)]
    wait: bool,
    /// With --wait: so long at most, for example 5m.
    #[arg(long, value_parser = wait::duration, default_value = "10m")]
    timeout: Duration,
}

/// Asks for it.
pub(super) async fn run(options: &Options) -> Result<(), Failed> {
    let cluster = options.reach.cluster().await?;
    let name = &options.name;
    let build = cluster.build(name).await?;
    let status = build.status.clone().unwrap_or_default();
    let number = target(&status, options.to)
        .map_err(|why| Failed::Refused(format!("{name}: {why}: whittle history {name}")))?;
    // To the nanosecond: going back to the same build once more has another value.
    let value = format!("{number} {}", Timestamp::now());
    let annotations = json!({"metadata": {"annotations": {ROLLBACK: value}}});
    patch(&cluster, &build, annotations).await?;
    anstream::println!("{name}: {}", said(&build, &status, number));
    match options.wait {
        true => waited(&cluster, name, &value, options.timeout).await,
        false => Ok(()),
    }
}

/// The build that is gone back to, or why there is none.
fn target(status: &ImageBuildStatus, asked: Option<i64>) -> Result<i64, String> {
    let Some(number) = asked else {
        let before = status.before_the_present().map(|it| it.build);
        return before.ok_or_else(|| {
            "no build before the present one can be gone back to, as far as status.history goes"
                .into()
        });
    };
    let entry = status.history.iter().find(|it| it.build == number);
    let why = match entry {
        Some(entry) if entry.image().is_some() => return Ok(number),
        Some(HistoryEntry { result, .. }) => {
            format!("build {number} has no image that tags have pointed to ({result})")
        }
        None => format!("build {number} is not in status.history"),
    };
    let images = status.history.iter().filter(|it| it.image().is_some());
    let numbers: Vec<String> = images.map(|it| it.build.to_string()).collect();
    Err(match numbers.is_empty() {
        true => format!("{why}, and no build can be gone back to"),
        false => format!("{why}: these can be gone back to: {}", numbers.join(", ")),
    })
}

/// What follows, and what ends it again.
fn said(build: &ImageBuild, status: &ImageBuildStatus, number: i64) -> String {
    let name = build.metadata.name.as_deref().unwrap_or_default();
    let mut said = format!("a rollback to build {number} is requested");
    if status.current.is_some() {
        let running = status.build.unwrap_or(1);
        said += &format!(
            "; it waits for build {running}, which is under way (whittle cancel {name} ends that)"
        );
    }
    if !build.spec.suspend {
        said += &format!(
            "\n{name}: the next commit, trigger or change of the spec builds, and moves the tags forward again: whittle suspend {name} \
             holds that"
        );
    }
    said
}

/// What became of a request; none while that is open.
fn outcome(build: &ImageBuild, value: &str) -> Option<Result<String, Failed>> {
    let told = build.status.as_ref()?.rollback.as_ref()?;
    if told.request != value {
        return None;
    }
    let message = tame(&told.message);
    match told.state {
        RollbackState::UnderWay => None,
        RollbackState::Done => Some(Ok(message)),
        RollbackState::Refused => Some(Err(Failed::Refused(message))),
        RollbackState::Failed => Some(Err(Failed::Build(message))),
    }
}

async fn waited(
    cluster: &Cluster,
    name: &str,
    value: &str,
    timeout: Duration,
) -> Result<(), Failed> {
    let waits = judged(cluster, name, name, |now| match now {
        Some(now) => outcome(&now, value),
        None => Some(Err(Failed::Refused(format!(
            "ImageBuild {name} was deleted"
        )))),
    });
    let Ok(outcome) = tokio::time::timeout(timeout, waits).await else {
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        return Err(Failed::Time(format!(
            "{name}: timed out after {}: the rollback goes on: whittle status {name}",
            span(seconds)
        )));
    };
    anstream::println!("{name}: {}", outcome?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn build(status: Value) -> ImageBuild {
        serde_json::from_value(json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "ImageBuild",
            "metadata": {"name": "hello"}, "status": status,
            "spec": {"source": {"inline": {"files": {}}}, "output": {"image": "registry.example.com/hello"}}}))
        .unwrap()
    }

    fn history() -> Value {
        json!({"digest": "sha256:c", "build": 4, "history": [
            {"build": 4, "generation": 2, "result": "StepFailed"},
            {"build": 3, "generation": 2, "result": "Succeeded", "digest": "sha256:c"},
            {"build": 1, "generation": 1, "result": "Succeeded", "digest": "sha256:a"}]})
    }

    #[test]
    fn what_can_be_gone_back_to_is_named_where_what_is_asked_for_cannot() {
        let status = build(history()).status.unwrap();
        assert_eq!(target(&status, Some(3)), Ok(3));
        assert_eq!(target(&status, None), Ok(1));
        for (asked, why) in [
            (
                4,
                "build 4 has no image that tags have pointed to (StepFailed): these can be gone back to: 3, 1",
            ),
            (
                2,
                "build 2 is not in status.history: these can be gone back to: 3, 1",
            ),
        ] {
            assert_eq!(target(&status, Some(asked)), Err(why.into()));
        }
        let none = ImageBuildStatus::default();
        assert!(
            target(&none, Some(1))
                .unwrap_err()
                .ends_with("and no build can be gone back to")
        );
        assert!(target(&none, None).is_err());
    }

    #[test]
    fn only_the_answer_to_this_very_request_ends_the_waiting() {
        let told = |request: &str, state: &str| {
            outcome(
                &build(json!({"rollback": {"request": request, "state": state, "message": "m"}})),
                "3 now",
            )
        };
        assert!(told("3 before", "Done").is_none());
        assert!(told("3 now", "UnderWay").is_none());
        assert!(matches!(told("3 now", "Done"), Some(Ok(_))));
        assert!(matches!(
            told("3 now", "Refused"),
            Some(Err(Failed::Refused(_)))
        ));
        assert!(matches!(
            told("3 now", "Failed"),
            Some(Err(Failed::Build(_)))
        ));
        assert!(outcome(&build(json!({})), "3 now").is_none());
    }

    #[test]
    fn a_build_under_way_is_waited_for_and_what_ends_it_is_said() {
        let mut status = history();
        status["current"] = json!({"attempt": 1, "job": "j", "generation": 2});
        let mut build = build(status);
        let text = said(&build, build.status.as_ref().unwrap(), 3);
        assert!(
            text.contains("waits for build 4, which is under way (whittle cancel hello ends that)"),
            "{text}"
        );
        assert!(text.contains("whittle suspend hello holds that"), "{text}");
        build.spec.suspend = true;
        let text = said(&build, &ImageBuildStatus::default(), 3);
        assert_eq!(text, "a rollback to build 3 is requested");
    }
}
