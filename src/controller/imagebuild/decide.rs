//! The heart: from what was observed of one ImageBuild to the next step.

mod checking;
mod choice;
mod clock;
mod due;
mod early;
mod end;
mod fetch;
mod forecast;
mod natives;
mod queue;
mod readiness;
mod refused;
pub(super) mod rollback;
mod standby;
mod start;
mod trying;
mod waited;
mod watching;

pub use checking::{
    Pending as PendingCheck, Wanted, is_checked, jobs as check_jobs, name as check_name,
    pending as pending_check,
};

pub use clock::{count_wait, left_to_wait};
pub use due::{LOOP, ask, is_doubtful, loops, read};
pub use end::{OutOfMemory, memory_limit};
pub use forecast::{Ahead, is_overdue};
pub use natives::not_up;
pub use queue::{
    Queue, Runners, StandingBack, doubts_its_builder, lacks_certificates, lacks_its_own,
    stands_back, stands_back_by, turn, waits_to_retry,
};
pub use readiness::{Readiness, is_asleep, is_ready};

pub use refused::{lean, refused};
pub use rollback::asked as rollback_asked;
pub use standby::{Handover, Standby, is_adopted, next_first};
pub use trying::{Pending as PendingTrial, name as trial_name, pending as pending_trial};
pub use watching::{Word, say_triggers, watches_bases, watches_source};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::gate::Check;
use super::job::Attempt;
use super::outcome::{Pending, Record, State};
use super::status::{self, Notice};
use super::trial::Trial;
use crate::flux::resolve::Object;
use crate::names;
use crate::placement;
use crate::platforms::Seen;
use crate::settings::Settings;
use crate::sharing::Own;
use crate::standby::Handed;
use clock::{clock, deadline};
use end::{backoff, end, prune};
use start::start;
use waited::suspended;
use whittle_api::{
    Builder, CANCEL, Current, FailureReason, ImageBuild, ImageBuildStatus, MissingKind, READY,
    REQUESTED_AT, Reason, Stage, WebhookStatus, find,
};
use whittle_build::inputs::Inputs;
use whittle_build::report::Report;
use whittle_build::report::failed;

/// Characters of a request that stand in the status.
const REQUEST: usize = 256;

/// What was read for one ImageBuild.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The ImageBuild, read live.
    pub build: ImageBuild,
    /// The Builder that it names.
    pub builder: Option<Builder>,
    /// What it has to itself of that kind, where that one says so.
    pub own: Option<Own>,
    /// The daemons that its Builder has for platforms which it builds, before an attempt starts.
    pub platforms: Vec<Seen>,
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
    /// The path of its webhook, where it has one.
    pub webhook: Option<String>,
    /// What its source of Flux stands for, where it has one that exists.
    pub flux: Option<Object>,
    /// Other builds on the same builder.
    pub queue: Queue,
    /// Where the builder's container was killed for memory since the build began: its limit.
    pub builder_out_of_memory: Option<OutOfMemory>,
    /// Where the checks of the pushed image stand, platform by platform; empty before the push.
    pub checks: Vec<Check>,
    /// Where the trials of an image stand that is to be made smaller, platform by platform.
    pub trials: Vec<Trial>,
    /// Before an attempt starts: names of the Jobs of checks that the status does not name. A controller that went
    /// on though another one had taken its place may have left them.
    pub stray_checks: Vec<String>,
    /// Before the first attempt starts: Jobs that were made in advance for it.
    pub standbys: Vec<Standby>,
    /// What became of the request of an attempt that such a Job carries out; none where this process has offered none.
    pub handed: Option<Handed>,
}

/// What to do next, in this order: stop, write the status, act, tell; once the check of an image has ended and its build goes on,
/// the status is written first.
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

impl Step {
    /// Looks again after this long at the latest, where that is said.
    fn within(self, most: Option<SignedDuration>) -> Self {
        let both = self.look_again.into_iter().chain(most);
        Self {
            look_again: both.min(),
            ..self
        }
    }
}

/// What to do once the status stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Nothing.
    None,
    /// Make the Builder named `default`.
    CreateBuilder(Box<Builder>),
    /// Write the Builder that the ImageBuild has to itself.
    ApplyBuilder(Box<Builder>),
    /// Make these objects.
    Start(Box<Attempt>),
    /// The attempt begins, and a Job that was made in advance carries it out: hand this over to its runner.
    Adopt(Box<Handover>),
    /// Hand this over once more: another process may have been about to.
    Hand(Box<Handover>),
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
        || is_built(build)
            && !build.status.as_ref().is_some_and(waits)
            && rollback::is_answered(build)
}

/// How long nothing has to be looked at, where it is settled: until its schedule has a build begin. None where there is no such
/// time, no time where it has come.
pub fn rests(build: &ImageBuild, now: Timestamp) -> Option<SignedDuration> {
    let schedule = build.status.as_ref()?.schedule.as_ref()?;
    let next = schedule.next.as_ref()?.0;
    Some(next.duration_since(now).max(SignedDuration::ZERO))
}

/// True where nothing is to be built until the ImageBuild changes.
pub fn is_built(build: &ImageBuild) -> bool {
    build.metadata.deletion_timestamp.is_some()
        || build.status.as_ref().is_some_and(|status| {
            status.current.is_none()
                && status.pending.is_none()
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

/// Since when the attempt before this one may have lost its builder, where that is why it failed.
pub fn builder_lost_at(current: &Current) -> Option<Timestamp> {
    let why = current.last_failure.as_deref()?;
    let lost = why.starts_with(FailureReason::BuilderLost.as_str());
    Some(lost_at(current).filter(|_| lost)? - LOST_BEFORE)
}

/// When the attempt before this one was told to have failed.
pub fn lost_at(current: &Current) -> Option<Timestamp> {
    Some(current.retry_at.as_ref()?.0 - end::backoff(current.attempt - 1))
}

/// True for the status of a build that waits for its turn.
pub fn says_queued(status: &ImageBuildStatus) -> bool {
    waits_for(status, &[Reason::Queued])
}

/// True where the build under way waits for one of these reasons.
fn waits_for(status: &ImageBuildStatus, reasons: &[Reason]) -> bool {
    let waiting = status.waiting();
    waiting.is_some_and(|waiting| reasons.contains(&waiting.reason))
}

/// How long after a builder was lost that may be told.
const LOST_BEFORE: SignedDuration = SignedDuration::from_secs(30);

/// How many builds a replica of a Builder takes at a time.
pub fn per_replica(builder: &Builder) -> usize {
    usize::try_from(builder.spec.max_concurrent_builds)
        .unwrap_or(1)
        .max(1)
}

/// How many builds a Builder takes at a time: of several replicas those that are up do.
pub fn most(builder: &Builder) -> usize {
    per_replica(builder) * replicas_up(builder)
}

/// How many replicas of a Builder take builds; one where that takes builds at all.
fn replicas_up(builder: &Builder) -> usize {
    if !placement::has_several(builder) {
        return 1;
    }
    let seats = placement::seats(builder, |_| 0);
    let up = seats.iter().filter(|seat| seat.down_since.is_none());
    up.count().max(1)
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
    if build.annotations().get(CANCEL).is_none() {
        status.last_handled_cancel = None;
    }
    rollback::forget(build, &mut status);
    let schedule = due::by_schedule(&mut status, build, now);
    say_triggers(&mut status, build, Word::None, now);
    status.webhook = observed.webhook.clone().map(|path| WebhookStatus { path });
    unscheduled(observed, settings, status, due, now).within(schedule)
}

/// The next step, but for the schedule.
fn unscheduled(
    observed: &Observed,
    settings: &Settings,
    mut status: ImageBuildStatus,
    due: bool,
    now: Timestamp,
) -> Step {
    let build = &observed.build;
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
    let waits = waits && step.status.early.is_some();
    step.within(waits.then_some(early::LOOK))
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
        // A change that is held takes the place of nothing that was asked for meanwhile.
        Some(current)
            if due && !(build.spec.suspend && rollback::is_under_way(&status))
                || due::is_together(&status, now) && !build.spec.suspend =>
        {
            // New input while the old is being built: the old attempt has no more use, whatever it has told.
            status.early = None;
            if rollback::is_under_way(&status) {
                rollback::superseded(&mut status);
            }
            status::end(&mut status, build, Reason::Superseded, None, now);
            if build.spec.suspend {
                // It came to nothing: the same spec would be due again.
                status.input = None;
                status::held(&mut status, build, now);
            } else {
                begin(&mut status, build, (due, true), now);
                let message = match due {
                    true => "stopping the build of the previous spec",
                    false => "stopping a build that has just begun: its source has moved again",
                };
                status::working(
                    &mut status,
                    build,
                    Reason::Superseding,
                    message.to_owned(),
                    now,
                );
            }
            Step {
                stop: vec![current.job],
                look_again: Some(SignedDuration::from_secs(5)),
                ..step(status, Action::None)
            }
        }
        Some(current) => match due::cancels(build, &status).filter(|_| may_cancel(observed)) {
            Some(asked) => cancel(build, status, &current, asked, now),
            None => go_on(observed, settings, status, &current, now),
        },
        None if (!due || build.spec.suspend) && rollback::asked(build).is_some() => {
            let asked = rollback::asked(build).unwrap_or_default();
            let mut step = rollback::begin(observed, settings, status, asked, now);
            if due && step.status.current.is_none() {
                // It was refused, and what is held back still is.
                status::held(&mut step.status, build, now);
            }
            step
        }
        None => match (due, due::in_time(&mut status, now)) {
            (true, _) | (_, Some(_)) if build.spec.suspend => {
                status::held(&mut status, build, now);
                step(status, Action::None)
            }
            (true, _) | (_, Some(SignedDuration::ZERO)) => {
                begin(&mut status, build, (due, false), now);
                at_its_turn(observed, settings, status, now)
            }
            (false, asked) => {
                status::restate(&mut status, build, now);
                fetch::go_on(observed, settings, status, now).within(asked)
            }
        },
    }
}

/// A build has just become due.
fn at_its_turn(
    observed: &Observed,
    settings: &Settings,
    mut status: ImageBuildStatus,
    now: Timestamp,
) -> Step {
    let build = &observed.build;
    if observed.queue.waiting > 0 {
        // Several became due at once: each says so first, and then all see one order.
        let message = "queued: waiting for its turn on the builder".to_owned();
        status::working(&mut status, build, Reason::Queued, message, now);
        return Step {
            look_again: Some(SignedDuration::from_millis(500)),
            ..step(status, Action::None)
        };
    }
    start(observed, settings, status, now)
}

/// True where there is something to end: what has ended already counts, and tags that are being moved may have moved.
fn may_cancel(observed: &Observed) -> bool {
    let status = observed.build.status.as_ref();
    let current = status.and_then(|status| status.current.as_ref());
    let stage = current.map(|current| &current.stage);
    let tags = stage.is_some_and(Stage::is_tagging);
    // The attempt that has pushed it has ended long ago.
    let pushed = stage.is_some_and(|stage| stage.pushed().is_some());
    !tags && (pushed || !matches!(observed.attempt, State::Told(_) | State::Ended(_)))
}

/// The annotation whittle.dev/cancel ends the build under way. The next trigger builds again.
fn cancel(
    build: &ImageBuild,
    mut status: ImageBuildStatus,
    current: &Current,
    asked: &str,
    now: Timestamp,
) -> Step {
    status.last_handled_cancel = due::cancel_handled(build);
    status.early = None;
    due::cancel(&mut status);
    let message = format!(
        "canceled: build {} was ended by the annotation {CANCEL}={asked}: a change of the spec, a request or a trigger builds \
         again",
        status.build.unwrap_or(1)
    );
    let Report::Failed(failed) = failed(FailureReason::Canceled, message) else {
        unreachable!("it was made as a failure");
    };
    let notice = status::fail(&mut status, build, failed, now);
    Step {
        stop: vec![current.job.clone()],
        notice: Some(notice),
        ..step(status, Action::None)
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

/// Enters the next build into the status: from here on it has a number, a start and a name. `due`: the inputs differ.
/// `together`: it takes the place of another one.
fn begin(
    status: &mut ImageBuildStatus,
    build: &ImageBuild,
    (due, together): (bool, bool),
    now: Timestamp,
) {
    let number = status.build.unwrap_or(0) + 1;
    status.trigger = Some(due::take(status, build, due, together, now));
    status.last_handled_cancel = due::cancel_handled(build);
    status.build = Some(number);
    status.input = Some(input(build));
    status.started_at = Some(Time(now));
    status.completed_at = None;
    status.duration_seconds = None;
    status.queued_seconds = None;
    status.phase_milliseconds = None;
    let request = build.annotations().get(REQUESTED_AT);
    status.last_handled_request = request.map(|text| text.chars().take(REQUEST).collect());
    status.current = Some(Current {
        replica: None,
        last_replica: None,
        attempt: 1,
        job: attempt_name(build, number, build.metadata.generation.unwrap_or(0), 1),
        generation: build.metadata.generation.unwrap_or(0),
        message: None,
        retry_at: None,
        last_failure: None,
        since: Some(Time(now)),
        started: false,
        waiting: None,
        progress: None,
        waiting_since: Some(Time(now)),
        standby: None,
        stage: Stage::Building,
    });
}

/// The Job of an attempt.
pub(super) fn attempt_name(
    build: &ImageBuild,
    number: i64,
    generation: i64,
    attempt: i32,
) -> String {
    names::attempt(
        &build.name_any(),
        &build.uid().unwrap_or_default(),
        generation,
        number,
        attempt,
    )
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
    if let Some(pending) = trying::pending(build, Some(&status)).filter(|it| !it.done) {
        return trying::go_on(observed, settings, status, &pending, now);
    }
    if let Some(pending) = checking::pending(build, Some(&status)) {
        return checking::go_on(observed, settings, status, &pending, now);
    }
    if let State::Pending(_) | State::Running | State::Told(_) | State::Ended(_) = &observed.attempt
    {
        clock::go_on(&mut status, now);
    }
    match &observed.attempt {
        State::Suspended(why) => suspended(observed, settings, status, (current, why), now),
        State::Absent | State::Leaving | State::Untaken if standby::is_adopted(build, &status) => {
            standby::instead(observed, settings, status, current, now)
        }
        State::Untaken => {
            let why = "the runner was ended before it began".to_owned();
            let report = failed(FailureReason::RunnerLost, why);
            end(observed, status, report, now)
        }
        State::Absent => start(observed, settings, status, now),
        State::Leaving | State::Foreign if deadline(build, &status, now) <= now => {
            let said = find(&status.conditions, READY).map(|c| c.message.clone());
            let message = format!(
                "timed out: not started within spec.timeout ({}): {}",
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
                Reason::JobDeleted,
                format!(
                    "Job {} is being deleted; the attempt starts again afterwards",
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
                "conflict: Job {} already exists and does not belong to this ImageBuild: delete it",
                current.job
            );
            status::blocked(&mut status, build, Reason::JobConflict, message, now);
            Step {
                look_again: Some(SignedDuration::from_secs(30)),
                ..step(status, Action::None)
            }
        }
        // Somebody has deleted its request or its credential: what is there is left alone.
        State::Pending(pending) if is_of_attempt(pending, build, current) => Step {
            look_again: Some(SignedDuration::from_secs(5)),
            ..start(observed, settings, status, now)
        },
        State::Pending(pending) => wait(build, status, pending, now),
        State::Running if standby::is_adopted(build, &status) => {
            standby::go_on(observed, settings, status, current, now)
        }
        State::Running => {
            let message = current.message.clone().unwrap_or_else(|| "building".into());
            status::working(&mut status, build, Reason::Building, message, now);
            step(status, Action::None)
        }
        State::Told(report) | State::Ended(report)
            if standby::is_adopted(build, &status) && standby::is_denied(report) =>
        {
            standby::instead(observed, settings, status, current, now)
        }
        State::Told(report) => early::believe(observed, status, report, now),
        State::Ended(report) => end(observed, status, report.clone(), now),
    }
}

/// True where what does not exist was made for this attempt.
fn is_of_attempt(pending: &Pending, build: &ImageBuild, current: &Current) -> bool {
    let credential = names::credential(&build.uid().unwrap_or_default(), &current.job);
    let missing = pending.missing.as_ref();
    missing.is_some_and(|missing| match missing.kind {
        MissingKind::ConfigMap => missing.name == current.job,
        MissingKind::Secret => missing.name == credential,
    })
}

fn wait(
    build: &ImageBuild,
    mut status: ImageBuildStatus,
    pending: &Pending,
    now: Timestamp,
) -> Step {
    status::wait(&mut status, build, pending, now);
    let started = clock(&status, now);
    // A Pod's own trouble is not all in its status: look at its events, ever less often, and within ten seconds as
    // long as nothing is known.
    let most = if pending.reason == Reason::Building {
        5
    } else {
        15
    };
    let waited = now.duration_since(started).as_secs().clamp(1, most);
    Step {
        look_again: Some(SignedDuration::from_secs(waited)),
        ..step(status, Action::None)
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
