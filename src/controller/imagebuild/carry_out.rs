//! Carries out what was decided for an ImageBuild.

use std::collections::BTreeMap;

use kube::{Resource, ResourceExt};

use super::super::{Context, Error};
use super::Ended;
use super::decide::{self, Action, Handover, Step};
use super::status::Notice;
use crate::cluster::credentials::Attempt as Credential;
use crate::installation;
use crate::recorder::Word;
use whittle_api::{ImageBuild, ImageBuildStatus, Reason};

/// What an attempt is called must stand in the status before the attempt exists, a result before anything that
/// holds it is pruned; and what the status names no more must be gone before.
pub async fn carry_out(
    build: &mut ImageBuild,
    step: &Step,
    context: &Context,
) -> Result<(), Error> {
    let namespace = build.namespace().unwrap_or_default();
    // What the check of an image came to is written down before the check goes, or a controller that is killed in between
    // would have it checked again. What is left then is found before the tags are moved.
    let current = step.status.current.as_ref();
    let passed = current.is_some_and(decide::is_checked);
    if !passed {
        stop(&namespace, step, context).await?;
    }
    let (status, version) = write_status(build, &step.status, context).await?;
    (build.status, build.metadata.resource_version) = (Some(status), version);
    if passed {
        stop(&namespace, step, context).await?;
    }
    match &step.action {
        Action::None => {}
        Action::CreateBuilder(builder) => {
            let mut builder = builder.clone();
            let labels = installation::labels(&context.settings.watch.selector);
            builder.labels_mut().extend(labels);
            context.cluster.create_builder(&builder).await?;
        }
        Action::ApplyBuilder(builder) => {
            let mut builder = builder.clone();
            let labels = installation::labels(&context.settings.watch.selector);
            builder.labels_mut().extend(labels);
            context.cluster.apply_builder(&builder).await?;
        }
        Action::Start(attempt) => {
            let token = context.authority.credentials().token(&Credential {
                namespace: namespace.clone(),
                uid: build.uid().unwrap_or_default(),
                job: attempt.job.name_any(),
            });
            context.cluster.start(attempt, &token).await?;
            context.metrics.attempt(&namespace);
            let (number, job) = (step.status.build, attempt.job.name_any());
            tracing::info!(
                namespace,
                name = build.name_any(),
                build = number,
                job,
                "a build starts"
            );
        }
        Action::Adopt(handover) => {
            hand_over(build, handover, true, context);
            context.metrics.attempt(&namespace);
            context.metrics.adopted();
            let (number, job) = (step.status.build, &handover.job);
            tracing::info!(
                namespace,
                name = build.name_any(),
                build = number,
                job,
                "a build starts, and its runner has waited for it"
            );
        }
        Action::Hand(handover) => hand_over(build, handover, false, context),
        Action::Check(jobs) => context.cluster.start_checks(jobs).await?,
        Action::Prune(before) => context.cluster.prune(build, *before).await?,
    }
    if let Some(alarm) = &step.alarm {
        let name = build.name_any();
        tracing::warn!(namespace, name, reason = %alarm.reason, "{}", alarm.message);
        context.metrics.disagreed();
        say(build, alarm, BTreeMap::new(), context).await;
    }
    tell(build, step, context).await;
    Ok(())
}

/// The runner of this Job is handed its request. `first`: this process has begun the attempt.
fn hand_over(build: &ImageBuild, handover: &Handover, first: bool, context: &Context) {
    let (namespace, uid) = (
        build.namespace().unwrap_or_default(),
        build.uid().unwrap_or_default(),
    );
    let Handover { job, request } = handover;
    let of = (namespace.as_str(), job.as_str());
    context.waiting.offer(of, &uid, request.clone(), first);
}

async fn stop(namespace: &str, step: &Step, context: &Context) -> Result<(), Error> {
    for job in &step.stop {
        context.cluster.stop(namespace, job).await?;
    }
    Ok(())
}

/// Counts the end of a build, writes an Event, and has the sink told.
pub async fn tell(build: &ImageBuild, step: &Step, context: &Context) {
    let Some(notice) = &step.notice else { return };
    let ended = Ended::by(build, step);
    // A rollback builds nothing, and a refused one is no end: neither says how long builds take.
    let back = notice.reason == Reason::RolledBack;
    if step.status.current.is_none() && (ended.is_some() || notice.reason == Reason::Superseded) {
        let (seconds, queued) = (step.status.duration_seconds, step.status.queued_seconds);
        let observed = |seconds: Option<i64>| seconds.filter(|_| !back);
        // What ended before it began took no time: that says nothing of builds.
        let seconds = seconds.filter(|seconds| *seconds > 0 || notice.reason == Reason::Succeeded);
        let (namespace, name) = (build.namespace().unwrap_or_default(), build.name_any());
        let (result, metrics) = (notice.reason.as_str(), &context.metrics);
        metrics.built(&namespace, result, observed(seconds), observed(queued));
        if notice.reason == Reason::Succeeded {
            metrics.pushed(step.status.platforms.iter().map(|it| it.size));
        }
        if let Some(steps) = step.status.steps {
            context.metrics.steps(steps);
        }
        if let Some(phases) = &step.status.phase_milliseconds {
            context.metrics.phases(phases);
        }
        let (number, digest) = (step.status.build, step.status.digest.as_deref());
        tracing::info!(namespace, name, build = number, result = %notice.reason, digest, seconds, queued, "a build has ended");
    }
    if let Some(ended) = &ended {
        context.notifications.tell(build, ended);
    }
    let annotations = ended.map(|ended| ended.annotations()).unwrap_or_default();
    say(build, notice, annotations, context).await;
}

/// Writes the status, and returns what was written, and the version since: less of it where the API server does not take
/// it whole.
async fn write_status(
    build: &ImageBuild,
    status: &ImageBuildStatus,
    context: &Context,
) -> Result<(ImageBuildStatus, Option<String>), Error> {
    let error = match context.cluster.write_status(build, status).await {
        Ok(version) => return Ok((status.clone(), version)),
        Err(error) => error,
    };
    if error.refusal().is_none() {
        return Err(error.into());
    }
    tracing::warn!(namespace = build.namespace(), name = build.name_any(), %error, "the status was rejected; writing a shorter one");
    let lean = decide::lean(status);
    let version = context.cluster.write_status(build, &lean).await?;
    Ok((lean, version))
}

async fn say(
    build: &ImageBuild,
    notice: &Notice,
    annotations: BTreeMap<String, String>,
    context: &Context,
) {
    let word = Word {
        about: &build.object_ref(&()),
        warning: notice.warning,
        reason: notice.reason,
        note: &notice.message,
        action: "Build",
        annotations,
    };
    context.say(word).await;
}
