//! What has a daemon begin anew without another spec: its cache is to be thrown away, it hangs, or it is old.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::builder::state::{ended, said_after};
use crate::imagebuild::decide::lost_at;
use crate::imagebuild::outcome::containers;
use crate::names::RESTARTED_AT;
use crate::refusal::words;
use whittle_api::{Builder, Emptied, FailureReason, ImageBuild, PRUNE};
use whittle_build::daemon::start::{EMPTIED, EMPTIED_SAYS};
use whittle_build::failure::{HANGS, whose};
use whittle_image::digest_of;

/// A daemon that is older than this is started anew when nothing runs: what it has leaked goes.
const AGE: SignedDuration = SignedDuration::from_hours(24);
/// Hexadecimal digits that stand for a value of [`PRUNE`].
const KEY: usize = 16;

fn emptied(builder: &Builder) -> Option<&Emptied> {
    builder.status.as_ref()?.emptied.as_ref()
}

fn heeded(builder: &Builder) -> Option<&String> {
    emptied(builder)?.heeded.as_ref()
}

/// Names the last time that somebody asked for an empty cache: the daemon's state is thrown away once for each.
pub fn key(builder: &Builder) -> Option<String> {
    // Who takes the annotation away asks for nothing.
    match builder.annotations().get(PRUNE) {
        Some(value) => Some(digest_of(value.as_bytes())["sha256:".len()..][..KEY].to_owned()),
        None => heeded(builder).cloned(),
    }
}

/// True where somebody has asked for an empty cache, and it is not known to be empty.
pub fn is_to_be_emptied(builder: &Builder) -> bool {
    key(builder).as_ref() != heeded(builder)
}

/// What is said of the cache, given the daemons' Pods; `starts` is true where all are up as they should be.
pub fn say(builder: &Builder, pods: &[&Pod], starts: bool, now: Timestamp) -> Option<Emptied> {
    let known = emptied(builder);
    let broken = pods.iter().filter_map(|pod| found_broken(pod));
    if let Some(ended) = broken.max_by_key(|ended| ended.finished_at.as_ref().map(|at| at.0))
        && let Some(at) = &ended.finished_at
        && known.is_none_or(|known| known.at.0 < at.0)
    {
        let said = said_after(EMPTIED_SAYS, Some(ended));
        return Some(Emptied {
            at: at.clone(),
            message: format!(
                "the cache was broken, and was thrown away: {}. A node that stops without warning may leave it so",
                words(said.unwrap_or("the log says how"))
            ),
            heeded: heeded(builder).cloned(),
        });
    }
    if starts && is_to_be_emptied(builder) {
        return Some(Emptied {
            at: Time(now),
            message: format!("the cache was thrown away, as the annotation {PRUNE} asked"),
            heeded: key(builder),
        });
    }
    known.cloned()
}

/// What is told of what was thrown away since `before`, and whether it is a warning.
pub fn news<'a>(before: &Builder, now: Option<&'a Emptied>) -> Option<(bool, &'a str)> {
    let now = now.filter(|now| emptied(before) != Some(*now))?;
    Some((heeded(before) == now.heeded.as_ref(), &now.message))
}

/// How the daemon's container has ended where it found its state broken.
fn found_broken(pod: &Pod) -> Option<&ContainerStateTerminated> {
    let mut daemons = containers(pod).filter(|(init, _)| !init).map(|(_, it)| it);
    ended(daemons.next()?).filter(|ended| ended.exit_code == i32::from(EMPTIED))
}

/// How the failure of an attempt begins that found its daemon to hang. Anything else may be somebody else's words.
pub fn hang() -> String {
    format!("{}: {HANGS}", FailureReason::BuilderLost)
}

/// True where it may be this daemon that an attempt at a build has lost: the Builder that is a platform's, or none for the ordinary one.
pub fn is_lost(build: &ImageBuild, of_platform: Option<&str>) -> bool {
    let current = build.status.as_ref().and_then(|it| it.current.as_ref());
    let why = current.and_then(|it| it.last_failure.as_deref());
    let whose = whose(why.unwrap_or_default());
    of_platform.map_or(whose.is_ordinary(), |name| whose.is_of(name))
}

/// When a build found its daemon to hang, where that is why it is tried again.
pub fn found_hanging(build: &ImageBuild) -> Option<Timestamp> {
    let current = build.status.as_ref()?.current.as_ref()?;
    let hangs = current.last_failure.as_ref()?.starts_with(&hang());
    hangs.then(|| lost_at(current)).flatten()
}

/// The daemon is started anew where its Pod is older than this: that which stands, unless a build has found it to `hang`, or
/// nothing needs it (`idle`) and it is old.
pub fn restarted_at(
    set: &StatefulSet,
    pod: Option<&Pod>,
    hangs: Option<Timestamp>,
    idle: bool,
    now: Timestamp,
) -> Option<Timestamp> {
    let stands = stands(set);
    let Some(started) = pod.and_then(started) else {
        return stands;
    };
    let hangs = hangs.filter(|at| started < *at && stands.is_none_or(|it| it < *at || it > now));
    // Once in that time, whatever becomes of the Pod, and whoever's clock is wrong.
    let lately = |at: Timestamp| now.duration_since(at).abs() < AGE;
    let old = idle && is_old(pod, now) && !stands.is_some_and(lately);
    hangs.or_else(|| old.then_some(now)).or(stands)
}

/// True where the daemon has run for so long that it is started anew when nothing runs.
pub fn is_old(pod: Option<&Pod>, now: Timestamp) -> bool {
    let leaves = |pod: &&Pod| pod.metadata.deletion_timestamp.is_some();
    pod.filter(|pod| !leaves(pod))
        .and_then(started)
        .is_some_and(|started| now.duration_since(started) >= AGE)
}

/// When the Pod was started.
pub fn started(pod: &Pod) -> Option<Timestamp> {
    Some(pod.status.as_ref()?.start_time.as_ref()?.0)
}

fn stands(set: &StatefulSet) -> Option<Timestamp> {
    let template = &set.spec.as_ref()?.template;
    let annotations = template.metadata.as_ref()?.annotations.as_ref()?;
    annotations.get(RESTARTED_AT)?.parse().ok()
}

/// Has the set start its daemon anew where its Pod is older than that.
pub fn restart(set: &mut StatefulSet, at: Option<Timestamp>) {
    let template = set.spec.as_mut().map(|spec| &mut spec.template);
    if let (Some(at), Some(template)) = (at, template) {
        let annotations = template.metadata.get_or_insert_default();
        let annotations = annotations.annotations.get_or_insert_default();
        annotations.insert(RESTARTED_AT.into(), at.to_string());
    }
}

#[cfg(test)]
#[path = "anew_tests.rs"]
mod tests;
