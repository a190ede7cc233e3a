//! What of an ImageBuild the watcher of its namespace looks at, and what is said of that.

use k8s_openapi::jiff::Timestamp;

use crate::imagebuild::status::put;
use crate::schedule;
use whittle_api::{ImageBuild, ImageBuildSpec, ImageBuildStatus, Reason, TRIGGERS, clear, find};

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

/// Says whether the triggers can see what they are to look at: what the watcher has told stands until it tells something else.
pub(super) fn say(status: &mut ImageBuildStatus, build: &ImageBuild, now: Timestamp) {
    let flux = build.spec.source.flux.is_some();
    if build.spec.triggers.is_none() && !flux {
        return clear(&mut status.conditions, TRIGGERS);
    }
    if let Some(trouble) = schedule::trouble(build, now) {
        let why = (Reason::NoSuchTime, trouble.as_str());
        return put(status, build, TRIGGERS, Some(false), why, now);
    }
    let watches = flux || watches_source(&build.spec) || watches_bases(&build.spec);
    let told = find(&status.conditions, TRIGGERS).cloned();
    let told = told.filter(|told| watches && told.reason != Reason::NoSuchTime.as_str());
    match told.and_then(|told| Some((Reason::named(&told.reason)?, told))) {
        Some((reason, told)) => {
            let to = match told.status.as_str() {
                "True" => Some(true),
                "False" => Some(false),
                _ => None,
            };
            put(status, build, TRIGGERS, to, (reason, &told.message), now);
        }
        None if watches => {
            let why = (Reason::NotSeenYet, "the source has not been looked at yet");
            put(status, build, TRIGGERS, None, why, now);
        }
        None => {
            let next = status
                .schedule
                .as_ref()
                .and_then(|schedule| schedule.next.as_ref());
            let message = next.map_or_else(String::new, |next| {
                format!("the next build of the schedule is at {}", next.0)
            });
            put(
                status,
                build,
                TRIGGERS,
                Some(true),
                (Reason::TriggersWork, &message),
                now,
            );
        }
    }
}
