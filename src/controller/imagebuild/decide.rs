//! The heart: from what was observed of one ImageBuild to the next step.

mod checking;
mod clock;
mod early;
mod fetch;
mod queue;
mod readiness;
mod refused;

pub use checking::{Pending as PendingCheck, jobs as check_jobs, pending as pending_check};

pub use queue::{Queue, Runners, lacks_its_own};
pub use readiness::{Readiness, is_asleep, is_ready};

pub use refused::{lean, refused};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::gate::Check;
use super::job::{self, Attempt, Which};
use super::outcome::{self, POD_PENDING, Pending, Record, State};
use super::status::{self, Notice};
use crate::names;
use crate::settings::Settings;
use clock::{clock, deadline, run, timeout, unstart};
use whittle_api::{
    Builder, Current, DEFAULT_BUILDER, FailureReason, ImageBuild, ImageBuildStatus, READY,
    REQUESTED_AT, Stage, find,
};
use whittle_build::inputs::Inputs;
use whittle_build::report::failed;
use whittle_build::report::{Built, Failed, Report};

/// Reason of a build that waits for its turn on the builder.
pub const QUEUED: &str = "Queued";
/// Characters of a request that stand in the status.
const REQUEST: usize = 256;

/// What was read for one ImageBuild.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The ImageBuild, read live.
    pub build: ImageBuild,
    /// The Builder that it names.
    pub builder: Option<Builder>,
    /// Where the attempt of `status.current` stands, or that of `status.fetch`; `Absent` without one.
    pub attempt: State,
    /// What the Pod of `status.early`, or of `status.fetch`, has ended with.
    pub record: Record,
    /// What the runner of `status.fetch` has called back.
    pub fetched: Option<Report>,
    /// True while a Pod of an earlier attempt or build has not ended.
    pub others_alive: bool,
    /// What one of them says that was to be gone by now.
    pub stuck: Option<String>,
    /// Other builds on the same builder.
    pub queue: Queue,
    /// Where the builder's container was killed for memory since the build began: its limit.
    pub builder_out_of_memory: Option<String>,
    /// Where the checks of the pushed image stand, platform by platform; empty before the push.
    pub checks: Vec<Check>,
    /// Before an attempt starts: names of the Jobs of checks that the status does not name. A controller that went
    /// on though another one had taken its place may have left them.
    pub stray_checks: Vec<String>,
}

/// What to do next, in this order: stop, write the status, act, tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Names of Jobs to delete, each with its Pod and its ConfigMap, that no status names once this one stands:
    /// before it does, so that a controller that ends in between finds them again.
    pub stop: Vec<String>,
    /// The status as it should stand.
    pub status: ImageBuildStatus,
    /// What to do once it stands so.
    pub action: Action,
    /// An Event.
    pub notice: Option<Notice>,
    /// An Event that tells of a forgery, before that one.
    pub alarm: Option<Notice>,
    /// When to look again though nothing has changed.
    pub look_again: Option<SignedDuration>,
}

/// What to do once the status stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Nothing.
    None,
    /// Make the Builder named `default`.
    CreateBuilder(Box<Builder>),
    /// Make these objects.
    Start(Box<Attempt>),
    /// Make these Jobs, which check the pushed image.
    Check(Vec<Job>),
    /// Delete Jobs and ConfigMaps of builds before this number.
    Prune(i64),
}

/// Digest of everything that makes a build due when it changes: so `suspend`, `timeout`, `retries`
/// and `historyLimit` may change without one.
pub fn input(build: &ImageBuild) -> String {
    Inputs::of(build).digest()
}

/// True where there is nothing to do until the ImageBuild changes: nothing else need be read.
pub fn is_settled(build: &ImageBuild) -> bool {
    let waits = |status: &ImageBuildStatus| status.early.is_some() || fetch::job(status).is_some();
    build.metadata.deletion_timestamp.is_some()
        || is_built(build) && !build.status.as_ref().is_some_and(waits)
}

/// True where nothing is to be built until the ImageBuild changes.
pub fn is_built(build: &ImageBuild) -> bool {
    build.metadata.deletion_timestamp.is_some()
        || build.status.as_ref().is_some_and(|status| {
            status.current.is_none()
                && status.observed_generation == build.metadata.generation
                && status.input.as_deref() == Some(&input(build))
        })
}

/// True where a report of this Job is what the build waits for.
pub fn awaits_report(build: &ImageBuild, job: &str) -> bool {
    let status = build.status.as_ref();
    status.and_then(runner) == Some(job)
        && build.metadata.deletion_timestamp.is_none()
        && pending_check(build, status).is_none()
}

/// The Job whose runner is under way, or about to be: of the build, or of what is fetched once that is done.
pub fn runner(status: &ImageBuildStatus) -> Option<&str> {
    match &status.current {
        Some(current) => Some(&current.job),
        None => fetch::job(status),
    }
}

/// True where a build waits for its turn on the builder.
pub fn is_queued(build: &ImageBuild) -> bool {
    build.status.as_ref().is_some_and(says_queued)
}

/// True for the status of a build that waits for its turn.
pub fn says_queued(status: &ImageBuildStatus) -> bool {
    find(&status.conditions, READY).is_some_and(|c| c.reason == QUEUED)
}

/// How many builds a Builder takes at a time.
pub fn most(builder: &Builder) -> usize {
    usize::try_from(builder.spec.max_concurrent_builds)
        .unwrap_or(1)
        .max(1)
}

/// True where a build that was begun takes no place on its builder from here on, or is not begun after all; for a step
/// that starts none.
pub fn leaves_its_place(observed: &Observed, step: &Step) -> bool {
    let job = |status: &ImageBuildStatus| Some(status.current.as_ref()?.job.clone());
    matches!(observed.attempt, State::Absent)
        || observed.build.status.as_ref().and_then(job) != job(&step.status)
        || lacks_its_own(&observed.build)
}

/// The next step.
pub fn decide(observed: &Observed, settings: &Settings, now: Timestamp) -> Step {
    let mut step = next(observed, settings, now);
    // The Pods of a check go with it, however it ended.
    let go_on = checking::jobs(&step.status);
    let before = observed.build.status.iter().flat_map(checking::jobs);
    step.stop.extend(before.filter(|job| !go_on.contains(job)));
    step.stop.extend(observed.stray_checks.iter().cloned());
    fetch::follow(observed, settings, &mut step);
    step
}

fn next(observed: &Observed, settings: &Settings, now: Timestamp) -> Step {
    let build = &observed.build;
    let mut status = build.status.clone().unwrap_or_default();
    status.observed_generation = build.metadata.generation;
    if build.metadata.deletion_timestamp.is_some() {
        // The garbage collector takes the Job and its Pod; the Builder and its cache stay.
        return step(build.status.clone().unwrap_or_default(), Action::None);
    }
    let due = status.input.as_deref() != Some(&input(build));
    let mut told = false;
    if let Some(early) = status.early.clone() {
        match early::settle(observed, &early, now) {
            early::Settled::Waits if due && status.current.is_none() && !build.spec.suspend => {
                return early::wait(build, status, now);
            }
            early::Settled::Waits => {}
            early::Settled::Told => {
                status.early = None;
                told = true;
            }
            early::Settled::Contradicted(record) => {
                return early::contradict(observed, status, &early, *record, due, now);
            }
        }
    }
    let waits = status.early.is_some();
    let mut step = on(observed, settings, status, due, now);
    if told && step.action == Action::None && step.status.current.is_none() {
        step.action = prune(build, &step.status);
    }
    if waits && step.status.early.is_some() {
        let look = step.look_again.unwrap_or(early::LOOK);
        step.look_again = Some(look.min(early::LOOK));
    }
    step
}

/// The next step, but for an early report.
fn on(
    observed: &Observed,
    settings: &Settings,
    mut status: ImageBuildStatus,
    due: bool,
    now: Timestamp,
) -> Step {
    let build = &observed.build;
    match status.current.clone() {
        Some(current) if due => {
            // New input while the old is being built: the old attempt has no more use, whatever it has told.
            status.early = None;
            status::end(&mut status, build, "Superseded", None, now);
            if build.spec.suspend {
                // It came to nothing: the same spec would be due again.
                status.input = None;
                status::held(&mut status, build, now);
            } else {
                begin(&mut status, build, now);
                let message = "stopping the build of the spec before this one".to_owned();
                status::working(&mut status, build, "Superseding", message, now);
            }
            Step {
                stop: vec![current.job],
                look_again: Some(SignedDuration::from_secs(5)),
                ..step(status, Action::None)
            }
        }
        Some(current) => go_on(observed, settings, status, &current, now),
        None if due && build.spec.suspend => {
            status::held(&mut status, build, now);
            step(status, Action::None)
        }
        None if due => {
            begin(&mut status, build, now);
            if observed.queue.waiting > 0 {
                // Several became due at once: each says so first, and then all see one order.
                let message = "waiting for its turn on the builder".to_owned();
                status::working(&mut status, build, QUEUED, message, now);
                return Step {
                    look_again: Some(SignedDuration::from_millis(500)),
                    ..step(status, Action::None)
                };
            }
            start(observed, settings, status, now)
        }
        None => {
            status::restate(&mut status, build, now);
            fetch::go_on(observed, settings, status, now)
        }
    }
}

fn step(status: ImageBuildStatus, action: Action) -> Step {
    Step {
        stop: vec![],
        status,
        action,
        notice: None,
        alarm: None,
        look_again: None,
    }
}

/// Enters the next build into the status: from here on it has a number, a start and a name.
fn begin(status: &mut ImageBuildStatus, build: &ImageBuild, now: Timestamp) {
    let number = status.build.unwrap_or(0) + 1;
    status.build = Some(number);
    status.input = Some(input(build));
    status.started_at = Some(Time(now));
    status.completed_at = None;
    status.duration_seconds = None;
    status.queued_seconds = None;
    let request = build.annotations().get(REQUESTED_AT);
    status.last_handled_request = request.map(|text| text.chars().take(REQUEST).collect());
    status.current = Some(Current {
        attempt: 1,
        job: attempt_name(build, number, build.metadata.generation.unwrap_or(0), 1),
        generation: build.metadata.generation.unwrap_or(0),
        message: None,
        retry_at: None,
        last_failure: None,
        since: Some(Time(now)),
        started: false,
        stage: Stage::Building,
    });
}

fn attempt_name(build: &ImageBuild, number: i64, generation: i64, attempt: i32) -> String {
    names::attempt(
        &build.name_any(),
        &build.uid().unwrap_or_default(),
        generation,
        number,
        attempt,
    )
}

/// Starts the attempt that the status names, or says what it waits for.
fn start(
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
    // Moving tags is part of an attempt that runs already.
    let tags_only = current.stage.is_tagging();
    if build.spec.suspend && !tags_only {
        let message = format!(
            "spec.suspend is true: attempt {} of this build starts once it is false",
            current.attempt
        );
        status::hold_back(&mut status, build, &message, now);
        unstart(&mut status);
        return step(status, Action::None);
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
            "not started within spec.timeout ({}): {waited_for}",
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
        let message = format!("spec.builderRef.name cannot be a Builder's: {why}");
        let report = failed(FailureReason::SpecRejected, message);
        return end(observed, status, report, now);
    }
    if let Some(stuck) = observed.stuck.clone().filter(|_| observed.others_alive) {
        status::blocked(&mut status, build, outcome::TERMINATING, stuck, now);
        return Step {
            look_again: Some(SignedDuration::from_secs(10)),
            ..step(status, Action::None)
        };
    }
    if observed.others_alive || status.early.is_some() {
        status::working(
            &mut status,
            build,
            "WaitingForEarlierPod",
            "the Pod of the attempt before this one has not ended yet".into(),
            now,
        );
        return Step {
            look_again: Some(SignedDuration::from_secs(5)),
            ..step(status, Action::None)
        };
    }
    if let Some(wait) = current
        .retry_at
        .as_ref()
        .map(|at| at.0.duration_since(now))
        .filter(|wait| wait.is_positive())
    {
        return Step {
            look_again: Some(wait),
            ..step(status, Action::None)
        };
    }
    let name = &build.spec.builder_ref.name;
    let builder = match &observed.builder {
        Some(builder) if builder.metadata.deletion_timestamp.is_none() => builder,
        Some(_) => {
            status::working(
                &mut status,
                build,
                "WaitingForBuilder",
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
                let message = format!("making Builder {name}");
                status::working(&mut status, build, "WaitingForBuilder", message, now);
            }
            return step(
                status,
                Action::CreateBuilder(Box::new(default_builder(build, settings))),
            );
        }
        None => {
            let message = format!(
                "Builder {name} does not exist in namespace {}: create it, or name another in spec.builderRef",
                build.namespace().unwrap_or_default()
            );
            status::blocked(
                &mut status,
                build,
                FailureReason::BuilderNotFound.as_str(),
                message,
                now,
            );
            return Step {
                look_again: Some(left),
                ..step(status, Action::None)
            };
        }
    };
    // Moving tags needs the builder's settings, and nothing of its daemon.
    if !tags_only && !is_ready(builder) {
        let wait = refused::builder(builder);
        let message = format!("Builder {name} is not ready: {}", wait.message);
        if wait.blocked {
            status::blocked(&mut status, build, &wait.reason, message, now);
        } else {
            status::working(&mut status, build, &wait.reason, message, now);
        }
        return Step {
            // The Builder wakes what waits for it where its reason changes; its words may change too.
            look_again: Some(left.min(SignedDuration::from_secs(60))),
            ..step(status, Action::None)
        };
    }
    if let Some(missing) = observed.queue.missing.as_ref().filter(|_| !tags_only) {
        let message = missing.message.clone();
        status::blocked(&mut status, build, &missing.reason, message, now);
        return Step {
            look_again: Some(left.min(SignedDuration::from_secs(10))),
            ..step(status, Action::None)
        };
    }
    let ahead = observed.queue.running + observed.queue.before;
    if !tags_only && ahead >= most(builder) {
        let most = builder.spec.max_concurrent_builds;
        let message = format!(
            "Builder {name} takes {most} builds at a time (maxConcurrentBuilds): {} run, and {} wait before \
             this one",
            observed.queue.running, observed.queue.before
        );
        status::working(&mut status, build, QUEUED, message, now);
        // The clock stands still: it is not written down anew at each look.
        if let Some(now) = &mut status.current {
            now.since = current.since.clone();
        }
        unstart(&mut status);
        return Step {
            look_again: Some(SignedDuration::from_secs(30)),
            ..step(status, Action::None)
        };
    }
    // What it waited for before its start is not taken from its time.
    let left = match current.started || tags_only {
        true => left,
        false => timeout(build),
    };
    let which = Which {
        build: status.build.unwrap_or(1),
        job: current.job.clone(),
        seconds_left: left.as_secs(),
        tagging: checking::tagging(build, &current),
    };
    match job::attempt(build, builder, &which, settings) {
        Ok(attempt) => {
            // What was refused stays said until it is taken: each try would have the status say something else.
            if !refused::is_told(&status) {
                let message = match tags_only {
                    true => "the tags are being moved",
                    false => "the build is being started",
                };
                status::working(&mut status, build, "Building", message.into(), now);
            }
            run(&mut status, now);
            step(status, Action::Start(Box::new(attempt)))
        }
        Err(error) => {
            let message = format!("the request cannot be written: {error}");
            end(
                observed,
                status,
                failed(FailureReason::BuildFailed, message),
                now,
            )
        }
    }
}

/// The Builder named `default`, as the chart's values want it.
fn default_builder(build: &ImageBuild, settings: &Settings) -> Builder {
    let mut builder = Builder::new(DEFAULT_BUILDER, settings.builder.defaults.clone());
    builder.metadata.namespace = build.namespace();
    builder.metadata.labels = Some(
        [(
            "app.kubernetes.io/managed-by".to_owned(),
            "whittle".to_owned(),
        )]
        .into(),
    );
    builder
}

/// A build is under way: where its attempt stands decides.
fn go_on(
    observed: &Observed,
    settings: &Settings,
    mut status: ImageBuildStatus,
    current: &Current,
    now: Timestamp,
) -> Step {
    let build = &observed.build;
    if let Some(pending) = checking::pending(build, Some(&status)) {
        return checking::go_on(observed, settings, status, &pending, now);
    }
    match &observed.attempt {
        State::Absent => start(observed, settings, status, now),
        State::Leaving | State::Foreign if deadline(build, &status, now) <= now => {
            let said = find(&status.conditions, READY).map(|c| c.message.clone());
            let message = format!(
                "not started within spec.timeout ({}): {}",
                build.spec.timeout,
                said.unwrap_or_default()
            );
            let report = failed(FailureReason::Timeout, message);
            end(observed, status, report, now)
        }
        State::Leaving => {
            status::working(
                &mut status,
                build,
                "JobDeleted",
                format!(
                    "Job {} is being deleted; the attempt starts again after it",
                    current.job
                ),
                now,
            );
            Step {
                look_again: Some(SignedDuration::from_secs(5)),
                ..step(status, Action::None)
            }
        }
        State::Foreign => {
            let message = format!(
                "Job {} exists, but does not belong to this ImageBuild: delete it",
                current.job
            );
            status::blocked(&mut status, build, queue::CONFLICT, message, now);
            Step {
                look_again: Some(SignedDuration::from_secs(30)),
                ..step(status, Action::None)
            }
        }
        State::Pending(pending) => wait(build, status, pending, now),
        State::Running => {
            let message = current
                .message
                .clone()
                .unwrap_or_else(|| "the build runs".into());
            status::working(&mut status, build, "Building", message, now);
            step(status, Action::None)
        }
        State::Told(report) => early::believe(observed, status, report, now),
        State::Ended(report) => end(observed, status, report.clone(), now),
    }
}

fn wait(
    build: &ImageBuild,
    mut status: ImageBuildStatus,
    pending: &Pending,
    now: Timestamp,
) -> Step {
    if pending.blocked {
        status::blocked(
            &mut status,
            build,
            &pending.reason,
            pending.message.clone(),
            now,
        );
    } else {
        let reason = if pending.reason == POD_PENDING {
            "Building"
        } else {
            &pending.reason
        };
        status::working(&mut status, build, reason, pending.message.clone(), now);
    }
    let started = clock(&status, now);
    // A Pod's own trouble is not all in its status: look at its events, ever less often, and within ten seconds as
    // long as nothing is known.
    let most = if pending.reason == POD_PENDING { 5 } else { 15 };
    let waited = now.duration_since(started).as_secs().clamp(1, most);
    Step {
        look_again: Some(SignedDuration::from_secs(waited)),
        ..step(status, Action::None)
    }
}

/// An attempt has ended: the build has too, or another attempt follows.
fn end(observed: &Observed, mut status: ImageBuildStatus, report: Report, now: Timestamp) -> Step {
    let build = &observed.build;
    let prune = prune(build, &status);
    match report {
        Report::Succeeded(built) => {
            let pushed = status.current.as_ref().and_then(checking::pushed);
            if build.spec.health_check.is_some() && pushed.is_none() {
                return checking::begin(build, status, built, now);
            }
            // The runner that moved the tags has built nothing: the one before it did.
            let built = pushed.unwrap_or(built);
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
                    let notice = status::fail(&mut status, build, failed, now);
                    Step {
                        notice: Some(notice),
                        ..step(status, prune)
                    }
                }
            }
        }
    }
}

/// Takes away what lies beyond the history.
fn prune(build: &ImageBuild, status: &ImageBuildStatus) -> Action {
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
            "not started within spec.timeout ({}): {words}",
            observed.build.spec.timeout
        );
    }
    if let (FailureReason::BuilderLost, Some(limit)) =
        (failed.failure.reason, &observed.builder_out_of_memory)
    {
        failed.failure.reason = FailureReason::OutOfMemory;
        failed.failure.message = format!(
            "Builder {} ran into its memory limit {limit}: raise spec.resources.limits.memory of the Builder, or build less at a time",
            observed.build.spec.builder_ref.name
        );
    }
    failed
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
    let why = format!("{}: {}", failed.failure.reason, failed.failure.message);
    // Another build pushes anew; what has been checked stays.
    let checked = current.stage.is_tagging();
    let job = attempt_name(build, status.build.unwrap_or(1), current.generation, next);
    status.current = Some(Current {
        attempt: next,
        job: match checked {
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
    });
    let message = format!(
        "attempt {} of {} ended: {why}; the next one starts in {} s",
        current.attempt,
        build.spec.retries + 1,
        wait.as_secs()
    );
    status::working(&mut status, build, "Retrying", message.clone(), now);
    Step {
        notice: Some(Notice {
            warning: true,
            reason: "Retrying".into(),
            message,
        }),
        look_again: Some(wait),
        ..step(status, Action::None)
    }
}

/// Before the second attempt 10 s, then twice as long each time, at most five minutes.
fn backoff(attempt: i32) -> SignedDuration {
    let doublings = attempt.saturating_sub(1).clamp(0, 5);
    SignedDuration::from_secs((10 << doublings).min(300))
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
