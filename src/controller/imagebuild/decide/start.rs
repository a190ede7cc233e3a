//! The start of an attempt, or what it waits for.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::clock::{clock, deadline, left_to_wait, run, timeout, unstart, until, wait};
use super::waited::{held, waited_out};
use super::{
    Action, Handover, Observed, Queue, Step, checking, choice, end, forecast, is_ready, most,
    natives, per_replica, refused, replicas_up, rollback, standby, stands_back, step, trying,
    waits_for,
};
use crate::flux::resolve::resolve;
use crate::imagebuild::in_advance;
use crate::imagebuild::job::{self, AttemptId};
use crate::imagebuild::outcome::Pending;
use crate::imagebuild::status;
use crate::names;
use crate::platforms;
use crate::settings::Settings;
use crate::sharing::{self, Own};
use whittle_api::{
    Builder, Current, DEFAULT_BUILDER, FailureReason, ImageBuild, ImageBuildStatus, NO_CACHE,
    READY, Reason, TriggerReason, find,
};
use whittle_build::inputs::requested_at;
use whittle_build::report::failed;

/// Starts the attempt that the status names, or says what it waits for.
pub(super) fn start(
    observed: &Observed,
    settings: &Settings,
    status: ImageBuildStatus,
    now: Timestamp,
) -> Step {
    let step = start_or_wait(observed, settings, status, now);
    let left = left_to_wait(&observed.build, &step.status, now);
    step.within(left)
}

fn start_or_wait(
    observed: &Observed,
    settings: &Settings,
    mut status: ImageBuildStatus,
    now: Timestamp,
) -> Step {
    let build = &observed.build;
    let Some(current) = status.current.clone() else {
        return step(status, Action::None);
    };
    if let Some(message) = job::refusal(build) {
        let report = failed(FailureReason::BuildRejected, message);
        return end(observed, status, report, now);
    }
    // What follows a push is part of an attempt that runs already.
    let after_push = current.stage.is_after_push();
    if build.spec.suspend && !after_push {
        return held(build, status, &current, now);
    }
    if !after_push && !current.started {
        wait(&mut status, now);
        if left_to_wait(build, &status, now).is_some_and(|left| left.is_zero()) {
            return waited_out(observed, settings, status, now);
        }
    }
    let since = clock(&status, now);
    let left = deadline(build, &status, now).duration_since(now);
    if let Some(current) = &mut status.current {
        current.since = Some(Time(since));
    }
    if left <= SignedDuration::ZERO {
        let waited_for = find(&status.conditions, READY)
            .map(|c| c.message.clone())
            .unwrap_or_default();
        let message = format!(
            "timed out: not started within spec.timeout ({}): {waited_for}",
            build.spec.timeout
        );
        return end(
            observed,
            status,
            failed(FailureReason::Timeout, message),
            now,
        );
    }
    if let Err(why) = names::check_builder(&build.spec.builder_ref.name) {
        let message = format!("invalid spec.builderRef.name: {why}");
        let report = failed(FailureReason::SpecRejected, message);
        return end(observed, status, report, now);
    }
    if let Some(stuck) = observed.stuck.clone().filter(|_| observed.others_alive) {
        status::blocked(&mut status, build, Reason::PodTerminating, stuck, now);
        return Step {
            look_again: Some(SignedDuration::from_secs(10)),
            ..step(status, Action::None)
        };
    }
    if observed.others_alive || status.early.is_some() {
        status::working(
            &mut status,
            build,
            Reason::WaitingForEarlierPod,
            "waiting for the Pod of the previous attempt to end".into(),
            now,
        );
        return Step {
            look_again: Some(SignedDuration::from_secs(5)),
            ..step(status, Action::None)
        };
    }
    if observed.builder_out_of_memory.is_some() {
        // The node tells how the builder ended later than the runner tells that it did.
        let why = current.last_failure.unwrap_or_default();
        return end(
            observed,
            status,
            failed(FailureReason::BuilderLost, why),
            now,
        );
    }
    if let Some(wait) = until(current.retry_at.as_ref(), now) {
        // What it waited for meanwhile is over.
        if !waits_for(&status, &[Reason::Retrying]) {
            let why = current.last_failure.as_deref().unwrap_or("reason unknown");
            let (before, seconds) = (current.attempt - 1, wait.as_secs());
            let message = format!("attempt {before} failed: {why}; retrying in {seconds} s");
            status::working(&mut status, build, Reason::Retrying, message, now);
        }
        return Step {
            look_again: Some(wait),
            ..step(status, Action::None)
        };
    }
    let flux = build.spec.source.flux.as_ref().filter(|_| !after_push);
    let flux = match flux.map(|source| resolve(source, observed.flux.as_ref())) {
        Some(Err(wait)) => {
            status::wait(&mut status, build, &wait, now);
            return Step {
                // What changes there wakes it before.
                look_again: Some(left.min(SignedDuration::from_secs(60))),
                ..step(status, Action::None)
            };
        }
        Some(Ok(pinned)) => Some(pinned),
        None => None,
    };
    let name = &build.spec.builder_ref.name;
    let builder = match &observed.builder {
        Some(builder) if builder.metadata.deletion_timestamp.is_none() => builder,
        Some(_) => {
            status::working(
                &mut status,
                build,
                Reason::WaitingForBuilder,
                format!("Builder {name} is being deleted"),
                now,
            );
            return Step {
                look_again: Some(SignedDuration::from_secs(5)),
                ..step(status, Action::None)
            };
        }
        None if name == DEFAULT_BUILDER => {
            if !refused::is_told(&status) {
                let message = format!("creating Builder {name}");
                status::working(&mut status, build, Reason::WaitingForBuilder, message, now);
            }
            return step(
                status,
                Action::CreateBuilder(Box::new(default_builder(build, settings))),
            );
        }
        None => {
            let message = format!(
                "Builder {name} not found in namespace {}: create it, or name another in \
                    spec.builderRef",
                build.namespace().unwrap_or_default()
            );
            status::blocked(
                &mut status,
                build,
                FailureReason::BuilderNotFound.into(),
                message,
                now,
            );
            return Step {
                look_again: Some(left),
                ..step(status, Action::None)
            };
        }
    };
    if let Some((of, _)) = platforms::parent(builder) {
        let message = format!(
            "Builder {name} is the daemon of a platform of Builder {of}: name that one in spec.builderRef, and the platform in \
                spec.platforms"
        );
        let reason = FailureReason::BuilderNotFound.into();
        status::blocked(&mut status, build, reason, message, now);
        return Step {
            look_again: Some(left),
            ..step(status, Action::None)
        };
    }
    // That needs the builder's settings, and nothing of its daemon.
    if !after_push && !is_ready(builder) {
        let mut wait = refused::builder(builder);
        wait.message = format!("Builder {name} is not ready: {}", wait.message);
        status::wait(&mut status, build, &wait, now);
        return Step {
            // The Builder wakes what waits for it where its reason changes; its words may change too.
            look_again: Some(left.min(SignedDuration::from_secs(60))),
            ..step(status, Action::None)
        };
    }
    if let Some(missing) = observed.queue.missing.as_ref().filter(|_| !after_push) {
        status::wait(&mut status, build, missing, now);
        return Step {
            look_again: Some(left.min(SignedDuration::from_secs(10))),
            ..step(status, Action::None)
        };
    }
    if let Some(message) = full(observed, builder, settings).filter(|_| !after_push) {
        let said = status.waiting().and_then(|waiting| waiting.starts);
        let found = forecast::starts(&observed.queue.ahead, most(builder), now);
        let starts = forecast::said(said.map(|it| it.0), found, now);
        let message = message + &forecast::words(starts, now);
        return queued(observed, status, &current, (message, starts), LOOK, now);
    }
    let replica = match choice::of(observed, builder, &status, now) {
        _ if after_push => current.replica,
        Ok(replica) => replica,
        Err(wait) => {
            let again = LOOK.min(wait.left);
            return queued(observed, status, &current, (wait.message, None), again, now);
        }
    };
    let natives = match natives::of(observed, builder, &status, now) {
        _ if after_push => vec![],
        Ok(natives) => natives,
        Err(wait) => {
            let again = LOOK.min(wait.left);
            return queued(observed, status, &current, (wait.message, None), again, now);
        }
    };
    let needs = sharing::own(build, builder, &current.job).filter(|_| !after_push);
    let runs_on = match needs.map(|wanted| (of_this_attempt(observed, &wanted), wanted)) {
        Some((Some(own), _)) => match own_builder(own, build, status, left, now) {
            Ok((ready, unchanged)) => {
                status = unchanged;
                ready
            }
            Err(step) => return *step,
        },
        Some((None, wanted)) => {
            // The attempt has just been named: only then is its Builder read.
            let message = format!(
                "looking for Builder {}, which this build has to itself",
                wanted.name_any()
            );
            status::working(&mut status, build, Reason::WaitingForBuilder, message, now);
            return Step {
                look_again: Some(AT_ONCE),
                ..step(status, Action::None)
            };
        }
        None => builder,
    };
    // What it waited for before its start is not taken from its time.
    let left = match current.started || after_push {
        true => left,
        false => timeout(build),
    };
    let id = AttemptId {
        build: status.build.unwrap_or(1),
        job: current.job.clone(),
        seconds_left: left.as_secs(),
        tagging: rollback::tagging(&status)
            .or_else(|| trying::tagging(observed, &current))
            .unwrap_or_else(|| checking::tagging(build, &current)),
        flux,
        no_cache: is_without_cache(build, &status),
        replica,
        natives,
    };
    // Those that were made in advance for this attempt: one carries it out, and no other build can use the others.
    let first = standby::is_first(&current);
    let standby = standby::fitting(observed, runs_on, settings).filter(|_| first);
    let adopted = standby.map(|standby| standby.job.clone());
    let others = observed.standbys.iter().filter(|_| first);
    let others = others.map(|standby| standby.job.clone());
    let stop = others.filter(|job| Some(job) != adopted.as_ref()).collect();
    let action = match adopted {
        None => {
            let made = job::attempt(build, runs_on, &id, settings);
            made.map(|attempt| Action::Start(Box::new(attempt)))
        }
        Some(job) => {
            if let Some(current) = &mut status.current {
                current.job.clone_from(&job);
                current.standby = Some(job.clone());
            }
            let id = AttemptId {
                job: job.clone(),
                ..id.clone()
            };
            let request = in_advance::handed(build, runs_on, &id, settings);
            request.map(|request| Action::Adopt(Box::new(Handover { job, request })))
        }
    };
    match action {
        Ok(action) => {
            // What was refused stays said until it is taken: each try would have the status say something else.
            if !refused::is_told(&status) {
                let message = match (after_push, current.stage.is_tagging()) {
                    (_, true) => "moving the tags",
                    (true, _) => "making the image smaller",
                    (false, _) => "starting the build",
                };
                let message = rollback::words(&status).unwrap_or_else(|| message.to_owned());
                status::working(&mut status, build, Reason::Building, message, now);
            }
            run(&mut status, now);
            if let Some(current) = &mut status.current {
                current.replica = replica;
            }
            if let Some(pinned) = &id.flux {
                super::due::pin(&mut status, &pinned.fetched.revision);
            }
            Step {
                stop,
                ..step(status, action)
            }
        }
        Err(error) => {
            let message = format!("internal error: cannot write the request: {error}");
            end(
                observed,
                status,
                failed(FailureReason::BuildFailed, message),
                now,
            )
        }
    }
}

/// A build that waits for its turn is looked at again after this long.
const LOOK: SignedDuration = SignedDuration::from_secs(30);

/// The attempt waits for its turn, or for its replica; `starts` is about when it is to start.
fn queued(
    observed: &Observed,
    mut status: ImageBuildStatus,
    current: &Current,
    (message, starts): (String, Option<Timestamp>),
    again: SignedDuration,
    now: Timestamp,
) -> Step {
    status::working(&mut status, &observed.build, Reason::Queued, message, now);
    let waiting = status.current.as_mut().and_then(|it| it.waiting.as_mut());
    if let Some(waiting) = waiting {
        waiting.position = i32::try_from(observed.queue.before + 1).ok();
        waiting.starts = starts.map(Time);
    }
    // The clock stands still: it is not written down anew at each look.
    if let Some(now) = &mut status.current {
        now.since = current.since.clone();
    }
    unstart(&mut status, now);
    Step {
        look_again: Some(again),
        ..step(status, Action::None)
    }
}

/// What an attempt waits for whose turn it is not yet.
pub(super) fn full(observed: &Observed, builder: &Builder, settings: &Settings) -> Option<String> {
    let Queue {
        running,
        before,
        ahead,
        ..
    } = &observed.queue;
    if running + before >= most(builder) {
        let (name, most, up) = (builder.name_any(), most(builder), replicas_up(builder));
        let each = match up {
            1 => String::new(),
            some => format!(" of each of {some} replicas: {}", per_replica(builder)),
        };
        return Some(format!(
            "queued: Builder {name} runs at most {most} builds at a time (maxConcurrentBuilds{each}): \
                {running} running{}, {before} queued before this one",
            match ahead.suspended {
                0 => String::new(),
                some => format!(" ({some} of them wait in queues of Kueue, and keep their places)"),
            }
        ));
    }
    let bound = settings.triggers.max_concurrent;
    let over = stands_back(&observed.build) && observed.queue.standing_back.is_full(bound);
    over.then(|| {
        format!(
            "queued: at most {bound} builds that base images and schedules start run in the cluster at a time, half of them in \
                one namespace (triggers.maxConcurrent of the installation)"
        )
    })
}

/// True for the build of a request that asks for no cache: the value says of which, so that no later one is meant.
pub(super) fn is_without_cache(build: &ImageBuild, status: &ImageBuildStatus) -> bool {
    let by = status.trigger.as_ref().map(|it| it.reason);
    let asked = build.annotations().get(NO_CACHE);
    by == Some(TriggerReason::Request) && asked.is_some() && asked == requested_at(build).as_ref()
}

/// After this long what was not read yet is.
const AT_ONCE: SignedDuration = SignedDuration::from_millis(200);

/// What was read of the Builder that this attempt has to itself.
fn of_this_attempt<'a>(observed: &'a Observed, wanted: &Builder) -> Option<&'a Own> {
    let own = observed.own.as_ref();
    own.filter(|own| own.wanted.name_any() == wanted.name_any())
}

/// The Builder that the build has to itself, and the status as it was, once that one takes builds; until then, what to do.
fn own_builder<'a>(
    own: &'a Own,
    build: &ImageBuild,
    mut status: ImageBuildStatus,
    left: SignedDuration,
    now: Timestamp,
) -> Result<(&'a Builder, ImageBuildStatus), Box<Step>> {
    let name = own.wanted.name_any();
    let soon = Some(SignedDuration::from_secs(5));
    let (message, action, look_again) = match &own.stands {
        Some(stands) if stands.metadata.deletion_timestamp.is_some() => (
            format!("Builder {name} is being deleted"),
            Action::None,
            soon,
        ),
        _ if sharing::differs(own) => (
            format!("creating Builder {name}, which this build has to itself"),
            Action::ApplyBuilder(Box::new(own.wanted.clone())),
            soon,
        ),
        Some(stands) if is_ready(stands) => return Ok((stands, status)),
        stands => {
            let mut wait = stands.as_ref().map_or_else(
                || Pending::new(Reason::WaitingForBuilder, String::new()),
                refused::builder,
            );
            wait.message = format!("Builder {name} is not ready: {}", wait.message);
            status::wait(&mut status, build, &wait, now);
            return Err(Box::new(Step {
                look_again: Some(left.min(SignedDuration::from_secs(60))),
                ..step(status, Action::None)
            }));
        }
    };
    status::working(&mut status, build, Reason::WaitingForBuilder, message, now);
    Err(Box::new(Step {
        look_again,
        ..step(status, action)
    }))
}

/// The Builder named `default`, as the chart's values want it.
fn default_builder(build: &ImageBuild, settings: &Settings) -> Builder {
    let mut builder = Builder::new(DEFAULT_BUILDER, settings.builder.defaults.clone());
    builder.metadata.namespace = build.namespace();
    if let Some(registry) = &mut builder.spec.cache.registry {
        // Caches are never shared across namespaces.
        registry.image += &format!("/{}", build.namespace().unwrap_or_default());
    }
    builder.metadata.labels = Some(
        [(
            "app.kubernetes.io/managed-by".to_owned(),
            "whittle".to_owned(),
        )]
        .into(),
    );
    builder
}
