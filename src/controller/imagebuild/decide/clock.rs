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
    current.waiting_since = None;
    if status.queued_seconds.is_none() {
        status.queued_seconds = Some(status::seconds_since(status.started_at.as_ref(), now));
    }
}

/// The attempt waits for its turn: its time begins after that.
pub(super) fn unstart(status: &mut ImageBuildStatus, now: Timestamp) {
    if let Some(current) = &mut status.current {
        current.started = false;
    }
    wait(status, now);
}

/// A person holds the attempt: neither its time nor its wait goes on.
pub(super) fn hold(status: &mut ImageBuildStatus) {
    if let Some(current) = &mut status.current {
        current.started = false;
        current.waiting_since = None;
    }
}

/// The attempt waits from now on, where it does not yet.
pub(super) fn wait(status: &mut ImageBuildStatus, now: Timestamp) {
    if let Some(current) = &mut status.current {
        current.waiting_since.get_or_insert(Time(now));
    }
}

/// What has run, and waits in a queue of Kueue since, goes on: that time does not count.
pub(super) fn go_on(status: &mut ImageBuildStatus, now: Timestamp) {
    let Some(current) = &mut status.current else {
        return;
    };
    let Some(Time(since)) = current.waiting_since.clone() else {
        return;
    };
    if !current.started {
        // Its Pod runs from the beginning.
        count_wait(status, now);
        return run(status, now);
    }
    current.waiting_since = None;
    let waited = now.duration_since(since).max(SignedDuration::ZERO);
    let since = current.since.take();
    current.since = since.map(|Time(at)| Time(later(at, waited)));
}

/// How long it has waited before, with the wait that ends now: one that has waited for its turn once counts that by itself.
pub fn count_wait(status: &mut ImageBuildStatus, now: Timestamp) {
    let current = status.current.as_ref();
    let waits = current.filter(|current| !current.started);
    let waits = waits.and_then(|current| current.waiting_since.as_ref());
    let Some(waited) = waits.map(|since| now.duration_since(since.0).as_secs().max(0)) else {
        return;
    };
    status.queued_seconds = status.queued_seconds.map(|it| it.saturating_add(waited));
}

/// That much later; what stands in a status may be any time.
fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// Since when `spec.timeout` counts: since the attempt was started, and before that since it has waited for something
/// other than its turn. While one that was started waits in a queue of Kueue, its clock stands still.
pub(super) fn clock(status: &ImageBuildStatus, now: Timestamp) -> Timestamp {
    let current = status.current.as_ref();
    let started = current.is_some_and(|current| current.started);
    let reasons = [Reason::Queued, Reason::Suspended, Reason::JobSuspended];
    if !started && waits_for(status, &reasons) {
        return now;
    }
    let since = status.since().map_or(now, |time| time.0);
    let waits = current.and_then(|current| current.waiting_since.as_ref());
    match waits.filter(|_| started) {
        Some(Time(waits)) => later(since, now.duration_since(*waits).max(SignedDuration::ZERO)),
        None => since,
    }
}

/// What is left of `spec.queueTimeout` for an attempt that waits; none where nothing bounds that.
pub fn left_to_wait(
    build: &ImageBuild,
    status: &ImageBuildStatus,
    now: Timestamp,
) -> Option<SignedDuration> {
    let most = duration(build.spec.queue_timeout.as_ref()?).max(SignedDuration::from_secs(1));
    let since = status.current.as_ref()?.waiting_since.as_ref()?.0;
    let left = most.checked_sub(now.duration_since(since));
    Some(left.unwrap_or_default().max(SignedDuration::ZERO))
}

/// How long it is until then, which is the end of a [`backoff`]; none where that is over, or was never said. One that is
/// further away was written before the clock was set back.
pub(super) fn until(at: Option<&Time>, now: Timestamp) -> Option<SignedDuration> {
    let left = at?.0.duration_since(now);
    (left.is_positive() && left <= backoff(i32::MAX)).then_some(left)
}

/// When the time of `spec.timeout` ends.
pub(super) fn deadline(build: &ImageBuild, status: &ImageBuildStatus, now: Timestamp) -> Timestamp {
    later(clock(status, now), timeout(build))
}

/// `spec.timeout`.
pub(super) fn timeout(build: &ImageBuild) -> SignedDuration {
    duration(&build.spec.timeout).max(SignedDuration::from_secs(1))
}
