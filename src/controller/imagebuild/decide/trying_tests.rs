//! `spec.minimize.trace` and `exercise`: an image is tried, made smaller by another runner, and held to the same.

use super::super::checking as decided;
use super::checking::request_of;
use super::*;
use crate::imagebuild::trial;
use serde_json::{Value, json};
use whittle_api::{MinimizeOutcome, PROBED};
use whittle_build::minimized::{Full, Minimized, PlatformToTry, ToTry};
use whittle_build::request::{Tagging, Tried};
use whittle_build::trial::{Outcome, Paths};

const FULL: &str = "sha256:aa";

fn asked(more: Value) -> ImageBuild {
    let mut build = fixtures::inline();
    let exercise = json!([{"httpGet": {"path": "/report", "port": 80}}, {"exec": {"command": ["/app", "selftest"]}}]);
    let mut minimize = json!({"mode": "Apply", "trace": true, "exercise": exercise});
    json_patch::merge(&mut minimize, &more);
    build.spec.minimize = serde_json::from_value(minimize).unwrap();
    build.spec.health_check = serde_json::from_value(json!({"tcpSocket": {"port": 80}})).ok();
    build
}

fn starts() -> Vec<PlatformToTry> {
    let starts = |platform: &str| PlatformToTry {
        platform: platform.into(),
        entrypoint: vec!["/app".into()],
        cmd: vec!["$(serve)".into()],
        base_layers: Some(2),
    };
    vec![starts("linux/amd64"), starts("linux/arm64")]
}

/// The build once its full image is pushed, to be tried.
fn pushed() -> ImageBuild {
    let mut build = asked(json!({}));
    build.status = Some(next(&observed(build.clone()), now()).status);
    let Report::Succeeded(mut built) = success() else {
        panic!()
    };
    let job = build.status.as_ref().unwrap().current.as_ref().unwrap();
    built.minimized = Some(Box::new(Minimized {
        trial: Some(Box::new(ToTry {
            job: job.job.clone(),
            platforms: starts(),
        })),
        ..Minimized::default()
    }));
    let told = with_attempt(build.clone(), State::Ended(Report::Succeeded(built)));
    build.status = Some(next(&told, later(5)).status);
    build
}

fn with_trials(build: &ImageBuild, states: [trial::State; 2]) -> Observed {
    let names = ["linux/amd64", "linux/arm64"];
    let trials = names.into_iter().zip(states);
    Observed {
        trials: trials
            .map(|(platform, state)| Trial {
                platform: platform.into(),
                state,
            })
            .collect(),
        ..observed(build.clone())
    }
}

fn outcome(steps: Vec<Option<String>>) -> Outcome {
    Outcome {
        steps,
        found: Paths::pack(vec!["/app/plugin-7.so".into()]).0,
        ..Outcome::default()
    }
}

/// The build while a runner makes the image smaller, and what that one is asked for.
fn minimizing(outcome: Outcome) -> (ImageBuild, Tried, Step) {
    let mut build = pushed();
    let done = trial::State::Done(Box::new(outcome));
    let step = next(
        &with_trials(&build, [done, trial::State::NoNode]),
        later(20),
    );
    let Tagging::Smaller(tried) = request_of(&step).tagging else {
        panic!("{:?}", request_of(&step).tagging)
    };
    build.status = Some(step.status.clone());
    (build, *tried, step)
}

/// The build once the smaller image is pushed.
fn smaller(not_held: Vec<usize>) -> ImageBuild {
    let (mut build, ..) = minimizing(outcome(vec![None, None]));
    let Report::Succeeded(mut built) = success() else {
        panic!()
    };
    built.digest = "sha256:5a".into();
    built.revision = None;
    built.advice.clear();
    built.minimized = Some(Box::new(Minimized {
        outcome: MinimizeOutcome::Applied,
        digest: Some("sha256:5a".into()),
        full: Some(Full {
            digest: FULL.into(),
            size: 9_000_000,
            ..Full::default()
        }),
        starts: starts(),
        not_held,
        ..Minimized::default()
    }));
    let told = with_attempt(build.clone(), State::Ended(Report::Succeeded(built)));
    build.status = Some(next(&told, later(30)).status);
    build
}

fn stage(build: &ImageBuild) -> Stage {
    let current = build.status.as_ref().unwrap().current.clone();
    current.unwrap().stage
}

#[test]
fn an_image_is_tried_before_it_is_made_smaller() {
    let build = pushed();
    assert!(matches!(stage(&build), Stage::Checking { .. }));
    let absent = [trial::State::Absent, trial::State::NoNode];
    let step = next(&with_trials(&build, absent), later(6));
    let Action::Check(jobs) = &step.action else {
        panic!("{:?}", step.action)
    };
    assert_eq!(jobs.len(), 1);
    insta::assert_yaml_snapshot!("trial_job", jobs[0]);
    assert_eq!(step.stop, Vec::<String>::new());
    let waits = [
        trial::State::Waiting("it runs".into()),
        trial::State::NoNode,
    ];
    let step = next(&with_trials(&build, waits), later(7));
    assert_eq!(step.action, Action::None);
    let ready = find(&step.status.conditions, READY).unwrap();
    assert!(
        ready.message.contains("linux/amd64: it runs"),
        "{}",
        ready.message
    );
}

#[test]
fn what_came_of_the_trial_is_given_to_a_runner_that_builds_nothing() {
    let bad = outcome(vec![None, Some("ended with exit code 3".into())]);
    let (build, tried, step) = minimizing(bad);
    assert!(matches!(stage(&build), Stage::Minimizing { .. }));
    assert_eq!(tried.image, FULL);
    assert_eq!(tried.traces.len(), 1);
    assert_eq!(tried.traces[0].found.unpack(), ["/app/plugin-7.so"]);
    assert_eq!(tried.not_held, [1]);
    let note = tried.note.unwrap();
    assert!(
        note.contains("the full image failed exercise[1] (/app selftest)"),
        "{note}"
    );
    assert!(
        note.contains("linux/arm64 was not traced: the cluster has no node"),
        "{note}"
    );
    // The trial's Job stays, for a runner that has to be started once more.
    assert_eq!(step.stop, Vec::<String>::new());
    let done = trial::State::Done(Box::new(outcome(vec![None, None])));
    let again = next(
        &with_trials(&build, [done, trial::State::NoNode]),
        later(25),
    );
    assert!(matches!(request_of(&again).tagging, Tagging::Smaller(_)));
}

#[test]
fn an_image_that_cannot_be_tried_is_made_smaller_by_what_is_known_of_it() {
    let build = pushed();
    let failed = || trial::State::Failed("its Pod was lost".into());
    let step = next(&with_trials(&build, [failed(), failed()]), later(20));
    let Tagging::Smaller(tried) = request_of(&step).tagging else {
        panic!()
    };
    assert!(tried.traces.is_empty());
    assert!(
        tried
            .note
            .unwrap()
            .contains("linux/amd64 was not traced: its Pod was lost")
    );
}

#[test]
fn the_smaller_image_is_checked_and_then_exercised() {
    let build = smaller(vec![]);
    assert!(matches!(stage(&build), Stage::Checking { .. }));
    let pending = decided::pending(&build, build.status.as_ref()).unwrap();
    // What the first runner has told of the build stays.
    assert_eq!(pending.built.digest, "sha256:5a");
    assert!(pending.built.revision.is_some());
    let wanted = pending.trial.unwrap();
    let passed = wanted.judge(3, trial::State::Absent);
    assert_eq!(passed, gate::State::Exercising);
    let step = next(
        &with_checks(&build, [passed, gate::State::NoNode]),
        later(35),
    );
    let Action::Check(jobs) = &step.action else {
        panic!("{:?}", step.action)
    };
    let named = decided::jobs(build.status.as_ref().unwrap());
    assert!(named.contains(jobs[0].metadata.name.as_ref().unwrap()));
    let done = |steps| trial::State::Done(Box::new(outcome(steps)));
    let judged = wanted.judge(3, done(vec![None, None]));
    assert_eq!(judged, gate::State::Passed { seconds: 3 });
    let judged = wanted.judge(3, done(vec![Some("answered 500".into()), None]));
    let gate::State::Failed { message, .. } = &judged else {
        panic!("{judged:?}")
    };
    assert_eq!(
        message,
        "exercise[0] (GET /report on port 80) failed: answered 500"
    );
    let step = next(
        &with_checks(&build, [judged, gate::State::NoNode]),
        later(40),
    );
    let current = step.status.current.clone().unwrap();
    let full = decided::pushed(&current).unwrap();
    assert_eq!(full.digest, FULL);
    assert!(find(&step.status.conditions, PROBED).is_none());
}

#[test]
fn what_the_full_image_did_not_pass_is_not_asked_of_the_smaller_one() {
    let build = smaller(vec![0]);
    let pending = decided::pending(&build, build.status.as_ref()).unwrap();
    let done = trial::State::Done(Box::new(outcome(vec![Some("answered 500".into()), None])));
    let judged = pending.trial.unwrap().judge(3, done);
    assert_eq!(judged, gate::State::Passed { seconds: 3 });
}
