//! An early report: believed at once, and held against what its Pod ends with.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::{Action, Observed, Step, deadline, end, step};
use crate::imagebuild::outcome::Record;
use crate::imagebuild::status;
use crate::imagebuild::status::Notice;
use whittle_api::{Early, ImageBuild, ImageBuildStatus, Reason};
use whittle_build::record::{keep, restore, told};
use whittle_build::report;
use whittle_build::report::Report;

/// How often the end of the Pod is looked for where no watch tells of it.
pub(super) const LOOK: SignedDuration = SignedDuration::from_secs(30);
/// How long after the build's own deadline the end of the Pod is waited for. The Job has ended it by then, but where
/// its node is lost.
const GRACE: SignedDuration = SignedDuration::from_secs(120);

/// What has become of an early report.
pub(super) enum Settled {
    /// Its Pod has not ended.
    Waits,
    /// The record says the same, or there is none: it was told with the attempt's own credential while its Pod ran.
    Told,
    /// The record says something else.
    Contradicted(Box<Report>),
}

/// Ends the attempt with its early report, and keeps what stood before.
pub(super) fn believe(
    observed: &Observed,
    status: ImageBuildStatus,
    report: &Report,
    now: Timestamp,
) -> Step {
    let Some(job) = status.current.as_ref().map(|current| current.job.clone()) else {
        return step(status, Action::None);
    };
    let early = Early {
        job,
        digest: report::digest(report),
        before: keep(&status),
        until: Time(deadline(&observed.build, &status, now).max(now) + GRACE),
    };
    let mut step = end(observed, status, report.clone(), now);
    step.status.early = Some(early);
    // The Job stays until its Pod has ended.
    if matches!(step.action, Action::Prune(_)) {
        step.action = Action::None;
    }
    step.within(Some(LOOK))
}

/// Holds the early report against the record.
pub(super) fn settle(observed: &Observed, early: &Early, now: Timestamp) -> Settled {
    match &observed.record {
        Record::Pending if now < early.until.0 => Settled::Waits,
        Record::Said { report, whole } if *whole != early.digest => {
            Settled::Contradicted(report.clone())
        }
        _ => Settled::Told,
    }
}

/// The next build is due, and the Pod of the one before has not ended.
pub(super) fn wait(build: &ImageBuild, mut status: ImageBuildStatus, now: Timestamp) -> Step {
    let message = "waiting for the Pod of the previous build to end".to_owned();
    status::working(
        &mut status,
        build,
        Reason::WaitingForEarlierPod,
        message,
        now,
    );
    Step {
        look_again: Some(SignedDuration::from_secs(5)),
        ..step(status, Action::None)
    }
}

/// The record says something else: all is as if it had come alone, and it is told.
pub(super) fn contradict(
    observed: &Observed,
    status: ImageBuildStatus,
    early: &Early,
    record: Report,
    due: bool,
    now: Timestamp,
) -> Step {
    let build = &observed.build;
    let believed = believed(&status);
    let mut before = restore(&early.before).unwrap_or_else(|| emptied(status.clone()));
    before.observed_generation = build.metadata.generation;
    before.early = None;
    // What was seen since.
    before.pending.clone_from(&status.pending);
    before.schedule.clone_from(&status.schedule);
    let message = format!(
        "mismatch: Job {} reported {believed} early, but its Pod ended with {}: the Pod's record \
            counts. Somebody else may have used the attempt's credential: check who can read \
            Secrets or create Pods in this namespace, and compare the tags of {} with \
            status.digest",
        early.job,
        told(&record),
        build.spec.output.image
    );
    let mut step = end(observed, before, record, now);
    if due && step.status.current.is_none() {
        // What this spec comes to is not known yet.
        let message = "the build of the previous spec has ended".to_owned();
        status::working(&mut step.status, build, Reason::Superseding, message, now);
        step.look_again = Some(SignedDuration::ZERO);
    }
    step.alarm = Some(Notice {
        warning: true,
        reason: Reason::ReportDisagrees,
        message,
    });
    step
}

/// What was made of the early report, in a few words.
fn believed(status: &ImageBuildStatus) -> String {
    let current = status.current.as_ref();
    match (current, &status.failure, &status.digest) {
        (Some(current), _, _) if current.stage.pushed().is_some() => "of a pushed image".into(),
        (Some(current), _, _) => format!(
            "a failure ({})",
            current.last_failure.as_deref().unwrap_or("unknown")
        ),
        (None, Some(failure), _) => format!("failure {}", failure.reason),
        (None, None, digest) => {
            format!("success with {}", digest.as_deref().unwrap_or("no digest"))
        }
    }
}

/// A status that knows of no image, where what stood before cannot be read.
fn emptied(status: ImageBuildStatus) -> ImageBuildStatus {
    ImageBuildStatus {
        observed_generation: status.observed_generation,
        conditions: status.conditions,
        trigger: status.trigger,
        started_at: status.started_at,
        build: status.build,
        last_handled_request: status.last_handled_request,
        queued_seconds: status.queued_seconds,
        input: status.input,
        current: status.current,
        history: status.history.into_iter().skip(1).collect(),
        ..ImageBuildStatus::default()
    }
}
