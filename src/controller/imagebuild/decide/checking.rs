//! After the push: the checks of `spec.healthCheck`, and then a runner that only moves the tags.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::refused::is_told;
use super::waited::waited_out;
use super::{Action, Observed, Step, clock, deadline, end, start, step, trying};
use crate::imagebuild::gate;
use crate::imagebuild::gate::State;
use crate::imagebuild::minimized::{self, Next, NotAnswered};
use crate::imagebuild::status;
use crate::imagebuild::trial;
use crate::names;
use crate::settings::Settings;
use whittle_api::{
    Current, Exercise, FailureReason, HealthCheck, ImageBuild, ImageBuildStatus, MINIMIZED,
    MinimizeOutcome, PROBED, READY, Reason, Stage, find,
};
use whittle_build::report;
use whittle_build::report::failed;
use whittle_build::report::{Built, Report};
use whittle_build::request::Tagging;
use whittle_build::trial::named;

/// What is to be checked.
#[derive(Clone, Debug)]
pub struct Pending {
    /// The attempt that has pushed the image.
    pub attempt: String,
    /// What it has pushed.
    pub built: Built,
    /// How it is checked.
    pub check: HealthCheck,
    /// What a smaller image is held to besides.
    pub trial: Option<Wanted>,
}

/// What a smaller image is held to besides its health check: exercises.
#[derive(Clone, Debug)]
pub struct Wanted {
    exercise: Vec<Exercise>,
    /// Those that the full image did not pass.
    not_held: Vec<usize>,
}

impl Wanted {
    fn of(build: &ImageBuild, built: &Built) -> Option<Self> {
        let small = built.minimized.as_deref();
        let small = small.filter(|it| it.outcome == MinimizeOutcome::Applied)?;
        let exercise = build.spec.minimize.as_ref()?.exercise.clone();
        let held = (0..exercise.len()).any(|number| !small.not_held.contains(&number));
        (held && !small.starts.is_empty()).then(|| Self {
            exercise,
            not_held: small.not_held.clone(),
        })
    }

    /// How the check of an image stands that was Ready, and whose trial stands so.
    pub fn judge(&self, state: trial::State) -> State {
        let failed = |message: String| State::Failed {
            how: gate::How::Ended,
            message,
            log: None,
        };
        let outcome = match state {
            trial::State::NoNode => return State::NoNode,
            trial::State::Absent => return State::Exercising,
            trial::State::Waiting(message) => {
                let left = None;
                return State::Waiting { message, left };
            }
            // That says nothing about the image: the full one is used, and the next build tries again.
            trial::State::Failed(why) => {
                return State::Failed {
                    how: gate::How::NotTried,
                    message: format!("it could not be exercised: {why}"),
                    log: None,
                };
            }
            trial::State::Done(outcome) => outcome,
        };
        if let Some(why) = &outcome.not_ready {
            return failed(format!(
                "it did not answer its health check when it was exercised: {why}"
            ));
        }
        let held = |number: &usize| !self.not_held.contains(number);
        let steps = outcome.steps.iter().enumerate();
        let bad = steps.filter(|(number, _)| held(number));
        let mut bad = bad.filter_map(|(number, why)| Some((number, why.as_ref()?)));
        match bad.find_map(|(number, why)| Some((number, self.exercise.get(number)?, why))) {
            Some((number, exercise, why)) => {
                failed(format!("{} failed: {why}", named(number, exercise)))
            }
            None => State::Exercised,
        }
    }
}

/// What this build has pushed and not checked yet; none in every other state.
pub fn pending(build: &ImageBuild, status: Option<&ImageBuildStatus>) -> Option<Pending> {
    let (current, built) = unchecked(status?)?;
    Some(Pending {
        attempt: current.job.clone(),
        trial: Wanted::of(build, &built),
        built,
        check: build.spec.health_check.clone()?,
    })
}

/// The attempt that has pushed an image whose checks have not ended, and what it has pushed.
fn unchecked(status: &ImageBuildStatus) -> Option<(&Current, Built)> {
    let current = status.current.as_ref()?;
    let built = pushed(current)?;
    let waits = !current.stage.is_after_push() && trying::to_try(&built).is_none();
    waits.then_some((current, built))
}

/// What an earlier attempt of this build has pushed.
pub(super) fn pushed(current: &Current) -> Option<Built> {
    match report::decode(current.stage.pushed()?) {
        Ok(Report::Succeeded(built)) => Some(built),
        _ => None,
    }
}

/// The names of the Jobs that check the build of this status, or try its image; they go with the state that they belong to.
pub fn jobs(status: &ImageBuildStatus) -> Vec<String> {
    let current = status.current.as_ref();
    let current = current.filter(|current| !current.stage.is_tagging());
    let Some((current, built)) = current.and_then(|current| Some((current, pushed(current)?)))
    else {
        return vec![];
    };
    if let Some(of) = trying::to_try(&built) {
        return trying::jobs(of).collect();
    }
    if current.stage.is_after_push() {
        return vec![];
    }
    // Of a smaller image each may be followed by a trial.
    let tries = (built.minimized.as_ref()).is_some_and(|it| !it.starts.is_empty());
    // Those of the smaller image before it may not have gone yet.
    let of_small = minimized::full(&built).is_some();
    let mut jobs = vec![];
    for platform in built.platforms.iter().map(|it| &it.platform) {
        let small = of_small.then(|| names::child(&current.job, platform));
        for check in [name(&current.job, &built, platform)]
            .into_iter()
            .chain(small)
        {
            jobs.extend(tries.then(|| trying::name(&check, platform)));
            jobs.push(check);
        }
    }
    jobs
}

/// The name of the Job that checks a platform of what this attempt has pushed: that of a full image is another one than that
/// of the smaller one before it.
pub fn name(attempt: &str, built: &Built, platform: &str) -> String {
    match minimized::full(built) {
        None => names::child(attempt, platform),
        Some(full) => names::child(attempt, &format!("{platform}@{}", full.digest)),
    }
}

/// True where the check of an image has ended, and the build goes on: its tags are being moved, or it is the full image's turn.
pub fn is_checked(current: &Current) -> bool {
    let full = || pushed(current).is_some_and(|built| minimized::full(&built).is_some());
    current.stage.is_tagging() || full()
}

/// What a runner does with the tags.
pub(super) fn tagging(build: &ImageBuild, current: &Current) -> Tagging {
    match pushed(current) {
        Some(built) if current.stage.is_tagging() => Tagging::Only {
            full: minimized::full_platforms(&built),
            image: built.digest,
            debug: built.debug.map(|debug| debug.digest),
            tags: built.tags,
        },
        _ if build.spec.health_check.is_some() => Tagging::Later,
        _ => Tagging::Now,
    }
}

/// An attempt has pushed an image that is to be checked: from here on the status holds it.
pub(super) fn begin(
    build: &ImageBuild,
    mut status: ImageBuildStatus,
    built: Built,
    now: Timestamp,
) -> Step {
    if let Some(current) = &mut status.current {
        let mut built = built;
        // What a runner says of other names is not gone by: Jobs are made and deleted by them.
        let minimized = built.minimized.as_deref_mut();
        if let Some(trial) = minimized.and_then(|it| it.trial.as_deref_mut()) {
            trial.job.clone_from(&current.job);
            let known = |platform: &str| built.platforms.iter().any(|it| it.platform == platform);
            trial.platforms.retain(|it| known(&it.platform));
        }
        current.stage = Stage::Checking {
            pushed: report::keep(&Report::Succeeded(built)),
        };
    }
    let message = "the image is pushed; starting its health check".to_owned();
    status::working(&mut status, build, Reason::HealthCheck, message, now);
    Step {
        look_again: Some(SignedDuration::ZERO),
        ..step(status, Action::None)
    }
}

/// The smaller image did not answer: the full one is checked, once the status names it, or the build ends.
fn not_answered(
    observed: &Observed,
    mut status: ImageBuildStatus,
    found: NotAnswered,
    now: Timestamp,
) -> Step {
    let build = &observed.build;
    let why = (found.reason(), found.rejected.message.as_str());
    status::put(&mut status, build, MINIMIZED, Some(false), why, now);
    let notice = found.notice();
    let of_small = jobs(&status);
    match found.next {
        Next::Full(built) => {
            if let Some(current) = &mut status.current {
                current.stage = Stage::Checking {
                    pushed: report::keep(&Report::Succeeded(*built)),
                };
            }
            let message = "the smaller image did not answer its health check; starting that of the full image";
            status::working(
                &mut status,
                build,
                Reason::HealthCheck,
                message.to_owned(),
                now,
            );
            Step {
                stop: of_small,
                notice: Some(notice),
                look_again: Some(SignedDuration::ZERO),
                ..step(status, Action::None)
            }
        }
        Next::Ends(failed) => {
            let failure = &failed.failure;
            let why = (failure.reason.into(), failure.message.as_str());
            if failure.reason == FailureReason::HealthCheckFailed {
                status::put(&mut status, build, PROBED, Some(false), why, now);
            }
            end(observed, status, Report::Failed(*failed), now)
        }
    }
}

/// The image is being checked: where its checks stand decides.
pub(super) fn go_on(
    observed: &Observed,
    settings: &Settings,
    mut status: ImageBuildStatus,
    pending: &Pending,
    now: Timestamp,
) -> Step {
    let build = &observed.build;
    let Pending {
        attempt,
        built,
        check,
        ..
    } = pending;
    let image = format!("{}@{}", build.spec.output.image, built.digest);
    if let Some(failure) = gate::failure(&observed.checks, &image) {
        let small = (gate::how(&observed.checks))
            .filter(|_| failure.reason == FailureReason::HealthCheckFailed)
            .and_then(|how| minimized::not_answered(build, built, &failure, how));
        if let Some(found) = small {
            return not_answered(observed, status, found, now);
        }
        if failure.reason == FailureReason::HealthCheckFailed {
            let why = (failure.reason.into(), failure.message.as_str());
            status::put(&mut status, build, PROBED, Some(false), why, now);
        }
        let report = Report::Failed(built.clone().rejected(failure));
        return end(observed, status, report, now);
    }
    let is_suspended = |found: &gate::Check| matches!(found.state, State::Suspended(_));
    match observed.checks.iter().any(is_suspended) {
        true => clock::wait(&mut status, now),
        false => clock::go_on(&mut status, now),
    }
    let wait = clock::left_to_wait(build, &status, now);
    if wait.is_some_and(|left| left.is_zero()) {
        return waited_out(observed, settings, status, now);
    }
    let left = deadline(build, &status, now).duration_since(now);
    let mut waiting = vec![];
    let mut soonest: Option<SignedDuration> = None;
    for found in &observed.checks {
        match &found.state {
            State::Waiting { message, left } => {
                waiting.push(format!("{}: {message}", found.platform));
                soonest = soonest.into_iter().chain(*left).min();
            }
            State::Suspended(why) => waiting.push(format!("{}: {why}", found.platform)),
            State::Absent | State::Exercising | State::Ended { .. } => {
                waiting.push(format!("{}: starting", found.platform));
            }
            _ => {}
        }
    }
    if !waiting.is_empty() && left <= SignedDuration::ZERO {
        let told = find(&status.conditions, READY).filter(|_| is_told(&status));
        let message = format!(
            "timed out: the health check did not end within spec.timeout ({}): {}",
            build.spec.timeout,
            told.map_or_else(|| waiting.join("; "), |c| c.message.clone())
        );
        return end(
            observed,
            status,
            failed(FailureReason::Timeout, message),
            now,
        );
    }
    if !waiting.is_empty() {
        let number = status.build.unwrap_or(1);
        let state = |platform: &str| {
            let mut all = observed.checks.iter();
            all.find(|found| found.platform == platform)
                .map(|found| &found.state)
        };
        let jobs: Vec<_> = (built.platforms.iter())
            .filter_map(|platform| {
                let name = name(attempt, built, &platform.platform);
                match state(&platform.platform)? {
                    State::Absent => Some(gate::job(build, check, name, number, platform)),
                    State::Exercising => {
                        let name = (trying::name(&name, &platform.platform), number);
                        let starts = built.minimized.as_ref()?.starts(&platform.platform)?;
                        let runner = &settings.runner;
                        Some(trial::job(
                            build,
                            check,
                            name,
                            platform,
                            starts,
                            (runner, false),
                        ))
                    }
                    _ => None,
                }
            })
            .collect();
        // Those that were refused are tried again, and until they are taken that stays said.
        if jobs.is_empty() || !is_told(&status) {
            status::working(
                &mut status,
                build,
                Reason::HealthCheck,
                waiting.join("; "),
                now,
            );
        }
        // A Pod's own trouble shows by its events; the end of its time by nothing at all.
        let mut look = left.min(SignedDuration::from_secs(15));
        if let Some(left) = soonest {
            look = look.min(left + SignedDuration::from_millis(50));
        }
        let action = if jobs.is_empty() {
            Action::None
        } else {
            Action::Check(jobs)
        };
        return Step {
            look_again: Some(look),
            ..step(status, action)
        }
        .within(wait);
    }
    let (any, told) = gate::told(&observed.checks, check);
    let unproven = (!any).then(|| minimized::unproven(build, built)).flatten();
    let pushed = match unproven {
        Some(Next::Ends(failed)) => {
            return end(observed, status, Report::Failed(*failed), now);
        }
        Some(Next::Full(full)) => Some(report::keep(&Report::Succeeded(*full))),
        None => None,
    };
    let why = (
        if any {
            Reason::Answered
        } else {
            Reason::NoNode
        },
        told.as_str(),
    );
    status::put(&mut status, build, PROBED, any.then_some(true), why, now);
    if let Some(current) = &mut status.current {
        if let Stage::Checking { pushed: checked } = &current.stage {
            current.stage = Stage::Tagging {
                pushed: pushed.unwrap_or_else(|| checked.clone()),
            };
        }
        current.job = names::child(attempt, "tags");
        current.message = Some("moving the tags".into());
    }
    start(observed, settings, status, now)
}
