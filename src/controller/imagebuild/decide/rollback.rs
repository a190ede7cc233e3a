//! The annotation whittle.dev/rollback: a runner moves the tags back to the image of an earlier build, and builds nothing.
//!
//! It goes the way of a build whose image is pushed: it has a number, a Job and an entry in the history. That it was begun is one
//! write of the status, which names the request: it begins once, whoever is killed meanwhile.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::{Action, Observed, Step, attempt_name, start, step};
use crate::imagebuild::status::{self, Notice};
use crate::settings::Settings;
use crate::watcher::last_revision;
use whittle_api::{
    ADVICE, BUILT, CONTRACT, Current, DebugStatus, FailureReason, HistoryEntry, ImageBuild,
    ImageBuildStatus, PROBED, READY, RECONCILING, ROLLBACK, Reason, RollbackState, RollbackStatus,
    STALLED, Stage, Started, TriggerReason, clear, rollback_asked,
};
use whittle_build::inputs::Inputs;
use whittle_build::report;
use whittle_build::report::{Built, Failed, Report};
use whittle_build::request::Tagging;
use whittle_build::variables;
use whittle_image::display_size;

/// Numbers of builds that a refusal names at most.
const NAMED: usize = 10;

/// What the annotation asks for, and has no answer yet.
pub fn asked(build: &ImageBuild) -> Option<String> {
    let asked = rollback_asked(build)?;
    let known = build.status.as_ref().and_then(|it| it.rollback.as_ref());
    known.is_none_or(|it| it.request != asked).then_some(asked)
}

/// True where nothing is left to do for the annotation: what it asks for was answered, or the answer is gone with it.
pub(super) fn is_answered(build: &ImageBuild) -> bool {
    match rollback_asked(build) {
        Some(_) => asked(build).is_none(),
        None => build.status.as_ref().is_none_or(|it| it.rollback.is_none()),
    }
}

/// True while tags are being moved back.
pub(super) fn is_under_way(status: &ImageBuildStatus) -> bool {
    let by = status.trigger.as_ref().map(|it| it.reason);
    let tagging = |current: &Current| current.stage.is_tagging();
    by == Some(TriggerReason::Rollback) && status.current.as_ref().is_some_and(tagging)
}

/// An answer stands for as long as its question: the same one may be asked again once it was taken away.
pub(super) fn forget(build: &ImageBuild, status: &mut ImageBuildStatus) {
    if rollback_asked(build).is_none() && !is_under_way(status) {
        status.rollback = None;
    }
}

/// Another build has taken its place.
pub(super) fn superseded(status: &mut ImageBuildStatus) {
    let message = "a build of a changed spec has taken its place";
    ended(status, RollbackState::Failed, message.to_owned());
}

/// What is gone back to.
struct Target {
    /// The build that made the image.
    made_by: i64,
    digest: String,
    debug: Option<String>,
    revision: Option<String>,
    tags: Vec<String>,
}

/// Begins it, or says why not.
pub(super) fn begin(
    observed: &Observed,
    settings: &Settings,
    mut status: ImageBuildStatus,
    asked: String,
    now: Timestamp,
) -> Step {
    let build = &observed.build;
    let target = match target(build, &status, &asked) {
        Ok(target) => target,
        Err(why) => return refuse(build, status, asked, why, now),
    };
    let (number, generation) = (
        status.build.unwrap_or(0) + 1,
        build.metadata.generation.unwrap_or(0),
    );
    // What was seen of the source up to here is no news because an older commit stands in `revision` afterwards.
    status.last_revision = last_revision(&status).cloned();
    status.trigger = Some(Started {
        reason: TriggerReason::Rollback,
        detail: format!("to build {}", target.made_by),
        since: Time(now),
        revision: None,
        tree: None,
        read: false,
        row: None,
    });
    status.rollback = Some(RollbackStatus {
        request: asked,
        to: Some(target.made_by),
        state: RollbackState::UnderWay,
        message: format!("rolling back to build {}", target.made_by),
    });
    status.build = Some(number);
    status.started_at = Some(Time(now));
    status.completed_at = None;
    status.duration_seconds = None;
    status.queued_seconds = None;
    status.phase_milliseconds = None;
    let pushed = Built {
        digest: target.digest,
        revision: target.revision,
        tags: target.tags,
        debug: target.debug.map(|digest| DebugStatus {
            image: format!("{}@{digest}", build.spec.output.image),
            digest,
            size: 0,
        }),
        ..Built::default()
    };
    status.current = Some(Current {
        replica: None,
        last_replica: None,
        attempt: 1,
        job: attempt_name(build, number, generation, 1),
        generation,
        message: Some(format!("rolling back to build {}", target.made_by)),
        retry_at: None,
        last_failure: None,
        since: Some(Time(now)),
        started: false,
        waiting: None,
        progress: None,
        waiting_since: None,
        standby: None,
        stage: Stage::Tagging {
            pushed: report::keep(&Report::Succeeded(pushed)),
        },
    });
    start(observed, settings, status, now)
}

/// The image that is asked for, or why there is none.
fn target(build: &ImageBuild, status: &ImageBuildStatus, asked: &str) -> Result<Target, String> {
    let word = asked.split_whitespace().next().unwrap_or_default();
    let cure = || choice(build, status);
    let number: i64 = word.parse().map_err(|_| {
        format!(
            "the annotation {ROLLBACK} is not the number of a build: {word:?}: {}",
            cure()
        )
    })?;
    let entry = status.history.iter().find(|it| it.build == number);
    let Some(entry) = entry else {
        let why = format!("build {number} is not in status.history: {}", cure());
        return Err(why);
    };
    // Whoever may write the status has written it: it becomes a part of a URL.
    let debug = entry.debug.as_deref();
    if [entry.image(), debug]
        .into_iter()
        .flatten()
        .any(|it| !whittle_api::is_digest(it))
    {
        return Err(format!(
            "status.history has no valid digest for build {number}: {}",
            cure()
        ));
    }
    let Some(digest) = entry.image() else {
        let why = format!(
            "build {number} has no image that tags have pointed to ({}): {}",
            entry.result,
            cure()
        );
        return Err(why);
    };
    let tags = tags(build, entry);
    if tags.is_empty() {
        return Err(format!(
            "no tag of spec.output.tags can be moved to the image of build {number}: all have variables that its revision does not \
             give: name a tag without variables"
        ));
    }
    Ok(Target {
        made_by: entry.made_by(),
        digest: digest.to_owned(),
        debug: entry.debug.clone().filter(|_| build.spec.debug.is_some()),
        revision: entry.revision.clone(),
        tags,
    })
}

/// The tags as that build has made them, of those that the spec has now.
fn tags(build: &ImageBuild, entry: &HistoryEntry) -> Vec<String> {
    let known = variables::Known::of_revision(entry.revision.as_deref(), entry.made_by());
    variables::known_tags(&Inputs::of(build), &known)
}

/// Which builds can be had.
fn choice(build: &ImageBuild, status: &ImageBuildStatus) -> String {
    let images = status.history.iter().filter(|it| it.image().is_some());
    let mut numbers: Vec<String> = images.map(|it| it.build.to_string()).collect();
    if numbers.is_empty() {
        return match build.spec.history_limit {
            0 => "no build can be gone back to: spec.historyLimit is 0".into(),
            _ => "no build can be gone back to: none in status.history has succeeded".into(),
        };
    }
    let more = numbers.len() > NAMED;
    numbers.truncate(NAMED);
    format!(
        "these can be gone back to: {}{}",
        numbers.join(", "),
        if more { " and older ones" } else { "" }
    )
}

/// Nothing is begun, and nothing else changes.
fn refuse(
    build: &ImageBuild,
    mut status: ImageBuildStatus,
    request: String,
    why: String,
    now: Timestamp,
) -> Step {
    let message = format!("refused: {why}");
    status.rollback = Some(RollbackStatus {
        request,
        to: None,
        state: RollbackState::Refused,
        message: message.clone(),
    });
    status::restate(&mut status, build, now);
    Step {
        notice: Some(Notice {
            warning: true,
            reason: Reason::RollbackRefused,
            message,
        }),
        ..step(status, Action::None)
    }
}

/// What the runner gets; none where a build is under way.
pub(super) fn tagging(status: &ImageBuildStatus) -> Option<Tagging> {
    let built = pushed(status)?;
    Some(Tagging::Back {
        image: built.digest,
        debug: built.debug.map(|debug| debug.digest),
        tags: built.tags,
    })
}

/// What is gone back to; none where a build is under way.
fn pushed(status: &ImageBuildStatus) -> Option<Built> {
    let current = status.current.as_ref().filter(|_| is_under_way(status))?;
    super::checking::pushed(current)
}

/// The build whose image is gone back to.
fn made_by(status: &ImageBuildStatus) -> i64 {
    let to = status.rollback.as_ref().and_then(|it| it.to);
    to.unwrap_or_default()
}

fn ended(status: &mut ImageBuildStatus, state: RollbackState, message: String) {
    if let Some(rollback) = &mut status.rollback {
        (rollback.state, rollback.message) = (state, message);
    }
}

/// The tags point to it.
pub(super) fn succeed(
    build: &ImageBuild,
    status: &mut ImageBuildStatus,
    told: Built,
    now: Timestamp,
) -> Notice {
    let known = pushed(status).unwrap_or_default();
    let to = made_by(status);
    let built = Built {
        digest: known.digest,
        revision: known.revision,
        tags: known.tags,
        platforms: told.platforms,
        debug: told.debug,
        ..Built::default()
    };
    status::end(status, build, Reason::Succeeded, Some(&built), now);
    if let Some(entry) = status.history.first_mut() {
        entry.rolled_back_to = Some(to);
    }
    let (tags, without_debug) = (
        built.tags.join(", "),
        build.spec.debug.is_some() && built.debug.is_none(),
    );
    status::enter_image(status, build, built, now);
    status.steps = None;
    status.failure = None;
    clear(&mut status.conditions, ADVICE);
    let mut message = format!(
        "rolled back to build {to}: {} ({}; tags {tags}); nothing was built, contract and healthCheck were not asked again",
        status.image.as_deref().unwrap_or_default(),
        status.size.map_or("size unknown".into(), display_size),
    );
    if without_debug {
        message += "; tags of the image for debugging were left alone: which one belongs to that build is not known";
    }
    let why = (Reason::RolledBack, message.as_str());
    status::put(status, build, READY, Some(true), why, now);
    status::put(status, build, BUILT, Some(true), why, now);
    clear(&mut status.conditions, RECONCILING);
    clear(&mut status.conditions, STALLED);
    let not_asked = format!(
        "not asked again: rolled back to build {to}, which was held to the spec of its time"
    );
    let why = (Reason::RolledBack, not_asked.as_str());
    status::put(status, build, CONTRACT, None, why, now);
    match build.spec.health_check.is_some() {
        true => status::put(status, build, PROBED, None, why, now),
        false => clear(&mut status.conditions, PROBED),
    }
    ended(status, RollbackState::Done, message.clone());
    Notice {
        warning: false,
        reason: Reason::RolledBack,
        message,
    }
}

/// It came to nothing. Where the image is gone no tag has moved, and all is as before.
pub(super) fn fail(
    build: &ImageBuild,
    status: &mut ImageBuildStatus,
    mut failed: Failed,
    now: Timestamp,
) -> Notice {
    let to = made_by(status);
    let reason = failed.failure.reason;
    failed.failure.message = format!("rollback to build {to} failed: {}", failed.failure.message);
    failed.failure.image = None;
    // It is of no commit, and says nothing of the source.
    failed.revision = None;
    let message = failed.failure.message.clone();
    ended(status, RollbackState::Failed, message.clone());
    if reason != FailureReason::ImageNotFound {
        return status::fail(status, build, failed, now);
    }
    status::end(status, build, reason.into(), None, now);
    // They were the last build's.
    status.steps = None;
    clear(&mut status.conditions, READY);
    clear(&mut status.conditions, STALLED);
    status::restate(status, build, now);
    Notice {
        warning: true,
        reason: reason.into(),
        message,
    }
}

/// What goes on, in the status.
pub(super) fn words(status: &ImageBuildStatus) -> Option<String> {
    is_under_way(status).then(|| format!("rolling back to build {}", made_by(status)))
}

#[cfg(test)]
#[path = "rollback_tests.rs"]
mod tests;
