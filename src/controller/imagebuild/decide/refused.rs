//! What is said, and done, where something is refused.

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::{Action, Readiness, Step, fetch, is_asleep, rollback, step};
use crate::imagebuild::outcome::Pending;
use crate::imagebuild::status;
use crate::imagebuild::status::Notice;
use crate::refusal;
use crate::refusal::{Refusal, Whose};
use whittle_api::{
    Builder, BuilderStatus, FailureReason, ImageBuild, ImageBuildStatus, READY, Reason, bounded,
    find,
};
use whittle_build::report::Report;
use whittle_build::report::failed;

/// What follows where the API server refuses a call that the last step needed; `build` has the status that stands.
///
/// What only another spec can fix ends the build. Everything else waits, is tried again ever less often, and goes
/// on by itself; `spec.timeout` ends that too.
pub fn refused(build: &ImageBuild, refusal: &Refusal, now: Timestamp) -> Step {
    let mut status = build.status.clone().unwrap_or_default();
    status.observed_generation = build.metadata.generation;
    let namespace = build.namespace().unwrap_or_default();
    let whose = match &refusal.object {
        Some(object) if object.kind == "Builder" => Whose::Builder(&object.name),
        _ if build.spec.health_check.is_some()
            && super::pending_check(build, Some(&status)).is_some() =>
        {
            Whose::Check
        }
        _ => Whose::Runner,
    };
    let message = refusal::of_call(refusal, &namespace, whose);
    if status.current.is_none() && fetch::job(&status).is_some() {
        let before = fetch::job(&status).map(str::to_owned);
        return Step {
            stop: before.into_iter().collect(),
            ..fetch::refused(status, message, now)
        };
    }
    let job = status.current.as_ref().map(|current| current.job.clone());
    if let (true, Some(job)) = (refusal.is_final(), job)
        && let Report::Failed(failed) = failed(FailureReason::SpecRejected, message.clone())
    {
        // What was made of it already: the request without its Job.
        let notice = match rollback::is_under_way(&status) {
            true => rollback::fail(build, &mut status, failed, now),
            false => status::fail(&mut status, build, failed, now),
        };
        return Step {
            stop: vec![job],
            notice: Some(notice),
            ..step(status, Action::None)
        };
    }
    let before = find(&status.conditions, READY).map(|c| (c.reason.clone(), c.message.clone()));
    let reason = refusal.why.reason();
    status::blocked(&mut status, build, reason, message.clone(), now);
    let ready = find(&status.conditions, READY);
    let since = ready.map_or(now, |c| c.last_transition_time.0);
    let again = before.is_some_and(|(was, said)| was == reason.as_str() && said == message);
    Step {
        notice: (!again).then_some(Notice {
            warning: true,
            reason,
            message,
        }),
        look_again: Some(refusal::look_again(since, now)),
        ..step(status, Action::None)
    }
}

/// True where the status tells of a refusal.
pub(super) fn is_told(status: &ImageBuildStatus) -> bool {
    let waiting = status.waiting();
    // Its Builder's is told by that.
    waiting.is_some_and(|waiting| !waiting.of_builder && waiting.reason.is_denial())
}

/// What holds a build that is under way until a person has mended it, where that is the build's own trouble rather
/// than its builder's: the reason.
pub(super) fn own_trouble(build: &ImageBuild) -> Option<Reason> {
    let waiting = build.status.as_ref()?.waiting()?;
    (!waiting.of_builder).then_some(waiting.reason)
}

/// What a build that has never run waited for last; none where it ran.
pub(super) fn last_words(build: &ImageBuild) -> Option<String> {
    let status = build.status.as_ref()?;
    let ran = status
        .current
        .as_ref()
        .is_none_or(|current| current.message.is_some() || current.stage.pushed().is_some());
    let ready = find(&status.conditions, READY)?;
    (!ran && status.waiting().is_some()).then(|| ready.message.clone())
}

/// What a Builder that is not ready waits for, in its own words.
pub(super) fn builder(builder: &Builder) -> Pending {
    let working = |reason, message| Pending {
        of_builder: true,
        ..Pending::new(reason, message)
    };
    if is_asleep(builder) {
        let message = "it is waking up".to_owned();
        return working(Reason::WaitingForBuilder, message);
    }
    let readiness = Readiness::of(builder);
    let said = builder
        .status
        .as_ref()
        .filter(|_| readiness.is_current())
        .and_then(|status| find(&status.conditions, READY))
        .filter(|c| c.status != "True");
    let Some(said) = said else {
        let message = match (readiness.is_well(), readiness.is_current()) {
            (true, true) => "its certificates are being renewed",
            (true, false) => "its spec has changed and is being applied",
            (false, _) => "it is starting",
        };
        return working(Reason::WaitingForBuilder, message.into());
    };
    let message = said.message.clone();
    match builder.status.as_ref().and_then(BuilderStatus::state) {
        None | Some(Reason::Starting | Reason::Draining) => {
            working(Reason::WaitingForBuilder, message)
        }
        Some(Reason::Unschedulable) => working(Reason::Unschedulable, message),
        Some(reason) => working(reason, message).blocked(),
    }
}

/// The same status with all left out that it can do without: for an API server that does not take it whole. The
/// whole report lies beside the image in the registry.
pub fn lean(status: &ImageBuildStatus) -> ImageBuildStatus {
    let mut lean = status.clone();
    for platform in &mut lean.platforms {
        platform.layers.clear();
        platform.contents = None;
    }
    if let Some(failure) = &mut lean.failure {
        failure.log = None;
        failure.hint = None;
        failure.step = failure.step.take().map(|step| bounded(step, SHORT));
        failure.message = bounded(std::mem::take(&mut failure.message), SHORT);
    }
    for condition in &mut lean.conditions {
        condition.message = bounded(std::mem::take(&mut condition.message), SHORT);
    }
    lean.history.truncate(1);
    if let Some(current) = &mut lean.current {
        // The condition has its reason.
        current.waiting = None;
    }
    lean
}

/// Bytes of each text of a lean status.
const SHORT: usize = 1024;
