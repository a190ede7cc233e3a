//! Which runners are to wait beside a Builder: pure.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::candidates::is_in_advance;
use crate::imagebuild::decide;
use crate::imagebuild::in_advance::in_advance;
use crate::imagebuild::job::{self, Attempt};
use crate::names;
use crate::pods;
use crate::settings::Settings;
use whittle_api::quantity;
use whittle_api::{Builder, ImageBuild, ImageBuildStatus, READY, Sharing, is_true};

/// A runner waits no longer than this, however long its Builder stays awake.
pub const MOST_IDLE: SignedDuration = SignedDuration::from_hours(24);
/// How long its Pod may take to start.
const STARTS: SignedDuration = SignedDuration::from_secs(90);

/// What was read of one Builder.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The Builder; none where it does not exist.
    pub builder: Option<Builder>,
    /// Its ImageBuilds that matter, by name.
    pub builds: BTreeMap<String, ImageBuild>,
    /// Names of those for which a runner may wait, the first ones first.
    pub first: Vec<String>,
    /// The Jobs of its runners that were made in advance.
    pub jobs: Vec<Job>,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Names of Jobs to throw away.
    pub remove: Vec<String>,
    /// What is to be made, after that.
    pub make: Vec<Attempt>,
    /// Of those that are thrown away: no other of the same name is made.
    pub hopeless: Vec<String>,
    /// When to look again though nothing has changed.
    pub look_again: Option<SignedDuration>,
}

/// True where a runner may wait for the next build of this ImageBuild, as far as it says: its last build has succeeded, and the files
/// that are mounted are no part of what is built. (A kubelet takes a minute until a changed ConfigMap is seen in a Pod that runs; of
/// a source of Flux it is not known before what is mounted.) What Kueue counts waits in its queue, and nowhere else.
pub fn may_wait(build: &ImageBuild) -> bool {
    let source = &build.spec.source;
    let labels = build.labels();
    let status = build.status.as_ref();
    build.metadata.deletion_timestamp.is_none()
        && !build.spec.suspend
        && source.config_map.is_none()
        && source.flux.is_none()
        && !labels.contains_key(names::KUEUE_QUEUE)
        && job::refusal(build).is_none()
        && status.is_some_and(|it| {
            it.current.is_none()
                && it.early.is_none()
                && it.failure.is_none()
                && is_true(&it.conditions, READY)
        })
}

/// How long a runner waits beside this Builder after the last build of its ImageBuild.
pub fn waits(builder: &Builder) -> SignedDuration {
    let idle = quantity::duration(&builder.spec.idle_timeout);
    match idle.is_zero() {
        true => MOST_IDLE,
        false => idle.min(MOST_IDLE),
    }
}

/// How many runners may wait beside this Builder now.
pub fn most(builder: &Builder) -> usize {
    let takes = builder.metadata.deletion_timestamp.is_none()
        && builder.spec.sharing == Sharing::Namespace
        && decide::is_ready(builder);
    let most = usize::try_from(builder.spec.standby).unwrap_or(0);
    if takes { most.min(16) } else { 0 }
}

/// What follows from it.
pub fn plan(seen: &Seen, settings: &Settings, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let builder = seen.builder.as_ref();
    let most = builder.map_or(0, most);
    let mut wanted = match builder {
        Some(builder) => wanted(seen, builder, most, settings, now),
        None => BTreeMap::new(),
    };
    let mut standing = 0;
    for job in seen.jobs.iter().filter(|job| is_in_advance(*job)) {
        let name = job.name_any();
        if job.metadata.deletion_timestamp.is_some() {
            // No other of this name can be made before it has gone.
            wanted.remove(&name);
            continue;
        }
        let owner = job.annotations().get(names::IMAGE_BUILD);
        let build = owner.and_then(|owner| seen.builds.get(owner));
        let left = wanted.get(&name).map(|(_, left)| *left);
        match fate(job, build, left, now) {
            Fate::Is(left) => {
                standing += 1;
                wanted.remove(&name);
                plan.looks_again(left);
            }
            Fate::Other => drop(wanted.remove(&name)),
            Fate::Goes { hopeless } => {
                if hopeless {
                    wanted.remove(&name);
                    plan.hopeless.push(name.clone());
                }
                plan.remove.push(name);
            }
        }
    }
    for (attempt, left) in wanted.into_values() {
        if standing < most {
            standing += 1;
            plan.looks_again(Some(left.min(STARTS)));
            plan.make.push(attempt);
        }
    }
    plan
}

impl Plan {
    fn looks_again(&mut self, after: Option<SignedDuration>) {
        self.look_again = self.look_again.into_iter().chain(after).min();
    }
}

/// What should stand, by the name of its Job, and for how long still.
fn wanted(
    seen: &Seen,
    builder: &Builder,
    most: usize,
    settings: &Settings,
    now: Timestamp,
) -> BTreeMap<String, (Attempt, SignedDuration)> {
    // One that builds keeps its place.
    let builds = seen.first.iter().take(most);
    let builds = builds.filter_map(|name| seen.builds.get(name));
    let builds =
        builds.filter(|build| may_wait(build) && build.spec.builder_ref.name == builder.name_any());
    let all = builds.filter_map(|build| {
        let status = build.status.as_ref()?;
        let ended = status.completed_at.as_ref()?.0;
        let left = waits(builder) - now.duration_since(ended).max(SignedDuration::ZERO);
        if !left.is_positive() {
            return None;
        }
        let number = status.build.unwrap_or(0).saturating_add(1);
        let made = in_advance(build, builder, (number, left.as_secs().max(1)), settings);
        let attempt = made.ok()??;
        Some((attempt.job.name_any(), (attempt, left)))
    });
    all.collect()
}

/// What becomes of a Job that was made in advance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It stays, and is to be looked at again after this long.
    Is(Option<SignedDuration>),
    /// It is the Job of an attempt, or was: it is none of ours.
    Other,
    /// It is thrown away.
    Goes {
        /// No other of its name is made.
        hopeless: bool,
    },
}

/// `wanted`: for how long still, where it should stand.
fn fate(
    job: &Job,
    build: Option<&ImageBuild>,
    wanted: Option<SignedDuration>,
    now: Timestamp,
) -> Fate {
    let goes = Fate::Goes { hopeless: false };
    // It goes with its owner.
    let Some(build) = build else {
        return Fate::Other;
    };
    let uid = build.uid().unwrap_or_default();
    if !pods::is_ours(job, &uid) {
        // Its name or its owner is another: it cannot be deleted either.
        return Fate::Other;
    }
    let status = build.status.clone().unwrap_or_default();
    if is_named(&status, &job.name_any()) {
        return Fate::Other;
    }
    let last = status.build.unwrap_or(0);
    let number = number(job);
    let waits_for_its_turn = status
        .current
        .as_ref()
        .is_some_and(|current| !current.started && current.attempt == 1);
    if number <= last && !waits_for_its_turn {
        // An attempt was carried out by it long ago; or none was, and it waits in vain.
        return match pods::has_ended(job) {
            true => Fate::Other,
            false => goes,
        };
    }
    if pods::has_ended(job) {
        return Fate::Goes { hopeless: true };
    }
    if number == last && waits_for_its_turn {
        return Fate::Is(None);
    }
    let Some(left) = wanted else { return goes };
    let ready = job.status.as_ref().and_then(|status| status.ready);
    let made = job.metadata.creation_timestamp.as_ref();
    let age = made.map_or(SignedDuration::ZERO, |made| now.duration_since(made.0));
    if ready.unwrap_or(0) > 0 {
        return Fate::Is(Some(left));
    }
    match STARTS.checked_sub(age).filter(|it| it.is_positive()) {
        Some(starts) => Fate::Is(Some(left.min(starts))),
        // A quota, Kueue or a full cluster is in its way: builds go first.
        None => Fate::Goes { hopeless: true },
    }
}

/// True for a Job that an attempt is carried out by, or was.
fn is_named(status: &ImageBuildStatus, job: &str) -> bool {
    let current = status.current.as_ref().map(|it| &it.job);
    let early = status.early.as_ref().map(|it| &it.job);
    let fetch = status.fetch.as_ref().and_then(|it| it.job.as_ref());
    // Its Job says later than its Pod that it has ended.
    let ended = status.history.iter().filter_map(|entry| entry.job.as_ref());
    let named = [current, early, fetch].into_iter().flatten();
    named.chain(ended).any(|it| it == job)
}

/// The number of the build for which it was made.
fn number(job: &Job) -> i64 {
    let number = job.annotations().get(names::BUILD);
    number.and_then(|it| it.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
