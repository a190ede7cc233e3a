//! What the status says at each turn of a build.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::decide;
use super::minimized;
use super::outcome::Pending as Wait;
use whittle_api::{
    ADVICE, BUILT, Base, CONTRACT, FailureReason, HistoryEntry, ImageBuild, ImageBuildStatus,
    MINIMIZED, PROBED, Pending, READY, RECONCILING, Reason, STALLED, TriggerReason, bounded, clear,
    is_true, set,
};
use whittle_build::contract;
use whittle_build::contract::Breach;
use whittle_build::report::{Built, Failed};
use whittle_build::variables;
use whittle_dockerfile::advice;
use whittle_dockerfile::advice::Hint;
use whittle_image::display_size;

/// An Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Warning, or Normal.
    pub warning: bool,
    /// Why.
    pub reason: Reason,
    /// A sentence for people.
    pub message: String,
}

pub(super) fn put(
    status: &mut ImageBuildStatus,
    build: &ImageBuild,
    kind: &'static str,
    to: Option<bool>,
    why: (Reason, &str),
    now: Timestamp,
) {
    let generation = build.metadata.generation;
    set(&mut status.conditions, kind, to, why, generation, now);
}

/// Work is under way, or waits for something that comes by itself.
pub fn working(
    status: &mut ImageBuildStatus,
    build: &ImageBuild,
    reason: Reason,
    message: String,
    now: Timestamp,
) {
    wait(status, build, &Wait::new(reason, message), now);
}

/// Work waits for a person; it goes on by itself once the cause is mended.
pub fn blocked(
    status: &mut ImageBuildStatus,
    build: &ImageBuild,
    reason: Reason,
    message: String,
    now: Timestamp,
) {
    let pending = Wait::new(reason, message).blocked();
    wait(status, build, &pending, now);
}

/// Work is under way, or waits: for a person, or for something that comes by itself.
pub fn wait(status: &mut ImageBuildStatus, build: &ImageBuild, pending: &Wait, now: Timestamp) {
    let why = (pending.reason, pending.message.as_str());
    let ready = pending.blocked.then_some(false);
    put(status, build, READY, ready, why, now);
    put(status, build, RECONCILING, Some(true), why, now);
    clear(&mut status.conditions, STALLED);
    if let Some(current) = &mut status.current {
        current.waiting = pending.waiting();
    }
}

/// `spec.suspend` holds a build that is due.
pub fn held(status: &mut ImageBuildStatus, build: &ImageBuild, now: Timestamp) {
    let message = "suspended: the build of this spec starts once spec.suspend is false";
    hold_back(status, build, message, now);
}

/// `spec.suspend` holds something: what it is.
pub fn hold_back(status: &mut ImageBuildStatus, build: &ImageBuild, message: &str, now: Timestamp) {
    let held = Wait::new(Reason::Suspended, message.to_owned()).blocked();
    wait(status, build, &held, now);
    clear(&mut status.conditions, RECONCILING);
}

/// Nothing is due: what the last build came to holds for this generation too.
pub fn restate(status: &mut ImageBuildStatus, build: &ImageBuild, now: Timestamp) {
    let generation = build.metadata.generation;
    // What was held back says nothing of the last build: neither that it succeeded, nor that it has failed for good.
    let conditions = &status.conditions;
    if !is_true(conditions, READY) && !is_true(conditions, STALLED) {
        match (status.failure.clone(), status.image.clone()) {
            (Some(failure), _) => {
                let why = (failure.reason.into(), failure.message.as_str());
                put(status, build, READY, Some(false), why, now);
                put(status, build, STALLED, Some(true), why, now);
            }
            (None, Some(image)) => put(
                status,
                build,
                READY,
                Some(true),
                (Reason::Succeeded, &image),
                now,
            ),
            (None, None) => {}
        }
    }
    for condition in &mut status.conditions {
        condition.observed_generation = generation;
    }
    clear(&mut status.conditions, RECONCILING);
}

/// Enters the end of the current build into times and history.
pub fn end(
    status: &mut ImageBuildStatus,
    build: &ImageBuild,
    result: Reason,
    built: Option<&Built>,
    now: Timestamp,
) {
    let job = job(status, build);
    decide::count_wait(status, now);
    let current = status.current.take();
    let replica = current.as_ref().and_then(|current| current.replica);
    let generation = current.map_or(0, |current| current.generation);
    let all = seconds_since(status.started_at.as_ref(), now);
    // One that ends before its first attempt has waited all the time.
    let queued = status.queued_seconds.unwrap_or(all).min(all);
    let seconds = status.started_at.as_ref().map(|_| all - queued);
    let queued = status.started_at.as_ref().map(|_| queued);
    let unchanged = built.is_some_and(|built| {
        let tags = tags(build, built);
        let known = |tag: &String| status.tags.iter().flatten().any(|known| known == tag);
        status.digest.as_deref() == Some(&built.digest) && tags.iter().all(known)
    });
    status.completed_at = Some(Time(now));
    status.duration_seconds = seconds;
    status.queued_seconds = queued;
    status.history.insert(
        0,
        HistoryEntry {
            build: status.build.unwrap_or(1),
            generation,
            result: result.as_str().to_owned(),
            digest: built.map(|built| built.digest.clone()),
            size: built.and_then(largest),
            revision: built.and_then(|built| built.revision.clone()),
            trigger: status.trigger.as_ref().map(|trigger| trigger.reason),
            rolled_back_to: None,
            debug: built.and_then(|built| Some(built.debug.as_ref()?.digest.clone())),
            unchanged,
            completed_at: Some(Time(now)),
            duration_seconds: seconds,
            queued_seconds: queued,
            job,
            replica,
        },
    );
    status
        .history
        .truncate(usize::try_from(build.spec.history_limit).unwrap_or(0));
}

/// The Job that the build's log is of: not one that has moved its tags alone.
fn job(status: &ImageBuildStatus, build: &ImageBuild) -> Option<String> {
    let current = status.current.as_ref()?;
    let (generation, number) = (current.generation, status.build?);
    let own = || decide::attempt_name(build, number, generation, current.attempt);
    let job = current.standby.clone().unwrap_or_else(own);
    current.started.then_some(job)
}

/// Whole seconds from `start` to `now`; 0 without a start.
pub fn seconds_since(start: Option<&Time>, now: Timestamp) -> i64 {
    start.map_or(0, |start| now.duration_since(start.0).as_secs().max(0))
}

fn largest(built: &Built) -> Option<i64> {
    built.platforms.iter().map(|platform| platform.size).max()
}

/// The image stands in the registry, and its tags point to it.
pub fn succeed(
    status: &mut ImageBuildStatus,
    build: &ImageBuild,
    mut built: Built,
    now: Timestamp,
) -> Notice {
    end(status, build, Reason::Succeeded, Some(&built), now);
    let advice = std::mem::take(&mut built.advice);
    let breaches = std::mem::take(&mut built.breaches);
    let bases = std::mem::take(&mut built.bases);
    let (steps, phases, revision) = (built.steps, built.phases, built.revision.clone());
    let image = enter_image(status, build, built, now);
    advise(status, build, &advice, now);
    hold(status, build, &breaches, now);
    if build.spec.health_check.is_none() {
        clear(&mut status.conditions, PROBED);
    }
    decide::read(status, revision.as_deref(), true, now);
    know_bases(status, bases);
    status.steps = Some(steps);
    status.phase_milliseconds = phases;
    status.failure = None;
    let waited = match status.queued_seconds {
        Some(seconds) if seconds > 0 => format!(", after waiting for {seconds} s"),
        _ => String::new(),
    };
    let unchanged = status.history.first().is_some_and(|entry| entry.unchanged);
    let size = status.display_size.as_deref().unwrap_or("size unknown");
    let message = format!(
        "{}{image} ({size}{}; {} of {} steps from the cache; {} s{waited})",
        if unchanged { "unchanged: " } else { "" },
        minimized::instead_of(status),
        steps.cached,
        steps.total,
        status.duration_seconds.unwrap_or(0)
    );
    let why = (Reason::Succeeded, message.as_str());
    put(status, build, READY, Some(true), why, now);
    put(status, build, BUILT, Some(true), why, now);
    clear(&mut status.conditions, RECONCILING);
    clear(&mut status.conditions, STALLED);
    Notice {
        warning: false,
        reason: Reason::Succeeded,
        message,
    }
}

/// Enters the image that the tags point to; it is returned with its digest.
pub(super) fn enter_image(
    status: &mut ImageBuildStatus,
    build: &ImageBuild,
    built: Built,
    now: Timestamp,
) -> String {
    let image = format!("{}@{}", build.spec.output.image, built.digest);
    status.size = largest(&built);
    status.display_size = status.size.map(display_size);
    status.image = Some(image.clone());
    status.tags = Some(tags(build, &built));
    let what = (built.digest.as_str(), status.size);
    minimized::enter(status, build, built.minimized, what, now);
    status.digest = Some(built.digest);
    let names: Vec<_> = built
        .platforms
        .iter()
        .map(|platform| platform.platform.as_str())
        .collect();
    status.display_platforms = Some(names.join(","));
    status.platforms = built.platforms;
    status.debug = built.debug;
    status.revision = built.revision;
    image
}

/// The tags that were moved. A runner that does not name them has moved those of the spec.
fn tags(build: &ImageBuild, built: &Built) -> Vec<String> {
    match built.tags.is_empty() {
        true => variables::literal(&build.spec.output.tags),
        false => built.tags.clone(),
    }
}

/// The images that this build was made from. What was asked for because one of them had moved is done where the build has
/// that; and what was seen of one stays known.
fn know_bases(status: &mut ImageBuildStatus, mut bases: Vec<Base>) {
    let of = |all: &[Base], image: &str| all.iter().find(|base| base.image == image).cloned();
    let done = status.bases.iter().all(|old| {
        let new = of(&bases, &old.image);
        old.seen.is_none() || new.is_none_or(|new| Some(&new.digest) == old.seen.as_ref())
    });
    let by_base = |pending: &Pending| pending.reason == TriggerReason::BaseImage;
    if done && status.pending.as_ref().is_some_and(by_base) {
        status.pending = None;
    }
    for base in &mut bases {
        let old = of(&status.bases, &base.image);
        base.seen = old
            .filter(|old| old.digest == base.digest)
            .and_then(|old| old.seen);
    }
    status.bases = bases;
}

/// True for failures of the platform: where they come before the source was read, it has not been tried.
fn is_of_platform(reason: FailureReason) -> bool {
    use FailureReason as R;
    let more = [
        R::Timeout,
        R::OutOfMemory,
        R::CacheFull,
        R::ImagePullFailed,
        R::BuilderNotFound,
        R::SecretNotFound,
    ];
    reason.is_transient() || more.contains(&reason)
}

/// Hints, one a line; they never change what became of the build.
fn advise(status: &mut ImageBuildStatus, build: &ImageBuild, hints: &[Hint], now: Timestamp) {
    let lines = advice::lines(hints).join("\n");
    let (to, why) = match hints.first() {
        Some(first) => (true, (Reason::Hint(first.kind), lines.as_str())),
        None => (false, (Reason::NoHints, "no hints")),
    };
    put(status, build, ADVICE, Some(to), why, now);
}

/// What the image is held to, and what of it is broken, one breach a line.
fn hold(status: &mut ImageBuildStatus, build: &ImageBuild, breaches: &[Breach], now: Timestamp) {
    let reason = match breaches.first() {
        None => {
            let contract = build.spec.contract.clone().unwrap_or_default();
            let kept = contract::kept(&contract, status.size);
            put(
                status,
                build,
                CONTRACT,
                Some(true),
                (Reason::Kept, &kept),
                now,
            );
            return;
        }
        Some(first) if first.enforced => FailureReason::ContractBroken.into(),
        Some(_) => Reason::Warned,
    };
    let lines: Vec<String> = breaches.iter().map(Breach::line).collect();
    let lines = lines.join("\n");
    put(status, build, CONTRACT, Some(false), (reason, &lines), now);
}

/// There is no image, and there will be none before a change.
pub fn fail(
    status: &mut ImageBuildStatus,
    build: &ImageBuild,
    failed: Failed,
    now: Timestamp,
) -> Notice {
    let reason = Reason::from(failed.failure.reason);
    if build.spec.minimize.is_none() {
        clear(&mut status.conditions, MINIMIZED);
    }
    end(status, build, reason, None, now);
    if failed.revision.is_some() && failed.failure.reason != FailureReason::SourceNotFound {
        // What was tried; the image and digest stay those of the last success.
        if let Some(entry) = status.history.first_mut() {
            entry.revision = failed.revision.clone();
        }
    }
    let tried = !is_of_platform(failed.failure.reason);
    decide::read(status, failed.revision.as_deref(), tried, now);
    status.steps = Some(failed.steps);
    status.phase_milliseconds = failed.phases;
    if !failed.advice.is_empty() {
        advise(status, build, &failed.advice, now);
    }
    if failed.failure.reason == FailureReason::ContractBroken {
        hold(status, build, &failed.breaches, now);
    }
    if let (Some(entry), Some(image)) = (status.history.first_mut(), &failed.failure.image) {
        entry.digest = image.split_once('@').map(|(_, digest)| digest.to_owned());
    }
    let mut message = failed.failure.message.clone();
    if let Some(line) = failed.failure.dockerfile_line {
        message = format!("{}:{line}: {message}", build.spec.dockerfile);
    }
    let message = bounded(message, 1024);
    status.failure = Some(failed.failure);
    let why = (reason, message.as_str());
    put(status, build, READY, Some(false), why, now);
    put(status, build, BUILT, Some(false), why, now);
    put(status, build, STALLED, Some(true), why, now);
    clear(&mut status.conditions, RECONCILING);
    Notice {
        warning: true,
        reason,
        message,
    }
}
