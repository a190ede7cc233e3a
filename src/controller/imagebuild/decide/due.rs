//! Why a build begins, beside a change of its inputs: what triggers have asked for, and when.
//!
//! What a trigger has seen stands in `status.pending` until a build begins: a controller that ends in between loses nothing,
//! and the write that begins the build takes it away, so that none begins twice.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::REQUEST;
use crate::schedule;
use crate::watcher::last_revision;
use whittle_api::{
    CANCEL, FolderStatus, ImageBuild, ImageBuildStatus, NO_CACHE, Pending, REQUESTED_AT, Reason,
    Row, Started, TRIGGERS, TriggerReason, bounded, find,
};
use whittle_build::inputs::requested_at;

/// What comes within so long of each other makes one image.
const TOGETHER: SignedDuration = SignedDuration::from_secs(10);
/// So long a look at the source is waited for where what was asked for may have been built: its watcher may have to be started again.
const DOUBT: SignedDuration = SignedDuration::from_secs(60);
/// Builds that base images start within an hour with nothing else in between, at most: two ImageBuilds that are built from each
/// other's image start each other for ever otherwise.
pub const LOOP: i64 = 5;
const ROW: SignedDuration = SignedDuration::from_hours(1);
/// Bytes of what a trigger says of itself.
const DETAIL: usize = 256;

/// Takes in what a trigger asks for. Of two the one that somebody waits for stands there; what the source points to is the
/// newest.
pub fn ask(pending: &mut Option<Pending>, asked: Pending) {
    let asked = Pending {
        detail: bounded(asked.detail, DETAIL),
        ..asked
    };
    let Some(old) = pending.take() else {
        *pending = Some(asked);
        return;
    };
    let since = old.since.clone().min(asked.since.clone());
    // Where only one of both is of the source, there is something to build in any case.
    let of_source = !old.reason.stands_back() && asked.revision.is_some();
    let doubt = asked.doubt.clone().filter(|_| of_source);
    let (first, second) = match old.reason.stands_back() && !asked.reason.stands_back() {
        true => (asked, old),
        false if asked.revision.is_some() => (asked, old),
        false => (old, asked),
    };
    let news = if first.revision.is_some() {
        &first
    } else {
        &second
    };
    let (revision, tree) = (news.revision.clone(), news.tree.clone());
    *pending = Some(Pending {
        revision,
        tree,
        since,
        doubt,
        ..first
    });
}

/// True where base images have started so many builds that they start no more. Once that is said it holds until something
/// else starts one: a loop that went on every hour would be none the less one.
pub fn loops(status: &ImageBuildStatus, now: Timestamp) -> bool {
    let row = status.trigger.as_ref().and_then(|it| it.row.as_ref());
    let said = find(&status.conditions, TRIGGERS);
    let said = said.is_some_and(|it| it.reason == Reason::Loop.as_str());
    row.is_some_and(|row| row.builds >= LOOP && (said || is_recent(row, now)))
}

fn is_recent(row: &Row, now: Timestamp) -> bool {
    now.duration_since(row.since.0) < ROW
}

/// The builds in a row that this one belongs to, where a base image has started it.
fn row(reason: TriggerReason, before: Option<&Started>, now: Timestamp) -> Option<Row> {
    let before = before.and_then(|before| before.row.clone());
    let before = before.filter(|row| is_recent(row, now));
    (reason == TriggerReason::BaseImage).then(|| match before {
        Some(row) => Row {
            builds: row.builds + 1,
            ..row
        },
        None => Row {
            builds: 1,
            since: Time(now),
        },
    })
}

/// Asks for the build whose time on the schedule has come, and says how long it is until the next one.
pub(super) fn by_schedule(
    status: &mut ImageBuildStatus,
    build: &ImageBuild,
    now: Timestamp,
) -> Option<SignedDuration> {
    let (stands, run) = schedule::pass(build, status.schedule.as_ref(), now);
    if let Some(at) = run {
        let of = build.spec.triggers.as_ref();
        let of = of.and_then(|triggers| triggers.schedule.as_deref());
        let asked = Pending {
            reason: TriggerReason::Schedule,
            detail: format!("{} at {at}", of.unwrap_or_default()),
            revision: None,
            tree: None,
            since: Time(now),
            doubt: None,
        };
        ask(&mut status.pending, asked);
    }
    status.schedule = stands;
    let next = status.schedule.as_ref()?.next.as_ref()?;
    Some(next.0.duration_since(now).max(SignedDuration::ZERO))
}

/// How long it is until what a trigger has asked for begins: no time where somebody waits for it. None where there is
/// nothing, or what was asked for was built meanwhile.
pub(super) fn in_time(status: &mut ImageBuildStatus, now: Timestamp) -> Option<SignedDuration> {
    let pending = status.pending.as_ref()?;
    let only_source = !pending.reason.stands_back();
    let built = last_revision(status);
    if only_source && pending.revision.is_some() && pending.revision.as_ref() == built {
        status.pending = None;
        return None;
    }
    match (&pending.doubt, only_source) {
        (Some(doubt), true) => Some(left_of(DOUBT, doubt, now)),
        (None, true) => Some(SignedDuration::ZERO),
        (_, false) => Some(left_of(TOGETHER, &pending.since, now)),
    }
}

/// What is left of this time.
fn left_of(whole: SignedDuration, since: &Time, now: Timestamp) -> SignedDuration {
    let left = (whole - now.duration_since(since.0)).max(SignedDuration::ZERO);
    // One that is further ahead was written before the clock was set back.
    match left > whole {
        true => SignedDuration::ZERO,
        false => left,
    }
}

/// True where what was seen may be older than what the last build was made from: it was begun for something else than it then
/// read, and nobody can tell which of the two came first.
pub fn is_doubtful(status: &ImageBuildStatus) -> bool {
    let last = last_revision(status);
    let begun = status.trigger.as_ref();
    let moved = begun.is_some_and(|begun| begun.read && begun.revision.as_ref() != last);
    // What else is asked for is built in any case.
    moved && status.bases.iter().all(|base| base.seen.is_none())
}

/// True where what was asked for comes so soon after another trigger has begun the build under way that both are one: it
/// begins anew. Seconds are lost, and the image is there once.
pub(super) fn is_together(status: &ImageBuildStatus, now: Timestamp) -> bool {
    let (Some(pending), Some(started)) = (&status.pending, &status.trigger) else {
        return false;
    };
    let by_trigger = !matches!(
        started.reason,
        TriggerReason::Spec | TriggerReason::Request | TriggerReason::Rollback
    );
    let news = pending.revision.is_none() || pending.revision != started.revision;
    // Nobody waits for it: it is built afterwards.
    let news = news && !pending.reason.stands_back();
    let passed = now.duration_since(started.since.0);
    by_trigger && news && passed >= SignedDuration::ZERO && passed < TOGETHER
}

/// What begins the build, and no longer waits. `due`: the inputs differ. `together`: it takes the place of one that has just
/// begun.
pub(super) fn take(
    status: &mut ImageBuildStatus,
    build: &ImageBuild,
    due: bool,
    together: bool,
    now: Timestamp,
) -> Started {
    let pending = status.pending.take();
    let before = status.trigger.take();
    match pending {
        Some(pending) if !due => Started {
            revision: pending.revision,
            tree: pending.tree,
            read: false,
            row: row(pending.reason, before.as_ref(), now),
            reason: pending.reason,
            detail: pending.detail,
            since: match before.filter(|_| together) {
                Some(before) => before.since,
                None => pending.since,
            },
        },
        _ => {
            let request = build.annotations().get(REQUESTED_AT);
            let request = request.map(|text| text.chars().take(REQUEST).collect::<String>());
            let seen = build
                .status
                .as_ref()
                .and_then(|status| status.observed_generation);
            let known = seen == build.metadata.generation;
            let (reason, detail) = match request {
                Some(request)
                    if (known || asks_for_no_cache(build))
                        && status.last_handled_request.as_ref() != Some(&request) =>
                {
                    (TriggerReason::Request, request)
                }
                _ => {
                    let generation = build.metadata.generation.unwrap_or(0);
                    (TriggerReason::Spec, format!("generation {generation}"))
                }
            };
            Started {
                reason,
                detail: bounded(detail, DETAIL),
                since: Time(now),
                revision: None,
                tree: None,
                read: false,
                row: None,
            }
        }
    }
}

/// A request that asks for no cache is one also where the spec has changed with it: its build takes no step from the cache.
fn asks_for_no_cache(build: &ImageBuild) -> bool {
    let of = build.annotations().get(NO_CACHE);
    of.is_some() && of == requested_at(build).as_ref()
}

/// The source of the build that ends is known. `revision`: what it was really made from, where it came so far; `tried`: where it
/// did not, what it was begun for counts as tried. What a trigger has seen meanwhile may be just that, or older.
pub fn read(status: &mut ImageBuildStatus, revision: Option<&str>, tried: bool, now: Timestamp) {
    let begun = status.trigger.as_ref();
    let expected = begun
        .and_then(|begun| begun.revision.clone())
        .filter(|_| tried);
    let Some(revision) = revision.map(str::to_owned).or(expected) else {
        return;
    };
    if let Some(begun) = &mut status.trigger {
        begun.read = true;
        if begun.revision.as_ref() == Some(&revision)
            && let Some(tree) = begun.tree.clone()
        {
            status.folder = Some(FolderStatus::of(&revision, tree));
        }
    }
    let pending = status.pending.as_ref();
    let built = pending.is_some_and(|pending| pending.revision.as_ref() == Some(&revision));
    if built && let Some(pending) = &mut status.pending {
        if let Some(tree) = pending.tree.take() {
            status.folder = Some(FolderStatus::of(&revision, tree));
        }
        if !pending.reason.stands_back() {
            status.pending = None;
        }
    }
    status.last_revision = Some(revision);
    let doubtful = is_doubtful(status);
    if let Some(pending) = &mut status.pending
        && !pending.reason.stands_back()
        && pending.revision.is_some()
    {
        pending.doubt = doubtful.then_some(Time(now));
    }
}

/// The attempt that begins is held to this revision.
pub(super) fn pin(status: &mut ImageBuildStatus, revision: &str) {
    let same = |it: &mut Pending| it.revision.as_deref() == Some(revision);
    let _ = status
        .pending
        .take_if(|it| !it.reason.stands_back() && same(it));
    if let Some(begun) = &mut status.trigger {
        begun.revision = Some(revision.to_owned());
    }
}

/// A build is canceled: what was seen of its source counts as handled, or the next one would begin at once.
pub(super) fn cancel(status: &mut ImageBuildStatus) {
    if let Some(pending) = status
        .pending
        .take_if(|pending| !pending.reason.stands_back())
        && let Some(trigger) = &mut status.trigger
    {
        trigger.revision = pending.revision.or(trigger.revision.take());
    }
}

/// A build ends that has waited too long. What has moved since it was asked for begins the next one; but where nothing of the source was
/// known before, what was seen of it meanwhile is what this one would have built.
pub(super) fn waited_out(status: &mut ImageBuildStatus) {
    let begun = status.trigger.as_ref().and_then(|it| it.revision.as_ref());
    if begun.or(last_revision(status)).is_none() {
        cancel(status);
    }
}

/// What the annotation whittle.dev/cancel says where it ends the build under way.
pub(super) fn cancels<'a>(build: &'a ImageBuild, status: &ImageBuildStatus) -> Option<&'a str> {
    let asked = build.annotations().get(CANCEL)?.trim();
    let this_one = status
        .build
        .is_some_and(|number| asked == number.to_string());
    let current = asked == "current" && status.last_handled_cancel.as_deref() != Some(asked);
    (this_one || current).then_some(asked)
}

/// What the annotation says, to be remembered as handled.
pub(super) fn cancel_handled(build: &ImageBuild) -> Option<String> {
    let asked = build.annotations().get(CANCEL)?.trim();
    Some(asked.chars().take(32).collect())
}
