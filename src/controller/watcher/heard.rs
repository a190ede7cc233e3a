//! What follows from what a watcher has seen.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::sources::base_id;
use crate::imagebuild::decide::{self, watches_bases, watches_source};
use whittle_api::{
    FailureReason, ImageBuild, ImageBuildStatus, Pending, Reason, TRIGGERS, TriggerReason, bounded,
    find, set,
};
use whittle_watch::wire::{self, Outcome, Seen};

/// Bytes of what a watcher says.
const WORDS: usize = 512;

/// True where both name the same: what a build of an image as source is called begins with `oci@`.
pub fn same(known: &str, seen: &str) -> bool {
    known == seen || known.strip_prefix("oci@") == Some(seen)
}

/// The status after this was seen; none where it stays as it is, or the ImageBuild does not ask for it any more.
pub fn heard(build: &ImageBuild, seen: &Seen, now: Timestamp) -> Option<ImageBuildStatus> {
    let before = build.status.clone().unwrap_or_default();
    let mut status = before.clone();
    let uid = build.uid()?;
    let of_source = seen.id == uid && watches_source(&build.spec);
    let base = (0..status.bases.len()).find(|at| {
        watches_bases(&build.spec) && base_id(&uid, &status.bases[*at].image) == seen.id
    });
    if !of_source && base.is_none() || build.metadata.deletion_timestamp.is_some() {
        return None;
    }
    match &seen.outcome {
        Outcome::Found { revision } => {
            let revision = bounded(revision.clone(), WORDS);
            match base {
                Some(at) => base_moved(&mut status, at, &revision, now),
                None => source_moved(build, &mut status, revision, seen.wanted, now),
            }
            // What a source of Flux lacks stands until Flux has it.
            let lacks = |told: &&Condition| {
                let reason = Reason::named(&told.reason);
                let lacks = [Reason::SourceNotReady, FailureReason::SourceNotFound.into()];
                build.spec.source.flux.is_some() && reason.is_some_and(|it| lacks.contains(&it))
            };
            if find(&status.conditions, TRIGGERS).filter(lacks).is_some() {
                return (status != before).then_some(status);
            }
            say(
                &mut status,
                build,
                Some(true),
                (
                    Reason::TriggersWork,
                    "the source and its base images are looked at",
                ),
                now,
            );
        }
        Outcome::Failed { reason, message } => {
            let message = bounded(message.clone(), WORDS);
            let reason = reason_of(*reason, base.is_some());
            say(&mut status, build, Some(false), (reason, &message), now);
        }
    }
    (status != before).then_some(status)
}

fn source_moved(
    build: &ImageBuild,
    status: &mut ImageBuildStatus,
    revision: String,
    wanted: bool,
    now: Timestamp,
) {
    let revision = match build.spec.source.oci {
        Some(_) => format!("oci@{revision}"),
        None => revision,
    };
    let pending = status
        .pending
        .as_ref()
        .and_then(|pending| pending.revision.as_ref());
    if status.last_revision.as_ref() == Some(&revision) || pending == Some(&revision) {
        return;
    }
    let reason = match wanted {
        true => TriggerReason::Webhook,
        false => TriggerReason::Commit,
    };
    decide::ask(
        &mut status.pending,
        Pending {
            reason,
            detail: revision.clone(),
            revision: Some(revision),
            since: Time(now),
        },
    );
}

fn base_moved(status: &mut ImageBuildStatus, at: usize, digest: &str, now: Timestamp) {
    let base = &mut status.bases[at];
    if base.digest == digest || base.seen.as_deref() == Some(digest) {
        return;
    }
    base.seen = Some(digest.to_owned());
    let detail = format!("{} is {digest}, and was {}", base.image, base.digest);
    decide::ask(
        &mut status.pending,
        Pending {
            reason: TriggerReason::BaseImage,
            detail,
            revision: None,
            since: Time(now),
        },
    );
}

fn say(
    status: &mut ImageBuildStatus,
    build: &ImageBuild,
    to: Option<bool>,
    why: (Reason, &str),
    now: Timestamp,
) {
    let generation = build.metadata.generation;
    set(&mut status.conditions, TRIGGERS, to, why, generation, now);
}

fn reason_of(reason: wire::Reason, base: bool) -> Reason {
    use wire::Reason as Told;
    match (reason, base) {
        (Told::NotFound, false) => FailureReason::SourceNotFound.into(),
        (Told::NotFound, true) => FailureReason::BaseImageNotFound.into(),
        (Told::Denied, false) => FailureReason::SourceDenied.into(),
        (Told::Denied, true) => FailureReason::BaseImageDenied.into(),
        (Told::Unreachable | Told::Invalid, false) => FailureReason::SourceUnreachable.into(),
        (Told::Unreachable | Told::Invalid, true) => FailureReason::BaseImageUnreachable.into(),
        (Told::RateLimited, _) => Reason::RateLimited,
        (Told::NoMatch, _) => Reason::NoVersion,
    }
}

#[cfg(test)]
#[path = "heard_tests.rs"]
mod tests;
