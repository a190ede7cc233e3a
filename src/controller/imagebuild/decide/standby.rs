//! An attempt that is carried out by a Job which was made in advance. That is one write of the status, as each start: it names that
//! Job, and from then on its runner is handed the request. Where that comes to nothing, an ordinary Job takes its place in the same
//! attempt.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::{
    Action, Observed, Step, attempt_name, checking, deadline, end, is_ready, natives, start, step,
};
use crate::imagebuild::in_advance;
use crate::imagebuild::job::AttemptId;
use crate::imagebuild::outcome::TIMED_OUT;
use crate::imagebuild::status;
use crate::names;
use crate::settings::Settings;
use crate::sharing;
use crate::standby::Handed;
use whittle_api::{Builder, Current, FailureReason, ImageBuild, ImageBuildStatus, Reason, Stage};
use whittle_build::report::{Report, failed};

/// What is not there yet is looked for again after this long.
const SOON: SignedDuration = SignedDuration::from_secs(5);

/// A Job that was made in advance for the attempt that is to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standby {
    /// Its name.
    pub job: String,
    /// Digest of what its Pod was made from.
    pub template: String,
    /// True where its runner waits for its request now.
    pub waits: bool,
}

impl Standby {
    /// One that is read, as its metadata says.
    pub fn of(job: &impl ResourceExt) -> Self {
        let template = job.annotations().get(names::TEMPLATE);
        Self {
            job: job.name_any(),
            template: template.cloned().unwrap_or_default(),
            waits: false,
        }
    }
}

/// What an attempt is handed that is carried out by such a Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// The Job.
    pub job: String,
    /// The request, as JSON.
    pub request: String,
}

/// The number of the build whose first attempt has not started.
pub fn next_first(build: &ImageBuild) -> Option<i64> {
    let status = build.status.as_ref();
    let number = status.and_then(|status| status.build).unwrap_or(0);
    match status.and_then(|status| status.current.as_ref()) {
        None => Some(number + 1),
        Some(current) => is_first(current).then_some(number),
    }
}

/// True where the attempt is the first at its build, and has not started.
pub(super) fn is_first(current: &Current) -> bool {
    current.attempt == 1 && !current.started && current.stage == Stage::Building
}

/// True where the attempt under way is carried out by a Job that was made in advance.
pub fn is_adopted(build: &ImageBuild, status: &ImageBuildStatus) -> bool {
    let current = status.current.as_ref();
    current.is_some_and(|it| it.stage == Stage::Building && it.job != own_name(build, status, it))
}

/// True where a server has refused the credentials: in a Pod that runs, a Secret may be as it was a minute ago, and one that is new has
/// it as it is.
pub(super) fn is_denied(report: &Report) -> bool {
    use FailureReason::{BaseImageDenied, PushDenied, SourceDenied};
    match report {
        Report::Succeeded(_) => false,
        Report::Failed(failed) => matches!(
            failed.failure.reason,
            SourceDenied | BaseImageDenied | PushDenied
        ),
    }
}

/// The name that the Job of this attempt has where it was not made in advance.
fn own_name(build: &ImageBuild, status: &ImageBuildStatus, current: &Current) -> String {
    let number = status.build.unwrap_or(1);
    attempt_name(build, number, current.generation, current.attempt)
}

/// The Job that was made in advance from what this attempt's would be made from, and waits.
pub(super) fn fitting<'a>(
    observed: &'a Observed,
    runs_on: &Builder,
    settings: &Settings,
) -> Option<&'a Standby> {
    let mut waiting = observed.standbys.iter().filter(|it| it.waits).peekable();
    waiting.peek()?;
    let shares = !sharing::is_own(runs_on);
    let template = in_advance::template(&observed.build, runs_on, settings).ok();
    waiting.find(|it| shares && Some(&it.template) == template.as_ref())
}

/// The attempt runs, and its Job was made in advance.
pub(super) fn go_on(
    observed: &Observed,
    settings: &Settings,
    mut status: ImageBuildStatus,
    current: &Current,
    now: Timestamp,
) -> Step {
    let build = &observed.build;
    let left = deadline(build, &status, now).duration_since(now);
    if !left.is_positive() {
        // Its Job has a later deadline: nobody knew when the attempt would begin.
        let report = failed(FailureReason::Timeout, TIMED_OUT.into());
        let mut step = end(observed, status, report, now);
        step.stop.push(current.job.clone());
        return step;
    }
    if observed.handed == Some(Handed::Late) {
        return instead(observed, settings, status, current, now);
    }
    let action = match observed.handed {
        None => again(observed, settings, &status, current),
        Some(_) => Some(Action::None),
    };
    let message = current.message.clone().unwrap_or_else(|| "building".into());
    status::working(&mut status, build, Reason::Building, message, now);
    let waits = observed.handed == Some(Handed::Waits) || action.is_none();
    Step {
        look_again: Some(if waits { left.min(SOON) } else { left }),
        ..step(status, action.unwrap_or(Action::None))
    }
}

/// This process has not handed it over: another one may have been about to. None where that cannot be told now.
fn again(
    observed: &Observed,
    settings: &Settings,
    status: &ImageBuildStatus,
    current: &Current,
) -> Option<Action> {
    let build = &observed.build;
    let builder = observed.builder.as_ref().filter(|it| is_ready(it))?;
    let id = AttemptId {
        build: status.build.unwrap_or(1),
        job: current.job.clone(),
        seconds_left: 0,
        tagging: checking::tagging(build, current),
        flux: None,
        no_cache: start::is_without_cache(build, status),
        replica: current.replica,
        natives: natives::as_they_are(observed, builder),
    };
    let request = in_advance::handed(build, builder, &id, settings).ok()?;
    let job = current.job.clone();
    Some(Action::Hand(Box::new(Handover { job, request })))
}

/// The Job that was made in advance has gone, its runner has not come for its request, or was denied: an ordinary one takes its place.
pub(super) fn instead(
    observed: &Observed,
    settings: &Settings,
    mut status: ImageBuildStatus,
    current: &Current,
    now: Timestamp,
) -> Step {
    let name = own_name(&observed.build, &status, current);
    if let Some(current) = &mut status.current {
        current.job = name;
        current.standby = None;
    }
    let alive = matches!(
        observed.attempt,
        super::State::Running | super::State::Leaving | super::State::Told(_)
    );
    let mut step = if alive {
        // Two never build at a time: its Pod is to end first.
        status::working(
            &mut status,
            &observed.build,
            Reason::WaitingForEarlierPod,
            "waiting for the Pod that was made in advance to end".into(),
            now,
        );
        Step {
            look_again: Some(SOON),
            ..step(status, Action::None)
        }
    } else {
        start(observed, settings, status, now)
    };
    step.stop.push(current.job.clone());
    step
}

#[cfg(test)]
#[path = "standby_tests.rs"]
mod tests;
