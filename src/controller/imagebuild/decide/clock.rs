//! Whose time counts: `spec.timeout`, and how long a build has waited.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::{backoff, waits_for};
use crate::imagebuild::status;
use whittle_api::quantity::duration;
use whittle_api::{ImageBuild, ImageBuildStatus, Reason};

/// The attempt is being started: its clock runs from here, and the time before was waiting. One that is started once
/// more, as its Job was refused or deleted, has no more time for that.
pub(super) fn run(status: &mut ImageBuildStatus, now: Timestamp) {
    let Some(current) = &mut status.current else {
        return;
    };
    if !current.started && !current.stage.is_after_push() {
        current.since = Some(Time(now));
    }
    current.started = true;
    if status.queued_seconds.is_none() {
        status.queued_seconds = Some(status::seconds_since(status.started_at.as_ref(), now));
    }
}

/// The attempt waits for its turn, or is held: its time begins after that.
pub(super) fn unstart(status: &mut ImageBuildStatus) {
    if let Some(current) = &mut status.current {
        current.started = false;
    }
}

/// Since when `spec.timeout` counts: since the attempt was started, and before that since it has waited for something
/// other than its turn.
pub(super) fn clock(status: &ImageBuildStatus, now: Timestamp) -> Timestamp {
    let current = status.current.as_ref();
    let started = current.is_some_and(|current| current.started);
    if !started && waits_for(status, &[Reason::Queued, Reason::Suspended]) {
        return now;
    }
    status.since().map_or(now, |time| time.0)
}

/// How long it is until then, which is the end of a [`backoff`]; none where that is over, or was never said. One that is
/// further away was written before the clock was set back.
pub(super) fn until(at: Option<&Time>, now: Timestamp) -> Option<SignedDuration> {
    let left = at?.0.duration_since(now);
    (left.is_positive() && left <= backoff(i32::MAX)).then_some(left)
}

/// When the time of `spec.timeout` ends.
pub(super) fn deadline(build: &ImageBuild, status: &ImageBuildStatus, now: Timestamp) -> Timestamp {
    clock(status, now) + timeout(build)
}

/// `spec.timeout`.
pub(super) fn timeout(build: &ImageBuild) -> SignedDuration {
    duration(&build.spec.timeout).max(SignedDuration::from_secs(1))
}
