//! Before an image is made smaller: it is tried, where `spec.minimize.trace` asks for that, and a runner then makes it smaller.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::clock::timeout;
use super::{Action, Observed, Step, checking, deadline, start, step};
use crate::imagebuild::status;
use crate::imagebuild::trial::{self, State, Trial};
use crate::names;
use crate::settings::Settings;
use whittle_api::{Current, HealthCheck, ImageBuild, ImageBuildStatus, Reason, Stage};
use whittle_build::minimized::{FullPlatform, ToTry};
use whittle_build::report::Built;
use whittle_build::request::{Tagging, Trace, Tried};
use whittle_build::trial::{PATHS, named};

/// What is to be tried.
#[derive(Clone, Debug)]
pub struct Pending {
    /// What the build has pushed.
    pub built: Built,
    /// What each platform starts.
    pub of: ToTry,
    /// How it is checked.
    pub check: HealthCheck,
    /// True where a runner has what came of it, or is to get it.
    pub done: bool,
}

/// What this build has pushed that is to be tried before it is made smaller; none in every other state.
pub fn pending(build: &ImageBuild, status: Option<&ImageBuildStatus>) -> Option<Pending> {
    let current = status?.current.as_ref()?;
    let (built, of) = untried(current)?;
    Some(Pending {
        built,
        of,
        check: build.spec.health_check.clone()?,
        done: current.stage.is_after_push(),
    })
}

/// What the attempt has pushed, where it is to be tried, or was tried and is not smaller yet.
pub(super) fn untried(current: &Current) -> Option<(Built, ToTry)> {
    if current.stage.is_tagging() {
        return None;
    }
    let built = checking::pushed(current)?;
    let of = to_try(&built)?.clone();
    Some((built, of))
}

/// What it takes to try an image that was pushed, where it is to be tried before it is made smaller.
pub(super) fn to_try(built: &Built) -> Option<&ToTry> {
    built.minimized.as_ref()?.trial.as_deref()
}

/// The name of the Job that tries a platform's image.
pub fn name(job: &str, platform: &str) -> String {
    names::child(job, &format!("trial@{platform}"))
}

/// The names of the Jobs that try the image of this status: they stay until the smaller one is there, for a runner that has to
/// be started again.
pub(super) fn jobs(of: &ToTry) -> impl Iterator<Item = String> {
    of.platforms.iter().map(|it| name(&of.job, &it.platform))
}

/// The image is being tried: once that has ended, another runner makes it smaller.
pub(super) fn go_on(
    observed: &Observed,
    settings: &Settings,
    mut status: ImageBuildStatus,
    pending: &Pending,
    now: Timestamp,
) -> Step {
    let build = &observed.build;
    let waiting: Vec<String> = (observed.trials.iter())
        .filter_map(|trial| match &trial.state {
            State::Waiting(message) => Some(format!("{}: {message}", trial.platform)),
            State::Absent => Some(format!("{}: starting", trial.platform)),
            _ => None,
        })
        .collect();
    // A third of the time is for what follows: a trial that takes too long fails no build.
    let left = deadline(build, &status, now).duration_since(now) - timeout(build) / 3;
    if !waiting.is_empty() && left > SignedDuration::ZERO {
        let message = format!(
            "trying the image, for spec.minimize.trace: {}",
            waiting.join("; ")
        );
        status::working(&mut status, build, Reason::HealthCheck, message, now);
        let number = status.build.unwrap_or(1);
        let jobs = absent(build, settings, pending, &observed.trials, number);
        return Step {
            look_again: Some(left.min(SignedDuration::from_secs(15))),
            ..step(
                status,
                match jobs.is_empty() {
                    true => Action::None,
                    false => Action::Check(jobs),
                },
            )
        };
    }
    if let Some(current) = &mut status.current {
        if let Stage::Checking { pushed } = &current.stage {
            current.stage = Stage::Minimizing {
                pushed: pushed.clone(),
            };
        }
        current.job = names::child(&pending.of.job, "smaller");
        current.message = Some("making the image smaller".into());
    }
    start(observed, settings, status, now)
}

fn absent(
    build: &ImageBuild,
    settings: &Settings,
    pending: &Pending,
    trials: &[Trial],
    number: i64,
) -> Vec<k8s_openapi::api::batch::v1::Job> {
    let is_absent = |platform: &str| {
        let mut all = trials.iter();
        all.any(|it| it.platform == platform && it.state == State::Absent)
    };
    let all = pending
        .of
        .platforms
        .iter()
        .filter(|it| is_absent(&it.platform));
    let jobs = all.filter_map(|starts| {
        let mut platforms = pending.built.platforms.iter();
        let platform = platforms.find(|it| it.platform == starts.platform)?;
        let name = (name(&pending.of.job, &starts.platform), number);
        Some(trial::job(
            build,
            &pending.check,
            name,
            platform,
            starts,
            (&settings.runner, true),
        ))
    });
    jobs.collect()
}

/// What the runner gets that makes the image smaller; none in every other state.
pub(super) fn tagging(observed: &Observed, current: &Current) -> Option<Tagging> {
    if !matches!(current.stage, Stage::Minimizing { .. }) {
        return None;
    }
    let (built, of) = untried(current)?;
    let told = told(&observed.build, &observed.trials);
    let platforms = built.platforms.iter().map(|platform| FullPlatform {
        platform: platform.platform.clone(),
        digest: platform.digest.clone(),
        size: platform.size,
        report: platform.contents.as_ref().and_then(|it| it.report.clone()),
    });
    Some(Tagging::Smaller(Box::new(Tried {
        platforms: platforms.collect(),
        image: built.digest,
        breaches: built.breaches,
        of,
        traces: told.traces,
        not_held: told.not_held,
        note: (!told.notes.is_empty()).then(|| told.notes.join("; ")),
    })))
}

#[derive(Default)]
struct Told {
    traces: Vec<Trace>,
    not_held: Vec<usize>,
    notes: Vec<String>,
}

/// What came of the trials.
fn told(build: &ImageBuild, trials: &[Trial]) -> Told {
    let mut told = Told::default();
    let exercise = build.spec.minimize.as_ref();
    let exercise = exercise.map_or(&[][..], |it| &it.exercise);
    let mut room = PATHS;
    // What the full image could not be asked is not asked of the smaller one, which is asked in the same way.
    let was_asked = |trial: &Trial| match &trial.state {
        State::Done(outcome) => outcome.not_ready.is_none(),
        State::NoNode => true,
        State::Failed(_) | State::Waiting(_) | State::Absent => false,
    };
    if !trials.iter().all(was_asked) {
        told.not_held = (0..exercise.len()).collect();
    }
    for trial in trials {
        let platform = &trial.platform;
        let outcome = match &trial.state {
            State::Done(outcome) => outcome,
            State::NoNode => {
                let note =
                    format!("{platform} was not traced: the cluster has no node of this platform");
                told.notes.push(note);
                continue;
            }
            State::Failed(why) => {
                told.notes.push(format!("{platform} was not traced: {why}"));
                continue;
            }
            State::Waiting(_) | State::Absent => {
                told.notes
                    .push(format!("{platform} was not traced: there was no time left"));
                continue;
            }
        };
        if let Some(why) = &outcome.not_ready {
            told.notes.push(format!(
                "{platform} did not answer its health check while it was traced: {why}"
            ));
        }
        for (number, step) in outcome.steps.iter().enumerate() {
            if let (Some(why), Some(exercise)) = (step, exercise.get(number)) {
                let named = named(number, exercise);
                told.notes.push(format!(
                    "the full image failed {named}, so the smaller one is not held to it: {why}"
                ));
                if !told.not_held.contains(&number) {
                    told.not_held.push(number);
                }
            }
        }
        if outcome.cut {
            told.notes.push(format!(
                "not all that {platform} asks for is known: there was too much of it"
            ));
        }
        if !outcome.unread.is_empty() {
            let names = outcome.unread.join(", ");
            told.notes.push(format!(
                "what {names} asked for on {platform} could not be seen"
            ));
        }
        match outcome.found.len() <= room {
            true => {
                room -= outcome.found.len();
                told.traces.push(Trace {
                    platform: platform.clone(),
                    found: outcome.found.clone(),
                });
            }
            false => told
                .notes
                .push(format!("the trace of {platform} is too large")),
        }
    }
    told
}
