//! What an attempt waits for beside its Builder: a queue of Kueue, which suspends its Job; and the end of a wait that has taken too
//! long.

use k8s_openapi::jiff::Timestamp;

use super::clock::{hold, left_to_wait, unstart, wait};
use super::start::full;
use super::{Action, Observed, Step, due, end, rollback, step};
use crate::imagebuild::status;
use crate::settings::Settings;
use whittle_api::{
    Current, FailureReason, ImageBuild, ImageBuildStatus, READY, Reason, bounded, find,
};
use whittle_build::report::failed;

/// Bytes of what was waited for in the message of its end: what to do about it comes after that.
const WAITED_FOR: usize = 512;

/// The wait has taken as long as `spec.queueTimeout` allows: the build ends, and begins again by itself for nothing that it would
/// have built.
pub(super) fn waited_out(
    observed: &Observed,
    settings: &Settings,
    mut status: ImageBuildStatus,
    now: Timestamp,
) -> Step {
    let build = &observed.build;
    let reason = status.waiting().map(|waiting| waiting.reason);
    let builder = observed.builder.as_ref();
    let place = builder.filter(|_| reason == Some(Reason::Queued));
    let place = place.and_then(|builder| full(observed, builder, settings));
    let said = find(&status.conditions, READY).map(|ready| ready.message.clone());
    let waited_for = bounded(place.or(said).unwrap_or_default(), WAITED_FOR);
    let fix = match reason {
        Some(Reason::Queued) => {
            "raise maxConcurrentBuilds of the Builder or spec.priority, name another Builder in spec.builderRef, or raise \
             spec.queueTimeout"
        }
        Some(Reason::JobSuspended) => {
            "raise the quota of its ClusterQueue, name another queue, or raise spec.queueTimeout"
        }
        _ => "fix that, or raise spec.queueTimeout",
    };
    let message = format!(
        "timed out while waiting: not started within spec.queueTimeout ({}): {waited_for}: {fix}; a change of the spec, a request or a \
         trigger builds again",
        build.spec.queue_timeout.as_deref().unwrap_or_default(),
    );
    due::waited_out(&mut status);
    let report = failed(FailureReason::QueueTimeout, message);
    end(observed, status, report, now)
}

/// `spec.suspend` holds an attempt that does not run: neither its time nor its wait goes on.
pub(super) fn held(
    build: &ImageBuild,
    mut status: ImageBuildStatus,
    current: &Current,
    now: Timestamp,
) -> Step {
    let message = format!(
        "suspended: attempt {} of this build starts once spec.suspend is false",
        current.attempt
    );
    status::hold_back(&mut status, build, &message, now);
    hold(&mut status);
    step(status, Action::None)
}

/// The attempt's Job is suspended: it waits in a queue of Kueue, or somebody has suspended it. Whittle leaves it so. One whose Pod has
/// run starts from the beginning once it goes on: no other attempt is made for that.
pub(super) fn suspended(
    observed: &Observed,
    settings: &Settings,
    mut status: ImageBuildStatus,
    (current, why): (&Current, &str),
    now: Timestamp,
) -> Step {
    let build = &observed.build;
    let after_push = current.stage.is_after_push();
    if build.spec.suspend && !after_push && !rollback::is_under_way(&status) {
        // Nothing of it runs: like a build in the Builder's queue it starts once it may.
        return Step {
            stop: vec![current.job.clone()],
            ..held(build, status, current, now)
        };
    }
    if after_push {
        wait(&mut status, now);
    } else {
        unstart(&mut status, now);
    }
    status::working(
        &mut status,
        build,
        Reason::JobSuspended,
        why.to_owned(),
        now,
    );
    let left = left_to_wait(build, &status, now);
    if left.is_some_and(|left| left.is_zero()) {
        return Step {
            stop: vec![current.job.clone()],
            ..waited_out(observed, settings, status, now)
        };
    }
    step(status, Action::None).within(left)
}

#[cfg(test)]
#[path = "waited_tests.rs"]
mod tests;
