//! The end of an attempt.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::{
    Action, Observed, Step, attempt_name, checking, deadline, refused, rollback, step, trying,
};
use crate::imagebuild::minimized;
use crate::imagebuild::outcome;
use crate::imagebuild::status::{self, Notice};
use crate::names;
use whittle_api::{
    Builder, Current, FailureReason, ImageBuild, ImageBuildStatus, Phases, Reason, Stage,
};
use whittle_build::report::{Built, Failed, Report};

/// An attempt has ended: the build has too, or another attempt follows.
pub(super) fn end(
    observed: &Observed,
    mut status: ImageBuildStatus,
    mut report: Report,
    now: Timestamp,
) -> Step {
    let build = &observed.build;
    let pushed = (status.current.as_ref()).filter(|current| current.stage.is_after_push());
    if let Some(current) = pushed {
        // What is told after the push is of another runner: the time of the one that has built counts.
        if let Report::Failed(failed) = &mut report {
            failed.phases = checking::pushed(current).and_then(|built| built.phases);
        }
    } else if let Some(phases) = phases(&mut report) {
        phases.start = status.since().map(|since| start(*phases, since.0, now));
    }
    let prune = prune(build, &status);
    match report {
        Report::Succeeded(built) if rollback::is_under_way(&status) => {
            let notice = rollback::succeed(build, &mut status, built, now);
            Step {
                notice: Some(notice),
                look_again: again(build),
                ..step(status, prune)
            }
        }
        Report::Succeeded(built) => {
            let current = status.current.as_ref();
            if let Some((full, _)) = current.and_then(trying::untried) {
                let built = minimized::merged(full, built);
                return checking::begin(build, status, built, now);
            }
            let pushed = current.and_then(checking::pushed);
            if build.spec.health_check.is_some() && pushed.is_none() {
                return checking::begin(build, status, built, now);
            }
            // The runner that moved the tags has built nothing: the one before it did.
            let built = match pushed {
                Some(pushed) => minimized::tagged(pushed, built),
                None => built,
            };
            let notice = succeed(&mut status, build, built, now);
            Step {
                notice: Some(notice),
                ..step(status, prune)
            }
        }
        Report::Failed(failed) => {
            let failed = refine(failed, observed, deadline(build, &status, now) <= now);
            let current = status.current.clone();
            match current {
                Some(current)
                    if failed.failure.reason.is_transient()
                        && current.attempt <= build.spec.retries =>
                {
                    retry(observed, status, &current, &failed, now)
                }
                _ => {
                    let notice = match rollback::is_under_way(&status) {
                        true => rollback::fail(build, &mut status, failed, now),
                        false => status::fail(&mut status, build, failed, now),
                    };
                    Step {
                        notice: Some(notice),
                        look_again: again(build),
                        ..step(status, prune)
                    }
                }
            }
        }
    }
}

fn phases(report: &mut Report) -> Option<&mut Phases> {
    match report {
        Report::Succeeded(built) => built.phases.as_mut(),
        Report::Failed(failed) => failed.phases.as_mut(),
    }
}

/// What of an attempt's time its runner did not count, in milliseconds.
fn start(phases: Phases, since: Timestamp, now: Timestamp) -> i64 {
    let counted: i64 = phases.named().iter().filter_map(|(_, time)| *time).sum();
    let all = now.duration_since(since).as_millis();
    (i64::try_from(all).unwrap_or(i64::MAX) - counted).max(0)
}

/// What `spec.suspend` holds back is said once more: a rollback goes on beside it.
fn again(build: &ImageBuild) -> Option<SignedDuration> {
    build.spec.suspend.then_some(SignedDuration::ZERO)
}

/// Takes away what lies beyond the history.
pub(super) fn prune(build: &ImageBuild, status: &ImageBuildStatus) -> Action {
    Action::Prune(status.build.unwrap_or(0) - i64::from(build.spec.history_limit) + 1)
}

/// A builder that was lost because it ran out of memory will run out of it again; a runner that was lost at the end of
/// its time had no more of it; and a build that never began has no slow step.
fn refine(mut failed: Failed, observed: &Observed, late: bool) -> Failed {
    // The Job's deadline ends its Pod, which may be seen before the Job says why.
    if late && failed.failure.reason == FailureReason::RunnerLost {
        failed.failure.reason = FailureReason::Timeout;
        failed.failure.message = outcome::TIMED_OUT.into();
    }
    if let (FailureReason::Timeout, Some(words)) =
        (failed.failure.reason, refused::last_words(&observed.build))
    {
        failed.failure.message = format!(
            "timed out: not started within spec.timeout ({}): {words}",
            observed.build.spec.timeout
        );
    }
    if let (FailureReason::BuilderLost, Some(killed)) =
        (failed.failure.reason, &observed.builder_out_of_memory)
    {
        let named = &observed.build.spec.builder_ref.name;
        let (builder, field) = match &killed.native {
            Some((builder, field)) => (builder, field.as_str()),
            None => (named, "spec.resources.limits.memory of the Builder"),
        };
        failed.failure.reason = FailureReason::OutOfMemory;
        failed.failure.message = format!(
            "out of memory: Builder {builder} exceeded its memory limit {} (OOMKilled): raise {field}, or build less at a time",
            killed.limit
        );
    }
    failed
}

/// A daemon that was killed because it exceeded its memory limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfMemory {
    /// The limit.
    pub limit: String,
    /// Of the daemon of a platform: its name, and the field that says its limit. None: the ordinary daemon.
    pub native: Option<(String, String)>,
}

/// The memory limit of a Builder's daemon.
pub fn memory_limit(builder: &Builder) -> Option<&str> {
    let limits = builder.spec.resources.limits.as_ref()?;
    limits.get("memory").map(|limit| limit.0.as_str())
}

fn succeed(
    status: &mut ImageBuildStatus,
    build: &ImageBuild,
    built: Built,
    now: Timestamp,
) -> Notice {
    status.revision = built.revision.clone();
    status::succeed(status, build, built, now)
}

fn retry(
    observed: &Observed,
    mut status: ImageBuildStatus,
    current: &Current,
    failed: &Failed,
    now: Timestamp,
) -> Step {
    let build = &observed.build;
    let wait = backoff(current.attempt);
    let next = current.attempt + 1;
    let why = why(failed);
    // Another build pushes anew; what has been checked stays.
    let checked = current.stage.is_tagging();
    let job = attempt_name(build, status.build.unwrap_or(1), current.generation, next);
    status.current = Some(Current {
        replica: None,
        last_replica: current.replica,
        attempt: next,
        job: match checked && !rollback::is_under_way(&status) {
            true => names::child(&job, "tags"),
            false => job,
        },
        stage: match checked {
            true => current.stage.clone(),
            false => Stage::Building,
        },
        generation: current.generation,
        message: None,
        retry_at: Some(Time(now + wait)),
        last_failure: Some(why.clone()),
        since: match checked {
            // The same attempt, as far as its time goes: all that is left are the tags.
            true => current.since.clone(),
            false => Some(Time(now + wait)),
        },
        started: current.started && checked,
        waiting: None,
        progress: None,
        waiting_since: (!checked).then_some(Time(now + wait)),
        standby: current.standby.clone().filter(|_| checked),
    });
    let message = format!(
        "attempt {} of {} failed: {why}; retrying in {} s",
        current.attempt,
        build.spec.retries + 1,
        wait.as_secs()
    );
    status::working(&mut status, build, Reason::Retrying, message.clone(), now);
    Step {
        notice: Some(Notice {
            warning: true,
            reason: Reason::Retrying,
            message,
        }),
        look_again: Some(wait),
        ..step(status, Action::None)
    }
}

/// Before the second attempt 10 s, then twice as long each time, at most five minutes.
pub(super) fn backoff(attempt: i32) -> SignedDuration {
    let doublings = attempt.saturating_sub(1).clamp(0, 5);
    SignedDuration::from_secs((10 << doublings).min(300))
}

/// Why an attempt failed, in one line.
pub(super) fn why(failed: &Failed) -> String {
    format!("{}: {}", failed.failure.reason, failed.failure.message)
}
