//! What follows from what a watcher has seen.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::sources::{base_id, source_id, source_of};
use crate::imagebuild::decide::{self, LOOP, Word, say_triggers, watches_bases, watches_source};
use whittle_api::{
    FailureReason, FolderStatus, ImageBuild, ImageBuildStatus, Pending, Reason, TRIGGERS,
    TriggerReason, Unseen, bounded, set,
};
use whittle_watch::wire::{self, Outcome, Seen};

/// Bytes of the id of a tree: 64 digits.
const TREE: usize = 64;
/// Bytes of what a watcher says.
const WORDS: usize = 512;
/// Where it is asked whether a look came after something, it counts as so many seconds older than was told: times in a status are
/// whole seconds, and it takes a moment to tell. The look that a doubt asks for comes later than that
/// ([`super::sources::DOUBTED`]).
const ROUNDED: Duration = Duration::from_secs(2);

/// True where both name the same: what a build of an image as source is called begins with `oci@`.
pub fn same(known: &str, seen: &str) -> bool {
    known == seen || known.strip_prefix("oci@") == Some(seen)
}

/// What the last build was made from, as far as a status says: one of an earlier version has what the last success was.
pub fn last_revision(status: &ImageBuildStatus) -> Option<&String> {
    status.last_revision.as_ref().or(status.revision.as_ref())
}

/// The status after this was seen; none where it stays as it is, or the ImageBuild does not ask for it any more.
pub fn heard(build: &ImageBuild, seen: &Seen, now: Timestamp) -> Option<ImageBuildStatus> {
    let before = build.status.clone().unwrap_or_default();
    let mut status = before.clone();
    let uid = build.uid()?;
    let source = source_of(build).filter(|_| watches_source(&build.spec));
    let of_source = source.is_some_and(|what| source_id(&uid, &what) == seen.id);
    let base = (0..status.bases.len()).find(|at| {
        watches_bases(&build.spec) && base_id(&uid, &status.bases[*at].image) == seen.id
    });
    if !of_source && base.is_none() || build.metadata.deletion_timestamp.is_some() {
        return None;
    }
    status.unseen.retain(|unseen| unseen.id != seen.id);
    let mut looped = None;
    match &seen.outcome {
        // A build that has begun since has this, or what came after it.
        Outcome::Found { .. } if is_old(&status, seen, now) => {}
        Outcome::Found { revision } => {
            let revision = bounded(revision.clone(), WORDS);
            match base {
                Some(at) => looped = base_moved(&mut status, at, &revision, now),
                None => source_moved(build, &mut status, revision, seen, now),
            }
        }
        Outcome::Failed { reason, message } => {
            let unseen = Unseen {
                id: seen.id.clone(),
                reason: reason_of(*reason, base.is_some()).as_str().to_owned(),
                message: bounded(message.clone(), WORDS),
            };
            // The source first: it is asked for first, too.
            let at = if of_source { 0 } else { status.unseen.len() };
            status.unseen.insert(at, unseen);
        }
    }
    say_triggers(&mut status, build, Word::Watcher, now);
    if let Some(message) = looped {
        let generation = build.metadata.generation;
        let why = (Reason::Loop, message.as_str());
        set(
            &mut status.conditions,
            TRIGGERS,
            Some(false),
            why,
            generation,
            now,
        );
    }
    (status != before).then_some(status)
}

/// When the look ended: what it saw is not newer than that.
fn ended(seen: &Seen, now: Timestamp) -> Timestamp {
    ago(Duration::from_secs(seen.age_seconds), now)
}

/// When the look began, or a bit earlier: what it saw is not older than that. A watcher of an earlier version says only when it
/// ended.
fn begun(seen: &Seen, now: Timestamp) -> Timestamp {
    let age = seen.begun_millis.map(Duration::from_millis);
    let age = age.unwrap_or(Duration::from_secs(seen.age_seconds));
    ago(age.saturating_add(ROUNDED), now)
}

/// A watcher may say anything: what is too long ago was ages ago.
fn ago(age: Duration, now: Timestamp) -> Timestamp {
    let ago = SignedDuration::try_from(age).ok();
    ago.and_then(|age| now.checked_sub(age).ok())
        .unwrap_or(Timestamp::MIN)
}

/// True where a build has begun since this was looked at, and has read its source, or is about to.
fn is_old(status: &ImageBuildStatus, seen: &Seen, now: Timestamp) -> bool {
    let looked = ended(seen, now);
    let read =
        status.current.is_some() || status.trigger.as_ref().is_some_and(|trigger| trigger.read);
    read && status
        .started_at
        .as_ref()
        .is_some_and(|started| looked < started.0)
}

/// True where the folder that is built has the tree at this revision that it had when it was built last: the commit is seen,
/// and nothing is to be built. Notes what the tree is.
fn nothing_below(status: &mut ImageBuildStatus, revision: &str, tree: Option<&str>) -> bool {
    let Some(tree) = tree.filter(|tree| tree.len() <= TREE) else {
        return false;
    };
    let last = last_revision(status).cloned();
    if last.as_deref() == Some(revision) {
        status.folder = Some(FolderStatus::of(revision, tree.to_owned()));
        return true;
    }
    match &mut status.folder {
        Some(folder) if folder.tree == tree && Some(&folder.built) == last.as_ref() => {
            revision.clone_into(&mut folder.seen);
            true
        }
        _ => false,
    }
}

/// True where this was built last, is being built, or is asked for.
pub fn is_known(status: &ImageBuildStatus, revision: &String) -> bool {
    let pending = status.pending.as_ref().and_then(|it| it.revision.as_ref());
    let begun = status.trigger.as_ref().and_then(|it| it.revision.as_ref());
    let begun = begun.filter(|_| status.current.is_some());
    [last_revision(status), pending, begun].contains(&Some(revision))
}

fn source_moved(
    build: &ImageBuild,
    status: &mut ImageBuildStatus,
    revision: String,
    seen: &Seen,
    now: Timestamp,
) {
    let revision = match build.spec.source.oci {
        Some(_) => format!("oci@{revision}"),
        None => revision,
    };
    let looked = begun(seen, now);
    let same = nothing_below(status, &revision, seen.tree.as_deref());
    if same || last_revision(status) == Some(&revision) {
        // What was seen before that is older: where this was seen after the build.
        let over = |pending: &mut Pending| pending.doubt.as_ref().is_some_and(|it| looked > it.0);
        status.pending.take_if(over);
        return;
    }
    let doubted = status.pending.as_ref().and_then(|it| it.doubt.clone());
    if is_known(status, &revision) {
        let again = |pending: &&mut Pending| pending.revision.as_ref() == Some(&revision);
        if doubted.is_some_and(|doubt| looked > doubt.0)
            && let Some(pending) = status.pending.as_mut().filter(again)
        {
            pending.doubt = None;
        }
        return;
    }
    let posted = seen.wanted && doubted.is_none();
    let reason = match posted {
        true => TriggerReason::Webhook,
        false => TriggerReason::Commit,
    };
    // It was looked at while the last build ran.
    let ended = status
        .completed_at
        .as_ref()
        .filter(|_| status.current.is_none());
    let before = ended.is_some_and(|ended| looked <= ended.0);
    let doubt = (before && decide::is_doubtful(status)).then_some(Time(now));
    decide::ask(
        &mut status.pending,
        Pending {
            reason,
            detail: revision.clone(),
            revision: Some(revision),
            tree: seen.tree.clone().filter(|tree| tree.len() <= TREE),
            since: Time(now),
            doubt,
        },
    );
}

/// Asks for a build, or says why base images ask for none any more.
fn base_moved(
    status: &mut ImageBuildStatus,
    at: usize,
    digest: &str,
    now: Timestamp,
) -> Option<String> {
    let looped = decide::loops(status, now);
    let base = &mut status.bases[at];
    if base.digest == digest || base.seen.as_deref() == Some(digest) {
        return None;
    }
    if looped {
        return Some(format!(
            "loop: base images have started {LOOP} builds of this ImageBuild within an hour, and {} has moved again: is it \
             built from this image? Base images start no more builds until something else does: take triggers.baseImages \
             out of one of the two, or annotate whittle.dev/requestedAt",
            base.image
        ));
    }
    base.seen = Some(digest.to_owned());
    let detail = format!("{} is {digest}, and was {}", base.image, base.digest);
    decide::ask(
        &mut status.pending,
        Pending {
            reason: TriggerReason::BaseImage,
            detail,
            revision: None,
            tree: None,
            since: Time(now),
            doubt: None,
        },
    );
    None
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
