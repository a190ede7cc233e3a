//! What of an ImageBuild the watcher of its namespace looks at, and what is said of that.

use k8s_openapi::jiff::Timestamp;

use super::due::loops;
use crate::imagebuild::status::put;
use crate::schedule;
use whittle_api::{ImageBuild, ImageBuildSpec, ImageBuildStatus, Reason, TRIGGERS, clear, find};

/// What is said where all can be seen.
const LOOKED_AT: &str = "the source and its base images are looked at";

/// True where the source is looked at.
pub fn watches_source(spec: &ImageBuildSpec) -> bool {
    let triggers = spec.triggers.as_ref();
    triggers.is_some_and(|triggers| triggers.poll.is_some() || triggers.webhook.is_some())
}

/// True where the tags of base images are looked at.
pub fn watches_bases(spec: &ImageBuildSpec) -> bool {
    let triggers = spec.triggers.as_ref();
    triggers.is_some_and(|triggers| triggers.base_images.is_some())
}

/// Who has just told something of what an ImageBuild looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Nobody.
    None,
    /// The watcher.
    Watcher,
    /// A source of Flux, which says nothing of the watcher.
    Flux,
}

/// True where what the condition says is to stay: what the watcher of its Builder leaves out, or that it is silent. Neither
/// changes by what else becomes of the ImageBuild.
fn stays(reason: Option<Reason>, word: Word) -> bool {
    match reason {
        Some(Reason::TooManySources) => true,
        Some(Reason::WatcherSilent) => word != Word::Watcher,
        _ => false,
    }
}

/// Says whether the triggers can see what they are to look at.
pub fn say_triggers(status: &mut ImageBuildStatus, build: &ImageBuild, word: Word, now: Timestamp) {
    let flux = build.spec.source.flux.is_some();
    let (sources, bases) = (
        flux || watches_source(&build.spec),
        watches_bases(&build.spec),
    );
    if !sources && !bases {
        status.unseen.clear();
    }
    if build.spec.triggers.is_none() && !flux {
        return clear(&mut status.conditions, TRIGGERS);
    }
    if let Some(trouble) = schedule::trouble(build, now) {
        let why = (Reason::NoSuchTime, trouble.as_str());
        return put(status, build, TRIGGERS, Some(false), why, now);
    }
    let told = find(&status.conditions, TRIGGERS).cloned();
    let reason = told.as_ref().and_then(|told| Reason::named(&told.reason));
    if let (Some(told), Some(Reason::Loop)) = (&told, reason)
        && loops(status, now)
    {
        let message = told.message.clone();
        return put(
            status,
            build,
            TRIGGERS,
            Some(false),
            (Reason::Loop, &message),
            now,
        );
    }
    let watched = watches_source(&build.spec) || bases && !status.bases.is_empty();
    if let (Some(told), Some(why)) = (&told, reason)
        && watched
        && stays(reason, word)
    {
        let to = (why == Reason::TooManySources).then_some(false);
        let message = told.message.clone();
        return put(status, build, TRIGGERS, to, (why, &message), now);
    }
    if let Some(unseen) = status.unseen.first().cloned() {
        let reason = Reason::named(&unseen.reason).unwrap_or(Reason::NotSeenYet);
        let why = (reason, unseen.message.as_str());
        return put(status, build, TRIGGERS, Some(false), why, now);
    }
    if !sources && !bases {
        let next = status.schedule.as_ref().and_then(|it| it.next.as_ref());
        let message = next.map_or_else(String::new, |next| {
            format!("the next build of the schedule is at {}", next.0)
        });
        let why = (Reason::TriggersWork, message.as_str());
        return put(status, build, TRIGGERS, Some(true), why, now);
    }
    let unheard = [
        Reason::NotSeenYet,
        Reason::NoSuchTime,
        Reason::WatcherSilent,
        Reason::TooManySources,
    ];
    let unheard = reason.is_none_or(|reason| unheard.contains(&reason));
    if unheard && word == Word::None {
        let message = match sources || !status.bases.is_empty() {
            true => "the source has not been looked at yet",
            // Of no build, or of one by a version that did not tell them.
            false => {
                "no base image is known: the last image is built from none whose tag could move, or nothing was built \
                 since this trigger was set: annotate whittle.dev/requestedAt to build"
            }
        };
        return put(
            status,
            build,
            TRIGGERS,
            None,
            (Reason::NotSeenYet, message),
            now,
        );
    }
    put(
        status,
        build,
        TRIGGERS,
        Some(true),
        (Reason::TriggersWork, LOOKED_AT),
        now,
    );
}
